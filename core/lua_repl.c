/* SPDX-License-Identifier: MIT */
/* What lua/repl.lua, the prompt's policy, is built on. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lua_host.h"

/* load(chunk, text, environment) -> function, or nil and the parser's message */
static int repl_load(lua_State *L)
{
	size_t len;
	const char *text = luaL_checklstring(L, 2, &len);

	if (luaL_loadbufferx(L, text, len, luaL_checkstring(L, 1), "t")) {
		lua_pushnil(L);
		lua_insert(L, -2);
		return 2;
	}
	lua_pushvalue(L, 3);
	if (!lua_setupvalue(L, -2, 1))
		lua_pop(L, 1);
	return 1;
}

/* script(chunk, text) -> function, or nil and an error with its place; the text is kept */
static int repl_script(lua_State *L)
{
	struct ts_buf text = {0};
	size_t len;
	const char *chunk = luaL_checkstring(L, 1), *data = luaL_checklstring(L, 2, &len);

	if (ts_buf_add(&text, data, len))
		return luaL_error(L, "not enough memory");
	if (!host_load_buffer(L, chunk, &text))
		return 1;
	lua_pushnil(L);
	lua_insert(L, -2);
	return 2;
}

/* explain(chunk, text) -> the error that loading it brings */
static int repl_explain(lua_State *L)
{
	repl_script(L);
	return 1;
}

/* keep(chunk[, text]): the source for carets; without text it is forgotten */
static int repl_keep(lua_State *L)
{
	size_t len;
	const char *text = lua_tolstring(L, 2, &len);

	if (text)
		host_keep_source(L, luaL_checkstring(L, 1), text, len);
	else
		host_forget_source(L, luaL_checkstring(L, 1));
	return 0;
}

/* main() -> chunk's name, text of the script that ran before the prompt; or nothing */
static int repl_main(lua_State *L)
{
	struct script *s = host_of(L);

	if (!s->main)
		return 0;
	lua_pushstring(L, s->main);
	host_push_source(L, s->main);
	return 2;
}

/* What a file begins with; false where there is none or it begins otherwise. */
static bool begins_with(const char *path, const char *head)
{
	char start[128] = "";
	FILE *f = fopen(path, "re");
	bool same;

	if (!f)
		return errno == ENOENT;
	same = fread(start, 1, strlen(head), f) == strlen(head) && !strcmp(start, head);
	fclose(f);
	return same;
}

/* save(path, head, text) -> nothing, or what is wrong. Only what begins with head is replaced. */
static int repl_save(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1), *head = luaL_checkstring(L, 2), *text;
	struct output_file_options where = {.path = path, .secret = true};
	struct output_file *f;
	struct ts_err err;
	size_t len;

	text = luaL_checklstring(L, 3, &len);
	if (!begins_with(path, head)) {
		lua_pushfstring(L, "%s is there already, and is not a file that .save wrote", path);
		return 1;
	}
	if (!output_file_open(&f, &where, &err)) {
		output_file_write(f, text, len);
		if (!output_file_close(f, &err))
			return 0;
	}
	lua_pushstring(L, err.text);
	return 1;
}

/* command(name[, argument[, text]]) -> text or nil: what needs more than Lua */
static int repl_command(lua_State *L)
{
	struct script *s = host_of(L);
	struct script_command c = {
		.name = luaL_checkstring(L, 1),
		.argument = lua_tostring(L, 2),
		.text = lua_tostring(L, 3),
	};
	struct ts_err err = {""};
	int ret;

	ts_buf_free(&s->scratch);
	ret = s->command(s->command_ctx, &c, &s->scratch, &err);
	if (ret)
		return host_fail(L, NULL, "%s", err.text);
	if (!s->scratch.len)
		return 0;
	lua_pushlstring(L, (const char *)s->scratch.data, s->scratch.len);
	return 1;
}

