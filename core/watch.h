/* SPDX-License-Identifier: MIT */
/*
 * New executable mappings of all processes, by event (the kernel's perf side-band records), without
 * polling.
 */
#ifndef TLSSCOPE_WATCH_H
#define TLSSCOPE_WATCH_H

#include "proc.h"

struct watch;
struct watch_ops {
	/* A file was mapped executable. path is what the kernel shows; dev and inode are the
	 * file's. */
	void (*mapped)(void *ctx, uint32_t pid, const struct proc_map *map, uint64_t generation);
	void (*lost)(void *ctx, uint64_t records); /* some were missed: scan /proc again */
};
int watch_open(struct watch **out, const struct watch_ops *ops, void *ctx, struct ts_err *err);
void watch_close(struct watch *w);
int watch_fd(const struct watch *w); /* readable when there is something */
void watch_poll(struct watch *w);    /* calls the ops for all that is there */

#endif
