/* SPDX-License-Identifier: MIT */
/* Data, and what the dynamic linker makes of it. The programs are those that make_go makes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "image.h"
#include "make_go.h"

static const struct go_layout pie = {
	.magic = GO_MAGIC_1_20, .machine = EM_X86_64, .pie = true, .version = "go1.24"};

static struct image *open_go(const struct go_file *f)
{
	int fd = make_file(f->bytes, f->size);
	struct image *im;

	assert_true(fd >= 0);
	assert_int_equal(image_open(&im, fd, "the file", NULL), 0);
	return im;
}

static void shut(struct image *im)
{
	int fd = image_fd(im);

	image_close(im);
	close(fd);
}

static void test_parts(void **state)
{
	static struct go_file f;
	struct image_range r;
	struct image *im;
	uint8_t bytes[32];
	bool writable;

	(void)state;
	make_go(&f, &pie);
	im = open_go(&f);
	assert_true(image_segment(im, 0, &r, &writable));
	assert_int_equal(r.addr, GO_CODE);
	assert_int_equal(r.size, GO_TABLE - GO_CODE);
	assert_false(writable);
	assert_true(image_segment(im, 2, &r, &writable));
	assert_int_equal(r.addr, GO_DATA);
	assert_true(writable);
	assert_true(image_segment(im, 3, &r, &writable));
	assert_false(image_segment(im, 4, &r, &writable));
	assert_false(image_segment(im, SIZE_MAX, &r, &writable));

	assert_true(image_has_sections(im));
	assert_true(image_section(im, ".go.buildinfo", &r));
	assert_int_equal(r.addr, GO_DATA);
	assert_int_equal(r.size, GO_STRING - GO_DATA);
	assert_false(image_section(im, ".go.buildinf", &r));
	assert_false(image_section(im, ".go.module", &r)); /* is not loaded */
	assert_false(image_section(im, "", &r));

	assert_int_equal(image_read_file(im, GO_DATA, bytes, 14), 14);
	assert_memory_equal(bytes, "\xff Go buildinf:", 14);
	assert_int_equal(image_read_file(im, GO_DATA - 8, bytes, sizeof(bytes)), 8);
	assert_int_equal(image_read_file(im, 8, bytes, sizeof(bytes)), -ENOENT);
	assert_int_equal(image_read(im, GO_DATA, bytes, sizeof(bytes)), -ENOENT);
	assert_int_equal(image_read_data(im, 8, bytes, sizeof(bytes)), -ENOENT);
	shut(im);

	go_fill(&f, &pie);
	go_headers(&f);
	im = open_go(&f);
	assert_false(image_has_sections(im));
	assert_false(image_section(im, ".go.buildinfo", &r));
	shut(im);
}

/* Data that the file does not hold to its end is short; a section must be whole. */
static void test_parts_cut(void **state)
{
	static struct go_file f;
	struct image_range r;
	struct image *im;
	uint8_t bytes[64];
	Elf64_Shdr *s;
	bool writable;

	(void)state;
	make_go(&f, &pie);
	((Elf64_Phdr *)(f.bytes + sizeof(Elf64_Ehdr)))[GO_PHDR_DATA].p_filesz = UINT64_MAX;
	((Elf64_Phdr *)(f.bytes + sizeof(Elf64_Ehdr)))[GO_PHDR_RELAS].p_offset = UINT64_MAX;
	s = (Elf64_Shdr *)(f.bytes + ((Elf64_Ehdr *)f.bytes)->e_shoff);
	s[3].sh_size = GO_MAX;
	s[1].sh_type = SHT_NOBITS;
	im = open_go(&f);
	assert_true(image_segment(im, 2, &r, &writable));
	assert_int_equal(r.size, f.size - GO_DATA);
	assert_true(image_segment(im, 3, &r, &writable));
	assert_int_equal(r.size, 0);
	assert_int_equal(image_read_file(im, f.size - 10, bytes, sizeof(bytes)), 10);
	assert_false(image_section(im, ".go.buildinfo", &r));
	assert_false(image_section(im, ".text", &r));
	shut(im);
}

static void check_bytes(struct image *im, uint64_t addr, size_t len, const char *want)
{
	uint8_t bytes[32];

	assert_int_equal(image_read_data(im, addr, bytes, len), len);
	assert_memory_equal(bytes, want, len);
}

