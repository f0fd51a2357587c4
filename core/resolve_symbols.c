/* SPDX-License-Identifier: MIT */
/* Libraries whose functions have symbols, and what those call that has none. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disasm.h"
#include "resolve_private.h"

/* What is known so far of one function of the row. */
struct found {
	const struct lib_func *func;
	struct image_symbol sym; /* addr and size; present says whether there is one */
	uint64_t offset;
	bool present, covered;
	uint8_t out; /* the argument that holds the result's address; 0: there is none */
	char how[sizeof(((struct resolve_func *)0)->how)];
	struct disasm_calls *calls; /* NULL until asked for */
	int calls_ret;		    /* what disasm_calls said */
	uint64_t callees;	    /* those of `found` that it calls, a bit each */
	bool callees_known;
};

struct work {
	struct resolve_work *common;
	struct image *im;
	const struct lib_row *row;
	struct found *found; /* row->funcs_count, in the row's order */
	struct ts_shake shake;
};

static struct found *find(struct work *w, const char *name)
{
	size_t i;

	for (i = 0; name && i < w->row->funcs_count; i++)
		if (w->found[i].present && !strcmp(w->found[i].func->name, name))
			return &w->found[i];
	return NULL;
}

/* The function of the row whose code is at addr, or NULL. */
static struct found *find_at(struct work *w, uint64_t addr)
{
	size_t i;

	for (i = 0; i < w->row->funcs_count; i++)
		if (w->found[i].present && w->found[i].sym.addr == addr)
			return &w->found[i];
	return NULL;
}

static bool place(struct work *w, struct found *f, const char *how)
{
	if (image_offset(w->im, f->sym.addr, &f->offset)) {
		resolve_note(w->common, "%s: not hooked: its address is outside the file's code",
			     f->func->name);
		return false;
	}
	f->present = true;
	snprintf(f->how, sizeof(f->how), "%s", how);
	return true;
}

static void locate(struct work *w, struct found *f)
{
	enum image_source source = image_symbol(w->im, f->func->name, &f->sym);

	if (source != IMAGE_NOWHERE)
		place(w, f, source == IMAGE_DYNSYM ? "dynsym" : "symtab");
}

static const struct disasm_calls *calls_of(struct work *w, struct found *f)
{
	if (!f->calls) {
		f->calls = malloc(sizeof(*f->calls));
		if (!f->calls) {
			w->common->no_memory = true;
			return NULL;
		}
		f->calls_ret = disasm_calls(w->im, &f->sym, f->calls);
		if (f->calls_ret == -ENOMEM)
			w->common->no_memory = true;
	}
	return f->calls_ret ? NULL : f->calls;
}

static bool calls_target(const struct disasm_calls *calls, uint64_t addr)
{
	size_t i;

	for (i = 0; i < calls->count; i++)
		if (calls->calls[i].target == addr)
			return true;
	return false;
}

/* May a nameless function at addr be the internal one? It is called, in code, and has no name. */
static bool nameless(struct work *w, const struct disasm_call *call)
{
	uint64_t offset;

	return !call->jump && !image_in_plt(w->im, call->target) &&
	       !image_offset(w->im, call->target, &offset) &&
	       !image_symbol_starts(w->im, call->target);
}

/*
 * All that a forwarder does is to go on in another function of the table (SSL_write_ex of OpenSSL
 * 3.5 in SSL_write_ex2, by the PLT or directly): it says nothing of the internal function.
 */
static bool forwards(struct work *w, const struct disasm_calls *calls)
{
	const struct disasm_call *c = calls->calls;

	return calls->count == 1 && !calls->indirect && c->jump &&
	       (image_in_plt(w->im, c->target) || find_at(w, c->target));
}

static void say_unseen(struct work *w, const struct found *f, const char *why)
{
	resolve_note(w->common,
		     "%s: not hooked: %s. Plaintext %s through BIO_f_ssl may not be seen",
		     f->func->name, why, f->func->dir == TS_IN ? "read" : "written");
}

