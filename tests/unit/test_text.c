/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "lua_json.h"
#include "lua_text.h"

/* Runs Lua code in a fresh state; `text` is the table of functions, is(got, want) compares. */
static const char helpers[] =
	"function is(got, want)\n"
	"  if got ~= want or math.type(got) ~= math.type(want) then\n"
	"    error(('got %s, want %s'):format(tostring(got), tostring(want)), 2)\n"
	"  end\n"
	"end\n"
	"function refuses(pattern, f, ...)\n"
	"  local ok, why = pcall(f, ...)\n"
	"  if ok or not tostring(why):find(pattern) then\n"
	"    error(('got %s, want an error like %s'):format(tostring(why), pattern), 2)\n"
	"  end\n"
	"end\n";

static lua_State *state_open(void)
{
	lua_State *L = luaL_newstate();

	assert_non_null(L);
	luaL_openlibs(L);
	luaopen_tlsscope_text(L);
	assert_int_equal(lua_gettop(L), 1);
	lua_setglobal(L, "text");
	assert_int_equal(luaL_dostring(L, helpers), 0);
	return L;
}

static void run(const char *code)
{
	lua_State *L = state_open();

	if (luaL_dostring(L, code))
		fail_msg("%s", lua_tostring(L, -1));
	lua_close(L);
}

static void escape(void **state)
{
	(void)state;
	run("is(text.escape('a\\n\\27[1m\\\\'), 'a\\\\n\\\\x1b[1m\\\\\\\\')\n"
	    "is(text.escape('a\\n\\27\\\\', true), 'a\\n\\\\x1b\\\\')\n"
	    "is(text.escape('a\\0b'), 'a\\\\x00b')\n"
	    "is(text.escape(nil), '-') is(text.escape(12), '12') is(text.escape(true), 'true')\n"
	    "is(text.escape(setmetatable({}, {__tostring = function() return '\\1' end})), "
	    "'\\\\x01')\n"
	    "is(#text.escape(('x'):rep(3 << 20)), 3 << 20) is(text.escape('y'), 'y')\n"
	    "refuses('value expected', text.escape)");
}

static void hexdump(void **state)
{
	(void)state;
	run("is(text.hexdump(''), '')\n"
	    "is(text.hexdump('GET / HTTP/1.1\\r\\n\\0\\x7f\\x80'),\n"
	    " '00000000  47 45 54 20 2f 20 48 54  54 50 2f 31 2e 31 0d 0a  |GET / "
	    "HTTP/1.1..|\\n'..\n"
	    " '00000010  00 7f 80                                          |...|')\n"
	    "is(text.hexdump(('x'):rep(40), 16),\n"
	    " '00000000  78 78 78 78 78 78 78 78  78 78 78 78 78 78 78 78  "
	    "|xxxxxxxxxxxxxxxx|\\n'..\n"
	    " '... 24 more bytes')\n"
	    "is(text.hexdump('abc', 0), '... 3 more bytes')\n"
	    "is(text.hexdump('a', 1), text.hexdump('a'))\n"
	    "refuses('negative', text.hexdump, 'a', -1) refuses('string expected', text.hexdump)");
}

static void human(void **state)
{
	(void)state;
	run("for n, want in pairs{[0] = '0', [1] = '1', [1023] = '1023', [1024] = '1.0K',\n"
	    "  [1536] = '1.5K', [16384] = '16.0K', [1048524] = '1023.9K', [1048525] = '1.0M',\n"
	    "  [1 << 30] = '1.0G', [1 << 40] = '1.0T', [1 << 50] = '1.0P', [-1536] = '-1.5K',\n"
	    "  [math.maxinteger] = '8.0E', [math.mininteger] = '-8.0E', [0.25] = '0.2',\n"
	    "  [1e30] = '867361737988.4E', [1/0] = 'infE', [-1] = '-1'} do is(text.human(n), want) "
	    "end\n"
	    "is(text.human(0/0):gsub('-', ''), 'nan') is(text.human(nil), '-')\n"
	    "is(text.human(12.0), '12') refuses('number expected', text.human, {})\n"
	    "is(#text.human(1.7976931348623157e308) > 200, true)");
}

static void duration(void **state)
{
	(void)state;
	run("for n, want in pairs{[0] = '0ns', [1] = '1ns', [999] = '999ns', [1000] = '1.00us',\n"
	    "  [9994] = '9.99us', [9996] = '10.0us', [99960] = '100us', [999400] = '999us',\n"
	    "  [999600] = '1.00ms', [1250000] = '1.25ms', [12500000] = '12.5ms',\n"
	    "  [999600000] = '1.00s', [59900000000] = '59.9s', [59960000000] = '1m00s',\n"
	    "  [125e9] = '2m05s', [3599.4e9] = '59m59s', [3600e9] = '1h00m', [86399e9] = "
	    "'23h59m',\n"
	    "  [90000e9] = '1d01h', [-1250] = '-1.25us', [math.mininteger] = '-106751d23h'} do\n"
	    "  is(text.duration(n), want) end\n"
	    "is(text.duration(nil), '-') is(text.duration(1/0), 'infs')\n"
	    "is(text.duration(0.4), '0ns') refuses('number expected', text.duration, 'x')");
}

