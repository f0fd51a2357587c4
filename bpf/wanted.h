/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Filters: which subscriptions want a call. */
#ifndef TLSSCOPE_WANTED_H
#define TLSSCOPE_WANTED_H

#include "cgroup.h"
#include "exe.h"
#include "loaded.h"

/* Whether any of subs asks for this key. */
static __always_inline bool asks(__u64 subs, const __u32 key)
{
	return subs & (control.wants[key] | control.rejects[key]);
}

/* Those of subs that a value of this key lets pass; f: what the filters say of it, or NULL. */
static __always_inline __u64 let_pass(const __u32 key, __u64 subs, const struct ts_filter_subs *f)
{
	if (!f)
		return subs & ~control.wants[key];
	return subs & (~control.wants[key] | f->accept) & ~f->reject;
}

/* Takes from subs those that this key of the current process does not let pass. */
static __always_inline __u64 filter_key(struct ts_filter_id *id, const __u32 key, __u64 subs)
{
	id->key = key;
	return let_pass(key, subs, bpf_map_lookup_elem(&filters, id));
}

/* The same. Mostly it is one process that is traced, and then that is known without the map. */
static __always_inline __u64 filter_pid(struct ts_filter_id *id, __u32 pid, __u64 subs)
{
	if (pid == control.first_pid)
		return let_pass(TS_KEY_PID, subs, &control.first);
	*(__u64 *)id->value = pid;
	return filter_key(id, TS_KEY_PID, subs);
}

/* Those of subs that want the current thread, of process pid, as far as its numbers and name say.
 */
static __always_inline __u64 filter_task(__u64 subs, __u32 pid)
{
	struct ts_filter_id id = {};

	if (asks(subs, TS_KEY_PID))
		subs = filter_pid(&id, pid, subs);
	if (asks(subs, TS_KEY_UID)) {
		*(__u64 *)id.value = (__u32)current_user();
		subs = filter_key(&id, TS_KEY_UID, subs);
	}
	if (asks(subs, TS_KEY_COMM)) {
		current_comm((char *)id.value);
		subs = filter_key(&id, TS_KEY_COMM, subs);
	}
	return subs;
}

/* Those of subs that want what the current thread, of process pid, does. */
static __always_inline __u64 wanted_of(__u64 subs, __u32 pid)
{
	subs = filter_task(subs & control.enabled, pid);
	if (asked & TS_ASK_CGROUPS)
		subs = filter_cgroup(subs);
	return asked & TS_ASK_EXES && asks(subs, TS_KEY_EXE) ? filter_exe(subs) : subs;
}

/* The subscriptions that want what the current thread, of process pid, says through this rule. */
static __always_inline __u64 wanted(const struct ts_rule *rule, __u32 pid)
{
	return wanted_of(rule->subs, pid);
}

static __always_inline __u64 filter_port(const __u32 key, __u16 port, __u64 subs)
{
	struct ts_filter_id id = {};

	*(__u64 *)id.value = port;
	return asks(subs, key) ? filter_key(&id, key, subs) : subs;
}

static __always_inline __u64 filter_net(const __u32 key, const __u8 address[TS_FILTER_VALUE],
					__u64 subs)
{
	struct ts_net_id id = {.bits = TS_NET_KEY_BITS + TS_NET_BITS, .key = key};

	if (!asks(subs, key))
		return subs;
	__builtin_memcpy(id.address, address, sizeof(id.address));
	return let_pass(key, subs, bpf_map_lookup_elem(&nets, &id));
}

/* Who asks for certain ends gets none that are not known, and excludes none of these. */
static __noinline __attribute__((unused)) __u64 filter_known(__u64 subs, const struct ends *e)
{
	if (!e || !e->family)
		return subs & ~(control.wants[TS_KEY_LPORT] | control.wants[TS_KEY_RPORT] |
				control.wants[TS_KEY_LADDR] | control.wants[TS_KEY_RADDR]);
	subs = filter_port(TS_KEY_LPORT, e->lport, subs);
	subs = filter_port(TS_KEY_RPORT, e->rport, subs);
	subs = filter_net(TS_KEY_LADDR, e->laddr, subs);
	return filter_net(TS_KEY_RADDR, e->raddr, subs);
}

/* Takes from subs those that a connection's ends do not let pass. NULL: not known. */
static __always_inline __u64 filter_ends(__u64 subs, const struct ends *e)
{
	return subs & socket_subs() ? filter_known(subs, e) : subs;
}

#endif
