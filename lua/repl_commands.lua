-- SPDX-License-Identifier: MIT
-- What begins with a dot at the prompt; and what is told of handlers that were just attached.

-- In the order of .help: name, argument, what it does.
local LIST = {
	{"help", "[NAME]", "this list; of a NAME in Lua what it is (also: NAME?)"},
	{"probes", "[PATTERN]", "the events that on.NAME takes, and what they are"},
	{"on", "", "the handlers, aggregations and timers that are live"},
	{"off", "N|NAME|all", "detaches for good; NAME: of an aggregation, forgotten"},
	{"pause", "[N]", "handlers rest until .resume: all, or that one"},
	{"resume", "[N]", "and run again"},
	{"last", "", "the last event that a handler got, with its fields"},
	{"hex", "[BYTES]", "its plaintext as a hex dump"},
	{"watch", "TIME EXPR", "shows a value again and again: .watch 1s #list"},
	{"show", "[NAME]", "aggregations as they stand"},
	{"targets", "", "who is traced, and which files are probed"},
	{"libs", "[PATTERN]", "the TLS libraries in use, and their functions"},
	{"ps", "", "the processes that have a TLS library loaded"},
	{"stats", "", "events, bytes and losses so far"},
	{"set", "[KEY VALUE]", "settings: of config{}, and depth, items, bytes shown"},
	{"load", "NAME [ARGS]", "runs a script or a recipe here; its handlers stay"},
	{"edit", "[FILE]", "$EDITOR on the last input or the file; runs it then"},
	{"run", "COMMAND", "starts a command, as a program to look at"},
	{"save", "FILE", "writes what is live as a script that does the same"},
	{"quit", "", "ends, and prints the aggregations (also: Ctrl-D)"},
}
local KINDS = {ssl = "openssl", gotls = "go", ktls = "ktls"}
local FILES_TOLD = 4
local SHOWN_BYTES = 200 -- of a field of .last

