-- SPDX-License-Identifier: MIT
local stub = require "stub"
local make = require "stream"

local equal, fails = stub.equal, stub.fails

local tests = {}
local function test(name, fn)
	tests[#tests + 1] = {name, function()
		local host = stub.new()
		fn(make(host), host)
	end}
end

local conns = {{id = 1}, {id = 2}}

local function event(bytes, more)
	local e = {conn = conns[1], dir = "in", len = bytes and #bytes or 0, data = bytes}
	for k, v in pairs(more or {}) do
		e[k] = v
	end
	return e
end

-- A stream of lines; `log` gets what happened.
local function lines(stream, log, opts)
	local all = {
		data = function(conn, dir, buf)
			local line = buf:match("^[^\n]*\n")
			if line then
				log[#log + 1] = conn.id .. dir .. ":" .. line:sub(1, -2)
				return #line
			end
		end,
		gap = function(conn, dir, missing)
			log[#log + 1] = conn.id .. dir .. ":gap " .. missing
		end,
		close = function(conn)
			log[#log + 1] = conn.id .. " closed"
		end,
	}
	for k, v in pairs(opts or {}) do
		all[k] = v
	end
	return stream(all)
end

local function taken(log)
	local s = table.concat(log, " ")
	for i = #log, 1, -1 do
		log[i] = nil
	end
	return s
end

test("messages across calls, by connection and direction", function(stream, host)
	local log = {}
	lines(stream, log, {comm = "curl"})
	equal(host.handlers[2].name, "tls_data")
	equal(host.handlers[2].opts.capture, "all")
	equal(host.handlers[2].opts.peek, false)
	equal(host.handlers[2].opts.comm, "curl")
	equal(host.handlers[2].opts.data, nil)
	host:fire("tls_data", event "ab")
	host:fire("tls_data", event("X", {dir = "out"}))
	host:fire("tls_data", event("other\n", {conn = conns[2]}))
	host:fire("tls_data", event("peek\n", {peeked = true}))
	equal(taken(log), "2in:other")
	host:fire("tls_data", event "c\nde\n\nf")
	equal(taken(log), "1in:abc 1in:de 1in:")
	host:fire("tls_data", event("Y\n", {dir = "out"}))
	host:fire("tls_data", event "\n")
	equal(taken(log), "1out:XY 1in:f")
	host:fire("tls_close", {conn = conns[1]})
	host:fire("tls_close", {conn = conns[1]})
	host:fire("tls_close", {conn = {id = 99}})
	equal(taken(log), "1 closed")
end)

test("gaps", function(stream, host)
	local log = {}
	lines(stream, log)
	host:fire("tls_data", event "lost")
	host:fire("tls_data", event("kept\nhalf", {gap = 7}))
	host:fire("tls_data", event("cut\nx", {len = 100}))
	host:fire("tls_data", event "new\n")
	host:fire("tls_data", event(nil, {len = 50, nodata = true}))
	equal(taken(log), "1in:gap 7 1in:kept 1in:halfcut 1in:gap 95 1in:new 1in:gap 50")
end)

test("need, and what data may return", function(stream, host)
	local asked = {}
	stream {data = function(_, _, buf)
		asked[#asked + 1] = #buf
		if #buf < 10 then
			return nil, 10
		end
		return 10
	end}
	for _ = 1, 25 do
		host:fire("tls_data", event "x")
	end
	equal(table.concat(asked, " "), "1 10 1 10 1")
	for i, bad in ipairs {-1, 4, 1.5, "1", true} do
		local s = make(host)
		s {from = "e" .. i, name = "my", data = function()
			return bad
		end}
		fails("my: data must return how many of 3 bytes", host.fire, host, "e" .. i, event "abc")
	end
	fails("after nil", function()
		stream {from = "n", data = function()
			return nil, "much"
		end}
		host:fire("n", event "abc")
	end)
end)

test("a failing data forgets what it was given", function(stream, host)
	local got = {}
	stream {data = function(_, _, buf)
		if buf:find("bad") then
			error("no")
		end
		got[#got + 1] = buf
	end}
	host:fire("tls_data", event "a")
	fails("no", host.fire, host, "tls_data", event "bad")
	host:fire("tls_data", event "b")
	equal(table.concat(got, " "), "a b")
end)

test("bounded", function(stream, host)
	local log = {}
	lines(stream, log, {max = 1000, name = "big"})
	for _ = 1, 25 do
		host:fire("tls_data", event(("x"):rep(100)))
	end
	equal(taken(log), "1in:gap 1100 1in:gap 1100")
	equal(#host.warnings, 1)
	equal(host.warnings[1], "big: data leaves more than 1000 bytes unused: they are dropped, as a gap")
	-- One event larger than max is not dropped unseen.
	host:fire("tls_data", event(("y"):rep(2000) .. "\n"))
	equal(#taken(log), 4 + 300 + 2000)
end)

-- Large: asked at every byte, this would copy a terabyte.
test("many small calls cost no square", function(stream, host)
	local size, calls, total = 0, 0, 0
	stream {data = function(_, _, buf)
		calls = calls + 1
		size = size + #buf
		if #buf >= 4000000 then
			total = total + #buf
			return #buf
		end
	end}
	local piece = event(("x"):rep(10))
	for _ = 1, 400000 do
		host:fire("tls_data", piece)
	end
	assert(size < 1500e6, size)
	assert(calls < 15000, calls)
	host:run_timers()
	equal(total, 4000000)
	local messages = 0
	stream = make(host)
	stream {from = "m", data = function(_, _, buf)
		if #buf >= 100 then
			size = size + #buf
			messages = messages + 1
			return 100
		end
	end}
	size = 0
	host:fire("m", event(("x"):rep(2000000)))
	equal(messages, 20000)
	assert(size < 200e6, size)
end)

test("what was put off is asked about in time, at a gap and at the end", function(stream, host)
	local seen = {}
	lines(stream, {}, {data = function(_, _, buf)
		seen[#seen + 1] = #buf
	end})
	local function fill()
		host:fire("tls_data", event(("x"):rep(70000)))
		seen = {}
		host:fire("tls_data", event "y")
		equal(#seen, 0)
	end
	fill()
	host:run_timers()
	equal(seen[#seen], 70001)
	equal(#host.timers, 0)
	host:fire("tls_data", event "z")
	equal(#host.timers, 1)
	host:run_timers()
	equal(seen[#seen], 70002)
	host:fire("tls_data", event(nil, {gap = 1}))
	fill()
	host:fire("tls_data", event(nil, {len = 5}))
	equal(seen[#seen], 70001)
	fill()
	host:fire("tls_close", {conn = conns[1]})
	equal(seen[#seen], 70001)
	seen = {}
	host:run_timers()
	equal(#seen, 0)
end)

test("wrong options", function(stream)
	fails("needs a table", stream)
	fails("needs data", stream, {})
	fails("unknown stream_option of stream: gpa", stream, {data = print, gpa = print})
	fails("gap must be a function, not a number", stream, {data = print, gap = 1})
	fails("max must be", stream, {data = print, max = "1M"})
end)

return tests
