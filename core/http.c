/* SPDX-License-Identifier: MIT */
/* One connection: which protocol it speaks, where messages begin, what has to wait. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http_private.h"

static void ignore(void *ctx, const struct http_exchange *x)
{
	(void)ctx;
	(void)x;
}

int http_open(struct http **out, const struct http_ops *ops, void *ctx, size_t body)
{
	struct http *h = calloc(1, sizeof(*h));

	*out = h;
	if (!h)
		return -1;
	h->ops = *ops;
	h->ops.request = ops->request ? ops->request : ignore;
	h->ops.response = ops->response ? ops->response : ignore;
	h->ops.done = ops->done ? ops->done : ignore;
	h->ctx = ctx;
	h->body = body;
	h->queue.last = &h->queue.first;
	h->newest = &h->oldest;
	return 0;
}

void http_set_body(struct http *h, size_t body)
{
	h->body = body;
}

/* What a search found: where in the held bytes, and what. */
struct place {
	size_t at;
	enum { NOTHING, PART, LINE, SETTINGS, FRAMES, PREFACE_2 } what;
	enum found line;
};

static bool role_fits(const struct http *h, enum ts_dir dir, enum found line)
{
	return h->mode == UNKNOWN || (line == FOUND_REQUEST) == (dir == h->client);
}

static void look_line(const struct http *h, enum ts_dir dir, size_t at, struct place *p)
{
	const struct ts_buf *held = &h->side[dir].held;
	enum found f = http_find_line(held->data + at, held->len - at);

	if (f == FOUND_PART && p->what == NOTHING)
		*p = (struct place){at, PART, f};
	else if (f > FOUND_PART && role_fits(h, dir, f))
		*p = (struct place){at, LINE, f};
}

static void look_http2(const struct http *h, enum ts_dir dir, size_t at, struct place *p)
{
	const struct side *side = &h->side[dir];
	const unsigned char *data = side->held.data + at;
	size_t len = side->held.len - at;
	enum found preface = http_find_preface(data, len), settings, frames;

	settings = !side->gone && !at ? http_find_settings(data, len) : FOUND_NOTHING;
	frames = http_find_frames(data, len);
	if (preface == FOUND_REQUEST)
		*p = (struct place){at, PREFACE_2, preface};
	else if (settings == FOUND_REQUEST)
		*p = (struct place){at, SETTINGS, settings};
	else if (frames == FOUND_REQUEST)
		*p = (struct place){at, FRAMES, frames};
	else if (preface + settings + frames && p->what == NOTHING)
		*p = (struct place){at, PART, FOUND_PART};
}

/*
 * Where HTTP/1 may begin: where a call's bytes do, as programs write and read messages from their
 * start; and behind an empty line. chunk: where the latest call's bytes begin.
 */
static struct place find_http1(const struct http *h, enum ts_dir dir, size_t chunk)
{
	const struct ts_buf *held = &h->side[dir].held;
	const unsigned char *at = held->data, *end = held->data + held->len;
	struct place p = {0};

	look_line(h, dir, 0, &p);
	if (p.what < LINE && chunk)
		look_line(h, dir, chunk, &p);
	while (p.what < LINE && (at = memmem(at, (size_t)(end - at), "\r\n\r\n", 4))) {
		at += 4;
		if (at < end)
			look_line(h, dir, (size_t)(at - held->data), &p);
	}
	return p;
}

/*
 * Frames are found anywhere: they chain up. All places are looked at only when there is a good deal
 * more than the last time: calls may be of one byte each.
 */
static struct place find_http2(struct http *h, enum ts_dir dir, size_t chunk)
{
	struct side *side = &h->side[dir];
	struct place p = {0};
	size_t i;

	if (!side->gone) {
		if (dir != h->client)
			return (struct place){0, SETTINGS, FOUND_REQUEST};
		p.line = http_find_preface(side->held.data, side->held.len);
		if (p.line == FOUND_PART)
			p.what = PART;
		else if (p.line == FOUND_REQUEST)
			p.what = PREFACE_2;
		if (p.what != NOTHING)
			return p;
	}
	look_http2(h, dir, 0, &p);
	look_http2(h, dir, chunk, &p);
	if (p.what > PART || side->held.len < side->looked)
		return p.what > PART ? p : (struct place){0, PART, FOUND_PART};
	for (i = 0; i < side->held.len && p.what < LINE; i++)
		look_http2(h, dir, i, &p);
	side->looked = side->held.len - p.at + (side->held.len - p.at) / 8;
	return p;
}

