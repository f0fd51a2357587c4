-- SPDX-License-Identifier: MIT
-- wslog: one line for each message of a WebSocket, put together and decompressed
--
-- usage: tlsscope wslog [--data N] [--no-control] [--show-secrets]
--
--   --data N         bytes of a message to show: 60
--   --no-control     neither pings, pongs nor closes
--   --show-secrets   tokens in URLs and messages as they are: else they show as ***
--
-- A message of which something was not seen, or could not be decompressed, ends with "...". What the
-- protocol forbids, and where messages may be missing, stands in brackets. With -f json: one object a
-- message.
--
-- 14:00:00.412 node[4711] -> 127.0.0.1:8443 wss://localhost/chat?token=*** text 5 hello

local format = require "format"
local secrets = require "secrets"

local opt = options {
	data = {60, "bytes of a message to show"},
	no_control = {false, "neither pings, pongs nor closes"},
	show_secrets = secrets.option,
}
local hide = secrets.hider(opt.show_secrets)
local CONTROL = {ping = true, pong = true, close = true}

local function content(e)
	if e.opcode == "close" then
		return e.code and ("%d %s"):format(e.code, escape(e.reason or "")) or ""
	end
	return escape(hide.body(e.data) or "") .. (e.truncated and "..." or "")
end

local function print_text(e)
	local line = ("%s %s[%d] %s %s %s %s %s %s"):format(e.time or e.nsecs, escape(e.comm), e.pid,
		e.dir == "out" and "->" or "<-", e.peer or "-", escape(hide.url(e.url or e.path or "-")), e.opcode,
		e.len or "-", content(e)):gsub(" +$", "")
	printf("%s%s%s\n", line, e.gap and " [after a gap]" or "", e.err and (" [%s]"):format(e.err) or "")
end

local function print_json(e)
	emit {
		type = "ws_message", time = e.time, nsecs = e.nsecs, pid = e.pid, comm = e.comm, side = e.side,
		peer = e.peer, conn = e.conn.id, stream = e.stream_id, url = hide.url(e.url), dir = e.dir,
		opcode = e.opcode, len = e.len, raw_len = e.raw_len, frames = e.frames, compressed = e.compressed,
		data = hide.body(e.data), truncated = e.truncated, code = e.code, reason = e.reason, gap = e.gap, err = e.err,
	}
end

on.ws_message({capture = opt.data}, function(e)
	if not (opt.no_control and CONTROL[e.opcode]) then
		(format.json and print_json or print_text)(e)
	end
end)
