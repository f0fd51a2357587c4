/* SPDX-License-Identifier: MIT */
/* The primitives on which lua/prelude.lua builds; those for handlers are in lua_subs.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "embed.h"
#include "lua_host.h"
#include "lua_text.h"

/*
 * Payload may be in it, and whoever reads a file or a pipe shows it on a terminal in the end:
 * nothing of it may act there.
 */
static void write_safe(lua_State *L, void (*put)(void *to, const void *, size_t), void *to)
{
	struct ts_buf b = {0};
	size_t len;
	const char *text = luaL_checklstring(L, 1, &len);
	int err;

	err = output_escape(&b, text, len, true);
	if (!err)
		put(to, b.data, b.len);
	ts_buf_free(&b);
	if (err)
		luaL_error(L, "not enough memory");
}

static void put_output(void *to, const void *data, size_t len)
{
	output_write(to, data, len);
}

static void put_file(void *to, const void *data, size_t len)
{
	ts_before_message();
	fwrite(data, 1, len, to);
}

/* write(text) */
static int core_write(lua_State *L)
{
	write_safe(L, put_output, host_of(L)->o.out);
	return 0;
}

/* write_error(text): standard error */
static int core_write_error(lua_State *L)
{
	write_safe(L, put_file, stderr);
	return 0;
}

static int core_clear(lua_State *L)
{
	output_redraw(host_of(L)->o.out);
	return 0;
}

/* color(name or nil) */
static int core_color(lua_State *L)
{
	const char *name = luaL_optstring(L, 1, NULL);

	if (!output_color(host_of(L)->o.out, name))
		return host_fail(L, name, "color: there is no '%s'", name);
	return 0;
}

static int core_flush(lua_State *L)
{
	output_flush(host_of(L)->o.out);
	return 0;
}

/* warn(text) */
static int core_warn(lua_State *L)
{
	ts_warn("%s", luaL_checkstring(L, 1));
	return 0;
}

/* verbose(text): shown with -v */
static int core_verbose(lua_State *L)
{
	ts_verbose("script", "%s", luaL_checkstring(L, 1));
	return 0;
}

/* tell(prefix, error) */
static int core_tell(lua_State *L)
{
	luaL_checkany(L, 2);
	host_tell(L, 2, luaL_checkstring(L, 1));
	return 0;
}

/* fail(word or nil, message) */
static int core_fail(lua_State *L)
{
	return host_fail(L, lua_tostring(L, 1), "%s", luaL_checkstring(L, 2));
}

/* nearest(name, list) -> string or nil */
static int core_nearest(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	size_t n = lua_rawlen(L, 2), i;
	const char **names = lua_newuserdatauv(L, (n + 1) * sizeof(*names), 0);

	/* The list keeps the strings while they are compared. */
	for (i = 0; i < n; i++) {
		lua_rawgeti(L, 2, (lua_Integer)i + 1);
		names[i] = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
		lua_pop(L, 1);
	}
	lua_pushstring(L, ts_nearest(name, names, n));
	return 1;
}

/* api(kind) -> names to types, list of names */
static int core_api(lua_State *L)
{
	const char *kind = luaL_checkstring(L, 1);
	lua_Integer n = 0;
	size_t i;

	lua_newtable(L);
	lua_newtable(L);
	for (i = 0; i < api_count; i++) {
		if (strcmp(api_kind_name(api_table[i].kind), kind))
			continue;
		lua_pushstring(L, api_table[i].type);
		lua_setfield(L, -3, api_table[i].name);
		lua_pushstring(L, api_table[i].name);
		lua_rawseti(L, -2, ++n);
	}
	return 2;
}

static int core_now(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)host_of(L)->now);
	return 1;
}

/* set_tick(nsecs or nil): when the prelude's tick is due */
static int core_set_tick(lua_State *L)
{
	host_of(L)->next_tick = lua_isnil(L, 1) ? UINT64_MAX : (uint64_t)luaL_checkinteger(L, 1);
	return 0;
}

/* exit(status): leaves all that runs */
static int core_exit(lua_State *L)
{
	struct script *s = host_of(L);

	s->status = (int)(luaL_optinteger(L, 1, 0) & 255);
	s->exited = true;
	return host_raise_exit(L);
}

/* failed(): counts an error of a handler; strict, it ends the run */
static int core_failed(lua_State *L)
{
	struct script *s = host_of(L);

	s->errors++;
	if (s->o.strict && !s->exited) {
		s->exited = true;
		s->status = 1;
	}
	return 0;
}

static int core_exited(lua_State *L)
{
	lua_pushboolean(L, host_of(L)->exited);
	return 1;
}

static int core_started(lua_State *L)
{
	lua_pushboolean(L, host_of(L)->started);
	return 1;
}

/* protect(fn, ...) -> true, or false and the error. Exits and interrupts go on. */
static int core_protect(lua_State *L)
{
	lua_pushcfunction(L, host_traceback);
	lua_insert(L, 1);
	if (!lua_pcall(L, lua_gettop(L) - 2, 0, 1)) {
		lua_pushboolean(L, 1);
		return 1;
	}
	if (host_is_exit(L, -1) || host_of(L)->interrupted)
		return lua_error(L);
	lua_pushboolean(L, 0);
	lua_insert(L, -2);
	return 2;
}

