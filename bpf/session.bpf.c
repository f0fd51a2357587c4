/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The program of both ends of functions of user space. Sessions came with 6.13. */
#define SINCE_6_2
#include "enter.h"
#include "leave.h"
#include "probe.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Not inlined, both: the stack has no room for one of them beside the other. */
static __noinline bool session_enter(void *ctx, const struct ts_rule *rule, __u32 site)
{
	return on_enter(ctx, rule, site);
}

static __noinline int session_leave(void *ctx, struct ts_rule *rule, __u32 id)
{
	return on_leave(ctx, rule, id);
}

/*
 * enter and leave in one, where a function's beginning and its return are one probe's (6.13): 1 at
 * the beginning lets the kernel do without the return. There the function is where it is executed.
 */
SEC("uprobe")
int session(void *ctx)
{
	__u32 site = site_of(ctx), id = site & TS_SITE_RULE;
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);

	keep_stack(ctx, rule, id);
	if (!rule)
		return 0;
	if (value_of(ctx, *(const __u64 *)&rule->ip, false) == bpf_get_func_ip(ctx))
		return !session_enter(ctx, rule, site);
	return session_leave(ctx, rule, id);
}
