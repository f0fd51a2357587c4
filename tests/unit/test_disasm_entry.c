/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "open_code.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 };
#define X30 (1u << 30)

static int entries_of(uint16_t machine, const struct code_buf *code, size_t size,
		      struct disasm_entries *out)
{
	struct opened o;
	int ret;

	open_code(&o, machine, code, 0, size);
	ret = disasm_entries(o.im, &o.sym, out);
	shut(&o);
	return ret;
}

/* A function, and where it may be entered: the first site, if ret is 0. */
struct example {
	const char *what;
	int ret;
	size_t at;
	int depth;
	uint32_t changed; /* registers that are not intact */
	bool moved;	  /* the return address is not where a uretprobe looks for it */
	size_t size;
	uint8_t bytes[32];
};

#define NO(what, ret, ...)                                                                         \
	{                                                                                          \
		what, ret, 0, 0, 0, false, FN(__VA_ARGS__)                                         \
	}
#define YES(what, at, depth, changed, moved, ...)                                                  \
	{                                                                                          \
		what, 0, at, depth, changed, moved, FN(__VA_ARGS__)                                \
	}

/* Of x30 `returns` tells; that a signature changes it, capstone 5 knows, and 4 does not. */
#define LINK (1u << 30)

static void check(uint16_t machine, const struct example *list, size_t count)
{
	struct disasm_entries e;
	const struct example *x;
	struct code_buf c;
	uint32_t changed;
	int ret;

	for (x = list; x < list + count; x++) {
		c.len = 0;
		code_add(&c, x->bytes, x->size);
		ret = entries_of(machine, &c, x->size, &e);
		if (ret != x->ret)
			fail_msg("%s: %d, not %d", x->what, ret, x->ret);
		assert_true(ret ? !e.count : e.count);
		if (ret)
			continue;
		changed = ~e.at[0].intact & (machine == EM_AARCH64 ? ~LINK : ~0u);
		if (e.at[0].addr != ELF_CODE_ADDR + x->at || e.at[0].depth != x->depth ||
		    changed != x->changed || e.at[0].returns == x->moved)
			fail_msg("%s: at %u, depth %d, changed %x, returns %d", x->what,
				 (unsigned int)(e.at[0].addr - ELF_CODE_ADDR), e.at[0].depth,
				 changed, e.at[0].returns);
	}
}

#define ENDBR 0xf3, 0x0f, 0x1e, 0xfa
#define SUB_RSP 0x48, 0x83, 0xec, 0x18
#define ADD_RSP 0x48, 0x83, 0xc4, 0x18

