-- SPDX-License-Identifier: MIT
-- conns: every TLS connection when it ends: whose, to whom, bytes each way, how long, how it ended
--
-- usage: tlsscope conns [--min BYTES]      those that are open still are shown at the end
--
--   --min BYTES   only connections that carried as much, both ways together
--
-- How it ended is said where it is certain: "close_notify" (the other end said so), "error", "freed"
-- (the program gave its memory back), "cleared" (and uses it for another one), "closed", "process
-- ended"; "open": not yet. "-" is not known. A connection older than tlsscope counts from the first
-- call that was seen.
--
-- time          process     peer           version    in    out      for  how
-- 14:03:05.118  nginx[812]  192.0.2.7:519  TLSv1.3   162   4.8K   21.3ms  close_notify
-- 14:03:05.119  curl[4107]  192.0.2.9:443  TLSv1.3  4.8K    162   20.9ms  process ended

local format = require "format"

local opt = options {
	min = {0, "least bytes of a connection, both ways together"},
}

local open = {}

on.tls_data({capture = 0, peek = false}, function(e)
	local conn = e.conn
	open[conn.id] = open[conn.id] or {conn = conn, comm = e.comm}
end)

local ROW = "%-12s  %-22s  %-24s  %-8s  %6s  %6s  %9s  %s\n"
local titled

local function show(c)
	if c.bytes_in + c.bytes_out < opt.min then
		return
	end
	if format.json then
		c.type = "conn"
		return emit(c)
	end
	if not titled then
		titled = true
		printf(ROW, "time", "process", "peer", "version", "in", "out", "for", "how")
	end
	printf(ROW, c.time or c.nsecs, ("%s[%d]"):format(escape(c.comm), c.pid), c.peer or "-",
		c.version or "-", human(c.bytes_in), human(c.bytes_out), duration(c.duration_ns), c.how or "-")
end

local function row(conn, more)
	for _, field in ipairs {
		"id", "pid", "laddr", "lport", "raddr", "rport", "peer", "sni", "alpn", "version", "cipher",
		"role", "bytes_in", "bytes_out",
	} do
		more[field] = conn[field]
	end
	return more
end

on.tls_close(function(e)
	open[e.conn.id] = nil
	show(row(e.conn, {
		time = e.time, nsecs = e.nsecs, comm = e.comm, duration_ns = e.duration_ns, how = e.how,
	}))
end)

-- What is open: in the order of their beginning, up to now.
on.stop(function(s)
	local list = {}
	for id in pairs(open) do
		list[#list + 1] = id
	end
	table.sort(list)
	for _, id in ipairs(list) do
		local c = open[id]
		show(row(c.conn, {
			time = s.time, nsecs = s.nsecs, comm = c.comm, duration_ns = s.nsecs - c.conn.opened_ns,
			how = "open",
		}))
	end
end)
