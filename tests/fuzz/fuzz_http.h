/* SPDX-License-Identifier: MIT */
/* What the fuzzers of HTTP share: input as calls and gaps, and what a reader may rely on. */
#ifndef TLSSCOPE_FUZZ_HTTP_H
#define TLSSCOPE_FUZZ_HTTP_H

#include <stdlib.h>
#include <string.h>

#include "http_private.h"

struct seen {
	unsigned int sum, tunnel[2]; /* in each direction: their order is that of the calls */
	bool lost;		     /* something was not whole */
	unsigned int exchanges, pieces;
};

static void add_to(unsigned int *sum, const void *data, size_t len)
{
	const unsigned char *bytes = data;
	size_t i;

	for (i = 0; i < len; i++)
		*sum = *sum * 31 + bytes[i];
}

static void add(struct seen *s, const void *data, size_t len)
{
	add_to(&s->sum, data, len);
}

static bool differ(const struct seen *a, const struct seen *b)
{
	return a->sum != b->sum || a->tunnel[TS_IN] != b->tunnel[TS_IN] ||
	       a->tunnel[TS_OUT] != b->tunnel[TS_OUT];
}

static void check_message(struct seen *s, const struct http_message *m)
{
	const struct http_field *f;
	const char *text = (const char *)m->text.data;
	size_t i;

	for (i = 0; (f = http_field(m, i)); i++) {
		if (text[f->name + f->name_len] || text[f->value + f->value_len])
			abort();
		add(s, text + f->name, f->name_len);
		add(s, text + f->value, f->value_len);
	}
	if (m->trailers > http_field_count(m) || m->text.len > HTTP_TEXT)
		abort();
	if (m->body.len > m->body_len || (m->body.len < m->body_len && !m->truncated))
		abort();
	if (m->seen && m->ended < m->started)
		abort();
	s->lost |= m->truncated || m->partial;
	add(s, m->body.data, m->body.len);
}

static void check_request(void *ctx, const struct http_exchange *x)
{
	if (!x->over[HTTP_REQ] || !x->message[HTTP_REQ].seen)
		abort();
	check_message(ctx, &x->message[HTTP_REQ]);
}

static void check_response(void *ctx, const struct http_exchange *x)
{
	if (!x->over[HTTP_RESP] || !x->message[HTTP_RESP].seen)
		abort();
	check_message(ctx, &x->message[HTTP_RESP]);
}

static void check_done(void *ctx, const struct http_exchange *x)
{
	struct seen *s = ctx;

	if (!x->over[HTTP_REQ] || !x->over[HTTP_RESP])
		abort();
	s->exchanges++;
	s->lost |= !x->message[HTTP_REQ].seen || !x->message[HTTP_RESP].seen;
	add(s, x->method.data, x->method.len);
	add(s, x->target.data, x->target.len);
	add(s, &x->status, sizeof(x->status));
}

static void check_tunnel(void *ctx, const struct http_exchange *x, enum ts_dir dir,
			 const void *data, size_t len, uint64_t nsecs)
{
	struct seen *s = ctx;

	(void)x;
	(void)nsecs;
	if (data)
		add_to(&s->tunnel[dir], data, len);
}

/* Bytes of a body follow each other, also those that were not seen. */
static void check_body(void *ctx, struct http_exchange *x, enum http_side which, const void *data,
		       size_t len)
{
	const struct http_message *m = &x->message[which];
	struct seen *s = ctx;

	if (!len || !m->seen || x->over[which] || m->body_len < len)
		abort();
	if (data)
		s->pieces += *(const unsigned char *)data;
}

static void feed_part(struct http *h, enum ts_dir dir, const unsigned char *data, size_t len,
		      size_t step, uint64_t *now)
{
	unsigned char *copy;
	size_t at, n;

	for (at = 0; at < len; at += n) {
		n = len - at < step ? len - at : step;
		copy = malloc(n);
		if (!copy)
			abort();
		memcpy(copy, data + at, n);
		http_feed(h, dir, copy, n, *now, *now + 1);
		*now += 2;
		free(copy);
	}
}

/*
 * 0xff, then: 0 or 1: bytes of that direction follow; 2 or 3 and a size: a gap of it. `first` is
 * what the client says before. True: there were gaps.
 */
static bool feed_input(struct seen *s, const unsigned char *data, size_t size, size_t step,
		       const unsigned char *first, size_t first_len)
{
	static const struct http_ops ops = {.request = check_request,
					    .response = check_response,
					    .done = check_done,
					    .tunnel = check_tunnel,
					    .body = check_body};
	enum ts_dir dir = TS_OUT;
	uint64_t now = 1;
	bool gaps = false;
	size_t at, from = 0;
	struct http *h;

	if (http_open(&h, &ops, s, 256))
		abort();
	feed_part(h, dir, first, first_len, step, &now);
	for (at = 0; at + 1 < size; at++) {
		if (data[at] != 0xff || data[at + 1] > 3)
			continue;
		feed_part(h, dir, data + from, at - from, step, &now);
		if (data[at + 1] < 2) {
			dir = data[at + 1] ? TS_OUT : TS_IN;
			from = at + 2;
		} else if (at + 2 < size) {
			gaps = true;
			http_gap(h, data[at + 1] - 2 ? TS_OUT : TS_IN, data[at + 2] * 3u, now++);
			from = at + 3;
		} else {
			from = size;
		}
		at = from - 1;
	}
	if (from < size)
		feed_part(h, dir, data + from, size - from, step, &now);
	/* Calls begin at other places when the input is cut otherwise: where a beginning has to be
	 * found, that may change what comes. */
	s->lost |= h->side[TS_IN].gone || h->side[TS_OUT].gone || h->queue.doubt;
	/* However it ends. */
	(size % 3 ? http_close : http_abandon)(h, now);
	return gaps;
}

#endif
