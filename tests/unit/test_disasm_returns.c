/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "open_code.h"

static int returns_of(uint16_t machine, const struct code_buf *code, size_t skip, size_t size,
		      struct disasm_places *out)
{
	struct opened o;
	int ret;

	open_code(&o, machine, code, skip, size);
	ret = disasm_returns(o.im, &o.sym, out);
	shut(&o);
	return ret;
}

/* A function and what follows it in the file: code to call, for one. */
struct example {
	const char *what;
	int ret;
	size_t count, at[2]; /* where it returns */
	size_t size;
	uint8_t bytes[16];
};

#define AT(...)                                                                                    \
	sizeof((size_t[]){__VA_ARGS__}) / sizeof(size_t),                                          \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}
#define NO(what, ret, ...)                                                                         \
	{                                                                                          \
		what, ret, 0, {0}, FN(__VA_ARGS__)                                                 \
	}

static void check(uint16_t machine, const struct example *e, size_t count)
{
	struct disasm_places r;
	size_t i, j;

	for (i = 0; i < count; i++) {
		struct code_buf c = {.len = 0x100};
		int ret;

		memcpy(c.bytes, e[i].bytes, e[i].size);
		ret = returns_of(machine, &c, 0, e[i].size, &r);
		if (ret != e[i].ret || r.count != e[i].count)
			fail_msg("%s: %d, not %d; %zu returns", e[i].what, ret, e[i].ret, r.count);
		for (j = 0; j < r.count; j++)
			if (r.addrs[j] != ELF_CODE_ADDR + e[i].at[j])
				fail_msg("%s: return at 0x%zx", e[i].what,
					 (size_t)(r.addrs[j] - ELF_CODE_ADDR));
	}
}

#define CHECK(machine, table) check(machine, table, sizeof(table) / sizeof((table)[0]))

static void test_x86(void **state)
{
	static const struct example ok[] = {
		{"ret", 0, AT(0), FN(0xc3)},
		{"ret 8", 0, AT(0), FN(0xc2, 8, 0)},
		{"xor eax, eax; repz ret", 0, AT(2), FN(0x31, 0xc0, 0xf3, 0xc3)},
		{"xor eax, eax; bnd ret", 0, AT(2), FN(0x31, 0xc0, 0xf2, 0xc3)},
		{"je over a ret", 0, AT(4, 6), FN(0x85, 0xff, 0x74, 1, 0xc3, 0x90, 0xc3)},
		{"mov rax, 0xc3c3c3c3; ret", 0, AT(7),
		 FN(0x48, 0xc7, 0xc0, 0xc3, 0xc3, 0xc3, 0xc3, 0xc3)},
		{"je over a ret to endbr64", 0, AT(2, 7),
		 FN(0x74, 1, 0xc3, 0xf3, 0x0f, 0x1e, 0xfa, 0xc3)},
		{"endbr64; ret", 0, AT(4), FN(0xf3, 0x0f, 0x1e, 0xfa, 0xc3)},
		{"jmp on; ret; jmp back", 0, AT(2), FN(0xeb, 1, 0xc3, 0xeb, 0xfd)},
		{"loop, jrcxz; ret", 0, AT(4), FN(0xe2, 0xfe, 0xe3, 0xfc, 0xc3)},
		{"call of itself; ret", 0, AT(5), FN(0xe8, 0xfb, 0xff, 0xff, 0xff, 0xc3)},
		{"call rax; call [rax]; ret", 0, AT(4), FN(0xff, 0xd0, 0xff, 0x10, 0xc3)},
		{"data16 rex.W call; ret", 0, AT(8),
		 FN(0x66, 0x66, 0x48, 0xe8, 0x20, 0, 0, 0, 0xc3)},
		{"je; ret; call without return", 0, AT(2), FN(0x74, 1, 0xc3, 0xe8, 0x20, 0, 0, 0)},
		{"the same, nops behind", 0, AT(2),
		 FN(0x74, 1, 0xc3, 0xe8, 0x20, 0, 0, 0, 0x66, 0x90, 0x0f, 0x1f, 0)},
		{"je; ret; ud2", 0, AT(2), FN(0x74, 1, 0xc3, 0x0f, 0x0b)},
		{"je; ret; int3", 0, AT(2), FN(0x74, 1, 0xc3, 0xcc)},
		{"je; ret; hlt", 0, AT(2), FN(0x74, 1, 0xc3, 0xf4)},
		{"ret and padding", 0, AT(0), FN(0xc3, 0xcc, 0xcc, 0x90)},
		{"a last ret of Go", 0, AT(0, 6), FN(0xc3, 0xe8, 0x20, 0, 0, 0, 0xc3)},
		{"with nops before it", 0, AT(0, 8),
		 FN(0xc3, 0x66, 0x90, 0xe8, 0x20, 0, 0, 0, 0xc3)},
		{"with dead jumps before it", 0, AT(0, 10),
		 FN(0xc3, 0xeb, 0x02, 0xeb, 0, 0xe8, 0x20, 0, 0, 0, 0xc3)},
	};

	(void)state;
	CHECK(EM_X86_64, ok);
}

