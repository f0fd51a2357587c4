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
	struct host_http *older, *newer;
	uint64_t subs; /* handlers whose filter took something of it */
	/* Its latest call; the head is last, as its size varies. */
	struct stream_message message;
	struct ts_data head;
};

/* One event that runs. */
struct http_firing {
	struct host_http *conn;
	const struct http_exchange *x;
	enum http_event what;
	struct host_handler *handler;
	bool is_where, wanted;
};

/* Pushes the event; it is valid until the firing is over. */
void host_http_push(lua_State *L);

#endif