return function(core, parts, repl)
	local host, handles, out = parts.host, parts.handles, parts.out
	local M, commands, names = {list = LIST}, {}, {}
	local files, told = {}, 0 -- files: {path, kind, sites}, as they were attached
	for i, entry in ipairs(LIST) do
		names[i] = entry[1]
	end

	local function say(format, ...)
		out.put(format:format(...) .. "\n")
	end

	local function wrong(format, ...)
		core.tell("", format:format(...))
		return "failed"
	end

	handles.hide(handles.event("attach", {}, function(e)
		if not e.problem and e.sites > 0 then
			files[#files + 1] = {path = e.path, kind = e.kind, sites = e.sites}
		end
	end))

	-- The aggregation that a handle feeds.
	local function fed_by(h)
		for _, aggregation in ipairs(parts.aggregate.all()) do
			if aggregation.handle == h then
				return aggregation
			end
		end
	end

	local function title(h)
		local state, aggregation = handles.state(h), fed_by(h)
		return aggregation and ("%s, from %s"):format(aggregation, state.name) or state.name
	end

	-- The files whose functions a handler of these probes sees.
	local function files_of(mask)
		local kinds, list = {}, {}
		for name, bits in pairs(parts.probes) do
			local kind = KINDS[name:match("^%a+")]
			if kind and bits & mask ~= 0 then
				kinds[kind] = true
			end
		end
		for _, file in ipairs(files) do
			if kinds[file.kind] then
				list[#list + 1] = ("%s (%s)"):format(file.path, file.kind)
			end
		end
		return list
	end

	-- Where a handler is attached, as the end of a sentence.
	local function place(state)
		local list = state.probes and files_of(state.probes) or {}
		local more = #list - FILES_TOLD
		if not state.probes then
			return ""
		elseif state.name == "tls_hello" then
			return ", on the wire"
		elseif #list == 0 then
			return ", waiting for a program with such a library"
		end
		return (" in %d file%s: %s%s"):format(#list, #list > 1 and "s" or "",
			table.concat(list, ", ", 1, math.min(#list, FILES_TOLD)),
			more > 0 and (" and %d more (.targets)"):format(more) or "")
	end

	-- Tells of the handlers made since it was called last. problem: why they are not attached.
	function M.settled(problem)
		for _, h in ipairs(handles.live()) do
			local state = handles.state(h)
			if state.number > told then
				say("%d: %s%s", state.number, title(h),
					problem and state.probes and ", not attached" or place(state))
			end
		end
		told = handles.made()
	end

	function commands.probes(text)
		local pattern, any = text:gsub("[^%w_]", {["*"] = ".*", ["?"] = "."}), false
		for _, entry in ipairs(host.describe()) do
			if (entry.kind == "probe" or entry.kind == "http" or entry.kind == "event")
				and (text == "" or entry.name:find("^" .. pattern .. "$")) then
				any = true
				say("  %-14s %s", entry.name, entry.help)
			end
		end
		if not any then
			return wrong("no event matches '%s'; .probes alone lists them", text)
		end
	end

	function commands.on()
		local live = handles.live()
		for _, h in ipairs(live) do
			local state = handles.state(h)
			say("%4d  %-36s %-8s %10d events %12s%s", state.number, title(h),
				state.enabled and "runs" or "paused", state.events, core.text.human(state.bytes),
				state.errors > 0 and (", %d errors"):format(state.errors) or "")
		end
		if #live == 0 then
			say("no handlers; try: on.tls_data(function(e) print(e.comm, e.dir, e.len) end)")
		end
	end

	-- The live handles that an argument names; nil when there is none, which is told.
	local function named(text)
		local live, list = handles.live(), {}
		for _, h in ipairs(live) do
			local aggregation = fed_by(h)
			if text == "all" or text == "" or handles.state(h).number == tonumber(text)
					or (aggregation and aggregation.name == text) then
				list[#list + 1] = h
			end
		end
		if #list == 0 and text ~= "" and text ~= "all" then
			wrong("there is no handler %s; .on lists them", text)
			return nil
		end
		return list
	end

	function commands.off(text)
		if text == "" then
			return wrong(".off needs a handler's number, an aggregation's name, or all; .on lists them")
		end
		for _, aggregation in ipairs(table.move(parts.aggregate.all(), 1, 1000, 1, {})) do
			if aggregation.name == text and not aggregation.handle then
				parts.aggregate.forget(aggregation)
				return
			end
		end
		local list = named(text)
		for _, h in ipairs(list or {}) do
			local aggregation = fed_by(h)
			repl.off[handles.state(h).number] = true
			h:detach()
			if aggregation and (aggregation.name == text or text == "all") then
				parts.aggregate.forget(aggregation)
			end
		end
		return not list and "failed" or nil
	end

	local function set_enabled(text, method)
		local list = named(text)
		for _, h in ipairs(list or {}) do
			h[method](h)
		end
		return not list and "failed" or nil
	end

	function commands.pause(text)
		return set_enabled(text, "disable")
	end

	function commands.resume(text)
		return set_enabled(text, "enable")
	end

	local function last_event()
		local event = host.last()
		if not event then
			wrong("no handler got an event yet")
		end
		return event
	end

	function commands.last()
		local event = last_event()
		if not event then
			return "failed"
		end
		local _, fields = core.api(repl.field_kind(event.probe))
		for _, name in ipairs(fields) do
			local value = event[name]
			if value ~= nil then
				say("  %-12s %s", name, repl.show(value, SHOWN_BYTES))
			end
		end
	end

	function commands.hex(text)
		local event = last_event()
		if not event then
			return "failed"
		end
		local bytes, data = tonumber(text), event.data or event.body
		if text ~= "" and not (math.type(bytes) == "integer" and bytes > 0) then
			return wrong(".hex takes a number of bytes, not %s", text)
		elseif not data then
			return wrong("the last event, %s, has no plaintext; .last shows what it has", event.probe)
		end
		out.hexdump(data, bytes)
	end

	-- Runs a line as if it had been typed.
	local function evaluate(text)
		local status = repl.input(text)
		if status == "more" then
			repl.forget()
			return wrong("'%s' is not whole", text)
		end
		return status
	end

	function commands.watch(text)
		local interval, expression = text:match("^(%S+)%s+(.+)$")
		if not interval then
			return wrong(".watch needs a time and an expression, as in .watch 1s #list; .off N ends it")
		end
		return evaluate(("every(%q, function() print(%s) end)"):format(interval, expression))
	end

	function commands.show(text)
		local found
		for _, aggregation in ipairs(parts.aggregate.all()) do
			if text == "" or aggregation.name == text then
				found = true
				aggregation:print()
			end
		end
		if not found then
			return wrong(text == "" and "there is no aggregation; try: count(\"calls\", {from = \"tls_data\", "
				.. "by = \"comm\"})" or "there is no aggregation '%s'", text)
		end
	end

	function commands.targets()
		for _, entry in ipairs(host.target(true)) do
			say("%s%s %s", entry[3] and "not " or "only ", entry[1], entry[2])
		end
		for _, file in ipairs(files) do
			say("%-8s %3d functions  %s", file.kind, file.sites, file.path)
		end
		if #files == 0 then
			say("no file is probed yet: the first handler brings the probes")
		end
	end

	function commands.ps()
		for _, p in ipairs(host.processes(true)) do
			say("%8d  %-16s %s%s", p.pid, p.comm, p.libs, p.container ~= "" and ", in " .. p.container or "")
		end
	end

	local function show_settings()
		for _, key in ipairs {"depth", "items", "bytes"} do
			say("%-10s %d", key, repl.limits[key])
		end
		for _, entry in ipairs(host.describe()) do
			if entry.kind == "config" then
				say("%-10s %s", entry.name, entry.help)
			end
		end
	end

	function commands.set(text)
		local key, value = text:match("^(%S+)%s+(.+)$")
		if text == "" then
			return show_settings()
		elseif key and repl.limits[key] then
			local number = math.tointeger(tonumber(value))
			if not number or number < 1 then
				return wrong(".set %s takes a number above 0, not %s", key, value)
			end
			repl.limits[key] = number
			return
		elseif not key then
			return wrong(".set needs a key and a value; .set alone lists the keys")
		end
		value = value:match('^"(.*)"$') or value
		return evaluate(("config{%s = %s}"):format(key, tonumber(value) and value or ("%q"):format(value)))
	end

	function commands.load(text)
		local args = {}
		for word in text:gmatch("%S+") do
			args[#args + 1] = word
		end
		local name = table.remove(args, 1)
		if not name then
			return wrong(".load needs a script's or a recipe's name")
		end
		return M.load(name, args)
	end

	-- Runs a script's main chunk, and keeps it.
	function M.load(name, args)
		local source, chunk = host.source(name)
		if not source then
			return wrong("%s", chunk)
		end
		local made, ok, err = handles.made(), nil, nil
		args[0] = name
		rawset(_G, "args", args)
		local fn, problem = host.script(chunk, source)
		if fn then
			ok, err = core.protect(fn, table.unpack(args))
		end
		if not ok then
			core.tell("", err or problem)
		end
		if ok or handles.made() > made then
			repl.keep({text = source, chunk = chunk, args = args, failed = not ok}, made + 1)
		end
		return ok and "done" or "failed"
	end

	function commands.edit(text)
		local source = host.command("edit", text ~= "" and text or nil, repl.last_text())
		for line in (source or ""):gmatch("[^\n]+") do
			repl.input(line)
		end
		if repl.forget() then
			return wrong("what was edited is not whole")
		end
	end

	for _, name in ipairs {"libs", "stats"} do
		commands[name] = function(text)
			core.flush()
			host.command(name, text)
		end
	end

	function commands.run(text)
		local name = text:match("^%S+")
		for _, recipe in ipairs(host.recipes()) do
			if recipe[1] == name then
				return wrong("%s is a recipe: .load %s (a program of that name: .run with its path)", name, text)
			end
		end
		core.flush()
		host.command("run", text)
	end

	function commands.quit()
		return "quit"
	end
	commands.exit = commands.quit

	local function help_on(topic)
		local word = topic:match("[%w_]+$") or topic
		local found = core.module("lua/help.lua")()(core, host).tell(topic)
		for _, entry in ipairs(LIST) do
			if entry[1] == word then
				found = true
				say(".%s: %s", (entry[1] .. " " .. entry[2]):gsub(" $", ""), entry[3])
			end
		end
		if found then
			return
		end
		local known = table.move(names, 1, #names, 1, {})
		for _, entry in ipairs(host.describe()) do
			known[#known + 1] = entry.name
		end
		local nearest = core.nearest(word, known)
		return wrong("nothing is called '%s'%s", word, nearest and (", did you mean '%s'?"):format(nearest)
			or "; .help lists the commands, -l the events")
	end

	function commands.help(topic)
		if topic ~= "" then
			return help_on(topic)
		end
		for _, entry in ipairs(LIST) do
			say("  .%-20s %s", (entry[1] .. " " .. entry[2]):gsub("%s+$", ""), entry[3])
		end
		say("Else it is Lua: a value is shown and kept in `_`; TAB completes. Try:")
		say("  on.tls_data(function(e) print(e.comm, e.dir, e.len) end)")
		say("  hist(\"read_us\", {from = \"tls_read\", value = \"duration_us\", by = \"comm\"})")
	end

	commands.save = core.module("lua/repl_save.lua")()(core, parts, repl, wrong)

	function M.run(name, text)
		if not commands[name] then
			local nearest = core.nearest(name, names)
			return wrong("there is no command .%s%s", name, nearest and (", did you mean .%s?"):format(nearest)
				or "; .help lists them")
		end
		local status = "done"
		local ok, err = core.protect(function()
			status = commands[name](text) or "done"
		end)
		if not ok then
			core.tell("", err)
			return "failed"
		end
		return status
	end

	return M
end
