/* SPDX-License-Identifier: MIT */
/*
 * The one table of everything that users can name: events, fields, options, functions. Listings,
 * checks with "did you mean", the man page's tables and the Lua checks all read it.
 */
#ifndef TLSSCOPE_API_H
#define TLSSCOPE_API_H

#include <stddef.h>

enum api_kind {
	API_PROBE,	   /* ssl_read, tls_data: an event that a probe brings */
	API_EVENT,	   /* start, stop, lost, ...: the tool's own events; type: their fields */
	API_FIELD,	   /* of an event */
	API_CONN,	   /* of e.conn */
	API_PROC,	   /* of e.proc */
	API_CONTAINER,	   /* of e.proc.container */
	API_OPTION,	   /* of a handler: on.NAME{...} */
	API_TARGET,	   /* of target{}; options and the command line take them too */
	API_CONFIG,	   /* of config{} */
	API_AGGREGATION,   /* count, sum, ... */
	API_METHOD,	   /* of an aggregation or of a handle */
	API_FUNCTION,	   /* a global function */
	API_AGG_OPTION,	   /* of an aggregation, beside those of a handler */
	API_STREAM_OPTION, /* of stream{}, beside those of a handler */
	API_HTTP,	   /* http, ws_message, ...: events made of all plaintext */
	API_HTTP_FIELD,	   /* of http, http_request, http_response */
	API_HTTP_MESSAGE,  /* of e.request and e.response */
	API_WS_FIELD,	   /* of ws_message */
	API_GRPC_FIELD,	   /* of grpc_call */
	API_CLI_WHO, /* options of the command line: who is traced; type: how they are written */
	API_CLI_OUTPUT,
	API_CLI_LOOK,
	API_CLI_SCRIPT,
	API_KINDS
};

struct api_entry {
	enum api_kind kind;
	const char *name;
	const char *type; /* "integer", "string|nil", "function(name, opts)" */
	const char *help; /* one line */
};

extern const struct api_entry api_table[];
extern const size_t api_count;

/* "probe", "event", "field", ...: what an entry is called in a message. */
const char *api_kind_name(enum api_kind kind);

/* The entry, or NULL. */
const struct api_entry *api_find(enum api_kind kind, const char *name);
/* The nearest name of that kind, or NULL. */
const char *api_nearest(enum api_kind kind, const char *name);

#endif
