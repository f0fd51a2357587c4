-- SPDX-License-Identifier: MIT
-- httptop: HTTP requests now, by host, path, client, ...: how many, how many failed, bytes, times
--
-- usage: tlsscope httptop [--by WHAT] [--interval T] [--top N] [--sort COLUMN] [--side client|server]
--
--   --by WHAT       host, path, url, method, status, comm or client
--   --interval T    time between tables: 500ms, 2s, ...
--   --top N         rows to show
--   --sort COLUMN   requests, failed, bytes, avg or max
--   --side S        only where the traced program is the client, or the server
--
-- "->" is asked by a program here, "<-" is asked of one: where both ends are here, a request is in two
-- rows. "4xx" and "5xx" count statuses, "none" what was broken off or never answered; "sent" and
-- "answer" are bytes of bodies; "avg" and "max" are from a request's first byte to its answer's last.
-- On a terminal the table stays in its place; elsewhere the tables follow each other.
--
-- in 1s: 1204 requests, 3 failed
--       host            requests  4xx  5xx  none   sent  answer     avg      max
--   <-  shop.example:443    1201    3    0     0  12.1K    8.4M  1.21ms  20.40ms
--   ->  127.0.0.1:8443         3    0    0     0      0  15.1K  2.10ms   2.31ms

local format = require "format"
local requests = require "requests"

local opt = requests.options {
	by = {"host", requests.BY},
	interval = {"1s", "time between tables"},
	top = {20, "rows to show"},
	sort = {"requests", "requests, failed, bytes, avg or max"},
}

local MOST = 10000 -- rows of an interval; what is more is added up as one
local LONGEST = 100

local key = requests.key(opt.by)
local SORTS = {
	requests = function(r) return r.requests end,
	failed = function(r) return r["4xx"] + r["5xx"] + r.none end,
	bytes = function(r) return r.sent + r.answer end,
	avg = function(r) return r.timed > 0 and r.ns / r.timed or 0 end,
	max = function(r) return r.max end,
}
local sort = SORTS[opt.sort] or requests.usage("cannot sort by ", opt.sort)

local rows, count_rows = {}, 0

local function row_of(e)
	local arrow, name = requests.arrow(e), key(e)
	local id = arrow .. name
	if not rows[id] then
		if count_rows >= MOST then
			id, arrow, name = "other", "", "(other)"
		end
		count_rows = count_rows + 1
		rows[id] = rows[id] or {
			arrow = arrow, name = name, requests = 0, ["4xx"] = 0, ["5xx"] = 0, none = 0, sent = 0, answer = 0, ns = 0,
			timed = 0, max = 0,
		}
	end
	return rows[id]
end

requests.each(0, function(e)
	local r, status, ns = row_of(e), e.status, e.duration_ns
	local kind = not status and "none" or status >= 500 and "5xx" or status >= 400 and "4xx"
	r.requests = r.requests + 1
	if kind then
		r[kind] = r[kind] + 1
	end
	r.sent = r.sent + (e.request and e.request.body_len or 0)
	r.answer = r.answer + (e.response and e.response.body_len or 0)
	if ns then
		r.timed, r.ns, r.max = r.timed + 1, r.ns + ns, math.max(r.max, ns)
	end
end)

-- The rows of the interval that ends, in order; how many requests there were, and how many failed.
local function drain()
	local list, all, failed = {}, 0, 0
	for _, r in pairs(rows) do
		list[#list + 1] = r
		all, failed = all + r.requests, failed + SORTS.failed(r)
	end
	rows, count_rows = {}, 0
	table.sort(list, function(a, b)
		local x, y = sort(a), sort(b)
		if x ~= y then
			return x > y
		end
		if a.name ~= b.name then
			return a.name < b.name
		end
		return a.arrow < b.arrow
	end)
	return list, all, failed
end

local function time_of(r, ns)
	return r.timed > 0 and duration(ns // 1) or "-"
end

local function print_rows(list, all, failed)
	local cells = {}
	for i = 1, math.min(#list, opt.top) do
		local r = list[i]
		cells[i] = {
			r.arrow, format.clip(escape(r.name), LONGEST), tostring(r.requests), tostring(r["4xx"]), tostring(r["5xx"]),
			tostring(r.none), human(r.sent), human(r.answer), time_of(r, SORTS.avg(r)), time_of(r, r.max),
		}
	end
	clear_screen()
	printf("in %s: %d requests, %d failed\n", opt.interval, all, failed)
	if #list > 0 then
		printf("%s", format.table({
			{title = ""}, {title = opt.by}, {title = "requests", right = true}, {title = "4xx", right = true},
			{title = "5xx", right = true}, {title = "none", right = true}, {title = "sent", right = true},
			{title = "answer", right = true}, {title = "avg", right = true}, {title = "max", right = true},
		}, cells))
	end
	if #list > opt.top then
		printf("  ... %d more rows\n", #list - opt.top)
	end
	print()
end

local function report()
	local list, all, failed = drain()
	if not format.json then
		return print_rows(list, all, failed)
	end
	for i = 1, math.min(#list, opt.top) do
		local r = list[i]
		emit {
			type = "httptop", by = opt.by, key = r.name, side = r.arrow == "->" and "client" or "server",
			requests = r.requests, status_4xx = r["4xx"], status_5xx = r["5xx"], unanswered = r.none, sent = r.sent,
			answer = r.answer, avg_ns = r.timed > 0 and SORTS.avg(r) // 1 or nil, max_ns = r.timed > 0 and r.max or nil,
		}
	end
end

every(opt.interval, report)
-- What came since the last table.
on.stop(function()
	if next(rows) then
		report()
	end
end)
