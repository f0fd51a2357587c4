/* SPDX-License-Identifier: MIT */
/*
 * A function's code of unknown origin, wrapped in a sound file. The first byte tells the
 * architecture and how many of the others follow the function.
 */
#include <stdlib.h>

#include "../unit/make_elf.h"
#include "disasm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_return(uint16_t machine, const uint8_t *at, const uint8_t *end)
{
	uint32_t word;

	if (machine == EM_AARCH64) {
		memcpy(&word, at, sizeof(word));
		return word == 0xd65f03c0 || word == 0xd65f0bff || word == 0xd65f0fff;
	}
	/* Legacy prefixes, then REX. */
	while (at < end && (memchr("\x26\x2e\x36\x3e\x64\x65\x67\xf0\xf2\xf3", *at, 10) ||
			    (*at & 0xf0) == 0x40))
		at++;
	return at < end && (*at == 0xc2 || *at == 0xc3);
}

/* Where in the code an address is. It lies in the function, and behind the one before; 0: none. */
static size_t place(uint16_t machine, size_t size, uint64_t addr, uint64_t before)
{
	size_t at = (size_t)(addr - ELF_CODE_ADDR);

	if (at >= size || addr <= before || (machine == EM_AARCH64 && (at % 4 || size - at < 4)))
		abort();
	return at;
}

/* What those rely on who put breakpoints there. */
static void check(uint16_t machine, const struct code_buf *code, size_t size,
		  const struct disasm_places *r)
{
	size_t i, at;

	if (!r->count || r->count > DISASM_MAX_PLACES)
		abort();
	for (i = 0; i < r->count; i++) {
		at = place(machine, size, r->addrs[i], i ? r->addrs[i - 1] : 0);
		if (!is_return(machine, code->bytes + at, code->bytes + size))
			abort();
	}
}

/* Whether the kernel emulates it: arch/x86/kernel/uprobes.c, arch/arm64/kernel/probes. */
static bool is_emulated(uint16_t machine, const uint8_t *at)
{
	uint32_t word;

	if (machine == EM_X86_64)
		return at[0] == 0x90 || (at[0] & 0xf8) == 0x50 || (at[0] & 0xf0) == 0x70 ||
		       (at[0] == 0x41 && (at[1] & 0xf8) == 0x50) || at[0] == 0xe9 ||
		       at[0] == 0xeb || (at[0] == 0x0f && (at[1] & 0xf0) == 0x80);
	memcpy(&word, at, sizeof(word));
	return (word & 0x1f000000) == 0x10000000 || (word & 0x7c000000) == 0x14000000 ||
	       (word & 0x7c000000) == 0x34000000 || word >> 24 == 0x54 ||
	       (word & 0xbf000000) == 0x18000000;
}

static void check_entries(uint16_t machine, const struct code_buf *code, size_t size,
			  const struct disasm_entries *e)
{
	size_t i, at;

	if (!e->count || e->count > DISASM_MAX_ENTRIES)
		abort();
	for (i = 0; i < e->count; i++) {
		at = place(machine, size, e->at[i].addr, i ? e->at[i - 1].addr : 0);
		if (!is_emulated(machine, code->bytes + at) ||
		    (!at && (e->at[i].intact != ~0u || e->at[i].depth || !e->at[i].returns)) ||
		    (machine == EM_X86_64 && e->at[i].returns != !e->at[i].depth))
			abort();
	}
}

static void use_entries(struct image *im, const struct code_buf *code, size_t size)
{
	struct image_symbol sym = {"f", ELF_CODE_ADDR, size}, open = {"f", ELF_CODE_ADDR, 0};
	struct disasm_entries e;

	if (!disasm_entries(im, &sym, &e))
		check_entries(image_machine(im), code, size, &e);
	else if (e.count)
		abort();
	if (!disasm_entries(im, &open, &e))
		check_entries(image_machine(im), code, code->len, &e);
	else if (e.count)
		abort();
}

/* Half of the code may be what is called. */
static void use_end(struct image *im, const struct code_buf *code, size_t size)
{
	struct image_symbol sym = {"f", ELF_CODE_ADDR, size};
	const uint64_t inner = ELF_CODE_ADDR + code->len / 2;
	struct disasm_places uses;
	struct disasm_end e;
	size_t at;

	if (disasm_uses(im, &sym, inner, &uses) && uses.count)
		abort();
	if (disasm_end(im, &sym, inner, &e))
		return;
	at = place(image_machine(im), size, e.addr, 0);
	if (uses.count != 1 ||
	    (!is_emulated(image_machine(im), code->bytes + at) &&
	     !is_return(image_machine(im), code->bytes + at, code->bytes + size)))
		abort();
}

static void use(struct image *im, const struct code_buf *code, size_t size)
{
	struct image_symbol sym = {"f", ELF_CODE_ADDR, size};
	struct disasm_goroutine g;
	struct disasm_places r;
	struct disasm_calls c;
	int32_t offset;
	int ret;

	ret = disasm_calls(im, &sym, &c);
	if (c.count > DISASM_MAX_CALLS || (ret && c.count))
		abort();
	disasm_counter(im, &sym, &offset);
	if (!disasm_goroutine(im, &sym, &g) && image_machine(im) != EM_X86_64)
		abort();
	use_entries(im, code, size);
	use_end(im, code, size);
	ret = disasm_returns(im, &sym, &r);
	if (!ret)
		check(image_machine(im), code, size, &r);
	else if (r.count)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[ELF_MAX];
	static struct code_buf code;
	struct elf_layout l = {.code = &code};
	struct image *im;
	struct ts_err err;
	size_t after;
	int fd;

	if (size < 2)
		return 0;
	after = data[0] >> 1;
	l.machine = data[0] & 1 ? EM_X86_64 : EM_AARCH64;
	code.len = 0;
	code_add(&code, data + 1, size - 1 < sizeof(code.bytes) ? size - 1 : sizeof(code.bytes));
	fd = make_file(file, make_elf(&l, file));
	if (fd < 0 || image_open(&im, fd, "fuzz", &err))
		abort();
	use(im, &code, after < code.len ? code.len - after : code.len);
	image_close(im);
	close(fd);
	return 0;
}
