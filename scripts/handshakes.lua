-- SPDX-License-Identifier: MIT
-- handshakes: every TLS handshake, how long it took and what it agreed on; how long, as histograms
--
-- usage: tlsscope handshakes [--slow T]     the histograms come at the end (Ctrl-C, or -c COMMAND)
--
--   --slow T   show only handshakes that took at least so long: 50ms, 1s, ...
--
-- "-" is what is not known: the time of a handshake whose beginning or end was not seen.
--
-- time          process     role         for  version  cipher                  alpn  sni
-- 14:03:05.118  curl[4107]  client   12.4ms   TLSv1.3  TLS_AES_256_GCM_SHA384  h2    shop.example
-- 14:03:05.301  curl[4109]  client    1.1ms   failed: alert received: handshake_failure

local format = require "format"

local opt = options {
	slow = {"0s", "least time of a handshake to show"},
}
local UNITS = {ns = 1, us = 1e3, ms = 1e6, s = 1e9, m = 60e9}
local number, unit = tostring(opt.slow):match("^(%d+%.?%d*)(%a+)$")
if not UNITS[unit] then
	warn("handshakes: --slow takes a time: 50ms, 1s")
	exit(2)
end
local least = tonumber(number) * UNITS[unit]

local took = hist("handshakes", {unit = "ns", title = "time of handshakes"})
local ROW = "%-12s  %-22s  %-6s  %8s  %-8s  %-28s  %-8s  %s\n"
local titled

local function show(e)
	local c = e.conn
	if not titled then
		titled = true
		printf(ROW, "time", "process", "role", "for", "version", "cipher", "alpn", "sni")
	end
	local line = ROW:format(e.time or e.nsecs, ("%s[%d]"):format(escape(e.comm), e.pid), c.role or "-",
		e.duration_ns and duration(e.duration_ns) or "-", e.err and "failed:" or c.version or "-",
		e.err or (c.cipher or "-") .. (e.resumed and " resumed" or ""), escape(c.alpn or "-"),
		escape(c.sni or "-"))
	printf("%s\n", (line:gsub("%s+$", "")))
end

local function show_json(e)
	local c = e.conn
	emit {
		type = "handshake", time = e.time, nsecs = e.nsecs, pid = e.pid, comm = e.comm, conn = c.id,
		duration_ns = e.duration_ns, err = e.err, resumed = e.resumed, role = c.role,
		version = c.version, cipher = c.cipher, alpn = c.alpn, sni = c.sni, peer = c.peer,
	}
end

on.tls_open(function(e)
	local ns = e.duration_ns
	if ns then
		took:add(ns, e.err and "failed" or e.resumed and "resumed" or "full")
	end
	if least == 0 or (ns and ns >= least) then
		(format.json and show_json or show)(e)
	end
end)
