/* SPDX-License-Identifier: MIT */
/*
 * An error is a table {message, frames} for what went wrong while Lua ran, or {message, text,
 * column, width, line} for what is wrong in the script itself. tostring() gives the message.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lua_host.h"

#define ERROR_TYPE "tlsscope.error"
#define SOURCES "tlsscope.sources"
#define LIBRARY "=lua/" /* chunk names of embedded modules begin so */
#define FRAMES_MAX 12
#define SEARCH_LINES 60 /* a call's options end within so many lines */
#define SHOWN_MAX 200	/* bytes of a source line */

static const char exit_mark;

int host_raise_exit(lua_State *L)
{
	lua_pushlightuserdata(L, (void *)&exit_mark);
	return lua_error(L);
}

bool host_is_exit(lua_State *L, int index)
{
	return lua_touserdata(L, index) == &exit_mark;
}

static bool is_error(lua_State *L, int index)
{
	bool is;

	if (!lua_istable(L, index) || !lua_getmetatable(L, index))
		return false;
	luaL_getmetatable(L, ERROR_TYPE);
	is = lua_rawequal(L, -1, -2);
	lua_pop(L, 2);
	return is;
}

static int error_tostring(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_getfield(L, 1, "message");
	return 1;
}

static int error_concat(lua_State *L)
{
	luaL_tolstring(L, 1, NULL);
	luaL_tolstring(L, 2, NULL);
	lua_concat(L, 2);
	return 1;
}

void host_open_errors(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{"__tostring", error_tostring},
		{"__concat", error_concat},
		{NULL, NULL},
	};

	luaL_newmetatable(L, ERROR_TYPE);
	luaL_setfuncs(L, methods, 0);
	lua_pop(L, 1);
	lua_newtable(L);
	lua_setfield(L, LUA_REGISTRYINDEX, SOURCES);
}

void host_keep_source(lua_State *L, const char *chunk, const char *text, size_t len)
{
	lua_getfield(L, LUA_REGISTRYINDEX, SOURCES);
	lua_pushlstring(L, text, len);
	lua_setfield(L, -2, chunk);
	lua_pop(L, 1);
}

void host_forget_source(lua_State *L, const char *chunk)
{
	lua_getfield(L, LUA_REGISTRYINDEX, SOURCES);
	lua_pushnil(L);
	lua_setfield(L, -2, chunk);
	lua_pop(L, 1);
}

void host_push_source(lua_State *L, const char *chunk)
{
	lua_getfield(L, LUA_REGISTRYINDEX, SOURCES);
	lua_getfield(L, -1, chunk);
	lua_remove(L, -2);
}

/* Makes a table of the message on the top. */
static void new_error(lua_State *L)
{
	lua_createtable(L, 0, 5);
	lua_insert(L, -2);
	lua_setfield(L, -2, "message");
	luaL_setmetatable(L, ERROR_TYPE);
}

/* The script's own functions, and not the library's or C's. */
static bool is_own(const lua_Debug *ar)
{
	return *ar->what != 'C' && strncmp(ar->source, LIBRARY, strlen(LIBRARY)) != 0;
}

/* The innermost function of the script that is running. */
static bool own_frame(lua_State *L, lua_Debug *ar)
{
	int level;

	for (level = 0; lua_getstack(L, level, ar); level++)
		if (lua_getinfo(L, "Sl", ar) && is_own(ar) && ar->currentline > 0)
			return true;
	return false;
}

static void push_frame(lua_State *L, const lua_Debug *ar)
{
	if (*ar->what == 'm')
		lua_pushfstring(L, "%s:%d: in the main chunk", ar->short_src, ar->currentline);
	else if (ar->name)
		lua_pushfstring(L, "%s:%d: in %s '%s'", ar->short_src, ar->currentline,
				*ar->namewhat ? ar->namewhat : "function", ar->name);
	else
		lua_pushfstring(L, "%s:%d: in the function of line %d", ar->short_src,
				ar->currentline, ar->linedefined);
}

/* Whether the list on the top is just the place that the error below it begins with. */
static bool says_no_more(lua_State *L)
{
	const char *message, *frame, *in;
	bool same;

	lua_getfield(L, -2, "message");
	lua_rawgeti(L, -2, 1);
	message = lua_tostring(L, -2);
	frame = lua_tostring(L, -1);
	in = frame ? strstr(frame, " in ") : NULL;
	same = lua_rawlen(L, -3) == 1 && in && !strncmp(message, frame, (size_t)(in - frame));
	lua_pop(L, 2);
	return same;
}

