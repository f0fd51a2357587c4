/* SPDX-License-Identifier: MIT */
/* What the files of the stream share: stream.c (calls, connections), stream_hello.c. */
#ifndef TLSSCOPE_STREAM_PRIVATE_H
#define TLSSCOPE_STREAM_PRIVATE_H

#include "stream.h"

/* Hands over a hello as a message. One that cannot be read is none. */
void stream_hello(const struct stream_ops *ops, void *ctx, const struct ts_hello *r);

#endif
