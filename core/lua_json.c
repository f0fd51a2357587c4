/* SPDX-License-Identifier: MIT */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "lua_json.h"
#include "lua_text.h"
#include "output.h"

/* Encoding raises a Lua error for what cannot be done; the buffer is Lua's, so nothing leaks. */
struct encoder {
	lua_State *L;
	struct ts_buf *b;
	int depth;
};

static void check(struct encoder *e, int err)
{
	if (err)
		luaL_error(e->L, "not enough memory");
	if (e->b->len > LUA_JSON_MAX)
		luaL_error(e->L, "json: the value is larger than %d MiB as text",
			   (int)(LUA_JSON_MAX >> 20));
}

static void add(struct encoder *e, const char *text)
{
	check(e, ts_buf_add(e->b, text, strlen(text)));
}

static void add_string(struct encoder *e, int index)
{
	size_t len;
	const char *s = lua_tolstring(e->L, index, &len);

	check(e, output_json_string(e->b, s, len));
}

/* The shortest text that reads back as the same number, and as a float. */
static void format_float(char *out, size_t size, lua_Number v)
{
	int precision;

	for (precision = 15; precision <= 17; precision++) {
		snprintf(out, size, "%.*g", precision, v);
		if (strtod(out, NULL) == v)
			break;
	}
	if (isfinite(v) && !strpbrk(out, ".e"))
		snprintf(out, size, "%.1f", v);
}

static void format_number(lua_State *L, int index, char *out, size_t size)
{
	if (lua_isinteger(L, index))
		snprintf(out, size, "%lld", (long long)lua_tointeger(L, index));
	else
		format_float(out, size, lua_tonumber(L, index));
}

/* What a table is as JSON. length: the largest index. */
struct shape {
	bool array;
	lua_Integer length;
	size_t count;
};

static struct shape table_shape(lua_State *L, int t)
{
	struct shape s = {.array = true};
	bool marked = false;

	if (lua_getmetatable(L, t)) {
		luaL_getmetatable(L, LUA_JSON_ARRAY);
		marked = lua_rawequal(L, -1, -2);
		lua_pop(L, 2);
	}
	for (lua_pushnil(L); lua_next(L, t); lua_pop(L, 1), s.count++) {
		if (!lua_isinteger(L, -2) || lua_tointeger(L, -2) < 1)
			s.array = false;
		else if (lua_tointeger(L, -2) > s.length)
			s.length = lua_tointeger(L, -2);
	}
	/* Holes of an array are null; a few large indices must not make a large text. */
	if (marked && (!s.array || (size_t)s.length / 8 > s.count + 8))
		luaL_error(L, s.array ? "json: the array has too many holes"
				      : "json: the array has keys that are no index");
	if (!marked)
		s.array = s.array && s.count && (size_t)s.length == s.count;
	return s;
}

static void encode(struct encoder *e, int index);

static void encode_array(struct encoder *e, int t, lua_Integer length)
{
	lua_Integer i;

	add(e, "[");
	for (i = 1; i <= length; i++) {
		if (i > 1)
			add(e, ",");
		lua_rawgeti(e->L, t, i);
		encode(e, lua_gettop(e->L));
		lua_pop(e->L, 1);
	}
	add(e, "]");
}

/* Keys lie on the Lua stack while they are sorted: booleans, then numbers, then strings. */
static int compare_keys(const void *pa, const void *pb, void *ctx)
{
	lua_State *L = ctx;
	int a = *(const int *)pa, b = *(const int *)pb, type = lua_type(L, a), r;
	size_t la, lb;
	const char *sa, *sb;

	if (type != lua_type(L, b))
		return type - lua_type(L, b);
	if (type == LUA_TNUMBER)
		return lua_compare(L, b, a, LUA_OPLT) - lua_compare(L, a, b, LUA_OPLT);
	if (type == LUA_TBOOLEAN)
		return lua_toboolean(L, a) - lua_toboolean(L, b);
	sa = lua_tolstring(L, a, &la);
	sb = lua_tolstring(L, b, &lb);
	r = memcmp(sa, sb, la < lb ? la : lb);
	return r ? r : (la > lb) - (la < lb);
}

/* Pushes the table's keys and returns their stack indices, sorted, in a userdata below them. */
static const int *push_keys(lua_State *L, int t, size_t *count)
{
	int *keys = lua_newuserdatauv(L, (*count + 1) * sizeof(*keys), 0);
	size_t n = 0;
	int type;

	if (*count > INT_MAX / 2 || !lua_checkstack(L, (int)*count + 8))
		luaL_error(L, "json: the table has too many keys");
	for (lua_pushnil(L); n < *count && lua_next(L, t); n++) {
		lua_pop(L, 1);
		type = lua_type(L, -1);
		if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN)
			luaL_error(L, "json: a %s cannot be a key", lua_typename(L, type));
		keys[n] = lua_gettop(L);
		lua_pushvalue(L, -1);
	}
	qsort_r(keys, n, sizeof(*keys), compare_keys, L);
	*count = n;
	return keys;
}

