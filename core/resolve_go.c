/* SPDX-License-Identifier: MIT */
/* Go programs: functions by gopclntab, returns by disassembly, values by Go's two ABIs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disasm.h"
#include "dwarf.h"
#include "gobin.h"
#include "resolve_private.h"

#define MAX_FOUND 64
#define MAX_PATTERNS 32

/* A function of the row, in the file. size is exact where `table` is set. */
struct found {
	const struct lib_func *func;
	struct gobin_func at;
	bool table; /* of gopclntab: its stack depths are known */
	char how[32];
};

struct work {
	struct resolve_work *common;
	struct image *im;
	struct gobin *go;
	struct dwarf *dwarf; /* NULL: not needed yet, or there is none, or it is of no use */
	bool dwarf_tried;
	struct found found[MAX_FOUND];
	size_t count;
	struct ts_fd fd;
	uint32_t goid;
	const char *goid_by;
};

/*
 * These have a descriptor where number_of_conn says, and no other type has these methods. They are
 * wrappers that the compiler makes, since the types embed net.conn.
 */
static const char *const fd_types[TS_FD_TYPES] = {"net.(*TCPConn).Read", "net.(*UnixConn).Read"};

/*
 * crypto/tls.Conn begins with the interface net.Conn: its table, then its value. Tables (type itab
 * in internal/abi, before it in runtime) have the methods from byte 24 on, in the order of their
 * names: Read is net.Conn's third. The value of a net.TCPConn is its *netFD, which begins with a
 * poll.FD: after 16 bytes of locks, of which the lowest bit says that it is closed, comes the
 * descriptor. So it is from Go 1.9 on.
 */
static const struct ts_walk type_of_conn = {2, {0, 40}}, number_of_conn = {3, {8, 0, 16}},
			    closed_of_conn = {3, {8, 0, 0}};

/* Where runtime.g has goid, by the last Go 1.N that has it there. */
static const struct {
	int last_minor;
	uint32_t offset;
} goids[] = {{22, 152}, {24, 160}, {27, 152}};

/* It takes time and memory to read: only where nothing else tells. */
static struct dwarf *debug_info(struct work *w)
{
	struct ts_err err = {""};

	if (!w->dwarf_tried && dwarf_open(&w->dwarf, w->im, &err)) {
		w->dwarf = NULL;
		ts_verbose("resolve", "%s", err.text);
	}
	w->dwarf_tried = true;
	return w->dwarf;
}

static int on_found(void *ctx, const struct gobin_func *f, size_t pattern)
{
	struct work *w = ctx;
	const struct lib_row *row = w->common->row;
	struct found *new = &w->found[w->count];

	if (pattern >= row->funcs_count) {
		w->fd.types[pattern - row->funcs_count] = f->addr;
		return 0;
	}
	if (w->count == MAX_FOUND) {
		resolve_note(w->common, "%s: not hooked: too many functions like it", f->name);
		return 0;
	}
	*new = (struct found){.func = &row->funcs[pattern], .at = *f, .table = true};
	snprintf(new->how, sizeof(new->how), "gopclntab");
	w->count++;
	return 0;
}

/* Where the table cannot be used. DWARF knows the exact end, symbols come with the padding. */
static void find_elsewhere(struct work *w, const struct lib_func *func)
{
	struct found *new = &w->found[w->count];
	enum image_source source = IMAGE_NOWHERE;
	struct image_symbol sym;

	if (w->count == MAX_FOUND || func->name[0] == '*')
		return;
	if (!debug_info(w) || dwarf_function(w->dwarf, "crypto/tls", func->name, &sym)) {
		source = image_symbol(w->im, func->name, &sym);
		if (source == IMAGE_NOWHERE)
			return;
	}
	*new = (struct found){.func = func, .at = {.addr = sym.addr, .size = sym.size}};
	ts_copy(new->at.name, sizeof(new->at.name), func->name);
	snprintf(new->how, sizeof(new->how), "%s",
		 source == IMAGE_NOWHERE  ? "DWARF"
		 : source == IMAGE_SYMTAB ? "symtab"
					  : "dynsym");
	w->count++;
}

