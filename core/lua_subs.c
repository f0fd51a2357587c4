/* SPDX-License-Identifier: MIT */
/* Primitives for handlers of plaintext and for whom they trace: what becomes script_subs(). */
#include <errno.h>
#include <string.h>

#include "lua_host.h"

/* Makes s->subs[i] anew: as declared, within target{} and the command line. */
static int narrow(struct script *s, unsigned int i)
{
	struct ts_sub *sub = &s->subs[i];

	ts_filter_free(&sub->filter);
	*sub = s->handlers[i].own;
	sub->filter = (struct ts_filter){0};
	s->changed = true;
	if (sub->removed)
		return 0;
	if (ts_filter_intersect(&sub->filter, &s->handlers[i].own.filter) ||
	    ts_filter_intersect(&sub->filter, &s->target))
		return -ENOMEM;
	return 0;
}

static int narrow_or_fail(lua_State *L, struct script *s, unsigned int i)
{
	return narrow(s, i) ? luaL_error(L, "not enough memory") : 0;
}

/* Reads a list of {key, value, excluded} at index into f. */
static void read_filter(lua_State *L, int index, struct ts_filter *f)
{
	struct ts_err err;
	lua_Integer i;
	int ret;

	for (i = 1; lua_geti(L, index, i) == LUA_TTABLE; i++) {
		lua_geti(L, -1, 1);
		lua_geti(L, -2, 2);
		lua_geti(L, -3, 3);
		ret = ts_filter_add(f, luaL_checkstring(L, -3), luaL_checkstring(L, -2),
				    lua_toboolean(L, -1), &err);
		if (ret)
			host_fail(L, lua_tostring(L, -3), "%s", err.text);
		lua_pop(L, 4);
	}
	lua_pop(L, 1);
}

static uint64_t integer_of(lua_State *L, int index, const char *key)
{
	uint64_t n = 0;

	if (lua_getfield(L, index, key) != LUA_TNIL)
		n = (uint64_t)luaL_checkinteger(L, -1);
	lua_pop(L, 1);
	return n;
}

/* Reads {min_len=, max_len=, sample=, first=, rate=, prefix = list} at index, or nil. */
static void read_pick(lua_State *L, int index, struct ts_pick *p)
{
	const char *text;
	lua_Integer i;
	size_t len;
	int ret;

	*p = (struct ts_pick){0};
	if (lua_isnoneornil(L, index))
		return;
	p->min_len = integer_of(L, index, "min_len");
	p->max_len = integer_of(L, index, "max_len");
	p->sample = (uint32_t)integer_of(L, index, "sample");
	p->first = (uint32_t)integer_of(L, index, "first");
	p->rate = (uint32_t)integer_of(L, index, "rate");
	if (lua_getfield(L, index, "prefix") == LUA_TTABLE)
		for (i = 1; lua_geti(L, -1, i) == LUA_TSTRING; i++) {
			text = lua_tolstring(L, -1, &len);
			ret = ts_pick_prefix(p, text, len);
			if (ret)
				host_fail(L, "prefix",
					  ret == -E2BIG ? "prefix: %d of them at most"
							: "prefix: 1 to %d bytes long",
					  ret == -E2BIG ? TS_PREFIXES : TS_PREFIX);
			lua_pop(L, 1);
		}
	lua_settop(L, index);
}

/* A place for a handler: used ones come late, as records with their bit may be on their way. */
static int find_place(lua_State *L, struct script *s)
{
	unsigned int i;

	if (s->subs_count < TS_MAX_SUBS)
		return (int)s->subs_count;
	for (i = 0; i < TS_MAX_SUBS; i++)
		if (!s->handlers[i].used)
			return (int)i;
	return host_fail(
		L, NULL,
		"more than %d handlers and aggregations of probes; detach some, or let one "
		"handler do the work of several",
		TS_MAX_SUBS);
}

static int ref_at(lua_State *L, int index)
{
	if (lua_isnoneornil(L, index))
		return LUA_NOREF;
	lua_pushvalue(L, index);
	return luaL_ref(L, LUA_REGISTRYINDEX);
}

/*
 * subscribe(handle, probes, filter, capture or nil, errors, no_peeks, fn or nil, where or nil,
 * HTTP event or nil, bytes of its bodies, what is asked of a call or nil) -> number
 */
