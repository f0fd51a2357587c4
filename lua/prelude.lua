-- SPDX-License-Identifier: MIT
-- What scripts see, built on the primitives of core/lua_core.c. Runs once before a script, and returns
-- what C calls: fire(event, table), tick(nsecs), failed(handle, error), started(nsecs); and the lists of
-- handlers and of timers.

local core = ...

local function part(name, ...)
	return core.module("lua/" .. name .. ".lua")()(core, ...)
end

local check = part("check")
local handles = part("handles", check)
local out = part("print")
local picks = part("picks", check)
local options = part("options", core.write)

local FILTER_KEYS = {
	"pid", "comm", "uid", "exe", "lib", "cgroup", "container", "rport", "lport", "raddr", "laddr",
}
local probes = core.probes()
-- What becomes of all plaintext, by enum http_event.
local HTTP = {
	http = 1, http_request = 2, http_response = 3, ws_message = 4, grpc_call = 5, http_data = 6,
}
local event_names = {}
for _, kind in ipairs {"probe", "http", "event"} do
	local _, list = core.api(kind)
	table.move(list, 1, #list, #event_names + 1, event_names)
end

-- Adds the values of one key to a list of {key, value, excluded}.
local function add_values(list, key, value, excluded, where)
	local values = type(value) == "table" and value or {value}
	if #values == 0 then
		core.fail(key, ("%s: %s is an empty list; leave it out, or name a value"):format(where, key))
	end
	for _, v in ipairs(values) do
		local text = math.type(v) and math.tointeger(v) or v
		if type(text) ~= "string" and math.type(text) ~= "integer" then
			core.fail(key, ("%s: %s must be a name or a whole number, not %s"):format(where, key,
				tostring(v)))
		end
		list[#list + 1] = {key, tostring(text), excluded}
	end
end

-- Who is traced, as core.subscribe and core.target take it.
local function read_filter(opts, where)
	local list = {}
	for _, key in ipairs(FILTER_KEYS) do
		if opts[key] ~= nil then
			add_values(list, key, opts[key], false, where)
		end
	end
	if opts.exclude ~= nil then
		if type(opts.exclude) ~= "table" then
			core.fail("exclude", where .. ": exclude takes a table, as in exclude = {comm = \"curl\"}")
		end
		for key, value in pairs(opts.exclude) do
			if key == "exclude" or not check.names("target")[key] then
				check.unknown(("unknown key of exclude in %s:"):format(where), key, FILTER_KEYS)
			end
			add_values(list, key, value, true, where)
		end
	end
	return list
end

local TYPES = {errors = "boolean", peek = "boolean", where = "function"}

local function check_types(opts, where)
	for key, wanted in pairs(TYPES) do
		if opts[key] ~= nil and type(opts[key]) ~= wanted then
			core.fail(key, ("%s: %s must be a %s, not a %s"):format(where, key, wanted, type(opts[key])))
		end
	end
end

-- The probes of plaintext that a name with wildcards stands for.
local function match_probes(glob)
	local pattern = glob:gsub("[%^%$%(%)%%%.%+%-]", "%%%0"):gsub("%*", ".*"):gsub("%?", ".")
	local mask = 0
	for name, bits in pairs(probes) do
		if name:find("^" .. pattern .. "$") and bits & probes.tls_data ~= 0 then
			mask = mask | bits
		end
	end
	return mask ~= 0 and mask or nil
end

-- plan: how the kernel may add up instead (lua/aggregate_kernel.lua).
local function attach(name, opts, fn, plan)
	if fn == nil and type(opts) == "function" then
		opts, fn = {}, opts
	end
	local where = "on." .. tostring(name)
	local mask = HTTP[name] and probes.tls_data or probes[name]
	if type(name) ~= "string" then
		core.fail(nil, ("on needs the name of an event, not a %s"):format(type(name)))
	elseif not mask and name:find("[*?%[]") then
		mask = match_probes(name)
		where = ("on(%q)"):format(name)
		if not mask then
			core.fail(name, ("no probe matches '%s'; -l lists them"):format(name))
		end
	end
	if not mask and not handles.lists[name] then
		check.unknown("unknown event", name, event_names)
	elseif type(fn) ~= "function" then
		core.fail(name, ("%s needs a function: on.%s([{options},] function(e) ... end)"):format(where,
			name))
	end
	check.check("option", opts, where)
	check_types(opts, where)
	if HTTP[name] and (opts.errors ~= nil or opts.peek ~= nil) then
		core.fail(opts.errors ~= nil and "errors" or "peek",
			("%s is of whole messages: it takes no option `errors` or `peek`"):format(where))
	end
	if mask then
		if HTTP[name] or mask & ~probes.tls_data ~= 0 then
			plan = nil
		end
		local picked
		if HTTP[name] or mask & probes.tls_data == 0 then
			picks.refuse(opts, where)
		else
			mask, picked = picks.direction(probes, mask, opts, where), picks.read(opts, where)
		end
		return handles.plaintext(name, mask, read_filter(opts, where), opts, fn, HTTP[name], plan,
			picked)
	end
	local filtered = name == "tls_close"
	for key in pairs(opts) do
		if key ~= "where" and not (filtered and check.names("target")[key]) then
			core.fail(key, ("%s takes no option but `where`%s"):format(where,
				filtered and " and those of target" or ""))
		end
	end
	if filtered then
		return handles.closing(name, probes.tls_data | probes.tls_open, read_filter(opts, where), opts, fn)
	end
	return handles.event(name, opts, fn)
end

local on = setmetatable({}, {
	__metatable = false,
	__call = function(_, name, opts, fn)
		return (attach(name, opts, fn)) -- not whether the kernel adds up
	end,
	__index = function(_, name)
		local known = probes[name] or HTTP[name] or handles.lists[name]
		if not known and not tostring(name):find("[*?%[]") then
			check.unknown("unknown event", name, event_names)
		end
		return function(opts, fn)
			return (attach(name, opts, fn)) -- not whether the kernel adds up
		end
	end,
	__newindex = function(_, name)
		core.fail(tostring(name), ("write on.%s(function(e) ... end)"):format(tostring(name)))
	end,
})

local function target(opts)
	check.check("target", opts, "target")
	core.target(read_filter(opts, "target"))
end

local MAX_BUFFER = 1 << 30

-- One of the words that core.config knows.
local function word(key, what, known)
	return function(value)
		for _, name in ipairs(known) do
			if name == value then
				return core.config(key, value)
			end
		end
		check.unknown("config: unknown " .. what .. ":", value, known)
	end
end

local FIXED = {buffer = true, attach = true, sites = true}

local CONFIG = {
	buffer = function(value)
		local bytes = check.size(value, "buffer")
		if bytes > MAX_BUFFER then
			core.fail("buffer", "config: buffer is 1G at most")
		end
		core.config("buffer", bytes)
	end,
	capture = function(value)
		core.capture(math.min(check.size(value, "capture", 0xffffffff), 0xffffffff))
	end,
	attach = word("attach", "way to attach", {"auto", "sessions", "multi", "perf", "copies"}),
	sites = word("sites", "sites", {"auto", "symbol"}),
	time = word("time", "time", {"local", "utc", "relative"}),
	memory = function(value)
		core.config("memory", check.size(value, "memory"))
	end,
}

local function config(opts)
	check.check("config", opts, "config")
	for key, value in pairs(opts) do
		if core.started() and FIXED[key] then
			core.fail(key, ("config: %s is fixed once the run has started"):format(key))
		end
		CONFIG[key](value)
	end
end

local function exit(status)
	if status ~= nil and not (math.type(status) == "integer" and status >= 0 and status <= 255) then
		core.fail(nil, ("exit takes a status from 0 to 255, not %s"):format(tostring(status)))
	end
	core.exit(status or 0)
end

-- Modules come from the folders of -I and from the library in this program.
local function find_module(name)
	if not name:find("^[%w_][%w_.-]*$") then
		core.fail(name, ("require: '%s' cannot be a module's name"):format(name))
	end
	return core.find((name:gsub("%.", "/")))
end

local function require_module(name)
	local loaded = package.loaded
	if type(name) ~= "string" then
		core.fail(nil, ("require needs a name, not a %s"):format(type(name)))
	elseif loaded[name] ~= nil then
		return loaded[name]
	end
	local chunk = package.preload[name] or find_module(name)
	if not chunk then
		core.fail(name, ("there is no module '%s', neither in the library nor in a folder of -I"):format(
			name))
	end
	local value = chunk(name)
	if value ~= nil then
		loaded[name] = value
	elseif loaded[name] == nil then
		loaded[name] = true
	end
	return loaded[name]
end

-- coroutine.wrap over the coroutine.create that lets itself be interrupted.
local function wrap_coroutine(fn)
	local co = coroutine.create(fn)
	local function check_result(ok, ...)
		if not ok then
			error((...), 0)
		end
		return ...
	end
	return function(...)
		return check_result(coroutine.resume(co, ...))
	end
end

-- The library has globals of its own, so that scripts may use these names for what they like.
local function set_global(name, value)
	_G[name] = value
	_ENV[name] = value
end

coroutine.wrap = wrap_coroutine
if core.unsafe then
	table.insert(package.searchers, 2, function(name)
		return find_module(name) or ("no module '%s' in tlsscope"):format(name)
	end)
else
	set_global("require", require_module)
	io.stdout = out.file(out.put)
	io.stderr = out.file(core.write_error)
	io.write = function(...)
		return io.stdout:write(...)
	end
end

local host = {
	on = attach, event = handles.event, every = handles.every, after = handles.after, write = core.write,
	emit = out.emit, warn = out.warn, verbose = core.verbose, format = core.format,
	terminal = core.terminal, width = core.width(), text = core.text, now = core.now,
	check = check.check, fail = core.fail, sync = core.sync, on_cell = core.on_cell,
}

-- The next table takes this one's place, on a terminal that may be wider or narrower by now.
local function clear_screen()
	core.clear()
	host.width = core.width()
	require("format").set_output(host)
end

local globals = {
	on = on, target = target, config = config, options = options, every = handles.every,
	after = handles.after, print = out.print, printf = out.printf, emit = out.emit, warn = out.warn,
	hexdump = out.hexdump, escape = core.text.escape, human = core.text.human,
	duration = core.text.duration, json = core.text.json, clear_screen = clear_screen, color = core.color,
	exit = exit,
}
for name, value in pairs(globals) do
	set_global(name, value)
end
local aggregate = require("aggregate")(host)
local AGGREGATE_OWN = {print_all = true, all = true, forget = true}
for name, constructor in pairs(aggregate) do
	if not AGGREGATE_OWN[name] then
		set_global(name, constructor)
	end
end
set_global("stream", require("stream")(host))
require("secrets").shown = core.show_secrets
if core.har then
	handles.hide(require("har"){on = on, json = core.text.json, write = core.har, date = core.date})
end
_G.args = {}
check.guard_globals()

-- subs: of tls_close, the handlers that it concerns.
local function fire(name, event, subs)
	if name == "stop" and #handles.lists.stop == 0 then
		local ok, err = core.protect(aggregate.print_all)
		if not ok then
			core.failed()
			core.tell("error while printing the aggregations: ", err)
		end
	else
		handles.fire(name, event, subs)
	end
end

return {
	fire = fire, tick = handles.tick, failed = handles.failed, started = handles.started,
	lists = handles.lists, timers = handles.timers,
	repl = function(prompt)
		return part("repl", {
			host = prompt, check = check, handles = handles, out = out, aggregate = aggregate,
			event_names = event_names, probes = probes, target = target, config = config,
			filter_keys = FILTER_KEYS,
		})
	end,
	help = function(facts)
		return part("help", facts)
	end,
}