static void base64(void **state)
{
	(void)state;
	run("for s, want in pairs{[''] = '', f = 'Zg==', fo = 'Zm8=', foo = 'Zm9v', foob = "
	    "'Zm9vYg==',\n"
	    "  ['\\0\\255\\254\\253'] = 'AP/+/Q=='} do is(text.base64(s), want) "
	    "is(text.json.base64(s), want) end\n"
	    "is(text.is_utf8('\\u{20ac}'), true) is(text.is_utf8('\\xed\\xa0\\x80'), false)");
}

static void json_encode(void **state)
{
	(void)state;
	run("local json = text.json\n"
	    "is(json(nil), 'null') is(json(true), 'true') is(json(1), '1') is(json(1.0), '1.0')\n"
	    "is(json(math.mininteger), '-9223372036854775808') is(json(0.1), '0.1')\n"
	    "is(json(1e15), '1e+15') is(json(1e14), '100000000000000.0') is(json(1e100), "
	    "'1e+100')\n"
	    "is(json(0.1 + 0.2), '0.30000000000000004') is(json(-0.0), '-0.0')\n"
	    "is(json(0/0), 'null') is(json(1/0), 'null') is(json(-1/0), 'null')\n"
	    "is(json('a\\xff\"'), '\"a\\\\ufffd\\\\\"\"')\n"
	    "is(json{}, '{}') is(json{1, {2}, 'x'}, '[1,[2],\"x\"]') is(json.encode{1}, '[1]')\n"
	    "is(json{[1] = 1, [3] = 3}, '{\"1\":1,\"3\":3}') is(json{[0] = 1}, '{\"0\":1}')\n"
	    "is(json{b = 1, a = {c = false}, [10] = 1, [9] = 2, [1.5] = 3, [true] = 4},\n"
	    "  '{\"true\":4,\"1.5\":3,\"9\":2,\"10\":1,\"a\":{\"c\":false},\"b\":1}')\n"
	    "is(json{['a\\0b'] = 1, a = 2}, '{\"a\":2,\"a\\\\u0000b\":1}')\n"
	    "is(json.array({}) and json(json.array{}), '[]') is(json(json.null), 'null')\n"
	    "is(json(json.array{nil, nil, 3}), '[null,null,3]')\n"
	    "is(json{json.array(json.array{}), print, io.stdout}, "
	    "'[[],\"<function>\",\"<FILE*>\"]')\n"
	    "refuses('two keys', json, {[1] = 1, ['1'] = 2, x = 3})\n"
	    "refuses('two keys', json, {[true] = 1, ['true'] = 2})\n"
	    "refuses('table cannot be a key', json, {[{}] = 1})\n"
	    "refuses('holes', json, json.array{[1 << 40] = 1})\n"
	    "refuses('no index', json, json.array{x = 1})\n"
	    "refuses('metatable', json.array, setmetatable({}, {}))\n"
	    "refuses('value expected', json)\n"
	    "local t = {} t.t = t refuses('contain itself', json, t)\n"
	    "local d = 1 for _ = 1, 100 do d = {d} end is(#json(d), 201) refuses('100 levels', "
	    "json, {d})\n"
	    /* Small in memory, without end as text. */
	    "local bomb = ('x'):rep(1 << 20) for _ = 1, 60 do bomb = {bomb, bomb} end\n"
	    "refuses('larger than 64 MiB', json, bomb) is(json{1}, '[1]')");
}

/* A finalizer that runs in the middle of an encoding, and encodes, must not spoil it. */
static void json_finalizer(void **state)
{
	(void)state;
	run("local json, ran = text.json, 0\n"
	    "local function litter() return setmetatable({}, {__gc = function()\n"
	    "  ran = ran + 1 json{'other'} text.escape('other') end}) end\n"
	    "local t = {} for i = 1, 2000 do t['k' .. i] = {[i] = {a = i, b = {i}}} end\n"
	    "local want = json(t)\n"
	    "collectgarbage('setpause', 100) collectgarbage('setstepmul', 1000)\n"
	    "for _ = 1, 50 do for _ = 1, 20 do litter() end is(json(t), want) end\n"
	    "is(ran > 0, true)");
}

