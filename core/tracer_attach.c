/* SPDX-License-Identifier: MIT */
/* Attaching: from a file's plan to rules in the map, and to its sites' probes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tracer_private.h"

void tracer_free_file(struct traced_file *f)
{
	size_t i;

	for (i = 0; f->funcs && i < f->funcs_count; i++)
		bpf_object__close(f->funcs[i].object);
	if (f->fd >= 0)
		close(f->fd);
	free(f->path);
	free(f->funcs);
	free(f->sites);
}

/*
 * Whose ends a subscription asks for must be known before the first bytes: what a memory BIO gets
 * in the handshake is looked for at sockets.
 */
static bool wants_handshake(const struct ts_sub *sub, const struct lib_func *func)
{
	const uint64_t calls = TS_PROBE(TS_P_SSL_READ) | TS_PROBE(TS_P_SSL_WRITE);

	return func->role == TS_ROLE_SHAKE && sub->probes & calls &&
	       ts_filter_names_ends(&sub->filter);
}

/* The subscriptions that want a function of a file; what they want of it, in its rule. */
static uint64_t func_subs(const struct tracer *t, const struct traced_file *f,
			  const struct resolve_func *func, struct ts_rule *rule)
{
	uint64_t mask = 0, wants;
	size_t i;

	rule->capture = 0;
	rule->calls = 0;
	rule->largest = 0;
	for (i = 0; i < t->subs_count; i++) {
		wants = t->subs[i].removed ? 0 : t->subs[i].probes;
		if ((!(wants & lib_events(func->func)) &&
		     !(wants && wants_handshake(&t->subs[i], func->func))) ||
		    (!f->aside && !ts_filter_lib_passes(&t->subs[i].filter, f->path)))
			continue;
		mask |= 1ull << i;
		if (!(wants & TS_PROBE(func->func->probe) & ~TS_PROBES_OPEN))
			continue;
		rule->calls |= 1ull << i;
		if (t->subs[i].capture < rule->capture)
			continue;
		if (t->subs[i].capture > rule->capture)
			rule->largest = 0;
		rule->capture = t->subs[i].capture;
		rule->largest |= 1ull << i;
	}
	return mask;
}

static int send_source(struct tracer *t, const struct traced_file *f,
		       const struct traced_func *func)
{
	const char *strings[] = {f->kind, func->func.name, f->path, NULL};
	struct rec_source body = {.id = func->rule, .probe = func->func.func->probe};
	const struct ts_record *r;
	struct ts_buf buf = {0};
	int ret = -ENOMEM;

	r = record_build(&buf, TS_REC_SOURCE, &body, sizeof(body), strings);
	if (r)
		ret = record_send(&t->sink, r);
	ts_buf_free(&buf);
	/* The run ends: nothing of the function will be asked for. */
	return ret == -ECANCELED ? 0 : ret;
}

int tracer_write_rule(const struct tracer *t, const struct traced_func *func)
{
	struct tracer_haste haste;
	int ret;

	tracer_hasten(t, &haste);
	ret = bpf_map_update_elem(t->rules, &func->rule, &func->func.rule, BPF_ANY);
	tracer_relax(&haste);
	return ret;
}

int tracer_sync_func(struct tracer *t, const struct traced_file *f, struct traced_func *func,
		     bool any, struct ts_err *err)
{
	const struct traced_func *inner = &f->funcs[func->func.inner];
	struct ts_rule *rule = &func->func.rule;

	rule->subs = func_subs(t, f, &func->func, rule);
	if (rule->role == TS_ROLE_CLOSE || rule->role == TS_ROLE_BEGIN)
		rule->subs = any ? ~0ull : 0;
	if (rule->role == TS_ROLE_BIO)
		rule->subs = t->marks ? ~0ull : 0;
	if (rule->role == TS_ROLE_LOADER)
		rule->subs = ~0ull;
	/* Calls in flight are still wanted, and no new ones. */
	if (rule->flags & TS_RULE_WATCH && f->unwatched)
		rule->subs = 0;
	if (!func->rule) {
		if (!rule->subs)
			return 0;
		if (t->last_rule + 1 >= TS_MAX_RULES)
			return ts_fail(err, E2BIG, "%s: more than %d functions are probed already",
				       f->path, TS_MAX_RULES - 1);
		func->rule = ++t->last_rule;
		rule->source = inner->rule;
		if (inner == func && send_source(t, f, func))
			return ts_fail(err, ENOMEM, "out of memory");
	}
	if (tracer_write_rule(t, func))
		return ts_fail(err, errno, "cannot write a rule: %s", strerror(errno));
	return 0;
}

/* Each of the kernel's functions is optional. */
static int hook_kernel(struct tracer *t, struct traced_file *f, uint32_t first, struct ts_err *err)
{
	size_t i, hooked = 0, wanted = 0;
	int ret = 0, one;

	/* What is in flight in a library must be known. */
	if (t->last_rule >= first)
		for (i = 0; i < t->files_count; i++)
			tracer_leave_ends(t, &t->files[i]);
	for (i = 0; i < f->funcs_count; i++) {
		if (f->funcs[i].rule < first)
			continue;
		one = tracer_hook(t, &f->funcs[i]);
		wanted++;
		hooked += !one;
		if (one)
			ret = one;
	}
	if (!wanted || hooked)
		return 0;
	return ts_fail(err, -ret, "cannot hook the kernel's TLS: %s", strerror(-ret));
}

