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

/* Places in struct ts_shake, which is an array of members but for its end. */
#define MEMBER(name) (__builtin_offsetof(struct ts_shake, name) / sizeof(struct ts_member))
#define MEMBERS (__builtin_offsetof(struct ts_shake, flags) / sizeof(struct ts_member))
#define UNKNOWN (~0ull) /* or memory that is not there */

/*
 * What a connection's member says, of the rule with this number. Not static: the verifier looks at
 * it once, not once a call of it.
 */
__noinline __u64 read_member(__u32 id, __u64 member, __u64 conn)
{
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	const struct ts_member *m;
	__u64 at = conn, value = 0, size;
	__u32 i;

	if (!rule)
		return UNKNOWN;
	/* Always true; the verifier wants to see it of the very register that is used. */
	asm volatile("if %0 < %1 goto +1\n\t%0 = 0" : "+r"(member) : "i"(MEMBERS));
	m = (const struct ts_member *)&rule->shake + member;
	size = m->size;
	/* Not read twice: what was compared is what is used. */
	asm volatile("" : "+r"(size));
	if (!size || size > 8)
		return UNKNOWN;
	for (i = 0; i < TS_WALK_STEPS; i++) {
		at += m->walk.offsets[i];
		if (i + 1 >= m->walk.steps)
			return bpf_probe_read_user(&value, size, (void *)at) ? UNKNOWN : value;
		if (bpf_probe_read_user(&at, sizeof(at), (void *)at) || !at)
			return UNKNOWN;
	}
	return UNKNOWN;
}

static __always_inline bool in_handshake(const struct ts_rule *rule, __u32 id, __u64 conn)
{
	const struct ts_shake *s = &rule->shake;
	__u64 busy;

	if (s->type.size && read_member(id, MEMBER(type), conn))
		return false;
	busy = read_member(id, MEMBER(busy), conn);
	return busy != UNKNOWN && !busy == !!(s->flags & TS_SHAKE_DONE);
}

/* A call begins whose connection may be in a handshake, or that may fail. */
static __always_inline void begin_handshake(struct ts_control *ctl, const struct ts_rule *rule,
					    struct call *n)
{
	struct conn *c;

	n->shakes = in_handshake(rule, n->rule, n->conn);
	if (!n->shakes && !(n->subs & ctl->fails))
		return;
	c = get_conn(rule, n, false);
	if (!c)
		return;
	c->failed = 0;
	if (!n->shakes)
		return;
	c->subs |= n->subs;
	if (c->shake)
		return;
	/* One after the first bytes is no beginning. */
	c->shake = c->pos[TS_IN] | c->pos[TS_OUT] ? SHAKE_TOLD : SHAKE_RUNS;
	if (!rule->shake.before.size || !read_member(n->rule, MEMBER(before), n->conn))
		c->began = n->nsecs;
}

static __always_inline void read_text(__u32 id, __u32 at, __u32 length, bool has_length, __u64 conn,
				      char *out, const __u32 room)
{
	__u64 text = read_member(id, at, conn), n;

	if (!text || text == UNKNOWN)
		return;
	if (!has_length) {
		bpf_probe_read_user_str(out, room, (void *)text);
		return;
	}
	n = read_member(id, length, conn);
	if (!n || n >= room)
		return;
	asm volatile("if %0 <= %1 goto +1\n\t%0 = %1" : "+r"(n) : "i"(room - 1));
	bpf_probe_read_user(out, n, (void *)text);
}

static __always_inline void read_shake(struct ts_open *o, const struct ts_shake *s, __u32 id,
				       __u64 conn)
{
	__u64 v;

	v = read_member(id, MEMBER(version), conn);
	if (v != UNKNOWN)
		o->version = v;
	v = read_member(id, MEMBER(cipher), conn);
	if (v != UNKNOWN)
		o->cipher = v;
	v = read_member(id, MEMBER(server), conn);
	if (v != UNKNOWN)
		o->role = !v == !(s->flags & TS_SHAKE_CLIENT) ? TS_CLIENT : TS_SERVER;
	v = o->what & TS_OPEN_DONE ? read_member(id, MEMBER(resumed), conn) : UNKNOWN;
	if (v != UNKNOWN)
		o->resumed = v ? TS_YES : TS_NO;
	v = read_member(id, MEMBER(verify), conn);
	if (v != UNKNOWN)
		o->verify = v;
	if (o->what & TS_OPEN_DONE)
		read_text(id, MEMBER(alpn), MEMBER(alpn_len), s->alpn_len.size, conn, o->alpn,
			  sizeof(o->alpn));
	read_text(id, MEMBER(sni), MEMBER(sni_len), s->sni_len.size, conn, o->sni, sizeof(o->sni));
	if (!o->sni[0] && o->resumed == TS_YES)
		read_text(id, MEMBER(kept_sni), MEMBER(sni_len), s->sni_len.size, conn, o->sni,
			  sizeof(o->sni));
}

/* What a call found out, for those of subs that want it. */
struct outcome {
	__u64 subs;
	__u32 what;   /* enum ts_open_what */
	__u32 result; /* what SSL_get_error said; 0: not asked */
	__u32 reason; /* of the library's error; 0: none */
};

