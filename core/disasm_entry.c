/* SPDX-License-Identifier: MIT */
/*
 * Where a probe costs little: instructions that the kernel emulates, near a function's beginning.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disasm_private.h"

#define MOST_CODE 16384 /* bytes of a function that nobody tells the end of */
#define MOST_STEPS 32	/* instructions from the beginning */

/*
 * arch/x86/kernel/uprobes.c, since 4.18: a push of a register, nop, jmp and jcc, without prefixes.
 * A call is emulated too, but not by every kernel as a shadow stack wants it.
 */
static bool x86_emulated(const uint8_t *b, size_t size)
{
	switch (size) {
	case 1:
		return b[0] == 0x90 || (b[0] >= 0x50 && b[0] <= 0x57 && b[0] != 0x54);
	case 2:
		return (b[0] == 0x41 && b[1] >= 0x50 && b[1] <= 0x57) || b[0] == 0xeb ||
		       (b[0] >= 0x70 && b[0] <= 0x7f);
	case 5:
		return b[0] == 0xe9;
	case 6:
		return b[0] == 0x0f && b[1] >= 0x80 && b[1] <= 0x8f;
	default:
		return false;
	}
}

/*
 * arch/arm64/kernel/probes/decode-insn.c, since 4.10: b, b.cond, cbz, tbz, adr, adrp, ret through
 * x30, and loads of 4 or 8 bytes beside the code.
 */
static bool arm64_emulated(const uint8_t *b)
{
	static const struct {
		uint32_t mask, value;
	} kinds[] = {
		{0xfc000000, 0x14000000}, {0xff000010, 0x54000000}, {0x7e000000, 0x34000000},
		{0x7e000000, 0x36000000}, {0x1f000000, 0x10000000}, {0xffffffff, 0xd65f03c0},
		{0xbf000000, 0x18000000},
	};
	uint32_t word;
	size_t i;

	memcpy(&word, b, sizeof(word));
	for (i = 0; i < TS_ARRAY_SIZE(kinds); i++)
		if ((word & kinds[i].mask) == kinds[i].value)
			return true;
	return false;
}

bool disasm_emulated(const struct code *c)
{
	const uint8_t *b = c->bytes + disasm_at(c); /* of what capstone does not know too */

	return c->arch == CS_ARCH_X86 ? x86_emulated(b, c->insn->size) : arm64_emulated(b);
}

/* How many of its first operands the instruction may write; -1: it is not one of those known. */
static int x86_written(const cs_insn *insn)
{
	switch (insn->id) {
	case X86_INS_CMP:
	case X86_INS_TEST:
	case X86_INS_NOP:
	case X86_INS_PUSH:
	case X86_INS_BT:
		return 0;
	case X86_INS_MOV:
	case X86_INS_MOVABS:
	case X86_INS_MOVZX:
	case X86_INS_MOVSX:
	case X86_INS_MOVSXD:
	case X86_INS_MOVQ:
	case X86_INS_MOVUPS:
	case X86_INS_MOVAPS:
	case X86_INS_LEA:
	case X86_INS_XOR:
	case X86_INS_AND:
	case X86_INS_OR:
	case X86_INS_ADD:
	case X86_INS_SUB:
	case X86_INS_PXOR:
		return 1;
	default:
		return -1;
	}
}

static int arm64_written(const cs_insn *insn)
{
	switch (insn->id) {
	case ARM64_INS_CMP:
	case ARM64_INS_STP:
	case ARM64_INS_STR:
	case ARM64_INS_STUR:
	case ARM64_INS_CBZ:
	case ARM64_INS_CBNZ:
	case ARM64_INS_TBZ:
	case ARM64_INS_TBNZ:
		return 0;
	case ARM64_INS_MOV:
	case ARM64_INS_MOVZ:
	case ARM64_INS_ADD:
	case ARM64_INS_SUB:
	case ARM64_INS_ADR:
	case ARM64_INS_ADRP:
	case ARM64_INS_LDR:
	case ARM64_INS_LDUR:
	case ARM64_INS_LDRB:
	case ARM64_INS_LDRH:
		return 1;
	default:
		return -1;
	}
}

static uint32_t bit_of(const struct code *c, unsigned int reg)
{
	uint8_t size;
	size_t slot = disasm_slot(c, reg, &size);

	return slot == DISASM_REGISTERS ? 0 : 1u << slot;
}

