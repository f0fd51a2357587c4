-- SPDX-License-Identifier: MIT
-- h2streams: HTTP/2 connections now: how many streams are open, begin and end on each, and how
--
-- usage: tlsscope h2streams [--interval T] [--top N] [--side client|server]
--
--   --interval T   time between tables: 500ms, 2s, ...
--   --top N        connections to show, those with the most streams
--   --side S       only where the traced program is the client, or the server
--
-- "ended" are streams that ended since the last table, "open" those whose request is whole and whose
-- answer is not, "most" the most of these at once since the connection was first seen; "reset" were
-- broken off; "bytes" are of bodies, both ways; "avg" is from a stream's first byte to its last.
-- A connection is shown while anything goes on there. On a terminal the table stays in its place;
-- elsewhere the tables follow each other.
--
-- in 1s: connections: 1, streams ended: 412, open: 49
--       process     peer             ended  open  most  reset  bytes     avg
--   <-  nginx[812]  127.0.0.1:50112    412    49    50      0   1.2M  3.12ms

local format = require "format"
local requests = require "requests"

local opt = requests.options {
	interval = {"1s", "time between tables"},
	top = {20, "connections to show"},
}

local conns = {}

local function clear(c)
	c.ended, c.reset, c.pushed, c.sent, c.answer, c.ns, c.timed = 0, 0, 0, 0, 0, 0, 0
	return c
end

local function conn_of(e)
	local id = e.conn.id
	conns[id] = conns[id] or clear {
		id = id, arrow = requests.arrow(e), pid = e.pid, comm = e.comm, peer = e.peer, streams = {}, open = 0, most = 0,
	}
	return conns[id]
end

requests.each(0, function(e)
	if not e.stream_id then
		return
	end
	local c = conn_of(e)
	c.streams[e.stream_id], c.open = true, c.open + 1
	c.most = math.max(c.most, c.open)
end, "http_request")

requests.each(0, function(e)
	if not e.stream_id then
		return
	end
	local c, ns = conn_of(e), e.duration_ns
	if c.streams[e.stream_id] then
		c.streams[e.stream_id], c.open = nil, c.open - 1
	end
	c.ended = c.ended + 1
	c.reset = c.reset + (e.reset and 1 or 0)
	c.pushed = c.pushed + (e.pushed and 1 or 0)
	c.sent = c.sent + (e.request and e.request.body_len or 0)
	c.answer = c.answer + (e.response and e.response.body_len or 0)
	if ns then
		c.ns, c.timed = c.ns + ns, c.timed + 1
	end
end)

-- What its last streams had is in one more table.
on.tls_close(function(e)
	local c = conns[e.conn.id]
	if c then
		c.closed = true
	end
end)

-- The connections on which something went on, in order, as they were when the interval ended.
local function drain()
	local list, ended, open = {}, 0, 0
	for id, c in pairs(conns) do
		if c.ended + c.open > 0 then
			local copy = {avg = c.timed > 0 and c.ns // c.timed or nil}
			for k, v in pairs(c) do
				copy[k] = v
			end
			list[#list + 1] = copy
			ended, open = ended + c.ended, open + c.open
		end
		clear(c)
		if c.closed then
			conns[id] = nil
		end
	end
	table.sort(list, function(a, b)
		local x, y = a.ended + a.open, b.ended + b.open
		return x > y or (x == y and a.id < b.id)
	end)
	return list, ended, open
end

local function print_rows(list, ended, open)
	local rows = {}
	for i = 1, math.min(#list, opt.top) do
		local c = list[i]
		rows[i] = {
			c.arrow, ("%s[%d]"):format(escape(c.comm), c.pid), c.peer or "-", tostring(c.ended), tostring(c.open),
			tostring(c.most), tostring(c.reset), human(c.sent + c.answer), duration(c.avg),
		}
	end
	clear_screen()
	printf("in %s: connections: %d, streams ended: %d, open: %d\n", opt.interval, #list, ended, open)
	if #rows > 0 then
		local columns = {{title = ""}, {title = "process"}, {title = "peer"}}
		for _, title in ipairs {"ended", "open", "most", "reset", "bytes", "avg"} do
			columns[#columns + 1] = {title = title, right = true}
		end
		printf("%s", format.table(columns, rows))
	end
	if #list > opt.top then
		printf("  ... %d more connections\n", #list - opt.top)
	end
	print()
end

local function report()
	local list, ended, open = drain()
	if not format.json then
		return print_rows(list, ended, open)
	end
	for i = 1, math.min(#list, opt.top) do
		local c = list[i]
		emit {
			type = "h2streams", conn = c.id, side = c.arrow == "->" and "client" or "server", pid = c.pid, comm = c.comm,
			peer = c.peer, ended = c.ended, open = c.open, most = c.most, reset = c.reset, pushed = c.pushed,
			sent = c.sent, answer = c.answer, avg_ns = c.avg,
		}
	end
end

every(opt.interval, report)
on.stop(report)
