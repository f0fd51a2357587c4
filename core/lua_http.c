/* SPDX-License-Identifier: MIT */
/*
 * on.http, on.http_request, on.http_response, on.ws_message, on.grpc_call. Their handlers are
 * subscriptions to all plaintext, which goes to one reader a connection; what comes of it goes to
 * each handler whose filter took any of that connection.
 */
#include <stdlib.h>

#include "grpc.h"
#include "lua_http.h"

/* In a protected call: the handler's function, or its `where`. */
static int run(lua_State *L)
{
	struct http_firing *f = lua_touserdata(L, 1);

	host_http_push(L);

	lua_rawgeti(L, LUA_REGISTRYINDEX, f->is_where ? f->handler->where : f->handler->fn);
	lua_pushvalue(L, 2);
	lua_call(L, 1, f->is_where ? 1 : 0);
	if (f->is_where)
		f->wanted = lua_toboolean(L, -1);
	else if (host_of(L)->last.wanted)
		host_copy_last(L, 2);
	return 0;
}

/* false: it failed, which was told. */
static bool call(struct script *s, struct http_firing *f, bool is_where)
{
	int handle = f->handler->handle, err;

	f->is_where = is_where;
	s->http.serial++;
	s->http.firing = f;
	s->handler = f->handler;
	lua_pushcfunction(s->L, run);
	lua_pushlightuserdata(s->L, f);
	err = host_call(s, 1, 0);
	s->http.firing = NULL;
	if (err)
		host_handler_failed(s, f->handler, handle);
	return !err;
}

void host_http_fire(struct http_firing *f, uint64_t bytes)
{
	struct script *s = f->conn->s;
	struct host_handler *h;
	uint64_t mask;

	for (mask = f->conn->subs; mask && !s->exited && !s->stopped; mask &= mask - 1) {
		h = f->handler = &s->handlers[__builtin_ctzll(mask)];
		if (!h->used || !h->own.enabled || h->http != f->what)
			continue;
		f->wanted = true;
		if (h->where != LUA_NOREF && !call(s, f, true))
			continue;
		if (!f->wanted || !h->used)
			continue;
		h->events++;
		h->bytes += bytes;
		call(s, f, false);
	}
}

bool host_http_wants(const struct host_http *c, enum http_event what)
{
	const struct host_handler *h;
	uint64_t mask;

	for (mask = c->subs; mask; mask &= mask - 1) {
		h = &c->s->handlers[__builtin_ctzll(mask)];
		if (h->used && h->http == what)
			return true;
	}
	return false;
}

static void fire(struct host_http *c, const struct http_exchange *x, enum http_event what)
{
	struct http_firing f = {.conn = c, .x = x, .what = what};

	host_http_fire(&f, x->message[HTTP_REQ].body_len + x->message[HTTP_RESP].body_len);
}

/* What a stream of HTTP/2 carries beside bodies. */
struct stream_user {
	struct host_ws *ws;
	struct grpc_call *grpc;
};

static void on_request(void *ctx, const struct http_exchange *x)
{
	fire(ctx, x, HTTP_REQUEST_EVENT);
}

static void on_response(void *ctx, const struct http_exchange *x)
{
	fire(ctx, x, HTTP_RESPONSE_EVENT);
}

static void on_done(void *ctx, const struct http_exchange *x)
{
	struct stream_user *u = x->user;

	if (u)
		host_ws_close(u->ws);
	fire(ctx, x, HTTP_EVENT);
	host_grpc_done(ctx, x, u ? u->grpc : NULL);
	if (u && u->grpc)
		grpc_free(u->grpc);
	free(u);
}

static struct stream_user *open_user(struct host_http *c, const struct http_exchange *x,
				     size_t first)
{
	struct stream_user u = {.grpc = host_grpc_open(c, x, first)}, *out;

	u.ws = u.grpc ? NULL : host_ws_open(c, x);
	if (!u.ws && !u.grpc)
		return NULL;
	out = malloc(sizeof(*out));
	if (out) {
		*out = u;
		return out;
	}
	host_ws_close(u.ws);
	if (u.grpc)
		grpc_free(u.grpc);
	return NULL;
}

static void fire_data(struct host_http *c, const struct http_exchange *x, enum http_side which,
		      const void *data, size_t len)
{
	struct http_firing f = {.conn = c, .x = x, .what = HTTP_DATA_EVENT, .which = which};

	f.at = x->message[which].body_len - len;
	f.data = data;
	f.len = len;
	host_http_fire(&f, len);
}

static void on_body(void *ctx, struct http_exchange *x, enum http_side which, const void *data,
		    size_t len)
{
	struct stream_user *u = x->user;

	if (data)
		fire_data(ctx, x, which, data, len);
	if (!u && x->stream_id)
		u = x->user = open_user(ctx, x, len);
	if (u && u->grpc)
		grpc_feed(&u->grpc->side[which], data, len);
	else if (u)
		host_ws_feed(u->ws, which == HTTP_REQ ? x->request_dir : !x->request_dir, data,
			     len);
}

