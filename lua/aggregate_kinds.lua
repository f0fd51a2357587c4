-- SPDX-License-Identifier: MIT
-- What an aggregation keeps under a key (a cell) and how a value is added to it. Each function here
-- makes the behaviour of one aggregation from its options:
--   plain             add takes no value: it counts
--   step(cell, v)     returns the new cell; cell is nil at first
--   read(cell)        what get() gives: a copy where it is a table
--   sorts             by what rows can be sorted: functions from cell to number; "value" is there
--   fields(cell)      what JSON shows
--   columns, cells    titles of a table, and a row's values in their order
--   draw(cell, show)  instead of columns: bars, a list of {label, number}
--   quantile(cell, q) where it can be told
--   merge(cell, bucket, count, sum, min, max)   returns the new cell, with what others have added up;
--                     bucket: of histograms, the one that all of it is in
-- opts.scale: values are whole, and shown as so many parts: ns as us. What cells hold is exact.

local format = require "format"

local M = {}

-- An integer sum that leaves the 64 bits goes on as a float: less exact, never wrapped.
local function plus(a, b)
	local s = a + b
	if (s < a) == (b < 0) then
		return s
	end
	return a + 0.0 + b
end

local function same(cell)
	return cell
end

-- The same behaviour, to which cells show themselves in a larger unit.
local function scaled(kind, scale)
	if not scale then
		return kind
	end
	local function view(cell)
		if type(cell) == "number" then
			return cell / scale
		end
		return {
			count = cell.count, sum = cell.sum / scale, min = cell.min / scale, max = cell.max / scale,
			buckets = cell.buckets,
		}
	end
	local out, by = {}, {}
	for name, value in pairs(kind) do
		out[name] = value
	end
	for _, name in ipairs {"read", "fields", "cells", "draw", "quantile"} do
		local show = kind[name]
		out[name] = show and function(cell, ...)
			return show(view(cell), ...)
		end
	end
	for name, order in pairs(kind.sorts) do
		by[name] = function(cell)
			return order(view(cell))
		end
	end
	out.sorts = by
	return out
end

-- A cell that is one number.
local function number_kind(name, plain, step, merge)
	local kind = {
		plain = plain,
		step = step,
		merge = merge,
		read = same,
		sorts = {value = same, [name] = same},
		fields = function(cell)
			return {value = cell}
		end,
		columns = {name},
		cells = function(cell)
			return {cell}
		end,
	}
	M[name] = function(opts)
		return scaled(kind, not plain and opts.scale)
	end
end

local function add(cell, v)
	return cell and plus(cell, v) or v
end
local function smaller(cell, v)
	return (not cell or v < cell) and v or cell
end
local function larger(cell, v)
	return (not cell or v > cell) and v or cell
end

number_kind("count", true, function(cell)
	return (cell or 0) + 1
end, function(cell, _, count)
	return (cell or 0) + count
end)
number_kind("sum", false, add, function(cell, _, _, sum)
	return add(cell, sum)
end)
number_kind("min", false, smaller, function(cell, _, _, _, min)
	return smaller(cell, min)
end)
number_kind("max", false, larger, function(cell, _, _, _, _, max)
	return larger(cell, max)
end)

local function gather(cell, v)
	if not cell then
		return {count = 1, sum = v, min = v, max = v}
	end
	cell.count = cell.count + 1
	cell.sum = plus(cell.sum, v)
	if v < cell.min then
		cell.min = v
	end
	if v > cell.max then
		cell.max = v
	end
	return cell
end

local function gather_part(cell, _, count, sum, min, max)
	if not cell then
		return {count = count, sum = sum, min = min, max = max}
	end
	cell.count = cell.count + count
	cell.sum = plus(cell.sum, sum)
	cell.min, cell.max = smaller(cell.min, min), larger(cell.max, max)
	return cell
end

local function mean(cell)
	return cell.sum / cell.count
end

local function summary(cell)
	return {count = cell.count, sum = cell.sum, avg = mean(cell), min = cell.min, max = cell.max}
end

-- What cells made by gather can be sorted by.
local function sorts(default)
	local by = {avg = mean}
	for _, name in ipairs {"count", "sum", "min", "max"} do
		by[name] = function(cell)
			return cell[name]
		end
	end
	by.value = by[default]
	return by
