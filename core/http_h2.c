/* SPDX-License-Identifier: MIT */
/* HTTP/2 (RFC 9113): frames of both directions as exchanges, by stream. */
#include <string.h>

#include "http_private.h"

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, CONTINUATION = 9 };
enum { END_STREAM = 0x1, END_HEADERS = 0x4, PADDED = 0x8, PRIORITIZED = 0x20 };

static enum http_side which_of(const struct http *h, enum ts_dir dir)
{
	return dir == h->client ? HTTP_REQ : HTTP_RESP;
}

static void forget_table(struct side *side)
{
	hpack_close(side->h2.hpack);
	side->h2.hpack = NULL;
	side->gone = true;
}

static void drop_frame(struct http *h, struct side *side)
{
	http_drop(h, &side->h2.frame);
	http_drop(h, &side->h2.block);
	side->h2.have = 0;
	side->h2.left = side->h2.pad = side->h2.block_stream = 0;
	side->h2.too_long = side->h2.pad_known = false;
}

void h2_start(struct http *h, enum ts_dir dir, bool fresh)
{
	struct side *side = &h->side[dir];

	drop_frame(h, side);
	if (!fresh)
		forget_table(side);
	side->state = RUNNING;
}

/* Where the next frame begins is not known. */
static void lose(struct http *h, enum ts_dir dir)
{
	enum http_side which = which_of(h, dir);
	struct side *side = &h->side[dir];
	struct http_exchange *x;

	drop_frame(h, side);
	forget_table(side);
	side->state = FINDING;
	for (x = h->oldest; x; x = x->next)
		if (x->message[which].seen && !x->over[which])
			x->message[which].truncated = x->message[which].partial = true;
}

static struct http_exchange *find(struct http *h, uint32_t stream)
{
	return ts_map_get(&h->streams, stream, 0);
}

static bool was_reset(const struct http *h, uint32_t stream)
{
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(h->resets); i++)
		if (h->resets[i] == stream)
			return true;
	return false;
}

static void unlist(struct http *h, struct http_exchange *x)
{
	struct http_exchange **at = &h->oldest;

	ts_map_remove(&h->streams, x->stream_id, 0);
	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	if (!x->next)
		h->newest = at;
}

static void over(struct http *h, struct http_exchange *x, enum http_side which)
{
	if (x->over[!which] && !x->over[which])
		unlist(h, x);
	http_over(h, x, which);
}

/* Both messages end where they are. */
static void cut(struct http *h, struct http_exchange *x)
{
	enum http_side which;

	unlist(h, x);
	for (which = HTTP_REQ; which <= HTTP_RESP; which++)
		if (!x->over[which] && x->message[which].seen && !http_is_whole(&x->message[which]))
			x->message[which].truncated = true;
	if (x->over[HTTP_REQ]) {
		http_over(h, x, HTTP_RESP);
	} else if (x->over[HTTP_RESP]) {
		http_over(h, x, HTTP_REQ);
	} else {
		http_over(h, x, HTTP_REQ);
		http_over(h, x, HTTP_RESP);
	}
}

static bool enlist(struct http *h, struct http_exchange *x, uint32_t stream)
{
	if (h->streams.count >= HTTP_OPEN)
		cut(h, h->oldest);
	if (ts_map_set(&h->streams, stream, 0, x))
		return false;
	x->stream_id = stream;
	x->next = NULL;
	*h->newest = x;
	h->newest = &x->next;
	return true;
}

void h2_adopt(struct http *h, struct http_exchange *x)
{
	if (enlist(h, x, 1)) {
		h->last_request = 1;
		return;
	}
	http_over(h, x, HTTP_REQ);
	http_over(h, x, HTTP_RESP);
}

/* A header block as it is decoded: into an exchange that may become the stream's. */
struct block {
	struct http *h;
	struct http_exchange *x;
	bool taken; /* x is the stream's now, and may be gone */
	struct http_message m;
};

