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
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERF_EVENT_ARRAY = 4,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_ANY, BPF_NOEXIST, BPF_EXIST };
enum { BPF_F_NO_PREALLOC = 1, BPF_F_MMAPABLE = 1 << 10 };
#define BPF_F_CURRENT_CPU 0xffffffffull
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };

/* Whether the running kernel has a helper: resolved when the object is loaded. */
enum bpf_func_id___local {
	BPF_FUNC_get_attach_cookie___local = 174,
	BPF_FUNC_task_pt_regs___local = 175,
	BPF_FUNC_get_current_task_btf___local = 158,
};

enum { AF_UNIX = 1, AF_INET = 2, AF_INET6 = 10 };
enum { S_IFMT = 0170000, S_IFSOCK = 0140000 };
enum { IPPROTO_TCP = 6 };
enum { TCP_TIME_WAIT = 6, TCP_LISTEN = 10, TCP_NEW_SYN_RECV = 12 }; /* net/tcp_states.h */
enum { MSG_PEEK = 0x2, MSG_ERRQUEUE = 0x2000 };
enum { SOL_TLS = 282, TLS_SET_RECORD_TYPE = 1, TLS_GET_RECORD_TYPE = 2 }; /* linux/tls.h */

/* A message's bytes. Their numbers differ by kernel; ITER_UBUF came with 6.0. */
enum iter_type { ITER_IOVEC, ITER_KVEC, ITER_BVEC };
enum iter_type___ubuf { ITER_UBUF };

struct bpf_raw_tracepoint_args {
	__u64 args[0];
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;
struct signal_struct {
	atomic_t live;
};
/* The thread pointer on x86_64 (arch/x86/include/asm/processor.h); resolves on no other. */
struct thread_struct {
	unsigned long fsbase;
};
struct pt_regs;
/* Only its size is asked for. */
struct page {
	__u64 flags;
};
struct iovec {
	void *iov_base;
	__u64 iov_len;
};
struct bio_vec {
	struct page *bv_page;
	__u32 bv_len, bv_offset;
};
struct iov_iter {
	__u8 iter_type;
	__u64 iov_offset, count, nr_segs;
	const struct iovec *__iov; /* since 6.4 */
	void *ubuf;
};
struct iov_iter___iov {
	const struct iovec *iov;
};
/* Before 5.14: bit 0 is the direction. */
struct iov_iter___type {
	__u32 type;
};
struct msghdr {
	struct iov_iter msg_iter;
	void *msg_control;
	__u64 msg_controllen;
};
struct pipe_buffer {
	struct page *page;
	__u32 offset, len;
};
struct pipe_inode_info {
	__u32 head, tail, ring_size;
	struct pipe_buffer *bufs;
};
struct in6_addr {
	__u8 in6_u[16];
};
struct sock_common {
	__u16 skc_family, skc_num;
	__u8 skc_state;
	__be16 skc_dport;
	__be32 skc_daddr, skc_rcv_saddr;
	struct in6_addr skc_v6_daddr, skc_v6_rcv_saddr;
};
struct socket;
typedef struct {
	int owned; /* by a thread, which sleeps or works for it; else by nobody or an interrupt */
} socket_lock_t;
struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	socket_lock_t sk_lock;
	__u16 sk_protocol;
};
struct tcp_sock {
	__u32 rcv_nxt, snd_nxt;
	__u64 bytes_received, bytes_sent, bytes_retrans;
};
struct sk_buff {
	struct sock *sk;
	__u32 len;
	__u16 transport_header;
	unsigned char *head, *data;
	char cb[48];
};
/* What TCP keeps in sk_buff.cb. */
struct tcp_skb_cb {
	__u32 seq;
};
struct file;
struct socket {
	struct file *file;
	struct sock *sk;
};
struct inode {
	__u16 i_mode;
	__u64 i_ino;
};
struct qstr {
	__u32 len;
	const unsigned char *name;
};
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};
struct vfsmount {
	struct dentry *mnt_root;
};
/* The kernel's own part of a vfsmount (fs/mount.h): which one it lies on, and where there. */
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};
struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};
struct file {
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
};
struct return_instance {
	unsigned long stack;
	struct return_instance *next;
};
struct uprobe_task {
	struct return_instance *return_instances;
};
struct xol_area {
	unsigned long vaddr;
};
struct uprobes_state {
	struct xol_area *xol_area;
};
struct mm_struct {
	struct file *exe_file;
	struct uprobes_state uprobes_state;
};
struct timespec64 {
	__s64 tv_sec;
};
struct fdtable {
	__u32 max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct sockaddr_un {
	__u16 sun_family;
};
struct unix_address {
	int len;
	struct sockaddr_un name[0];
};
struct unix_sock {
	struct unix_address *addr;
	struct sock *peer;
};
struct inet_sock {
	__be16 inet_sport;
};
struct inet_connection_sock {
	void *icsk_ulp_data;
};
struct tls_prot_info {
	__u16 version, cipher_type;
};
struct tls_context {
	struct tls_prot_info prot_info;
};
struct kernfs_node {
	__u64 id;
};
struct cgroup;
struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};
struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
};
/* The cgroups of a task: that of v2, and one a controller. */
struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};
typedef struct {
	__u32 val;
} kuid_t;
typedef struct {
	__u32 val;
} kgid_t;
struct cred {
	kuid_t uid;
	kgid_t gid;
};
struct task_struct {
	const struct cred *cred;
	struct css_set *cgroups;
	int pid, tgid;
	struct task_struct *real_parent, *group_leader;
	__u64 start_boottime, self_exec_id;
	struct mm_struct *mm;
	struct files_struct *files;
	struct signal_struct *signal;
	struct uprobe_task *utask;
	char comm[16];
	struct thread_struct thread;
};

#pragma clang attribute pop

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#endif
