/* SPDX-License-Identifier: MIT */
/* Writes made-up libssls, for x86_64 and arm64, and plans what to attach. After cmocka.h. */
#ifndef TLSSCOPE_MAKE_SSL_H
#define TLSSCOPE_MAKE_SSL_H

#include <stdlib.h>

#include "make_elf.h"
#include "resolve.h"

/* What a made-up libssl of one test has; its functions are written one after the other. */
struct lib {
	uint16_t machine;
	struct code_buf code;
	struct elf_symbol symbols[32];
	size_t count;
	uint64_t plt, error;	      /* the PLT, and a function with a name */
	uint64_t read, write, helper; /* functions without a symbol */
	bool fixed;
	struct image *im;
	struct resolve_plan plan;
};

static inline bool x86(const struct lib *l)
{
	return l->machine == EM_X86_64;
}

static inline void call(struct lib *l, uint64_t target)
{
	if (x86(l))
		code_x86(&l->code, 0xe8, target);
	else
		code_arm64(&l->code, 0x94000000, target);
}

static inline void jump(struct lib *l, uint64_t target)
{
	if (x86(l))
		code_x86(&l->code, 0xe9, target);
	else
		code_arm64(&l->code, 0x14000000, target);
}

static inline void ret(struct lib *l)
{
	if (x86(l))
		CODE(&l->code, 0xc3);
	else
		code_word(&l->code, 0xd65f03c0);
}

/* Argument 4 or 5 becomes the address of a local. */
static inline void local(struct lib *l, int arg)
{
	if (!x86(l))
		code_word(&l->code, 0x910003e0u + (uint32_t)arg - 1); /* mov xN, sp */
	else if (arg == 4)
		CODE(&l->code, 0x48, 0x89, 0xe1); /* mov rcx, rsp */
	else
		CODE(&l->code, 0x49, 0x89, 0xe0); /* mov r8, rsp */
}

static inline struct elf_symbol *symbol(struct lib *l, const char *name, uint64_t addr,
					uint64_t size)
{
	struct elf_symbol *s = &l->symbols[l->count++];

	*s = (struct elf_symbol){name, addr, size, STT_FUNC, 1, false};
	return s;
}

/* Names the code that was added since `from`. */
static inline void named(struct lib *l, const char *name, uint64_t from)
{
	symbol(l, name, from, code_at(&l->code) - from);
}

/* An SSL_write that does nothing: enough to be taken for a libssl. */
static inline void marker(struct lib *l)
{
	uint64_t from = code_at(&l->code);

	ret(l);
	named(l, "SSL_write", from);
}

static inline struct lib *begin(uint16_t machine)
{
	struct lib *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	l->machine = machine;
	l->plt = code_at(&l->code);
	while (l->code.len < 0x20)
		ret(l);
	l->read = code_at(&l->code);
	ret(l);
	l->write = code_at(&l->code);
	ret(l);
	l->helper = code_at(&l->code);
	ret(l);
	l->error = code_at(&l->code);
	ret(l);
	symbol(l, "ERR_new", l->error, 1)->symtab = true;
	symbol(l, "SSL_CTX_free", l->error, 1)->symtab = true;
	return l;
}

/* name(conn, buf, int): a local for the result, and calls that matter to nobody. */
static inline void int_form(struct lib *l, const char *name, uint64_t target, int arg)
{
	uint64_t from = code_at(&l->code);

	local(l, arg);
	call(l, target);
	call(l, l->plt);
	call(l, l->error);
	ret(l);
	named(l, name, from);
}

static inline void ex_form(struct lib *l, const char *name, uint64_t target)
{
	uint64_t from = code_at(&l->code);

	call(l, l->plt);
	call(l, l->error);
	call(l, target);
	ret(l);
	named(l, name, from);
}

static inline void tail_form(struct lib *l, const char *name, uint64_t target)
{
	uint64_t from = code_at(&l->code);

	jump(l, target);
	named(l, name, from);
}

static inline void open_lib(struct lib *l)
{
	static uint8_t file[ELF_MAX];
	struct elf_layout layout = {l->machine, &l->code, l->plt,  0x20,
				    l->symbols, l->count, l->fixed};
	int fd = make_file(file, make_elf(&layout, file));

	assert_true(fd >= 0);
	assert_int_equal(image_open(&l->im, fd, "libssl", NULL), 0);
}

static inline void plan(struct lib *l)
{
	open_lib(l);
	assert_int_equal(resolve_is(l->im, &lib_rows[0], NULL), 0);
	assert_int_equal(resolve_any(l->im, &lib_rows[0], &l->plan, NULL), 0);
}

static inline void end(struct lib *l)
{
	int fd = image_fd(l->im);

	resolve_free(&l->plan);
	image_close(l->im);
	close(fd);
	free(l);
}

#endif
