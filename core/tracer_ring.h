/* SPDX-License-Identifier: MIT */
/*
 * The consumer's end of a BPF ring buffer (linux/bpf.h, BPF_MAP_TYPE_RINGBUF). libbpf maps its data
 * twice in a row, so that no sample is in two pieces; here it is mapped once, which halves the
 * memory that the ring takes of this process, and the seldom sample that lies around its end is
 * joined.
 */
#ifndef TLSSCOPE_TRACER_RING_H
#define TLSSCOPE_TRACER_RING_H

#include "base.h"

struct tracer_ring;

/* fd: the map, which stays the caller's; size: of its data in bytes. 0 or -errno. */
int tracer_ring_open(struct tracer_ring **out, int fd, size_t size);
void tracer_ring_close(struct tracer_ring *r);
int tracer_ring_fd(const struct tracer_ring *r); /* the map, which is readable when samples wait */

/*
 * Hands over the samples that are there, `budget` at most: a sample is `take`'s until it returns,
 * and other than 0 ends it. Returns how many there were, or what `take` returned below 0.
 */
int tracer_ring_poll(struct tracer_ring *r, unsigned int budget,
		     int (*take)(void *ctx, const void *sample, size_t size), void *ctx);

#endif
