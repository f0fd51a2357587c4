/* SPDX-License-Identifier: MIT */
/*
 * Where calls that are only counted cost one probe: at the ends of the functions that call the one
 * which does the work. That is all of them only where nobody else calls it, which the file's code
 * and data show: whatever could name it is looked at.
 */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "resolve_private.h"

#define MOST_BYTES (4u << 20) /* of a segment */
#define MOST_READ (16u << 20) /* of all: a hostile file may have the same bytes in many */
#define FAR 4096	      /* bytes from a function's beginning to its call */

/* A segment of the file, read whole. */
struct part {
	uint64_t addr;
	unsigned char *bytes;
	size_t size;
};

struct look {
	struct resolve_work *w;
	struct resolve_ends *out;
	struct disasm_places known; /* calls of out->inner in functions that are known */
	uint64_t unknown;	    /* one elsewhere; 0: none */
	bool any;		    /* of the callers has an end */
	size_t read;		    /* bytes that were looked through */
	const char *why;
};

static uint64_t word(const unsigned char *at)
{
	uint64_t v;

	memcpy(&v, at, sizeof(v));
	return v;
}

/* 1: it is of the other kind. */
static int read_part(struct image *im, size_t n, bool code, struct part *p)
{
	struct image_range range;
	uint64_t offset;
	ptrdiff_t got;
	bool writable;

	*p = (struct part){0};
	if (!image_segment(im, n, &range, &writable))
		return -ENOENT;
	p->addr = range.addr;
	if (code != !image_offset(im, range.addr, &offset))
		return 1;
	if (range.size > MOST_BYTES)
		return -E2BIG;
	p->bytes = malloc(range.size + 1);
	if (!p->bytes)
		return -ENOMEM;
	got = code ? image_read(im, range.addr, p->bytes, range.size)
		   : image_read_data(im, range.addr, p->bytes, range.size);
	p->size = got < 0 ? 0 : (size_t)got;
	return got < 0 ? (int)got : 0;
}

static bool is_known(const struct look *l, uint64_t addr)
{
	size_t i;

	for (i = 0; i < l->known.count; i++)
		if (l->known.addrs[i] == addr)
			return true;
	return false;
}

/* A call is e8 and the distance from its end; the distance alone may be of any instruction. */
static void look_at_code(struct look *l, const struct part *p)
{
	const bool fixed = image_is_fixed(l->w->im);
	const uint64_t inner = l->out->inner;
	uint64_t addr;
	int32_t far;
	size_t i;

	for (i = 0; i + 4 <= p->size; i++) {
		memcpy(&far, p->bytes + i, sizeof(far));
		addr = p->addr + i;
		/* Only then is an address a constant. */
		if (fixed && (uint64_t)(int64_t)far == inner)
			l->why = "its address is in the file's code";
		/* A distance of 0 is what pads the code before the function. */
		if (addr + 4 + (uint64_t)(int64_t)far == inner && far && !is_known(l, addr - 1)) {
			if (l->unknown)
				l->why = "it is used in more than one place that is not known";
			l->unknown = addr - 1;
		}
	}
	/* A short jump is eb and one byte. */
	for (addr = inner - 129; addr != inner + 127; addr++) {
		i = (size_t)(addr - p->addr);
		if (addr >= p->addr && i + 2 <= p->size && p->bytes[i] == 0xeb &&
		    addr + 2 + (uint64_t)(int64_t)(int8_t)p->bytes[i + 1] == inner)
			l->why = "there may be a jump to it";
	}
}

static void look_at_data(struct look *l, const struct part *p)
{
	size_t i;

	for (i = 0; i + 8 <= p->size; i += 8)
		if (word(p->bytes + i) == l->out->inner)
			l->why = "its address is in the file's data";
}

/* The functions whose addresses are in the data: the nearest before the unknown call. */
static uint64_t nearest(const struct part *p, uint64_t addr, uint64_t best)
{
	uint64_t at;
	size_t i;

	for (i = 0; i + 8 <= p->size; i += 8) {
		at = word(p->bytes + i);
		if (at <= addr && addr - at < FAR && at > best)
			best = at;
	}
	return best;
}

/* Calls fn on what is loaded of the file; of its code or of its data. */
static uint64_t look_at(struct look *l, bool code,
			uint64_t (*fn)(struct look *l, const struct part *p, uint64_t best))
{
	struct image *im = l->w->im;
	uint64_t best = 0;
	struct part p;
	size_t i;
	int ret;

	for (i = 0; !l->why && (ret = read_part(im, i, code, &p)) != -ENOENT; i++) {
		l->w->no_memory |= ret == -ENOMEM;
		l->read += p.size;
		if (ret < 0 || l->read > MOST_READ)
			l->why = "the file is too large to be looked through, or damaged";
		else if (!ret)
			best = fn(l, &p, best);
		free(p.bytes);
	}
	return best;
}

