/* SPDX-License-Identifier: MIT */
/* What the files of the room share: ws.c makes messages, ws_frame.c reads a frame's head and finds
 * frames again, ws_inflate.c decompresses. */
#ifndef TLSSCOPE_WS_PRIVATE_H
#define TLSSCOPE_WS_PRIVATE_H

#include <zlib.h>

#include "ws.h"

/* ws_frame.c */
#define WS_HEAD 14 /* bytes that a head has at most */

struct ws_frame {
	unsigned int opcode, rsv; /* rsv: bit 2 is RSV1 */
	bool fin, masked;
	bool longer; /* the length is not in its shortest form */
	uint64_t len;
	unsigned char mask[4];
};
/* Bytes of the head that data begins with; 0: there are more to come. */
size_t ws_frame_head(struct ws_frame *f, const unsigned char *data, size_t len);
void ws_unmask(const struct ws_frame *f, size_t at, unsigned char *to, const unsigned char *from,
	       size_t len);

/* UTF-8 in pieces. {0} is the beginning; whole when left is 0 and it is not bad. */
struct ws_utf8 {
	unsigned char left, low, high;
	bool bad;
};
void ws_utf8_feed(struct ws_utf8 *u, const unsigned char *data, size_t len);
bool ws_close_code_valid(unsigned int code);

#define WS_HELD (64u << 10)
#define WS_CALLS 32

/* What calls brought while it was not known where a frame begins. */
struct ws_held {
	struct ts_buf bytes;
	size_t calls[WS_CALLS]; /* where each begins */
	unsigned int count;
};
/*
 * Whether frames surely begin at one of the calls; then the bytes begin there. What can be no
 * beginning is dropped. masked: frames of this direction are; deflate: RSV1 has a meaning.
 */
bool ws_find(struct ws_held *held, bool masked, bool deflate);

/* ws_inflate.c */
struct ws_deflate {
	bool on;
	bool takeover[2]; /* by enum http_side: who compresses */
	int bits[2];
};
void ws_read_extensions(struct ws_deflate *d, const struct http_message *response);

struct ws_inflater {
	z_stream z;
	bool open, takeover;
	int bits;
	uint64_t in, out; /* of this message */
	struct ws_memory *memory;
};
typedef void (*ws_inflated)(void *ctx, const unsigned char *data, size_t len);
/* Bytes of a message. NULL: fine; else why it cannot be read on, and its window is forgotten. */
const char *ws_inflate(struct ws_inflater *i, const unsigned char *data, size_t len,
		       ws_inflated out, void *ctx);
/* The message ends; the same. */
const char *ws_inflate_end(struct ws_inflater *i, ws_inflated out, void *ctx);
void ws_inflate_forget(struct ws_inflater *i);

#endif
