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

return function(core, parts, repl, wrong)
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
		elseif entry.failed and not entry.chunk then
			return ("pcall(load(%s)) -- it failed\n"):format(quote(entry.text))
		elseif entry.chunk then
			local args = {}
			for i, arg in ipairs(entry.args) do
				args[i] = ("%q"):format(arg)
			end
			return ("args = {[0] = %q%s}\n%s(load(%s, %q))%s\n"):format(entry.args[0],
				#args > 0 and ", " .. table.concat(args, ", ") or "", entry.failed and "pcall" or "assert",
				quote(entry.text), entry.chunk, entry.failed and " -- it failed" or "(table.unpack(args))")
		elseif not entry.expression then
			return entry.text .. "\n"
		elseif #list == 1 and not handles.state(list[1]).enabled then
			entry.settled = true
			return ("local _ = %s\n_:disable()\n"):format(entry.text)
		end
		-- A call stands alone; another expression needs a place to go.
		return (host.load("=save", entry.text, _G) and "" or "local _ = ") .. entry.text .. "\n"
	end

	-- The names of variables that hold handles, by the handles' numbers.
	local function names_of_handles()
		local names = {}
		local function take(name, value)
			local state = handles.state(value)
			if state and type(name) == "string" and name ~= "_" and name:find("^[%a_][%w_]*$") then
				names[state.number] = name
			end
		end
		for name, value in next, _G do
			take(name, value)
		end
		for name, cell in next, repl.cells do
			take(name, cell.get())
		end
		return names
	end

	-- Calls that pause and detach what the saved lines make, as it is now; and a sentence for each handle
	-- that none can name.
	local function states_text(saved, live)
		local names, states, lines, untold = names_of_handles(), {}, {}, {}
		for _, h in ipairs(live) do
			states[handles.state(h).number] = handles.state(h)
		end
		for _, entry in ipairs(saved) do
			for number = entry.first, entry.last do
				local state = states[number]
				local what = state and not state.enabled and "disable" or not state and repl.off[number] and "detach"
				if what and names[number] then
					lines[#lines + 1] = ("%s:%s()\n"):format(names[number], what)
				elseif what and not entry.settled then
					untold[#untold + 1] = ("handler %d is %s here, but not in the script: no variable holds it")
						:format(number, state and "paused" or "off")
				end
			end
		end
		return table.concat(lines), untold
	end

	return function(path)
		if path == "" then
			return wrong(".save needs a file's name")
		end
		local live, texts, saved = handles.live(), {HEAD, target_text()}, {}
		for _, entry in ipairs(repl.inputs) do
			entry.settled = false
			local text = entry_text(entry, live)
			texts[#texts + 1] = text
			saved[#saved + 1] = text ~= "" and entry or nil
		end
		local states, untold = states_text(saved, live)
		texts[#texts + 1] = states
		local problem = host.save(path, HEAD, table.concat(texts))
		if problem then
			return wrong("%s", problem)
		end
		parts.out.put(("written to %s\n"):format(path))
		for _, sentence in ipairs(untold) do
			core.tell("", sentence)
		end
	end
end
