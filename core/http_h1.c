/* SPDX-License-Identifier: MIT */
/* One direction of HTTP/1: the library's parser, and what it tells, as messages. */
#include <string.h>
#include <strings.h>

#include "http_private.h"

struct call {
	struct http *h;
	struct side *side;
	enum http_side which;
};

static struct http_message *message_of(struct call *c)
{
	struct h1_side *s = &c->side->h1;

	return s->x ? &s->x->message[c->which] : &s->m;
}

static int on_begin(http_parser *p)
{
	struct call *c = p->data;
	struct h1_side *s = &c->side->h1;

	s->begun = true;
	s->m.started = c->h->now;
	s->left = 0;
	return 0;
}

/* The target of a request, the reason phrase of a response. */
static int on_line(http_parser *p, const char *at, size_t len)
{
	struct call *c = p->data;

	http_keep(c->h, &c->side->h1.target, at, len);
	return 0;
}

/* The field whose name and value are there. */
static void end_field(struct call *c)
{
	struct h1_side *s = &c->side->h1;
	size_t len = s->value.len;

	if (!s->name.len)
		return;
	while (len && (s->value.data[len - 1] == ' ' || s->value.data[len - 1] == '\t'))
		len--;
	http_add_field(c->h, message_of(c), s->name.data, s->name.len, s->value.data, len);
	http_drop(c->h, &s->name);
	http_drop(c->h, &s->value);
}

static int on_field(http_parser *p, const char *at, size_t len)
{
	struct call *c = p->data;
	struct h1_side *s = &c->side->h1;

	if (!s->is_name)
		end_field(c);
	s->is_name = true;
	s->folded = s->indent = false;
	if (!http_keep(c->h, &s->name, at, len))
		message_of(c)->partial = true;
	return 0;
}

/*
 * A value comes in pieces where the input does, and at a folded line. A piece that does not reach
 * the end of the input was ended by the line's end: what follows is folded, and indented.
 */
static int on_value(http_parser *p, const char *at, size_t len)
{
	struct call *c = p->data;
	struct h1_side *s = &c->side->h1;
	const char *end = at + len;
	bool ok = true;

	s->is_name = false;
	s->indent |= s->folded;
	s->folded = end != s->end;
	while (s->indent && at < end && (*at == ' ' || *at == '\t'))
		at++;
	if (at < end && s->indent && s->value.len)
		ok = http_keep(c->h, &s->value, " ", 1);
	if (!ok || !http_keep(c->h, &s->value, at, (size_t)(end - at)))
		message_of(c)->partial = true;
	s->indent &= at == end;
	return 0;
}

static const char *proto_of(const http_parser *p)
{
	return p->http_minor || p->http_major != 1 ? "HTTP/1.1" : "HTTP/1.0";
}

static int take_request(struct call *c, http_parser *p, struct http_exchange *x)
{
	struct h1_side *s = &c->side->h1;
	const char *method = http_method_str((enum http_method)p->method);

	http_set_text(c->h, &x->method, method, strlen(method));
	http_set_text(c->h, &x->target, s->target.data, s->target.len);
	http_drop(c->h, &s->target);
	x->message[HTTP_REQ] = s->m;
	s->m = (struct http_message){0};
	s->x = x;
	pair_request(c->h, x);
	return 0;
}

static bool method_is(const struct http_exchange *x, const char *method)
{
	return x->method.data && !strcmp((const char *)x->method.data, method);
}

/* What kind of body follows, as http_parser wants to be told: 1: none; 2: no HTTP follows. */
static int take_response(struct call *c, http_parser *p, struct http_exchange *x)
{
	struct h1_side *s = &c->side->h1, *req = &side_of(c->h, HTTP_REQ)->h1;

	x->status = p->status_code;
	http_set_text(c->h, &x->reason, s->target.data, s->target.len);
	http_drop(c->h, &s->target);
	x->proto = proto_of(p);
	x->message[HTTP_RESP] = s->m;
	s->m = (struct http_message){0};
	s->x = x;
	if (p->status_code == 101 || (method_is(x, "CONNECT") && p->status_code / 100 == 2))
		return 2;
	if (req->upgrade && (req->upgrade == x || c->h->queue.doubt))
		c->h->resumed = true;
	if (p->status_code == 204 || p->status_code == 304 || method_is(x, "HEAD"))
		return 1;
	if (!(p->flags & F_CHUNKED))
		s->left = p->content_length;
	return 0;
}

static int on_headers(http_parser *p)
{
	struct call *c = p->data;
	struct h1_side *s = &c->side->h1;
	struct http_exchange *x;

	end_field(c);
	if (c->which == HTTP_RESP && p->status_code / 100 == 1 && p->status_code != 101)
		return 1;
	s->m.seen = true;
	x = c->which == HTTP_REQ ? http_new(c->h, proto_of(p)) : pair_response(c->h);
	if (!x)
		return -1;
	if (c->which == HTTP_RESP)
		return take_response(c, p, x);
	if (!(p->flags & F_CHUNKED) && p->content_length != UINT64_MAX)
		s->left = p->content_length;
	return take_request(c, p, x);
}

static int on_body(http_parser *p, const char *at, size_t len)
{
	struct call *c = p->data;
	struct h1_side *s = &c->side->h1;

	if (s->left != UINT64_MAX)
		s->left -= len < s->left ? len : s->left;
	http_add_body(c->h, s->x, c->which, s->skip ? NULL : at, len);
	return 0;
}