/* module(path) -> the chunk of an embedded file, or nil */
static int core_module(lua_State *L)
{
	if (host_load_embedded(L, luaL_checkstring(L, 1)))
		return lua_error(L);
	return 1;
}

/* find(name) -> the chunk of a module, or nil: the folders of -I come first */
static int core_find(lua_State *L)
{
	struct script *s = host_of(L);
	const char *name = luaL_checkstring(L, 1), *path;
	struct ts_buf text = {0};
	struct ts_err err;
	size_t i;

	for (i = 0; i < s->o.include_count; i++) {
		path = lua_pushfstring(L, "@%s/%s.lua", s->o.include[i], name);
		if (access(path + 1, F_OK))
			continue;
		if (host_read_file(path + 1, &text, true, &err))
			return host_fail(L, name, "%s", err.text);
		return host_load_buffer(L, path, &text) ? lua_error(L) : 1;
	}
	path = lua_pushfstring(L, "lua/%s.lua", name);
	if (host_load_embedded(L, path))
		return lua_error(L);
	return 1;
}

/* config(key, value): what the prelude does not keep itself */
static int core_config(lua_State *L)
{
	static const char *const attach[] = {"auto", "sessions", "multi", "perf", "copies", NULL};
	static const char *const sites[] = {"auto", "symbol", NULL};
	static const char *const times[] = {"local", "utc", "relative", NULL};
	struct script *s = host_of(L);
	const char *key = luaL_checkstring(L, 1);
	size_t bytes;

	if (!strcmp(key, "buffer")) {
		/* A power of two that holds it. */
		for (bytes = 4096; bytes < (size_t)luaL_checkinteger(L, 2); bytes *= 2)
			;
		s->config.buffer = bytes;
	} else if (!strcmp(key, "attach")) {
		s->config.attach = attach[luaL_checkoption(L, 2, NULL, attach)];
	} else if (!strcmp(key, "sites")) {
		s->config.sites = sites[luaL_checkoption(L, 2, NULL, sites)];
	} else if (!strcmp(key, "memory")) {
		s->memory_max = (size_t)luaL_checkinteger(L, 2);
	} else if (!strcmp(key, "time") && !s->o.time_given) {
		s->time_shown = (enum script_time)luaL_checkoption(L, 2, NULL, times);
		s->time.text[0] = 0;
		s->time.second = 0;
	}
	return 0;
}

/* har(text): an entry of the HAR file */
static int core_har(lua_State *L)
{
	struct script *s = host_of(L);
	size_t len;
	const char *text = luaL_checklstring(L, 1, &len);

	s->o.har_entry(s->o.ctx, text, len);
	return 0;
}

/* date(nsecs) -> "2026-11-21T14:00:00.240Z", or nil: the time of day is not known */
static int core_date(lua_State *L)
{
	uint64_t wall = (uint64_t)luaL_checkinteger(L, 1) + host_of(L)->wall_offset;
	time_t second = (time_t)(wall / 1000000000);
	char text[64];
	struct tm tm;
	size_t n;

	if (!host_of(L)->wall_offset || !gmtime_r(&second, &tm)) {
		lua_pushnil(L);
		return 1;
	}
	n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, sizeof(text) - n, ".%03uZ", (unsigned int)(wall % 1000000000 / 1000000));
	lua_pushstring(L, text);
	return 1;
}

static int terminal_width(const struct output *out)
{
	struct winsize size = {0};
	const char *columns = getenv("COLUMNS");
	int width = columns ? atoi(columns) : 0;

	if (output_is_terminal(out) && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col)
		width = size.ws_col;
	return width >= 20 && width <= 1000 ? width : 80;
}

/* width() -> columns of the output */
static int core_width(lua_State *L)
{
	lua_pushinteger(L, terminal_width(host_of(L)->o.out));
	return 1;
}

static void set_facts(lua_State *L, const struct script *s)
{
	lua_pushstring(L, output_format(s->o.out) == OUTPUT_JSON ? "json" : "text");
	lua_setfield(L, -2, "format");
	lua_pushboolean(L, output_is_terminal(s->o.out));
	lua_setfield(L, -2, "terminal");
	lua_pushboolean(L, s->o.unsafe);
	lua_setfield(L, -2, "unsafe");
	lua_pushboolean(L, s->o.show_secrets);
	lua_setfield(L, -2, "show_secrets");
	if (s->o.har_entry) {
		lua_pushcfunction(L, core_har);
		lua_setfield(L, -2, "har");
	}
	luaopen_tlsscope_text(L);
	lua_setfield(L, -2, "text");
}

void host_push_core(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{"write", core_write},
		{"write_error", core_write_error},
		{"clear", core_clear},
		{"flush", core_flush},
		{"color", core_color},
		{"width", core_width},
		{"warn", core_warn},
		{"tell", core_tell},
		{"fail", core_fail},
		{"nearest", core_nearest},
		{"api", core_api},
		{"now", core_now},
		{"set_tick", core_set_tick},
		{"exit", core_exit},
		{"failed", core_failed},
		{"exited", core_exited},
		{"started", core_started},
		{"protect", core_protect},
		{"module", core_module},
		{"find", core_find},
		{"config", core_config},
		{"date", core_date},
		{"container", host_container},
		{"verbose", core_verbose},
		{NULL, NULL},
	};

	luaL_newlib(L, functions);
	host_add_subs(L);
	set_facts(L, host_of(L));
}
