/* SPDX-License-Identifier: MIT */
#include <capstone/capstone.h>
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch.h"
#include "disasm.h"

#define MAX_CODE 16384
/* The registers followed: the arguments, and the frame pointer, from which locals are addressed. */
#define SLOTS (ARCH_ARGS + 1)
#define ALIASES 5
#define NO_SLOT SLOTS

/* What of the architecture is capstone's: how it numbers registers. */
struct isa {
	uint16_t machine;
	cs_arch arch;
	cs_mode mode;
	unsigned int sp;
	unsigned int slots[SLOTS][ALIASES]; /* the whole register first, then its parts; 0 ends */
};

static const struct isa isas[] = {
	{EM_X86_64,
	 CS_ARCH_X86,
	 CS_MODE_64,
	 X86_REG_RSP,
	 {{X86_REG_RDI, X86_REG_EDI, X86_REG_DI, X86_REG_DIL},
	  {X86_REG_RSI, X86_REG_ESI, X86_REG_SI, X86_REG_SIL},
	  {X86_REG_RDX, X86_REG_EDX, X86_REG_DX, X86_REG_DL, X86_REG_DH},
	  {X86_REG_RCX, X86_REG_ECX, X86_REG_CX, X86_REG_CL, X86_REG_CH},
	  {X86_REG_R8, X86_REG_R8D, X86_REG_R8W, X86_REG_R8B},
	  {X86_REG_R9, X86_REG_R9D, X86_REG_R9W, X86_REG_R9B},
	  {X86_REG_RBP, X86_REG_EBP, X86_REG_BP, X86_REG_BPL}}},
	{EM_AARCH64,
	 CS_ARCH_ARM64,
	 CS_MODE_ARM,
	 ARM64_REG_SP,
	 {{ARM64_REG_X0, ARM64_REG_W0},
	  {ARM64_REG_X1, ARM64_REG_W1},
	  {ARM64_REG_X2, ARM64_REG_W2},
	  {ARM64_REG_X3, ARM64_REG_W3},
	  {ARM64_REG_X4, ARM64_REG_W4},
	  {ARM64_REG_X5, ARM64_REG_W5},
	  {ARM64_REG_X29, ARM64_REG_W29}}},
};

enum { BYTE_START = 1, BYTE_TARGET = 2 };

/* One function's code. marks has a byte for each of code's: does an instruction start there? */
struct code {
	const struct isa *isa;
	csh cs;
	cs_insn *insn;
	uint64_t addr;
	size_t size;
	uint8_t bytes[MAX_CODE], marks[MAX_CODE];
};

/* Where an instruction may go, other than to the next one. */
struct flow {
	bool call, jump, end; /* end: never to the next one */
	bool direct;
	uint64_t target;
};

static const struct isa *isa_find(uint16_t machine)
{
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(isas); i++)
		if (isas[i].machine == machine)
			return &isas[i];
	return NULL;
}

static bool in_group(const cs_insn *insn, unsigned int group)
{
	size_t i;

	for (i = 0; i < insn->detail->groups_count; i++)
		if (insn->detail->groups[i] == group)
			return true;
	return false;
}

static void x86_flow(const cs_insn *insn, struct flow *f)
{
	const cs_x86 *d = &insn->detail->x86;

	f->end = f->end || insn->id == X86_INS_JMP || insn->id == X86_INS_LJMP;
	f->direct = d->op_count == 1 && d->operands[0].type == X86_OP_IMM;
	f->target = f->direct ? (uint64_t)d->operands[0].imm : 0;
}

static void arm64_flow(const cs_insn *insn, struct flow *f)
{
	const cs_arm64 *d = &insn->detail->arm64;
	const cs_arm64_op *last = d->operands + (d->op_count ? d->op_count - 1 : 0);

	f->call = f->call || insn->id == ARM64_INS_BL || insn->id == ARM64_INS_BLR;
	f->end = f->end || insn->id == ARM64_INS_BR ||
		 (insn->id == ARM64_INS_B &&
		  (d->cc == ARM64_CC_INVALID || d->cc == ARM64_CC_AL || d->cc == ARM64_CC_NV));
	f->direct = d->op_count && last->type == ARM64_OP_IMM; /* tbz names a bit before it */
	f->target = f->direct ? (uint64_t)last->imm : 0;
}

