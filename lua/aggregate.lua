-- SPDX-License-Identifier: MIT
-- Aggregations: count sum avg min max stats hist lhist tseries, as constructors (name[, opts]).
--
--   from      event that feeds it; other options of a handler go along (comm, where, ...)
--   by        the key: a field, a list of fields ("conn.id" too), or functions of the event
--   value     the field that is added; "len" by default. Or a function of the event
--   max_keys  keys that are kept, 10000 by default; further ones are added up as "(other)"
--   unit      "bytes", "ns", "us", "ms", "s": how values are shown
--   title, top, sort   defaults of print
--   lhist: min, max, step; tseries: interval ("1s"), buckets (60)
--
--   a:add(value, key...)   count: a:add(key...). The first add decides how many keys there are,
--                          where `by` does not. A value that is nil, nan or infinite is skipped, and
--                          counted as such; a key that is nil is a key (shown as -)
--   a:get(key...)          the value, or nil
--   a:pairs()              iterates key..., value in the order of keys; a nil key is a.none
--   a:top([n[, sort]])     list of {key = {...}, value =}, largest first
--   a:quantile(q, key...)  of hist and lhist, 0 <= q <= 1; of stats 0 and 1
--   a:drain()              a copy with all there is, which a forgets
--   a:clear() a:delete(key...)
--   a:print{top=, sort=, title=, unit=}   sort: "value", "key", or a column's name
--   a.other a.skipped      value of "(other)" or nil; how many values were skipped

local feed = require "aggregate_feed"
local format = require "format"
local kernel = require "aggregate_kernel"
local kinds = require "aggregate_kinds"
local report = require "aggregate_report"

local MAX_KEYS = 10000
local OWN = {
	"from", "by", "value", "max_keys", "unit", "title", "top", "sort", "min", "max", "step",
	"interval", "buckets",
}
-- Stands for a key that is nil, which a Lua table cannot hold.
local none = setmetatable({}, {
	__name = "none",
	__tostring = function()
		return "-"
	end,
})

-- The state of an aggregation: cells (tables in tables, one level a key;
-- where there are no keys, the one key none), arity (how many keys; nil
-- while unknown), size (keys kept), rest (the cell of "(other)"), behaviour (see aggregate_kinds), and what it
-- was made with. Invariant: `cells` is the same table for ever, as closures hold it. kernel: where it
-- has a number, the kernel adds up what it is fed with, and `sync` takes that over.
local methods = {none = none}
local meta = {__name = "aggregation"}

local huge = math.huge

-- Before anything is looked at or taken out.
local function sync(self)
	if self.kernel then
		self.host.sync()
	end
end

function meta:__index(name)
	if name == "other" then
		sync(self)
		local rest = rawget(self, "rest")
		return rest and self.behaviour.read(rest)
	end
	return methods[name]
end

function meta:__tostring()
	return ("%s %q"):format(self.kind, self.name)
end

-- An error in the script's line that called in here; word: what in it is wrong, if one word is.
local function fail(self, message, word)
	self.host.fail(word, ("%s: %s"):format(tostring(self), message))
end

local TYPES = {boolean = true, number = true, string = true}

local function key_part(self, k)
	if k == nil or k == none then
		return none
	elseif k ~= k then
		return "nan"
	elseif not TYPES[type(k)] then
		fail(self, ("a %s cannot be a key; take one of its fields"):format(type(k)))
	end
	return k
end

-- The table that holds the cell of these keys, and its index there. make: missing tables are made;
-- otherwise there may be none.
local function find(self, keys, make)
	local node = self.cells
	for i = 1, self.arity - 1 do
		local k = key_part(self, keys[i])
		if not node[k] then
			if not make then
				return nil
			end
			node[k] = {}
		end
		node = node[k]
	end
	return node, self.arity == 0 and none or key_part(self, keys[self.arity])
end

-- The table that holds the cell of these keys, be it new, and its index there; nil: there is no room
-- for another key.
local function place(self, keys)
	local node, last = find(self, keys)
	if node and node[last] then
		return node, last
	elseif self.size < self.max_keys then
		self.size = self.size + 1
		return find(self, keys, true)
	elseif not self.rest then
		self.host.warn(("%s has more than %d keys: further ones are added up as (other); "
			.. "the option max_keys allows more"):format(tostring(self), self.max_keys))
	end
