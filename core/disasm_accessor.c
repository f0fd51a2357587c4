/* SPDX-License-Identifier: MIT */
/*
 * What an accessor function gives: all of its paths are walked, with what each register holds as
 * far as it comes from the arguments.
 */
#include <errno.h>
#include <string.h>

#include "arch.h"
#include "disasm_private.h"

#define REGISTERS DISASM_REGISTERS
#define NO_SLOT DISASM_REGISTERS
#define MOST_STEPS 4096 /* instructions, on all paths together */
#define MOST_DEPTH 64	/* branches on one path */

/* What argument `arg` leads to, plus disp; arg 0: something else. No steps: the argument itself. */
struct value {
	unsigned int arg;
	struct ts_walk walk;
	int32_t disp;
	uint8_t size; /* of the last load */
};

struct state {
	struct value regs[REGISTERS];
	struct value tested; /* what the flags tell to be 0 or not */
	struct value stored; /* where argument `out` points */
	struct ts_walk zero; /* what is 0 on this path */
};

struct paths {
	unsigned int out;
	bool nearest;
	size_t steps;
	struct disasm_accessor found;
};

/* --- registers, numbered as the instructions do */

static const unsigned int x86_regs[16][5] = {
	{X86_REG_RAX, X86_REG_EAX, X86_REG_AX, X86_REG_AL, X86_REG_AH},
	{X86_REG_RCX, X86_REG_ECX, X86_REG_CX, X86_REG_CL, X86_REG_CH},
	{X86_REG_RDX, X86_REG_EDX, X86_REG_DX, X86_REG_DL, X86_REG_DH},
	{X86_REG_RBX, X86_REG_EBX, X86_REG_BX, X86_REG_BL, X86_REG_BH},
	{X86_REG_RSP, X86_REG_ESP, X86_REG_SP, X86_REG_SPL},
	{X86_REG_RBP, X86_REG_EBP, X86_REG_BP, X86_REG_BPL},
	{X86_REG_RSI, X86_REG_ESI, X86_REG_SI, X86_REG_SIL},
	{X86_REG_RDI, X86_REG_EDI, X86_REG_DI, X86_REG_DIL},
	{X86_REG_R8, X86_REG_R8D, X86_REG_R8W, X86_REG_R8B},
	{X86_REG_R9, X86_REG_R9D, X86_REG_R9W, X86_REG_R9B},
	{X86_REG_R10, X86_REG_R10D, X86_REG_R10W, X86_REG_R10B},
	{X86_REG_R11, X86_REG_R11D, X86_REG_R11W, X86_REG_R11B},
	{X86_REG_R12, X86_REG_R12D, X86_REG_R12W, X86_REG_R12B},
	{X86_REG_R13, X86_REG_R13D, X86_REG_R13W, X86_REG_R13B},
	{X86_REG_R14, X86_REG_R14D, X86_REG_R14W, X86_REG_R14B},
	{X86_REG_R15, X86_REG_R15D, X86_REG_R15W, X86_REG_R15B},
};
static const uint8_t x86_args[ARCH_ARGS] = {7, 6, 2, 1, 8, 9};
/* Bits of those that a called function keeps. */
#define X86_KEPT (1u << 3 | 1u << 4 | 1u << 5 | 0xfu << 12)
#define ARM64_KEPT (0x7ffu << 19)

size_t disasm_slot(const struct code *c, unsigned int reg, uint8_t *size)
{
	static const uint8_t sizes[] = {8, 4, 2, 1, 1};
	size_t s, a;

	*size = 8;
	if (c->arch == CS_ARCH_X86) {
		for (s = 0; reg && s < 16; s++)
			for (a = 0; a < 5; a++)
				if (x86_regs[s][a] == reg) {
					*size = sizes[a];
					return s;
				}
		return NO_SLOT;
	}
	if (reg >= ARM64_REG_X0 && reg <= ARM64_REG_X28)
		return reg - ARM64_REG_X0;
	if (reg == ARM64_REG_X29 || reg == ARM64_REG_X30)
		return reg == ARM64_REG_X29 ? 29 : 30;
	*size = 4;
	return reg >= ARM64_REG_W0 && reg <= ARM64_REG_W30 ? reg - ARM64_REG_W0 : NO_SLOT;
}

static const struct value unknown;

static struct value get(const struct code *c, const struct state *s, unsigned int reg)
{
	uint8_t size;
	size_t slot = disasm_slot(c, reg, &size);

