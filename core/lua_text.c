/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <lauxlib.h>

#include "lua_json.h"
#include "lua_text.h"
#include "output.h"

#define BUFFER_KEPT (1u << 20) /* more memory than this is given back */

static int buffer_gc(lua_State *L)
{
	struct lua_text_buffer *b = lua_touserdata(L, 1);

	ts_buf_free(&b->text);
	return 0;
}

void lua_text_push_buffer(lua_State *L)
{
	struct lua_text_buffer *b = lua_newuserdatauv(L, sizeof(*b), 0);

	*b = (struct lua_text_buffer){0};
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, buffer_gc);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
}

struct lua_text_buffer *lua_text_buffer(lua_State *L)
{
	struct lua_text_buffer *b = lua_touserdata(L, lua_upvalueindex(1));

	if (b->busy) {
		lua_text_push_buffer(L);
		b = lua_touserdata(L, -1);
		lua_replace(L, lua_upvalueindex(1));
	}
	if (b->text.cap > BUFFER_KEPT)
		ts_buf_free(&b->text);
	b->text.len = 0;
	return b;
}

static int push_result(lua_State *L, const struct ts_buf *b, int err)
{
	if (err)
		return luaL_error(L, "not enough memory");
	lua_pushlstring(L, (const char *)b->data, b->len);
	return 1;
}

/* An unknown field is nil and shows as "-", so that a line can be printed without asking first. */
static int unknown(lua_State *L)
{
	luaL_checkany(L, 1);
	lua_pushliteral(L, "-");
	return 1;
}

/* escape(value[, keep_lines]) */
static int text_escape(lua_State *L)
{
	bool keep_lines = lua_toboolean(L, 2);
	struct ts_buf *b;
	const char *s;
	size_t len;

	if (lua_isnoneornil(L, 1))
		return unknown(L);
	s = luaL_tolstring(L, 1, &len);
	b = &lua_text_buffer(L)->text;
	return push_result(L, b, output_escape(b, s, len, keep_lines));
}

#define HEX_BYTES 16
#define HEX_DIGITS 10 /* column of the first byte's digits */
#define HEX_TEXT 60   /* column of the bar before the characters */

/* One line for n bytes, 1 to 16, as "hexdump -C" has it. Returns its length. */
static size_t hex_line(char *line, size_t size, const unsigned char *s, size_t n, size_t offset)
{
	static const char digits[] = "0123456789abcdef";
	size_t i, at;

	snprintf(line, size, "%08zx", offset & 0xffffffff);
	memset(line + 8, ' ', HEX_TEXT - 8);
	line[HEX_TEXT] = '|';
	for (i = 0; i < n; i++) {
		at = HEX_DIGITS + 3 * i + (i >= HEX_BYTES / 2);
		line[at] = digits[s[i] >> 4];
		line[at + 1] = digits[s[i] & 15];
		line[HEX_TEXT + 1 + i] = s[i] >= 0x20 && s[i] < 0x7f ? (char)s[i] : '.';
	}
	line[HEX_TEXT + 1 + n] = '|';
	return HEX_TEXT + 2 + n;
}

/* hexdump(string[, limit]): lines without a newline at the end */
static int text_hexdump(lua_State *L)
{
	size_t len, shown, off, n;
	const char *s = luaL_checklstring(L, 1, &len);
	lua_Integer limit = luaL_optinteger(L, 2, LUA_MAXINTEGER);
	struct ts_buf *b;
	char line[HEX_TEXT + 2 + HEX_BYTES + 1];
	int err = 0;

	luaL_argcheck(L, limit >= 0, 2, "limit must not be negative");
	b = &lua_text_buffer(L)->text;
	shown = (lua_Unsigned)limit < len ? (size_t)limit : len;
	for (off = 0; off < shown && !err; off += n) {
		n = shown - off < HEX_BYTES ? shown - off : HEX_BYTES;
		if (off)
			err = ts_buf_add(b, "\n", 1);
		if (!err)
			err = ts_buf_add(b, line,
					 hex_line(line, sizeof(line),
						  (const unsigned char *)s + off, n, off));
	}
	if (!err && shown < len)
		err = ts_buf_printf(b, "%s... %zu more bytes", shown ? "\n" : "", len - shown);
	return push_result(L, b, err);
}

