/* SPDX-License-Identifier: MIT */
/* The event that a handler gets: nothing of it is made until the script asks for it. */
#include <string.h>

#include "api.h"
#include "lua_host.h"

enum field {
	F_NONE,
	F_NSECS,
	F_TIME,
	F_PID,
	F_TID,
	F_PPID,
	F_GOID,
	F_UID,
	F_GID,
	F_CPU,
	F_CGROUP,
	F_COMM,
	F_FUNC,
	F_PROBE,
	F_LIB,
	F_KIND,
	F_DIR,
	F_LEN,
	F_RET,
	F_DURATION_NS,
	F_DURATION_US,
	F_DURATION_MS,
	F_ERR,
	F_RESUMED,
	F_DATA,
	F_TRUNCATED,
	F_NODATA,
	F_GAP,
	F_PEEKED,
	F_EARLY,
	F_RECORD,
	F_KTLS,
	F_CONTAINER,
	F_PEER,
	F_LADDR,
	F_LPORT,
	F_RADDR,
	F_RPORT,
	F_HELLO,
	F_RETRY,
	F_SNI,
	F_ALPN,
	F_VERSIONS,
	F_VERSION,
	F_CIPHERS,
	F_CIPHER,
	F_GROUPS,
	F_JA4,
	F_CONN,
	F_PROC,
	F_SUB,
	F_COPY,
	F_COUNT
};

/* Their names are those of the API table, whose order need not be this one. */
static const char *const field_names[F_COUNT] = {
	[F_NSECS] = "nsecs",
	[F_TIME] = "time",
	[F_PID] = "pid",
	[F_TID] = "tid",
	[F_PPID] = "ppid",
	[F_GOID] = "goid",
	[F_UID] = "uid",
	[F_GID] = "gid",
	[F_CPU] = "cpu",
	[F_CGROUP] = "cgroup",
	[F_COMM] = "comm",
	[F_FUNC] = "func",
	[F_PROBE] = "probe",
	[F_LIB] = "lib",
	[F_KIND] = "kind",
	[F_DIR] = "dir",
	[F_LEN] = "len",
	[F_RET] = "ret",
	[F_DURATION_NS] = "duration_ns",
	[F_DURATION_US] = "duration_us",
	[F_DURATION_MS] = "duration_ms",
	[F_ERR] = "err",
	[F_RESUMED] = "resumed",
	[F_DATA] = "data",
	[F_TRUNCATED] = "truncated",
	[F_NODATA] = "nodata",
	[F_GAP] = "gap",
	[F_PEEKED] = "peeked",
	[F_EARLY] = "early",
	[F_RECORD] = "record",
	[F_KTLS] = "ktls",
	[F_CONTAINER] = "container",
	[F_PEER] = "peer",
	[F_LADDR] = "laddr",
	[F_LPORT] = "lport",
	[F_RADDR] = "raddr",
	[F_RPORT] = "rport",
	[F_HELLO] = "hello",
	[F_RETRY] = "retry",
	[F_SNI] = "sni",
	[F_ALPN] = "alpn",
	[F_VERSIONS] = "versions",
	[F_VERSION] = "version",
	[F_CIPHERS] = "ciphers",
	[F_CIPHER] = "cipher",
	[F_GROUPS] = "groups",
	[F_JA4] = "ja4",
	[F_CONN] = "conn",
	[F_PROC] = "proc",
	[F_SUB] = "sub",
	[F_COPY] = "copy",
};

/* The message of the event at index 1, or an error: the script kept it too long. */
static const struct stream_message *message_of(lua_State *L, struct script *s)
{
	if (s->message && lua_touserdata(L, 1) == s->event)
		return s->message;
	if (!lua_isuserdata(L, 1))
		host_fail(L, NULL, "not an event; call methods as e:copy()");
	host_fail(L, NULL,
		  "this event is over: it is valid only while its handler runs; keep e:copy()");
	return NULL;
}

