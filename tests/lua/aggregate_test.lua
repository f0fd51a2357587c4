-- SPDX-License-Identifier: MIT
local stub = require "stub"
local make = require "aggregate"

local equal, fails = stub.equal, stub.fails

-- Everything pairs() gives, as text.
local function dump(a)
	local out = {}
	local next_row = a:pairs()
	local row = table.pack(next_row())
	while row.n > 0 do
		for i = 1, row.n do
			local v = row[i]
			row[i] = type(v) == "table" and v ~= a.none and "{}" or tostring(v)
		end
		out[#out + 1] = table.concat(row, " ")
		row = table.pack(next_row())
	end
	return table.concat(out, "; ")
end

local function buckets(a, ...)
	local out = {}
	local value = a:get(...)
	for i, b in ipairs(value.buckets) do
		out[i] = ("%s..%s=%d"):format(b.low, b.high, b.count)
	end
	return table.concat(out, " ")
end

local tests = {}
local function test(name, fn)
	tests[#tests + 1] = {name, function()
		local host = stub.new()
		fn(make(host), host)
	end}
end

test("count and sum, keys in one order", function(lib)
	local calls = lib.count("calls")
	for _, k in ipairs {"b", "a", "b", 10, 9, true, false, 2.5, "-"} do
		calls:add(k)
	end
	calls:add(nil)
	calls:add(0 / 0)
	equal(dump(calls), "- 1; false 1; true 1; 2.5 1; 9 1; 10 1; - 1; a 1; b 2; nan 1")
	equal(calls:get("b"), 2)
	equal(calls:get(nil), 1)
	equal(calls:get("-"), 1)
	equal(calls:get(calls.none), 1)
	equal(calls:get("c"), nil)
	local sent = lib.sum("sent")
	sent:add(3, "x", 1)
	sent:add(4, "x", 2)
	sent:add(5, "x", 1)
	sent:add(-2, nil, "y")
	equal(dump(sent), "- y -2; x 1 8; x 2 4")
	local total = lib.sum("total")
	total:add(1)
	total:add(2)
	equal(total:get(), 3)
	equal(dump(total), "3")
	local deep = lib.count("deep")
	deep:add(1, 2, 3)
	deep:add(1, 2, 3)
	deep:add(1, nil, 3)
	equal(dump(deep), "1 - 3 1; 1 2 3 2")
end)

test("integers stay exact and never wrap", function(lib)
	local s = lib.sum("s")
	s:add(2^53 | 0, "a")
	s:add(1, "a")
	equal(s:get("a"), 9007199254740993)
	s:add(math.maxinteger, "b")
	s:add(1, "b")
	equal(s:get("b"), 2.0^63)
	s:add(math.mininteger, "c")
	s:add(-1, "c")
	equal(s:get("c"), -2.0^63)
	s:add(1, "d")
	s:add(0.5, "d")
	equal(s:get("d"), 1.5)
	local st = lib.stats("st")
	st:add(math.maxinteger)
	st:add(math.maxinteger)
	equal(st:get().sum, 2.0^64)
	equal(st:get().max, math.maxinteger)
end)

test("avg, min, max, stats", function(lib)
	for _, kind in ipairs {"avg", "min", "max", "stats"} do
		local a = lib[kind](kind)
		a:add(4, "x")
		a:add(-2, "x")
		a:add(1, "x")
		local v = a:get("x")
		if kind == "stats" then
			equal(("%d %d %d %d %s"):format(v.count, v.sum, v.min, v.max, v.avg), "3 3 -2 4 1.0")
		else
			equal(v, ({avg = 1.0, min = -2, max = 4})[kind])
		end
	end
end)

test("values that are none are skipped and counted; others are errors", function(lib, host)
	local s = lib.sum("s")
	s:add(nil, "a")
	s:add(1, "a")
	s:add(nil, "a")
	s:add(0 / 0, "a")
	s:add(1 / 0, "a")
	s:add(-1 / 0, "b")
	equal(s.skipped, 5)
	equal(dump(s), "a 1")
	s:print()
	equal(host:text_out(), "s\n  key  sum\n  a      1\n  (5 values skipped: nil, nan or infinite)\n")
	fails('sum "s": a value must be a number, not a string', s.add, s, "x", "c")
	fails('sum "s": a table cannot be a key', s.add, s, 1, {})
	fails('sum "s": add got 2 keys; it has 1', s.add, s, 1, "a", "b")
	fails("call it with a colon", s.add, 1, "a")
	fails("add needs a value", function()
		lib.sum("t"):add()
	end)
	local h = lib.hist("h")
	h:add(1)
	h:add(0 / 0)
	h:add(nil)
	equal(h.skipped, 2)
end)

test("hist by powers of two", function(lib)
	local h = lib.hist("h")
	for _, v in ipairs {0, 1, 2, 3, 4, 7, 8, 1023, 1024} do
		h:add(v)
	end
	equal(buckets(h), "0..1=1 1..2=1 2..4=2 4..8=2 8..16=1 16..32=0 32..64=0 64..128=0 "
		.. "128..256=0 256..512=0 512..1024=1 1024..2048=1")
	local n = lib.hist("n")
	for _, v in ipairs {-1, -2, -3, -4, -5, -8, -9, 0} do
		n:add(v)
	end
	equal(buckets(n), "-16..-8=1 -8..-4=2 -4..-2=2 -2..-1=1 -1..0=1 0..1=1")
	local f = lib.hist("f")
	for _, v in ipairs {0.5, 1.5, -0.5, -1.0, -1.5, -2.0, -2.5, 3.999, 4.0} do
		f:add(v)
	end
	equal(buckets(f), "-4..-2=1 -2..-1=2 -1..0=2 0..1=1 1..2=1 2..4=1 4..8=1")
end)

-- Every value lies in the bucket that counts it, at every power of two and both its neighbours.
test("hist edges hold for all magnitudes", function(lib)
	local h = lib.hist("h")
	local function check(v)
		h:clear()
		h:add(v)
		local b = h:get().buckets
		assert(#b == 1 and b[1].low <= v and v < b[1].high, ("%s in %s..%s"):format(v, b[1].low, b[1].high))
	end
	for n = 0, 62 do
		for _, v in ipairs {(1 << n) - 1, 1 << n, (1 << n) + 1} do
			check(v)
			check(-v)
			check(v + 0.0)
			check(-v + 0.0)
			check(v + 0.25)
			check(-v - 0.25)
		end
	end
	check(math.maxinteger)
	check(math.mininteger)
	for n = 60, 1000, 7 do
		check(2.0^n)
		check(-2.0^n)
		check(2.0^n * 1.5)
		check(-2.0^n * 1.5)
	end
end)

test("lhist", function(lib)
	local h = lib.lhist("h", {min = 0, max = 100, step = 30})
	for _, v in ipairs {-1, 0, 29, 30, 89, 90, 99, 99.5, 100, 1e300, math.mininteger} do
		h:add(v)
	end
	equal(buckets(h), "-inf..0=2 0..30=2 30..60=1 60..90=1 90..100=3 100..inf=2")
	fails("min < max", lib.lhist, "a", {min = 1, max = 1, step = 1})
	fails("needs the numbers", lib.lhist, "b", {min = 1, max = 2})
	fails("more than 1000 steps", lib.lhist, "c", {min = 0, max = 10000, step = 1})
	fails("2%^53", lib.lhist, "d", {min = math.mininteger, max = 1, step = 1})
end)

test("quantile", function(lib)
	local h = lib.lhist("h", {min = 0, max = 1000, step = 10})
	for i = 0, 999 do
		h:add(i, "k")
	end
	equal(h:quantile(0.5, "k"), 500.0)
	equal(h:quantile(0, "k"), 0.0)
	equal(h:quantile(1, "k"), 999.0)
	assert(math.abs(h:quantile(0.99, "k") - 990) < 1)
	equal(h:quantile(0.5, "other"), nil)
	local p = lib.hist("p")
	p:add(7)
	equal(p:quantile(0.5), 7.0)
	local s = lib.stats("s")
	s:add(3)
	s:add(5)
	equal(s:quantile(0), 3)
	equal(s:quantile(1), 5)
	fails("take a hist", s.quantile, s, 0.5)
	fails("keeps no distribution", function()
		local c = lib.count("c")
		c:add("x")
		c:quantile(0.5, "x")
	end)
	fails("from 0 to 1", h.quantile, h, 50, "k")
end)

test("top, drain, clear, delete", function(lib)
	local s = lib.sum("s")
	for i = 1, 5 do
		s:add(i * 10 % 40, "k" .. i, i % 2)
	end
	local top = s:top(2)
	equal(#top, 2)
	equal(top[1].key[1] .. top[1].value .. top[2].key[1] .. top[2].value, "k330k220")
	equal(#s:top(), 5)
	local old = s:drain()
	equal(dump(s), "")
	equal(dump(old), "k1 1 10; k2 0 20; k3 1 30; k4 0 0; k5 1 10")
	s:add(1, "k1", 1)
	equal(dump(s), "k1 1 1")
	equal(old:get("k1", 1), 10)
	fails("drained", old.add, old, 1, "a", 1)
	s:add(1, "k2", 1)
	s:delete("k1", 1)
	s:delete("k1", 1)
	s:delete("nobody", 1)
	equal(dump(s), "k2 1 1")
	equal(s.size, 1)
	equal(s.cells.k1, nil)
	s:clear()
	equal(dump(s), "")
	s:add(7, "k9", 1)
	equal(dump(s), "k9 1 7")
	local one = lib.count("one")
	one:add(nil)
	one:delete(nil)
	equal(dump(one), "")
end)

test("bounded keys", function(lib, host)
	local s = lib.sum("s", {max_keys = 3})
	for i = 1, 10 do
		s:add(i, "k" .. i)
	end
	s:add(100, "k1")
	equal(dump(s), "k1 101; k2 2; k3 3")
	equal(s.other, 49)
	equal(#host.warnings, 1)
	equal(host.warnings[1], 'sum "s" has more than 3 keys: further ones are added up as (other); '
		.. "the option max_keys allows more")
	s:print()
	equal(host:text_out(), "s\n  key      sum\n  k1       101\n  k3         3\n  k2         2\n"
		.. "  (other)   49\n")
	s:delete("k2")
	s:add(5, "new")
	equal(s:get("new"), 5)
	local two = lib.count("two", {max_keys = 1})
	two:add("a", "b")
	two:add("c", "d")
	equal(two.other, 1)
	equal(two.cells.c, nil)
	fails("max_keys must be", lib.count, "bad", {max_keys = 0})
end)

test("fed by an event", function(lib, host)
	local s = lib.sum("sent", {from = "tls_write", by = {"comm", "conn.peer"}, comm = "curl"})
	local opts = host.handlers[1].opts
	equal(opts.comm, "curl")
	equal(opts.capture, 0)
	equal(opts.peek, false)
	equal(opts.by, nil)
	host:fire("tls_write", {len = 5, comm = "a", conn = {peer = "p"}})
	host:fire("tls_write", {len = 6, comm = "a", conn = {}})
	host:fire("tls_write", {len = 7, comm = "a"})
	host:fire("tls_write", {len = 8, comm = "a", conn = {peer = "p"}, peeked = true})
	equal(dump(s), "a - 13; a p 5")
	local c = lib.count("c", {from = "exec", by = "comm"})
	equal(host.handlers[2].opts.capture, nil)
	equal(host.handlers[2].opts.peek, nil)
	host:fire("exec", {comm = "sh"})
	host:fire("exec", {})
	equal(dump(c), "- 1; sh 1")
	local h = lib.hist("h", {from = "ssl_*", capture = 10, value = function(e)
		return #e.data
	end, by = function(e)
		return e.dir
	end, where = function(e)
		return e.pid == 1
	end})
	equal(host.handlers[3].opts.capture, 10)
	host:fire("ssl_*", {data = "abc", dir = "in", pid = 1})
	host:fire("ssl_*", {data = "abcde", dir = "in", pid = 2})
	equal(buckets(h, "in"), "2..4=1")
	local shapes = {{}, {by = "a"}, {by = {"a", "b"}}, {by = {"a", "b", "c"}}}
	for i, shape in ipairs(shapes) do
		shape.from = "tls_data"
		local n, v = lib.count("n" .. i, shape), lib.max("v" .. i, shape)
		host:fire("tls_data", {len = i, a = 1, b = 2, c = 3})
		host:fire("tls_data", {len = 9, a = 1, b = 2, c = 3})
		host:fire("tls_data", {a = 1, b = 2, c = 3})
		equal(n:get(1, 2, 3), 3)
		equal(v:get(1, 2, 3), 9)
		equal(v.skipped, 1)
	end
	for i, fields in ipairs {{where = print}, {value = print}, {by = "data"}, {by = "data", capture = 5}} do
		fields.from = "tls_read"
		lib.sum("data" .. i, fields)
		equal(host.handlers[#host.handlers].opts.capture, fields.capture)
	end
	fails('unknown field of sum "typo" %(by, value%): nosuchfield', lib.sum, "typo",
		{from = "tls_read", by = "nosuchfield.x"})
	fails("a field is a name or a function", lib.count, "x", {from = "exec", by = {7}})
end)

test("wrong constructions", function(lib)
	fails('count needs a name: count%("name"', lib.count)
	fails("options must be a table", lib.count, "a", "b")
	fails('unknown agg_option of sum "b": frm', lib.sum, "b", {frm = "tls_write"})
	fails('sum "b": the option "comm" needs from=', lib.sum, "b", {comm = "curl"})
	lib.count("same")
	fails('sum "same": there is an aggregation of this name already', lib.sum, "same")
	fails('cannot sort by "size"', lib.count, "c", {sort = "size"})
	fails('print has no option "tpo"', function()
		lib.count("d"):print {tpo = 3}
	end)
	fails("top must be a number", lib.count, "e", {top = "3"})
end)

test("tables", function(lib, host)
	local s = lib.sum("sent", {by = {"comm", "peer"}, unit = "bytes"})
	s:add(2048, "curl", "127.0.0.1:443")
	s:add(100, "a\27[2J\nb", nil)
	s:add(5, "", 7)
	s:print()
	equal(host:text_out(), [[
sent
  comm         peer            sum
  curl         127.0.0.1:443  2.0K
  a\x1b[2J\nb  -               100
  ""           7                 5
]])
	s:print {top = 1, sort = "key", title = "by key", unit = "requests"}
	equal(host:text_out(), [[
by key (requests)
  comm  peer  sum
  ""    7       5
  ... 2 more keys
]])
	host.width = 40
	s:add(1, ("x"):rep(1000), "y")
	s:print()
	for line in host:text_out():gmatch("[^\n]+") do
		assert(#line <= 40, line)
	end
	local st = lib.stats("lat", {unit = "us"})
	st:add(1000, "x")
	st:add(3000, "x")
	host.width = 80
	st:print()
	equal(host:text_out(), [[
lat
  key  count     avg     min     max     sum
  x        2  2.00ms  1.00ms  3.00ms  4.00ms
]])
	lib.count("none"):print()
	equal(host:text_out(), "none: nothing\n")
	local one = lib.count("one")
	one:add()
	one:print()
	equal(host:text_out(), "one: 1\n")
end)

test("bars", function(lib, host)
	host.width = 60
	local h = lib.hist("size", {by = "comm", unit = "bytes"})
	for _ = 1, 4 do
		h:add(1, "curl")
	end
	h:add(3, "curl")
	h:add(1500, "curl")
	h:add(0, "wget")
	h:add(1 << 40, "wget")
	h:print()
	equal(host:text_out(), [[
size (bytes) [curl]: count 6, avg 251, min 1, max 1.5K
  [1]       4 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
  [2, 4)    1 |@@@@@@@@@@@                                 |
  ...         |                                            |
  [1K, 2K)  1 |@@@@@@@@@@@                                 |

size (bytes) [wget]: count 2, avg 512.0G, min 0, max 1.0T
  [0]       1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
  ...         |                                            |
  [1T, 2T)  1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
]])
	local l = lib.lhist("l", {min = 0, max = 2, step = 1})
	l:add(-1)
	l:add(1)
	l:add(7.5)
	l:print()
	equal(host:text_out():gsub(" *|[^\n]*", ""), [[
l: count 3, avg 2.50, min -1, max 7.50
  (..., 0)  1
  [0, 1)    0
  [1, 2)    1
  [2, ...)  1
]])
end)

test("tseries", function(lib, host)
	local t = lib.tseries("t", {interval = "1s", buckets = 3, by = "k"})
	local function series()
		local out = {}
		for i, s in ipairs(t:get("a")) do
			out[i] = ("%d=%s"):format(s.nsecs // 1000000000, s.value)
		end
		return table.concat(out, " ")
	end
	host.clock = 10500000000
	t:add(5, "a")
	t:add(6, "a")
	equal(series(), "10=11")
	host.clock = 12000000000
	t:add(1, "a")
	equal(series(), "10=11 11=0 12=1")
	t:print()
	equal(host:text_out():gsub("[|@].*$", ""), "t [a]\n  -2.00s  11 ")
	host.clock = 13900000000
	equal(series(), "12=1 13=0")
	host.clock = 100000000000
	equal(series(), "")
	t:add(2, "a")
	equal(series(), "100=2")
	fails("needs an interval", lib.tseries, "u", {interval = "soon"})
	fails("buckets", lib.tseries, "v", {buckets = 0})
end)

test("print_all, in the order of creation", function(lib, host)
	lib.count("b"):add()
	lib.count("a"):add()
	lib.count("c"):add()
	lib.print_all()
	equal(host:text_out(), "b: 1\n\na: 1\n\nc: 1\n")
end)

for _, case in ipairs {
	{"count", {}, {{"x"}}, '{"data":[{"key":["x"],"value":1}],"name":"j","type":"count"}'},
	{"sum", {by = {"a", "b"}, unit = "bytes"}, {{2, nil, 7}},
		'{"by":["a","b"],"data":[{"key":[null,7],"value":2}],"name":"j","type":"sum","unit":"bytes"}'},
	{"stats", {max_keys = 1}, {{2, "x"}, {4, "y"}, {nil, "z"}},
		'{"data":[{"avg":2.0,"count":1,"key":["x"],"max":2,"min":2,"sum":2}],"name":"j",'
			.. '"other":{"avg":4.0,"count":1,"max":4,"min":4,"sum":4},"skipped":1,"type":"stats"}'},
	{"lhist", {min = 0, max = 1, step = 1}, {{2}},
		'{"data":[{"avg":2.0,"buckets":[{"count":1,"high":null,"low":1}],"count":1,"key":[],"max":2,'
			.. '"min":2,"sum":2}],"name":"j","type":"lhist"}'},
	{"max", {}, {}, '{"data":[],"name":"j","type":"max"}'},
	{"sum", {top = 1}, {{1, "a"}, {2, "b"}},
		'{"data":[{"key":["b"],"value":2}],"more":1,"name":"j","type":"sum"}'},
} do
	tests[#tests + 1] = {"JSON of " .. case[1], function()
		local host = stub.new("json")
		local a = make(host)[case[1]]("j", case[2])
		for _, args in ipairs(case[3]) do
			a:add(table.unpack(args, 1, 3 - (args[3] and 0 or args[2] and 1 or 2)))
		end
		a:print()
		equal(host.emitted[1], case[4])
		equal(host:text_out(), "")
	end}
end

-- What the kernel hands over: cells by the number that it has; self.sync brings those that wait.
local function kernel_host()
	local host = stub.new()
	local waiting, cell = {}, nil
	local on = host.on
	host.plans, host.verbose_text = {}, {}
	function host.on(name, opts, fn, plan)
		host.plans[#host.plans + 1] = plan or false
		return on(name, opts, fn), plan and 100 + #host.plans
	end
	function host.on_cell(fn)
		cell = fn
	end
	function host.verbose(text)
		host.verbose_text[#host.verbose_text + 1] = text
	end
	function host.sync()
		local now = waiting
		waiting = {}
		for _, args in ipairs(now) do
			cell(table.unpack(args, 1, args.n))
		end
	end
	function host.brings(...)
		waiting[#waiting + 1] = table.pack(...)
	end
	return host, make(host)
end

tests[#tests + 1] = {"which aggregations the kernel gets", function()
	local host, lib = kernel_host()
	lib.count("a", {from = "tls_data", by = {"pid", "comm", "dir", "lib"}})
	lib.hist("b", {from = "tls_read", value = "duration_us"})
	lib.lhist("c", {from = "tls_read", value = "duration_ms", min = 0, max = 10, step = 2})
	local function text(plan)
		return ("%s %s %s %s %s"):format(plan.form, plan.value, plan.scale, plan.max, plan.step)
	end
	equal(text(host.plans[1]), "sum len 1 nil nil")
	equal(text(host.plans[2]), "hist duration 1000 nil nil")
	equal(text(host.plans[3]), "lhist duration 1000000 10000000 2000000")
	local refused = {
		{"count", {by = {"pid", "comm", "dir", "lib", "kind"}}, "more than 4 keys"},
		{"count", {by = "conn.id"}, "by = conn.id"},
		{"sum", {value = "nsecs"}, "value = nsecs"},
		{"sum", {value = function() return 1 end}, "value = function"},
		{"sum", {where = function() return true end}, "where"},
		{"count", {rate = 10}, "rate"},
		{"lhist", {min = 0, max = 1, step = 0.5}, "steps that are not whole"},
		{"tseries", {}, "tseries"},
	}
	for i, r in ipairs(refused) do
		r[2].from = "tls_data"
		lib[r[1]]("r" .. i, r[2])
		equal(host.plans[#host.plans], false)
		local said = host.verbose_text[i]
		if not said:find(r[3], 1, true) then
			error(("%s, not %s"):format(said, r[3]))
		end
	end
end}

tests[#tests + 1] = {"what the kernel brings is taken at a look, and is what events add up to", function()
	local host, lib = kernel_host()
	local opts = {from = "tls_data", by = "comm", value = "duration_us", max_keys = 2}
	local by = {}
	for i, kind in ipairs {"count", "sum", "avg", "min", "max", "stats", "hist"} do
		by[i] = {lib[kind](kind, opts), kind}
	end
	lib.lhist("lhist", {
		from = "tls_data", by = "comm", value = "duration_us", max_keys = 2, min = 0, max = 4, step = 1,
	})
	for i = 1, #by do
		local a = by[i][1]
		local id = a.kernel
		local hist = by[i][2] == "hist"
		-- 1500 ns and 2500 ns of "x" in two threads, 999 of "y" by event, 1000000 of "z": one too many.
		host.brings(id, hist and 1 or 0, 1, 1500, 1500, 1500, "x")
		host.brings(id, hist and 2 or 0, 1, 2500, 2500, 2500, "x")
		equal(a:get("x") ~= nil, true)
		host.handlers[i].fn {comm = "y", duration_ns = 999}
		host.brings(id, hist and 10 or 0, 1, 1000000, 1000000, 1000000, "z")
		equal(a.other ~= nil, true)
		local v = a:get("x")
		if type(v) == "table" then
			equal(("%d %s %s %s %s"):format(v.count, v.sum, v.avg, v.min, v.max), "2 4.0 2.0 1.5 2.5")
		else
			equal(v, ({count = 2, sum = 4.0, avg = 2.0, min = 1.5, max = 2.5})[by[i][2]])
		end
		if hist then
			equal(buckets(a, "x"), "1..2=1 2..4=1")
			equal(buckets(a, "y"), "0..1=1")
		end
		host.brings(id, hist and 1 or 0, 1, 1500, 1500, 1500, "x")
		local copy = a:drain()
		host.brings(id, hist and 1 or 0, 1, 1700, 1700, 1700, "x")
		equal(copy.other ~= nil and a:get("y") == nil and a.other == nil, true)
		a:clear()
		equal(a:get("x"), nil)
	end
	equal(#host.warnings, #by)
end}

return tests
