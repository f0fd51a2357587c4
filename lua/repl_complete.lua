-- SPDX-License-Identifier: MIT
-- TAB: what can follow, by where the cursor stands. Looks at names and tables, and runs nothing of the
-- user's: no metamethod, no function.

local KEYWORDS = {
	"and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local",
	"nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
}
-- Which keys a table takes, by the call that it stands in.
local TABLE_OF = {target = {"target"}, config = {"config"}, stream = {"stream_option", "option"}}
local VALUES = {
	attach = {"auto", "sessions", "multi", "perf", "copies"}, time = {"local", "utc"}, capture = {"all"},
	unit = {"bytes", "ns", "us", "ms", "s"}, dir = {"in", "out"}, sort = {"value", "key"},
}
local BOOLEAN = {errors = true, peek = true}
local FIELDS = {by = true, value = true}
local TIMES = {"100ms", "1s", "10s", "1m"}
local EVENT_NAME = {from = true}

return function(_, parts, repl, pending)
	local host = parts.host
	local kinds, types = {}, {} -- names by kind, in the order of the API; types of names by kind

	for _, entry in ipairs(host.describe()) do
		kinds[entry.kind] = kinds[entry.kind] or {}
		types[entry.kind] = types[entry.kind] or {}
		table.insert(kinds[entry.kind], entry.name)
		types[entry.kind][entry.name] = entry.type
	end
	local FIELDS_OF = types.http -- events whose fields are of a kind of their own
	local METHODS = {h = {}, a = {}} -- of a handle, of an aggregation
	for _, name in ipairs(kinds.method) do
		table.insert(METHODS[types.method[name]:sub(1, 1)], name)
	end
	for _, name in ipairs(kinds.aggregation) do
		TABLE_OF[name] = {"agg_option", "option"}
	end

	-- Adds names to a list of matches {text[, shown]}; before and after stand around each.
	local function add(list, names, before, after)
		for _, name in ipairs(names) do
			list[#list + 1] = {(before or "") .. name .. (after or "")}
		end
		return list
	end

	local function processes(with_lib)
		local list = {}
		for _, p in ipairs(host.processes(with_lib)) do
			list[#list + 1] = {tostring(p.pid), ("%d %s"):format(p.pid, p.comm)}
		end
		return list
	end

	-- A field of processes, each value once.
	local function values_of(field, with_lib)
		local seen, list = {}, {}
		for _, p in ipairs(host.processes(with_lib)) do
			for value in tostring(p[field]):gmatch(field == "libs" and "%S+" or ".+") do
				if not seen[value] then
					seen[value] = true
					list[#list + 1] = value
				end
			end
		end
		table.sort(list)
		return add({}, list)
	end

	-- What stands before the cursor: an open string's quote, and the brackets that are open, from the
	-- innermost: {sign =, before =} with the text before each.
	local function context(text)
		local open, quote, from, at = {}, nil, 1, 1
		while at <= #text do
			local c = text:sub(at, at)
			if quote then
				if c == "\\" then
					at = at + 1
				elseif c == quote then
					quote = nil
				end
			elseif c == '"' or c == "'" then
				quote, from = c, at
			elseif c:find("[({[]") then
				table.insert(open, 1, {sign = c, before = text:sub(1, at - 1)})
			elseif c:find("[%)}%]]") then
				table.remove(open, 1)
			end
			at = at + 1
		end
		return quote and text:sub(1, from - 1), open
	end

	-- The key whose value is being typed, if there is one: key = , key = {a, b, .
	local function key_of(before, open)
		local key = before:match("([%a_][%w_]*)%s*=%s*$") or before:match("([%a_][%w_]*)%s*[=~]=%s*$")
		if not key and open[1] and open[1].sign == "{" then
			key = open[1].before:match("([%a_][%w_]*)%s*=%s*$")
		end
		return key
	end

	local function string_values(before, open)
		local key = key_of(before, open)
		local call = before:match("([%a_][%w_]*)%s*%(?%s*$")
		if key == "comm" then
			return values_of("comm")
		elseif key == "lib" then
			return values_of("libs", true)
		elseif key == "container" then
			return values_of("container")
		elseif EVENT_NAME[key] or call == "on" then
			return add({}, parts.event_names)
		elseif FIELDS[key] then
			return add(add({}, kinds.field), kinds.conn, "conn.")
		elseif VALUES[key] then
			return add({}, VALUES[key])
		elseif call == "every" or call == "after" then
			return add({}, TIMES)
		end
		return nil -- files
	end

	-- The keys of the table that the cursor stands in, or nil.
	local function keys_here(open)
		if not open[1] or open[1].sign ~= "{" then
			return nil
		end
		local before = open[1].before
		if before:find("exclude%s*=%s*$") then
			return add({}, parts.filter_keys, nil, " = ")
		end
		local call = before:match("([%a_][%w_]*)%s*%(?%s*$") or before:match("([%a_][%w_]*)%s*%(%s*[\"'][^\"']*[\"']%s*,%s*$")
		local event = before:match("on%.([%a_][%w_]*)%s*%(?%s*$") or before:match("on%s*%(%s*[\"'][^\"']*[\"']%s*,%s*$")
		local tables = event and {"option"} or TABLE_OF[call]
		if not tables then
			return nil
		end
		local list = {}
		for _, kind in ipairs(tables) do
			add(list, kinds[kind], nil, " = ")
		end
		return list
	end

	-- The event whose handler has a parameter of this name, innermost first; "" for one of a probe.
	local function event_of(name, text)
		local found
		for event, parameter in text:gmatch("on%.([%a_][%w_]*)[^\n]-function%s*%(%s*([%a_][%w_]*)") do
			if parameter == name then
				found = event
			end
		end
		if not found and text:find("function%s*%(%s*" .. name .. "%s*[,)]") then
			found = ""
		end
		return found
	end

	local function event_fields(event)
		if FIELDS_OF[event] then
			return kinds[repl.field_kind(event)]
		elseif types.event[event] then
			local list = {}
			for field in types.event[event]:gmatch("%S+") do
				list[#list + 1] = field
			end
			return list
		end
		return kinds.field
	end

	-- What x.y.z can go on with: path is {"x", "y"}.
	local function members(path, text)
		if path[1] == "on" and not path[2] then
			return parts.event_names
		end
		local event = event_of(path[1], text)
		if event and not path[2] then
			return event_fields(event)
		elseif event and (path[2] == "conn" or path[2] == "proc") and not path[3] then
			return kinds[path[2]]
		elseif event and path[2] == "proc" and path[3] == "container" then
			return kinds.container
		elseif FIELDS_OF[event] and (path[2] == "request" or path[2] == "response") then
			return path[3] and {} or kinds.http_message
		end
		local value, names = repl.get(path[1]), {}
		for i = 2, #path do
			value = type(value) == "table" and rawget(value, path[i]) or nil
		end
		if type(value) == "string" then
			value = string
		end
		for key in next, type(value) == "table" and value or {} do
			names[#names + 1] = type(key) == "string" and key:find("^[%a_][%w_]*$") and key or nil
		end
		table.sort(names)
		return names
	end

	local function after_dot(word, text)
		local before, sign = word:match("^(.*)([.:])[%w_]*$")
		local path = {}
		for name in before:gmatch("[^.:]+") do
			path[#path + 1] = name
		end
		local value = repl.get(path[1])
		local own = type(value) == "table" and not event_of(path[1], text)
		if own and not path[2] and (parts.handles.state(value) or rawget(value, "behaviour")) then
			return add({}, METHODS[parts.handles.state(value) and "h" or "a"], before .. sign)
		end
		return add({}, members(path, text), before .. sign)
	end

	local function names()
		local list, seen = {}, {}
		local function take(name)
			if type(name) == "string" and not seen[name] then
				seen[name] = true
				list[#list + 1] = name
			end
		end
		for _, from in ipairs {repl.cells, _G} do
			for name in next, from do
				take(name)
			end
		end
		for _, name in ipairs(KEYWORDS) do
			take(name)
		end
		table.sort(list)
		return add({}, list)
	end

	local ARGUMENTS = {
		help = function()
			local list = {}
			local seen = {}
			for _, kind in ipairs {"probe", "http", "event", "function", "aggregation", "field", "http_field",
				"option"} do
				for _, name in ipairs(kinds[kind]) do
					list[#list + 1] = not seen[name] and {name} or nil
					seen[name] = true
				end
			end
			return list
		end,
		load = function(word)
			local list = {}
			for _, recipe in ipairs(host.recipes()) do
				if recipe[1]:sub(1, #word) == word then
					list[#list + 1] = {recipe[1], ("%s: %s"):format(recipe[1], recipe[2])}
				end
			end
			return #list > 0 and list or nil -- files
		end,
		set = function()
			return add(add({}, kinds.config), {"depth", "items", "bytes"})
		end,
		show = function()
			local list = {}
			for _, aggregation in ipairs(parts.aggregate.all()) do
				list[#list + 1] = {aggregation.name}
			end
			return list
		end,
	}
	local function numbers()
		local list = {}
		for _, h in ipairs(parts.handles.live()) do
			local state = parts.handles.state(h)
			list[#list + 1] = {tostring(state.number), ("%d %s"):format(state.number, state.name)}
		end
		return list
	end
	ARGUMENTS.off, ARGUMENTS.pause, ARGUMENTS.resume = numbers, numbers, numbers
	ARGUMENTS.probes = function()
		return add({}, parts.event_names)
	end
	ARGUMENTS.libs = function()
		return values_of("libs", true)
	end
	for _, name in ipairs {"on", "last", "hex", "targets", "ps", "stats", "quit"} do
		ARGUMENTS[name] = function()
			return {}
		end
	end
	-- What follows a first argument; nothing where it is not here.
	local FURTHER = {}
	function FURTHER.set(key)
		return add({}, VALUES[key] or {})
	end
	function FURTHER.load()
		return nil -- files
	end
	FURTHER.run = FURTHER.load

	local function lua(text)
		local before, open = context(text)
		if before then
			return string_values(before, open)
		end
		local word = text:match("[%w_.:]*$")
		local head = text:sub(1, #text - #word)
		local key = key_of(head, open)
		if word:find("[.:]") and word:find("^[%a_]") then
			return after_dot(word, text)
		elseif key == "pid" then
			return processes(true)
		elseif key == "uid" then
			return values_of("uid")
		elseif BOOLEAN[key] then
			return add({}, {"true", "false"})
		elseif VALUES[key] or EVENT_NAME[key] or key == "comm" or key == "exe" or key == "lib" or key == "container" then
			-- These are strings: the quote comes first.
			return {{'"'}}
		end
		return head:find("[{,]%s*$") and keys_here(open) or names()
	end

	local function command(text)
		local name, rest = text:match("^%s*%.(%a*)(.*)$")
		if rest == "" then
			local list = {}
			for _, entry in ipairs(repl.commands) do
				list[#list + 1] = {"." .. entry[1]}
			end
			return list
		end
		local first = rest:match("^%s+(%S+)%s")
		if name == "watch" then
			return first and lua(rest:match("^%s+%S+%s+(.*)$")) or add({}, TIMES)
		elseif first then
			return (FURTHER[name] or ARGUMENTS.quit)(first)
		end
		return ARGUMENTS[name] and ARGUMENTS[name](rest:match("%S*$"))
	end

	-- What can follow `text`, the line up to the cursor: list of {text[, shown]}; nil: names of files.
	return function(text)
		if text:find("^%s*%.%a*") and not pending() then
			return command(text)
		end
		local begun = pending()
		return lua(begun and begun .. "\n" .. text or text)
	end
end
