/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The two programs that serve every user-space library: `enter` keeps a call's arguments, `leave`
 * reads what the call transferred and sends it up. What differs between libraries, functions and
 * architectures is in a struct ts_rule. Those of sock.h come first: where the kernel has not what
 * they need, that is found out before all others are verified.
 */
#include "records.h"
#include "sock.h"
#include "handshake.h"
#include "life.h"
#include "rows.h"
#include "sites.h"
#include "wanted.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Whether the programs of copy.bpf.c are what is attached: there is no cookie, or it is not used.
 */
const volatile __u32 by_copies SEC(".rodata.copies") = 0;

/* Two: since 6.18 a map is one kind of links' programs'. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} nothing SEC(".maps"), no_session SEC(".maps");

/*
 * Since 6.13 a program of this type may get a stack of its own for each processor, though in a
 * uprobe it can be preempted there by another run of itself. One with a tail call gets none: this
 * one, of what is in no slot, is never more than that.
 */
static __always_inline void keep_stack(void *ctx, void *none, const struct ts_rule *rule, __u32 id)
{
	if (!rule)
		bpf_tail_call(ctx, none, id | 1);
}

/* 0, which is nobody's: not known, since another thread was hit in between. */
static __always_inline __u32 told_rule(void)
{
	__u32 zero = 0;
	struct hit *hit = bpf_map_lookup_elem(&hits, &zero);

	if (hit && hit->thread == bpf_get_current_pid_tgid())
		return hit->rule;
	count(TS_CNT_UNREADABLE, 1);
	return 0;
}

/* The cookie of the site that was hit. */
static __always_inline __u32 site_of(void *ctx)
{
	if (by_copies || !bpf_core_enum_value_exists(enum bpf_func_id___local,
						     BPF_FUNC_get_attach_cookie___local))
		return told_rule();
	return bpf_get_attach_cookie(ctx);
}

/* What the return tells of the bytes transferred; false when it cannot be read. */
static __always_inline bool transferred(const struct ts_rule *rule, const struct call *c, __s64 ret,
					__u64 *len)
{
	*len = 0;
	if (ret <= 0 || rule->ret_mode == TS_RET_FAILS)
		return true;
	if (rule->ret_mode == TS_RET_LEN) {
		*len = ret;
		return true;
	}
	return !bpf_probe_read_user(len, sizeof(*len), (void *)c->out);
}

/* The arguments of the call that begins; false when they cannot be read. */
static __always_inline bool get_call(void *ctx, const struct ts_rule *rule, __u32 site,
				     struct call *n)
{
	if (!get_value(ctx, &rule->buf, (__s64 *)&n->buf) ||
	    !get_value(ctx, &rule->len, (__s64 *)&n->len) ||
	    !get_value(ctx, &rule->out, (__s64 *)&n->out) ||
	    !get_value(ctx, &rule->sp, (__s64 *)&n->sp) ||
	    !get_value(ctx, &rule->ip, (__s64 *)&n->base))
		return false;
	n->base -= rule->entry;
	if (site & TS_SITE_CHEAP) {
		n->sp += rule->sp_back;
		n->base += rule->ip_back;
	}
	n->dir = rule->dir;
	n->nsecs = bpf_ktime_get_ns();
	return true;
}

/*
 * BIO_write, while a call of the library is in flight in this thread: what it writes will be at a
 * socket sooner or later, unless that is known.
 */
