/* SPDX-License-Identifier: MIT */
/* What the prompt and help can tell: the API, the last event, who is traced, processes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "container.h"
#include "lua_host.h"
#include "proc.h"

/* A copy of the message, as the event is over when somebody asks. */
void host_keep_last(struct script *s, const struct stream_message *m)
{
	struct host_last *last = &s->last;

	if (!last->wanted)
		return;
	last->valid = false;
	last->bytes.len = 0;
	if (ts_buf_add(&last->bytes, m->head, sizeof(*m->head)) ||
	    ts_buf_add(&last->bytes, m->data, m->size ? s->event_size : 0))
		return;
	last->message = *m;
	last->message.head = (const void *)last->bytes.data;
	last->message.data = last->bytes.data + sizeof(*m->head);
	last->size = s->event_size;
	last->handler = s->handler;
	last->valid = true;
	luaL_unref(s->L, LUA_REGISTRYINDEX, last->copy);
	last->copy = LUA_NOREF;
}

void host_copy_last(lua_State *L, int event)
{
	struct host_last *last = &host_of(L)->last;

	lua_getfield(L, event, "copy");
	lua_pushvalue(L, event);
	lua_call(L, 1, 1);
	luaL_unref(L, LUA_REGISTRYINDEX, last->copy);
	last->copy = luaL_ref(L, LUA_REGISTRYINDEX);
	last->valid = false;
}

static int copy_event(lua_State *L)
{
	host_copy_last(L, 1);
	return 0;
}

void host_settle_last(struct script *s)
{
	struct host_last *last = &s->last;
	lua_State *L = s->L;

	if (!last->valid)
		return;
	last->valid = false;
	if (++s->event_slot > HOST_TOP)
		s->event_slot = HOST_FIRST_EVENT;
	s->event = lua_touserdata(L, (int)s->event_slot);
	s->message = &last->message;
	s->handler = last->handler;
	s->event_size = last->size;
	lua_pushcfunction(L, copy_event);
	lua_pushvalue(L, (int)s->event_slot);
	if (host_call(s, 1, 0))
		lua_pop(L, 1);
	s->message = NULL;
	if (s->event_has_data) {
		lua_pushnil(L);
		lua_setiuservalue(L, (int)s->event_slot, 1);
		s->event_has_data = false;
	}
}

/* last() -> all fields of the last event, or nil */
static int facts_last(lua_State *L)
{
	lua_rawgeti(L, LUA_REGISTRYINDEX, host_of(L)->last.copy);
	return 1;
}

static void push_triple(lua_State *L, lua_Integer *n, const char *key, const char *value,
			bool excluded)
{
	lua_createtable(L, 3, 0);
	lua_pushstring(L, key);
	lua_rawseti(L, -2, 1);
	lua_pushstring(L, value);
	lua_rawseti(L, -2, 2);
	lua_pushboolean(L, excluded);
	lua_rawseti(L, -2, 3);
	lua_rawseti(L, -2, ++*n);
}

/* target(all) -> list of {key, value, excluded}: the command line's; all: target{}'s too */
static int facts_target(lua_State *L)
{
	static const char *const lists[TS_NAMES_COUNT] = {[TS_NAMES_LIB] = "lib",
							  [TS_NAMES_CGROUP] = "cgroup",
							  [TS_NAMES_CONTAINER] = "container"};
	struct script *s = host_of(L);
	const struct ts_filter *f = lua_toboolean(L, 1) ? &s->target : s->o.narrow;
	const struct ts_filter_item *item;
	lua_Integer n = 0;
	char text[TS_FILTER_TEXT];
	size_t key, i;

	lua_newtable(L);
	if (!f)
		return 1;
	for (key = 0; key < TS_KEY_COUNT; key++)
		for (i = 0; i < f->keys[key].count; i++) {
			item = &f->keys[key].items[i];
			if (!item->follow)
				push_triple(L, &n, ts_filter_key((enum ts_filter_key)key),
					    ts_filter_text(item, text), item->exclude);
		}
	for (key = 0; key < TS_NAMES_COUNT; key++)
		for (i = 0; i < f->names[key].count; i++)
			push_triple(L, &n, lists[key], f->names[key].items[i].text,
				    f->names[key].items[i].exclude);
	return 1;
}

struct process {
	uint32_t pid, uid;
	char comm[4 * TS_COMM_LEN + 1], libs[512], container[CONTAINER_NAME];
};

