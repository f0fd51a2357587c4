/* SPDX-License-Identifier: MIT */
/*
 * Aggregations in the kernel: what is asked of it, and what it hands over. Cells come as they are
 * in its table; here their keys become what an event's fields would be, in the order of the keys'
 * first events.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lua_host.h"

#define MOST_KEYS 4
/* In handlers of events, which may be many, what was taken over so long ago is good enough. */
#define OFTEN_NS 100000000ull
#define SECOND 1000000000ull

enum field {
	F_PID,
	F_TID,
	F_COMM,
	F_UID,
	F_CGROUP,
	F_CONTAINER,
	F_LIB,
	F_KIND,
	F_FUNC,
	F_PROBE,
	F_DIR,
	F_PEER,
	F_RADDR,
	F_RPORT,
	F_COUNT
};

/* lua/aggregate_kernel.lua has the names too. */
static const struct {
	const char *name;
	uint16_t parts;
} fields[F_COUNT] = {
	[F_PID] = {"pid", TS_AGG_PID},
	[F_TID] = {"tid", TS_AGG_TID},
	[F_COMM] = {"comm", TS_AGG_COMM},
	[F_UID] = {"uid", TS_AGG_UID},
	[F_CGROUP] = {"cgroup", TS_AGG_CGROUP},
	[F_CONTAINER] = {"container", TS_AGG_PID | TS_AGG_CGROUP},
	[F_LIB] = {"lib", TS_AGG_SOURCE},
	[F_KIND] = {"kind", TS_AGG_SOURCE},
	[F_FUNC] = {"func", TS_AGG_SOURCE},
	[F_PROBE] = {"probe", TS_AGG_SOURCE},
	[F_DIR] = {"dir", TS_AGG_DIR},
	[F_PEER] = {"peer", TS_AGG_RADDR | TS_AGG_RPORT},
	[F_RADDR] = {"raddr", TS_AGG_RADDR},
	[F_RPORT] = {"rport", TS_AGG_RPORT},
};

/* Kept for the whole run: its last cells come when it is detached. */
struct host_agg {
	unsigned int place; /* of its handler */
	uint8_t by[MOST_KEYS], by_count;
};

struct host_cell {
	struct ts_agg_key key;
	struct ts_agg_cell cell;
	const struct stream_source *source;
};

static int read_key(lua_State *L, const char *name, struct host_agg *a, struct ts_agg *agg)
{
	uint8_t i;

	for (i = 0; i < F_COUNT && strcmp(fields[i].name, name); i++)
		;
	if (i == F_COUNT || a->by_count == MOST_KEYS)
		return luaL_error(L, "'%s' cannot be a key in the kernel", name);
	a->by[a->by_count++] = i;
	agg->parts |= fields[i].parts;
	return 0;
}

static lua_Integer number_of(lua_State *L, const char *name)
{
	lua_Integer n;

	lua_getfield(L, 2, name);
	n = luaL_optinteger(L, -1, 0);
	lua_pop(L, 1);
	return n;
}

static int word_of(lua_State *L, const char *name, const char *const words[])
{
	int n;

	lua_getfield(L, 2, name);
	n = luaL_checkoption(L, -1, NULL, words);
	lua_pop(L, 1);
	return n;
}

/* The plan of lua/aggregate_kernel.lua, at index 2. */
static void read_plan(lua_State *L, struct host_agg *a, struct ts_agg *agg)
{
	static const char *const forms[] = {"", "sum", "ends", "hist", "lhist", NULL};
	static const char *const values[] = {"len", "ret", "duration", NULL};
	lua_Integer i;

	agg->form = (__u8)word_of(L, "form", forms);
	agg->value = (__u8)word_of(L, "value", values);
	agg->scale = (__u64)number_of(L, "scale");
	if (agg->form == TS_AGG_LHIST) {
		agg->min = number_of(L, "min");
		agg->max = number_of(L, "max");
		agg->step = (__u64)number_of(L, "step");
		agg->last = (__u32)(((__u64)(agg->max - agg->min) + agg->step - 1) / agg->step);
	}
	lua_getfield(L, 2, "by");
	for (i = 1; lua_geti(L, -1, i) == LUA_TSTRING; i++) {
		read_key(L, lua_tostring(L, -1), a, agg);
		lua_pop(L, 1);
	}
	lua_pop(L, 2);
}

