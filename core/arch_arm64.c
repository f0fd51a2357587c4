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
	/* Number 31 is the stack pointer, or zero. */
	.registers = {X(0),  X(1),  X(2),  X(3),  X(4),	 X(5),	X(6),  X(7),
		      X(8),  X(9),  X(10), X(11), X(12), X(13), X(14), X(15),
		      X(16), X(17), X(18), X(19), X(20), X(21), X(22), X(23),
		      X(24), X(25), X(26), X(27), X(28), X(29), X(30), ARCH_NO_REGISTER},
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
