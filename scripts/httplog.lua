-- SPDX-License-Identifier: MIT
-- httplog: one line for each HTTP request with its response, as a server's log has it
--
-- usage: tlsscope httplog [--side client|server] [--headers] [--show-secrets]
--
--   --side S         only where the traced program is the client, or the server
--   --headers        the headers too, a line each
--   --show-secrets   passwords and tokens as they are: else Authorization, Cookie, Set-Cookie and
--                    what looks like a secret in a URL show as ***
--
-- A request that was never answered, or whose response was not seen, has no status: "-". With
-- -f json: one object a line, without bodies.
--
-- 14:00:00.412 curl[4711] -> 127.0.0.1:8443 GET https://localhost/hello?key=*** HTTP/1.1 200 5171 2.1ms

local format = require "format"
local secrets = require "secrets"

local opt = options {
	side = {"", "only of clients, or only of servers"},
	headers = {false, "the headers too"},
	show_secrets = {false, "passwords and tokens as they are"},
}
if opt.side ~= "" and opt.side ~= "client" and opt.side ~= "server" then
	warn("httplog: --side is client or server, not ", opt.side)
	exit(2)
end

local hide = secrets.hider(opt.show_secrets)

local function print_headers(mark, message)
	for _, h in ipairs(message and message.headers or {}) do
		printf("  %s %s: %s\n", mark, escape(h.name), escape(hide.header(h.name, h.value)))
	end
end

local function print_text(e)
	printf("%s %s[%d] %s %s %s %s %s %s %s %s%s\n", e.time or e.nsecs, escape(e.comm), e.pid,
		e.side == "client" and "->" or "<-", e.peer or "-", escape(e.method or "-"),
		escape(hide.url(e.url or e.path or "-")), e.proto, e.status or "-",
		e.response and e.body_len or "-", duration(e.duration_ns), e.partial and " partial" or "")
	if opt.headers then
		print_headers(">", e.request)
		print_headers("<", e.response)
	end
end

local function list(message)
	local out = {}
	for i, h in ipairs(message and message.headers or {}) do
		out[i] = {name = h.name, value = hide.header(h.name, h.value)}
	end
	return message and out or nil
end

local function print_json(e)
	emit {
		type = "http", time = e.time, nsecs = e.nsecs, pid = e.pid, comm = e.comm, side = e.side,
		peer = e.peer, conn = e.conn.id, stream = e.stream_id, proto = e.proto, method = e.method,
		url = hide.url(e.url), host = e.host, path = hide.url(e.path), status = e.status,
		request_len = e.request and e.request.body_len, response_len = e.response and e.body_len,
		latency_ns = e.latency_ns, duration_ns = e.duration_ns, partial = e.partial,
		reset = e.reset or nil, pushed = e.pushed or nil,
		request_headers = opt.headers and list(e.request) or nil,
		response_headers = opt.headers and list(e.response) or nil,
	}
end

on.http({capture = 0}, function(e)
	if opt.side == "" or opt.side == e.side then
		(format.json and print_json or print_text)(e)
	end
end)
