/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How a program of a library's function begins: which site was hit. */
#ifndef TLSSCOPE_PROBE_H
#define TLSSCOPE_PROBE_H

#include "loaded.h"
#include "task.h"

/* Whether the programs of copy.bpf.c are what is attached: there is no cookie, or it is not used.
 */
#ifdef SINCE_6_2
#define by_copies false
#else
const volatile __u32 by_copies SEC(".rodata.copies") = 0;
#endif

/*
 * Where a program goes on: a session's probe at the return, and each when more is asked for than it
 * was loaded for; else empty. Each object's own: since 6.18 such a map is one kind of links'
 * programs'.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, TS_GOES_ON);
	__type(key, __u32);
	__type(value, __u32);
} goes_on SEC(".maps");

/* What was loaded since, and knows all that can be asked for, takes over. */
static __always_inline void take_over(void *ctx)
{
	if (asked != TS_ASK_ALL)
		bpf_tail_call(ctx, &goes_on, TS_GOES_ON_IN_WHOLE);
}

/*
 * Since 6.13 a program of this type may get a stack of its own for each processor, though in a
 * uprobe it can be preempted there by another run of itself. One with a tail call gets none: this
 * one, of what is in no slot, is never more than that.
 */
static __always_inline void keep_stack(void *ctx, const struct ts_rule *rule, __u32 id)
{
	if (!rule)
		bpf_tail_call(ctx, &goes_on, id | TS_GOES_ON);
}

/* 0, which is nobody's: not known, since another thread was hit in between. */
static __always_inline __u32 told_rule(void)
{
	__u32 zero = 0;
	struct hit *hit = bpf_map_lookup_elem(&hits, &zero);

	if (hit && hit->thread == bpf_get_current_pid_tgid())
		return hit->rule;
	count(TS_CNT_UNREADABLE, 1);
	return 0;
}

/* The cookie of the site that was hit. */
static __always_inline __u32 site_of(void *ctx)
{
	if (by_copies || !HAS_HELPER(get_attach_cookie))
		return told_rule();
	return bpf_get_attach_cookie(ctx);
}

#endif
