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

#endif
