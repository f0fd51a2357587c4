/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The few kernel types and constants that the BPF programs use, declared by hand: no header of the
 * kernel or of an architecture is included, so that one object serves all. Structs are CO-RE: only
 * the names of their members count. Constants are of the kernel's UAPI (linux/bpf.h), which never
 * change, or are resolved against the running kernel when the object is loaded.
 */
#ifndef TLSSCOPE_KERNEL_H
#define TLSSCOPE_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_ANY, BPF_NOEXIST, BPF_EXIST };
enum { BPF_F_MMAPABLE = 1 << 10 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };

/* Whether the running kernel has this helper: resolved when the object is loaded. */
enum bpf_func_id___local { BPF_FUNC_get_attach_cookie___local = 174 };

struct bpf_raw_tracepoint_args {
	__u64 args[0];
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct mm_struct;
typedef struct {
	int counter;
} atomic_t;
struct signal_struct {
	atomic_t live;
};
/* The thread pointer on x86_64 (arch/x86/include/asm/processor.h); resolves on no other. */
struct thread_struct___x86 {
	unsigned long fsbase;
};
struct task_struct___x86 {
	struct thread_struct___x86 thread;
};
struct task_struct {
	int pid, tgid;
	struct task_struct *real_parent;
	struct mm_struct *mm;
	struct signal_struct *signal;
};

#pragma clang attribute pop

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#endif
