/* SPDX-License-Identifier: MIT */
/* Finds hellos in the first bytes of TCP connections: puts pieces in order, and takes off records.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hello.h"

#define STREAMS 4096		 /* directions at the same time; the oldest goes */
#define WAITING 8		 /* pieces of one that came before those in front of them */
#define HELD_BYTES (16u << 20)	 /* of all of them together */
#define RECORD_HEADER 5		 /* RFC 8446, 5.1: type, version, length */
#define RECORD_BYTES 16640	 /* in one at most: RFC 5246, 6.2.3, and some more */
#define MESSAGE_HEADER 4	 /* type, length */
#define MESSAGE_BYTES (1u << 17) /* no hello says that it is longer */
#define HELLOS 2		 /* of one direction: a retry */

enum content { CHANGE_CIPHER_SPEC = 20, HANDSHAKE = 22 };

/*
 * One direction. Invariant: data[0..have) are its first bytes; `at` of them are used. Where it is
 * done it has no data, and stays to know the pieces that are on their way.
 */
struct direction {
	struct direction *older, *newer;
	bool begun, done;
	unsigned int hellos;
	struct ts_buf data;
	size_t have, at;
	struct range {
		size_t from, to;
	} waiting[WAITING];
	unsigned int waiting_count;
	uint64_t nsecs;	      /* of the last piece */
	struct ts_hello head; /* of its first one, without payload; last, as its size varies */
};

struct hello_finder {
	struct hello_finder_ops ops;
	void *ctx;
	struct ts_map directions; /* by socket, and start and dir */
	struct direction *oldest, *newest;
	size_t held;
};

static uint64_t second_key(uint32_t start, uint8_t dir)
{
	return (uint64_t)start << 1 | dir;
}

static void release(struct hello_finder *f, struct direction *d)
{
	f->held -= d->data.cap;
	ts_buf_free(&d->data);
}

static void drop(struct hello_finder *f, struct direction *d)
{
	*(d->older ? &d->older->newer : &f->oldest) = d->newer;
	*(d->newer ? &d->newer->older : &f->newest) = d->older;
	ts_map_remove(&f->directions, d->head.sock, second_key(d->head.start, d->head.dir));
	release(f, d);
	free(d);
}

static struct direction *get_direction(struct hello_finder *f, const struct ts_hello *p)
{
	uint64_t second = second_key(p->start, p->dir);
	struct direction *d = ts_map_get(&f->directions, p->sock, second);

	if (d)
		return d;
	while (f->directions.count >= STREAMS || (f->held > HELD_BYTES && f->oldest))
		drop(f, f->oldest);
	d = calloc(1, sizeof(*d));
	if (!d || ts_map_set(&f->directions, p->sock, second, d)) {
		free(d);
		return NULL;
	}
	d->head = *p;
	d->older = f->newest;
	*(f->newest ? &f->newest->newer : &f->oldest) = d;
	f->newest = d;
	return d;
}

/* Nothing more of this direction is of use. */
static void finish(struct hello_finder *f, struct direction *d)
{
	d->done = true;
	release(f, d);
	f->ops.done(f->ctx, d->head.sock, d->head.start, d->head.dir);
}

/* Moves d->have over what has come. */
static void join(struct direction *d)
{
	bool moved = true;
	unsigned int i;

	while (moved) {
		moved = false;
		for (i = 0; i < d->waiting_count; i++)
			if (d->waiting[i].from <= d->have && d->waiting[i].to > d->have) {
				d->have = d->waiting[i].to;
				moved = true;
			}
	}
}

static int keep_bytes(struct hello_finder *f, struct direction *d, const struct ts_hello *p)
{
	static const unsigned char zeros[TS_HELLO_WINDOW];
	size_t end = p->pos + p->len, cap = d->data.cap;
	int ret = 0;

	if (end > d->data.len)
		ret = ts_buf_add(&d->data, zeros, end - d->data.len);
	f->held += d->data.cap - cap;
	if (ret)
		return ret;
	memcpy(d->data.data + p->pos, p->payload, p->len);
	if (p->pos <= d->have) {
		d->have = end > d->have ? end : d->have;
		join(d);
	} else if (d->waiting_count < WAITING) {
		d->waiting[d->waiting_count++] = (struct range){p->pos, end};
	}
	return 0;
}

/* A hello, or as much of it as there is. */
struct found {
	const unsigned char *data;
	size_t size;
	size_t end; /* of the direction's bytes */
	unsigned int flags;
	bool alone; /* the record ends with it */
};

static int send_found(struct hello_finder *f, struct direction *d, const struct found *found)
{
	struct ts_buf buf = {0};
	struct ts_hello h = d->head;
	int ret = -ENOMEM;

	h.record =
		(struct ts_record){.size = (__u32)(sizeof(h) + found->size), .type = TS_REC_HELLO};
	h.nsecs = d->nsecs;
	h.pos = h.skip = 0;
	h.len = (__u32)found->size;
	h.flags = (__u8)(found->flags | (d->hellos ? TS_HELLO_RETRY : 0));
	if (!ts_buf_add(&buf, &h, sizeof(h)) && !ts_buf_add(&buf, found->data, found->size))
		ret = f->ops.found(f->ctx, (const struct ts_record *)buf.data);
	ts_buf_free(&buf);
	return ret;
}

enum result { MORE, FOUND, NOTHING };

