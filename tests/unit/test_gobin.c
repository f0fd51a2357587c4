/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "alloc.h"
#include "open_go.h"

static void check_depths(struct go *go, const struct gobin_func *f)
{
	int32_t depth;

	assert_int_equal(gobin_depth(go->g, f, f->addr, &depth), 0);
	assert_int_equal(depth, 0);
	assert_int_equal(gobin_depth(go->g, f, f->addr + 4, &depth), 0);
	assert_int_equal(depth, 0x90);
	assert_int_equal(gobin_depth(go->g, f, f->addr + f->size - 5, &depth), 0);
	assert_int_equal(depth, 0x90);
	assert_int_equal(gobin_depth(go->g, f, f->addr + f->size - 1, &depth), 0);
	assert_int_equal(depth, 0);
	assert_int_equal(gobin_depth(go->g, f, f->addr + f->size, &depth), -ENOENT);
	assert_int_equal(gobin_depth(go->g, f, f->addr - 1, &depth), -ENOENT);
}

static void check_program(const struct go_layout *l)
{
	static struct go_file f;
	struct seen s;
	struct go go;

	make_go(&f, l);
	assert_int_equal(open_file(&go, &f), 0);
	assert_null(gobin_problem(go.g));
	assert_string_equal(gobin_version(go.g), l->version ? l->version : "");
	assert_int_equal(gobin_minor(go.g), l->version ? 24 : -1);
	assert_int_equal(find(&go, &s, "crypto/tls.(\\*Conn).*"), 0);
	assert_int_equal(s.count, 2);
	assert_string_equal(s.f[0].name, "crypto/tls.(*Conn).Read");
	assert_int_equal(s.f[0].addr, f.base + READ_AT);
	assert_int_equal(s.f[0].size, 0x124);
	assert_int_equal(s.f[1].addr, f.base + WRITE_AT);
	assert_int_equal(s.f[1].size, 0x200);
	check_depths(&go, &s.f[0]);
	check_depths(&go, &s.f[1]);
	shut(&go);
}

/* Each form of the table, in each place, on each machine. */
static void every_form_is_read(void **state)
{
	static const uint32_t magics[] = {GO_MAGIC_1_2, GO_MAGIC_1_16, GO_MAGIC_1_18,
					  GO_MAGIC_1_20};
	unsigned int i, bits;

	(void)state;
	for (i = 0; i < 4; i++)
		for (bits = 0; bits < 32; bits++) {
			struct go_layout l = layout(magics[i], bits & 1);

			l.machine = bits & 2 ? EM_AARCH64 : EM_X86_64;
			l.old_version = bits & 4;
			l.no_text = i >= 2 && bits & 8;
			for (l.sections = GO_NAMED; l.sections <= GO_NONE; l.sections++) {
				/* Without sections the buildinfo is what Go is known by. */
				l.version = bits & 16 && l.sections == GO_NAMED ? NULL : "go1.24.4";
				check_program(&l);
			}
		}
}

static void names_are_matched(void **state)
{
	const char *const many[] = {"nothing", "*.Write", "crypto/tls.*", "*.Read"};
	struct go_layout l = layout(GO_MAGIC_1_20, false);
	static struct go_file f;
	struct seen s = {0};
	struct go go;

	(void)state;
	make_go(&f, &l);
	assert_int_equal(open_file(&go, &f), 0);
	assert_int_equal(gobin_find(go.g, many, 4, see, &s), 0);
	/* In the table's order; the first pattern counts; what is too long is not there. */
	assert_int_equal(s.count, 4);
	assert_string_equal(s.f[0].name, "crypto/tls.(*Conn).Read");
	assert_int_equal(s.pattern[0], 2);
	assert_string_equal(s.f[1].name, "crypto/tls.(*Conn).Write");
	assert_int_equal(s.pattern[1], 1);
	assert_string_equal(s.f[2].name, "gopkg.in/yaml%2ev3.(*T[...]).Read");
	assert_int_equal(s.f[2].size, 64);
	assert_string_equal(s.f[3].name, "net.(*TCPConn).Read");
	assert_int_equal(s.f[3].size, 12);

	assert_int_equal(find(&go, &s, "*"), 0);
	assert_int_equal(s.count, 6);
	assert_string_equal(s.f[2].name, "_cgo_of_c");
	assert_int_equal(s.f[2].size, 0);
	assert_int_equal(gobin_depth(go.g, &s.f[2], s.f[2].addr, &(int32_t){0}), -ENOENT);
	assert_int_equal(find(&go, &s, "*(\\*T\\[...\\]).Read"), 0);
	assert_int_equal(s.count, 1);
	assert_int_equal(find(&go, &s, "crypto/tls.(?Conn).[A-R]ead"), 0);
	assert_int_equal(s.count, 1);
	assert_int_equal(find(&go, &s, "crypto/tls.(?Conn).Rea"), 0);
	assert_int_equal(s.count, 0);
	assert_int_equal(find(&go, &s, ""), 0);
	assert_int_equal(s.count, 0);

	s = (struct seen){.result = 7};
	assert_int_equal(gobin_find(go.g, many, 4, see, &s), 7);
	assert_int_equal(s.count, 1);
	shut(&go);
}