	/* A part of what it holds is something else. */
	if (slot == NO_SLOT || (s->regs[slot].walk.steps ? s->regs[slot].size : 8) > size)
		return unknown;
	return s->regs[slot];
}

static void set(const struct code *c, struct state *s, unsigned int reg, struct value v)
{
	uint8_t size;
	size_t slot = disasm_slot(c, reg, &size);

	if (slot != NO_SLOT)
		s->regs[slot] = size < 4 ? unknown : v;
}

static bool same_walk(const struct ts_walk *a, const struct ts_walk *b)
{
	return a->steps == b->steps && !memcmp(a->offsets, b->offsets, sizeof(a->offsets));
}

static bool same(const struct value *a, const struct value *b)
{
	return a->arg == b->arg && same_walk(&a->walk, &b->walk) && a->disp == b->disp &&
	       a->size == b->size;
}

static struct value moved(struct value v, int64_t by)
{
	int64_t disp = v.disp + by;

	if (!v.arg || disp != (int32_t)disp || by != (int32_t)by)
		return unknown;
	v.disp = (int32_t)disp;
	return v;
}

/* What is loaded from there. */
static struct value loaded(struct value at, int64_t disp, uint8_t size)
{
	struct value v = moved(at, disp);

	if (!v.arg || v.walk.steps == TS_WALK_STEPS || (v.walk.steps && v.size < 8))
		return unknown;
	v.walk.offsets[v.walk.steps++] = v.disp;
	v.disp = 0;
	v.size = size;
	return v;
}

static void store(const struct paths *p, struct state *s, struct value at, int64_t disp,
		  struct value v)
{
	if (p->out && at.arg == p->out && !at.walk.steps && at.disp + disp == 0)
		s->stored = v;
}

static void forget_changed(const struct code *c, struct state *s)
{
	unsigned int reg;
	size_t n;

	for (n = 0; disasm_touched(c, n, &reg); n++)
		set(c, s, reg, unknown);
}

/* --- instructions; each returns false for one that it does not know */

static struct value x86_load(const struct code *c, const struct state *s, const cs_x86_op *op)
{
	if (op->mem.segment != X86_REG_INVALID || op->mem.index != X86_REG_INVALID ||
	    c->insn->detail->x86.addr_size != 8)
		return unknown;
	return loaded(get(c, s, op->mem.base), op->mem.disp, op->size);
}

static struct value x86_operand(const struct code *c, const struct state *s, const cs_x86_op *op)
{
	if (op->type == X86_OP_REG)
		return get(c, s, op->reg);
	return op->type == X86_OP_MEM ? x86_load(c, s, op) : unknown;
}

static bool x86_move(const struct code *c, const struct paths *p, struct state *s)
{
	const cs_x86 *x = &c->insn->detail->x86;
	const cs_x86_op *to = &x->operands[0], *from = &x->operands[1];

	if (to->type == X86_OP_MEM) {
		if (to->mem.index == X86_REG_INVALID)
			store(p, s, get(c, s, to->mem.base), to->mem.disp, x86_operand(c, s, from));
	} else if (c->insn->id == X86_INS_LEA) {
		set(c, s, to->reg,
		    to->size == 8 && x->addr_size == 8 && from->mem.index == X86_REG_INVALID
			    ? moved(get(c, s, from->mem.base), from->mem.disp)
			    : unknown);
	} else {
		set(c, s, to->reg, x86_operand(c, s, from));
	}
	return true;
}

static bool x86_test(const struct code *c, struct state *s)
{
	const cs_x86_op *a = &c->insn->detail->x86.operands[0], *b = a + 1;
	bool zero = c->insn->id == X86_INS_TEST
			    ? a->type == X86_OP_REG && b->type == X86_OP_REG && a->reg == b->reg
			    : b->type == X86_OP_IMM && !b->imm;

	s->tested = zero ? x86_operand(c, s, a) : unknown;
	return true;
}

static bool x86_step(const struct code *c, const struct paths *p, struct state *s)
{
	const cs_x86 *x = &c->insn->detail->x86;

	switch (c->insn->id) {
	case X86_INS_MOV:
	case X86_INS_MOVABS:
	case X86_INS_MOVZX:
	case X86_INS_MOVSX:
	case X86_INS_MOVSXD:
	case X86_INS_LEA:
		return x->op_count == 2 && x86_move(c, p, s);
	case X86_INS_TEST:
	case X86_INS_CMP:
		return x->op_count == 2 && x86_test(c, s);
	case X86_INS_NOP:
	case X86_INS_PUSH:
		return true;
	case X86_INS_POP:
		forget_changed(c, s);
		return true;
	default:
		return false;
	}
}

