-- SPDX-License-Identifier: MIT
-- How an aggregation is shown: sorted rows, as a table, as bars, or as one line of JSON.

local format = require "format"

local M = {}

local function fail(self, message, word)
	self.host.fail(word, ("%s: %s"):format(tostring(self), message))
end

-- Keys in one order, whatever their types: none (the only table), booleans, numbers, strings.
local RANK = {table = 0, boolean = 1, number = 2, string = 3}

local function key_less(a, b)
	for i = 1, #a do
		local x, y = a[i], b[i]
		if x ~= y then
			local tx, ty = type(x), type(y)
			if tx ~= ty then
				return RANK[tx] < RANK[ty]
			elseif tx == "boolean" then
				return y
			end
			return x < y
		end
	end
	return false
end

local function collect(rows, node, keys, depth, arity)
	for k, v in next, node do
		keys[depth] = k
		if depth >= arity then
			rows[#rows + 1] = {key = table.move(keys, 1, arity, 1, {}), cell = v}
		else
			collect(rows, v, keys, depth + 1, arity)
		end
	end
end

-- The function from a cell to what rows are sorted by.
local function order_of(self, sort)
	local order = self.behaviour.sorts[sort]
	if not order then
		local names = {'"key"'}
		for name in pairs(self.behaviour.sorts) do
			names[#names + 1] = ("%q"):format(name)
		end
		table.sort(names)
		fail(self, ("cannot sort by %q; it has %s"):format(tostring(sort), table.concat(names, ", ")), "sort")
	end
	return order
end

-- All rows {key = {...}, cell =}: largest first by a column, or by key.
function M.rows(self, sort)
	local rows = {}
	if self.arity then
		collect(rows, self.cells, {}, 1, self.arity)
	end
	local order = sort ~= "key" and order_of(self, sort or "value")
	for _, row in ipairs(rows) do
		row.order = order and order(row.cell)
	end
	table.sort(rows, function(a, b)
		if a.order ~= b.order then
			return a.order > b.order
		end
		return key_less(a.key, b.key)
	end)
	return rows
end

local KNOWN = {top = "number", sort = "string", title = "string", unit = "string"}

-- Options of print, or their defaults.
function M.check(self, opts)
	for name, value in pairs(opts) do
		if not KNOWN[name] then
			fail(self, ("print has no option %q; it has top, sort, title, unit"):format(
				tostring(name)), tostring(name))
		elseif type(value) ~= KNOWN[name] then
			fail(self, ("%s must be a %s"):format(name, KNOWN[name]), name)
		end
	end
	if opts.sort and opts.sort ~= "key" then
		order_of(self, opts.sort)
	end
end

local function key_text(self, k)
	return k == "" and '""' or self.host.text.escape(tostring(k))
end

local function key_texts(self, row)
	local texts = {}
	for i, k in ipairs(row.key) do
		texts[i] = key_text(self, k)
	end
	return texts
end

local function show_value(self, v, unit)
	return format.number(v, unit, self.host.text)
end

-- A count is a number of things, whatever the unit of what is counted.
local function cell_texts(self, cell, unit)
	local texts = {}
	for i, v in ipairs(self.behaviour.cells(cell)) do
		texts[i] = show_value(self, v, self.behaviour.columns[i] ~= "count" and unit or nil)
	end
	return texts
end

local function write_table(self, rows, opts)
	local columns, lines = {}, {}
	for i = 1, self.arity do
		local by = self.by and self.by[i]
		columns[i] = {title = type(by) == "string" and by or self.arity == 1 and "key" or "key" .. i}
	end
	for _, title in ipairs(self.behaviour.columns) do
		columns[#columns + 1] = {title = title, right = true}
	end
	for i, row in ipairs(rows) do
		lines[i] = key_texts(self, row)
		table.move(cell_texts(self, row.cell, opts.unit), 1, #self.behaviour.columns, self.arity + 1,
			lines[i])
	end
	if self.rest then
		local line = {"(other)"}
		for i = 2, self.arity do
			line[i] = ""
		end
		table.move(cell_texts(self, self.rest, opts.unit), 1, #self.behaviour.columns,
			self.arity + 1, line)
		lines[#lines + 1] = line
	end
	self.host.write(opts.title .. "\n" .. format.table(columns, lines, self.host.width))
end

local function summary_text(self, cell, unit)
	if not cell.count then
		return ""
	end
	local summary = self.behaviour.fields(cell)
	return (": count %d, avg %s, min %s, max %s"):format(summary.count,
		show_value(self, summary.avg, unit), show_value(self, summary.min, unit),
		show_value(self, summary.max, unit))
end

local function write_bars(self, texts, cell, opts)
	local keys = #texts > 0 and " [" .. table.concat(texts, ", ") .. "]" or ""
	local summary = summary_text(self, cell, opts.unit)
	local head = format.clip(opts.title .. keys, math.max(20, self.host.width - #summary))
	local bars = self.behaviour.draw(cell, self.host.text.duration)
	local counted = cell.count ~= nil
	for _, bar in ipairs(bars) do
		bar[3] = bar[1] == "..." and "" or show_value(self, bar[2], not counted and opts.unit or nil)
	end
	self.host.write(head .. summary .. "\n" .. format.bars(bars, self.host.width))
end

local function write_text(self, rows, more, opts)
	local host = self.host
	if #rows == 0 and not self.rest then
		host.write(opts.title .. ": nothing\n")
	elseif self.arity == 0 and self.behaviour.columns and #self.behaviour.columns == 1 then
		host.write(("%s: %s\n"):format(opts.title, cell_texts(self, rows[1].cell, opts.unit)[1]))
	elseif self.behaviour.columns then
		write_table(self, rows, opts)
	else
		for i, row in ipairs(rows) do
			if i > 1 then
				host.write("\n")
			end
			write_bars(self, key_texts(self, row), row.cell, opts)
		end
		if self.rest then
			host.write("\n")
			write_bars(self, {"(other)"}, self.rest, opts)
		end
	end
	if more > 0 then
		host.write(("  ... %d more keys\n"):format(more))
	end
	if self.skipped > 0 then
		host.write(("  (%d values skipped: nil, nan or infinite)\n"):format(self.skipped))
	end
end

local function json_fields(self, cell)
	local fields, array = self.behaviour.fields(cell), self.host.text.json.array
	for _, name in ipairs {"buckets", "series"} do
		if fields[name] then
			array(fields[name])
		end
	end
	return fields
end

local function emit(self, rows, more)
	local json = self.host.text.json
	local data, by = {}, {}
	for i, row in ipairs(rows) do
		local key, bytes = {}, nil
		for n, k in ipairs(row.key) do
			key[n] = k == self.none and json.null or k
			-- Its place in `key` shows it as far as JSON can.
			if type(k) == "string" and not self.host.text.is_utf8(k) then
				bytes = bytes or {}
				bytes[n] = json.base64(k)
			end
		end
		for n = 1, bytes and #row.key or 0 do
			bytes[n] = bytes[n] or json.null
		end
		data[i] = json_fields(self, row.cell)
		data[i].key, data[i].key_b64 = json.array(key), bytes and json.array(bytes)
	end
	for i, field in ipairs(self.by or {}) do
		by[i] = type(field) == "string" and field or json.null
	end
	self.host.emit {
		type = self.kind, name = self.name, by = self.by and json.array(by), data = json.array(data),
		other = self.rest and json_fields(self, self.rest), unit = self.defaults.unit,
		more = more > 0 and more or nil, skipped = self.skipped > 0 and self.skipped or nil,
	}
end

-- How the unit shows in the title where it does not show in the values.
local SHOWN = {bytes = true, ns = true, us = true, ms = true, s = true}

function M.print(self, opts)
	M.check(self, opts)
	local defaults = self.defaults
	local use = {unit = opts.unit or defaults.unit, title = opts.title or defaults.title or self.name}
	use.title = self.host.text.escape(use.title)
	if use.unit and (not SHOWN[use.unit] or not self.behaviour.columns) then
		use.title = ("%s (%s)"):format(use.title, self.host.text.escape(use.unit))
	end
	local rows = M.rows(self, opts.sort or defaults.sort)
	local top, more = opts.top or defaults.top, 0
	if top and #rows > top then
		more = #rows - top
		rows = table.move(rows, 1, top, 1, {})
	end
	if self.host.format == "json" then
		emit(self, rows, more)
	else
		write_text(self, rows, more, use)
	end
end

return M
