/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "embed.h"
#include "lua_host.h"

struct script *host_of(lua_State *L)
{
	return *(struct script **)lua_getextraspace(L);
}

/* Lua's memory has a limit: a script that keeps everything must not take the machine with it. */
static void *allocate(void *ud, void *p, size_t old, size_t size)
{
	struct script *s = ud;
	void *new;

	if (!p)
		old = 0;
	if (!size) {
		free(p);
		s->memory -= old;
		return NULL;
	}
	if (size > old && s->memory - old + size > s->memory_max)
		return NULL;
	new = realloc(p, size);
	if (new)
		s->memory += size - old;
	return new;
}

/* Leaves HOST_EVENTS events. */
static int open_events(lua_State *L)
{
	luaL_checkstack(L, HOST_EVENTS + 16, NULL);
	host_open_events(L);
	return HOST_EVENTS;
}

static int callback(lua_State *L, const char *name)
{
	lua_getfield(L, -1, name);
	return luaL_ref(L, LUA_REGISTRYINDEX);
}

static int open_prelude(lua_State *L)
{
	struct script *s = host_of(L);

	host_open_libraries(L, s->o.unsafe);
	host_open_conns(L);
	host_open_procs(L);
	host_open_http(L);
	if (host_load_embedded(L, "lua/prelude.lua"))
		return lua_error(L);
	if (lua_isnil(L, -1))
		return luaL_error(L, "lua/prelude.lua is missing from this program");
	host_push_core(L);
	lua_call(L, 1, 1);
	s->callbacks.fire = callback(L, "fire");
	s->callbacks.tick = callback(L, "tick");
	s->callbacks.failed = callback(L, "failed");
	s->callbacks.started = callback(L, "started");
	s->callbacks.lists = callback(L, "lists");
	s->callbacks.timers = callback(L, "timers");
	s->callbacks.repl = callback(L, "repl");
	s->callbacks.help = callback(L, "help");
	return 0;
}

static int open_errors(lua_State *L)
{
	host_open_errors(L);
	return 0;
}

static int open_state(struct script *s, struct ts_err *err)
{
	lua_State *L = lua_newstate(allocate, s);
	int ret;

	s->L = L;
	if (!L || !lua_checkstack(L, HOST_TOP + LUA_MINSTACK))
		return ts_fail(err, ENOMEM, "no memory for Lua");
	*(struct script **)lua_getextraspace(L) = s;
	lua_gc(L, LUA_GCGEN, 0, 0);
	lua_pushcfunction(L, host_traceback);
	lua_pushcfunction(L, open_errors);
	ret = lua_pcall(L, 0, 0, 0);
	if (!ret) {
		lua_pushcfunction(L, open_events);
		ret = lua_pcall(L, 0, HOST_EVENTS, 0);
	}
	if (!ret) {
		lua_pushcfunction(L, open_prelude);
		ret = host_call(s, 0, 0);
	}
	if (!ret)
		return 0;
	ret = ret == LUA_ERRMEM ? ENOMEM : EINVAL;
	return ts_fail(err, ret, "the Lua library does not start: %s",
		       ret == ENOMEM ? "not enough memory" : host_message(L, -1));
}

int script_open(struct script **out, const struct script_options *options, struct ts_err *err)
{
	struct script *s = calloc(1, sizeof(*s));
	int ret = 0;

	*out = NULL;
	if (!s)
		return ts_fail(err, ENOMEM, "no memory for a script");
	s->o = *options;
	s->time_shown = options->time_given ? options->time : SCRIPT_TIME_LOCAL;
	s->config = (struct script_config){.attach = "auto", .sites = "auto"};
	s->memory_max = HOST_MEMORY;
	s->capture = HOST_CAPTURE;
	s->next_tick = UINT64_MAX;
	s->event_slot = HOST_TOP;
	s->last.copy = LUA_NOREF;
	if (options->narrow && ts_filter_intersect(&s->target, options->narrow))
		ret = ts_fail(err, ENOMEM, "no memory for a script");
	if (!ret)
		ret = open_state(s, err);
	if (ret) {
		script_close(s);
		return ret;
	}
	*out = s;
	return 0;
}

