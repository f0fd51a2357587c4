/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sockets of connections that have no descriptor (BIOs of the program's own, memory BIOs): what is
 * sent or received while one of the library's calls is in flight, or begins as a record that the
 * library wrote to a BIO. User space loads what the kernel has, tp_btf of sockets' lengths (6.3),
 * else a kprobe, of what is sent only; and attaches it when such a connection is seen.
 */
#include "calls.h"
#include "pieces.h"
#include "records.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile struct ts_hook hook SEC(".rodata.hook") = {};

static __always_inline __u64 inode_of(const struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_socket, file, f_inode, i_ino);
}

/* The thread's calls, if a socket may be looked for in them. */
static __always_inline struct flow *searching_flow(void)
{
	struct flow *flow = find_flow();

	return flow && !flow->plain ? flow : 0;
}

static __always_inline void in_call(struct call *c, const struct ts_socket *s)
{
	if (!c->socket.sk)
		c->socket = *s;
	else if (c->socket.sk != s->sk || c->socket.inode != s->inode)
		c->socket.sk = MIXED;
}

/*
 * Of a mark's connection. 0: it is not known by now, or the mark is of one that its address served
 * before. Not static: the verifier looks at it once.
 */
__noinline int tell_marked(__u64 conn, __u64 nsecs, __u64 sk, __u64 inode)
{
	struct conn *c = find_conn(conn);

	if (!c || c->closed || c->opened > nsecs)
		return 0;
	tell_found(conn, sk, inode);
	return 1;
}

#define MOST_RECORDS 4 /* of one message that are looked at */

/* Sent by the process: what one of its libraries wrote to a BIO before? */
static __always_inline void match(__u32 pid, __u64 at, __u64 len, const struct ts_socket *s)
{
	struct mark_key key;
	struct mark *m;
	__u64 size;
	int i;

#pragma unroll
	for (i = 0; i < MOST_RECORDS; i++) {
		if (!get_mark(&key, pid, at, len))
			return;
		m = bpf_map_lookup_elem(&marks, &key);
		if (m && tell_marked(m->conn, m->nsecs, s->sk, s->inode))
			return;
		/* The handshake's last records may stand before. */
		size = 5 + ((__u64)key.bytes[3] << 8 | key.bytes[4]);
		if (size >= len)
			return;
		at += size;
		len -= size;
	}
}

/* n bytes passed, which are, or begin, at this address of the process. */
static __always_inline void passed(const struct sock *sk, __u64 at, __s64 n, __u64 sp, bool sent)
{
	struct ts_socket s = {.sk = (__u64)sk};
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct call *c = innermost(searching_flow(), sp);
	__u64 calling = !!c, marks = sent && bpf_map_lookup_elem(&marked, &pid);
	__u8 head[5];

	/* Numbers: clang 19 would combine the pointers, which the verifier refuses. */
	asm volatile("" : "+r"(calling), "+r"(marks));
	if (n <= 0 || !(calling | marks) || bpf_probe_read_user(head, sizeof(head), (void *)at) ||
	    !is_record(head))
		return;
	s.inode = inode_of(sk);
	if (c)
		in_call(c, &s);
	if (marks)
		match(pid, at, n, &s);
}

struct user_message {
	__u64 name, namelen, iov;
};

/*
 * Where the bytes of a system call begin: its second argument is their address, or that of a struct
 * iovec, or of a struct msghdr. Which it is the bytes tell: they must be a TLS record's.
 */
static __always_inline __u64 find_bytes(__u64 at)
{
	struct user_message m = {};
	__u64 base = 0;
	__u8 head[5] = {};

	if (!bpf_probe_read_user(head, sizeof(head), (void *)at) && is_record(head))
		return at;
	if (!bpf_probe_read_user(&base, sizeof(base), (void *)at) &&
	    !bpf_probe_read_user(head, sizeof(head), (void *)base) && is_record(head))
		return base;
	if (!bpf_probe_read_user(&m, sizeof(m), (void *)at) &&
	    !bpf_probe_read_user(&base, sizeof(base), (void *)m.iov))
		return base;
	return 0;
}

/* A socket's tracepoint runs in the system call: its arguments are in the user's registers. */
static __always_inline int on_length(__u64 *ctx, bool sent)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 sk = 0, regs, sp = 0, at = 0;
	__s32 n = ctx[1];

	if (n <= 0 || (!searching_flow() && !(sent && bpf_map_lookup_elem(&marked, &pid))))
		return 0;
	/* Not ctx[0]: that the verifier would not let pass for a number. */
	bpf_probe_read_kernel(&sk, sizeof(sk), &ctx[0]);
	regs = (__u64)bpf_task_pt_regs((void *)bpf_get_current_task_btf());
	bpf_probe_read_kernel(&sp, sizeof(sp), (void *)(regs + hook.sp));
	bpf_probe_read_kernel(&at, sizeof(at), (void *)(regs + hook.args[1]));
	at = find_bytes(at);
	if (at)
		passed((void *)sk, at, n, sp, sent);
	return 0;
}

SEC("tp_btf/sock_send_length")
int sent_tp(__u64 *ctx)
{
	return on_length(ctx, true);
}

SEC("tp_btf/sock_recv_length")
int received_tp(__u64 *ctx)
{
	return on_length(ctx, false);
}

/* security_socket_sendmsg(struct socket *, struct msghdr *, int size) */
SEC("kprobe")
int sent_kprobe(void *ctx)
{
	struct pieces pieces = {};
	struct piece first = {};
	struct socket *socket = 0;
	struct msghdr *msg = 0;
	__s64 size = 0;

	bpf_probe_read_kernel(&socket, sizeof(socket), ctx + hook.args[0]);
	bpf_probe_read_kernel(&msg, sizeof(msg), ctx + hook.args[1]);
	bpf_probe_read_kernel(&size, sizeof(size), ctx + hook.args[2]);
	get_iter(&pieces, &msg->msg_iter);
	if (first_piece(&pieces, &first) && first.space == SPACE_USER)
		passed(BPF_CORE_READ(socket, sk), first.addr + pieces.skip, (__s32)size, 0, true);
	return 0;
}
