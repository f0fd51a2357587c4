/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "open_code.h"

#define OTHER (ELF_CODE_ADDR + 0x2000)
#define RET 0xc3

static int analyse(uint16_t machine, struct code_buf *code, unsigned int out,
		   struct disasm_accessor *a)
{
	struct opened o;
	int ret;

	open_code(&o, machine, code, 0, code->len);
	ret = disasm_accessor(o.im, &o.sym, out, a);
	shut(&o);
	return ret;
}

#define X86(c, out, a) analyse(EM_X86_64, c, out, a)
#define ARM64(c, out, a) analyse(EM_AARCH64, c, out, a)

static void walks(const struct disasm_accessor *a, uint8_t size, uint32_t steps, int32_t first,
		  int32_t second)
{
	assert_int_equal(a->walk.steps, steps);
	assert_int_equal(a->walk.offsets[0], first);
	assert_int_equal(a->walk.offsets[1], second);
	assert_int_equal(a->size, size);
}

static void test_x86_one(void **state)
{
	struct code_buf simple = {0}, byte = {0}, deep = {0};
	struct disasm_accessor a;

	(void)state;
	CODE(&simple, 0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x8b, 0x47, 0x10); /* mov rax, [rdi + 16] */
	CODE(&simple, 0x31, 0xff, RET);				       /* xor edi, edi */
	assert_int_equal(X86(&simple, 0, &a), 0);
	walks(&a, 8, 1, 0x10, 0);
	assert_int_equal(a.zero.steps, 0);

	CODE(&byte, 0x0f, 0xb6, 0x47, 0x05, RET); /* movzx eax, byte [rdi + 5] */
	assert_int_equal(X86(&byte, 0, &a), 0);
	walks(&a, 1, 1, 5, 0);

	CODE(&deep, 0x48, 0x8d, 0x47, 0x18);	  /* lea rax, [rdi + 24] */
	CODE(&deep, 0x48, 0x8b, 0x40, 0x08);	  /* mov rax, [rax + 8] */
	CODE(&deep, 0x48, 0x63, 0x40, 0xfc, RET); /* movsxd rax, [rax - 4] */
	assert_int_equal(X86(&deep, 0, &a), 0);
	walks(&a, 4, 2, 0x20, -4);
}

/* As SSL_get_rbio is from OpenSSL 3.2 on: other objects than connections return NULL. */
static void test_x86_guard(void **state)
{
	struct code_buf c = {0};
	struct disasm_accessor a;

	(void)state;
	CODE(&c, 0x48, 0x85, 0xff, 0x74, 0x0b); /* test rdi, rdi; je to the xor */
	CODE(&c, 0x8b, 0x07, 0x85, 0xc0);	/* mov eax, [rdi]; test eax, eax */
	CODE(&c, 0x75, 0x05);			/* jne to the xor */
	CODE(&c, 0x48, 0x8b, 0x47, 0x50, RET);	/* mov rax, [rdi + 0x50] */
	CODE(&c, 0x31, 0xc0, RET);		/* xor eax, eax */
	assert_int_equal(X86(&c, 0, &a), 0);
	walks(&a, 8, 1, 0x50, 0);
	assert_int_equal(a.zero.steps, 1);
	assert_int_equal(a.zero.offsets[0], 0);

	c.bytes[9] = 0x74; /* a je: all but 0 */
	assert_int_equal(X86(&c, 0, &a), 0);
	walks(&a, 8, 1, 0x50, 0);
	assert_int_equal(a.zero.steps, 0);
}

/* What is known to be 0 where it is returned does not count. */
static void test_x86_null(void **state)
{
	struct code_buf c = {0};
	struct disasm_accessor a;

	(void)state;
	CODE(&c, 0x48, 0x8b, 0x47, 0x20);	/* mov rax, [rdi + 0x20] */
	CODE(&c, 0x48, 0x85, 0xc0, 0x74, 0x04); /* test rax, rax; je to the ret */
	CODE(&c, 0x48, 0x8b, 0x40, 0x08, RET);	/* mov rax, [rax + 8] */
	assert_int_equal(X86(&c, 0, &a), 0);
	walks(&a, 8, 2, 0x20, 8);
	c.bytes[7] = 0x75; /* jne: what is loaded from 0 is nothing */
	assert_int_equal(X86(&c, 0, &a), 0);
	walks(&a, 8, 1, 0x20, 0);
	c.bytes[7] = 0x78; /* js: may be either */
	assert_int_equal(X86(&c, 0, &a), -ENOTUNIQ);
}

