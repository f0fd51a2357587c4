-- SPDX-License-Identifier: MIT
-- leakwatch: keys, tokens, card numbers and mail addresses that programs send, and where to
--
-- usage: tlsscope leakwatch [--only KINDS] [--skip KINDS] [--show-secrets]
--
--   --only KINDS     private-key, aws-key, github-token, slack-token, google-key, stripe-key, jwt, card
--                    (with the right check digit), email; with commas between
--   --skip KINDS     all but these
--   --show-secrets   what was found as it is: else it is masked
--
-- Looks at what leaves a traced program: in URLs, headers and bodies of HTTP (decoded), and in any
-- other plaintext. The same again on one connection is told once. A count by program and kind at the
-- end. What is encoded in other ways (base64, encryption) is not found.
--
-- 14:00:00.412 curl[4711] -> 192.0.2.1:443 aws-key AKIA***(20) in body at 17 of POST https://x.example/up
-- 14:00:00.980 psql[4790] -> 192.0.2.7:5432 email ***@y.example at byte 311

local format = require "format"
local secrets = require "secrets"

local opt = options {
	only = {"", "look for these only"},
	skip = {"", "do not look for these"},
	show_secrets = secrets.option,
}
local show, hide = opt.show_secrets or secrets.shown, secrets.hider(opt.show_secrets)

local ONCE = 1000 -- findings that are remembered of a connection
local OVERLAP = 256 -- bytes of a call that are looked at again with the next one's

-- Luhn's check digit, and a length and beginning that cards have; not one digit all along.
local function is_card(digits)
	local sum, n = 0, #digits
	if n < 13 or n > 19 or not digits:find("^[3-6]") or digits:find("^(%d)%1*$") then
		return false
	end
	for i = 1, n do
		local d = digits:byte(n + 1 - i) - 48
		if i % 2 == 0 then
			d = d * 2 > 9 and d * 2 - 9 or d * 2
		end
		sum = sum + d
	end
	return sum % 10 == 0
end

