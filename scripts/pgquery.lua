-- SPDX-License-Identifier: MIT
-- pgquery: queries to PostgreSQL: how long each took, what came of it, and errors
--
-- usage: tlsscope pgquery [--slow T] [--errors] [--width N] [--quiet T] [--show-secrets]
--
--   --slow T         only queries that took longer: 200ms, 1s, ...
--   --errors         only those that failed
--   --quiet T        after so long a silence every query had its answer (see below)
--   --width N        characters of a query to show
--   --show-secrets   passwords in statements (PASSWORD '...'), and what looks like a secret in JSON and
--                    URLs, as they are: else they show as ***
--
-- Simple queries, and each execution of a prepared one. What a query was prepared with before the trace
-- began is not known: "?". Nor is it known which answer a query has after bytes were lost, or on a
-- connection that is older than the trace: until a simple query, which is only sent when the server is
-- ready. With --quiet 1s, also until a second in which nothing was said, if the client does wait.
--
-- 14:00:00.412 psql[4711] -> 127.0.0.1:5432 SELECT * FROM t WHERE a = $1; SELECT 3 0.41ms
-- 14:00:00.413 psql[4711] -> 127.0.0.1:5432 SELEC 1; ERROR 42601 syntax error at or near "SELEC" 0.20ms

local format = require "format"
local secrets = require "secrets"
local talks = require "talks"

local opt = options {
	slow = {"", "only queries that took longer than this"},
	errors = {false, "only those that failed"},
	width = {200, "characters of a query"},
	quiet = {"", "after so long a silence every query had its answer"},
	show_secrets = secrets.option,
}
local slow, quiet = talks.span("pgquery", "slow", opt.slow), talks.span("pgquery", "quiet", opt.quiet)

local mask = secrets.hider(opt.show_secrets)
local KEPT = 64 << 10 -- bytes of a message that are looked at
local STATEMENTS = 10000 -- of a connection

local FROM_CLIENT, FROM_SERVER = "[QPBEDSCXHFdcfp]", "[RKSZTDCEIN123ntsGHWAvVcd]"

-- Whether buf is messages of these types from its beginning to its end.
local function is_chain(buf, types, last)
	local at, kind = 1, nil
	while at + 4 <= #buf do
		local size = string.unpack(">I4", buf, at + 1)
		kind = buf:sub(at, at)
		if not kind:find(types) or size < 4 or size > 1 << 30 then
			return false
		end
		at = at + 1 + size
	end
	return at == #buf + 1 and kind:find(last) ~= nil
end

local function who(buf)
	if #buf < 9 and buf:byte() == 0 then
		return nil, true
	elseif #buf >= 9 then
		local size, version = string.unpack(">I4I4", buf)
		if size >= 8 and size <= 10000 and version >> 16 == 3 and version & 0xffff < 100 then
			return true
		end
	end
	if is_chain(buf, FROM_CLIENT, "[QSXH]") then
		return true
	elseif is_chain(buf, FROM_SERVER, "Z") then
		return false
	end
end

-- Statements and portals by name, as the server has them: what it did not say it made is not there.
local function remember(t, what, name, text)
	local known = t[what] or {n = 0}
	if known.n >= STATEMENTS then
		known = {n = 0}
	end
	t[what] = known
	known.n = known.n + (known["=" .. name] and 0 or 1)
	known["=" .. name] = text
end

local function recall(t, what, name)
	return t[what] and t[what]["=" .. name]
end

local function forget(t, what, name)
	if recall(t, what, name) then
		t[what]["=" .. name], t[what].n = nil, t[what].n - 1
	end
end

local function hide(text)
	if opt.show_secrets or secrets.shown then
		return text
	end
	return mask.body((text:gsub("([Pp][Aa][Ss][Ss][Ww][Oo][Rr][Dd]%s+[EeUu]?&?)'[^']*'?", "%1'***'")))
end

-- What an operation is about: the query itself, or the statement or portal that it names.
local function text_of(t, op)
	return op.text or (op.of and recall(t, op.of, op.from)) or "?"
end

