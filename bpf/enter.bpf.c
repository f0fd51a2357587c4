/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The program at the beginning of every function of user space. */
#include "enter.h"
#include "probe.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* In struct pt_regs; in struct user_pt_regs. */
#define IP_X86 (16 * 8)
#define IP_ARM64 (32 * 8)

/* At its beginning a function is where it is executed. */
static __always_inline bool is_return(void *ctx)
{
	__u64 ip = IS_X86 ? get_register(ctx, IP_X86) : get_register(ctx, IP_ARM64);

	return ip != bpf_get_func_ip(ctx);
}

/*
 * In a session (6.13) both ends of a function are this probe's, and 1 at its beginning lets the
 * kernel do without the return.
 */
SEC("uprobe")
int enter(void *ctx)
{
	struct ts_rule *rule;
	__u32 site, id;

	take_over(ctx);
	if (in_session && is_return(ctx)) {
		bpf_tail_call(ctx, &goes_on, TS_GOES_ON_AT_RETURN);
		return 0;
	}
	site = site_of(ctx);
	id = site & TS_SITE_RULE;
	rule = bpf_map_lookup_elem(&rules, &id);
	keep_stack(ctx, rule, id);
	return !on_enter(ctx, rule, site, true) && in_session;
}