__noinline int keep_mark(struct bpf_user_pt_regs_t *ctx, __u32 site)
{
	__u32 id = site & TS_SITE_RULE;
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	__u64 thread = bpf_get_current_pid_tgid(), at = 0, len = 0, sp = 0;
	struct flow *flow = find_flow();
	struct mark mark = {.nsecs = bpf_ktime_get_ns()};
	__u32 pid = thread >> 32, one = 1;
	struct mark_key m;
	struct call *call;
	struct conn *conn;

	if (!rule || !flow || !get_value(ctx, &rule->buf, (__s64 *)&at) ||
	    !get_value(ctx, &rule->len, (__s64 *)&len) || !get_value(ctx, &rule->sp, (__s64 *)&sp))
		return 0;
	if (site & TS_SITE_CHEAP)
		sp += rule->sp_back;
	call = innermost(flow, sp);
	conn = call ? find_conn(call->conn) : 0;
	if (!call || (conn && (conn->socket.sk || conn->doubt || conn->sought >= MOST_SOUGHT)) ||
	    (__s64)len < 0 || !get_mark(&m, pid, at, len))
		return 0;
	mark.conn = call->conn;
	bpf_map_update_elem(&marks, &m, &mark, BPF_ANY);
	bpf_map_update_elem(&marked, &pid, &one, BPF_ANY);
	return 0;
}

static __always_inline void end_conn(const struct ts_rule *rule, __u32 id, __u64 conn)
{
	/* A handshake begins by clearing what was there. */
	if (rule->how == TS_HOW_CLEARED && is_calling(conn))
		return;
	if (control.opens | control.fails)
		give_up_handshake(id, conn);
	send_close(id, conn);
}

static __always_inline void keep_call(void *ctx, const struct ts_rule *rule, struct call *n)
{
	bool result = rule->role == TS_ROLE_RESULT, close = rule->role == TS_ROLE_CLOSE;
	struct flow *flow;

	if (!result && !close && n->subs & (control.opens | control.fails))
		begin_handshake(rule, n);
	/* Its socket may be found, and asked for, while this call is in flight. */
	if (n->subs & control.ends && rule->flow_mode == TS_FLOW_THREAD)
		get_calls_conn(n, false);
	if (rule->flow_mode == TS_FLOW_THREAD) {
		flow = keep_of_thread(n);
		/* What comes now is of this call. */
		if (flow && !result)
			flow->reason = 0;
	} else if (!keep_of_goroutine(ctx, rule, n,
				      !close && n->subs & (~control.aggs | control.aggs_ends |
							   control.ends))) {
		count(TS_CNT_UNREADABLE, 1);
	}
}

/* A hit of an enter site whose values are to be used. False: a call that nobody wants. */
static __always_inline bool use_enter(void *ctx, const struct ts_rule *rule, __u32 site)
{
	struct call n = {.rule = site & TS_SITE_RULE,
			 .cheap = !!(site & TS_SITE_CHEAP),
			 .symbol = !!(site & TS_SITE_SYMBOL)};
	__s64 refs, reason;

	if (rule->role == TS_ROLE_LOADER) {
		send_life(bpf_get_current_pid_tgid() >> 32, TS_LIFE_LOADED);
		return true;
	}
	if (!get_value(ctx, &rule->conn, (__s64 *)&n.conn))
		return true;
	if (rule->role == TS_ROLE_CLOSE && !rule->sp_leave.kind) {
		/* One reference of several is no end. */
		if (!get_value(ctx, &rule->refs, &refs) || refs <= 1)
			end_conn(rule, n.rule, n.conn);
	} else if (rule->role == TS_ROLE_REASON) {
		if (get_value(ctx, &rule->len, &reason))
			note_reason((__s32)n.conn, reason);
	} else if (rule->role == TS_ROLE_BIO) {
		keep_mark(ctx, site);
	} else if (rule->role != TS_ROLE_CLOSE || find_conn(n.conn)) {
		/* A close that is one at its return is kept until then, whoever asks for calls. */
		n.subs = rule->role == TS_ROLE_CLOSE
				 ? ~0ull
				 : wanted(rule, bpf_get_current_pid_tgid() >> 32);
		if (!n.subs) {
			count(TS_CNT_FILTERED, 1);
			return false;
		}
		if (get_call(ctx, rule, site, &n))
			keep_call(ctx, rule, &n);
		else
			count(TS_CNT_UNREADABLE, 1);
	}
	return true;
}

