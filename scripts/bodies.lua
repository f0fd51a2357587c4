-- SPDX-License-Identifier: MIT
-- bodies: the bodies of HTTP requests and responses, decoded
--
-- usage: tlsscope bodies [--grep TEXT] [--type TYPE] [--head N] [--binary] [--side client|server]
--                        [--show-secrets]
--
--   --grep TEXT      only those in which this text is, as it is
--   --type TYPE      only those whose Content-Type has this in it: json, html, ...
--   --head N         bytes of each that are kept and shown: 65536 without it
--   --binary         what is not text too, as a hex dump
--   --side S         only where the traced program is the client, or the server
--   --show-secrets   fields such as password, token, secret as they are, and secrets in URLs
--
-- Bodies are without chunks, frames and compression. ">" is of a request, "<" of a response. With
-- -f json the body is in `data` where it is UTF-8, else in `data_b64`. --grep looks at what was sent,
-- also where it shows as ***.
--
-- 14:00:00.412 curl[4711] -> 127.0.0.1:8443 POST https://localhost/login > 31 bytes of application/json
--   {"user":"ann","password":"***"}

local format = require "format"
local messages = require "messages"
local requests = require "requests"

local opt = requests.options {
	grep = {"", "only those in which this text is"},
	type = {"", "only those of this Content-Type"},
	head = {65536, "bytes of each that are shown"},
	binary = {false, "what is not text too, as a hex dump"},
}

local function print_body(e, mark, m, kind, text)
	local size = ("%d bytes of %s"):format(m.body_len, kind ~= "" and escape(kind) or "unknown type")
	local is_text = utf8.len(text) ~= nil
	color(mark == ">" and "cyan" or "green")
	print(("%s %s %s%s%s"):format(requests.line(e), mark, mark == "<" and (e.status or "-") .. " " or "", size,
		(is_text or opt.binary) and "" or ", not text"))
	color()
	if is_text and text ~= "" then
		messages.print_lines(escape(text, true))
	elseif opt.binary then
		hexdump(text)
	end
	if m.truncated then
		print("... this is its beginning")
	end
end

local function show(e, mark, m)
	if not m or m.body_len == 0 then
		return
	end
	local kind, text = m.headers["content-type"] or "", m.body or ""
	if not kind:lower():find(opt.type:lower(), 1, true) or not text:find(opt.grep, 1, true) then
		return
	end
	text = m.truncated and format.whole_characters(text) or text
	if utf8.len(text) then
		text = requests.hide.body(text, kind)
	end
	if format.json then
		emit(requests.record("body", e, {
			part = mark == ">" and "request" or "response", content_type = kind, body_len = m.body_len,
			truncated = m.truncated, data = text,
		}))
	else
		print_body(e, mark, m, kind, text)
	end
end

requests.each(opt.head, function(e)
	show(e, ">", e.request)
	show(e, "<", e.response)
end)
