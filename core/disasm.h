/* SPDX-License-Identifier: MIT */
/*
 * What a function's code tells: whom it calls and with what. Answers are proofs, not guesses: code
 * that cannot be decoded to its end yields no answer.
 */
#ifndef TLSSCOPE_DISASM_H
#define TLSSCOPE_DISASM_H

#include "image.h"

#define DISASM_MAX_CALLS 64

struct disasm_call {
	uint64_t target;
	bool jump; /* a jump out of the function: a tail call */
	/*
	 * The integer argument registers (bit 0 is argument 1) that, in the straight line of code
	 * that ends at this call, were last set to an address in the caller's stack frame.
	 */
	uint8_t stack_args;
};

struct disasm_calls {
	struct disasm_call calls[DISASM_MAX_CALLS];
	size_t count;
	bool indirect; /* calls or jumps out through a register or memory too */
};

/*
 * The direct calls and tail jumps of the function at sym, in the order of its code. -EBADMSG: the
 * code does not decode to exactly the symbol's end; -ENOENT: no size; -E2BIG: too many or too long.
 */
int disasm_calls(struct image *im, const struct image_symbol *sym, struct disasm_calls *out);

/*
 * Where the function's first argument points, how far into it lies the 32-bit counter that the
 * function changes atomically. x86_64 only (elsewhere the change may be a call). Errors as above;
 * -ENOENT also when there is none.
 */
int disasm_counter(struct image *im, const struct image_symbol *sym, int32_t *offset);

/* What an accessor gives: the value that `walk` leads to from its first argument. */
struct disasm_accessor {
	struct ts_walk walk;
	uint8_t size;	     /* bytes of the last load: 1, 2, 4 or 8 */
	struct ts_walk zero; /* steps above 0: only where the 4 bytes there are 0 */
};

/*
 * What of its first argument's memory the function returns, or, for an `out` above 0, stores where
 * its argument of this number points. On all of its paths it is this, or nothing of that memory (a
 * constant, or what another function returned). Errors as above; -E2BIG also: too many paths;
 * -ENOENT also: never any of it, or jumps to computed places; -ENOTUNIQ: now this, now that.
 */
int disasm_accessor(struct image *im, const struct image_symbol *sym, unsigned int out,
		    struct disasm_accessor *accessor);

/* The same of a function that returns now this, now that: what the fewest steps lead to. */
int disasm_nearest(struct image *im, const struct image_symbol *sym,
		   struct disasm_accessor *accessor);

#define DISASM_MAX_PLACES 64

/* Instructions of a function. */
struct disasm_places {
	uint64_t addrs[DISASM_MAX_PLACES];
	size_t count;
};

/*
 * Every instruction by which the function returns to its caller, so that probes at all of them see
 * each return once. Errors as above; -EXDEV: it may also leave by a jump out of it; -ENOENT also
 * when it never returns.
 */
int disasm_returns(struct image *im, const struct image_symbol *sym, struct disasm_places *out);

/*
 * An instruction near a function's beginning that every call passes once, on its way from there in
 * a straight line, and that kernels emulate: they step over others, which takes many times as long.
 */
struct disasm_entry {
	uint64_t addr;
	/*
	 * Registers that hold what they held at the beginning: bits, numbered as instructions do.
	 * The stack pointer counts as one.
	 */
	uint32_t intact;
	int32_t depth; /* the stack pointer, less what it was at the beginning */
	bool returns;  /* a uretprobe finds the return address, as at the beginning */
	bool stores;   /* memory may have been written, other than by a push */
	char name[12]; /* the instruction's */
};

#define DISASM_MAX_ENTRIES 4
struct disasm_entries {
	struct disasm_entry at[DISASM_MAX_ENTRIES]; /* in the order of the code */
	size_t count;
};

/*
 * The symbol's size may be 0: not known. Errors as above; -ENOENT also when there is none. The
 * function's own beginning is the first, where it is emulated.
 */
int disasm_entries(struct image *im, const struct image_symbol *sym, struct disasm_entries *out);

/*
 * The function's direct calls of, and jumps to, the code at target that a way leads to which is no
 * switch's. The symbol's size may be 0. Errors as above; also where a way returns with another
 * stack than at the symbol, or one that uses it never does: then no function begins there.
 */
int disasm_uses(struct image *im, const struct image_symbol *sym, uint64_t target,
		struct disasm_places *out);

/*
 * An instruction that kernels emulate, and that every call which came to the function's one call of
 * the code at `inner` passes once on its way from there back to the caller, with what it returns in
 * the register that results are in.
 */
struct disasm_end {
	uint64_t addr;
	char name[12];
};

/* Errors as above; -ENOENT also when there is none, or when `inner` is not called once. */
int disasm_end(struct image *im, const struct image_symbol *sym, uint64_t inner,
	       struct disasm_end *out);

/* Where a Go function's prologue finds its goroutine (the runtime's g). */
struct disasm_goroutine {
	bool in_tls; /* at offset from the thread pointer; else in the ABI's register */
	int64_t offset;
};

/* x86_64 only: the register ABI and the one before it differ there. Errors as above; -ENOENT also
 * when the prologue does not look at it. */
int disasm_goroutine(struct image *im, const struct image_symbol *sym,
		     struct disasm_goroutine *out);

#endif