end

function M.avg(opts)
	return scaled({
		step = gather,
		merge = gather_part,
		read = mean,
		sorts = sorts("avg"),
		fields = function(cell)
			return {count = cell.count, value = mean(cell)}
		end,
		columns = {"count", "avg"},
		cells = function(cell)
			return {cell.count, mean(cell)}
		end,
	}, opts.scale)
end

function M.stats(opts)
	return scaled({
		step = gather,
		merge = gather_part,
		read = summary,
		sorts = sorts("count"),
		fields = summary,
		columns = {"count", "avg", "min", "max", "sum"},
		cells = function(cell)
			return {cell.count, mean(cell), cell.min, cell.max, cell.sum}
		end,
		quantile = function(cell, q)
			return q == 0 and cell.min or q == 1 and cell.max or nil
		end,
	}, opts.scale)
end

-- Histograms. A cell is gather's, with `buckets`: counts by the bucket's number. `bucket(v)` gives
-- the number, `range(number)` its edges: low <= v < high, -inf and inf where it is open.

-- From the lowest to the highest bucket that has something, those between them too.
local function ranges(cell, range)
	local list, low, high = {}, math.huge, -math.huge
	for number in pairs(cell.buckets) do
		low, high = math.min(low, number), math.max(high, number)
	end
	for number = low, high do
		local from, to = range(number)
		list[#list + 1] = {low = from, high = to, count = cell.buckets[number] or 0}
	end
	return list
end

local function label(r, whole)
	if r.low == -math.huge then
		return ("(..., %s)"):format(format.edge(r.high))
	elseif r.high == math.huge then
		return ("[%s, ...)"):format(format.edge(r.low))
	elseif whole and r.high - r.low == 1 then
		return ("[%s]"):format(format.edge(r.low))
	end
	return ("[%s, %s)"):format(format.edge(r.low), format.edge(r.high))
end

-- More than this many empty buckets in a row are shown as one line.
local EMPTY_RUN = 4

local function draw_ranges(cell, range)
	local rows, empty = {}, 0
	-- A sum that is an integer was made of integers only.
	local whole = math.type(cell.sum) == "integer"
	for _, r in ipairs(ranges(cell, range)) do
		empty = r.count == 0 and empty + 1 or 0
		if empty <= EMPTY_RUN then
			rows[#rows + 1] = {label(r, whole), r.count}
		elseif empty == EMPTY_RUN + 1 then
			for i = #rows, #rows - EMPTY_RUN + 2, -1 do
				rows[i] = nil
			end
			rows[#rows] = {"...", 0}
		end
	end
	return rows
end

-- The value below which the fraction q of all lies, as if a bucket's were spread evenly in it.
local function quantile(cell, q, range)
	local rank, below = q * cell.count, 0
	for _, r in ipairs(ranges(cell, range)) do
		if r.count > 0 and below + r.count >= rank then
			local low, high = math.max(r.low, cell.min), math.min(r.high, cell.max)
			return low + (high - low) * (rank - below) / r.count
		end
		below = below + r.count
	end
	return cell.max
end

-- scale: of what is shown; bucket() takes what is kept.
local function histogram(bucket, range, scale)
	local function fields(cell)
		local out = summary(cell)
		out.buckets = ranges(cell, range)
		return out
	end
	return scaled({
		step = function(cell, v)
			if not cell then
				cell = {count = 0, sum = 0, min = v, max = v, buckets = {}}
			end
			local buckets, number = cell.buckets, bucket(v)
			buckets[number] = (buckets[number] or 0) + 1
			return gather(cell, v)
		end,
		merge = function(cell, number, count, ...)
			local buckets = cell and cell.buckets or {}
			buckets[number] = (buckets[number] or 0) + count
			cell = gather_part(cell, number, count, ...)
			cell.buckets = buckets
			return cell
		end,
		read = fields,
		sorts = sorts("count"),
		fields = fields,
		draw = function(cell)
			return draw_ranges(cell, range)
		end,
		quantile = function(cell, q)
			return quantile(cell, q, range)
		end,
	}, scale)
end

-- Bits that a whole number from 0 on needs.
local BITS = {[0] = 0}
for i = 1, 255 do
	BITS[i] = BITS[i >> 1] + 1
end
local function bits(v)
	local n = 0
	while v > 255 do
		v = v >> 8
		n = n + 8
	end
	return n + BITS[v]
end

-- Powers of two: 0 is [0, 1), 1 is [1, 2), 2 is [2, 4), ...; -1 is [-1, 0), -2 is [-2, -1), -3 is
-- [-4, -2), ...
local function power_bucket(v)
	if v >= 0 and v < 2^53 then
		return bits(v // 1)
	end
	local doubled = 0
	if math.type(v) == "float" then
		while v >= 2^62 or v < -2^62 do
			v = v / 2
			doubled = doubled + 1
		end
		v = math.floor(v)
	end
	if v < 0 then
		-- -4 is the first of its bucket where 4 is: one less has the bits wanted.
		return v == -1 and -1 or -bits(-(v + 1)) - 1 - doubled
	end
	return bits(v) + doubled
end

local function power(n)
	return n < 63 and 1 << n or 2.0 ^ n
end

local function power_range(number)
	if number == 0 or number == -1 then
		return number, number + 1
	elseif number > 0 then
		return power(number - 1), power(number)
	end
	return -power(-number - 1), -power(-number - 2)
end

function M.hist(opts)
	local scale = opts.scale
	return histogram(scale and function(v)
		return power_bucket(v // scale)
	end or power_bucket, power_range, scale)
end

local STEPS = 1000

local function exact(n)
	return math.type(n) and n >= -2^53 and n <= 2^53
end

function M.lhist(opts, fail)
	local min, max, step = opts.min, opts.max, opts.step
	if not (exact(min) and exact(max) and exact(step)) then
		fail("needs the numbers min, max and step (at most 2^53)")
	elseif not (step > 0 and max > min) then
		fail("needs min < max and step > 0")
	elseif (max - min) / step > STEPS then
		fail(("has more than %d steps"):format(STEPS), "step")
	end
	local last, scale = math.ceil((max - min) / step), opts.scale or 1
	local from, to, width = min * scale, max * scale, step * scale
	return histogram(function(v)
		return v < from and 0 or v >= to and last + 1 or math.tointeger((v - from) // width) + 1
	end, function(number)
		if number == 0 then
			return -math.huge, min
		elseif number > last then
			return max, math.huge
		end
		return min + (number - 1) * step, math.min(min + number * step, max)
	end, opts.scale)
end

-- Sums by intervals of time. A cell is a ring of the last `buckets` intervals: the number of each,
-- and its sum.
function M.tseries(opts, fail, now)
	local interval = format.span(opts.interval or "1s")
	local size = opts.buckets or 60
	if not interval then
		fail('needs an interval such as "1s"', "interval")
	elseif math.type(size) ~= "integer" or size < 1 or size > 10000 then
		fail("needs from 1 to 10000 buckets", "buckets")
	end
	-- From the first interval in the ring to the present one.
	local function series(cell)
		local list, present = {}, now() // interval
		for number = present - size + 1, present do
			local i = number % size
			local there = cell.number[i] == number
			if there or list[1] then
				list[#list + 1] = {nsecs = number * interval, value = there and cell.sum[i] or 0}
			end
		end
		return list
	end
	local function total(cell)
		local sum = 0
		for _, s in ipairs(series(cell)) do
			sum = plus(sum, s.value)
		end
		return sum
	end
	return {
		step = function(cell, v)
			cell = cell or {number = {}, sum = {}}
			local number = now() // interval
			local i = number % size
			cell.sum[i] = cell.number[i] == number and plus(cell.sum[i], v) or v
			cell.number[i] = number
			return cell
		end,
		read = series,
		sorts = {value = total, sum = total},
		fields = function(cell)
			return {series = series(cell), interval_ns = interval}
		end,
		draw = function(cell, show)
			local rows, list = {}, series(cell)
			for i, s in ipairs(list) do
				local ago = (#list - i) * interval
				rows[i] = {ago == 0 and "now" or "-" .. show(ago, "ns"), s.value}
			end
			return rows
		end,
	}
end

return M
