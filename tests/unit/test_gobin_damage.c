/* SPDX-License-Identifier: MIT */
/* Programs whose tables are not what Go made. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "open_go.h"

/* The program is Go's, but the table is of no use; says why. */
static void check_problem(const struct go_file *f, const char *word)
{
	struct seen s;
	struct go go;

	assert_int_equal(open_file(&go, f), 0);
	assert_non_null(gobin_problem(go.g));
	if (!strstr(gobin_problem(go.g), word))
		fail_msg("'%s' does not say '%s'", gobin_problem(go.g), word);
	assert_string_equal(gobin_version(go.g), "go1.24.4");
	assert_int_equal(find(&go, &s, "*"), -EBADMSG);
	assert_int_equal(s.count, 0);
	assert_int_equal(gobin_depth(go.g, &s.f[0], 0, &(int32_t){0}), -EBADMSG);
	shut(&go);
}

static void damage(uint32_t magic, size_t at, uint64_t value, size_t width, const char *word)
{
	struct go_layout l = layout(magic, false);
	static struct go_file f;

	make_go(&f, &l);
	go_put(&f, f.table + at, value, width);
	check_problem(&f, word);
}

static void bad_tables_are_a_problem(void **state)
{
	static const size_t form_18 = 0x1400, form_2 = 16;

	(void)state;
	damage(GO_MAGIC_1_20, 0, 0xfffffff7, 4, "unknown form");
	damage(GO_MAGIC_1_20, 4, 1, 1, "damaged");
	damage(GO_MAGIC_1_20, 6, 2, 1, "damaged");
	damage(GO_MAGIC_1_20, 7, 4, 1, "damaged");
	damage(GO_MAGIC_1_20, 8, 0, 8, "damaged");
	damage(GO_MAGIC_1_20, 8, 1u << 20, 8, "damaged");
	damage(GO_MAGIC_1_20, 8, UINT64_MAX / 8, 8, "damaged");
	damage(GO_MAGIC_1_2, 8, 1u << 20, 8, "damaged");
	damage(GO_MAGIC_1_2, 8, UINT64_MAX / 8, 8, "damaged");
	damage(GO_MAGIC_1_20, 32, GO_TABLE_MAX, 8, "damaged");
	damage(GO_MAGIC_1_20, 56, UINT64_MAX, 8, "damaged");
	damage(GO_MAGIC_1_20, 64, UINT64_MAX - 8, 8, "damaged");
	damage(GO_MAGIC_1_16, 56, GO_TABLE_MAX - 8, 8, "damaged");
	/* The first function: its _func is nowhere, or is another's; it is not in the code. */
	damage(GO_MAGIC_1_20, form_18 + 4, GO_TABLE_MAX, 4, "damaged");
	damage(GO_MAGIC_1_20, form_18, 4, 4, "damaged");
	damage(GO_MAGIC_1_2, form_2 + 8, UINT64_MAX - 3, 8, "damaged");
	damage(GO_MAGIC_1_2, form_2, 0, 8, "damaged");
	/* The end. */
	damage(GO_MAGIC_1_20, form_18 + sizeof(funcs) / sizeof(funcs[0]) * 8, 0, 4, "damaged");
	damage(GO_MAGIC_1_2, form_2 + sizeof(funcs) / sizeof(funcs[0]) * 16, 0x500000, 8,
	       "damaged");
}

static void the_text_must_be_proved(void **state)
{
	struct go_layout l = layout(GO_MAGIC_1_20, false);
	static struct go_file f;
	struct seen s;
	struct go go;

	(void)state;
	l.no_text = true;
	make_go(&f, &l);
	go_put(&f, GO_MODULE + 176, f.base + GO_TEXT + 16, 8);
	check_problem(&f, "where its code starts");
	make_go(&f, &l);
	go_put(&f, GO_MODULE + 8, f.base + GO_TABLE, 8);
	check_problem(&f, "where its code starts");
	make_go(&f, &l);
	go_put(&f, GO_MODULE + 160, 0x500000, 8);
	go_put(&f, GO_MODULE + 176, 0x500000, 8);
	check_problem(&f, "where its code starts");
	make_go(&f, &l);
	go_put(&f, GO_MODULE, f.base, 8);
	check_problem(&f, "where its code starts");

	/* A word that is the table's address need not be moduledata's. */
	l.sections = GO_MERGED;
	make_go(&f, &l);
	go_put(&f, GO_STRING + 64, f.base + GO_TABLE, 8);
	assert_int_equal(open_file(&go, &f), 0);
	assert_null(gobin_problem(go.g));
	assert_int_equal(find(&go, &s, "*tls*Read"), 0);
	assert_int_equal(s.f[0].addr, f.base + READ_AT);
	shut(&go);

	/* A header that has something else there is not believed. */
	l.sections = GO_NAMED;
	make_go(&f, &l);
	go_put(&f, GO_TABLE + 24, 0x12345, 8);
	assert_int_equal(open_file(&go, &f), 0);
	assert_null(gobin_problem(go.g));
	shut(&go);
}

