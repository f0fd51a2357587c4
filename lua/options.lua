-- SPDX-License-Identifier: MIT
-- options{name = {default, help}}: a script's own options, from its arguments.
--
-- --name VALUE or --name=VALUE; an option whose default is a boolean is a flag: --name, --no-name,
-- --name=yes. "-" and "_" are the same in a name. "--" ends the options; what is no option is in [1] to [n].

local YES = {yes = true, ["true"] = true, on = true, ["1"] = true}
local NO = {no = true, ["false"] = true, off = true, ["0"] = true}

-- Names with "-", as users type them, to {name=, default=, help=}; and a sorted list of those names.
local function declare(core, spec)
	local known, list = {}, {}
	for name, value in pairs(spec) do
		if type(name) ~= "string" or not name:match("^%a[%w_]*$") then
			core.fail(nil, ("options: '%s' cannot be an option's name"):format(tostring(name)))
		end
		local default, help = value, ""
		if type(value) == "table" then
			default, help = value[1], value[2] or ""
		end
		if type(default) == "table" or type(default) == "function" then
			core.fail(name, ("options: the default of '%s' must be a number, a string or a boolean"):format(name))
		end
		local typed = name:gsub("_", "-")
		known[typed] = {name = name, default = default, help = help}
		list[#list + 1] = typed
	end
	table.sort(list)
	return known, list
end

local function usage(known, list, script)
	local lines = {("usage: tlsscope %s [options] [arguments]\n"):format(script)}
	for _, typed in ipairs(list) do
		local option = known[typed]
		local default, left = option.default, "  --" .. typed
		if type(default) ~= "boolean" then
			left = left .. (type(default) == "number" and " N" or " TEXT")
		end
		local shown = default ~= nil and default ~= false and default ~= ""
		lines[#lines + 1] = ("%-26s %s%s\n"):format(left, option.help,
			shown and (" (%s)"):format(tostring(default)) or "")
	end
	lines[#lines + 1] = ("%-26s %s\n"):format("  --help", "shows this")
	return table.concat(lines)
end

return function(core, put)
	-- A wrong argument is the user's, not the script's: no line of source is told.
	local function wrong(message)
		core.tell("", message .. "; --help tells the script's options")
		core.exit(2)
	end

	local function convert(option, typed, value)
		local kind = type(option.default)
		if kind == "boolean" then
			if YES[value] == NO[value] then
				wrong(("--%s takes yes or no, not '%s'"):format(typed, value))
			end
			return YES[value] or false
		elseif kind == "number" then
			local number = tonumber(value)
			if not number then
				wrong(("--%s takes a number, not '%s'"):format(typed, value))
			end
			return number
		end
		return value
	end

	-- Reads the option in args[i]; returns the index after it.
	local function read_option(known, list, args, i, out)
		local typed, value = args[i]:match("^%-%-?([^=]*)=?(.*)$")
		local has_value = args[i]:find("=", 1, true)
		typed = typed:gsub("_", "-")
		local option = known[typed]
		local negated = not option and known[typed:match("^no%-(.+)$")]
		if negated and type(negated.default) == "boolean" and not has_value then
			out[negated.name] = false
			return i + 1
		elseif not option then
			local nearest = core.nearest(typed, list)
			wrong(("unknown option '%s'%s"):format(args[i]:match("^[^=]*"),
				nearest and (", did you mean '--%s'?"):format(nearest)
				or " (tlsscope's own stand before the script's name)"))
		elseif has_value then
			out[option.name] = convert(option, typed, value)
			return i + 1
		elseif type(option.default) == "boolean" then
			out[option.name] = true
			return i + 1
		elseif not args[i + 1] then
			wrong(("--%s needs a value"):format(typed))
		end
		out[option.name] = convert(option, typed, args[i + 1])
		return i + 2
	end

	return function(spec)
		if type(spec) ~= "table" then
			core.fail(nil, "options needs a table: options{name = {default, \"help\"}}")
		end
		local known, list = declare(core, spec)
		local args, out, i = _G.args, {}, 1
		for _, option in pairs(known) do
			out[option.name] = option.default
		end
		while args[i] do
			local arg = args[i]
			if arg == "--" then
				table.move(args, i + 1, #args, #out + 1, out)
				break
			elseif arg == "--help" then
				put(usage(known, list, args[0]))
				core.exit(0)
			elseif arg:match("^%-%-?%a") then
				i = read_option(known, list, args, i, out)
			else
				out[#out + 1] = arg
				i = i + 1
			end
		end
		return out
	end
end
