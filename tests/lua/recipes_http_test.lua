-- SPDX-License-Identifier: MIT
-- Recipes of HTTP, and of what is spoken on it: WebSockets, gRPC, events, GraphQL.
local stub = require "stub"

local equal = stub.equal

local tests = {}
local function test(name, fn)
	tests[#tests + 1] = {name, fn}
end

local function transaction(more)
	local e = {
		time = "12:00:00.001", nsecs = 7, pid = 10, comm = "cu\27rl", side = "client", proto = "HTTP/2",
		peer = "192.0.2.1:443", conn = {id = 3}, stream_id = 5, method = "GET", host = "h",
		url = "https://u:p@h/a?token=t&x=1\27", path = "/a?token=t&x=1", status = 200, body_len = 12,
		duration_ns = 1500, latency_ns = 1000, partial = false,
		request = {body_len = 0, headers = {
			{name = "Authorization", value = "Bearer abc"}, {name = "cookie", value = "a=b; c=d"},
			{name = "X-Api-Key", value = "k"}, {name = "accept", value = "*/*"},
			{name = "referer", value = "https://h/?code=9"},
		}},
		response = {headers = {{name = "Set-Cookie", value = "id=1; Path=/; Secure"}}},
	}
	for k, v in pairs(more or {}) do
		e[k] = v
	end
	return e
end

test("httplog", function()
	local host = stub.new()
	host:recipe("scripts/httplog.lua", {headers = true})
	host:fire("http", transaction())
	local text = host:text_out()
	equal(text, [[
12:00:00.001 cu\x1brl[10] -> 192.0.2.1:443 GET https://***@h/a?token=***&x=1\x1b HTTP/2 200 12 ]]
		.. host.text.duration(1500) .. [[

  > Authorization: Bearer ***
  > cookie: a=***; c=***
  > X-Api-Key: ***
  > accept: */*
  > referer: https://h/?code=***
  < Set-Cookie: id=***; Path=/; Secure
]])
	-- A request that was not answered, a response without its request.
	host = stub.new()
	host:recipe "scripts/httplog.lua"
	local unanswered = transaction {side = "server", partial = true}
	unanswered.status, unanswered.response, unanswered.peer = nil, nil, nil
	unanswered.duration_ns = 0
	host:fire("http", unanswered)
	equal(host:text_out():match("<.*"), "<- - GET https://***@h/a?token=***&x=1\\x1b HTTP/2 - - "
		.. host.text.duration(0) .. " partial\n")
end)

test("httplog shows secrets when asked, and one side only", function()
	local host = stub.new("json")
	host:recipe("scripts/httplog.lua", {show_secrets = true, headers = true, side = "client"})
	host:fire("http", transaction())
	host:fire("http", transaction {side = "server"})
	equal(#host.emitted, 1)
	assert(host.emitted[1]:find("token=t", 1, true) and host.emitted[1]:find("Bearer abc", 1, true))
	assert(not host.emitted[1]:find("***", 1, true))
end)

local function ws_message(more)
	local e = {
		time = "12:00:00.001", nsecs = 7, pid = 10, comm = "cu\27rl", side = "client", dir = "out",
		peer = "192.0.2.1:443", conn = {id = 3}, url = "wss://h/chat?token=t&x=1\27", opcode = "text",
		len = 7, raw_len = 9, frames = 1, compressed = true, data = "hi\27", truncated = true, gap = false,
	}
	for k, v in pairs(more or {}) do
		e[k] = v
	end
	return e
end

test("wslog", function()
	local host = stub.new()
	host:recipe("scripts/wslog.lua", {no_control = true})
	host:fire("ws_message", ws_message())
	host:fire("ws_message", ws_message {opcode = "ping"})
	equal(host:text_out(), [[
12:00:00.001 cu\x1brl[10] -> 192.0.2.1:443 wss://h/chat?token=***&x=1\x1b text 7 hi\x1b...
]])
	host = stub.new()
	host:recipe("scripts/wslog.lua", {show_secrets = true})
	host:fire("ws_message", ws_message {opcode = "close", code = 1000, reason = "a\27", truncated = false})
	host:fire("ws_message", ws_message {opcode = "close", data = "", len = 0, truncated = false})
	local unknown = ws_message {dir = "in", gap = true, err = "damaged compression"}
	unknown.len, unknown.data, unknown.peer = nil, nil, nil
	host:fire("ws_message", unknown)
	equal(host:text_out(), [[
12:00:00.001 cu\x1brl[10] -> 192.0.2.1:443 wss://h/chat?token=t&x=1\x1b close 7 1000 a\x1b
12:00:00.001 cu\x1brl[10] -> 192.0.2.1:443 wss://h/chat?token=t&x=1\x1b close 0
12:00:00.001 cu\x1brl[10] <- - wss://h/chat?token=t&x=1\x1b text - ... [after a gap] [damaged compression]
]])
	local json = stub.new("json")
	json:recipe "scripts/wslog.lua"
	json:fire("ws_message", ws_message {data = "hi"})
	json:fire("ws_message", ws_message {data = '{"token":"x'})
	assert(json.emitted[2]:find('token\\":\\"***"', 1, true), json.emitted[2])
	equal(json.emitted[1], '{"comm":"cu\27rl","compressed":true,"conn":3,"data":"hi","dir":"out","frames":1,'
		.. '"gap":false,"len":7,"nsecs":7,"opcode":"text","peer":"192.0.2.1:443","pid":10,"raw_len":9,'
		.. '"side":"client","time":"12:00:00.001","truncated":true,"type":"ws_message",'
		.. '"url":"wss://h/chat?token=***&x=1\27"}')
end)

local function grpc_call(more)
	local e = {
		time = "12:00:00.001", nsecs = 7, pid = 10, comm = "cu\27rl", side = "client", stream_id = 5,
		peer = "192.0.2.1:443", conn = {id = 3}, service = "shop.Ord\27ers", method = "Get", host = "h",
		path = "/shop.Ord\27ers/Get", status = 5, status_name = "NOT_FOUND", message = "no\27",
		request_count = 1, request_len = 7, response_count = 0, response_len = 0, duration_ns = 1500,
		partial = false, reset = false, compressed = false,
	}
	for k, v in pairs(more or {}) do
		e[k] = v
	end
	return e
end

test("grpclog", function()
	local host = stub.new()
	host:recipe("scripts/grpclog.lua", {errors = true})
	host:fire("grpc_call", grpc_call())
	host:fire("grpc_call", grpc_call {status = 0, status_name = "OK"})
	local broken = grpc_call {partial = true, reset = true, side = "server"}
	broken.status, broken.status_name, broken.message, broken.duration_ns = nil, nil, nil, 0
	broken.service, broken.method, broken.peer = nil, nil, nil
	host:fire("grpc_call", broken)
	equal(host:text_out(), [[
12:00:00.001 cu\x1brl[10] -> 192.0.2.1:443 shop.Ord\x1bers/Get NOT_FOUND 1/0 messages 7/0 bytes ]]
		.. host.text.duration(1500) .. [[: no\x1b
12:00:00.001 cu\x1brl[10] <- - /shop.Ord\x1bers/Get reset 1/0+ messages 7/0+ bytes ]]
		.. host.text.duration(0) .. "\n")
	local json = stub.new("json")
	json:recipe("scripts/grpclog.lua", {side = "server"})
	json:fire("grpc_call", grpc_call())
	json:fire("grpc_call", grpc_call {side = "server", status = 0, status_name = "OK"})
	equal(#json.emitted, 1)
	assert(json.emitted[1]:find('"status":0,"status_name":"OK"', 1, true), json.emitted[1])
end)

test("recipes of HTTP refuse what makes no sense", function()
	for recipe, options in pairs {
		httplog = {side = "both"}, httptop = {by = "size"}, httpslow = {"soon"}, httperrors = {by = "x"}, httplat = {by = ""},
	} do
		local host = stub.new()
		local ok, why = pcall(host.recipe, host, "scripts/" .. recipe .. ".lua", options)
		equal(ok, false)
		equal(why.exit, 2)
		equal(#host.warnings, 1)
	end
end)

test("httptop", function()
	local host = stub.new()
	host:recipe("scripts/httptop.lua", {top = 2, sort = "failed", by = "path"})
	local function ask(path, status, more)
		more = more or {}
		more.path, more.response = path, status and {body_len = 2048} or nil
		local e = transaction(more)
		e.status, e.duration_ns = status, status and 3000 or nil
		if not status then
			e.response = nil
		end
		host:fire("http", e)
	end
	ask("/a?x=1", 200)
	ask("/a?x=2", 404)
	ask("/a", nil)
	ask("/b\27", 500, {side = "server"})
	ask("/c", 200)
	host:run_timers()
	equal(host:text_out(), [[
<clear>in 1s: 5 requests, 3 failed
      path    requests  4xx  5xx  none  sent  answer     avg     max
  ->  /a             3    1    0     1     0    4.0K  3.00us  3.00us
  <-  /b\x1b         1    0    1     0     0    2.0K  3.00us  3.00us
  ... 1 more rows

]])
	for i = 1, 10010 do
		ask("/" .. i, 200)
	end
	host:fire("stop", {})
	assert(host:text_out():find("in 1s: 10010 requests, 0 failed\n.*\n +%(other%) +10 "))
end)

-- Rows with equal values have one order, in each direction of a name, whatever order they came in; a sort
-- by an order that contradicts itself fails on some lists only, so there are many.
test("httptop's order", function()
	math.randomseed(5)
	for _, sort in ipairs {"requests", "failed", "avg", "max"} do
		local host = stub.new()
		host:recipe("scripts/httptop.lua", {top = 1000, sort = sort, by = "path"})
		local redraw, rows = host.timers[1].fn, 0
		for round = 1, 30 do
			local paths, want = {}, {}
			for i = 1, 40 do
				for _, side in ipairs {"client", "server"} do
					paths[#paths + 1] = {("/%02d"):format(i), side}
					want[#want + 1] = (side == "client" and "->" or "<-") .. (" /%02d"):format(i)
				end
			end
			for i = #paths, 2, -1 do
				local j = math.random(i)
				paths[i], paths[j] = paths[j], paths[i]
			end
			-- In every other round one row stands out: it comes first, and is back in its place in the next one.
			if round % 2 == 0 then
				local other = paths[1]
				for _ = 1, 2 do
					local e = transaction {path = other[1], side = other[2], duration_ns = 9000, response = {body_len = 99}}
					e.status = 500
					host:fire("http", e)
				end
			end
			local first = round % 2 == 0 and (paths[1][2] == "client" and "->" or "<-") .. " " .. paths[1][1]
			for _, p in ipairs(paths) do
				host:fire("http", transaction {path = p[1], side = p[2], duration_ns = 3000, response = {body_len = 7}})
			end
			redraw()
			local got = {}
			for arrow, path in host:text_out():gmatch("\n +([<>-]+)  (/%d+)") do
				got[#got + 1] = arrow .. " " .. path
			end
			if first then
				equal(got[1], first)
				for i, row in ipairs(want) do
					if row == first then
						table.insert(want, 1, table.remove(want, i))
					end
				end
			end
			equal(table.concat(got, "\n"), table.concat(want, "\n"))
			rows = rows + #got
		end
		equal(rows, 30 * 80)
	end
end)

test("httpslow", function()
	local host = stub.new()
	host:recipe("scripts/httpslow.lua", {"1us"})
	host:fire("http", transaction {duration_ns = 999, latency_ns = 10})
	host:fire("http", transaction {duration_ns = 2000, latency_ns = 10, url = "https://h/"})
	local hung = transaction {url = "https://h/", nsecs = 5000, request = {started_ns = 1000}}
	hung.status, hung.latency_ns, hung.duration_ns, hung.response = nil, nil, nil, nil
	host:fire("http", hung)
	equal(host:text_out(), [[
12:00:00.001 cu\x1brl[10] -> 192.0.2.1:443 GET https://h/ 200 wait 10ns total 2.00us
12:00:00.001 cu\x1brl[10] -> 192.0.2.1:443 GET https://h/ no answer for 4.00us
]])
	host = stub.new()
	host:recipe("scripts/httpslow.lua", {"1us", wait = true})
	host:fire("http", transaction {duration_ns = 2000, latency_ns = 10})
	equal(host:text_out(), "")
end)

-- One stream's bytes in pieces of every size, of every end of lines, and what is lost.
test("sse", function()
	local headers = {["content-type"] = "text/event-stream; charset=utf-8"}
	local function run(text, size, missing)
		local host = stub.new()
		host:recipe "scripts/sse.lua"
		for at = 1, #text, size do
			if at ~= missing then
				host:fire("http_data", transaction {
					part = "response", offset = at - 1, data = text:sub(at, at + size - 1), response = {headers = headers},
					url = "https://h/",
				})
			end
		end
		return host:text_out():gsub("12:00:00.001 cu\\x1brl%[10%] %-> 192.0.2.1:443 GET https://h/ ", ""), host
	end
	local text = ": comment\n\ndata: a\ndata:b\n\nevent: e\27\nid: 4\ndata\n\nid: 5\n\n"
		.. 'data: {"token":"x"}\n\ndata: never ended'
	local want = 'message: a\\nb\ne\\x1b 4: \nmessage: {"token":"***"}\n'
	for _, eol in ipairs {"\n", "\r\n", "\r"} do
		for size = 1, #text do
			equal((run(text:gsub("\n", eol), size)), want)
		end
	end
	-- The second event has a hole: the next one is whole again.
	local got, host = run("data: 1\n\ndata: 2\n\ndata: 3\n\n", 4, 13)
	equal(got, "message: 1\nmessage: 3\n")
	equal(host.warnings[1], "sse: 4 bytes are missing in a stream of connection 3: the event at hand is left out")
	got, host = run("data: " .. ("x"):rep(1 << 21) .. "\n\ndata: 2\n\n", 1 << 18)
	equal(got, "message: 2\n")
	assert(#host.warnings > 0)
end)

test("graphql finds operations", function()
	local host = stub.new("json")
	local decoded = {
		one = {query = "# q\n query Orders($n: Int) { a }"}, anonymous = {query = " {a}"}, other = {query = "select 1"},
		many = {{query = "mutation{a}"}, {operationName = "F", query = "fragment x on Y {a}"}},
		hash = {operationName = "P", extensions = {persistedQuery = {sha256Hash = "00"}}}, strange = {query = 7},
	}
	-- The stub's JSON only writes: what is read is looked up.
	host.text.json.decode = function(s)
		return decoded[s:match("%a+")]
	end
	host:recipe "scripts/graphql.lua"
	local function ask(body, path)
		host:fire("http", transaction {
			path = path or "/", request = {body = body, body_len = body and #body or 0, headers = {}},
			response = {headers = {}, body = "answer", body_len = 6},
		})
		local out = {}
		for i, line in ipairs(host.emitted) do
			out[i] = (line:match('"operation":"(%a+)"')) .. " " .. (line:match('"name":"(%a+)"') or "-")
		end
		host.emitted = {}
		return table.concat(out, ", ")
	end
	equal(ask "{one}", "query Orders")
	equal(ask "{anonymous}", "query -")
	equal(ask "{other}", "")
	equal(ask "[many]", "mutation -, fragment F")
	equal(ask "{hash}", "persisted P")
	equal(ask "{strange}", "")
	equal(ask "no json", "")
	equal(ask(nil, "/g?query=query+A%7Ba%7D&x=1"), "query A")
	equal(ask(nil, "/g?q=1"), "")
	host.text.json.decode = nil
end)

return tests