/* Where there is no section, what only looks like a table is passed over. */
static void tables_are_searched(void **state)
{
	struct go_layout l = layout(GO_MAGIC_1_16, false);
	static struct go_file f;
	struct seen s;
	struct go go;
	size_t i;

	(void)state;
	l.sections = GO_NONE;
	make_go(&f, &l);
	for (i = 0; i < 8; i++)
		memcpy(f.bytes + GO_STRING + 64 + i * 8, "\xfa\xff\xff\xff\0\0\1\x08", 8);
	assert_int_equal(open_file(&go, &f), 0);
	assert_null(gobin_problem(go.g));
	assert_int_equal(find(&go, &s, "*tls*Read"), 0);
	assert_int_equal(s.f[0].addr, f.base + READ_AT);
	shut(&go);

	f.bytes[GO_TABLE + 8] = 0;
	check_problem(&f, "damaged");
	/* Not without end. */
	make_go(&f, &l);
	for (i = 0; i < 100; i++)
		memcpy(f.bytes + GO_DATA_TABLE + i * 8, "\xfa\xff\xff\xff\0\0\1\x08", 8);
	check_problem(&f, "damaged");
	make_go(&f, &l);
	f.bytes[GO_TABLE] = 0;
	check_problem(&f, "no gopclntab");
}

static struct go_file sound;

static size_t sound_word(size_t at)
{
	uint32_t word;

	memcpy(&word, sound.bytes + GO_TABLE + at, sizeof(word));
	return word;
}

/* Searches a file whose table is changed at one place. Returns how many were found, or the error.
 */
static int find_damaged(size_t at, uint64_t value, size_t width)
{
	static struct go_file f;
	struct seen s;
	struct go go;
	int ret;

	memcpy(&f, &sound, offsetof(struct go_file, relas));
	go_put(&f, GO_TABLE + at, value, width);
	assert_int_equal(open_file(&go, &f), 0);
	assert_null(gobin_problem(go.g));
	ret = find(&go, &s, "*tls.*Read");
	shut(&go);
	return ret ? ret : s.count ? (int)s.f[0].size : -ENOENT;
}

static void damaged_functions_end_a_search(void **state)
{
	struct go_layout l = layout(GO_MAGIC_1_20, false);
	size_t entry = 0x1400 + 8, func, pcsp;

	(void)state;
	make_go(&sound, &l);
	func = 0x1400 + sound_word(entry + 4);
	pcsp = 0x1000 + sound_word(func + 16);
	assert_int_equal(find_damaged(GO_TABLE_MAX - 1, 'x', 1), 0x124);
	/* Starts must not go down; a _func, its name and its table lie in their parts. */
	assert_int_equal(find_damaged(entry, 0x4000, 4), -EBADMSG);
	assert_int_equal(find_damaged(entry + 5 * 8, 1, 4), -EBADMSG);
	assert_int_equal(find_damaged(entry + 4, GO_TABLE_MAX, 4), -EBADMSG);
	assert_int_equal(find_damaged(func + 4, GO_TABLE_MAX, 4), -EBADMSG);
	assert_int_equal(find_damaged(func + 16, GO_TABLE_MAX, 4), -EBADMSG);
	/* Its table goes beyond the next function, has a piece of no length, or a number no end. */
	assert_int_equal(find_damaged(pcsp + 4, (0x11c & 0x7f) + 12 + 0x80, 1), 0x124 + 12);
	assert_int_equal(find_damaged(pcsp + 4, (0x11c & 0x7f) + 13 + 0x80, 1), -EBADMSG);
	assert_int_equal(find_damaged(pcsp, 0, 1), 0x124);
	assert_int_equal(find_damaged(pcsp + 1, 0, 1), -EBADMSG);
	assert_int_equal(find_damaged(pcsp + 2, UINT64_MAX, 8), -EBADMSG);
	/* A name or a table that does not end before the file's part does. */
	sound.bytes[GO_TABLE + GO_TABLE_MAX - 1] = 'x';
	assert_int_equal(find_damaged(func + 4, GO_TABLE_MAX - 72 - 1, 4), -ENOENT);
	assert_int_equal(find_damaged(func + 16, GO_TABLE_MAX - 0x1000 - 1, 4), -EBADMSG);
	/* The code ends before the function does. */
	((Elf64_Phdr *)(sound.bytes + sizeof(Elf64_Ehdr)))->p_filesz = GO_TEXT - GO_CODE + 0x100;
	go_put(&sound, GO_TABLE + 0x1400 + sizeof(funcs) / sizeof(funcs[0]) * 8, 0x100, 4);
	assert_int_equal(find_damaged(GO_TABLE_MAX - 1, 'x', 1), -EBADMSG);
}