/* As a pattern of fnmatch: of a name's asterisks only one at its start is a wildcard. */
static const char *make_pattern(char *out, size_t size, const char *name)
{
	size_t used = 0, i;

	for (i = 0; name[i] && used + 2 < size; i++) {
		if (i && name[i] == '*')
			out[used++] = '\\';
		out[used++] = name[i];
	}
	out[used] = 0;
	return out;
}

static int search_table(struct work *w)
{
	const struct lib_row *row = w->common->row;
	const char *patterns[MAX_PATTERNS];
	char texts[MAX_PATTERNS][64];
	size_t n = row->funcs_count, i;

	for (i = 0; i < n + TS_FD_TYPES && i < MAX_PATTERNS; i++)
		patterns[i] = make_pattern(texts[i], sizeof(texts[i]),
					   i < n ? row->funcs[i].name : fd_types[i - n]);
	return gobin_find(w->go, patterns, i, on_found, w);
}

static void find_functions(struct work *w)
{
	const struct lib_row *row = w->common->row;
	const char *problem = gobin_problem(w->go);
	int ret = problem ? 0 : search_table(w);
	size_t i;

	if (ret == -ENOMEM)
		w->common->no_memory = true;
	if (!problem && ret)
		problem = "its gopclntab is damaged";
	if (!problem)
		return;
	w->count = 0;
	for (i = 0; i < row->funcs_count; i++)
		find_elsewhere(w, &row->funcs[i]);
	resolve_note(w->common, "%s%s", problem,
		     w->count ? ": symbols and DWARF are used instead"
			      : ", and it has no symbols or DWARF that could be used instead");
}

/* What follows a version's "go1.24.4"; NULL: it does not begin so. */
static const char *after_release(const char *version)
{
	return strncmp(version, "go1.", 4) ? NULL
					   : version + 4 + strspn(version + 4, "0123456789.");
}

/* As the Go project made it; what others made of it may differ. */
static bool is_release(const char *version)
{
	const char *rest = after_release(version);

	return rest && !*rest;
}

/* Experiments ("go1.24.4 X:boringcrypto", lately "go1.27.3-X:...") leave crypto/tls.Conn as it is.
 */
static bool has_own_tls(const char *version)
{
	const char *rest = after_release(version);

	return rest && (!*rest || !strncmp(rest, " X:", 3) || !strncmp(rest, "-X:", 3));
}

/* Without it, or where the check at run time says that it is wrong, events have no goid. */
static void find_goid(struct work *w)
{
	const size_t last = TS_ARRAY_SIZE(goids) - 1;
	int minor = gobin_minor(w->go);
	int64_t offset;
	size_t i;

	if ((minor < 0 || minor > goids[last].last_minor || !is_release(gobin_version(w->go))) &&
	    debug_info(w) && !dwarf_member(w->dwarf, "runtime", "runtime.g", "goid", &offset) &&
	    offset >= 8 && offset < 4096) {
		w->goid = (uint32_t)offset;
		w->goid_by = "DWARF";
		return;
	}
	/* A newer one is taken to be as the last. */
	for (i = 0; i < last && (minor < 0 || minor > goids[i].last_minor); i++)
		;
	w->goid = goids[i].offset;
	w->goid_by = "version";
}

/* How a function gets its arguments, and where its goroutine is. */
struct abi {
	bool stack;
	struct ts_value g;
};

/* The code is believed, the version is not: it may be built with registers or without. */
static int find_abi(struct work *w, const struct found *f, struct abi *out)
{
	const struct arch_go *go = &w->common->arch->go;
	struct image_symbol sym = {f->at.name, f->at.addr, f->at.size};
	struct disasm_goroutine g = {0};
	int minor = gobin_minor(w->go), ret;

	*out = (struct abi){.g = {.reg = go->g, .kind = TS_VAL_REG, .size = 8}};
	if (go->old_g) {
		out->stack = minor < go->register_minor;
		return minor < 0 ? -ENOENT : 0;
	}
	ret = disasm_goroutine(w->im, &sym, &g);
	if (ret)
		return ret;
	if (g.offset != (int32_t)g.offset)
		return -EBADMSG;
	out->stack = g.in_tls;
	if (g.in_tls)
		out->g = (struct ts_value){0, TS_VAL_TLS, 8, (int32_t)g.offset};
	return 0;
}

