-- SPDX-License-Identifier: MIT
-- What `tlsscope help` says, and what .help NAME says at the prompt: from the table of the API, the recipes'
-- own words, and a few topics.

local KINDS = {
	probe = "event", http = "event", field = "field of an event", conn = "field of e.conn", proc = "field of e.proc",
	event = "event of tlsscope itself", container = "field of e.proc.container", option = "option of a handler",
	target = "key of target{}", config = "key of config{}", aggregation = "aggregation",
	method = "method", ["function"] = "function", agg_option = "option of an aggregation",
	stream_option = "option of stream{}", http_field = "field of an HTTP event",
	http_message = "field of e.request and e.response", ws_field = "field of on.ws_message",
	grpc_field = "field of on.grpc_call",
}
local CLI = {["who is traced"] = true, output = true, ["looking around"] = true, ["the script"] = true}
-- What a name's beginning says about its kind.
local PREFIXES = {
	{"^e%.conn%.", "conn"}, {"^conn%.", "conn"}, {"^e%.proc%.container%.", "container"}, {"^e%.proc%.", "proc"},
	{"^proc%.", "proc"}, {"^container%.", "container"}, {"^target%.", "target"}, {"^config%.", "config"},
	{"^stream%.", "stream_option"}, {"^e[.:]", nil}, {"^on%.", nil}, {"^h[.:]", "method"}, {"^a[.:]", "method"},
}

local TOPICS = {
	status = [[
Exit status: 0 when all went well; 1 when something went wrong at run time (a script's error, no
privileges, a damaged recording); 2 when the command line is wrong. A script's exit(n) ends with n.
doctor: 0 when everything asked about can be captured at least in part, else 1.

Example:
  tlsscope --check httplog && echo fine]],
	filters = [[
Who is traced is said on the command line (-p, --comm, --uid, --exe, --lib, --cgroup, --container), for a
script by target{}, for a handler by its options: the same keys everywhere. A list means or, different
keys mean and, exclude = {} negates. All of it runs in the kernel; where = function(e) runs in Lua.

Example:
  tlsscope -e 'on.tls_data({comm = {"curl", "wget"}, exclude = {uid = 0}}, function(e) print(e.len) end)']],
	prompt = [[
`tlsscope` alone is a prompt: Lua line by line, handlers that come and go, TAB completes, .help lists
its commands, NAME? explains. tlsscope-repl(7) tells more.

Example:
  tlsscope -i sniff]],
}