static void test_x86_unsound(void **state)
{
	static const struct example bad[] = {
		NO("no instruction", -EBADMSG, 0x06, 0xc3),
		NO("ends within one", -EBADMSG, 0xc3, 0xe8, 0, 0),
		NO("ends before the end of a mov", -EBADMSG, 0xc3, 0x48, 0xc7, 0xc0, 0),
		NO("far ret", -EBADMSG, 0x90, 0xcb),
		NO("far ret, 64 bits", -EBADMSG, 0x90, 0x48, 0xcb),
		NO("far ret 8", -EBADMSG, 0x90, 0xca, 8, 0),
		NO("iret", -EBADMSG, 0xc3, 0x48, 0xcf),
		NO("iretd", -EBADMSG, 0xc3, 0xcf),
		NO("sysret", -EBADMSG, 0xc3, 0x0f, 0x07),
		NO("data16 ret", -EBADMSG, 0x66, 0xc3),
		NO("data16 jmp", -EBADMSG, 0x66, 0xe9, 0, 0, 0, 0, 0xc3),
		NO("data16 je", -EBADMSG, 0x66, 0x0f, 0x84, 0, 0, 0, 0, 0xc3),
		NO("data16 call", -EBADMSG, 0x66, 0xe8, 0x20, 0, 0, 0, 0xc3),
		NO("addr32 rex.W call", -EBADMSG, 0x67, 0x48, 0xe8, 0x20, 0, 0, 0, 0xc3),
		NO("je over ud1 eax, ebx, to a ret", -EBADMSG, 0x74, 3, 0x0f, 0xb9, 0xc3, 0xc3),
		NO("je over ud0 eax, ebx, to a ret", -EBADMSG, 0x74, 3, 0x0f, 0xff, 0xc3, 0xc3),
		NO("vaddpd with rounding", -EBADMSG, 0x62, 0xf1, 0xfd, 0xda, 0x58, 0xf0, 0x90,
		   0xc3),
		NO("call; pop", -EBADMSG, 0xe8, 0, 0, 0, 0, 0x58, 0xc3),
		NO("a call within", -EBADMSG, 0xe8, 0x01, 0, 0, 0, 0xc3, 0xc3),
		NO("a ret that nothing leads to", -EBADMSG, 0xc3, 0x31, 0xc0, 0xc3),
		NO("the same behind a nop", -EBADMSG, 0xc3, 0x90, 0xc3),
		NO("a call of nothing in the file", -EBADMSG, 0xc3, 0xe8, 0, 0, 0x10, 0, 0xc3),
		NO("other code before such a call", -EBADMSG, 0xc3, 0x31, 0xc0, 0xe8, 0x20, 0, 0, 0,
		   0xc3),
	};

	(void)state;
	CHECK(EM_X86_64, bad);
}

