/* SPDX-License-Identifier: MIT */
#include <elf.h>

#include "arch.h"

/* Byte offsets in struct pt_regs of the kernel's arch/x86/include/asm/ptrace.h. */
enum { R15 = 0, R14 = 8, R13 = 16, R12 = 24, BP = 32, BX = 40, R11 = 48, R10 = 56 };
enum { R9 = 64, R8 = 72, AX = 80, CX = 88, DX = 96, SI = 104, DI = 112 };
enum { IP = 128, SP = 152, NONE = ARCH_NO_REGISTER };

const struct arch arch_x86_64 = {
	.name = "x86_64",
	.machine = EM_X86_64,
	/* System V ABI, AMD64 supplement, 3.2.3 */
	.args = {DI, SI, DX, CX, R8, R9},
	/* Intel SDM, volume 2, 3.1.1.1: register codes */
	.registers = {AX,   CX,	  DX,	BX,   SP,   BP,	  SI,	DI,   R8,   R9,	  R10,
		      R11,  R12,  R13,	R14,  R15,  NONE, NONE, NONE, NONE, NONE, NONE,
		      NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE},
	.ret = AX,
	.sp = SP,
	.ip = IP,
	.sp_return = 8, /* `ret` took the return address off the stack */
	.go = {.args = {AX, BX, CX, DI}, .g = R14, .stack_args = 8, .register_minor = 17},
};
