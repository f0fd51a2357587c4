/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is asked of the current task at every hit: loaded without a helper where the kernel (5.11)
 * gives a pointer that may be followed, as a helper costs more than all else here.
 */
#ifndef TLSSCOPE_TASK_H
#define TLSSCOPE_TASK_H

#include "kernel.h"
#include "tlsscope.h"

/*
 * What the kernel has. Where it is asked, the verifier takes out what is not reached, and moves the
 * rest of the program up for each piece: milliseconds. So a program is compiled twice; for kernels
 * since 6.2 nothing is asked that all of these have.
 */
#ifdef SINCE_6_2
#define HAS_HELPER(name) true
#define HAS_CAST true
#else
#define HAS_HELPER(name)                                                                           \
	bpf_core_enum_value_exists(enum bpf_func_id___local, BPF_FUNC_##name##___local)
#define HAS_CAST types.cast
#endif
#define TASK_IS_TYPED HAS_HELPER(get_current_task_btf)

/*
 * bpf_rdonly_cast: since 6.2 a pointer may be said to be of a type. That is a function of the
 * kernel's, not a helper: user space puts its number in. For an extern declaration libbpf would
 * read all of the kernel's types.
 */
const volatile struct ts_types types SEC(".rodata.types") = {};
static void *(*const cast_to)(const void *object, __u32 type) = (void *)TS_CALL_CAST;

/*
 * Its members are loaded without a helper. Where there is the cast, not by what the other way
 * gives: of that the verifier asks at each pointer whether it is trusted, and takes milliseconds.
 */
static __always_inline struct task_struct *typed_task(void)
{
	if (HAS_CAST)
		return cast_to((void *)bpf_get_current_task(), types.task);
	return (void *)bpf_get_current_task_btf();
}

/* 0: the kernel's own threads have none. */
static __always_inline __u64 current_mm(void)
{
	struct task_struct *task;
	__u64 mm = 0;

	if (TASK_IS_TYPED) {
		task = typed_task();
		return (__u64)task->mm;
	}
	task = (void *)bpf_get_current_task();
	bpf_core_read(&mm, sizeof(mm), &task->mm);
	return mm;
}

/* 8 bytes of the kernel's memory; 0 also where there is none. */
static __always_inline __u64 word_at(const void *at)
{
	const struct timespec64 *typed;
	__u64 word = 0;

	if (HAS_CAST) {
		typed = cast_to(at, types.word);
		return typed->tv_sec;
	}
	bpf_probe_read_kernel(&word, sizeof(word), at);
	return word;
}

/* How often it has executed a program. */
static __always_inline __u32 current_execs(void)
{
	struct task_struct *task;
	__u64 execs = 0;

	if (TASK_IS_TYPED) {
		task = typed_task();
		return task->self_exec_id;
	}
	task = (void *)bpf_get_current_task();
	bpf_core_read(&execs, sizeof(execs), &task->self_exec_id);
	return execs;
}

static __always_inline __u32 current_parent(void)
{
	struct task_struct *task, *parent;
	__u32 pid = 0;

	if (TASK_IS_TYPED) {
		task = typed_task();
		return task->real_parent->tgid;
	}
	task = (void *)bpf_get_current_task();
	if (!bpf_core_read(&parent, sizeof(parent), &task->real_parent))
		bpf_core_read(&pid, sizeof(pid), &parent->tgid);
	return pid;
}

/* The user's number, and the group's in the upper half. */
static __always_inline __u64 current_user(void)
{
	struct task_struct *task;
	const struct cred *cred;

	if (!TASK_IS_TYPED)
		return bpf_get_current_uid_gid();
	task = typed_task();
	cred = task->cred;
	return (__u64)cred->gid.val << 32 | cred->uid.val;
}

/* Its id in v2. */
static __always_inline __u64 current_cgroup_id(void)
{
	struct task_struct *task;

	if (!TASK_IS_TYPED)
		return bpf_get_current_cgroup_id();
	task = typed_task();
	return task->cgroups->dfl_cgrp->kn->id;
}

/* Zeros the bytes of a word behind its first NUL; false: there is none. */
static __always_inline bool end_word(__u64 *word)
{
	__u64 nul = (*word - 0x0101010101010101ull) & ~*word & 0x8080808080808080ull;

	if (!nul)
		return false;
	*word &= ((nul & -nul) >> 7) - 1;
	return true;
}

/* Padded with NUL, which the kernel's own need not be (5.10). At a multiple of 8. */
static __always_inline void current_comm(char comm[TS_COMM_LEN])
{
	struct task_struct *task;
	__u64 words[TS_COMM_LEN / 8];

	if (TASK_IS_TYPED) {
		task = typed_task();
		words[0] = *(__u64 *)&task->comm[0];
		words[1] = *(__u64 *)&task->comm[8];
		if (end_word(&words[0]))
			words[1] = 0;
		else
			end_word(&words[1]);
		((__u64 *)comm)[0] = words[0];
		((__u64 *)comm)[1] = words[1];
	} else {
		bpf_get_current_comm(comm, TS_COMM_LEN);
	}
}

/* 0 where the kernel itself is at work: its threads are no process, and take turns. */
static __always_inline __u32 owner(void)
{
	return current_mm() ? bpf_get_current_pid_tgid() >> 32 : 0;
}

#endif