static struct flow flow_of(const struct code *c)
{
	const cs_insn *insn = c->insn;
	struct flow f = {.call = in_group(insn, CS_GRP_CALL), .end = in_group(insn, CS_GRP_RET)};
	bool branch =
		f.call || in_group(insn, CS_GRP_JUMP) || in_group(insn, CS_GRP_BRANCH_RELATIVE);

	if (!branch || f.end)
		return f;
	if (c->isa->arch == CS_ARCH_X86)
		x86_flow(insn, &f);
	else
		arm64_flow(insn, &f);
	f.jump = !f.call;
	return f;
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

/* The n-th register that the instruction may change: every one that it names counts as changed. */
static bool touched(const struct code *c, size_t n, unsigned int *reg)
{
	const cs_detail *d = c->insn->detail;
	size_t ops = c->isa->arch == CS_ARCH_X86 ? d->x86.op_count : d->arm64.op_count;

	*reg = 0;
	if (n < d->regs_write_count) {
		*reg = d->regs_write[n];
		return true;
	}
	n -= d->regs_write_count;
	if (n >= ops)
		return false;
	if (c->isa->arch == CS_ARCH_X86 && d->x86.operands[n].type == X86_OP_REG)
		*reg = d->x86.operands[n].reg;
	else if (c->isa->arch == CS_ARCH_ARM64 && d->arm64.operands[n].type == ARM64_OP_REG)
		*reg = d->arm64.operands[n].reg;
	else if (c->isa->arch == CS_ARCH_ARM64 && d->arm64.operands[n].type == ARM64_OP_MEM &&
		 d->arm64.writeback)
		*reg = d->arm64.operands[n].mem.base;
	return true;
}

static size_t slot_of(const struct isa *isa, unsigned int reg, bool *whole)
{
	size_t s, a;

	for (s = 0; reg && s < SLOTS; s++)
		for (a = 0; a < ALIASES && isa->slots[s][a]; a++)
			if (isa->slots[s][a] == reg) {
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

	if (c->isa->arch == CS_ARCH_X86 ? x86_address(c->insn, &reg, &base)
					: arm64_address(c->insn, &reg, &base)) {
		src = slot_of(c->isa, base, &whole);
		of_frame = base == c->isa->sp || (src != NO_SLOT && whole && stack & 1u << src);
		dst = slot_of(c->isa, reg, &whole);
		stack &= ~(1u << dst);
		return of_frame && whole && dst != NO_SLOT ? stack | 1u << dst : stack;
	}
	for (n = 0; touched(c, n, &reg); n++)
		stack &= ~(1u << slot_of(c->isa, reg, &whole));
	return stack;
}

/* Returns (with a key in the processor) that older capstones do not know: retaa, retab. */
static bool unknown_return(const struct code *c, const uint8_t *at, size_t left)
{
	static const uint8_t retaa[] = {0xff, 0x0b, 0x5f, 0xd6}, retab[] = {0xff, 0x0f, 0x5f, 0xd6};

	return c->isa->machine == EM_AARCH64 && left >= 4 &&
	       (!memcmp(at, retaa, 4) || !memcmp(at, retab, 4));
}

/* Calls fn for every instruction. Returns 0 when the last one ends where the function does. */
static int walk(struct code *c, int (*fn)(struct code *c, const struct flow *f, void *ctx),
		void *ctx)
{
	const uint8_t *at = c->bytes;
	uint64_t addr = c->addr;
	size_t left = c->size;
	struct flow f;
	int ret = 0;

	while (left && !ret) {
		if (cs_disasm_iter(c->cs, &at, &left, &addr, c->insn)) {
			f = flow_of(c);
		} else if (unknown_return(c, at, left)) {
			f = (struct flow){.end = true};
			c->insn->address = addr;
			memset(c->insn->detail, 0, sizeof(*c->insn->detail));
			at += 4, addr += 4, left -= 4;
		} else {
			return -EBADMSG;
		}
		ret = fn(c, &f, ctx);
	}
	return ret;
}

static bool inside(const struct code *c, uint64_t addr)
{
	return addr >= c->addr && addr - c->addr < c->size;
}

static int mark(struct code *c, const struct flow *f, void *ctx)
{
	bool *computed = ctx;

	c->marks[c->insn->address - c->addr] |= BYTE_START;
	if ((f->jump || f->call) && f->direct && inside(c, f->target))
		c->marks[f->target - c->addr] |= BYTE_TARGET;
	if (f->jump && !f->direct)
		*computed = true;
	return 0;
}

struct collect {
	struct disasm_calls *out;
	unsigned int stack;
	bool computed; /* jumps to computed places: any instruction may be a target */
};

static int collect(struct code *c, const struct flow *f, void *ctx)
{
	struct collect *x = ctx;
	bool out = f->call || (f->jump && !inside(c, f->target));

	if (x->computed || c->marks[c->insn->address - c->addr] & BYTE_TARGET)
		x->stack = 0;
	if ((f->call || f->jump) && !f->direct) {
		x->out->indirect = true;
	} else if (out) {
		if (x->out->count == DISASM_MAX_CALLS)
			return -E2BIG;
		x->out->calls[x->out->count++] = (struct disasm_call){
			f->target, f->jump, (uint8_t)(x->stack & ((1u << ARCH_ARGS) - 1))};
	}
	if (f->end)
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
	size_t i;
	int ret = walk(c, mark, &x.computed);

	if (ret)
		return ret;
	for (i = 0; i < c->size; i++)
		if (c->marks[i] == BYTE_TARGET)
			return -EBADMSG; /* a jump into the middle of an instruction */
	return walk(c, collect, &x);
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
	for (n = 0; touched(c, n, &reg); n++)
		out->lost |= slot_of(c->isa, reg, &whole) == 0;
	return 0;
}

static int find_counter(struct code *c, void *offset)
{
	struct counter x = {0};
	int ret = c->isa->arch == CS_ARCH_X86 ? walk(c, count, &x) : -ENOENT;

	if (ret || !x.found)
		return ret ? ret : -ENOENT;
	*(int32_t *)offset = x.offset;
	return 0;
}

/* Reads a function's code and runs fn on it. */
static int analyse(struct image *im, const struct image_symbol *sym,
		   int (*fn)(struct code *c, void *out), void *out)
{
	const struct isa *isa = isa_find(image_machine(im));
	struct code *c;
	int ret = -ENOMEM;

	if (!sym->size || !isa)
		return -ENOENT;
	if (sym->size > MAX_CODE)
		return -E2BIG;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->isa = isa;
	c->addr = sym->addr;
	c->size = sym->size;
	if (image_read(im, sym->addr, c->bytes, c->size) != (ptrdiff_t)c->size) {
		ret = -EBADMSG;
	} else if (cs_open(isa->arch, isa->mode, &c->cs) == CS_ERR_OK) {
		cs_option(c->cs, CS_OPT_DETAIL, CS_OPT_ON);
		c->insn = cs_malloc(c->cs);
		if (c->insn)
			ret = fn(c, out);
		cs_free(c->insn, c->insn ? 1 : 0);
		cs_close(&c->cs);
	}
	free(c);
	return ret;
}

int disasm_calls(struct image *im, const struct image_symbol *sym, struct disasm_calls *out)
{
	int ret;

	memset(out, 0, sizeof(*out));
	ret = analyse(im, sym, find_calls, out);
	if (ret)
		memset(out, 0, sizeof(*out));
	return ret;
}

int disasm_counter(struct image *im, const struct image_symbol *sym, int32_t *offset)
{
	return analyse(im, sym, find_counter, offset);
}
