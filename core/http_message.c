/* SPDX-License-Identifier: MIT */
/* What is kept of messages, and handed over. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http_private.h"

bool http_keep(struct http *h, struct ts_buf *b, const void *data, size_t len)
{
	if (len > HTTP_KEPT - h->kept || ts_buf_add(b, data, len))
		return false;
	h->kept += len;
	return true;
}

void http_drop(struct http *h, struct ts_buf *b)
{
	h->kept -= b->len;
	ts_buf_free(b);
}

/* A text takes up to twice what is in it, and some more where it is short. */
size_t http_memory(const struct http *h)
{
	size_t open = h->queue.count + h->streams.count;

	return sizeof(*h) + 2 * h->kept + h->streams.cap * sizeof(*h->streams.slots) +
	       open * (sizeof(struct http_exchange) + 6 * 64) +
	       hpack_memory(h->side[TS_IN].h2.hpack) + hpack_memory(h->side[TS_OUT].h2.hpack);
}

struct http_exchange *http_new(struct http *h, const char *proto)
{
	struct http_exchange *x = calloc(1, sizeof(*x));

	if (x) {
		x->proto = proto;
		x->request_dir = h->client;
	}
	return x;
}

static bool add_text(struct http *h, struct ts_buf *b, const void *text, size_t len, uint32_t *at)
{
	if (b->len + len + 1 > HTTP_TEXT)
		return false;
	*at = (uint32_t)b->len;
	if (!http_keep(h, b, text, len))
		return false;
	if (http_keep(h, b, "", 1))
		return true;
	b->len -= len;
	h->kept -= len;
	return false;
}

void http_add_field(struct http *h, struct http_message *m, const void *name, size_t name_len,
		    const void *value, size_t value_len)
{
	struct http_field f = {.name_len = (uint32_t)name_len, .value_len = (uint32_t)value_len};

	if (name_len + value_len > HTTP_TEXT || !add_text(h, &m->text, name, name_len, &f.name) ||
	    !add_text(h, &m->text, value, value_len, &f.value) ||
	    !http_keep(h, &m->fields, &f, sizeof(f)))
		m->partial = true;
}

void http_add_body(struct http *h, struct http_exchange *x, enum http_side which, const void *data,
		   uint64_t len)
{
	struct http_message *m = &x->message[which];
	size_t room = h->body > m->body.len ? h->body - m->body.len : 0;
	size_t n = len < room ? (size_t)len : room;

	/* After a hole nothing is added: what is kept is a beginning of the body. */
	if (!data || m->truncated || (n && !http_keep(h, &m->body, data, n)) || n < len)
		m->truncated = true;
	m->body_len += len;
	if (h->ops.body && len)
		h->ops.body(h->ctx, x, which, data, (size_t)len);
}

void http_set_text(struct http *h, struct ts_buf *b, const void *text, size_t len)
{
	uint32_t at;

	http_drop(h, b);
	if (add_text(h, b, text, len, &at))
		b->len--;
	else
		http_drop(h, b);
	/* The NUL is not counted, neither here nor in what is kept. */
	if (b->data)
		h->kept--;
}

void http_message_drop(struct http *h, struct http_message *m)
{
	http_drop(h, &m->text);
	http_drop(h, &m->fields);
	http_drop(h, &m->body);
	*m = (struct http_message){0};
}

void http_free(struct http *h, struct http_exchange *x)
{
	http_message_drop(h, &x->message[HTTP_REQ]);
	http_message_drop(h, &x->message[HTTP_RESP]);
	http_drop(h, &x->method);
	http_drop(h, &x->target);
	http_drop(h, &x->authority);
	http_drop(h, &x->scheme);
	http_drop(h, &x->protocol);
	http_drop(h, &x->reason);
	free(x);
}

void http_over(struct http *h, struct http_exchange *x, enum http_side which)
{
	if (x->over[which])
		return;
	x->over[which] = true;
	if (x->message[which].seen) {
		x->message[which].ended = h->now;
		if (which == HTTP_REQ)
			h->ops.request(h->ctx, x);
		else
			h->ops.response(h->ctx, x);
	}
	if (!x->over[!which])
		return;
	if (x->message[HTTP_REQ].seen || x->message[HTTP_RESP].seen)
		h->ops.done(h->ctx, x);
	if (x != h->tunnel)
		http_free(h, x);
}

size_t http_field_count(const struct http_message *m)
{
	return m->fields.len / sizeof(struct http_field);
}

const struct http_field *http_field(const struct http_message *m, size_t n)
{
	return n < http_field_count(m) ? (const struct http_field *)(void *)m->fields.data + n
				       : NULL;
}

const char *http_value(const struct http_message *m, const char *name, size_t *len)
{
	const char *text = (const char *)m->text.data;
	const struct http_field *f;
	size_t i;

	for (i = 0; (f = http_field(m, i)); i++) {
		if (strcasecmp(text + f->name, name) != 0)
			continue;
		if (len)
			*len = f->value_len;
		return text + f->value;
	}
	return NULL;
}

/* A reader that knows the length may not wait for the end of the stream. */
bool http_is_whole(const struct http_message *m)
{
	const char *length = http_value(m, "content-length", NULL);

	return length && *length >= '0' && *length <= '9' &&
	       strtoull(length, NULL, 10) == m->body_len;
}

const char *http_host(const struct http_exchange *x)
{
	if (x->authority.data)
		return (const char *)x->authority.data;
	return http_value(&x->message[HTTP_REQ], "host", NULL);
}
