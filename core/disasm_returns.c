/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disasm_private.h"

enum {
	BYTE_RETURN = BYTE_FREE,
	BYTE_NOP = BYTE_FREE << 1,
	BYTE_CALL = BYTE_FREE << 2, /* of code in this file */
	BYTE_STOP = BYTE_FREE << 3, /* need not come back: a call, or what ends the program */
	BYTE_REACHED = BYTE_FREE << 4
};

/* Where control goes from the instruction at each offset: 0 is nowhere, which nothing leads to. */
struct step {
	uint32_t next;
	uint32_t branch; /* an offset and 1 */
	uint32_t todo;	 /* the stack of offsets to go on from: each is put there once at most */
};

static int kind_of(const struct code *c, const struct flow *f)
{
	unsigned int nop =
		c->arch == CS_ARCH_X86 ? (unsigned int)X86_INS_NOP : (unsigned int)ARM64_INS_NOP;
	uint64_t offset;
	int kind = 0;

	if (f->ret)
		kind |= BYTE_RETURN;
	if (c->insn->id == nop)
		kind |= BYTE_NOP;
	if (f->call || f->trap)
		kind |= BYTE_STOP;
	if (f->call && f->direct && !image_offset(c->im, f->target, &offset))
		kind |= BYTE_CALL;
	return kind;
}

static int note(struct code *c, const struct flow *f, void *ctx)
{
	size_t at = disasm_at(c);
	struct step *s = (struct step *)ctx + at;
	bool within = f->direct && disasm_inside(c, f->target);

	if (f->jump && !within)
		return -EXDEV;
	/* What is called within the function returns to it, not to the caller. */
	if (f->call && within && f->target != c->addr)
		return -EBADMSG;
	c->marks[at] |= (uint8_t)kind_of(c, f);
	if (!f->end)
		s->next = (uint32_t)(at + c->insn->size);
	if (f->jump)
		s->branch = (uint32_t)(f->target - c->addr) + 1;
	return 0;
}

static void reach(struct code *c, struct step *steps, size_t at)
{
	size_t count = 0;

	for (;;) {
		while (at < c->size && !(c->marks[at] & BYTE_REACHED)) {
			c->marks[at] |= BYTE_REACHED;
			if (steps[at].branch)
				steps[count++].todo = steps[at].branch - 1;
			if (!steps[at].next)
				break;
			at = steps[at].next;
		}
		if (!count)
			return;
		at = steps[--count].todo;
	}
}

/*
 * Nothing leads to where Go resumes a function that recovered from a panic: a call (of
 * runtime.deferreturn) behind an instruction that goes elsewhere, and then a return.
 */
static void reach_all(struct code *c, struct step *steps)
{
	bool ended = false;
	size_t at;

	reach(c, steps, 0);
	for (at = 0; at < c->size; at++) {
		if (!(c->marks[at] & BYTE_START))
			continue;
		if (c->marks[at] & BYTE_REACHED)
			ended = !steps[at].next;
		else if (ended && c->marks[at] & BYTE_CALL)
			reach(c, steps, at);
		else if (!(c->marks[at] & BYTE_NOP) && steps[at].next)
			ended = false;
	}
}

/* Whether control may run into what follows the function. Calls that never come back (of panic,
 * abort) are the last of many, with nops behind them. */
static bool falls_off(const struct code *c, const struct step *steps)
{
	size_t at = c->size;

	while (at--) {
		if (!(c->marks[at] & BYTE_START) || !(c->marks[at] & BYTE_REACHED))
			continue;
		if (!(c->marks[at] & BYTE_NOP) || c->marks[at] & BYTE_TARGET)
			return steps[at].next && !(c->marks[at] & BYTE_STOP);
	}
	return true;
}

static int list(struct code *c, const struct step *steps, struct disasm_places *out)
{
	size_t at;

	if (falls_off(c, steps))
		return -EXDEV;
	for (at = 0; at < c->size; at++) {
		if (!(c->marks[at] & BYTE_RETURN))
			continue;
		if (!(c->marks[at] & BYTE_REACHED))
			return -EBADMSG; /* code of another kind, or data */
		if (out->count == DISASM_MAX_PLACES)
			return -E2BIG;
		out->addrs[out->count++] = c->addr + at;
	}
	return out->count ? 0 : -ENOENT;
}

static int find_returns(struct code *c, void *out)
{
	struct step *steps = calloc(c->size, sizeof(*steps));
	int ret = steps ? disasm_walk(c, note, steps) : -ENOMEM;

	if (!ret) {
		reach_all(c, steps);
		ret = list(c, steps, out);
	}
	free(steps);
	return ret;
}

int disasm_returns(struct image *im, const struct image_symbol *sym, struct disasm_places *out)
{
	int ret;

	memset(out, 0, sizeof(*out));
	ret = disasm_run(im, sym, find_returns, out);
	if (ret)
		memset(out, 0, sizeof(*out));
	return ret;
}
