/* SPDX-License-Identifier: MIT */
/*
 * Functions whose symbol is costly to probe are entered at another instruction. Whether that shows
 * what the symbol shows is tested at their first hits: both are probed, the programs compare, and
 * when they have decided, the one that is not needed goes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tracer_private.h"

static int attach_tests(struct tracer *t, struct traced_file *f, uint32_t first, bool bios)
{
	struct site_pick pick = {
		.role = RESOLVE_RETURN,
		.where = 1u << RESOLVE_SYMBOL,
		.first = first,
		.bios = bios,
		.tests = true,
		.set = tracer_file_set(t, f, TRACER_SET_TESTS),
	};
	int ret = tracer_attach_sites(t, f, &pick);

	pick.role = RESOLVE_ENTER;
	return ret ? ret : tracer_attach_sites(t, f, &pick);
}

int tracer_begin_tests(struct tracer *t, struct traced_file *f, const struct site_pick *pick)
{
	struct traced_func *func;
	size_t i;

	for (i = 0; i < f->sites_count; i++) {
		func = &f->funcs[f->sites[i].func];
		if (f->sites[i].where == RESOLVE_SYMBOL && func->rule &&
		    func->rule >= pick->first &&
		    pick->bios == (func->func.rule.role == TS_ROLE_BIO) &&
		    !t->tested[func->rule].cheap)
			func->testing = true;
	}
	return attach_tests(t, f, pick->first, pick->bios);
}

/* --- tests that are over */

static void tell(const struct traced_file *f, const struct traced_func *func, bool passed)
{
	if (passed)
		ts_verbose("tracer", "%s: %s: %s: tested: shows what the symbol does", f->path,
			   func->func.name, func->func.cost);
	else
		ts_warn("%s: %s: %s, did not show what the symbol does: the symbol is probed, "
			"which costs more",
			f->path, func->func.name, func->func.cost);
}

/* Returns whether a symbol's probe is not needed any more: from now on the cheap site counts. */
static bool end_test(struct tracer *t, const struct traced_file *f, struct traced_func *func)
{
	struct ts_tested *tested = &t->tested[func->rule];
	uint32_t test =
		func->testing ? __atomic_load_n(&tested->test, __ATOMIC_ACQUIRE) : TS_TEST_RUNS;

	if (test == TS_TEST_FAILED && !func->failed) {
		func->failed = true;
		tell(f, func, false);
	}
	if (test != TS_TEST_PASSED || func->failed)
		return false;
	__atomic_store_n(&tested->cheap, 1, __ATOMIC_SEQ_CST);
	func->testing = false;
	tell(f, func, true);
	return true;
}

/* Probes of the symbols that are still needed come before the ones of all go. */
static void renew_tests(struct tracer *t, struct traced_file *f)
{
	size_t set = tracer_file_set(t, f, TRACER_SET_TESTS), old = tracer_count_links(t, set);
	struct probe_links *links;
	int ret;

	ret = attach_tests(t, f, 0, false);
	if (!ret)
		ret = attach_tests(t, f, 0, true);
	if (ret) {
		ts_warn("%s: cannot renew probes: %s: some cost more than they need to", f->path,
			strerror(-ret));
		return;
	}
	/* The kernel takes its time, and records wait meanwhile. */
	links = tracer_take_links(t, set, old);
	if (links)
		tracer_close_aside(t, links);
}

void tracer_end_tests(struct tracer *t)
{
	struct traced_file *f;
	__u64 tested = __atomic_load_n(&t->control->tested, __ATOMIC_ACQUIRE);
	bool over;
	size_t i;

	if (tested == t->tests_seen)
		return;
	t->tests_seen = tested;
	for (f = t->files; f < t->files + t->files_count; f++) {
		over = false;
		for (i = 0; i < f->funcs_count; i++)
			over |= end_test(t, f, &f->funcs[i]);
		if (over)
			renew_tests(t, f);
	}
}