static struct place find_any(const struct http *h, enum ts_dir dir, size_t chunk)
{
	struct place p = find_http1(h, dir, chunk), q = {0};

	if (p.what != LINE)
		look_http2(h, dir, 0, &q);
	if (p.what != LINE && chunk && q.what < LINE)
		look_http2(h, dir, chunk, &q);
	if (q.what > PART || p.what == NOTHING || (q.what == PART && q.at < p.at))
		return q;
	return p;
}

static void drop_front(struct http *h, struct side *side, size_t n)
{
	if (!n)
		return;
	side->held.len -= n;
	h->kept -= n;
	memmove(side->held.data, side->held.data + n, side->held.len);
}

static void start(struct http *h, enum ts_dir dir, const struct place *p)
{
	struct side *side = &h->side[dir];
	bool first = h->mode == UNKNOWN;

	if (p->what == LINE) {
		if (first) {
			h->client = p->line == FOUND_REQUEST ? dir : !dir;
			h->queue.doubt = side->gone || h->side[!dir].gone;
		}
		h->mode = HTTP1;
		h1_start(h, dir);
		return;
	}
	if (first && p->what == FRAMES) {
		h->side[TS_IN].gone = h->side[TS_OUT].gone = true;
	} else if (first) {
		h->client = p->what == PREFACE_2 ? dir : !dir;
		h->roles = true;
	}
	h->mode = HTTP2;
	if (p->what == PREFACE_2)
		drop_front(h, side, sizeof(PREFACE) - 1);
	h2_start(h, dir, p->what != FRAMES);
}

/* Looks for a beginning in the held bytes; true: they begin with it now. */
static bool find(struct http *h, enum ts_dir dir, size_t chunk)
{
	struct side *side = &h->side[dir];
	struct place p;

	if (h->mode == HTTP2)
		p = find_http2(h, dir, chunk);
	else if (h->mode == HTTP1)
		p = find_http1(h, dir, chunk);
	else
		p = find_any(h, dir, chunk);
	if (p.what == NOTHING)
		p.at = side->held.len;
	else if (p.what == PART && side->held.len > HELD_MAX)
		p.at = side->held.len / 2;
	side->gone |= p.at > 0;
	drop_front(h, side, p.at);
	if (p.what < LINE)
		return false;
	start(h, dir, &p);
	return true;
}

/* A response that comes before any request is known to have been sent waits for it. */
static bool must_wait(const struct http *h, enum ts_dir dir)
{
	const struct side *side = &h->side[dir];

	if (h->mode != HTTP1)
		return false;
	if (dir == h->client)
		return side->state == WAITING;
	return side->state == RUNNING && !side->h1.begun && !h->queue.count && !h->queue.doubt;
}

static bool hold(struct http *h, struct side *side, const unsigned char *data, size_t len)
{
	if (!side->held.len)
		side->held_at = h->now;
	if (http_keep(h, &side->held, data, len))
		return true;
	side->gone = true;
	http_drop(h, &side->held);
	return false;
}

/* Another protocol follows. */
static void switch_over(struct http *h)
{
	struct http_exchange *x = h->adopted;

	h->upgraded = false;
	h->adopted = NULL;
	if (!x) {
		h->mode = TUNNEL;
		return;
	}
	h->mode = HTTP2;
	h->roles = true;
	side_of(h, HTTP_REQ)->h1.x = NULL;
	http_over(h, x, HTTP_REQ);
	h2_start(h, !h->client, true);
	side_of(h, HTTP_REQ)->state = FINDING;
	side_of(h, HTTP_REQ)->gone = side_of(h, HTTP_RESP)->gone = false;
	h2_adopt(h, x);
}