static size_t number(const unsigned char *at, unsigned int size)
{
	size_t n = 0;

	while (size--)
		n = n << 8 | *at++;
	return n;
}

/* RFC 5246, E.2: a record of SSL 2.0, for a client that can do TLS. */
static enum result find_ssl2(const struct direction *d, struct found *found)
{
	const unsigned char *data = d->data.data;
	size_t size;

	if (d->have < 5)
		return MORE;
	size = number(data, 2) & 0x7fff;
	if (data[2] != 1 || data[3] != 3 || data[4] > 4 || size < 9)
		return NOTHING;
	if (d->have < 2 + size)
		return MORE;
	*found = (struct found){data + 2, size, 2 + size, TS_HELLO_SSL2, false};
	return FOUND;
}

/* Whether a message's beginning is that of a hello; its whole size. */
static bool is_hello(const unsigned char *message, size_t *size)
{
	*size = MESSAGE_HEADER + number(message + 1, 3);
	return (message[0] == 1 || message[0] == 2) && *size <= MESSAGE_BYTES;
}

/*
 * The message that begins in the record at d->at, whose bytes may be in several records: they are
 * put together in *message.
 */
static enum result find_message(const struct direction *d, struct ts_buf *message,
				struct found *found)
{
	const unsigned char *data = d->data.data;
	size_t at = d->at, length, part, size = MESSAGE_HEADER;

	while (message->len < size) {
		if (d->have - at < RECORD_HEADER)
			return MORE;
		length = number(data + at + 3, 2);
		if (data[at] != HANDSHAKE || data[at + 1] != 3 || !length || length > RECORD_BYTES)
			return NOTHING;
		at += RECORD_HEADER;
		part = length < d->have - at ? length : d->have - at;
		/* More than the message is taken here, and left off below. */
		if (ts_buf_add(message, data + at, part))
			return NOTHING;
		if (message->len >= MESSAGE_HEADER && !is_hello(message->data, &size))
			return NOTHING;
		at += part;
		if (part < length && message->len < size)
			return MORE;
		found->alone = part == length && message->len == size;
	}
	found->data = message->data;
	found->size = size;
	found->end = at;
	return FOUND;
}

/* Finds the next hello. */
static enum result find(struct direction *d, struct ts_buf *message, struct found *found)
{
	const unsigned char *data = d->data.data;

	/* Between a client's hellos, and only there. */
	while (d->hellos && d->have - d->at > RECORD_HEADER && data[d->at] == CHANGE_CIPHER_SPEC)
		d->at += RECORD_HEADER + 1;
	if (d->have == d->at)
		return MORE;
	if (!d->hellos && data[0] & 0x80)
		return find_ssl2(d, found);
	if (d->hellos && data[d->at] == CHANGE_CIPHER_SPEC)
		return MORE;
	if (data[d->at] != HANDSHAKE)
		return NOTHING;
	return find_message(d, message, found);
}

/* Whether another can follow: a client may be asked for one, a server has asked. */
static bool may_follow(const struct direction *d, const struct found *found)
{
	struct hello h;

	return d->hellos < HELLOS && found->alone && !found->flags &&
	       hello_read(&h, found->data, found->size, found->flags) && (h.client || h.retry);
}

/* What was cut off at the window's end is handed on as it is. */
static bool take_rest(const struct direction *d, const struct ts_buf *message, struct found *found)
{
	if (d->have < TS_HELLO_WINDOW || message->len < MESSAGE_HEADER)
		return false;
	*found = (struct found){message->data, message->len, d->have, TS_HELLO_CUT, false};
	return true;
}

static int search(struct hello_finder *f, struct direction *d)
{
	struct ts_buf message = {0};
	struct found found = {0};
	enum result result = find(d, &message, &found);
	int ret = 0;

	if (result == MORE && take_rest(d, &message, &found))
		result = FOUND;
	if (result == FOUND) {
		ret = send_found(f, d, &found);
		d->hellos++;
		d->at = found.end;
		if (!may_follow(d, &found))
			result = NOTHING;
	}
	if (result == NOTHING || d->have >= TS_HELLO_WINDOW)
		finish(f, d);
	ts_buf_free(&message);
	return ret;
}

int hello_finder_feed(struct hello_finder *f, const struct ts_hello *p)
{
	struct direction *d;
	size_t at;
	int ret;

	if (!p->len || p->pos >= TS_HELLO_WINDOW || p->len > TS_HELLO_WINDOW - p->pos ||
	    p->dir > TS_OUT)
		return 0;
	d = get_direction(f, p);
	if (!d)
		return -ENOMEM;
	if (d->done)
		return 0;
	/* Who begins to speak is whose hello it is. */
	if (!p->pos && !d->begun) {
		d->head = *p;
		d->begun = true;
	}
	d->nsecs = p->nsecs;
	ret = keep_bytes(f, d, p);
	do {
		at = d->at;
		if (!ret && !d->done && d->begun)
			ret = search(f, d);
	} while (!ret && !d->done && d->at != at);
	return ret;
}

int hello_finder_open(struct hello_finder **out, const struct hello_finder_ops *ops, void *ctx)
{
	struct hello_finder *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->ops = *ops;
	f->ctx = ctx;
	*out = f;
	return 0;
}

void hello_finder_close(struct hello_finder *f)
{
	if (!f)
		return;
	while (f->oldest)
		drop(f, f->oldest);
	ts_map_free(&f->directions);
	free(f);
}