/* A failed handshake is an event of two probes: of the one that the handler asked for. */
static const char *probe_name(const struct script *s, const struct stream_message *m)
{
	uint64_t probes = m->probes & s->handler->own.probes;

	return lib_probe_name((enum ts_probe)__builtin_ctzll(probes ? probes : m->probes));
}

/* The data is made at most once for a handler: the event's user value keeps it. */
static void push_data(lua_State *L, struct script *s, const struct stream_message *m)
{
	if (m->head->flags & TS_DATA_NODATA) {
		lua_pushnil(L);
	} else if (s->event_has_data) {
		lua_getiuservalue(L, 1, 1);
	} else {
		lua_pushlstring(L, (const char *)m->data, s->event_size);
		lua_pushvalue(L, -1);
		lua_setiuservalue(L, 1, 1);
		s->event_has_data = true;
	}
}

static void push_known(lua_State *L, uint64_t value)
{
	if (value)
		lua_pushinteger(L, (lua_Integer)value);
	else
		lua_pushnil(L);
}

static void push_text(lua_State *L, const char *text)
{
	if (text && *text)
		lua_pushstring(L, text);
	else
		lua_pushnil(L);
}

/* RFC 8446, 5.1; RFC 6520 */
static void push_record(lua_State *L, unsigned int content)
{
	static const char *const names[] = {
		[20] = "change_cipher_spec", [21] = "alert",	 [22] = "handshake",
		[TS_RECORD_DATA] = "data",   [24] = "heartbeat",
	};

	if (content < TS_ARRAY_SIZE(names) && names[content])
		lua_pushstring(L, names[content]);
	else if (content)
		lua_pushfstring(L, "type %d", (int)content);
	else
		lua_pushnil(L);
}

/* Rarely asked for. */
static void push_other(lua_State *L, struct script *s, const struct stream_message *m,
		       enum field field)
{
	const struct ts_data *d = m->head;
	struct host_who who = {d->pid, d->nsecs, d->cgroup, false};

	switch (field) {
	case F_TIME:
		host_push_time(L, s, d->nsecs);
		break;
	case F_PPID:
		push_known(L, d->ppid);
		break;
	case F_GOID:
		push_known(L, d->goid);
		break;
	case F_GID:
		lua_pushinteger(L, d->gid);
		break;
	case F_CGROUP:
		push_known(L, d->cgroup);
		break;
	case F_LIB:
		push_text(L, m->source->path);
		break;
	case F_KIND:
		push_text(L, m->source->kind);
		break;
	case F_ERR:
		if (m->open)
			host_push_failure(L, m->open);
		else if (m->len)
			lua_pushnil(L);
		else
			lua_pushinteger(L, d->ret);
		break;
	case F_RESUMED:
		if (m->open && m->open->resumed)
			lua_pushboolean(L, m->open->resumed == TS_YES);
		else
			lua_pushnil(L);
		break;
	case F_NODATA:
		lua_pushboolean(L, d->flags & TS_DATA_NODATA);
		break;
	case F_GAP:
		push_known(L, m->gap);
		break;
	case F_PEEKED:
		lua_pushboolean(L, d->flags & TS_DATA_PEEK);
		break;
	case F_EARLY:
		lua_pushboolean(L, d->flags & TS_DATA_EARLY);
		break;
	case F_RECORD:
		push_record(L, d->content);
		break;
	case F_KTLS:
		if (d->flags & TS_DATA_KTLS)
			lua_pushboolean(L, true);
		else
			lua_pushnil(L);
		break;
	case F_CONTAINER:
		host_push_container(L, s, &who, true);
		break;
	case F_PEER:
	case F_LADDR:
	case F_LPORT:
	case F_RADDR:
	case F_RPORT:
		host_push_info(L, m->conn, field_names[field]);
		break;
	case F_PROC:
		host_push_proc(L, s, &who, true);
		break;
	case F_SUB:
		lua_rawgeti(L, LUA_REGISTRYINDEX, s->handler->handle);
		break;
	case F_COPY:
		lua_pushvalue(L, lua_upvalueindex(2));
		break;
	default:
		lua_pushnil(L);
	}
}

