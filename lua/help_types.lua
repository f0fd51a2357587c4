-- SPDX-License-Identifier: MIT
-- The table of the API for other programs: types for lua-language-server, names for luacheck.

-- The classes of the fields that events have, by kind.
local CLASSES = {
	{"field", "event"}, {"conn", "conn"}, {"proc", "proc"}, {"container", "container"},
	{"http_field", "http"}, {"http_message", "message"}, {"ws_field", "ws_message"},
	{"grpc_field", "grpc_call"},
}
local OPTIONS = {
	{"target", "target"}, {"option", "option"}, {"config", "config"},
	{"agg_option", "agg_option", "option"}, {"stream_option", "stream_option", "option"},
}
-- Types as the table says them -> as the editor knows them. What is not here stays as it is.
local TYPES = {
	conn = "tlsscope.conn", proc = "tlsscope.proc", container = "tlsscope.container", handle = "tlsscope.handle",
	message = "tlsscope.message", headers = "table<string|integer, any>", list = "any[]",
	method = "fun(self): table", table = "table",
}

return function(list, cli)
	local M, lines = {}, {}

	local function put(format, ...)
		lines[#lines + 1] = select("#", ...) > 0 and format:format(...) or format
	end

	local function types_of(text)
		if text:find("^function") then
			return "fun(...): any"
		end
		local words = {}
		for word in text:gmatch("[^|]+") do
			words[#words + 1] = TYPES[word] or word
		end
		return table.concat(words, "|")
	end

	local function each(kind)
		local i = 0
		return function()
			repeat
				i = i + 1
			until not list[i] or list[i].kind == kind
			return list[i]
		end
	end

	local function class(name, kind, parent, optional)
		put("")
		put("---@class tlsscope.%s%s", name, parent and ": tlsscope." .. parent or "")
		for entry in each(kind) do
			put("---@field %s%s %s %s", entry.name, optional and "?" or "", types_of(entry.type), entry.help)
		end
	end

	-- Parameters of "name(a[, b...])": {name, optional}; of "name{...}": one table.
	local function parameters(call)
		if call:find("^[%w_.:]+{") then
			return {{"t", false}}
		end
		local found, inside, optional = {}, call:match("%((.*)%)") or "", false
		if inside:find("[{}]") then
			inside = inside:gsub("%b{}", "opts")
		end
		for bracket, word in inside:gmatch("(%[?,?%s*%[?)([%w_.\"]+)") do
			optional = optional or bracket:find("[", 1, true) ~= nil
			word = word:gsub("[^%w_.]", "")
			word = word:find("%.%.%.") and "..." or word:match("^%d") and "time" or word
			found[#found + 1] = {word, optional}
		end
		return found
	end

	local function signature(name, call, help)
		local names = {}
		put("")
		put("---%s", help)
		for _, p in ipairs(parameters(call)) do
			put("---@param %s%s any", p[1], p[2] and p[1] ~= "..." and "?" or "")
			names[#names + 1] = p[1]
		end
		put("function %s(%s) end", name, table.concat(names, ", "))
	end

	local EVENTS = {ws_message = "ws_message", grpc_call = "grpc_call"}

	local function handlers()
		put("")
		put("---@class tlsscope.on")
		put("---@overload fun(name: string, opts_or_fn: table|function, fn?: function): tlsscope.handle")
		for _, kind in ipairs {"probe", "http", "event"} do
			for entry in each(kind) do
				local event = kind == "event" and "table" or "tlsscope."
					.. (kind == "probe" and "event" or EVENTS[entry.name] or "http")
				local handler = ("fun(e: %s)"):format(event)
				put("---@field %s fun(opts_or_fn: tlsscope.option|%s, fn?: %s): tlsscope.handle %s", entry.name,
					handler, handler, entry.help)
			end
		end
		put("on = {}")
	end

	local function methods(name, letter)
		put("")
		put("---@class tlsscope.%s", name)
		put("local %s = {}", name)
		for entry in each("method") do
			if entry.type:find("^" .. letter .. "[:.]") then
				if entry.type:find("^" .. letter .. "%.") then
					put("---%s", entry.help)
					put("%s.%s = {}", name, entry.name)
				else
					signature(name .. ":" .. entry.name, entry.type, entry.help)
				end
			end
		end
	end

	local function functions()
		for entry in each("aggregation") do
			put("")
			put("---%s", entry.help)
			put("---@param name string")
			put("---@param opts? tlsscope.agg_option")
			put("---@return tlsscope.aggregation")
			put("function %s(name, opts) end", entry.name)
		end
		for entry in each("function") do
			if entry.type:find(entry.name .. ".", 1, true) == 1 and entry.name ~= "on" then
				put("")
				put("%s = {}", entry.name)
				for call in entry.type:gmatch("[%w_]+%.[%w_]+%b()") do
					signature(call:match("^[^(]+"), call, entry.help)
				end
			elseif entry.name ~= "on" and entry.name ~= "print" then
				signature(entry.name, entry.type, entry.help)
			end
		end
	end

	function M.types()
		lines = {"---@meta", "-- What tlsscope's scripts see, for lua-language-server; made by `tlsscope help d.lua`."}
		for _, c in ipairs(CLASSES) do
			class(c[2], c[1])
		end
		for _, c in ipairs(OPTIONS) do
			class(c[2], c[1], c[3], true)
		end
		methods("handle", "h")
		methods("aggregation", "a")
		handlers()
		functions()
		put("")
		put("---The script's arguments.")
		put("---@type string[]")
		put("args = {}")
		return table.concat(lines, "\n")
	end

	function M.luacheckrc()
		local names = {'"args"'}
		for _, entry in ipairs(list) do
			if entry.kind == "function" or entry.kind == "aggregation" then
				names[#names + 1] = ("%q"):format(entry.name)
			end
		end
		return ('-- Made by `tlsscope help luacheckrc`.\nstd = "lua54"\nread_globals = {%s}'):format(
			table.concat(names, ", "))
	end

	return M, cli
end