struct search {
	struct ts_buf *out; /* struct process, one after the other */
	struct process found;
	bool with_lib;
};

/* What its container is called; "": it is in none. */
static void find_container(uint32_t pid, char label[CONTAINER_NAME])
{
	struct container c;
	char text[8192];

	*label = 0;
	cgroup_read(pid, text, sizeof(text));
	if (!container_parse(text, &c, NULL))
		return;
	container_read_names("", text, &c);
	ts_copy(label, CONTAINER_NAME, container_label(&c, (char[CONTAINER_NAME]){0}));
}

static int look_at_process(void *ctx, uint32_t pid)
{
	struct search *s = ctx;
	struct proc_info *info;

	proc_tls(pid, s->found.libs, sizeof(s->found.libs));
	if (s->with_lib && !s->found.libs[0])
		return 0;
	info = malloc(sizeof(*info));
	if (!info)
		return -ENOMEM;
	/* What has neither is a thread of the kernel's, or a process that has ended. */
	if (!proc_read(pid, info) && (info->exe[0] || info->cmdline[0])) {
		s->found.pid = pid;
		s->found.uid = info->uid;
		ts_clean(s->found.comm, sizeof(s->found.comm), info->comm);
		find_container(pid, s->found.container);
		ts_buf_add(s->out, &s->found, sizeof(s->found));
	}
	free(info);
	return 0;
}

/* processes(with_lib) -> list of {pid=, uid=, comm=, libs=, container=}: all, or with a TLS library
 */
static int facts_processes(lua_State *L)
{
	struct script *s = host_of(L);
	struct search search = {.out = &s->scratch, .with_lib = lua_toboolean(L, 1)};
	const struct process *p;
	size_t i;

	ts_buf_free(&s->scratch);
	proc_each(look_at_process, &search);
	lua_newtable(L);
	for (i = 0; i < s->scratch.len / sizeof(*p); i++) {
		p = (const struct process *)(const void *)s->scratch.data + i;
		lua_createtable(L, 0, 5);
		lua_pushinteger(L, p->pid);
		lua_setfield(L, -2, "pid");
		lua_pushinteger(L, p->uid);
		lua_setfield(L, -2, "uid");
		lua_pushstring(L, p->comm);
		lua_setfield(L, -2, "comm");
		lua_pushstring(L, p->libs);
		lua_setfield(L, -2, "libs");
		lua_pushstring(L, p->container);
		lua_setfield(L, -2, "container");
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	ts_buf_free(&s->scratch);
	return 1;
}

/* recipes() -> list of {name, summary} */
static int facts_recipes(lua_State *L)
{
	const struct script_recipe *r = script_recipes();
	lua_Integer n = 0;

	lua_newtable(L);
	for (; r->name; r++)
		push_triple(L, &n, r->name, r->summary, false);
	return 1;
}

/* describe() -> list of {kind=, name=, type=, help=}: the table of the API */
static int facts_describe(lua_State *L)
{
	size_t i;

	lua_createtable(L, (int)api_count, 0);
	for (i = 0; i < api_count; i++) {
		lua_createtable(L, 0, 4);
		lua_pushstring(L, api_kind_name(api_table[i].kind));
		lua_setfield(L, -2, "kind");
		lua_pushstring(L, api_table[i].name);
		lua_setfield(L, -2, "name");
		lua_pushstring(L, api_table[i].type);
		lua_setfield(L, -2, "type");
		lua_pushstring(L, api_table[i].help);
		lua_setfield(L, -2, "help");
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* source(name) -> a script's or recipe's text and its chunk's name; or nil and a sentence */
static int facts_source(lua_State *L)
{
	struct script *s = host_of(L);
	const char *name = luaL_checkstring(L, 1);
	enum script_kind kind = script_kind_of(name);
	struct ts_err err;

	ts_buf_free(&s->scratch);
	if (host_read_script(&s->scratch, kind, name, &err)) {
		lua_pushnil(L);
		lua_pushstring(L, err.text);
		return 2;
	}
	lua_pushlstring(L, (const char *)s->scratch.data, s->scratch.len);
	lua_pushfstring(L, kind == SCRIPT_FILE ? "@%s" : "=%s.lua", name);
	return 2;
}

void host_add_facts(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{"last", facts_last},
		{"target", facts_target},
		{"processes", facts_processes},
		{"recipes", facts_recipes},
		{"describe", facts_describe},
		{"source", facts_source},
		{NULL, NULL},
	};

	luaL_setfuncs(L, functions, 0);
}
