-- SPDX-License-Identifier: MIT
-- For recipes that show every message: a head line, marks for what is not whole, and the bytes as
-- `show` prints them; in JSON one object each. Lines of payload are indented, heads and marks are
-- not: no payload can pass for one.

local format = require "format"

local M = {}

local function verb(e)
	return e.peeked and "peek" or e.dir == "in" and "read" or "write"
end

local function print_head(e)
	color(e.dir == "in" and "green" or "cyan")
	printf("%s %s[%d] %s %s %d bytes conn %d %s %s\n", e.time or e.nsecs, escape(e.comm), e.pid,
		e.dir == "in" and "<-" or "->", verb(e), e.len, e.conn.id, e.func,
		escape(e.lib:match("[^/]*$")))
	color()
end

local function print_text(e, show)
	local data = e.data or ""
	print_head(e)
	if e.gap then
		printf("... %d bytes missing before these\n", e.gap)
	end
	if data ~= "" then
		show(data)
	end
	if e.nodata then
		print("... sent by the kernel: never in the program's memory")
	elseif e.truncated then
		printf("... %d more bytes\n", e.len - #data)
	end
end

local function print_json(e)
	local data = e.data
	local text = data and utf8.len(data) and data or nil
	emit {
		type = "message", time = e.time, nsecs = e.nsecs, pid = e.pid, tid = e.tid, comm = e.comm,
		probe = e.probe, func = e.func, lib = e.lib, kind = e.kind, dir = e.dir, len = e.len,
		conn = e.conn.id, gap = e.gap, truncated = e.truncated, peeked = e.peeked, nodata = e.nodata,
		data = text, data_b64 = data and not text and json.base64(data) or nil,
	}
end

-- Prints lines with the indent of payload.
function M.print_lines(lines)
	print((lines:gsub("\n$", ""):gsub("[^\n]+", "  %0")))
end

-- head: bytes of each message to show, 0 for all.
function M.follow(head, show)
	on.tls_data({capture = head > 0 and head or "all"}, function(e)
		if format.json then
			print_json(e)
		else
			print_text(e, show)
		end
	end)
end

return M