static void check_version(const char *text, bool old, const char *version, int minor)
{
	struct go_layout l = layout(GO_MAGIC_1_20, old);
	static struct go_file f;
	struct go go;

	l.version = text;
	l.old_version = old;
	make_go(&f, &l);
	assert_int_equal(open_file(&go, &f), 0);
	assert_string_equal(gobin_version(go.g), version);
	assert_int_equal(gobin_minor(go.g), minor);
	shut(&go);
}

static void versions_are_told(void **state)
{
	(void)state;
	check_version("go1.19.8", false, "go1.19.8", 19);
	check_version("go1.15", true, "go1.15", 15);
	check_version("go1.24.4 X:boringcrypto", false, "go1.24.4 X:boringcrypto", 24);
	check_version("devel go1.27-abcdef Mon", false, "devel go1.27-abcdef Mon", 27);
	check_version("devel +abcdef Mon", true, "devel +abcdef Mon", -1);
	check_version("cargo1.5", false, "cargo1.5", -1);
	check_version("go1.x", false, "go1.x", -1);
	check_version("go1.19\n", false, "", -1);
	check_version("", false, "", -1);
	check_version("", true, "", -1);
}

static bool is_profiled(const char *settings, size_t shift)
{
	struct go_layout l = layout(GO_MAGIC_1_20, false);
	static struct go_file f;
	char text[0x2000];
	struct go go;
	bool profiled;

	memset(text, 'x', shift);
	snprintf(text + shift, sizeof(text) - shift, "%s", settings);
	l.settings = text;
	make_go(&f, &l);
	assert_int_equal(open_file(&go, &f), 0);
	assert_string_equal(gobin_version(go.g), "go1.24.4");
	profiled = gobin_profiled(go.g);
	shut(&go);
	return profiled;
}

/* Wherever the setting is: it is searched in windows. */
static void a_profile_is_told(void **state)
{
	static const char with[] = "\nbuild\t-compiler=gc\nbuild\t-pgo=/p\nbuild\tCGO_ENABLED=0\n";
	size_t shift;

	(void)state;
	for (shift = 4040; shift < 4100; shift++)
		assert_true(is_profiled(with, shift));
	assert_true(is_profiled(with, 0));
	assert_true(is_profiled("\nbuild\t-pgo=", 7000));
	assert_false(is_profiled("\nbuild\t-pgo", 10));
	assert_false(is_profiled("path\tx-pgo=y\nbuild\t-gcflags=-pgo=a\n", 4070));
	assert_false(is_profiled("", 0));
}

/* A length that is longer than a byte; a string that is nowhere; one that is too long. */
static void versions_that_are_damaged_are_not_told(void **state)
{
	struct go_layout l = layout(GO_MAGIC_1_2, false);
	static struct go_file f;
	unsigned int i;
	struct go go;

	(void)state;
	for (i = 0; i < 5; i++) {
		l.old_version = i >= 2;
		go_fill(&f, &l);
		if (i < 2)
			memcpy(f.bytes + GO_DATA + 32, i ? "\xff\x7f" : "\xff\xff\xff", 3 - i);
		else if (i == 2)
			go_put(&f, GO_DATA + 16, UINT64_MAX - 4, 8);
		else
			go_put(&f, i == 3 ? GO_DATA + 32 : GO_DATA + 40, 1u << 20, 8);
		go_end(&f, &l);
		assert_int_equal(open_file(&go, &f), 0);
		assert_string_equal(gobin_version(go.g), "");
		assert_int_equal(gobin_minor(go.g), -1);
		assert_null(gobin_problem(go.g));
		shut(&go);
	}
	l.version = "go1.24.4";
	l.old_version = false;
	go_fill(&f, &l);
	/* Two bytes for a length of 150: the text has blanks at its end. */
	memset(f.bytes + GO_DATA + 34, ' ', 150);
	memcpy(f.bytes + GO_DATA + 32, "\x96\x01go1.30", 8);
	go_end(&f, &l);
	assert_int_equal(open_file(&go, &f), 0);
	assert_int_equal(strlen(gobin_version(go.g)), 150);
	assert_int_equal(gobin_minor(go.g), 30);
	shut(&go);
}

