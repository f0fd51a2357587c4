-- SPDX-License-Identifier: MIT
-- pgquery: queries to PostgreSQL: how long each took, what came of it, and errors
--
-- usage: tlsscope pgquery [--slow T] [--errors] [--width N] [--show-secrets]
--
--   --slow T         only queries that took longer: 200ms, 1s, ...
--   --errors         only those that failed
--   --width N        characters of a query to show
--   --show-secrets   passwords in statements (PASSWORD '...'), and what looks like a secret in JSON and
--                    URLs, as they are: else they show as ***
--
-- Simple queries, and each execution of a prepared one. What a query was prepared with before the trace
-- began is not known: "?".
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
	show_secrets = secrets.option,
}
local slow = opt.slow ~= "" and format.span(opt.slow) or 0
if not slow then
	warn("pgquery: --slow takes a time such as 200ms, not ", opt.slow)
	exit(2)
end

local mask = secrets.hider(opt.show_secrets)
local KEPT = 64 << 10 -- bytes of a message that are looked at
local OPEN = 10000 -- operations that wait for an answer
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

-- Where a connection's beginning was seen, its first answer is the server's first message.
local function who(buf, t, client)
	if t.begun and client == false then
		t.begun = nil
		return false
	elseif #buf < 9 and buf:byte() == 0 then
		return nil, true
	elseif #buf >= 9 then
		local size, version = string.unpack(">I4I4", buf)
		if size >= 8 and size <= 10000 and version >> 16 == 3 and version & 0xffff < 100 then
			t.begun = true
			return true
		end
	end
	if is_chain(buf, FROM_CLIENT, "[QSXH]") then
		return true
	elseif is_chain(buf, FROM_SERVER, "Z") then
		return false
	end
end

local function push(t, op)
	t.ops, t.first, t.last = t.ops or {}, t.first or 1, (t.last or 0) + 1
	t.ops[t.last], op.begun = op, t.nsecs
	if t.last - t.first >= OPEN then
		t.ops[t.first], t.first = nil, t.first + 1
	end
end

local function pop(t)
	local op = t.ops and t.ops[t.first]
	if op then
		t.ops[t.first], t.first = nil, t.first + 1
	end
	return op
end

local function front(t)
	return t.ops and t.ops[t.first]
end

-- Statements and portals by name.
local function remember(t, what, name, text)
	local known = t[what] or {n = 0}
	t[what] = known
	if known.n >= STATEMENTS then
		known = {n = 0}
		t[what] = known
	end
	known.n = known.n + (known["=" .. name] and 0 or 1)
	known["=" .. name] = text
end

local function recall(t, what, name)
	return t[what] and t[what]["=" .. name]
end

local function hide(text)
	if opt.show_secrets or secrets.shown then
		return text
	end
	return mask.body((text:gsub("([Pp][Aa][Ss][Ss][Ww][Oo][Rr][Dd]%s+[EeUu]?&?)'[^']*'?", "%1'***'")))
end

local function show(t, op, tag, failure)
	local took = t.nsecs - op.begun
	if took < slow or (opt.errors and not failure) then
		return
	end
	local text = hide(op.text or "?")
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

local function text_at(body, at)
	local ok, text, after = pcall(string.unpack, "z", body, at)
	if ok then
		return text, after
	end
	return body:sub(at), #body + 1 -- longer than what is kept
end

local ASK = {
	Q = function(t, body)
		push(t, {kind = "Q", text = text_at(body, 1), tags = {}})
	end,
	P = function(t, body)
		local name, at = text_at(body, 1)
		local text = text_at(body, at)
		remember(t, "statements", name, text)
		push(t, {kind = "1", text = text})
	end,
	B = function(t, body)
		local portal, at = text_at(body, 1)
		local text = recall(t, "statements", (text_at(body, at)))
		remember(t, "portals", portal, text)
		push(t, {kind = "2", text = text})
	end,
	E = function(t, body)
		push(t, {kind = "C", text = recall(t, "portals", (text_at(body, 1)))})
	end,
	D = function(t, body)
		local what = body:sub(1, 1) == "S" and "statements" or "portals"
		push(t, {kind = "T", text = recall(t, what, (text_at(body, 2)))})
	end,
	C = function(t)
		push(t, {kind = "3"})
	end,
	S = function(t)
		push(t, {kind = "Z"})
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

-- The first that waits is over if it is of this kind.
local function finish(t, kind)
	local op = front(t)
	return op and op.kind == kind and pop(t) or nil
end

local ANSWER = {
	["1"] = function(t) finish(t, "1") end,
	["2"] = function(t) finish(t, "2") end,
	["3"] = function(t) finish(t, "3") end,
	T = function(t) finish(t, "T") end,
	n = function(t) finish(t, "T") end,
	C = function(t, body)
		local op, tag = front(t), text_at(body, 1)
		if op and op.kind == "Q" then
			op.tags[#op.tags + 1] = tag
		elseif op and op.kind == "C" then
			show(t, pop(t), tag)
		end
	end,
	I = function(t) finish(t, "C") end,
	s = function(t)
		local op = finish(t, "C")
		if op then
			show(t, op, "(suspended)")
		end
	end,
	E = function(t, body)
		local op, failure = front(t), read_failure(body)
		if op and (op.kind == "Q" or op.kind == "F") then
			op.failure = failure
		else
			show(t, op or {text = "(connection)", begun = t.nsecs}, nil, failure)
			-- The rest is left out until Sync.
			while front(t) and front(t).kind ~= "Z" do
				pop(t)
			end
		end
	end,
	Z = function(t)
		local op = pop(t)
		while op and op.kind ~= "Z" and op.kind ~= "Q" and op.kind ~= "F" do
			op = pop(t)
		end
		if op and op.kind ~= "Z" then
			show(t, op, op.failure and "" or table.concat(op.tags or {}, ", "), op.failure)
		end
	end,
}

local function start_up(t, buf)
	local size, version = string.unpack(">I4I4", buf)
	if #buf < size then
		return nil, size
	end
	t.started = true
	if version >> 16 == 3 then
		for name, value in buf:sub(9, size):gmatch("(%Z+)%z(%Z*)%z") do
			if name == "user" or name == "database" then
				t[name] = value
			end
		end
	end
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
	lost = function(t)
		t.ops = nil
		t.first, t.last = nil, nil
	end,
}