/*
 * Looks for the one nameless function that all of f->func->inside call. At least two must, or
 * another helper of a single caller would do. Returns its address, or 0 with *why set.
 */
static uint64_t common_target(struct work *w, struct found *f, const char **why)
{
	const struct disasm_calls *calls[LIB_MAX_INSIDE], *c;
	size_t n = 0, i, k;
	struct found *caller;
	uint64_t addr = 0;

	*why = "the functions that should call it do not call one function in common";
	for (i = 0; i < LIB_MAX_INSIDE; i++) {
		caller = find(w, f->func->inside[i]);
		if (!caller)
			continue;
		c = calls_of(w, caller);
		if (!c) {
			*why = "the functions that call it could not be disassembled";
			return 0;
		}
		if (!forwards(w, c))
			calls[n++] = c;
	}
	if (n < 2)
		return 0;
	for (i = 0; i < calls[0]->count; i++) {
		c = calls[0];
		for (k = 1; k < n && calls_target(calls[k], c->calls[i].target); k++)
			;
		if (k < n || c->calls[i].target == addr || !nameless(w, &c->calls[i]))
			continue;
		if (addr) {
			*why = "more than one function is called by all that should call it";
			return 0;
		}
		addr = c->calls[i].target;
	}
	return addr;
}

/*
 * Which argument holds the result's address: callers that have a local for it pass an address in
 * their stack frame. Returns 0 when the calls show neither or both; *called says if there were any.
 */
static uint8_t prove_out(struct work *w, struct found *f, bool *called)
{
	const struct lib_func *func = f->func;
	const struct disasm_calls *c;
	uint8_t proved = 0, args;
	struct found *caller;
	size_t i, k;

	*called = false;
	for (i = 0; i < LIB_MAX_INSIDE; i++) {
		caller = find(w, func->inside[i]);
		c = caller ? calls_of(w, caller) : NULL;
		for (k = 0; c && k < c->count; k++) {
			if (c->calls[k].target != f->sym.addr)
				continue;
			*called = true;
			args = c->calls[k].stack_args;
			if (args & 1u << (func->out - 1))
				proved |= 1;
			if (func->out_alt && args & 1u << (func->out_alt - 1))
				proved |= 2;
		}
	}
	return proved == 1 ? func->out : proved == 2 ? func->out_alt : 0;
}

static void list_callers(struct work *w, const struct found *f, char *how, size_t size)
{
	const struct disasm_calls *calls;
	struct found *caller;
	size_t i, used = 0;

	for (i = 0; i < LIB_MAX_INSIDE; i++) {
		caller = find(w, f->func->inside[i]);
		calls = caller ? calls_of(w, caller) : NULL;
		if (calls && calls_target(calls, f->sym.addr) && used < size)
			used += (size_t)snprintf(how + used, size - used, "%s%s",
						 used ? ", " : "call target of ",
						 f->func->inside[i]);
	}
}

/* A function that may have no symbol: finds it, and which argument holds the result's address. */
static void locate_inside(struct work *w, struct found *f)
{
	bool named = f->present, called, have_callers = false;
	char how[sizeof(f->how)];
	const char *why = "";
	size_t i;

	for (i = 0; i < LIB_MAX_INSIDE; i++)
		have_callers |= find(w, f->func->inside[i]) != NULL;
	if (!named) {
		if (!have_callers)
			return;
		f->sym = (struct image_symbol){.name = f->func->name};
		f->sym.addr = common_target(w, f, &why);
		if (!f->sym.addr) {
			say_unseen(w, f, why);
			return;
		}
	}
	f->out = prove_out(w, f, &called);
	if (!f->out && named && !f->func->out_alt)
		f->out = f->func->out;
	else if (!f->out && named && !called)
		f->out = find(w, f->func->alt_symbol) ? f->func->out_alt : f->func->out;
	if (!f->out) {
		f->present = false;
		say_unseen(w, f, "its callers do not show which argument holds the result");
	} else if (!named) {
		list_callers(w, f, how, sizeof(how));
		place(w, f, how);
	}
}

