/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's own TLS (net/tls): its functions take and give plaintext. User space loads a copy of
 * this object for each function that it hooks, with the one enter and the one leave program that
 * fit the function and the kernel: fentry and fexit, or kprobe and kretprobe.
 */
#include "kcalls.h"
#include "rows.h"
#include "socket.h"
#include "wanted.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile struct ts_hook hook SEC(".rodata.hook") = {};

static const struct kcall no_kcall;

/* --- control messages: what kind of record it is */

struct control {
	__u64 len;
	__u32 level, type;
	__u8 content;
};
#define CONTROL_LEN (16 + 1) /* CMSG_LEN(1) */

/* Moves on to the next message when this one is not of TLS. 0: it is not. */
static __always_inline __u8 content_at(__u64 *at, __u32 type)
{
	struct control c = {};

	if (bpf_probe_read_kernel(&c, CONTROL_LEN, (void *)*at) &&
	    bpf_probe_read_user(&c, CONTROL_LEN, (void *)*at))
		return 0;
	if (c.len == CONTROL_LEN && c.level == SOL_TLS && c.type == type)
		return c.content;
	*at += (c.len + 7) & ~7ull;
	return 0;
}

/* What a message's control messages tell; few stand before it. */
static __always_inline __u8 content_of(__u64 at, __u32 type)
{
	__u8 content = 0;
	int i;

#pragma unroll
	for (i = 0; i < 3; i++)
		if (!content)
			content = content_at(&at, type);
	return content;
}

/* Written at the return: there is one where the kernel has moved on behind it. */
static __always_inline __u8 content_received(const struct kcall *k)
{
	struct msghdr *msg = (void *)k->msg;

	if (!k->control || (__u64)BPF_CORE_READ(msg, msg_control) <= k->control)
		return 0;
	return content_of(k->control, TLS_GET_RECORD_TYPE);
}

/* --- entries */

/* A place for the call of this thread, if anybody wants it. */
static __always_inline struct kcall *begin(__u64 sk)
{
	__u64 thread = bpf_get_current_pid_tgid(), subs;
	__u32 id = hook.rule;
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	struct ends ends;
	struct kcall *k;

	if (!rule)
		return 0;
	subs = wanted(rule, owner());
	if (subs & control.ends) {
		fill_ends(&ends, (void *)sk);
		subs = filter_ends(subs, &ends);
	}
	if (!subs) {
		count(TS_CNT_FILTERED, 1);
		return 0;
	}
	/* A kretprobe may miss returns. */
	if (bpf_map_lookup_elem(&kcalls, &thread))
		count(TS_CNT_UNPAIRED, 1);
	if (bpf_map_update_elem(&kcalls, &thread, &no_kcall, BPF_ANY))
		count(TS_CNT_FLOWS_FULL, 1);
	k = bpf_map_lookup_elem(&kcalls, &thread);
	if (!k)
		return 0;
	k->sk = sk;
	k->content = TS_RECORD_DATA;
	k->call.subs = subs;
	k->call.dir = rule->dir;
	k->call.nsecs = bpf_ktime_get_ns();
	k->call.rule = id;
	return k;
}

static __always_inline int enter_message(__u64 sk, __u64 at, __u32 flags)
{
	struct msghdr *msg = (void *)at;
	struct kcall *k;
	__u8 content;

	/* Not of the connection's bytes. */
	if (flags & MSG_ERRQUEUE)
		return 0;
	k = begin(sk);
	if (!k)
		return 0;
	k->msg = at;
	get_iter(&k->pieces, &msg->msg_iter);
	if (BPF_CORE_READ(msg, msg_controllen) >= CONTROL_LEN)
		k->control = (__u64)BPF_CORE_READ(msg, msg_control);
	if (flags & MSG_PEEK)
		k->flags |= TS_DATA_PEEK;
	if (k->call.dir == TS_OUT) {
		content = k->control ? content_of(k->control, TLS_SET_RECORD_TYPE) : 0;
		k->content = content ? content : TS_RECORD_DATA;
	}
	find_above(k);
	return 0;
}

static __always_inline int enter_page(__u64 sk, __u64 page, __u32 offset)
{
	struct kcall *k = begin(sk);

	if (!k)
		return 0;
	k->pieces.kind = PIECES_PAGE;
	k->pieces.at = page;
	k->pieces.skip = offset;
	find_above(k);
	return 0;
}

/* The bytes will be in the pipe's slots from its head on. */
static __always_inline int enter_splice(__u64 socket, __u64 at)
{
	struct pipe_inode_info *pipe = (void *)at;
	struct socket *sock = (void *)socket;
	struct kcall *k = begin((__u64)BPF_CORE_READ(sock, sk));

	if (!k)
		return 0;
	k->pieces.kind = PIECES_PIPE;
	k->pieces.at = (__u64)BPF_CORE_READ(pipe, bufs);
	k->pieces.slot = BPF_CORE_READ(pipe, head);
	k->pieces.mask = BPF_CORE_READ(pipe, ring_size) - 1;
	k->pieces.left = BPF_CORE_READ(pipe, ring_size);
	return 0;
}