/* False: a call that nobody wants. What is only tested may be kept at the other site. */
static __always_inline bool on_enter(void *ctx, const struct ts_rule *rule, __u32 site)
{
	bool kept;

	if (!rule || !counts(ctx, site))
		return true;
	kept = use_enter(ctx, rule, site);
	if (site & TS_SITE_SYMBOL)
		keep_shown(ctx, site);
	return kept;
}

SEC("uprobe")
int enter(void *ctx)
{
	__u32 site = site_of(ctx), id = site & TS_SITE_RULE;
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);

	keep_stack(ctx, &nothing, rule, id);
	on_enter(ctx, rule, site);
	return 0;
}

/* What a return told. */
struct result {
	__s64 ret;
	__u64 len;
};

/* Takes what a return tells; false: nothing of the call's bytes is to be sent. */
static __always_inline bool get_result(void *ctx, struct ts_rule *rule, struct call *c,
				       struct result *r, const bool once)
{
	c->subs &= control.enabled;
	if (!get_value(ctx, &rule->ret, &r->ret) || !transferred(rule, c, r->ret, &r->len)) {
		count(TS_CNT_UNREADABLE, 1);
		return false;
	}
	look_at_end(rule, c, r->ret, r->len, once);
	c->subs &= rule->calls;
	if (!r->len)
		c->subs &= control.errors;
	return c->subs;
}

/* The call that returns; false: none that is known. *flow: where it is prepared, or NULL. */
static __always_inline bool take_call(void *ctx, const struct ts_rule *rule, __u32 id,
				      struct call *c, struct flow **flow)
{
	__s64 sp;

	*flow = 0;
	if (!get_value(ctx, &rule->sp_leave, &sp))
		return false;
	if (rule->flow_mode == TS_FLOW_GO) {
		*flow = take_of_goroutine(ctx, rule, id, sp, c);
		return c->rule;
	}
	*flow = find_flow();
	if (*flow) {
		(*flow)->g = (*flow)->proof.is = 0;
		take_of_thread(*flow, id, sp, c);
	}
	return c->rule;
}

static __always_inline int end_call(const struct ts_rule *rule, const struct call *c)
{
	if (rule->role == TS_ROLE_CLOSE || leave_conn(c))
		end_conn(rule, c->rule, c->conn);
	return 0;
}

#define LEAST_PAGE 4096 /* of all architectures */
#define MOST_TRIES 400

static long try_pages(__u32 i, void *ctx)
{
	const struct flow *flow = *(struct flow **)ctx;
	__u64 at = flow->sending.buf + flow->off, left = flow->sending.want - flow->off;
	__u8 byte;

	(void)i;
#pragma unroll
	for (i = 0; i < TS_CHUNK; i += LEAST_PAGE)
		if (i < left && bpf_probe_read_user(&byte, 1, (void *)(at + i)))
			return 0;
	left = left < TS_CHUNK ? left : TS_CHUNK;
	return !bpf_probe_read_user(&byte, 1, (void *)(at + left - 1));
}

/*
 * Sends the record with the next bytes of a call whose bytes are in one piece. 1: no more should
 * follow. With `again`: 0, too, when they could not be read, the first time.
 */
static __always_inline long send_record(struct flow *flow, bool again)
{
	__u64 off = flow->off, left = flow->sending.want - off;
	__u64 n = left < TS_CHUNK ? left : TS_CHUNK;
	enum sent sent = send_piece(&flow->sending, off, n, (void *)(flow->sending.buf + off),
				    SPACE_USER, &flow->proof, again && flow->waited <= off);

	if (sent == SENT_NOT)
		return 0;
	flow->off += TS_CHUNK;
	return sent == SENT_LAST;
}

/* Not static: the verifier looks at it once. Since 5.13 such a function can be given memory. */
__noinline int send_once(struct flow *flow)
{
	return flow ? send_record(flow, true) : SENT_LAST;
}

/*
 * A page that the program has just used is not there while the kernel splits a huge one (that
 * another thread gave back a part of, as Go before 1.16 does) or moves it: for some microseconds.
 */
