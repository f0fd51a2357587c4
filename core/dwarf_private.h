/* SPDX-License-Identifier: MIT */
/* What is asked of the process that reads debugging information, and what it answers. */
#ifndef TLSSCOPE_DWARF_PRIVATE_H
#define TLSSCOPE_DWARF_PRIVATE_H

#include "dwarf.h"

struct dwarf_question {
	char unit[256];
	char name[256];	  /* of a function; with a member: of a struct */
	char member[256]; /* "": a function is asked for */
};

struct dwarf_answer {
	int64_t ret;	/* 0 or -errno */
	uint64_t value; /* a function's address, or a member's offset */
	uint64_t size;	/* a function's */
};

/* The sections that are read, and no others; the first two must be there. */
#define DWARF_SECTIONS 6
#define DWARF_NEEDED 2
extern const char *const dwarf_sections[DWARF_SECTIONS];

/* Needs the image while it is open. max: how many bytes all sections together may take. */
struct dwarf_reader;
int dwarf_reader_open(struct dwarf_reader **out, struct image *im, uint64_t max);
void dwarf_reader_close(struct dwarf_reader *r);
void dwarf_reader_ask(struct dwarf_reader *r, const struct dwarf_question *q,
		      struct dwarf_answer *a);

#endif