/* Bytes that a reader in the kernel takes out of the socket's own buffers. */
static __always_inline int enter_reader(__u64 sk)
{
	begin(sk);
	return 0;
}

static __always_inline int enter_close(__u64 sk)
{
	bpf_map_delete_elem(&socks, &sk);
	send_close(hook.rule, sk);
	return 0;
}

/* --- returns */

__noinline int pick_step(__u64 thread, __u32 i)
{
	struct kcall *k = bpf_map_lookup_elem(&kcalls, &thread);

	return k ? pick_sub(&k->sending, i) : 0;
}

/*
 * Adds to the first bytes of this thread's call those of the next piece, and moves on. 0: that was
 * all. Not static: the verifier looks at it once, not once a piece.
 */
__noinline int begin_step(__u64 thread)
{
	struct kcall *k = bpf_map_lookup_elem(&kcalls, &thread);
	struct piece piece = {};
	struct pieces *p;
	__u64 n, at, left;
	bool fault;
	void *from;

	if (!k || k->sending.begin_len >= TS_PREFIX)
		return 0;
	p = &k->ahead;
	at = k->sending.begin_len;
	left = k->sending.head.len - at;
	if (!left || !first_piece(p, &piece) || piece.space == SPACE_NONE)
		return 0;
	if (piece.len <= p->skip) {
		next_piece(p);
		return 1;
	}
	from = (void *)(piece.addr + p->skip);
	n = piece.len - p->skip;
	n = n < left ? n : left;
	/* at is less; the verifier wants to see it of the very register that is used. */
	asm volatile("if %0 <= %1 goto +1\n\t%0 = %1" : "+r"(at) : "i"(TS_PREFIX));
	asm volatile("if %0 <= %1 goto +1\n\t%0 = %1" : "+r"(n) : "i"(TS_PREFIX));
	if (piece.space == SPACE_USER)
		fault = bpf_probe_read_user((__u8 *)k->sending.begin + at, n, from) != 0;
	else
		fault = bpf_probe_read_kernel((__u8 *)k->sending.begin + at, n, from) != 0;
	if (fault)
		return 0;
	k->sending.begin_len = at + n;
	p->skip += n;
	return 1;
}

__noinline int pick_call(__u64 thread)
{
	struct kcall *k = bpf_map_lookup_elem(&kcalls, &thread);

	if (k && k->sending.head.subs & control.heads) {
		k->ahead = k->pieces;
		REPEAT(!begin_step, thread);
	}
	pick_all(thread);
	return 0;
}

static __always_inline void add_up(struct kcall *k)
{
	if (k->sending.head.subs & control.aggs_ends)
		fill_ends(&k->sending.ends, (void *)k->sk);
	aggregate(&k->sending);
}

/* Fills in what the records of the call have in common; false: nobody wants them. */
static __always_inline bool prepare(struct kcall *k, __s64 ret)
{
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &k->call.rule);
	struct ts_data *d = &k->sending.head;
	__u64 len = ret > 0 ? ret : 0;
	struct conn *c;
	__u8 content;
	bool late;

	if (!rule)
		return false;
	if (k->call.dir == TS_IN) {
		content = content_received(k);
		k->content = content ? content : TS_RECORD_DATA;
	}
	if (k->content != TS_RECORD_DATA) {
		k->call.subs &= control.control;
		k->flags |= TS_DATA_CONTROL;
	} else if (k->covered) {
		k->call.subs &= ~k->covered;
		k->flags |= TS_DATA_BELOW;
	}
	k->call.subs &= len ? control.enabled : control.enabled & control.errors;
	k->call.ktls = 1;
	if (k->call.subs) {
		fill_call(d, rule, &k->call, ret, len);
		d->flags = k->flags | TS_DATA_KTLS;
		d->content = k->content;
		/* What is asked of a call may be its place in the connection. */
		if (!(d->subs & control.picks))
			add_up(k);
		k->call.subs = d->subs;
	}
	name_conn(k);
	/* What nobody wants makes no connection known but the library's above. */
	c = k->call.subs || k->slot ? get_conn(&k->call, true) : 0;
	if (c) {
		remember_above(k, c);
		if (!c->told) {
			c->told = send_conn(k->call.conn, c, k->sk, true);
			fill_ends(&c->ends, (void *)k->sk);
			come_after_conn(d);
		}
	}
	if (!k->call.subs)
		return false;
	d->conn = k->call.conn;
	d->nth = nth_of(c, &k->call);
	late = d->subs & control.picks;
	filter_call(rule, &k->sending);
	if (!d->subs)
		count(TS_CNT_FILTERED, 1);
	if (late)
		add_up(k);
	if (!d->subs) {
		count_bytes(c, &k->call, d->flags, len);
		return false;
	}
	set_conn(d, &k->call, c);
	k->sending.want = to_capture(&k->sending);
	return true;
}