static long send_next(__u32 i, void *ctx)
{
	struct flow *flow = *(struct flow **)ctx;
	__u64 off = flow->off;
	long last = send_once(flow);

	(void)i;
	if (!last && flow->off == off) {
		flow->waited = off + 1;
		bpf_loop(MOST_TRIES, try_pages, ctx, 0);
	}
	/* One bit, for the verifier: clang 19 knows that it is no more. */
	asm volatile("" : "+r"(last));
	return last & 1;
}

__noinline int pick_step(__u64 thread, __u32 i)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, &thread);

	return flow ? pick_sub(&flow->sending, i) : 0;
}

/* The first bytes of a call, which are in one piece. */
static __always_inline void read_begin(struct sending *s)
{
	__u64 n = s->head.len < TS_PREFIX ? s->head.len : TS_PREFIX;

	asm volatile("if %0 <= %1 goto +1\n\t%0 = %1" : "+r"(n) : "i"(TS_PREFIX));
	if (s->buf && !bpf_probe_read_user(s->begin, n, (void *)s->buf))
		s->begin_len = n;
}

__noinline int pick_call(__u64 thread)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, &thread);

	if (flow && flow->sending.head.subs & control.heads)
		read_begin(&flow->sending);
	pick_all(thread);
	return 0;
}

/* What the call that returns has to send, in the thread's flow; false: nothing. */
static __always_inline bool prepare(struct ts_rule *rule, struct call *c, struct flow *flow,
				    __s64 ret, __u64 len, const bool once)
{
	__builtin_memset(&flow->sending, 0, sizeof(flow->sending));
	flow->off = flow->waited = 0;
	return prepare_call(&flow->sending, rule, c, flow->g, ret, len, once);
}

/* As send_once: of all the ways to here the verifier makes one. */
__noinline int prepare_once(struct ts_rule *rule, struct call *c, struct flow *flow, __s64 ret,
			    __u64 len)
{
	return rule && c && flow && prepare(rule, c, flow, ret, len, true);
}

__noinline int agg_step(__u64 thread, __u32 i)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, &thread);

	return flow ? add_to_agg(&flow->sending, i) : 0;
}

static __always_inline int on_leave(void *ctx, struct ts_rule *rule, __u32 id)
{
	struct result r = {};
	struct call c = {};
	struct flow *flow;

	if (!rule || !take_call(ctx, rule, id, &c, &flow))
		return 0;
	if (flow && rule->role != TS_ROLE_CLOSE && get_result(ctx, rule, &c, &r, true) &&
	    prepare_once(rule, &c, flow, r.ret, r.len))
		bpf_loop(1 << 18, send_next, &flow, 0);
	return end_call(rule, &c);
}

SEC("uprobe")
int leave(void *ctx)
{
	__u32 id = site_of(ctx) & TS_SITE_RULE;
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);

	keep_stack(ctx, &nothing, rule, id);
	return on_leave(ctx, rule, id);
}

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

	keep_stack(ctx, &no_session, rule, id);
	if (!rule)
		return 0;
	if (value_of(ctx, *(const __u64 *)&rule->ip, false) == bpf_get_func_ip(ctx))
		return !session_enter(ctx, rule, site);
	return session_leave(ctx, rule, id);
}

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
	__u32 id = site_of(ctx) & TS_SITE_RULE;
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	__u64 thread = bpf_get_current_pid_tgid();
	struct result r = {};
	struct call c = {};
	struct flow *flow;

	if (!rule || !take_call(ctx, rule, id, &c, &flow))
		return 0;
	if (flow && rule->role != TS_ROLE_CLOSE && get_result(ctx, rule, &c, &r, false) &&
	    prepare(rule, &c, flow, r.ret, r.len, false) && !send_steps(thread))
		count(TS_CNT_LOST_BYTES, flow->sending.want - MOST_STEPS * TS_CHUNK);
	return end_call(rule, &c);
}
