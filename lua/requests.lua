-- SPDX-License-Identifier: MIT
-- For recipes of HTTP: the options that all of them have, what is told of a request, and what requests
-- can be counted by.

local format = require "format"
local secrets = require "secrets"

local M = {}

-- Ends the run for an argument that makes no sense.
function M.usage(...)
	warn(_G.args[0], ": ", ...)
	exit(2)
end

-- options{} with --side and --show-secrets; M.hide masks from then on.
function M.options(spec)
	spec.side = {"", "client or server: only what the traced program is so in"}
	spec.show_secrets = secrets.option
	local opt = options(spec)
	if opt.side ~= "" and opt.side ~= "client" and opt.side ~= "server" then
		M.usage("--side is client or server, not ", opt.side)
	end
	M.hide, M.side = secrets.hider(opt.show_secrets), opt.side
	return opt
end

-- Nanoseconds of an argument such as 200ms; a number alone is milliseconds.
function M.time(text)
	local ns = tonumber(text) and format.span(tonumber(text) / 1e3) or format.span(text)
	return ns or M.usage("a time is 200ms, 1.5s, ...; not ", tostring(text))
end

-- Attaches to on.http, or another event of HTTP, of the side that is asked for. capture: of bodies.
function M.each(capture, fn, event)
	return on(event or "http", {capture = capture, where = M.side ~= "" and function(e)
		return e.side == M.side
	end or nil}, fn)
end

function M.arrow(e)
	return e.side == "client" and "->" or "<-"
end

-- "14:00:00.412 curl[4711] -> 127.0.0.1:8443 GET https://localhost/hello?key=***"
function M.line(e)
	return ("%s %s[%d] %s %s %s %s"):format(e.time or e.nsecs, escape(e.comm), e.pid, M.arrow(e), e.peer or "-",
		escape(e.method or "-"), escape(M.hide.url(e.url or e.path or "-")))
end

-- The same for JSON; more: further members.
function M.record(kind, e, more)
	more.type, more.time, more.nsecs, more.pid, more.comm, more.side = kind, e.time, e.nsecs, e.pid, e.comm, e.side
	more.peer, more.conn, more.stream, more.proto, more.method = e.peer, e.conn.id, e.stream_id, e.proto, e.method
	more.url, more.host, more.path, more.status = M.hide.url(e.url), e.host, M.hide.url(e.path), e.status
	return more
end

local function path_of(e)
	return e.path and M.hide.url(e.path:match("^[^?#]*")) or "-"
end

local BY = {
	host = function(e) return e.host or "-" end,
	path = path_of,
	url = function(e) return (e.host or "-") .. path_of(e) end,
	method = function(e) return e.method or "-" end,
	status = function(e) return tostring(e.status or "-") end,
	comm = function(e) return e.comm end,
	-- Who asks: the program here, or the address there.
	client = function(e)
		return e.side == "client" and ("%s[%d]"):format(e.comm, e.pid) or e.conn.raddr or e.peer or "-"
	end,
}
M.BY = "host, path, url, method, status, comm or client"

-- The function that gives what an event counts as.
function M.key(by)
	return BY[by] or M.usage("cannot count by ", by, "; by ", M.BY)
end

return M
