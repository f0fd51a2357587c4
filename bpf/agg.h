/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Aggregations: calls are added up under keys, in the table that is in use. User space puts another
 * one in its place, and the kernel lets it wait until no program that found the old one still runs
 * (Documentation of map-in-map: an update returns after a grace period of RCU, which every program
 * here is a reader of). So what is read of a table then is all that there ever will be of it.
 */
#ifndef TLSSCOPE_AGG_H
#define TLSSCOPE_AGG_H

#include "loaded.h"

static const struct ts_agg_cell no_agg_cell = {.min = 0x7fffffffffffffffll,
					       .max = -0x7fffffffffffffffll - 1};

/* How many bits a number has; of those below 2^64. */
static __always_inline __s32 bits_of(__u64 v)
{
	__u64 n = 0, above, minus;
	int i;

#pragma unroll
	for (i = 5; i >= 0; i--) {
		above = v >> (1 << i);
		minus = -above;
		/* No branch: the verifier would go on from both of its ends. */
		asm volatile("" : "+r"(minus));
		above = (above | minus) >> 63 << i;
		n += above;
		v >>= above;
	}
	return n + v;
}

/* The same bucket as power_bucket and lhist in lua/aggregate_kinds.lua. */
static __always_inline __s32 bucket_of(const struct ts_agg *a, __s64 v)
{
	if (a->form == TS_AGG_LHIST)
		return v < a->min    ? 0
		       : v >= a->max ? (__s32)a->last + 1
				     : (__s32)((__u64)(v - a->min) / a->step) + 1;
	if (v >= 0)
		return bits_of((__u64)v / a->scale);
	return v == -1 ? -1 : -bits_of(-(v + 1)) - 1;
}

static __always_inline void make_agg_key(struct ts_agg_key *key, const struct ts_agg *a,
					 const struct ts_data *d, const struct ends *ends, __s64 v)
{
	const __u32 parts = a->parts;

	key->id = a->id;
	if (a->form >= TS_AGG_ENDS)
		key->writer = bpf_get_current_pid_tgid();
	if (a->form >= TS_AGG_HIST)
		key->bucket = bucket_of(a, v);
	if (parts & TS_AGG_PID)
		key->pid = d->pid;
	if (parts & TS_AGG_TID)
		key->tid = d->tid;
	if (parts & TS_AGG_UID)
		key->uid = d->uid;
	if (parts & TS_AGG_SOURCE)
		key->source = d->source;
	if (parts & TS_AGG_DIR)
		key->dir = d->dir;
	if (parts & TS_AGG_CGROUP)
		key->cgroup = d->cgroup;
	if (parts & TS_AGG_COMM)
		__builtin_memcpy(key->comm, d->comm, sizeof(key->comm));
	if (ends && parts & TS_AGG_RADDR)
		__builtin_memcpy(key->raddr, ends->raddr, sizeof(key->raddr));
	if (ends && parts & TS_AGG_RPORT)
		key->rport = ends->rport;
}

/* nsecs 0: now. */
static __always_inline struct ts_agg_cell *get_agg_cell(const struct ts_agg_key *key, __u64 nsecs)
{
	__u32 zero = 0;
	void *table = bpf_map_lookup_elem(&agg_tables, &zero);
	struct ts_agg_cell *cell;

	if (!table)
		return 0;
	cell = bpf_map_lookup_elem(table, key);
	if (cell)
		return cell;
	if (bpf_map_update_elem(table, key, &no_agg_cell, BPF_NOEXIST))
		return bpf_map_lookup_elem(table,
					   key); /* another was faster, or there is no room */
	cell = bpf_map_lookup_elem(table, key);
	if (cell)
		cell->first = nsecs ? nsecs : bpf_ktime_get_ns();
	return cell;
}

/*
 * Adds the call to the aggregation, if it wants it; then it is no event for it any more. ends: its
 * connection's, or NULL.
 */
static __always_inline int add_to_agg(struct ts_data *d, const struct ends *ends, __u32 i)
{
	struct ts_agg *a = bpf_map_lookup_elem(&aggs, &i);
	struct ts_agg_key key = {};
	struct ts_agg_cell *cell;
	__s64 v;

	if (!a || !(d->subs & control.aggs & a->sub))
		return 0;
	/* The event may tell: of a Unix socket, or once its socket is found. */
	if (a->parts & TS_AGG_ENDS_PARTS && !(ends && ends->family))
		return 0;
	v = a->value == TS_AGG_LEN ? (__s64)d->len : a->value == TS_AGG_RET ? d->ret : d->duration;
	if (v < -TS_AGG_LIMIT || v >= TS_AGG_LIMIT || d->len >= TS_AGG_LIMIT)
		return 0;
	make_agg_key(&key, a, d, ends, v);
	cell = get_agg_cell(&key, d->nsecs);
	if (!cell) {
		control.aggs_full = 1;
		return 0;
	}
	__sync_fetch_and_add(&cell->count, 1);
	__sync_fetch_and_add(&cell->bytes, d->len);
	__sync_fetch_and_add(&cell->sum, v);
	/* Only this thread writes here, which does not interrupt itself. */
	if (a->form >= TS_AGG_ENDS) {
		if (v < cell->min)
			cell->min = v;
		if (v > cell->max)
			cell->max = v;
	}
	d->subs &= ~a->sub;
	return 0;
}

/* add_to_agg of what this thread is about to send, by each: bpf/rows.h. */
int agg_steps(__u64 thread);

/* Takes from its subs the aggregations, to which the call is added. s is in a map. */
static __always_inline void aggregate(struct sending *s)
{
	struct ts_data *d = &s->head;

	if (!(d->subs & agg_subs()))
		return;
	/* What will be read again is no data. */
	if (d->flags & TS_DATA_PEEK)
		d->subs &= ~control.aggs;
	else
		agg_steps(bpf_get_current_pid_tgid());
}

#endif
