/* SPDX-License-Identifier: MIT */
/*
 * Finds gopclntab, and where the code starts that it speaks of. Nothing is taken on trust: what is
 * found must agree with itself and with the code's place.
 */
#include <errno.h>

#include "gobin_private.h"

/* Go's own layouts (runtime/symtab.go, cmd/link/internal/ld/pcln.go), by their magic number. */
enum form { GO_1_2, GO_1_16, GO_1_18 }; /* 1.20's is that of 1.18 */

static const struct {
	uint32_t magic;
	enum form form;
} magics[] = {
	{0xfffffffb, GO_1_2},
	{0xfffffffa, GO_1_16},
	{0xfffffff0, GO_1_18},
	{0xfffffff1, GO_1_18},
};

enum {
	NAMES_1_16 = 24, /* where the header has the places of the parts, in this order: */
	NAMES_1_18 = 32, /* names, compilation units, files, tables, functab with its _funcs */
	PCS = 24,
	FUNCS = 32,
	HEADER = NAMES_1_18 + FUNCS + 8,
	TEXT_START = 24,
	/* Where moduledata, which begins with gopclntab's address, has what we know or want. */
	MODULE_NAMES = 8,
	MODULE_MINPC = 160,
	MODULE_TEXT = 176,
	MODULE = MODULE_TEXT + 8,
	MAX_CANDIDATES = 64,
};
/* More than the largest programs have. */
#define MAX_FUNCS (2u << 20)

static bool is_code(const struct gobin *g, uint64_t addr)
{
	uint64_t offset;

	return !image_offset(g->im, addr, &offset);
}

/* The magic number, two zeros, the size of an instruction and that of a pointer. */
static bool looks_like_header(const struct gobin *g, uint64_t word)
{
	size_t i = 0;

	(void)g;
	while (i < TS_ARRAY_SIZE(magics) && (uint32_t)word != magics[i].magic)
		i++;
	return i < TS_ARRAY_SIZE(magics) && (word >> 32 == 0x08010000 || word >> 32 == 0x08040000);
}

static bool looks_like_module(const struct gobin *g, uint64_t word)
{
	return word == g->table.all.addr;
}

/*
 * Tries every word that looks like it, 8-byte aligned. try() returns 0, or -EBADMSG: go on. Returns
 * what the last one did, -ENOENT if there was none.
 */
struct scan {
	bool writable, relocated;
	bool (*looks)(const struct gobin *g, uint64_t word);
	int (*try)(struct gobin *g, uint64_t addr, uint64_t size);
};

static int scan_segment(struct gobin *g, const struct scan *s, const struct image_range *in,
			unsigned char *buf, size_t *candidates)
{
	uint64_t at = (in->addr + 7) & ~(uint64_t)7, end = in->addr + in->size;
	int ret = -ENOENT;
	ptrdiff_t n, i;

	for (; at - in->addr < in->size && g->scan_left >= GOBIN_WINDOW; at += GOBIN_WINDOW) {
		g->scan_left -= GOBIN_WINDOW;
		n = s->relocated ? image_read_data(g->im, at, buf, GOBIN_WINDOW)
				 : image_read_file(g->im, at, buf, GOBIN_WINDOW);
		if (n < 0)
			return (int)n;
		for (i = 0; i + 8 <= n; i += 8) {
			if (!s->looks(g, gobin_number(buf + i, 8)))
				continue;
			ret = s->try(g, at + (uint64_t)i, end - at - (uint64_t)i);
			if (ret != -EBADMSG || ++*candidates == MAX_CANDIDATES)
				return ret;
		}
	}
	return ret;
}

/* Writable segments first: what relocations are for (in PIEs until Go 1.25, gopclntab) is there. */
static int scan(struct gobin *g, const struct scan *s, unsigned char *window)
{
	size_t i, candidates = 0;
	int ret = -ENOENT, one;
	struct image_range r;
	bool writable, pass;

	for (pass = true;; pass = false) {
		for (i = 0; image_segment(g->im, i, &r, &writable); i++) {
			if (writable != pass)
				continue;
			one = scan_segment(g, s, &r, window, &candidates);
			ret = one == -ENOENT ? ret : one;
			if (ret != -ENOENT && (ret != -EBADMSG || candidates == MAX_CANDIDATES))
				return ret;
		}
		if (!pass || s->writable)
			return ret;
	}
}

static bool set_part(const struct image_range *all, uint64_t offset, struct image_range *part)
{
	*part = (struct image_range){all->addr + offset, all->size - offset};
	return offset < all->size;
}

