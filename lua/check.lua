-- SPDX-License-Identifier: MIT
-- Checks of what a script says: names against the one table of names (core/api.c), sizes, durations,
-- and globals. What is wrong is an error at the script's line, with the nearest right name.

local SIZES = {[""] = 1, K = 1 << 10, M = 1 << 20, G = 1 << 30}
local DURATIONS = {
	ns = 1, us = 1000, ms = 1000000, s = 1000000000, m = 60000000000, h = 3600000000000,
}
-- Kinds of options that those of a handler go along with.
local ALONG = {agg_option = "option", stream_option = "option"}

return function(core)
	local M, usual = {}, core.module("lua/usual.lua")()
	local cache = {}

	-- The names of a kind: as a set, and as a list.
	local function names(kind)
		if not cache[kind] then
			local set, list = core.api(kind)
			if ALONG[kind] then
				local more_set, more_list = core.api(ALONG[kind])
				for _, name in ipairs(more_list) do
					set[name] = more_set[name]
					list[#list + 1] = name
				end
			end
			cache[kind] = {set = set, list = list}
		end
		return cache[kind].set, cache[kind].list
	end
	M.names = names

	local function usual_name(name, list)
		for _, known in ipairs(list) do
			if known == usual[name] then
				return known
			end
		end
	end

	-- what: "unknown option of target"
	function M.unknown(what, name, list)
		local shown = tostring(name)
		local nearest = usual_name(shown, list) or core.nearest(shown, list)
		local hint = nearest and (", did you mean '%s'?"):format(nearest) or ""
		core.fail(shown, ("%s '%s'%s"):format(what, shown, hint))
	end

	-- Every key of opts must be a name of that kind.
	function M.check(kind, opts, where)
		local set, list = names(kind)
		if type(opts) ~= "table" then
			core.fail(nil, ("%s takes a table of options, not a %s"):format(where, type(opts)))
		end
		for key in pairs(opts) do
			if type(key) ~= "string" then
				core.fail(nil, ("%s takes named options, as in {%s = ...}"):format(where, list[1]))
			elseif not set[key] then
				M.unknown(("unknown %s of %s:"):format(kind == "field" and "field" or "option", where), key, list)
			end
		end
	end

	-- Bytes: 4096, "64K". all: what "all" stands for, or nil.
	function M.size(value, key, all)
		if value == "all" and all then
			return all
		end
		local number, unit = tostring(value):match("^(%d+)%.?0?([KMG]?)i?B?$")
		local bytes = number and #number < 13 and math.tointeger(number) * SIZES[unit]
		if not bytes then
			core.fail(key, ("%s must be a number of bytes, as in 4096 or \"64K\"%s; not %s"):format(key,
				all and " or \"all\"" or "", tostring(value)))
		end
		return bytes
	end

	-- Nanoseconds: "100ms", "1.5s"; a number is seconds.
	function M.duration(value, where)
		local number, unit
		if type(value) == "number" then
			number, unit = value, "s"
		elseif type(value) == "string" then
			number, unit = value:match("^(%d+%.?%d*)(%a+)$")
		end
		local ns = tonumber(number) and DURATIONS[unit] and tonumber(number) * DURATIONS[unit]
		if not ns or not (ns >= 0 and ns < 1e18) then
			core.fail(type(value) == "string" and value or nil,
				("%s needs a duration as \"100ms\", \"1s\" or \"5m\"; not %s"):format(where,
					tostring(value)))
		end
		return math.floor(ns)
	end

	local declared = {}

	-- A global of this name may be made anywhere.
	function M.declare(name)
		declared[name] = true
	end

	-- From now on a global must be made at the top level of a script or module, and be there when it is
	-- read: a typo is an error.
	function M.guard_globals()
		local getinfo = debug.getinfo
		local function all_names()
			local list = {}
			for name in next, _G do
				list[#list + 1] = type(name) == "string" and name or nil
			end
			table.sort(list)
			return list
		end
		setmetatable(_G, {
			__metatable = false,
			__newindex = function(t, name, value)
				local info = getinfo(2, "S")
				if not declared[name] and info and info.what == "Lua" then
					core.fail(tostring(name), ("global '%s' is made inside a function: write 'local %s', or "
						.. "give it a first value at the top level"):format(tostring(name), tostring(name)))
				end
				declared[name] = true
				rawset(t, name, value)
			end,
			__index = function(_, name)
				if not declared[name] then
					M.unknown("undefined global", name, all_names())
				end
			end,
		})
	end

	return M
end
