-- SPDX-License-Identifier: MIT
-- An example of each thing that the table of the API names: what is typed to a shell. Of a kind they are
-- alike but for the name; some things need words of their own.

-- What may stand after an option's name.
local VALUES = {
	pid = "4711", comm = '"curl"', uid = '"www-data"', exe = '"/usr/bin/curl"', lib = '"libssl*"',
	cgroup = '"nginx.service"', container = '"web"', exclude = '{comm = "curl"}',
	capture = '"64K"', where = "function(e) return e.len > 0 end",
	time = '"utc"', attach = '"auto"', sites = '"symbol"', buffer = '"16M"', memory = '"512M"',
	dir = '"in"', min_len = "100", max_len = '"1K"', prefix = '"GET "', first = "3", sample = "100", rate = "50",
	raddr = '"192.0.2.0/24"', laddr = '"127.0.0.1"', rport = "443", lport = "443",
}
local BY_TYPE = {string = '"x"', integer = "1", number = "1", boolean = "true", list = "{}"}
local SHOW = "on.tls_data(function(e) print(e.comm, e.dir, e.len) end)"
local HELLO = {"^hello$", "^retry$", "^sni$", "^alpn$", "^versions?$", "^ciphers?$", "^groups$", "^ja4$"}

local own = {
	["field copy"] = "local kept on.tls_data(function(e) kept = e:copy() end) "
		.. "on.stop(function() print(kept and kept.len) end)",
	["field sub"] = "on.tls_data(function(e) print(e.len) e.sub:detach() end)",
	["field data"] = "on.tls_read(function(e) hexdump(e.data, 64) end)",
	["conn state"] = "on.tls_data(function(e) local s = e.conn.state s.n = (s.n or 0) + 1 print(s.n) end)",
	["event stop"] = 'local n = 0 on.tls_data(function() n = n + 1 end) on.stop(function() print(n, "calls") end)',
	["event start"] = "on.start(function(e) print(e.kernel, e.host) end)",
	["event signal_usr1"] = 'local n = count("n", {from = "tls_data"}) on.signal_usr1(function() n:print() end)',
	["aggregation count"] = 'count("calls", {from = "tls_data", by = {"comm", "dir"}})',
	["aggregation lhist"] = 'lhist("len", {from = "tls_data", value = "len", min = 0, max = 2000, step = 200})',
	["aggregation hist"] = 'hist("read_us", {from = "tls_read", value = "duration_us", by = "comm"})',
	["aggregation tseries"] = 'tseries("bytes", {from = "tls_data", value = "len", interval = "1s"})',
	["agg_option from"] = 'count("calls", {from = "tls_data"})',
	["agg_option interval"] = 'tseries("bytes", {from = "tls_data", value = "len", interval = "1s"})',
	["agg_option buckets"] = 'tseries("bytes", {from = "tls_data", value = "len", buckets = 30})',
	["method add"] = 'local n = sum("bytes") on.tls_data(function(e) n:add(e.len, e.comm) end)',
	["method get"] = 'local n = count("n", {from = "tls_data", by = "dir"}) '
		.. 'on.stop(function() print(n:get("in")) end)',
	["method pairs"] = 'local n = count("n", {from = "tls_data", by = "comm"}) '
		.. "on.stop(function() for key, value in n:pairs() do print(key, value) end end)",
	["method top"] = 'local n = sum("n", {from = "tls_data", value = "len", by = "comm"}) '
		.. "on.stop(function() for i, row in ipairs(n:top(3)) do print(i, row) end end)",
	["method quantile"] = 'local h = hist("us", {from = "tls_data", value = "duration_us"}) '
		.. "on.stop(function() print(h:quantile(0.99)) end)",
	["method drain"] = 'local n = count("n", {from = "tls_data", by = "comm"}) '
		.. 'every("1s", function() n:drain():print() end)',
	["method clear"] = 'local n = count("n", {from = "tls_data"}) every("1s", function() n:print() n:clear() end)',
	["method delete"] = 'local n = count("n", {from = "tls_data", by = "comm"}) '
		.. 'on.stop(function() n:delete("curl") n:print() end)',
	["method print"] = 'local n = sum("n", {from = "tls_data", value = "len", by = "comm"}) '
		.. 'on.stop(function() n:print{top = 5, unit = "bytes"} end)',
	["method disable"] = "local h = on.tls_data(function(e) print(e.len) end) "
		.. 'after("1s", function() h:disable() end)',
	["method enable"] = "local h = on.tls_data(function(e) print(e.len) end) h:disable() "
		.. 'after("1s", function() h:enable() end)',
	["method detach"] = "local h = on.tls_data(function(e) print(e.len) end) "
		.. 'after("1s", function() h:detach() end)',
	["method stats"] = "local h = on.tls_data(function() end) on.stop(function() print(h.stats.events) end)",
	["function target"] = 'target{comm = "curl"} ' .. SHOW,
	["function options"] = 'local o = options{min = {0, "bytes at least"}} '
		.. "on.tls_data(function(e) if e.len >= o.min then print(e.len) end end)",
	["function config"] = 'config{capture = "4K"} ' .. SHOW,
	["function every"] = 'local n = 0 on.tls_data(function() n = n + 1 end) every("1s", function() print(n) end)',
	["function after"] = SHOW .. ' after("5s", exit)',
	["function stream"] = "stream{data = function(conn, dir, buf) print(conn.id, dir, #buf) return #buf end}",
	["function printf"] = 'on.tls_data(function(e) printf("%-16s %6d\\n", e.comm, e.len) end)',
	["function emit"] = "on.tls_data(function(e) emit{comm = e.comm, len = e.len} end)",
	["function warn"] = 'on.tls_error(function(e) warn(e.comm, ": ", e.err) end)',
	["function escape"] = "on.tls_data(function(e) print(escape(e.data:sub(1, 40))) end)",
	["function hexdump"] = "on.tls_data(function(e) hexdump(e.data, 64) end)",
	["function human"] = "on.tls_data(function(e) print(e.comm, human(e.len)) end)",
	["function duration"] = "on.tls_data(function(e) print(e.comm, duration(e.duration_ns)) end)",
	["function json"] = "on.tls_data(function(e) print(json.encode{comm = e.comm, len = e.len}) end)",
	["function clear_screen"] = 'local n = count("n", {from = "tls_data", by = "comm"}) '
		.. 'every("1s", function() clear_screen() n:print() end)',
	["function color"] = 'on.tls_data(function(e) color(e.dir == "in" and "green" or "cyan") '
		.. "print(e.len) color() end)",
	["function exit"] = "on.tls_data(function(e) print(e.comm) exit() end)",
	["function on"] = SHOW, ["function print"] = SHOW,
}

