/* SPDX-License-Identifier: MIT */
/*
 * What a Go program tells of itself, also when it is stripped: the version from its buildinfo, and
 * its functions from gopclntab, the table that the Go runtime itself unwinds with. Read by
 * descriptor in small windows: memory does not grow with the file.
 */
#ifndef TLSSCOPE_GOBIN_H
#define TLSSCOPE_GOBIN_H

#include "image.h"

struct gobin;

/*
 * A function, from its entry to the end of its last instruction (padding is not part of it). size
 * is 0 where the table does not tell (it has the names of C's functions too). All of it is code.
 */
struct gobin_func {
	char name[256];
	uint64_t addr, size;
	uint64_t pcsp; /* private: where its table of stack depths is */
};

/*
 * The image stays the caller's and must outlive the gobin. 0: built by Go, whether or not its
 * tables can be used (gobin_problem). -ENOENT: not built by Go; -EBADMSG: its buildinfo is of
 * another byte order or pointer size; -EIO, -ENOMEM.
 */
int gobin_open(struct gobin **out, struct image *im, struct ts_err *err);
void gobin_close(struct gobin *g);

const char *gobin_version(const struct gobin *g); /* "go1.19.8"; "" where it is not told */
int gobin_minor(const struct gobin *g);		  /* 19 of go1.19.8; -1: unknown */
/* Built with a profile (-pgo): what was called often is inlined in its callers, however large. */
bool gobin_profiled(const struct gobin *g);
/* Why gopclntab cannot be used, a sentence's part ("its gopclntab has an unknown form"); or NULL.
 */
const char *gobin_problem(const struct gobin *g);

/*
 * Finds functions by name: patterns as fnmatch(3) takes them, without flags. Calls found() once for
 * each function that matches any, in the table's order, with the index of the first pattern that
 * does; a result other than 0 ends the search and is returned. Names that are too long for
 * gobin_func are passed over. -EBADMSG: the table is damaged, or there is a gobin_problem; -EIO.
 */
int gobin_find(struct gobin *g, const char *const *patterns, size_t count,
	       int (*found)(void *ctx, const struct gobin_func *f, size_t pattern), void *ctx);

/*
 * How far the stack pointer is below its value at the function's entry when the instruction at pc
 * runs: 0 at every return. -ENOENT: pc is not the function's; -EBADMSG.
 */
int gobin_depth(struct gobin *g, const struct gobin_func *f, uint64_t pc, int32_t *depth);

#endif
