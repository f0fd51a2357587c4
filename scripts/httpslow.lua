-- SPDX-License-Identifier: MIT
-- httpslow: HTTP requests that take long, or are never answered
--
-- usage: tlsscope httpslow [TIME] [--wait] [--side client|server] [--show-secrets]
--
--   TIME             200ms (what is used without it), 1.5s, ...: from a request's first byte to its
--                    answer's last one
--   --wait           to its answer's first one: not how long the body takes
--   --side S         only where the traced program is the client, or the server
--   --show-secrets   passwords and tokens in URLs as they are
--
-- Each is shown when it is over: status, wait for the first byte of the answer, time to its last. What
-- was never answered is shown with the time that passed until its connection, or the run, ended.
--
-- 14:00:01.412 curl[4711] -> 127.0.0.1:8443 GET https://localhost/report 200 wait 251.20ms total 1.31s
-- 14:00:09.120 curl[4719] -> 127.0.0.1:8443 GET https://localhost/hang no answer for 8.00s

local format = require "format"
local requests = require "requests"

local opt = requests.options {
	wait = {false, "to the answer's first byte, not its last"},
}
local least = requests.time(opt[1] or "200ms")

requests.each(0, function(e)
	local answered = e.latency_ns
	local ns = answered and (opt.wait and answered or e.duration_ns)
	local waited = not e.status and e.request and e.nsecs - e.request.started_ns or nil
	if (ns or waited or -1) < least then
		return
	elseif format.json then
		emit(requests.record("httpslow", e, {latency_ns = answered, duration_ns = e.duration_ns, waited_ns = waited}))
	elseif waited then
		printf("%s no answer for %s\n", requests.line(e), duration(waited))
	else
		printf("%s %s wait %s total %s\n", requests.line(e), e.status or "-", duration(answered), duration(e.duration_ns))
	end
end)
