/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Functions whose calls are seen once more where those that call them end (enum ts_counts_at): what
 * a call's beginning and return note for that end, which comes next in the same thread.
 */
#ifndef TLSSCOPE_ENDS_H
#define TLSSCOPE_ENDS_H

#include "loaded.h"

/* Only where there are aggregations can it be that nothing else is wanted. */
static __always_inline bool counts_at_ends(void)
{
	return asked & TS_ASK_AGGS;
}

/* An end's stack pointer is a little above that of the call it made. */
#define MOST_FRAME 4096
static __always_inline bool made_from(__u64 call_sp, __u64 sp)
{
	return call_sp < sp && sp - call_sp <= MOST_FRAME;
}

static __always_inline void add_pending(struct ts_tested *t, __u32 n)
{
	/* No constant: see count(). */
	asm volatile("" : "+r"(n));
	__sync_fetch_and_add(&t->pending, n);
}

/* What is watched is called, by whomever: to whom it is nothing, that costs as much. */
static __always_inline void note_watched(__u32 rule)
{
	end_test(find_test(rule), TS_TEST_FAILED);
}

/* A call is kept that is watched, or will come to an end. */
static __always_inline void note_begin(__u32 rule)
{
	add_pending(find_test(rule), 1);
}

/* It returns. 0: what is only counted is the end's. */
__noinline int end_pending(__u32 rule, __u64 sp, __u64 len, bool ends)
{
	struct ts_tested *t = find_test(rule);
	struct flow *flow = find_flow();
	const __u32 at = t->counts_at;

	if (!ends || !flow) {
		add_pending(t, -1);
		return 1;
	}
	if (flow->told.rule) {
		/* The last one did not come to an end. */
		t = find_test(flow->told.rule);
		add_pending(t, -1);
		t->skipped++;
	}
	flow->told = (struct told){.sp = sp, .len = len, .rule = rule, .taken = at != TS_AT_END};
	return at != TS_AT_END;
}

static __always_inline bool note_return(const struct call *c, __u64 len)
{
	return end_pending(c->rule, c->sp, len, c->ends);
}

#endif
