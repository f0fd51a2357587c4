/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connections: an address in a process leads to its positions, its descriptor, its calls. */
#ifndef TLSSCOPE_CONNS_H
#define TLSSCOPE_CONNS_H

#include "maps.h"
#include "task.h"

/* Follows a walk from *addr on; the last load is of `size` bytes. False: memory that is not there.
 */
static __always_inline bool walk(const struct ts_walk *w, __u64 *addr, const __u32 size)
{
	__u64 at = *addr;
	__u32 i;

#pragma unroll
	for (i = 0; i < TS_WALK_STEPS; i++) {
		if (i >= w->steps)
			break;
		at += w->offsets[i];
		*addr = 0;
		if (bpf_probe_read_user(addr, i + 1 == w->steps && size == 4 ? 4 : 8, (void *)at))
			return false;
		at = *addr;
	}
	return true;
}

/* FD_UNREAD: may be there when asked again. */
static __always_inline __s32 get_fd(const struct ts_fd *fd, __u64 conn, __u64 base)
{
	__u64 type = conn, number = conn;

	if (!fd->number.steps)
		return FD_NONE;
	if (!walk(&fd->type, &type, 8))
		return FD_UNREAD;
	type -= base;
	if (type != fd->types[0] && type != fd->types[1])
		return FD_NONE;
	if (!walk(&fd->number, &number, 4))
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

/* bio, fd: what was found last, in a BIO that then was of such a type. */
static __always_inline __s32 get_bio_fd(const struct ts_bio *b, __u64 conn, __u64 *bio, __s32 fd)
{
	__u64 at = conn, type, number = 0;
	int i;

	if (!walk(&b->read, &at, 8))
		return FD_NONE;
	if (fd >= 0 && at == *bio && !bpf_probe_read_user(&number, 4, (void *)(at + b->number)) &&
	    (__s32)number == fd)
		return fd;
	*bio = 0;
	type = conn;
	if (b->zero.steps && (!walk(&b->zero, &type, 4) || type))
		return FD_NONE;
#pragma unroll
	for (i = 0; i < BIO_STEPS; i++) {
		type = at;
		if (!at || !walk(&b->type, &type, 4))
			return FD_NONE;
		if (type == BIO_TYPE_SOCKET || type == BIO_TYPE_CONNECT || type == BIO_TYPE_FD ||
		    type == BIO_TYPE_DGRAM) {
			if (bpf_probe_read_user(&number, 4, (void *)(at + b->number)))
				return FD_NONE;
			*bio = at;
			return (__s32)number < 0 ? FD_NONE : (__s32)number;
		}
		if (!(type & BIO_TYPE_FILTER) ||
		    bpf_probe_read_user(&at, sizeof(at), (void *)(at + b->next)))
			return FD_NONE;
	}
	return FD_NONE;
}

static __always_inline void get_conn_key(__u64 conn, struct conn_key *key)
{
	key->zero = 0;
	key->conn = conn;
	key->mm = current_mm();
	key->pid = key->mm ? bpf_get_current_pid_tgid() >> 32 : 0;
}

/* Not inlined: the stack of a program has no room for it beside its own. */
static __noinline __attribute__((unused)) struct conn *new_conn(const struct conn_key *key,
								__u64 opened, bool anew)
{
	struct conn fresh = {.opened = opened, .fd = FD_UNREAD};

	bpf_map_update_elem(&conns, key, &fresh, anew ? BPF_EXIST : BPF_NOEXIST);
	return bpf_map_lookup_elem(&conns, key);
}

static __always_inline struct conn *find_conn(__u64 conn)
{
	struct conn_key key;

	get_conn_key(conn, &key);
	return bpf_map_lookup_elem(&conns, &key);
}

/*
 * A call's connection; 0: no room. When it transferred something, but began after the connection
 * there was closed, the address serves another one.
 */
static __always_inline struct conn *get_conn(const struct ts_rule *rule, const struct call *call,
					     const bool transferred)
{
	struct conn_key key;
	struct conn *c;

	get_conn_key(call->conn, &key);
	c = bpf_map_lookup_elem(&conns, &key);
	if (!c || (transferred && c->closed && c->closed < call->nsecs))
		c = new_conn(&key, call->nsecs, c != 0);
	if (!c)
		count(TS_CNT_CONNS_FULL, 1);
	else if (c->fd == FD_UNREAD)
		c->fd = get_fd(&rule->fd, call->conn, call->base);
	return c;
}

/*
 * A goroutine may close a connection while others are in calls on it, which can transfer bytes yet:
 * it ends when the last of them does.
 */
static __always_inline void join_conn(const struct ts_rule *rule, struct call *n)
{
	struct conn *c = get_conn(rule, n, false);

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
	if (!conn || !conn->calls)
		return false;
	__sync_fetch_and_add(&conn->calls, -1);
	return conn->closed && !conn->calls;
}

#endif