/* aggregate(handler's number, plan) -> its own number, or nil: the kernel is not to */
static int core_aggregate(lua_State *L)
{
	struct script *s = host_of(L);
	unsigned int place = (unsigned int)luaL_checkinteger(L, 1);
	struct host_agg a = {.place = place}, *list;
	struct ts_agg agg = {0};

	if (!s->o.drain_aggs)
		return 0;
	luaL_argcheck(L, place < TS_MAX_SUBS && s->handlers[place].used, 1, "no such handler");
	read_plan(L, &a, &agg);
	list = realloc(s->aggs.list, (s->aggs.count + 1) * sizeof(*list));
	if (!list)
		return luaL_error(L, "not enough memory");
	s->aggs.list = list;
	list[s->aggs.count++] = a;
	agg.id = (__u32)s->aggs.count;
	s->aggs.processes |= agg.parts & TS_AGG_PID && agg.parts & TS_AGG_CGROUP;
	s->handlers[place].own.agg = s->subs[place].agg = agg;
	s->changed = true;
	lua_pushinteger(L, agg.id);
	return 1;
}

void script_agg_cell(struct script *s, const struct ts_agg_key *key, const struct ts_agg_cell *cell,
		     const struct stream_source *source)
{
	struct host_cell c = {*key, *cell, source};
	struct host_handler *h;

	if (!key->id || key->id > s->aggs.count)
		return;
	h = &s->handlers[s->aggs.list[key->id - 1].place];
	if (h->used && h->own.agg.id == key->id) {
		h->events += cell->count;
		h->bytes += cell->bytes;
	}
	if (ts_buf_add(&s->aggs.cells, &c, sizeof(c)))
		ts_warn("out of memory: %llu events are missing in an aggregation",
			(unsigned long long)cell->count);
}

static void push_text(lua_State *L, const char *text)
{
	lua_pushstring(L, text && *text ? text : NULL); /* NULL: nil */
}

/* Of the other end, as its socket would tell. */
static void push_end(lua_State *L, const struct ts_agg_key *key, enum field field)
{
	struct stream_conn conn = {
		.info = {.family = AF_INET6, .rlen = sizeof(key->raddr), .rport = key->rport}};

	memcpy(conn.info.raddr, key->raddr, sizeof(key->raddr));
	host_push_info(L, &conn, fields[field].name);
}

/* As lua_event.c pushes the event's field. */
static void push_key(lua_State *L, struct script *s, const struct host_cell *c, enum field field)
{
	const struct ts_agg_key *key = &c->key;
	struct host_who who = {.pid = key->pid, .nsecs = c->cell.first, .cgroup = key->cgroup};

	switch (field) {
	case F_PID:
		lua_pushinteger(L, key->pid);
		break;
	case F_TID:
		lua_pushinteger(L, key->tid);
		break;
	case F_COMM:
		lua_pushlstring(L, key->comm, strnlen(key->comm, sizeof(key->comm)));
		break;
	case F_UID:
		lua_pushinteger(L, key->uid);
		break;
	case F_CGROUP:
		key->cgroup ? lua_pushinteger(L, (lua_Integer)key->cgroup) : lua_pushnil(L);
		break;
	case F_CONTAINER:
		host_push_container(L, s, &who, true);
		break;
	case F_LIB:
		push_text(L, c->source ? c->source->path : NULL);
		break;
	case F_KIND:
		push_text(L, c->source ? c->source->kind : NULL);
		break;
	case F_FUNC:
		push_text(L, c->source ? c->source->func : NULL);
		break;
	case F_PROBE:
		push_text(L, c->source ? lib_probe_name((enum ts_probe)c->source->probe) : NULL);
		break;
	case F_PEER:
	case F_RADDR:
	case F_RPORT:
		push_end(L, key, field);
		break;
	default:
		lua_pushstring(L, key->dir == TS_IN ? "in" : "out");
	}
}

