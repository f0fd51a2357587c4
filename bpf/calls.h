/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Calls in flight: kept at a function's entry, taken at its return. Those of a thread are found by
 * its stack pointer; those of a goroutine, which may return on another thread and on a stack that
 * has moved, by how deep in its stack they are.
 */
#ifndef TLSSCOPE_CALLS_H
#define TLSSCOPE_CALLS_H

#include "conns.h"
#include "proof.h"
#include "wanted.h"

/* The members of a struct that no other architecture has. */
#define IS_X86 bpf_core_field_exists(((struct task_struct *)0)->thread.fsbase)

static __always_inline __u64 thread_pointer(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 base = 0;

	if (IS_X86)
		bpf_core_read(&base, sizeof(base), &task->thread.fsbase);
	return base;
}

/*
 * A register, by its offset in the saved ones. The verifier wants to see a constant; not a helper's
 * call for each, which costs ten times as much.
 */
static __always_inline __u64 get_register(void *ctx, __u32 at)
{
	__u64 value = 0;

	if (HAS_CAST)
		return word_at(ctx + at);
#define REGISTER(n)                                                                                \
	case (n)*8:                                                                                \
		asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(value) : "r"(ctx), "i"((n)*8));       \
		return value;
#define REGISTERS(n) REGISTER(n) REGISTER(n + 1) REGISTER(n + 2) REGISTER(n + 3)
	/* struct pt_regs: 21 words on x86_64; struct user_pt_regs: 34 on arm64. */
	switch (at) {
		REGISTERS(0)
		REGISTERS(4)
		REGISTERS(8)
		REGISTERS(12)
		REGISTERS(16)
		REGISTER(20)
	}
	if (IS_X86)
		return 0;
	switch (at) {
		REGISTER(21)
		REGISTER(22)
		REGISTER(23)
		REGISTERS(24)
		REGISTERS(28)
		REGISTER(32)
		REGISTER(33)
	}
	return 0;
}

/* By this name 5.10 knows what a probe's program is given. */
struct bpf_user_pt_regs_t {
};

/* A struct ts_value as a number. */
union value {
	struct ts_value is;
	__u64 number;
};

/*
 * A value of a probe hit; 0 when there is none, or the process' memory cannot be read. With
 * `asked`: 1 when that can be read, else 0. Not static: of the ways that lead through here the
 * verifier makes one.
 */
__noinline __u64 value_of(struct bpf_user_pt_regs_t *ctx, __u64 value, bool asked)
{
	const union value v = {.number = value};
	const __u8 half = v.is.size & 4;
	__s64 out = 0;
	__u64 at;

	if (v.is.kind == TS_VAL_NONE)
		return asked;
	at = (v.is.kind == TS_VAL_TLS ? thread_pointer() : get_register(ctx, v.is.reg)) + v.is.disp;
	if (v.is.kind == TS_VAL_REG)
		out = at;
	else if (bpf_probe_read_user(&out, sizeof(out) - half, (void *)at))
		return 0;
	return asked ? 1 : out << half * 8 >> half * 8;
}

/* Reads a value of a probe hit; false when the process' memory cannot be read. */
static __always_inline bool get_value(void *ctx, const struct ts_value *v, __s64 *out)
{
	__u64 some = value_of(ctx, *(const __u64 *)v, false);

	*out = some;
	/* What is found out of it now the verifier is not to keep for *out: one way more. */
	asm volatile("%0 |= 0" : "+r"(some));
	return some || v->kind <= TS_VAL_REG || value_of(ctx, *(const __u64 *)v, true);
}

/* The same, for what is asked at each call, and is in a register: without calling a function. */
static __always_inline bool load_value(void *ctx, const struct ts_value *v, __s64 *out)
{
	const __u8 half = v->size & 4;
	__s64 value;

	if (!HAS_CAST || v->kind != TS_VAL_REG)
		return get_value(ctx, v, out);
	value = word_at(ctx + v->reg) + v->disp;
	*out = value << half * 8 >> half * 8;
	return true;
}

static struct flow *get_flow(void)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct flow *flow = bpf_map_lookup_elem(&flows, &thread);

	if (flow)
		return flow;
	if (bpf_map_update_elem(&flows, &thread, &no_calls, BPF_NOEXIST))
		count(TS_CNT_FLOWS_FULL, 1);
	return bpf_map_lookup_elem(&flows, &thread);
}

