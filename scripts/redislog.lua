-- SPDX-License-Identifier: MIT
-- redislog: commands to Redis (or what speaks as it does): how long each took, and what came of it
--
-- usage: tlsscope redislog [--slow T] [--errors] [--width N] [--quiet T] [--show-secrets]
--
--   --slow T         only commands that took longer: 1ms, 200us, ...
--   --errors         only those that failed
--   --quiet T        after so long a silence every command had its reply (see below)
--   --width N        characters of each argument to show
--   --show-secrets   passwords of AUTH, HELLO, CONFIG, ACL and MIGRATE, and what looks like a secret in
--                    arguments, as they are: else they show as ***
--
-- RESP2 and RESP3, pipelining. The reply: its type and size, or what it says. "?": it is not known which
-- reply it has, as on a connection that is older than the trace, after bytes that were lost, and after
-- SUBSCRIBE, MONITOR and CLIENT REPLY. With --quiet 1s, replies are known again after a second in which
-- nothing was said, if the client does wait for them.
--
-- 14:00:00.412 redis-cli[4711] -> 127.0.0.1:6379 GET user:7; 512 bytes 0.11ms
-- 14:00:00.413 redis-cli[4711] -> 127.0.0.1:6379 INCR name; ERR value is not an integer or out of range 0.10ms

local format = require "format"
local secrets = require "secrets"
local talks = require "talks"

local opt = options {
	slow = {"", "only commands that took longer than this"},
	errors = {false, "only those that failed"},
	width = {60, "characters of each argument"},
	quiet = {"", "after so long a silence every command had its reply"},
	show_secrets = secrets.option,
}
local slow, quiet = talks.span("redislog", "slow", opt.slow), talks.span("redislog", "quiet", opt.quiet)

local shown = opt.show_secrets or secrets.shown
local mask = secrets.hider(shown)
local SHOWN = 12 -- arguments of a command
local ARGUMENT = 256 -- bytes of one that are kept
local LINE = 64 << 10 -- no line of the protocol is longer
local HIDDEN = "***"

-- Commands with which one can begin to listen in the middle: a reply may look like a command.
local KNOWN = {}
for name in ([[GET SET SETEX SETNX MGET MSET DEL UNLINK EXISTS EXPIRE PEXPIRE TTL PTTL TYPE INCR INCRBY DECR DECRBY
	APPEND STRLEN GETSET GETDEL GETEX HGET HSET HMGET HMSET HGETALL HDEL HINCRBY HEXISTS HKEYS HLEN LPUSH RPUSH LPOP
	RPOP LRANGE LLEN LTRIM BLPOP BRPOP SADD SREM SMEMBERS SISMEMBER SCARD ZADD ZREM ZRANGE ZRANGEBYSCORE ZSCORE ZCARD
	ZINCRBY XADD XREAD XREADGROUP XACK XLEN PUBLISH SUBSCRIBE PSUBSCRIBE UNSUBSCRIBE MULTI EXEC DISCARD WATCH EVAL
	EVALSHA SCAN HSCAN SSCAN ZSCAN KEYS AUTH HELLO CLIENT CONFIG COMMAND PING ECHO SELECT INFO DBSIZE FLUSHALL FLUSHDB
	CLUSTER REPLCONF PSYNC MONITOR QUIT ACL MIGRATE]]):gmatch("%S+") do
	KNOWN[name] = true
end

-- From these on a command does not have one reply each.
local UNEVEN = {
	SUBSCRIBE = true, PSUBSCRIBE = true, SSUBSCRIBE = true, UNSUBSCRIBE = true, PUNSUBSCRIBE = true,
	SUNSUBSCRIBE = true, MONITOR = true, SYNC = true, PSYNC = true, REPLCONF = true, ["CLIENT REPLY"] = true,
	["SCRIPT DEBUG"] = true,
}