static void on_tunnel(void *ctx, const struct http_exchange *x, enum ts_dir dir, const void *data,
		      size_t len, uint64_t nsecs)
{
	struct host_http *c = ctx;

	(void)nsecs;
	if (!c->ws && !c->tunnel)
		c->ws = host_ws_open(c, x);
	c->tunnel = true;
	if (c->ws)
		host_ws_feed(c->ws, dir, data, len);
}

static void on_tunnel_over(void *ctx, const struct http_exchange *x)
{
	struct host_http *c = ctx;

	(void)x;
	host_ws_close(c->ws);
	c->ws = NULL;
}

/* The bytes of a body, or of a message of a WebSocket, that somebody wants. */
static size_t body_of(const struct script *s, uint64_t subs, bool ws)
{
	const struct host_handler *h;
	size_t most = 0;

	for (; subs; subs &= subs - 1) {
		h = &s->handlers[__builtin_ctzll(subs)];
		if (h->body > most && (h->http == WS_MESSAGE_EVENT) == ws)
			most = h->body;
	}
	return most;
}

static void unlink_reader(struct script *s, struct host_http *c)
{
	*(c->older ? &c->older->newer : &s->http.oldest) = c->newer;
	*(c->newer ? &c->newer->older : &s->http.newest) = c->older;
}

static void make_newest(struct script *s, struct host_http *c)
{
	c->newer = NULL;
	c->older = s->http.newest;
	*(c->older ? &c->older->newer : &s->http.oldest) = c;
	s->http.newest = c;
}

/* What the connection said before this message went by unread. */
static void tell_missed(struct host_http *c, const struct stream_message *m)
{
	const uint64_t *bytes = m->conn->bytes;
	enum ts_dir dir = (enum ts_dir)m->head->dir;

	http_gap(c->http, dir, bytes[dir] - m->len, m->head->nsecs);
	http_gap(c->http, !dir, bytes[!dir], m->head->nsecs);
}

static struct host_http *find(struct script *s, const struct stream_message *m)
{
	static const struct http_ops ops = {.request = on_request,
					    .response = on_response,
					    .done = on_done,
					    .tunnel = on_tunnel,
					    .tunnel_over = on_tunnel_over,
					    .body = on_body};
	struct host_http *c = ts_map_get(&s->http.conns, m->conn->id, 0);

	if (c)
		return c;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->s = s;
	if (http_open(&c->http, &ops, c, 0) || ts_map_set(&s->http.conns, m->conn->id, 0, c)) {
		http_close(c->http, 0);
		free(c);
		return NULL;
	}
	make_newest(s, c);
	return c;
}

/* how: http_close or http_abandon. */
static void drop(struct script *s, struct host_http *c, uint64_t nsecs,
		 void (*how)(struct http *h, uint64_t nsecs))
{
	unlink_reader(s, c);
	s->http.memory -= c->memory;
	ts_map_remove(&s->http.conns, c->message.conn->id, 0);
	/* What is unfinished ends now, not at the last call. */
	if (nsecs > c->head.nsecs)
		c->head.nsecs = nsecs;
	how(c->http, nsecs);
	free(c);
}

/* Counts what it has by now; where all have too much, those that are silent for longest go. */
static void settle(struct script *s, struct host_http *c)
{
	size_t memory = sizeof(*c) + http_memory(c->http);

	s->http.memory += memory - c->memory;
	c->memory = memory;
	unlink_reader(s, c);
	make_newest(s, c);
	while (s->http.memory > HTTP_MEMORY && s->http.oldest != c) {
		s->http.given_up++;
		drop(s, s->http.oldest, c->head.nsecs, http_abandon);
	}
}

void host_http_message(struct script *s, const struct stream_message *m, uint64_t subs)
{
	const struct ts_data *d = m->head;
	struct host_http *c;
	bool fresh;

	/* What is read again, and what is no plaintext of the connection's own. */
	if (d->flags & TS_DATA_UNCOUNTED)
		return;
	c = find(s, m);
	if (!c)
		return;
	fresh = !c->message.conn;
	c->head = *d;
	c->message = *m;
	c->message.head = &c->head;
	c->message.data = NULL;
	c->message.size = 0;
	if ((c->subs | subs) != c->subs) {
		c->subs |= subs;
		http_set_body(c->http, body_of(s, c->subs, false));
		c->ws_data = body_of(s, c->subs, true);
	}
	if (fresh)
		tell_missed(c, m);
	http_gap(c->http, (enum ts_dir)d->dir, m->gap, d->nsecs);
	http_feed(c->http, (enum ts_dir)d->dir, m->data, m->size, d->nsecs - d->duration, d->nsecs);
	http_gap(c->http, (enum ts_dir)d->dir, m->len - m->size, d->nsecs);
	settle(s, c);
}

void host_http_closed(struct script *s, const struct stream_conn *conn, uint64_t nsecs)
{
	struct host_http *c = ts_map_get(&s->http.conns, conn->id, 0);

	if (c)
		drop(s, c, nsecs, http_close);
}

void host_http_flush(struct script *s, uint64_t nsecs)
{
	while (s->http.oldest)
		drop(s, s->http.oldest, nsecs, http_close);
}

void host_http_free(struct script *s)
{
	s->stopped = true; /* nothing runs any more */
	host_http_flush(s, 0);
	ts_map_free(&s->http.conns);
	ts_buf_free(&s->http.body);
}