static void test_x86_calls(void **state)
{
	struct code_buf kept = {0}, lost = {0}, forward = {0};
	struct disasm_accessor a;

	(void)state;
	CODE(&kept, 0x53, 0x48, 0x89, 0xfb); /* push rbx; mov rbx, rdi */
	code_x86(&kept, 0xe8, OTHER);
	CODE(&kept, 0x48, 0x8b, 0x43, 0x10, 0x5b, RET); /* mov rax, [rbx + 16]; pop rbx */
	assert_int_equal(X86(&kept, 0, &a), 0);
	walks(&a, 8, 1, 0x10, 0);

	code_x86(&lost, 0xe8, OTHER);
	CODE(&lost, 0x48, 0x8b, 0x47, 0x10, RET); /* mov rax, [rdi + 16] */
	assert_int_equal(X86(&lost, 0, &a), -ENOENT);

	/* As SSL_get_wbio: what BIO_next returns is not ours to tell. */
	CODE(&forward, 0x4c, 0x8b, 0x47, 0x20);	      /* mov r8, [rdi + 0x20] */
	CODE(&forward, 0x4d, 0x85, 0xc0, 0x75, 0x05); /* test r8, r8; jne */
	CODE(&forward, 0x48, 0x8b, 0x47, 0x18, RET);  /* mov rax, [rdi + 0x18] */
	code_x86(&forward, 0xe9, OTHER);
	assert_int_equal(X86(&forward, 0, &a), 0);
	walks(&a, 8, 1, 0x18, 0);
}

/* As SSL_get0_alpn_selected: results go where arguments 2 and 3 point. */
static void test_x86_out(void **state)
{
	struct code_buf c = {0};
	struct disasm_accessor a;

	(void)state;
	CODE(&c, 0x48, 0x8b, 0x87, 0x88, 0x04, 0, 0); /* mov rax, [rdi + 0x488] */
	CODE(&c, 0x48, 0x89, 0x06);		      /* mov [rsi], rax */
	CODE(&c, 0x48, 0x85, 0xc0, 0x74, 0x06);	      /* test rax, rax; je */
	CODE(&c, 0x8b, 0x8f, 0x90, 0x04, 0, 0);	      /* mov ecx, [rdi + 0x490] */
	CODE(&c, 0x89, 0x0a, 0x31, 0xc0, RET);	      /* mov [rdx], ecx; xor eax, eax */
	assert_int_equal(X86(&c, 2, &a), 0);
	walks(&a, 8, 1, 0x488, 0);
	assert_int_equal(X86(&c, 3, &a), 0);
	walks(&a, 4, 1, 0x490, 0);
	assert_int_equal(X86(&c, 0, &a), -ENOENT);
	assert_int_equal(X86(&c, 4, &a), -ENOENT);
}

/* Nothing of these is simply a member's value. */
static void test_x86_other(void **state)
{
	static const uint8_t codes[][12] = {
		{6, 0x8b, 0x47, 0x4c, 0x83, 0xe0, 0x01},       /* and eax, 1 */
		{6, 0x48, 0x8b, 0x47, 0x18, 0x89, 0xc0},       /* mov eax, eax */
		{4, 0x48, 0x8d, 0x47, 0x18},		       /* lea rax, [rdi + 24] */
		{4, 0x48, 0x8b, 0x04, 0x37},		       /* mov rax, [rdi + rsi] */
		{5, 0x64, 0x48, 0x8b, 0x47, 0x10},	       /* mov rax, fs:[rdi + 16] */
		{4, 0x48, 0x8b, 0x46, 0x10},		       /* mov rax, [rsi + 16] */
		{3, 0x8a, 0x47, 0x10},			       /* mov al, [rdi + 16] */
		{6, 0x48, 0x8b, 0x47, 0x10, 0xb0, 0x01},       /* mov al, 1 */
		{5, 0x67, 0x48, 0x8b, 0x47, 0x10},	       /* mov rax, [edi + 16] */
		{7, 0x48, 0x8b, 0x47, 0x10, 0x48, 0xff, 0xc0}, /* inc rax */
	};
	struct disasm_accessor a;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		struct code_buf c = {0};

		code_add(&c, codes[i] + 1, codes[i][0]);
		CODE(&c, RET);
		assert_int_equal(X86(&c, 0, &a), -ENOENT);
		assert_int_equal(a.walk.steps, 0);
	}
}

