/* SPDX-License-Identifier: MIT */
/*
 * Where nothing but the results of a function's calls is asked for, and those that call it are all
 * known, what shows these at their ends takes the place of its own two probes. Some have no such
 * end: they are probed at their symbols, which costs much, and when one of them is called, the
 * function gets its probes back. At no time is a call counted by neither, nor by both
 * (bpf/ends.h).
 *
 * Of a file: TESTED -> ALONE -> BOTH, or TESTED -> OVER.
 */
#include <string.h>

#include "tracer_private.h"

#define WATCH_LEAST 100000000ull  /* ns: no program that was running before still runs */
#define WATCH_MOST 10000000000ull /* ns that calls in flight are waited for */
#define MOST_SKIPPED 64		  /* calls that pass no end, and none that does */

bool tracer_has_aside(const struct traced_file *f, size_t func)
{
	return f->funcs[func].func.inner != func;
}

bool tracer_may_count(const struct tracer *t)
{
	return t->programs[TRACER_END].program;
}

static bool is_end(const struct traced_file *f, size_t i)
{
	return tracer_has_aside(f, i) && f->funcs[i].func.rule.role == TS_ROLE_END;
}

static bool is_watch(const struct traced_file *f, size_t i)
{
	return tracer_has_aside(f, i) && !is_end(f, i);
}

/* Whether there are some, which have probes, and nothing but the results of these is asked for. */
static bool is_counted(const struct tracer *t, const struct traced_file *f)
{
	const struct traced_func *func;
	bool any = false;
	size_t i;

	if (t->at_symbols || t->attach > TRACER_MULTI || !t->since_6_2 || t->kernel ||
	    !t->aggs.sink.cell || !tracer_may_count(t))
		return false;
	for (i = 0; i < f->funcs_count; i++) {
		func = &f->funcs[i];
		if (func->rule && func->func.rule.role == TS_ROLE_CALL && !is_watch(f, i)) {
			any |= func->has_ends;
			if (func->func.rule.subs & ~t->control->counted)
				return false;
		}
	}
	return any;
}

/* Whether all functions that have ends and probes have rules from `first` on. */
static bool are_new(const struct traced_file *f, uint32_t first)
{
	size_t i;

	for (i = 0; i < f->funcs_count; i++)
		if (f->funcs[i].has_ends && f->funcs[i].rule && f->funcs[i].rule < first)
			return false;
	return true;
}

static bool has_new(const struct traced_file *f, uint32_t first)
{
	size_t i;

	for (i = 0; i < f->funcs_count; i++)
		if (f->funcs[i].has_ends && f->funcs[i].rule >= first)
			return true;
	return false;
}

static int write_rules(struct tracer *t, struct traced_file *f)
{
	struct ts_rule *rule;
	struct ts_err err;
	size_t i;
	int ret = 0;

	for (i = 0; !ret && i < f->funcs_count; i++) {
		rule = &f->funcs[i].func.rule;
		if (f->funcs[i].has_ends && f->funcs[i].rule) {
			rule->flags |= TS_RULE_ENDS;
			if (f->ends == ENDS_OVER)
				rule->flags &= ~(__u32)TS_RULE_ENDS;
			ret = tracer_write_rule(t, &f->funcs[i]);
		} else if (tracer_has_aside(f, i) && f->funcs[f->funcs[i].func.inner].rule) {
			ret = tracer_sync_func(t, f, &f->funcs[i], false, &err);
		}
	}
	return ret;
}

static int attach(struct tracer *t, struct traced_file *f, enum resolve_role role,
		  enum tracer_set set)
{
	const struct site_pick pick = {
		.role = role, .where = 1u << RESOLVE_ASIDE, .set = tracer_file_set(t, f, set)};

	return tracer_attach_sites(t, f, &pick);
}

/* Who is told of a call finds an end: these come first, then what is watched, then the returns. */
static int attach_aside(struct tracer *t, struct traced_file *f)
{
	int ret = attach(t, f, RESOLVE_END, TRACER_SET_ENDS);

	ret = ret ? ret : attach(t, f, RESOLVE_RETURN, TRACER_SET_WATCH);
	return ret ? ret : attach(t, f, RESOLVE_ENTER, TRACER_SET_WATCH);
}

bool tracer_choose_ends(struct tracer *t, struct traced_file *f, uint32_t first)
{
	const bool counted = is_counted(t, f);

	if (f->ends == ENDS_NONE) {
		if (!counted || !are_new(f, first))
			return false;
		f->ends = ENDS_TESTED;
		if (!write_rules(t, f) && !attach_aside(t, f))
			return true;
		tracer_leave_ends(t, f);
		return false;
	}
	if (!counted || has_new(f, first))
		tracer_leave_ends(t, f);
	/* As handlers want them now. */
	write_rules(t, f);
	return false;
}

/* --- what was found */

enum found { FOUND_NOTHING, FOUND_ALIKE, FOUND_OTHERWISE, FOUND_CALLED };

static uint32_t count_skipped(const struct tracer *t, const struct traced_file *f)
{
	uint32_t sum = 0;
	size_t i;

	for (i = 0; i < f->funcs_count; i++)
		if (f->funcs[i].has_ends && f->funcs[i].rule)
			sum += __atomic_load_n(&t->tested[f->funcs[i].rule].skipped,
					       __ATOMIC_RELAXED);
	return sum;
}

