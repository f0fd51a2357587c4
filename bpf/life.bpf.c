/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What keeps the maps in step with the lives of threads and processes, and tells of these. */
#include "life.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* What a thread was sending when it ended may have gone out; what it was to receive, nobody got. */
static __always_inline void end_calls(__u64 thread)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, &thread);
	__u64 n = 0;
	int i;

	if (!flow)
		return;
#pragma unroll
	for (i = 0; i < TS_MAX_NEST; i++)
		n += flow->calls[i].rule && flow->calls[i].dir == TS_OUT;
	if (n)
		count(TS_CNT_UNPAIRED, n);
	bpf_map_delete_elem(&flows, &thread);
}

#define EEXIST 17 /* asm-generic/errno-base.h */

/* Processes that ended, by what names them for ever. */
struct life_name {
	__u64 pid, began;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct life_name);
	__type(value, __u32);
} told_ends SEC(".maps");

/* Threads that end at the same time may each find that no other is alive: one of them tells. */
static __always_inline bool is_told(struct task_struct *task, __u32 pid)
{
	struct life_name name = {.pid = pid};
	struct task_struct *leader = 0;
	__u32 one = 1;

	bpf_core_read(&leader, sizeof(leader), &task->group_leader);
	bpf_core_read(&name.began, sizeof(name.began), &leader->start_boottime);
	/* Before 6.4 the kernel calls a map's function itself, which returns an int. */
	return (int)bpf_map_update_elem(&told_ends, &name, &one, BPF_NOEXIST) == -EEXIST;
}

/* A thread's calls in flight, and a process' place in the filters, end with it. */
SEC("raw_tp/sched_process_exit")
int thread_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	__u64 id = bpf_get_current_pid_tgid();
	__u32 pid = id >> 32;
	struct ts_filter_id filter = {.key = TS_KEY_PID};
	struct signal_struct *signal = 0;
	struct ts_filter_subs *f;
	int live = 1;

	end_calls(id);
	if (!(control.follows || is_watched(pid)))
		return 0;
	bpf_core_read(&signal, sizeof(signal), &task->signal);
	bpf_core_read(&live, sizeof(live), &signal->live.counter);
	if (live)
		return 0;
	if (is_watched(pid) && !is_told(task, pid))
		send_life(pid, TS_LIFE_EXIT);
	*(__u64 *)filter.value = pid;
	f = bpf_map_lookup_elem(&filters, &filter);
	if (f && f->follow)
		bpf_map_delete_elem(&filters, &filter);
	return 0;
}

/* The children of a followed process are traced as it is. */
SEC("raw_tp/sched_process_fork")
int process_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *parent = (void *)ctx->args[0], *child = (void *)ctx->args[1];
	struct ts_filter_id id = {.key = TS_KEY_PID};
	struct ts_filter_subs subs, *f;
	__u32 from = 0, to = 0;

	if (!control.follows)
		return 0;
	bpf_core_read(&from, sizeof(from), &parent->tgid);
	bpf_core_read(&to, sizeof(to), &child->tgid);
	if (from == to)
		return 0;
	*(__u64 *)id.value = from;
	f = bpf_map_lookup_elem(&filters, &id);
	if (!f || !f->follow)
		return 0;
	subs.accept = subs.follow = f->follow;
	subs.reject = f->reject;
	*(__u64 *)id.value = to;
	bpf_map_update_elem(&filters, &id, &subs, BPF_ANY);
	return 0;
}

SEC("raw_tp/sched_process_exec")
int process_exec(void *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 pid = id >> 32;

	(void)ctx;
	end_calls(id);
	if (is_watched(pid))
		send_life(pid, TS_LIFE_EXEC);
	return 0;
}