/* Whether n is a call that `outer` makes to do its own work: the same plaintext. */
static __always_inline bool nested(const struct call *outer, const struct call *n)
{
	/* What is watched no more may never have been seen to return. */
	if (outer->watches ? find_test(outer->rule)->counts_at : outer->conn != n->conn)
		return false;
	return outer->dir == n->dir && outer->rule != n->rule && outer->sp >= n->sp &&
	       n->buf >= outer->buf && n->buf <= outer->buf + outer->len;
}

/*
 * Whether n is what was kept already: at the symbol and then at its cheaper site, or by two probes
 * of the symbol, while new ones take the place of old ones (core/tracer_test.c).
 */
static __always_inline bool same_call(const struct call *kept, const struct call *n)
{
	return kept->rule == n->rule && kept->sp == n->sp && !kept->cheap &&
	       (n->cheap ||
		(n->symbol && kept->conn == n->conn && kept->buf == n->buf && kept->len == n->len));
}

/* A call's return will not be seen; nor, where it may be going on, how its handshake ends. */
__noinline int give_up_call(__u64 conn, bool shaking)
{
	struct conn *c = shaking ? find_conn(conn) : 0;

	if (c)
		c->unseen = 1;
	count(TS_CNT_UNPAIRED, 1);
	return 0;
}

/*
 * Keeps a thread's call in a free slot. Calls that never return (a thread that jumps out of them, a
 * stack that is left) hold theirs until the same function is called at the same place again, or
 * until the slots run out: then the oldest is given up, and counted. NULL: it is not kept.
 */
static __always_inline struct flow *keep_of_thread(const struct call *n)
{
	struct flow *flow = get_flow();
	struct call *slot, *c;
	__u64 at = 0;
	int i;

	if (!flow)
		return 0;
#pragma unroll
	for (i = 0; i < TS_MAX_NEST; i++) {
		c = &flow->calls[i];
		slot = &flow->calls[at];
		if (!c->rule) {
			if (c->sp == n->sp)
				c->sp = 0;
			if (slot->rule || slot->sp)
				at = i;
			continue;
		}
		if (nested(c, n))
			return 0;
		if (c->rule == n->rule && c->sp == n->sp) {
			at = i;
			break;
		}
		if (slot->rule && c->nsecs < slot->nsecs)
			at = i;
	}
	/* For the verifier it is any of them from here on. */
	asm volatile("%0 &= %1" : "+r"(at) : "i"(TS_MAX_NEST - 1));
	slot = &flow->calls[at];
	if (slot->rule && !same_call(slot, n))
		/* What was left where this one begins has ended nothing. */
		give_up_call(slot->conn, slot->shakes && slot->sp != n->sp);
	*slot = *n;
	return flow;
}

/* c->rule stays 0 when the call's beginning was not seen. */
static __always_inline void take_of_thread(struct flow *flow, __u32 rule, __u64 sp, struct call *c)
{
	struct call *slot;
	int i;

#pragma unroll
	for (i = 0; i < TS_MAX_NEST; i++) {
		slot = &flow->calls[i];
		if (slot->rule == rule && slot->sp == sp) {
			*c = *slot;
			slot->rule = slot->sp = 0;
			break;
		}
	}
}

/* A connection ends: so have this thread's calls on it that it left otherwise than by returning. */
__noinline int forget_calls(__u64 conn)
{
	struct flow *flow = find_flow();
	struct call *c;
	int i;

	if (!flow)
		return 0;
#pragma unroll
	for (i = 0; i < TS_MAX_NEST; i++) {
		c = &flow->calls[i];
		if (!c->rule || c->conn != conn)
			continue;
		c->rule = 0;
		count(TS_CNT_UNPAIRED, 1);
	}
	return 0;
}

/* Whether this thread is in a call on the connection. */
__noinline int is_calling(__u64 conn)
{
	struct flow *flow = find_flow();
	int i;

	if (!flow)
		return 0;
#pragma unroll
	for (i = 0; i < TS_MAX_NEST; i++)
		if (flow->calls[i].rule && flow->calls[i].conn == conn)
			return 1;
	return 0;
}

