/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fnmatch.h>
#include <string.h>

#include "gobin_private.h"

/* What a function's _func says of it, as we need it. */
struct entry {
	uint64_t start, next; /* next: where the function behind it starts */
	uint64_t func;	      /* where its _func is, from the start of those */
};

/* Up to len bytes at addr: fewer at the end of what is in the file. Their number, or -errno. */
static ptrdiff_t view(const struct gobin *g, struct gobin_view *v, uint64_t addr, size_t len,
		      const unsigned char **out)
{
	bool relocated = v == &g->entries;
	ptrdiff_t n;

	if (v->len && addr < v->addr) {
		*out = v->behind;
		len = len < sizeof(v->behind) ? len : sizeof(v->behind);
		return image_read_file(g->im, addr, v->behind, len);
	}
	if (!v->len || addr - v->addr > v->len || len > v->len - (addr - v->addr)) {
		n = relocated ? image_read_data(g->im, addr, v->window, GOBIN_WINDOW)
			      : image_read_file(g->im, addr, v->window, GOBIN_WINDOW);
		v->len = n < 0 ? 0 : (size_t)n;
		v->addr = addr;
		if (n < 0)
			return n;
	}
	*out = v->window + (addr - v->addr);
	return (ptrdiff_t)(len < v->len ? len : v->len);
}

/* All of the len bytes, at a place in a part of the table. */
static int view_all(const struct gobin *g, struct gobin_view *v, const struct image_range *part,
		    uint64_t place, size_t len, const unsigned char **out)
{
	ptrdiff_t n;

	if (place > part->size || len > part->size - place)
		return -EBADMSG;
	n = view(g, v, part->addr + place, len, out);
	if (n < 0)
		return n == -ENOENT ? -EBADMSG : (int)n;
	return (size_t)n == len ? 0 : -EBADMSG;
}

static int read_entry(struct gobin *g, uint64_t i, struct entry *e)
{
	const struct gobin_table *t = &g->table;
	uint64_t place = t->functab - t->funcs.addr + i * 2 * t->width;
	const unsigned char *b;
	int ret = view_all(g, &g->entries, &t->funcs, place, (size_t)3 * t->width, &b);

	if (ret)
		return ret;
	e->start = t->text + gobin_number(b, t->width);
	e->func = gobin_number(b + t->width, t->width);
	e->next = t->text + gobin_number(b + (size_t)2 * t->width, t->width);
	return e->next < e->start ? -EBADMSG : 0;
}

/* Where Go knows nothing of the code (C's, between two parts of its own), all bits are set. */
static bool is_hole(const struct gobin *g, const struct entry *e)
{
	return e->func == (g->table.width == 4 ? UINT32_MAX : UINT64_MAX);
}

/* The name; NULL: longer than we take. The start, the name's place and a few numbers begin a _func.
 */
static int read_func(struct gobin *g, const struct entry *e, const char **name, uint64_t *pcsp)
{
	const struct gobin_table *t = &g->table;
	const unsigned char *b;
	uint64_t place;
	ptrdiff_t n;
	int ret = view_all(g, &g->funcs, &t->funcs, e->func, t->width + 16, &b);

	if (ret)
		return ret;
	place = gobin_number(b + t->width, 4);
	*pcsp = gobin_number(b + t->width + 12, 4);
	if (place >= t->names.size || *pcsp >= t->pcs.size)
		return -EBADMSG;
	n = view(g, &g->names, t->names.addr + place, GOBIN_NAME, &b);
	if (n <= 0)
		return n < 0 && n != -ENOENT ? (int)n : -EBADMSG;
	*name = memchr(b, 0, (size_t)n) ? (const char *)b : NULL;
	return 0;
}

/* A table of code positions: pairs of how much a value changes, and for how many bytes it stays. */
struct walk {
	const struct gobin *g;
	uint64_t place; /* of what is read next, in the part of the tables */
	unsigned char bytes[128];
	size_t at, len;
	uint64_t from, to; /* the value is for these addresses */
	uint32_t value;
	bool started;
};