static void check_relocated(uint16_t machine, uint32_t type)
{
	struct go_layout l = pie;
	static struct go_file f;
	struct image *im;
	uint64_t word;
	size_t i;

	l.machine = machine;
	go_fill(&f, &l);
	f.relas_count = 0;
	memset(f.bytes + GO_STRING, '.', 32);
	go_rela(&f, GO_STRING + 8, type, 0x1122334455667788);
	go_rela(&f, GO_STRING + 16, type + 1, 0x99); /* is for something else */
	go_rela(&f, GO_STRING + 27, ELF64_R_INFO(1, type), -1);
	/* More than are looked at in one go, and not in their order; the last one counts. */
	for (i = 0; i < 1150; i++)
		go_rela(&f, GO_DATA_TABLE + (i * 7 % 1150) * 8, type, (int64_t)i);
	go_rela(&f, GO_STRING + 26, type, -2);
	go_rela(&f, UINT64_MAX - 2, type, 0); /* its end would be address 4 */
	go_end(&f, &l);
	im = open_go(&f);
	check_bytes(im, GO_STRING, 32,
		    "........\x88\x77\x66\x55\x44\x33\x22\x11..........\xfe\xff\xff\xff\xff\xff");
	check_bytes(im, GO_STRING + 4, 7, "....\x88\x77\x66");
	check_bytes(im, GO_STRING + 10, 3, "\x66\x55\x44");
	check_bytes(im, GO_STRING + 15, 4, "\x11...");
	check_bytes(im, GO_STRING + 16, 8, "........");
	for (i = 0; i < 1150; i++) {
		assert_int_equal(image_read_data(im, GO_DATA_TABLE + (i * 7 % 1150) * 8, &word, 8),
				 8);
		assert_int_equal(word, i);
	}
	assert_int_equal(image_read_file(im, GO_DATA_TABLE + 7 * 8, &word, 8), 8);
	assert_int_equal(word, 0);
	shut(im);
}

static void test_relocated(void **state)
{
	static struct go_file f;
	struct image *im;

	(void)state;
	check_relocated(EM_X86_64, R_X86_64_RELATIVE);
	check_relocated(EM_AARCH64, R_AARCH64_RELATIVE);
	/* One alone, of which only the first or the last byte is read. */
	go_fill(&f, &pie);
	f.relas_count = 0;
	go_rela(&f, GO_STRING + 8, R_X86_64_RELATIVE, 0x1122334455667788);
	go_end(&f, &pie);
	im = open_go(&f);
	check_bytes(im, GO_STRING + 15, 2, "\x11");
	check_bytes(im, GO_STRING + 7, 2, "\0\x88");
	check_bytes(im, GO_STRING + 16, 2, "\0");
	shut(im);
}

/* A table that is not in the file, or of other entries, is an error and not a guess. */
static void test_relocated_cut(void **state)
{
	static const struct {
		size_t entry;
		uint64_t value;
	} bad[] = {{0, 0x100}, {0, UINT64_MAX}, {1, GO_MAX}, {1, UINT64_MAX}, {2, 16}, {2, 0}};
	static struct go_file f;
	struct image *im;
	uint64_t word;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		make_go(&f, &pie);
		go_put(&f, GO_DYNAMIC + bad[i].entry * 16 + 8, bad[i].value, 8);
		im = open_go(&f);
		assert_int_equal(image_read_data(im, GO_MODULE, &word, 8), -EBADMSG);
		assert_int_equal(image_read_data(im, GO_MODULE, &word, 8), -EBADMSG);
		assert_int_equal(image_read_file(im, GO_MODULE, &word, 8), 8);
		shut(im);
	}
	make_go(&f, &pie);
	im = open_go(&f);
	assert_int_equal(ftruncate(image_fd(im), GO_RELAS + 8), 0);
	assert_int_equal(image_read_data(im, GO_MODULE, &word, 8), -EBADMSG);
	shut(im);
	/* One more than the segment has; the file has more. */
	make_go(&f, &pie);
	go_put(&f, GO_DYNAMIC + 16 + 8, (f.relas_count + 1) * sizeof(Elf64_Rela), 8);
	im = open_go(&f);
	assert_int_equal(image_read_data(im, GO_MODULE, &word, 8), -EBADMSG);
	shut(im);
	/* None at all is nothing bad. */
	make_go(&f, &pie);
	go_put(&f, GO_DYNAMIC + 16 + 8, 0, 8);
	im = open_go(&f);
	assert_int_equal(image_read_data(im, GO_MODULE, &word, 8), 8);
	assert_int_equal(word, 0);
	shut(im);
}

/* Changes the dynamic section and the headers of a program with three slots for TLS. */
static struct image *open_tls(uint16_t machine, const Elf64_Dyn *more, const Elf64_Phdr *headers)
{
	const uint32_t type = machine == EM_X86_64 ? R_X86_64_TPOFF64 : R_AARCH64_TLS_TPREL;
	const Elf64_Sym symbols[] = {
		{0},
		{0, ELF64_ST_INFO(STB_GLOBAL, STT_TLS), 0, 9, 0x20, 8},
		{0, ELF64_ST_INFO(STB_GLOBAL, STT_TLS), 0, SHN_UNDEF, 0, 0},
	};
	struct go_layout l = pie;
	static struct go_file f;

