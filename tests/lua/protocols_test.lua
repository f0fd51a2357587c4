-- SPDX-License-Identifier: MIT
-- Recipes of protocols: what is said, however it is cut; and what nobody should say.
local stub = require "stub"

local equal = stub.equal

local tests = {}
local function test(name, fn)
	tests[#tests + 1] = {name, fn}
end

local function event(conn, dir, data, now, more)
	local e = {
		time = "12:00:00.001", nsecs = now, pid = 10, tid = 10, comm = "prog", dir = dir, data = data, len = #data,
		conn = conn, peer = conn.peer,
	}
	for k, v in pairs(more or {}) do
		e[k] = v
	end
	return e
end

-- talk: a list of {dir, bytes}, or {dir, bytes, missing = n}: before them. Calls are of `step` bytes at
-- most; one more ends at byte `cut` of all. older: the handshake was not seen.
local function run(recipe, talk, options, step, cut, older)
	local host = stub.new()
	host:recipe(("scripts/%s.lua"):format(recipe), options)
	local conn, now, total = {id = 1, peer = "192.0.2.1:1", state = {}}, 1000, 0
	host:fire("start", {nsecs = 0})
	if not older then
		host:fire("tls_open", {conn = conn})
	end
	for _, m in ipairs(talk) do
		local dir, data = m[1], m[2] or ""
		local gap = m.missing
		now = now + 1000
		local at = 1
		while at <= #data do
			local n = math.min(#data - at + 1, step or #data)
			if cut and total < cut and total + n > cut then
				n = cut - total
			end
			host:fire("tls_data", event(conn, dir, data:sub(at, at + n - 1), now, {gap = gap}))
			at, total, gap = at + n, total + n, nil
		end
	end
	host:fire("tls_close", {conn = conn})
	return host:text_out(), total, host
end

-- The same however it is cut, as a client and as a server.
local function always(recipe, talk, want, options)
	local got, total = run(recipe, talk, options)
	equal(got, want)
	for cut = 1, total - 1 do
		equal(run(recipe, talk, options, nil, cut), want)
	end
	for step = 1, 40, 3 do
		equal(run(recipe, talk, options, step), want)
	end
	local turned = {}
	for i, m in ipairs(talk) do
		turned[i] = {m[1] == "out" and "in" or "out", m[2]}
	end
	equal(run(recipe, turned, options), (want:gsub("%->", "<-")))
end

local function pg(kind, body)
	return kind .. string.pack(">I4", 4 + #body) .. body
end

local START = string.pack(">I4I4", 8 + 25, 3 << 16) .. "user\0ann\0database\0shop\0\0\0"
local READY = pg("Z", "I")
local TOOK = stub.new().text.duration(1000)
local HEAD = "12:00:00.001 prog[10] -> 192.0.2.1:1 "

test("pgquery", function()
	always("pgquery", {
		{"out", START}, {"in", pg("R", "\0\0\0\0") .. pg("S", "a\0b\0") .. READY},
		{"out", pg("Q", "SELECT 1;\0")}, {"in", pg("T", "xx") .. pg("D", "row") .. pg("C", "SELECT 1\0") .. READY},
		{"out", pg("P", "s\0SELECT $1\0\0\0") .. pg("B", "p\0s\0\0\0") .. pg("E", "p\0\0\0\0\0") .. pg("S", "")},
		{"in", pg("1", "") .. pg("2", "") .. pg("C", "SELECT 3\0") .. READY},
		{"out", pg("B", "\0s\0\0\0") .. pg("E", "\0\0\0\0\0") .. pg("P", "\0BAD\0\0\0") .. pg("B", "\0\0\0")
			.. pg("S", "")},
		{"in", pg("2", "") .. pg("C", "SELECT 4\0") .. pg("E", "SERROR\0C42601\0Mno\0\0") .. READY},
		{"out", pg("Q", "ALTER ROLE r PASSWORD 'x'\0")}, {"in", pg("C", "ALTER ROLE\0") .. READY},
	}, HEAD .. "SELECT 1; SELECT 1 " .. TOOK .. "\n" .. HEAD .. "SELECT $1; SELECT 3 " .. TOOK .. "\n"
		.. HEAD .. "SELECT $1; SELECT 4 " .. TOOK .. "\n" .. HEAD .. "BAD; ERROR 42601 no " .. TOOK .. "\n"
		.. HEAD .. "ALTER ROLE r PASSWORD '***'; ALTER ROLE " .. TOOK .. "\n")
end)

test("pgquery, a connection that is older, and a loss", function()
	equal(run("pgquery", {
		{"in", "the end of a row"}, {"out", pg("Q", "A\0")}, {"in", pg("C", "A\0") .. READY},
		{"out", pg("Q", "B\0")}, {"in", pg("D", ("x"):rep(50)):sub(1, 30), missing = 7}, {"out", pg("Q", "C\0")},
		{"in", pg("C", "C\0") .. READY},
	}, nil, nil, nil, true), HEAD .. "A; A " .. TOOK .. "\n" .. HEAD .. "B; ?\n" .. HEAD .. "C; C " .. TOOK .. "\n")
end)

local function resp(...)
	local out = {("*%d\r\n"):format(select("#", ...))}
	for _, word in ipairs {...} do
		out[#out + 1] = ("$%d\r\n%s\r\n"):format(#word, word)
	end
	return table.concat(out)
end

test("redislog", function()
	always("redislog", {
		{"out", resp("SET", "k", ("v"):rep(300)) .. resp("get", "k") .. resp("LRANGE", "l", "0", "-1")},
		{"in", "+OK\r\n$300\r\n" .. ("v"):rep(300) .. "\r\n*2\r\n$1\r\na\r\n*1\r\n:7\r\n"},
		{"out", resp("AUTH", "ann", "pw") .. "PING\r\n" .. resp("EVAL", "x", "0")},
		{"in", "-WRONGPASS no\r\n+PONG\r\n!5\r\nSYN x\r\n"},
		{"out", resp("HELLO", "3", "AUTH", "ann", "pw") .. resp("GET", "")},
		{"in", "%1\r\n+a\r\n_\r\n>2\r\n+push\r\n:1\r\n_\r\n"},
	}, HEAD .. "SET k " .. ("v"):rep(57) .. "...; OK " .. TOOK .. "\n" .. HEAD .. "get k; 300 bytes " .. TOOK .. "\n"
		.. HEAD .. "LRANGE l 0 -1; array of 2, 2 bytes " .. TOOK .. "\n"
		.. HEAD .. "AUTH ann ***; WRONGPASS no " .. TOOK .. "\n" .. HEAD .. "PING; PONG " .. TOOK .. "\n"
		.. HEAD .. "EVAL x 0; SYN x " .. TOOK .. "\n" .. HEAD .. "HELLO 3 AUTH ann ***; map of 1, 1 bytes " .. TOOK
		.. "\n" .. HEAD .. 'GET ""; (nil) ' .. TOOK .. "\n")
end)

test("secrets in statements and arguments", function()
	local json, url = '{"token":"t0p","n":1}', "https://ann:pw@h/?key=k3y&x=1"
	local function asked(shown)
		return run("redislog", {{"out", resp("SET", "k", json) .. resp("SET", "u", url)}, {"in", "+OK\r\n+OK\r\n"}},
			{show_secrets = shown}) .. run("pgquery", {
			{"out", START}, {"in", READY}, {"out", pg("Q", "INSERT '" .. json .. "', '" .. url .. "'\0")},
			{"in", pg("C", "INSERT 0 1\0") .. READY},
		}, {show_secrets = shown})
	end
	local hidden, shown = asked(false), asked(true)
	for _, secret in ipairs {"t0p", "ann:pw", "k3y"} do
		assert(not hidden:find(secret, 1, true), hidden)
		assert(select(2, shown:gsub(secret, "")) == 2, shown)
	end
	assert(select(2, hidden:gsub('{"token":"%*%*%*","n":1}', "")) == 2, hidden)
end)

test("smtplog", function()
	always("smtplog", {
		{"out", "EHLO me\r\n"}, {"in", "250-mail\r\n250 AUTH PLAIN\r\n"},
		{"out", "AUTH LOGIN\r\n"}, {"in", "334 VXNlcm5hbWU6\r\n"}, {"out", "YW5u\r\n"}, {"in", "535 no\r\n"},
		{"out", "MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\nDATA\r\n"},
		{"in", "250 ok\r\n250 ok\r\n550 who\r\n354 go\r\n"},
		{"out", "Subject: x\r\n\r\n..\r\n.\r\nQUIT\r\n"}, {"in", "250 taken\r\n221 bye\r\n"},
	}, HEAD .. "AUTH LOGIN ***: 535 no " .. TOOK .. "\n" .. HEAD .. "RCPT TO:<c@y>: 550 who " .. TOOK .. "\n"
		.. HEAD .. "<a@x> to <b@y>, 18 bytes: 250 taken " .. TOOK .. "\n")
end)

-- Anything may be said: nothing fails, and nothing is kept.
test("protocols, hostile", function()
	math.randomseed(7)
	local words = {
		"*3\r\n", "$3\r\nGET\r\n", "$99999999999999999999\r\n", "*-1\r\n", "%9999999\r\n", "\r\n", "EHLO x\r\n",
		"DATA\r\n",
		"354 x\r\n", "250 ok\r\n", ".\r\n", "334 \r\n", "AUTH\r\n", "BDAT 99999 LAST\r\n", "BDAT\r\n", pg("Q", "x"),
		pg("P", ""),
		pg("B", ""), pg("E", "SE"), pg("Z", ""), START, "Q\255\255\255\255", "\0\0\0\8\0\3\0\0", "AUTH PLAIN x\r\n", "x",
	}
	for _, recipe in ipairs {"pgquery", "redislog", "smtplog"} do
		for _ = 1, 500 do
			local talk = {}
			for i = 1, math.random(1, 12) do
				talk[i] = {math.random(2) == 1 and "in" or "out", words[math.random(#words)]}
				talk[i].missing = math.random(8) == 1 and math.random(1000) or nil
			end
			local _, _, host = run(recipe, talk, nil, math.random(1, 40))
			equal(#host.warnings, 0)
		end
	end
end)

return tests
