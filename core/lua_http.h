/* SPDX-License-Identifier: MIT */
/* What the two files of HTTP in Lua share: lua_http.c runs handlers, lua_http_event.c has what they
 * get. */
#ifndef TLSSCOPE_LUA_HTTP_H
#define TLSSCOPE_LUA_HTTP_H

#include "http.h"
#include "lua_host.h"

/* The connection that a handler of plaintext would see, and its reader. */
struct host_http {
	struct script *s;
	struct http *http;
	struct host_ws *ws;		 /* what HTTP/1 was left for */
	bool tunnel;			 /* and that it was */
	size_t ws_data;			 /* bytes of its messages that somebody wants */
	struct host_http *older, *newer; /* by when they said something last */
	size_t memory;			 /* as it is counted in script.http.memory */
	uint64_t subs;			 /* handlers whose filter took something of it */
	/* Its latest call; the head is last, as its size varies. */
	struct stream_message message;
	struct ts_data head;
};

/* One event that runs. */
struct http_firing {
	struct host_http *conn;
	const struct http_exchange *x;
	enum http_event what;
	const struct ws_message *ws;  /* of ws_message; x is the upgrade */
	const struct grpc_call *grpc; /* of grpc_call */
	struct host_handler *handler;
	bool is_where, wanted;
	/* HTTP_DATA_EVENT: a piece of a body. */
	enum http_side which;
	uint64_t at;
	const void *data;
	size_t len;
};

/* Pushes the event; it is valid until the firing is over. */
void host_http_push(lua_State *L);

/* Runs the handlers of that event; bytes: what counts as its size. */
void host_http_fire(struct http_firing *f, uint64_t bytes);
/* Whether a handler of that event took something of the connection. */
bool host_http_wants(const struct host_http *c, enum http_event what);

/* lua_ws.c. NULL: it is no WebSocket, or nobody wants one. */
struct host_ws *host_ws_open(struct host_http *c, const struct http_exchange *x);
void host_ws_feed(struct host_ws *w, enum ts_dir dir, const void *data, size_t len);
void host_ws_close(struct host_ws *w); /* w may be NULL */
/* Pushes a field of its own; false: of no such name. */
bool host_ws_push(lua_State *L, const struct http_firing *f, const char *name);

/* lua_grpc.c. NULL: no call of gRPC, or nobody wants one. first: bytes of a body that came now. */
struct grpc_call *host_grpc_open(struct host_http *c, const struct http_exchange *x, size_t first);
/* The exchange is done; call: NULL: it had no bodies. */
void host_grpc_done(struct host_http *c, const struct http_exchange *x, struct grpc_call *call);
bool host_grpc_push(lua_State *L, const struct http_firing *f, const char *name);

#endif
