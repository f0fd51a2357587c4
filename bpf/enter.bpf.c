/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The program at the beginning of every function of user space. */
#include "enter.h"
#include "probe.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("uprobe")
int enter(void *ctx)
{
	__u32 site = site_of(ctx), id = site & TS_SITE_RULE;
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);

	keep_stack(ctx, rule, id);
	on_enter(ctx, rule, site);
	return 0;
}