static void json_decode(void **state)
{
	(void)state;
	run("local json = text.json local decode = json.decode\n"
	    "for _, s in ipairs{'true', 'false', 'null', '0', '-1', '1.5', '9223372036854775807',\n"
	    "  '\"\"', '\"a\\\\u0000\\\\\"\"', '[]', '{}', '[[],{},[null,1]]', "
	    "'{\"a\":[1,{\"b\":\"c\"}]}'} do\n"
	    "  is(json(decode(s)), s) end\n"
	    "is(decode('9223372036854775808'), 2.0^63) is(decode(' 1e2 '), 100.0) "
	    "is(decode('1E-2'), 0.01)\n"
	    "is(decode('null'), json.null) is(decode('{\"a\":null}').a, nil)\n"
	    "is(decode('{\" a\":1, \"b\" : 2 }')[' a'], 1) is(decode('{\"a\":1,\"a\":2}').a, 2)\n"
	    "is(decode('\"\\\\u20ac\\\\ud83d\\\\ude00\\\\b\\\\/\\\\u00E9\"'), "
	    "'\\u{20ac}\\u{1f600}\\b/\\u{e9}')\n"
	    "is(decode(('['):rep(100) .. (']'):rep(100)) ~= nil, true)\n"
	    "local long = ('\\\\n'):rep(3 << 20)\n"
	    "is(#decode('\"' .. long .. '\"'), 3 << 20)");
}

static void json_decode_strict(void **state)
{
	(void)state;
	run("for _, s in ipairs{'', ' ', '[', ']', '[1', '[1,', '[1,]', '[,1]', '{', '{\"a\"', "
	    "'{\"a\":',\n"
	    "  '{\"a\":1', '{\"a\":1,', '{\"a\":1,}', '{a:1}', '{1:1}', '{\"a\" 1}', '1 2', '01', "
	    "'+1', '1.',\n"
	    "  '.5', '-', '1e', '1e+', '0x10', '1e999', 'nan', 'tru', 'nulll', '\"', '\"a', "
	    "'\"\\\\', '\"\\\\x\"',\n"
	    "  '\"\\\\u12\"', '\"\\\\u12g4\"', '\"\\\\ud800\"', '\"\\\\ud800\\\\u0041\"', "
	    "'\"\\\\udc00\"', '\"\\\\ud800\\\\',\n"
	    "  '\"\\n\"', '\"\\xff\"', '\"\\xed\\xa0\\x80\"', \"'a'\", '[1]x', '\\u{feff}1', "
	    "'1\\0', '\"\\\\\\0\"',\n"
	    "  ('['):rep(101) .. (']'):rep(101), ('['):rep(1000000), ('1'):rep(400), '// c\\n1'} "
	    "do\n"
	    "  local v, why = text.json.decode(s)\n"
	    "  is(v, nil) is(why:match('^byte %d+: ') ~= nil, true) end\n"
	    "is(select(2, text.json.decode('[1,?]')), 'byte 4: no value')\n"
	    "is(select(2, text.json.decode('[1 1]')), 'byte 4: expected , or ]')\n"
	    "refuses('string expected', text.json.decode)");
}

/* Fails the allocation number `left`, and those after it. */
static void *limited_alloc(void *ud, void *p, size_t old, size_t size)
{
	long *left = ud;

	(void)old;
	if (!size) {
		free(p);
		return NULL;
	}
	if (*left >= 0 && (*left)-- == 0) {
		*left = 0;
		return NULL;
	}
	return realloc(p, size);
}

static void no_memory(void **state)
{
	static const char code[] =
		"local t = text\n"
		"t.escape(('\\1'):rep(300)) t.hexdump(('x'):rep(300)) t.base64(('x'):rep(300))\n"
		"return t.json.decode(t.json{a = {1, 2, {b = 'c'}}, [1] = 2.5, d = '\\xff'})";
	long n, left = -1;
	lua_State *L = lua_newstate(limited_alloc, &left);
	int rc = LUA_ERRMEM;

	(void)state;
	luaopen_tlsscope_text(L);
	lua_setglobal(L, "text");
	luaL_requiref(L, "string", luaopen_string, 1);
	lua_gc(L, LUA_GCSTOP);
	for (n = 0; rc; n++) {
		lua_settop(L, 0);
		assert_int_equal(luaL_loadstring(L, code), 0);
		left = n;
		rc = lua_pcall(L, 0, 1, 0);
		left = -1;
		assert_true(rc == 0 || rc == LUA_ERRMEM);
	}
	assert_true(n > 20);
	assert_true(lua_istable(L, -1));
	lua_close(L);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(escape),
		cmocka_unit_test(hexdump),
		cmocka_unit_test(human),
		cmocka_unit_test(duration),
		cmocka_unit_test(base64),
		cmocka_unit_test(json_encode),
		cmocka_unit_test(json_finalizer),
		cmocka_unit_test(json_decode),
		cmocka_unit_test(json_decode_strict),
		cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
