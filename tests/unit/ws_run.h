/* SPDX-License-Identifier: MIT */
/* A WebSocket behind its upgrade, fed as a server sees it; what comes of it, as text. */
#ifndef TLSSCOPE_TEST_WS_RUN_H
#define TLSSCOPE_TEST_WS_RUN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "ws.h"
#include "ws_make.h"

#define UPGRADE(extensions)                                                                        \
	"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: "                   \
	"Upgrade\r\n" extensions "\r\n"
#define ASK "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
#define PMD "Sec-WebSocket-Extensions: permessage-deflate"

static const char long126[] __attribute__((unused)) =
	"0123456789012345678901234567890123456789012345678901234567890123456789"
	"01234567890123456789012345678901234567890123456789012345";

/* A connection as a server sees it: what a client sends comes in. */
struct socket {
	struct ts_buf log;
	struct http *http;
	struct ws *ws;
	struct ws_memory memory;
	size_t data;
	uint64_t now;
};

static inline void log_ws(void *ctx, const struct ws_message *m)
{
	struct socket *s = ctx;
	size_t shown = m->data.len > 24 ? 24 : m->data.len;

	ts_buf_printf(&s->log, "%c %s", m->dir == TS_IN ? '>' : '<', ws_opcode_name(m->opcode));
	if (m->counted)
		ts_buf_printf(&s->log, " %llu", (unsigned long long)m->len);
	else
		ts_buf_printf(&s->log, " ?");
	if (m->compressed)
		ts_buf_printf(&s->log, "(%llu)", (unsigned long long)m->sent);
	if (m->frames != 1)
		ts_buf_printf(&s->log, "/%u", m->frames);
	if (ws_close_code(m))
		ts_buf_printf(&s->log, " %u", ws_close_code(m));
	else
		ts_buf_printf(&s->log, " [%.*s]", (int)shown, (const char *)m->data.data);
	ts_buf_printf(&s->log, "%s%s%s%s\n", m->truncated ? " truncated" : "", m->gap ? " gap" : "",
		      m->problem ? ": " : "", m->problem ? m->problem : "");
	assert_true(m->data.len <= s->data || m->opcode & 8);
	assert_true(!m->counted || m->data.len <= m->len);
	assert_true(m->truncated || m->data.len == m->len);
}

static inline void on_tunnel(void *ctx, const struct http_exchange *x, enum ts_dir dir,
			     const void *data, size_t len, uint64_t nsecs)
{
	struct socket *s = ctx;

	(void)nsecs;
	assert_true(ws_is_upgrade(x));
	if (!s->ws)
		assert_int_equal(ws_open(&s->ws, &(struct ws_options){.upgrade = x,
								      .data = s->data,
								      .memory = &s->memory,
								      .message = log_ws,
								      .ctx = s}),
				 0);
	ws_feed(s->ws, dir, data, len);
}

static inline void on_over(void *ctx, const struct http_exchange *x)
{
	struct socket *s = ctx;

	(void)x;
	ws_close(s->ws);
}

static inline void open_socket(struct socket *s, const char *answer, size_t data)
{
	static const struct http_ops ops = {.tunnel = on_tunnel, .tunnel_over = on_over};

	*s = (struct socket){.memory = {WS_MEMORY}, .data = data, .now = 100};
	assert_int_equal(http_open(&s->http, &ops, s, 0), 0);
	http_feed(s->http, TS_IN, ASK, sizeof(ASK) - 1, 1, 2);
	http_feed(s->http, TS_OUT, answer, strlen(answer), 3, 4);
}

static inline void feed(struct socket *s, enum ts_dir dir, const void *data, size_t len)
{
	void *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	memcpy(copy, data, len);
	http_feed(s->http, dir, copy, len, s->now, s->now + 1);
	s->now += 2;
	free(copy);
}

/* Feeds and empties it. */
static inline void feed_buf(struct socket *s, enum ts_dir dir, struct ts_buf *b)
{
	feed(s, dir, b->data, b->len);
	ts_buf_free(b);
}

static inline char *end_socket(struct socket *s)
{
	http_close(s->http, s->now);
	assert_int_equal(s->memory.left, WS_MEMORY); /* all was given back */
	assert_int_equal(ts_buf_add(&s->log, "", 1), 0);
	return (char *)s->log.data;
}

static inline void expect_end(struct socket *s, const char *want)
{
	char *got = end_socket(s);

	assert_string_equal(got, want);
	free(got);
}

/* What bytes of one direction become, whole and cut at every place. */
static inline void expect_bytes(const char *answer, enum ts_dir dir, struct ts_buf *b,
				const char *want)
{
	struct socket s;
	size_t i, at, n;

	open_socket(&s, answer, 65536);
	feed(&s, dir, b->data, b->len);
	expect_end(&s, want);
	for (i = 1; i < b->len; i++) {
		open_socket(&s, answer, 65536);
		feed(&s, dir, b->data, i);
		feed(&s, dir, b->data + i, b->len - i);
		expect_end(&s, want);
	}
	for (i = 1; i < b->len && i < 40; i++) {
		open_socket(&s, answer, 65536);
		for (at = 0; at < b->len; at += n) {
			n = b->len - at < i ? b->len - at : i;
			feed(&s, dir, b->data + at, n);
		}
		expect_end(&s, want);
	}
	ts_buf_free(b);
}

static inline void add_compressed(struct ts_buf *b, z_stream *z, unsigned int how, const char *text,
				  size_t len)
{
	static unsigned char out[1 << 20];

	ws_frame_of(b, FIN | RSV1 | 1, how, out, ws_deflate(z, text, len, out, sizeof(out)));
}

#endif