static int parse_status(const char *value, size_t len)
{
	int status = 0;
	size_t i;

	for (i = 0; i < len && i < 3 && value[i] >= '0' && value[i] <= '9'; i++)
		status = status * 10 + value[i] - '0';
	return len == 3 && i == 3 ? status : 0;
}

static void on_field(void *ctx, const char *name, size_t name_len, const char *value,
		     size_t value_len)
{
	static const char *const names[] = {":method", ":path", ":authority", ":scheme",
					    ":protocol"};
	struct block *b = ctx;
	struct ts_buf *const texts[] = {&b->x->method, &b->x->target, &b->x->authority,
					&b->x->scheme, &b->x->protocol};
	size_t i;

	if (!name) {
		b->m.partial = true;
		return;
	}
	if (*name != ':') {
		http_add_field(b->h, &b->m, name, name_len, value, value_len);
		return;
	}
	for (i = 0; i < TS_ARRAY_SIZE(names); i++)
		if (name_len == strlen(names[i]) && !memcmp(name, names[i], name_len))
			http_set_text(b->h, texts[i], value, value_len);
	if (name_len == 7 && !memcmp(name, ":status", 7))
		b->x->status = parse_status(value, value_len);
}

static void decode(struct http *h, struct side *side, struct block *b)
{
	struct h2_side *s = &side->h2;

	if (!s->hpack)
		s->hpack = hpack_open(!side->gone);
	if (!s->hpack || !hpack_decode(s->hpack, s->block.data, s->block.len, on_field, b)) {
		b->m.partial = true;
		forget_table(side);
	}
	http_drop(h, &s->block);
}

static void add_trailers(struct http *h, struct http_message *to, const struct http_message *m)
{
	const char *text = (const char *)m->text.data;
	const struct http_field *f;
	size_t i;

	if (!to->trailers)
		to->trailers = http_field_count(to);
	for (i = 0; (f = http_field(m, i)); i++)
		http_add_field(h, to, text + f->name, f->name_len, text + f->value, f->value_len);
	to->partial |= m->partial;
}

static void move_text(struct http *h, struct ts_buf *to, struct ts_buf *from)
{
	http_drop(h, to);
	*to = *from;
	*from = (struct ts_buf){0};
}

/* The stream's first block of that kind. */
static void take(struct http *h, struct http_exchange *x, struct block *b, enum http_side which)
{
	if (x != b->x && which == HTTP_REQ) {
		move_text(h, &x->method, &b->x->method);
		move_text(h, &x->target, &b->x->target);
		move_text(h, &x->authority, &b->x->authority);
		move_text(h, &x->scheme, &b->x->scheme);
		move_text(h, &x->protocol, &b->x->protocol);
	} else if (x != b->x) {
		x->status = b->x->status;
	}
	b->m.seen = true;
	b->m.started = h->now;
	x->message[which] = b->m;
	x->request_dir = h->client;
	b->m = (struct http_message){0};
}

/* Whether the request of a stream may still come, after its response. */
static bool request_may_come(struct http *h, uint32_t stream)
{
	const struct side *req = side_of(h, HTTP_REQ);

	return req->state == RUNNING && !req->gone && stream % 2 && stream > h->last_request;
}

static struct http_exchange *stream_exchange(struct http *h, struct block *b, uint32_t stream,
					     enum http_side which)
{
	struct http_exchange *x = find(h, stream);

	if (x || !enlist(h, b->x, stream))
		return x;
	b->taken = true;
	if (which == HTTP_RESP)
		b->x->over[HTTP_REQ] = !request_may_come(h, stream);
	return b->x;
}