static void run(struct http *h, enum ts_dir dir, const unsigned char *data, size_t len)
{
	struct side *side = &h->side[dir];
	struct ts_buf own = {0};
	size_t used, before;

	while (len) {
		if (h->mode == TUNNEL) {
			if (h->ops.tunnel)
				h->ops.tunnel(h->ctx, h->tunnel, dir, data, len, h->now);
			break;
		}
		if (side->state == RUNNING && !must_wait(h, dir)) {
			used = h->mode == HTTP1 ? h1_feed(h, dir, data, len)
						: h2_feed(h, dir, data, len);
			data += used;
			len -= used;
			if (h->upgraded)
				switch_over(h);
			continue;
		}
		before = side->held.len;
		if (!hold(h, side, data, len) || side->state != FINDING || !find(h, dir, before))
			break;
		http_drop(h, &own);
		own = side->held;
		side->held = (struct ts_buf){0};
		data = own.data;
		len = own.len;
	}
	http_drop(h, &own);
}

static void run_held(struct http *h, enum ts_dir dir)
{
	struct ts_buf held = h->side[dir].held;

	h->side[dir].held = (struct ts_buf){0};
	run(h, dir, held.data, held.len);
	http_drop(h, &held);
}

/* A request's answer did not end HTTP: what the client sent meanwhile is HTTP too. */
static void resume(struct http *h)
{
	struct side *req = side_of(h, HTTP_REQ);

	h->resumed = false;
	req->h1.upgrade = NULL;
	if (req->state == WAITING)
		h1_start(h, h->client);
}

/* What was held goes on as soon as it can. */
static void settle(struct http *h, bool found)
{
	enum ts_dir dir;
	bool again = true;

	while (again) {
		again = false;
		if (h->resumed)
			resume(h);
		for (dir = TS_IN; dir <= TS_OUT; dir++) {
			struct side *side = &h->side[dir];

			if (!side->held.len || must_wait(h, dir) ||
			    (side->state == FINDING && !found))
				continue;
			again = side->state == RUNNING || h->mode == TUNNEL;
			run_held(h, dir);
		}
		found = false;
	}
}

/* The response that waits answers no request that will be seen. */
static void release(struct http *h)
{
	if (!side_of(h, HTTP_RESP)->held.len || !must_wait(h, !h->client))
		return;
	pair_doubt(h, HTTP_REQ);
	settle(h, false);
}

void http_feed(struct http *h, enum ts_dir dir, const void *data, size_t len, uint64_t begun,
	       uint64_t nsecs)
{
	enum mode mode = h->mode;

	h->now = nsecs;
	if (h->mode == HTTP1 && dir == h->client && begun >= h->side[!dir].held_at)
		release(h);
	run(h, dir, data, len);
	if (h->mode == HTTP1 && side_of(h, HTTP_RESP)->held.len > HELD_MAX)
		release(h);
	if (h->mode == HTTP1 && side_of(h, HTTP_REQ)->held.len > HELD_MAX) {
		http_drop(h, &side_of(h, HTTP_REQ)->held);
		h1_lose(h, h->client);
	}
	settle(h, h->mode != mode);
}

void http_gap(struct http *h, enum ts_dir dir, uint64_t missing, uint64_t nsecs)
{
	struct side *side = &h->side[dir];

	if (!missing)
		return;
	h->now = nsecs;
	if (h->mode == HTTP1)
		release(h);
	if (side->held.len) {
		side->gone = true;
		http_drop(h, &side->held);
	}
	if (h->mode == HTTP1)
		h1_gap(h, dir, missing);
	else if (h->mode == HTTP2)
		h2_gap(h, dir, missing);
	else if (h->mode == TUNNEL && h->ops.tunnel)
		h->ops.tunnel(h->ctx, h->tunnel, dir, NULL, missing, nsecs);
	else
		side->gone = true;
	settle(h, false);
}

/* end: the connection ended, which may be what ends a body. */
static void finish(struct http *h, uint64_t nsecs, bool end)
{
	int i;

	if (!h)
		return;
	h->now = nsecs > h->now ? nsecs : h->now;
	if (h->mode == HTTP1)
		release(h);
	h1_close(h, end && h->mode == HTTP1);
	h2_close(h);
	if (h->tunnel && h->ops.tunnel_over)
		h->ops.tunnel_over(h->ctx, h->tunnel);
	if (h->tunnel)
		http_free(h, h->tunnel);
	for (i = 0; i < 2; i++)
		ts_buf_free(&h->side[i].held);
	ts_map_free(&h->streams);
	free(h);
}

void http_close(struct http *h, uint64_t nsecs)
{
	finish(h, nsecs, true);
}

void http_abandon(struct http *h, uint64_t nsecs)
{
	finish(h, nsecs, false);
}
