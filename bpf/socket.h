/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a connection to its socket, and from a socket to what it tells of its connection. */
#ifndef TLSSCOPE_SOCKET_H
#define TLSSCOPE_SOCKET_H

#include "conns.h"
#include "file.h"

/* --- what the socket tells */

/* A path, or a name that begins with NUL; most have none. Returns its length. */
static __always_inline __u8 get_unix_name(const struct unix_sock *sk, __u8 name[TS_ADDRESS])
{
	const __u32 head = 2; /* struct sockaddr_un: sun_family, then sun_path */
	const struct unix_address *address = BPF_CORE_READ(sk, addr);
	__u64 len;

	if (!address)
		return 0;
	len = (__u32)BPF_CORE_READ(address, len) - head;
	if (len > TS_ADDRESS)
		return 0;
	/* As in take_record. */
	asm volatile("if %0 <= %1 goto +1\n\t%0 = %1" : "+r"(len) : "i"(TS_ADDRESS));
	return bpf_probe_read_kernel(name, len, (void *)&address->name[0] + head) ? 0 : len;
}

/* A socket that was reset has given its number back, but still says what it sent from. */
static __always_inline __u16 own_port(const struct sock_common *sk)
{
	const struct inet_sock *inet = (void *)sk;
	__u16 port = BPF_CORE_READ(sk, skc_num);

	if (!port && bpf_core_field_exists(inet->inet_sport))
		port = __builtin_bswap16(BPF_CORE_READ(inet, inet_sport));
	return port;
}

static __always_inline void fill_addresses(struct ts_conn_info *i, const struct sock *s)
{
	const struct sock_common *sk = &s->__sk_common;
	const struct unix_sock *us = (void *)s, *peer;

	i->family = BPF_CORE_READ(sk, skc_family);
	if (i->family == AF_UNIX && bpf_core_type_exists(struct unix_sock)) {
		i->llen = get_unix_name(us, i->laddr);
		peer = (void *)BPF_CORE_READ(us, peer);
		if (peer)
			i->rlen = get_unix_name(peer, i->raddr);
		return;
	}
	if (i->family == AF_INET) {
		i->llen = i->rlen = 4;
		bpf_core_read(i->laddr, 4, &sk->skc_rcv_saddr);
		bpf_core_read(i->raddr, 4, &sk->skc_daddr);
	} else if (i->family == AF_INET6) {
		i->llen = i->rlen = 16;
		bpf_core_read(i->laddr, 16, &sk->skc_v6_rcv_saddr);
		bpf_core_read(i->raddr, 16, &sk->skc_v6_daddr);
	} else {
		return;
	}
	i->lport = own_port(sk);
	i->rport = __builtin_bswap16(BPF_CORE_READ(sk, skc_dport));
}

/* v4-mapped, as IPv6 sockets have those of IPv4's hosts. */
static __always_inline void map_address(__u8 out[TS_FILTER_VALUE], __be32 address)
{
	out[10] = out[11] = 0xff;
	__builtin_memcpy(&out[12], &address, sizeof(address));
}

static __always_inline void fill_ends(struct ends *e, const struct sock_common *sk)
{
	__u16 family = BPF_CORE_READ(sk, skc_family);

	__builtin_memset(e, 0, sizeof(*e));
	if (family == AF_INET) {
		map_address(e->laddr, BPF_CORE_READ(sk, skc_rcv_saddr));
		map_address(e->raddr, BPF_CORE_READ(sk, skc_daddr));
	} else if (family == AF_INET6) {
		bpf_core_read(e->laddr, sizeof(e->laddr), &sk->skc_v6_rcv_saddr);
		bpf_core_read(e->raddr, sizeof(e->raddr), &sk->skc_v6_daddr);
	} else {
		return;
	}
	e->family = family;
	e->lport = own_port(sk);
	e->rport = __builtin_bswap16(BPF_CORE_READ(sk, skc_dport));
}

/* tls: whether the socket has the kernel's TLS. False: there was no room, it is to be told again.
 */
static __always_inline bool send_conn(__u64 conn, const struct conn *c, __u64 sk, bool tls)
{
	const struct inet_connection_sock *icsk = (void *)sk;
	const __u64 nsecs = bpf_ktime_get_ns();
	struct ts_conn_info *i = reserve(sizeof(*i));
	struct tls_context *context;

	if (!i)
		return false;
	__builtin_memset(i, 0, sizeof(*i));
	i->record.type = TS_REC_CONN;
	i->record.size = sizeof(*i);
	i->nsecs = nsecs;
	i->conn = conn;
	i->conn_opened = c->opened;
	i->pid = owner();
	if (sk)
		fill_addresses(i, (void *)sk);
	if (tls) {
		context = BPF_CORE_READ(icsk, icsk_ulp_data);
		i->version = BPF_CORE_READ(context, prot_info.version);
		i->cipher = BPF_CORE_READ(context, prot_info.cipher_type);
	}
	submit(i, BPF_RB_NO_WAKEUP);
	return true;
}

/*
 * A connection of the current process has this socket. Not static, as the next one: the verifier
 * looks at it once, not at each place where it is called.
 */
__noinline int tell_socket(__u64 conn, __u64 sk, __u64 inode)
{
	struct conn *c = find_conn(conn);

	if (!c)
		return 0;
	fill_ends(&c->ends, (void *)sk);
	if (send_conn(conn, c, sk, false)) {
		c->socket.sk = sk;
		c->socket.inode = inode;
		c->doubt = c->sought = 0;
	}
	return 0;
}