static __always_inline void send_open(struct ts_control *ctl, const struct ts_rule *rule,
				      const struct call *call, struct conn *c, __s64 ret,
				      const struct outcome *out)
{
	__u64 subs = out->subs & ctl->ends ? filter_conn(out->subs, call->conn) : out->subs;
	struct ts_data *d;
	struct ts_open *o;

	if (out->what & (TS_OPEN_FAILED | TS_OPEN_ERROR))
		c->failed = 1;
	if (!subs) {
		count(TS_CNT_FILTERED, 1);
		return;
	}
	d = bpf_ringbuf_reserve(&ring, sizeof(*d) + sizeof(*o), 0);
	if (!d) {
		count(TS_CNT_LOST_EVENTS, 1);
		return;
	}
	o = (void *)(d + 1);
	__builtin_memset(d, 0, sizeof(*d));
	__builtin_memset(o, 0, sizeof(*o));
	fill_call(d, rule, call, ret, 0);
	d->record.type = TS_REC_OPEN;
	d->record.size = sizeof(*d) + sizeof(*o);
	d->captured = sizeof(*o);
	d->subs = subs;
	d->fd = c->fd;
	d->conn_opened = c->opened;
	o->what = out->what;
	o->result = out->result;
	o->reason = out->reason;
	if (out->what & (TS_OPEN_DONE | TS_OPEN_FAILED)) {
		/* A read that brought bytes may have waited for them after the handshake. */
		o->timed = c->began && !(ret > 0 && rule->role == TS_ROLE_CALL && !rule->dir);
		d->duration = o->timed ? d->nsecs - c->began : 0;
	}
	read_shake(o, &rule->shake, call->rule, call->conn);
	count(TS_CNT_EVENTS, 1);
	bpf_ringbuf_submit(d, wake_flags(ctl));
}

/* The first error of the library since this thread's last call began. */
static __always_inline __u32 noted_reason(void)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct flow *flow = bpf_map_lookup_elem(&flows, &thread);

	return flow ? flow->reason : 0;
}

/* A call returns: its handshake may be done, or may have failed, and so may the call. */
static __always_inline void end_handshake(struct ts_control *ctl, const struct ts_rule *rule,
					  const struct call *call, __s64 ret, __u64 len)
{
	struct outcome out = {};
	struct conn *c;

	if (len && !call->shakes)
		return;
	c = find_conn(call->conn);
	if (!c)
		return;
	/* Where it fails or ends later, nobody may be there who could be asked. */
	if (!c->ends.family)
		tell_addresses(ctl, rule, call, c);
	if (!in_handshake(rule, call->rule, call->conn)) {
		if (call->shakes && c->shake == SHAKE_RUNS)
			out.what = TS_OPEN_DONE;
	} else if (!len) {
		out.reason = rule->flow_mode == TS_FLOW_THREAD ? noted_reason() : 0;
		if (out.reason || (rule->ret_mode == TS_RET_FAILS && ret))
			out.what = c->shake == SHAKE_RUNS ? TS_OPEN_FAILED | TS_OPEN_ERROR
							  : TS_OPEN_ERROR;
	}
	if (out.what & (TS_OPEN_DONE | TS_OPEN_FAILED)) {
		c->shake = SHAKE_TOLD;
		out.subs = call->subs & ctl->opens;
	}
	if (out.what & TS_OPEN_ERROR) {
		c->how = TS_HOW_ERROR;
		out.subs |= call->subs & ctl->fails;
	}
	if (out.subs)
		send_open(ctl, rule, call, c, ret, &out);
}

/* SSL_get_error returns: what it says of the call before is certain. */
static __always_inline void end_result(struct ts_control *ctl, const struct ts_rule *rule,
				       const struct call *call, __s64 ret)
{
	struct outcome out = {.what = TS_OPEN_ERROR, .result = ret};
	struct conn *c = find_conn(call->conn);

	if (!c || c->failed)
		return;
	if (ret == RESULT_CLOSED)
		c->how = TS_HOW_NOTIFIED;
	/* Of 0 it may mean nothing: that nothing was to be written. */
	if (ret != RESULT_SSL && (ret != RESULT_SYSCALL || (__s64)call->len >= 0))
		return;
	c->how = TS_HOW_ERROR;
	out.subs = call->subs & ctl->fails;
	out.reason = ret == RESULT_SSL ? noted_reason() : 0;
	if (c->shake == SHAKE_RUNS) {
		c->shake = SHAKE_TOLD;
		out.what |= TS_OPEN_FAILED;
		out.subs |= call->subs & ctl->opens;
	}
	if (out.subs)
		send_open(ctl, rule, call, c, 0, &out);
}

/* A connection ends before its handshake did. */
static __always_inline void give_up_handshake(struct ts_control *ctl, const struct ts_rule *rule,
					      __u32 id, __u64 conn)
{
	struct call call = {.conn = conn, .rule = id};
	struct conn *c = find_conn(conn);
	struct outcome out = {.what = TS_OPEN_FAILED | TS_OPEN_ERROR | TS_OPEN_GIVEN_UP};

	if (!c || c->shake != SHAKE_RUNS || c->calls)
		return;
	out.subs = c->subs & ctl->enabled & (ctl->opens | ctl->fails);
	if (out.subs)
		send_open(ctl, rule, &call, c, 0, &out);
}

/* The library notes an error in its thread's queue: the first one is the cause. */
static __always_inline void note_reason(__s64 lib, __s64 reason)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct flow *flow = bpf_map_lookup_elem(&flows, &thread);

	if (flow && lib == ERR_LIB_SSL && !flow->reason)
		flow->reason = reason;
}

#endif