end

-- Adds in every case; what is usual goes the faster way of make_add.
local function add_any(self, value, keys)
	if value == nil or (type(value) == "number" and value - value ~= 0) then
		self.skipped = self.skipped + 1
		return
	elseif type(value) ~= "number" then
		fail(self, ("a value must be a number, not a %s"):format(type(value)))
	end
	local node, last = place(self, keys)
	if not node then
		self.rest = self.behaviour.step(self.rest, value)
		return
	end
	node[last] = self.behaviour.step(node[last], value)
end

-- Adds what the kernel added up under a key.
local function merge(self, keys, ...)
	local node, last = place(self, keys)
	if not node then
		self.rest = self.behaviour.merge(self.rest, ...)
		return
	end
	node[last] = self.behaviour.merge(node[last], ...)
end

-- The method add, once it is known how many keys there are. It runs for every event: what is usual,
-- one or two keys that are there already, does not leave it.
local function make_add(self)
	local cells, step, arity, plain = self.cells, self.behaviour.step, self.arity, self.behaviour.plain
	local function slowly(called, n, value, ...)
		if called ~= self then
			fail(self, "call it with a colon: a:add(...)")
		elseif n > arity then
			fail(self, ("add got %d keys; it has %d"):format(n, arity))
		end
		add_any(self, value, {...})
	end
	if arity == 1 and plain then
		return function(called, k, extra)
			local old = cells[k]
			if old and called == self and extra == nil then
				cells[k] = step(old, 1)
				return
			end
			slowly(called, extra == nil and 1 or 2, 1, k)
		end
	elseif arity == 1 and self.kind == "sum" then
		return function(called, value, k, extra)
			local old = cells[k]
			if old and value and called == self and extra == nil then
				local new = old + value
				if value >= 0 and new >= old and new < huge then
					cells[k] = new
					return
				end
			end
			slowly(called, extra == nil and 1 or 2, value, k)
		end
	elseif arity == 1 then
		return function(called, value, k, extra)
			local old = cells[k]
			if old and value and value - value == 0 and called == self and extra == nil then
				cells[k] = step(old, value)
				return
			end
			slowly(called, extra == nil and 1 or 2, value, k)
		end
	elseif arity == 2 and not plain then
		return function(called, value, k1, k2, extra)
			local inner = cells[k1]
			local old = inner and inner[k2]
			if old and value and value - value == 0 and called == self and extra == nil then
				inner[k2] = step(old, value)
				return
			end
			slowly(called, extra == nil and 2 or 3, value, k1, k2)
		end
	elseif plain then
		return function(called, ...)
			slowly(called, select("#", ...), 1, ...)
		end
	end
	return function(called, ...)
		slowly(called, select("#", ...) - 1, ...)
	end
end

local function set_arity(self, arity)
	self.arity = arity
	self.add = make_add(self)
end

-- The first add says how many keys there are.
function methods:add(...)
	if self.drained then
		fail(self, "a drained copy cannot be added to")
	end
	local n = select("#", ...) - (self.behaviour.plain and 0 or 1)
	if n < 0 then
		fail(self, "add needs a value")
	end
	set_arity(self, n)
	self:add(...)
end

function methods:get(...)
	sync(self)
	if not self.arity then
		return nil
	end
	local node, last = find(self, {...})
	local cell = node and node[last]
	return cell and self.behaviour.read(cell)
end

