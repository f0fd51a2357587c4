/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Handshakes: whether a connection is in one, its library says, before a call and after it; and
 * calls that failed, as the library's own functions tell.
 */
#ifndef TLSSCOPE_HANDSHAKE_H
#define TLSSCOPE_HANDSHAKE_H

#include "calls.h"
#include "send.h"

#define ERR_LIB_SSL 20 /* openssl/err.h */
/* openssl/ssl.h: SSL_get_error's values */
enum { RESULT_SSL = 1, RESULT_SYSCALL = 5, RESULT_CLOSED = 6 };

/* What a connection's member says: `in_rule` is where the rule with this number has it. */
#define MEMBER(name) IN_RULE(shake.name)
static __always_inline __u64 read_member(const struct ts_rule *rule, __u32 id, const __u32 in_rule,
					 __u64 conn)
{
	const struct ts_member *m = (void *)rule + in_rule;

	return follow(id, in_rule + __builtin_offsetof(struct ts_member, walk), conn, m->size);
}

/*
 * As SSL_is_init_finished says it: SSL_in_init alone says false while early data is sent or read,
 * in the middle of a handshake.
 */
static __always_inline bool in_handshake(const struct ts_rule *rule, __u32 id, __u64 conn)
{
	const struct ts_shake *s = &rule->shake;
	__u64 busy, state;
	bool shakes;

	if (s->type.size && read_member(rule, id, MEMBER(type), conn))
		return false;
	busy = read_member(rule, id, MEMBER(busy), conn);
	shakes = busy != UNKNOWN && !busy == !!(s->flags & TS_SHAKE_DONE);
	if (shakes || busy == UNKNOWN || !s->state.size)
		return shakes;
	state = read_member(rule, id, MEMBER(state), conn);
	return state != UNKNOWN && state != TS_STATE_OK;
}

/* A call begins whose connection may be in a handshake, or that may fail. */
static __always_inline void begin_handshake(const struct ts_rule *rule, struct call *n)
{
	struct conn *c;

	n->shakes = in_handshake(rule, n->rule, n->conn);
	if (!n->shakes && !(n->subs & control.fails))
		return;
	if (n->shakes)
		forget_ended(n->conn);
	c = get_conn(n, false);
	if (!c)
		return;
	c->failed = c->negative = 0;
	if (!n->shakes)
		return;
	c->subs |= n->subs;
	if (c->shake)
		return;
	/* One after the first bytes is no beginning. */
	c->shake = c->pos[TS_IN] | c->pos[TS_OUT] ? SHAKE_TOLD : SHAKE_RUNS;
	if (!rule->shake.state.size ||
	    read_member(rule, n->rule, MEMBER(state), n->conn) == TS_STATE_BEFORE)
		c->began = n->nsecs;
}

static __always_inline void read_text(const struct ts_rule *rule, __u32 id, const __u32 at,
				      const __u32 length, bool has_length, __u64 conn, char *out,
				      const __u32 room)
{
	__u64 text = read_member(rule, id, at, conn), n;

	if (!text || text == UNKNOWN)
		return;
	if (!has_length) {
		bpf_probe_read_user_str(out, room, (void *)text);
		return;
	}
	n = read_member(rule, id, length, conn);
	if (!n || n >= room)
		return;
	asm volatile("if %0 <= %1 goto +1\n\t%0 = %1" : "+r"(n) : "i"(room - 1));
	bpf_probe_read_user(out, n, (void *)text);
}