static void test_x86_leaving(void **state)
{
	static const struct example out[] = {
		NO("jmp out", -EXDEV, 0xc3, 0xe9, 0, 1, 0, 0),
		NO("jmp to the end", -EXDEV, 0xc3, 0xeb, 0),
		NO("jmp before the start", -EXDEV, 0xc3, 0xeb, 0xfc),
		NO("je out", -EXDEV, 0x0f, 0x84, 0, 1, 0, 0, 0xc3),
		NO("loop out", -EXDEV, 0xe2, 0x7f, 0xc3),
		NO("jrcxz out", -EXDEV, 0xe3, 0x7f, 0xc3),
		NO("xbegin out", -EXDEV, 0xc7, 0xf8, 0, 1, 0, 0, 0xc3),
		NO("jmp rax", -EXDEV, 0xc3, 0xff, 0xe0),
		NO("notrack jmp rax", -EXDEV, 0xc3, 0x3e, 0xff, 0xe0),
		NO("jmp [rax]", -EXDEV, 0xc3, 0xff, 0x20),
		NO("jmp [rip]", -EXDEV, 0xc3, 0xff, 0x25, 0, 0, 0, 0),
		NO("bnd jmp [rip]", -EXDEV, 0xc3, 0xf2, 0xff, 0x25, 0, 0, 0, 0),
		NO("far jmp", -EXDEV, 0xc3, 0xff, 0x28),
		NO("no end", -EXDEV, 0x31, 0xc0),
		NO("nops only", -EXDEV, 0x90, 0x90),
		NO("je; ret; xor", -EXDEV, 0x74, 1, 0xc3, 0x31, 0xc0),
		NO("je to a nop at the end", -EXDEV, 0x74, 6, 0xc3, 0xe8, 0x20, 0, 0, 0, 0x90),
		{"je at the end", 0, AT(0), FN(0xc3, 0x74, 0xfd)},
		NO("je; ret; je at the end", -EXDEV, 0x74, 1, 0xc3, 0x74, 0xfb),
		NO("jmp to itself", -ENOENT, 0xeb, 0xfe),
		NO("ud2", -ENOENT, 0x0f, 0x0b),
		NO("call without return", -ENOENT, 0xe8, 0x20, 0, 0, 0),
	};

	(void)state;
	CHECK(EM_X86_64, out);
}

/* The same bytes, begun elsewhere or entered elsewhere, are other instructions. */
static void test_x86_desynchronised(void **state)
{
	struct code_buf c = {0};
	struct disasm_places r;

	(void)state;
	CODE(&c, 0x75, 0x05);			/* jne to the ret */
	CODE(&c, 0xb8, 0xc3, 0x90, 0x90, 0x90); /* mov eax, 0x909090c3 */
	CODE(&c, 0xc3);
	assert_int_equal(returns_of(EM_X86_64, &c, 0, c.len, &r), 0);
	assert_int_equal(r.count, 1);
	assert_int_equal(r.addrs[0], ELF_CODE_ADDR + 7);
	c.bytes[1] = 1; /* jne to the mov's second byte, a ret too */
	assert_int_equal(returns_of(EM_X86_64, &c, 0, c.len, &r), -EBADMSG);
	assert_int_equal(r.count, 0);
	/* From there the mov's bytes are a ret and nops, which run into the ret. */
	assert_int_equal(returns_of(EM_X86_64, &c, 3, 5, &r), -EBADMSG);
	assert_int_equal(returns_of(EM_X86_64, &c, 4, 4, &r), 0);
	/* And here its end is cut. */
	c.bytes[1] = 5;
	assert_int_equal(returns_of(EM_X86_64, &c, 0, c.len - 2, &r), -EBADMSG);
}

#define RET WORD(0xd65f03c0)
#define NOP WORD(0xd503201f)
#define CALL WORD(0x94000010) /* bl 64 bytes on */

static void test_arm64(void **state)
{
	static const struct example ok[] = {
		{"ret", 0, AT(0), FN(RET)},
		{"retaa", 0, AT(4), FN(NOP, WORD(0xd65f0bff))},
		{"retab", 0, AT(4), FN(NOP, WORD(0xd65f0fff))},
		{"cbz x0, over a ret", 0, AT(4, 8), FN(WORD(0xb4000040), RET, RET)},
		{"tbnz w0, #31, over one", 0, AT(4, 8), FN(WORD(0x37f80040), RET, RET)},
		{"b.ne over one", 0, AT(4, 8), FN(WORD(0x54000041), RET, RET)},
		{"b over a ret, and back", 0, AT(4), FN(WORD(0x14000002), RET, WORD(0x17ffffff))},
		{"bl to itself, blr x2; ret", 0, AT(8),
		 FN(WORD(0x94000000), WORD(0xd63f0040), RET)},
		{"casal, ldaddal; ret", 0, AT(8), FN(WORD(0xc8e0fc41), WORD(0xf8e00041), RET)},
		{"b.ne; ret; bl without return", 0, AT(4), FN(WORD(0x54000041), RET, CALL)},
		{"the same, a nop behind", 0, AT(4), FN(WORD(0x54000041), RET, CALL, NOP)},
		{"b.ne; ret; brk", 0, AT(4), FN(WORD(0x54000041), RET, WORD(0xd4200000))},
		{"ret and padding", 0, AT(0), FN(RET, WORD(0), WORD(0))},
		{"a last ret of Go", 0, AT(0, 8), FN(RET, CALL, RET)},
		{"with a nop before it", 0, AT(0, 12), FN(RET, NOP, CALL, RET)},
		{"ldr x0, of data; ret", 0, AT(4),
		 FN(WORD(0x58000040), RET, WORD(0x8b000000), WORD(0x12))},
	};

	(void)state;
	CHECK(EM_AARCH64, ok);
}

