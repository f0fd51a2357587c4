/* SPDX-License-Identifier: MIT */
/* Makes HTTP/2: frames by hand, header blocks with nghttp2's encoder. */
#ifndef TLSSCOPE_TEST_HTTP2_MAKE_H
#define TLSSCOPE_TEST_HTTP2_MAKE_H

#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
enum { H2_DATA, H2_HEADERS, H2_PRIORITY, H2_RST, H2_SETTINGS, H2_PUSH, H2_PING, H2_GOAWAY };
enum { H2_WINDOW = 8, H2_CONTINUATION = 9 };
enum { H2_END_STREAM = 1, H2_END_HEADERS = 4, H2_PADDED = 8, H2_PRIORITIZED = 32 };

/* One direction: its bytes, and its encoder. */
struct h2_end {
	struct ts_buf out;
	nghttp2_hd_deflater *hd;
};

static inline void h2_open(struct h2_end *e)
{
	*e = (struct h2_end){0};
	if (nghttp2_hd_deflate_new(&e->hd, 4096))
		abort();
}

static inline void h2_free(struct h2_end *e)
{
	nghttp2_hd_deflate_del(e->hd);
	ts_buf_free(&e->out);
}

static inline void h2_frame(struct h2_end *e, unsigned int type, unsigned int flags,
			    uint32_t stream, const void *payload, size_t len)
{
	unsigned char head[9] = {(unsigned char)(len >> 16),
				 (unsigned char)(len >> 8),
				 (unsigned char)len,
				 (unsigned char)type,
				 (unsigned char)flags,
				 (unsigned char)(stream >> 24),
				 (unsigned char)(stream >> 16),
				 (unsigned char)(stream >> 8),
				 (unsigned char)stream};

	if (ts_buf_add(&e->out, head, sizeof(head)) || ts_buf_add(&e->out, payload, len))
		abort();
}

/* text: "name value|name value". Returns the bytes. */
static inline size_t h2_block(struct h2_end *e, const char *text, unsigned char *out, size_t size)
{
	char copy[8192], *at = copy, *field, *space;
	nghttp2_nv nv[64];
	size_t n = 0;
	ssize_t len;

	if (!ts_copy(copy, sizeof(copy), text))
		abort();
	while ((field = strsep(&at, "|")) && *field) {
		space = strchr(field, ' ');
		*space = 0;
		nv[n++] = (nghttp2_nv){(uint8_t *)field, (uint8_t *)space + 1, strlen(field),
				       strlen(space + 1), NGHTTP2_NV_FLAG_NONE};
	}
	len = nghttp2_hd_deflate_hd(e->hd, out, size, nv, n);
	if (len < 0)
		abort();
	return (size_t)len;
}

static inline void h2_headers(struct h2_end *e, uint32_t stream, unsigned int flags,
			      const char *text)
{
	unsigned char block[16384];

	h2_frame(e, H2_HEADERS, flags | H2_END_HEADERS, stream, block,
		 h2_block(e, text, block, sizeof(block)));
}

static inline void h2_data(struct h2_end *e, uint32_t stream, unsigned int flags, const char *text)
{
	h2_frame(e, H2_DATA, flags, stream, text, strlen(text));
}

#endif
