/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "open_code.h"

/* The function that is called lies behind the one that is looked at. */
#define INNER 0x100
#define CALL_AT(at) 0xe8, (uint8_t)(INNER - (at)-5), 0, 0, 0
#define SUB_RSP 0x48, 0x83, 0xec, 0x18
#define ADD_RSP 0x48, 0x83, 0xc4, 0x18
#define MOV_EAX_1 0xb8, 1, 0, 0, 0
#define TEST_EAX 0x85, 0xc0

/* A function, and where it ends, if ret is 0. */
struct example {
	const char *what;
	int ret;
	size_t at, size;
	uint8_t bytes[48];
};

#define NO(what, ret, ...)                                                                         \
	{                                                                                          \
		what, ret, 0, FN(__VA_ARGS__)                                                      \
	}
#define YES(what, at, ...)                                                                         \
	{                                                                                          \
		what, 0, at, FN(__VA_ARGS__)                                                       \
	}

static int end_of(uint16_t machine, const struct example *x, struct disasm_end *end,
		  struct disasm_places *uses)
{
	struct code_buf c = {.len = 0};
	struct opened o;
	int ret;

	code_add(&c, x->bytes, x->size);
	while (c.len < INNER + 4)
		CODE(&c, 0xcc);
	open_code(&o, machine, &c, 0, x->size);
	ret = disasm_end(o.im, &o.sym, ELF_CODE_ADDR + INNER, end);
	disasm_uses(o.im, &o.sym, ELF_CODE_ADDR + INNER, uses);
	shut(&o);
	return ret;
}

static void check(uint16_t machine, const struct example *list, size_t count)
{
	struct disasm_places uses;
	const struct example *x;
	struct disasm_end e;
	int ret;

	for (x = list; x < list + count; x++) {
		ret = end_of(machine, x, &e, &uses);
		if (ret != x->ret)
			fail_msg("%s: %d, not %d", x->what, ret, x->ret);
		if (ret)
			continue;
		if (e.addr != ELF_CODE_ADDR + x->at)
			fail_msg("%s: at %u", x->what, (unsigned int)(e.addr - ELF_CODE_ADDR));
		assert_int_equal(uses.count, 1);
	}
}

static void test_x86_64(void **state)
{
	static const struct example list[] = {
		/* call; jne, to a call that does not return; add; ret */
		YES("a stack protector", 9, SUB_RSP, CALL_AT(4), 0x75, 5, ADD_RSP, 0xc3, 0xe8, 0x10,
		    1, 0, 0),
		/* test edi, edi; js; call; test; jle; mov eax, [rsp]; jne; add; ret; mov; jmp back
		 */
		YES("ways that meet", 20, SUB_RSP, 0x85, 0xff, 0x78, 19, CALL_AT(8), TEST_EAX, 0x7e,
		    3, 0x8b, 0x04, 0x24, 0x75, 12, ADD_RSP, 0xc3, MOV_EAX_1, 0xeb, 0xf2, 0xe8, 0x10,
		    1, 0, 0),
		YES("a nop", 9, SUB_RSP, CALL_AT(4), 0x90, ADD_RSP, 0xc3),
		/* push rax; call; jmp +0; pop rcx; ret */
		YES("a jump", 6, 0x50, CALL_AT(1), 0xeb, 0, 0x59, 0xc3),
		NO("nothing that is emulated", -ENOENT, SUB_RSP, CALL_AT(4), TEST_EAX, ADD_RSP,
		   0xc3),
		NO("the result is made afterwards", -ENOENT, SUB_RSP, CALL_AT(4), 0x75, 5,
		   MOV_EAX_1, ADD_RSP, 0xc3),
		NO("a part of it is", -ENOENT, SUB_RSP, CALL_AT(4), 0x90, 0xb0, 1, ADD_RSP, 0xc3),
		NO("another call follows", -ENOENT, SUB_RSP, CALL_AT(4), 0x90, 0xe8, 0x10, 1, 0, 0,
		   ADD_RSP, 0xc3),
		/* jne over the nop */
		NO("a way past it", -ENOENT, SUB_RSP, CALL_AT(4), TEST_EAX, 0x75, 2, 0x31, 0xc0,
		   0x31, 0xc0, ADD_RSP, 0xc3),
		/* jne back to itself's test */
		NO("passed more than once", -ENOENT, SUB_RSP, CALL_AT(4), TEST_EAX, 0x75, 0xfc,
		   0x31, 0xc0, ADD_RSP, 0xc3),
		/* jne back to the call: a loop */
		NO("the call is made again", -ENOENT, SUB_RSP, CALL_AT(4), 0x75, 0xf9, ADD_RSP,
		   0xc3),
		NO("two calls", -ENOENT, SUB_RSP, CALL_AT(4), CALL_AT(9), 0x90, ADD_RSP, 0xc3),
		NO("no call", -ENOENT, SUB_RSP, 0x90, ADD_RSP, 0xc3),
		/* jmp: what it jumps to returns to the caller */
		NO("a tail jump", -ENOENT, 0x90, 0xe9, 0xfa, 0, 0, 0),
		NO("a switch behind it", -ENOTUNIQ, SUB_RSP, CALL_AT(4), 0x90, 0x75, 5, ADD_RSP,
		   0xc3, 0xff, 0xe1),
		NO("undecodable", -EBADMSG, SUB_RSP, CALL_AT(4), 0x90, 0x06),
		/* pop rcx; pop rdx; ret: begins within a function */
		NO("the stack is not as it was", -EBADMSG, 0x50, CALL_AT(1), 0x90, 0x59, 0x5a,
		   0xc3),
	};

	(void)state;
	check(EM_X86_64, list, TS_ARRAY_SIZE(list));
}

static void test_arm64(void **state)
{
	static const struct example list[] = {
		/* stp x29, x30, [sp, #-16]!; bl; ldp x29, x30, [sp], #16; ret: that is emulated */
		YES("its return", 12, WORD(0xa9bf7bfd), WORD(0x9400003f), WORD(0xa8c17bfd),
		    WORD(0xd65f03c0)),
		YES("a branch between its returns", 12, WORD(0xa9bf7bfd), WORD(0x9400003f),
		    WORD(0xa8c17bfd), WORD(0xb5000041), WORD(0xd65f03c0), WORD(0xd65f03c0)),
	};

	(void)state;
	check(EM_AARCH64, list, TS_ARRAY_SIZE(list));
}

/* What is behind a switch may be more; what is found is there. */
static void test_uses(void **state)
{
	static const struct example some = {"", 0, 0,
					    FN(SUB_RSP, 0x85, 0xff, 0x74, 2, 0xff, 0xe1,
					       CALL_AT(10), 0x75, 0xf7, ADD_RSP, 0xc3)};
	struct disasm_places uses;
	struct disasm_end e;

	(void)state;
	assert_int_equal(end_of(EM_X86_64, &some, &e, &uses), -ENOTUNIQ);
	assert_int_equal(uses.count, 1);
	assert_int_equal(uses.addrs[0], ELF_CODE_ADDR + 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_x86_64),
		cmocka_unit_test(test_arm64),
		cmocka_unit_test(test_uses),
	};

	return cmocka_run_group_tests_name("disasm_end", tests, NULL, NULL);
}
