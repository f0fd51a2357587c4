-- SPDX-License-Identifier: MIT
-- What a shell can complete: a candidate a line, then a tab and what it is. A line ":files", ":users" or
-- ":commands" asks the shell for its own. Nothing that was typed runs.

local SUBCOMMANDS = {{"doctor", "what can be captured, what not, and why"}, {"help", "explains one thing"}}

-- words: those after the program's name, the last one to be completed.
return function(core, facts, help, words)
	local lines, seen, current = {}, {}, nil

	local function offer(text, about)
		if text ~= "" and text:sub(1, #current) == current and not text:find("[%c]") and not seen[text] then
			seen[text] = true
			lines[#lines + 1] = text .. "\t" .. (about or "")
		end
	end

	local function ask(what)
		lines[#lines + 1] = ":" .. what
	end

	-- "-p" or "--pid" of the command line's options; and the placeholder of its value, if it takes one.
	local function option(word)
		local found = word:find("^%-.") and help.find(word)[1]
		return found, found and found.type:match("%-%-[%w-]+ ([^%s%[]+)")
	end

	local function processes(what)
		for _, p in ipairs(facts.processes(what ~= "container")) do
			if what == "pid" then
				offer(tostring(p.pid), p.comm .. ", " .. p.libs)
			elseif what == "comm" then
				offer(p.comm, p.libs)
			elseif what == "container" then
				offer(p.container, "a container")
			else
				for name in p.libs:gmatch("%S+") do
					offer(name, "used by " .. p.comm)
				end
			end
		end
	end

	local function named(kinds, before, after)
		for _, entry in ipairs(help.list) do
			if kinds[entry.kind] then
				offer(before .. entry.name .. (after or ""), entry.help)
			end
		end
	end

	local PROBES = {probe = true, http = true, event = true}

	-- Code, which may begin with the shell's quote.
	local function code()
		current = current:gsub("^['\"]", "")
		for _, way in ipairs {
			{"^(.*%f[%w_]e%.conn%.)[%w_]*$", {conn = true}}, {"^(.*%f[%w_]e%.proc%.)[%w_]*$", {proc = true}},
			{"^(.*%f[%w_]e%.)[%w_]*$", {field = true, http_field = true}}, {"^(.*%f[%w_]on%.)[%w_]*$", PROBES},
		} do
			local before = current:match(way[1])
			if before then
				return named(way[2], before)
			end
		end
		local before = current:match("^(.-)[%w_]*$")
		named({["function"] = true, aggregation = true}, before)
	end

	local function value(entry, placeholder)
		local name = entry.name
		if name == "pid" or name == "comm" or name == "container" or name == "lib" then
			processes(name)
		elseif name == "execute" then
			code()
		elseif placeholder:find("^%l+|[%l|]+$") then
			for word in placeholder:gmatch("%l+") do
				offer(word)
			end
		elseif placeholder == "USER" then
			ask("users")
		elseif placeholder == "CMD" then
			ask("commands")
		elseif placeholder:find("FILE") or placeholder:find("DIR") or placeholder:find("PATH") then
			ask("files")
		end
	end

	local function options()
		for _, entry in ipairs(help.list) do
			if help.cli[entry.kind] then
				offer("--" .. entry.name, entry.help)
				local letter = entry.type:match("^(%-%a),")
				if letter and #current < 3 then
					offer(letter, entry.help)
				end
			end
		end
	end

	local function recipes()
		for _, r in ipairs(facts.recipes()) do
			offer(r[1], r[2])
		end
	end

	-- A recipe's own options are those that its first lines name.
	local function recipe(name)
		local text = facts.source(name)
		for line in (text or ""):gmatch("[^\n]*") do
			local flag, about = line:match("^%-%-%s+(%-%-[%w-]+)%s*(.*)$")
			if flag then
				offer(flag, about)
			elseif not line:find("^%-%-") then
				break
			end
		end
	end

	-- What the words before the current one leave to be said.
	local function look()
		local command, i, n = nil, 1, #words
		while i < n do
			local entry, placeholder = option(words[i])
			if entry and placeholder then
				if i == n - 1 then
					return value, entry, placeholder
				end
				i = i + 1
			elseif entry and entry.name == "list" and i == n - 1 and not current:find("^%-") then
				return named, PROBES, ""
			elseif not entry and not words[i]:find("^%-") then
				command = command or words[i]
			end
			i = i + 1
		end
		if command == "help" then
			return function()
				for _, name in ipairs(help.names()) do
					offer(name)
				end
			end
		elseif command == "doctor" and not current:find("^%-") then
			return processes, "pid"
		elseif command and command ~= "doctor" then
			return current:find("^%-") and recipe or ask, current:find("^%-") and command or "files"
		elseif current:find("^%-") then
			return options
		end
		return function()
			for _, s in ipairs(SUBCOMMANDS) do
				offer(s[1], s[2])
			end
			recipes()
			ask("files")
		end
	end

	-- bash makes --name=value three words.
	local joined = {}
	for i, word in ipairs(words) do
		local name, rest = word:match("^(%-%-[%w-]+)=(.*)$")
		if name then
			joined[#joined + 1] = name
			joined[#joined + 1] = rest
		elseif word ~= "=" then
			joined[#joined + 1] = word
		elseif i == #words then
			joined[#joined + 1] = ""
		end
	end
	words = joined
	current = words[#words] or ""
	words[1] = words[1] or ""
	local fill, a, b = look()
	fill(a, b)
	if #lines > 0 then
		core.write(table.concat(lines, "\n") .. "\n")
	end
end
