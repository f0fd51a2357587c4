/* SPDX-License-Identifier: MIT */
/*
 * Every way from a function's beginning through its code, with how deep its stack is: for functions
 * without a symbol too, of which nobody tells where they end.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disasm_private.h"

#define INSIDE BYTE_FREE /* not the first byte of an instruction */

struct walker {
	struct code *c;
	struct disasm_path *paths;
	uint32_t *todo;
	size_t count;
};

static const struct disasm_path nowhere = {DISASM_UNKNOWN, DISASM_UNKNOWN, false, false};

static int32_t deeper(int32_t depth, int64_t by)
{
	int64_t sum;

	if (depth == DISASM_UNKNOWN || by != (int32_t)by)
		return DISASM_UNKNOWN;
	sum = depth + by;
	return sum < -(1 << 20) || sum > 1 << 20 ? DISASM_UNKNOWN : (int32_t)sum;
}

static bool touches(const struct code *c, size_t slot)
{
	unsigned int reg;
	uint8_t size;
	size_t n;

	for (n = 0; disasm_touched(c, n, &reg); n++)
		if (disasm_slot(c, reg, &size) == slot)
			return true;
	return false;
}

/* --- what an instruction does to the stack pointer; false: nothing that is understood */

enum { X86_SP = 4, X86_FP = 5, ARM64_FP = 29 };

static bool is_x86(const struct code *c, size_t n, unsigned int reg)
{
	const cs_x86 *x = &c->insn->detail->x86;

	return n < x->op_count && x->operands[n].type == X86_OP_REG && x->operands[n].reg == reg;
}

static int32_t x86_sum(const struct code *c, const struct disasm_path *p)
{
	const cs_x86_op *from = &c->insn->detail->x86.operands[1];

	if (c->insn->id == X86_INS_LEA) {
		if (from->mem.index != X86_REG_INVALID || from->mem.segment != X86_REG_INVALID)
			return DISASM_UNKNOWN;
		return deeper(from->mem.base == X86_REG_RSP   ? p->depth
			      : from->mem.base == X86_REG_RBP ? p->frame
							      : DISASM_UNKNOWN,
			      from->mem.disp);
	}
	if (c->insn->id == X86_INS_MOV)
		return is_x86(c, 1, X86_REG_RSP)   ? p->depth
		       : is_x86(c, 1, X86_REG_RBP) ? p->frame
						   : DISASM_UNKNOWN;
	if (from->type != X86_OP_IMM || !is_x86(c, 0, X86_REG_RSP))
		return DISASM_UNKNOWN;
	return deeper(p->depth, c->insn->id == X86_INS_ADD   ? from->imm
				: c->insn->id == X86_INS_SUB ? -from->imm
							     : INT64_MAX);
}

static void x86_stack(const struct code *c, struct disasm_path *p)
{
	const cs_x86 *x = &c->insn->detail->x86;
	int32_t sum = x->op_count == 2 ? x86_sum(c, p) : DISASM_UNKNOWN;
	bool wide = x->op_count == 1 && x->prefix[2] != X86_PREFIX_OPSIZE;

	switch (c->insn->id) {
	case X86_INS_PUSH:
		p->depth = wide ? deeper(p->depth, -8) : DISASM_UNKNOWN;
		return;
	case X86_INS_POP:
		p->depth =
			wide && !is_x86(c, 0, X86_REG_RSP) ? deeper(p->depth, 8) : DISASM_UNKNOWN;
		if (!wide || x->operands[0].type != X86_OP_REG || is_x86(c, 0, X86_REG_RBP))
			p->frame = DISASM_UNKNOWN;
		return;
	case X86_INS_LEAVE:
		p->depth = deeper(p->frame, 8);
		p->frame = DISASM_UNKNOWN;
		return;
	/* These change nothing of the two. */
	case X86_INS_CMP:
	case X86_INS_TEST:
	case X86_INS_NOP:
		return;
	default:
		break;
	}
	if (is_x86(c, 0, X86_REG_RSP)) {
		p->depth = sum;
	} else if (is_x86(c, 0, X86_REG_RBP)) {
		p->frame = c->insn->id == X86_INS_MOV || c->insn->id == X86_INS_LEA
				   ? sum
				   : DISASM_UNKNOWN;
	} else if (x->op_count != 2 || (c->insn->id != X86_INS_MOV && c->insn->id != X86_INS_LEA)) {
		p->depth = touches(c, X86_SP) ? DISASM_UNKNOWN : p->depth;
		p->frame = touches(c, X86_FP) ? DISASM_UNKNOWN : p->frame;
	}
}