static void use_block(struct http *h, enum ts_dir dir, struct block *b)
{
	struct h2_side *s = &h->side[dir].h2;
	uint32_t stream = s->promised ? s->promised : s->block_stream;
	bool end = s->block_flags & END_STREAM, first = b->x->method.data || b->x->status;
	enum http_side which;
	struct http_exchange *x;

	if (first && !s->promised) {
		h->client = b->x->method.data ? dir : !dir;
		h->roles = true;
	}
	which = s->promised ? HTTP_REQ : which_of(h, dir);
	if (was_reset(h, stream) || (!first && !h->roles && !s->promised))
		return;
	if (b->x->status / 100 == 1 && !end)
		return;
	x = find(h, stream);
	if (x && x->message[which].seen) {
		add_trailers(h, &x->message[which], &b->m);
	} else if (first || b->m.partial || s->promised) {
		x = stream_exchange(h, b, stream, which);
		if (!x)
			return;
		take(h, x, b, which);
	}
	if (!x)
		return;
	x->pushed |= s->promised != 0;
	if (which == HTTP_REQ && !s->promised && stream > h->last_request)
		h->last_request = stream;
	if (end || s->promised)
		over(h, x, which);
}

static void end_block(struct http *h, enum ts_dir dir)
{
	struct side *side = &h->side[dir];
	struct block b = {.h = h, .x = http_new(h, "HTTP/2")};

	if (!b.x) {
		http_drop(h, &side->h2.block);
		forget_table(side);
	} else {
		decode(h, side, &b);
		use_block(h, dir, &b);
		http_message_drop(h, &b.m);
		if (!b.taken)
			http_free(h, b.x);
	}
	side->h2.block_stream = 0;
}

/* What of a frame is header block: without padding, priority, promised stream. false: damaged. */
static bool add_fragment(struct http *h, struct h2_side *s)
{
	const unsigned char *at = s->frame.data;
	size_t len = s->frame.len, pad = 0, skip = 0;

	if (s->type != CONTINUATION && s->flags & PADDED) {
		if (!len)
			return false;
		pad = at[0];
		skip = 1;
	}
	if (s->type == PUSH_PROMISE) {
		if (len < skip + 4)
			return false;
		s->promised = (at[skip] & 0x7fu) << 24 | (uint32_t)at[skip + 1] << 16 |
			      (uint32_t)at[skip + 2] << 8 | at[skip + 3];
		skip += 4;
	}
	if (s->type == HEADERS && s->flags & PRIORITIZED)
		skip += 5;
	if (len < skip + pad || (s->type == PUSH_PROMISE && !s->promised))
		return false;
	len -= skip + pad;
	return !len || (s->block.len + len <= HTTP_TEXT && http_keep(h, &s->block, at + skip, len));
}

static bool end_headers(struct http *h, enum ts_dir dir)
{
	struct side *side = &h->side[dir];
	struct h2_side *s = &side->h2;
	bool ok;

	if (s->type != CONTINUATION) {
		s->block_stream = s->stream;
		s->block_flags = s->flags;
		s->promised = 0;
	}
	ok = !s->too_long && add_fragment(h, s);
	http_drop(h, &s->frame);
	if (!ok)
		return false;
	if (s->flags & END_HEADERS)
		end_block(h, dir);
	return true;
}

static void end_stream(struct http *h, enum ts_dir dir, uint32_t stream)
{
	struct http_exchange *x = find(h, stream);

	if (x)
		over(h, x, which_of(h, dir));
}

static void reset_stream(struct http *h, uint32_t stream)
{
	struct http_exchange *x = find(h, stream);

	h->resets[h->resets_count++ % TS_ARRAY_SIZE(h->resets)] = stream;
	if (!x)
		return;
	x->reset = true;
	cut(h, x);
}

/* false: no frame ends here. */
static bool end_frame(struct http *h, enum ts_dir dir)
{
	struct h2_side *s = &h->side[dir].h2;

	s->have = 0;
	switch (s->type) {
	case DATA:
		if (s->flags & END_STREAM)
			end_stream(h, dir, s->stream);
		return true;
	case HEADERS:
	case PUSH_PROMISE:
	case CONTINUATION:
		return end_headers(h, dir);
	case RST_STREAM:
		reset_stream(h, s->stream);
		return true;
	default:
		return true;
	}
}