/* The innermost of the thread's calls in flight; 0: none. */
static __always_inline struct call *innermost(struct flow *flow, __u64 sp)
{
	struct call *found = 0, *c;
	int i;

	if (!flow)
		return 0;
#pragma unroll
	for (i = 0; i < TS_MAX_NEST; i++) {
		c = &flow->calls[i];
		if (c->rule && c->sp >= sp && (!found || c->sp < found->sp))
			found = c;
	}
	return found;
}

/* The bounds of a goroutine's stack, with which its g begins. */
struct stack {
	__u64 lo, hi;
};

static __always_inline bool get_goroutine(void *ctx, const struct ts_rule *rule, __u32 id, __u64 sp,
					  struct goroutine_key *key, struct stack *stack)
{
	if (!get_value(ctx, &rule->flow, (__s64 *)&key->g) || !key->g ||
	    bpf_probe_read_user(stack, sizeof(*stack), (void *)key->g))
		return false;
	key->depth = sp - stack->hi;
	key->pid = bpf_get_current_pid_tgid() >> 32;
	key->rule = id;
	return true;
}

/*
 * A function that needs a larger stack begins twice: before the stack moves, and after; and one
 * that is seen at two sites. It is one call of its connection. A buffer on the stack moves with it.
 * joins: its connection is of interest.
 */
static __always_inline bool keep_of_goroutine(void *ctx, const struct ts_rule *rule, struct call *n,
					      bool joins)
{
	struct goroutine_key key = {};
	struct stack stack;
	struct call *old;

	if (!get_goroutine(ctx, rule, n->rule, n->sp, &key, &stack))
		return false;
	n->proof = 0;
	if (joins && n->dir == TS_OUT) {
		n->proven = n->len < rule->capture ? n->len : rule->capture;
		n->proof = proof_of(n->buf, n->proven);
	}
	if (n->buf >= stack.lo && n->buf < stack.hi) {
		n->on_stack = 1;
		n->buf -= stack.hi;
	}
	old = bpf_map_lookup_elem(&goroutines, &key);
	n->joined = old && old->joined && old->conn == n->conn;
	/* It began when it was seen first: not after a close that came in between. */
	if (n->joined)
		n->nsecs = old->nsecs;
	if (old && !n->joined)
		leave_conn(old);
	if (joins && !n->joined)
		join_conn(n);
	if (bpf_map_update_elem(&goroutines, &key, n, BPF_ANY)) {
		count(TS_CNT_FLOWS_FULL, 1);
		leave_conn(n);
	}
	return true;
}

#define DEAR_FILTERS(of)                                                                           \
	(control.of[TS_KEY_CGROUP] | control.of[TS_KEY_CONTAINER] | control.of[TS_KEY_EXE])

/*
 * A call of a goroutine returns that nobody saw begin: it did so before it was asked for, or the
 * filters did not let it pass. What those by cgroup and program said is not found out again.
 */
__noinline int count_earlier(struct bpf_user_pt_regs_t *ctx, __u32 id)
{
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	__u64 subs;
	__s64 ret;

	if (!rule || rule->role != TS_ROLE_CALL || !get_value(ctx, &rule->ret, &ret) || ret <= 0)
		return 0;
	subs = rule->calls & control.enabled & ~(DEAR_FILTERS(wants) | DEAR_FILTERS(rejects));
	if (filter_task(subs, bpf_get_current_pid_tgid() >> 32))
		count(TS_CNT_EARLIER, 1);
	return 0;
}

/*
 * As take_of_thread. Returns where the call is prepared, or NULL. Not inlined: the stack has no
 * room for all that it needs.
 */
static __noinline __attribute__((unused)) struct flow *
take_of_goroutine(void *ctx, const struct ts_rule *rule, __u32 id, __u64 sp, struct call *c)
{
	struct goroutine_key key = {};
	struct stack stack;
	struct flow *flow;
	struct call *kept;

	if (!get_goroutine(ctx, rule, id, sp, &key, &stack)) {
		count(TS_CNT_UNREADABLE, 1);
		return 0;
	}
	kept = bpf_map_lookup_elem(&goroutines, &key);
	if (!kept) {
		count_earlier(ctx, id);
		return 0;
	}
	*c = *kept;
	bpf_map_delete_elem(&goroutines, &key);
	if (c->on_stack)
		c->buf += stack.hi;
	flow = c->rule ? get_flow() : 0;
	if (flow) {
		flow->g = key.g;
		flow->proof = (struct proof){c->proof, c->buf, c->proven};
	}
	return flow;
}

#endif
