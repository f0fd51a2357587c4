/* SPDX-License-Identifier: MIT */
/*
 * A gRPC call, from its HTTP/2 exchange: how many messages were sent each way and how long they
 * are, as the bodies pass; and what the headers say. gRPC over HTTP/2 only, not gRPC-Web.
 */
#ifndef TLSSCOPE_GRPC_H
#define TLSSCOPE_GRPC_H

#include "http.h"

#define GRPC_LENS 1024

/* The messages of one direction. {0} is the beginning. */
struct grpc_side {
	uint64_t count, len; /* whole messages, and their bytes without the five before each */
	struct ts_buf lens;  /* of uint32_t: of the first GRPC_LENS messages */
	bool compressed;     /* one at least */
	bool partial;	     /* messages may be missing, or something of the last one */

	unsigned char head[5];
	unsigned int have; /* bytes of head */
	uint32_t left;	   /* bytes of the message to come */
};

struct grpc_call {
	struct grpc_side side[2]; /* by enum http_side */
};

/* Whether its headers say that it is gRPC. */
bool grpc_is_call(const struct http_exchange *x);
/* Bytes of a body; NULL: that many were not seen. */
void grpc_feed(struct grpc_side *s, const void *data, size_t len);
/* Nothing more comes of it. */
void grpc_end(struct grpc_side *s);
void grpc_free(struct grpc_call *c);

/* The name of the method, in the exchange's target; NULL: it is none. len: of the service's name.
 */
const char *grpc_method(const struct http_exchange *x, const char **service, size_t *service_len);
/* grpc-status, or -1. */
int grpc_status(const struct http_exchange *x);
const char *grpc_status_name(int status); /* "OK", "NOT_FOUND", ...; NULL: there is none */
/* Adds grpc-message, decoded; false: there is none. */
bool grpc_status_message(const struct http_exchange *x, struct ts_buf *out);
/* ns that the client gives the call; 0: it does not say, or what it says is none; INT64_MAX at
 * most. */
uint64_t grpc_timeout(const struct http_exchange *x);

#endif
