/* SPDX-License-Identifier: MIT */
/*
 * A recording that anybody may have made: the file's reader, the checks of its records, and what
 * joins them. Input that begins with a 't' is the file. Other input is a list of short
 * descriptions of records, so that calls that interleave are reached too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stream.h"

static void on_message(void *ctx, const struct stream_message *m)
{
	unsigned char *sum = ctx;
	size_t i;

	/* What a handler may rely on. */
	if (m->size > m->len || m->truncated != (m->size < m->len) || !m->source || !m->conn)
		abort();
	if (m->conn->missing[m->head->dir] < m->gap)
		abort();
	for (i = 0; i < m->size; i++)
		*sum ^= m->data[i];
	for (i = 0; m->source->func[i]; i++)
		*sum ^= (unsigned char)m->source->func[i];
}

static void on_closed(void *ctx, struct stream_conn *c, uint64_t nsecs)
{
	(void)ctx;
	(void)nsecs;
	c->user = -1;
}

static int on_record(void *ctx, const struct ts_record *r)
{
	struct stream *s = ctx;

	if (!record_valid(r, r->size))
		abort();
	stream_feed(s, r);
	if (r->type == TS_REC_TICK)
		stream_flush(s, ((const struct rec_tick *)r)->nsecs);
	return 0;
}

/* One record from eight bytes: few processes, threads, connections and calls, that they meet. */
static const struct ts_record *describe(struct ts_buf *buf, const unsigned char *in)
{
	static const char *const name[] = {"openssl", "SSL_read", "libssl.so.3", NULL};
	static const char payload[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	const char *const bytes[] = {payload + in[5] % 32, NULL};
	struct rec_source source = {.id = in[1] % 4};
	struct rec_exec exit = {.pid = in[1] % 4, .nsecs = in[2] * 100000000u};
	struct rec_tick tick = {.nsecs = in[2] * 100000000u};
	struct ts_data d = {
		.nsecs = in[2] * 100000000u,
		.source = in[1] >> 6,
		.pid = in[1] % 4,
		.tid = in[1] / 4 % 4,
		.conn = in[1] / 16 % 4,
		.conn_opened = in[3] % 2,
		.dir = in[3] / 2 % 2,
		.flags = in[3] / 4 % 32,
		.call = in[4] % 8,
		.pos = in[4] / 8,
		.len = in[6],
		.off = in[7],
		.captured = (__u32)strlen(bytes[0]) + 1,
	};

	switch (in[0] % 16) {
	case 0:
		return record_build(buf, TS_REC_SOURCE, &source, sizeof(source), name);
	case 1:
		return record_build(buf, TS_REC_EXIT, &exit, sizeof(exit), NULL);
	case 2:
		return record_build(buf, TS_REC_TICK, &tick, sizeof(tick), NULL);
	case 3:
		d.captured = 0;
		return record_build(buf, TS_REC_CLOSE, &d, sizeof(d), NULL);
	default:
		return record_build(buf, TS_REC_DATA, &d, sizeof(d), bytes);
	}
}

static int make_file(const unsigned char *data, size_t size)
{
	const __u32 header[] = {RECORD_VERSION, 0x01020304};
	int fd = memfd_create("fuzz", 0);
	const struct ts_record *r;
	struct ts_buf buf = {0};
	bool ok = fd >= 0;
	size_t i;

	if (size && *data == 't') {
		ok = ok && write(fd, data, size) == (ssize_t)size;
	} else {
		ok = ok && write(fd, "tlsscope", 8) == 8 &&
		     write(fd, header, sizeof(header)) == sizeof(header);
		for (i = 0; ok && i + 8 <= size; i += 8) {
			r = describe(&buf, data + i);
			/* What is not valid would end the replay: those are for the other form. */
			if (r && record_valid(r, r->size))
				ok = write(fd, r, r->size) == (ssize_t)r->size;
		}
	}
	ts_buf_free(&buf);
	if (!ok)
		abort();
	return fd;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static const struct stream_ops ops = {on_message, on_closed};
	struct record_sink sink = {on_record, NULL};
	int fd = make_file(data, size);
	unsigned char sum = 0;
	struct stream *s;
	struct ts_err err;
	char path[32];

	if (stream_open(&s, &ops, &sum))
		abort();
	sink.ctx = s;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	record_replay(path, &sink, NULL, NULL, &err);
	stream_close(s);
	close(fd);
	return 0;
}
