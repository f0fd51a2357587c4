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

/* fd: the map, which is the ring's if this succeeds; size: of its data in bytes. 0 or -errno. */
int tracer_ring_open(struct tracer_ring **out, int fd, size_t size);
void tracer_ring_close(struct tracer_ring *r);

/*
 * Another map, smaller, which samples come to first, and to the one above only where it is full.
 * They are handed over by the times of their records (struct ts_data, or others that begin as it
 * does); what has one time is in one map. As above.
 */
int tracer_ring_precede(struct tracer_ring *r, int fd, size_t size);

/*
 * Goes on in another map, once all that is in the present one was handed over: before the next poll
 * samples must come to the other one only. As above.
 */
int tracer_ring_follow(struct tracer_ring *r, int fd, size_t size);
bool tracer_ring_moves(const struct tracer_ring *r); /* it has yet to; then it cannot follow */
void tracer_ring_stay(struct tracer_ring *r);	     /* it shall not, after all */
size_t tracer_ring_size(const struct tracer_ring *r);
/* Bytes that waited at the last poll's beginning or its end, whichever were more. */
size_t tracer_ring_used(const struct tracer_ring *r);

/* Maps, one of which is readable when samples come; below 0: there is none. */
#define TRACER_RING_FDS 2
void tracer_ring_fds(const struct tracer_ring *r, int fds[TRACER_RING_FDS]);

/*
 * Hands over the samples that are there, `budget` at most: a sample is `take`'s until it returns,
 * and other than 0 ends it. Returns how many there were, or what `take` returned below 0.
 */
int tracer_ring_poll(struct tracer_ring *r, unsigned int budget,
		     int (*take)(void *ctx, const void *sample, size_t size), void *ctx);

#endif
