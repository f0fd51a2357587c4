/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The program at the end of every function of user space; and the one for old kernels. */
#include "leave.h"
#include "probe.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("uprobe")
int leave(void *ctx)
{
	struct ts_rule *rule;
	__u32 id;

	take_over(ctx);
	id = site_of(ctx) & TS_SITE_RULE;
	rule = bpf_map_lookup_elem(&rules, &id);
	keep_stack(ctx, rule, id);
	return on_leave(ctx, rule, id);
}

#ifndef SINCE_6_2
/* A step of leave_no_loop. 1: no more should follow. */
__noinline int send_step(__u64 thread)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, &thread);

	return flow ? send_record(flow, false) : 1;
}

__noinline int send_row(__u64 thread)
{
	return REPEAT(send_step, thread);
}

__noinline int send_steps(__u64 thread)
{
	return REPEAT(send_row, thread);
}

/* For kernels before 5.17, which have no bpf_loop. */
SEC("uprobe")
int leave_no_loop(void *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct ts_rule *rule;
	struct result r = {};
	struct call c = {};
	struct flow *flow;
	__u32 id;

	take_over(ctx);
	id = site_of(ctx) & TS_SITE_RULE;
	rule = bpf_map_lookup_elem(&rules, &id);
	if (!rule || !take_call(ctx, rule, id, &c, &flow))
		return 0;
	if (flow && rule->role != TS_ROLE_CLOSE && get_result(ctx, rule, &c, &r, false) &&
	    prepare(rule, &c, flow, r.ret, r.len, false) && !send_steps(thread))
		count(TS_CNT_LOST_BYTES, flow->sending.want - MOST_STEPS * TS_CHUNK);
	return end_call(rule, &c);
}
#endif
