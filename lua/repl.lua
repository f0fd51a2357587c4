-- SPDX-License-Identifier: MIT
-- The prompt: lines become chunks, chunks run, values are shown. A local of the top level lives on: each
-- chunk returns functions that get and set its locals, and the environment of later chunks finds them.
--
-- parts: what the prelude is made of, and `host`, what core/lua_repl.c brings.

local OPENS = {["function"] = true, ["do"] = true, ["if"] = true, ["repeat"] = true}
local CLOSES = {["end"] = true, ["until"] = true}
-- Words that alone on a line are meant as commands.
local WORDS = {quit = true, exit = true, help = true}
-- What is called with one of these lasts longer than the line: .save keeps the line.
local LASTING = {
	"on", "target", "config", "every", "after", "stream", "count", "sum", "avg", "min", "max", "stats", "hist",
	"lhist", "tseries", "require",
}

-- Functions that only show something.
local SHOWN = {print = true, printf = true, emit = true, hexdump = true, warn = true, clear_screen = true, exit = true}

-- Iterates the words and signs of Lua code; a string is "''", a number "0".
local function tokens(text)
	local at = 1
	local function take(pattern)
		local first, last, level = text:find(pattern, at)
		if first then
			at = last + 1
		end
		return first and text:sub(first, last), level
	end
	local function long(level)
		local _, last = text:find("]" .. level .. "]", at, true)
		at = (last or #text) + 1
	end
	local function quoted(quote)
		local last = at
		repeat
			last = text:find("[\\" .. quote .. "]", last)
			local escaped = last and text:sub(last, last) == "\\"
			last = (last or #text) + (escaped and 2 or 1)
		until not escaped
		at = last
	end
	return function()
		while take("^%s+") or at <= #text do
			local found, level = take("^%-%-%[(=*)%[")
			if found then
				long(level)
			elseif not take("^%-%-[^\n]*") then
				found, level = take("^%[(=*)%[")
				if found then
					long(level)
					return "''"
				end
				found = take("^[%a_][%w_]*")
				if not found and take("^%d[%w.]*") then
					return "0"
				end
				found = found or take("^[^%s]")
				if found == '"' or found == "'" then
					quoted(found)
					return "''"
				end
				return found
			end
		end
	end
end

-- The names of the top level's locals: list of {name =, const =}.
local function top_locals(text)
	local list, depth, next_token = {}, 0, tokens(text)
	local token = next_token()
	local function declared()
		if token == "function" then
			list[#list + 1] = {name = next_token()}
			depth, token = depth + 1, next_token()
			return
		end
		repeat
			local entry = {name = token}
			list[#list + 1] = entry
			token = next_token()
			if token == "<" then
				entry.const = next_token() ~= nil
				next_token()
				token = next_token()
			end
			local more = token == ","
			token = more and next_token() or token
		until not more
	end
	while token do
		local word = token
		token = next_token()
		if OPENS[word] then
			depth = depth + 1
		elseif CLOSES[word] then
			depth = depth - 1
		elseif word == "local" and depth == 0 then
			declared()
		end
	end
	return list
end

return function(core, parts)
	local host, check, handles = parts.host, parts.check, parts.handles
	local getinfo = debug.getinfo
	local M = {limits = {depth = 4, items = 50, bytes = 2000}}
	local cells = {} -- locals: {get =, set =}
	local count = 0 -- inputs so far
	local pending -- lines that are not yet a whole chunk
	local last_text
	M.cells, M.inputs, M.tokens = cells, {}, tokens
	M.off = {} -- numbers of handles that .off detached
	M.show = core.module("lua/repl_show.lua")()(core, M.limits)

	local env = setmetatable({}, {
		__metatable = false,
		__index = function(_, name)
			local cell = cells[name]
			if cell then
				return cell.get()
			end
			return _G[name]
		end,
		__newindex = function(_, name, value)
			local cell = cells[name]
			if cell and not cell.set then
				core.fail(name, ("'%s' is a constant"):format(name))
			elseif cell then
				cell.set(value)
				return
			elseif getinfo(2, "S").what == "main" then
				check.declare(name)
			end
			_G[name] = value
		end,
	})

	-- Of which kind the fields of an event are.
	function M.field_kind(event)
		local own = {ws_message = "ws_field", grpc_call = "grpc_field"}
		return own[event] or (event:find("^http") and "http_field") or "field"
	end

	function M.get(name)
		if cells[name] then
			return cells[name].get()
		end
		return rawget(_G, name)
	end

	-- Loads a statement so that it returns a getter and a setter for each of its locals.
	local function load_keeping(chunk, text)
		local names = top_locals(text)
		local ends = {}
		for i, entry in ipairs(names) do
			ends[i] = ("function() return %s end, %s"):format(entry.name, entry.const and "nil"
				or ("function(_) %s = _ end"):format(entry.name))
		end
		local fn = #ends > 0 and host.load(chunk, text .. "\nreturn " .. table.concat(ends, ", "), env)
		return fn, names
	end

	local function keep_locals(names, results)
		for i, entry in ipairs(names) do
			cells[entry.name] = {get = results[2 * i - 1], set = results[2 * i]}
		end
	end

	-- The chunk of a text: {fn =, expression =, names =}; nil and whether more is to come; nil and an error.
	local function compile(chunk, text)
		local fn = host.load(chunk, "return " .. text, env)
		if fn then
			return {fn = fn, expression = true}
		end
		local problem
		fn, problem = host.load(chunk, text, env)
		if not fn then
			return nil, problem:find("near <eof>", -10, true) ~= nil
		end
		local keeping, names = load_keeping(chunk, text)
		return {fn = keeping or fn, names = keeping and names}
	end

	local function is_aggregation(value)
		return type(value) == "table" and rawget(value, "behaviour") ~= nil
	end

	-- made: whether handles were made, of which M.settled will tell.
	local function show_results(results, made)
		local texts = {}
		for i = 1, results.n do
			local value = results[i]
			if is_aggregation(value) and not made then
				value:print()
			elseif not (made and (is_aggregation(value) or handles.state(value))) then
				texts[#texts + 1] = M.show(value)
			end
		end
		if #texts > 0 then
			parts.out.put(table.concat(texts, "\t") .. "\n")
		end
		if results.n > 0 then
			check.declare("_")
			rawset(_G, "_", results[1])
		end
	end

	-- Whether a line must be in a script that shall do the same. results: how many it had; a call without
	-- any was made for what it does.
	local function lasts(text, chunk, made, results)
		if made or not chunk.expression then
			return true
		elseif results == 0 and not text:find(":%a") then
			return not SHOWN[text:match("^%s*([%a_]+)")]
		end
		for _, name in ipairs(LASTING) do
			if text:find("%f[%w_.:]" .. name .. "%s*[.({\"']") then
				return true
			end
		end
		return false
	end

	-- Keeps what was entered; first: the number of the first handle that it made.
	function M.keep(entry, first)
		entry.first, entry.last = first, handles.made()
		M.inputs[#M.inputs + 1] = entry
	end

	local function run(text, chunk, name)
		local made, results = handles.made(), nil
		local ok, err = core.protect(function()
			results = table.pack(chunk.fn())
		end)
		local any = handles.made() > made
		if ok and chunk.names then
			keep_locals(chunk.names, results)
		elseif ok then
			show_results(results, any)
		else
			core.tell("", err)
		end
		if (ok or any) and lasts(text, chunk, any, ok and results.n) then
			M.keep({text = text, expression = chunk.expression and ok, names = chunk.names, failed = not ok}, made + 1)
		else
			host.keep(name)
		end
		return ok and "done" or "failed"
	end

	local main, source = host.main()
	if main then
		M.keep({text = source, chunk = main, args = rawget(_G, "args")}, 1)
	end

	-- Evaluates a text that is whole, or says "more".
	local function evaluate(text)
		local name = ("=input %d"):format(count + 1)
		local chunk, more = compile(name, text)
		if not chunk and more then
			pending = text
			return "more"
		end
		count, pending, last_text = count + 1, nil, text
		if not chunk then
			core.tell("", host.explain(name, text))
			host.keep(name)
			return "failed"
		end
		host.keep(name, text)
		return run(text, chunk, name)
	end

	local commands = core.module("lua/repl_commands.lua")()(core, parts, M)

	-- One line that was typed: "done", "more", "failed" or "quit".
	function M.input(line)
		handles.suspect = nil
		if pending then
			return evaluate(pending .. "\n" .. line)
		elseif not line:find("%S") or line:find("^%s*%-%-[^\n]*$") then
			return "done"
		end
		local topic = line:match("^%s*([%a_][%w_.:]*)%s*%?%s*$")
		local word = line:match("^%s*(%a+)%s*$")
		if topic or line:find("^%s*%?%s*$") then
			return commands.run("help", topic or "")
		elseif word and WORDS[word] and not cells[word] then
			return commands.run(word == "exit" and "quit" or word, "")
		elseif line:find("^%s*%.%a") then
			return commands.run(line:match("^%s*%.(%a+)%s*(.-)%s*$"))
		end
		-- An aggregation that no variable holds is known by its name.
		local name = line:match("^%s*([%a_][%w_]*)%s*$")
		if name and not cells[name] and rawget(_G, name) == nil then
			for _, aggregation in ipairs(parts.aggregate.all()) do
				if aggregation.name == name then
					return commands.run("show", name)
				end
			end
		end
		return evaluate(line)
	end

	-- Ctrl-C, or the end of what is typed; returns whether something was begun.
	function M.forget()
		local begun = pending ~= nil
		pending = nil
		return begun
	end

	-- A handler that had to be interrupted would hold up the prompt again and again.
	function handles.on_cut(h)
		local state = handles.state(h)
		handles.suspect = nil
		if not state.detached and state.enabled then
			h:disable()
			core.tell("", ("handler %d of %s is paused: .resume %d"):format(state.number, state.name,
				state.number))
		end
	end

	-- Ctrl-C when no line ran. cut: Lua code had to be interrupted, which was a handler's.
	function M.interrupted(cut)
		if cut and handles.suspect then
			handles.on_cut(handles.suspect)
		end
		handles.suspect = nil
	end

	-- What .edit begins with.
	function M.last_text()
		return last_text or ""
	end

	M.settled, M.commands = commands.settled, commands.list
	M.complete = core.module("lua/repl_complete.lua")()(core, parts, M, function()
		return pending
	end)
	return M
end
