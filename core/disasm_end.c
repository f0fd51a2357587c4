/* SPDX-License-Identifier: MIT */
/*
 * Where a probe that sees what a function returns costs little: where its ways from the call that
 * does the work meet, at an instruction that the kernel emulates.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disasm_private.h"

#define MOST_CODE 4096	     /* bytes of a function that nobody tells the end of */
#define MET (BYTE_FREE << 1) /* disasm_explore has the first one */
#define RESULT 1u	     /* the bit of register 0: rax, x0 */

struct search {
	struct code *c;
	struct disasm_path *paths;
	uint64_t inner;
	uint32_t *todo;
	size_t count;
	size_t call, after; /* the call of inner, and what follows it */
	bool returns;
};

/* What is met on all ways from a place that do not pass the wall. */
struct met {
	bool wall, call;
	bool returns, leaves; /* to the caller; by a jump out of the function */
	bool changes;	      /* what the result is in */
};

static bool uses(const struct flow *f, uint64_t target)
{
	return (f->call || f->jump) && f->direct && f->target == target;
}

static void push(struct search *s, size_t at)
{
	if (!(s->c->marks[at] & MET))
		s->todo[s->count++] = (uint32_t)at;
	s->c->marks[at] |= MET;
}

/* Goes on from an instruction that was decoded. */
static void go_on(struct search *s, const struct flow *f, struct met *m)
{
	struct code *c = s->c;
	size_t next = disasm_at(c) + c->insn->size;
	/* Where no way leads to what is behind a call, it does not return. */
	bool goes_on = !f->end && next < c->size && s->paths[next].seen;

	m->returns |= f->ret;
	m->call |= disasm_at(c) == s->call;
	if (goes_on)
		m->changes |= f->call || f->unknown || disasm_changed(c) & RESULT;
	if (f->jump && f->direct && disasm_inside(c, f->target))
		push(s, (size_t)(f->target - c->addr));
	else if (f->jump)
		m->leaves = true;
	if (goes_on)
		push(s, next);
}

/* The wall may be where it begins: it is what comes afterwards then. */
static int meet(struct search *s, size_t from, size_t wall, struct met *m)
{
	struct code *c = s->c;
	struct flow f;
	size_t at, i;
	int ret;

	*m = (struct met){.wall = false};
	for (i = 0; i < c->size; i++)
		c->marks[i] &= (uint8_t)~MET;
	ret = disasm_decode(c, from, &f);
	if (!ret && from == wall)
		go_on(s, &f, m);
	else
		push(s, from);
	while (!ret && s->count) {
		at = s->todo[--s->count];
		if (at == wall) {
			m->wall = true;
			continue;
		}
		ret = disasm_decode(c, at, &f);
		if (!ret)
			go_on(s, &f, m);
	}
	s->count = 0;
	return ret;
}

static bool serves(struct search *s, size_t at)
{
	struct met before = {.wall = true}, after;

	if ((at != s->after && meet(s, s->after, at, &before)) || meet(s, at, at, &after))
		return false;
	return before.wall && !before.call && !before.returns && !before.leaves && after.returns &&
	       !after.wall && !after.call && !after.leaves && !after.changes;
}

/* Visits the instructions that a way leads to. */
static int visit_all(struct search *s,
		     int (*visit)(struct search *s, const struct flow *f, void *ctx), void *ctx)
{
	struct code *c = s->c;
	struct flow f;
	size_t at;
	int ret = 0;

	for (at = 0; !ret && at < c->size; at++) {
		if (!s->paths[at].seen)
			continue;
		ret = disasm_decode(c, at, &f);
		if (!ret)
			ret = visit(s, &f, ctx);
	}
	return ret;
}

static int note_use(struct search *s, const struct flow *f, void *ctx)
{
	struct disasm_places *out = ctx;

	s->returns |= f->ret;
	if (f->ret && s->paths[disasm_at(s->c)].depth)
		return -EBADMSG;
	if (!uses(f, s->inner))
		return 0;
	if (out->count == DISASM_MAX_PLACES)
		return -E2BIG;
	out->addrs[out->count++] = s->c->insn->address;
	s->call = disasm_at(s->c);
	s->after = f->call ? s->call + s->c->insn->size : 0;
	return 0;
}

/* 1: it was found. */
static int try_end(struct search *s, const struct flow *f, void *ctx)
{
	struct disasm_end *out = ctx;
	size_t at = disasm_at(s->c);

	if (f->call || !disasm_emulated(s->c))
		return 0;
	out->addr = s->c->insn->address;
	ts_copy(out->name, sizeof(out->name), s->c->insn->mnemonic);
	return serves(s, at);
}

struct question {
	uint64_t inner;
	struct disasm_places uses;
	struct disasm_end *end; /* NULL: not asked for */
};

static int answer(struct search *s, struct question *q)
{
	int ret = visit_all(s, note_use, &q->uses);

	if (!ret && q->uses.count && !s->returns)
		ret = -ENOENT;
	if (ret || !q->end)
		return ret;
	if (q->uses.count != 1 || !s->after || s->after >= s->c->size || !s->paths[s->after].seen)
		return -ENOENT;
	ret = visit_all(s, try_end, q->end);
	return ret == 1 ? 0 : ret ? ret : -ENOENT;
}

static int search(struct code *c, void *ctx)
{
	struct question *q = ctx;
	struct search s = {.c = c, .inner = q->inner};
	int ret = -ENOMEM;

	s.paths = calloc(c->size, sizeof(*s.paths));
	s.todo = calloc(c->size, sizeof(*s.todo));
	if (s.paths && s.todo)
		ret = disasm_explore(c, s.paths);
	if (!ret)
		ret = q->end && c->computed ? -ENOTUNIQ : answer(&s, q);
	free(s.paths);
	free(s.todo);
	return ret;
}

int disasm_uses(struct image *im, const struct image_symbol *sym, uint64_t target,
		struct disasm_places *out)
{
	struct question q = {.inner = target};
	int ret = disasm_run_open(im, sym, MOST_CODE, search, &q);

	*out = q.uses;
	if (ret)
		out->count = 0;
	return ret;
}

int disasm_end(struct image *im, const struct image_symbol *sym, uint64_t inner,
	       struct disasm_end *out)
{
	struct question q = {.inner = inner, .end = out};

	return disasm_run_open(im, sym, MOST_CODE, search, &q);
}