static void other_machines_are_refused(void **state)
{
	struct go_layout l = layout(GO_MAGIC_1_20, false);
	static struct go_file f;
	struct go go;
	int i;

	(void)state;
	for (i = 0; i < 2; i++) {
		make_go(&f, &l);
		f.bytes[GO_DATA + 14 + i] = i ? 3 : 4;
		assert_int_equal(open_file(&go, &f), -EBADMSG);
		assert_null(go.g);
		assert_non_null(strstr(go.err.text, "the file"));
		assert_non_null(strstr(go.err.text, "big-endian or 32-bit"));
		shut(&go);
	}
}

static void what_is_not_go_is_refused(void **state)
{
	struct go_layout l = layout(GO_MAGIC_1_20, false);
	static struct code_buf code;
	struct elf_layout plain = {.machine = EM_X86_64, .code = &code};
	static struct go_file f;
	struct go go;

	(void)state;
	code.len = 0;
	CODE(&code, 0xc3);
	f.size = make_elf(&plain, f.bytes);
	assert_int_equal(open_file(&go, &f), -ENOENT);
	assert_null(go.g);
	assert_non_null(strstr(go.err.text, "the file is not built by Go"));
	shut(&go);

	/* Sections are believed: their contents are not searched. */
	l.sections = GO_MERGED;
	make_go(&f, &l);
	((Elf64_Shdr *)(f.bytes + ((Elf64_Ehdr *)f.bytes)->e_shoff))[3].sh_name = 1;
	assert_int_equal(open_file(&go, &f), -ENOENT);
	shut(&go);

	l.sections = GO_NONE;
	make_go(&f, &l);
	f.bytes[GO_DATA + 3] ^= 1;
	assert_int_equal(open_file(&go, &f), -ENOENT);
	shut(&go);
	/* It is 16-byte aligned. */
	make_go(&f, &l);
	memmove(f.bytes + GO_DATA + 8, f.bytes + GO_DATA, 64);
	memset(f.bytes + GO_DATA, 0, 8);
	assert_int_equal(open_file(&go, &f), -ENOENT);
	shut(&go);
	/* It is in a segment that can be written. */
	make_go(&f, &l);
	memcpy(f.bytes + GO_TABLE, f.bytes + GO_DATA, 64);
	memset(f.bytes + GO_DATA, 0, 64);
	assert_int_equal(open_file(&go, &f), -ENOENT);
	shut(&go);
	gobin_close(NULL);
}

static void memory_may_run_out(void **state)
{
	struct go_layout l = layout(GO_MAGIC_1_20, true);
	static struct go_file f;
	struct gobin *g;
	struct go go;
	size_t n;
	int ret;

	(void)state;
	make_go(&f, &l);
	for (n = 1;; n++) {
		assert_int_equal(open_file(&go, &f), 0);
		gobin_close(go.g);
		image_close(go.im);
		assert_int_equal(image_open(&go.im, go.fd, "the file", NULL), 0);
		alloc_left = n;
		ret = gobin_open(&g, go.im, &go.err);
		alloc_left = 0;
		go.g = g;
		shut(&go);
		if (!ret)
			break;
		assert_int_equal(ret, -ENOMEM);
		assert_null(g);
		assert_non_null(strstr(go.err.text, "out of memory"));
	}
	assert_int_equal(n, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_form_is_read),
		cmocka_unit_test(names_are_matched),
		cmocka_unit_test(versions_are_told),
		cmocka_unit_test(a_profile_is_told),
		cmocka_unit_test(versions_that_are_damaged_are_not_told),
		cmocka_unit_test(other_machines_are_refused),
		cmocka_unit_test(what_is_not_go_is_refused),
		cmocka_unit_test(memory_may_run_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