static __always_inline void read_shake(struct ts_open *o, const struct ts_rule *rule, __u32 id,
				       __u64 conn)
{
	const struct ts_shake *s = &rule->shake;
	__u64 v;

	v = read_member(rule, id, MEMBER(version), conn);
	if (v != UNKNOWN)
		o->version = v;
	v = read_member(rule, id, MEMBER(cipher), conn);
	if (v != UNKNOWN)
		o->cipher = v;
	v = read_member(rule, id, MEMBER(server), conn);
	if (v != UNKNOWN)
		o->role = !v == !(s->flags & TS_SHAKE_CLIENT) ? TS_CLIENT : TS_SERVER;
	v = o->what & TS_OPEN_DONE ? read_member(rule, id, MEMBER(resumed), conn) : UNKNOWN;
	if (v != UNKNOWN)
		o->resumed = v ? TS_YES : TS_NO;
	v = read_member(rule, id, MEMBER(verify), conn);
	if (v != UNKNOWN)
		o->verify = v;
	if (o->what & TS_OPEN_DONE)
		read_text(rule, id, MEMBER(alpn), MEMBER(alpn_len), s->alpn_len.size, conn, o->alpn,
			  sizeof(o->alpn));
	read_text(rule, id, MEMBER(sni), MEMBER(sni_len), s->sni_len.size, conn, o->sni,
		  sizeof(o->sni));
	if (!o->sni[0] && o->resumed == TS_YES)
		read_text(rule, id, MEMBER(kept_sni), MEMBER(sni_len), s->sni_len.size, conn,
			  o->sni, sizeof(o->sni));
}

/* What a call found out. */
union outcome {
	struct {
		__u32 reason; /* of the library's error; 0: none */
		__u16 rule;
		__u8 what;   /* enum ts_open_what */
		__u8 result; /* what SSL_get_error said; 0: not asked */
	};
	__u64 number;
};

/* For those of subs that want it, of a call that began at nsecs. */
__noinline int send_open(__u64 conn, __u64 outcome, __s64 ret, __u64 nsecs, __u64 subs)
{
	const union outcome out = {.number = outcome};
	struct call call = {.conn = conn, .nsecs = nsecs};
	__u32 id = out.rule;
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	struct conn *c = find_conn(conn);
	const __u64 now = bpf_ktime_get_ns();
	struct ts_data *d;
	struct ts_open *o;

	if (!rule || !c)
		return 0;
	d = reserve(sizeof(*d) + sizeof(*o));
	if (!d) {
		count(TS_CNT_LOST_EVENTS, 1);
		return 0;
	}
	/* What follows calls functions that are not static, as still_true does. */
	leave_processor();
	call.dir = rule->dir;
	o = (void *)(d + 1);
	__builtin_memset(d, 0, sizeof(*d));
	__builtin_memset(o, 0, sizeof(*o));
	fill_call(d, rule, &call, ret, 0);
	d->nsecs = now;
	d->record.type = TS_REC_OPEN;
	d->record.size = sizeof(*d) + sizeof(*o);
	d->captured = sizeof(*o);
	d->subs = subs;
	d->fd = c->fd;
	d->conn_opened = c->opened;
	o->what = out.what;
	o->result = out.result;
	o->reason = out.reason;
	if (out.what & (TS_OPEN_DONE | TS_OPEN_FAILED)) {
		/* A read that brought bytes may have waited for them after the handshake. */
		o->timed = c->began && !(ret > 0 && rule->role == TS_ROLE_CALL && !rule->dir);
		d->duration = o->timed ? d->nsecs - c->began : 0;
	}
	read_shake(o, rule, id, conn);
	count(TS_CNT_EVENTS, 1);
	bpf_ringbuf_submit(d, wake_flags());
	return 0;
}

/* The first error of the library since this thread's last call began. */
static __always_inline __u32 noted_reason(void)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct flow *flow = bpf_map_lookup_elem(&flows, &thread);

	return flow ? flow->reason : 0;
}

/* As send_open, where anybody wants it whom the connection's ends let. */
static __always_inline void tell_open(struct conn *c, __u64 conn, const union outcome *out,
				      __s64 ret, __u64 nsecs, __u64 subs)
{
	if (!subs)
		return;
	if (out->what & (TS_OPEN_FAILED | TS_OPEN_ERROR))
		c->failed = 1;
	if (subs & socket_subs())
		subs = filter_conn(subs, conn);
	if (subs)
		send_open(conn, out->number, ret, nsecs, subs);
	else
		count(TS_CNT_FILTERED, 1);
}

