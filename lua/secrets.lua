-- SPDX-License-Identifier: MIT
-- Takes out of headers and URLs what lets somebody in.

local M = {}

local HIDDEN = "***"

-- Headers whose whole value is a secret; of Cookie and Set-Cookie, names and attributes stay.
local SECRET = {
	["authorization"] = true, ["proxy-authorization"] = true, ["x-api-key"] = true,
	["x-auth-token"] = true, ["x-csrf-token"] = true, ["x-amz-security-token"] = true,
	["api-key"] = true, ["x-access-token"] = true, ["x-goog-api-key"] = true,
}

-- Words that make a parameter's name a secret's.
local WORDS = {
	"token", "secret", "password", "passwd", "pwd", "apikey", "api_key", "api-key", "auth", "session",
	"signature", "credential", "jwt",
}
local NAMES = {key = true, sig = true, sid = true, code = true, pass = true}

local function is_secret(name)
	name = name:lower()
	if NAMES[name] then
		return true
	end
	for _, word in ipairs(WORDS) do
		if name:find(word, 1, true) then
			return true
		end
	end
	return false
end

local function hide_url(url)
	if not url then
		return nil
	end
	-- user:password@
	url = url:gsub("^(%a[%w+.-]*://)[^/?#@]*@", "%1" .. HIDDEN .. "@")
	return (url:gsub("([?&;#])([^=&;#]*)=([^&;#]*)", function(before, name, value)
		if value ~= "" and is_secret(name) then
			return before .. name .. "=" .. HIDDEN
		end
	end))
end

local function hide_header(name, value)
	local lower = name:lower()
	if SECRET[lower] or (is_secret(lower) and not lower:find("^www%-") and not lower:find("^sec%-"))
		and not lower:find("^access%-control") then
		-- The scheme says how somebody comes in, not who.
		local scheme = value:match("^(%a[%w-]*) .")
		return scheme and lower:find("authorization", 1, true) and scheme .. " " .. HIDDEN or HIDDEN
	elseif lower == "cookie" then
		return (value:gsub("=[^;]*", "=" .. HIDDEN))
	elseif lower == "set-cookie" then
		return (value:gsub("=[^;]*", "=" .. HIDDEN, 1))
	elseif lower == "referer" or lower == "location" or lower == ":path" then
		return hide_url(value)
	end
	return value
end

-- show: nothing is hidden.
function M.hider(show)
	if show then
		return {
			url = function(url) return url end,
			header = function(_, value) return value end,
		}
	end
	return {url = hide_url, header = hide_header}
end

return M
