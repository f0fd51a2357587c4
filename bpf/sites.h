/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A function with two enter sites: at its symbol, which costs much, and at an instruction behind it
 * that the kernel emulates. Until a few calls showed the same at both, the symbol counts. (What two
 * processors count at the same time may be one too few: then it takes a call more.)
 */
#ifndef TLSSCOPE_SITES_H
#define TLSSCOPE_SITES_H

#include "calls.h"

/* At the symbol. */
static __always_inline bool get_shown(void *ctx, const struct ts_rule *rule, struct shown *s)
{
	return get_value(ctx, &rule->conn, (__s64 *)&s->conn) &&
	       get_value(ctx, &rule->buf, (__s64 *)&s->buf) &&
	       get_value(ctx, &rule->len, (__s64 *)&s->len) &&
	       get_value(ctx, &rule->out, (__s64 *)&s->out) &&
	       get_value(ctx, &rule->sp, (__s64 *)&s->sp) &&
	       get_value(ctx, &rule->ip, (__s64 *)&s->base);
}

/* At the cheap site. One by one: the stack has no room for all of them. */
static __always_inline bool shows(void *ctx, const struct ts_value *v, __s64 back, __u64 shown)
{
	__s64 now = 0;

	return get_value(ctx, v, &now) && (__u64)(now + back) == shown;
}

static __always_inline bool alike(void *ctx, const struct ts_rule *rule, const struct shown *s)
{
	return shows(ctx, &rule->conn, 0, s->conn) && shows(ctx, &rule->buf, 0, s->buf) &&
	       shows(ctx, &rule->len, 0, s->len) && shows(ctx, &rule->out, 0, s->out) &&
	       shows(ctx, &rule->ip, rule->ip_back, s->base);
}

/*
 * At the symbol, whose hit was used: the next hit is to be the other site's. It may not be where
 * what is between runs on another thread (a goroutine), or where the symbol was attached a moment
 * before.
 */
__noinline int keep_shown(struct bpf_user_pt_regs_t *ctx, __u32 site)
{
	__u32 id = site & TS_SITE_RULE;
	struct ts_tested *test = find_test(id);
	struct flow *flow = test->test == TS_TEST_RUNS ? get_flow() : 0;
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);

	if (!flow || !rule)
		return 0;
	if (flow->shown.rule == id && ++test->missed >= TS_TEST_MISSES && !test->same)
		end_test(test, TS_TEST_FAILED);
	flow->shown.rule = get_shown(ctx, rule, &flow->shown) ? id : 0;
	return 0;
}

/* At the cheap site. The symbol is attached last: a hit without one there is no miss. */
__noinline int compare(struct bpf_user_pt_regs_t *ctx, __u32 site)
{
	__u32 id = site & TS_SITE_RULE;
	struct ts_tested *test = find_test(id);
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	struct flow *flow = find_flow();

	if (!rule || !flow || flow->shown.rule != id ||
	    !shows(ctx, &rule->sp, rule->sp_back, flow->shown.sp))
		return 0;
	flow->shown.rule = 0;
	if (!alike(ctx, rule, &flow->shown))
		end_test(test, TS_TEST_FAILED);
	else if (++test->same >= TS_TEST_HITS)
		end_test(test, TS_TEST_PASSED);
	return 0;
}

/* Whether what a hit shows is to be used. */
static __always_inline bool counts(void *ctx, __u32 site)
{
	__u32 id = site & TS_SITE_RULE;
	struct ts_tested *t;

	if (!(site & TS_SITE_CHEAP))
		return true;
	t = find_test(id);
	if (t->cheap)
		return true;
	if (t->test == TS_TEST_RUNS)
		compare(ctx, site);
	return false;
}

#endif
