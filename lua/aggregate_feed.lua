-- SPDX-License-Identifier: MIT
-- Feeds aggregations from events.

local M = {}

-- Events of these names carry bytes, and have the fields of API_FIELD.
local BYTES = {"_read$", "_write$", "_data$", "_send$", "_recv$", "[*?%[]"}

local function has_bytes(from)
	for _, pattern in ipairs(BYTES) do
		if from:find(pattern) then
			return true
		end
	end
	return false
end

-- Durations are kept in whole nanoseconds: what is shown is the same, however they were added up.
local SCALES = {duration_us = 1000, duration_ms = 1000000}

-- The field that is read for a value, and its scale or nil.
function M.scale(from, value)
	if from and SCALES[value] and has_bytes(from) then
		return "duration_ns", SCALES[value]
	end
	return value
end

-- Completes the options of the handler that reads these fields (names and functions). Peeks are not
-- data; and bytes are not wanted, unless something may look at them.
function M.prepare(host, where, from, fields, opts)
	local wants_bytes = opts.where ~= nil
	for _, field in ipairs(fields) do
		if type(field) ~= "string" and type(field) ~= "function" then
			host.fail(nil, ("%s: a field is a name or a function, not a %s"):format(where, type(field)))
		end
		wants_bytes = wants_bytes or type(field) == "function" or field == "data"
		if has_bytes(from) and type(field) == "string" then
			host.check("field", {[field:match("^[^.]*")] = true}, where .. " (by, value)")
		end
	end
	if has_bytes(from) then
		opts.peek = false
		if opts.capture == nil and not wants_bytes then
			opts.capture = 0
		end
	end
end

-- Reads a field of an event: "pid", "conn.id", or by a function.
local function reader(what)
	if type(what) == "function" then
		return what
	end
	local first, rest = what:match("^([^.]+)%.(.+)$")
	if not first then
		return function(e)
			return e[what]
		end
	end
	local inner = reader(rest)
	return function(e)
		local v = e[first]
		if v ~= nil then
			return inner(v)
		end
	end
end

local function plain_field(what)
	return what == nil or (type(what) == "string" and not what:find(".", 1, true))
end

-- For any number of keys, by whatever functions.
local function general(self, by, value)
	local get, keys = reader(value), {}
	for i, field in ipairs(by) do
		keys[i] = reader(field)
	end
	return function(e)
		local parts = {}
		for i, key in ipairs(keys) do
			parts[i] = key(e)
		end
		if self.behaviour.plain then
			self:add(table.unpack(parts, 1, #keys))
		else
			self:add(get(e), table.unpack(parts, 1, #keys))
		end
	end
end

-- The handler that calls self:add(value, key...). What is usual, plain fields and at most two keys,
-- has functions of its own: that halves the time an event takes.
function M.handler(self, by, value)
	local k1, k2, add, counts = by[1], by[2], self.add, self.behaviour.plain
	if #by > 2 or not (plain_field(k1) and plain_field(k2) and plain_field(value)) then
		return general(self, by, value)
	elseif k2 then
		return counts and function(e)
			add(self, e[k1], e[k2])
		end or function(e)
			add(self, e[value], e[k1], e[k2])
		end
	elseif k1 then
		return counts and function(e)
			add(self, e[k1])
		end or function(e)
			add(self, e[value], e[k1])
		end
	end
	return counts and function()
		add(self)
	end or function(e)
		add(self, e[value])
	end
end

return M
