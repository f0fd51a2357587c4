-- SPDX-License-Identifier: MIT
-- pcap: everything that passes, as a capture file for Wireshark
--
-- usage: tlsscope --pcap FILE [pcap]       with -p PID, -c COMMAND, --comm NAME: only of those
--
-- Each connection is a TCP connection in the file, its plaintext what was sent on it; comments of
-- packets tell the process, the function and the library. When it ends (Ctrl-C, or -c COMMAND) it
-- tells what is in the file. To look on while it runs: tlsscope --pcap - | wireshark -k -i -
--
-- messages: 44, bytes: 396.6K, connections: 1, processes: 1

local format = require "format"

local messages, bytes, conns, pids = 0, 0, {}, {}

local function size(set)
	local n = 0
	for _ in pairs(set) do
		n = n + 1
	end
	return n
end

on.tls_data({capture = "all", peek = false}, function(e)
	messages, bytes = messages + 1, bytes + e.len
	conns[e.conn.id] = true
	pids[e.pid] = true
end)

on.stop(function()
	if format.json then
		emit {type = "pcap", messages = messages, bytes = bytes, conns = size(conns), processes = size(pids)}
	else
		printf("messages: %d, bytes: %s, connections: %d, processes: %d\n", messages, human(bytes),
			size(conns), size(pids))
	end
end)
