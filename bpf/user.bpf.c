/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The two programs that serve every user-space library: `enter` keeps a call's arguments, `leave`
 * reads what the call transferred and sends it up. What differs between libraries, functions and
 * architectures is in a struct ts_rule. Two more programs keep the maps in step with the life of
 * threads and processes.
 */
#include "kernel.h"
#include "tlsscope.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Kernels before 5.15 have no attach cookies: there each rule has a copy of the programs. */
const volatile __u32 fixed_rule = 0;

/* A call in flight. Free when rule is 0. */
struct call {
	__u64 sp, conn, buf, len, out, nsecs, subs;
	__u32 rule, dir;
};

/* The calls in flight of one flow of control; kept until the thread ends. */
struct flow {
	struct call calls[TS_MAX_NEST];
};

struct flow_key {
	__u32 pid, mode;
	__u64 id; /* thread, or what the rule's flow register holds */
};

struct conn {
	__u64 opened;
	__u64 pos[2];
};

/* mm tells a process from one that had its number before, and from itself before an exec. */
struct conn_key {
	__u64 mm, conn;
	__u32 pid, zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TS_MAX_RULES);
	__type(key, __u32);
	__type(value, struct ts_rule);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ts_control);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct ts_filter_id);
	__type(value, struct ts_filter_subs);
} filters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct conn_key);
	__type(value, struct conn);
} conns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TS_CNT_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 23); /* user space sets another */
} ring SEC(".maps");

static const struct flow no_calls;

/* n must not be a constant 0: clang makes that an atomic "or", which kernels before 5.12 refuse. */
static void count(__u32 counter, __u64 n)
{
	__u64 *c = bpf_map_lookup_elem(&counters, &counter);

	/* Another task can run here on the same CPU before this one is done. */
	if (c)
		__sync_fetch_and_add(c, n);
}

static struct ts_control *get_control(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&control, &zero);
}

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

static __always_inline bool get_conn_key(__u64 conn, struct conn_key *key)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	key->pid = bpf_get_current_pid_tgid() >> 32;
	key->zero = 0;
	key->conn = conn;
	return !bpf_core_read(&key->mm, sizeof(key->mm), &task->mm);
}

static struct conn *get_conn(const struct conn_key *key, __u64 now)
{
	struct conn fresh = {.opened = now}, *c = bpf_map_lookup_elem(&conns, key);

	if (c)
		return c;
	bpf_map_update_elem(&conns, key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&conns, key);
}

/*
 * A record with room for `room` bytes, a constant, and the first n of those at `from` in it. *fault
 * tells whether they could not be read.
 */
static __always_inline struct ts_data *take_record(const __u32 room, __u64 n, const void *from,
						   bool *fault)
{
	struct ts_data *d = bpf_ringbuf_reserve(&ring, sizeof(*d) + room, 0);

	if (!d || !room)
		return d;
	/* Always true; the verifier wants to see it of the very register that is used. */
	asm volatile("if %0 <= %1 goto +1\n\t%0 = %1" : "+r"(n) : "i"(room));
	*fault = bpf_probe_read_user(d->payload, n, from) != 0;
	return d;
}

/* The sizes of reservations must be constant: the smallest class that n <= TS_CHUNK fits in. */
static __always_inline struct ts_data *new_record(__u32 n, const void *from, bool *fault)
{
	if (n == 0)
		return take_record(0, 0, from, fault);
	if (n <= 128)
		return take_record(128, n, from, fault);
	if (n <= 512)
		return take_record(512, n, from, fault);
	if (n <= 2048)
		return take_record(2048, n, from, fault);
	if (n <= 4096)
		return take_record(4096, n, from, fault);
	if (n <= 8192)
		return take_record(8192, n, from, fault);
	return take_record(TS_CHUNK, n, from, fault);
}

/* All that the records of one call have in common. */
struct sending {
	__u64 buf;
	__u64 want;	     /* bytes to capture */
	__u64 wake;	     /* flags of the next submit */
	struct ts_data head; /* at the end: its payload is elsewhere */
};

/* Sends the record with the bytes from off on. Returns 1 when no more should follow. */
static __always_inline long send_record(struct sending *s, __u64 off)
{
	__u64 left = s->want - off;
	__u32 n = left < TS_CHUNK ? left : TS_CHUNK;
	bool fault = false;
	struct ts_data *d = new_record(n, (void *)(s->buf + off), &fault);

	if (!d) {
		if (!off)
			count(TS_CNT_LOST_EVENTS, 1);
		count(TS_CNT_LOST_BYTES, off ? left : s->head.len);
		return 1;
	}
	*d = s->head;
	d->off = off;
	if (fault) {
		count(TS_CNT_FAULTS, left);
		d->flags |= TS_DATA_FAULT;
		left = n = 0;
	}
	if (left > n)
		d->flags |= TS_DATA_MORE;
	d->captured = n;
	d->record.size = sizeof(*d) + n;
	if (!off)
		count(TS_CNT_EVENTS, 1);
	count(TS_CNT_BYTES, n);
	bpf_ringbuf_submit(d, s->wake);
	s->wake = BPF_RB_NO_WAKEUP;
	return left <= n;
}

static long send_next(__u32 i, void *ctx)
{
	return send_record(ctx, (__u64)i * TS_CHUNK);
}

