-- SPDX-License-Identifier: MIT
-- sse: server-sent events (text/event-stream), as they come
--
-- usage: tlsscope sse [--event NAME] [--side client|server] [--show-secrets]
--
--   --event NAME     only events of this name; those without one are "message"
--   --side S         only where the traced program is the client, or the server
--   --show-secrets   fields such as token and secret as they are, and secrets in URLs
--
-- What programs stream word by word, as language models' APIs do, is mostly this. An event that is
-- longer than a mebibyte is left out, and one of which bytes were lost; that is told. Of a compressed
-- stream the events come when it is over, those of its first 4 MiB.
--
-- 14:00:00.412 python3[4711] -> 127.0.0.1:8443 POST https://localhost/v1/chat message: {"delta":"Hel"}
-- 14:00:00.431 python3[4711] -> 127.0.0.1:8443 POST https://localhost/v1/chat done 7: [DONE]

local format = require "format"
local requests = require "requests"

local opt = requests.options {
	event = {"", "only events of this name"},
}

local MOST = 1 << 20 -- bytes of an event that is not whole yet
local COMPRESSED = 4 << 20

local streams = {} -- by connection and stream: {rest=, next= offset expected, skip= to the next event}

local function key_of(e)
	return e.conn.id << 32 | (e.stream_id or 0)
end

local function is_stream(e, compressed)
	local headers = e.response and e.response.headers
	local kind = headers and headers["content-type"] or ""
	return kind:lower():find("^text/event%-stream") and (headers["content-encoding"] ~= nil) == compressed
end

local function show(e, name, id, data)
	if opt.event ~= "" and opt.event ~= name then
		return
	elseif format.json then
		return emit(requests.record("sse", e, {event = name, id = id, data = requests.hide.body(data)}))
	end
	printf("%s %s%s: %s\n", requests.line(e), escape(name), id and " " .. escape(id) or "",
		escape(requests.hide.body(data)))
end

-- The lines of one event. What has no data is none: a comment that keeps the connection alive.
local function parse(e, lines)
	local name, id, data = "message", nil, {}
	for line in lines:gmatch("[^\r\n]+") do
		local field, value = line:match("^([^:]*):? ?(.*)$")
		if field == "data" then
			data[#data + 1] = value
		elseif field == "event" and value ~= "" then
			name = value
		elseif field == "id" then
			id = value
		end
	end
	if #data > 0 then
		show(e, name, id, table.concat(data, "\n"))
	end
end

-- Where an event ends, and where the next one begins: an empty line, of whichever ends of lines.
local function find_end(text, from)
	local best, next_one
	for _, mark in ipairs {"\n\n", "\r\n\r\n", "\r\r"} do
		local at, stop = text:find(mark, from, true)
		if at and (not best or at < best) then
			best, next_one = at, stop + 1
		end
	end
	return best, next_one
end

local function lost(s, e, why)
	s.rest, s.skip = "", true
	warn(("sse: %s of connection %d: the event at hand is left out"):format(why, e.conn.id))
end

requests.each(0, function(e)
	if e.part ~= "response" or not is_stream(e, false) then
		return
	end
	local key = key_of(e)
	local s = streams[key] or {rest = "", next = 0}
	streams[key] = s
	if e.offset ~= s.next then
		lost(s, e, (e.offset - s.next) .. " bytes are missing in a stream")
	end
	s.next = e.offset + #e.data
	local from = math.max(1, #s.rest - 2)
	local text = s.rest .. e.data
	local at, stop, next_one = 1, find_end(text, from)
	while stop do
		if not s.skip then
			parse(e, text:sub(at, stop - 1))
		end
		s.skip, at = false, next_one
		stop, next_one = find_end(text, at)
	end
	s.rest = text:sub(at)
	if #s.rest > MOST then
		lost(s, e, "an event of more than a mebibyte")
	end
end, "http_data")

requests.each(COMPRESSED, function(e)
	streams[key_of(e)] = nil
	if not is_stream(e, true) then
		return
	end
	local text, at = e.response.body or "", 1
	local stop, next_one = find_end(text, at)
	while stop do
		parse(e, text:sub(at, stop - 1))
		at = next_one
		stop, next_one = find_end(text, at)
	end
end)
