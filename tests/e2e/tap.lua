-- SPDX-License-Identifier: MIT
-- Every call's bytes as JSON lines, for the tests to compare with what the programs said.
-- usage: tlsscope -f json -o FILE tap.lua [all|default|N [WAY OF ATTACHING]]
local want, attach = ...
config({ buffer = "64M", attach = attach })

local opts = {}
if want ~= "default" then
	opts.capture = tonumber(want) or want or "all"
end

local piece <const> = 2048

local function hex(s)
	local out = {}
	for i = 1, #s, piece do
		local part = s:sub(i, i + piece - 1)
		out[#out + 1] = ("%02x"):rep(#part):format(part:byte(1, -1))
	end
	return table.concat(out)
end

on.tls_data(opts, function(e)
	emit({
		type = "data", pid = e.pid, tid = e.tid, uid = e.uid, comm = e.comm, conn = e.conn.id,
		dir = e.dir, len = e.len, truncated = e.truncated, gap = e.gap, peeked = e.peeked,
		probe = e.probe, func = e.func, lib = e.lib, kind = e.kind, goid = e.goid,
		fd = e.conn.fd, hex = hex(e.data or ""),
	})
end)

on.start(function()
	emit({ type = "ready" })
end)

on.attach(function(a)
	emit({ type = "attach", path = a.path, kind = a.kind, sites = a.sites, problem = a.problem })
end)