static int walk_number(struct walk *w, uint32_t *out)
{
	const struct image_range *pcs = &w->g->table.pcs;
	unsigned int shift;
	unsigned char byte;
	ptrdiff_t n;

	*out = 0;
	for (shift = 0; shift < 35; shift += 7) {
		if (w->at == w->len) {
			if (w->place >= pcs->size)
				return -EBADMSG;
			n = image_read_file(w->g->im, pcs->addr + w->place, w->bytes,
					    sizeof(w->bytes));
			if (n <= 0)
				return n < 0 && n != -ENOENT ? (int)n : -EBADMSG;
			w->place += (uint64_t)n;
			w->len = (size_t)n;
			w->at = 0;
		}
		byte = w->bytes[w->at++];
		*out |= (uint32_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return 0;
	}
	return -EBADMSG;
}

static void walk_start(struct walk *w, const struct gobin *g, const struct gobin_func *f)
{
	*w = (struct walk){.g = g, .place = f->pcsp, .to = f->addr, .value = UINT32_MAX};
}

/* 1: there is a next piece; 0: the table ends; or -errno. Each piece is at least an instruction. */
static int walk_next(struct walk *w)
{
	uint32_t change, length;
	int ret = walk_number(w, &change);

	if (ret)
		return ret;
	if (!change && w->started)
		return 0;
	ret = walk_number(w, &length);
	if (ret)
		return ret;
	if (!length)
		return -EBADMSG;
	w->started = true;
	w->value += change & 1 ? ~(change >> 1) : change >> 1;
	w->from = w->to;
	w->to += (uint64_t)length * w->g->table.step;
	return 1;
}

/* Sets the size: the table of stack depths has every instruction, and no padding. */
static int measure(const struct gobin *g, struct gobin_func *f, uint64_t next)
{
	uint64_t offset;
	struct walk w;
	int ret;

	if (image_offset(g->im, f->addr, &offset))
		return -EBADMSG;
	f->size = 0;
	if (!f->pcsp)
		return 0;
	walk_start(&w, g, f);
	do {
		ret = walk_next(&w);
		if (ret < 0 || w.to > next)
			return ret < 0 ? ret : -EBADMSG;
	} while (ret);
	f->size = w.to - f->addr;
	return image_offset(g->im, w.to - 1, &offset) ? -EBADMSG : 0;
}

/* Cheaper than fnmatch, which most names need not meet: what is literal at both ends. */
static bool may_match(const char *pattern, const char *name, size_t len)
{
	static const char special[] = "*?[]\\";
	size_t i, left = strlen(pattern);

	for (i = 0; pattern[i] && !strchr(special, pattern[i]); i++)
		if (pattern[i] != name[i])
			return false;
	for (; left && !strchr(special, pattern[left - 1]); left--)
		if (!len || pattern[left - 1] != name[--len])
			return false;
	return true;
}

static size_t match(const char *const *patterns, size_t count, const char *name)
{
	size_t i = 0, len = strlen(name);

	while (i < count && !(may_match(patterns[i], name, len) && !fnmatch(patterns[i], name, 0)))
		i++;
	return i;
}

int gobin_find(struct gobin *g, const char *const *patterns, size_t count,
	       int (*found)(void *ctx, const struct gobin_func *f, size_t pattern), void *ctx)
{
	struct gobin_func f;
	struct entry e;
	const char *name = NULL;
	size_t pattern;
	uint64_t i;
	int ret = g->problem ? -EBADMSG : 0;

	g->entries.len = g->funcs.len = g->names.len = 0;
	for (i = 0; !ret && i < g->table.count; i++) {
		ret = read_entry(g, i, &e);
		if (ret || is_hole(g, &e))
			continue;
		ret = read_func(g, &e, &name, &f.pcsp);
		pattern = ret || !name ? count : match(patterns, count, name);
		if (pattern == count)
			continue;
		ts_copy(f.name, sizeof(f.name), name);
		f.addr = e.start;
		ret = measure(g, &f, e.next);
		if (!ret)
			ret = found(ctx, &f, pattern);
	}
	return ret;
}

int gobin_depth(struct gobin *g, const struct gobin_func *f, uint64_t pc, int32_t *depth)
{
	struct walk w;
	int ret;

	if (g->problem)
		return -EBADMSG;
	if (pc < f->addr || pc - f->addr >= f->size)
		return -ENOENT;
	walk_start(&w, g, f);
	do {
		ret = walk_next(&w);
	} while (ret > 0 && pc >= w.to);
	if (ret <= 0)
		return ret ? ret : -EBADMSG;
	*depth = (int32_t)w.value;
	return 0;
}