static struct value arm64_load(const struct code *c, const struct state *s, const cs_arm64_op *op,
			       int64_t more, uint8_t size)
{
	if (op->type != ARM64_OP_MEM || op->mem.index != ARM64_REG_INVALID ||
	    c->insn->detail->arm64.writeback)
		return unknown;
	return loaded(get(c, s, op->mem.base), op->mem.disp + more, size);
}

/* ldr, its kin of other widths, and ldp: `size` bytes into each of the first registers. */
static bool arm64_loads(const struct code *c, struct state *s, uint8_t size)
{
	const cs_arm64 *x = &c->insn->detail->arm64;
	struct value v[2] = {unknown, unknown};
	unsigned int n, i, count = x->op_count;
	uint8_t width;

	for (n = 0; n < count && n < 2 && x->operands[n].type == ARM64_OP_REG; n++)
		;
	if (!n || n == count)
		return false;
	disasm_slot(c, x->operands[0].reg, &width);
	size = size ? size : width;
	for (i = 0; i < n; i++)
		v[i] = arm64_load(c, s, &x->operands[n], i * size, size);
	forget_changed(c, s);
	for (i = 0; i < n; i++)
		set(c, s, x->operands[i].reg, v[i]);
	return true;
}

static bool arm64_add(const struct code *c, struct state *s)
{
	const cs_arm64_op *op = c->insn->detail->arm64.operands;
	bool sub = c->insn->id == ARM64_INS_SUB;
	int64_t by;

	if (c->insn->detail->arm64.op_count != 3 || op[2].type != ARM64_OP_IMM)
		return false;
	by = op[2].imm << (op[2].shift.type == ARM64_SFT_LSL ? op[2].shift.value : 0);
	set(c, s, op[0].reg, moved(get(c, s, op[1].reg), sub ? -by : by));
	return true;
}

static bool arm64_step(const struct code *c, const struct paths *p, struct state *s)
{
	const cs_arm64_op *op = c->insn->detail->arm64.operands;
	uint8_t count = c->insn->detail->arm64.op_count;

	switch (c->insn->id) {
	case ARM64_INS_MOV:
		if (count == 2)
			set(c, s, op[0].reg,
			    op[1].type == ARM64_OP_REG ? get(c, s, op[1].reg) : unknown);
		return count == 2;
	case ARM64_INS_LDR:
	case ARM64_INS_LDUR:
	case ARM64_INS_LDP:
		return arm64_loads(c, s, 0);
	case ARM64_INS_LDRSW:
	case ARM64_INS_LDURSW:
		return arm64_loads(c, s, 4);
	case ARM64_INS_LDRH:
	case ARM64_INS_LDURH:
		return arm64_loads(c, s, 2);
	case ARM64_INS_LDRB:
	case ARM64_INS_LDURB:
		return arm64_loads(c, s, 1);
	case ARM64_INS_STR:
		if (count == 2 && op[1].type == ARM64_OP_MEM &&
		    op[1].mem.index == ARM64_REG_INVALID && !c->insn->detail->arm64.writeback) {
			store(p, s, get(c, s, op[1].mem.base), op[1].mem.disp,
			      get(c, s, op[0].reg));
			return true;
		}
		return false;
	case ARM64_INS_ADD:
	case ARM64_INS_SUB:
		return arm64_add(c, s);
	case ARM64_INS_CMP:
		s->tested = count == 2 && op[1].type == ARM64_OP_IMM && !op[1].imm
				    ? get(c, s, op[0].reg)
				    : unknown;
		return true;
	default:
		return false;
	}
}

/* --- paths */

static void step(const struct code *c, const struct flow *f, const struct paths *p, struct state *s)
{
	bool x86 = c->arch == CS_ARCH_X86;
	uint32_t kept = f->unknown ? 0 : x86 ? X86_KEPT : ARM64_KEPT;
	size_t i;

	if (!f->call && !f->unknown && (x86 ? x86_step(c, p, s) : arm64_step(c, p, s)))
		return;
	s->tested = unknown;
	forget_changed(c, s);
	for (i = 0; (f->call || f->unknown) && i < REGISTERS; i++)
		if (!(kept >> i & 1))
			s->regs[i] = unknown;
}

enum zero { NOT_SAID, WHEN_TAKEN, WHEN_NOT };