	l.machine = machine;
	go_fill(&f, &l);
	go_rela(&f, GO_STRING, type, 8);
	go_rela(&f, GO_STRING + 8, ELF64_R_INFO(1, type), 4);
	go_rela(&f, GO_STRING + 16, ELF64_R_INFO(2, type), 0);
	go_rela(&f, GO_STRING + 24, ELF64_R_INFO(9999, type), 0);
	go_rela(&f, GO_STRING + 32, ELF64_R_INFO(1, type + 1), 0);
	memcpy(f.bytes + GO_TABLE, symbols, sizeof(symbols));
	go_end(&f, &l);
	go_put(&f, GO_DYNAMIC + 64, DT_SYMTAB, 8);
	go_put(&f, GO_DYNAMIC + 72, GO_TABLE, 8);
	memcpy(f.bytes + GO_DYNAMIC + 48, more, sizeof(*more));
	/* All headers once more, where there is room for two at their end. */
	memmove(f.bytes + 0x800, f.bytes + sizeof(Elf64_Ehdr), GO_PHDRS * sizeof(*headers));
	memcpy(f.bytes + 0x800 + GO_PHDRS * sizeof(*headers), headers, 2 * sizeof(*headers));
	((Elf64_Ehdr *)f.bytes)->e_phoff = 0x800;
	((Elf64_Ehdr *)f.bytes)->e_phnum = GO_PHDRS + 2;
	return open_go(&f);
}

static void check_slot(struct image *im, uint64_t addr, int ret, int64_t want)
{
	int64_t offset = 0;

	assert_int_equal(image_tls_slot(im, addr, &offset), ret);
	assert_int_equal(offset, want);
}

/* On x86_64 the first five are what glibc gave to real programs of these shapes. */
static void test_tls(void **state)
{
	static const struct {
		uint64_t addr, size, align;
		int64_t x86, arm;
	} shapes[] = {
		{0x3d88, 0x21, 8, -0x28, 16},	       {0x3d88, 0x27, 8, -0x28, 16},
		{0x3d40, 0x53, 64, -0x80, 64},	       {0x3c00, 0x184, 256, -0x200, 256},
		{0x3000, 0x1019, 4096, -0x2000, 4096}, {0x3d88, 0x28, 0, -0x28, 16},
		{0x3d48, 0x30, 64, -0x38, 72},
	};
	const Elf64_Dyn dyn = {DT_FLAGS_1, {DF_1_PIE}};
	struct image *im;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		const Elf64_Phdr h[2] = {{.p_type = PT_TLS,
					  .p_vaddr = shapes[i].addr,
					  .p_memsz = shapes[i].size,
					  .p_align = shapes[i].align}};

		im = open_tls(EM_X86_64, &dyn, h);
		check_slot(im, GO_STRING, 0, shapes[i].x86 + 8);
		check_slot(im, GO_STRING + 8, 0, shapes[i].x86 + 0x24);
		check_slot(im, GO_STRING + 16, -ENOENT, 0);
		check_slot(im, GO_STRING + 24, -EBADMSG, 0);
		check_slot(im, GO_STRING + 32, -ENOENT, 0);
		check_slot(im, GO_STRING + 1, -ENOENT, 0);
		check_slot(im, GO_MODULE, -ENOENT, 0);
		shut(im);
		im = open_tls(EM_AARCH64, &dyn, h);
		check_slot(im, GO_STRING, 0, shapes[i].arm + 8);
		check_slot(im, GO_STRING + 8, 0, shapes[i].arm + 0x24);
		shut(im);
	}
}

/* Only where the program itself is: there its TLS comes first. */
static void test_tls_of_programs(void **state)
{
	const Elf64_Dyn named = {DT_SONAME, {1}}, none = {DT_DEBUG, {0}};
	const Elf64_Dyn is_pie = {DT_FLAGS_1, {DF_1_PIE}};
	Elf64_Phdr h[2] = {{.p_type = PT_TLS, .p_memsz = 8, .p_align = 8}, {.p_type = PT_NULL}};
	struct image *im;

	(void)state;
	im = open_tls(EM_X86_64, &none, h);
	check_slot(im, GO_STRING, -ENOENT, 0);
	shut(im);
	h[1].p_type = PT_INTERP;
	im = open_tls(EM_X86_64, &none, h);
	check_slot(im, GO_STRING, 0, 0);
	shut(im);
	im = open_tls(EM_X86_64, &named, h);
	check_slot(im, GO_STRING, -ENOENT, 0);
	shut(im);
	h[0].p_align = 24;
	im = open_tls(EM_X86_64, &is_pie, h);
	check_slot(im, GO_STRING, -ENOENT, 0);
	shut(im);
	h[0].p_type = PT_NULL;
	im = open_tls(EM_X86_64, &is_pie, h);
	check_slot(im, GO_STRING, -ENOENT, 0);
	shut(im);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts),	  cmocka_unit_test(test_parts_cut),
		cmocka_unit_test(test_relocated), cmocka_unit_test(test_relocated_cut),
		cmocka_unit_test(test_tls),	  cmocka_unit_test(test_tls_of_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
