-- SPDX-License-Identifier: MIT
-- graphql: GraphQL operations: kind, name, status, errors, time; over HTTP, POST and GET
--
-- usage: tlsscope graphql [--query] [--side client|server] [--show-secrets]
--
--   --query          the operations' text and variables, and the messages of errors
--   --side S         only where the traced program is the client, or the server
--   --show-secrets   variables and arguments such as password and token as they are
--
-- An operation is a request whose body, or query string, has a GraphQL document, or the hash of one
-- that the server knows. A request with several of them is a line each. Of bodies the first mebibyte
-- is read: an answer that is longer is "not read".
--
-- 14:00:00.412 node[4711] -> 127.0.0.1:4000 POST https://localhost/graphql query Orders 200 errors 0 2.10ms

local format = require "format"
local messages = require "messages"
local requests = require "requests"

local BODY = 1 << 20

local opt = requests.options {
	query = {false, "the operations' text and variables"},
}

-- The parameters of a query string that operations have, decoded.
local function parameters(path)
	local out = {}
	for name, value in ((path or ""):match("%?(.*)") or ""):gmatch("([^?=&#]+)=([^&#]*)") do
		value = value:gsub("+", " "):gsub("%%(%x%x)", function(hex)
			return string.char(tonumber(hex, 16))
		end)
		out[name] = value
	end
	for _, name in ipairs {"variables", "extensions"} do
		out[name] = out[name] and json.decode(out[name])
	end
	return out
end

-- "query", "mutation" or "subscription", and the name, where it has one; nil: it is no document.
local function describe(op)
	local document = type(op.query) == "string" and op.query:gsub("#[^\n]*", ""):gsub("^[%s,]+", "")
	local named = type(op.operationName) == "string" and op.operationName or nil
	local persisted = type(op.extensions) == "table" and op.extensions.persistedQuery
	if not document or document == "" then
		return type(persisted) == "table" and "persisted" or nil, named
	elseif document:sub(1, 1) == "{" then
		return "query", named
	end
	for _, kind in ipairs {"query", "mutation", "subscription", "fragment"} do
		local rest = document:match("^" .. kind .. "%f[^%w_](.*)")
		if rest then
			return kind, named or rest:match("^%s*([%a_][%w_]*)")
		end
	end
end

-- The operations of a request, as a list; nil: there are none.
local function operations(e)
	local body = e.request and e.request.body_len > 0 and e.request.body
	local first = body and body:match("^%s*([%[{])")
	local value = first and json.decode(body) or not body and parameters(e.path) or nil
	local list = {}
	for _, op in ipairs(first == "[" and value or {value}) do
		local kind, name
		if type(op) == "table" then
			kind, name = describe(op)
		end
		if kind then
			list[#list + 1] = {
				kind = kind, name = name, query = op.query, variables = type(op.variables) == "table" and op.variables or nil,
			}
		end
	end
	return list
end

-- What the answer says of each operation: a list of errors, or nil where it was not read.
local function errors(e, n)
	local answer = e.response and not e.response.truncated and json.decode(e.response.body or "")
	local out = {}
	if type(answer) ~= "table" then
		return out
	end
	for i, a in ipairs(n > 1 and answer or {answer}) do
		out[i] = type(a) == "table" and (type(a.errors) == "table" and a.errors or {}) or nil
	end
	return out
end

local function print_text(e, op, failed)
	printf("%s %s %s %s errors %s %s\n", requests.line(e), op.kind, escape(op.name or "-"), e.status or "-",
		failed and #failed or "not read", duration(e.duration_ns))
	if not opt.query then
		return
	end
	if op.query then
		messages.print_lines(escape(requests.hide.body(op.query), true))
	end
	if op.variables then
		messages.print_lines(escape(requests.hide.body(json.encode(op.variables))))
	end
	for _, failure in ipairs(failed or {}) do
		printf("  error: %s\n", escape(type(failure) == "table" and requests.hide.body(tostring(failure.message))))
	end
end

local function print_json(e, op, failed)
	emit(requests.record("graphql", e, {
		operation = op.kind, name = op.name, errors = failed and #failed, duration_ns = e.duration_ns,
		query = opt.query and requests.hide.body(op.query) or nil,
		variables = opt.query and op.variables and json.decode(requests.hide.body(json.encode(op.variables))) or nil,
	}))
end

requests.each(BODY, function(e)
	local list = operations(e)
	local failed = #list > 0 and errors(e, #list)
	for i, op in ipairs(list) do
		(format.json and print_json or print_text)(e, op, failed[i])
	end
end)