/* What a conditional jump says of a value, which is told: when it is 0. */
static enum zero condition(const struct code *c, const struct state *s, struct value *v)
{
	const cs_arm64 *a = &c->insn->detail->arm64;
	unsigned int id = c->insn->id;

	*v = s->tested;
	if (c->arch == CS_ARCH_X86)
		return id == X86_INS_JE ? WHEN_TAKEN : id == X86_INS_JNE ? WHEN_NOT : NOT_SAID;
	if (id == ARM64_INS_B)
		return a->cc == ARM64_CC_EQ   ? WHEN_TAKEN
		       : a->cc == ARM64_CC_NE ? WHEN_NOT
					      : NOT_SAID;
	if (id != ARM64_INS_CBZ && id != ARM64_INS_CBNZ)
		return NOT_SAID;
	*v = get(c, s, a->operands[0].reg);
	return id == ARM64_INS_CBZ ? WHEN_TAKEN : WHEN_NOT;
}

/* From here on v is 0: no longer something of its own. */
static void is_zero(struct state *s, struct value v)
{
	size_t i;

	if (v.arg != 1 || !v.walk.steps || v.disp)
		return;
	for (i = 0; i < REGISTERS; i++)
		if (same(&s->regs[i], &v))
			s->regs[i] = unknown;
	if (same(&s->stored, &v))
		s->stored = unknown;
	if (v.size == 4 && !s->zero.steps)
		s->zero = v.walk;
}

static int end_path(struct paths *p, const struct state *s)
{
	const struct value *v = p->out ? &s->stored : &s->regs[0];
	struct disasm_accessor *a = &p->found;

	if (v->arg != 1 || !v->walk.steps || v->disp)
		return 0;
	if (p->nearest && a->walk.steps && v->walk.steps > a->walk.steps)
		return 0;
	if (!a->walk.steps || (p->nearest && v->walk.steps < a->walk.steps)) {
		*a = (struct disasm_accessor){v->walk, v->size, s->zero};
		return 0;
	}
	if (!same_walk(&a->walk, &v->walk) || a->size != v->size)
		return -ENOTUNIQ;
	if (!same_walk(&a->zero, &s->zero))
		a->zero = (struct ts_walk){0};
	return 0;
}

static int follow(struct code *c, struct paths *p, struct state s, size_t at, unsigned int depth)
{
	struct state taken;
	struct value v;
	struct flow f;
	enum zero zero;
	int ret;

	for (; at < c->size; at += c->insn->size) {
		if (depth > MOST_DEPTH || p->steps++ == MOST_STEPS)
			return -E2BIG;
		ret = disasm_decode(c, at, &f);
		if (ret)
			return ret;
		if (f.ret)
			return end_path(p, &s);
		if (f.jump && f.direct && disasm_inside(c, f.target)) {
			uint32_t size = c->insn->size;

			taken = s;
			zero = f.end ? NOT_SAID : condition(c, &s, &v);
			if (zero != NOT_SAID)
				is_zero(zero == WHEN_TAKEN ? &taken : &s, v);
			ret = follow(c, p, taken, f.target - c->addr, depth + 1);
			if (ret || f.end)
				return ret;
			c->insn->size = (uint16_t)size;
			continue;
		}
		/* Out of the function: what is returned is another one's. */
		if (f.end)
			return 0;
		if (!f.jump)
			step(c, &f, p, &s);
	}
	return 0;
}

static int find(struct code *c, void *ctx)
{
	struct state s = {.zero = {0}};
	struct paths *p = ctx;
	unsigned int i;

	if (c->computed)
		return -ENOENT;
	for (i = 0; i < ARCH_ARGS; i++)
		s.regs[c->arch == CS_ARCH_X86 ? x86_args[i] : i].arg = i + 1;
	return follow(c, p, s, 0, 0);
}

static int run(struct image *im, const struct image_symbol *sym, struct paths *p,
	       struct disasm_accessor *accessor)
{
	int ret = disasm_run(im, sym, find, p);

	memset(accessor, 0, sizeof(*accessor));
	if (ret || !p->found.walk.steps)
		return ret ? ret : -ENOENT;
	*accessor = p->found;
	return 0;
}

int disasm_accessor(struct image *im, const struct image_symbol *sym, unsigned int out,
		    struct disasm_accessor *accessor)
{
	struct paths p = {.out = out};

	return run(im, sym, &p, accessor);
}

int disasm_nearest(struct image *im, const struct image_symbol *sym,
		   struct disasm_accessor *accessor)
{
	struct paths p = {.nearest = true};

	return run(im, sym, &p, accessor);
}
