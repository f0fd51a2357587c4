/* SPDX-License-Identifier: MIT */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/utsname.h>
#include <cmocka.h>

#include "arch.h"

static void same_args(const struct arch *a, const uint16_t *args)
{
	size_t i;

	for (i = 0; i < ARCH_ARGS; i++)
		assert_int_equal(a->args[i], args[i]);
}

static void test_x86_64(void **state)
{
	/* rdi, rsi, rdx, rcx, r8, r9 in struct pt_regs */
	static const uint16_t args[ARCH_ARGS] = {112, 104, 96, 88, 72, 64};
	const struct arch *a = arch_find(EM_X86_64);

	(void)state;
	assert_ptr_equal(a, &arch_x86_64);
	assert_string_equal(a->name, "x86_64");
	same_args(a, args);
	assert_int_equal(a->ret, 80);
	assert_int_equal(a->sp, 152);
	assert_int_equal(a->ip, 128);
	assert_int_equal(a->sp_return, 8);
}

static void test_arm64(void **state)
{
	static const uint16_t args[ARCH_ARGS] = {0, 8, 16, 24, 32, 40};
	const struct arch *a = arch_find(EM_AARCH64);

	(void)state;
	assert_ptr_equal(a, &arch_arm64);
	assert_string_equal(a->name, "aarch64");
	same_args(a, args);
	assert_int_equal(a->ret, 0);
	assert_int_equal(a->sp, 248);
	assert_int_equal(a->ip, 256);
	assert_int_equal(a->sp_return, 0);
}

/* cmd/compile/abi-internal.md, "Architecture specifics": the order is Go's own. */
static void test_go(void **state)
{
	/* rax, rbx, rcx, rdi; r14. x0, x1, x2, x3; x28. */
	static const uint16_t x86[] = {80, 40, 88, 112}, arm[] = {0, 8, 16, 24};
	size_t i;

	(void)state;
	for (i = 0; i < ARCH_GO_ARGS; i++) {
		assert_int_equal(arch_x86_64.go.args[i], x86[i]);
		assert_int_equal(arch_arm64.go.args[i], arm[i]);
	}
	assert_int_equal(arch_x86_64.go.g, 8);
	assert_int_equal(arch_arm64.go.g, 224);
	assert_false(arch_x86_64.go.old_g);
	assert_true(arch_arm64.go.old_g);
	assert_int_equal(arch_x86_64.go.stack_args, 8);
	assert_int_equal(arch_arm64.go.stack_args, 8);
	assert_int_equal(arch_x86_64.go.register_minor, 17);
	assert_int_equal(arch_arm64.go.register_minor, 18);
}

static void test_host(void **state)
{
	const struct arch *a = arch_host();
	struct utsname u;

	(void)state;
	assert_int_equal(uname(&u), 0);
	if (a)
		assert_string_equal(a->name, u.machine);
	else
		assert_true(strcmp(u.machine, "x86_64") && strcmp(u.machine, "aarch64"));
	assert_null(arch_find(EM_386));
	assert_null(arch_find(0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_x86_64),
		cmocka_unit_test(test_arm64),
		cmocka_unit_test(test_go),
		cmocka_unit_test(test_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
