/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A call begins: its arguments are kept. What ends at once ends here. */
#ifndef TLSSCOPE_ENTER_H
#define TLSSCOPE_ENTER_H

#include "ends.h"
#include "handshake.h"
#include "life.h"
#include "records.h"
#include "returns.h"
#include "sites.h"
#include "wanted.h"

/* The arguments of the call that begins; false when they cannot be read. */
static __always_inline bool get_call(void *ctx, const struct ts_rule *rule, __u32 site,
				     struct call *n)
{
	if (!load_value(ctx, &rule->buf, (__s64 *)&n->buf) ||
	    !load_value(ctx, &rule->len, (__s64 *)&n->len) ||
	    !load_value(ctx, &rule->out, (__s64 *)&n->out) ||
	    !load_value(ctx, &rule->sp, (__s64 *)&n->sp) ||
	    !load_value(ctx, &rule->ip, (__s64 *)&n->base))
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

/* A thread's call, whose return is to be seen if true. */
static __always_inline bool keep_with_thread(const struct ts_rule *rule, struct call *n)
{
	const bool result = rule->role == TS_ROLE_RESULT;
	struct flow *flow;

	if (in_session && last_return() && would_harm(n->sp, n->conn, n->rule)) {
		miss_call(n->conn);
		return false;
	}
	if (!result && n->subs & outcome_subs())
		begin_handshake(rule, n);
	/* Its socket may be found, and asked for, while this call is in flight. */
	if (n->subs & socket_subs())
		get_calls_conn(n, false);
	flow = keep_of_thread(n);
	if (!flow)
		return false;
	if (counts_at_ends() && (n->watches || n->ends))
		note_begin(n->rule);
	/* What comes now is of this call. */
	if (!result)
		flow->reason = 0;
	return true;
}

static __always_inline void keep_with_goroutine(void *ctx, const struct ts_rule *rule,
						struct call *n)
{
	const bool close = rule->role == TS_ROLE_CLOSE;

	if (!close && n->subs & outcome_subs())
		begin_handshake(rule, n);
	if (!keep_of_goroutine(ctx, rule, n, !close && n->subs & conn_subs()))
		count(TS_CNT_UNREADABLE, 1);
}

static __always_inline bool keep_call(void *ctx, const struct ts_rule *rule, struct call *n)
{
	if (!is_of_go(rule))
		return keep_with_thread(rule, n);
	keep_with_goroutine(ctx, rule, n);
	return false;
}

/* Of a function that has no return to see; false: it is none. */
static __always_inline bool use_moment(void *ctx, const struct ts_rule *rule, __u32 site,
				       __u64 conn)
{
	const __u32 id = site & TS_SITE_RULE;
	__s64 refs, reason;

	if (rule->role == TS_ROLE_CLOSE && !rule->sp_leave.kind) {
		/* One reference of several is no end. */
		if (!get_value(ctx, &rule->refs, &refs) || refs <= 1)
			end_conn(rule, id, conn);
	} else if (rule->role == TS_ROLE_REASON) {
		if (get_value(ctx, &rule->len, &reason))
			note_reason((__s32)conn, reason);
	} else if (rule->role == TS_ROLE_BEGIN) {
		begin_conn(id, conn);
	} else if (rule->role == TS_ROLE_BIO) {
		keep_mark(ctx, site);
	} else {
		return false;
	}
	return true;
}

/* A call, whose return is to be seen if true. */
static __always_inline bool use_call(void *ctx, const struct ts_rule *rule, __u32 site, __u64 conn)
{
	struct call n = {.rule = site & TS_SITE_RULE,
			 .conn = conn,
			 .cheap = !!(site & TS_SITE_CHEAP),
			 .symbol = !!(site & TS_SITE_SYMBOL),
			 .watches = !!(rule->flags & TS_RULE_WATCH),
			 .ends = !!(rule->flags & TS_RULE_ENDS)};

	if (rule->role == TS_ROLE_CLOSE && !find_conn(conn))
		return false;
	if (counts_at_ends() && n.watches)
		note_watched(n.rule);
	/* A close that is one at its return is kept until then, whoever asks for calls. */
	n.subs = rule->role == TS_ROLE_CLOSE ? ~0ull
					     : wanted(rule, bpf_get_current_pid_tgid() >> 32);
	if (!n.subs)
		count(TS_CNT_FILTERED, 1);
	else if (get_call(ctx, rule, site, &n))
		return keep_call(ctx, rule, &n);
	else
		count(TS_CNT_UNREADABLE, 1);
	return false;
}

/* A hit of an enter site whose values are to be used. True: the call's return is to be seen. */
static __always_inline bool use_enter(void *ctx, const struct ts_rule *rule, __u32 site,
				      const bool calls)
{
	__u64 conn;

	if (rule->role == TS_ROLE_LOADER)
		send_life(bpf_get_current_pid_tgid() >> 32, TS_LIFE_LOADED);
	else if (!load_value(ctx, &rule->conn, (__s64 *)&conn))
		count(TS_CNT_UNREADABLE, 1);
	else if (!use_moment(ctx, rule, site, conn) && calls)
		return use_call(ctx, rule, site, conn);
	return false;
}

/*
 * True: the call's return is to be seen. What is only tested may be kept at the other site. calls:
 * there may be some whose returns are seen.
 */
static __always_inline bool on_enter(void *ctx, const struct ts_rule *rule, __u32 site,
				     const bool calls)
{
	bool kept;

	if (!rule)
		return false;
	if (!counts(ctx, site))
		return in_session && calls && is_kept(ctx, site);
	kept = use_enter(ctx, rule, site, calls);
	if (site & TS_SITE_SYMBOL)
		keep_shown(ctx, site);
	return kept;
}

#endif
