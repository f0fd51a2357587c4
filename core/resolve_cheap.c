/* SPDX-License-Identifier: MIT */
/* Where a function's beginning is probed at the least cost. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "disasm.h"
#include "resolve_private.h"

/* The registers' bits, as instructions number them, that a value is in; false: not found there. */
static bool value_register(const struct arch *arch, const struct ts_value *v, uint32_t *bits)
{
	size_t n;

	if (v->kind == TS_VAL_NONE || v->kind == TS_VAL_TLS)
		return true;
	for (n = 0; n < ARCH_REGISTERS; n++)
		if (arch->registers[n] == v->reg && v->reg != ARCH_NO_REGISTER) {
			*bits |= 1u << n;
			return true;
		}
	return false;
}

/* Whether all that is read at the enter site is there, as at the function's beginning. */
static bool serves(const struct resolve_work *w, const struct ts_rule *r,
		   const struct disasm_entry *e, bool returns)
{
	const struct ts_value *values[] = {&r->conn, &r->buf, &r->len, &r->out, &r->flow, &r->refs};
	uint32_t bits;
	size_t i;

	if ((returns && !e->returns) || (r->flow_mode == TS_FLOW_GO && e->depth))
		return false;
	for (i = 0; i < TS_ARRAY_SIZE(values); i++) {
		bits = 0;
		/* Arguments on the stack are found from the stack pointer. */
		if (values[i]->kind == TS_VAL_MEM &&
		    (e->stores || (values[i]->reg == w->arch->sp && e->depth)))
			return false;
		if (values[i]->kind == TS_VAL_MEM && values[i]->reg == w->arch->sp)
			continue;
		if (!value_register(w->arch, values[i], &bits) || (bits & e->intact) != bits)
			return false;
	}
	return true;
}

static const char *why_stepped(int ret)
{
	switch (ret) {
	case 0:
		return "where it is emulated, not all is in its place";
	case -EXDEV:
		return "it has parts elsewhere";
	case -ENOTUNIQ:
		return "its ways are not all known";
	case -ENOENT:
		return "nothing near is emulated";
	default:
		return "its code cannot be decoded";
	}
}

/* The best site; NULL: its symbol, which is stepped over. */
static const struct disasm_entry *choose(struct resolve_work *w, const struct resolve_func *f,
					 const struct image_symbol *sym, bool returns,
					 struct disasm_entries *list, int *ret)
{
	size_t i;

	*ret = disasm_entries(w->im, sym, list);
	w->no_memory |= *ret == -ENOMEM;
	for (i = 0; !*ret && i < list->count; i++)
		if (serves(w, &f->rule, &list->at[i], returns))
			return &list->at[i];
	return NULL;
}

/* e: NULL at the symbol. A goroutine would not survive a return probe. */
static void add_sites(struct resolve_work *w, const struct resolve_func *f, uint64_t offset,
		      bool returns, enum resolve_where where, const struct disasm_entry *e)
{
	struct resolve_site site = {
		.offset = offset,
		.role = RESOLVE_ENTER,
		.where = where,
		.session = f->rule.flow_mode == TS_FLOW_THREAD && (!e || e->returns),
	};

	resolve_add_site(w, site);
	site.role = RESOLVE_RETURN;
	if (returns)
		resolve_add_site(w, site);
}

void resolve_add_enter(struct resolve_work *w, struct resolve_func *f,
		       const struct image_symbol *sym, uint64_t offset, bool returns)
{
	const struct disasm_entry *e;
	struct disasm_entries list;
	uint64_t cheap;
	int ret;

	e = choose(w, f, sym, returns, &list, &ret);
	if (!e || image_offset(w->im, e->addr, &cheap)) {
		snprintf(f->cost, sizeof(f->cost), "stepped: %s", why_stepped(ret));
		add_sites(w, f, offset, returns, RESOLVE_ANYHOW, NULL);
		return;
	}
	if (e->addr == sym->addr) {
		snprintf(f->cost, sizeof(f->cost), "%s, emulated", e->name);
		add_sites(w, f, offset, returns, RESOLVE_ANYHOW, NULL);
		return;
	}
	snprintf(f->cost, sizeof(f->cost), "%s at +%u, emulated", e->name,
		 (unsigned int)(e->addr - sym->addr));
	f->rule.ip_back = -(int32_t)(e->addr - sym->addr);
	f->rule.sp_back = -e->depth;
	add_sites(w, f, cheap, returns, RESOLVE_CHEAP, e);
	add_sites(w, f, offset, returns, RESOLVE_SYMBOL, NULL);
}