static bool begin_frame(struct http *h, struct h2_side *s)
{
	const unsigned char *b = s->head;

	if (!http_frame_possible(b))
		return false;
	s->left = (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2];
	s->type = b[3];
	s->flags = b[4];
	s->stream = (b[5] & 0x7fu) << 24 | (uint32_t)b[6] << 16 | (uint32_t)b[7] << 8 | b[8];
	s->pad = 0;
	s->pad_known = s->type != DATA || !(s->flags & PADDED);
	s->too_long = s->left > HTTP_TEXT;
	http_drop(h, &s->frame);
	/* A block is never interrupted. */
	if (s->type == CONTINUATION)
		return s->stream == s->block_stream;
	return !s->block_stream;
}

static void add_data(struct http *h, enum ts_dir dir, const unsigned char *data, uint32_t len)
{
	enum http_side which = which_of(h, dir);
	struct http_exchange *x;

	if (!len)
		return;
	x = find(h, h->side[dir].h2.stream);
	if (!x || !x->message[which].seen || x->over[which])
		return;
	http_add_body(h, x, which, data, len);
}

/* Bytes of a frame's payload; NULL: bytes that were not seen, of DATA. false: damaged. */
static bool add_payload(struct http *h, enum ts_dir dir, const unsigned char *data, uint32_t len)
{
	struct h2_side *s = &h->side[dir].h2;
	uint32_t n;

	if (s->type != DATA) {
		if ((s->type == HEADERS || s->type == PUSH_PROMISE || s->type == CONTINUATION) &&
		    !s->too_long && !http_keep(h, &s->frame, data, len))
			s->too_long = true;
		s->left -= len;
		return true;
	}
	if (!s->pad_known) {
		s->pad_known = true;
		s->pad = *data++;
		s->left--;
		len--;
		if (s->pad > s->left)
			return false;
	}
	n = s->left - s->pad; /* of the body; padding follows */
	if (s->left > s->pad)
		add_data(h, dir, data, len < n ? len : n);
	s->left -= len;
	/* Padding that is left is padding still. */
	if (s->left < s->pad)
		s->pad = s->left;
	return true;
}

size_t h2_feed(struct http *h, enum ts_dir dir, const unsigned char *data, size_t len)
{
	struct h2_side *s = &h->side[dir].h2;
	size_t at = 0, n;
	bool ok = true;

	while (at < len && ok) {
		if (s->have < sizeof(s->head)) {
			s->head[s->have++] = data[at++];
			ok = s->have < sizeof(s->head) || begin_frame(h, s);
		} else {
			n = len - at < s->left ? len - at : s->left;
			ok = add_payload(h, dir, data + at, (uint32_t)n);
			at += n;
		}
		if (ok && s->have == sizeof(s->head) && !s->left)
			ok = end_frame(h, dir);
	}
	if (!ok)
		lose(h, dir);
	return at;
}

void h2_gap(struct http *h, enum ts_dir dir, uint64_t missing)
{
	struct side *side = &h->side[dir];
	struct h2_side *s = &side->h2;

	if (side->state == RUNNING && s->have == sizeof(s->head) && s->type == DATA &&
	    s->pad_known && missing <= s->left) {
		add_payload(h, dir, NULL, (uint32_t)missing);
		if (!s->left)
			end_frame(h, dir);
	} else {
		lose(h, dir);
	}
}

void h2_close(struct http *h)
{
	int i;

	while (h->oldest)
		cut(h, h->oldest);
	for (i = 0; i < 2; i++) {
		drop_frame(h, &h->side[i]);
		hpack_close(h->side[i].h2.hpack);
		h->side[i].h2.hpack = NULL;
	}
}