/* The function of the row that a call is of: at its target, or where the PLT leads from there. */
static struct found *callee(struct work *w, const struct disasm_call *call)
{
	uint64_t addr = call->target;

	if (image_in_plt(w->im, addr) && !image_plt_target(w->im, addr, &addr))
		return NULL;
	return find_at(w, addr);
}

/*
 * Covered: all plaintext that passes here passes a hooked function below. So it calls that one, and
 * what else it calls is another library's or has a name and is none of the table's.
 */
static bool is_covered(struct work *w, struct found *f, const struct found *inner)
{
	const struct disasm_calls *c = calls_of(w, f);
	bool reaches = false;
	struct found *other;
	size_t i;

	if (!c || c->indirect)
		return false;
	for (i = 0; i < c->count; i++) {
		other = callee(w, &c->calls[i]);
		if (other && (other == inner || other->covered))
			reaches = true;
		else if (other || (!image_in_plt(w->im, c->calls[i].target) &&
				   !image_symbol_starts(w->im, c->calls[i].target)))
			return false;
	}
	return reaches;
}

static void cover(struct work *w, const struct found *inner)
{
	struct found *f;
	bool more = true;
	size_t i;

	while (more) {
		more = false;
		for (i = 0; i < LIB_MAX_INSIDE; i++) {
			f = find(w, inner->func->inside[i]);
			if (!f || f->covered || !is_covered(w, f, inner))
				continue;
			f->covered = more = true;
			resolve_note(w->common, "%s: covered by %s", f->func->name,
				     inner->func->name);
		}
	}
}

static struct ts_value argument(const struct arch *arch, uint8_t n, uint8_t size)
{
	struct ts_value v = {0};

	if (n)
		v = (struct ts_value){.reg = arch->args[n - 1], .kind = TS_VAL_REG, .size = size};
	return v;
}

/* Where a connection's count of references is: as the function shows that takes one more. */
static struct ts_value references(struct work *w, const struct lib_func *func)
{
	struct ts_value v = argument(w->common->arch, func->conn, 4);
	struct image_symbol sym;

	if (!func->refs_of)
		return (struct ts_value){0};
	if (image_symbol(w->im, func->refs_of, &sym) == IMAGE_NOWHERE ||
	    disasm_counter(w->im, &sym, &v.disp)) {
		resolve_note(
			w->common,
			"%s: taken for a connection's end even where references to it are left",
			func->name);
		return (struct ts_value){0};
	}
	v.kind = TS_VAL_MEM;
	return v;
}

static struct ts_rule make_rule(struct work *w, const struct found *f)
{
	const struct arch *arch = w->common->arch;
	const struct lib_func *func = f->func;
	struct ts_rule r = resolve_rule(w->common, func, f->sym.addr);

	r.flow_mode = TS_FLOW_THREAD;
	r.conn = argument(arch, func->conn, 8);
	r.shake = w->shake;
	r.buf = argument(arch, func->buf, 8);
	r.len = argument(arch, func->len, func->int_len ? 4 : 8);
	r.out = argument(arch, f->out, 8);
	if (func->role == TS_ROLE_REASON)
		return r;
	if (func->role == TS_ROLE_CLOSE) {
		r.refs = references(w, func);
		return r;
	}
	r.ret = (struct ts_value){arch->ret, TS_VAL_REG, func->int_ret ? 4 : 8, 0};
	r.sp_leave = (struct ts_value){arch->sp, TS_VAL_REG, 8, -arch->sp_return};
	return r;
}

/* Whether its return tells something. */
static bool leaves(const struct lib_func *func)
{
	return func->role == TS_ROLE_CALL || func->role == TS_ROLE_SHAKE ||
	       func->role == TS_ROLE_RESULT;
}

/* To find where the PLT leads takes a while. */
static uint64_t callees_of(struct work *w, struct found *f)
{
	const struct disasm_calls *c = f->callees_known ? NULL : calls_of(w, f);
	struct found *other;
	size_t i;

	for (i = 0; c && i < c->count; i++) {
		other = callee(w, &c->calls[i]);
		if (other)
			f->callees |= 1ull << (other - w->found);
	}
	f->callees_known = true;
	return f->callees;
}

