/* SPDX-License-Identifier: MIT */
/*
 * The event of on.http and its kin: an exchange, a message of a WebSocket or a call of gRPC; or one
 * message of the exchange (e.request, e.response). It is valid while its handler runs; headers and
 * bodies are Lua's own and stay.
 */
#include <string.h>
#include <strings.h>

#include "api.h"
#include "body.h"
#include "lua_http.h"

#define DECODED_MAX (4u << 20)
#define HEADERS_TYPE "tlsscope.headers"
#define EVENT_TYPE "tlsscope.http"

/* whole: the event itself; else only the message `which` of it. */
struct event {
	uint64_t serial;
	bool whole;
	enum http_side which;
};

/* Whether the i-th of the headers at 1 has that name; false in `more`: there is none. */
static bool header_is(lua_State *L, lua_Integer i, const char *name, bool *more)
{
	bool same = false;

	*more = lua_rawgeti(L, 1, i) == LUA_TTABLE;
	if (*more) {
		lua_getfield(L, -1, "name");
		same = lua_isstring(L, -1) && !strcasecmp(lua_tostring(L, -1), name);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return same;
}

/* Headers by name, in any case: all values of that name, with ", " between. */
static int headers_index(lua_State *L)
{
	const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : NULL;
	bool found = false, more = name != NULL;
	luaL_Buffer b;
	lua_Integer i;

	luaL_buffinit(L, &b);
	for (i = 1; more; i++) {
		if (!header_is(L, i, name, &more))
			continue;
		if (found)
			luaL_addstring(&b, ", ");
		lua_rawgeti(L, 1, i);
		lua_getfield(L, -1, "value");
		lua_remove(L, -2);
		luaL_addvalue(&b);
		found = true;
	}
	if (found)
		luaL_pushresult(&b);
	return found;
}

static int headers_next(lua_State *L)
{
	lua_Integer i = lua_tointeger(L, lua_upvalueindex(2)) + 1;

	lua_pushinteger(L, i);
	lua_replace(L, lua_upvalueindex(2));
	if (lua_rawgeti(L, lua_upvalueindex(1), i) != LUA_TTABLE)
		return 1;
	lua_getfield(L, -1, "name");
	lua_getfield(L, -2, "value");
	return 2;
}

/* Names and values, in the order in which they were sent. */
static int headers_pairs(lua_State *L)
{
	lua_settop(L, 1);
	lua_pushinteger(L, 0);
	lua_pushcclosure(L, headers_next, 2);
	return 1;
}

/* first .. last of a message's fields, as a list of {name=, value=}. */
static void push_headers(lua_State *L, const struct http_message *m, size_t first, size_t last)
{
	const char *text = (const char *)m->text.data;
	const struct http_field *f;
	size_t i;

	lua_createtable(L, (int)(last - first), 0);
	for (i = first; i < last; i++) {
		f = http_field(m, i);
		lua_createtable(L, 0, 2);
		lua_pushlstring(L, text + f->name, f->name_len);
		lua_setfield(L, -2, "name");
		lua_pushlstring(L, text + f->value, f->value_len);
		lua_setfield(L, -2, "value");
		lua_rawseti(L, -2, (lua_Integer)(i - first) + 1);
	}
	luaL_setmetatable(L, HEADERS_TYPE);
}

static void push_body(lua_State *L, const struct http_message *m, size_t limit, bool decode)
{
	struct ts_buf *out = &host_of(L)->http.body;
	size_t len = m->body.len < limit ? m->body.len : limit;
	const char *how = decode ? http_value(m, "content-encoding", NULL) : NULL;
	int ret = BODY_UNKNOWN;

	if (!len && m->body_len) { /* nothing of it was kept */
		lua_pushnil(L);
		return;
	}
	out->len = 0;
	if (how)
		ret = body_decode(out, DECODED_MAX, how, m->body.data, len);
	if (ret < 0)
		luaL_error(L, "not enough memory");
	/* What cannot be decoded is shown as it is. */
	if (ret == BODY_UNKNOWN || (ret == BODY_DAMAGED && !out->len))
		lua_pushlstring(L, len ? (const char *)m->body.data : "", len);
	else
		lua_pushlstring(L, out->len ? (const char *)out->data : "", out->len);
	if (out->cap > 1u << 20)
		ts_buf_free(out);
}

static void push_text(lua_State *L, const struct ts_buf *b)
{
	if (b->data)
		lua_pushlstring(L, (const char *)b->data, b->len);
	else
		lua_pushnil(L);
}

/* Fields of a message. */
static void push_message_field(lua_State *L, const struct http_message *m, size_t limit,
			       const char *name)
{
	size_t count = http_field_count(m), end = m->trailers ? m->trailers : count;

	if (!m->seen)
		lua_pushnil(L);
	else if (!strcmp(name, "headers"))
		push_headers(L, m, 0, end);
	else if (!strcmp(name, "trailers"))
		m->trailers ? push_headers(L, m, end, count) : lua_pushnil(L);
	else if (!strcmp(name, "body"))
		push_body(L, m, limit, true);
	else if (!strcmp(name, "raw_body"))
		push_body(L, m, limit, false);
	else if (!strcmp(name, "body_len"))
		lua_pushinteger(L, (lua_Integer)m->body_len);
	else if (!strcmp(name, "truncated"))
		lua_pushboolean(L, m->truncated || limit < m->body_len);
	else if (!strcmp(name, "started_ns"))
		lua_pushinteger(L, (lua_Integer)m->started);
	else if (!strcmp(name, "ended_ns"))
		m->ended ? lua_pushinteger(L, (lua_Integer)m->ended) : lua_pushnil(L);
	else
		lua_pushboolean(L, m->partial);
}

/* What does not begin with a slash is a whole URL (to a proxy), or none (CONNECT, OPTIONS *). */
static void push_url(lua_State *L, const struct http_exchange *x)
{
	const char *target = (const char *)x->target.data, *host = http_host(x);
	const char *scheme = x->scheme.data ? (const char *)x->scheme.data : "https";

	if (target && *target != '/')
		lua_pushstring(L, target);
	else if (target && host)
		lua_pushfstring(L, "%s://%s%s", scheme, host, target);
	else
		lua_pushnil(L);
}

static void push_time(lua_State *L, bool known, uint64_t ns, const char *unit)
{
	if (!known)
		lua_pushnil(L);
	else if (!strcmp(unit, "ns"))
		lua_pushinteger(L, (lua_Integer)ns);
	else
		lua_pushnumber(L, (double)ns / (!strcmp(unit, "us") ? 1e3 : 1e6));
}

static uint64_t since(uint64_t start, uint64_t end)
{
	return end > start ? end - start : 0;
}

/* latency_ and duration_; false: of no such name. */
static bool push_duration(lua_State *L, const struct http_exchange *x, const char *name)
{
	const struct http_message *req = &x->message[HTTP_REQ], *resp = &x->message[HTTP_RESP];
	bool known = req->seen && resp->seen;

	if (!strncmp(name, "latency_", 8)) {
		push_time(L, known, since(req->started, resp->started), name + 8);
		return true;
	}
	if (strncmp(name, "duration_", 9) != 0)
		return false;
	push_time(L, known && x->over[HTTP_RESP], since(req->started, resp->ended), name + 9);
	return true;
}

/* Fields of the exchange; false: of no such name. */
static bool push_exchange_field(lua_State *L, const struct http_exchange *x, const char *name)
{
	if (!strcmp(name, "method"))
		push_text(L, &x->method);
	else if (!strcmp(name, "path"))
		push_text(L, &x->target);
	else if (!strcmp(name, "host"))
		lua_pushstring(L, http_host(x));
	else if (!strcmp(name, "url"))
		push_url(L, x);
	else if (!strcmp(name, "proto"))
		lua_pushstring(L, x->proto);
	else if (!strcmp(name, "side"))
		lua_pushstring(L, x->request_dir == TS_OUT ? "client" : "server");
	else if (!strcmp(name, "status"))
		x->status ? lua_pushinteger(L, x->status) : lua_pushnil(L);
	else if (!strcmp(name, "reason"))
		push_text(L, &x->reason);
	else if (!strcmp(name, "stream_id"))
		x->stream_id ? lua_pushinteger(L, x->stream_id) : lua_pushnil(L);
	else if (!strcmp(name, "pushed"))
		lua_pushboolean(L, x->pushed);
	else if (!strcmp(name, "reset"))
		lua_pushboolean(L, x->reset);
	else
		return push_duration(L, x, name);
	return true;
}

static void push_event(lua_State *L, uint64_t serial, bool whole, enum http_side which)
{
	struct event *e = lua_newuserdatauv(L, sizeof(*e), 0);

	*e = (struct event){serial, whole, which};
	luaL_setmetatable(L, EVENT_TYPE);
}

/* Fields of a piece of a body, nil of another event; false: of no such name. */
static bool push_piece_field(lua_State *L, const struct http_firing *f, const char *name)
{
	bool known = f->what == HTTP_DATA_EVENT;

	if (!strcmp(name, "data"))
		known ? (void)lua_pushlstring(L, f->data, f->len) : lua_pushnil(L);
	else if (!strcmp(name, "offset"))
		known ? lua_pushinteger(L, (lua_Integer)f->at) : lua_pushnil(L);
	else if (!strcmp(name, "part"))
		lua_pushstring(L, !known ? NULL : f->which == HTTP_REQ ? "request" : "response");
	else
		return false;
	return true;
}

/* Fields of the whole event; false: of no such name. */
static bool push_whole_field(lua_State *L, const struct http_firing *f, uint64_t serial,
			     const char *name)
{
	static const char *const names[] = {[HTTP_NO_EVENT] = NULL,
					    [HTTP_EVENT] = "http",
					    [HTTP_REQUEST_EVENT] = "http_request",
					    [HTTP_RESPONSE_EVENT] = "http_response",
					    [HTTP_DATA_EVENT] = "http_data",
					    [WS_MESSAGE_EVENT] = "ws_message",
					    [GRPC_CALL_EVENT] = "grpc_call"};
	const struct http_exchange *x = f->x;
	const struct http_message *req = &x->message[HTTP_REQ], *resp = &x->message[HTTP_RESP];

	if (!strcmp(name, "probe"))
		lua_pushstring(L, names[f->what]);
	else if (f->what == HTTP_EVENT && !strcmp(name, "partial"))
		lua_pushboolean(L, req->partial || resp->partial || !req->seen || !resp->seen);
	else if (!strcmp(name, "request"))
		req->seen ? push_event(L, serial, false, HTTP_REQ) : lua_pushnil(L);
	else if (!strcmp(name, "response"))
		resp->seen ? push_event(L, serial, false, HTTP_RESP) : lua_pushnil(L);
	else if (!strcmp(name, "sub"))
		lua_rawgeti(L, LUA_REGISTRYINDEX, f->handler->handle);
	else if (!strcmp(name, "copy"))
		lua_getfield(L, LUA_REGISTRYINDEX, EVENT_TYPE ".copy");
	else
		return push_piece_field(L, f, name) || push_exchange_field(L, x, name);
	return true;
}

static enum api_kind kind_of(const struct event *e, enum http_event what)
{
	if (!e->whole)
		return API_HTTP_MESSAGE;
	return what == WS_MESSAGE_EVENT	 ? API_WS_FIELD
	       : what == GRPC_CALL_EVENT ? API_GRPC_FIELD
					 : API_HTTP_FIELD;
}

/* Fields that only such an event has, or has otherwise; false: of no such name. */
static bool push_own_field(lua_State *L, const struct http_firing *f, const char *name)
{
	return (f->ws && host_ws_push(L, f, name)) || (f->grpc && host_grpc_push(L, f, name));
}

static void push_field(lua_State *L, const struct event *e, const char *name)
{
	const struct http_firing *f = host_of(L)->http.firing;
	size_t limit = f->handler->body;
	enum api_kind kind = kind_of(e, f->what);

	if (!api_find(kind, name))
		host_fail_nearest(L,
				  kind == API_HTTP_MESSAGE ? "field of a message:"
				  : kind == API_WS_FIELD   ? "field of a WebSocket message:"
				  : kind == API_GRPC_FIELD ? "field of a gRPC call:"
							   : "field of an HTTP event:",
				  name, api_nearest(kind, name));
	else if (e->whole &&
		 (push_own_field(L, f, name) || push_whole_field(L, f, e->serial, name)))
		return;
	else if (api_find(API_HTTP_MESSAGE, name))
		push_message_field(L, &f->x->message[e->which], limit, name);
	else
		host_push_message_field(L, &f->conn->message, name);
}

/* The event at 1, or an error: the script kept it too long. */
static const struct event *check_event(lua_State *L)
{
	struct script *s = host_of(L);
	struct event *e = luaL_testudata(L, 1, EVENT_TYPE);

	if (!e)
		host_fail(L, NULL, "not an event; call methods as e:copy()");
	else if (!s->http.firing || e->serial != s->http.serial)
		host_fail(L, NULL,
			  "this event is over: it is valid only while its handler runs; keep "
			  "e:copy()");
	return e;
}

static int event_index(lua_State *L)
{
	const struct event *e = check_event(L);

	if (lua_type(L, 2) != LUA_TSTRING)
		return host_fail(L, NULL, "fields of an event are named by strings");
	push_field(L, e, lua_tostring(L, 2));
	return 1;
}

/* Sets all fields of e in the table on the top, but those that are events themselves. */
static void copy_fields(lua_State *L, const struct event *e)
{
	static const char *const left_out[] = {"copy", "sub", "request", "response"};
	enum api_kind kind = kind_of(e, host_of(L)->http.firing->what);
	size_t i, j;

	for (i = 0; i < api_count; i++) {
		for (j = 0; j < TS_ARRAY_SIZE(left_out); j++)
			if (!strcmp(api_table[i].name, left_out[j]))
				break;
		if (api_table[i].kind != kind || j < TS_ARRAY_SIZE(left_out))
			continue;
		push_field(L, e, api_table[i].name);
		lua_setfield(L, -2, api_table[i].name);
	}
}

static int event_copy(lua_State *L)
{
	static const char *const names[] = {[HTTP_REQ] = "request", [HTTP_RESP] = "response"};
	const struct event *e = check_event(L);
	struct event part = {.serial = e->serial};

	lua_settop(L, 1);
	lua_newtable(L);
	copy_fields(L, e);
	for (part.which = HTTP_REQ; e->whole && part.which <= HTTP_RESP; part.which++) {
		if (!host_of(L)->http.firing->x->message[part.which].seen)
			continue;
		lua_newtable(L);
		copy_fields(L, &part);
		lua_setfield(L, -2, names[part.which]);
	}
	return 1;
}

static int event_newindex(lua_State *L)
{
	return host_fail(
		L, lua_tostring(L, 2),
		"an event cannot be changed; keep things in e.conn.state, or change e:copy()");
}

static int event_tostring(lua_State *L)
{
	struct script *s = host_of(L);
	struct event *e = lua_touserdata(L, 1);

	if (!s->http.firing || e->serial != s->http.serial)
		lua_pushliteral(L, "event (over)");
	else
		lua_pushfstring(L, "event %s",
				!e->whole	       ? "message of HTTP"
				: s->http.firing->ws   ? "of a WebSocket"
				: s->http.firing->grpc ? "of gRPC"
						       : "of HTTP");
	return 1;
}

void host_http_push(lua_State *L)
{
	struct script *s = host_of(L);
	const struct http_firing *f = s->http.firing;
	bool request = f->what == HTTP_REQUEST_EVENT ||
		       (f->what == HTTP_DATA_EVENT && f->which == HTTP_REQ);

	push_event(L, s->http.serial, true, request ? HTTP_REQ : HTTP_RESP);
}

static void make_type(lua_State *L, const char *name, const luaL_Reg *methods)
{
	luaL_newmetatable(L, name);
	luaL_setfuncs(L, methods, 0);
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
}

void host_open_http(lua_State *L)
{
	static const luaL_Reg headers[] = {
		{"__index", headers_index}, {"__pairs", headers_pairs}, {NULL, NULL}};
	static const luaL_Reg events[] = {{"__index", event_index},
					  {"__newindex", event_newindex},
					  {"__tostring", event_tostring},
					  {NULL, NULL}};

	host_of(L)->http.ws_memory.left = WS_MEMORY;
	make_type(L, HEADERS_TYPE, headers);
	make_type(L, EVENT_TYPE, events);
	lua_pushcfunction(L, event_copy);
	lua_setfield(L, LUA_REGISTRYINDEX, EVENT_TYPE ".copy");
}