/* A key that is not a string becomes one, which must not be there already. */
static void encode_key(struct encoder *e, int t, int key)
{
	lua_State *L = e->L;
	char text[64];

	if (lua_type(L, key) == LUA_TSTRING) {
		add_string(e, key);
		return;
	}
	if (lua_type(L, key) == LUA_TBOOLEAN)
		snprintf(text, sizeof(text), "%s", lua_toboolean(L, key) ? "true" : "false");
	else
		format_number(L, key, text, sizeof(text));
	lua_pushstring(L, text);
	lua_pushvalue(L, -1);
	if (lua_rawget(L, t) != LUA_TNIL)
		luaL_error(L, "json: two keys of a table become \"%s\"", text);
	lua_pop(L, 1);
	add_string(e, -1);
	lua_pop(L, 1);
}

static void encode_object(struct encoder *e, int t, size_t count)
{
	lua_State *L = e->L;
	int top = lua_gettop(L);
	const int *keys = push_keys(L, t, &count);
	size_t i;

	add(e, "{");
	for (i = 0; i < count; i++) {
		if (i)
			add(e, ",");
		encode_key(e, t, keys[i]);
		add(e, ":");
		lua_pushvalue(L, keys[i]);
		lua_rawget(L, t);
		encode(e, lua_gettop(L));
		lua_pop(L, 1);
	}
	add(e, "}");
	lua_settop(L, top);
}

static void encode_table(struct encoder *e, int t)
{
	struct shape s;

	if (++e->depth > LUA_JSON_DEPTH)
		luaL_error(e->L, "json: more than %d levels deep (does a table contain itself?)",
			   LUA_JSON_DEPTH);
	luaL_checkstack(e->L, 8, "json");
	s = table_shape(e->L, t);
	if (s.array)
		encode_array(e, t, s.length);
	else
		encode_object(e, t, s.count);
	e->depth--;
}

/* What has no form in JSON is named by its type. */
static void encode_other(struct encoder *e, int index)
{
	lua_State *L = e->L;

	if (luaL_getmetafield(L, index, "__name") != LUA_TSTRING)
		lua_pushstring(L, luaL_typename(L, index));
	lua_pushfstring(L, "<%s>", lua_tostring(L, -1));
	add_string(e, -1);
	lua_settop(L, index);
}

/* index: the top of the stack. */
static void encode(struct encoder *e, int index)
{
	lua_State *L = e->L;
	int type = lua_type(L, index);
	char number[64];

	if (type == LUA_TNIL || (type == LUA_TLIGHTUSERDATA && !lua_touserdata(L, index)) ||
	    (type == LUA_TNUMBER && !isfinite(lua_tonumber(L, index)))) {
		add(e, "null");
	} else if (type == LUA_TNUMBER) {
		format_number(L, index, number, sizeof(number));
		add(e, number);
	} else if (type == LUA_TBOOLEAN) {
		add(e, lua_toboolean(L, index) ? "true" : "false");
	} else if (type == LUA_TSTRING) {
		add_string(e, index);
	} else if (type == LUA_TTABLE) {
		encode_table(e, index);
	} else {
		encode_other(e, index);
	}
}

static int json_encode(lua_State *L)
{
	struct lua_text_buffer *b = lua_text_buffer(L);
	struct encoder e = {.L = L, .b = &b->text};

	luaL_checkany(L, 1);
	lua_settop(L, 1);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	b->busy = true;
	encode(&e, 2);
	lua_pushlstring(L, (const char *)b->text.data, b->text.len);
	b->busy = false;
	return 1;
}

/* json(value) */
static int json_call(lua_State *L)
{
	lua_remove(L, 1);
	return json_encode(L);
}

/* json.array(t): t is an array even when it is empty or has holes */
static int json_array(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	luaL_getmetatable(L, LUA_JSON_ARRAY);
	luaL_argcheck(L, !lua_getmetatable(L, 1) || lua_rawequal(L, -1, -2), 1,
		      "has a metatable already");
	lua_settop(L, 1);
	luaL_setmetatable(L, LUA_JSON_ARRAY);
	return 1;
}

void lua_json_open(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{"encode", json_encode},
		{"decode", lua_json_decode},
		{"array", json_array},
		{NULL, NULL},
	};

	luaL_newmetatable(L, LUA_JSON_ARRAY);
	lua_pop(L, 1);
	luaL_newlibtable(L, functions);
	lua_pushvalue(L, -2);
	luaL_setfuncs(L, functions, 1);
	lua_pushlightuserdata(L, NULL);
	lua_setfield(L, -2, "null");
	lua_createtable(L, 0, 1);
	lua_pushvalue(L, -3);
	lua_pushcclosure(L, json_call, 1);
	lua_setfield(L, -2, "__call");
	lua_setmetatable(L, -2);
	lua_remove(L, -2);
}
