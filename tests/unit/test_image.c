/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "image.h"
#include "make_elf.h"

static const struct elf_symbol symbols[] = {
	{"SSL_imported", 0, 0, STT_FUNC, SHN_UNDEF, false},
	/* What a fixed-address program has for an imported function whose address it takes. */
	{"SSL_canonical", ELF_CODE_ADDR, 0, STT_FUNC, SHN_UNDEF, false},
	{"my_SSL_read", ELF_CODE_ADDR + 0x40, 0x10, STT_FUNC, 1, false},
	{"SSL_read", ELF_CODE_ADDR + 0x10, 0x20, STT_FUNC, 1, false},
	{"SSL_data", ELF_CODE_ADDR + 0x30, 8, STT_OBJECT, 1, false},
	{"wide", ELF_CODE_ADDR, 0x80, STT_FUNC, 1, false},
	{"SSL_write@@OPENSSL_3.0.0", ELF_CODE_ADDR + 0x50, 0, STT_NOTYPE, 1, true},
	{"SSL_read", ELF_CODE_ADDR + 0x60, 0, STT_FUNC, 1, true},
	{"$x", ELF_CODE_ADDR + 0x90, 0, STT_NOTYPE, 1, true},
	{"absolute", 0x1234, 0, STT_NOTYPE, SHN_ABS, true},
};

static size_t build(uint8_t *file)
{
	static struct code_buf code;
	struct elf_layout l = {EM_X86_64, &code,   ELF_CODE_ADDR + 0xc0,
			       0x20,	  symbols, sizeof(symbols) / sizeof(symbols[0]),
			       false};

	code.len = 0;
	while (code.len < 0x100)
		CODE(&code, (uint8_t)code.len);
	return make_elf(&l, file);
}

static int open_bytes(const void *data, size_t size, struct image **im, struct ts_err *err)
{
	int fd = make_file(data, size), ret;

	assert_true(fd >= 0);
	err->text[0] = 0;
	ret = image_open(im, fd, "the file", err);
	if (ret) {
		assert_null(*im);
		assert_true(strlen(err->text) > 10);
		close(fd);
	}
	return ret;
}

static void shut(struct image *im)
{
	int fd = image_fd(im);

	image_close(im);
	close(fd);
}

static struct image *open_good(void)
{
	uint8_t file[ELF_MAX];
	size_t size = build(file);
	struct image *im;
	struct ts_err err;

	assert_int_equal(open_bytes(file, size, &im, &err), 0);
	return im;
}

static void test_names(void **state)
{
	struct image *im = open_good();
	struct image_symbol s;

	(void)state;
	assert_int_equal(image_symbol(im, "SSL_read", &s), IMAGE_DYNSYM);
	assert_string_equal(s.name, "SSL_read");
	assert_int_equal(s.addr, ELF_CODE_ADDR + 0x10);
	assert_int_equal(s.size, 0x20);
	assert_int_equal(image_symbol(im, "SSL_write", &s), IMAGE_SYMTAB);
	assert_int_equal(s.addr, ELF_CODE_ADDR + 0x50);
	assert_int_equal(image_symbol(im, "SSL_rea", &s), IMAGE_NOWHERE);
	assert_int_equal(image_symbol(im, "SL_read", &s), IMAGE_NOWHERE);
	assert_int_equal(image_symbol(im, "SSL_imported", &s), IMAGE_NOWHERE);
	assert_int_equal(image_symbol(im, "SSL_canonical", &s), IMAGE_NOWHERE);
	assert_int_equal(image_symbol(im, "SSL_data", &s), IMAGE_NOWHERE);
	assert_int_equal(image_symbol(im, "absolute", &s), IMAGE_NOWHERE);
	assert_int_equal(image_symbol(im, "$x", &s), IMAGE_NOWHERE);
	assert_int_equal(image_symbol(im, "none", &s), IMAGE_NOWHERE);
	assert_string_equal(image_path(im), "the file");
	assert_int_equal(image_machine(im), EM_X86_64);
	assert_string_equal(image_build_id(im), "deadbeef");
	shut(im);
}

