-- SPDX-License-Identifier: MIT
-- snimap: the server names that TLS connections ask for, by process and peer, whatever the library
--
-- usage: tlsscope snimap [--top N]         prints when it ends (Ctrl-C, or -c COMMAND)
--
--   --top N    rows to show, those with the most connections
--
-- From the ClientHello on the wire. "->" are names that a process asks for, and the peer is where it
-- goes; "<-" names that it is asked for, and the peer is who asks. "-" is no name: the client knew an
-- address only. A name that the client encrypts (ECH) shows as the one that it gives instead.
--
-- process          name              peer               alpn        connections
-- curl       ->    www.example.org   192.0.2.1:443      h2                    3
-- nginx      <-    www.example.org   198.51.100.7       h2                    3

local format = require "format"

local opt = options {
	top = {40, "rows to show, those with the most connections"},
}

local LONGEST = 100 -- characters of a name

local names = count("names", {top = opt.top})

on.tls_hello({where = function(e)
	return e.hello == "client" and not e.retry
end}, function(e)
	local out = e.dir == "out"
	names:add(e.comm or "-", out and "->" or "<-", e.sni or "-", (out and e.peer or e.raddr) or "-",
		e.alpn and e.alpn[1] or "-")
end)

local function print_rows()
	local rows = {}
	for i, row in ipairs(names:top(opt.top)) do
		local comm, arrow, name, peer, alpn = table.unpack(row.key)
		rows[i] = {escape(comm), arrow, format.clip(escape(name), LONGEST), peer,
			format.clip(escape(alpn), 20), tostring(row.value)}
	end
	if #rows == 0 then
		return print("no TLS connection began")
	end
	printf("%s", format.table({
		{title = "process"}, {title = ""}, {title = "name"}, {title = "peer"}, {title = "alpn"},
		{title = "connections", right = true},
	}, rows, math.huge))
end

on.stop(function()
	if format.json then
		names:print()
	else
		print_rows()
	end
end)
