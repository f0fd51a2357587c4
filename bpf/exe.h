/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Filters by program: the path that /proc/PID/exe shows, as a struct ts_exe. */
#ifndef TLSSCOPE_EXE_H
#define TLSSCOPE_EXE_H

#include "maps.h"
#include "task.h"

/* On the way to the root: mounts, and these with names. */
#define EXE_MOUNTS 16
#define EXE_STEPS (TS_EXE_NAMES + EXE_MOUNTS)

/* A process and which program it runs: the kernel uses the addresses of files and mms again. */
struct exe_key {
	__u64 started, file;
	__u32 pid, execs;
};

/* What the filters say of its program; good while its generation is the control's. */
struct exe_filter {
	__u64 generation, accept, reject;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct exe_key);
	__type(value, struct exe_filter);
} exes SEC(".maps");

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

/* A walk towards the root of a mount namespace. */
struct exe_walk {
	struct dentry *at;
	struct mount *mount;
};
enum exe_place { EXE_NAME, EXE_MOUNT, EXE_ROOT };

/* Where the walk is. From a mount's root it goes on to what it is mounted on. */
static __always_inline enum exe_place leave_mount(struct exe_walk *w)
{
	struct mount *mount = w->mount, *outer;

	if (w->at != BPF_CORE_READ(mount, mnt.mnt_root))
		return EXE_NAME;
	outer = BPF_CORE_READ(mount, mnt_parent);
	if (outer == mount)
		return EXE_ROOT;
	w->at = BPF_CORE_READ(mount, mnt_mountpoint);
	w->mount = outer;
	return EXE_MOUNT;
}

static __always_inline struct dentry *folder_of(const struct dentry *entry)
{
	return BPF_CORE_READ(entry, d_parent);
}

static __always_inline __u64 hash_entry(const struct dentry *entry)
{
	return hash_name((__u64)BPF_CORE_READ(entry, d_name.name),
			 BPF_CORE_READ(entry, d_name.len));
}

/* Of a path's last name, and then of the folders from `at` on. 0: deeper than what can be named. */
static __always_inline __u64 hash_folders(struct exe_walk *w, __u64 hash)
{
	enum exe_place place;
	struct dentry *up;
	int i;

	for (i = 0; i < EXE_STEPS; i++) {
		place = leave_mount(w);
		if (place == EXE_MOUNT)
			continue;
		up = folder_of(w->at);
		if (place == EXE_ROOT || up == w->at)
			return hash;
		hash = ts_exe_mix(hash, hash_entry(w->at));
		w->at = up;
	}
	return 0;
}

/* The path of an open file. What is in no folder, as memory that is executed, has one name. */
static __always_inline void hash_path(const struct file *file, struct ts_exe *exe)
{
	struct exe_walk w = {.at = BPF_CORE_READ(file, f_path.dentry)};
	struct dentry *up;
	__u64 hash;
	int i;

	w.mount =
		(void *)BPF_CORE_READ(file, f_path.mnt) - bpf_core_field_offset(struct mount, mnt);
	/* A file can be what is mounted. */
	for (i = 0; i < EXE_MOUNTS && leave_mount(&w) == EXE_MOUNT; i++)
		;
	exe->name = hash_entry(w.at);
	hash = ts_exe_mix(TS_EXE_SEED, exe->name);
	up = folder_of(w.at);
	if (up != w.at) {
		w.at = up;
		hash = hash_folders(&w, hash);
	}
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
	struct ts_control *c = get_control();
	struct exe_filter *known, f = {};
	struct exe_key key = {};

	if (!c)
		return 0;
	current_exe(&key);
	known = bpf_map_lookup_elem(&exes, &key);
	if (known && known->generation == c->generation) {
		f = *known;
	} else {
		f.generation = c->generation;
		find_exe(&f, &key);
		bpf_map_update_elem(&exes, &key, &f, BPF_ANY);
	}
	return subs & (~c->wants[TS_KEY_EXE] | f.accept) & ~f.reject;
}

#endif
