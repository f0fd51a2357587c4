/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Filters by what a call transferred, and how much of it is copied. */
#ifndef TLSSCOPE_PICKS_H
#define TLSSCOPE_PICKS_H

#include "loaded.h"

/*
 * Whether `len` bytes begin as pick i asks; unread: the first ones may be any. Not static: the
 * verifier looks at it once.
 */
__noinline int begins_as(__u32 i, __u64 first, __u64 second, __u64 len, __u32 unread)
{
	const struct ts_pick *p = bpf_map_lookup_elem(&picks, &i);
	__u32 n;

	if (!p)
		return 0;
	for (n = 0; n < TS_PREFIXES && n < p->prefixes; n++)
		if (len >= p->prefix[n].len &&
		    (unread || ((first & p->prefix[n].mask[0]) == p->prefix[n].value[0] &&
				(second & p->prefix[n].mask[1]) == p->prefix[n].value[1])))
			return 1;
	return 0;
}

/* Bytes that cannot be read may be any: that they are missing is counted where they are sent. */
static __always_inline bool has_prefix(__u32 i, const struct sending *s)
{
	return begins_as(i, s->begin[0], s->begin[1], s->head.len, !s->begin_len);
}

/* Two processors may both be the last one that passes: user space counts again. */
static __always_inline bool in_rate(struct ts_pick *p, __u64 second)
{
	if (p->second < second) {
		p->second = second;
		p->count = 0;
	}
	if (p->count >= p->rate)
		return false;
	__sync_fetch_and_add(&p->count, 1);
	return true;
}

static __always_inline bool is_picked(struct ts_pick *p, __u32 i, const struct sending *s)
{
	const struct ts_data *d = &s->head;

	if (d->len < p->min_len || (p->max_len && d->len > p->max_len))
		return false;
	if (p->first && d->nth > p->first)
		return false;
	if (p->prefixes && !has_prefix(i, s))
		return false;
	if (p->sample && (__u64)ts_sample_of(d->call) * p->sample >> 32)
		return false;
	return !p->rate || in_rate(p, d->nsecs / 1000000000);
}

/*
 * Asks what subscription i does of a call: takes it from the subs, or notes how much it wants. s is
 * in a map. 0: there are none from here on.
 */
static __always_inline int pick_sub(struct sending *s, __u32 i)
{
	struct ts_data *d = &s->head;
	struct ts_pick *p;

	if (i >= TS_MAX_SUBS || !(d->subs >> i))
		return 0;
	p = d->subs >> i & 1 ? bpf_map_lookup_elem(&picks, &i) : 0;
	if (!p)
		return 1;
	if (!is_picked(p, i, s))
		d->subs &= ~(1ull << i);
	else if (p->capture > s->capture)
		s->capture = p->capture;
	return 1;
}

/* pick_sub of what this thread is about to send, by all: bpf/rows.h. */
int pick_call(__u64 thread);

/*
 * Leaves in its subs those that want the call, whose record is filled in. They may want less of its
 * bytes than others do.
 */
static __always_inline void filter_call(const struct ts_rule *rule, struct sending *s)
{
	const __u64 subs = s->head.subs;

	s->capture = rule->capture;
	if (!(asked & TS_ASK_PICKS) || (!(subs & control.picks) && subs & rule->largest))
		return;
	s->capture = 0;
	pick_call(bpf_get_current_pid_tgid());
}

#endif