/* What only plaintext has; a handshake has its duration too. */
static bool is_missing(const struct stream_message *m, enum field field)
{
	switch (field) {
	case F_DIR:
	case F_LEN:
	case F_DATA:
		return true;
	case F_DURATION_NS:
	case F_DURATION_US:
	case F_DURATION_MS:
		return !m->open->timed;
	default:
		return false;
	}
}

static void push_field(lua_State *L, struct script *s, const struct stream_message *m,
		       enum field field)
{
	const struct ts_data *d = m->head;

	if (m->hello && host_push_hello(L, m, field_names[field]))
		return;
	if (m->open && is_missing(m, field)) {
		lua_pushnil(L);
		return;
	}
	switch (field) {
	case F_NSECS:
		lua_pushinteger(L, (lua_Integer)d->nsecs);
		break;
	case F_PID:
		lua_pushinteger(L, d->pid);
		break;
	case F_TID:
		lua_pushinteger(L, d->tid);
		break;
	case F_UID:
		lua_pushinteger(L, d->uid);
		break;
	case F_CPU:
		lua_pushinteger(L, d->cpu);
		break;
	case F_COMM:
		lua_pushlstring(L, d->comm, strnlen(d->comm, sizeof(d->comm)));
		break;
	case F_FUNC:
		push_text(L, m->source->func);
		break;
	case F_PROBE:
		lua_pushstring(L, probe_name(s, m));
		break;
	case F_DIR:
		lua_pushstring(L, d->dir == TS_IN ? "in" : "out");
		break;
	case F_LEN:
		lua_pushinteger(L, (lua_Integer)m->len);
		break;
	case F_RET:
		lua_pushinteger(L, d->ret);
		break;
	case F_DURATION_NS:
		lua_pushinteger(L, (lua_Integer)d->duration);
		break;
	case F_DURATION_US:
		lua_pushnumber(L, (double)d->duration / 1e3);
		break;
	case F_DURATION_MS:
		lua_pushnumber(L, (double)d->duration / 1e6);
		break;
	case F_DATA:
		push_data(L, s, m);
		break;
	case F_TRUNCATED:
		lua_pushboolean(L, !(d->flags & TS_DATA_NODATA) && s->event_size < m->len);
		break;
	case F_CONN:
		host_push_conn(L, m->conn);
		break;
	default:
		push_other(L, s, m, field);
	}
}

bool host_push_message_field(lua_State *L, const struct stream_message *m, const char *name)
{
	enum field field;

	for (field = F_NONE + 1; field < F_SUB; field++) {
		if (strcmp(field_names[field], name) != 0)
			continue;
		push_field(L, host_of(L), m, field);
		return true;
	}
	return false;
}

/*
 * Field names are interned: the same name is the same string, wherever it stands. Where its bytes
 * lie finds the field faster than a lookup in a table does.
 */
static struct host_name *place_of(struct script *s, const char *name)
{
	return &s->names[((uintptr_t)name >> 3) % HOST_NAMES];
}

static enum field find_field(lua_State *L, struct script *s)
{
	/* Not of a number: lua_tostring would make it a string. */
	const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : NULL;
	const struct host_name *place = place_of(s, name);

	if (name && place->name == name)
		return (enum field)place->field;
	lua_pushvalue(L, 2);
	lua_rawget(L, lua_upvalueindex(1));
	return (enum field)lua_tointeger(L, -1);
}

/* Making a string costs more than looking whether it is the same as before, as mostly it is. */
static void push_comm(lua_State *L, struct script *s, const struct ts_data *d)
{
	if (memcmp(s->comm, d->comm, sizeof(s->comm)) != 0) {
		memcpy(s->comm, d->comm, sizeof(s->comm));
		lua_pushlstring(L, d->comm, strnlen(d->comm, sizeof(d->comm)));
		lua_replace(L, lua_upvalueindex(3));
	}
	lua_pushvalue(L, lua_upvalueindex(3));
}

