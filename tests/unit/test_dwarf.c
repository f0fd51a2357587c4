/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "dwarf_private.h"
#include "open_dwarf.h"

static void test_versions_and_packings(void **state)
{
	struct opened o;
	int version;
	size_t how;

	(void)state;
	for (version = 4; version <= 5; version++) {
		dwarf_program(&parts, version);
		for (how = PACK_NONE; how <= PACK_GNU; how++) {
			open_parts(&o, (enum dwarf_packing)how);
			check_program(&o);
			shut(&o);
		}
	}
}

static void test_two_files_at_once(void **state)
{
	struct opened a, b;

	(void)state;
	dwarf_program(&parts, 4);
	open_parts(&a, PACK_NONE);
	dwarf_program(&parts, 5);
	open_parts(&b, PACK_ELF);
	check_program(&b);
	check_program(&a);
	dwarf_close(b.d);
	b.d = NULL;
	check_program(&a);
	dwarf_close(a.d);
	a.d = NULL;
	shut(&a);
	shut(&b);
	dwarf_close(NULL);
}

struct __attribute__((packed)) of_this_test {
	char before[77];
	short wanted;
};

/* What the compiler of this test writes. */
static void test_own_program(void **state)
{
	static volatile struct of_this_test example; /* or the struct is not described */
	static const char unit[] = __FILE__;
	struct image_symbol s;
	struct opened o;
	uintptr_t base;

	(void)state;
	open_fd(&o, open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
	if (o.ret == -ENOENT) {
		print_message("built without -g: this program says nothing\n");
		shut(&o);
		skip();
	}
	assert_int_equal(o.ret, 0);
	assert_int_equal(example.wanted, 0);
	check_member(&o, unit, "of_this_test", "wanted", offsetof(struct of_this_test, wanted));
	assert_int_equal(dwarf_function(o.d, unit, "test_own_program", &s), 0);
	base = (uintptr_t)test_own_program - s.addr;
	assert_int_equal(base & 0xfff, 0);
	assert_true(s.size > 100 && s.size < 4096);
	assert_int_equal(dwarf_function(o.d, "elsewhere", "dwarf_open", &s), 0);
	assert_int_equal((uintptr_t)dwarf_open - s.addr, base);
	shut(&o);
}

static void test_without_debugging_information(void **state)
{
	static struct code_buf code = {.len = 16};
	const struct elf_layout l = {.machine = EM_X86_64, .code = &code};
	Elf64_Shdr *s = (void *)file;
	struct opened o;
	size_t size, i;

	(void)state;
	open_fd(&o, make_file(file, make_elf(&l, file)));
	assert_int_equal(o.ret, -ENOENT);
	assert_non_null(strstr(o.err.text, "the file has no debugging information"));
	shut(&o);
	/* What strip --only-keep-debug leaves in the other file: sections without content. */
	dwarf_program(&parts, 4);
	size = dwarf_file(&parts, PACK_NONE, file);
	s = (void *)(file + ((Elf64_Ehdr *)file)->e_shoff);
	for (i = 1; i <= PART_COUNT; i++)
		s[i].sh_type = SHT_NOBITS;
	open_fd(&o, make_file(file, size));
	assert_int_equal(o.ret, -ENOENT);
	shut(&o);
	/* Neither part is of use without the other. */
	parts.part[PART_ABBREV].len = 0;
	open_parts(&o, PACK_NONE);
	assert_int_equal(o.ret, -ENOENT);
	shut(&o);
	dwarf_program(&parts, 4);
	parts.part[PART_INFO].len = 0;
	open_parts(&o, PACK_NONE);
	assert_int_equal(o.ret, -ENOENT);
	shut(&o);
}

/* Sizes that are told are not believed, and what would be too much is not read. */
static void test_sizes(void **state)
{
	static const struct {
		enum dwarf_packing how;
		uint64_t size;
		int ret;
	} cases[] = {
		{PACK_NONE, (64 << 20) + 1, -E2BIG},
		{PACK_NONE, 1 << 20, -EBADMSG},
		{PACK_NONE, UINT64_MAX - 64, -EBADMSG},
		{PACK_ELF, (64 << 20) + 1, -E2BIG},
		{PACK_ELF, UINT64_MAX, -E2BIG},
		{PACK_ELF, 63 << 20, -EBADMSG},
		{PACK_ELF, 2000, -EBADMSG},
		{PACK_ELF, 10, -EBADMSG},
		{PACK_GNU, (64 << 20) + 1, -E2BIG},
		{PACK_GNU, UINT64_MAX, -E2BIG},
		{PACK_GNU, 63 << 20, -EBADMSG},
		{PACK_GNU, 2000, -EBADMSG},
		{PACK_GNU, 10, -EBADMSG},
	};
	struct opened o;
	Elf64_Shdr *s;
	size_t i, size;
	uint64_t big;
	int fd;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		dwarf_program(&parts, 4);
		size = dwarf_file(&parts, cases[i].how, file);
		s = (Elf64_Shdr *)(void *)(file + ((Elf64_Ehdr *)(void *)file)->e_shoff) + 1;
		big = htobe64(cases[i].size);
		if (cases[i].how == PACK_NONE)
			s->sh_size = cases[i].size;
		else if (cases[i].how == PACK_ELF)
			memcpy(file + s->sh_offset + offsetof(Elf64_Chdr, ch_size), &cases[i].size,
			       8);
		else
			memcpy(file + s->sh_offset + 4, &big, 8);
		fd = make_file(file, size);
		/* The file is large enough, and takes no memory. */
		if (cases[i].ret == -E2BIG)
			assert_int_equal(ftruncate(fd, 65 << 20), 0);
		open_fd(&o, fd);
		assert_int_equal(o.ret, cases[i].ret);
		shut(&o);
	}
}

