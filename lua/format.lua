-- SPDX-License-Identifier: MIT
-- Layout of text: tables, bars and histograms. Functions of strings and numbers; cells must be
-- free of control characters (escape) before they come here.

local M = {
	-- What the output is: set once, before scripts run.
	json = false,
	width = 80,
}

function M.set_output(host)
	M.json = host.format == "json"
	M.width = host.width
end

-- Columns that a string takes on the terminal: one for each character.
local function width(s)
	return utf8.len(s) or #s
end

local function pad(s, n, right)
	local space = (" "):rep(n - width(s))
	return right and space .. s or s .. space
end

-- At most n characters of s; what is cut shows as "...".
function M.clip(s, n)
	if width(s) <= n then
		return s
	end
	if n <= 3 then
		return ("."):rep(n)
	end
	return s:sub(1, (utf8.offset(s, n - 2) or n - 2) - 1) .. "..."
end

-- Text that was cut off in the middle of a character, without the part of it.
function M.whole_characters(s)
	local _, bad = utf8.len(s)
	return bad and #s - bad < 3 and s:sub(1, bad - 1) or s
end

-- Takes what is too much for `limit` from the widest columns that may shrink: text is cut, numbers
-- never are.
local function fit(columns, widths, limit)
	local total = 2 * #columns
	for i = 1, #columns do
		total = total + widths[i]
	end
	while total > limit do
		local widest
		for i, c in ipairs(columns) do
			if not c.right and widths[i] > 8 and (not widest or widths[i] > widths[widest]) then
				widest = i
			end
		end
		if not widest then
			return
		end
		widths[widest] = widths[widest] - 1
		total = total - 1
	end
end

-- columns: a list of {title=, right=true for numbers}; rows: lists of strings. Returns lines, each
-- indented by two and ended by a newline, no longer than limit (the output's width) if that can be.
function M.table(columns, rows, limit)
	limit = limit or M.width
	local widths, lines = {}, {}
	for i, c in ipairs(columns) do
		widths[i] = width(c.title)
		for _, row in ipairs(rows) do
			widths[i] = math.max(widths[i], width(row[i]))
		end
	end
	fit(columns, widths, limit)
	local function line(cells)
		local out = {}
		for i, c in ipairs(columns) do
			out[i] = pad(M.clip(cells[i], widths[i]), widths[i], c.right)
		end
		lines[#lines + 1] = ("  " .. table.concat(out, "  ")):gsub("%s+$", "") .. "\n"
	end
	local titles = {}
	for i, c in ipairs(columns) do
		titles[i] = c.title
	end
	line(titles)
	for _, row in ipairs(rows) do
		line(row)
	end
	return table.concat(lines)
end

-- rows: a list of {label, number, text of the number}. Bars are as long as the largest allows.
function M.bars(rows, limit)
	local label, text, most, lines = 0, 0, 0, {}
	for _, row in ipairs(rows) do
		label = math.max(label, width(row[1]))
		text = math.max(text, width(row[3]))
		most = math.max(most, row[2])
	end
	local room = math.max(10, math.min(52, limit - label - text - 7))
	for i, row in ipairs(rows) do
		local n = 0
		if row[2] > 0 then
			n = math.max(1, math.tointeger(row[2] / most * room // 1))
		end
		lines[i] = ("  %s  %s |%s%s|\n"):format(
			pad(row[1], label), pad(row[3], text, true), ("@"):rep(n), (" "):rep(room - n))
	end
	return table.concat(lines)
end

local UNITS = {"K", "M", "G", "T", "P", "E"}

-- A number as a limit of a range: powers of 1024 short, all else exact.
function M.edge(n)
	local unit = 0
	while n ~= 0 and n % 1024 == 0 and unit < #UNITS do
		n = n // 1024
		unit = unit + 1
	end
	local whole = math.tointeger(n)
	return (whole and ("%d"):format(whole) or ("%.6g"):format(n)) .. (UNITS[unit] or "")
end

local NS = {ns = 1, us = 1000, ms = 1000000, s = 1000000000}

-- A value in a unit: text is {human=, duration=}. Integers stay exact where the unit says nothing.
function M.number(v, unit, text)
	if unit == "bytes" then
		return text.human(v)
	end
	if NS[unit] then
		return text.duration(v * NS[unit])
	end
	if math.type(v) == "integer" then
		return ("%d"):format(v)
	end
	if v == v // 1 and v > -1e15 and v < 1e15 then
		return ("%d"):format(v)
	end
	return (math.abs(v) >= 1e15 or v ~= v) and ("%.6g"):format(v) or ("%.2f"):format(v)
end

local SPANS = {ns = 1, us = 1000, ms = 1000000, s = 1000000000, m = 60000000000, h = 3600000000000}

-- "500ms" or a number of seconds as ns; nil if it is neither or not above 0.
function M.span(v)
	local n, unit = v, "s"
	if type(v) == "string" then
		n, unit = v:match("^(%d+%.?%d*)(%a*)$")
		n = tonumber(n)
		unit = unit == "" and "s" or unit
	end
	if type(n) ~= "number" or not SPANS[unit] then
		return nil
	end
	local ns = n * SPANS[unit]
	return ns >= 1 and ns < 2^62 and math.tointeger(ns // 1) or nil
end

return M
