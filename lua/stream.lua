-- SPDX-License-Identifier: MIT
-- stream{...}: the bytes of each connection and direction as a stream, whatever calls they came in.
--
--   data(conn, dir, buf, e)  is given what is there and not yet used, dir "in" or "out". It returns
--                            how many bytes of buf it used; or nil and, if it knows, how many bytes
--                            it needs before it wants to be asked again. It is not always given all
--                            that is there: nil brings more of it. e is the event that brought the
--                            last of it; nil where data is asked later
--   gap(conn, dir, missing)  bytes are missing here; what was there before them is forgotten
--   close(conn)              the connection ended
--   from    the event that feeds it; "tls_data". Other options of a handler go along
--   max     bytes that are kept for data to use, 16 MiB by default; beyond, they become a gap
--   name    for messages

local MAX = 16 << 20
-- Where data wants more and does not say how much, it is asked again at every event; above this many
-- bytes only when there is an eighth more, or after PAUSE.
local SMALL = 65536
local PAUSE = "20ms"
local WINDOW = 4096

-- One direction of one connection. What data has not used yet, `size` bytes, is `buf` after its
-- first `used` bytes, then `parts`. It is asked when there are `want` bytes, and given `window` at
-- first. `lazy`: it could want less, so what came since it was `asked` is only put off.
local Side = {}
Side.__index = Side

local function new_side()
	return setmetatable({buf = "", used = 0, parts = {}, size = 0, want = 1, window = WINDOW}, Side)
end

function Side:push(data)
	self.parts[#self.parts + 1] = data
	self.size = self.size + #data
end

-- The first n unused bytes. Parts are joined only when they are looked at.
function Side:peek(n)
	local parts = self.parts
	if self.used == #self.buf and not parts[2] then
		self.buf, self.used, self.parts[1] = parts[1] or "", 0, nil
	elseif #self.buf - self.used < n then
		table.insert(parts, 1, self.buf:sub(self.used + 1))
		self.buf, self.used, self.parts = table.concat(parts), 0, {}
	end
	if self.used == 0 and n == #self.buf then
		return self.buf
	end
	return self.buf:sub(self.used + 1, self.used + n)
end

function Side:use(n)
	self.used = self.used + n
	self.size = self.size - n
end

local OWN = {"name", "from", "data", "gap", "close", "max"}

local function check_options(opts, fail)
	if type(opts) ~= "table" then
		fail("stream", "stream needs a table: stream{data = function(conn, dir, buf) ... end}")
	end
	for _, name in ipairs {"data", "gap", "close"} do
		if opts[name] ~= nil and type(opts[name]) ~= "function" then
			fail(name, ("stream: %s must be a function, not a %s"):format(name, type(opts[name])))
		end
	end
	if not opts.data then
		fail("stream", "stream needs data = function(conn, dir, buf)")
	elseif opts.max ~= nil and (math.type(opts.max) ~= "integer" or opts.max < 1) then
		fail("max", "stream: max must be a number of bytes above 0")
	end
end

-- What data said, checked.
local function answer(name, given, used, need)
	if used ~= nil and (math.type(used) ~= "integer" or used < 0 or used > given) then
		error(("%s: data must return how many of %d bytes it used, or nil; not %s"):format(name,
			given, tostring(used)), 0)
	elseif need ~= nil and math.type(need) ~= "integer" then
		error(("%s: data must return a number of bytes after nil"):format(name), 0)
	end
	return used or 0, need
end

-- Asks data until it has used all or wants more than there is. The pieces that it is given grow as
-- it asks for more: small messages in a large buffer must not cost a copy of the buffer each.
local function ask(side, name, data, conn, dir, e)
	local want, need = 1, nil
	while side.size >= want and side.size > 0 do
		local given = math.min(side.size, math.max(side.window, want))
		local used
		used, need = answer(name, given, data(conn, dir, side:peek(given), e))
		side:use(used)
		if used > 0 then
			want, side.window = 1, math.max(WINDOW, 2 * used)
		else
			want, side.window = math.max(need or 0, given + 1), math.max(WINDOW, 2 * given)
		end
	end
	side.asked, side.lazy = side.size, not need and side.size > SMALL
	side.want = side.lazy and side.size + side.size // 8 or want
end

-- The state of a stream{}: sides[conn.id][dir].
local Stream = {}
Stream.__index = Stream

-- While data runs its side is not there: where data fails, what it was given is forgotten. It would
-- fail again at every event.
function Stream:deliver(conn, dir, side, e)
	local both = self.sides[conn.id]
	both[dir] = nil
	ask(side, self.name, self.data, conn, dir, e)
	both[dir] = side
end

-- Before bytes are lost or the connection ends, and when nothing more comes, data sees what was put
-- off.
function Stream:settle(conn, dir)
	local side = (self.sides[conn.id] or {})[dir]
	if side and side.lazy and side.size > side.asked then
		self:deliver(conn, dir, side)
	end
end

function Stream:put_off(conn, dir, side)
	if not side.timer then
		side.timer = true
		self.after(PAUSE, function()
			side.timer = nil
			self:settle(conn, dir)
		end)
	end
end

function Stream:restart(conn, dir, missing)
	self:settle(conn, dir)
	self.sides[conn.id][dir] = nil
	if self.gap then
		self.gap(conn, dir, missing)
	end
end

function Stream:take(conn, dir, bytes, e)
	local both = self.sides[conn.id]
	local side = both[dir] or new_side()
	both[dir] = side
	side:push(bytes)
	if side.size >= side.want or side.size > self.max then
		self:deliver(conn, dir, side, e)
	elseif side.lazy then
		self:put_off(conn, dir, side)
	end
	if side.size > self.max then
		if not self.warned then
			self.warned = true
			self.warn(("%s: data leaves more than %d bytes unused: they are dropped, as a gap")
				:format(self.name, self.max))
		end
		self:restart(conn, dir, side.size)
	end
end

function Stream:event(e)
	if e.peeked then
		return
	end
	local conn, dir, bytes = e.conn, e.dir, e.data or ""
	local missing = e.len - #bytes
	self.sides[conn.id] = self.sides[conn.id] or {}
	if e.gap then
		self:restart(conn, dir, e.gap)
	end
	if bytes ~= "" then
		self:take(conn, dir, bytes, e)
	end
	if missing > 0 then
		self:restart(conn, dir, missing)
	end
end

function Stream:closed(conn)
	if not self.sides[conn.id] then
		return
	end
	self:settle(conn, "in")
	self:settle(conn, "out")
	self.sides[conn.id] = nil
	if self.close then
		self.close(conn)
	end
end

return function(host)
	return function(opts)
		check_options(opts, host.fail)
		local rest = {capture = "all", peek = false}
		for k, v in pairs(opts) do
			rest[k] = v
		end
		for _, name in ipairs(OWN) do
			rest[name] = nil
		end
		host.check("stream_option", rest, "stream")
		local self = setmetatable({
			sides = {}, name = opts.name or "stream", max = opts.max or MAX,
			data = opts.data, gap = opts.gap, close = opts.close, after = host.after, warn = host.warn,
		}, Stream)
		host.event("tls_close", {}, function(e)
			self:closed(e.conn)
		end)
		return host.on(opts.from or "tls_data", rest, function(e)
			self:event(e)
		end)
	end
end