/* What tell_end is told of a call, with its rule's number. */
#define END_SHAKES (1u << 16)	/* it began in a handshake */
#define END_BYTES (1u << 17)	/* it transferred some */
#define END_NEGATIVE (1u << 18) /* TS_ROLE_RESULT: the value that was asked about */

/* A call returns: its handshake may be done, or may have failed, and so may the call. */
static __always_inline void end_handshake(const struct ts_rule *rule, __u64 conn, struct conn *c,
					  __u32 end, __s64 ret, union outcome *out)
{
	if (!in_handshake(rule, out->rule, conn)) {
		if (end & END_SHAKES && c->shake == SHAKE_RUNS)
			out->what = TS_OPEN_DONE;
	} else if (!(end & END_BYTES)) {
		out->reason = rule->flow_mode == TS_FLOW_THREAD ? noted_reason() : 0;
		if (out->reason || (rule->ret_mode == TS_RET_FAILS && ret))
			out->what = c->shake == SHAKE_RUNS ? TS_OPEN_FAILED | TS_OPEN_ERROR
							   : TS_OPEN_ERROR;
	}
	if (out->what & TS_OPEN_ERROR)
		c->how = TS_HOW_ERROR;
}

/* SSL_get_error returns: what it says of the call before is certain. */
static __always_inline void end_result(struct conn *c, __u32 end, __s64 ret, union outcome *out)
{
	if (c->failed)
		return;
	/* After a fatal alert the library says so too. */
	if (ret == RESULT_CLOSED && c->how != TS_HOW_ERROR)
		c->how = TS_HOW_NOTIFIED;
	/* Asked about 0 it may mean nothing, that nothing was to be written; or it is
	 * SSL_read_ex's. */
	if (ret != RESULT_SSL && (ret != RESULT_SYSCALL || !(end & END_NEGATIVE || c->negative)))
		return;
	c->how = TS_HOW_ERROR;
	out->what = TS_OPEN_ERROR;
	out->result = ret;
	out->reason = ret == RESULT_SSL ? noted_reason() : 0;
	if (c->shake == SHAKE_RUNS)
		out->what |= TS_OPEN_FAILED;
}

/* Tells, if anybody wants to know, how a call ended that began at nsecs. */
__noinline int tell_end(__u64 conn, __u32 end, __s64 ret, __u64 nsecs, __u64 subs)
{
	union outcome out = {.rule = end & TS_SITE_RULE};
	__u32 id = out.rule;
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	struct conn *c = find_conn(conn);
	__u64 wanting = 0;

	if (!rule || !c)
		return 0;
	if (rule->role == TS_ROLE_RESULT) {
		end_result(c, end, ret, &out);
		ret = 0;
	} else {
		c->negative = ret < 0;
		end_handshake(rule, conn, c, end, ret, &out);
	}
	if (out.what & (TS_OPEN_DONE | TS_OPEN_FAILED)) {
		c->shake = SHAKE_TOLD;
		wanting = subs & control.opens;
	}
	if (out.what & TS_OPEN_ERROR)
		wanting |= subs & control.fails;
	tell_open(c, conn, &out, ret, nsecs, wanting);
	return 0;
}

/* Of a call that returned: whether anything is to be told. */
static __always_inline void look_at_end(struct ts_rule *rule, struct call *call, __s64 ret,
					__u64 len, const bool once)
{
	const bool result = asked & TS_ASK_OUTCOMES && rule->role == TS_ROLE_RESULT;
	__u32 end = call->rule;
	struct conn *c;

	if (!result && (!(call->subs & outcome_subs()) || (len && !call->shakes)))
		return;
	if (!result) {
		c = find_conn(call->conn);
		/* Where it fails or ends later, nobody may be there who could be asked. */
		if (c && (!c->ends.family || c->fd == FD_UNREAD)) {
			if (once)
				tell_addresses_once(rule, call, c);
			else
				tell_addresses(rule, call, c);
		}
	}
	end |= call->shakes ? END_SHAKES : 0;
	end |= len ? END_BYTES : 0;
	end |= (__s64)call->len < 0 ? END_NEGATIVE : 0;
	tell_end(call->conn, end, ret, call->nsecs, call->subs);
}

