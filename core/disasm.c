/* SPDX-License-Identifier: MIT */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disasm_private.h"

#define MAX_CODE 65536

static bool in_group(const cs_insn *insn, unsigned int group)
{
	size_t i;

	for (i = 0; i < insn->detail->groups_count; i++)
		if (insn->detail->groups[i] == group)
			return true;
	return false;
}

static bool leaves(const cs_insn *insn)
{
	return in_group(insn, CS_GRP_JUMP) || in_group(insn, CS_GRP_CALL) ||
	       in_group(insn, CS_GRP_BRANCH_RELATIVE) || in_group(insn, CS_GRP_RET) ||
	       in_group(insn, CS_GRP_IRET);
}

/*
 * Whether the instruction may be longer or shorter than capstone says. It forgets an operand of ud0
 * and ud1; 4.0 is wrong about AVX-512 with rounding, and where REX follows an address-size prefix.
 * And how long a branch with an operand-size prefix is depends on the processor's maker, unless
 * REX.W overrides it: compilers write `data16 rex.W call` for thread-local storage.
 */
static bool x86_unsure(const cs_insn *insn)
{
	const cs_x86 *d = &insn->detail->x86;
	const uint8_t *b = insn->bytes;

	if (insn->id == X86_INS_UD0 || (d->opcode[0] == 0x0f && d->opcode[1] == 0xb9) ||
	    (b[0] == 0x62 && b[3] & 0x10 && b[5] >= 0xc0))
		return true;
	if (!leaves(insn))
		return false;
	if (d->prefix[2] == X86_PREFIX_OPSIZE)
		return insn->id != X86_INS_CALL || insn->size < 7 || b[insn->size - 6] != 0x48;
	return d->prefix[3] == X86_PREFIX_ADDRSIZE && d->rex;
}

static bool x86_flow(const cs_insn *insn, struct flow *f)
{
	const cs_x86 *d = &insn->detail->x86;

	f->end = insn->id == X86_INS_UD2 || insn->id == X86_INS_HLT;
	f->trap = f->end || insn->id == X86_INS_INT3;
	if (x86_unsure(insn) || in_group(insn, CS_GRP_IRET))
		return false;
	if (!leaves(insn))
		return true;
	if (in_group(insn, CS_GRP_RET)) {
		f->ret = f->end = true;
		return insn->id == X86_INS_RET; /* the others are far returns */
	}
	f->call = in_group(insn, CS_GRP_CALL);
	f->jump = !f->call;
	f->end = insn->id == X86_INS_JMP || insn->id == X86_INS_LJMP;
	f->direct = d->op_count == 1 && d->operands[0].type == X86_OP_IMM;
	f->target = f->direct ? (uint64_t)d->operands[0].imm : 0;
	return true;
}

/* The architecture's branches; exceptions and system instructions are encoded next to them. */
static bool arm64_branch(uint32_t word)
{
	return (word >> 26 & 7) == 5 && word >> 24 != 0xd4 && word >> 24 != 0xd5;
}

/* udf, with which Go pads its functions; older capstones do not know it. */
static bool arm64_undefined(uint32_t word)
{
	return word >> 16 == 0;
}

static bool arm64_flow(const cs_insn *insn, struct flow *f)
{
	const cs_arm64 *d = &insn->detail->arm64;
	const cs_arm64_op *last = d->operands + (d->op_count ? d->op_count - 1 : 0);
	uint32_t word;

	memcpy(&word, insn->bytes, sizeof(word));
	f->end = arm64_undefined(word);
	f->trap = f->end || insn->id == ARM64_INS_BRK || insn->id == ARM64_INS_HLT;
	/* Capstone does not know all branches as such: those are not guessed at. */
	if (leaves(insn) != arm64_branch(word))
		return false;
	if (!leaves(insn))
		return true;
	f->call = in_group(insn, CS_GRP_CALL) || insn->id == ARM64_INS_BL ||
		  insn->id == ARM64_INS_BLR;
	f->ret = in_group(insn, CS_GRP_RET) && !d->op_count;
	f->jump = !f->call && !f->ret; /* `ret` through a named register is a computed jump */
	f->end = in_group(insn, CS_GRP_RET) || insn->id == ARM64_INS_BR ||
		 (insn->id == ARM64_INS_B &&
		  (d->cc == ARM64_CC_INVALID || d->cc == ARM64_CC_AL || d->cc == ARM64_CC_NV));
	f->direct = d->op_count && last->type == ARM64_OP_IMM; /* tbz names a bit before it */
	f->target = f->direct ? (uint64_t)last->imm : 0;
	return true;
}

/*
 * What older capstones do not know: retaa and retab, which are returns; udf; and newer loads and
 * stores (Go uses the atomic ones), none of which can branch.
 */
static bool arm64_unknown(struct code *c, const uint8_t *at, size_t left, struct flow *f)
{
	uint32_t word;

	if (c->arch != CS_ARCH_ARM64 || left < sizeof(word))
		return false;
	memcpy(&word, at, sizeof(word));
	f->ret = word == 0xd65f0bff || word == 0xd65f0fff;
	f->trap = arm64_undefined(word);
	f->end = f->ret || f->trap;
	f->unknown = (word >> 25 & 5) == 4;
	memset(c->insn->detail, 0, sizeof(*c->insn->detail));
	c->insn->id = 0;
	c->insn->address = c->addr + (uint64_t)(at - c->bytes);
	c->insn->size = sizeof(word);
	return f->end || f->unknown;
}