-- A server is understood once its client is.
local function who(buf, t, client)
	local name = buf:match("^%*%d+\r\n%$%d+\r\n([%a.]+)\r\n")
	if name and client ~= false and (t.sure or KNOWN[name:upper()]) then
		return true
	elseif client == false and buf:find("^[-+:$*_#,(!=%%~>|][^\r\n]*\r\n") then
		return false
	end
	local begins = #buf < 64 and (buf:find("^%*%d*\r?\n?%$?%d*\r?\n?[%a.]*\r?$")
		or (client == false and buf:find("^[-+:$*_#,(!=%%~>|][^\r\n]*\r?$")))
	return nil, begins ~= nil and begins ~= false
end

-- A line without its end, and where the next begins; nil: it is not there yet.
local function line(buf, at)
	local stop = buf:find("\r\n", at, true)
	if stop then
		return buf:sub(at, stop - 1), stop + 2
	end
end

local function upper(text)
	return (text or ""):upper()
end

-- Whether the i-th argument lets somebody in.
local function is_secret(args, i)
	local name, what, before, earlier = upper(args[1]), upper(args[2]), upper(args[i - 1]), upper(args[i - 2])
	if name == "AUTH" then
		return i == #args
	elseif name == "HELLO" or name == "MIGRATE" then
		return earlier == "AUTH" and name == "HELLO" or earlier == "AUTH2" or before == "AUTH" and name == "MIGRATE"
	elseif name == "CONFIG" then
		return what == "SET" and i > 3 and (before:find("PASS") or before:find("AUTH"))
	end
	return name == "ACL" and what == "SETUSER" and i > 3 and args[i]:find("^[><#!]")
end

-- Redis' protocol has nothing that tells which command a reply is of: two may be alike, and how many wait
-- is known only while all was seen since the handshake. So after a loss nothing proves it again.
local function push(t, args)
	local op = {args = {}, more = args.more}
	for i, arg in ipairs(args) do
		op.args[i] = i > 1 and not shown and is_secret(args, i) and HIDDEN or mask.body(arg)
	end
	local name = upper(args[1])
	if UNEVEN[name] or UNEVEN[name .. " " .. upper(args[2])] then
		t.uneven = true
		talks.lost(t, true)
	end
	talks.push(t, op)
end

local function words(op)
	local out = {}
	for i, arg in ipairs(op.args) do
		out[i] = talks.line(arg, opt.width)
		if out[i] == "" then
			out[i] = '""'
		end
	end
	return table.concat(out, " ") .. (op.more > 0 and (" ... %d more"):format(op.more) or "")
end

local function unknown(t, op)
	if slow or opt.errors then
		return
	elseif format.json then
		return emit(talks.record("redislog", t, {
			command = op.args[1], args = {table.unpack(op.args, 2)}, more_args = op.more > 0 and op.more or nil, unknown = true,
		}))
	end
	printf("%s %s; ?\n", talks.head(t), words(op))
end

local function answered(t, reply)
	local op = talks.front(t) and talks.pop(t)
	local took = op and t.nsecs - op.begun
	if not op or took < (slow or 0) or (opt.errors and not reply.error) then
		return
	elseif format.json then
		emit(talks.record("redislog", t, {
			command = op.args[1], args = {table.unpack(op.args, 2)}, more_args = op.more > 0 and op.more or nil,
			duration_ns = took, reply = reply.type, reply_len = reply.size, error = reply.error, text = reply.text,
		}))
		return
	end
	local said = reply.error or reply.text
	if said then
		said = talks.line(said, 200)
	else
		said = reply.count and ("%s of %d, "):format(reply.type, reply.count) or ""
		said = said .. ("%d bytes"):format(reply.size)
	end
	printf("%s %s; %s %s\n", talks.head(t), words(op), said, duration(took))
end

-- What begins with buf is not understood, or its line does not end; nil: it may end yet.
local function no_line(t, buf, text, of_client)
	if text or #buf > LINE then
		talks.out_of_step(t, of_client)
		return #buf
	end
end