static int open_prompt(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{"load", repl_load},	   {"script", repl_script},
		{"explain", repl_explain}, {"keep", repl_keep},
		{"main", repl_main},	   {"save", repl_save},
		{"command", repl_command}, {NULL, NULL},
	};
	struct script *s = host_of(L);

	lua_rawgeti(L, LUA_REGISTRYINDEX, s->callbacks.repl);
	luaL_newlib(L, functions);
	host_add_facts(L);
	lua_call(L, 1, 1);
	s->prompt = luaL_ref(L, LUA_REGISTRYINDEX);
	return 0;
}

/* Tells the error on the top; false: it was exit(). */
static bool told(struct script *s)
{
	bool failed = !host_is_exit(s->L, -1);

	if (failed)
		host_tell(s->L, -1, "");
	lua_pop(s->L, 1);
	return failed;
}

int script_prompt_open(struct script *s, script_command_fn command, void *ctx, struct ts_err *err)
{
	s->command = command;
	s->command_ctx = ctx;
	s->last.wanted = true;
	lua_pushcfunction(s->L, open_prompt);
	if (!host_call(s, 0, 0))
		return 0;
	ts_fail(err, EINVAL, "the prompt does not start: %s", host_message(s->L, -1));
	lua_pop(s->L, 1);
	return -EINVAL;
}

static void push_function(struct script *s, const char *name)
{
	lua_rawgeti(s->L, LUA_REGISTRYINDEX, s->prompt);
	lua_getfield(s->L, -1, name);
	lua_remove(s->L, -2);
}

enum script_input script_prompt_line(struct script *s, const char *line)
{
	static const char *const names[] = {"done", "more", "failed", "quit"};
	enum script_input found = SCRIPT_FAILED;
	const char *status;
	size_t i;

	host_settle_last(s);
	s->cut = false;
	push_function(s, "input");
	lua_pushstring(s->L, line);
	if (host_call(s, 1, 1)) {
		if (!told(s))
			return SCRIPT_DONE;
		script_prompt_forget(s);
		return SCRIPT_FAILED;
	}
	status = lua_tostring(s->L, -1);
	for (i = 0; status && i < TS_ARRAY_SIZE(names); i++)
		if (!strcmp(status, names[i]))
			found = (enum script_input)i;
	lua_pop(s->L, 1);
	return found;
}

bool script_prompt_forget(struct script *s)
{
	bool begun = false;

	push_function(s, "forget");
	if (host_call(s, 0, 1))
		told(s);
	else {
		begun = lua_toboolean(s->L, -1);
		lua_pop(s->L, 1);
	}
	return begun;
}

void script_prompt_interrupted(struct script *s)
{
	push_function(s, "interrupted");
	lua_pushboolean(s->L, s->cut);
	s->cut = false;
	if (host_call(s, 1, 0))
		told(s);
}

void script_prompt_settled(struct script *s, const char *problem)
{
	push_function(s, "settled");
	lua_pushstring(s->L, problem);
	if (host_call(s, 1, 0))
		told(s);
}

static char *copy_field(lua_State *L, int i)
{
	char *text;

	lua_rawgeti(L, -1, i);
	text = lua_isstring(L, -1) ? strdup(lua_tostring(L, -1)) : NULL;
	lua_pop(L, 1);
	return text;
}

struct script_match *script_complete(struct script *s, const char *before, size_t *count)
{
	struct script_match *list = NULL;
	lua_State *L = s->L;
	size_t i;

	*count = 0;
	push_function(s, "complete");
	lua_pushstring(L, before);
	if (host_call(s, 1, 1)) {
		lua_pop(L, 1);
		return NULL;
	}
	if (lua_istable(L, -1))
		list = calloc(lua_rawlen(L, -1) + 1, sizeof(*list));
	for (i = 0; list && i < lua_rawlen(L, -1); i++) {
		lua_rawgeti(L, -1, (lua_Integer)i + 1);
		list[*count].text = copy_field(L, 1);
		list[*count].shown = copy_field(L, 2);
		*count += list[*count].text != NULL;
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return list;
}

void script_matches_free(struct script_match *list, size_t count)
{
	while (count--) {
		free(list[count].text);
		free(list[count].shown);
	}
	free(list);
}
