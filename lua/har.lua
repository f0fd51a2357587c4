-- SPDX-License-Identifier: MIT
-- --har: an entry of a HAR file (HTTP Archive 1.2) for each request with its response. Names that begin
-- with "_" are tlsscope's own. What is not known is -1, "" or left out, as the format has it, and is
-- told in `comment`. Secrets are masked unless --show-secrets is given.
--
-- host: on, json; write(text): an entry; date(nsecs): the time of day as ISO 8601 has it, or nil.

local format = require "format"
local secrets = require "secrets"

local BODY = 1 << 20	-- bytes of each that are kept
local DECODED = 4 << 20 -- bytes that they decode to at most
local NOWHERE = "unknown.invalid" -- RFC 2606: nobody's name

-- Bytes that are no UTF-8 are taken for Latin-1, as HTTP once said.
local function text_of(s)
	return utf8.len(s) and s or (s:gsub("[\128-\255]", function(c)
		return utf8.char(c:byte())
	end))
end

local function decoded(s)
	return text_of((s:gsub("%+", " "):gsub("%%(%x%x)", function(hex)
		return string.char(tonumber(hex, 16))
	end)))
end

return function(host)
	local json, hide = host.json, secrets.hider(false)

	local function headers_of(m)
		local list = json.array {}
		for i, h in ipairs(m and hide.headers(m.headers) or {}) do
			list[i] = {name = text_of(h.name), value = text_of(h.value)}
		end
		return list
	end

	-- name=value, and of Set-Cookie what follows.
	local function cookie_of(text)
		local name, value, rest = text:match("^%s*([^=;]*)=?([^;]*)(.*)$")
		local cookie = {name = name, value = value}
		for key, v in rest:gmatch(";%s*([^=;]+)=?([^;]*)") do
			key = key:lower()
			if key == "path" or key == "domain" then
				cookie[key] = v
			elseif key == "secure" then
				cookie.secure = true
			elseif key == "httponly" then
				cookie.httpOnly = true
			end
		end
		return cookie
	end

	local function cookies_of(headers, header, each)
		local list = json.array {}
		for _, h in ipairs(headers) do
			if h.name:lower() == header then
				for text in h.value:gmatch(each) do
					list[#list + 1] = cookie_of(text)
				end
			end
		end
		return list
	end

	local function query_of(url)
		local list = json.array {}
		for name, value in (url:match("%?([^#]*)") or ""):gmatch("([^&=]+)=?([^&]*)") do
			list[#list + 1] = {name = decoded(name), value = decoded(value)}
		end
		return list
	end

	-- What of a URL no URI may have is percent-encoded.
	local function url_of(e, notes)
		local url = e.url
		if not url or not url:find("://", 1, true) then
			local path = e.path and e.path:sub(1, 1) == "/" and e.path or "/"
			if e.path and path ~= e.path then
				notes[#notes + 1] = "asked for " .. text_of(e.path)
			end
			url = "https://" .. (e.host or NOWHERE) .. path
		end
		return (hide.url(url):gsub("[^!#-;=?@A-Z%[%]_a-z~]", function(c)
			return ("%%%02X"):format(c:byte())
		end))
	end

	-- The body as text, or in base64; nil where nothing of it was kept; and whether it is whole.
	local function content_of(m, what, notes)
		local body, kind = m.body, m.headers["content-type"]
		local whole = not m.truncated and body and #body < DECODED
		if not body or (body == "" and not whole) then
			notes[#notes + 1] = ("the %s's body was not seen"):format(what)
			return nil, nil, false
		end
	if not whole then
			notes[#notes + 1] = ("the beginning of the %s's body"):format(what)
			body = format.whole_characters(body)
		end
		if utf8.len(body) then
			return hide.body(body, kind), nil, whole
		end
		return json.base64(body), "base64", whole
	end

	local function kind_of(m)
		return text_of(m.headers["content-type"] or "x-unknown")
	end

	local function request_of(e, notes)
		local m, url = e.request, url_of(e, notes)
		local headers = headers_of(m)
		local out = {
			method = text_of(e.method or ""), url = url, httpVersion = e.proto, headers = headers,
			cookies = cookies_of(headers, "cookie", "[^;]+"), queryString = query_of(url), headersSize = -1,
			bodySize = m and m.body_len or -1,
		}
		if m and m.body_len > 0 then
			local text, encoding = content_of(m, "request", notes)
			out.postData = {mimeType = kind_of(m), text = text or "", _encoding = encoding}
		end
		return out
	end

	local function response_of(e, notes)
		local m = e.response
		local headers = headers_of(m)
		local out = {
			status = e.status or 0, statusText = text_of(e.reason or ""), httpVersion = m and e.proto or "", headers = headers,
			cookies = cookies_of(headers, "set-cookie", ".+"), redirectURL = "", headersSize = -1,
			bodySize = m and m.body_len or -1, content = {size = 0, mimeType = "x-unknown"},
		}
		if not m then
			return out
		end
		out.redirectURL = text_of(hide.url(m.headers.location or ""))
		local encoded = m.headers["content-encoding"] ~= nil
		local text, encoding, whole = content_of(m, "response", notes)
		local size = not encoded and m.body_len or whole and m.body and #m.body or -1
		out.content = {
			size = size, mimeType = kind_of(m), text = text, encoding = encoding,
			compression = encoded and size >= 0 and size - m.body_len or nil,
		}
		return out
	end

	-- In milliseconds: each part of the time, and all of it; -1: one of its ends was not seen.
	local function timings_of(e)
		local req, resp = e.request or {}, e.response or {}
		local t, all = {blocked = -1, dns = -1, connect = -1, ssl = -1, send = -1, wait = -1, receive = -1}, 0
		local function set(part, from, to)
			if from and to then
				t[part] = math.max(0, to - from) / 1e6
				all = all + math.max(0, to - from)
			end
		end
		set("send", req.started_ns, req.ended_ns)
		set("wait", req.ended_ns, resp.started_ns)
		set("receive", resp.started_ns, resp.ended_ns)
		return t, all / 1e6
	end

	local function address_of(e)
		local address = e.conn[e.side == "client" and "raddr" or "laddr"]
		return address and address:find("^[%x:.]+$") and address or nil
	end

	local function entry_of(e)
		local notes = {}
		local first = (e.request or e.response).started_ns
		local timings, time = timings_of(e)
		local entry = {
			startedDateTime = host.date(first) or "1970-01-01T00:00:00.000Z", time = time, timings = timings, cache = {},
			request = request_of(e, notes), response = response_of(e, notes), serverIPAddress = address_of(e),
			connection = tostring(e.conn.id), _pid = e.pid, _comm = text_of(e.comm), _side = e.side,
			_stream = e.stream_id, _pushed = e.pushed or nil, _reset = e.reset or nil,
		}
		if not host.date(first) then
			notes[#notes + 1] = "the time of day is not known"
		end
		for _, what in ipairs {"request", "response"} do
			if not e[what] then
				notes[#notes + 1] = ("the %s was not seen"):format(what)
			elseif e[what].partial then
				notes[#notes + 1] = ("not all headers of the %s are known"):format(what)
			end
		end
		entry.comment = #notes > 0 and table.concat(notes, "; ") or nil
		return entry
	end

	return host.on("http", {capture = BODY}, function(e)
		host.write(json.encode(entry_of(e)))
	end)
end