static bool is_arm64(const struct code *c, size_t n, unsigned int reg)
{
	const cs_arm64 *x = &c->insn->detail->arm64;

	return n < x->op_count && x->operands[n].type == ARM64_OP_REG && x->operands[n].reg == reg;
}

/* How far an address with writeback moves its register. */
static int64_t arm64_moves(const struct code *c, bool *sp)
{
	const cs_arm64 *x = &c->insn->detail->arm64;
	const cs_arm64_op *last = &x->operands[x->op_count - 1];
	size_t n;

	*sp = false;
	for (n = 0; n < x->op_count; n++) {
		if (x->operands[n].type != ARM64_OP_MEM)
			continue;
		*sp = x->writeback && x->operands[n].mem.base == ARM64_REG_SP;
		/* ldp x29, x30, [sp], #16: behind the address is what is added afterwards. */
		return last->type == ARM64_OP_IMM ? last->imm : x->operands[n].mem.disp;
	}
	return 0;
}

static void arm64_stack(const struct code *c, struct disasm_path *p)
{
	const cs_arm64 *x = &c->insn->detail->arm64;
	const cs_arm64_op *op = x->operands;
	bool sums = (c->insn->id == ARM64_INS_ADD || c->insn->id == ARM64_INS_SUB) &&
		    x->op_count == 3 && op[2].type == ARM64_OP_IMM,
	     sp;
	int64_t by = x->op_count ? arm64_moves(c, &sp) : (sp = false, 0);
	int32_t sum = DISASM_UNKNOWN;
	unsigned int reg;
	size_t n;

	if (sp) {
		p->depth = deeper(p->depth, by);
	} else if (is_arm64(c, 0, ARM64_REG_SP) && c->insn->id != ARM64_INS_CMP) {
		if (sums)
			sum = (int32_t)(op[2].imm
					<< (op[2].shift.type == ARM64_SFT_LSL ? op[2].shift.value
									      : 0));
		if (sums && is_arm64(c, 1, ARM64_REG_SP))
			p->depth = deeper(p->depth, c->insn->id == ARM64_INS_SUB ? -sum : sum);
		else if (c->insn->id == ARM64_INS_MOV && is_arm64(c, 1, ARM64_REG_X29))
			p->depth = p->frame;
		else
			p->depth = DISASM_UNKNOWN;
	} else if (is_arm64(c, 0, ARM64_REG_X29) &&
		   (c->insn->id == ARM64_INS_MOV || (sums && !op[2].imm)) &&
		   is_arm64(c, 1, ARM64_REG_SP)) {
		p->frame = p->depth;
		return;
	}
	for (n = 0; disasm_touched(c, n, &reg); n++)
		if (reg == ARM64_REG_X29 && c->insn->id != ARM64_INS_STP &&
		    c->insn->id != ARM64_INS_STR)
			p->frame = DISASM_UNKNOWN;
}

void disasm_stack(const struct code *c, const struct flow *f, struct disasm_path *p)
{
	/* What is called leaves the stack, and the frame's register, as they were. */
	if (!f->call && !f->jump && !f->ret) {
		if (f->unknown)
			p->depth = p->frame = DISASM_UNKNOWN;
		else if (c->arch == CS_ARCH_X86)
			x86_stack(c, p);
		else
			arm64_stack(c, p);
	}
	p->framed |= p->depth != 0;
}

