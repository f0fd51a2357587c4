/* SPDX-License-Identifier: MIT */
/* A stream that is fed with pieces of calls, and what it hands over, as text. */
#ifndef TLSSCOPE_STREAM_RUN_H
#define TLSSCOPE_STREAM_RUN_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libs.h"
#include "stream.h"

/*
 * Each test feeds records and compares what came out with a text, one line an event:
 * "CONN DIRECTION 'BYTES' len=N gap=N cut" or "CONN closed IN OUT".
 */
struct fixture {
	struct stream *stream;
	struct ts_buf said;
	size_t messages, bytes;	   /* handed over */
	const unsigned char *data; /* where the last one's were */
	const struct stream_conn *conn;
	uint64_t closed; /* when the last one that was closed was, and how */
	enum ts_how how;
	struct ts_data head; /* of the last message */
};

static inline void on_message(void *ctx, const struct stream_message *m)
{
	struct fixture *f = ctx;
	int shown = m->size < 40 ? (int)m->size : 40;

	assert_true((m->data == NULL) == (m->size == 0));
	assert_int_equal(m->truncated, m->size < m->len);
	assert_int_equal(m->source->id, m->head->source);
	ts_buf_printf(&f->said, "%d %s '%.*s' len=%d", (int)m->conn->id,
		      m->head->dir == TS_IN ? "in" : "out", shown, (const char *)m->data,
		      (int)m->len);
	if (m->gap)
		ts_buf_printf(&f->said, " gap=%d", (int)m->gap);
	ts_buf_printf(&f->said, "%s\n", m->truncated ? " cut" : "");
	f->messages++;
	f->bytes += m->size;
	f->data = m->data;
	f->head = *m->head;
	f->conn = m->conn;
}

static inline void on_closed(void *ctx, struct stream_conn *c, uint64_t nsecs)
{
	struct fixture *f = ctx;

	f->closed = nsecs;
	f->how = c->how;
	ts_buf_printf(&f->said, "%d closed %d %d\n", (int)c->id, (int)c->bytes[TS_IN],
		      (int)c->bytes[TS_OUT]);
}

/* One piece of a call. `of` is the call's length; 0: as long as the piece. */
struct piece {
	const char *bytes;
	unsigned int call, pos, off, of, flags, pid, tid, conn, opened;
	enum ts_dir dir;
	uint64_t nsecs;
};

static inline int feed_piece(struct fixture *f, struct piece p)
{
	static union {
		struct ts_data d;
		unsigned char bytes[sizeof(struct ts_data) + TS_CHUNK];
	} u;
	size_t len = strlen(p.bytes);

	memset(&u.d, 0, sizeof(u.d));
	u.d.record.type = TS_REC_DATA;
	u.d.record.size = (__u32)(sizeof(u.d) + len);
	u.d.captured = (__u32)len;
	u.d.len = p.of ? p.of : len;
	u.d.off = p.off;
	u.d.call = p.call;
	u.d.pos = p.pos;
	u.d.flags = p.flags;
	u.d.pid = p.pid ? p.pid : 10;
	u.d.tid = p.tid ? p.tid : u.d.pid;
	u.d.conn = 0x1000 + 16 * p.conn;
	u.d.conn_opened = 1 + p.opened;
	u.d.source = 1;
	u.d.dir = p.dir;
	u.d.nsecs = p.nsecs;
	memcpy(u.d.payload, p.bytes, len);
	return stream_feed(f->stream, &u.d.record);
}
#define FEED(...) assert_int_equal(feed_piece(f, (struct piece){__VA_ARGS__}), 0)
#define MORE .flags = TS_DATA_MORE

static inline int feed_source(struct fixture *f, uint32_t id, const char *name)
{
	const char *const strings[] = {"openssl", name, "/usr/lib/libssl.so.3", NULL};
	struct rec_source body = {.id = id, .probe = TS_P_SSL_WRITE};
	struct ts_buf b = {0};
	int ret = stream_feed(f->stream,
			      record_build(&b, TS_REC_SOURCE, &body, sizeof(body), strings));

	ts_buf_free(&b);
	return ret;
}

static inline void expect_at(struct fixture *f, const char *text, int line)
{
	ts_buf_add(&f->said, "", 1);
	if (strcmp((char *)f->said.data, text) != 0)
		fail_msg("line %d: wanted:\n%sgot:\n%s", line, text, (char *)f->said.data);
	f->said.len = 0;
}
#define EXPECT(text) expect_at(f, text, __LINE__)

static inline int setup(void **state)
{
	static const struct stream_ops ops = {on_message, on_closed};
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	return !f || stream_open(&f->stream, &ops, f) || feed_source(f, 1, "SSL_write");
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	stream_close(f->stream);
	ts_buf_free(&f->said);
	free(f);
	return 0;
}

#endif