/* The consumer is woken once: it says when it sleeps again. */
static __u64 wake_flags(struct ts_control *c)
{
	if (!c->armed)
		return BPF_RB_NO_WAKEUP;
	c->armed = 0;
	return BPF_RB_FORCE_WAKEUP;
}

static __always_inline long send_two(struct sending *s, __u64 off)
{
	return send_record(s, off) || send_record(s, off + TS_CHUNK);
}

/* A kernel without bpf_loop sends no more than this of a call, which then shows as truncated. */
#define OLD_KERNEL_BYTES (8 * TS_CHUNK)

static __always_inline void send(struct sending *s, const bool loops)
{
	if (loops) {
		bpf_loop(1 << 18, send_next, s, 0);
		return;
	}
	if (s->want > OLD_KERNEL_BYTES)
		s->want = OLD_KERNEL_BYTES;
	/*
	 * No loop and no function: old verifiers refuse some layouts of the one ("back-edge"), and
	 * have three times the work with the other.
	 */
	if (!send_two(s, 0) && !send_two(s, 2 * TS_CHUNK) && !send_two(s, 4 * TS_CHUNK))
		send_two(s, 6 * TS_CHUNK);
}

static __always_inline void fill_task(struct ts_data *d)
{
	struct task_struct *task = (void *)bpf_get_current_task(), *parent;
	__u64 id = bpf_get_current_pid_tgid(), user = bpf_get_current_uid_gid();

	d->pid = id >> 32;
	d->tid = id;
	d->uid = user;
	d->gid = user >> 32;
	d->cpu = bpf_get_smp_processor_id();
	d->cgroup = bpf_get_current_cgroup_id();
	if (!bpf_core_read(&parent, sizeof(parent), &task->real_parent))
		bpf_core_read(&d->ppid, sizeof(d->ppid), &parent->tgid);
	bpf_get_current_comm(d->comm, sizeof(d->comm));
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

static __always_inline void set_conn(struct ts_data *d, bool counts)
{
	struct conn_key key;
	struct conn *c = 0;

	if (get_conn_key(d->conn, &key))
		c = get_conn(&key, d->nsecs);
	if (!c) {
		count(TS_CNT_CONNS_FULL, 1);
		return;
	}
	d->conn_opened = c->opened;
	d->pos = c->pos[d->dir & 1];
	/* One direction of a connection is one thread's at a time: the library asks for it. */
	if (counts)
		c->pos[d->dir & 1] += d->len;
}

static __always_inline void send_call(struct ts_control *ctl, const struct ts_rule *rule,
				      const struct call *c, __s64 ret, __u64 len, const bool loops)
{
	struct sending s = {};
	struct ts_data *d = &s.head;

	d->record.type = TS_REC_DATA;
	d->nsecs = bpf_ktime_get_ns();
	d->duration = d->nsecs - c->nsecs;
	d->subs = c->subs;
	d->conn = c->conn;
	d->len = len;
	d->ret = ret;
	d->source = rule->source;
	d->dir = c->dir;
	if (rule->flags & TS_RULE_PEEK)
		d->flags |= TS_DATA_PEEK;
	if (rule->flags & TS_RULE_NODATA)
		d->flags |= TS_DATA_NODATA;
	if (rule->flags & TS_RULE_EARLY)
		d->flags |= TS_DATA_EARLY;
	fill_task(d);
	/* A thread ends no two calls in one nanosecond; the shift is an hour long. */
	d->call = d->nsecs << 22 | (d->tid & ((1 << 22) - 1));
	set_conn(d, !(rule->flags & TS_RULE_PEEK));
	s.buf = c->buf;
	s.want = len < rule->capture || rule->capture == TS_CAPTURE_ALL ? len : rule->capture;
	if (!c->buf || rule->flags & TS_RULE_NODATA)
		s.want = 0;
	s.wake = wake_flags(ctl);
	send(&s, loops);
}

/* The connection ends: tell it, when anything was ever sent of it. */
static __always_inline void send_close(void *ctx, struct ts_control *ctl,
				       const struct ts_rule *rule, __u64 conn)
{
	struct ts_data *d;
	struct conn_key key;
	struct conn *c;
	__s64 refs;

	if (get_value(ctx, &rule->refs, &refs) && refs > 1)
		return;
	if (!get_conn_key(conn, &key))
		return;
	c = bpf_map_lookup_elem(&conns, &key);
	if (!c)
		return;
	d = bpf_ringbuf_reserve(&ring, sizeof(*d), 0);
	if (d) {
		__builtin_memset(d, 0, sizeof(*d));
		d->record.type = TS_REC_CLOSE;
		d->record.size = sizeof(*d);
		d->nsecs = bpf_ktime_get_ns();
		d->conn = conn;
		d->conn_opened = c->opened;
		d->source = rule->source;
		fill_task(d);
		bpf_ringbuf_submit(d, wake_flags(ctl));
	}
	/* Not told: the connection's next record has another conn_opened, which tells the same. */
	bpf_map_delete_elem(&conns, &key);
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

	if (!rule || !ctl || !get_value(ctx, &rule->conn, (__s64 *)&n.conn))
		return 0;
	if (rule->role == TS_ROLE_CLOSE) {
		send_close(ctx, ctl, rule, n.conn);
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
