-- SPDX-License-Identifier: MIT
local secrets = require "secrets"
local stub = require "stub"

local equal = stub.equal
local hide = secrets.hider(false)

local tests = {}
local function test(name, fn)
	tests[#tests + 1] = {name, fn}
end

-- Text and what it becomes; one alone stays as it is.
local function table_of(list, fn)
	for _, row in ipairs(list) do
		equal(fn(row[1]), row[2] or row[1])
	end
end

test("URLs", function()
	table_of({
		{"https://u:p@h:1/a?x=1", "https://***@h:1/a?x=1"},
		{"/a?token=t&x=1#access_token=u", "/a?token=***&x=1#access_token=***"},
		{"/a?key=1;code=2;sig=&ticket=3", "/a?key=***;code=***;sig=&ticket=***"},
		{"/a?pass%77ord=x&PassWord=y", "/a?pass%77ord=***&PassWord=***"},
		{"/a?X-Amz-Signature=ab&X-Amz-Credential=c%2Fd&X-Amz-Date=1",
			"/a?X-Amz-Signature=***&X-Amz-Credential=***&X-Amz-Date=1"},
		{"/t/eyJhbGciOi.eyJzdWIi.SflKxw-c/x", "/t/***/x"},
		{"/author?author=me&authority=x&page=2&keyboard=de"}, {"/a?b=token"}, {"*"}, {""},
		{"/a?redirect=https://u:p@h/&n=1", "/a?redirect=https://***@h/&n=1"},
	}, hide.url)
	equal(hide.url(nil), nil)
end)

test("headers", function()
	local function header(text)
		local name, value = text:match("^(:?[^:]+): (.*)$")
		return name .. ": " .. hide.header(name, value)
	end
	table_of({
		{"Authorization: Bearer abc", "Authorization: Bearer ***"},
		{"authorization: abc", "authorization: ***"},
		{"Proxy-Authorization: Basic dTpw", "Proxy-Authorization: Basic ***"},
		{"X-Api-Key: k", "X-Api-Key: ***"}, {"Ocp-Apim-Subscription-Key: k", "Ocp-Apim-Subscription-Key: ***"},
		{"X-Auth-Token: k", "X-Auth-Token: ***"}, {"x-csrf-token: k", "x-csrf-token: ***"},
		{"X-Amz-Security-Token: k", "X-Amz-Security-Token: ***"}, {"PRIVATE-TOKEN: k", "PRIVATE-TOKEN: ***"},
		{"Cookie: a=b; c=d=e; f", "Cookie: a=***; c=***; f"},
		{"Set-Cookie: id=1; Path=/; Max-Age=9", "Set-Cookie: id=***; Path=/; Max-Age=9"},
		{"Referer: https://h/?code=9", "Referer: https://h/?code=***"},
		{"Location: /cb#id_token=9&state=1", "Location: /cb#id_token=***&state=1"},
		{":path: /a?token=1", ":path: /a?token=***"},
		{"X-Forwarded-Access: eyJh.eyJi.c", "X-Forwarded-Access: ***"},
		{":authority: h"}, {"WWW-Authenticate: Basic realm=x"}, {"Sec-WebSocket-Key: x"}, {"Author: me"},
		{"Access-Control-Allow-Headers: authorization"}, {"Content-Type: text/html; charset=utf-8"}, {"ETag: \"abc\""},
	}, header)
	equal(hide.headers(nil), nil)
	equal(hide.headers({{name = "Cookie", value = "a=b"}})[1].value, "a=***")
end)

test("JSON bodies", function()
	table_of({
		{'{"user": "ann", "password" : "p\\"w\\\\", "n": 1}', '{"user": "ann", "password" : "***", "n": 1}'},
		{'{"access_token":"a","token_type":"bearer","expires_in":3600}',
			'{"access_token":"***","token_type":"bearer","expires_in":3600}'},
		{'{"pin": 1234, "otp": -5.0e3}', '{"pin": "***", "otp": "***"}'},
		{'{"credentials": {"a": ["x}", 1]}, "b": 2}', '{"credentials": "***", "b": 2}'},
		{'{"tokens":["a","b"],"b":2}', '{"tokens":"***","b":2}'},
		{'{"secret":"cut o', '{"secret":"***'}, {'{"secret":{"a":"cut o', '{"secret":"***"'},
		{'{"secret":"', '{"secret":"***'},
		{[[{"body":"{\"password\":\"x\",\"n\":1}"}]], [[{"body":"{\"password\":\"***\",\"n\":1}"}]]},
		{[[{"q":"{\\\"pwd\\\":\\\"x\\\"}"}]], [[{"q":"{\\\"pwd\\\":\\\"***\\\"}"}]]},
		{'mutation { login(name: "a", password: "b") { id } }', 'mutation { login(name: "a", password: "***") { id } }'},
		{"{password: 'b', n: 1}", "{password: '***', n: 1}"},
		{'data: {"jwt": "x"}\n\n', 'data: {"jwt": "***"}\n\n'},
		{'{"next":"https://u:p@h/?token=t&n=1"}', '{"next":"https://***@h/?token=***&n=1"}'},
		{'["eyJhbGciOi.eyJzdWIi.x_-y"]', '["***"]'},
		{'{"max_tokens": 10, "usage": {"prompt_tokens": 5}}'}, {'{"author":"me","code":404,"key":"k","password":""}'},
		{'{"authenticated":true,"token":null}'}, {'not "password" at all'}, {"\255\0password"}, {""},
	}, hide.body)
	equal(hide.body(nil), nil)
end)

test("forms", function()
	local function form(text)
		return hide.body(text, "application/x-www-form-urlencoded; charset=utf-8")
	end
	table_of({
		{"user=ann&password=p%20w&x=1", "user=ann&password=***&x=1"},
		{"code=1&client_secret=2", "code=***&client_secret=***"},
		{"password=", "password="}, {"", ""},
	}, form)
	equal(hide.body("grant_type=password&password=x"), "grant_type=password&password=***")
	equal(hide.body("a sentence with token=x in it"), "a sentence with token=x in it")
	local parts = '--B\r\nContent-Disposition: form-data; name="user"\r\n\r\nann\r\n--B\r\n'
		.. 'Content-Disposition: form-data; name="password"\r\n\r\n%s\r\n--B--\r\n'
	equal(hide.body(parts:format("p\r\nw"), "multipart/form-data; boundary=B"), parts:format("***"))
	equal(hide.body(parts:format("p"):sub(1, -10), 'multipart/form-data; boundary="B"'), parts:format("***"):sub(1, -10))
end)

test("all is shown when asked", function()
	local open = secrets.hider(true)
	equal(open.url("/?token=1"), "/?token=1")
	equal(open.header("Cookie", "a=b"), "a=b")
	equal(open.body('{"password":"x"}'), '{"password":"x"}')
	equal(open.headers({{name = "Cookie", value = "a=b"}})[1].value, "a=b")
	secrets.shown = true
	equal(secrets.hider(false).url("/?token=1"), "/?token=1")
	secrets.shown = false
end)

-- What would take the square of its length takes hours here.
test("hostile bodies are read once", function()
	local n = 1 << 18
	local start = os.clock()
	for _, text in ipairs {
		("a"):rep(n), ("?"):rep(n), ("://"):rep(n // 3), ("eyJ"):rep(n // 3), ("a."):rep(n // 2), ('"'):rep(n), ("\\"):rep(n),
		('"pwd":{'):rep(n // 7), ('"pwd":"\\'):rep(n // 8), ('pwd\\":\\"'):rep(n // 8), ("=&"):rep(n // 2), (" "):rep(n),
		("a "):rep(n // 2), ("\r\n--B"):rep(n // 5), ('name="'):rep(n // 6), ("[]"):rep(n // 2), ("a="):rep(n // 2),
	} do
		hide.url(text)
		hide.header("x", text)
		hide.header("cookie", text)
		hide.body(text)
		hide.body(text, "application/x-www-form-urlencoded")
		hide.body(text, "multipart/form-data; boundary=B")
	end
	assert(os.clock() - start < 20, os.clock() - start)
end)

return tests
