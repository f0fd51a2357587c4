/* SPDX-License-Identifier: MIT */
/*
 * The messages of a WebSocket (RFC 6455), from the bytes of both directions after its upgrade:
 * frames put together, unmasked, decompressed (permessage-deflate, RFC 7692). It is an observer:
 * what an endpoint would end the connection for is told as a message's `problem`.
 *
 * Where bytes are missing inside a frame's payload, its message is truncated and reading goes on.
 * Else the direction is searched for calls that begin with frames which follow each other, and end
 * where calls do; what came before is dropped, and the first message after it has `gap`. What a
 * message was compressed with from earlier ones that were not seen is never guessed: zlib refuses a
 * distance that goes back before what it was given.
 *
 * Bounded: `data` bytes of a message are kept, HELD bytes of a direction that is searched; and of
 * all WebSockets with the same memory no more than that has, windows of decompression included.
 * What a message decompresses to is looked at as far as 16 MiB and sixteen times what was sent.
 */
#ifndef TLSSCOPE_WS_H
#define TLSSCOPE_WS_H

#include "http.h"

#define WS_MEMORY (256u << 20)

enum ws_opcode { WS_CONTINUATION, WS_TEXT, WS_BINARY, WS_CLOSE = 8, WS_PING, WS_PONG };

struct ws_message {
	enum ts_dir dir;
	unsigned int opcode; /* any of 0 to 15 that was sent */
	unsigned int frames;
	uint64_t sent;	    /* bytes of payload as they were sent */
	uint64_t len;	    /* the same, decompressed; where `counted` */
	struct ts_buf data; /* its beginning, decompressed */
	bool compressed;
	bool counted;
	bool truncated;	     /* data.len < len, or not all of it was seen or could be read */
	bool gap;	     /* before it, messages of this direction may be missing */
	const char *problem; /* what the RFC forbids, or why data is missing; NULL: nothing */
};

/* Bytes that may still be used. */
struct ws_memory {
	size_t left;
};

struct ws_options {
	/* Its response says which extensions there are; who sent the request masks. */
	const struct http_exchange *upgrade;
	size_t data;
	struct ws_memory *memory; /* outlives the reader */
	/* The message is valid during the call only. */
	void (*message)(void *ctx, const struct ws_message *m);
	void *ctx;
};

struct ws;
/* Whether that exchange was the upgrade to a WebSocket (RFC 6455, or RFC 8441 on HTTP/2). */
bool ws_is_upgrade(const struct http_exchange *x);
int ws_open(struct ws **out, const struct ws_options *o);
/* Bytes of one call; NULL: that many were not seen. */
void ws_feed(struct ws *w, enum ts_dir dir, const void *data, size_t len);
void ws_set_data(struct ws *w, size_t data);
/* Hands over what is unfinished. w may be NULL. */
void ws_close(struct ws *w);

/* "text", "close", ...; "reserved". */
const char *ws_opcode_name(unsigned int opcode);
/* The code of a close message; 0: it has none. Its reason follows the data's first two bytes. */
unsigned int ws_close_code(const struct ws_message *m);

#endif