/* Whether a function that is hooked, other than `inner`, calls f to do its work. */
static bool is_called(struct work *w, const struct found *f, const struct found *inner)
{
	struct found *caller;
	size_t i;

	for (i = 0; i < w->row->funcs_count; i++) {
		caller = &w->found[i];
		if (caller != inner && caller->present && !caller->covered &&
		    caller->func->role == TS_ROLE_CALL &&
		    callees_of(w, caller) & 1ull << (f - w->found))
			return true;
	}
	return false;
}

static struct resolve_caller caller_of(struct work *w, const struct found *f, const char *name)
{
	return (struct resolve_caller){
		.func = f->func,
		.name = name,
		.how = f->how,
		.sym = f->sym,
		.rule = make_rule(w, f),
	};
}

/* Those that call the function that was emitted last, f: where it is only counted, they are probed.
 */
static void emit_callers(struct work *w, const struct found *f)
{
	struct found nameless = {.func = f->func, .how = "called by BIOs", .out = f->func->out};
	struct resolve_ends ends = {.inner = f->sym.addr, .name = f->func->name};
	struct found *caller;
	size_t i;

	for (i = 0; i < LIB_MAX_INSIDE; i++) {
		caller = find(w, f->func->inside[i]);
		if (!caller || !caller->covered)
			continue;
		ends.callers[ends.count] = caller_of(w, caller, caller->func->name);
		ends.callers[ends.count++].called = is_called(w, caller, f);
	}
	/* What BIO_f_ssl calls is called as SSL_read_ex and SSL_write_ex are (OpenSSL 1.1.1). */
	ends.nameless = caller_of(w, &nameless,
				  f->func->dir == TS_IN ? "BIO_f_ssl/read" : "BIO_f_ssl/write");
	resolve_add_ends(w->common, &ends);
}

static void emit(struct work *w, struct found *f)
{
	struct found *same = find_at(w, f->sym.addr);
	struct resolve_func *out;

	if (same < f && !same->covered) {
		resolve_note(w->common, "%s: not hooked: the same code as %s", f->func->name,
			     same->func->name);
		return;
	}
	out = resolve_add_func(w->common, f->func, f->func->name);
	if (!out)
		return;
	out->rule = make_rule(w, f);
	memcpy(out->how, f->how, sizeof(out->how));
	resolve_add_enter(w->common, out, &f->sym, f->offset, leaves(f->func));
	if (f->func->inside[0] && w->common->ends)
		emit_callers(w, f);
}

static void plan(struct work *w)
{
	size_t n = w->row->funcs_count, i;
	struct found *f;

	for (i = 0; i < n; i++) {
		f = &w->found[i];
		f->func = &w->row->funcs[i];
		f->out = f->func->out;
		locate(w, f);
	}
	for (i = 0; i < n; i++)
		if (w->found[i].func->inside[0])
			locate_inside(w, &w->found[i]);
	for (i = 0; i < n; i++)
		if (w->found[i].func->inside[0] && w->found[i].present)
			cover(w, &w->found[i]);
	for (i = 0; i < n; i++) {
		f = &w->found[i];
		if (f->present && !f->covered)
			emit(w, f);
		else if (!f->present && !f->func->inside[0])
			resolve_note(w->common, "%s: not in this file", f->func->name);
	}
}

int resolve_symbols(struct resolve_work *common)
{
	struct work w = {.common = common, .row = common->row, .im = common->im};
	size_t i;

	w.found = calloc(w.row->funcs_count, sizeof(*w.found));
	if (!w.found)
		return -ENOMEM;
	if (!w.row->aside)
		resolve_shake(common, &w.shake);
	plan(&w);
	for (i = 0; i < w.row->funcs_count; i++)
		free(w.found[i].calls);
	free(w.found);
	return 0;
}