/* Three digits that count; below 1 ns there is nothing to tell. */
static void format_unit(char *out, size_t size, double v, const char *unit)
{
	snprintf(out, size, "%.*f%s", v < 9.995 ? 2 : v < 99.95 ? 1 : 0, v, unit);
}

static void format_duration(char *out, size_t size, double ns)
{
	static const char *const units[] = {"us", "ms"};
	double v = ns / 1000;
	unsigned long long s;
	size_t i;

	if (ns < 999.5) {
		snprintf(out, size, "%.0fns", ns);
		return;
	}
	for (i = 0; i < TS_ARRAY_SIZE(units); i++, v /= 1000)
		if (v < 999.5) {
			format_unit(out, size, v, units[i]);
			return;
		}
	if (v < 59.95 || !(v < 1e15)) {
		format_unit(out, size, v, "s");
		return;
	}
	s = (unsigned long long)(v + 0.5);
	if (s < 3600)
		snprintf(out, size, "%llum%02llus", s / 60, s % 60);
	else if (s < 86400)
		snprintf(out, size, "%lluh%02llum", s / 3600, s / 60 % 60);
	else
		snprintf(out, size, "%llud%02lluh", s / 86400, s / 3600 % 24);
}

/* 1023.95 would be rounded to 1024.0, which is 1.0K. */
static void format_bytes(char *out, size_t size, double v)
{
	static const char units[] = "\0KMGTPE";
	const char *unit = units;

	while (v >= 1023.95 && unit < units + sizeof(units) - 2) {
		v /= 1024;
		unit++;
	}
	snprintf(out, size, "%.*f%.1s", !*unit && v == floor(v) ? 0 : 1, v, unit);
}

/* The largest double has 309 digits before the point. */
static int push_number(lua_State *L, void (*format)(char *out, size_t size, double v))
{
	char out[352] = "-";
	double v;

	if (lua_isnoneornil(L, 1))
		return unknown(L);
	v = luaL_checknumber(L, 1);
	format(out + (v < 0), sizeof(out) - 1, fabs(v));
	lua_pushstring(L, out);
	return 1;
}

/* human(bytes): "987", "1.2K", "16.0M" */
static int text_human(lua_State *L)
{
	return push_number(L, format_bytes);
}

/* duration(ns): "850ns", "1.25ms", "2m05s" */
static int text_duration(lua_State *L)
{
	return push_number(L, format_duration);
}

/* base64(string): RFC 4648, with padding, in one line */
static int text_base64(lua_State *L)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t len, off, n, i;
	const unsigned char *s = (const unsigned char *)luaL_checklstring(L, 1, &len);
	struct ts_buf *b = &lua_text_buffer(L)->text;
	char quad[4];
	uint32_t bits;
	int err = 0;

	for (off = 0; off < len && !err; off += 3) {
		n = len - off < 3 ? len - off : 3;
		bits = (uint32_t)s[off] << 16;
		bits |= n > 1 ? (uint32_t)s[off + 1] << 8 : 0;
		bits |= n > 2 ? s[off + 2] : 0;
		for (i = 0; i < 4; i++)
			quad[i] = i <= n ? digits[bits >> (18 - 6 * i) & 63] : '=';
		err = ts_buf_add(b, quad, sizeof(quad));
	}
	return push_result(L, b, err);
}

/* is_utf8(string) */
static int text_is_utf8(lua_State *L)
{
	size_t len;
	const char *s = luaL_checklstring(L, 1, &len);

	lua_pushboolean(L, output_is_utf8(s, len));
	return 1;
}

int luaopen_tlsscope_text(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{"escape", text_escape},
		{"hexdump", text_hexdump},
		{"human", text_human},
		{"duration", text_duration},
		{"base64", text_base64},
		{"is_utf8", text_is_utf8},
		{NULL, NULL},
	};

	luaL_newlibtable(L, functions);
	lua_text_push_buffer(L);
	lua_pushvalue(L, -1);
	lua_insert(L, -3);
	luaL_setfuncs(L, functions, 1);
	lua_insert(L, -2);
	lua_json_open(L);
	/* How JSON carries bytes: scripts know json, not this module. */
	lua_getfield(L, -2, "base64");
	lua_setfield(L, -2, "base64");
	lua_setfield(L, -2, "json");
	return 1;
}
