/* SPDX-License-Identifier: MIT */
/* on.grpc_call: the calls of a connection, and their fields. */
#include <stdlib.h>
#include <string.h>

#include "grpc.h"
#include "lua_http.h"

struct grpc_call *host_grpc_open(struct host_http *c, const struct http_exchange *x, size_t first)
{
	struct grpc_call *call;

	if (!host_http_wants(c, GRPC_CALL_EVENT) || !grpc_is_call(x))
		return NULL;
	call = calloc(1, sizeof(*call));
	/* A handler that came in the middle does not know where messages begin. */
	if (call)
		call->side[HTTP_REQ].partial = call->side[HTTP_RESP].partial =
			x->message[HTTP_REQ].body_len + x->message[HTTP_RESP].body_len != first;
	return call;
}

void host_grpc_done(struct host_http *c, const struct http_exchange *x, struct grpc_call *call)
{
	struct grpc_call none = {0};
	struct http_firing f = {
		.conn = c, .x = x, .what = GRPC_CALL_EVENT, .grpc = call ? call : &none};
	enum http_side which;

	if (!host_http_wants(c, GRPC_CALL_EVENT) || !grpc_is_call(x))
		return;
	for (which = HTTP_REQ; call && which <= HTTP_RESP; which++)
		grpc_end(&call->side[which]);
	host_http_fire(&f, x->message[HTTP_REQ].body_len + x->message[HTTP_RESP].body_len);
}

static bool is_partial(const struct http_firing *f)
{
	const struct http_message *req = &f->x->message[HTTP_REQ],
				  *resp = &f->x->message[HTTP_RESP];

	return req->partial || resp->partial || !req->seen || !resp->seen ||
	       f->grpc->side[HTTP_REQ].partial || f->grpc->side[HTTP_RESP].partial ||
	       (grpc_status(f->x) < 0 && !f->x->reset); /* the end was not seen */
}

/* As the messages show: a stream of one message is none. */
static const char *streaming(const struct grpc_call *c)
{
	static const char *const names[] = {NULL, "client", "server", "both"};

	return names[(c->side[HTTP_REQ].count > 1) + 2 * (c->side[HTTP_RESP].count > 1)];
}

static void push_names(lua_State *L, const struct http_exchange *x, bool service)
{
	const char *name, *method;
	size_t len;

	method = grpc_method(x, &name, &len);
	if (method && service)
		lua_pushlstring(L, name, len);
	else
		lua_pushstring(L, method);
}

static void push_status_message(lua_State *L, const struct http_exchange *x)
{
	struct ts_buf *out = &host_of(L)->http.body;

	out->len = 0;
	if (grpc_status_message(x, out))
		lua_pushlstring(L, out->len ? (const char *)out->data : "", out->len);
	else
		lua_pushnil(L);
}

static void push_timeout(lua_State *L, const struct http_exchange *x, const char *unit)
{
	uint64_t ns = grpc_timeout(x);

	if (!ns)
		lua_pushnil(L);
	else if (!strcmp(unit, "ns"))
		lua_pushinteger(L, (lua_Integer)ns);
	else
		lua_pushnumber(L, (double)ns / (!strcmp(unit, "us") ? 1e3 : 1e6));
}

static void push_lens(lua_State *L, const struct grpc_side *s)
{
	const uint32_t *lens = (const uint32_t *)(void *)s->lens.data;
	size_t i, n = s->lens.len / sizeof(*lens);

	lua_createtable(L, (int)n, 0);
	for (i = 0; i < n; i++) {
		lua_pushinteger(L, lens[i]);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
}

/* request_count and the like; false: of no such name. */
static bool push_side(lua_State *L, const struct grpc_side *s, const char *name)
{
	if (!strcmp(name, "count"))
		lua_pushinteger(L, (lua_Integer)s->count);
	else if (!strcmp(name, "len"))
		lua_pushinteger(L, (lua_Integer)s->len);
	else if (!strcmp(name, "lens"))
		push_lens(L, s);
	else
		return false;
	return true;
}

bool host_grpc_push(lua_State *L, const struct http_firing *f, const char *name)
{
	const struct grpc_side *side = f->grpc->side;
	int status = grpc_status(f->x);

	if (!strncmp(name, "request_", 8))
		return push_side(L, &side[HTTP_REQ], name + 8);
	if (!strncmp(name, "response_", 9))
		return push_side(L, &side[HTTP_RESP], name + 9);
	if (!strcmp(name, "service") || !strcmp(name, "method"))
		push_names(L, f->x, *name == 's');
	else if (!strcmp(name, "status"))
		status >= 0 ? lua_pushinteger(L, status) : lua_pushnil(L);
	else if (!strcmp(name, "status_name"))
		lua_pushstring(L, grpc_status_name(status));
	else if (!strcmp(name, "message"))
		push_status_message(L, f->x);
	else if (!strcmp(name, "http_status"))
		f->x->status ? lua_pushinteger(L, f->x->status) : lua_pushnil(L);
	else if (!strcmp(name, "streaming"))
		lua_pushstring(L, streaming(f->grpc));
	else if (!strcmp(name, "compressed"))
		lua_pushboolean(L, side[HTTP_REQ].compressed || side[HTTP_RESP].compressed);
	else if (!strcmp(name, "partial"))
		lua_pushboolean(L, is_partial(f));
	else if (!strncmp(name, "timeout_", 8))
		push_timeout(L, f->x, name + 8);
	else
		return false;
	return true;
}