static void test_x86_64(void **state)
{
	static const struct example list[] = {
		YES("begins with a push", 0, 0, 0, false, 0x55, 0x5d, 0xc3),
		YES("a push behind endbr64", 4, 0, 0, false, ENDBR, 0x41, 0x55, 0x41, 0x5d, 0xc3),
		/* test rdi, rdi; je; ret; ret */
		YES("a jump before the frame", 3, 0, 0, false, 0x48, 0x85, 0xff, 0x74, 1, 0xc3,
		    0xc3),
		/* xor eax, eax; test edx, edx; js */
		YES("a jump in the frame", 8, -0x18, 1 << RAX, true, SUB_RSP, 0x31, 0xc0, 0x85,
		    0xd2, 0x78, 0, ADD_RSP, 0xc3),
		/* mov r8, rcx; xor ecx, ecx; jmp, out of the function */
		YES("a tail jump", 5, 0, 1 << RCX | 1 << R8, false, 0x49, 0x89, 0xc8, 0x31, 0xc9,
		    0xe9, 0, 1, 0, 0),
		/* mov [rsp+8], rdi changes nothing; jne */
		YES("a store", 9, -0x18, 0, true, SUB_RSP, 0x48, 0x89, 0x7c, 0x24, 8, 0x75, 0,
		    ADD_RSP, 0xc3),
		/* xchg rdi, rsi is not one of those that are known: both may change */
		YES("an instruction that is not known", 3, 0, 1 << RDI | 1 << RSI, false, 0x48,
		    0x87, 0xf7, 0x75, 0, 0xc3),
		/* cmp rsp, [r14+0x10]; jbe; ret; jmp to the beginning: a goroutine's stack grows */
		YES("a beginning that comes twice", 4, 0, 0, false, 0x49, 0x3b, 0x66, 0x10, 0x76, 1,
		    0xc3, 0xeb, 0xf7),
		/* push rbp; mov rbp, rsp; and rsp, -16; jne; leave; ret: at the push */
		YES("a stack that is aligned", 0, 0, 0, false, 0x55, 0x48, 0x89, 0xe5, 0x48, 0x83,
		    0xe4, 0xf0, 0x75, 0, 0xc9, 0xc3),
		/* endbr64; and rsp, -16; jne */
		NO("a depth that is not known", -ENOENT, ENDBR, 0x48, 0x83, 0xe4, 0xf0, 0x75, 0,
		   0x48, 0x89, 0xec, 0xc3),
		/* endbr64; add rsp, 0x18; and rsp, -16; jne */
		NO("nor is it below the beginning", -ENOENT, ENDBR, ADD_RSP, 0x48, 0x83, 0xe4, 0xf0,
		   0x75, 0, 0xc3),
		NO("only a call", -ENOENT, SUB_RSP, 0xe8, 0, 0, 0, 0, ADD_RSP, 0xc3),
		NO("nothing but a return", -ENOENT, 0x31, 0xc0, 0xc3),
		/* push ax; pop ax; and bnd jmp */
		NO("a prefix", -ENOENT, 0x66, 0x50, 0x66, 0x58, 0xc3),
		NO("a prefix of a jump", -ENOENT, 0x31, 0xc0, 0xf2, 0xe9, 0, 1, 0, 0),
		/* xor eax, eax; inc eax; jne to the inc: a loop */
		NO("a jump back before the site", -ENOENT, 0x31, 0xc0, 0xff, 0xc0, 0x75, 0xfc,
		   0xc3),
		/* xor eax, eax; jmp rax */
		NO("a switch", -ENOTUNIQ, 0x31, 0xc0, 0x75, 2, 0xff, 0xe0, 0xc3),
		/* test edi, edi; jne, out of the function: its cold part */
		NO("a part elsewhere", -EXDEV, 0x85, 0xff, 0x0f, 0x85, 0, 1, 0, 0, 0xc3),
		/* sub rsp; jmp, out of the function with a frame */
		NO("a part elsewhere with its frame", -EXDEV, SUB_RSP, 0xe9, 0, 1, 0, 0),
		NO("undecodable", -EBADMSG, 0x31, 0xc0, 0x75, 1, 0xc3, 0x06),
		/* jne into the middle of mov eax, imm */
		NO("overlapping instructions", -EBADMSG, 0x31, 0xc0, 0x75, 1, 0xb8, 0x90, 0x90,
		   0x90, 0x90, 0xc3),
	};

	(void)state;
	check(EM_X86_64, list, TS_ARRAY_SIZE(list));
}