/* What was told may be wrong: from now on nothing is. */
__noinline int doubt_socket(__u64 conn)
{
	struct conn *c = find_conn(conn);

	if (c && !c->doubt && send_conn(conn, c, 0, false)) {
		c->socket.sk = c->socket.inode = 0;
		__builtin_memset(&c->ends, 0, sizeof(c->ends));
		c->doubt = 1;
	}
	return 0;
}

/*
 * The connection whose socket is found by what passes there, not by a descriptor. One that serves
 * another connection of the process too is neither's for certain.
 */
__noinline int tell_found(__u64 conn, __u64 sk, __u64 inode)
{
	struct socket_owner mine = {.inode = inode}, *o;
	struct conn *c, *other;

	get_conn_key(conn, &mine.key);
	c = bpf_map_lookup_elem(&conns, &mine.key);
	if (!c || (c->socket.inode == inode && c->socket.sk == sk) || c->doubt)
		return 0;
	mine.opened = c->opened;
	o = bpf_map_lookup_elem(&owners, &sk);
	if (o && o->inode == inode && o->key.mm == mine.key.mm && o->opened != c->opened) {
		other = bpf_map_lookup_elem(&conns, &o->key);
		if (other && other->opened == o->opened) {
			doubt_socket(o->key.conn);
			return doubt_socket(conn);
		}
	}
	bpf_map_update_elem(&owners, &sk, &mine, BPF_ANY);
	return c->socket.sk ? doubt_socket(conn) : tell_socket(conn, sk, inode);
}

#define MOST_SOUGHT 250 /* calls, until a connection is taken for one that has no socket */
#define LATER_SOUGHT 16 /* of those that follow, one in so many looks at its descriptor */

/*
 * A call that began at nsecs, while this was known of its socket, does not show it: what is needed
 * to find it.
 */
__noinline int seek(__u64 conn, __u64 nsecs, __u64 sk, __u32 dir)
{
	struct conn *c = find_conn(conn);

	if (!c)
		return 0;
	control.search |= TS_SEARCH_CALLS;
	if (!control.watched || nsecs <= control.watched || sk)
		return 0;
	if (++c->sought == MOST_SOUGHT)
		control.search |= TS_SEARCH_OVER;
	if (dir == TS_OUT)
		control.search |= TS_SEARCH_MARKS;
	return 0;
}

/* What the call itself shows; else what is needed to find the connection's socket. */
static __always_inline void tell_nested(const struct call *call, const struct conn *c)
{
	const struct ts_socket *s = &call->socket;

	if (s->sk && s->sk != MIXED) {
		if (c->socket.inode != s->inode || c->socket.sk != s->sk)
			tell_found(call->conn, s->sk, s->inode);
	} else if (!c->socket.sk && !c->doubt && c->sought < MOST_SOUGHT) {
		seek(call->conn, call->nsecs, s->sk, call->dir);
	}
}

/* Whether this thread's calls use connections without a descriptor. */
static __always_inline void set_nested(bool nested)
{
	struct flow *flow = find_flow();

	if (flow)
		flow->plain = !nested;
}

/*
 * A connection's descriptor leads to this socket. A Go program's descriptor is its connection's for
 * good, but may be closed by now, and another one: the program says so itself, and where it has not
 * after the socket was found, this is the one.
 */
__noinline int tell_descriptor(__u64 conn, __u64 sk, __u64 inode, __u32 id)
{
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);

	if (!rule ||
	    (rule->fd.closed.steps && follow(id, IN_RULE(fd.closed), conn, sizeof(__u64)) & 1))
		return 0;
	return tell_socket(conn, sk, inode);
}

/* Whether a call that transferred something is to tell its connection's addresses. */
static __always_inline bool lacks_addresses(const struct ts_rule *rule, const struct call *call,
					    const struct conn *c)
{
	/*
	 * A TLS connection stays with its peer; what is written to proves it again. A socket that
	 * was found by what passed there tells no descriptor.
	 */
	if (c->socket.sk && c->fd != FD_UNREAD && (call->dir == TS_IN || !rule->bio.number))
		return false;
	/* Where none was found for long, one may come yet: now and then that is looked for. */
	return c->sought < MOST_SOUGHT || !(c->nth[call->dir & 1] % LATER_SOUGHT);
}

/*
 * Tells what the descriptor of such a call leads to, unless that is known. Not inlined: the stack
 * has no room for all that it needs.
 */
static __noinline __attribute__((unused)) void
tell_addresses(const struct ts_rule *rule, const struct call *call, struct conn *c)
{
	__u64 file, sk = 0, inode = 0;

	if (rule->bio.number)
		c->fd = get_bio_fd(rule, call->rule, call->conn, &c->bio, c->fd);
	file = c->fd < 0 ? 0 : file_of(c->fd);
	if (file) {
		inode = inode_of_file(file);
		sk = inode == c->socket.inode ? c->socket.sk : socket_of(file);
	}
	if (rule->flow_mode == TS_FLOW_THREAD) {
		set_nested(!sk);
		if (!sk) {
			c->fd = FD_NONE;
			tell_nested(call, c);
		}
	}
	if (sk && c->socket.inode != inode)
		tell_descriptor(call->conn, sk, inode, call->rule);
}

/*
 * The same; where the kernel lets functions that are not static be given memory (5.13): they are
 * looked at once.
 */
__noinline int tell_addresses_once(struct ts_rule *rule, struct call *call, struct conn *c)
{
	if (rule && call && c)
		tell_addresses(rule, call, c);
	return 0;
}

#endif