static int by_first(const void *a, const void *b)
{
	const struct host_cell *x = a, *y = b;

	return x->cell.first < y->cell.first ? -1 : x->cell.first > y->cell.first;
}

static void merge_cell(lua_State *L, struct script *s, const struct host_cell *c)
{
	const struct host_agg *a = &s->aggs.list[c->key.id - 1];
	uint8_t i;

	lua_rawgeti(L, LUA_REGISTRYINDEX, s->aggs.on_cell);
	lua_pushinteger(L, c->key.id);
	lua_pushinteger(L, c->key.bucket);
	lua_pushinteger(L, (lua_Integer)c->cell.count);
	lua_pushinteger(L, c->cell.sum);
	lua_pushinteger(L, c->cell.min);
	lua_pushinteger(L, c->cell.max);
	for (i = 0; i < a->by_count; i++)
		push_key(L, s, c, (enum field)a->by[i]);
	lua_call(L, 6 + a->by_count, 0);
}

/* Whether what is there is as new as it has to be. */
static bool is_fresh(const struct script *s)
{
	bool often = s->message || s->http.firing || s->aggs.often;

	/* While one call runs, nothing changes under it. */
	return s->aggs.seen == s->calls ||
	       (often && s->aggs.drained && ts_now() - s->aggs.drained < OFTEN_NS);
}

void host_sync_aggs(lua_State *L)
{
	struct script *s = host_of(L);
	struct host_aggs *aggs = &s->aggs;
	const struct host_cell *cells;
	size_t count;

	if (!aggs->count || aggs->merging)
		return;
	if (!is_fresh(s)) {
		s->o.drain_aggs(s->o.ctx);
		aggs->drained = ts_now();
		aggs->seen = s->calls;
	}
	cells = (const struct host_cell *)(const void *)aggs->cells.data;
	count = aggs->cells.len / sizeof(*cells);
	if (!count)
		return;
	/* An error may have left some: they stay behind those that Lua has. */
	qsort(aggs->cells.data + aggs->merged * sizeof(*cells), count - aggs->merged,
	      sizeof(*cells), by_first);
	/* An interrupt waits until nothing is half done. */
	aggs->merging = true;
	while (aggs->merged < count)
		merge_cell(L, s, &cells[aggs->merged++]);
	aggs->merging = false;
	aggs->cells.len = aggs->merged = 0;
}

static int core_sync(lua_State *L)
{
	host_sync_aggs(L);
	return 0;
}

/* on_cell(fn): fn(number, bucket, count, sum, min, max, key...) takes what the kernel aggregated */
static int core_on_cell(lua_State *L)
{
	lua_settop(L, 1);
	host_of(L)->aggs.on_cell = luaL_ref(L, LUA_REGISTRYINDEX);
	return 0;
}

void host_add_aggs(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{"aggregate", core_aggregate},
		{"sync", core_sync},
		{"on_cell", core_on_cell},
		{NULL, NULL},
	};

	luaL_setfuncs(L, functions, 0);
}

void script_sync_aggs(struct script *s)
{
	lua_State *L = s->L;

	if (!s->aggs.count)
		return;
	lua_pushcfunction(L, core_sync);
	if (host_call(s, 0, 0)) {
		s->errors++;
		host_tell(L, -1, "");
		lua_pop(L, 1);
	}
}

bool script_keys_processes(const struct script *s)
{
	return s->aggs.processes;
}

/* What is known of a process is known while it is there. */
void host_aggs_tick(struct script *s)
{
	if (s->aggs.processes && ts_now() - s->aggs.drained >= SECOND)
		script_sync_aggs(s);
}

void host_aggs_free(struct script *s)
{
	ts_buf_free(&s->aggs.cells);
	free(s->aggs.list);
}
