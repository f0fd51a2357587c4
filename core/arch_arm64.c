/* SPDX-License-Identifier: MIT */
#include <elf.h>

#include "arch.h"

/*
 * struct user_pt_regs of the kernel's arch/arm64/include/uapi/asm/ptrace.h, with which its struct
 * pt_regs begins: regs[31], sp, pc, pstate.
 */
#define X(n) ((n)*8)
#define SP (31 * 8)
#define PC (32 * 8)

const struct arch arch_arm64 = {
	.name = "aarch64",
	.machine = EM_AARCH64,
	/* Procedure Call Standard for the Arm 64-bit Architecture, 6.8.2 */
	.args = {X(0), X(1), X(2), X(3), X(4), X(5)},
	.ret = X(0),
	.sp = SP,
	.ip = PC,
	.sp_return = 0, /* the return address is in x30 */
	/* The word at the stack pointer is where a callee saves x30. */
	.go = {.args = {X(0), X(1), X(2), X(3)},
	       .g = X(28),
	       .old_g = true,
	       .stack_args = 8,
	       .register_minor = 18},
};
