-- SPDX-License-Identifier: MIT
-- A host for the library without the tool: what it writes, warns and emits is kept; events are tables
-- that a test fires; the clock stands where a test puts it.

local stub = {}

local text = {}

function text.escape(v, keep_lines)
	if v == nil then
		return "-"
	end
	local named = {["\n"] = keep_lines and "\n" or "\\n", ["\\"] = keep_lines and "\\" or "\\\\"}
	return (tostring(v):gsub("[%c\\\x7f-\xff]", function(c)
		return named[c] or ("\\x%02x"):format(c:byte())
	end))
end

function text.human(n)
	if n < 1024 then
		return ("%.0f"):format(n)
	end
	local unit = 0
	while n >= 1024 do
		n = n / 1024
		unit = unit + 1
	end
	return ("%.1f%s"):format(n, ("KMGTPE"):sub(unit, unit))
end

function text.duration(ns)
	return ns < 1000 and ("%dns"):format(ns) or ns < 1e6 and ("%.2fus"):format(ns / 1e3)
		or ns < 1e9 and ("%.2fms"):format(ns / 1e6) or ("%.2fs"):format(ns / 1e9)
end

function text.hexdump(s)
	return "hex of " .. s
end

function text.base64(s)
	return "base64:" .. #s
end

function text.is_utf8(s)
	return utf8.len(s) ~= nil
end

local array = {}
text.json = setmetatable({
	base64 = text.base64,
	null = setmetatable({}, {__name = "null"}),
	array = function(t)
		return setmetatable(t, array)
	end,
}, {
	__call = function(json, v)
		local t = type(v)
		if v == nil or v == json.null or v ~= v or v == math.huge or v == -math.huge then
			return "null"
		elseif t == "string" then
			return '"' .. v:gsub('["\\]', "\\%0") .. '"'
		elseif t ~= "table" then
			return tostring(v)
		end
		local out = {}
		if getmetatable(v) == array or #v > 0 then
			for i, item in ipairs(v) do
				out[i] = json(item)
			end
			return "[" .. table.concat(out, ",") .. "]"
		end
		for k, item in pairs(v) do
			out[#out + 1] = json(tostring(k)) .. ":" .. json(item)
		end
		table.sort(out)
		return "{" .. table.concat(out, ",") .. "}"
	end,
})

-- Those of a handler.
local OPTIONS = {pid = true, comm = true, where = true, capture = true, peek = true, rate = true}

local Stub = {}
Stub.__index = Stub

-- A fresh host. Its functions are called without self, as the library does.
function stub.new(format)
	local self = setmetatable({
		format = format or "text", width = 80, terminal = false, text = text, out = {}, warnings = {},
		handlers = {}, timers = {}, clock = 0, emitted = {},
	}, Stub)
	function self.write(s)
		self.out[#self.out + 1] = s
	end
	function self.emit(t)
		self.emitted[#self.emitted + 1] = text.json(t)
	end
	function self.warn(s)
		self.warnings[#self.warnings + 1] = s
	end
	function self.fail(word, message)
		assert(word == nil or type(word) == "string")
		error(message, 0)
	end
	function self.now()
		return self.clock
	end
	function self.on(name, opts, fn)
		local handle = {name = name, opts = opts, fn = fn}
		table.insert(self.handlers, handle)
		return handle
	end
	self.event = self.on
	function self.after(interval, fn)
		table.insert(self.timers, {interval = interval, fn = fn})
	end
	function self.check(kind, opts, where)
		for name in pairs(opts) do
			if not (kind == "field" and (#name < 9 or name:find("^duration_.s$")) or OPTIONS[name]) then
				error(("unknown %s of %s: %s"):format(kind, where, name), 0)
			end
		end
	end
	return self
end

-- Runs a recipe with the globals that scripts have; options: what differs from its defaults. Its
-- timers are host.timers, its warnings host.warnings.
function Stub:recipe(path, options)
	local env = setmetatable({
		escape = text.escape, human = text.human, duration = text.duration, json = text.json,
	}, {__index = _G})
	env._G, env.args = env, {[0] = path}
	local function on(name, opts, fn)
		return self.on(name, fn and opts or {}, fn or opts)
	end
	env.on = setmetatable({}, {
		__call = function(_, ...)
			return on(...)
		end,
		__index = function(_, name)
			return function(opts, fn)
				return on(name, opts, fn)
			end
		end,
	})
	function env.options(spec)
		local out = {table.unpack(options or {})}
		for name, default in pairs(spec) do
			out[name] = options and options[name] or default[1]
		end
		return out
	end
	function env.print(...)
		self.write(table.concat({...}, "\t") .. "\n")
	end
	function env.printf(...)
		self.write(string.format(...))
	end
	function env.hexdump(data)
		env.print(text.hexdump(data))
	end
	function env.warn(...)
		self.warn(table.concat {...})
	end
	function env.exit(status)
		error({exit = status})
	end
	local own = {messages = true, requests = true, talks = true} -- those that use a script's globals
	local loaded = {}
	function env.require(name)
		if own[name] and not loaded[name] then
			loaded[name] = loadfile("lua/" .. name .. ".lua", "t", env)()
		end
		return loaded[name] or require(name)
	end
	function env.clear_screen()
		self.write("<clear>")
	end
	function env.color() end
	env.stream = require "stream"(self)
	env.emit, env.every, env.after = self.emit, self.after, self.after
	for name, constructor in pairs(require("aggregate")(self)) do
		env[name] = constructor
	end
	assert(loadfile(path, "t", env))()
end

-- Runs the handlers of that name. A handler with peek = false sees no peeks.
function Stub:fire(name, e)
	for _, h in ipairs(self.handlers) do
		local wanted = not (h.opts.peek == false and e.peeked) and (not h.opts.where or h.opts.where(e))
		if h.name == name and wanted then
			h.fn(e)
		end
	end
end

function Stub:run_timers()
	local due = self.timers
	self.timers = {}
	for _, timer in ipairs(due) do
		timer.fn()
	end
end

-- What was written since the last call.
function Stub:text_out()
	local s = table.concat(self.out)
	self.out = {}
	return s
end

function stub.equal(got, want)
	if got ~= want or math.type(got) ~= math.type(want) then
		error(("got:\n%s\nwant:\n%s"):format(tostring(got), tostring(want)), 2)
	end
end

function stub.fails(pattern, fn, ...)
	local ok, why = pcall(fn, ...)
	if ok or not tostring(why):find(pattern) then
		error(("got %s, want an error like %q"):format(ok and "no error" or tostring(why), pattern), 2)
	end
	return why
end

return stub
