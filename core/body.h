/* SPDX-License-Identifier: MIT */
/*
 * Bodies as they were before they were encoded for the way: Content-Encoding gzip, deflate (with
 * and without zlib's header), br, zstd, and lists of these. What comes out is bounded, whatever
 * goes in; a body that is only the beginning of one gives the beginning.
 */
#ifndef TLSSCOPE_BODY_H
#define TLSSCOPE_BODY_H

#include "base.h"

enum body_end {
	BODY_WHOLE,   /* it was decoded to its end */
	BODY_CUT,     /* the input ends early, or the output reached `max` */
	BODY_DAMAGED, /* what came out before the damage is there */
	BODY_UNKNOWN, /* an encoding that is not known; nothing is decoded */
};

/*
 * Adds to *out what `data` decodes to, until it has max bytes. encodings: the header's value, in
 * the order in which they were applied; NULL: none. -ENOMEM, else an enum body_end.
 */
int body_decode(struct ts_buf *out, size_t max, const char *encodings, const void *data,
		size_t len);

#endif
