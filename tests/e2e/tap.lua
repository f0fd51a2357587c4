-- SPDX-License-Identifier: MIT
-- Every call's bytes as JSON lines, for the tests to compare with what the programs said.
-- usage: tlsscope -f json -o FILE tap.lua [all|default|N [WAY OF ATTACHING|- [PROBE,... [SITES]]]]
local want, attach, probes, sites = ...
config({ buffer = "64M", attach = attach ~= "-" and attach or nil, sites = sites })

local opts = {}
if want ~= "default" then
	opts.capture = tonumber(want) or want or "all"
end

local digits = {}
for i = 0, 255 do
	digits[string.char(i)] = ("%02x"):format(i)
end

local function hex(s)
	local text = s:gsub(".", digits)
	return text
end

local function show(e)
	local conn = e.conn
	emit({
		type = "data", pid = e.pid, tid = e.tid, uid = e.uid, comm = e.comm, conn = conn.id,
		dir = e.dir, len = e.len, truncated = e.truncated, gap = e.gap, peeked = e.peeked,
		probe = e.probe, func = e.func, lib = e.lib, kind = e.kind, goid = e.goid,
		record = e.record, ktls = e.ktls, fd = conn.fd, laddr = conn.laddr,
		lport = conn.lport, raddr = conn.raddr, rport = conn.rport, version = conn.version,
		cipher = conn.cipher, hex = hex(e.data or ""),
	})
end

for name in (probes or "tls_data"):gmatch("[^,]+") do
	on(name, opts, show)
end

on.start(function()
	emit({ type = "ready" })
end)

on.attach(function(a)
	emit({ type = "attach", path = a.path, kind = a.kind, sites = a.sites, problem = a.problem })
end)