/* Upvalues: names to numbers, which keeps the names; e.copy; what script.comm is in Lua. */
static int event_index(lua_State *L)
{
	struct script *s = host_of(L);
	const struct stream_message *m = message_of(L, s);
	enum field field = find_field(L, s);

	if (field == F_COMM && !m->hello) {
		push_comm(L, s, m->head);
		return 1;
	}
	if (field != F_NONE) {
		push_field(L, s, m, field);
		return 1;
	}
	if (lua_type(L, 2) != LUA_TSTRING)
		return host_fail(L, NULL, "fields of an event are named by strings");
	return host_fail_nearest(L, "field of an event:", lua_tostring(L, 2),
				 api_nearest(API_FIELD, lua_tostring(L, 2)));
}

static int event_copy(lua_State *L)
{
	struct script *s = host_of(L);
	const struct stream_message *m;
	struct host_who who;
	enum field field;

	lua_settop(L, 1);
	m = message_of(L, s);
	who = (struct host_who){m->head->pid, m->head->nsecs, m->head->cgroup, false};
	lua_createtable(L, 0, F_COUNT);
	for (field = F_NONE + 1; field < F_SUB; field++) {
		/* Copies what is known of the process, but does not go and look for it. */
		if (field == F_PROC)
			host_push_proc(L, s, &who, false);
		else if (field == F_CONTAINER)
			host_push_container(L, s, &who, false);
		else
			push_field(L, s, m, field);
		lua_setfield(L, 2, field_names[field]);
	}
	return 1;
}

static int event_newindex(lua_State *L)
{
	return host_fail(
		L, lua_tostring(L, 2),
		"an event cannot be changed; keep things in e.conn.state, or change e:copy()");
}

static int event_pairs(lua_State *L)
{
	event_copy(L);
	lua_getglobal(L, "next");
	lua_insert(L, -2);
	return 2;
}

static int event_tostring(lua_State *L)
{
	struct script *s = host_of(L);
	const struct ts_data *d;
	char comm[4 * TS_COMM_LEN + 1], raw[TS_COMM_LEN + 1] = {0};

	if (!s->message || lua_touserdata(L, 1) != s->event) {
		lua_pushliteral(L, "event (over)");
		return 1;
	}
	d = s->message->head;
	memcpy(raw, d->comm, sizeof(d->comm));
	ts_clean(comm, sizeof(comm), raw);
	lua_pushfstring(L, "event %s of %s (%d), %I bytes", probe_name(s, s->message), comm,
			(int)d->pid, (LUAI_UACINT)s->message->len);
	return 1;
}

void host_open_events(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{"__newindex", event_newindex},
		{"__pairs", event_pairs},
		{"__tostring", event_tostring},
		{NULL, NULL},
	};
	struct script *s = host_of(L);
	int i, meta;

	lua_createtable(L, 0, 8);
	meta = lua_gettop(L);
	luaL_setfuncs(L, methods, 0);
	lua_createtable(L, 0, F_COUNT);
	for (i = F_NONE + 1; i < F_COUNT; i++) {
		lua_pushstring(L, field_names[i]);
		*place_of(s, lua_tostring(L, -1)) = (struct host_name){lua_tostring(L, -1), i};
		lua_pushinteger(L, i);
		lua_rawset(L, -3);
	}
	lua_pushcfunction(L, event_copy);
	lua_pushliteral(L, "");
	lua_pushcclosure(L, event_index, 3);
	lua_setfield(L, meta, "__index");
	lua_pushliteral(L, "event");
	lua_setfield(L, meta, "__name");
	lua_pushboolean(L, 0);
	lua_setfield(L, meta, "__metatable");
	for (i = 0; i < HOST_EVENTS; i++) {
		lua_newuserdatauv(L, 1, 1);
		lua_pushvalue(L, meta);
		lua_setmetatable(L, -2);
	}
	lua_remove(L, meta);
}
