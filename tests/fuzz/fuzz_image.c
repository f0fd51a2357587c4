/* SPDX-License-Identifier: MIT */
/*
 * An ELF file of unknown origin: opened, searched, disassembled and planned. The input is either
 * the file itself, or changes to a sound file and the code of its functions: so the fuzzer gets
 * behind the headers without a seed.
 */
#include <stdlib.h>

#include "../unit/make_elf.h"
#include "resolve.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PATCH = 3, MAX_PATCHES = 16, NAMES = 7 };

/* data: machine, number of patches, patches (16-bit place, value), code. Returns the file's size.
 */
static size_t build(const uint8_t *data, size_t size, uint8_t *file)
{
	static const char *const names[NAMES] = {"SSL_read",	 "SSL_read_ex",	  "SSL_write",
						 "SSL_write_ex", "SSL_write_ex2", "SSL_free",
						 "SSL_peek@@OLD"};
	size_t patches = data[1] % MAX_PATCHES, i, at, step, total;
	struct elf_symbol symbols[NAMES];
	struct elf_layout l = {.machine = data[0] & 1 ? EM_X86_64 : EM_AARCH64,
			       .plt = ELF_CODE_ADDR,
			       .plt_size = 16,
			       .symbols = symbols,
			       .count = data[0] & 2 ? NAMES : NAMES - 3};
	static struct code_buf code;

	if (size < 2 + patches * PATCH)
		patches = 0;
	at = 2 + patches * PATCH;
	code.len = 0;
	code_add(&code, data + at, size - at < 1024 ? size - at : 1024);
	step = code.len / l.count & ~(size_t)3;
	for (i = 0; i < l.count; i++)
		symbols[i] = (struct elf_symbol){
			names[i], ELF_CODE_ADDR + i * step, step, STT_FUNC, 1, i == NAMES - 1};
	l.code = &code;
	total = make_elf(&l, file);
	for (i = 0; i < patches; i++) {
		at = data[2 + i * PATCH] | (size_t)data[3 + i * PATCH] << 8;
		/* The zeros between the headers and the code are nothing to change. */
		at = at % 3 ? ELF_CODE_OFFSET + at % (total - ELF_CODE_OFFSET) : at % 120;
		file[at] = data[4 + i * PATCH];
	}
	return total;
}

static void check_symbols(struct image *im, const struct resolve_plan *plan)
{
	struct image_symbol sym;
	uint64_t offset;
	size_t i;

	for (i = 0; i < plan->funcs_count; i++)
		if (image_symbol(im, plan->funcs[i].func->name, &sym) != IMAGE_NOWHERE &&
		    (image_offset(im, sym.addr, &offset) || !image_symbol_starts(im, sym.addr)))
			abort();
}

static void use_row(struct image *im, const struct lib_row *row)
{
	struct resolve_plan plan;
	struct ts_err err;
	size_t i;

	if (resolve_is(im, row, &err) || resolve_any(im, row, &plan, &err))
		return;
	for (i = 0; i < plan.sites_count; i++)
		if (plan.sites[i].func >= plan.funcs_count)
			abort();
	check_symbols(im, &plan);
	resolve_free(&plan);
}

static void use(struct image *im)
{
	size_t i;

	for (i = 0; i < lib_rows_count; i++)
		use_row(im, &lib_rows[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[ELF_MAX];
	struct image *im;
	struct ts_err err;
	int fd;

	if (size < 2)
		return 0;
	if (data[0] & 0x80)
		fd = make_file(data + 1, size - 1);
	else
		fd = make_file(file, build(data, size, file));
	if (fd < 0)
		abort();
	if (!image_open(&im, fd, "fuzz", &err)) {
		use(im);
		image_close(im);
	}
	close(fd);
	return 0;
}
