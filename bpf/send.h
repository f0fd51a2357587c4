/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a call that is over to records in the ring buffer. */
#ifndef TLSSCOPE_SEND_H
#define TLSSCOPE_SEND_H

#include "agg.h"
#include "picks.h"
#include "proof.h"
#include "socket.h"
#include "wanted.h"

/* Where bytes are. */
enum space { SPACE_USER, SPACE_KERNEL, SPACE_NONE /* nowhere that can be read */ };

/*
 * A record with room for `room` bytes, a constant, and the first n of those at `from` in it; piece:
 * one of several. *fault is not 0 where they could not be read.
 */
static __always_inline struct ts_data *take_record(const __u32 room, __u64 n, const void *from,
						   enum space space, bool piece, long *fault)
{
	struct ts_data *d = piece ? reserve_large(sizeof(*d) + room) : reserve(sizeof(*d) + room);

	if (!d || !room)
		return d;
	/* Always true; the verifier wants to see it of the very register that is used. */
	asm volatile("if %0 <= %1 goto +1\n\t%0 = %1" : "+r"(n) : "i"(room));
	if (space == SPACE_USER)
		*fault = bpf_probe_read_user(d->payload, n, from);
	else
		*fault = bpf_probe_read_kernel(d->payload, n, from);
	return d;
}

/* The sizes of reservations must be constant: the smallest class that n <= TS_CHUNK fits in. */
static __always_inline struct ts_data *new_record(__u64 n, const void *from, enum space space,
						  bool piece, long *fault)
{
	if (n == 0)
		return take_record(0, 0, from, space, piece, fault);
	if (n <= 128)
		return take_record(128, n, from, space, piece, fault);
	if (n <= 512)
		return take_record(512, n, from, space, piece, fault);
	if (n <= 1024)
		return take_record(1024, n, from, space, piece, fault);
	if (n <= 2048)
		return take_record(2048, n, from, space, piece, fault);
	if (n <= 4096)
		return take_record(4096, n, from, space, piece, fault);
	if (n <= 8192)
		return take_record(8192, n, from, space, piece, fault);
	return take_record(TS_CHUNK, n, from, space, piece, fault);
}

enum sent { SENT, SENT_LAST /* no more should follow */, SENT_NOT /* could not be read */ };

/*
 * Sends a record with n bytes at `from`, which are the call's from off on; n <= TS_CHUNK. What
 * could not be read, or is not what `proof` says, is counted and told of, by a record without
 * bytes; with `again`, nothing is done then. For the verifier a record of each size is another:
 * what is done with it has few branches.
 */
static __always_inline enum sent send_piece(struct sending *s, __u64 off, __u64 n, const void *from,
					    enum space space, const struct proof *proof, bool again)
{
	volatile struct sent_piece *p = &s->piece;
	__u64 left = s->want - off;
	struct ts_data *d;
	long fault = 0;

	*p = (struct sent_piece){off, n, left, off || left > n};
	d = new_record(n, from, space, off || left > n, &fault);
	/* From here on the verifier does not know them, and sees the same way once. */
	off = p->off;
	n = p->n;
	left = p->left;
	if (d && (fault || space == SPACE_NONE || !still_true(proof))) {
		discard(d, BPF_RB_NO_WAKEUP);
		if (again)
			return SENT_NOT;
		fault = 1;
		n = 0;
		d = take_record(0, 0, 0, SPACE_NONE, p->several, &fault);
	}
	if (!d) {
		if (!off)
			count(TS_CNT_LOST_EVENTS, 1);
		count(TS_CNT_LOST_BYTES, off ? left : s->head.len);
		return SENT_LAST;
	}
	*d = s->head;
	d->off = off;
	d->flags |= fault ? TS_DATA_FAULT : left > n ? TS_DATA_MORE : 0;
	d->captured = n;
	d->record.size = sizeof(*d) + n;
	submit(d, off ? BPF_RB_NO_WAKEUP : wake_flags());
	if (fault)
		count(TS_CNT_FAULTS, left);
	count_sent(!off, n);
	return fault || left <= n ? SENT_LAST : SENT;
}

