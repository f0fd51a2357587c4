-- SPDX-License-Identifier: MIT
-- Options of a handler that ask something of each call: its direction, length, first bytes, and how many
-- of them are wanted. The kernel decides (bpf/picks.h).

local KEYS = {"dir", "min_len", "max_len", "prefix", "sample", "first", "rate"}
local DIRECTIONS = {["in"] = "tls_read", out = "tls_write"}
local MOST = (1 << 32) - 1

return function(core, check)
	local M = {}

	-- Of events that are not one call's plaintext.
	function M.refuse(opts, where)
		for _, key in ipairs(KEYS) do
			if opts[key] ~= nil then
				core.fail(key, ("%s takes no option `%s`: that is of calls that read or write"):format(where,
					key))
			end
		end
	end

	-- The probes of mask that go the way that opts.dir says.
	function M.direction(probes, mask, opts, where)
		if opts.dir == nil then
			return mask
		end
		local way = DIRECTIONS[opts.dir]
		if not way then
			core.fail("dir", ("%s: dir must be \"in\" (read) or \"out\" (written), not %s"):format(where,
				tostring(opts.dir)))
		elseif mask & probes[way] == 0 then
			core.fail("dir", ("%s: nothing of it goes \"%s\""):format(where, opts.dir))
		end
		return mask & probes[way]
	end

	local function read_size(opts, key, where)
		local n = opts[key] ~= nil and check.size(opts[key], key) or nil
		if n == 0 then
			core.fail(key, ("%s: %s is 1 at least"):format(where, key))
		end
		return n
	end

	local function read_count(opts, key, where)
		local n = math.tointeger(opts[key])
		if opts[key] ~= nil and (not n or n < 1 or n > MOST) then
			core.fail(key, ("%s: %s must be a whole number from 1 on, not %s"):format(where, key,
				tostring(opts[key])))
		end
		return n
	end

	local function read_prefix(prefix, where)
		local list = type(prefix) == "table" and prefix or {prefix}
		if prefix ~= nil and #list == 0 then
			core.fail("prefix", where .. ": prefix is an empty list; leave it out, or name one")
		end
		for _, text in ipairs(list) do
			if type(text) ~= "string" then
				core.fail("prefix", ("%s: prefix must be a string or a list of them, not %s"):format(where,
					tostring(text)))
			end
		end
		return prefix ~= nil and list or nil
	end

	-- What core.subscribe takes of opts.
	function M.read(opts, where)
		local picks = {
			min_len = read_size(opts, "min_len", where), max_len = read_size(opts, "max_len", where),
			prefix = read_prefix(opts.prefix, where), sample = read_count(opts, "sample", where),
			first = read_count(opts, "first", where), rate = read_count(opts, "rate", where),
		}
		if picks.min_len and picks.max_len and picks.min_len > picks.max_len then
			core.fail("max_len", ("%s: max_len is below min_len: nothing would pass"):format(where))
		end
		return picks
	end

	return M
end
