/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "open_code.h"

#define OTHER (ELF_CODE_ADDR + 0x2000)
#define ARG(n) (1 << ((n)-1))

/* Asks for the counter when out is NULL. */
static int analyse_with(uint16_t machine, struct code_buf *code, size_t size,
			struct disasm_calls *out, int32_t *counter)
{
	struct opened o;
	int ret;

	open_code(&o, machine, code, 0, size);
	ret = out ? disasm_calls(o.im, &o.sym, out) : disasm_counter(o.im, &o.sym, counter);
	shut(&o);
	return ret;
}

static int analyse(uint16_t machine, struct code_buf *code, size_t size, struct disasm_calls *out)
{
	return analyse_with(machine, code, size, out, NULL);
}

#define X86(c, out) analyse(EM_X86_64, c, (c)->len, out)
#define ARM64(c, out) analyse(EM_AARCH64, c, (c)->len, out)

/* The one call of the code. */
static void one_call(const struct disasm_calls *d, uint64_t target, bool jump, uint8_t stack_args)
{
	assert_int_equal(d->count, 1);
	assert_int_equal(d->calls[0].target, target);
	assert_int_equal(d->calls[0].jump, jump);
	assert_int_equal(d->calls[0].stack_args, stack_args);
}

static void test_x86_local(void **state)
{
	struct code_buf c = {0};
	struct disasm_calls d;

	(void)state;
	CODE(&c, 0xf3, 0x0f, 0x1e, 0xfa); /* endbr64 */
	CODE(&c, 0x48, 0x83, 0xec, 0x18); /* sub rsp, 24 */
	CODE(&c, 0x85, 0xd2);		  /* test edx, edx */
	CODE(&c, 0x78, 0x10);		  /* js +16 */
	CODE(&c, 0x48, 0x89, 0xe1);	  /* mov rcx, rsp */
	CODE(&c, 0x48, 0x63, 0xd2);	  /* movsxd rdx, edx */
	code_x86(&c, 0xe8, OTHER);
	CODE(&c, 0x48, 0x83, 0xc4, 0x18, 0xc3); /* add rsp, 24; ret */
	CODE(&c, 0x4c, 0x8d, 0x44, 0x24, 0x08); /* lea r8, [rsp + 8] */
	code_x86(&c, 0xe8, OTHER + 0x10);
	CODE(&c, 0xeb, 0xf4); /* jmp back to the lea */
	assert_int_equal(X86(&c, &d), 0);
	assert_false(d.indirect);
	assert_int_equal(d.count, 2);
	assert_int_equal(d.calls[0].target, OTHER);
	assert_int_equal(d.calls[0].stack_args, ARG(4));
	assert_int_equal(d.calls[1].target, OTHER + 0x10);
	assert_int_equal(d.calls[1].stack_args, ARG(5));

	c.bytes[11]++; /* the js leads to the second byte of the lea */
	assert_int_equal(X86(&c, &d), -EBADMSG);
}

static void test_x86_frame_pointer(void **state)
{
	struct code_buf c = {0};
	struct disasm_calls d;

	(void)state;
	CODE(&c, 0x55, 0x48, 0x89, 0xe5); /* push rbp; mov rbp, rsp */
	CODE(&c, 0x85, 0xd2, 0x78, 0x09); /* test edx, edx; js to the ret */
	CODE(&c, 0x48, 0x8d, 0x4d, 0xf0); /* lea rcx, [rbp - 16] */
	code_x86(&c, 0xe8, OTHER);
	CODE(&c, 0xc3);
	assert_int_equal(X86(&c, &d), 0);
	one_call(&d, OTHER, false, ARG(4));
}

/* Each of these makes what rcx holds unknown or something else. */
static void test_x86_overwritten(void **state)
{
	static const uint8_t writes[][9] = {
		{2, 0x31, 0xc9},				  /* xor ecx, ecx */
		{2, 0xb1, 0x01},				  /* mov cl, 1 */
		{3, 0xf3, 0x48, 0xa5},				  /* rep movsq */
		{3, 0x48, 0x89, 0xf1},				  /* mov rcx, rsi */
		{4, 0x48, 0x8b, 0x0c, 0x24},			  /* mov rcx, [rsp] */
		{4, 0x48, 0x8d, 0x0c, 0x0c},			  /* lea rcx, [rsp + rcx] */
		{2, 0xe2, 0x00},				  /* loop to the next one */
		{3, 0x48, 0x87, 0xca},				  /* xchg rdx, rcx */
		{5, 0xe8, 0x00, 0x00, 0x00},			  /* a call: see below */
		{4, 0x67, 0x8d, 0x0c, 0x24},			  /* lea ecx, [esp] */
		{3, 0x8d, 0x0c, 0x24},				  /* lea ecx, [rsp] */
		{8, 0x48, 0x89, 0xe5, 0x67, 0x48, 0x8d, 0x4d, 0}, /* mov rbp, rsp; lea rcx, [ebp] */
	};
	struct disasm_calls d;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
		struct code_buf c = {0};

		CODE(&c, 0x48, 0x8d, 0x4c, 0x24, 0x08); /* lea rcx, [rsp + 8] */
		if (writes[i][1] == 0xe8)
			code_x86(&c, 0xe8, OTHER + 0x10);
		else
			code_add(&c, writes[i] + 1, writes[i][0]);
		code_x86(&c, 0xe8, OTHER);
		CODE(&c, 0xc3);
		assert_int_equal(X86(&c, &d), 0);
		assert_int_equal(d.calls[d.count - 1].target, OTHER);
		assert_int_equal(d.calls[d.count - 1].stack_args, 0);
	}
}

