/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * With sessions: the program where the stack is not as at a function's beginning, so that there can
 * be none. Such functions have no return to see: this is as much of `enter` as they need.
 */
#define SINCE_6_2
#include "enter.h"
#include "probe.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("uprobe")
int moment(void *ctx)
{
	struct ts_rule *rule;
	__u32 site, id;

	take_over(ctx);
	site = site_of(ctx);
	id = site & TS_SITE_RULE;
	rule = bpf_map_lookup_elem(&rules, &id);
	keep_stack(ctx, rule, id);
	on_enter(ctx, rule, site, false);
	return 0;
}
