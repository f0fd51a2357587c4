-- SPDX-License-Identifier: MIT
-- Takes out of headers, URLs and bodies what lets somebody in. What is a secret is told by the names of
-- headers, parameters and fields; of values, only JSON Web Tokens are known. A secret under a name that
-- says nothing, in a URL's path, in XML, in what is compressed, encrypted or not text, is not found.
--
-- Payload is hostile: each function reads it once, from its beginning to its end.

local M = {
	shown = false, -- nothing is hidden: --show-secrets before the script's name
	option = {false, "passwords and tokens as they are"}, -- of a recipe
}

local HIDDEN = "***"

-- Words that make a name a secret's, and whole names.
local WORDS = {
	"auth", "token", "secret", "passw", "passphrase", "pwd", "session", "sessid", "signature", "credential", "jwt",
	"cookie", "csrf", "xsrf", "bearer", "assertion", "apikey", "api_key", "accesskey", "access_key", "privatekey",
	"private_key", "subscription_key", "functions_key", "auth_key",
}
local NAMES = {sid = true, sig = true, pass = true, otp = true, pin = true, cvv = true, cvc = true}
-- In URLs and forms these are secrets; in JSON they mostly are not.
local PARAMETERS = {key = true, code = true, ticket = true}
-- Headers with such words that let nobody in. "authority" and "author" do not either.
local HARMLESS = {["^www_authenticate"] = true, ["^sec_"] = true, ["^access_control_"] = true}
local OPEN = {token_type = true, tokenizer = true, auth_type = true}

local function is_secret(name)
	name = name:lower():gsub("%%(%x%x)", function(hex)
		return string.char(tonumber(hex, 16)):lower()
	end):gsub("[-.]", "_"):gsub("author[^i]", ""):gsub("author$", ""):gsub("authority", "")
	if NAMES[name] or OPEN[name] then
		return not OPEN[name]
	end
	for _, word in ipairs(WORDS) do
		if name:find(word, 1, true) then
			return true
		end
	end
	return false
end

local function is_parameter(name)
	return PARAMETERS[name:lower()] or is_secret(name)
end

-- header.payload.signature, the first two of which are JSON in base64.
local function hide_values(text)
	return (text:gsub("%f[%w_-]eyJ[%w_-]+%.[%w_-]+%.[%w_-]*", HIDDEN))
end

local function hide_pair(before, name, value)
	return name and value ~= "" and is_parameter(name) and before .. name .. "=" .. HIDDEN or nil
end

local function hide_url(url)
	if not url then
		return nil
	end
	-- user:password@
	url = url:gsub("(://)[^/?#@%s]*@", "%1" .. HIDDEN .. "@")
	url = url:gsub("([?&;#])([^?=&;#]*)=([^&;#]*)", hide_pair)
	return hide_values(url)
end

local function hide_form(text)
	return (text:gsub("[^&]+", function(pair)
		return hide_pair("", pair:match("^([^=]*)=(.*)$"))
	end))
end

