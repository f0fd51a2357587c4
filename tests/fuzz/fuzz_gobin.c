/* SPDX-License-Identifier: MIT */
/*
 * A Go program of unknown origin: recognised, its functions listed, their stack depths asked. The
 * input is the file itself, or the bytes of its buildinfo and of gopclntab in a sound file, or
 * changes to a sound program: so the fuzzer gets behind the headers without a seed.
 */
#include <errno.h>
#include <stdlib.h>

#include "../unit/make_go.h"
#include "gobin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { IS_FILE = 0x80, IS_TABLE = 0x40, PATCH = 3, MAX_PATCHES = 24, MAX_SEEN = 100 };

static const struct go_func funcs[] = {
	{"runtime.text", 64, 0, false},
	{"crypto/tls.(*Conn).Read", 0x124, 12, false},
	{NULL, 0x40, 0, true},
	{"_cgo_of_c", 0, 0x20, false},
	{"crypto/tls.(*Conn).Write", 0x200, 0, false},
};

/* The low bits of the first byte say what kind of program it is. */
static struct go_layout layout(uint8_t kind)
{
	static const uint32_t magics[] = {GO_MAGIC_1_2, GO_MAGIC_1_16, GO_MAGIC_1_18,
					  GO_MAGIC_1_20};
	struct go_layout l = {.magic = magics[kind & 3],
			      .machine = kind & 4 ? EM_AARCH64 : EM_X86_64,
			      .pie = kind & 8,
			      .no_text = kind & 16,
			      .sections = kind & 32 ? GO_NONE : GO_NAMED,
			      .old_version = !(kind & 2),
			      .version = "go1.19.8",
			      .funcs = funcs,
			      .count = sizeof(funcs) / sizeof(funcs[0])};

	return l;
}

/* 48 bytes of buildinfo behind its magic, then the table behind the first eight bytes. */
static void replace(struct go_file *f, const uint8_t *data, size_t size)
{
	size_t n = size < 48 ? size : 48;

	memcpy(f->bytes + GO_DATA + 14, data, n);
	data += n;
	size -= n;
	n = size < GO_TABLE_MAX - 8 ? size : GO_TABLE_MAX - 8;
	memset(f->bytes + f->table + 8, 0, GO_TABLE_MAX - 8);
	memcpy(f->bytes + f->table + 8, data, n);
}

/* Each: a place (16 bits) among those that mean something, and what is there. */
static void patch(struct go_file *f, const uint8_t *data, size_t size)
{
	static const struct {
		size_t at, size;
	} parts[] = {{0, 0x50}, {0x1000, 0x40}, {0x1400, 0x180}, {0x10, 0x180}, {0x1c00, 0x40}};
	size_t i, at, part;

	for (i = 0; i < MAX_PATCHES && (i + 1) * PATCH <= size; i++) {
		at = data[i * PATCH] | (size_t)data[i * PATCH + 1] << 8;
		part = at & 7;
		at >>= 3;
		if (part < 5)
			at = f->table + parts[part].at + at % parts[part].size;
		else if (part == 5)
			at = GO_DATA + at % (GO_DATA_TABLE - GO_DATA);
		else if (part == 6)
			at = GO_RELAS + at % (f->size - GO_RELAS + 1);
		else
			at = at % (sizeof(Elf64_Ehdr) + GO_PHDRS * sizeof(Elf64_Phdr));
		f->bytes[at] = data[i * PATCH + 2];
	}
}

static int build(const uint8_t *data, size_t size)
{
	static struct go_file f;
	struct go_layout l = layout(data[0]);

	go_fill(&f, &l);
	if (data[0] & IS_TABLE)
		replace(&f, data + 1, size - 1);
	go_end(&f, &l);
	if (!(data[0] & IS_TABLE))
		patch(&f, data + 1, size - 1);
	return make_file(f.bytes, f.size);
}

struct use {
	struct image *im;
	struct gobin *g;
	uint64_t last;
	size_t seen;
};

/* What a caller may rely on. */
static int on_found(void *ctx, const struct gobin_func *f, size_t pattern)
{
	struct use *u = ctx;
	uint64_t offset, i;
	int32_t depth;
	int ret;

	if (pattern || !memchr(f->name, 0, sizeof(f->name)) || f->addr < u->last ||
	    image_offset(u->im, f->addr, &offset) ||
	    (f->size && image_offset(u->im, f->addr + f->size - 1, &offset)))
		abort();
	u->last = f->addr;
	for (i = 0; i < 4; i++) {
		ret = gobin_depth(u->g, f, f->addr + f->size / 4 * i, &depth);
		if (ret != (f->size ? 0 : -ENOENT))
			abort();
	}
	return ++u->seen == MAX_SEEN;
}

static void use(struct image *im)
{
	const char *all = "*", *one = "crypto/tls.(\\*Conn).Read";
	struct use u = {.im = im};
	struct ts_err err;
	const char *p;
	int ret;

	if (gobin_open(&u.g, im, &err))
		return;
	for (p = gobin_version(u.g); *p; p++)
		if (*p < ' ' || *p > '~')
			abort();
	ret = gobin_find(u.g, &all, 1, on_found, &u);
	if (gobin_problem(u.g) && (!ret || u.seen))
		abort();
	u.last = 0;
	gobin_find(u.g, &one, 1, on_found, &u);
	gobin_close(u.g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image *im;
	struct ts_err err;
	int fd;

	if (size < 1)
		return 0;
	fd = data[0] & IS_FILE ? make_file(data + 1, size - 1) : build(data, size);
	if (fd < 0)
		abort();
	if (!image_open(&im, fd, "fuzz", &err)) {
		use(im);
		image_close(im);
	}
	close(fd);
	return 0;
}
