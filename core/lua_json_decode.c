/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include <lauxlib.h>

#include "lua_json.h"
#include "lua_text.h"
#include "output.h"

/* Decoding stops at the first fault: `why` says what, p stands where. */
struct decoder {
	lua_State *L;
	struct ts_buf *b;
	const char *start, *p, *end;
	const char *why;
	int depth;
};

static bool fault(struct decoder *d, const char *why)
{
	d->why = why;
	return false;
}

static void skip_space(struct decoder *d)
{
	while (d->p < d->end && (*d->p == ' ' || *d->p == '\t' || *d->p == '\n' || *d->p == '\r'))
		d->p++;
}

/* Takes the character c, with the space around it, if it comes next. */
static bool take(struct decoder *d, char c)
{
	skip_space(d);
	if (d->p == d->end || *d->p != c)
		return false;
	d->p++;
	skip_space(d);
	return true;
}

static int hex_value(char c)
{
	const char *digits = "0123456789abcdef", *at;

	c = c >= 'A' && c <= 'F' ? (char)(c + 32) : c;
	at = c ? strchr(digits, c) : NULL;
	return at ? (int)(at - digits) : -1;
}

/* The four digits after \u, as a number; -1 if they are not there. */
static long take_hex4(struct decoder *d)
{
	long v = 0;
	int i, digit;

	for (i = 0; i < 4; i++) {
		digit = d->p < d->end ? hex_value(*d->p) : -1;
		if (digit < 0)
			return -1;
		v = v << 4 | digit;
		d->p++;
	}
	return v;
}

static bool take_unicode(struct decoder *d)
{
	long c = take_hex4(d), low;
	const char *text;
	size_t len;

	if (c < 0)
		return fault(d, "bad \\u escape");
	if (c >= 0xd800 && c < 0xe000) {
		low = -1;
		if (c < 0xdc00 && d->end - d->p > 2 && d->p[0] == '\\' && d->p[1] == 'u') {
			d->p += 2;
			low = take_hex4(d);
		}
		if (low < 0xdc00 || low > 0xdfff)
			return fault(d, "half of a surrogate pair");
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	}
	lua_pushfstring(d->L, "%U", c);
	text = lua_tolstring(d->L, -1, &len);
	if (ts_buf_add(d->b, text, len))
		luaL_error(d->L, "not enough memory");
	lua_pop(d->L, 1);
	return true;
}

static bool take_escape(struct decoder *d)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at;

	if (++d->p == d->end)
		return fault(d, "unfinished string");
	if (*d->p == 'u') {
		d->p++;
		return take_unicode(d);
	}
	at = *d->p ? strchr(from, *d->p) : NULL;
	if (!at)
		return fault(d, "bad escape");
	d->p++;
	if (ts_buf_add(d->b, &to[at - from], 1))
		luaL_error(d->L, "not enough memory");
	return true;
}

/* After the opening quote. Pushes the string. */
static bool decode_string(struct decoder *d)
{
	const char *plain = d->p;
	size_t n;

	for (d->b->len = 0;; plain = d->p) {
		while (d->p < d->end && *d->p != '"' && *d->p != '\\' &&
		       (unsigned char)*d->p >= 0x20)
			d->p++;
		n = (size_t)(d->p - plain);
		if (!output_is_utf8(plain, n))
			return fault(d, "a string before here is not UTF-8");
		if (d->p == d->end)
			return fault(d, "unfinished string");
		if (*d->p != '"' && *d->p != '\\')
			return fault(d, "control character in a string");
		if (ts_buf_add(d->b, plain, n))
			luaL_error(d->L, "not enough memory");
		if (*d->p == '"')
			break;
		if (!take_escape(d))
			return false;
	}
	d->p++;
	lua_pushlstring(d->L, (const char *)d->b->data, d->b->len);
	return true;
}

static void skip_digits(struct decoder *d)
{
	while (d->p < d->end && *d->p >= '0' && *d->p <= '9')
		d->p++;
}

