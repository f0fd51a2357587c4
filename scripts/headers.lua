-- SPDX-License-Identifier: MIT
-- headers: the headers of HTTP requests and responses, or those that are named
--
-- usage: tlsscope headers [NAME...] [--count] [--top N] [--side client|server] [--show-secrets]
--
--   NAME...          only these, as in: headers user-agent server; * stands for anything
--   --count          only how often each value came, when the run ends (Ctrl-C, or -c COMMAND)
--   --top N          rows of that table
--   --side S         only where the traced program is the client, or the server
--   --show-secrets   Authorization, cookies, tokens as they are
--
-- ">" is of a request, "<" of a response. A message that has none of the names is not shown.
--
-- 14:00:00.412 curl[4711] -> 127.0.0.1:8443 GET https://localhost/
--   > User-Agent: curl/7.88.1
--   < Server: nginx/1.22.1

local format = require "format"
local requests = require "requests"

local opt = requests.options {
	count = {false, "only how often each value came"},
	top = {40, "rows of the table"},
}
local values = opt.count and count("headers", {top = opt.top})

local patterns = {}
for i, name in ipairs(opt) do
	patterns[i] = "^" .. name:lower():gsub("%p", "%%%0"):gsub("%%%*", ".*") .. "$"
end

local function is_wanted(name)
	for _, pattern in ipairs(patterns) do
		if name:lower():find(pattern) then
			return true
		end
	end
	return #patterns == 0
end

local function wanted(message)
	local list = {}
	for _, h in ipairs(message and requests.hide.headers(message.headers) or {}) do
		if is_wanted(h.name) then
			list[#list + 1] = h
		end
	end
	return list
end

local function print_list(mark, list)
	for _, h in ipairs(list) do
		printf("  %s %s: %s\n", mark, escape(h.name), escape(h.value))
	end
end

requests.each(0, function(e)
	local asked, answered = wanted(e.request), wanted(e.response)
	if values then
		for mark, list in pairs {[">"] = asked, ["<"] = answered} do
			for _, h in ipairs(list) do
				values:add(mark, h.name:lower(), h.value)
			end
		end
	elseif #asked + #answered == 0 then
		return
	elseif format.json then
		emit(requests.record("headers", e, {request = json.array(asked), response = json.array(answered)}))
	else
		print(requests.line(e))
		print_list(">", asked)
		print_list("<", answered)
	end
end)

if values then
	on.stop(function()
		local rows = {}
		for i, row in ipairs(values:top(opt.top)) do
			rows[i] = {row.key[1], escape(row.key[2]), format.clip(escape(row.key[3]), 200), tostring(row.value)}
		end
		if format.json then
			values:print()
		else
			printf("%s", format.table({
				{title = ""}, {title = "header"}, {title = "value"}, {title = "count", right = true},
			}, rows, math.huge))
		end
	end)
end
