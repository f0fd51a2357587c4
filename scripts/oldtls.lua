-- SPDX-License-Identifier: MIT
-- oldtls: connections of old TLS: below 1.2, or with a cipher that is weak
--
-- usage: tlsscope oldtls                   a line a connection; how many, at the end
--
-- Weak are: no encryption, no authentication, RC4, DES and 3DES, export ciphers, MD5; and key
-- exchange by RSA, which lets whoever gets the key later read what was recorded before.
--
-- time          process      role    peer           version  cipher                         why
-- 14:03:05.118  nginx[812]   server  192.0.2.7:519  TLSv1    TLS_RSA_WITH_AES_128_CBC_SHA   version
-- ^C
-- 1 of 12 handshakes

local format = require "format"

local OLD = {["SSLv3"] = true, ["TLSv1"] = true, ["TLSv1.1"] = true, ["DTLSv1"] = true}
local WEAK = {
	{"_NULL_", "no encryption"}, {"_anon_", "no authentication"}, {"_EXPORT", "export cipher"},
	{"_RC4_", "RC4"}, {"DES_", "DES"}, {"_MD5$", "MD5"}, {"^TLS_RSA_", "RSA key exchange"},
}

local function why(conn)
	if OLD[conn.version] then
		return "version"
	end
	for _, weak in ipairs(WEAK) do
		if conn.cipher and conn.cipher:find(weak[1]) then
			return weak[2]
		end
	end
end

local ROW = "%-12s  %-22s  %-6s  %-24s  %-8s  %-36s  %s\n"
local all, old = 0, 0

on.tls_open(function(e)
	if e.err then
		return
	end
	local c = e.conn
	local reason = why(c)
	all = all + 1
	if not reason then
		return
	end
	old = old + 1
	if format.json then
		return emit {
			type = "oldtls", time = e.time, nsecs = e.nsecs, pid = e.pid, comm = e.comm, conn = c.id,
			role = c.role, peer = c.peer, sni = c.sni, version = c.version, cipher = c.cipher,
			why = reason,
		}
	end
	if old == 1 then
		printf(ROW, "time", "process", "role", "peer", "version", "cipher", "why")
	end
	printf(ROW, e.time or e.nsecs, ("%s[%d]"):format(escape(e.comm), e.pid), c.role or "-",
		c.peer or escape(c.sni or "-"), c.version or "-", c.cipher or "-", reason)
end)

on.stop(function()
	if format.json then
		emit {type = "total", handshakes = all, old = old}
	else
		printf("%d of %d handshakes\n", old, all)
	end
end)