-- Where the string that begins at `from` ends: behind its closing quote, or the text's end. In JSON
-- that is itself a string, a quote is \".
local function string_end(text, quote, from)
	local at = from + #quote
	while true do
		local found = text:find(#quote == 1 and "[\\" .. quote .. "]" or quote, at, #quote > 1)
		if not found then
			return #text + 1
		elseif #quote == 1 and text:byte(found) == 92 then
			at = found + 2
		elseif #quote > 1 and text:byte(found - 1) == 92 then
			at = found + #quote
		else
			return found + #quote
		end
	end
end

-- The same of an array or object.
local function nested_end(text, from)
	local depth, at = 0, from
	while true do
		at = text:find('[%[{%]}"]', at)
		if not at then
			return #text + 1
		end
		local c = text:sub(at, at)
		if c == '"' and text:byte(at - 1) ~= 92 then
			at = string_end(text, '"', at)
		else
			depth = depth + ((c == "[" or c == "{") and 1 or (c == "]" or c == "}") and -1 or 0)
			at = at + 1
		end
		if depth == 0 then
			return at
		end
	end
end

-- What replaces the value at `from`, and where it ends; nil: it is no secret. quote: that of its name.
local function hidden_value(text, name, quote, from)
	local opening = text:match('^\\*["\']', from)
	if opening then
		local stop = string_end(text, opening, from)
		local closed = stop - #opening > from and text:sub(stop - #opening, stop - 1) == opening
		if stop == from + 2 * #opening and closed then
			return nil -- empty
		end
		return opening .. HIDDEN .. (closed and opening or ""), stop
	elseif text:find("^[%[{]", from) then
		return quote .. HIDDEN .. quote, nested_end(text, from)
	end
	local number = text:match("^%-?%d[%w.+-]*", from)
	-- How many tokens a text has is no secret.
	if number and not name:lower():find("tokens?$") and not name:lower():find("count") then
		return quote .. HIDDEN .. quote, from + #number
	end
end

-- JSON, whole or cut off, and what looks like it: "name": value.
local function hide_json(text)
	local out, at, from = {}, 1, 1
	while true do
		local first, last, name, quote = text:find('%f[%w_.-]([%w_.-]+)(\\*["\']?)%s*:%s*', from)
		if not first then
			break
		end
		local hidden, stop
		if is_secret(name) then
			hidden, stop = hidden_value(text, name, quote, last + 1)
		end
		if hidden then
			out[#out + 1] = text:sub(at, last) .. hidden
			at = stop
		end
		from = stop or last + 1
	end
	out[#out + 1] = text:sub(at)
	return table.concat(out)
end

-- multipart/form-data: the parts of secret names are emptied.
local function hide_parts(text, boundary)
	local out, at, body = {}, 1, 0
	while at <= #text do
		local stop = text:find("\r\n--" .. boundary, at, true) or #text + 1
		if body < at then
			body = select(2, text:find("\r\n\r\n", at, true)) or #text + 1
		end
		local name = body < stop and text:sub(at, body):match('[%s;]name="([^"]*)"')
		if name and is_parameter(name) then
			out[#out + 1] = text:sub(at, body) .. HIDDEN
		else
			out[#out + 1] = text:sub(at, stop - 1)
		end
		out[#out + 1] = text:sub(stop, stop + #boundary + 3)
		at = stop + #boundary + 4
	end
	return table.concat(out)
end

-- kind: its Content-Type, where that is known.
local function hide_body(text, kind)
	if not text then
		return nil
	end
	kind = kind or ""
	local lower = kind:lower()
	local boundary = lower:find("^multipart/")
		and (kind:match('[Bb]oundary="([^"]+)"') or kind:match("[Bb]oundary=([^;%s]+)"))
	if lower:find("x-www-form-urlencoded", 1, true) or (lower == "" and text:find("^[%w_.%%+-]+=[^%s]*$")) then
		text = hide_form(text)
	elseif boundary then
		text = hide_parts(text, boundary)
	end
	-- URLs in it.
	text = text:gsub("(://)[^/?#@%s\"]*@", "%1" .. HIDDEN .. "@")
	text = text:gsub("([?&])([%w_.%%-]+)=([^&#%s\"'<>\\]*)", hide_pair)
	return hide_values(hide_json(text))
end

local function is_secret_header(name)
	name = name:lower():gsub("-", "_")
	for pattern in pairs(HARMLESS) do
		if name:find(pattern) then
			return false
		end
	end
	return is_secret(name)
end

-- Of Cookie and Set-Cookie, names and attributes stay.
local function hide_header(name, value)
	local lower = name:lower()
	if lower == "cookie" then
		return (value:gsub("=[^;]*", "=" .. HIDDEN))
	elseif lower == "set-cookie" then
		return (value:gsub("=[^;]*", "=" .. HIDDEN, 1))
	elseif is_secret_header(lower) then
		-- The scheme says how somebody comes in, not who.
		local scheme = lower:find("authorization$") and value:match("^(%a[%w-]*) .")
		return scheme and scheme .. " " .. HIDDEN or HIDDEN
	end
	return hide_url(value)
end

local function same(value)
	return value
end

-- How a recipe shows what may hold secrets. show: nothing is hidden.
function M.hider(show)
	local open = show or M.shown
	local hide = {
		url = open and same or hide_url,
		body = open and same or hide_body,
		header = open and function(_, value) return value end or hide_header,
	}
	-- A message's headers as a list of {name=, value=}; nil of none.
	function hide.headers(headers)
		if not headers then
			return nil
		end
		local out = {}
		for i, h in ipairs(headers) do
			out[i] = {name = h.name, value = hide.header(h.name, h.value)}
		end
		return out
	end
	return hide
end

return M
