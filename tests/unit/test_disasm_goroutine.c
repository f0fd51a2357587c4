/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "make_go.h"
#include "open_code.h"

struct prologue {
	const char *what;
	int ret;
	struct disasm_goroutine g;
	size_t size;
	uint8_t bytes[24];
};

#define NO(what, ret, ...)                                                                         \
	{                                                                                          \
		what, ret, {false, 0}, FN(__VA_ARGS__)                                             \
	}

static int goroutine_of(uint16_t machine, const struct code_buf *code, struct disasm_goroutine *out)
{
	struct opened o;
	int ret;

	open_code(&o, machine, code, 0, code->len);
	ret = disasm_goroutine(o.im, &o.sym, out);
	shut(&o);
	return ret;
}

static void check_prologues(const struct prologue *p, size_t count)
{
	struct disasm_goroutine g;
	size_t i;
	int ret;

	for (i = 0; i < count; i++) {
		struct code_buf c = {0};

		code_add(&c, p[i].bytes, p[i].size);
		CODE(&c, 0xc3);
		ret = goroutine_of(EM_X86_64, &c, &g);
		if (ret != p[i].ret || g.in_tls != p[i].g.in_tls || g.offset != p[i].g.offset)
			fail_msg("%s: %d, %d, %lld", p[i].what, ret, g.in_tls, (long long)g.offset);
	}
}

#define LOAD 0x64, 0x48, 0x8b, 0x09	   /* mov rcx, fs:[rcx] */
#define COMPARE 0x48, 0x3b, 0x61, 0x10	   /* cmp rsp, [rcx + 16] */
#define COMPARE_R14 0x49, 0x3b, 0x66, 0x10 /* cmp rsp, [r14 + 16] */
#define BELOW 0xf8, 0xff, 0xff, 0xff	   /* -8 */

static void test_goroutine(void **state)
{
	static const struct prologue found[] = {
		{"from fs:-8", 0, {true, -8}, FN(0x64, 0x48, 0x8b, 0x0c, 0x25, BELOW, COMPARE)},
		{"mov rcx, -8", 0, {true, -8}, FN(0x48, 0xc7, 0xc1, BELOW, LOAD, COMPARE)},
		{"mov rcx, -8 as 64 bits",
		 0,
		 {true, -8},
		 FN(0x48, 0xb9, BELOW, 0xff, 0xff, 0xff, 0xff, LOAD, COMPARE)},
		{"fs:[rcx + 8]",
		 0,
		 {true, -8},
		 FN(0x48, 0xc7, 0xc1, 0xf0, 0xff, 0xff, 0xff, 0x64, 0x48, 0x8b, 0x49, 0x08,
		    COMPARE)},
		{"add rcx, -8",
		 0,
		 {true, -24},
		 FN(0x48, 0xc7, 0xc1, 0xf0, 0xff, 0xff, 0xff, 0x48, 0x83, 0xc1, 0xf8, LOAD,
		    COMPARE)},
		{"add rcx, -8 as 32 bits",
		 0,
		 {true, -8},
		 FN(0x48, 0xc7, 0xc1, 0, 0, 0, 0, 0x48, 0x81, 0xc1, BELOW, LOAD, COMPARE)},
		{"lea rcx, [rcx - 8]",
		 0,
		 {true, -8},
		 FN(0x48, 0xc7, 0xc1, 0, 0, 0, 0, 0x48, 0x8d, 0x49, 0xf8, LOAD, COMPARE)},
		{"large frame: lea rax, [rsp - 64]; cmp rax",
		 0,
		 {true, -8},
		 FN(0x64, 0x48, 0x8b, 0x0c, 0x25, BELOW, 0x48, 0x8d, 0x44, 0x24, 0xc0, 0x48, 0x3b,
		    0x41, 0x10)},
		{"larger: mov rsi, [rcx + 16]",
		 0,
		 {true, -8},
		 FN(0x64, 0x48, 0x8b, 0x0c, 0x25, BELOW, 0x48, 0x8b, 0x71, 0x10)},
		{"mov rax, fs:-16; mov rcx, rax",
		 0,
		 {true, -16},
		 FN(0x64, 0x48, 0x8b, 0x04, 0x25, 0xf0, 0xff, 0xff, 0xff, 0x48, 0x89, 0xc1,
		    COMPARE)},
		{"mov r14, fs:-8",
		 0,
		 {true, -8},
		 FN(0x64, 0x4c, 0x8b, 0x34, 0x25, BELOW, COMPARE_R14)},
		{"register ABI", 0, {false, 0}, FN(COMPARE_R14)},
		{"its large frame",
		 0,
		 {false, 0},
		 FN(0x4c, 0x8d, 0x64, 0x24, 0xe0, 0x4d, 0x3b, 0x66, 0x10)},
		{"nop; register ABI", 0, {false, 0}, FN(0x66, 0x90, COMPARE_R14)},
	};

	(void)state;
	check_prologues(found, sizeof(found) / sizeof(found[0]));
}