function methods:pairs()
	sync(self)
	local rows, i = report.rows(self, "key"), 0
	return function()
		i = i + 1
		if rows[i] then
			local out = {table.unpack(rows[i].key)}
			out[#out + 1] = self.behaviour.read(rows[i].cell)
			return table.unpack(out)
		end
	end
end

function methods:top(n, sort)
	sync(self)
	local list = {}
	for i, row in ipairs(report.rows(self, sort)) do
		if n and i > n then
			break
		end
		list[i] = {key = row.key, value = self.behaviour.read(row.cell)}
	end
	return list
end

function methods:quantile(q, ...)
	if type(q) ~= "number" or not (q >= 0 and q <= 1) then
		fail(self, "quantile needs a number from 0 to 1")
	elseif not self.behaviour.quantile then
		fail(self, "keeps no distribution; take a hist")
	end
	sync(self)
	local node, last
	if self.arity then
		node, last = find(self, {...})
	end
	local cell = node and node[last]
	local value = cell and self.behaviour.quantile(cell, q)
	if cell and not value then
		fail(self, "knows only the smallest (0) and the largest (1); take a hist")
	end
	return value
end

function methods:clear()
	sync(self)
	for k in next, self.cells do
		self.cells[k] = nil
	end
	self.size, self.skipped, self.rest = 0, 0, nil
end

function methods:drain()
	sync(self)
	local copy = {}
	for k, v in next, self do
		copy[k] = v
	end
	copy.add, copy.handle, copy.kernel, copy.drained, copy.cells = nil, nil, nil, true, {}
	for k, v in next, self.cells do
		copy.cells[k] = v
	end
	self:clear()
	return setmetatable(copy, meta)
end

-- Removes a key; tables that are left empty too.
local function remove(node, keys, i, arity)
	local k = (keys[i] == nil or arity == 0) and none or keys[i]
	local inner = node[k]
	if i >= arity then
		node[k] = nil
		return inner ~= nil
	end
	local found = inner and remove(inner, keys, i + 1, arity)
	if found and not next(inner) then
		node[k] = nil
	end
	return found
end

function methods:delete(...)
	sync(self)
	if self.arity and remove(self.cells, {...}, 1, self.arity) then
		self.size = self.size - 1
	end
end

function methods:print(opts)
	sync(self)
	report.print(self, opts or {})
end

-- Splits the options: those that are ours, and those of a handler.
local function split(opts)
	local own, rest = {}, {}
	for k, v in pairs(opts) do
		rest[k] = v
	end
	for _, name in ipairs(OWN) do
		own[name], rest[name] = rest[name], nil
	end
	return own, rest
end

local function construct(host, kind, name, opts)
	local self = setmetatable({host = host, kind = kind, name = name, cells = {}}, meta)
	if type(name) ~= "string" then
		host.fail(kind, ('%s needs a name: %s("name"[, {options}])'):format(kind, kind))
	elseif opts ~= nil and type(opts) ~= "table" then
		fail(self, "options must be a table")
	end
	local own, rest = split(opts or {})
	local by = type(own.by) == "table" and own.by or {own.by}
	self.by = own.by and by
	self.max_keys = own.max_keys or MAX_KEYS
	if math.type(self.max_keys) ~= "integer" or self.max_keys < 1 then
		fail(self, "max_keys must be an integer above 0", "max_keys")
	end
	local value
	value, own.scale = feed.scale(own.from, own.value or "len")
	self.behaviour = kinds[kind](own, function(message, word)
		fail(self, message, word)
	end, host.now)
	self.defaults = {unit = own.unit, title = own.title, top = own.top, sort = own.sort}
	report.check(self, self.defaults)
	self:clear()
	host.check("agg_option", rest, tostring(self))
	if own.from then
		set_arity(self, #by)
		feed.prepare(host, tostring(self), own.from, {value, table.unpack(by)}, rest)
		self.handle, self.kernel = host.on(own.from, rest,
			feed.handler(self, by, value),
			kernel.plan(self, own, by, value, rest))
		if self.kernel then
			kernel.fed[self.kernel] = self
		end
	elseif next(rest) ~= nil then
		local unused = tostring((next(rest)))
		fail(self, ('the option "%s" needs from='):format(unused), unused)
	elseif own.by then
		set_arity(self, #by)
	end
	return self
end

return function(host)
	format.set_output(host)
	kernel.open(host, merge)
	local all, named = {}, {}
	local library = {}
	for kind in pairs(kinds) do
		library[kind] = function(name, opts)
			local self = construct(host, kind, name, opts)
			if named[name] then
				fail(self, "there is an aggregation of this name already", name)
			end
			named[name] = true
			all[#all + 1] = self
			return self
		end
	end

	function library.print_all()
		for i, self in ipairs(all) do
			if i > 1 and host.format == "text" then
				host.write("\n")
			end
			self:print()
		end
	end

	-- For the prompt: all there are, and to forget one.
	function library.all()
		return all
	end

	function library.forget(self)
		for i, other in ipairs(all) do
			if other == self then
				table.remove(all, i)
				named[self.name] = nil
				kernel.fed[self.kernel or 0] = nil
			end
		end
	end

	return library
end
