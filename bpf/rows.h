/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is asked of a call by each subscription, or aggregation: in rows, by functions that are not
 * static. The verifier looks at each of them once, goes round its loop, and takes its ways out for
 * one. The object that includes this says where what a thread is about to send is, in pick_step,
 * which is pick_sub of it, and agg_step, which is add_to_agg.
 */
#ifndef TLSSCOPE_ROWS_H
#define TLSSCOPE_ROWS_H

#include "agg.h"
#include "picks.h"

#define ROW 8 /* of as many */
_Static_assert(ROW *ROW == TS_MAX_SUBS, "all of them");

int pick_step(__u64 thread, __u32 i);
int agg_step(__u64 thread, __u32 i);

/* 0: there are none from here on. */
__noinline int pick_row(__u64 thread, __u32 first)
{
	int i, more = 1;

	for (i = 0; i < ROW && more; i++)
		more = pick_step(thread, first + i);
	return more;
}

static __always_inline void pick_all(__u64 thread)
{
	int i, more = 1;

	for (i = 0; i < ROW && more; i++)
		more = pick_row(thread, i * ROW);
}

__noinline int agg_row(__u64 thread, __u32 first, __u32 count)
{
	__u32 i;

	for (i = 0; i < ROW && first + i < count; i++)
		agg_step(thread, first + i);
	return 0;
}

__noinline int agg_steps(__u64 thread)
{
	__u32 i;

	for (i = 0; i < ROW && i * ROW < control.aggs_count; i++)
		agg_row(thread, i * ROW, control.aggs_count);
	return 0;
}

#endif
