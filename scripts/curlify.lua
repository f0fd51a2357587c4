-- SPDX-License-Identifier: MIT
-- curlify: each HTTP request as a command of curl that repeats it
--
-- usage: tlsscope curlify [--connect] [--head N] [--side client|server] [--show-secrets]
--
--   --connect        to the address where the request went, whatever the name's address is
--   --head N         bytes of a body that are kept: 1048576 without it
--   --side S         only where the traced program is the client, or the server
--   --show-secrets   passwords and tokens as they are: without them the command is not the same request
--
-- The commands are for any POSIX shell; bytes that are not plain text go through printf. What cannot
-- be the same is told in the comment. Certificates are curl's own affair: see --cacert there.
--
-- # 14:00:00.412 curl[4711] -> 127.0.0.1:8443, secrets are masked
-- curl --http1.1 'https://localhost:8443/login' \
--   -H 'User-Agent: curl/7.88.1' -H 'Accept: */*' -H 'Authorization: Bearer ***' \
--   -H 'Content-Type: application/json' --data-raw '{"user":"ann"}'

local format = require "format"
local requests = require "requests"

local opt = requests.options {
	connect = {false, "to the address where the request went"},
	head = {1 << 20, "bytes of a body that are kept"},
}

local PLAIN = 65536 -- bytes of an argument; more go through a pipe
local PROTOCOLS = {["HTTP/1.0"] = "--http1.0", ["HTTP/1.1"] = "--http1.1", ["HTTP/2"] = "--http2"}
-- What curl says of its own accord, and what it makes itself.
local OWN = {"User-Agent", "Accept", "Content-Type"}
local MADE = {["content-length"] = true, ["transfer-encoding"] = true, ["expect"] = true}

-- The format with which printf writes these bytes.
local function printf_format(s)
	return "'" .. s:gsub("[^%w ,.:;/=&?_{}%[%]()<>@\"-]", function(c)
		return c == "%" and "%%" or ("\\%03o"):format(c:byte())
	end) .. "'"
end

local function quote(s)
	if s:find("[^\32-\126]") then
		return "\"$(printf " .. printf_format(s) .. ")\""
	end
	return "'" .. s:gsub("'", "'\\''") .. "'"
end

-- The bytes of the body as they shall be sent, and whether they are as they were. Masked, a body that
-- is encoded is sent decoded.
local function body_of(m)
	local raw = m.raw_body or ""
	if raw == "" then
		return raw, true
	end
	local encoded = m.headers["content-encoding"] ~= nil
	local body = requests.hide.body(m.body or raw, m.headers["content-type"])
	if not encoded then
		return body, true
	end
	return body == m.body and raw or body, body == m.body
end

local function add_headers(out, e, same_encoding)
	local seen, cookies, masked = {}, {}, false
	for _, h in ipairs(e.request.headers) do
		local name, value = h.name:lower(), requests.hide.header(h.name, h.value)
		masked = masked or value ~= h.value
		seen[name] = true
		if name == "cookie" then
			cookies[#cookies + 1] = value
		elseif not MADE[name] and not (name == "host" and value == e.host) and
			not (name == "content-encoding" and not same_encoding) then
			out[#out + 1] = "-H " .. quote(value == "" and h.name .. ";" or h.name .. ": " .. value)
		end
	end
	if #cookies > 0 then
		out[#out + 1] = "-H " .. quote("Cookie: " .. table.concat(cookies, "; "))
	end
	for _, name in ipairs(OWN) do
		if not seen[name:lower()] and (name ~= "Content-Type" or e.body_len > 0) then
			out[#out + 1] = "-H '" .. name .. ":'"
		end
	end
	return masked, seen
end

local function add_address(out, e)
	local c = e.conn
	local addr, port = c.raddr, c.rport
	if e.side == "server" then
		addr, port = c.laddr, c.lport
	end
	if opt.connect and addr and port then
		out[#out + 1] = ("--connect-to '::%s:%d'"):format(addr:find(":", 1, true) and "[" .. addr .. "]" or addr, port)
	end
end

-- -X, or what stands for it. has_body: curl then asks by POST.
local function add_method(out, method, has_body)
	if method == "HEAD" then
		out[#out + 1] = "--head"
	elseif method ~= (has_body and "POST" or "GET") then
		out[#out + 1] = "-X " .. quote(method)
	end
end

-- The body as an argument, or as what goes into curl.
local function add_body(out, body)
	if #body <= PLAIN and not body:find("[^\32-\126]") then
		out[#out + 1] = "--data-raw " .. quote(body)
		return ""
	end
	out[#out + 1] = "--data-binary @-"
	if #body > 1000000 then
		out[#out + 1] = "-H 'Expect:'"
	end
	return "printf " .. printf_format(body) .. " | "
end

-- The command, and what of it is not as it was.
local function command(e)
	local url, notes, out = requests.hide.url(e.url), {}, {PROTOCOLS[e.proto]}
	local body, as_sent = body_of(e.request)
	if url:find("/%.%.?/") or url:find("/%.%.?$") then
		out[#out + 1] = "--path-as-is"
	end
	if url:find("[%[%]{}]") then
		out[#out + 1] = "--globoff"
	end
	out[#out + 1] = quote(url)
	add_address(out, e)
	local masked, seen = add_headers(out, e, as_sent)
	local has_body = e.body_len > 0 or seen["content-length"] or seen["transfer-encoding"]
	add_method(out, e.method, has_body)
	local input = has_body and add_body(out, body) or ""
	if masked or url ~= e.url or (not e.truncated and body ~= e.raw_body and body ~= "") then
		notes[1] = ", secrets are masked"
	end
	if e.truncated then
		notes[#notes + 1] = (", %d of %d bytes of the body"):format(#body, e.body_len)
	end
	notes[#notes + 1] = e.partial and ", not all headers are known" or nil
	return input .. "curl " .. table.concat(out, " \\\n  "), table.concat(notes)
end

requests.each(opt.head, function(e)
	if not e.url or not e.method or e.method == "CONNECT" then
		return
	end
	local text, notes = command(e)
	if format.json then
		return emit(requests.record("curl", e, {command = text, notes = notes ~= "" and notes:sub(3) or nil}))
	end
	printf("# %s %s[%d] %s %s%s\n%s\n\n", e.time or e.nsecs, escape(e.comm), e.pid, requests.arrow(e), e.peer or "-",
		notes, text)
end, "http_request")
