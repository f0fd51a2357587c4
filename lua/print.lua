-- SPDX-License-Identifier: MIT
-- What scripts write with: print printf emit warn hexdump. In JSON every line is an object with a `type`.

-- A conversion of string.format, as flags and width, precision, letter.
local SPEC = "^%%([-+ #0]*%d*)(%.?%d*)(%a)"
local INTEGERS = {d = true, i = true, u = true, c = true, x = true, X = true, o = true}
local FLOATS = {f = true, e = true, g = true, a = true, E = true, G = true, A = true}

-- What an integer conversion takes: the nearest integer where there is one.
local function to_integer(value)
	local number = tonumber(value)
	if not number then
		return nil
	end
	local integer = math.tointeger(number)
	if not integer and math.abs(number) < 2 ^ 63 then
		integer = math.floor(number + 0.5)
	end
	return integer or number
end

-- Text as wide as a conversion asks for. string.format does not take all bytes where there is a width.
local function pad(spec, text)
	local spaces = (" "):rep(spec.width - #text)
	return spec.left and text .. spaces or spaces .. text
end

-- One conversion applied to a value. A value that does not fit is shown as it is: an unknown field
-- must not end a report.
local function convert(spec, value)
	local fit
	if INTEGERS[spec.letter] then
		fit = to_integer(value)
	elseif FLOATS[spec.letter] then
		fit = tonumber(value)
	end
	if math.type(fit) == "integer" or (fit and FLOATS[spec.letter] and fit == fit) then
		return spec.number:format(fit)
	elseif value ~= value then
		return pad(spec, "nan")
	elseif spec.letter == "q" then
		local ok, quoted = pcall(string.format, "%q", value)
		return ok and quoted or tostring(value)
	end
	return pad(spec, spec.letter == "s" and tostring(value):sub(1, spec.precision) or tostring(value))
end

return function(core)
	local M = {}
	local json = core.text.json
	local parsed, parsed_count = {}, 0

	-- A format as a list of texts and conversions.
	local function parse(format)
		local list, at = {}, 1
		while at <= #format do
			local percent = format:find("%", at, true) or #format + 1
			if percent > at then
				list[#list + 1] = format:sub(at, percent - 1)
			end
			at = percent
			if format:sub(at, at + 1) == "%%" then
				list[#list + 1] = "%"
				at = at + 2
			elseif at <= #format then
				local flags, precision, letter = format:match(SPEC, at)
				local known = letter and (INTEGERS[letter] or FLOATS[letter] or letter == "s" or letter == "q")
				if not known or #flags + #precision > 8 then
					core.fail(nil, ("printf: '%s' is not a conversion; a percent sign is %%%%"):format(
						format:sub(at, at + 5)))
				end
				list[#list + 1] = {
					letter = letter,
					number = "%" .. flags .. (letter == "c" and "" or precision)
						.. (letter == "u" and "d" or letter),
					left = flags:find("-", 1, true) ~= nil,
					width = tonumber(flags:match("[1-9]%d*$")) or 0,
					precision = precision ~= "" and (tonumber(precision:sub(2)) or 0) or -1,
				}
				at = at + 1 + #flags + #precision + #letter
			end
		end
		return list
	end

	-- string.format, except that a value that does not fit is no error.
	function M.format(format, ...)
		local ok, text = pcall(string.format, format, ...)
		if ok then
			return text
		end
		local list = parsed[format]
		if not list then
			if type(format) ~= "string" then
				core.fail(nil, ("printf needs a format, not a %s"):format(type(format)))
			end
			list = parse(format)
			-- Formats are few; should they be made at run time, memory is not theirs for ever.
			if parsed_count >= 1000 then
				parsed, parsed_count = {}, 0
			end
			parsed[format], parsed_count = list, parsed_count + 1
		end
		local out, n = {}, 0
		for i, part in ipairs(list) do
			if type(part) == "table" then
				n = n + 1
				part = convert(part, (select(n, ...)))
			end
			out[i] = part
		end
		return table.concat(out)
	end

	local function id_of(value)
		return value.id
	end

	-- What can be written of a table: a connection is its number. In JSON a string that is no UTF-8 is
	-- NAME_b64, as its bytes would be lost.
	local function whole(t, depth)
		local copy, is_json = {}, core.format == "json"
		for key, value in next, t do
			local kind = type(value)
			if kind == "userdata" then
				local ok, id = pcall(id_of, value)
				copy[key] = ok and id or value
			elseif is_json and kind == "table" and not getmetatable(value) and (depth or 0) < 5 then
				copy[key] = whole(value, (depth or 0) + 1)
			elseif is_json and kind == "string" and type(key) == "string" and not core.text.is_utf8(value) then
				copy[key .. "_b64"] = json.base64(value)
			else
				copy[key] = value
			end
		end
		return copy
	end

	-- Most need no second look: the encoder marks what it cannot show.
	local function encode(t)
		local line = json.encode(t)
		if line:find("\\ufffd", 1, true) or line:find("<tlsscope.", 1, true) then
			line = json.encode(whole(t))
		end
		return line
	end

	-- Text that the script prints.
	function M.put(text)
		if core.format == "json" then
			core.write(encode {type = "print", text = (text:gsub("\n$", ""))} .. "\n")
		else
			core.write(text)
		end
	end

	local function join(separator, ...)
		local out = table.pack(...)
		for i = 1, out.n do
			out[i] = tostring(out[i])
		end
		return table.concat(out, separator)
	end

	function M.print(...)
		M.put(join("\t", ...) .. "\n")
	end

	function M.printf(...)
		M.put(M.format(...))
	end

	function M.warn(...)
		core.warn(join("", ...))
	end

	function M.hexdump(data, max)
		if data == nil then
			return
		end
		M.put(core.text.hexdump(tostring(data), max) .. "\n")
	end

	local function value_text(value)
		if type(value) == "table" then
			return json.encode(value)
		elseif type(value) ~= "string" then
			return tostring(value)
		end
		local text = core.text.escape(value)
		if text == "" or text:find('[%s"=]') then
			return '"' .. text:gsub('"', '\\"') .. '"'
		end
		return text
	end

	function M.emit(t)
		local meta, kind = type(t) == "table" and getmetatable(t), nil
		if type(t) == "userdata" then
			kind, t = t.probe, t:copy()
		elseif type(t) ~= "table" then
			core.fail(nil, ("emit needs a table or an event, not a %s"):format(type(t)))
		end
		if meta and meta.event then
			meta.whole(t)
		end
		kind = rawget(t, "type") or kind or meta and meta.event or "emit"
		if core.format == "json" then
			if not rawget(t, "type") then
				local copy = {type = kind}
				for key, value in next, t do
					copy[key] = value
				end
				t = copy
			end
			core.write(encode(t) .. "\n")
			return
		end
		local names, values = {}, {}
		t = whole(t)
		for key, value in next, t do
			if key ~= "type" then
				names[#names + 1] = tostring(key)
				values[tostring(key)] = value
			end
		end
		table.sort(names)
		local out = {value_text(tostring(kind))}
		for i, name in ipairs(names) do
			out[i + 1] = core.text.escape(name) .. "=" .. value_text(values[name])
		end
		core.write(table.concat(out, " ") .. "\n")
	end

	-- io.write and io.stdout of a script that may only print.
	function M.file(write)
		local file = {}
		function file:write(...)
			write(join("", ...))
			return self
		end
		function file.flush()
			core.flush()
			return file
		end
		function file.setvbuf()
			return true
		end
		function file.close()
			return nil, "the output stays open"
		end
		return file
	end

	return M
end
