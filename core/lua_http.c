/* SPDX-License-Identifier: MIT */
/*
 * on.http, on.http_request, on.http_response. Their handlers are subscriptions to all plaintext,
 * which goes to one reader a connection; what comes of it goes to each handler whose filter took
 * any of that connection.
 */
#include <stdlib.h>

#include "lua_http.h"

/* In a protected call: the handler's function, or its `where`. */
static int run(lua_State *L)
{
	struct http_firing *f = lua_touserdata(L, 1);

	lua_rawgeti(L, LUA_REGISTRYINDEX, f->is_where ? f->handler->where : f->handler->fn);
	host_http_push(L);
	lua_call(L, 1, f->is_where ? 1 : 0);
	if (f->is_where)
		f->wanted = lua_toboolean(L, -1);
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

static void fire(struct host_http *c, const struct http_exchange *x, enum http_event what)
{
	struct script *s = c->s;
	struct http_firing f = {.conn = c, .x = x, .what = what};
	struct host_handler *h;
	uint64_t mask;

	for (mask = c->subs; mask && !s->exited && !s->stopped; mask &= mask - 1) {
		h = f.handler = &s->handlers[__builtin_ctzll(mask)];
		if (!h->used || !h->own.enabled || h->http != what)
			continue;
		f.wanted = true;
		if (h->where != LUA_NOREF && !call(s, &f, true))
			continue;
		if (!f.wanted || !h->used)
			continue;
		h->events++;
		h->bytes += x->message[HTTP_REQ].body_len + x->message[HTTP_RESP].body_len;
		call(s, &f, false);
	}
}

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
	fire(ctx, x, HTTP_EVENT);
}

/* The bytes of a body that somebody wants. */
static size_t body_of(const struct script *s, uint64_t subs)
{
	size_t most = 0;

	for (; subs; subs &= subs - 1)
		if (s->handlers[__builtin_ctzll(subs)].body > most)
			most = s->handlers[__builtin_ctzll(subs)].body;
	return most;
}

static struct host_http *find(struct script *s, const struct stream_message *m)
{
	static const struct http_ops ops = {
		.request = on_request, .response = on_response, .done = on_done};
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
	c->older = s->http.newest;
	*(c->older ? &c->older->newer : &s->http.oldest) = c;
	s->http.newest = c;
	return c;
}

static void drop(struct script *s, struct host_http *c, uint64_t nsecs)
{
	*(c->older ? &c->older->newer : &s->http.oldest) = c->newer;
	*(c->newer ? &c->newer->older : &s->http.newest) = c->older;
	ts_map_remove(&s->http.conns, c->message.conn->id, 0);
	http_close(c->http, nsecs);
	free(c);
}

void host_http_message(struct script *s, const struct stream_message *m, uint64_t subs)
{
	const struct ts_data *d = m->head;
	struct host_http *c;

	/* What is read again, and what is no plaintext of the connection's own. */
	if (d->flags & TS_DATA_UNCOUNTED)
		return;
	c = find(s, m);
	if (!c)
		return;
	c->head = *d;
	c->message = *m;
	c->message.head = &c->head;
	c->message.data = NULL;
	c->message.size = 0;
	if ((c->subs | subs) != c->subs) {
		c->subs |= subs;
		http_set_body(c->http, body_of(s, c->subs));
	}
	http_gap(c->http, (enum ts_dir)d->dir, m->gap, d->nsecs);
	http_feed(c->http, (enum ts_dir)d->dir, m->data, m->size, d->nsecs - d->duration, d->nsecs);
	http_gap(c->http, (enum ts_dir)d->dir, m->len - m->size, d->nsecs);
}

void host_http_closed(struct script *s, const struct stream_conn *conn, uint64_t nsecs)
{
	struct host_http *c = ts_map_get(&s->http.conns, conn->id, 0);

	if (c)
		drop(s, c, nsecs);
}

void host_http_flush(struct script *s, uint64_t nsecs)
{
	while (s->http.oldest)
		drop(s, s->http.oldest, nsecs);
}

void host_http_free(struct script *s)
{
	s->stopped = true; /* nothing runs any more */
	host_http_flush(s, 0);
	ts_map_free(&s->http.conns);
	ts_buf_free(&s->http.body);
}
