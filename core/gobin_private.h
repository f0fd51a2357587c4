/* SPDX-License-Identifier: MIT */
/* What the files of gobin share: where the parts of gopclntab are. */
#ifndef TLSSCOPE_GOBIN_PRIVATE_H
#define TLSSCOPE_GOBIN_PRIVATE_H

#include "gobin.h"

/* A name is looked at as far as gobin_func could hold it. */
#define GOBIN_NAME sizeof(((struct gobin_func *)0)->name)
#define GOBIN_WINDOW 65536u

/*
 * Reads that mostly go forward through a part of the file. What lies ahead is read a window at a
 * time, which only moves on; what lies behind is read alone. So however a hostile table jumps,
 * each look costs one short read and all windows together no more than the part itself.
 */
struct gobin_view {
	uint64_t addr;
	size_t len;
	unsigned char *window; /* GOBIN_WINDOW bytes, the first len of which are what is at addr */
	unsigned char behind[GOBIN_NAME];
};

/*
 * gopclntab has an array of (start, where its struct _func is), a half-entry with the end of the
 * last function, and _funcs that say where their names and tables are. Until Go 1.15 all of it is
 * one heap, then it has parts. Invariant once opened: functab lies in funcs, the parts in all.
 */
struct gobin_table {
	struct image_range all, names, pcs, funcs; /* pcs: pcsp and the like */
	uint64_t functab, count;
	uint64_t text;	    /* added to the starts */
	unsigned int width; /* of a start, and of a _func's place: 8, or 4 since Go 1.18 */
	unsigned int step;  /* bytes that table code counts as one: 1, arm64 4 */
};

struct gobin {
	struct image *im;
	char version[GOBIN_NAME];
	int minor;
	bool profiled;
	const char *problem;
	uint64_t scan_left; /* how many bytes may still be searched, for all searches together */
	struct gobin_table table;
	struct gobin_view entries, funcs, names;
};

uint64_t gobin_number(const unsigned char *p, unsigned int width); /* little-endian */

/* Exactly len bytes, relocated. 0, -EBADMSG when they are not all in the file, or -errno. */
int gobin_read(const struct gobin *g, uint64_t addr, void *buf, size_t len);

/* Finds and checks the table, or sets g->problem. 0 for both; -EIO, -ENOMEM. */
int gobin_table_open(struct gobin *g);

#endif
