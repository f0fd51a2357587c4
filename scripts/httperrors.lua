-- SPDX-License-Identifier: MIT
-- httperrors: HTTP requests that failed: a status from 400 on, broken off, or never answered
--
-- usage: tlsscope httperrors [--min STATUS] [--by WHAT] [--top N] [--side client|server] [--show-secrets]
--
--   --min STATUS     least status of a failure: 400, or 500 for those of servers only
--   --by WHAT        of the table at the end: host, path, url, method, comm or client
--   --top N          rows of the table
--   --side S         only where the traced program is the client, or the server
--   --show-secrets   passwords and tokens in URLs as they are
--
-- Each is shown when it is over; how many of which kind, when the run ends (Ctrl-C, or -c COMMAND).
--
-- 14:00:00.412 curl[4711] -> 127.0.0.1:8443 GET https://localhost/none 404
-- 14:00:09.120 curl[4719] -> 127.0.0.1:8443 GET https://localhost/hang no answer
-- ^C
-- failed: 2 of 14 requests
--   url             failure    count
--   localhost/none  404            1
--   localhost/hang  no answer      1

local format = require "format"
local requests = require "requests"

local opt = requests.options {
	min = {400, "least status of a failure"},
	by = {"url", requests.BY},
	top = {40, "rows of the table"},
}
local key = requests.key(opt.by)
local failures, all, failed = count("failures", {top = opt.top}), 0, 0

-- Why it failed; nil: it did not. What was not seen of it is no failure.
local function why(e)
	if e.reset then
		return "broken off"
	elseif not e.response then
		return "no answer"
	end
	return e.status and e.status >= opt.min and tostring(e.status) or nil
end

requests.each(0, function(e)
	local reason = why(e)
	all = all + 1
	if not reason then
		return
	end
	failed = failed + 1
	failures:add(key(e), reason)
	if format.json then
		emit(requests.record("httperror", e, {why = reason, duration_ns = e.duration_ns}))
	else
		printf("%s %s\n", requests.line(e), reason)
	end
end)

on.stop(function()
	if format.json then
		return failures:print()
	end
	local rows = {}
	for i, row in ipairs(failures:top(opt.top)) do
		rows[i] = {escape(row.key[1]), row.key[2], tostring(row.value)}
	end
	printf("failed: %d of %d requests\n", failed, all)
	if #rows > 0 then
		printf("%s", format.table({{title = opt.by}, {title = "failure"}, {title = "count", right = true}}, rows))
	end
end)
