/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Kernels before 5.15 have no attach cookies: there each rule has a copy of these two programs,
 * which say which rule it is and go on in `enter` and `leave`.
 */
#include "maps.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 rule SEC(".rodata.rule") = 0;

enum { GO_ENTER, GO_LEAVE };
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} programs SEC(".maps");

static __always_inline int go_on(void *ctx, const __u32 program)
{
	__u32 zero = 0;
	struct hit *hit = bpf_map_lookup_elem(&hits, &zero);

	if (!hit)
		return 0;
	hit->rule = rule;
	hit->thread = bpf_get_current_pid_tgid();
	bpf_tail_call(ctx, &programs, program);
	return 0;
}

SEC("uprobe")
int go_enter(void *ctx)
{
	return go_on(ctx, GO_ENTER);
}

SEC("uprobe")
int go_leave(void *ctx)
{
	return go_on(ctx, GO_LEAVE);
}
