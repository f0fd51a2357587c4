-- SPDX-License-Identifier: MIT
local make_har = require "har"
local stub = require "stub"

local equal = stub.equal

local tests = {}
local function test(name, fn)
	tests[#tests + 1] = {name, fn}
end

-- The entry that is made of an event.
local function entry(e, no_date)
	local host = stub.new()
	local out
	make_har {
		on = host.on, json = setmetatable({encode = function(v) return v end}, {__index = host.text.json}),
		write = function(v) out = v end, date = function(ns) return not no_date and "at " .. ns or nil end,
	}
	equal(host.handlers[1].name, "http")
	host:fire("http", e)
	return out
end

local function headers(t)
	return setmetatable({}, {__index = t})
end

local function event(more)
	local e = {
		pid = 10, comm = "c\xff", side = "server", proto = "HTTP/1.1", conn = {id = 3, laddr = "/run/sock", raddr = "::1"},
		pushed = false, reset = false,
	}
	for k, v in pairs(more) do
		e[k] = v
	end
	return e
end

test("a response without its request", function()
	local e = entry(event {
		status = 302, reason = "Found\xe9", response = {
			headers = headers {location = "/?token=x", ["content-encoding"] = "gzip"}, body = "plain", body_len = 9,
			truncated = false, partial = true, started_ns = 5000000, ended_ns = 7500000,
		},
	})
	equal(e.startedDateTime, "at 5000000")
	equal(e.request.method, "")
	equal(e.request.url, "https://unknown.invalid/")
	equal(e.request.bodySize, -1)
	equal(e.response.redirectURL, "/?token=***")
	equal(e.response.statusText, "Foundé")
	equal(e.response.content.size, 5)
	equal(e.response.content.compression, -4)
	equal(e.timings.send, -1)
	equal(e.timings.wait, -1)
	equal(e.timings.receive, 2.5)
	equal(e.time, 2.5)
	equal(e.serverIPAddress, nil) -- a Unix socket's path
	equal(e._comm, "cÿ")
	equal(e.comment, "the request was not seen; not all headers of the response are known")
end)

test("a request without its response, of a body that was not seen", function()
	local e = entry(event {
		method = "PUT", side = "client", path = "/a", host = "h", url = "https://h/a", request = {
			headers = headers {}, body = "", body_len = 9, truncated = true, started_ns = 5000000, ended_ns = 5000000,
		},
	}, true)
	equal(e.startedDateTime, "1970-01-01T00:00:00.000Z")
	equal(e.request.postData.text, "")
	equal(e.request.postData.mimeType, "x-unknown")
	equal(e.response.status, 0)
	equal(e.response.content.size, 0)
	equal(e.timings.send, 0.0)
	equal(e.timings.receive, -1)
	equal(e.serverIPAddress, "::1")
	equal(e.comment, "the request's body was not seen; the time of day is not known; the response was not seen")
end)

test("a body that is cut has no size where it was compressed", function()
	local function content(encoding, truncated, body)
		return entry(event {
			url = "https://h/", request = {headers = headers {}, body_len = 0, started_ns = 1, ended_ns = 2}, status = 200,
			response = {
				headers = headers {["content-encoding"] = encoding}, body = body, body_len = 100, truncated = truncated,
				started_ns = 3,
			},
		}).response.content
	end
	equal(content(nil, true, "cut \u{20ac}\xe2\x82").text, "cut \u{20ac}")
	equal(content(nil, true, "cut").size, 100)
	equal(content("br", true, "cut").size, -1)
	equal(content("br", false, ("x"):rep(4 << 20)).size, -1)
	equal(content("br", false, "whole").size, 5)
	equal(content(nil, false, "\xff").encoding, "base64")
end)

return tests