/* The n-th word (from 1) of arguments and results; 0: none. */
static struct ts_value word(const struct work *w, const struct abi *abi, unsigned int n)
{
	const struct arch *arch = w->common->arch;

	if (!n)
		return (struct ts_value){0};
	if (!abi->stack)
		return (struct ts_value){arch->go.args[n - 1], TS_VAL_REG, 8, 0};
	return (struct ts_value){arch->sp, TS_VAL_MEM, 8,
				 arch->go.stack_args + 8 * ((int32_t)n - 1)};
}

/* Whether its connections are as the version says: of the Go project's own crypto/tls. */
static bool is_known(const struct work *w, const struct lib_func *func)
{
	return func->name[0] != '*' && has_own_tls(gobin_version(w->go));
}

static struct ts_shake shake_of(const struct work *w, const struct lib_func *func)
{
	return resolve_go_shake(is_known(w, func) ? gobin_minor(w->go) : -1);
}

static struct ts_rule make_rule(const struct work *w, const struct found *f, const struct abi *abi,
				bool returns)
{
	const struct lib_func *func = f->func;
	struct ts_rule r = resolve_rule(w->common, func, f->at.addr);

	r.conn = word(w, abi, func->conn);
	if (func->conn_inside && r.conn.kind == TS_VAL_REG)
		r.conn.kind = TS_VAL_MEM;
	r.flow_mode = TS_FLOW_GO;
	r.flow = abi->g;
	if (returns)
		r.sp_leave = r.sp;
	if (func->role == TS_ROLE_SHAKE || func->role == TS_ROLE_BEGIN)
		r.shake = shake_of(w, func);
	if (func->role == TS_ROLE_CLOSE || func->role == TS_ROLE_BEGIN)
		return r;
	r.buf = word(w, abi, func->buf);
	r.len = word(w, abi, func->len);
	/* Results begin with the first register again, or go on after the arguments. */
	r.ret = word(w, abi, abi->stack ? func->words + 1u : 1);
	r.goid = w->goid;
	if (w->fd.types[0] || w->fd.types[1])
		r.fd = w->fd;
	return r;
}

static const char *reason(int ret)
{
	switch (ret) {
	case -ENOTSUP:
		return "where this Go's connections tell of their handshake is not known: no "
		       "tls_open and tls_error comes of them";
	case -EXDEV:
		return "it may go on in another function without a return that could be probed";
	case -EBADMSG:
		return "its code cannot be decoded to its exact end";
	case -E2BIG:
		return "it is too large, or has too many returns";
	default:
		return "its code does not show what is needed";
	}
}

/* Every place where it returns: there the stack must be as it was at the entry. */
static int find_returns(struct work *w, const struct found *f, struct disasm_places *out)
{
	struct image_symbol sym = {f->at.name, f->at.addr, f->at.size};
	int ret = disasm_returns(w->im, &sym, out);
	int32_t depth;
	size_t i;

	for (i = 0; !ret && f->table && i < out->count; i++) {
		ret = gobin_depth(w->go, &f->at, out->addrs[i], &depth);
		if (!ret && depth)
			ret = -EBADMSG;
	}
	return ret;
}

/*
 * Whether it can be probed, and where. What begins while a connection is being closed may still be
 * of it: a close is one at its return, or, where that is not known, at its entry.
 */
static int examine(struct work *w, const struct found *f, struct abi *abi,
		   struct disasm_places *returns)
{
	int ret = find_abi(w, f, abi);

	returns->count = 0;
	if (f->func->role == TS_ROLE_SHAKE && !shake_of(w, f->func).busy.size)
		return -ENOTSUP;
	if (!ret && f->func->role != TS_ROLE_BEGIN)
		ret = find_returns(w, f, returns);
	w->common->no_memory |= ret == -ENOMEM;
	if (ret && f->func->role == TS_ROLE_CLOSE) {
		returns->count = 0;
		ret = find_abi(w, f, abi);
	}
	return ret;
}

