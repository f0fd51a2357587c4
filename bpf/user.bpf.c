/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The two programs that serve every user-space library: `enter` keeps a call's arguments, `leave`
 * reads what the call transferred and sends it up. What differs between libraries, functions and
 * architectures is in a struct ts_rule. Two more programs keep the maps in step with the life of
 * threads and processes.
 */
#include "send.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * Kernels before 5.15 have no attach cookies: there each rule has a copy of the programs. User
 * space finds it by its section.
 */
const volatile __u32 fixed_rule SEC(".rodata.rule") = 0;

static __always_inline __u32 rule_id(void *ctx)
{
	if (fixed_rule || !bpf_core_enum_value_exists(enum bpf_func_id___local,
						      BPF_FUNC_get_attach_cookie___local))
		return fixed_rule;
	return bpf_get_attach_cookie(ctx);
}

/* Reads a value of a probe hit; false when the process' memory cannot be read. */
static __always_inline bool get_value(void *ctx, const struct ts_value *v, __s64 *out)
{
	__s32 low = 0;
	__u64 reg = 0;

	*out = 0;
	if (v->kind == TS_VAL_NONE)
		return true;
	bpf_probe_read_kernel(&reg, sizeof(reg), ctx + v->reg);
	reg += v->disp;
	if (v->kind == TS_VAL_REG) {
		*out = v->size == 4 ? (__s32)reg : (__s64)reg;
		return true;
	}
	if (v->size == 4) {
		if (bpf_probe_read_user(&low, sizeof(low), (void *)reg))
			return false;
		*out = low;
		return true;
	}
	return !bpf_probe_read_user(out, sizeof(*out), (void *)reg);
}

/* Takes from subs those that this key of the current process does not let pass. */
static __always_inline __u64 filter_key(struct ts_control *c, struct ts_filter_id *id, __u64 subs)
{
	struct ts_filter_subs *f;
	__u32 key = id->key;

	if (key >= TS_KEY_COUNT || !(subs & (c->wants[key] | c->rejects[key])))
		return subs;
	f = bpf_map_lookup_elem(&filters, id);
	if (!f)
		return subs & ~c->wants[key];
	return subs & (~c->wants[key] | f->accept) & ~f->reject;
}

/* The subscriptions that want what the current thread says through this rule. */
static __always_inline __u64 wanted(struct ts_control *c, const struct ts_rule *rule)
{
	struct ts_filter_id id = {};
	__u64 subs = rule->subs & c->enabled;

	id.key = TS_KEY_PID;
	*(__u64 *)id.value = bpf_get_current_pid_tgid() >> 32;
	subs = filter_key(c, &id, subs);
	id.key = TS_KEY_UID;
	*(__u64 *)id.value = (__u32)bpf_get_current_uid_gid();
	subs = filter_key(c, &id, subs);
	id.key = TS_KEY_COMM;
	bpf_get_current_comm(id.value, sizeof(id.value));
	return filter_key(c, &id, subs);
}

static __always_inline bool get_flow_key(void *ctx, const struct ts_rule *rule,
					 struct flow_key *key)
{
	__u64 thread = bpf_get_current_pid_tgid();
	__s64 id = thread;

	key->pid = thread >> 32;
	key->mode = rule->flow_mode;
	if (rule->flow_mode == TS_FLOW_REG && !get_value(ctx, &rule->flow, &id))
		return false;
	key->id = id;
	return true;
}

static struct flow *get_flow(const struct flow_key *key)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, key);

	if (flow)
		return flow;
	if (bpf_map_update_elem(&flows, key, &no_calls, BPF_NOEXIST))
		count(TS_CNT_FLOWS_FULL, 1);
	return bpf_map_lookup_elem(&flows, key);
}

/* Whether n is a call that `outer` makes to do its own work: the same plaintext. */
static __always_inline bool nested(const struct call *outer, const struct call *n)
{
	return outer->conn == n->conn && outer->dir == n->dir && outer->rule != n->rule &&
	       outer->sp >= n->sp && n->buf >= outer->buf && n->buf <= outer->buf + outer->len;
}

/*
 * Keeps a call in a free slot. Calls that never return (a thread that jumps out of them, a stack
 * that is left) hold theirs until the same function is called at the same place again, or until the
 * slots run out: then the oldest is given up, and counted.
 */
static __always_inline void keep_call(struct flow *flow, const struct call *n)
{
	struct call *slot = 0, *c;
	int i;

#pragma unroll
	for (i = 0; i < TS_MAX_NEST; i++) {
		c = &flow->calls[i];
		if (!c->rule) {
			if (!slot || slot->rule)
				slot = c;
			continue;
		}
		if (nested(c, n))
			return;
		if (c->rule == n->rule && c->sp == n->sp) {
			slot = c;
			break;
		}
		if (!slot || (slot->rule && c->nsecs < slot->nsecs))
			slot = c;
	}
	if (!slot)
		return;
	if (slot->rule)
		count(TS_CNT_UNPAIRED, 1);
	*slot = *n;
}