/*
 * For kernels without bpf_loop: send_step(thread), until it says that no more should follow;
 * then 1. 0: too many steps. In squares, and by functions that are not static: the verifier looks
 * at each of them once, and goes round each loop.
 */
#define STEPS 64
#define MOST_STEPS (STEPS * STEPS)
#define REPEAT(step, thread)                                                                       \
	({                                                                                         \
		int i_, done_ = 0;                                                                 \
		for (i_ = 0; i_ < STEPS && !done_; i_++)                                           \
			done_ = step(thread);                                                      \
		done_ != 0;                                                                        \
	})

static __always_inline void fill_task(struct ts_data *d)
{
	__u64 id = bpf_get_current_pid_tgid(), user = current_user();

	d->pid = owner();
	d->tid = id;
	d->uid = user;
	d->gid = user >> 32;
	d->cpu = bpf_get_smp_processor_id();
	d->cgroup = current_cgroup_id();
	d->ppid = current_parent();
	current_comm(d->comm);
}

/* The goroutine's number, where the word before it says that it runs, as it must. */
static __always_inline __u64 get_goid(const struct ts_rule *rule, __u64 g)
{
	/* runtime/runtime2.go: atomicstatus, stackLock, goid. A running stack scan adds 0x1000. */
	struct {
		__u32 status, lock;
		__u64 goid;
	} s;

	if (!rule->goid || bpf_probe_read_user(&s, sizeof(s), (void *)(g + rule->goid - 8)))
		return 0;
	return (s.status & ~0x1000u) == 2 ? s.goid : 0;
}

/* A call's bytes, whether or not anybody sees them: what comes after has its place. */
static __always_inline void count_bytes(struct conn *c, const struct call *call, __u32 flags,
					__u64 len)
{
	const __u8 dir = call->dir & 1;
	__u64 minus = -len;

	if (!c)
		return;
	if (call->ktls)
		c->ktls |= 1 << dir;
	/* One direction of a connection is one thread's at a time: the library asks for it. */
	if (flags & TS_DATA_UNCOUNTED)
		return;
	c->pos[dir] += len;
	/* Where len is not 0; without a branch, as the verifier would go on from both of its ends.
	 */
	asm volatile("" : "+r"(minus));
	c->nth[dir] += (len | minus) >> 63;
}

/* What number the call will have in its direction. */
static __always_inline __u32 nth_of(const struct conn *c, const struct call *call)
{
	return c ? c->nth[call->dir & 1] + 1 : 0;
}

static __always_inline void set_conn(struct ts_data *d, const struct call *call, struct conn *c)
{
	const __u8 dir = d->dir & 1;

	if (!c)
		return;
	d->fd = c->fd;
	d->conn_opened = c->opened;
	d->pos = c->pos[dir];
	count_bytes(c, call, d->flags, d->len);
	if (c->ktls & 1 << dir)
		d->flags |= TS_DATA_KTLS;
}

/* What tells of its connection was sent: user space reads records by their times (small_ring). */
static __always_inline void come_after_conn(struct ts_data *d)
{
	d->nsecs = bpf_ktime_get_ns();
}

/* A thread ends no two calls in one nanosecond; the shift is an hour long. */
static __always_inline __u64 call_of(const struct ts_data *d)
{
	return d->nsecs << 22 | (d->tid & ((1 << 22) - 1));
}

/* What every call's record says. */
static __always_inline void fill_call(struct ts_data *d, const struct ts_rule *rule,
				      const struct call *c, __s64 ret, __u64 len)
{
	d->record.type = TS_REC_DATA;
	d->nsecs = bpf_ktime_get_ns();
	d->duration = d->nsecs - c->nsecs;
	d->subs = c->subs;
	d->conn = c->conn;
	d->len = len;
	d->ret = ret;
	d->source = rule->source;
	d->dir = c->dir;
	fill_task(d);
	d->call = call_of(d);
	d->fd = FD_NONE;
}

/* How many of a call's bytes are asked for. */
static __always_inline __u64 to_capture(const struct sending *s)
{
	const __u64 len = s->head.len;

	return len < s->capture || s->capture == TS_CAPTURE_ALL ? len : s->capture;
}