static uint64_t code_step(struct look *l, const struct part *p, uint64_t best)
{
	look_at_code(l, p);
	return best;
}

static uint64_t data_step(struct look *l, const struct part *p, uint64_t best)
{
	look_at_data(l, p);
	return l->unknown ? nearest(p, l->unknown, best) : best;
}

static void add_known(struct look *l, const struct disasm_places *uses)
{
	size_t i;

	for (i = 0; i < uses->count; i++) {
		if (l->known.count == DISASM_MAX_PLACES)
			l->why = "it is called in too many places";
		else
			l->known.addrs[l->known.count++] = uses->addrs[i];
	}
}

static void look_at_caller(struct look *l, struct resolve_caller *caller)
{
	struct disasm_places uses;
	int ret = disasm_uses(l->w->im, &caller->sym, l->out->inner, &uses);

	l->w->no_memory |= ret == -ENOMEM;
	if (ret)
		l->why = "the functions that call it could not be disassembled";
	add_known(l, &uses);
	caller->calls = uses.count;
	caller->ends = caller->calls && !caller->called &&
		       !disasm_end(l->w->im, &caller->sym, l->out->inner, &caller->end);
	l->any |= caller->ends;
}

/* A function that has no name, and is called by its address: of BIO_f_ssl. */
static void look_at_nameless(struct look *l, uint64_t addr)
{
	struct resolve_caller *caller = &l->out->nameless;
	struct disasm_places uses;

	caller->sym = (struct image_symbol){.addr = addr};
	if (!addr || disasm_uses(l->w->im, &caller->sym, l->out->inner, &uses) || uses.count != 1 ||
	    uses.addrs[0] != l->unknown)
		l->why = "it is used in a place that is not known";
	else
		caller->calls = 1;
}

/* NULL, or why not all are known. */
static const char *find_ends(struct resolve_work *w, struct resolve_ends *out)
{
	struct look l = {.w = w, .out = out};
	struct image_symbol sym;
	uint64_t addr;
	size_t i;

	if (image_symbol(w->im, out->name, &sym) == IMAGE_DYNSYM)
		return "other files may call it";
	if (w->arch->machine != EM_X86_64)
		return "not looked for on this architecture";
	for (i = 0; i < out->count; i++)
		look_at_caller(&l, &out->callers[i]);
	if (!l.why && !l.any)
		return "none of those that call it ends where the kernel emulates";
	if (!l.why)
		look_at(&l, true, code_step);
	if (l.why)
		return l.why;
	addr = look_at(&l, false, data_step);
	if (!l.why && l.unknown)
		look_at_nameless(&l, addr);
	return l.why;
}

/* At its end, or where it begins and returns. */
static void add_caller(struct resolve_work *w, const struct resolve_caller *c, size_t inner)
{
	struct resolve_site site = {.where = RESOLVE_ASIDE, .role = RESOLVE_ENTER, .session = true};
	struct resolve_func *f;

	if (image_offset(w->im, c->ends ? c->end.addr : c->sym.addr, &site.offset))
		return;
	f = resolve_add_func(w, c->func, c->name);
	if (!f)
		return;
	f->inner = inner;
	f->rule = c->rule;
	snprintf(f->how, sizeof(f->how), "%s", c->how);
	if (c->ends) {
		f->rule.role = TS_ROLE_END;
		snprintf(f->cost, sizeof(f->cost), "%s at +%u, emulated", c->end.name,
			 (unsigned int)(c->end.addr - c->sym.addr));
		site.role = RESOLVE_END;
		site.session = false;
		resolve_add_site(w, site);
		return;
	}
	f->rule.flags |= TS_RULE_WATCH;
	f->rule.entry = c->sym.addr;
	snprintf(f->cost, sizeof(f->cost), "only until it is called");
	resolve_add_site(w, site);
	site.role = RESOLVE_RETURN;
	resolve_add_site(w, site);
}

void resolve_add_ends(struct resolve_work *w, struct resolve_ends *ends)
{
	const size_t inner = w->plan->funcs_count - 1;
	const char *why = find_ends(w, ends);
	size_t i;

	if (why) {
		resolve_note(w, "%s: two probes a call, also where it is only counted: %s",
			     ends->name, why);
		return;
	}
	for (i = 0; i < ends->count; i++)
		if (ends->callers[i].calls)
			add_caller(w, &ends->callers[i], inner);
	if (ends->nameless.calls)
		add_caller(w, &ends->nameless, inner);
}
