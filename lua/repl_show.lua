-- SPDX-License-Identifier: MIT
-- How the prompt shows values: tables sorted, within limits, nothing in it that acts on a terminal.

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return
	then true until while]]):gmatch("%a+") do
	KEYWORDS[word] = true
end

local RANK = {number = 1, string = 2, boolean = 3}

local function key_less(a, b)
	local ta, tb = type(a), type(b)
	if ta ~= tb then
		return (RANK[ta] or 4) < (RANK[tb] or 4)
	elseif ta == "number" or ta == "string" then
		return a < b
	end
	return tostring(a) < tostring(b)
end

-- limits: depth (tables in tables), items (of a table), bytes (of a string).
return function(core, limits)
	local escape = core.text.escape
	local value_text

	local function string_text(s, bytes)
		local rest = #s - bytes
		local text = '"' .. escape(s:sub(1, bytes)):gsub('"', '\\"') .. '"'
		return rest > 0 and ("%s... (%d bytes more)"):format(text, rest) or text
	end

	local function key_text(key)
		if type(key) == "string" and key:find("^[%a_][%w_]*$") and not KEYWORDS[key] then
			return key .. " = "
		end
		return "[" .. value_text(key, limits.depth, {}) .. "] = "
	end

	-- The keys that are shown, in order, and how many there are.
	local function sorted_keys(t)
		local list = {}
		for key in next, t do
			list[#list + 1] = key
		end
		table.sort(list, key_less)
		return list
	end

	local function table_text(t, depth, seen, indent)
		local keys, parts, length, place = sorted_keys(t), {}, 0, 0
		if #keys == 0 then
			return "{}"
		elseif seen[t] then
			return "{...} -- itself"
		elseif depth >= limits.depth then
			return ("{... %d}"):format(#keys)
		end
		seen[t] = true
		for i, key in ipairs(keys) do
			if i > limits.items then
				parts[i] = ("... %d more"):format(#keys - limits.items)
				break
			end
			local name = math.type(key) == "integer" and key == place + 1 and "" or key_text(key)
			place = name == "" and key or place
			parts[i] = name .. value_text(rawget(t, key), depth + 1, seen, indent .. "  ")
			length = length + #parts[i] + 2
		end
		seen[t] = nil
		if length + #indent < math.max(40, core.width() - 1) and not table.concat(parts):find("\n", 1, true) then
			return "{" .. table.concat(parts, ", ") .. "}"
		end
		return "{\n" .. indent .. "  " .. table.concat(parts, ",\n" .. indent .. "  ") .. "\n" .. indent .. "}"
	end

	-- What has a text of its own says it; else what it is.
	local function object_text(value)
		local ok, text = pcall(tostring, value)
		return ok and escape(text) or ("%s that fails in its __tostring"):format(type(value))
	end

	function value_text(value, depth, seen, indent)
		local meta = type(value) == "table" and getmetatable(value)
		if type(value) == "string" then
			return string_text(value, limits.bytes)
		elseif type(value) ~= "table" or meta == false or (type(meta) == "table" and meta.__tostring) then
			return object_text(value)
		end
		return table_text(value, depth, seen, indent or "")
	end

	-- bytes: of a string, where they shall be fewer.
	return function(value, bytes)
		if bytes and type(value) == "string" then
			return string_text(value, bytes)
		end
		return value_text(value, 0, {})
	end
end
