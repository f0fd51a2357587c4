/* SPDX-License-Identifier: MIT */
/*
 * e.proc: what TS_REC_PROCESS records told. Bounded: the oldest goes first. A process that ended
 * stays until its number is seen again, so that its last events still know it.
 */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "lua_host.h"

#define PROCS_MAX 4096
#define PROC_TYPE "tlsscope.proc"
#define CONTAINER_TYPE "tlsscope.container"

/* record is NULL where asking brought no answer; label is "" outside containers. */
struct host_proc {
	struct host_proc *older, *newer;
	uint32_t pid;
	uint64_t ended; /* 0: it runs */
	struct ts_record *record;
	char label[CONTAINER_NAME];
};

static void drop(struct host_procs *procs, struct host_proc *p)
{
	*(p->older ? &p->older->newer : &procs->oldest) = p->newer;
	*(p->newer ? &p->newer->older : &procs->newest) = p->older;
	ts_map_remove(&procs->by_pid, p->pid, 0);
	free(p->record);
	free(p);
}

void host_procs_free(struct script *s)
{
	while (s->procs.oldest)
		drop(&s->procs, s->procs.oldest);
	ts_map_free(&s->procs.by_pid);
}

/* Replaces what was known of pid. record may be NULL. Without memory nothing is known. */
static void remember(struct host_procs *procs, uint32_t pid, const struct ts_record *record)
{
	struct host_proc *p = ts_map_get(&procs->by_pid, pid, 0);
	struct container c;

	if (p)
		drop(procs, p);
	if (procs->by_pid.count >= PROCS_MAX)
		drop(procs, procs->oldest);
	p = calloc(1, sizeof(*p));
	if (!p)
		return;
	p->pid = pid;
	p->record = record ? malloc(record->size) : NULL;
	if ((record && !p->record) || ts_map_set(&procs->by_pid, pid, 0, p)) {
		free(p->record);
		free(p);
		return;
	}
	if (record) {
		memcpy(p->record, record, record->size);
		if (record_container(record, &c))
			container_label(&c, p->label);
	}
	p->older = procs->newest;
	*(procs->newest ? &procs->newest->newer : &procs->oldest) = p;
	procs->newest = p;
}

void host_proc_record(struct script *s, const struct ts_record *r)
{
	const struct rec_process *process = (const void *)r;
	const struct rec_exec *life = (const void *)r;
	struct host_proc *p;

	if (r->type == TS_REC_PROCESS) {
		remember(&s->procs, process->pid, r);
		return;
	}
	p = ts_map_get(&s->procs.by_pid, life->pid, 0);
	if (!p)
		return;
	process = (const void *)p->record;
	if (r->type == TS_REC_EXIT)
		p->ended = life->nsecs;
	else if (!process || process->nsecs < life->nsecs)
		drop(&s->procs, p); /* another program now */
}

static const struct host_proc *find(struct script *s, const struct host_who *who, bool ask)
{
	uint32_t pid = who->pid;
	struct host_proc *p = ts_map_get(&s->procs.by_pid, pid, 0);

	if (p && p->ended && who->nsecs > p->ended) {
		drop(&s->procs, p); /* a new process of the same number */
		p = NULL;
	}
	if (p || !ask || !s->o.want_process)
		return p;
	s->o.want_process(s->o.ctx, pid, who->cgroup);
	if (!ts_map_get(&s->procs.by_pid, pid, 0))
		remember(&s->procs, pid, NULL); /* do not ask again for every event */
	p = ts_map_get(&s->procs.by_pid, pid, 0);
	if (p && who->ended)
		p->ended = who->nsecs;
	return p;
}

static void set_text(lua_State *L, const char *name, const char *text)
{
	if (!*text)
		return;
	lua_pushstring(L, name);
	lua_pushstring(L, text);
	lua_rawset(L, -3);
}

static void push_container(lua_State *L, const struct container *c)
{
	lua_createtable(L, 0, 6);
	luaL_setmetatable(L, CONTAINER_TYPE);
	set_text(L, "id", c->id);
	set_text(L, "name", c->name);
	set_text(L, "runtime", c->runtime);
	set_text(L, "pod", c->pod);
	set_text(L, "namespace", c->namespace);
	set_text(L, "pod_uid", c->pod_uid);
}

void host_push_proc(lua_State *L, struct script *s, const struct host_who *who, bool ask)
{
	static const char *const names[] = {NULL, "exe", "cmdline", "user", NULL,
					    NULL, NULL,	 NULL,	    "tls"};
	const struct host_proc *p = find(s, who, ask);
	struct container c;
	struct ts_record *r;
	unsigned int i;

	if (!p || !p->record) {
		lua_pushnil(L);
		return;
	}
	/* A garbage collection must not find the record gone: take the strings from a copy. */
	r = lua_newuserdatauv(L, p->record->size, 0);
	memcpy(r, p->record, p->record->size);
	lua_createtable(L, 0, 4);
	luaL_setmetatable(L, PROC_TYPE);
	for (i = 1; i < TS_ARRAY_SIZE(names); i++)
		if (names[i])
			set_text(L, names[i], record_string(r, sizeof(struct rec_process), i));
	if (record_container(r, &c)) {
		lua_pushliteral(L, "container");
		push_container(L, &c);
		lua_rawset(L, -3);
	}
	lua_remove(L, -2);
}

void host_push_container(lua_State *L, struct script *s, const struct host_who *who, bool ask)
{
	const struct host_proc *p = find(s, who, ask);

	if (p && *p->label)
		lua_pushstring(L, p->label);
	else
		lua_pushnil(L);
}

int host_container(lua_State *L)
{
	struct script *s = host_of(L);

	host_push_container(L, s, &s->about, true);
	return 1;
}

static int proc_index(lua_State *L)
{
	const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?";

	if (!api_find(API_PROC, name))
		return host_fail_nearest(L, "field of a process:", name,
					 api_nearest(API_PROC, name));
	lua_pushnil(L);
	return 1;
}

static int container_index(lua_State *L)
{
	const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?";

	if (!api_find(API_CONTAINER, name))
		return host_fail_nearest(L, "field of a container:", name,
					 api_nearest(API_CONTAINER, name));
	lua_pushnil(L);
	return 1;
}

void host_open_procs(lua_State *L)
{
	luaL_newmetatable(L, CONTAINER_TYPE);
	lua_pushcfunction(L, container_index);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
	luaL_newmetatable(L, PROC_TYPE);
	lua_pushcfunction(L, proc_index);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
}
