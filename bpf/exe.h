/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Filters by program: the path that /proc/PID/exe shows, as a struct ts_exe. */
#ifndef TLSSCOPE_EXE_H
#define TLSSCOPE_EXE_H

#include "maps.h"
#include "task.h"

/* On the way to the root: mounts, and these with names. */
#define EXE_MOUNTS 16
#define EXE_STEPS (TS_EXE_NAMES + EXE_MOUNTS)

#define HAS_MOUNTS bpf_core_field_exists(((struct mount *)0)->mnt_parent)

static __always_inline void current_exe(struct exe_key *key)
{
	struct task_struct *task;

	key->pid = bpf_get_current_pid_tgid() >> 32;
	if (TASK_IS_TYPED) {
		task = typed_task();
		key->started = task->group_leader->start_boottime;
		key->execs = task->self_exec_id;
		key->file = (__u64)task->mm->exe_file;
	} else {
		task = (void *)bpf_get_current_task();
		key->started = BPF_CORE_READ(task, group_leader, start_boottime);
		key->execs = BPF_CORE_READ(task, self_exec_id);
		key->file = (__u64)BPF_CORE_READ(task, mm, exe_file);
	}
}

/* Not static, as what follows: the verifier looks at it once. A longer name nobody can name. */
__noinline __u64 hash_name(__u64 at, __u32 len)
{
	__u64 hash = TS_EXE_SEED, word, n;
	__u32 i;

	for (i = 0; i <= TS_EXE_NAME && i < len; i += sizeof(word)) {
		word = 0;
		n = len - i;
		asm volatile("if %0 <= 8 goto +1\n\t%0 = 8" : "+r"(n));
		bpf_probe_read_kernel(&word, n, (void *)(at + i));
		hash = ts_exe_mix(hash, word);
	}
	return hash;
}

/* --- a walk towards the root of a mount namespace: a dentry, and the mount that it is in */

#define IN_MOUNT 0 /* what a dentry that is no mount's root leads to */
#define AT_ROOT 1  /* what the last mount's root leads to; no address */

/* The mount that a mount lies on, where a dentry is the root of it. */
__noinline __u64 outer_mount(__u64 at, __u64 mount)
{
	const struct mount *m = (void *)mount;
	__u64 outer;

	if (at != (__u64)BPF_CORE_READ(m, mnt.mnt_root))
		return IN_MOUNT;
	outer = (__u64)BPF_CORE_READ(m, mnt_parent);
	return outer == mount ? AT_ROOT : outer;
}

__noinline __u64 mountpoint_of(__u64 mount)
{
	return (__u64)BPF_CORE_READ((const struct mount *)mount, mnt_mountpoint);
}

__noinline __u64 folder_of(__u64 at)
{
	return (__u64)BPF_CORE_READ((const struct dentry *)at, d_parent);
}

__noinline __u64 hash_entry(__u64 at)
{
	const struct dentry *entry = (void *)at;

	return hash_name((__u64)BPF_CORE_READ(entry, d_name.name),
			 BPF_CORE_READ(entry, d_name.len));
}

/* One step: to the mount that this one lies on, or to the folder. */
__noinline __u64 step_mount(__u64 at, __u64 mount)
{
	__u64 outer = outer_mount(at, mount);

	return outer > AT_ROOT ? outer : mount;
}

__noinline __u64 step_entry(__u64 at, __u64 mount)
{
	return outer_mount(at, mount) > AT_ROOT ? mountpoint_of(mount) : folder_of(at);
}

__noinline __u64 step_hash(__u64 at, __u64 mount, __u64 hash)
{
	return outer_mount(at, mount) > AT_ROOT ? hash : ts_exe_mix(hash, hash_entry(at));
}

__noinline int is_top(__u64 at, __u64 mount)
{
	__u64 outer = outer_mount(at, mount);

	return outer == AT_ROOT || (outer == IN_MOUNT && folder_of(at) == at);
}

/*
 * Of a path's last name, and then of the folders from `at` on. 0: deeper than what can be named.
 * Each step asks several times where it is: what has no branch the verifier is soon done with.
 */
__noinline __u64 hash_folders(__u64 at, __u64 mount, __u64 hash)
{
	__u64 next;
	int i;

	for (i = 0; i < EXE_STEPS; i++) {
		if (is_top(at, mount))
			return hash;
		hash = step_hash(at, mount, hash);
		next = step_entry(at, mount);
		mount = step_mount(at, mount);
		at = next;
	}
	return 0;
}

/* The path of an open file. What is in no folder, as memory that is executed, has one name. */
static __always_inline void hash_path(const struct file *file, struct ts_exe *exe)
{
	__u64 at = (__u64)BPF_CORE_READ(file, f_path.dentry), mount, outer, up, hash;
	int i;

	mount = (__u64)BPF_CORE_READ(file, f_path.mnt) - bpf_core_field_offset(struct mount, mnt);
	/* A file can be what is mounted. */
	for (i = 0; i < EXE_MOUNTS; i++) {
		outer = outer_mount(at, mount);
		if (outer <= AT_ROOT)
			break;
		at = mountpoint_of(mount);
		mount = outer;
	}
	exe->name = hash_entry(at);
	hash = ts_exe_mix(TS_EXE_SEED, exe->name);
	up = folder_of(at);
	if (up != at)
		hash = hash_folders(up, mount, hash);
	exe->path = hash ? ts_exe_path(hash) : 0;
}

static __always_inline void add_exe(struct exe_filter *f, const struct ts_filter_id *id)
{
	struct ts_filter_subs *subs = bpf_map_lookup_elem(&filters, id);

	if (!subs)
		return;
	f->accept |= subs->accept;
	f->reject |= subs->reject;
}

static __always_inline void find_exe(struct exe_filter *f, const struct exe_key *key)
{
	struct ts_filter_id id = {.key = TS_KEY_EXE};
	struct ts_exe *exe = (struct ts_exe *)id.value;

	if (!HAS_MOUNTS || !key->file)
		return;
	hash_path((void *)key->file, exe);
	add_exe(f, &id);
	if (!exe->path)
		return;
	exe->path = 0;
	add_exe(f, &id);
}

/* Takes from subs, of which some ask for it, those that the process' program does not let pass. */
__noinline __u64 filter_exe(__u64 subs)
{
	struct exe_filter *known, f = {};
	struct exe_key key = {};

	current_exe(&key);
	known = bpf_map_lookup_elem(&exes, &key);
	if (known && known->generation == control.generation) {
		f = *known;
	} else {
		f.generation = control.generation;
		find_exe(&f, &key);
		bpf_map_update_elem(&exes, &key, &f, BPF_ANY);
	}
	return subs & (~control.wants[TS_KEY_EXE] | f.accept) & ~f.reject;
}

#endif