/* A jump may come from elsewhere with another value in the register. */
static void test_x86_joins(void **state)
{
	struct code_buf c = {0}, table = {0};
	struct disasm_calls d;

	(void)state;
	CODE(&c, 0x48, 0x89, 0xe1); /* mov rcx, rsp */
	code_x86(&c, 0xe8, OTHER);
	CODE(&c, 0x48, 0x89, 0xc1); /* mov rcx, rax */
	CODE(&c, 0xeb, 0xf6);	    /* jmp to the call */
	assert_int_equal(X86(&c, &d), 0);
	one_call(&d, OTHER, false, 0);

	CODE(&table, 0x48, 0x89, 0xe1); /* mov rcx, rsp */
	code_x86(&table, 0xe8, OTHER);
	CODE(&table, 0x3e, 0xff, 0xe0); /* notrack jmp rax: to a case, wherever that is */
	assert_int_equal(X86(&table, &d), 0);
	assert_true(d.indirect);
	one_call(&d, OTHER, false, 0);
}

static void test_x86_leaving(void **state)
{
	struct code_buf c = {0};
	struct disasm_calls d;

	(void)state;
	CODE(&c, 0xff, 0x50, 0x38); /* call [rax + 0x38] */
	CODE(&c, 0x49, 0x89, 0xc8); /* mov r8, rcx */
	code_x86(&c, 0xe9, OTHER);
	assert_int_equal(X86(&c, &d), 0);
	assert_true(d.indirect);
	one_call(&d, OTHER, true, 0);

	c.len = 0;
	CODE(&c, 0x0f, 0x84, 0xfa, 0x0f, 0, 0, 0xc3); /* je 0x1000 on; ret */
	assert_int_equal(X86(&c, &d), 0);
	assert_false(d.indirect);
	one_call(&d, ELF_CODE_ADDR + 0x1000, true, 0);
}

static void test_no_proof(void **state)
{
	struct code_buf c = {0};
	struct disasm_calls d;
	int i;

	(void)state;
	CODE(&c, 0xc3);
	assert_int_equal(analyse(EM_X86_64, &c, 0, &d), -ENOENT);
	assert_int_equal(analyse(EM_X86_64, &c, 2, &d), -EBADMSG); /* beyond the file */
	assert_int_equal(analyse(EM_X86_64, &c, 1 << 20, &d), -E2BIG);
	CODE(&c, 0x06); /* no instruction in 64-bit mode */
	assert_int_equal(X86(&c, &d), -EBADMSG);
	c.len = 0;
	code_x86(&c, 0xe8, OTHER);
	assert_int_equal(analyse(EM_X86_64, &c, 4, &d), -EBADMSG); /* ends within the call */
	assert_int_equal(d.count, 0);
	for (i = 1; i < DISASM_MAX_CALLS; i++)
		code_x86(&c, 0xe8, OTHER);
	assert_int_equal(X86(&c, &d), 0);
	assert_int_equal(d.count, DISASM_MAX_CALLS);
	code_x86(&c, 0xe8, OTHER);
	assert_int_equal(X86(&c, &d), -E2BIG);
	assert_int_equal(d.count, 0);
}

