/* SPDX-License-Identifier: MIT */
/*
 * From the two byte streams of one connection to HTTP exchanges: a request, its response, or what
 * was seen of them. HTTP/1.x and HTTP/2; which one it is, and who is the client, is found out.
 *
 * Where bytes are missing, and on a connection that is older than the first byte seen, reading
 * goes on at the next message (HTTP/1) or frame (HTTP/2) that is surely one. A response is never
 * paired with a request that may be another's: while that is in doubt both are handed over alone.
 *
 * Nothing that is fed can harm: what is kept is bounded (HTTP_TEXT of header fields a message,
 * `body` bytes of each body, HTTP_KEPT of all of a connection, HTTP_OPEN exchanges), the rest is
 * counted and told as partial or truncated.
 */
#ifndef TLSSCOPE_HTTP_H
#define TLSSCOPE_HTTP_H

#include "base.h"

#define HTTP_TEXT (256u << 10)
#define HTTP_KEPT (16u << 20)
#define HTTP_OPEN 1024

enum http_side { HTTP_REQ, HTTP_RESP };

/* Name and value are text.data + name and + value; both end with a NUL that is not counted. */
struct http_field {
	uint32_t name, name_len, value, value_len;
};

struct http_message {
	bool seen;	  /* its header was */
	bool partial;	  /* fields are missing, or trailers may be */
	bool truncated;	  /* body.len < body_len, or the body's end was not seen */
	uint64_t started; /* ns, its first byte; ended: its last one */
	uint64_t ended;
	struct ts_buf text, fields; /* fields: of struct http_field */
	size_t trailers;	    /* fields from this one on are trailers; 0: none */
	struct ts_buf body;	    /* without its framing; encoded as it was sent */
	uint64_t body_len;
};

struct http_exchange {
	struct http_message message[2]; /* by enum http_side */
	enum ts_dir request_dir;
	const char *proto; /* "HTTP/1.0", "HTTP/1.1", "HTTP/2" */
	/* Ended by a NUL that is not counted; data is NULL where unknown. */
	struct ts_buf method, target, authority, scheme;
	struct ts_buf protocol; /* :protocol, of an extended CONNECT (RFC 8441) */
	struct ts_buf reason;	/* of HTTP/1: what follows the status; may be empty */
	int status;		/* 0: unknown */
	uint32_t stream_id;	/* of HTTP/2; else 0 */
	bool pushed;		/* the server sent the request too */
	bool reset;		/* RST_STREAM ended it */

	void *user; /* of whoever has the callbacks */

	bool over[2];		    /* nothing more comes of that message */
	struct http_exchange *next; /* http.c's */
};

/*
 * An exchange is valid during the callback only. request and response come when that message is
 * over, done when both are. tunnel: what follows an Upgrade or CONNECT; may be NULL, as may the
 * rest. tunnel_over: the exchange that it followed is gone. body: bytes of a body as they pass;
 * data is NULL where that many were not seen.
 */
struct http_ops {
	void (*request)(void *ctx, const struct http_exchange *x);
	void (*response)(void *ctx, const struct http_exchange *x);
	void (*done)(void *ctx, const struct http_exchange *x);
	void (*tunnel)(void *ctx, const struct http_exchange *x, enum ts_dir dir, const void *data,
		       size_t len, uint64_t nsecs);
	void (*tunnel_over)(void *ctx, const struct http_exchange *x);
	void (*body)(void *ctx, struct http_exchange *x, enum http_side which, const void *data,
		     size_t len);
};

struct http;
int http_open(struct http **out, const struct http_ops *ops, void *ctx, size_t body);
/* Bytes of one call, which began at `begun` and returned at `nsecs`. */
void http_feed(struct http *h, enum ts_dir dir, const void *data, size_t len, uint64_t begun,
	       uint64_t nsecs);
/* That many bytes of this direction were not seen. */
void http_gap(struct http *h, enum ts_dir dir, uint64_t missing, uint64_t nsecs);
/* The connection ended: hands over what is unfinished. h may be NULL. */
void http_close(struct http *h, uint64_t nsecs);
/* The same where the connection goes on: what is unfinished is truncated. */
void http_abandon(struct http *h, uint64_t nsecs);
/* About how much memory it has. */
size_t http_memory(const struct http *h);
/* From now on that many bytes of a body are kept. */
void http_set_body(struct http *h, size_t body);

/* The n-th field, or NULL. */
const struct http_field *http_field(const struct http_message *m, size_t n);
size_t http_field_count(const struct http_message *m);
/* The value of the first field of that name (in lower case), or NULL; len may be NULL. */
const char *http_value(const struct http_message *m, const char *name, size_t *len);
/* Authority or Host, or NULL. */
const char *http_host(const struct http_exchange *x);

#endif
