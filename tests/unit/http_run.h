/* SPDX-License-Identifier: MIT */
/*
 * What a conversation becomes, as text: a line for each event. The same conversation is fed whole
 * and cut at every byte; what comes of it must be the same.
 */
#ifndef TLSSCOPE_TEST_HTTP_RUN_H
#define TLSSCOPE_TEST_HTTP_RUN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "http.h"

/* One call's bytes; a gap where data is NULL. */
struct piece {
	enum ts_dir dir;
	const char *data;
	size_t len;
};
/* As a server sees it: requests come in. */
#define IN(text)                                                                                   \
	{                                                                                          \
		TS_IN, text, sizeof(text) - 1                                                      \
	}
#define OUT(text)                                                                                  \
	{                                                                                          \
		TS_OUT, text, sizeof(text) - 1                                                     \
	}
#define LOST_IN(n)                                                                                 \
	{                                                                                          \
		TS_IN, NULL, n                                                                     \
	}
#define LOST_OUT(n)                                                                                \
	{                                                                                          \
		TS_OUT, NULL, n                                                                    \
	}
#define END                                                                                        \
	{                                                                                          \
		TS_IN, NULL, 0                                                                     \
	}

struct talk {
	struct ts_buf log;
	struct http *http;
	uint64_t now;
};

static void log_message(struct ts_buf *log, const struct http_message *m)
{
	const struct http_field *f;
	size_t i;

	for (i = 0; (f = http_field(m, i)); i++)
		ts_buf_printf(log, "%s%.*s=%.*s", m->trailers && i == m->trailers ? " ;" : " ",
			      (int)f->name_len, (const char *)m->text.data + f->name,
			      (int)f->value_len, (const char *)m->text.data + f->value);
	if (m->body_len)
		ts_buf_printf(log, " [%llu:%.*s]", (unsigned long long)m->body_len,
			      m->body.len > 20 ? 20 : (int)m->body.len, (const char *)m->body.data);
	ts_buf_printf(log, "%s%s", m->partial ? " partial" : "", m->truncated ? " truncated" : "");
}

static const char *text_of(const struct ts_buf *b)
{
	return b->data ? (const char *)b->data : "?";
}

static void log_request(void *ctx, const struct http_exchange *x)
{
	struct talk *t = ctx;

	ts_buf_printf(&t->log, "> %s %s", text_of(&x->method), text_of(&x->target));
	log_message(&t->log, &x->message[HTTP_REQ]);
	ts_buf_add(&t->log, "\n", 1);
}

static void log_response(void *ctx, const struct http_exchange *x)
{
	struct talk *t = ctx;

	ts_buf_printf(&t->log, "< %d", x->status);
	log_message(&t->log, &x->message[HTTP_RESP]);
	ts_buf_add(&t->log, "\n", 1);
}

static void log_done(void *ctx, const struct http_exchange *x)
{
	struct talk *t = ctx;

	ts_buf_printf(&t->log, "= %s %s %d", text_of(&x->method), text_of(&x->target), x->status);
	if (x->stream_id)
		ts_buf_printf(&t->log, " #%u", x->stream_id);
	ts_buf_printf(&t->log, "%s%s\n", x->pushed ? " pushed" : "", x->reset ? " reset" : "");
}

static void log_tunnel(void *ctx, const struct http_exchange *x, enum ts_dir dir, const void *data,
		       size_t len, uint64_t nsecs)
{
	struct talk *t = ctx;

	(void)x;
	(void)nsecs;
	if (data)
		ts_buf_printf(&t->log, "%.*s", (int)len, (const char *)data);
	else
		ts_buf_printf(&t->log, "%c%zu missing", dir == TS_IN ? '>' : '<', len);
}

static const struct http_ops log_ops = {
	.request = log_request, .response = log_response, .done = log_done, .tunnel = log_tunnel};

static inline void talk_open(struct talk *t, size_t body)
{
	*t = (struct talk){.now = 1000};
	assert_int_equal(http_open(&t->http, &log_ops, t, body), 0);
}

static inline void talk_feed(struct talk *t, enum ts_dir dir, const void *data, size_t len)
{
	/* Exactly as much memory as there are bytes: a sanitizer sees who reads on. */
	void *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	memcpy(copy, data, len);
	t->now += 10;
	http_feed(t->http, dir, copy, len, t->now - 5, t->now);
	free(copy);
}

static inline char *talk_close(struct talk *t)
{
	http_close(t->http, t->now + 10);
	assert_int_equal(ts_buf_add(&t->log, "", 1), 0);
	return (char *)t->log.data;
}

/* step: bytes a call at most. cut: one call more ends at this byte of the conversation. */
static inline char *talk_of(const struct piece *pieces, size_t step, size_t cut, size_t body)
{
	size_t at, n, total = 0;
	struct talk t;

	talk_open(&t, body);
	for (; pieces->len; pieces++) {
		if (!pieces->data)
			http_gap(t.http, pieces->dir, pieces->len, t.now += 10);
		for (at = 0; pieces->data && at < pieces->len; at += n, total += n) {
			n = pieces->len - at < step ? pieces->len - at : step;
			if (total < cut && cut < total + n)
				n = cut - total;
			talk_feed(&t, pieces->dir, pieces->data + at, n);
		}
	}
	return talk_close(&t);
}

static inline void expect_talk(const struct piece *pieces, const char *want)
{
	char *got = talk_of(pieces, SIZE_MAX, 0, 65536);

	assert_string_equal(got, want);
	free(got);
}

/* The same however it is cut. */
static inline void expect_always(const struct piece *pieces, const char *want)
{
	size_t i, total = 0;
	char *got;

	expect_talk(pieces, want);
	for (i = 0; pieces[i].len; i++)
		total += pieces[i].data ? pieces[i].len : 0;
	for (i = 1; i < total; i++) {
		got = talk_of(pieces, SIZE_MAX, i, 65536);
		assert_string_equal(got, want);
		free(got);
		got = talk_of(pieces, i, 0, 65536);
		assert_string_equal(got, want);
		free(got);
	}
}

#endif