-- A command begins: an array, or a line of words, which may end as lines do elsewhere.
local function begin(t, buf)
	local text, at = line(buf, 1)
	local count = buf:match("^%*(%-?%d+)\r\n")
	if not count and buf:sub(1, 1) ~= "*" then
		local stop = buf:find("\n", 1, true)
		text, at = stop and buf:sub(1, stop - 1), stop and stop + 1
	end
	if not text or text:find("%z") then
		return no_line(t, buf, text, true)
	elseif not count and text:find("%S") then
		local args = {more = 0}
		for word in text:sub(1, 1000):gmatch("%S+") do
			args[#args + 1] = word
		end
		push(t, args)
	elseif count and tonumber(count) > 0 then
		t.command = {left = tonumber(count), more = 0}
	end
	return at - 1
end

-- Of each argument the first bytes are kept.
local function client(t, buf)
	local c = t.command
	if not c then
		return begin(t, buf)
	end
	local text, at = line(buf, 1)
	local size = tonumber((text or ""):match("^%$(%d+)$"))
	if not size then
		return no_line(t, buf, text, true)
	end
	local kept = math.min(size, ARGUMENT)
	if #buf < at - 1 + kept then
		return nil, at - 1 + kept
	end
	if #c < SHOWN then
		c[#c + 1] = buf:sub(at, at + kept - 1)
	else
		c.more = c.more + 1
	end
	c.left = c.left - 1
	if c.left == 0 then
		t.command = nil
		push(t, c)
	end
	local whole = at - 1 + size + 2
	local used = math.min(#buf, whole)
	talks.skip(t, true, whole - used)
	return used
end

local TYPES = {
	["+"] = "string", ["-"] = "error", [":"] = "integer", ["$"] = "string", ["*"] = "array", ["_"] = "null",
	["#"] = "boolean", [","] = "double", ["("] = "integer", ["!"] = "error", ["="] = "string", ["%"] = "map",
	["~"] = "set", [">"] = "push", ["|"] = "attribute",
}
local BULK = {["$"] = true, ["!"] = true, ["="] = true}
local AGGREGATE = {["*"] = 1, ["%"] = 2, ["~"] = 1, [">"] = 1, ["|"] = 2}

-- The reply at hand goes on with one more element: its type, and what its line says.
local function element(t, kind, text)
	local r = t.amid
	if not r then
		r = {left = 1, type = TYPES[kind], size = 0, aside = kind == ">" or kind == "|"}
		t.amid = r
		if kind == "-" then
			r.error = text
		elseif kind == "+" or kind == ":" or kind == "," or kind == "#" or kind == "(" then
			r.text = text
		elseif kind == "_" or text == "-1" then
			r.text, r.type = "(nil)", "null"
		end
		r.count = AGGREGATE[kind] and math.max(0, tonumber(text) or 0) or nil
	end
	r.left = r.left - 1 + (AGGREGATE[kind] or 0) * math.max(0, tonumber(text) or 0)
	-- What an attribute is of follows it.
	if kind == "|" and not (r.aside and r.type == "attribute") then
		r.left = r.left + 1
	end
	return r
end

local function server(t, buf)
	local text, at = line(buf, 1)
	if not text then
		return no_line(t, buf, text, false)
	end
	local kind = text:sub(1, 1)
	text = text:sub(2)
	if not TYPES[kind] or ((BULK[kind] or AGGREGATE[kind]) and not text:find("^%-?%d+$")) then
		return no_line(t, buf, text, false)
	end
	local size = BULK[kind] and tonumber(text) or nil
	local whole_error = kind == "!" and not t.amid
	if whole_error and size and #buf < at + math.min(size, ARGUMENT) then
		return nil, at + math.min(size, ARGUMENT)
	end
	local r, whole = element(t, kind, text), at - 1
	if size and size >= 0 then
		r.size, whole = r.size + size, whole + size + 2
		if whole_error then
			r.error = buf:sub(at, at + math.min(size, ARGUMENT) - 1)
		end
	elseif not size and not AGGREGATE[kind] then
		r.size = r.size + #text
	end
	if r.left <= 0 then
		t.amid = nil
		if not r.aside then
			answered(t, r)
		end
	end
	local used = math.min(#buf, whole)
	talks.skip(t, false, whole - used)
	return used
end

talks.follow {
	name = "redislog",
	who = who,
	client = client,
	server = server,
	unknown = unknown,
	quiet = quiet,
	asks_quiet = not quiet and "; --quiet 1s takes up again after a second of silence" or nil,
	lost = function(t, of_client)
		t[of_client and "command" or "amid"] = nil
	end,
}
