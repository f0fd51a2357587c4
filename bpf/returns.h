/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which calls may get a return probe. The kernel puts its own address in the place of the return
 * address, and believes that a thread's calls return in the order in which they nest. One that
 * changes to another stack inside a call, and calls there too, returns otherwise, and is ended by
 * SIGILL (arch_uretprobe_is_alive, 4.3 to 6.18). So while a call with a return probe is in flight,
 * whoever's that is, only calls that it certainly makes are looked at: where there are sessions,
 * whose entry can say so.
 */
#ifndef TLSSCOPE_RETURNS_H
#define TLSSCOPE_RETURNS_H

#include "calls.h"

/* What calls of each other may use of the stack; other stacks are seldom as small as this. */
#define FAR_BELOW 16384 /* bytes */
#define MOST_LEFT 8	/* calls that did not return, which the kernel has not yet forgotten */

/* The last call of this thread that has a return probe; NULL: none is in flight. */
static __always_inline struct return_instance *last_return(void)
{
	return typed_task()->utask->return_instances;
}

/*
 * Whether the call in flight with its return address at `stack` was left for good: its connection
 * has ended, or is in a new call of the same function. (That other bytes are there by now tells
 * nothing: there are stacks that are copied away, and back.)
 */
__noinline int is_left(__u64 stack, __u64 sp, __u64 conn, __u32 rule)
{
	struct flow *flow = find_flow();
	struct conn *now;
	struct call *c;
	int i;

	if (!flow)
		return 0;
#pragma unroll
	for (i = 0; i < TS_MAX_NEST; i++) {
		c = &flow->calls[i];
		if (c->sp != stack)
			continue;
		if (!c->rule || (stack <= sp && c->rule == rule && c->conn == conn))
			return 1;
		now = find_conn(c->conn);
		return now && now->opened > c->nsecs;
	}
	return 0;
}

/*
 * Whether the call in flight with its return address at `stack` makes the one that begins now: on
 * the same stack, above, or by a jump in its place; and the kernel's address is still there.
 */
static __always_inline bool makes(__u64 stack, __u64 sp)
{
	__u64 at = 0;

	if (stack < sp || stack - sp > FAR_BELOW)
		return false;
	/* Elsewhere the return address is in a register first. */
	return !IS_X86 || (!bpf_probe_read_user(&at, sizeof(at), (void *)stack) &&
			   at == typed_task()->mm->uprobes_state.xol_area->vaddr);
}

/* Whether a call that begins now must not get a return probe. */
__noinline int would_harm(__u64 sp, __u64 conn, __u32 rule)
{
	struct return_instance *r = last_return();
	__u64 stack;
	int i;

	for (i = 0; i < MOST_LEFT && r; i++) {
		stack = r->stack;
		if (!is_left(stack, sp, conn, rule))
			return !makes(stack, sp);
		r = r->next;
	}
	return !!r;
}

/* A call that is not looked at: nor is it known how its handshake ends. */
__noinline int miss_call(__u64 conn)
{
	struct conn *c = find_conn(conn);

	if (c)
		c->unseen = 1;
	count(TS_CNT_STACKS, 1);
	return 0;
}

/* Whether the call at whose other site this one is was kept there: its return is to be seen. */
__noinline int is_kept(struct bpf_user_pt_regs_t *ctx, __u32 site)
{
	__u32 id = site & TS_SITE_RULE;
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	struct flow *flow = find_flow();
	__u64 sp;
	int i;

	if (!rule || !flow || !get_value(ctx, &rule->sp, (__s64 *)&sp))
		return 0;
	sp += site & TS_SITE_CHEAP ? rule->sp_back : 0;
#pragma unroll
	for (i = 0; i < TS_MAX_NEST; i++)
		if (flow->calls[i].rule == id && flow->calls[i].sp == sp)
			return 1;
	return 0;
}

#endif