/* Adds the script's own frames to the error on the top, where they tell more than it does. */
static void add_frames(lua_State *L)
{
	lua_Debug ar;
	int level, n = 0;

	lua_createtable(L, 4, 0);
	for (level = 1; n < FRAMES_MAX && lua_getstack(L, level, &ar); level++) {
		lua_getinfo(L, "Sln", &ar);
		if (!is_own(&ar))
			continue;
		push_frame(L, &ar);
		lua_rawseti(L, -2, ++n);
	}
	if (says_no_more(L))
		lua_pop(L, 1);
	else
		lua_setfield(L, -2, "frames");
}

int host_traceback(lua_State *L)
{
	if (is_error(L, 1) || host_is_exit(L, 1))
		return 1;
	if (lua_isstring(L, 1) || luaL_getmetafield(L, 1, "__tostring"))
		luaL_tolstring(L, 1, NULL);
	else
		lua_pushfstring(L, "error with a %s instead of a message", luaL_typename(L, 1));
	new_error(L);
	add_frames(L);
	return 1;
}

static bool is_word(char c)
{
	return c == '_' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c >= 'a' && c <= 'z');
}

/* The first place of a whole word from `from` on, within some lines; NULL: not there. */
static const char *find_word(const char *from, const char *end, const char *word)
{
	size_t len = strlen(word);
	int lines = SEARCH_LINES;
	const char *p;

	for (p = from; len && len <= (size_t)(end - p) && lines; p++) {
		if (*p == '\n')
			lines--;
		if (!memcmp(p, word, len) && (p == from || !is_word(p[-1])) &&
		    (p + len == end || !is_word(p[len])))
			return p;
	}
	return NULL;
}

static const char *find_line(const char *text, const char *end, int line)
{
	const char *p = text;

	while (p && --line > 0) {
		p = memchr(p, '\n', (size_t)(end - p));
		if (p)
			p++;
	}
	return p;
}

/* Gives the error on the top the line that `at` lies in, and the caret under `at`. */
static void add_place(lua_State *L, const char *text, const char *end, const char *at, size_t width)
{
	const char *start = at, *stop;

	while (start > text && start[-1] != '\n')
		start--;
	stop = memchr(at, '\n', (size_t)(end - at));
	if (!stop)
		stop = end;
	if (width > (size_t)(stop - at))
		width = (size_t)(stop - at);
	if (at - start > SHOWN_MAX / 2)
		start = at - SHOWN_MAX / 2;
	if (stop - start > SHOWN_MAX)
		stop = start + SHOWN_MAX;
	lua_pushlstring(L, start, (size_t)(stop - start));
	lua_setfield(L, -2, "text");
	lua_pushinteger(L, at - start);
	lua_setfield(L, -2, "column");
	lua_pushinteger(L, (lua_Integer)width);
	lua_setfield(L, -2, "width");
}

static void add_line(lua_State *L, int line)
{
	lua_pushinteger(L, line);
	lua_setfield(L, -2, "line");
}

static int count_lines(const char *from, const char *to)
{
	int n = 0;

	for (; from < to; from++)
		n += *from == '\n';
	return n;
}

/*
 * Where the word of a declared error stands: with options over several lines not always where the
 * call does. Leaves the source's text on the stack; NULL where it is not known.
 */
static const char *find_place(lua_State *L, lua_Debug *ar, const char *word, const char **text,
			      const char **end)
{
	const char *line, *at = NULL;
	size_t len;

	host_push_source(L, ar->source);
	*text = lua_tolstring(L, -1, &len);
	if (!*text)
		return NULL;
	*end = *text + len;
	line = find_line(*text, *end, ar->currentline);
	if (line && word)
		at = find_word(line, *end, word);
	if (at)
		ar->currentline += count_lines(line, at);
	return at ? at : line;
}

int host_fail(lua_State *L, const char *word, const char *format, ...)
{
	const char *text, *end, *at;
	lua_Debug ar;
	va_list ap;
	char message[512];

	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	luaL_checkstack(L, 10, NULL);
	if (!own_frame(L, &ar)) {
		lua_pushstring(L, message);
		new_error(L);
		return lua_error(L);
	}
	at = find_place(L, &ar, word, &text, &end);
	lua_pushfstring(L, "%s:%d: %s", ar.short_src, ar.currentline, message);
	new_error(L);
	add_line(L, ar.currentline);
	if (at)
		add_place(L, text, end, at,
			  word && find_word(at, end, word) == at ? strlen(word) : 0);
	return lua_error(L);
}