int tracer_attach_roles(struct tracer *t, struct traced_file *f, struct site_pick pick)
{
	static const enum resolve_role order[] = {RESOLVE_RETURN, RESOLVE_LEAVE, RESOLVE_ENTER};
	size_t i;
	int ret = 0;

	pick.where = 1u << RESOLVE_ANYHOW | 1u << (t->at_symbols ? RESOLVE_SYMBOL : RESOLVE_CHEAP);
	for (i = 0; !ret && i < TS_ARRAY_SIZE(order); i++) {
		pick.role = order[i];
		ret = tracer_attach_sites(t, f, &pick);
	}
	return ret;
}

static int attach_funcs(struct tracer *t, struct traced_file *f, struct site_pick pick)
{
	int ret = tracer_attach_roles(t, f, pick);

	return ret || t->at_symbols ? ret : tracer_begin_tests(t, f, &pick);
}

/* The functions whose rules are `first` or above; and those that write to BIOs, when watched. */
static int attach_file(struct tracer *t, struct traced_file *f, uint32_t first)
{
	struct site_pick rest = {.first = first}, inner = {.first = first, .part = SITES_INNER};
	const bool any = t->last_rule >= first;
	int ret = 0;

	if (tracer_choose_ends(t, f, first)) {
		inner.set = tracer_file_set(t, f, TRACER_SET_INNER);
		rest.part = SITES_REST;
		ret = tracer_attach_roles(t, f, inner);
	}
	if (!ret && any)
		ret = attach_funcs(t, f, rest);
	if (!ret && t->marks && !f->bios) {
		ret = attach_funcs(t, f, (struct site_pick){.bios = true, .set = TRACER_SET_BIOS});
		f->bios = !ret;
	}
	return ret;
}

/* Functions with `inner` have rules where these are of use: tracer_ends.c. */
static int sync_role(struct tracer *t, struct traced_file *f, bool calls, bool *any,
		     struct ts_err *err)
{
	size_t i;
	int ret;

	for (i = 0; i < f->funcs_count; i++) {
		if ((f->funcs[i].func.rule.role == TS_ROLE_CALL) != calls || tracer_has_aside(f, i))
			continue;
		ret = tracer_sync_func(t, f, &f->funcs[i], *any, err);
		if (ret)
			return ret;
		*any |= calls && f->funcs[i].rule;
	}
	return 0;
}

int tracer_sync_file(struct tracer *t, struct traced_file *f, struct ts_err *err)
{
	uint32_t first = t->last_rule + 1;
	bool any = false;
	int ret;

	/* Closes come after all calls in a plan's use: they are wanted when any call is. */
	ret = sync_role(t, f, true, &any, err);
	ret = ret ? ret : sync_role(t, f, false, &any, err);
	if (ret)
		return ret;
	if (f->fd < 0)
		return hook_kernel(t, f, first, err);
	ret = attach_file(t, f, first);
	return ret ? ts_fail(err, -ret, "%s: cannot attach probes: %s", f->path, strerror(-ret))
		   : 0;
}

static int copy_plan(struct traced_file *f, int fd, const char *path,
		     const struct resolve_plan *plan)
{
	size_t i;

	*f = (struct traced_file){
		.fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3),
		.path = strdup(path),
		.kind = plan->row->kind,
		.aside = plan->row->aside,
		.funcs = calloc(plan->funcs_count + 1, sizeof(*f->funcs)),
		.funcs_count = plan->funcs_count,
		.sites = calloc(plan->sites_count + 1, sizeof(*f->sites)),
		.sites_count = plan->sites_count,
	};
	if (fd >= 0 && f->fd < 0)
		return -EMFILE;
	if (!f->path || !f->funcs || !f->sites)
		return -ENOMEM;
	for (i = 0; i < plan->funcs_count; i++) {
		f->funcs[i].func = plan->funcs[i];
		f->funcs[plan->funcs[i].inner].has_ends |= plan->funcs[i].inner != i;
	}
	if (plan->sites_count)
		memcpy(f->sites, plan->sites, plan->sites_count * sizeof(*f->sites));
	return 0;
}

int tracer_add_file(struct tracer *t, int fd, const char *path, const struct resolve_plan *plan,
		    struct ts_err *err)
{
	struct traced_file *files = realloc(t->files, (t->files_count + 1) * sizeof(*files));
	int ret;

	if (!files)
		return ts_fail(err, ENOMEM, "out of memory");
	t->files = files;
	ret = copy_plan(&files[t->files_count], fd, path, plan);
	if (!ret) {
		t->files_count++;
		return 0;
	}
	tracer_free_file(&files[t->files_count]);
	return ts_fail(err, -ret, "%s: cannot attach probes: %s", path, strerror(-ret));
}

int tracer_attach(struct tracer *t, int fd, const char *path, const struct resolve_plan *plan,
		  struct ts_err *err)
{
	int ret = tracer_add_file(t, fd, path, plan, err);

	return ret ? ret : tracer_sync_file(t, &t->files[t->files_count - 1], err);
}
