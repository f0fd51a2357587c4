/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A call returns: what it transferred is read, and sent up. */
#ifndef TLSSCOPE_LEAVE_H
#define TLSSCOPE_LEAVE_H

#include "ends.h"
#include "handshake.h"
#include "rows.h"

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

#define MOST_IN_RECORD 16384 /* bytes, of TLS */

/*
 * A call transferred nothing, it says. A write has sent those of its records that the socket took
 * as a whole; the kernel makes them as small as it needs. Where only aggregations want calls,
 * nobody knows what comes later.
 */
static __always_inline void look_at_failure(const struct ts_rule *rule, const struct call *c)
{
	const __u64 known = conn_subs() | pick_subs();

	if (rule->role == TS_ROLE_CALL && rule->flow_mode == TS_FLOW_THREAD && c->dir == TS_OUT &&
	    ((__s64)c->len > MOST_IN_RECORD || c->ktls) && c->subs & known)
		keep_unfinished(c->rule, c->conn, c->nsecs);
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
	if (!load_value(ctx, &rule->ret, &r->ret) || !transferred(rule, c, r->ret, &r->len)) {
		count(TS_CNT_UNREADABLE, 1);
		return false;
	}
	look_at_end(rule, c, r->ret, r->len, once);
	c->subs &= rule->calls;
	if (!r->len) {
		look_at_failure(rule, c);
		c->subs &= control.errors;
	}
	return c->subs;
}

/* The call that returns; false: none that is known. *flow: where it is prepared, or NULL. */
static __always_inline bool take_call(void *ctx, const struct ts_rule *rule, __u32 id,
				      struct call *c, struct flow **flow)
{
	__s64 sp;

	*flow = 0;
	if (!load_value(ctx, &rule->sp_leave, &sp))
		return false;
	if (is_of_go(rule)) {
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

/* Whether a close that returns is that of the connection which is there now. */
static __always_inline bool was_there(const struct call *close)
{
	struct conn *conn = find_conn(close->conn);

	return conn && conn->opened <= close->nsecs;
}

static __always_inline int end_call(const struct ts_rule *rule, const struct call *c)
{
	if (rule->role == TS_ROLE_CLOSE ? was_there(c) : leave_conn(c))
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
	enum sent sent =
		send_piece(&flow->sending, off, n, (void *)(flow->sending.buf + off), SPACE_USER,
			   in_session ? 0 : &flow->proof, again && flow->waited <= off);

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

	return flow ? add_to_agg(&flow->sending.head, &flow->sending.ends, i) : 0;
}

static __always_inline int on_leave(void *ctx, struct ts_rule *rule, __u32 id)
{
	struct result r = {};
	struct call c = {};
	struct flow *flow;
	bool some;

	if (!rule || !take_call(ctx, rule, id, &c, &flow))
		return 0;
	some = flow && rule->role != TS_ROLE_CLOSE && get_result(ctx, rule, &c, &r, true);
	if (counts_at_ends() && (c.watches || c.ends) && !note_return(&c, r.len))
		c.subs &= ~control.counted;
	if (some && c.subs && prepare_once(rule, &c, flow, r.ret, r.len) && !send_once(flow))
		bpf_loop(1 << 18, send_next, &flow, 0);
	return end_call(rule, &c);
}

#endif
