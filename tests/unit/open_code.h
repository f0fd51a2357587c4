/* SPDX-License-Identifier: MIT */
/* A function's code, opened as a file: what disasm.h is asked about. */
#ifndef TLSSCOPE_OPEN_CODE_H
#define TLSSCOPE_OPEN_CODE_H

#include "disasm.h"
#include "make_elf.h"

/* Bytes of a function, after their number: two members of a table's row. */
#define FN(...)                                                                                    \
	sizeof((uint8_t[]){__VA_ARGS__}),                                                          \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}
/* The bytes of an instruction of arm64. */
#define WORD(w) (w) & 0xff, (w) >> 8 & 0xff, (w) >> 16 & 0xff, (uint32_t)(w) >> 24

struct opened {
	struct image *im;
	struct image_symbol sym; /* the function */
	int fd;
};

/* The function is the part of the code from skip on that has this size. */
static inline void open_code(struct opened *o, uint16_t machine, const struct code_buf *code,
			     size_t skip, size_t size)
{
	uint8_t file[ELF_MAX];
	struct elf_layout l = {.machine = machine, .code = code};

	o->sym = (struct image_symbol){"f", ELF_CODE_ADDR + skip, size};
	o->fd = make_file(file, make_elf(&l, file));
	assert_true(o->fd >= 0);
	assert_int_equal(image_open(&o->im, o->fd, "code", NULL), 0);
}

static inline void shut(struct opened *o)
{
	image_close(o->im);
	close(o->fd);
}

#endif