static void test_arm64(void **state)
{
	static const struct example list[] = {
		/* cbz x0, +8; ret; ret */
		YES("begins with cbz", 0, 0, 0, false, WORD(0xb4000040), WORD(0xd65f03c0),
		    WORD(0xd65f03c0)),
		/* cmp x0, #0; b.eq */
		YES("a jump before the frame", 4, 0, 0, false, WORD(0xf100001f), WORD(0x54000040),
		    WORD(0xd65f03c0), WORD(0xd65f03c0)),
		/* stp x29, x30, [sp, #-32]!; mov x29, sp; cbz x0; ldp x29, x30, [sp], #32; ret */
		YES("a jump in the frame", 8, -32, 1u << 29, true, WORD(0xa9be7bfd),
		    WORD(0x910003fd), WORD(0xb4000020), WORD(0xa8c27bfd), WORD(0xd65f03c0)),
		/* sub sp, sp, #64; adrp x9, 0 */
		YES("adrp in the frame", 4, -64, 0, false, WORD(0xd10103ff), WORD(0x90000009),
		    WORD(0x910103ff), WORD(0xd65f03c0)),
		/* mov x4, x3; b, out of the function */
		YES("a tail jump", 4, 0, 1u << 4, false, WORD(0xaa0303e4), WORD(0x14000100)),
		/* ldr x16, [x28, #16]; cmp sp, x16; b.ls; ret; b to the beginning */
		YES("a beginning that comes twice", 8, 0, 1u << 16, false, WORD(0xf9400b90),
		    WORD(0xeb3063ff), WORD(0x54000049), WORD(0xd65f03c0), WORD(0x17fffffc)),
		/* paciasp signs the return address; cbz */
		YES("a signed return address", 4, 0, 0, true, WORD(0xd503233f), WORD(0xb4000020),
		    WORD(0xd65f03c0)),
		NO("nothing but a return", -ENOENT, WORD(0xaa0103e0), WORD(0xd65f03c0)),
		NO("only a call", -ENOENT, WORD(0xaa0103e0), WORD(0x94000001), WORD(0xd65f03c0)),
		/* br x1, without a frame: a switch */
		NO("a switch", -ENOTUNIQ, WORD(0xaa0103e0), WORD(0xb4000040), WORD(0xd61f0020),
		   WORD(0xd65f03c0)),
	};

	(void)state;
	check(EM_AARCH64, list, TS_ARRAY_SIZE(list));
}

/* Nobody tells where a function without a symbol ends: its ways do. */
static void test_without_size(void **state)
{
	struct code_buf c = {.len = 0};
	struct disasm_entries e;

	(void)state;
	/* endbr64; push rbp; pop rbp; ret; what does not decode */
	CODE(&c, ENDBR, 0x55, 0x5d, 0xc3, 0x06, 0x06, 0x06, 0x06);
	assert_int_equal(entries_of(EM_X86_64, &c, 0, &e), 0);
	assert_int_equal(e.at[0].addr, ELF_CODE_ADDR + 4);
	assert_string_equal(e.at[0].name, "push");
	assert_int_equal(entries_of(EM_X86_64, &c, c.len, &e), 0);
	/* Its last instruction may go on. */
	c.len = 0;
	CODE(&c, ENDBR, 0x55, 0x5d);
	assert_int_equal(entries_of(EM_X86_64, &c, 0, &e), -EXDEV);
}

/* Sites that come later than the first, as far as the code is a straight line. */
static void test_several(void **state)
{
	struct code_buf c = {.len = 0};
	struct disasm_entries e;

	(void)state;
	/* push rbx; push rbp; xor edi, edi; je; push rsi; pops; ret */
	CODE(&c, 0x53, 0x55, 0x31, 0xff, 0x74, 0, 0x56, 0x5e, 0x5d, 0x5b, 0xc3);
	assert_int_equal(entries_of(EM_X86_64, &c, c.len, &e), 0);
	assert_int_equal(e.count, 3);
	assert_int_equal(e.at[1].addr, ELF_CODE_ADDR + 1);
	assert_int_equal(e.at[1].depth, -8);
	assert_int_equal(e.at[2].addr, ELF_CODE_ADDR + 4);
	assert_int_equal(e.at[2].depth, -16);
	assert_int_equal(e.at[2].intact, ~(1u << RDI));
	assert_false(e.at[2].returns);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_x86_64),
		cmocka_unit_test(test_arm64),
		cmocka_unit_test(test_without_size),
		cmocka_unit_test(test_several),
	};

	return cmocka_run_group_tests_name("disasm_entry", tests, NULL, NULL);
}
