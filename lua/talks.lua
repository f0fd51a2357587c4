-- SPDX-License-Identifier: MIT
-- For recipes of a protocol: stream{} with what each of them needs to know of a connection. Who is the
-- client is found in what is said; after a gap, and on a connection that is older than the trace, what
-- is said is left out until a message surely begins.
--
-- talks.follow{
--   name     for messages
--   who      function(buf, t, client) of bytes at which a message may begin; client: whose they are,
--            nil where that is not known. True: a client's message begins there, false: a server's,
--            nil: neither; nil, true: more of it is needed to know
--   client   function(t, buf): takes bytes of the client as stream{}'s data does
--   server   the same of the server
--   lost     function(t): messages are missing: what waits for an answer may never get it
--   close    function(t): the connection ended
-- }
-- t is the recipe's own table for the connection, with conn, comm, pid, time and nsecs (of the last
-- event), and side: "client" or "server", what the program here is.

local format = require "format"

local M = {}

local TRIES = 200 -- calls of a connection that nobody understands; then it is something else

local function new(conn)
	return {conn = conn, skip = {["in"] = 0, out = 0}, step = {["in"] = false, out = false}, tries = 0}
end

-- Whether a message begins with buf, and whose; a second true: more of it tells.
local function find(p, t, dir, buf)
	local known = t.side and M.is_client(t, dir)
	local client, more = p.who(buf, t, known)
	if client == nil or (t.side and client ~= known) then
		if not more then
			t.tries = t.tries + 1
			t.other = not t.side and t.tries >= TRIES
		end
		return false, more
	end
	t.side = t.side or (client == (dir == "out") and "client" or "server")
	t.step[dir] = true
	return true
end

local function take(p, t, dir, buf)
	local skip = t.skip[dir]
	if t.other then
		return #buf
	elseif skip > 0 then
		t.skip[dir] = math.max(0, skip - #buf)
		return math.min(skip, #buf)
	elseif not t.step[dir] then
		local found, more = find(p, t, dir, buf)
		if not found then
			return not more and #buf or nil
		end
	end
	return (M.is_client(t, dir) and p.client or p.server)(t, buf)
end

function M.is_client(t, dir)
	return (t.side == "client") == (dir == "out")
end

-- That many bytes after what is used now are nothing to look at.
function M.skip(t, client, n)
	local dir = (t.side == "client") == client and "out" or "in"
	t.skip[dir] = n
end

-- What comes in that direction is not understood: it is left out until a message begins.
function M.out_of_step(t, client)
	t.step[(t.side == "client") == client and "out" or "in"] = false
end

function M.follow(p)
	local talks = {}
	return stream {
		name = p.name,
		data = function(conn, dir, buf, e)
			local t = talks[conn.id] or new(conn)
			talks[conn.id] = t
			if e then
				t.comm, t.pid, t.time, t.nsecs = e.comm, e.pid, e.time, e.nsecs
			end
			return take(p, t, dir, buf)
		end,
		gap = function(conn, dir, missing)
			local t = talks[conn.id]
			if t and missing <= t.skip[dir] then
				t.skip[dir] = t.skip[dir] - missing
			elseif t and t.side then
				t.skip[dir], t.step[dir] = 0, false
				p.lost(t)
			end
		end,
		close = function(conn)
			local t = talks[conn.id]
			talks[conn.id] = nil
			if t and t.side and p.close then
				p.close(t)
			end
		end,
	}
end

-- "14:00:00.412 psql[4711] -> 127.0.0.1:5432", for text.
function M.head(t)
	return ("%s %s[%d] %s %s"):format(t.time or t.nsecs, escape(t.comm), t.pid,
		t.side == "client" and "->" or "<-", t.conn.peer or "-")
end

-- The same for JSON, with more members.
function M.record(kind, t, more)
	more.type, more.time, more.nsecs, more.pid, more.comm = kind, t.time, t.nsecs, t.pid, t.comm
	more.side, more.peer, more.conn = t.side, t.conn.peer, t.conn.id
	return more
end

-- One line, of `limit` characters at most; nothing of it acts on a terminal.
function M.line(text, limit)
	return format.clip(escape((text:gsub("%s+", " "))), limit)
end

return M
