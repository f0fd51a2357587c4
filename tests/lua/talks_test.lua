-- SPDX-License-Identifier: MIT
-- Recipes of protocols where bytes are lost, or were before the trace began: conversations are made up,
-- in which each command and its answer bear one number. Whatever is lost, what is shown together must
-- belong together.
local stub = require "stub"

local equal = stub.equal
local random = math.random

local tests = {}
local function test(name, fn)
	tests[#tests + 1] = {name, fn}
end

local function one_of(list)
	return list[random(#list)]
end

local function chance(percent)
	return random(100) <= percent
end

-- calls: a list of {dir, bytes, kept = n, missing = n, at = ns}: kept, of the bytes, if not all; missing,
-- before them. What is printed.
local function run(recipe, calls, options, older)
	local host = stub.new()
	host:recipe(("scripts/%s.lua"):format(recipe), options)
	local conn, now = {id = 1, peer = "192.0.2.1:1", state = {}}, 1000
	host:fire("start", {nsecs = 0})
	if not older then
		host:fire("tls_open", {conn = conn})
	end
	for _, m in ipairs(calls) do
		now = m.at or now + 1000
		local kept = m[2]:sub(1, m.kept)
		host:fire("tls_data", {
			time = "t", nsecs = now, pid = 1, comm = "c", conn = conn, dir = m[1], data = kept, len = #m[2], gap = m.missing,
		})
	end
	host:fire("tls_close", {conn = conn})
	local out = host:text_out()
	host:fire("stop", {})
	return out, host
end

-- A conversation of a client and a server, in the order in which either side sees it: `send` says the
-- next thing of the client, as a string, or nil where it waits; `serve` takes a string and returns a list
-- of what is answered. A list of {dir, bytes}.
local function talk(send, serve, turns)
	local said, due = {}, {}
	for _ = 1, turns do
		local m = (#due == 0 or chance(50)) and send(#due)
		if m then
			said[#said + 1] = {"out", m}
			table.move(serve(m), 1, 1000, #due + 1, due)
		elseif due[1] then
			said[#said + 1] = {"in", table.remove(due, 1)}
		end
	end
	for _, m in ipairs(due) do
		said[#said + 1] = {"in", m}
	end
	return said
end

-- Messages of one direction together, or cut anywhere, as programs write and read them.
local function calls_of(said)
	local calls = {}
	for _, m in ipairs(said) do
		local last = calls[#calls]
		if last and last[1] == m[1] and chance(30) then
			last[2] = last[2] .. m[2]
		elseif #m[2] > 1 and chance(10) then
			local cut = random(#m[2] - 1)
			calls[#calls + 1] = {m[1], m[2]:sub(1, cut)}
			calls[#calls + 1] = {m[1], m[2]:sub(cut + 1)}
		else
			calls[#calls + 1] = {m[1], m[2]}
		end
	end
	return calls
end

-- Leaves out calls from the first-th to the last-th, of one direction or (nil) of both. What is missing
-- is noticed with the next that comes of its direction.
local function lose(calls, first, last, dir)
	local out, missing = {}, {}
	for i, m in ipairs(calls) do
		if i >= first and i <= last and (not dir or m[1] == dir) then
			missing[m[1]] = (missing[m[1]] or 0) + #m[2]
		else
			local gap = missing[m[1]]
			out[#out + 1] = {m[1], m[2], kept = m.kept, missing = gap or m.missing, at = m.at}
			missing[m[1]] = nil
		end
	end
	return out
end

local function turned(calls)
	local out = {}
	for i, m in ipairs(calls) do
		out[i] = {m[1] == "out" and "in" or "out", m[2], kept = m.kept, missing = m.missing, at = m.at}
	end
	return out
end

-- Losses of all kinds.
local function damage(calls)
	for _ = 1, random(3) do
		local first = random(#calls)
		calls = lose(calls, first, first + random(0, 3), one_of {"in", "out", false} or nil)
		if #calls == 0 then
			return calls
		end
	end
	for _, m in ipairs(calls) do
		if chance(3) then
			m.kept = random(0, #m[2])
		end
	end
	return calls
end

-- check(line) fails where a line is wrong, and returns true where it shows an answer, "?" where it is
-- told to be unknown. What is checked: all of it, each loss of a call and of two, and anything.
local function all_right(recipe, make, check, options, rounds)
	local known, all, open = 0, 0, 0
	local function look(calls, older)
		for _, turn in ipairs {calls, turned(calls)} do
			local out = run(recipe, turn, options, older)
			for line in out:gmatch("[^\n]+") do
				local ok, is = pcall(check, line)
				if not ok then
					local text = {}
					for i, m in ipairs(turn) do
						text[i] = ("%s %s%s%s"):format(m[1], stub.new().text.escape(m[2]), m.missing and " missing " .. m.missing or "",
							m.kept and " kept " .. m.kept or "")
					end
					error(("%s: %s\n%s\nof %s%s\n%s"):format(recipe, is, line, older and "older " or "", recipe,
						table.concat(text, "\n") .. "\n" .. out), 0)
				end
				known, open = known + (is == true and 1 or 0), open + (is == "?" and 1 or 0)
			end
		end
	end
	for round = 1, rounds do
		local calls = calls_of(make())
		all = all + #calls
		if round % 100 == 0 then
			for i = 1, #calls do
				for _, dir in ipairs {"in", "out", false} do
					look(lose(calls, i, i, dir or nil))
					look(lose(calls, i, i + 1, dir or nil))
				end
				look(table.move(calls, i, #calls, 1, {}), true)
			end
		end
		look(damage(calls))
		look(damage(table.move(calls, random(#calls), #calls, 1, {})), true)
	end
	return known, open
end

-- Redis: a client that pipelines as it likes.

local function resp(...)
	local out = {("*%d\r\n"):format(select("#", ...))}
	for _, word in ipairs {...} do
		out[#out + 1] = ("$%d\r\n%s\r\n"):format(#word, word)
	end
	return table.concat(out)
end

local REPLIES = {
	function(n) return ("+r%d\r\n"):format(n) end,
	function(n) return ("-ERR r%d\r\n"):format(n) end,
	function(n) return (":%d\r\n"):format(n) end,
	function(n) return ("$%d\r\n%s\r\n"):format(n, ("\r\n+x\r\n*1\r\n:1"):rep(100):sub(1, n)) end,
	function(n) return ("*2\r\n*1\r\n+%s\r\n$-1\r\n"):format(("x"):rep(n)) end,
	function(n) return ("*2\r\n$3\r\nget\r\n$%d\r\n%s\r\n"):format(n - 3, ("x"):rep(n - 3)) end,
	function(n) return ("|1\r\n+a\r\n+b\r\n!%d\r\n%s\r\n"):format(#("ERR r%d"):format(n), ("ERR r%d"):format(n)) end,
}

local function redis()
	local n, depth, queued, deaf = 10, random(0, 6), false, false
	return talk(function(waiting)
		if waiting > depth or deaf then
			return nil
		end
		n = n + 1
		local word = chance(1) and one_of {"SUBSCRIBE", "MONITOR", "CLIENT"} or one_of {"SET", "GET", "MULTI", "EXEC", "get"}
		if word == "CLIENT" then
			return resp("CLIENT", "REPLY", "OFF", "k" .. n)
		end
		return chance(20) and ("%s k%d v\r\n"):format(word, n) or resp(word, "k" .. n, ("v\r\n"):rep(random(0, 20)))
	end, function(m)
		local id = tonumber(m:match("k(%d+)"))
		local word = m:match("%a+")
		if deaf then
			return {}
		elseif word == "MONITOR" or word == "SUBSCRIBE" then
			local out = {}
			for i = 1, 20 do
				out[i] = ("*3\r\n+message\r\n+x\r\n+%s\r\n"):format(("y"):rep(i))
			end
			return out
		elseif word == "CLIENT" then
			deaf = true
			return {}
		end
		local answer = queued and word ~= "EXEC" and ("+r%d\r\n"):format(id) or one_of(REPLIES)(id)
		queued = word == "MULTI" or (queued and word ~= "EXEC")
		return chance(10) and {">2\r\n+invalidate\r\n*1\r\n+k\r\n", answer} or {answer}
	end, random(5, 60))
end

local function check_redis(line)
	if line:find("; %?$") then
		return "?"
	end
	local n, said = line:match("k(%d+).-; (.*)$")
	local id = said:match("r(%d+)") or said:match("^(%d+) bytes") or said:match("array of 2, (%d+) bytes")
		or said:match("^(%d+) %d")
	assert(id == n, "paired " .. tostring(n) .. " with " .. tostring(id))
	return true
end

test("redislog: what is shown together belongs together", function()
	math.randomseed(1)
	local known, open = all_right("redislog", redis, check_redis, {width = 9}, 250)
	assert(known > 1000 and open > 1000, known .. " " .. open)
end)

test("redislog: more wait than are kept", function()
	local calls = {}
	for i = 1, 10300 do
		calls[i] = {"out", resp("GET", "k" .. i)}
		calls[10300 + i] = {"in", (":%d\r\n"):format(i)}
	end
	calls[20601], calls[20602] = {"out", resp("GET", "k1")}, {"in", ":1\r\n"}
	local out, host = run("redislog", calls)
	local shown, open = 0, 0
	for line in out:gmatch("[^\n]+") do
		local is = check_redis(line)
		shown, open = shown + (is == true and 1 or 0), open + (is == "?" and 1 or 0)
	end
	equal(shown, 10000)
	equal(open, 301)
	assert(host.warnings[1]:find("^redislog: 301 answers are not known: "), host.warnings[1])
end)

-- Threads that read and write at once may be seen in another order.
test("redislog: a reply that is seen before its command", function()
	local out = run("redislog", {
		{"out", resp("GET", "k1")}, {"in", ":1\r\n"}, {"in", ":2\r\n"}, {"out", resp("GET", "k2") .. resp("GET", "k3")},
		{"in", ":3\r\n"},
	})
	local took = stub.new().text.duration(1000)
	equal(out, ("t c[1] -> 192.0.2.1:1 GET k%s\n"):rep(3):format("1; 1 " .. took, "2; ?", "3; ?"))
end)

test("redislog --quiet", function()
	local SECOND = 1000000000
	local function at(seconds, dir, bytes, missing)
		return {dir, bytes, missing = missing, at = seconds * SECOND}
	end
	local calls = {
		at(0.5, "out", resp("GET", "k1")), at(0.6, "in", ":1\r\n"), at(1.7, "out", resp("GET", "k2")),
		at(1.8, "in", ":2\r\n"), at(3, "out", resp("GET", "k3"), 99), at(3.1, "in", ":9\r\n"), at(3.2, "in", ":3\r\n"),
		at(3.3, "out", resp("GET", "k4")), at(5, "out", resp("GET", "k5")), at(5.1, "in", ":4\r\n"),
		at(5.1, "in", ":5\r\n"), at(7, "out", resp("GET", "k6")), at(9, "in", ":6\r\n"),
	}
	local want = "t c[1] -> 192.0.2.1:1 GET k%d; %s\n"
	local function expect(out, answers)
		local all = {}
		for i, answer in ipairs(answers) do
			all[i] = want:format(i, answer)
		end
		equal(out, table.concat(all))
	end
	local function took(n, ms)
		return n .. " " .. stub.new().text.duration(ms * 1000000)
	end
	expect(run("redislog", calls, {quiet = "1s"}, true), {"?", took(2, 100), "?", "?", "?", took(6, 2000)})
	expect(run("redislog", calls, nil, true), {"?", "?", "?", "?", "?", "?"})
	expect(run("redislog", calls), {took(1, 100), took(2, 100), "?", "?", "?", "?"})
	equal(#select(2, run("redislog", calls, {slow = "1s"}, true)).warnings, 1)
	equal(pcall(run, "redislog", calls, {quiet = "soon"}), false)
end)

-- PostgreSQL: simple queries when the server is ready; extended ones as many as the client likes.

local function pg(kind, body)
	return kind .. string.pack(">I4", 4 + #body) .. body
end

local START = string.pack(">I4I4", 8 + 10, 3 << 16) .. "user\0ann\0\0"

local function postgres()
	local n, ready, due, skips, hurry = 10, false, START, false, random(0, 3)
	local statements, portals, groups = {}, {}, 0
	local function group()
		local out = {}
		for _ = 1, random(2) do
			local name, portal = one_of {"", "a", "b"}, one_of {"", "p"}
			n = n + 1
			if chance(60) then
				out[#out + 1] = (name ~= "" and pg("C", "S" .. name .. "\0") or "")
					.. pg("P", ("%s\0SELECT k%d%s\0\0\0"):format(name, n, chance(20) and " fails" or ""))
			end
			out[#out + 1] = (chance(30) and pg("D", "S" .. name .. "\0") or "")
				.. pg("B", ("%s\0%s\0\0\0"):format(portal, name)) .. (chance(30) and pg("D", "P" .. portal .. "\0") or "")
				.. pg("E", portal .. "\0\0\0\0\0")
		end
		return table.concat(out) .. pg("S", "")
	end
	local answer = {
		P = function(body)
			local name, text = string.unpack("zz", body)
			if text:find("fails") and chance(50) then
				return nil, text:match("k(%d+)")
			end
			statements[name] = text
			return pg("1", "")
		end,
		B = function(body)
			local portal, name = string.unpack("zz", body)
			if not statements[name] then
				return nil, "?"
			end
			portals[portal] = statements[name]
			return pg("2", "")
		end,
		D = function(body)
			local name = string.unpack("z", body:sub(2))
			local of = body:sub(1, 1) == "S" and statements or portals
			return of[name] and one_of {pg("T", "x"), pg("n", "")}, "?"
		end,
		C = function(body)
			statements[string.unpack("z", body:sub(2))] = nil
			return pg("3", "")
		end,
		E = function(body)
			local text = portals[string.unpack("z", body)]
			local id = text and text:match("k(%d+)")
			if not text or (text:find("fails") and chance(50)) then
				return nil, id or "?"
			end
			return pg("D", ("x"):rep(random(20))) .. one_of {pg("C", "SELECT " .. id .. "\0"), pg("C", "UPDATE " .. id .. "\0")}
		end,
	}
	local function serve(m)
		local out, at = {}, 1
		if m:byte() == 0 then
			return {pg("R", "\0\0\0\0") .. pg("S", "a\0b\0"), pg("Z", "I")}
		end
		while at <= #m do
			local kind, size = string.unpack(">c1I4", m, at)
			local body = m:sub(at + 5, at + size)
			at = at + 1 + size
			if kind == "S" then
				skips, portals = false, {}
				out[#out + 1] = pg("Z", "I")
			elseif kind == "Q" then
				local id = body:match("k(%d+)")
				out[#out + 1] = chance(20) and pg("E", ("SERROR\0M%s\0\0"):format(id))
					or pg("T", "x") .. pg("D", "y") .. pg("C", "SELECT " .. id .. "\0")
				out[#out + 1] = pg("Z", "I")
			elseif not skips then
				local said, id = answer[kind](body)
				out[#out + 1] = said or pg("E", ("SERROR\0C1\0M%s\0\0"):format(id))
				skips = not said
			end
			if chance(5) then
				out[#out + 1] = one_of {pg("N", "SNOTICE\0\0"), pg("S", "a\0c\0"), pg("A", "0000a\0b\0")}
			end
		end
		return out
	end
	return talk(function(waiting)
		if due then
			local m = due
			due = nil
			return m
		end
		groups = waiting == 0 and 0 or groups
		ready = waiting == 0
		if ready and chance(50) then
			n, groups = n + 1, 9
			return pg("Q", ("SELECT k%d\0"):format(n))
		elseif groups <= hurry then
			groups = groups + 1
			return group()
		end
	end, serve, random(5, 60))
end

local function check_postgres(line)
	local text, said = line:match("192.0.2.1:1 (.-); (.*)$")
	if said == "?" then
		return "?"
	end
	local n, id = text:match("k(%d+)"), said:match("SELECT (%d+)") or said:match("UPDATE (%d+)") or said:match("1 (%d+) ")
		or said:match("%- (%d+) ")
	assert(not n or not id or n == id, "paired " .. tostring(n) .. " with " .. tostring(id))
	return n and true
end

test("pgquery: what is shown together belongs together", function()
	math.randomseed(2)
	local known, open = all_right("pgquery", postgres, check_postgres, nil, 250)
	assert(known > 1000 and open > 50, known .. " " .. open)
end)

-- SMTP: commands in groups, as RFC 2920 has them; mails that look like conversations.

local function smtp()
	local n, step, lmtp, people, mail = 10, 0, chance(30), 0, 0
	local accepted, content, left = {}, false, {}
	local TEXT = {
		"DATA\r\n", "MAIL FROM:<x>\r\n", "250 ok\r\n", "354 x\r\n", "NOOP\r\n", "..\r\n", "x\r\n", "VRFY x\r\n",
		"AUTH x\r\n",
	}
	local function next_line(waiting)
		n = n + 1
		if step == 0 then
			step = 1
			return (lmtp and "LHLO k%d\r\n" or "EHLO k%d\r\n"):format(n)
		elseif step == 1 then
			if waiting > 0 then
				return nil
			elseif chance(20) then
				return ("VRFY k%d\r\n"):format(n)
			end
			step, people, mail = 2, random(3), n
			return ("MAIL FROM:<k%d>\r\n"):format(n)
		elseif step == 2 then
			people = people - 1
			step = people == 0 and 3 or 2
			return ("RCPT TO:<k%d>\r\n"):format(n)
		elseif step == 3 then
			step = 4
			return ("DATA\r\n"):format(n)
		elseif step == 4 and waiting == 0 then
			if not content then
				step = 1
				return ("RSET k%d\r\n"):format(n)
			end
			step = 5
			for i = 1, random(0, 6) do
				left[i] = one_of(TEXT)
			end
			left[#left + 1] = ".\r\n"
		end
		if step == 5 then
			local line = table.remove(left, 1)
			step = left[1] and 5 or 6
			return line
		elseif step == 6 then
			step = 1
			return ("NOOP k%d\r\n"):format(n)
		end
	end
	return talk(next_line, function(m)
		local id = m:match("k(%d+)")
		if content and not left[1] then
			content = false
			local out = {}
			for i = 1, lmtp and #accepted or 1 do
				out[i] = ("250 m%d\r\n"):format(mail)
			end
			return out
		elseif content then
			return {}
		elseif m == "DATA\r\n" then
			content = #accepted > 0
			return {content and "354 go\r\n" or "503 nobody\r\n"}
		elseif m:find("^MAIL") then
			accepted = {}
		elseif m:find("^RCPT") and chance(30) then
			return {("550 r%s\r\n"):format(id)}
		elseif m:find("^RCPT") then
			accepted[#accepted + 1] = id
		elseif m:find("^VRFY") then
			return {("252 r%s\r\n"):format(id)}
		end
		return {chance(10) and ("250-r%s\r\n250 r%s\r\n"):format(id, id) or ("250 r%s\r\n"):format(id)}
	end, random(10, 60))
end

local function check_smtp(line)
	if line:find(": %?$") then
		return "?"
	end
	local from, id = line:match("<k(%d+)> to .* 250 m(%d+)")
	if from then
		assert(from == id, ("the mail of %s was answered as that of %s"):format(from, id))
		return true
	elseif line:find("%- to %-, %d+ bytes: 250 m") then
		return true
	end
	local verb, rest = line:match("192.0.2.1:1 (%a+)(.*)$")
	assert(verb ~= "DATA" or rest:find("^: 503"), "DATA is answered by 354 or 503")
	local n, r = rest:match("k(%d+)[>]?: %d+ r(%d+)")
	assert(verb == "DATA" or (n and n == r), "paired " .. tostring(n) .. " with " .. tostring(r))
	return true
end

test("smtplog: what is shown together belongs together", function()
	math.randomseed(3)
	local known, open = all_right("smtplog", smtp, check_smtp, {commands = true}, 250)
	assert(known > 1000 and open > 50, known .. " " .. open)
end)

return tests
