-- SPDX-License-Identifier: MIT
-- .save: what was entered and still matters, as a script.

local HEAD = "-- saved by tlsscope\n"

-- A long string that holds any text.
local function quote(text)
	local level = ""
	while text:find("]" .. level .. "]", 1, true) or text:find("]" .. level .. "$") do
		level = level .. "="
	end
	return ("[%s[\n%s]%s]"):format(level, text, level)
end

return function(_, parts, repl, wrong)
	local host, handles = parts.host, parts.handles

	-- The filter of the command line, as target{} says it.
	local function target_text()
		local keys, excluded = {}, {}
		for _, entry in ipairs(host.target()) do
			local into = entry[3] and excluded or keys
			into[entry[1]] = into[entry[1]] or {}
			table.insert(into[entry[1]], entry[1] == "pid" and entry[2] or ("%q"):format(entry[2]))
		end
		local function list(from)
			local items = {}
			for _, key in ipairs(parts.filter_keys) do
				if from[key] then
					items[#items + 1] = ("%s = {%s}"):format(key, table.concat(from[key], ", "))
				end
			end
			return items
		end
		local items = list(keys)
		if next(excluded) then
			items[#items + 1] = ("exclude = {%s}"):format(table.concat(list(excluded), ", "))
		end
		return #items > 0 and ("target{%s}\n"):format(table.concat(items, ", ")) or ""
	end

	-- The handles that an input made: those that are there, and how many are gone.
	local function made_by(entry, live)
		local list = {}
		for _, h in ipairs(live) do
			local number = handles.state(h).number
			if number >= entry.first and number <= entry.last then
				list[#list + 1] = h
			end
		end
		return list, entry.last - entry.first + 1 - #list
	end

	local function entry_text(entry, live)
		local list, gone = made_by(entry, live)
		if gone > 0 and #list == 0 and not entry.names and not entry.chunk then
			return ""
		elseif entry.chunk then
			local args = {}
			for i, arg in ipairs(entry.args) do
				args[i] = ("%q"):format(arg)
			end
			return ("args = {[0] = %q%s}\nassert(load(%s, %q))(table.unpack(args))\n"):format(entry.args[0],
				#args > 0 and ", " .. table.concat(args, ", ") or "", quote(entry.text), entry.chunk)
		elseif not entry.expression then
			return entry.text .. "\n"
		elseif #list == 1 and not handles.state(list[1]).enabled then
			return ("local _ = %s\n_:disable()\n"):format(entry.text)
		end
		-- A call stands alone; another expression needs a place to go.
		return (host.load("=save", entry.text, _G) and "" or "local _ = ") .. entry.text .. "\n"
	end

	-- Handles that have a name and were paused or detached by it, or by number.
	local function states_text()
		local lines, done = {}, {}
		for _, entry in ipairs(repl.inputs) do
			for _, name in ipairs(entry.names or {}) do
				local state = handles.state(repl.get(name.name))
				if state and not state.enabled and not done[name.name] then
					done[name.name] = true
					lines[#lines + 1] = ("%s:%s()\n"):format(name.name, state.detached and "detach" or "disable")
				end
			end
		end
		return table.concat(lines)
	end

	return function(path)
		if path == "" then
			return wrong(".save needs a file's name")
		end
		local live, texts = handles.live(), {HEAD, target_text()}
		for _, entry in ipairs(repl.inputs) do
			texts[#texts + 1] = entry_text(entry, live)
		end
		texts[#texts + 1] = states_text()
		local problem = host.save(path, HEAD, table.concat(texts))
		if problem then
			return wrong("%s", problem)
		end
		parts.out.put(("written to %s\n"):format(path))
	end
end