int host_fail_nearest(lua_State *L, const char *what, const char *name, const char *nearest)
{
	char shown[128];

	ts_clean(shown, sizeof(shown), name);
	if (nearest)
		return host_fail(L, name, "unknown %s '%s', did you mean '%s'?", what, shown,
				 nearest);
	return host_fail(L, name, "unknown %s '%s'", what, shown);
}

/* The token that a message of the parser ends in, as the source has it; length 0: none. */
static const char *near_token(const char *message, size_t *len)
{
	const char *near = NULL, *p = message;

	while ((p = strstr(p, " near ")))
		near = p++;
	*len = 0;
	if (!near || near[6] != '\'')
		return NULL;
	*len = strlen(near + 7);
	if (*len)
		--*len;
	return near + 7;
}

void host_syntax_error(lua_State *L, const char *text, size_t len, size_t read)
{
	const char *message = luaL_tolstring(L, -1, NULL), *token, *line, *number, *at;
	size_t token_len, end = read < len ? read : len;
	int n;

	lua_remove(L, -2);
	/* "name:12: what", and a name may hold colons. */
	number = strstr(message, ": ");
	while (number && number > message && number[-1] >= '0' && number[-1] <= '9')
		number--;
	n = number ? atoi(number) : 0;
	token = near_token(message, &token_len);
	new_error(L);
	line = n > 0 ? find_line(text, text + len, n) : NULL;
	if (!line)
		return;
	add_line(L, n);
	/* The parser has read up to the token's end and at most one token more. */
	for (at = text + end; token_len && at >= line; at--)
		if ((size_t)(text + end - at) >= token_len && !memcmp(at, token, token_len))
			break;
	if (token_len && at >= line)
		add_place(L, text, text + len, at, token_len);
	else
		add_place(L, text, text + len, line, 0);
}

/* How many columns a cleaned text takes: continuation bytes of UTF-8 take none. */
static int columns(const char *clean)
{
	int n = 0;

	for (; *clean; clean++)
		n += (*clean & 0xc0) != 0x80;
	return n;
}

static void tell_place(lua_State *L, int index)
{
	char raw[SHOWN_MAX + 1], clean[4 * SHOWN_MAX + 5], before[4 * SHOWN_MAX + 5];
	size_t len, i, column, width;
	const char *text;
	int line;

	lua_getfield(L, index, "line");
	lua_getfield(L, index, "column");
	lua_getfield(L, index, "width");
	lua_getfield(L, index, "text");
	text = lua_tolstring(L, -1, &len);
	width = (size_t)lua_tointeger(L, -2);
	column = (size_t)lua_tointeger(L, -3);
	line = (int)lua_tointeger(L, -4);
	if (text && len <= SHOWN_MAX) {
		for (i = 0; i < len; i++)
			raw[i] = text[i] == '\t' || !text[i] ? ' ' : text[i];
		raw[len] = 0;
		ts_clean(clean, sizeof(clean), raw);
		fprintf(stderr, "%6d | %s\n", line, clean);
		raw[column] = 0;
		ts_clean(before, sizeof(before), raw);
		if (width) {
			fprintf(stderr, "       | %*s", columns(before), "");
			while (width--)
				putc('^', stderr);
			putc('\n', stderr);
		}
	}
	lua_pop(L, 4);
}

static void tell_frames(lua_State *L, int index)
{
	int top = lua_gettop(L), i;
	char clean[512];

	if (lua_getfield(L, index, "frames") == LUA_TTABLE)
		for (i = 1; lua_rawgeti(L, top + 1, i) == LUA_TSTRING; i++) {
			ts_clean(clean, sizeof(clean), lua_tostring(L, -1));
			fprintf(stderr, "    %s\n", clean);
			lua_pop(L, 1);
		}
	lua_settop(L, top);
}

const char *host_message(lua_State *L, int index)
{
	const char *message = "error";

	index = lua_absindex(L, index);
	if (!is_error(L, index)) {
		/* No memory for more, or an error in the error. */
		if (lua_type(L, index) == LUA_TSTRING)
			message = lua_tostring(L, index);
		if (!strcmp(message, "not enough memory"))
			return "not enough memory: a script may use 1G, or what it sets with "
			       "config{memory = ...}";
		return message;
	}
	lua_pushliteral(L, "message");
	if (lua_rawget(L, index) == LUA_TSTRING)
		message = lua_tostring(L, -1);
	lua_pop(L, 1);
	return message;
}

void host_tell(lua_State *L, int index, const char *prefix)
{
	index = lua_absindex(L, index);
	ts_error("%s%s", prefix, host_message(L, index));
	if (!is_error(L, index))
		return;
	tell_place(L, index);
	tell_frames(L, index);
}