static bool flow_of(const struct code *c, struct flow *f)
{
	return c->arch == CS_ARCH_X86 ? x86_flow(c->insn, f) : arm64_flow(c->insn, f);
}

int disasm_decode(struct code *c, size_t offset, struct flow *f)
{
	const uint8_t *at = c->bytes + offset;
	uint64_t addr = c->addr + offset;
	size_t left = c->size - offset;

	*f = (struct flow){0};
	if (cs_disasm_iter(c->cs, &at, &left, &addr, c->insn))
		return flow_of(c, f) ? 0 : -EBADMSG;
	return arm64_unknown(c, at, left, f) ? 0 : -EBADMSG;
}

int disasm_walk(struct code *c, disasm_visit visit, void *ctx)
{
	struct flow f;
	size_t at;
	int ret = 0;

	for (at = 0; at < c->size && !ret; at += c->insn->size) {
		ret = disasm_decode(c, at, &f);
		if (!ret)
			ret = visit(c, &f, ctx);
	}
	return ret;
}

bool disasm_touched(const struct code *c, size_t n, unsigned int *reg)
{
	const cs_detail *d = c->insn->detail;
	size_t ops = c->arch == CS_ARCH_X86 ? d->x86.op_count : d->arm64.op_count;

	*reg = 0;
	if (n < d->regs_write_count) {
		*reg = d->regs_write[n];
		return true;
	}
	n -= d->regs_write_count;
	if (n >= ops)
		return false;
	if (c->arch == CS_ARCH_X86 && d->x86.operands[n].type == X86_OP_REG)
		*reg = d->x86.operands[n].reg;
	else if (c->arch == CS_ARCH_ARM64 && d->arm64.operands[n].type == ARM64_OP_REG)
		*reg = d->arm64.operands[n].reg;
	else if (c->arch == CS_ARCH_ARM64 && d->arm64.operands[n].type == ARM64_OP_MEM &&
		 d->arm64.writeback)
		*reg = d->arm64.operands[n].mem.base;
	return true;
}

static int mark(struct code *c, const struct flow *f, void *ctx)
{
	(void)ctx;
	c->marks[disasm_at(c)] |= BYTE_START;
	if ((f->jump || f->call) && f->direct && disasm_inside(c, f->target))
		c->marks[f->target - c->addr] |= BYTE_TARGET;
	c->computed |= f->jump && !f->direct;
	return 0;
}

static int check(struct code *c)
{
	int ret = disasm_walk(c, mark, NULL);
	size_t i;

	for (i = 0; !ret && i < c->size; i++)
		if (c->marks[i] == BYTE_TARGET)
			return -EBADMSG; /* a jump into the middle of an instruction */
	return ret;
}

static int decode(struct code *c, bool whole, int (*fn)(struct code *c, void *out), void *out)
{
	int ret = -ENOMEM;

	if (cs_open(c->arch, c->arch == CS_ARCH_X86 ? CS_MODE_64 : CS_MODE_ARM, &c->cs))
		return -ENOMEM;
	cs_option(c->cs, CS_OPT_DETAIL, CS_OPT_ON);
	c->insn = cs_malloc(c->cs);
	if (c->insn) {
		ret = whole ? check(c) : 0;
		ret = ret ? ret : fn(c, out);
		cs_free(c->insn, 1);
	}
	cs_close(&c->cs);
	return ret;
}

static int run(struct image *im, uint64_t addr, size_t size, bool whole,
	       int (*fn)(struct code *c, void *out), void *out)
{
	struct code c = {.im = im, .addr = addr};
	uint16_t machine = image_machine(im);
	ptrdiff_t got;
	int ret;

	if (!size || (machine != EM_X86_64 && machine != EM_AARCH64))
		return -ENOENT;
	if (size > MAX_CODE)
		return -E2BIG;
	if (machine == EM_AARCH64 && addr % 4)
		return -EBADMSG;
	c.arch = machine == EM_X86_64 ? CS_ARCH_X86 : CS_ARCH_ARM64;
	c.bytes = calloc(2, size);
	if (!c.bytes)
		return -ENOMEM;
	c.marks = c.bytes + size;
	got = image_read(im, addr, c.bytes, size);
	c.size = got < 0 ? 0 : (size_t)got;
	if (c.size == size || (c.size && !whole))
		ret = decode(&c, whole, fn, out);
	else
		ret = -EBADMSG;
	free(c.bytes);
	return ret;
}

int disasm_run(struct image *im, const struct image_symbol *sym,
	       int (*fn)(struct code *c, void *out), void *out)
{
	return run(im, sym->addr, sym->size, true, fn, out);
}

int disasm_run_open(struct image *im, const struct image_symbol *sym, size_t most,
		    int (*fn)(struct code *c, void *out), void *out)
{
	return run(im, sym->addr, sym->size ? sym->size : most, false, fn, out);
}