local function show(t, op, tag, failure)
	local took = t.nsecs - op.begun
	if took < (slow or 0) or (opt.errors and not failure) then
		return
	end
	local text = hide(text_of(t, op))
	if format.json then
		emit(talks.record("pgquery", t, {
			query = text, duration_ns = took, tag = tag, user = t.user, database = t.database,
			severity = failure and failure.S, code = failure and failure.C, error = failure and hide(failure.M or ""),
		}))
		return
	end
	local result = tag or ""
	if failure then
		result = ("%s %s %s"):format(failure.S or "ERROR", failure.C or "-", talks.line(hide(failure.M or ""), opt.width))
	end
	text = talks.line((text:gsub("[%s;]+$", "")), opt.width)
	printf("%s %s; %s %s\n", talks.head(t), text, escape(result), duration(took))
end

-- An answer was missed, or will be: then nobody knows what became of the names that op deals with.
local function unknown(t, op)
	if op.makes then
		forget(t, op.makes, op.name)
	end
	if op.kind ~= "Q" or slow or opt.errors then
		return
	elseif format.json then
		return emit(talks.record("pgquery", t, {
			query = hide(op.text), user = t.user, database = t.database, unknown = true,
		}))
	end
	printf("%s %s; ?\n", talks.head(t), talks.line((hide(op.text):gsub("[%s;]+$", "")), opt.width))
end

local function text_at(body, at)
	local ok, text, after = pcall(string.unpack, "z", body, at)
	if ok then
		return text, after
	end
	return body:sub(at), #body + 1 -- longer than what is kept
end

-- These have one ReadyForQuery each.
local READY = {Q = true, F = true, S = true}

-- t.open: how many ReadyForQuery are still to come at most; nil: not known.
local function push(t, op)
	if READY[op.kind] then
		t.open = t.sure and (t.open or 0) + 1 or t.open and t.open + 1
	end
	talks.push(t, op)
end

local WHAT = {S = "statements", P = "portals"}

local ASK = {
	-- Only the extended protocol pipelines: a Query is sent by who was told that the server is ready. So
	-- nothing waits before it, unless this client was seen not to wait.
	Q = function(t, body)
		t.hasty = t.hasty or (t.sure and not talks.idle(t))
		if not t.sure and not t.hasty then
			t.open = 0
			talks.sync(t)
		end
		push(t, {kind = "Q", text = text_at(body, 1), tags = {}})
	end,
	P = function(t, body)
		local name, at = text_at(body, 1)
		push(t, {kind = "P", text = text_at(body, at), makes = "statements", name = name})
	end,
	B = function(t, body)
		local portal, at = text_at(body, 1)
		push(t, {kind = "B", of = "statements", from = text_at(body, at), makes = "portals", name = portal})
	end,
	E = function(t, body)
		push(t, {kind = "E", of = "portals", from = text_at(body, 1)})
	end,
	D = function(t, body)
		push(t, {kind = "D", of = WHAT[body:sub(1, 1)], from = text_at(body, 2)})
	end,
	C = function(t, body)
		push(t, {kind = "C", makes = WHAT[body:sub(1, 1)], name = text_at(body, 2)})
	end,
	S = function(t)
		push(t, {kind = "S", text = "(end of a transaction)"})
	end,
	F = function(t)
		push(t, {kind = "F", text = "(function call)"})
	end,
}

local function read_failure(body)
	local fields, at = {}, 1
	while at <= #body and body:byte(at) ~= 0 do
		local text, after = text_at(body, at + 1)
		fields[body:sub(at, at)], at = text, after
	end
	return fields
end

-- The operation that the server answers, if it is one of these kinds; else something was not seen. nil: it
-- is not known.
local function asked(t, kinds)
	local op = talks.front(t)
	if not op or op.kind:find(kinds) then
		return op
	end
	talks.lost(t, false)
	t.open = nil
end

local function finish(t, kinds)
	return asked(t, kinds) and talks.pop(t)
end

-- What follows is answered in another way than others: COPY in the extended protocol, replication.
local function other_ways(t, kinds)
	if asked(t, kinds) then
		talks.lost(t, false)
		t.open = nil
	end
end

local ENDS = {FATAL = true, PANIC = true} -- the connection

