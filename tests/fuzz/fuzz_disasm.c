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

/* What those rely on who put breakpoints there. */
static void check(uint16_t machine, const struct code_buf *code, size_t size,
		  const struct disasm_returns *r)
{
	size_t i, at;

	if (!r->count || r->count > DISASM_MAX_RETURNS)
		abort();
	for (i = 0; i < r->count; i++) {
		at = (size_t)(r->addrs[i] - ELF_CODE_ADDR);
		if (at >= size || (i && r->addrs[i] <= r->addrs[i - 1]) ||
		    (machine == EM_AARCH64 && (at % 4 || size - at < 4)) ||
		    !is_return(machine, code->bytes + at, code->bytes + size))
			abort();
	}
}

static void use(struct image *im, const struct code_buf *code, size_t size)
{
	struct image_symbol sym = {"f", ELF_CODE_ADDR, size};
	struct disasm_goroutine g;
	struct disasm_returns r;
	struct disasm_calls c;
	int32_t offset;
	int ret;

	ret = disasm_calls(im, &sym, &c);
	if (c.count > DISASM_MAX_CALLS || (ret && c.count))
		abort();
	disasm_counter(im, &sym, &offset);
	if (!disasm_goroutine(im, &sym, &g) && image_machine(im) != EM_X86_64)
		abort();
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
