/* SPDX-License-Identifier: MIT */
/*
 * What differs by architecture, as constant tables: every architecture compiles on every host, so
 * that its table is tested everywhere. Register numbers are turned into byte offsets in the
 * kernel's struct pt_regs here and nowhere else.
 */
#ifndef TLSSCOPE_ARCH_H
#define TLSSCOPE_ARCH_H

#include "base.h"

#define ARCH_ARGS 6
#define ARCH_GO_ARGS 4
#define ARCH_REGISTERS 32
#define ARCH_NO_REGISTER 0xffff

/*
 * Go's own calls: cmd/compile/abi-internal.md for the register ABI, and before it arguments, then
 * results, word by word on the stack.
 */
struct arch_go {
	uint16_t args[ARCH_GO_ARGS]; /* integer registers, in order; results begin with the first */
	uint16_t g;		     /* the goroutine; under the old ABI only where old_g says so */
	bool old_g;
	int32_t stack_args; /* the old ABI's first argument, from the stack pointer at the entry */
	int register_minor; /* the first Go 1.N whose functions take registers */
};

struct arch {
	const char *name;	  /* as uname -m says it */
	uint16_t machine;	  /* EM_* */
	uint16_t args[ARCH_ARGS]; /* the C ABI's integer arguments, in order */
	/* The general registers, as instructions number them; ARCH_NO_REGISTER: not in pt_regs */
	uint16_t registers[ARCH_REGISTERS];
	uint16_t ret; /* its return value */
	uint16_t sp;
	uint16_t ip;
	/* What the stack pointer has gained when a uretprobe runs, against the function's entry. */
	int32_t sp_return;
	struct arch_go go;
};

extern const struct arch arch_x86_64, arch_arm64;

const struct arch *arch_find(uint16_t machine); /* NULL: not supported */
const struct arch *arch_host(void);		/* of the running kernel; NULL: not supported */

#endif