static bool is_hooked(struct work *w, const struct found *f)
{
	struct disasm_places returns;
	struct abi abi;

	return !examine(w, f, &abi, &returns);
}

/* Whether f only hands the call on to another function that is hooked. */
static bool is_covered(struct work *w, const struct found *f)
{
	struct image_symbol sym = {f->at.name, f->at.addr, f->at.size};
	struct disasm_calls *calls = malloc(sizeof(*calls));
	int ret = calls ? disasm_calls(w->im, &sym, calls) : -ENOMEM;
	const struct found *other;
	bool covered = false;
	size_t i, k;

	w->common->no_memory |= ret == -ENOMEM;
	for (i = 0; !ret && i < calls->count; i++)
		for (k = 0; k < w->count && !covered; k++) {
			other = &w->found[k];
			covered = other != f && calls->calls[i].target == other->at.addr &&
				  other->func->role == f->func->role &&
				  other->func->dir == f->func->dir && is_hooked(w, other);
		}
	free(calls);
	return covered;
}

/* Whether f is of a package whose handshakes are hooked. */
static bool begins_are_seen(struct work *w, const struct found *f)
{
	const size_t package = strcspn(f->at.name, "(");
	const struct found *other;
	size_t i;

	for (i = 0; i < w->count; i++) {
		other = &w->found[i];
		if (other->func->role == TS_ROLE_BEGIN && is_hooked(w, other) &&
		    strcspn(other->at.name, "(") == package &&
		    !memcmp(other->at.name, f->at.name, package))
			return true;
	}
	return false;
}

static void emit(struct work *w, const struct found *f)
{
	struct image_symbol sym = {f->at.name, f->at.addr, f->at.size};
	struct disasm_places returns;
	struct resolve_func *out;
	struct abi abi;
	uint64_t offset;
	size_t i;
	int ret;

	if (is_covered(w, f)) {
		resolve_note(w->common, "%s: covered by what it calls", f->at.name);
		return;
	}
	ret = examine(w, f, &abi, &returns);
	if (!ret)
		ret = image_offset(w->im, f->at.addr, &offset);
	if (ret) {
		resolve_note(w->common, "%s: not hooked: %s", f->at.name, reason(ret));
		return;
	}
	out = resolve_add_func(w->common, f->func, f->at.name);
	if (!out)
		return;
	out->rule = make_rule(w, f, &abi, returns.count > 0);
	if (begins_are_seen(w, f))
		out->rule.flags |= TS_RULE_BEGINS;
	memcpy(out->how, f->how, sizeof(f->how));
	resolve_add_enter(w->common, out, &sym, offset, false);
	for (i = 0; i < returns.count; i++)
		if (!image_offset(w->im, returns.addrs[i], &offset))
			resolve_add_site(w->common, (struct resolve_site){
							    .offset = offset,
							    .role = RESOLVE_LEAVE,
						    });
	snprintf(w->common->plan->about, sizeof(w->common->plan->about), "%s, %s, goid by %s",
		 gobin_version(w->go)[0] ? gobin_version(w->go) : "version unknown",
		 abi.stack ? "arguments on the stack" : "arguments in registers", w->goid_by);
}

int resolve_go(struct resolve_work *common)
{
	struct work *w = calloc(1, sizeof(*w));
	struct ts_err err = {""};
	size_t i;
	int ret;

	if (!w)
		return -ENOMEM;
	w->common = common;
	w->im = common->im;
	w->fd = (struct ts_fd){
		.type = type_of_conn, .number = number_of_conn, .closed = closed_of_conn};
	ret = gobin_open(&w->go, w->im, &err);
	if (!ret) {
		find_functions(w);
		find_goid(w);
		for (i = 0; i < w->count; i++)
			emit(w, &w->found[i]);
		if (common->plan->funcs_count && gobin_profiled(w->go))
			resolve_note(common, "it is built with a profile (-pgo): a call that the "
					     "compiler inlined in its caller, often of Close, is "
					     "not seen");
	} else {
		resolve_note(common, "%s", err.text);
	}
	dwarf_close(w->dwarf);
	gobin_close(w->go);
	free(w);
	return ret == -ENOMEM ? ret : 0;
}
