/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "arch.h"
#include "disasm_private.h"

/* The registers followed: the arguments, and the frame pointer, from which locals are addressed. */
#define SLOTS (ARCH_ARGS + 1)
#define ALIASES 5
#define NO_SLOT SLOTS

/* How capstone numbers an architecture's registers. */
struct regs {
	unsigned int sp;
	unsigned int slots[SLOTS][ALIASES]; /* the whole register first, then its parts; 0 ends */
};

static const struct regs x86_regs = {
	X86_REG_RSP,
	{{X86_REG_RDI, X86_REG_EDI, X86_REG_DI, X86_REG_DIL},
	 {X86_REG_RSI, X86_REG_ESI, X86_REG_SI, X86_REG_SIL},
	 {X86_REG_RDX, X86_REG_EDX, X86_REG_DX, X86_REG_DL, X86_REG_DH},
	 {X86_REG_RCX, X86_REG_ECX, X86_REG_CX, X86_REG_CL, X86_REG_CH},
	 {X86_REG_R8, X86_REG_R8D, X86_REG_R8W, X86_REG_R8B},
	 {X86_REG_R9, X86_REG_R9D, X86_REG_R9W, X86_REG_R9B},
	 {X86_REG_RBP, X86_REG_EBP, X86_REG_BP, X86_REG_BPL}}};

static const struct regs arm64_regs = {ARM64_REG_SP,
				       {{ARM64_REG_X0, ARM64_REG_W0},
					{ARM64_REG_X1, ARM64_REG_W1},
					{ARM64_REG_X2, ARM64_REG_W2},
					{ARM64_REG_X3, ARM64_REG_W3},
					{ARM64_REG_X4, ARM64_REG_W4},
					{ARM64_REG_X5, ARM64_REG_W5},
					{ARM64_REG_X29, ARM64_REG_W29}}};

static const struct regs *regs_of(const struct code *c)
{
	return c->arch == CS_ARCH_X86 ? &x86_regs : &arm64_regs;
}

/* dst = base + a constant. Returns false for any other instruction. */
static bool x86_address(const cs_insn *insn, unsigned int *dst, unsigned int *base)
{
	const cs_x86_op *op = insn->detail->x86.operands;

	if (insn->detail->x86.op_count != 2 || op[0].type != X86_OP_REG)
		return false;
	*dst = op[0].reg;
	if (insn->id == X86_INS_MOV && op[1].type == X86_OP_REG)
		*base = op[1].reg;
	else if (insn->id == X86_INS_LEA && op[1].mem.index == X86_REG_INVALID)
		*base = op[1].mem.base;
	else
		return false;
	return true;
}

static bool arm64_address(const cs_insn *insn, unsigned int *dst, unsigned int *base)
{
	const cs_arm64_op *op = insn->detail->arm64.operands;
	uint8_t n = insn->detail->arm64.op_count;

	if (n < 2 || op[0].type != ARM64_OP_REG || op[1].type != ARM64_OP_REG)
		return false;
	*dst = op[0].reg;
	*base = op[1].reg;
	if (insn->id == ARM64_INS_MOV)
		return n == 2;
	return (insn->id == ARM64_INS_ADD || insn->id == ARM64_INS_SUB) && n == 3 &&
	       op[2].type == ARM64_OP_IMM;
}

static size_t slot_of(const struct regs *regs, unsigned int reg, bool *whole)
{
	size_t s, a;

	for (s = 0; reg && s < SLOTS; s++)
		for (a = 0; a < ALIASES && regs->slots[s][a]; a++)
			if (regs->slots[s][a] == reg) {
				*whole = !a;
				return s;
			}
	return NO_SLOT;
}

/* What the instruction does to `stack`, the set of slots that hold an address in the frame. */
static unsigned int follow(const struct code *c, unsigned int stack)
{
	unsigned int reg, base;
	size_t n, dst, src;
	bool whole = false, of_frame;

	if (c->arch == CS_ARCH_X86 ? x86_address(c->insn, &reg, &base)
				   : arm64_address(c->insn, &reg, &base)) {
		src = slot_of(regs_of(c), base, &whole);
		of_frame = base == regs_of(c)->sp || (src != NO_SLOT && whole && stack & 1u << src);
		dst = slot_of(regs_of(c), reg, &whole);
		stack &= ~(1u << dst);
		return of_frame && whole && dst != NO_SLOT ? stack | 1u << dst : stack;
	}
	for (n = 0; disasm_touched(c, n, &reg); n++)
		stack &= ~(1u << slot_of(regs_of(c), reg, &whole));
	return stack;
}

struct collect {
	struct disasm_calls *out;
	unsigned int stack;
};

static int collect(struct code *c, const struct flow *f, void *ctx)
{
	struct collect *x = ctx;
	bool out = f->call || (f->jump && !disasm_inside(c, f->target));

	if (c->computed || c->marks[disasm_at(c)] & BYTE_TARGET)
		x->stack = 0;
	if ((f->call || f->jump) && !f->direct) {
		x->out->indirect = true;
	} else if (out) {
		if (x->out->count == DISASM_MAX_CALLS)
			return -E2BIG;
		x->out->calls[x->out->count++] = (struct disasm_call){
			f->target, f->jump, (uint8_t)(x->stack & ((1u << ARCH_ARGS) - 1))};
	}
	if (f->end || f->unknown)
		x->stack = 0;
	else if (f->call) /* what it leaves in the argument registers is unknown */
		x->stack &= 1u << ARCH_ARGS;
	else
		x->stack = follow(c, x->stack);
	return 0;
}

static int find_calls(struct code *c, void *out)
{
	struct collect x = {.out = out};

	return disasm_walk(c, collect, &x);
}

struct counter {
	bool found, lost; /* lost: the first argument may have changed */
	int32_t offset;
};

static int count(struct code *c, const struct flow *f, void *ctx)
{
	const cs_x86 *x = &c->insn->detail->x86;
	struct counter *out = ctx;
	unsigned int reg;
	bool whole;
	size_t n;

	(void)f;
	for (n = 0; n < x->op_count; n++)
		if (!out->found && !out->lost && x->prefix[0] == X86_PREFIX_LOCK &&
		    x->operands[n].type == X86_OP_MEM && x->operands[n].size == 4 &&
		    x->operands[n].mem.base == X86_REG_RDI &&
		    x->operands[n].mem.index == X86_REG_INVALID &&
		    x->operands[n].mem.disp == (int32_t)x->operands[n].mem.disp) {
			out->found = true;
			out->offset = (int32_t)x->operands[n].mem.disp;
		}
	for (n = 0; disasm_touched(c, n, &reg); n++)
		out->lost |= slot_of(regs_of(c), reg, &whole) == 0;
	return 0;
}

static int find_counter(struct code *c, void *offset)
{
	struct counter x = {0};
	int ret = c->arch == CS_ARCH_X86 ? disasm_walk(c, count, &x) : -ENOENT;

	if (ret || !x.found)
		return ret ? ret : -ENOENT;
	*(int32_t *)offset = x.offset;
	return 0;
}

int disasm_calls(struct image *im, const struct image_symbol *sym, struct disasm_calls *out)
{
	int ret;

	memset(out, 0, sizeof(*out));
	ret = disasm_run(im, sym, find_calls, out);
	if (ret)
		memset(out, 0, sizeof(*out));
	return ret;
}

int disasm_counter(struct image *im, const struct image_symbol *sym, int32_t *offset)
{
	return disasm_run(im, sym, find_counter, offset);
}