void script_close(struct script *s)
{
	unsigned int i;

	if (!s)
		return;
	host_http_free(s);
	if (s->L)
		lua_close(s->L);
	for (i = 0; i < TS_MAX_SUBS; i++) {
		ts_filter_free(&s->handlers[i].own.filter);
		ts_filter_free(&s->subs[i].filter);
	}
	ts_filter_free(&s->target);
	ts_filter_free(&s->given);
	host_procs_free(s);
	host_aggs_free(s);
	ts_buf_free(&s->last.bytes);
	ts_buf_free(&s->scratch);
	free(s->main);
	free(s);
}

struct main_chunk {
	const char *chunk, *name;
	struct ts_buf text;
	int argc;
	char *const *argv;
};

/* The script's arguments, as `lua` has them: args[0] is its name. */
static void set_args(lua_State *L, const struct main_chunk *m)
{
	int i;

	lua_createtable(L, m->argc, 1);
	lua_pushstring(L, m->name);
	lua_rawseti(L, -2, 0);
	for (i = 0; i < m->argc; i++) {
		lua_pushstring(L, m->argv[i]);
		lua_rawseti(L, -2, i + 1);
	}
	lua_setglobal(L, "args");
}

static int run_main(lua_State *L)
{
	struct main_chunk *m = lua_touserdata(L, 1);
	int i;

	set_args(L, m);
	if (host_load_buffer(L, m->chunk, &m->text))
		return lua_error(L);
	for (i = 0; i < m->argc; i++)
		lua_pushstring(L, m->argv[i]);
	lua_call(L, m->argc, 0);
	return 0;
}

static int read_recipe(const char *name, struct ts_buf *text, struct ts_err *err)
{
	const struct script_recipe *r = script_recipes();
	const char *names[64], *nearest;
	const struct embed_file *f;
	char path[256];
	size_t n;

	snprintf(path, sizeof(path), "scripts/%s.lua", name);
	f = embed_find(path);
	if (f)
		return ts_buf_add(text, f->data, (size_t)(f->end - f->data))
			       ? ts_fail(err, ENOMEM, "no memory for '%s'", name)
			       : 0;
	for (n = 0; n < TS_ARRAY_SIZE(names) && r[n].name; n++)
		names[n] = r[n].name;
	nearest = ts_nearest(name, names, n);
	if (nearest)
		return ts_fail(err, ENOENT,
			       "there is no file and no recipe '%s', did you mean '%s'?", name,
			       nearest);
	return ts_fail(err, ENOENT, "there is no file and no recipe '%s'; -L lists the recipes",
		       name);
}

enum script_kind script_kind_of(const char *name)
{
	const struct script_recipe *recipe = script_recipes();
	const char *dot = strrchr(name, '.');

	while (recipe->name && strcmp(recipe->name, name))
		recipe++;
	if (!strcmp(name, "-") || strchr(name, '/') || (dot && !strcmp(dot, ".lua")) ||
	    (!recipe->name && !access(name, F_OK)))
		return SCRIPT_FILE;
	return SCRIPT_RECIPE;
}

int host_read_script(struct ts_buf *text, enum script_kind kind, const char *what,
		     struct ts_err *err)
{
	switch (kind) {
	case SCRIPT_FILE:
		return host_read_file(what, text, false, err);
	case SCRIPT_RECIPE:
		return read_recipe(what, text, err);
	case SCRIPT_CODE:
		break;
	}
	return ts_buf_add(text, what, strlen(what)) ? ts_fail(err, ENOMEM, "no memory for -e") : 0;
}