local function first(n)
	return function(text)
		return ("%s***(%d)"):format(text:sub(1, n), #text)
	end
end

-- What is looked for: a text that must be there at all, a pattern, what else must hold, what is shown.
local KINDS = {
	["private-key"] = {"PRIVATE KEY-----", "%-%-%-%-%-BEGIN [%u%d ]-PRIVATE KEY%-%-%-%-%-", mask = function(text)
		return text .. "***"
	end},
	["aws-key"] = {"A", "%f[%w]A[KS]IA[%u%d]+%f[%W]", valid = function(text) return #text == 20 end, mask = first(4)},
	["github-token"] = {"gh", "%f[%w]gh[pousr]_%w+", valid = function(text) return #text >= 40 end, mask = first(4)},
	["slack-token"] = {"xox", "%f[%w]xox[abposr]%-[%w-]+", valid = function(text) return #text >= 20 end, mask = first(5)},
	["google-key"] = {"AIza", "%f[%w]AIza[%w_-]+", valid = function(text) return #text == 39 end, mask = first(4)},
	["stripe-key"] = {"k_live_", "%f[%w][rs]k_live_%w+", valid = function(text) return #text >= 20 end, mask = first(8)},
	jwt = {"eyJ", "%f[%w]eyJ[%w_-]+%.eyJ[%w_-]+%.[%w_-]*", mask = first(3)},
	card = {nil, "%f[%w]%d[%d -]+%d%f[%W]", valid = function(text)
		return #text < 32 and not text:find("[ -][ -]") and is_card((text:gsub("[ -]", "")))
	end, mask = function(text)
		return ("***%s(%d)"):format(text:sub(-4), #text)
	end},
	email = {"@", "%f[%w._+-][%w._+-]+@[%w-]+%.[%w.-]*%a", valid = function(text)
		return #text < 255
	end, mask = function(text)
		return "***" .. text:match("@.*")
	end},
}

local function chosen()
	local list, names = {}, {}
	for name in (opt.only .. "," .. opt.skip):gmatch("[^,%s]+") do
		if not KINDS[name] then
			warn("leakwatch: there is no kind ", name, "; --help tells the kinds")
			exit(2)
		end
		names[name] = true
	end
	for name, kind in pairs(KINDS) do
		if (opt.only == "" or names[name]) and (opt.skip == "" or opt.only ~= "" or not names[name]) then
			kind.name = name
			list[#list + 1] = kind
		end
	end
	table.sort(list, function(a, b) return a.name < b.name end)
	return list
end

local kinds = chosen()
local found = count("leaks", {by = {"comm", "kind"}})

local function tell(e, kind, text, at, place)
	local shown = show and text or kind.mask(text)
	found:add(e.comm, kind.name)
	if format.json then
		return emit {
			type = "leakwatch", time = e.time, nsecs = e.nsecs, pid = e.pid, comm = e.comm, peer = e.peer,
			conn = e.conn.id, kind = kind.name, value = shown, len = #text, place = place.name, offset = at,
			method = place.method, url = place.url,
		}
	end
	local where = place.name and ("in %s at %d"):format(place.name, at) or ("at byte %d"):format(at)
	if place.url then
		where = ("%s of %s %s"):format(where, place.method or "-", place.url)
	end
	printf("%s %s[%d] -> %s %s %s %s\n", e.time or e.nsecs, escape(e.comm), e.pid, e.peer or "-", kind.name,
		escape(shown), escape(where))
end

-- What was told of a connection.
local function is_new(conn, kind, text)
	local told = conn.state.told or {n = 0}
	local key = kind.name .. text
	if told[key] or told.n >= ONCE then
		return not told[key]
	end
	told[key], told.n, conn.state.told = true, told.n + 1, told
	return true
end

-- text begins at `base` of what it is a part of.
local function look(e, text, base, place)
	for _, kind in ipairs(kinds) do
		local at = not kind[1] or text:find(kind[1], 1, true)
		at = at and 1
		while at do
			local from, to = text:find(kind[2], at)
			local match = from and text:sub(from, to)
			if match and (not kind.valid or kind.valid(match)) and is_new(e.conn, kind, match) then
				tell(e, kind, match, base + from - 1, place)
			end
			at = to and to + 1
		end
	end
end

-- A URL is shown with each finding: what is found in it must not be.
local function masked(url)
	url = hide.url(url)
	for _, kind in pairs(url and not show and KINDS or {}) do
		url = url:gsub(kind[2], function(text)
			return (not kind.valid or kind.valid(text)) and kind.mask(text) or nil
		end)
	end
	return url
end

-- The message that leaves: its target, its headers, its body.
local function look_http(e)
	local place = {url = masked(e.url or e.path), method = e.method}
	local function part(name, text)
		place.name = name
		look(e, text, 0, place)
	end
	if e.probe == "http_request" and e.path then
		part("URL", e.path)
	end
	for name, value in pairs(e.headers) do
		part("header " .. name, value)
	end
	if e.body then
		part("body", e.body)
	end
end

for event, side in pairs {http_request = "client", http_response = "server"} do
	on[event]({capture = "1M"}, function(e)
		e.conn.state.http = true
		if e.side == side then
			look_http(e)
		end
	end)
end

local function is_http(bytes)
	return bytes:match("^PRI %* HTTP/2") or bytes:match("^%u+ %S+ HTTP/1%.") or bytes:match("^HTTP/1%.%d %d%d%d")
end

-- What is not HTTP: each call's bytes, with the last ones before them.
on.tls_data({capture = "all", peek = false}, function(e)
	local state, bytes = e.conn.state, e.data or ""
	state.http = state.http or is_http(bytes) ~= nil
	if state.http or e.dir == "in" then
		state.tail = nil
		return
	end
	local tail = not e.gap and state.tail or ""
	look(e, tail .. bytes, e.conn.bytes_out - e.len - #tail, {})
	state.tail = not e.truncated and (tail .. bytes):sub(-OVERLAP) or nil
end)

on.stop(function()
	if format.json then
		return found:print()
	end
	local rows = {}
	for i, row in ipairs(found:top(100)) do
		rows[i] = {escape(row.key[1]), row.key[2], tostring(row.value)}
	end
	if #rows == 0 then
		return print("nothing was found")
	end
	printf("found\n%s", format.table({{title = "comm"}, {title = "kind"}, {title = "count", right = true}}, rows))
end)