/* A file of holes can be of any size. One with a function more than are taken. */
static void huge_tables_are_a_problem(void **state)
{
	const uint64_t limit = 2u << 20, size = 64 + (limit + 2) * 16;
	const uint64_t end = 0x400000 + GO_TEXT + 64;
	struct go_layout l = layout(GO_MAGIC_1_2, false);
	static struct go_file f;
	struct go go;
	size_t i;

	(void)state;
	l.sections = GO_NONE;
	for (i = 0; i < 2; i++) {
		make_go(&f, &l);
		/* It is the segment that has all that is to come. */
		((Elf64_Phdr *)(f.bytes + sizeof(Elf64_Ehdr)))[GO_PHDR_TABLE].p_filesz = size;
		go_put(&f, GO_TABLE + 8, limit + i, 8);
		go.fd = make_file(f.bytes, f.size);
		assert_int_equal(ftruncate(go.fd, GO_TABLE + (off_t)size), 0);
		assert_int_equal(
			pwrite(go.fd, &end, sizeof(end), GO_TABLE + 16 + (off_t)(limit + i) * 16),
			sizeof(end));
		assert_int_equal(image_open(&go.im, go.fd, "the file", &go.err), 0);
		assert_int_equal(gobin_open(&go.g, go.im, &go.err), 0);
		assert_int_equal(gobin_problem(go.g) != NULL, i);
		shut(&go);
	}
}

static void a_file_that_shrinks_does_no_harm(void **state)
{
	struct go_layout l = layout(GO_MAGIC_1_20, true);
	static struct go_file f;
	struct gobin_func func;
	struct seen s;
	struct go go;

	(void)state;
	make_go(&f, &l);
	assert_int_equal(open_file(&go, &f), 0);
	assert_int_equal(find(&go, &s, "*tls.*Read"), 0);
	func = s.f[0];
	assert_int_equal(ftruncate(go.fd, GO_TABLE + 0x100), 0);
	assert_int_equal(find(&go, &s, "*tls.*Read"), -EBADMSG);
	assert_int_equal(gobin_depth(go.g, &func, func.addr, &(int32_t){0}), -EBADMSG);
	shut(&go);
}

static void any_damage_does_no_harm(void **state)
{
	static const uint32_t magics[] = {GO_MAGIC_1_2, GO_MAGIC_1_16, GO_MAGIC_1_20};
	static struct go_file good, f;
	unsigned int random = 1, round;
	size_t at, i;
	int32_t depth;
	struct seen s;
	struct go go;

	(void)state;
	for (round = 0; round < 6000; round++) {
		struct go_layout l = layout(magics[round % 3], round & 8);

		l.no_text = round % 3 == 2 && round & 16;
		l.sections = round / 32 % 3;
		l.old_version = round & 128;
		make_go(&good, &l);
		memcpy(&f, &good, offsetof(struct go_file, relas));
		for (i = 0; i < 3; i++) {
			random = random * 1103515245 + 12345;
			at = random >> 8;
			at = i ? f.table + (i == 1 ? at % 80 : 0x1400 + at % 0x180)
			       : GO_DATA + at % (GO_DATA_TABLE - GO_DATA);
			f.bytes[at] = random & 16 ? 0xff : (uint8_t)(random >> 24);
		}
		if (!open_file(&go, &f)) {
			find(&go, &s, "*");
			for (i = 0; i < s.count; i++)
				gobin_depth(go.g, &s.f[i], s.f[i].addr + 40, &depth);
		}
		shut(&go);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_tables_are_a_problem),
		cmocka_unit_test(the_text_must_be_proved),
		cmocka_unit_test(tables_are_searched),
		cmocka_unit_test(damaged_functions_end_a_search),
		cmocka_unit_test(huge_tables_are_a_problem),
		cmocka_unit_test(a_file_that_shrinks_does_no_harm),
		cmocka_unit_test(any_damage_does_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
