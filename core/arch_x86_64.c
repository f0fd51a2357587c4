/* SPDX-License-Identifier: MIT */
#include <elf.h>

#include "arch.h"

/* Byte offsets in struct pt_regs of the kernel's arch/x86/include/asm/ptrace.h. */
enum { R14 = 8, BX = 40, R9 = 64, R8 = 72, AX = 80, CX = 88, DX = 96, SI = 104, DI = 112 };
enum { IP = 128, SP = 152 };

const struct arch arch_x86_64 = {
	.name = "x86_64",
	.machine = EM_X86_64,
	/* System V ABI, AMD64 supplement, 3.2.3 */
	.args = {DI, SI, DX, CX, R8, R9},
	.ret = AX,
	.sp = SP,
	.ip = IP,
	.sp_return = 8, /* `ret` took the return address off the stack */
	.go = {.args = {AX, BX, CX, DI}, .g = R14, .stack_args = 8, .register_minor = 17},
};