static void test_no_goroutine(void **state)
{
	static const struct prologue none[] = {
		NO("looks at nothing", -ENOENT, 0x48, 0x83, 0xec, 0x18),
		NO("a stack canary", -ENOENT, 0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0, 0x48,
		   0x89, 0x04, 0x24),
		NO("another member", -ENOENT, 0x64, 0x48, 0x8b, 0x0c, 0x25, BELOW, 0x48, 0x3b, 0x61,
		   0x18),
		NO("half of it: cmp esp, [rcx + 16]", -ENOENT, 0x64, 0x48, 0x8b, 0x0c, 0x25, BELOW,
		   0x3b, 0x61, 0x10),
		NO("gs", -ENOENT, 0x65, 0x48, 0x8b, 0x0c, 0x25, BELOW, COMPARE),
		NO("fs:[rcx - 8], rcx unknown", -ENOENT, 0x64, 0x48, 0x8b, 0x49, 0xf8, COMPARE),
		NO("fs:[rax * 1 - 8]", -ENOENT, 0x64, 0x48, 0x8b, 0x0c, 0x05, BELOW, COMPARE),
		NO("mov ecx, fs:-8", -ENOENT, 0x64, 0x8b, 0x0c, 0x25, BELOW, COMPARE),
		NO("addr32: fs:0xfffffff8", -ENOENT, 0x67, 0x64, 0x48, 0x8b, 0x0c, 0x25, BELOW,
		   COMPARE),
		NO("addr32: fs:[ecx]", -ENOENT, 0x48, 0xc7, 0xc1, BELOW, 0x67, LOAD, COMPARE),
		NO("mov rcx, [rip + 8], no slot", -ENOENT, 0x48, 0x8b, 0x0d, 8, 0, 0, 0, LOAD,
		   COMPARE),
		NO("xor r14d, r14d before", -ENOENT, 0x45, 0x31, 0xf6, COMPARE_R14),
		NO("mov r14, [rsp] before", -ENOENT, 0x4c, 0x8b, 0x34, 0x24, COMPARE_R14),
		NO("xchg rcx, r14 before", -ENOENT, 0x49, 0x87, 0xce, COMPARE_R14),
		NO("je before", -ENOENT, 0x74, 4, COMPARE_R14),
		NO("je before the load too", -ENOENT, 0x74, 13, 0x64, 0x48, 0x8b, 0x0c, 0x25, BELOW,
		   COMPARE),
		NO("a call before", -ENOENT, 0xff, 0xd0, COMPARE_R14),
		NO("a call before the load too", -ENOENT, 0xff, 0xd0, 0x64, 0x48, 0x8b, 0x0c, 0x25,
		   BELOW, COMPARE),
		NO("jmp from behind", -ENOENT, 0x66, 0x90, COMPARE_R14, 0x90, 0x74, 0xf9),
		NO("eight others before", -ENOENT, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
		   COMPARE_R14),
		{"seven before",
		 0,
		 {false, 0},
		 FN(0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, COMPARE_R14)},
		{"jmp from behind to its start", 0, {false, 0}, FN(COMPARE_R14, 0x74, 0xfa)},
		NO("no instruction behind", -EBADMSG, COMPARE_R14, 0x06),
	};
	struct disasm_goroutine g = {true, 1};
	struct code_buf arm = {0};

	(void)state;
	check_prologues(none, sizeof(none) / sizeof(none[0]));
	code_word(&arm, 0xf9400b90); /* ldr x16, [x28, #16] */
	code_word(&arm, 0xd65f03c0);
	assert_int_equal(goroutine_of(EM_AARCH64, &arm, &g), -ENOENT);
	assert_false(g.in_tls);
}

/* A linker that leaves the offset to the dynamic linker: mov rcx, [rip + slot]. */
static void test_goroutine_slot(void **state)
{
	static const struct go_layout l = {
		.magic = GO_MAGIC_1_16, .machine = EM_X86_64, .pie = true};
	static const uint8_t code[] = {0x48, 0x8b, 0x0d, 0, 0, 0, 0, LOAD, COMPARE, 0xc3};
	const Elf64_Phdr tls = {.p_type = PT_TLS, .p_memsz = 8, .p_align = 8};
	struct image_symbol sym = {"f", GO_TEXT, sizeof(code)};
	struct disasm_goroutine g;
	static struct go_file f;
	struct image *im;
	int fd, i;

	(void)state;
	for (i = 0; i < 2; i++) {
		go_fill(&f, &l);
		go_rela(&f, GO_STRING + 8, R_X86_64_TPOFF64, 0);
		memcpy(f.bytes + GO_TEXT, code, sizeof(code));
		go_put(&f, GO_TEXT + 3, GO_STRING + (i ? 16 : 8) - (GO_TEXT + 7), 4);
		go_end(&f, &l);
		memcpy(f.bytes + sizeof(Elf64_Ehdr) + GO_PHDRS * sizeof(tls), &tls, sizeof(tls));
		((Elf64_Ehdr *)f.bytes)->e_phnum++;
		fd = make_file(f.bytes, f.size);
		assert_true(fd >= 0);
		assert_int_equal(image_open(&im, fd, "code", NULL), 0);
		assert_int_equal(disasm_goroutine(im, &sym, &g), i ? -ENOENT : 0);
		assert_int_equal(g.in_tls, !i);
		assert_int_equal(g.offset, i ? 0 : -8);
		image_close(im);
		close(fd);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_goroutine),
		cmocka_unit_test(test_no_goroutine),
		cmocka_unit_test(test_goroutine_slot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