uint32_t disasm_changed(const struct code *c)
{
	const cs_detail *d = c->insn->detail;
	bool x86 = c->arch == CS_ARCH_X86, reg;
	int written = x86 ? x86_written(c->insn) : arm64_written(c->insn), i;
	uint32_t bits = 0;
	unsigned int name;
	size_t n;

	if (written < 0) {
		for (n = 0; disasm_touched(c, n, &name); n++)
			bits |= bit_of(c, name);
		return bits;
	}
	for (n = 0; n < d->regs_write_count; n++)
		bits |= bit_of(c, d->regs_write[n]);
	for (i = 0; i < written; i++) {
		reg = x86 ? d->x86.operands[i].type == X86_OP_REG
			  : d->arm64.operands[i].type == ARM64_OP_REG;
		if (reg)
			bits |= bit_of(c, x86 ? (unsigned int)d->x86.operands[i].reg
					      : (unsigned int)d->arm64.operands[i].reg);
	}
	for (n = 0; !x86 && d->arm64.writeback && n < d->arm64.op_count; n++)
		if (d->arm64.operands[n].type == ARM64_OP_MEM)
			bits |= bit_of(c, d->arm64.operands[n].mem.base);
	return bits;
}

/* The stack pointer is told as a depth. */
static uint32_t stack_bit(const struct code *c)
{
	return c->arch == CS_ARCH_X86 ? bit_of(c, X86_REG_RSP) : 0;
}

static bool x86_stores(const struct code *c)
{
	const cs_x86 *x = &c->insn->detail->x86;
	size_t n;

	if (x86_written(c->insn) == 0 || c->insn->id == X86_INS_LEA)
		return false;
	for (n = 0; n < x->op_count; n++)
		if (x->operands[n].type == X86_OP_MEM)
			return n == 0 || x86_written(c->insn) < 0;
	return false;
}

static bool arm64_stores(const struct code *c)
{
	return c->insn->id == ARM64_INS_STP || c->insn->id == ARM64_INS_STR ||
	       c->insn->id == ARM64_INS_STUR || arm64_written(c->insn) < 0;
}

/* Whether x30 still is what a uretprobe may change. It must not be signed, or saved, before. */
static bool arm64_keeps(const struct code *c)
{
	const cs_arm64 *x = &c->insn->detail->arm64;
	size_t n;

	if (arm64_written(c->insn) < 0)
		return c->insn->id == ARM64_INS_NOP;
	for (n = 0; n < x->op_count; n++)
		if (x->operands[n].type == ARM64_OP_REG &&
		    (x->operands[n].reg == ARM64_REG_X30 || x->operands[n].reg == ARM64_REG_W30))
			return false;
	return true;
}

static void add(struct disasm_entries *out, const struct code *c, const struct disasm_entry *e)
{
	struct disasm_entry *new;

	if (out->count == DISASM_MAX_ENTRIES || e->depth == DISASM_UNKNOWN)
		return;
	new = &out->at[out->count++];
	*new = *e;
	new->addr = c->insn->address;
	ts_copy(new->name, sizeof(new->name), c->insn->mnemonic);
}

/* In a straight line from the beginning, to where the first way forks or joins. */
static int follow(struct code *c, struct disasm_entries *out)
{
	struct disasm_entry e = {.intact = ~0u, .returns = true};
	struct disasm_path p = {.frame = DISASM_UNKNOWN};
	struct flow f;
	size_t at, n;
	int ret;

	for (at = 0, n = 0; at < c->size && n < MOST_STEPS; at += c->insn->size, n++) {
		ret = disasm_decode(c, at, &f);
		if (ret || (at && c->marks[at] & BYTE_TARGET))
			break;
		e.depth = p.depth;
		if (disasm_emulated(c) && !f.ret)
			add(out, c, &e);
		if (f.call || f.jump || f.end || f.unknown)
			break;
		e.intact &= ~disasm_changed(c) | stack_bit(c);
		disasm_stack(c, &f, &p);
		if (c->arch == CS_ARCH_X86) {
			e.stores |= x86_stores(c);
			e.returns = !p.depth;
		} else {
			e.stores |= arm64_stores(c);
			e.returns &= arm64_keeps(c);
		}
	}
	return out->count ? 0 : -ENOENT;
}

static int find(struct code *c, void *ctx)
{
	struct disasm_path *paths = calloc(c->size, sizeof(*paths));
	struct disasm_entries *out = ctx;
	int ret = paths ? disasm_explore(c, paths) : -ENOMEM;

	free(paths);
	if (ret == -ENOMEM)
		return ret;
	if (!ret && c->computed)
		ret = -ENOTUNIQ;
	/* The beginning itself needs no proof. */
	if (!ret)
		return follow(c, out);
	c->size = c->size < 16 ? c->size : 16;
	memset(c->marks, BYTE_TARGET, c->size);
	follow(c, out);
	return out->count ? 0 : ret;
}

int disasm_entries(struct image *im, const struct image_symbol *sym, struct disasm_entries *out)
{
	int ret;

	memset(out, 0, sizeof(*out));
	ret = disasm_run_open(im, sym, MOST_CODE, find, out);
	if (ret)
		memset(out, 0, sizeof(*out));
	return ret;
}
