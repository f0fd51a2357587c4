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
/*
 * The same for code that is not looked at from its beginning to its end: fn finds its way by
 * itself. A symbol without a size: up to so many bytes, as far as there is code.
 */
int disasm_run_open(struct image *im, const struct image_symbol *sym, size_t most,
		    int (*fn)(struct code *c, void *out), void *out);
/* Decodes the instruction at this offset of the code into c->insn. -EBADMSG: cannot. */
int disasm_decode(struct code *c, size_t at, struct flow *f);
/* The n-th register that c->insn may change (every one that it names counts); false: no more. */
bool disasm_touched(const struct code *c, size_t n, unsigned int *reg);
/*
 * A general register's number, as instructions have it, and the size of its part that `reg` is;
 * DISASM_REGISTERS: it is none of them.
 */
#define DISASM_REGISTERS 32
size_t disasm_slot(const struct code *c, unsigned int reg, uint8_t *size);
/* Visits the instructions in order, until one's visit returns something else than 0. */
int disasm_walk(struct code *c, disasm_visit visit, void *ctx);

/* What is known where an instruction begins. Depths: the stack pointer, less the function's first.
 */
#define DISASM_UNKNOWN INT32_MIN
struct disasm_path {
	int32_t depth;
	int32_t frame; /* where the frame's register points, in the same way */
	bool framed;   /* on the way the stack was deeper, or not known */
	bool seen;     /* a way leads here */
};

/* What a decoded instruction changes of it. */
void disasm_stack(const struct code *c, const struct flow *f, struct disasm_path *p);
/*
 * Walks all ways from the beginning of code that disasm_run_open read, and marks it: BYTE_START
 * only where a way leads. paths: one for each byte. -EXDEV: it has parts elsewhere; -EBADMSG.
 */
int disasm_explore(struct code *c, struct disasm_path *paths);

/* Whether kernels emulate c->insn; and the registers that it may change: bits, numbered as
 * instructions do. disasm_entry.c */
bool disasm_emulated(const struct code *c);
uint32_t disasm_changed(const struct code *c);

static inline size_t disasm_at(const struct code *c)
{
	return (size_t)(c->insn->address - c->addr);
}

static inline bool disasm_inside(const struct code *c, uint64_t addr)
{
	return addr >= c->addr && addr - c->addr < c->size;
}

#endif