static void test_addresses(void **state)
{
	struct image *im = open_good();
	uint8_t bytes[64];
	uint64_t offset;

	(void)state;
	assert_true(image_symbol_starts(im, ELF_CODE_ADDR + 0x10));
	assert_false(image_symbol_starts(im, ELF_CODE_ADDR + 0x11));
	/* In .dynsym; in .symtab, inside another one of .dynsym. */
	assert_true(image_symbol_starts(im, ELF_CODE_ADDR));
	assert_true(image_symbol_starts(im, ELF_CODE_ADDR + 0x60));
	assert_false(image_symbol_starts(im, ELF_CODE_ADDR + 0x61));
	assert_false(image_symbol_starts(im, ELF_CODE_ADDR + 0x30));
	assert_false(image_symbol_starts(im, ELF_CODE_ADDR + 0x90));
	assert_false(image_symbol_starts(im, 0));
	assert_false(image_symbol_starts(im, UINT64_MAX));

	assert_int_equal(image_offset(im, ELF_CODE_ADDR + 0x10, &offset), 0);
	assert_int_equal(offset, ELF_CODE_OFFSET + 0x10);
	assert_int_equal(image_offset(im, ELF_CODE_ADDR + 0x100, &offset), -ENOENT);
	assert_int_equal(image_offset(im, ELF_CODE_ADDR - 1, &offset), -ENOENT);
	assert_int_equal(image_offset(im, UINT64_MAX, &offset), -ENOENT);

	assert_int_equal(image_read(im, ELF_CODE_ADDR + 0x20, bytes, 4), 4);
	assert_memory_equal(bytes, "\x20\x21\x22\x23", 4);
	assert_int_equal(image_read(im, ELF_CODE_ADDR + 0xf0, bytes, sizeof(bytes)), 16);
	assert_int_equal(image_read(im, ELF_CODE_ADDR + 0x100, bytes, 1), -ENOENT);

	assert_true(image_in_plt(im, ELF_CODE_ADDR + 0xc0));
	assert_true(image_in_plt(im, ELF_CODE_ADDR + 0xdf));
	assert_false(image_in_plt(im, ELF_CODE_ADDR + 0xe0));
	assert_false(image_in_plt(im, ELF_CODE_ADDR));
	shut(im);
}

static void refuse(const uint8_t *file, size_t size, int code, const char *word)
{
	struct image *im;
	struct ts_err err;

	assert_int_equal(open_bytes(file, size, &im, &err), -code);
	assert_non_null(strstr(err.text, "the file"));
	assert_non_null(strstr(err.text, word));
}

static void test_refused(void **state)
{
	uint8_t good[ELF_MAX], file[ELF_MAX];
	size_t size = build(good);
	Elf64_Ehdr *h = (Elf64_Ehdr *)file;
	struct image *im;
	int fds[2];

	(void)state;
	refuse(good, 0, ENOEXEC, "not an ELF");
	refuse((const uint8_t *)"#!/bin/sh\n", 10, ENOEXEC, "not an ELF");
	refuse(good, 40, EBADMSG, "truncated");
	memcpy(file, good, size);
	h->e_ident[EI_CLASS] = ELFCLASS32;
	refuse(file, size, ENOEXEC, "64-bit");
	memcpy(file, good, size);
	h->e_ident[EI_DATA] = ELFDATA2MSB;
	refuse(file, size, ENOEXEC, "big-endian");
	memcpy(file, good, size);
	h->e_machine = EM_RISCV;
	refuse(file, size, ENOEXEC, "machine 243");
	memcpy(file, good, size);
	h->e_type = ET_REL;
	refuse(file, size, ENOEXEC, "neither");
	memcpy(file, good, size);
	h->e_phoff = UINT64_MAX - 8;
	refuse(file, size, EBADMSG, "truncated");

	memcpy(file, good, size);
	((Elf64_Phdr *)(file + sizeof(*h)))->p_filesz += size;
	refuse(file, size, EBADMSG, "truncated");

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(image_open(&im, fds[0], "a pipe", NULL), -ENOEXEC);
	assert_null(im);
	close(fds[0]);
	close(fds[1]);
	image_close(NULL);
}

/* Names that do not end are not read. */
static void test_endless_names(void **state)
{
	uint8_t file[ELF_MAX];
	size_t size = build(file);
	Elf64_Shdr *s = (Elf64_Shdr *)(file + ((Elf64_Ehdr *)file)->e_shoff);
	struct image_symbol sym;
	struct image *im;
	struct ts_err err;

	(void)state;
	s[SEC_DYNSTR].sh_size--;
	assert_int_equal(open_bytes(file, size, &im, &err), 0);
	assert_int_equal(image_symbol(im, "wide", &sym), IMAGE_NOWHERE);
	assert_false(image_symbol_starts(im, ELF_CODE_ADDR));
	assert_int_equal(image_symbol(im, "SSL_write", &sym), IMAGE_SYMTAB);
	shut(im);
}

/* What else is in a file that has a PLT; the dynamic section's entries are in the order of
 * code_plt. */
static bool plt_leads(uint16_t machine, int64_t distance, uint64_t value, bool marked,
		      void (*change)(Elf64_Dyn *dynamic))
{
	static struct code_buf code;
	static uint8_t file[ELF_MAX];
	uint64_t plt = ELF_CODE_ADDR + 0x10, target = 0;
	struct elf_layout l = {machine, &code, plt, 0x20, NULL, 0, false};
	struct image *im;
	struct ts_err err;
	bool known;

	code = (struct code_buf){.len = 0x40};
	code_plt(&code, machine, plt, plt + (uint64_t)distance, value, marked);
	if (change)
		change((void *)(code.bytes + (code.dynamic - ELF_CODE_ADDR)));
	assert_int_equal(open_bytes(file, make_elf(&l, file), &im, &err), 0);
	known = image_plt_target(im, plt, &target);
	assert_true(!known || target == value);
	assert_false(image_plt_target(im, plt + 0x10, &target)); /* no entry */
	assert_false(image_plt_target(im, plt - 4, &target));	 /* not in it */
	shut(im);
	return known;
}

