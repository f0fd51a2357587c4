-- SPDX-License-Identifier: MIT
-- What on.NAME returns, and what of it runs: handlers of plaintext (C runs those), of the tool's own
-- events, and timers.

-- Bytes of a body that are kept where a handler does not say.
local BODY = 65536

return function(core, check)
	local M = {}
	-- The handlers of own events, by event, in the order of their making. C looks whether there are any.
	local lists = {}
	M.lists = lists

	-- A handle: name, fn, what = "plaintext", "event" or "timer", enabled, and counts. Its methods and
	-- `stats` are all that a script sees.
	local private = setmetatable({}, {__mode = "k"})
	local made = 0
	local methods = {}
	local METHODS = {"disable", "enable", "detach", "stats"}

	local function state_of(h)
		local state = private[h]
		if not state then
			core.fail(nil, "not a handle; call methods as h:disable()")
		end
		return state
	end

	local function set_enabled(h, enabled)
		local state = state_of(h)
		if state.detached then
			core.fail(nil, ("the handler of %s was detached; attach a new one"):format(state.name))
		end
		state.enabled = enabled
		if state.id then
			core.enable(state.id, enabled)
		end
		return h
	end

	function methods.enable(h)
		return set_enabled(h, true)
	end

	function methods.disable(h)
		return set_enabled(h, false)
	end

	local function count(state)
		if state.what == "plaintext" and not state.detached then
			state.events, state.bytes = core.stats(state.id)
		end
		return {events = state.events, bytes = state.bytes, errors = state.errors}
	end

	function methods.detach(h)
		local state = state_of(h)
		if state.detached then
			return
		end
		count(state)
		state.detached, state.enabled = true, false
		if state.id then
			core.detach(state.id)
		end
		if state.list then
			for i, other in ipairs(state.list) do
				if other == h then
					table.remove(state.list, i)
					break
				end
			end
		end
	end

	local meta = {
		__name = "handle",
		__metatable = false,
		__index = function(h, key)
			if key == "stats" then
				return count(state_of(h))
			end
			return methods[key] or check.unknown("unknown method of a handle:", key, METHODS)
		end,
		__newindex = function(_, key)
			core.fail(tostring(key), "a handle cannot be changed")
		end,
		__tostring = function(h)
			return "handler of " .. private[h].name
		end,
	}

	local function new(what, name, fn)
		local h = setmetatable({}, meta)
		made = made + 1
		private[h] = {
			what = what, name = name, fn = fn, enabled = true, events = 0, bytes = 0, errors = 0,
			number = made,
		}
		return h, private[h]
	end

	-- For the prompt: how many handles were made, and of those that are not detached what is known.
	function M.made()
		return made
	end

	function M.state(h)
		return private[h]
	end

	-- The prompt's own, made last, is none of the user's.
	function M.hide(h)
		private[h].hidden, private[h].number, made = true, 0, made - 1
	end

	function M.live()
		local list = {}
		for h, state in next, private do
			if not state.detached and not state.hidden then
				count(state)
				list[#list + 1] = h
			end
		end
		table.sort(list, function(a, b)
			return private[a].number < private[b].number
		end)
		return list
	end

	local ALL = 0xffffffff

	-- http: which event of HTTP (core/lua_host.h). Then `capture` is of bodies. plan: how the kernel is
	-- to aggregate; the second result is then its number, or nil: fn gets all events. picks: of
	-- lua/picks.lua.
	function M.plaintext(name, probes, filter, opts, fn, http, plan, picks)
		local h, state = new("plaintext", name, fn)
		local capture = opts.capture
		if capture ~= nil then
			capture = check.size(capture, "capture", ALL)
			if capture > ALL then
				core.fail("capture", "capture must be below 4G; \"all\" has no limit")
			end
		end
		state.probes = probes
		state.id = core.subscribe(h, probes, filter, http and ALL or capture, opts.errors == true,
			http ~= nil or opts.peek == false, fn, opts.where, http, capture or BODY, picks)
		return h, plan and core.aggregate(state.id, plan)
	end

	function M.event(name, opts, fn)
		local h, state = new("event", name, fn)
		state.where = opts.where
		state.list = lists[name]
		table.insert(state.list, h)
		return h
	end

	-- A handler of the ends of connections: subscribed to what passes on them, without its bytes.
	function M.closing(name, probes, filter, opts, fn)
		local h = M.event(name, opts, fn)
		private[h].id = core.subscribe(h, probes, filter, 0)
		return h
	end

	local function ordinal(n)
		local last = n % 100
		local suffix = (last < 11 or last > 13) and ({"st", "nd", "rd"})[n % 10] or "th"
		return n .. suffix
	end

	-- A handler failed: told when the count is a power of two. h: nil when it is gone. cut: it had to be
	-- interrupted.
	function M.failed(h, err, cut)
		local state = h and private[h] or {name = "an event", errors = 0}
		M.suspect = h
		state.errors = state.errors + 1
		core.failed()
		local n = state.errors
		if n & (n - 1) == 0 then
			core.tell(("error in handler of %s%s: "):format(state.name,
				n > 1 and (" (%s time)"):format(ordinal(n)) or ""), err)
		end
		if state.name ~= "error" then
			local frames = type(err) == "table" and err.frames or {}
			M.fire("error", {
				message = tostring(err), traceback = table.concat(frames, "\n"), probe = state.name, count = n,
			})
		end
		if cut and h and M.on_cut then
			M.on_cut(h) -- now: more events may be on their way to it
		end
	end

	-- Calls a handler of an own event or a timer.
	local function run(h, ...)
		local state = private[h]
		if not state.enabled then
			return
		end
		M.suspect = h -- an interrupt goes past what follows
		local ok, err = true, nil
		if state.where then
			local wanted
			ok, err = core.protect(function(...)
				wanted = state.where(...)
			end, ...)
			if ok and not wanted then
				return
			end
		end
		if ok then
			state.events = state.events + 1
			ok, err = core.protect(state.fn, ...)
		end
		if not ok then
			M.failed(h, err)
		end
	end

	local firing -- the own event that handlers are given now
	local fields = {}
	local types, events = core.api("event")
	for _, name in ipairs(events) do
		lists[name] = {}
		local known = {}
		for field in types[name]:gmatch("%S+") do
			known[#known + 1] = field
			known[field] = true
		end
		-- The container is looked for when a handler asks.
		local function whole(t)
			if known.container and t == firing then
				t.container = core.container()
			end
			return t
		end
		fields[name] = {
			event = name, -- for emit
			whole = whole,
			__pairs = function(t)
				return next, whole(t)
			end,
			__index = function(t, key)
				if not known[key] then
					check.unknown("unknown field of the event " .. name .. ":", key, known)
				elseif key == "container" then
					return rawget(whole(t), key)
				end
			end,
		}
	end

	-- Runs all handlers of an own event; subs: of those that are subscriptions, only these. A handler
	-- may attach and detach others meanwhile.
	function M.fire(name, event, subs)
		setmetatable(event, fields[name])
		local outer = firing
		firing = event
		for _, h in ipairs(table.move(lists[name], 1, #lists[name], 1, {})) do
			local id = private[h].id
			if not id or subs & 1 << id ~= 0 then
				run(h, event)
			end
		end
		firing = outer
	end

	-- Timers, in the order of their making. due: when, on the script's clock; before that clock runs,
	-- how long after its start.
	local timers = {}
	M.timers = timers

	local function set_tick()
		local due
		for _, h in ipairs(timers) do
			local at = private[h].due
			due = (not due or at < due) and at or due
		end
		core.set_tick(core.now() > 0 and due or nil)
	end

	local function timer(name, interval, again, fn)
		if type(fn) ~= "function" then
			core.fail(nil, ("%s needs a function: %s(\"1s\", function() ... end)"):format(name, name))
		end
		local h, state = new("timer", name, fn)
		state.due, state.interval, state.list = core.now() + interval, again and interval, timers
		table.insert(timers, h)
		set_tick()
		return h
	end

	function M.every(interval, fn)
		local ns = check.duration(interval, "every")
		if ns < 1000000 then
			core.fail(nil, "every: an interval is 1ms at least")
		end
		return timer("every", ns, true, fn)
	end

	function M.after(delay, fn)
		return timer("after", check.duration(delay, "after"), false, fn)
	end

	function M.started(now)
		for _, h in ipairs(timers) do
			private[h].due = private[h].due + now
		end
		set_tick()
	end

	-- Runs the timers that are due. After a stall a timer runs once, and keeps its rhythm.
	function M.tick(now)
		local due = {}
		for i, h in ipairs(timers) do
			local state = private[h]
			if state.due <= now then
				due[#due + 1] = {h = h, at = state.due, order = i}
			end
		end
		table.sort(due, function(a, b)
			return a.at < b.at or (a.at == b.at and a.order < b.order)
		end)
		for _, d in ipairs(due) do
			local state = private[d.h]
			if state.interval then
				state.due = state.due + state.interval * ((now - state.due) // state.interval + 1)
			end
		end
		for _, d in ipairs(due) do
			run(d.h)
			if not private[d.h].interval then
				methods.detach(d.h)
			end
		end
		set_tick()
	end

	return M
end
