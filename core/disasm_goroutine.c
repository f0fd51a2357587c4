/* SPDX-License-Identifier: MIT */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "disasm_private.h"

#define PROLOGUE 8 /* instructions */
/* Where a goroutine holds the limit of its stack, in all versions of Go. */
#define STACK_GUARD 16
#define REGISTERS 16
#define FOUND 1

/* What a register holds: a number, or the goroutine as the ABI gives it, or as it was loaded from
 * this number's offset in the thread's memory. */
struct value {
	enum { UNKNOWN, NUMBER, GIVEN, LOADED } kind;
	int64_t number;
};

struct prologue {
	struct value regs[REGISTERS];
	struct value found;
	size_t seen;
};

static struct value *value_of(struct prologue *p, unsigned int reg)
{
	static const unsigned int regs[REGISTERS] = {
		X86_REG_RAX, X86_REG_RBX, X86_REG_RCX, X86_REG_RDX, X86_REG_RSI, X86_REG_RDI,
		X86_REG_RBP, X86_REG_RSP, X86_REG_R8,  X86_REG_R9,  X86_REG_R10, X86_REG_R11,
		X86_REG_R12, X86_REG_R13, X86_REG_R14, X86_REG_R15};
	size_t i;

	for (i = 0; i < REGISTERS; i++)
		if (regs[i] == reg)
			return &p->regs[i];
	return NULL;
}

static const struct value unknown = {UNKNOWN, 0};

static struct value number(int64_t n)
{
	return (struct value){NUMBER, n};
}

/* base + displacement, as far as that is a number. rip is the next instruction's address. */
static struct value address(const struct code *c, struct prologue *p, const x86_op_mem *m)
{
	const struct value *base = value_of(p, m->base);

	if (m->index != X86_REG_INVALID)
		return unknown;
	if (m->base == X86_REG_INVALID)
		return number(m->disp);
	if (m->base == X86_REG_RIP)
		return number((int64_t)(c->insn->address + c->insn->size + (uint64_t)m->disp));
	if (base && base->kind == NUMBER)
		return number((int64_t)((uint64_t)base->number + (uint64_t)m->disp));
	return unknown;
}

static struct value load(const struct code *c, struct prologue *p, const x86_op_mem *m)
{
	struct value at = address(c, p, m);
	int64_t offset;

	if (at.kind != NUMBER)
		return unknown;
	if (m->segment == X86_REG_FS)
		return (struct value){LOADED, at.number};
	if (m->segment != X86_REG_INVALID || image_tls_slot(c->im, (uint64_t)at.number, &offset))
		return unknown;
	return number(offset);
}

/* Follows an instruction that only changes its first operand. Returns false for any other. */
static bool follow(const struct code *c, struct prologue *p)
{
	const cs_x86 *x = &c->insn->detail->x86;
	const cs_x86_op *src = &x->operands[1];
	struct value *dst, *from;

	if (c->insn->id == X86_INS_CMP || c->insn->id == X86_INS_NOP)
		return true;
	dst = x->op_count == 2 && x->operands[0].type == X86_OP_REG && x->addr_size == 8
		      ? value_of(p, x->operands[0].reg)
		      : NULL;
	from = dst && src->type == X86_OP_REG ? value_of(p, src->reg) : NULL;
	if (dst && c->insn->id == X86_INS_LEA)
		*dst = address(c, p, &src->mem);
	else if (dst && (c->insn->id == X86_INS_MOV || c->insn->id == X86_INS_MOVABS))
		*dst = src->type == X86_OP_MEM	 ? load(c, p, &src->mem)
		       : src->type == X86_OP_IMM ? number(src->imm)
		       : from			 ? *from
						 : unknown;
	else if (dst && c->insn->id == X86_INS_ADD)
		*dst = src->type == X86_OP_IMM && dst->kind == NUMBER
			       ? number((int64_t)((uint64_t)dst->number + (uint64_t)src->imm))
			       : unknown;
	else
		return false;
	return true;
}

/* Whether the instruction looks at the stack's limit in a goroutine that a register points to. */
static bool finds(const struct code *c, struct prologue *p)
{
	const cs_x86 *x = &c->insn->detail->x86;
	const struct value *base;
	const x86_op_mem *m;
	size_t i;

	if (c->insn->id != X86_INS_MOV && c->insn->id != X86_INS_CMP)
		return false;
	for (i = 0; i < x->op_count; i++) {
		m = &x->operands[i].mem;
		if (x->operands[i].type != X86_OP_MEM || x->operands[i].size != 8 ||
		    m->segment != X86_REG_INVALID || m->index != X86_REG_INVALID ||
		    m->disp != STACK_GUARD)
			continue;
		base = value_of(p, m->base);
		if (base && (base->kind == GIVEN || base->kind == LOADED)) {
			p->found = *base;
			return true;
		}
	}
	return false;
}

static int look(struct code *c, const struct flow *f, void *ctx)
{
	struct prologue *p = ctx;
	bool joined = c->marks[disasm_at(c)] & BYTE_TARGET && disasm_at(c);

	if (f->call || f->jump || f->end || joined || p->seen++ == PROLOGUE)
		return -ENOENT;
	if (finds(c, p))
		return FOUND;
	if (!follow(c, p))
		memset(p->regs, 0, sizeof(p->regs));
	return 0;
}

static int find_goroutine(struct code *c, void *ctx)
{
	struct disasm_goroutine *out = ctx;
	struct prologue p = {0};
	int ret;

	if (c->computed)
		return -ENOENT;
	value_of(&p, X86_REG_R14)->kind = GIVEN;
	ret = disasm_walk(c, look, &p);
	if (ret != FOUND)
		return ret ? ret : -ENOENT;
	*out = (struct disasm_goroutine){p.found.kind == LOADED, p.found.number};
	return 0;
}

int disasm_goroutine(struct image *im, const struct image_symbol *sym, struct disasm_goroutine *out)
{
	memset(out, 0, sizeof(*out));
	return image_machine(im) == EM_X86_64 ? disasm_run(im, sym, find_goroutine, out) : -ENOENT;
}