-- Of the command line: whole commands.
local commands = {
	pid = "tlsscope -p 4711 sniff", command = "tlsscope -c 'curl -s https://localhost/' sniff",
	comm = "tlsscope --comm nginx httplog", uid = "tlsscope --uid www-data httplog",
	exe = "tlsscope --exe /usr/bin/curl httplog",
	lib = "tlsscope --lib libssl.so.3 sniff", cgroup = "tlsscope --cgroup nginx.service httplog",
	container = "tlsscope --container web httplog",
	rport = "tlsscope --rport 443 httplog", lport = "tlsscope --lport 443 httplog",
	raddr = "tlsscope --raddr 192.0.2.0/24 httplog", laddr = "tlsscope --laddr 127.0.0.1 httplog",
	format = "tlsscope -f json httplog",
	time = "tlsscope --time utc sniff", output = "tlsscope -o sniff.txt sniff",
	har = "tlsscope --har tls.har", ["show-secrets"] = "tlsscope --show-secrets httplog",
	pcap = "tlsscope --pcap tls.pcapng", rotate = "tlsscope -o sniff.txt --rotate 100M,5 sniff",
	write = "tlsscope -w day.rec sniff", replay = "tlsscope -r day.rec sniff",
	quiet = "tlsscope -q sniff", verbose = "tlsscope -v sniff", list = "tlsscope -l 'ssl_*'",
	recipes = "tlsscope -L", info = "tlsscope --info", check = "tlsscope --check httplog",
	["dry-run"] = "tlsscope --dry-run sniff", version = "tlsscope --version", help = "tlsscope --help",
	execute = "tlsscope -e 'on.tls_data(function(e) print(e.comm, e.len) end)'",
	interactive = "tlsscope -i sniff", include = "tlsscope -I lib sniff",
	strict = "tlsscope --strict sniff", unsafe = "tlsscope --unsafe sniff",
}