static bool decode_number(struct decoder *d)
{
	const char *first = d->p, *digits;
	char text[400];
	size_t n;

	d->p += *d->p == '-';
	digits = d->p;
	skip_digits(d);
	if (d->p == digits || (*digits == '0' && d->p - digits > 1))
		return fault(d, d->p == first ? "no value" : "bad number");
	if (d->p < d->end && *d->p == '.') {
		digits = ++d->p;
		skip_digits(d);
		if (d->p == digits)
			return fault(d, "bad number");
	}
	if (d->p < d->end && (*d->p == 'e' || *d->p == 'E')) {
		d->p++;
		d->p += d->p < d->end && (*d->p == '+' || *d->p == '-');
		digits = d->p;
		skip_digits(d);
		if (d->p == digits)
			return fault(d, "bad number");
	}
	n = (size_t)(d->p - first);
	if (n >= sizeof(text))
		return fault(d, "number too long");
	memcpy(text, first, n);
	text[n] = 0;
	if (!lua_stringtonumber(d->L, text) || !isfinite(lua_tonumber(d->L, -1)))
		return fault(d, "number too large");
	return true;
}

static bool decode(struct decoder *d);

static bool decode_array(struct decoder *d)
{
	lua_Integer n = 0;

	lua_newtable(d->L);
	luaL_setmetatable(d->L, LUA_JSON_ARRAY);
	if (take(d, ']'))
		return true;
	do {
		if (!decode(d))
			return false;
		lua_rawseti(d->L, -2, ++n);
	} while (take(d, ','));
	return take(d, ']') || fault(d, "expected , or ]");
}

/* null is an absent field; the last of equal names counts. */
static bool decode_object(struct decoder *d)
{
	lua_newtable(d->L);
	if (take(d, '}'))
		return true;
	do {
		if (d->p == d->end || *d->p != '"')
			return fault(d, "expected a name in quotes");
		d->p++;
		if (!decode_string(d))
			return false;
		if (!take(d, ':'))
			return fault(d, "expected :");
		if (!decode(d))
			return false;
		if (lua_islightuserdata(d->L, -1)) {
			lua_pop(d->L, 1);
			lua_pushnil(d->L);
		}
		lua_rawset(d->L, -3);
	} while (take(d, ','));
	return take(d, '}') || fault(d, "expected , or }");
}

static bool take_word(struct decoder *d, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(d->end - d->p) < n || memcmp(d->p, word, n) != 0)
		return false;
	d->p += n;
	return true;
}

/* Pushes the value that begins at p. */
static bool decode(struct decoder *d)
{
	bool ok = true;

	if (d->p == d->end)
		return fault(d, "no value");
	if (*d->p == '{' || *d->p == '[') {
		if (d->depth == LUA_JSON_DEPTH)
			return fault(d, "nested too deep");
		d->depth++;
		ok = take(d, '{') ? decode_object(d) : take(d, '[') && decode_array(d);
		d->depth--;
	} else if (*d->p == '"') {
		d->p++;
		ok = decode_string(d);
	} else if (take_word(d, "true") || take_word(d, "false")) {
		lua_pushboolean(d->L, d->p[-2] == 'u');
	} else if (take_word(d, "null")) {
		lua_pushlightuserdata(d->L, NULL);
	} else {
		ok = decode_number(d);
	}
	return ok;
}

/* json.decode(text): the value, or nil and what is wrong where. null is json.null. */
int lua_json_decode(lua_State *L)
{
	size_t len;
	const char *text = luaL_checklstring(L, 1, &len);
	struct lua_text_buffer *b = lua_text_buffer(L);
	struct decoder d = {L, &b->text, text, text, text + len, NULL, 0};
	bool ok;

	lua_settop(L, 1);
	lua_pushvalue(L, lua_upvalueindex(1));
	luaL_checkstack(L, 4 * LUA_JSON_DEPTH, "json");
	b->busy = true;
	skip_space(&d);
	ok = decode(&d);
	b->busy = false;
	skip_space(&d);
	if (ok && d.p < d.end)
		ok = fault(&d, "more after the value");
	if (ok)
		return 1;
	lua_pushnil(L);
	lua_pushfstring(L, "byte %I: %s", (LUAI_UACINT)(d.p - d.start + 1), d.why);
	return 2;
}
