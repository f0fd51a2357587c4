/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connections: an address in a process leads to its positions, its descriptor, its calls. */
#ifndef TLSSCOPE_CONNS_H
#define TLSSCOPE_CONNS_H

#include "maps.h"
#include "task.h"

/*
 * Functions that are not static are looked at once by the verifier, not at each of their calls, and
 * what they return is any number for it: so they are what keeps its work small. In 5.10 they can
 * only be given numbers (or the context): a rule's, where in it something is, an address.
 */
#define IN_RULE(member) __builtin_offsetof(struct ts_rule, member)
#define UNKNOWN (~0ull) /* or memory that is not there */

/* Where a rule's walk leads from an address; the last load is of `size` bytes. */
__noinline __u64 follow(__u32 id, __u64 in_rule, __u64 at, __u64 size)
{
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	const struct ts_walk *w;
	__u64 value = 0;
	__u32 i;

	if (!rule || !size)
		return UNKNOWN;
	/* Always true; the verifier wants to see it of the very register that is used. */
	asm volatile("if %0 <= %1 goto +1\n\t%0 = 0"
		     : "+r"(in_rule)
		     : "i"(sizeof(*rule) - sizeof(*w)));
	w = (void *)rule + in_rule;
	/* Likewise; two comparisons that the compiler does not make one of. */
	asm volatile("" : "+r"(size));
	if (size > sizeof(value))
		return UNKNOWN;
	for (i = 0; i < TS_WALK_STEPS; i++) {
		at += w->offsets[i];
		if (i + 1 >= w->steps)
			return bpf_probe_read_user(&value, size, (void *)at) ? UNKNOWN : value;
		if (bpf_probe_read_user(&at, sizeof(at), (void *)at) || !at)
			return UNKNOWN;
	}
	return UNKNOWN;
}

/* FD_UNREAD: may be there when asked again, or in a BIO (get_bio_fd). */
__noinline int read_fd(__u32 id, __u64 conn, __u64 base)
{
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	__u64 type, number;

	if (!rule || !rule->fd.number.steps)
		return rule && rule->bio.number ? FD_UNREAD : FD_NONE;
	type = follow(id, IN_RULE(fd.type), conn, sizeof(type));
	if (type == UNKNOWN)
		return FD_UNREAD;
	type -= base;
	if (type != rule->fd.types[0] && type != rule->fd.types[1])
		return FD_NONE;
	number = follow(id, IN_RULE(fd.number), conn, 4);
	if (number == UNKNOWN)
		return FD_UNREAD;
	return (__s32)number < 0 ? FD_NONE : (__s32)number;
}

/* openssl/bio.h: descriptors are those that num holds in these. */
enum {
	BIO_TYPE_FILTER = 0x200,
	BIO_TYPE_FD = 0x504,
	BIO_TYPE_SOCKET = 0x505,
	BIO_TYPE_CONNECT = 0x50c,
	BIO_TYPE_DGRAM = 0x515,
};
#define BIO_STEPS 3 /* BIOs that are looked at, one behind the other */

static __always_inline bool has_descriptor(__u64 type)
{
	return type == BIO_TYPE_SOCKET || type == BIO_TYPE_CONNECT || type == BIO_TYPE_FD ||
	       type == BIO_TYPE_DGRAM;
}

/* A connection's BIO that has a descriptor, from the one `at` on; 0: none. */
__noinline __u64 find_bio(__u32 id, __u64 conn, __u64 at)
{
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	__u64 type;
	int i;

	if (!rule || (rule->bio.zero.steps && follow(id, IN_RULE(bio.zero), conn, 4)))
		return 0;
	for (i = 0; i < BIO_STEPS && at; i++) {
		type = follow(id, IN_RULE(bio.type), at, 4);
		if (has_descriptor(type))
			return at;
		if (type == UNKNOWN || !(type & BIO_TYPE_FILTER) ||
		    bpf_probe_read_user(&at, sizeof(at), (void *)(at + rule->bio.next)))
			return 0;
	}
	return 0;
}

static __always_inline __u64 as_number(const char text[8])
{
	__u64 number;

	__builtin_memcpy(&number, text, sizeof(number));
	return number;
}

/*
 * Whether a BIO's number is a descriptor though it is 0: one that a program made itself may have
 * such a type too, and then keeps its descriptor elsewhere. The library's own have these names.
 */