local function value_of(entry)
	local kind = entry.type:match("^[%a_]+")
	return VALUES[entry.name] or BY_TYPE[kind] or kind == "function" and "function(e) return e end" or nil
end

local function fields_of(entry)
	local list = {}
	for name in entry.type:gmatch("%S+") do
		if #list < 4 and name ~= "conn" then
			list[#list + 1] = "e." .. name
		end
	end
	return table.concat(list, ", ")
end

local function of_hello(entry)
	for _, pattern in ipairs(HELLO) do
		if entry.name:find(pattern) then
			return true
		end
	end
end

local function aggregate(kind, opts)
	return ('%s("it", {from = "tls_data", %s})'):format(kind, opts)
end

local kinds = {
	probe = function(entry)
		return ("on.%s(function(e) print(e.comm, e.pid, e.peer) end)"):format(entry.name)
	end,
	http = function(entry)
		return ("on.%s(function(e) print(e.comm, e.pid, e.peer) end)"):format(entry.name)
	end,
	event = function(entry)
		return ("on.%s(function(e) print(%s) end)"):format(entry.name, fields_of(entry))
	end,
	field = function(entry)
		local event = of_hello(entry) and "tls_hello" or entry.name == "resumed" and "tls_open" or "tls_data"
		return ("on.%s(function(e) print(e.%s) end)"):format(event, entry.name)
	end,
	conn = function(entry)
		return ("on.tls_data(function(e) print(e.conn.%s) end)"):format(entry.name)
	end,
	proc = function(entry)
		return ("on.tls_data(function(e) print(e.proc and e.proc.%s) end)"):format(entry.name)
	end,
	container = function(entry)
		return ("on.tls_data(function(e) local c = e.proc and e.proc.container print(c and c.%s) end)"):format(
			entry.name)
	end,
	http_message = function(entry)
		return ("on.http(function(e) print(e.response and e.response.%s) end)"):format(entry.name)
	end,
	option = function(entry)
		return ("on.tls_data({%s = %s}, function(e) print(e.comm, e.len) end)"):format(entry.name,
			value_of(entry))
	end,
	target = function(entry)
		return ("target{%s = %s} %s"):format(entry.name, value_of(entry), SHOW)
	end,
	config = function(entry)
		return ("config{%s = %s} %s"):format(entry.name, value_of(entry), SHOW)
	end,
	aggregation = function(entry)
		return aggregate(entry.name, 'value = "len", by = "comm"')
	end,
	agg_option = function(entry)
		local words = {by = '"comm"', value = '"len"', max_keys = "100", unit = '"bytes"', title = '"bytes"',
			top = "5", sort = '"key"'}
		if entry.name == "min" or entry.name == "max" or entry.name == "step" then
			return 'lhist("len", {from = "tls_data", value = "len", min = 0, max = 2000, step = 200})'
		elseif not words[entry.name] then
			return nil
		end
		return aggregate("sum", (entry.name ~= "value" and 'value = "len", ' or "")
			.. ("%s = %s"):format(entry.name, words[entry.name]))
	end,
	stream_option = function()
		return 'stream{name = "sizes", from = "tls_read", max = 65536, data = function(conn, dir, buf) '
			.. "print(conn.id, dir, #buf) return #buf end, gap = function(conn, dir, n) print(n) end, "
			.. "close = function(conn) print(conn.id) end}"
	end,
}
-- Fields of derived events: NAME_field of on.NAME, or of on.NAME_something.
for kind, event in pairs {http_field = "http", ws_field = "ws_message", grpc_field = "grpc_call"} do
	kinds[kind] = function(entry)
		if entry.name == "copy" then
			return ("on.%s(function(e) emit(e:copy()) end)"):format(event)
		elseif entry.name == "sub" then
			return ("on.%s(function(e) print(e.comm) e.sub:detach() end)"):format(event)
		end
		return ("on.%s(function(e) print(e.%s) end)"):format(event, entry.name)
	end
end

-- cli: kinds of the command line's options.
return function(cli)
	-- What to type to a shell, or, bare, at the prompt; nil: there is none.
	return function(entry, bare)
		if cli[entry.kind] then
			return commands[entry.name]
		end
		local code = own[entry.kind .. " " .. entry.name] or kinds[entry.kind] and kinds[entry.kind](entry)
		if not code or bare then
			return code
		end
		return "tlsscope -e '" .. code:gsub("'", "'\\''") .. "'"
	end
end