/* The file may have grown since it was measured. */
static void test_sections_grow(void **state)
{
	struct dwarf_reader *reader;
	struct opened o;
	uint64_t sum = 0, size;
	size_t i;

	(void)state;
	dwarf_program(&parts, 5);
	open_parts(&o, PACK_NONE);
	for (i = 0; i < DWARF_SECTIONS; i++)
		if (!image_debug_size(o.im, dwarf_sections[i], &size))
			sum += size;
	assert_int_equal(dwarf_reader_open(&reader, o.im, sum), 0);
	dwarf_reader_close(reader);
	assert_int_equal(dwarf_reader_open(&reader, o.im, sum - 1), -E2BIG);
	assert_null(reader);
	assert_int_equal(dwarf_reader_open(&reader, o.im, 10), -E2BIG);
	shut(&o);
}

static void test_unknown_compression(void **state)
{
	struct opened o;
	Elf64_Shdr *s;
	size_t size;

	(void)state;
	dwarf_program(&parts, 4);
	size = dwarf_file(&parts, PACK_ELF, file);
	s = (Elf64_Shdr *)(void *)(file + ((Elf64_Ehdr *)(void *)file)->e_shoff) + 1;
	file[s->sh_offset] = 77;
	open_fd(&o, make_file(file, size));
	assert_int_equal(o.ret, -EBADMSG);
	shut(&o);
}

/* Whatever is damaged, there is an answer, and it is one of those that the header names. */
static void ask_damaged(enum dwarf_packing how)
{
	struct image_symbol s;
	struct opened o;
	int64_t offset;
	int ret;

	open_parts(&o, how);
	if (!o.ret) {
		ret = dwarf_member(o.d, "runtime", "runtime.g", "goid", &offset);
		assert_true(!ret || ret == -ENOENT || ret == -EBADMSG);
		ret = dwarf_function(o.d, "crypto/tls", "crypto/tls.small", &s);
		assert_true(!ret || ret == -ENOENT || ret == -EBADMSG);
	} else {
		assert_true(o.ret == -ENOENT || o.ret == -EBADMSG);
	}
	shut(&o);
}

static void test_damage(void **state)
{
	static const uint8_t values[] = {0, 0x80, 0xff};
	struct dwarf_bytes *b;
	size_t part, i;
	uint8_t was;

	(void)state;
	dwarf_program(&parts, 5);
	for (part = 0; part < PART_COUNT; part++) {
		b = &parts.part[part];
		for (i = 0; i < b->len; i++) {
			was = b->data[i];
			b->data[i] = values[i % sizeof(values)];
			ask_damaged(PACK_NONE);
			b->data[i] = was;
		}
		was = (uint8_t)b->len;
		for (i = b->len; i > 0; i -= i > 7 ? 7 : i) {
			b->len = i - 1;
			ask_damaged(i % 2 ? PACK_NONE : PACK_ELF);
		}
		dwarf_program(&parts, 5);
	}
}

/* An entry that says that it is followed by itself, or by the one before it. */
static void test_entries_in_a_circle(void **state)
{
	struct dwarf_bytes *b = &parts.part[PART_INFO];
	struct opened o;
	size_t unit, back;

	(void)state;
	for (back = 0; back <= 1; back++) {
		dwarf_program(&parts, 4);
		b->len = 0;
		unit = dwarf_unit(&parts, DW_UT_compile, "runtime");
		dwarf_leb(b, AB_EMPTY);
		dwarf_leb(b, AB_JUMPING);
		dwarf_number(b, b->len - 1 - back, 4);
		dwarf_number(b, AB_END, 1);
		dwarf_unit_end(&parts, unit);
		open_parts(&o, PACK_NONE);
		assert_int_equal(o.ret, 0);
		check_member(&o, "runtime", "runtime.g", "goid", -EBADMSG);
		shut(&o);
	}
}

static void test_names_that_are_too_long(void **state)
{
	char name[300] = "";
	struct opened o;

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	dwarf_program(&parts, 4);
	open_parts(&o, PACK_NONE);
	check_member(&o, name, "runtime.g", "goid", -ENAMETOOLONG);
	check_member(&o, "runtime", name, "goid", -ENAMETOOLONG);
	check_member(&o, "runtime", "runtime.g", name, -ENAMETOOLONG);
	name[255] = 0;
	check_member(&o, name, name, name, -ENOENT);
	shut(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_versions_and_packings),
		cmocka_unit_test(test_two_files_at_once),
		cmocka_unit_test(test_own_program),
		cmocka_unit_test(test_without_debugging_information),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_sections_grow),
		cmocka_unit_test(test_unknown_compression),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_entries_in_a_circle),
		cmocka_unit_test(test_names_that_are_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
