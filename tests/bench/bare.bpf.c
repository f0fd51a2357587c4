/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The least that can be done at a probe: what tlsscope's programs are measured against. They sit on
 * the functions bench_enter and bench_leave of the load generator, at an emulated instruction.
 */
#include "file.h"
#include "bare.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile struct bare_constants constants = {};

struct kept {
	__u64 conn, buf, nsecs;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct kept);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bare_control);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22); /* user space sets another */
} ring SEC(".maps");

static __always_inline __u64 argument(void *ctx, __u32 offset)
{
	return word_at(ctx + offset);
}

SEC("uprobe")
int empty(void *ctx)
{
	(void)ctx;
	return 0;
}

/* What tlsscope does at each call: the descriptor's socket is the one whose addresses are known. */
SEC("uprobe")
int address(void *ctx)
{
	__u64 file = file_of(argument(ctx, constants.args[2]));
	struct bare_control *c;
	__u32 zero = 0;

	c = bpf_map_lookup_elem(&control, &zero);
	if (c && file)
		c->inode = inode_of_file(file);
	return 0;
}

SEC("uprobe")
int add(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 *sum = bpf_map_lookup_elem(&counts, &pid), none = 0;

	(void)ctx;
	if (sum)
		__sync_fetch_and_add(sum, 1);
	else
		bpf_map_update_elem(&counts, &pid, &none, BPF_ANY);
	return 0;
}

SEC("uprobe")
int keep(void *ctx)
{
	struct kept k = {argument(ctx, constants.args[0]), argument(ctx, constants.args[1]),
			 bpf_ktime_get_ns()};
	__u64 thread = bpf_get_current_pid_tgid();

	bpf_map_update_elem(&calls, &thread, &k, BPF_ANY);
	return 0;
}

SEC("uprobe")
int capture(void *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid(), len = argument(ctx, constants.args[2]), flags;
	struct kept *k = bpf_map_lookup_elem(&calls, &thread);
	struct bare_control *c;
	const __u32 room = constants.room;
	struct bare_event *e;
	__u32 zero = 0;

	c = bpf_map_lookup_elem(&control, &zero);
	if (!k || !c || (__s64)len <= 0)
		return 0;
	e = bpf_ringbuf_reserve(&ring, sizeof(*e) + room, 0);
	if (!e) {
		__sync_fetch_and_add(&c->lost, 1);
		return 0;
	}
	e->nsecs = bpf_ktime_get_ns();
	e->duration = e->nsecs - k->nsecs;
	e->conn = k->conn;
	e->len = len;
	e->pid = thread >> 32;
	e->tid = thread;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	if (len > room)
		len = room;
	asm volatile("if %0 <= %1 goto +1\n\t%0 = %1" : "+r"(len) : "i"(BARE_LARGEST));
	bpf_probe_read_user(e->payload, len, (void *)k->buf);
	__sync_fetch_and_add(&c->events, 1);
	flags = c->armed ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
	if (c->armed)
		c->armed = 0;
	bpf_ringbuf_submit(e, flags);
	return 0;
}