static int core_subscribe(lua_State *L)
{
	struct script *s = host_of(L);
	int place = find_place(L, s);
	struct host_handler *h = &s->handlers[place];

	/* Whatever fails on the way leaves the place unused. */
	ts_filter_free(&h->own.filter);
	*h = (struct host_handler){.where = LUA_NOREF, .handle = LUA_NOREF};
	h->own.removed = true;
	h->own.probes = (uint64_t)luaL_checkinteger(L, 2);
	read_filter(L, 3, &h->own.filter);
	read_pick(L, 11, &h->own.pick);
	h->any_capture = lua_isnil(L, 4);
	h->own.capture = h->any_capture ? s->capture : (uint32_t)luaL_checkinteger(L, 4);
	h->own.errors = lua_toboolean(L, 5);
	h->no_peeks = lua_toboolean(L, 6);
	h->own.enabled = true;
	h->http = (enum http_event)luaL_optinteger(L, 9, HTTP_NO_EVENT);
	h->body = (size_t)luaL_optinteger(L, 10, 0);
	h->fn = ref_at(L, 7);
	h->where = ref_at(L, 8);
	h->handle = ref_at(L, 1);
	h->own.removed = false;
	if (narrow(s, (unsigned int)place)) {
		h->own.removed = true;
		return luaL_error(L, "not enough memory");
	}
	h->used = true;
	if ((size_t)place == s->subs_count)
		s->subs_count++;
	lua_pushinteger(L, place);
	return 1;
}

static struct host_handler *handler_at(lua_State *L, unsigned int *place)
{
	struct script *s = host_of(L);
	lua_Integer i = luaL_checkinteger(L, 1);

	luaL_argcheck(L, i >= 0 && i < TS_MAX_SUBS && s->handlers[i].used, 1, "no such handler");
	*place = (unsigned int)i;
	return &s->handlers[i];
}

/* enable(number, boolean) */
static int core_enable(lua_State *L)
{
	unsigned int place;
	struct host_handler *h = handler_at(L, &place);

	if (h->own.enabled == lua_toboolean(L, 2))
		return 0;
	h->own.enabled = lua_toboolean(L, 2);
	return narrow_or_fail(L, host_of(L), place);
}

/* detach(number) */
static int core_detach(lua_State *L)
{
	unsigned int place;
	struct host_handler *h = handler_at(L, &place);

	h->used = false;
	h->own.enabled = false;
	h->own.removed = true;
	luaL_unref(L, LUA_REGISTRYINDEX, h->fn);
	luaL_unref(L, LUA_REGISTRYINDEX, h->where);
	luaL_unref(L, LUA_REGISTRYINDEX, h->handle);
	return narrow_or_fail(L, host_of(L), place);
}

/* stats(number) -> events, bytes */
static int core_stats(lua_State *L)
{
	unsigned int place;
	struct host_handler *h = handler_at(L, &place);

	if (h->own.agg.form)
		host_sync_aggs(L);
	lua_pushinteger(L, (lua_Integer)h->events);
	lua_pushinteger(L, (lua_Integer)h->bytes);
	return 2;
}

static void narrow_all(lua_State *L, struct script *s)
{
	unsigned int i;

	for (i = 0; i < s->subs_count; i++)
		narrow_or_fail(L, s, i);
}

/* target(filter) */
static int core_target(lua_State *L)
{
	struct script *s = host_of(L);
	int err;

	/* In s, so that what a wrong value leaves behind is freed. */
	ts_filter_free(&s->given);
	read_filter(L, 1, &s->given);
	err = ts_filter_intersect(&s->target, &s->given);
	if (err)
		return luaL_error(L, "not enough memory");
	narrow_all(L, s);
	return 0;
}

/* capture(bytes): of handlers that do not say */
static int core_capture(lua_State *L)
{
	struct script *s = host_of(L);
	unsigned int i;

	s->capture = (uint32_t)luaL_checkinteger(L, 1);
	for (i = 0; i < s->subs_count; i++)
		if (s->handlers[i].any_capture)
			s->handlers[i].own.capture = s->capture;
	narrow_all(L, s);
	return 0;
}

/* probes() -> names to sets of bits */
static int core_probes(lua_State *L)
{
	size_t i;

	lua_createtable(L, 0, (int)lib_probes_count);
	for (i = 0; i < lib_probes_count; i++) {
		lua_pushinteger(L, (lua_Integer)lib_probes[i].probes);
		lua_setfield(L, -2, lib_probes[i].name);
	}
	return 1;
}

void host_add_subs(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{"subscribe", core_subscribe}, {"enable", core_enable},
		{"detach", core_detach},       {"stats", core_stats},
		{"target", core_target},       {"capture", core_capture},
		{"probes", core_probes},       {NULL, NULL},
	};

	luaL_setfuncs(L, functions, 0);
	host_add_aggs(L);
}

const struct ts_sub *script_subs(struct script *s, size_t *count)
{
	*count = s->subs_count;
	return s->subs;
}

bool script_changed(struct script *s)
{
	bool changed = s->changed;

	s->changed = false;
	return changed;
}

const struct ts_filter *script_target(const struct script *s)
{
	return &s->target;
}