/* A connection ends before its handshake did. */
__noinline int give_up_handshake(__u32 id, __u64 conn)
{
	union outcome out = {.rule = id, .what = TS_OPEN_FAILED | TS_OPEN_ERROR | TS_OPEN_GIVEN_UP};
	struct conn *c = find_conn(conn);
	__u64 subs;

	if (!c || c->shake != SHAKE_RUNS || c->unseen || c->calls)
		return 0;
	subs = c->subs & control.enabled & outcome_subs();
	tell_open(c, conn, &out, 0, 0, subs);
	return 0;
}

/* The library notes an error in its thread's queue: the first one is the cause. */
static __always_inline void note_reason(__s64 lib, __s64 reason)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct flow *flow = bpf_map_lookup_elem(&flows, &thread);

	if (flow && lib == ERR_LIB_SSL && !flow->reason)
		flow->reason = reason;
}

/*
 * A connection shakes hands. Where it has no version yet it is new, and what is known is of another
 * one, which was at its address: Go's collector takes what nobody closed. Of calls in flight, which
 * may have begun the handshake, all are the new one's. Where the version is not known, a call in
 * flight may as well do it once more.
 */
__noinline int begin_conn(__u32 id, __u64 conn)
{
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	struct conn fresh = {.opened = bpf_ktime_get_ns(), .fd = FD_UNREAD};
	struct conn *c = find_conn(conn);
	__u64 version;

	forget_ended(conn);
	if (!rule || !c || !c->used)
		return 0;
	version = read_member(rule, id, MEMBER(version), conn);
	if (version == UNKNOWN ? c->calls : version)
		return 0;
	fresh.calls = c->calls;
	fresh.subs = c->subs;
	if (outcome_subs()) {
		fresh.shake = SHAKE_RUNS;
		fresh.began = fresh.opened;
	}
	*c = fresh;
	return 0;
}

/* A write failed that may have sent some of its records; in a handshake it has sent none. */
__noinline int keep_unfinished(__u32 id, __u64 conn, __u64 nsecs)
{
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	struct conn *c = find_conn(conn);
	struct conn_key key;

	if (!c) {
		new_conn(conn, nsecs, false);
		c = find_conn(conn);
	}
	if (!rule || !c || in_handshake(rule, id, conn))
		return 0;
	get_conn_key(conn, &key);
	bpf_map_update_elem(&unfinished, &key, c, BPF_ANY);
	return 0;
}

/* The connection ends: nobody was shown what such a write has sent, if it was the last one. */
__noinline int count_unfinished(__u64 conn)
{
	struct conn *c = find_conn(conn);
	struct ts_progress *was;
	struct conn_key key;

	get_conn_key(conn, &key);
	was = bpf_map_lookup_elem(&unfinished, &key);
	if (!was)
		return 0;
	if (c && c->opened == was->opened && c->pos[TS_OUT] == was->pos[TS_OUT])
		count(TS_CNT_UNFINISHED, 1);
	bpf_map_delete_elem(&unfinished, &key);
	return 0;
}

/* A function that may end a connection says so. */
static __always_inline void end_conn(const struct ts_rule *rule, __u32 id, __u64 conn)
{
	/* A handshake begins by clearing what was there. */
	if (rule->how == TS_HOW_CLEARED && is_calling(conn))
		return;
	if (outcome_subs())
		give_up_handshake(id, conn);
	if (rule->flow_mode == TS_FLOW_THREAD)
		forget_calls(conn);
	count_unfinished(conn);
	send_close(id, conn);
}

#endif
