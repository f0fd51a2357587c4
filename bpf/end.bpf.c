/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The program where a function of user space ends whose calls are only counted: one probe a call.
 * What it knows of a call is its thread and what it returns.
 */
#define SINCE_6_2
#include "agg.h"
#include "calls.h"
#include "ends.h"
#include "probe.h"
#include "send.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* A call whose return nobody saw, since that is not probed any more. */
static __always_inline bool drop_call(struct flow *flow, __u32 rule, __u64 sp)
{
	struct call *c;
	int i;

#pragma unroll
	for (i = 0; i < TS_MAX_NEST; i++) {
		c = &flow->calls[i];
		if (c->rule == rule && c->ends && made_from(c->sp, sp)) {
			c->rule = c->sp = 0;
			return true;
		}
	}
	return false;
}

/* What both show of a call. */
static __always_inline void compare_end(struct ts_tested *test, const struct told *told, __s64 ret)
{
	if (test->test != TS_TEST_RUNS)
		return;
	if ((__s64)told->len != (ret > 0 ? ret : 0))
		end_test(test, TS_TEST_FAILED);
	else if (ret > 0 && ++test->same >= TS_TEST_HITS)
		end_test(test, TS_TEST_PASSED);
}

/* Whether the call was taken at its return. */
__noinline int was_taken(__u32 end, __u32 inner, __u64 sp, __s64 ret)
{
	struct ts_tested *t = find_test(inner);
	struct flow *flow = find_flow();
	struct told *told;

	if (!flow)
		return 0;
	told = &flow->told;
	if (told->rule == inner && made_from(told->sp, sp)) {
		told->rule = 0;
		add_pending(t, -1);
		if (told->taken)
			compare_end(find_test(end), told, ret);
		return told->taken;
	}
	if (t->counts_at >= TS_AT_END && drop_call(flow, inner, sp))
		add_pending(t, -1);
	return 0;
}

__noinline int end_step(struct ts_data *d, __u32 i)
{
	return d ? add_to_agg(d, 0, i) : 0;
}

/* As an event: where a table is full. Nothing is known of its connection. */
__noinline int send_counted(struct ts_data *d)
{
	struct ts_data *room;

	if (!d)
		return 0;
	fill_task(d);
	d->nsecs = bpf_ktime_get_ns();
	d->call = call_of(d);
	room = reserve(sizeof(*room));
	if (!room) {
		count(TS_CNT_LOST_EVENTS, 1);
		count(TS_CNT_LOST_BYTES, d->len);
		return 0;
	}
	*room = *d;
	submit(room, wake_flags());
	count_sent(1, 0);
	return 0;
}

static __always_inline void add_up(const struct ts_rule *rule, __u64 thread, __u64 subs, __s64 ret)
{
	struct ts_data d = {
		.record = {.size = sizeof(d), .type = TS_REC_DATA},
		.subs = subs,
		.len = ret,
		.ret = ret,
		.source = rule->source,
		.dir = rule->dir,
		.pid = thread >> 32,
		.tid = thread,
		.uid = current_user(),
		.cgroup = current_cgroup_id(),
		.fd = FD_NONE,
		.flags = TS_DATA_NODATA | TS_DATA_BELOW,
	};
	__u32 i;

	current_comm(d.comm);
	for (i = 0; i < TS_MAX_SUBS && i < control.aggs_count; i++)
		end_step(&d, i);
	if (d.subs)
		send_counted(&d);
}

SEC("uprobe")
int end(void *ctx)
{
	const __u64 thread = bpf_get_current_pid_tgid();
	struct ts_rule *rule;
	struct ts_tested *t;
	__u32 id, inner;
	__s64 ret, sp;
	__u64 subs;

	take_over(ctx);
	id = site_of(ctx) & TS_SITE_RULE;
	rule = bpf_map_lookup_elem(&rules, &id);
	keep_stack(ctx, rule, id);
	if (!rule || !load_value(ctx, &rule->ret, &ret) || !load_value(ctx, &rule->sp, &sp))
		return 0;
	inner = rule->source;
	t = find_test(inner);
	if ((t->pending && was_taken(id, inner, sp, ret)) || ret <= 0 || t->counts_at < TS_AT_END)
		return 0;
	subs = wanted_of(rule->calls & control.counted, thread >> 32);
	if (subs)
		add_up(rule, thread, subs, ret);
	else
		count(TS_CNT_FILTERED, 1);
	return 0;
}