/* --- the ways */

/* Goes on at an offset: from there on it is walked once, with what is known first. */
static int go(struct walker *w, size_t at, const struct disasm_path *p)
{
	struct disasm_path *known = &w->paths[at];

	if (known->seen) {
		/* Two ways that differ: what follows is not known from one of them. */
		if (known->depth != p->depth)
			w->c->computed = true;
		return 0;
	}
	*known = *p;
	known->seen = true;
	w->todo[w->count++] = (uint32_t)at;
	return 0;
}

/*
 * A jump through a register or memory leaves the function when it has taken its frame down, or when
 * it takes an address from a structure. Any other may be a switch, which goes anywhere.
 */
static bool leaves(const struct code *c, const struct disasm_path *p)
{
	const cs_x86_op *op = &c->insn->detail->x86.operands[0];

	if (p->depth)
		return false;
	if (p->framed)
		return true;
	return c->arch == CS_ARCH_X86 && op->type == X86_OP_MEM &&
	       op->mem.index == X86_REG_INVALID && op->mem.base != X86_REG_INVALID;
}

/* A jump. A function's cold part is elsewhere, and may come back to any place. */
static int jump(struct walker *w, const struct flow *f, const struct disasm_path *p)
{
	struct code *c = w->c;

	if (!f->direct) {
		c->computed |= !leaves(c, p);
		return 0;
	}
	if (disasm_inside(c, f->target)) {
		c->marks[f->target - c->addr] |= BYTE_TARGET;
		return go(w, (size_t)(f->target - c->addr), p);
	}
	if (p->depth ||
	    (!f->end && !image_symbol_starts(c->im, f->target) && !image_in_plt(c->im, f->target)))
		return -EXDEV;
	return 0;
}

/* Where a function ends behind a call that never returns, another one begins. */
static bool ends_here(const struct code *c, const struct flow *f, size_t next)
{
	return (f->call || f->trap) &&
	       (next == c->size || image_symbol_starts(c->im, c->addr + next) ||
		image_symbol_starts(c->im, (c->addr + next + 15) & ~(uint64_t)15));
}

static int step(struct walker *w, size_t at)
{
	struct code *c = w->c;
	struct disasm_path p = w->paths[at];
	struct flow f;
	size_t i;
	int ret = c->marks[at] & INSIDE ? -EBADMSG : disasm_decode(c, at, &f);

	if (ret)
		return ret;
	for (i = 1; i < c->insn->size; i++) {
		if (c->marks[at + i] & BYTE_START)
			return -EBADMSG;
		c->marks[at + i] |= INSIDE;
	}
	c->marks[at] |= BYTE_START;
	disasm_stack(c, &f, &p);
	if (f.jump)
		ret = jump(w, &f, &p);
	else if (f.call && f.direct && disasm_inside(c, f.target))
		c->marks[f.target - c->addr] |= BYTE_TARGET;
	at += c->insn->size;
	if (ret || f.end || ends_here(c, &f, at))
		return ret;
	return at < c->size ? go(w, at, &p) : -EXDEV;
}

int disasm_explore(struct code *c, struct disasm_path *paths)
{
	struct walker w = {.c = c, .paths = paths, .todo = calloc(c->size, sizeof(*w.todo))};
	struct disasm_path start = {.depth = 0, .frame = DISASM_UNKNOWN};
	size_t i;
	int ret = w.todo ? 0 : -ENOMEM;

	for (i = 0; i < c->size; i++)
		paths[i] = nowhere;
	if (!ret)
		ret = go(&w, 0, &start);
	while (!ret && w.count)
		ret = step(&w, w.todo[--w.count]);
	free(w.todo);
	return ret;
}