static void test_arm64_local(void **state)
{
	struct code_buf c = {0};
	struct disasm_calls d;

	(void)state;
	code_word(&c, 0xd503233f); /* paciasp */
	code_word(&c, 0xd10083ff); /* sub sp, sp, #32 */
	code_word(&c, 0xa9017bfd); /* stp x29, x30, [sp, #16] */
	code_word(&c, 0x910043fd); /* add x29, sp, #16 */
	code_word(&c, 0x37f800c2); /* tbnz w2, #31, to the ret */
	code_word(&c, 0x910023e4); /* add x4, sp, #8 */
	code_word(&c, 0xd2800003); /* mov x3, #0 */
	code_arm64(&c, 0x94000000, OTHER);
	code_word(&c, 0xd10043a3); /* sub x3, x29, #16 */
	code_arm64(&c, 0x94000000, OTHER + 0x10);
	code_word(&c, 0xd65f0bff); /* retaa */
	assert_int_equal(ARM64(&c, &d), 0);
	assert_false(d.indirect);
	assert_int_equal(d.count, 2);
	assert_int_equal(d.calls[0].target, OTHER);
	assert_int_equal(d.calls[0].stack_args, ARG(5));
	assert_int_equal(d.calls[1].target, OTHER + 0x10);
	assert_int_equal(d.calls[1].stack_args, ARG(4));
}

static void test_arm64_overwritten(void **state)
{
	static const uint32_t writes[] = {
		0xf8408462, /* ldr x2, [x3], #8 */
		0x52800003, /* mov w3, #0 */
		0xaa0103e3, /* mov x3, x1 */
		0xa9400fe2, /* ldp x2, x3, [sp] */
		0xf8008c62, /* str x2, [x3, #8]! */
		0x8b226063, /* add x3, x3, x2 (not a constant) */
		0xf8e00043, /* ldaddal x0, x3, [x2]: older capstones do not know it */
		0xd63f0040, /* blr x2 */
		0xd65f03c0, /* ret */
	};
	struct disasm_calls d;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
		struct code_buf c = {0};

		code_word(&c, 0x910003e3); /* mov x3, sp */
		code_word(&c, writes[i]);
		code_arm64(&c, 0x94000000, OTHER);
		code_word(&c, 0xd65f03c0);
		assert_int_equal(ARM64(&c, &d), 0);
		assert_int_equal(d.indirect, writes[i] == 0xd63f0040);
		one_call(&d, OTHER, false, 0);
	}
}

static void test_arm64_leaving(void **state)
{
	struct code_buf c = {0};
	struct disasm_calls d;

	(void)state;
	code_word(&c, 0xd503245f); /* bti c */
	code_word(&c, 0xaa0303e4); /* mov x4, x3 */
	code_arm64(&c, 0x14000000, OTHER);
	assert_int_equal(ARM64(&c, &d), 0);
	assert_false(d.indirect);
	one_call(&d, OTHER, true, 0);
	code_word(&c, 0xd61f0040); /* br x2 */
	assert_int_equal(ARM64(&c, &d), 0);
	assert_true(d.indirect);
	code_word(&c, 0xffffffff); /* no instruction */
	assert_int_equal(ARM64(&c, &d), -EBADMSG);
}

static int counter(uint16_t machine, struct code_buf *c, int32_t *offset)
{
	return analyse_with(machine, c, c->len, NULL, offset);
}

static void test_counter(void **state)
{
	static const uint8_t xadd[] = {0xf0, 0x0f, 0xc1, 0x87, 0xe0, 0x09, 0x00, 0x00};
	struct code_buf up = {0}, other = {0}, plain = {0}, arm = {0};
	int32_t offset = 0;

	(void)state;
	CODE(&up, 0xb8, 0x01, 0, 0, 0);	   /* mov eax, 1 */
	code_add(&up, xadd, sizeof(xadd)); /* lock xadd [rdi + 0x9e0], eax */
	CODE(&up, 0x31, 0xff, 0xc3);	   /* xor edi, edi; ret */
	assert_int_equal(counter(EM_X86_64, &up, &offset), 0);
	assert_int_equal(offset, 0x9e0);

	CODE(&other, 0x48, 0x8b, 0x3f); /* mov rdi, [rdi]: no more the argument */
	code_add(&other, xadd, sizeof(xadd));
	CODE(&other, 0xc3);
	assert_int_equal(counter(EM_X86_64, &other, &offset), -ENOENT);
	code_add(&plain, xadd + 1, sizeof(xadd) - 1); /* not atomic */
	CODE(&plain, 0xc3);
	assert_int_equal(counter(EM_X86_64, &plain, &offset), -ENOENT);
	code_word(&arm, 0xd65f03c0);
	assert_int_equal(counter(EM_AARCH64, &arm, &offset), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_x86_local),	cmocka_unit_test(test_x86_frame_pointer),
		cmocka_unit_test(test_x86_overwritten), cmocka_unit_test(test_x86_joins),
		cmocka_unit_test(test_x86_leaving),	cmocka_unit_test(test_no_proof),
		cmocka_unit_test(test_arm64_local),	cmocka_unit_test(test_arm64_overwritten),
		cmocka_unit_test(test_arm64_leaving),	cmocka_unit_test(test_counter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