static void no_table(Elf64_Dyn *d)
{
	d[0].d_un.d_ptr = 0;
}

static void short_table(Elf64_Dyn *d)
{
	d[1].d_un.d_val -= sizeof(Elf64_Rela);
}

static void endless_table(Elf64_Dyn *d)
{
	d[1].d_un.d_val = UINT64_MAX;
	d[0].d_un.d_ptr += 8; /* finds nothing */
}

static void another_form(Elf64_Dyn *d)
{
	d[2].d_un.d_val = DT_REL;
}

static void no_symbols(Elf64_Dyn *d)
{
	d[3].d_tag = DT_DEBUG;
}

static void symbols_outside(Elf64_Dyn *d)
{
	d[3].d_un.d_ptr = UINT64_MAX - 8;
}

static void test_plt(void **state)
{
	static const uint16_t machines[] = {EM_X86_64, EM_AARCH64};
	uint64_t mine = ELF_CODE_ADDR + 0x30;
	size_t i;

	(void)state;
	for (i = 0; i < 4; i++) {
		uint16_t m = machines[i / 2];
		bool marked = i % 2;

		assert_true(plt_leads(m, 0x123458, mine, marked, NULL));
		assert_true(plt_leads(m, 0x8, mine, marked, NULL));
		assert_true(plt_leads(m, -0x7ff8, mine, marked, NULL));
		assert_false(plt_leads(m, 0x123458, 0, marked, NULL));
		assert_false(plt_leads(m, 0x123458, mine, marked, short_table));
		assert_false(plt_leads(m, 0x123458, mine, marked, another_form));
		assert_false(plt_leads(m, 0x123458, mine, marked, no_symbols));
		assert_false(plt_leads(m, 0x123458, mine, marked, no_table));
		assert_false(plt_leads(m, 0x123458, mine, marked, endless_table));
		assert_false(plt_leads(m, 0x123458, mine, marked, symbols_outside));
	}
}

/* Everything that a caller does with a file that opens. */
static void use(struct image *im)
{
	struct image_symbol s;
	uint64_t offset, addr;
	uint8_t bytes[64];

	image_symbol(im, "SSL_read", &s);
	image_symbol(im, "nothing", &s);
	for (addr = ELF_CODE_ADDR - 1; addr < ELF_CODE_ADDR + 0x200; addr += 0x31) {
		image_symbol_starts(im, addr);
		image_offset(im, addr, &offset);
		image_read(im, addr, bytes, sizeof(bytes));
		image_in_plt(im, addr);
		image_plt_target(im, addr, &offset);
	}
}

static void test_truncated(void **state)
{
	uint8_t file[ELF_MAX];
	size_t size = build(file), n;
	struct image *im;
	struct ts_err err;
	int ret;

	(void)state;
	for (n = 0; n < size; n += n < 256 || n > size - 1024 ? 1 : 61) {
		ret = open_bytes(file, n, &im, &err);
		assert_true(ret == -ENOEXEC || ret == -EBADMSG);
	}
}

/* It shrinks while it is open: what was there is gone, and nothing else happens. */
static void test_shrinks(void **state)
{
	struct image *im = open_good();
	struct image_symbol s;
	uint8_t bytes[16];

	(void)state;
	assert_int_equal(ftruncate(image_fd(im), 100), 0);
	assert_int_equal(image_symbol(im, "SSL_read", &s), IMAGE_NOWHERE);
	assert_int_equal(image_read(im, ELF_CODE_ADDR, bytes, sizeof(bytes)), 0);
	shut(im);
}

static void test_damaged(void **state)
{
	uint8_t good[ELF_MAX], file[ELF_MAX];
	size_t size = build(good), at;
	unsigned int random = 1, round;
	struct image *im;
	struct ts_err err;

	(void)state;
	for (round = 0; round < 6000; round++) {
		memcpy(file, good, size);
		random = random * 1103515245 + 12345;
		/* The headers, the symbols and the section headers are what is looked at. */
		at = random >> 8;
		at = round % 3 ? size - 1 - at % 1400 : at % 120;
		file[at] ^= (uint8_t)(1u << (random >> 4 & 7));
		file[at + (at + 1 < size)] = round % 5 ? file[at + 1] : 0xff;
		if (!open_bytes(file, size, &im, &err)) {
			use(im);
			shut(im);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),	  cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_refused),	  cmocka_unit_test(test_endless_names),
		cmocka_unit_test(test_truncated), cmocka_unit_test(test_shrinks),
		cmocka_unit_test(test_damaged),	  cmocka_unit_test(test_plt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