__noinline int is_zero_meant(__u32 id, __u64 bio)
{
	struct ts_rule *rule = bpf_map_lookup_elem(&rules, &id);
	__u64 at, name = 0;

	if (!rule || !rule->bio.name.steps)
		return 0;
	at = follow(id, IN_RULE(bio.name), bio, sizeof(at));
	bpf_probe_read_user(&name, 7, (void *)at);
	/* "socket", "socket connect", "file descriptor", "datagram socket" */
	return name == as_number("socket\0") || name == as_number("socket ") ||
	       name == as_number("file de") || name == as_number("datagra");
}

/* bio, fd: what was found last, in a BIO that then was of such a type. */
static __always_inline __s32 get_bio_fd(const struct ts_rule *rule, __u32 id, __u64 conn,
					__u64 *bio, __s32 fd)
{
	__u64 at = follow(id, IN_RULE(bio.read), conn, sizeof(at));
	__s32 number = 0;

	if (at == UNKNOWN)
		return FD_NONE;
	if (fd >= 0 && at == *bio &&
	    !bpf_probe_read_user(&number, sizeof(number), (void *)(at + rule->bio.number)) &&
	    number == fd)
		return fd;
	*bio = find_bio(id, conn, at);
	if (!*bio ||
	    bpf_probe_read_user(&number, sizeof(number), (void *)(*bio + rule->bio.number)))
		return FD_NONE;
	return number < 0 || (!number && !is_zero_meant(id, *bio)) ? FD_NONE : number;
}

static __always_inline void get_conn_key(__u64 conn, struct conn_key *key)
{
	key->conn = conn;
	key->execs = current_execs();
	key->mm = current_mm();
	key->pid = key->mm ? bpf_get_current_pid_tgid() >> 32 : 0;
}

__noinline int new_conn(__u64 conn, __u64 opened, __u32 anew)
{
	struct conn fresh = {.opened = opened, .fd = FD_UNREAD};
	struct conn_key key;

	get_conn_key(conn, &key);
	return bpf_map_update_elem(&conns, &key, &fresh, anew ? BPF_EXIST : BPF_NOEXIST);
}

static __always_inline struct conn *find_conn(__u64 conn)
{
	struct conn_key key;

	get_conn_key(conn, &key);
	return bpf_map_lookup_elem(&conns, &key);
}

/* Another one begins at its address. */
static __always_inline void forget_ended(__u64 conn)
{
	struct conn_key key;

	get_conn_key(conn, &key);
	bpf_map_delete_elem(&ended, &key);
}

/*
 * A call's connection; 0: no room. When it transferred something, but began after the connection
 * there was closed, the address serves another one, unless it would have been seen to begin: what
 * was decrypted before a close is still read.
 */
static __always_inline struct conn *get_conn(const struct call *call, const bool transferred)
{
	struct conn_key key;
	struct conn *c;

	get_conn_key(call->conn, &key);
	c = bpf_map_lookup_elem(&conns, &key);
	if (!c)
		c = bpf_map_lookup_elem(&ended, &key);
	if (!c || (transferred && !c->begins && c->closed && c->closed < call->nsecs)) {
		new_conn(call->conn, call->nsecs, c != 0);
		c = bpf_map_lookup_elem(&conns, &key);
	}
	if (!c)
		count(TS_CNT_CONNS_FULL, 1);
	else if (c->fd == FD_UNREAD)
		c->fd = read_fd(call->rule, call->conn, call->base);
	return c;
}

/*
 * A goroutine may close a connection while others are in calls on it, which can transfer bytes yet:
 * it ends when the last of them does.
 */
static __always_inline void join_conn(struct call *n)
{
	struct conn *c = get_conn(n, false);

	if (!c || c->closed)
		return;
	__sync_fetch_and_add(&c->calls, 1);
	n->joined = 1;
}

/* Whether this was the last call of a connection that is closed. */
static __always_inline bool leave_conn(const struct call *c)
{
	struct conn *conn = c->joined ? find_conn(c->conn) : 0;

	/* Another connection is there when this one was closed and something was sent on it yet. */
	if (!conn)
		return false;
	conn->used = 1;
	if (!conn->calls)
		return false;
	__sync_fetch_and_add(&conn->calls, -1);
	return conn->closed && !conn->calls;
}

#endif