static void test_x86_bounds(void **state)
{
	struct code_buf loop = {0}, far = {0}, computed = {0};
	struct disasm_accessor a;
	int i;

	(void)state;
	CODE(&loop, 0x48, 0x8b, 0x07);		  /* mov rax, [rdi] */
	CODE(&loop, 0xff, 0xce, 0x75, 0xfc, RET); /* dec esi; jne back */
	assert_int_equal(X86(&loop, 0, &a), -E2BIG);
	for (i = 0; i < TS_WALK_STEPS + 1; i++)
		CODE(&far, 0x48, 0x8b, 0x7f, 0x08); /* mov rdi, [rdi + 8] */
	CODE(&far, 0x48, 0x89, 0xf8, RET);
	assert_int_equal(X86(&far, 0, &a), -ENOENT);
	CODE(&computed, 0x48, 0x8b, 0x47, 0x10);       /* mov rax, [rdi + 16] */
	CODE(&computed, 0x83, 0xfe, 0x01, 0x74, 0x02); /* cmp esi, 1; je to the ret */
	CODE(&computed, 0xff, 0xe0, RET);	       /* jmp rax */
	assert_int_equal(X86(&computed, 0, &a), -ENOENT);
}

static void test_arm64(void **state)
{
	struct code_buf c = {0}, out = {0}, kept = {0}, lost = {0};
	struct disasm_accessor a;

	(void)state;
	code_word(&c, 0xb40000a0); /* cbz x0, to the mov */
	code_word(&c, 0xb9400001); /* ldr w1, [x0] */
	code_word(&c, 0x35000061); /* cbnz w1, to the mov */
	code_word(&c, 0xf9402800); /* ldr x0, [x0, #80] */
	code_word(&c, 0xd65f03c0); /* ret */
	code_word(&c, 0xd2800000); /* mov x0, #0 */
	code_word(&c, 0xd65f03c0);
	assert_int_equal(ARM64(&c, 0, &a), 0);
	walks(&a, 8, 1, 80, 0);
	assert_int_equal(a.zero.steps, 1);

	code_word(&out, 0xf9448003); /* ldr x3, [x0, #2304] */
	code_word(&out, 0xb4000043); /* cbz x3, to the str */
	code_word(&out, 0xa9410c64); /* ldp x4, x3, [x3, #16] */
	code_word(&out, 0xf9000023); /* str x3, [x1] */
	code_word(&out, 0xd65f03c0);
	assert_int_equal(ARM64(&out, 2, &a), 0);
	walks(&a, 8, 2, 2304, 24);
	assert_int_equal(ARM64(&out, 0, &a), -ENOENT);

	code_word(&kept, 0xaa0003f3); /* mov x19, x0 */
	code_arm64(&kept, 0x94000000, OTHER);
	code_word(&kept, 0x91004273); /* add x19, x19, #16 */
	code_word(&kept, 0xb9400660); /* ldr w0, [x19, #4] */
	code_word(&kept, 0xd65f03c0);
	assert_int_equal(ARM64(&kept, 0, &a), 0);
	walks(&a, 4, 1, 20, 0);

	code_word(&lost, 0xf8408c01); /* ldr x1, [x0, #8]! */
	code_word(&lost, 0xf9400400); /* ldr x0, [x0, #8] */
	code_word(&lost, 0xd65f03c0);
	assert_int_equal(ARM64(&lost, 0, &a), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_x86_one),	   cmocka_unit_test(test_x86_guard),
		cmocka_unit_test(test_x86_null),   cmocka_unit_test(test_x86_calls),
		cmocka_unit_test(test_x86_out),	   cmocka_unit_test(test_x86_other),
		cmocka_unit_test(test_x86_bounds), cmocka_unit_test(test_arm64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
