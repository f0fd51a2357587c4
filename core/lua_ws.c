/* SPDX-License-Identifier: MIT */
/* on.ws_message: WebSockets of a connection, and the fields of their messages. */
#include <stdlib.h>
#include <string.h>

#include "lua_http.h"
#include "ws.h"

struct host_ws {
	struct host_http *conn;
	const struct http_exchange *upgrade;
	struct ws *ws;
};

static void on_message(void *ctx, const struct ws_message *m)
{
	struct host_ws *w = ctx;
	struct http_firing f = {
		.conn = w->conn, .x = w->upgrade, .what = WS_MESSAGE_EVENT, .ws = m};

	host_http_fire(&f, m->counted ? m->len : m->data.len);
}

struct host_ws *host_ws_open(struct host_http *c, const struct http_exchange *x)
{
	struct host_ws *w;

	if (!host_http_wants(c, WS_MESSAGE_EVENT) || !ws_is_upgrade(x))
		return NULL;
	w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	*w = (struct host_ws){.conn = c, .upgrade = x};
	if (!ws_open(&w->ws, &(struct ws_options){.upgrade = x,
						  .memory = &c->s->http.ws_memory,
						  .message = on_message,
						  .ctx = w}))
		return w;
	free(w);
	return NULL;
}

void host_ws_feed(struct host_ws *w, enum ts_dir dir, const void *data, size_t len)
{
	ws_set_data(w->ws, w->conn->ws_data);
	ws_feed(w->ws, dir, data, len);
}

void host_ws_close(struct host_ws *w)
{
	if (!w)
		return;
	ws_close(w->ws);
	free(w);
}

static void push_data(lua_State *L, const struct ws_message *m, size_t limit)
{
	size_t len = m->data.len < limit ? m->data.len : limit;

	if (!len && (m->truncated || m->len))
		lua_pushnil(L);
	else
		lua_pushlstring(L, len ? (const char *)m->data.data : "", len);
}

static void push_close(lua_State *L, const struct ws_message *m, bool reason)
{
	unsigned int code = ws_close_code(m);

	if (!code || (reason && m->data.len == 2))
		lua_pushnil(L);
	else if (reason)
		lua_pushlstring(L, (const char *)m->data.data + 2, m->data.len - 2);
	else
		lua_pushinteger(L, code);
}

static void push_url(lua_State *L, const struct http_exchange *x)
{
	const char *target = (const char *)x->target.data, *host = http_host(x);

	if (target && *target == '/' && host)
		lua_pushfstring(L, "wss://%s%s", host, target);
	else
		lua_pushnil(L);
}

bool host_ws_push(lua_State *L, const struct http_firing *f, const char *name)
{
	const struct ws_message *m = f->ws;
	size_t limit = f->handler->body;

	if (!strcmp(name, "opcode"))
		lua_pushstring(L, ws_opcode_name(m->opcode));
	else if (!strcmp(name, "dir"))
		lua_pushstring(L, m->dir == TS_IN ? "in" : "out");
	else if (!strcmp(name, "data"))
		push_data(L, m, limit);
	else if (!strcmp(name, "len"))
		m->counted ? lua_pushinteger(L, (lua_Integer)m->len) : lua_pushnil(L);
	else if (!strcmp(name, "raw_len"))
		lua_pushinteger(L, (lua_Integer)m->sent);
	else if (!strcmp(name, "frames"))
		lua_pushinteger(L, m->frames);
	else if (!strcmp(name, "compressed"))
		lua_pushboolean(L, m->compressed);
	else if (!strcmp(name, "truncated"))
		lua_pushboolean(L, m->truncated || limit < m->len);
	else if (!strcmp(name, "gap"))
		lua_pushboolean(L, m->gap);
	else if (!strcmp(name, "err"))
		lua_pushstring(L, m->problem);
	else if (!strcmp(name, "code") || !strcmp(name, "reason"))
		push_close(L, m, *name == 'r');
	else if (!strcmp(name, "url"))
		push_url(L, f->x);
	else if (!strcmp(name, "protocol"))
		lua_pushstring(
			L, http_value(&f->x->message[HTTP_RESP], "sec-websocket-protocol", NULL));
	else
		return false;
	return true;
}