/* Not inlined: the stack has no room for what it needs. */
static __noinline __attribute__((unused)) struct conn *get_calls_conn(const struct call *c,
								      const bool transferred)
{
	return get_conn(c, transferred);
}

static __always_inline __u32 flags_of(const struct ts_rule *rule, const struct call *c)
{
	__u32 flags = 0;

	if (rule->flags & TS_RULE_PEEK)
		flags |= TS_DATA_PEEK;
	if (rule->flags & TS_RULE_NODATA)
		flags |= TS_DATA_NODATA | (c->ktls ? TS_DATA_BELOW : 0);
	if (rule->flags & TS_RULE_EARLY)
		flags |= TS_DATA_EARLY;
	return flags;
}

/*
 * filter_ends of a connection that is remembered. Not static: the verifier looks at it once, and
 * does not go on from each of its ways out.
 */
__noinline __u64 filter_conn(__u64 subs, __u64 conn)
{
	struct conn *c = find_conn(conn);

	return filter_known(subs, c ? &c->ends : 0);
}

/*
 * Fills in what the records of a call to a library have in common. False: nobody wants it as an
 * event. once: as tell_addresses_once. Where only aggregations want it, its connection is not
 * looked for; else its bytes are counted there.
 */
static __always_inline bool prepare_call(struct sending *s, struct ts_rule *rule, struct call *c,
					 __u64 g, __s64 ret, __u64 len, const bool once)
{
	struct ts_data *d = &s->head;
	struct conn *conn;
	__u64 inode;

	fill_call(d, rule, c, ret, len);
	d->flags = flags_of(rule, c);
	if (!(d->subs & (conn_subs() | pick_subs()))) {
		aggregate(s);
		if (!d->subs)
			return false;
	}
	conn = get_calls_conn(c, true);
	inode = conn ? conn->socket.inode : 0;
	if (conn && len && lacks_addresses(rule, c, conn)) {
		if (once)
			tell_addresses_once(rule, c, conn);
		else
			tell_addresses(rule, c, conn);
	}
	if (conn && conn->socket.inode != inode)
		come_after_conn(d);
	if (d->subs & socket_subs())
		d->subs = filter_conn(d->subs, c->conn);
	s->buf = rule->flags & TS_RULE_NODATA ? 0 : c->buf;
	d->nth = nth_of(conn, c);
	filter_call(rule, s);
	if (!d->subs)
		count(TS_CNT_FILTERED, 1);
	if (conn && d->subs & control.aggs_ends)
		s->ends = conn->ends;
	aggregate(s);
	if (!d->subs) {
		count_bytes(conn, c, d->flags, len);
		return false;
	}
	d->goid = in_session ? 0 : get_goid(rule, g);
	set_conn(d, c, conn);
	s->want = s->buf ? to_capture(s) : 0;
	return true;
}

/* The connection ends: tell it, when anything was ever seen of it. */
__noinline int send_close(__u32 id, __u64 conn)
{
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	struct ts_data *d;
	struct conn_key key;
	struct conn *c;
	__u64 nsecs;

	get_conn_key(conn, &key);
	c = bpf_map_lookup_elem(&conns, &key);
	if (!c || !rule)
		return 0;
	if (!c->how)
		c->how = rule->how;
	c->begins = !!(rule->flags & TS_RULE_BEGINS);
	nsecs = bpf_ktime_get_ns();
	if (c->calls) {
		c->closed = nsecs;
		return 0;
	}
	d = reserve(sizeof(*d));
	if (d) {
		__builtin_memset(d, 0, sizeof(*d));
		d->record.type = TS_REC_CLOSE;
		d->record.size = sizeof(*d);
		d->nsecs = nsecs;
		d->conn = conn;
		d->conn_opened = c->opened;
		d->fd = c->fd;
		d->source = rule->source;
		d->how = c->how;
		d->flags = c->begins ? TS_DATA_REST : 0;
		fill_task(d);
		submit(d, wake_flags());
	}
	if (c->begins)
		bpf_map_update_elem(&ended, &key, c, BPF_ANY);
	/* Not told: the connection's next record has another conn_opened, which tells the same. */
	return bpf_map_delete_elem(&conns, &key);
}

#endif
