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
local requests = require "requests"

local opt = requests.options {
	headers = {false, "the headers too"},
}

local function print_headers(mark, message)
	for _, h in ipairs(message and requests.hide.headers(message.headers) or {}) do
		printf("  %s %s: %s\n", mark, escape(h.name), escape(h.value))
	end
end

local function print_text(e)
	printf("%s %s %s %s %s%s\n", requests.line(e), e.proto, e.status or "-", e.response and e.body_len or "-",
		duration(e.duration_ns), e.partial and " partial" or "")
	if opt.headers then
		print_headers(">", e.request)
		print_headers("<", e.response)
	end
end

local function headers_of(message)
	return opt.headers and message and requests.hide.headers(message.headers) or nil
end

local function print_json(e)
	emit(requests.record("http", e, {
		request_len = e.request and e.request.body_len, response_len = e.response and e.body_len,
		latency_ns = e.latency_ns, duration_ns = e.duration_ns, partial = e.partial,
		reset = e.reset or nil, pushed = e.pushed or nil,
		request_headers = headers_of(e.request), response_headers = headers_of(e.response),
	}))
end

requests.each(0, format.json and print_json or print_text)