static int read_header(struct gobin *g, enum form form)
{
	unsigned int parts = form == GO_1_16 ? NAMES_1_16 : NAMES_1_18;
	struct gobin_table *t = &g->table;
	unsigned char h[HEADER] = {0};
	int ret = gobin_read(g, t->all.addr, h, form == GO_1_2 ? 16 : parts + FUNCS + 8);

	if (ret)
		return ret;
	t->step = h[6];
	t->width = form == GO_1_18 ? 4 : 8;
	t->count = gobin_number(h + 8, 8);
	t->text = form == GO_1_18 ? gobin_number(h + TEXT_START, 8) : 0;
	t->names = t->pcs = t->funcs = t->all;
	t->functab = t->all.addr + 16;
	if (form != GO_1_2) {
		if (!set_part(&t->all, gobin_number(h + parts, 8), &t->names) ||
		    !set_part(&t->all, gobin_number(h + parts + PCS, 8), &t->pcs) ||
		    !set_part(&t->all, gobin_number(h + parts + FUNCS, 8), &t->funcs))
			return -EBADMSG;
		t->functab = t->funcs.addr;
	}
	if (!t->count || t->count > MAX_FUNCS || t->all.size < 16 ||
	    t->count * 2 * t->width + t->width > t->funcs.size - (form == GO_1_2 ? 16 : 0))
		return -EBADMSG;
	return 0;
}

/* Where the first function starts and the last one ends, if the table agrees with itself. */
static int read_extent(const struct gobin *g, uint64_t *first, uint64_t *end)
{
	const struct gobin_table *t = &g->table;
	unsigned char b[16];
	uint64_t func;
	int ret = gobin_read(g, t->functab, b, (size_t)2 * t->width);

	if (ret)
		return ret;
	*first = gobin_number(b, t->width);
	func = gobin_number(b + t->width, t->width);
	if (func >= t->funcs.size)
		return -EBADMSG;
	ret = gobin_read(g, t->funcs.addr + func, b, t->width);
	if (!ret && gobin_number(b, t->width) != *first)
		ret = -EBADMSG;
	if (!ret)
		ret = gobin_read(g, t->functab + t->count * 2 * t->width, b, t->width);
	*end = gobin_number(b, t->width);
	return !ret && *end <= *first ? -EBADMSG : ret;
}

static bool text_fits(const struct gobin *g, uint64_t text, uint64_t first, uint64_t end)
{
	return is_code(g, text + first) && is_code(g, text + end - 1);
}

static int try_module(struct gobin *g, uint64_t addr, uint64_t size)
{
	unsigned char m[MODULE];
	uint64_t first, end, text;
	int ret = size < sizeof(m) ? -EBADMSG : gobin_read(g, addr, m, sizeof(m));

	if (!ret)
		ret = read_extent(g, &first, &end);
	if (ret)
		return ret;
	text = gobin_number(m + MODULE_TEXT, 8);
	if (gobin_number(m, 8) != g->table.all.addr ||
	    gobin_number(m + MODULE_NAMES, 8) != g->table.names.addr ||
	    gobin_number(m + MODULE_MINPC, 8) != text + first || !text_fits(g, text, first, end))
		return -EBADMSG;
	g->table.text = text;
	return 0;
}

/* Since Go 1.26 only moduledata tells where the text starts, which need not be where .text does. */
static int find_text(struct gobin *g)
{
	static const struct scan modules = {true, true, looks_like_module, try_module};
	struct image_range r;
	int ret = -EBADMSG;

	if (image_section(g->im, ".go.module", &r))
		ret = try_module(g, r.addr, r.size);
	if (ret == -EBADMSG)
		ret = scan(g, &modules, g->funcs.window);
	if (ret == -ENOENT)
		ret = -EBADMSG;
	if (ret == -EBADMSG)
		g->problem = "where its code starts cannot be found";
	return ret;
}

/* In a header of Go 1.26 and up the place of the text is 0. */
static int check_text(struct gobin *g, enum form form, uint64_t first, uint64_t end)
{
	if ((form != GO_1_18 || g->table.text) && text_fits(g, g->table.text, first, end))
		return 0;
	return form == GO_1_18 ? find_text(g) : -EBADMSG;
}

static int try_table(struct gobin *g, uint64_t addr, uint64_t size)
{
	uint64_t first, end;
	unsigned char b[8];
	size_t i = 0;
	int ret = gobin_read(g, addr, b, sizeof(b));

	g->problem = "its gopclntab is damaged";
	if (ret)
		return ret;
	while (i < TS_ARRAY_SIZE(magics) && gobin_number(b, 4) != magics[i].magic)
		i++;
	if (i == TS_ARRAY_SIZE(magics))
		g->problem = "its gopclntab has an unknown form (of a newer Go, or changed to "
			     "hide it)";
	if (!looks_like_header(g, gobin_number(b, 8)))
		return -EBADMSG;
	g->table.all = (struct image_range){addr, size};
	ret = read_header(g, magics[i].form);
	if (!ret)
		ret = read_extent(g, &first, &end);
	if (!ret)
		ret = check_text(g, magics[i].form, first, end);
	if (!ret)
		g->problem = NULL;
	return ret;
}

int gobin_table_open(struct gobin *g)
{
	static const struct scan headers = {false, false, looks_like_header, try_table};
	struct image_range r;
	int ret;

	if (image_section(g->im, ".gopclntab", &r) ||
	    image_section(g->im, ".data.rel.ro.gopclntab", &r))
		ret = try_table(g, r.addr, r.size);
	else
		ret = scan(g, &headers, g->entries.window);
	if (ret == -ENOENT)
		g->problem = "it has no gopclntab";
	return ret == -ENOENT || ret == -EBADMSG ? 0 : ret;
}