return function(core, facts)
	local M, say = {}, {}
	local list, usual = facts.describe(), core.module("lua/usual.lua")()
	local example = core.module("lua/help_examples.lua")()(CLI)
	M.example, M.cli, M.list = example, CLI, list

	local function put(format, ...)
		say[#say + 1] = format:format(...)
	end

	local function flush()
		core.write(table.concat(say, "\n") .. "\n")
		say = {}
	end

	local function form(entry)
		if entry.kind == "event" then
			return "fields: " .. entry.type
		elseif entry.kind == "probe" or entry.kind == "http" then
			return ("on.%s([{options},] function(e) ... end)"):format(entry.name)
		elseif KINDS[entry.kind] and entry.type:find("^[%a|_]+$") then
			return "type: " .. entry.type:gsub("|", " or ")
		end
		return entry.type
	end

	local bare -- examples are for the prompt

	local function show(entry)
		put("%s (%s): %s", CLI[entry.kind] and "--" .. entry.name or entry.name,
			CLI[entry.kind] and "option of the command line" or KINDS[entry.kind] or entry.kind, entry.help)
		put("    %s", form(entry))
		local code = example(entry, bare)
		if code then
			put("    Example:\n      %s", code)
		end
	end

	-- Entries whose names and descriptions have all of these words, or that are usually called so.
	local function near(topic)
		local words, seen = {}, {}
		for word in topic:lower():gmatch("[%w_]+") do
			words[#words + 1] = #word > 2 and word or nil
		end
		local function has_all(entry)
			local text = (entry.name .. " " .. entry.help):lower()
			for _, word in ipairs(words) do
				if not text:find(word, 1, true) and usual[word] ~= entry.name then
					return false
				end
			end
			return #words > 0
		end
		for _, entry in ipairs(list) do
			local line = ("  %-16s %s"):format(CLI[entry.kind] and "--" .. entry.name or entry.name, entry.help)
			if has_all(entry) and not seen[line] then
				put("%s%s", next(seen) and "" or ("Of '%s' tell:\n"):format(topic), line)
				seen[line] = true
			end
		end
		return next(seen) ~= nil
	end

	-- Entries of that name; of several kinds, unless the name says which. "-p" is --pid.
	local function find(topic)
		local name, kind, only_cli = topic, nil, topic:find("^%-") ~= nil
		if only_cli then
			name = topic:gsub("^%-+", "")
		else
			for _, prefix in ipairs(PREFIXES) do
				if topic:find(prefix[1]) then
					name, kind = topic:gsub(prefix[1], ""), prefix[2]
					break
				end
			end
		end
		local found = {}
		for _, entry in ipairs(list) do
			local letter = only_cli and #name == 1 and entry.type:sub(1, 3) == "-" .. name .. ","
			if (entry.name == name or letter) and (not kind or entry.kind == kind)
				and (not only_cli or CLI[entry.kind]) then
				found[#found + 1] = entry
			end
		end
		return found, name
	end
	M.find = find

	local function recipe(name)
		for _, r in ipairs(facts.recipes()) do
			if r[1] == name then
				local text = facts.source(name)
				put("%s (recipe): %s", name, r[2])
				local head = true
				for line in text:gmatch("[^\n]*") do
					local words = line:match("^%-%-%s?(.*)$")
					head = head and words ~= nil
					if head and not words:find("^SPDX") and not words:find("^" .. name .. ": ") then
						put("    %s", words)
					end
				end
				put("    Example:\n      tlsscope %s", name == "pcap" and "--pcap tls.pcapng" or name)
				return true
			end
		end
	end

	local GROUPS = {
		{"options", "the command line's", CLI},
		{"events", "what on.NAME takes", {probe = true, http = true, event = true}},
		{"fields", "of events, connections, processes", {field = true, conn = true, proc = true, container = true}},
		{"functions", "and aggregations and methods",
			{["function"] = true, aggregation = true, method = true}},
		{"keys", "options of handlers, target{}, config{}, aggregations, stream{}",
			{option = true, target = true, config = true, agg_option = true, stream_option = true}},
		{"messages", "fields of HTTP, WebSocket and gRPC events",
			{http = true, http_field = true, http_message = true, ws_field = true, grpc_field = true}},
	}

	local ALSO = {aggregations = "functions", methods = "functions", targets = "keys", filter = "filters"}

	local function group(topic)
		topic = ALSO[topic] or ALSO[topic .. "s"] or topic
		for _, g in ipairs(GROUPS) do
			if g[1] == topic or g[1] == topic .. "s" then
				local last
				for _, entry in ipairs(list) do
					if g[3][entry.kind] then
						if last ~= entry.kind then
							put("%s%s:", last and "\n" or "",
								CLI[entry.kind] and entry.kind:gsub("^%l", string.upper) or KINDS[entry.kind])
							last = entry.kind
						end
						put("  %-28s %s", CLI[entry.kind] and entry.type or entry.name, entry.help)
					end
				end
				put("\n`tlsscope help NAME` shows an example of each.")
				return true
			end
		end
	end

	local function overview()
		put("tlsscope help NAME explains one thing, with an example. NAME is an option (--rotate, -p), a")
		put("recipe (httplog), an event (tls_open, on.http), a field (e.conn.sni), an option of a handler")
		put("(capture), a function (hexdump), an aggregation (hist), or one of:\n")
		for _, g in ipairs(GROUPS) do
			put("  %-10s %s", g[1], g[2])
		end
		put("  %-10s %s", "recipes", "the shipped scripts")
		put("  %-10s %s", "filters", "who is traced")
		put("  %-10s %s", "status", "the exit status")
		put("  %-10s %s", "prompt", "`tlsscope` alone")
		put("  %-10s %s", "examples", "all of them")
		put("  %-10s %s", "d.lua", "types for editors (lua-language-server); luacheckrc: names for luacheck")
		put("\nThe manual: man tlsscope, tlsscope-lua, tlsscope-repl, tlsscope-tutorial.")
	end

	local function recipes()
		for _, r in ipairs(facts.recipes()) do
			put("%-12s %s", r[1], r[2])
		end
	end

	local function examples()
		for _, entry in ipairs(list) do
			put("%s %s\t%s", entry.kind, entry.name, example(entry) or "")
		end
	end

	local function types()
		put("%s", core.module("lua/help_types.lua")()(list, CLI).types())
	end

	local function luacheckrc()
		put("%s", core.module("lua/help_types.lua")()(list, CLI).luacheckrc())
	end

	local SPECIAL = {recipes = recipes, examples = examples, ["d.lua"] = types, luacheckrc = luacheckrc}

	-- All names that explain knows.
	function M.names()
		local names = {"recipes", "examples", "d.lua", "luacheckrc", "filters", "status", "prompt"}
		local known = {}
		for _, g in ipairs(GROUPS) do
			names[#names + 1] = g[1]
		end
		for _, r in ipairs(facts.recipes()) do
			names[#names + 1] = r[1]
		end
		for _, entry in ipairs(list) do
			local name = CLI[entry.kind] and "--" .. entry.name or entry.name
			if not known[name] then
				known[name] = true
				names[#names + 1] = name
			end
		end
		return names
	end

	local function explain(topic)
		local found = find(topic)
		local any = #found > 0
		for i, entry in ipairs(found) do
			if i > 1 then
				put("")
			end
			show(entry)
		end
		if recipe(topic) then
			any = true
		end
		if not any then
			any = group(topic)
			local key = topic == "exit status" and "status" or topic
			if not any and (TOPICS[key] or SPECIAL[key]) then
				any = true
				if TOPICS[key] then
					put("%s", TOPICS[key])
				else
					SPECIAL[key]()
				end
			end
		end
		if not any then
			any = near(topic)
		end
		if topic == "exit" then
			put("\nThe exit status: tlsscope help status")
		end
		return any
	end

	-- For the prompt. False: nothing has that name.
	function M.tell(topic)
		bare = true
		local any = explain(topic)
		if any then
			flush()
		end
		return any
	end

	function M.explain(words)
		if #words == 0 then
			overview()
			return flush()
		end
		local topic = table.concat(words, " ")
		if not explain(topic) then
			local _, name = find(topic)
			local nearest = core.nearest(name, M.names())
			core.fail(nil, ("nothing is called '%s'%s"):format(topic, nearest
				and (", did you mean '%s'?"):format(nearest) or "; `tlsscope help` tells what there is"))
		end
		flush()
	end

	function M.complete(words)
		core.module("lua/help_complete.lua")()(core, facts, M, words)
	end

	return M
end