local ANSWER = {
	["1"] = function(t)
		local op = finish(t, "P")
		if op then
			remember(t, "statements", op.name, op.text)
		end
	end,
	["2"] = function(t)
		local op = finish(t, "B")
		if op then
			remember(t, "portals", op.name, text_of(t, op))
		end
	end,
	["3"] = function(t)
		local op = finish(t, "C")
		if op and op.makes then
			forget(t, op.makes, op.name)
		end
	end,
	T = function(t)
		if asked(t, "[DQ]") and talks.front(t).kind == "D" then
			talks.pop(t)
		end
	end,
	n = function(t) finish(t, "D") end,
	G = function(t)
		if t.sure and asked(t, "[QE]") and talks.front(t).kind == "E" then
			other_ways(t, "E")
		end
	end,
	W = function(t) other_ways(t, ".") end,
	C = function(t, body)
		local op, tag = asked(t, "[QE]"), text_at(body, 1)
		if op and op.kind == "Q" then
			op.tags[#op.tags + 1] = tag
		elseif op then
			show(t, talks.pop(t), tag)
		end
	end,
	I = function(t)
		local op = asked(t, "[QE]")
		if op and op.kind == "E" then
			talks.pop(t)
		end
	end,
	s = function(t)
		local op = finish(t, "E")
		if op then
			show(t, op, "(suspended)")
		end
	end,
	-- What fails in the extended protocol is over, and so is what is sent until Sync, also after this.
	E = function(t, body)
		local failure = read_failure(body)
		local ends = ENDS[failure.V or failure.S]
		local op = t.sure and ends and talks.idle(t) and {text = "(connection)", begun = t.nsecs} or talks.front(t)
		if op and READY[op.kind] and not ends then
			op.failure = failure
		elseif op then
			show(t, op, nil, failure)
			talks.pop(t)
			t.skips = true
		end
	end,
	Z = function(t, body)
		while t.skips and not talks.idle(t) and talks.front(t).kind ~= "S" do
			local left_out = talks.pop(t)
			t.open = t.open and t.open - (READY[left_out.kind] and 1 or 0)
		end
		t.skips = false
		local op = finish(t, "[QFS]")
		t.open = t.open and t.open - 1
		if op and (op.kind ~= "S" or op.failure) then
			show(t, op, op.failure and "" or table.concat(op.tags or {}, ", "), op.failure)
		elseif t.open == 0 and not t.sure then
			talks.sync(t)
		end
		if body:sub(1, 1) == "I" then
			t.portals = nil -- they end with the transaction
		end
	end,
}

local function start_up(t, buf)
	local size = string.unpack(">I4", buf)
	if #buf < size then
		return nil, size
	end
	t.started = true
	for name, value in buf:sub(9, size):gmatch("(%Z+)%z(%Z*)%z") do
		if name == "user" or name == "database" then
			t[name] = value
		end
	end
	if not t.user then
		talks.out_of_step(t, true)
		return #buf
	end
	t.open = 0
	talks.sync(t)
	push(t, {kind = "S", text = "(connection)"})
	return size
end

-- One message: its type, its length, its body of which the beginning is enough.
local function message(t, buf, handlers, client)
	if #buf < 5 then
		return nil, 5
	end
	local kind, size = string.unpack(">c1I4", buf)
	if size < 4 then
		talks.out_of_step(t, client)
		return #buf
	end
	local handler, whole = handlers[kind], size + 1
	local wanted = handler and math.min(whole, KEPT) or 5
	if #buf < wanted then
		return nil, wanted
	end
	if handler then
		handler(t, buf:sub(6, math.min(wanted, whole)))
	end
	local used = math.min(whole, #buf)
	talks.skip(t, client, whole - used)
	return used
end

talks.follow {
	name = "pgquery",
	who = who,
	client = function(t, buf)
		if not t.started and buf:byte() == 0 then
			return start_up(t, buf)
		end
		t.started = true
		return message(t, buf, ASK, true)
	end,
	server = function(t, buf)
		return message(t, buf, ANSWER, false)
	end,
	unknown = unknown,
	quiet = quiet,
	asks_quiet = not quiet and "; --quiet 1s takes up again after a second of silence" or nil,
	lost = function(t, of_client)
		t.skips = false
		if of_client then
			t.open, t.statements, t.portals = nil, nil, nil
		end
	end,
}
