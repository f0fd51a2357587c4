/* SPDX-License-Identifier: MIT */
/* Makes frames of WebSockets, and compresses what is in them. */
#ifndef TLSSCOPE_TEST_WS_MAKE_H
#define TLSSCOPE_TEST_WS_MAKE_H

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base.h"

enum { FIN = 0x80, RSV1 = 0x40, RSV2 = 0x20 };
enum { MASKED = 1, LONG16 = 2, LONG64 = 4 };

static inline void ws_frame_of(struct ts_buf *to, unsigned int first, unsigned int how,
			       const void *payload, size_t len)
{
	static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
	unsigned char head[10] = {(unsigned char)first}, c;
	size_t i, more = how & LONG64 || len > 65535 ? 8 : how & LONG16 || len > 125 ? 2 : 0;

	head[1] = (unsigned char)((how & MASKED ? 0x80 : 0) | (more == 8   ? 127
							       : more == 2 ? 126
									   : (int)len));
	for (i = 0; i < more; i++)
		head[2 + i] = (unsigned char)((uint64_t)len >> 8 * (more - 1 - i));
	if (ts_buf_add(to, head, 2 + more) || (how & MASKED && ts_buf_add(to, mask, 4)))
		abort();
	for (i = 0; i < len; i++) {
		c = (unsigned char)(((const unsigned char *)payload)[i] ^
				    (how & MASKED ? mask[i % 4] : 0));
		if (ts_buf_add(to, &c, 1))
			abort();
	}
}

/* One end's compressor; bits: of its window. */
static inline void ws_deflate_open(z_stream *z, int bits)
{
	*z = (z_stream){0};
	if (deflateInit2(z, 9, Z_DEFLATED, -bits, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		abort();
}

/* What RFC 7692 makes of a message. */
static inline size_t ws_deflate(z_stream *z, const void *data, size_t len, unsigned char *out,
				size_t size)
{
	z->next_in = (Bytef *)data;
	z->avail_in = (uInt)len;
	z->next_out = out;
	z->avail_out = (uInt)size;
	if (deflate(z, Z_SYNC_FLUSH) != Z_OK || !z->avail_out)
		abort();
	return size - z->avail_out - 4;
}

#endif
