/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A call in the kernel's TLS, and the call of a library above it, whose work it may be. */
#ifndef TLSSCOPE_KCALLS_H
#define TLSSCOPE_KCALLS_H

#include "calls.h"
#include "pieces.h"

/* A call of a thread in the kernel's TLS, from its entry until all of its bytes are sent. */
struct kcall {
	__u64 sk, msg, control;
	struct pieces pieces;
	struct call call; /* rule 0: the thread is in none */
	__u64 covered;	  /* subscriptions that see the same bytes in the library above */
	__u64 sent;	  /* bytes of it sent so far */
	__u32 flags;	  /* enum ts_data_flags */
	__u8 slot;	  /* 1 + the index of the call above in the thread's flow; 0: none */
	__u8 content;	  /* the TLS record's ContentType */
	__u16 zero;
	struct pieces ahead; /* what its first bytes are read from */
	struct sending sending;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64); /* as bpf_get_current_pid_tgid says it */
	__type(value, struct kcall);
} kcalls SEC(".maps");

/* A socket whose connection has a name in the library above. */
struct above {
	__u64 conn, opened;
	__u32 pid, zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* struct sock */
	__type(value, struct above);
} socks SEC(".maps");

/* The user's stack pointer; 0: cannot be told. */
static __always_inline __u64 user_sp(void)
{
	__u64 sp = 0;

	if (bpf_core_enum_value_exists(enum bpf_func_id___local, BPF_FUNC_task_pt_regs___local))
		bpf_probe_read_kernel(&sp, sizeof(sp),
				      (void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf()) +
					      hook.sp);
	return sp;
}

/*
 * Whether a library's call contains this one: what it writes is in the buffer that it was given,
 * or, where it was given none, in pages; what it reads goes to a buffer of its own. A call that was
 * left by a jump, and is still in the flow, began further down the stack.
 */
static __always_inline bool contains(const struct call *above, const struct kcall *k, __u64 from,
				     __u64 sp)
{
	if (!above->rule || above->dir != k->call.dir || above->sp < sp)
		return false;
	if (above->dir == TS_IN)
		return true;
	if (!above->buf)
		return k->pieces.kind == PIECES_PAGE || k->pieces.kind == PIECES_PAGES;
	return from >= above->buf && from < above->buf + above->len;
}

/* Who sees the bytes in the call above needs them not here; but SSL_sendfile has none to show. */
static __always_inline void find_above(struct kcall *k)
{
	__u64 thread = bpf_get_current_pid_tgid(), sp;
	struct flow *flow = bpf_map_lookup_elem(&flows, &thread);
	struct piece first = {};
	struct call *above;
	int i;

	if (!flow || !first_piece(&k->pieces, &first))
		return;
	sp = user_sp();
#pragma unroll
	for (i = 0; i < TS_MAX_NEST; i++) {
		above = &flow->calls[i];
		if (!contains(above, k, first.addr + k->pieces.skip, sp))
			continue;
		above->ktls = 1;
		if (above->buf)
			k->covered |= above->subs;
		else
			above->subs &= ~k->call.subs;
		k->slot = i + 1;
	}
}

/* The name that the connection has: the library's, if it is known there, or the socket's. */
static __always_inline void name_conn(struct kcall *k)
{
	struct above *above = bpf_map_lookup_elem(&socks, &k->sk);
	__u64 thread = bpf_get_current_pid_tgid();
	struct flow *flow;
	struct conn *c;

	k->call.conn = k->sk;
	if (k->slot) {
		flow = bpf_map_lookup_elem(&flows, &thread);
		if (flow && k->slot <= TS_MAX_NEST) {
			k->call.conn = flow->calls[(k->slot - 1) & (TS_MAX_NEST - 1)].conn;
			k->call.nsecs = flow->calls[(k->slot - 1) & (TS_MAX_NEST - 1)].nsecs;
		}
		return;
	}
	if (!above || above->pid != owner())
		return;
	c = find_conn(above->conn);
	if (c && c->opened == above->opened)
		k->call.conn = above->conn;
}

static __always_inline void remember_above(const struct kcall *k, const struct conn *c)
{
	struct above above = {.conn = k->call.conn, .opened = c->opened, .pid = owner()};

	if (k->slot)
		bpf_map_update_elem(&socks, &k->sk, &above, BPF_ANY);
}

#endif