static int on_chunk(http_parser *p)
{
	struct call *c = p->data;
	struct http_message *m = message_of(c);

	c->side->h1.left = p->content_length;
	if (!p->content_length) /* the last one: trailers follow */
		m->trailers = http_field_count(m);
	return 0;
}

/* The response to Upgrade: h2c comes as HTTP/2; 101 was only a word on the way. */
static bool take_http2(struct call *c, struct http_exchange *x)
{
	const char *to = http_value(&x->message[HTTP_RESP], "upgrade", NULL);

	if (x->status != 101 || !to || strcasecmp(to, "h2c") != 0 || x->over[HTTP_RESP])
		return false;
	http_message_drop(c->h, &x->message[HTTP_RESP]);
	x->status = 0;
	x->proto = "HTTP/2";
	c->h->adopted = x;
	return true;
}

static int on_complete(http_parser *p)
{
	struct call *c = p->data;
	struct h1_side *s = &c->side->h1;
	struct http_exchange *x = s->x;

	end_field(c);
	s->begun = false;
	s->left = 0;
	s->x = NULL;
	if (!x) { /* 1xx: only a word on the way */
		http_message_drop(c->h, &s->m);
		return 0;
	}
	if (x->message[c->which].trailers >= http_field_count(&x->message[c->which]))
		x->message[c->which].trailers = 0;
	if (c->which == HTTP_RESP && p->upgrade)
		c->h->upgraded = true;
	if (c->which == HTTP_RESP && p->upgrade && take_http2(c, x))
		return 0;
	if (c->which == HTTP_RESP && p->upgrade)
		c->h->tunnel = x;
	if (c->which == HTTP_REQ && p->upgrade)
		s->upgrade = x;
	if (c->which == HTTP_RESP)
		pair_answered(c->h);
	http_over(c->h, x, c->which);
	return 0;
}

static void reset(struct http *h, struct side *side)
{
	struct h1_side *s = &side->h1;

	http_message_drop(h, &s->m);
	http_drop(h, &s->name);
	http_drop(h, &s->value);
	http_drop(h, &s->target);
	s->x = NULL;
	s->upgrade = NULL;
	s->begun = s->skip = s->is_name = s->folded = s->indent = false;
	s->left = 0;
}

void h1_start(struct http *h, enum ts_dir dir)
{
	struct side *side = &h->side[dir];

	reset(h, side);
	http_parser_init(&side->h1.parser, dir == h->client ? HTTP_REQUEST : HTTP_RESPONSE);
	/* What a server or client let pass shall be seen. */
	side->h1.parser.lenient_http_headers = 1;
	side->h1.parser.allow_chunked_length = 1;
	side->state = RUNNING;
}

/* The message at hand goes no further. */
static void cut(struct http *h, struct side *side, enum http_side which)
{
	struct http_exchange *x = side->h1.x;

	reset(h, side);
	if (!x)
		return;
	x->message[which].truncated = true;
	http_over(h, x, which);
}

void h1_lose(struct http *h, enum ts_dir dir)
{
	enum http_side which = dir == h->client ? HTTP_REQ : HTTP_RESP;
	struct side *side = &h->side[dir];

	cut(h, side, which);
	pair_doubt(h, which);
	side->state = FINDING;
	side->gone = true;
}

static size_t execute(struct http *h, struct side *side, const void *data, size_t len)
{
	static const http_parser_settings settings = {
		.on_message_begin = on_begin,
		.on_url = on_line,
		.on_status = on_line,
		.on_header_field = on_field,
		.on_header_value = on_value,
		.on_headers_complete = on_headers,
		.on_body = on_body,
		.on_message_complete = on_complete,
		.on_chunk_header = on_chunk,
	};
	struct call c = {h, side, side == side_of(h, HTTP_REQ) ? HTTP_REQ : HTTP_RESP};
	http_parser *p = &side->h1.parser;
	size_t used;

	side->h1.end = (const char *)data + len;
	p->data = &c;
	used = http_parser_execute(p, &settings, data, len);
	p->data = NULL;
	return used;
}

size_t h1_feed(struct http *h, enum ts_dir dir, const unsigned char *data, size_t len)
{
	struct side *side = &h->side[dir];
	size_t used = execute(h, side, data, len);

	if (HTTP_PARSER_ERRNO(&side->h1.parser) != HPE_OK) {
		h1_lose(h, dir);
		/* Behind what could not be read: a message may begin there. */
		return used < len ? used + 1 : len;
	}
	/* What follows is HTTP only if the response says so. */
	if (side->h1.upgrade)
		side->state = WAITING;
	return used;
}

void h1_gap(struct http *h, enum ts_dir dir, uint64_t missing)
{
	struct side *side = &h->side[dir];
	struct h1_side *s = &side->h1;

	if (side->state != RUNNING || !s->x || missing > s->left) {
		h1_lose(h, dir);
		return;
	}
	/* All of it is of this body: the parser is told so, and given one byte for the rest. */
	s->skip = true;
	http_add_body(h, s->x, dir == h->client ? HTTP_REQ : HTTP_RESP, NULL, missing - 1);
	if (s->left != UINT64_MAX) {
		s->parser.content_length -= missing - 1;
		s->left -= missing - 1;
	}
	execute(h, side, "", 1);
	s->skip = false;
}

/* end: the connection ended, which may be what ends a body. */
void h1_close(struct http *h, bool end)
{
	enum http_side which;
	struct side *side;

	for (which = HTTP_REQ; which <= HTTP_RESP; which++) {
		side = side_of(h, which);
		if (end && side->state == RUNNING && side->h1.begun)
			execute(h, side, "", 0);
		cut(h, side, which);
	}
	pair_close(h);
}
