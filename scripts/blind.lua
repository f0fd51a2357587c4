-- SPDX-License-Identifier: MIT
-- blind: processes that talk TLS on the wire, but of which no probe showed any plaintext
--
-- usage: tlsscope blind                    prints when it ends (Ctrl-C, or -c COMMAND)
--
-- A process is told by its first connection that began here; "hellos" is how many did. "library" are
-- TLS libraries that it has mapped: where one is probed, the handshake may have failed, or nothing was
-- said yet; where there is none, one may be built into the program. A program that only passes TLS on,
-- as a proxy may, is in the list too. What began before tlsscope is not.
--
-- process           program              library          hellos  name             peer
-- gnutls-cli[4102]  /usr/bin/gnutls-cli  libgnutls.so.30       1  www.example.org  192.0.2.1:443

local format = require "format"

local MOST = 10000 -- processes that are kept

local LONGEST = 100 -- characters of a program's path, and of a name

local running, seen, list, forgotten = {}, {}, {}, 0

local function first(e)
	if #list >= MOST then
		forgotten = forgotten + 1
		return nil
	end
	local proc = e.proc or {}
	local row = {
		nsecs = e.nsecs, pid = e.pid, comm = e.comm, exe = proc.exe, tls = proc.tls, sni = e.sni, peer = e.peer, dir = e.dir,
		hellos = 0,
	}
	list[#list + 1] = row
	return row
end

on.tls_hello({where = function(e)
	return e.pid and e.hello == "client" and not e.retry and not seen[e.pid]
end}, function(e)
	local row = running[e.pid] or first(e)
	running[e.pid] = row
	if row then
		row.hellos = row.hellos + 1
	end
end)

on.tls_data({capture = 0}, function(e)
	seen[e.pid] = e.nsecs
	if running[e.pid] then
		running[e.pid].shown = true
	end
end)

-- Its number serves another process, or it runs another program: what was earlier is not its own. That
-- it does may be told late.
local function forget(e)
	local row = running[e.pid]
	if row and row.nsecs < e.nsecs then
		running[e.pid] = nil
	end
	if seen[e.pid] and seen[e.pid] < e.nsecs then
		seen[e.pid] = nil
	end
end
on.exit(forget)
on.exec(forget)

local function rows()
	local blind = {}
	for _, row in ipairs(list) do
		if not row.shown then
			blind[#blind + 1] = row
		end
	end
	return blind
end

local function print_rows(blind)
	for i, row in ipairs(blind) do
		blind[i] = {
			("%s[%d]"):format(escape(row.comm), row.pid), format.clip(escape(row.exe or "-"), LONGEST),
			escape(row.tls or "-"), tostring(row.hellos), format.clip(escape(row.sni or "-"), LONGEST),
			row.peer or "-",
		}
	end
	if #blind == 0 then
		return print("of every process that began a TLS connection, plaintext was seen")
	end
	printf("%s", format.table({
		{title = "process"}, {title = "program"}, {title = "library"}, {title = "hellos", right = true},
		{title = "name"}, {title = "peer"},
	}, blind, math.huge))
end

on.stop(function()
	local blind = rows()
	if not format.json then
		print_rows(blind)
	else
		for _, row in ipairs(blind) do
			row.type = "blind"
			emit(row)
		end
	end
	if forgotten > 0 then
		warn(("%d hellos of further processes are not in the list"):format(forgotten))
	end
end)
