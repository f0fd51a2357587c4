/* SPDX-License-Identifier: MIT */
/* What the files of the room share: http.c finds the protocol, http_message.c keeps, http_h1.c and
 * http_pair.c are HTTP/1, http_h2.c and http_hpack.c HTTP/2, http_find.c tells a beginning. */
#ifndef TLSSCOPE_HTTP_PRIVATE_H
#define TLSSCOPE_HTTP_PRIVATE_H

#include <http_parser.h>

#include "http.h"

#define HELD_MAX (64u << 10) /* bytes that wait until it is known what they are */

/* Where a direction stands. */
enum state {
	FINDING, /* looks for a beginning */
	RUNNING,
	WAITING, /* HTTP/1: a request that may end HTTP was sent, or no request is known yet */
};

/* One direction as HTTP/1. The message at hand is `m` until its header is complete, then x has it.
 */
struct h1_side {
	http_parser parser;
	bool begun; /* in a message */
	bool skip;  /* what comes stands for bytes that were not seen */
	bool is_name, folded, indent;
	const char *end; /* of what the parser is given now */
	struct http_message m;
	struct ts_buf name, value, target;
	struct http_exchange *x;
	uint64_t left; /* of the body, or the chunk, to come; UINT64_MAX: until the end */
	struct http_exchange *upgrade; /* the request after which it waits */
};

/* One direction as HTTP/2. */
struct h2_side {
	struct hpack *hpack; /* NULL: none was needed yet */
	unsigned char head[9];
	unsigned int have; /* bytes of head */
	uint32_t left, stream, pad;
	unsigned char type, flags;
	bool pad_known;	     /* of DATA: its first byte was seen */
	struct ts_buf frame; /* payload, of what is not DATA */
	bool too_long;	     /* and was not kept */
	struct ts_buf block; /* header block until END_HEADERS */
	uint32_t block_stream, promised;
	unsigned char block_flags;
};

struct side {
	enum state state;
	bool gone; /* bytes of it were not seen, or not understood */
	struct ts_buf held;
	uint64_t held_at;
	size_t looked; /* HTTP/2: so many held bytes are worth another look */
	struct h1_side h1;
	struct h2_side h2;
};

struct http {
	struct http_ops ops;
	void *ctx;
	size_t body, kept;
	enum mode { UNKNOWN, HTTP1, HTTP2, TUNNEL } mode;
	bool roles;	    /* client is known */
	enum ts_dir client; /* the direction of requests */
	uint64_t now;
	struct side side[2]; /* by enum ts_dir */

	/* HTTP/1: requests without a response, oldest first. */
	struct {
		struct http_exchange *first, **last;
		size_t count;
		bool doubt;	      /* which request a response answers is not known */
		size_t sure;	      /* in doubt: of so many at the front it is */
		bool pipelined;	      /* requests were seen not to wait for responses */
		bool asked, answered; /* in doubt: a request alone, its response */
	} queue;
	bool upgraded, resumed;
	struct http_exchange *tunnel;  /* what began another protocol; kept to the end */
	struct http_exchange *adopted; /* or HTTP/2, as its first stream */

	/* HTTP/2 */
	struct ts_map streams;
	struct http_exchange *oldest, **newest;
	uint32_t last_request;
	uint32_t resets[64];
	unsigned int resets_count;
};

static inline struct side *side_of(struct http *h, enum http_side which)
{
	return &h->side[which == HTTP_REQ ? h->client : !h->client];
}

/* http_message.c */
/* false: it was not kept, as there is no room or no memory. */
bool http_keep(struct http *h, struct ts_buf *b, const void *data, size_t len);
void http_drop(struct http *h, struct ts_buf *b);
struct http_exchange *http_new(struct http *h, const char *proto); /* NULL: no memory */
/* Adds a field; what does not fit makes the message partial. */
void http_add_field(struct http *h, struct http_message *m, const void *name, size_t name_len,
		    const void *value, size_t value_len);
/* Bytes of a body; data is NULL: they were not seen. */
void http_add_body(struct http *h, struct http_exchange *x, enum http_side which, const void *data,
		   uint64_t len);
/* Sets a text of an exchange; ended by a NUL. */
void http_set_text(struct http *h, struct ts_buf *b, const void *text, size_t len);
/* Whether the body is as long as the header says. */
bool http_is_whole(const struct http_message *m);
void http_message_drop(struct http *h, struct http_message *m);
/* Nothing more comes of that message; after both the exchange is handed over and gone. */
void http_over(struct http *h, struct http_exchange *x, enum http_side which);
void http_free(struct http *h, struct http_exchange *x);

/* http_find.c: what stands at the beginning of data. */
enum found { FOUND_NOTHING, FOUND_PART, FOUND_REQUEST, FOUND_RESPONSE };
enum found http_find_line(const unsigned char *data, size_t len);
#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
/* Whether data begins with the preface: FOUND_REQUEST, FOUND_PART or FOUND_NOTHING. */
enum found http_find_preface(const unsigned char *data, size_t len);
/* Whether frames follow each other here; FOUND_REQUEST: they do. */
enum found http_find_frames(const unsigned char *data, size_t len);
/* Whether data begins with a server's first frame. */
enum found http_find_settings(const unsigned char *data, size_t len);
/* Whether the nine bytes can be a frame's. */
bool http_frame_possible(const unsigned char head[9]);

/* http_h1.c, http_h2.c. h1_feed and h2_feed return the bytes used: all, or those before what is
 * another protocol's, has to wait, or cannot be understood. */
size_t h1_feed(struct http *h, enum ts_dir dir, const unsigned char *data, size_t len);
void h1_start(struct http *h, enum ts_dir dir);
void h1_gap(struct http *h, enum ts_dir dir, uint64_t missing);
void h1_close(struct http *h, bool end);
void h1_lose(struct http *h, enum ts_dir dir); /* this direction is not in step any more */

/* http_pair.c */
void pair_request(struct http *h, struct http_exchange *x);
struct http_exchange *pair_response(struct http *h); /* NULL: no memory */
void pair_answered(struct http *h);		     /* a response ended */
void pair_doubt(struct http *h, enum http_side lost);
void pair_close(struct http *h);

/* http_h2.c */
size_t h2_feed(struct http *h, enum ts_dir dir, const unsigned char *data, size_t len);
void h2_start(struct http *h, enum ts_dir dir, bool fresh);
void h2_adopt(struct http *h, struct http_exchange *x); /* becomes stream 1 */
void h2_gap(struct http *h, enum ts_dir dir, uint64_t missing);
void h2_close(struct http *h);

/* http_hpack.c. fresh: from the connection's beginning; else the table has unknown entries. */
struct hpack;
struct hpack *hpack_open(bool fresh);
void hpack_close(struct hpack *p);
size_t hpack_memory(const struct hpack *p); /* about; p may be NULL */
/*
 * Decodes a whole block. Fields whose name or value is unknown come with name NULL. false: the
 * block is damaged, and with it the table.
 */
typedef void (*hpack_field)(void *ctx, const char *name, size_t name_len, const char *value,
			    size_t value_len);
bool hpack_decode(struct hpack *p, const unsigned char *data, size_t len, hpack_field field,
		  void *ctx);

#endif