/* What the return tells of the bytes transferred; false when it cannot be read. */
static __always_inline bool transferred(const struct ts_rule *rule, const struct call *c, __s64 ret,
					__u64 *len)
{
	*len = 0;
	if (ret <= 0)
		return true;
	if (rule->ret_mode == TS_RET_LEN) {
		*len = ret;
		return true;
	}
	return !bpf_probe_read_user(len, sizeof(*len), (void *)c->out);
}

SEC("uprobe")
int enter(void *ctx)
{
	__u32 id = rule_id(ctx);
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	struct ts_control *ctl = get_control();
	struct call n = {};
	struct flow_key key;
	struct flow *flow;
	__s64 refs;

	if (!rule || !ctl || !get_value(ctx, &rule->conn, (__s64 *)&n.conn))
		return 0;
	if (rule->role == TS_ROLE_CLOSE) {
		/* One reference of several is no end. */
		if (!get_value(ctx, &rule->refs, &refs) || refs <= 1)
			send_close(ctl, rule, n.conn);
		return 0;
	}
	n.subs = wanted(ctl, rule);
	if (!n.subs) {
		count(TS_CNT_FILTERED, 1);
		return 0;
	}
	if (!get_flow_key(ctx, rule, &key) || !get_value(ctx, &rule->buf, (__s64 *)&n.buf) ||
	    !get_value(ctx, &rule->len, (__s64 *)&n.len) ||
	    !get_value(ctx, &rule->out, (__s64 *)&n.out) ||
	    !get_value(ctx, &rule->sp, (__s64 *)&n.sp)) {
		count(TS_CNT_UNREADABLE, 1);
		return 0;
	}
	flow = get_flow(&key);
	if (!flow)
		return 0;
	n.rule = id;
	n.dir = rule->dir;
	n.nsecs = bpf_ktime_get_ns();
	keep_call(flow, &n);
	return 0;
}

static __always_inline int end_call(void *ctx, const bool loops)
{
	__u32 id = rule_id(ctx);
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	struct ts_control *ctl = get_control();
	struct flow_key key;
	struct flow *flow;
	struct call c = {};
	__s64 sp, ret;
	__u64 len;
	int i;

	if (!rule || !ctl || !get_flow_key(ctx, rule, &key))
		return 0;
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow || !get_value(ctx, &rule->sp_leave, &sp))
		return 0;
#pragma unroll
	for (i = 0; i < TS_MAX_NEST; i++) {
		struct call *slot = &flow->calls[i];

		if (slot->rule == id && (rule->flow_mode == TS_FLOW_REG || slot->sp == (__u64)sp)) {
			c = *slot;
			slot->rule = 0;
			break;
		}
	}
	if (!c.rule)
		return 0;
	c.subs &= ctl->enabled;
	if (!get_value(ctx, &rule->ret, &ret) || !transferred(rule, &c, ret, &len)) {
		count(TS_CNT_UNREADABLE, 1);
		return 0;
	}
	if (!len)
		c.subs &= ctl->errors;
	if (c.subs)
		send_call(ctl, rule, &c, ret, len, loops);
	return 0;
}

SEC("uprobe")
int leave(void *ctx)
{
	return end_call(ctx, true);
}

/* bpf_loop came with 5.17; before 5.13 a callback is refused even where it is never reached. */
SEC("uprobe")
int leave_no_loop(void *ctx)
{
	return end_call(ctx, false);
}

/* A thread's calls in flight, and a process' place in the filters, end with it. */
SEC("raw_tp/sched_process_exit")
int thread_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	__u64 id = bpf_get_current_pid_tgid();
	struct flow_key key = {.pid = id >> 32, .mode = TS_FLOW_THREAD, .id = id};
	struct ts_filter_id filter = {.key = TS_KEY_PID};
	struct ts_control *ctl = get_control();
	struct signal_struct *signal = 0;
	struct ts_filter_subs *f;
	int live = 1;

	bpf_map_delete_elem(&flows, &key);
	if (!ctl || !ctl->follows)
		return 0;
	bpf_core_read(&signal, sizeof(signal), &task->signal);
	bpf_core_read(&live, sizeof(live), &signal->live.counter);
	*(__u64 *)filter.value = id >> 32;
	f = bpf_map_lookup_elem(&filters, &filter);
	if (!live && f && f->follow)
		bpf_map_delete_elem(&filters, &filter);
	return 0;
}

/* The children of a followed process are traced as it is. */
SEC("raw_tp/sched_process_fork")
int process_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *parent = (void *)ctx->args[0], *child = (void *)ctx->args[1];
	struct ts_filter_id id = {.key = TS_KEY_PID};
	struct ts_control *ctl = get_control();
	struct ts_filter_subs subs, *f;
	__u32 from = 0, to = 0;

	if (!ctl || !ctl->follows)
		return 0;
	bpf_core_read(&from, sizeof(from), &parent->tgid);
	bpf_core_read(&to, sizeof(to), &child->tgid);
	if (from == to)
		return 0;
	*(__u64 *)id.value = from;
	f = bpf_map_lookup_elem(&filters, &id);
	if (!f || !f->follow)
		return 0;
	subs.accept = subs.follow = f->follow;
	subs.reject = f->reject;
	*(__u64 *)id.value = to;
	bpf_map_update_elem(&filters, &id, &subs, BPF_ANY);
	return 0;
}