static void test_arm64_unsound(void **state)
{
	static const struct example bad[] = {
		NO("no instruction", -EBADMSG, WORD(0xffffffff), RET),
		NO("ends within one", -EBADMSG, RET, 0x1f, 0x20),
		NO("eret", -EBADMSG, RET, WORD(0xd69f03e0)),
		NO("drps", -EBADMSG, RET, WORD(0xd6bf03e0)),
		NO("bc.ne", -EBADMSG, WORD(0x54000051), RET, RET),
		NO("cbgt, newer than capstone", -EBADMSG, WORD(0x74000040), RET, RET),
		NO("bl within", -EBADMSG, WORD(0x94000002), RET, RET),
		NO("a ret that nothing leads to", -EBADMSG, RET, WORD(0x52800000), RET),
		NO("data like a ret", -EBADMSG, WORD(0x58000040), RET, RET),
	};
	struct code_buf c = {.len = 0x100};
	struct disasm_places r;

	(void)state;
	CHECK(EM_AARCH64, bad);
	memcpy(c.bytes, (const uint8_t[]){0, 0, RET}, 6);
	assert_int_equal(returns_of(EM_AARCH64, &c, 2, 4, &r), -EBADMSG); /* not aligned */
	/* One that newer capstones know: either way it is not taken for an ordinary instruction. */
	memcpy(c.bytes, (const uint8_t[]){RET, WORD(0xd71f0841)}, 8); /* braa x2, x1 */
	assert_true(returns_of(EM_AARCH64, &c, 0, 8, &r));
}

static void test_arm64_leaving(void **state)
{
	static const struct example out[] = {
		NO("b out", -EXDEV, RET, WORD(0x14000010)),
		NO("b to the end", -EXDEV, RET, WORD(0x14000001)),
		NO("b.eq out", -EXDEV, WORD(0x54000800), RET),
		NO("cbnz out", -EXDEV, WORD(0xb5000800), RET),
		NO("tbz out, before the start", -EXDEV, WORD(0x3607ffe0), RET),
		NO("br x2", -EXDEV, RET, WORD(0xd61f0040)),
		NO("ret x1", -EXDEV, RET, WORD(0xd65f0020)),
		NO("no end", -EXDEV, WORD(0x52800000)),
		NO("b.ne; ret; ldaddal", -EXDEV, WORD(0x54000041), RET, WORD(0xf8e00041)),
		NO("b.ne to a nop at the end", -EXDEV, WORD(0x54000061), RET, CALL, NOP),
		NO("b to itself", -ENOENT, WORD(0x14000000)),
		NO("udf", -ENOENT, WORD(0)),
	};

	(void)state;
	CHECK(EM_AARCH64, out);
}

static void test_too_many(void **state)
{
	struct code_buf c = {0};
	struct disasm_places r;
	size_t i;

	(void)state;
	for (i = 1; i < DISASM_MAX_PLACES; i++)
		CODE(&c, 0x74, 0x01, 0xc3); /* je over the ret */
	CODE(&c, 0xc3);
	assert_int_equal(returns_of(EM_X86_64, &c, 0, c.len, &r), 0);
	assert_int_equal(r.count, DISASM_MAX_PLACES);
	for (i = 0; i < r.count - 1; i++)
		assert_int_equal(r.addrs[i], ELF_CODE_ADDR + 3 * i + 2);
	assert_int_equal(r.addrs[i], ELF_CODE_ADDR + 3 * i);
	c.len--;
	CODE(&c, 0x74, 0x01, 0xc3, 0xc3);
	assert_int_equal(returns_of(EM_X86_64, &c, 0, c.len, &r), -E2BIG);
	assert_int_equal(r.count, 0);
	assert_int_equal(returns_of(EM_X86_64, &c, 0, 1 << 20, &r), -E2BIG);
	assert_int_equal(returns_of(EM_X86_64, &c, 0, 0, &r), -ENOENT);
	assert_int_equal(returns_of(EM_X86_64, &c, 0, c.len + 1, &r), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_x86),	      cmocka_unit_test(test_x86_unsound),
		cmocka_unit_test(test_x86_leaving),   cmocka_unit_test(test_x86_desynchronised),
		cmocka_unit_test(test_arm64),	      cmocka_unit_test(test_arm64_unsound),
		cmocka_unit_test(test_arm64_leaving), cmocka_unit_test(test_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