/* A function whose own sites are not certain yet is waited for. */
static enum found find(const struct tracer *t, const struct traced_file *f)
{
	bool alike = true, any = false;
	const struct ts_tested *tested;
	size_t i;

	for (i = 0; i < f->funcs_count; i++) {
		if (!f->funcs[i].rule)
			continue;
		tested = &t->tested[f->funcs[i].rule];
		if (is_watch(f, i) &&
		    __atomic_load_n(&tested->test, __ATOMIC_ACQUIRE) == TS_TEST_FAILED)
			return FOUND_CALLED;
		if (is_end(f, i)) {
			if (__atomic_load_n(&tested->test, __ATOMIC_ACQUIRE) == TS_TEST_FAILED)
				return FOUND_OTHERWISE;
			alike &= tested->test == TS_TEST_PASSED;
			any |= tested->same != 0;
		} else if (f->funcs[i].has_ends) {
			if (f->funcs[i].failed)
				return FOUND_OTHERWISE;
			alike &= !f->funcs[i].testing;
		}
	}
	if (!any && count_skipped(t, f) >= MOST_SKIPPED)
		return FOUND_OTHERWISE;
	return alike ? FOUND_ALIKE : FOUND_NOTHING;
}

/* --- from one to the next */

static void set_counts_at(struct tracer *t, const struct traced_file *f, enum ts_counts_at at)
{
	size_t i;

	for (i = 0; i < f->funcs_count; i++)
		if (f->funcs[i].has_ends && f->funcs[i].rule)
			__atomic_store_n(&t->tested[f->funcs[i].rule].counts_at, at,
					 __ATOMIC_SEQ_CST);
}

static void stand_alone(struct tracer *t, struct traced_file *f)
{
	ts_verbose("tracer",
		   "%s: tested: what is only counted is shown at the ends of what calls it; from "
		   "now on these alone are probed",
		   f->path);
	set_counts_at(t, f, TS_AT_END);
	f->ends = ENDS_ALONE;
	tracer_close_set(t, tracer_file_set(t, f, TRACER_SET_INNER));
}

/* Its functions' own probes are there: nothing more is watched. */
static void end_watch(struct tracer *t, struct traced_file *f, enum traced_ends ends)
{
	f->ends = ends;
	f->unwatched = true;
	f->watch_over = ts_now();
	write_rules(t, f);
}

/* Where that fails, what has no end is watched for good: it is counted there. */
static void go_back(struct tracer *t, struct traced_file *f)
{
	const struct site_pick pick = {.part = SITES_INNER,
				       .set = tracer_file_set(t, f, TRACER_SET_INNER)};
	int ret = tracer_attach_roles(t, f, pick);

	if (ret) {
		ts_warn("%s: cannot renew probes: %s: some cost more than they need to, or miss "
			"what handlers ask for since",
			f->path, strerror(-ret));
		tracer_close_set(t, pick.set);
	}
	set_counts_at(t, f, TS_AT_BOTH);
	if (ret)
		f->ends = ENDS_BOTH;
	else
		end_watch(t, f, ENDS_BOTH);
}

void tracer_leave_ends(struct tracer *t, struct traced_file *f)
{
	if (f->ends == ENDS_ALONE) {
		go_back(t, f);
	} else if (f->ends == ENDS_TESTED) {
		tracer_close_set(t, tracer_file_set(t, f, TRACER_SET_ENDS));
		end_watch(t, f, ENDS_OVER);
	}
}

/* Calls that are in flight at what was watched are counted there. */
static void close_watch(struct tracer *t, struct traced_file *f)
{
	uint64_t waited = ts_now() - f->watch_over, pending = 0;
	size_t i;

	for (i = 0; i < f->funcs_count; i++)
		if (is_watch(f, i))
			pending += __atomic_load_n(&t->tested[f->funcs[i].rule].pending,
						   __ATOMIC_ACQUIRE);
	if (waited < WATCH_LEAST || (pending && waited < WATCH_MOST))
		return;
	for (i = 0; i < f->funcs_count; i++)
		if (is_watch(f, i))
			__atomic_store_n(&t->tested[f->funcs[i].rule].counts_at, TS_AT_END,
					 __ATOMIC_SEQ_CST);
	t->unpaired += pending;
	f->watch_over = 0;
	tracer_close_set(t, tracer_file_set(t, f, TRACER_SET_WATCH));
}

static void turn(struct tracer *t, struct traced_file *f)
{
	const enum found found = find(t, f);

	if (found == FOUND_CALLED)
		ts_verbose("tracer",
			   "%s: called where no end is probed: two probes a call, also where it is "
			   "only counted",
			   f->path);
	if (found == FOUND_OTHERWISE)
		ts_warn("%s: the ends of what calls its functions did not show what these do: "
			"these are probed, which costs more",
			f->path);
	if (found >= FOUND_OTHERWISE)
		tracer_leave_ends(t, f);
	else if (f->ends == ENDS_TESTED && found == FOUND_ALIKE)
		stand_alone(t, f);
}

void tracer_turn_ends(struct tracer *t)
{
	struct traced_file *f;

	for (f = t->files; f < t->files + t->files_count; f++) {
		if (f->watch_over)
			close_watch(t, f);
		if (f->ends > ENDS_NONE && f->ends < ENDS_BOTH)
			turn(t, f);
	}
}