int script_load(struct script *s, enum script_kind kind, const char *what, int argc,
		char *const *argv, struct ts_err *err)
{
	struct main_chunk m = {
		.name = kind == SCRIPT_CODE ? "-e" : what, .argc = argc, .argv = argv};
	struct ts_buf chunk = {0};
	int ret = host_read_script(&m.text, kind, what, err);

	if (ret)
		return ret;
	if (m.text.len && m.text.data[0] == LUA_SIGNATURE[0]) {
		ts_buf_free(&m.text);
		return ts_fail(err, ENOEXEC, "'%s' is compiled Lua; only source is run", what);
	}
	/* "@" says that a name is a file's, "=" that it is to be shown as it is. */
	if (kind == SCRIPT_FILE && strcmp(what, "-"))
		ret = ts_buf_printf(&chunk, "@%s%c", what, 0);
	else if (kind == SCRIPT_RECIPE)
		ret = ts_buf_printf(&chunk, "=%s.lua%c", what, 0);
	else
		ret = ts_buf_printf(&chunk, "=%s%c", kind == SCRIPT_CODE ? "-e" : "stdin", 0);
	if (ret) {
		ts_buf_free(&m.text);
		return ts_fail(err, ENOMEM, "no memory for '%s'", what);
	}
	m.chunk = (const char *)chunk.data;
	lua_pushcfunction(s->L, run_main);
	lua_pushlightuserdata(s->L, &m);
	ret = host_call(s, 1, 0);
	if (ret) {
		ret = host_is_exit(s->L, -1) ? 0 : -EINVAL;
		if (ret)
			host_tell(s->L, -1, "");
		lua_pop(s->L, 1);
	}
	free(s->main);
	s->main = (char *)chunk.data;
	ts_buf_free(&m.text);
	return ret;
}

bool script_idle(struct script *s)
{
	lua_State *L = s->L;
	lua_Unsigned wanted;
	size_t i;

	lua_rawgeti(L, LUA_REGISTRYINDEX, s->callbacks.timers);
	wanted = lua_rawlen(L, -1);
	lua_pop(L, 1);
	for (i = 0; i < s->subs_count; i++)
		wanted += s->handlers[i].used;
	lua_rawgeti(L, LUA_REGISTRYINDEX, s->callbacks.lists);
	for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
		wanted += lua_rawlen(L, -1);
	lua_pop(L, 1);
	return !wanted;
}

static bool listens(struct script *s, const char *event)
{
	lua_Unsigned n;

	lua_rawgeti(s->L, LUA_REGISTRYINDEX, s->callbacks.lists);
	lua_getfield(s->L, -1, event);
	n = lua_rawlen(s->L, -1);
	lua_pop(s->L, 2);
	return n;
}

bool script_wants_probes(struct script *s)
{
	size_t i;

	for (i = 0; i < s->subs_count; i++)
		if (s->handlers[i].used)
			return true;
	return listens(s, "exec") || listens(s, "exit");
}

const struct script_config *script_config(const struct script *s)
{
	return &s->config;
}

uint64_t script_next_tick(const struct script *s)
{
	return s->exited ? UINT64_MAX : s->next_tick;
}

bool script_exited(const struct script *s, int *status)
{
	*status = s->status;
	return s->exited;
}

uint64_t script_http_given_up(const struct script *s)
{
	return s->http.given_up;
}

uint64_t script_errors(const struct script *s)
{
	return s->errors;
}

/* Copies the first line of comment that says something of the script, without its name. */
static void copy_summary(char *out, size_t size, const struct embed_file *f)
{
	const char *line = (const char *)f->data, *end = (const char *)f->end, *stop, *colon;
	size_t len;

	*out = 0;
	for (; line < end; line = stop + 1) {
		stop = memchr(line, '\n', (size_t)(end - line));
		if (!stop)
			return;
		if (stop - line < 4 || memcmp(line, "-- ", 3) || !memcmp(line, "-- SPDX", 7))
			continue;
		line += 3;
		colon = memchr(line, ':', (size_t)(stop - line));
		if (colon && !memchr(line, ' ', (size_t)(colon - line)) && colon + 2 < stop)
			line = colon + 2;
		len = (size_t)(stop - line) < size - 1 ? (size_t)(stop - line) : size - 1;
		memcpy(out, line, len);
		out[len] = 0;
		return;
	}
}

const struct script_recipe *script_recipes(void)
{
	/* Constants, made of the embedded files at the first call. */
	static struct script_recipe recipes[64];
	static char names[63][32], summaries[63][128];
	const struct embed_file *f;
	size_t n = 0, len;

	if (recipes[0].name)
		return recipes;
	for (f = embed_files; f->name && n < TS_ARRAY_SIZE(names); f++) {
		len = strlen(f->name);
		if (strncmp(f->name, "scripts/", 8) || len < 13 || len - 12 >= sizeof(names[0]))
			continue;
		memcpy(names[n], f->name + 8, len - 12);
		copy_summary(summaries[n], sizeof(summaries[n]), f);
		recipes[n] = (struct script_recipe){names[n], summaries[n]};
		n++;
	}
	return recipes;
}
