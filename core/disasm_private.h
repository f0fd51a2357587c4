/* SPDX-License-Identifier: MIT */
/* What the files of disasm share: one function's code, decoded instruction by instruction. */
#ifndef TLSSCOPE_DISASM_PRIVATE_H
#define TLSSCOPE_DISASM_PRIVATE_H

#include <capstone/capstone.h>

#include "disasm.h"

enum {
	BYTE_START = 1,	 /* an instruction begins here */
	BYTE_TARGET = 2, /* a direct jump or call within the function leads here */
	BYTE_FREE = 4	 /* this bit and those above it are the caller's */
};

struct code {
	struct image *im;
	cs_arch arch;
	csh cs;
	cs_insn *insn; /* the one that is visited */
	uint64_t addr;
	size_t size;
	uint8_t *bytes, *marks; /* marks has BYTE_* for each of bytes */
	bool computed;		/* jumps to computed places: any instruction may be a target */
};

/* Where an instruction may go, other than to the next one. */
struct flow {
	bool call, jump, ret;
	bool end;     /* never to the next one */
	bool trap;    /* ends the program, or stops it for a debugger */
	bool unknown; /* goes to the next one, but may change any register */
	bool direct;  /* call or jump: to target, which else is unknown */
	uint64_t target;
};

typedef int (*disasm_visit)(struct code *c, const struct flow *f, void *ctx);

/* Reads a function's code, checks that it is sound and marks it, then calls fn on it. */
int disasm_run(struct image *im, const struct image_symbol *sym,
	       int (*fn)(struct code *c, void *out), void *out);
/* Decodes the instruction at this offset of the code into c->insn. -EBADMSG: cannot. */
int disasm_decode(struct code *c, size_t at, struct flow *f);
/* The n-th register that c->insn may change (every one that it names counts); false: no more. */
bool disasm_touched(const struct code *c, size_t n, unsigned int *reg);
/* Visits the instructions in order, until one's visit returns something else than 0. */
int disasm_walk(struct code *c, disasm_visit visit, void *ctx);

static inline size_t disasm_at(const struct code *c)
{
	return (size_t)(c->insn->address - c->addr);
}

static inline bool disasm_inside(const struct code *c, uint64_t addr)
{
	return addr >= c->addr && addr - c->addr < c->size;
}

#endif
