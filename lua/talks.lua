-- SPDX-License-Identifier: MIT
-- For recipes of a protocol: stream{} with what each of them needs to know of a connection. Who is the
-- client is found in what is said; after a gap, and on a connection that is older than the trace, what
-- is said is left out until a message surely begins.
--
-- Answers come in the order of the commands. So the next one is that of the command that waits longest,
-- but only if every command and every answer was seen since a moment at which none waited: the
-- handshake's end, or one that a protocol proves with sync(). Else it is not known, and stays so: an
-- answer is never guessed.
--
-- talks.follow{
--   name     for messages
--   who      function(buf, t, client) of bytes at which a message may begin; client: whose they are,
--            nil where that is not known. True: a client's message begins there, false: a server's,
--            nil: neither; nil, true: more of it is needed to know
--   client   function(t, buf): takes bytes of the client as stream{}'s data does
--   server   the same of the server
--   lost     function(t, client): messages of the client (true) or of the server were not seen
--   unknown  function(t, op): the answer of what was pushed will not be known
--   quiet    ns, or nil: the user says that nothing waits after so long a silence
-- }
-- t is the recipe's own table for the connection, with conn, comm, pid, time and nsecs (of the last
-- event), side: "client" or "server", what the program here is, and sure: which answer is whose. Two
-- of its members are the recipe's: amid, what of an answer has come so far; uneven, commands do not
-- have an answer each any more.

local format = require "format"

local M = {}

local TRIES = 200 -- calls of a connection that nobody understands; then it is something else
local OPEN = 10000 -- commands of a connection that wait for an answer

local unknown = 0 -- answers

local function new(p, conn)
	return {
		conn = conn, protocol = p, skip = {["in"] = 0, out = 0}, step = {["in"] = false, out = false}, tries = 0,
		sure = conn.state.begins == true, waits = {}, first = 1, last = 0,
	}
end

local function tell_unknown(t, op)
	unknown = unknown + 1
	t.protocol.unknown(t, op)
end

-- The client says something that has an answer.
function M.push(t, op)
	op.begun = t.nsecs
	if t.sure and t.last - t.first + 1 >= OPEN then
		M.lost(t, true)
	end
	if t.sure then
		t.last = t.last + 1
		t.waits[t.last] = op
	else
		tell_unknown(t, op)
	end
end

-- What the answer at hand is of; nil: not known.
function M.front(t)
	if t.sure and M.idle(t) then
		M.lost(t, true) -- nobody asked, as far as was seen
	end
	return t.waits[t.first]
end

-- Whether nothing waits, as far as is known.
function M.idle(t)
	return t.first > t.last
end

function M.pop(t)
	local op = t.waits[t.first]
	if op then
		t.waits[t.first], t.first = nil, t.first + 1
	end
	return op
end

-- Something of the client was not seen, or what it says changes how it is answered: what was asked before
-- still is answered first. Or something of the server: any of those that wait may have had its answer.
function M.lost(t, client)
	t.sure = false
	while not client and not M.idle(t) do
		tell_unknown(t, M.pop(t))
	end
	t.protocol.lost(t, client)
end

-- Nothing that was said until now is still to be answered: so the server's next byte begins an answer.
function M.sync(t)
	while not M.idle(t) do
		tell_unknown(t, M.pop(t))
	end
	local dir = t.side == "client" and "in" or "out"
	t.sure, t.skip[dir], t.step[dir] = true, 0, true
end

-- Something that came in that direction was not seen, or not understood.
local function missed(t, dir)
	t.skip[dir], t.step[dir], t.sure = 0, false, false
	if t.side then
		M.lost(t, M.is_client(t, dir))
	end
end

-- Whether a message begins with buf, and whose; a second true: more of it tells.
local function find(p, t, dir, buf)
	local known = t.side and M.is_client(t, dir)
	local client, more = p.who(buf, t, known)
	if client == nil or (t.side and client ~= known) then
		if not more then
			t.tries = t.tries + 1
			t.other = not t.side and t.tries >= TRIES
			missed(t, dir)
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
	if not t.sure and t.pause >= (p.quiet or math.huge) and M.is_client(t, dir) and not (t.amid or t.uneven) then
		M.sync(t)
	end
	t.pause = 0
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
	missed(t, (t.side == "client") == client and "out" or "in")
end

-- How long nothing was said before e, if the client may be next to speak; 0: not known.
local function pause_of(t, dir, buf, e, began)
	if #buf > #e.data or t.spoke == dir or t.skip["in"] + t.skip.out > 0 or not (t.heard or began) then
		return 0
	end
	return e.nsecs - (t.heard or began)
end

function M.follow(p)
	local talks, began = {}, nil
	on.start(function(e)
		began = e.nsecs
	end)
	-- What follows a handshake is the first that is said.
	on.tls_open(function(e)
		e.conn.state.begins = not e.err and not talks[e.conn.id]
	end)
	on.stop(function()
		if unknown > 0 then
			warn(("%s: %d answers are not known: bytes were lost, or the connection is older than the trace%s"):format(
				p.name, unknown, p.asks_quiet or ""))
		end
	end)
	return stream {
		name = p.name,
		data = function(conn, dir, buf, e)
			local t = talks[conn.id] or new(p, conn)
			talks[conn.id] = t
			t.pause = 0
			if e then
				t.pause = pause_of(t, dir, buf, e, began)
				t.comm, t.pid, t.time, t.nsecs, t.heard, t.spoke = e.comm, e.pid, e.time, e.nsecs, e.nsecs, dir
			end
			return take(p, t, dir, buf)
		end,
		gap = function(conn, dir, missing)
			local t = talks[conn.id] or new(p, conn)
			talks[conn.id] = t
			if missing <= t.skip[dir] then
				t.skip[dir] = t.skip[dir] - missing
			else
				missed(t, dir)
			end
			t.heard = math.huge -- when they were said is not known
		end,
		close = function(conn)
			talks[conn.id] = nil
		end,
	}
end

-- What an option like --slow says, in ns; nil: nothing. Ends the program where it is no time.
function M.span(recipe, option, text)
	local ns = text ~= "" and format.span(text) or nil
	if text ~= "" and not ns then
		warn(("%s: --%s takes a time such as 200ms, not %s"):format(recipe, option, text))
		exit(2)
	end
	return ns
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