__noinline int agg_step(__u64 thread, __u32 i)
{
	struct kcall *k = bpf_map_lookup_elem(&kcalls, &thread);

	return k ? add_to_agg(&k->sending.head, &k->sending.ends, i) : 0;
}

static __always_inline struct kcall *find_kcall(__u64 *thread)
{
	struct kcall *k;

	*thread = bpf_get_current_pid_tgid();
	k = bpf_map_lookup_elem(&kcalls, thread);
	return k && k->call.rule == hook.rule ? k : 0;
}

struct walk {
	struct kcall *k;
};

static long send_more(__u32 i, void *ctx)
{
	struct kcall *k = ((struct walk *)ctx)->k;

	(void)i;
	return send_pieces(&k->sending, &k->pieces, &k->sent);
}

/* ret is an int, also where the function returns a long: it never is more. */
static __always_inline int leave(__s32 ret)
{
	struct walk walk;
	__u64 thread;

	walk.k = find_kcall(&thread);
	if (!walk.k)
		return 0;
	if (prepare(walk.k, ret))
		bpf_loop(1 << 20, send_more, &walk, 0);
	bpf_map_delete_elem(&kcalls, &thread);
	return 0;
}

/* A step of leave_no_loop. 1: no more should follow. */
__noinline int send_step(__u64 thread)
{
	struct kcall *k = bpf_map_lookup_elem(&kcalls, &thread);

	return k ? send_pieces(&k->sending, &k->pieces, &k->sent) : 1;
}

__noinline int send_row(__u64 thread)
{
	return REPEAT(send_step, thread);
}

__noinline int send_steps(__u64 thread)
{
	return REPEAT(send_row, thread);
}

/* --- programs */

#define RETURN_OF(ctx)                                                                             \
	({                                                                                         \
		__s32 value_ = 0;                                                                  \
		bpf_probe_read_kernel(&value_, sizeof(value_), (void *)(ctx) + hook.ret);          \
		value_;                                                                            \
	})

static __always_inline __u64 argument(void *ctx, __u32 n)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), ctx + hook.args[n]);
	return value;
}

SEC("kprobe")
int message_kprobe(void *ctx)
{
	return enter_message(argument(ctx, 0), argument(ctx, 1), 0);
}

SEC("fentry")
int message_fentry(__u64 *ctx)
{
	return enter_message(ctx[0], ctx[1], 0);
}

SEC("kprobe")
int recv_kprobe(void *ctx)
{
	return enter_message(argument(ctx, 0), argument(ctx, 1), argument(ctx, 3));
}

SEC("fentry")
int recv_fentry(__u64 *ctx)
{
	return enter_message(ctx[0], ctx[1], ctx[3]);
}

/* Before 5.19 an argument came before the flags. */
SEC("kprobe")
int recv_old_kprobe(void *ctx)
{
	return enter_message(argument(ctx, 0), argument(ctx, 1), argument(ctx, 4));
}

SEC("fentry")
int recv_old_fentry(__u64 *ctx)
{
	return enter_message(ctx[0], ctx[1], ctx[4]);
}

SEC("kprobe")
int page_kprobe(void *ctx)
{
	return enter_page(argument(ctx, 0), argument(ctx, 1), argument(ctx, 2));
}

SEC("fentry")
int page_fentry(__u64 *ctx)
{
	return enter_page(ctx[0], ctx[1], ctx[2]);
}

SEC("kprobe")
int splice_kprobe(void *ctx)
{
	return enter_splice(argument(ctx, 0), argument(ctx, 2));
}

SEC("fentry")
int splice_fentry(__u64 *ctx)
{
	return enter_splice(ctx[0], ctx[2]);
}

SEC("kprobe")
int reader_kprobe(void *ctx)
{
	return enter_reader(argument(ctx, 0));
}

SEC("fentry")
int reader_fentry(__u64 *ctx)
{
	return enter_reader(ctx[0]);
}

SEC("kprobe")
int close_kprobe(void *ctx)
{
	return enter_close(argument(ctx, 0));
}

SEC("fentry")
int close_fentry(__u64 *ctx)
{
	return enter_close(ctx[0]);
}

SEC("kretprobe")
int leave_kretprobe(void *ctx)
{
	return leave(RETURN_OF(ctx));
}

SEC("fexit")
int leave_fexit(__u64 *ctx)
{
	__u64 ret = 0;

	bpf_get_func_ret(ctx, &ret);
	return leave(ret);
}

/* For kernels before 5.17, which have no bpf_loop. */
SEC("kretprobe")
int leave_no_loop(void *ctx)
{
	__u64 thread;
	struct kcall *k = find_kcall(&thread);

	if (!k)
		return 0;
	if (prepare(k, RETURN_OF(ctx)) && !send_steps(thread))
		count(TS_CNT_LOST_BYTES, k->sending.want - k->sent);
	bpf_map_delete_elem(&kcalls, &thread);
	return 0;
}
