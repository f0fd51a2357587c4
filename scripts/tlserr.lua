-- SPDX-License-Identifier: MIT
-- tlserr: handshakes and calls that failed, and why; how often by program, at the end
--
-- usage: tlsscope tlserr [--top N]         the table comes at the end (Ctrl-C, or -c COMMAND)
--
--   --top N    rows of the table
--
-- The reason is what the library itself noted; "failed" where it did not say.
--
-- 14:03:05.118 curl[4107] client: certificate verify failed: certificate has expired
-- ^C
-- errors
--   comm  why                                                    count
--   curl  certificate verify failed: certificate has expired         1

local format = require "format"

local opt = options {
	top = {40, "rows of the table"},
}

local errors = count("errors", {top = opt.top})

on.tls_error(function(e)
	local c = e.conn
	errors:add(e.comm, e.err)
	if format.json then
		return emit {
			type = "tlserr", time = e.time, nsecs = e.nsecs, pid = e.pid, comm = e.comm, conn = c.id,
			role = c.role, peer = c.peer, sni = c.sni, version = c.version, func = e.func, err = e.err,
		}
	end
	local whom = c.peer or c.sni
	printf("%s %s[%d] %s%s: %s\n", e.time or e.nsecs, escape(e.comm), e.pid, c.role or "-",
		whom and " " .. escape(whom) or "", e.err)
end)

on.stop(function()
	if format.json then
		return errors:print()
	end
	local rows = {}
	for i, row in ipairs(errors:top(opt.top)) do
		rows[i] = {escape(row.key[1]), row.key[2], tostring(row.value)}
	end
	if #rows == 0 then
		return print("no errors")
	end
	printf("errors\n%s", format.table({
		{title = "comm"}, {title = "why"}, {title = "count", right = true},
	}, rows))
end)
