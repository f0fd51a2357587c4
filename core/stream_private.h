/* SPDX-License-Identifier: MIT */
/*
 * What the files of the stream share: stream.c (calls, connections), stream_hello.c,
 * stream_sources.c.
 */
#ifndef TLSSCOPE_STREAM_PRIVATE_H
#define TLSSCOPE_STREAM_PRIVATE_H

#include "base.h"
#include "stream.h"

/* Hands over a hello as a message. One that cannot be read is none. */
void stream_hello(const struct stream_ops *ops, void *ctx, const struct ts_hello *r);

/* By number; bytes: of their names. Zeroed, there are none. */
struct stream_sources {
	struct ts_map map;
	size_t bytes;
};

/* 0, also where it is known already; -ENOMEM; -EBADMSG: there are too many. */
int stream_add_source(struct stream_sources *s, const struct rec_source *r);
const struct stream_source *stream_find_source(const struct stream_sources *s,
					       uint32_t id); /* or NULL */
void stream_free_sources(struct stream_sources *s);

#endif
