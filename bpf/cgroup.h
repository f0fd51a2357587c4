/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Filters by cgroup: one that is named stands for everything below it. */
#ifndef TLSSCOPE_CGROUP_H
#define TLSSCOPE_CGROUP_H

#include "maps.h"
#include "task.h"

#define CGROUP_LEVELS 32

/* The current task's cgroup in a hierarchy. */
static __always_inline struct cgroup *current_cgroup(__u32 subsys)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct cgroup_subsys_state *css = 0;
	struct css_set *set;

	set = BPF_CORE_READ(task, cgroups);
	if (subsys == TS_CGROUP_V2)
		return BPF_CORE_READ(set, dfl_cgrp);
	bpf_probe_read_kernel(&css, sizeof(css), (void *)&set->subsys + subsys * sizeof(css));
	return BPF_CORE_READ(css, cgroup);
}

/* What is asked of a cgroup: one of the masks in struct cgroup_filter. */
enum { ASK_ACCEPT, ASK_REJECT, ASK_CONTAINER = 2 };

/* What the filters say of one cgroup. Not static, as the next ones: the verifier looks at it once.
 */
__noinline __u64 ask_cgroup(__u64 at, __u32 subsys, __u32 what)
{
	struct ts_filter_id id = {.key = what & ASK_CONTAINER ? TS_KEY_CONTAINER : TS_KEY_CGROUP};
	struct ts_cgroup cgroup = {.subsys = subsys};
	struct ts_filter_subs *subs;

	cgroup.id = BPF_CORE_READ((struct cgroup *)at, kn, id);
	__builtin_memcpy(id.value, &cgroup, sizeof(cgroup));
	subs = bpf_map_lookup_elem(&filters, &id);
	if (!subs)
		return 0;
	return what & ASK_REJECT ? subs->reject : subs->accept;
}

__noinline __u64 parent_of(__u64 at)
{
	return (__u64)BPF_CORE_READ((struct cgroup *)at, self.parent, cgroup);
}

/* What they say of it and of those above it, up to the root. */
__noinline __u64 ask_cgroups(__u64 at, __u32 subsys, __u32 what)
{
	__u64 subs = 0;
	int i;

	for (i = 0; i < CGROUP_LEVELS && at; i++) {
		subs |= ask_cgroup(at, subsys, what);
		at = parent_of(at);
	}
	return subs;
}

/* Finds what the filters say of the current task's cgroup in a hierarchy. */
__noinline int find_cgroup(__u32 subsys)
{
	__u64 at = (__u64)current_cgroup(subsys);
	struct cgroup_filter f = {};
	struct ts_cgroup own = {.subsys = subsys};

	f.generation = control.generation;
	own.id = BPF_CORE_READ((struct cgroup *)at, kn, id);
	f.keys[0].accept = ask_cgroups(at, subsys, ASK_ACCEPT);
	f.keys[0].reject = ask_cgroups(at, subsys, ASK_REJECT);
	f.keys[1].accept = ask_cgroups(at, subsys, ASK_CONTAINER | ASK_ACCEPT);
	f.keys[1].reject = ask_cgroups(at, subsys, ASK_CONTAINER | ASK_REJECT);
	return bpf_map_update_elem(&cgroups, &own, &f, BPF_ANY);
}

/* The number of the current task's cgroup in a hierarchy. */
__noinline __u64 cgroup_id(__u32 subsys)
{
	return subsys == TS_CGROUP_V2 ? current_cgroup_id()
				      : BPF_CORE_READ(current_cgroup(subsys), kn, id);
}

static __always_inline struct cgroup_filter *get_cgroup(__u32 subsys)
{
	struct cgroup_filter *f;
	struct ts_cgroup id = {.id = cgroup_id(subsys), .subsys = subsys};

	f = bpf_map_lookup_elem(&cgroups, &id);
	if (f && f->generation == control.generation)
		return f;
	find_cgroup(subsys);
	return bpf_map_lookup_elem(&cgroups, &id);
}

/* Takes from subs those that the current task's cgroups do not let pass. */
__noinline __u64 filter_cgroups(__u64 subs)
{
	__u64 found = 0, contained = 0, reject = 0;
	struct cgroup_filter *f;
	__u32 i;

#pragma unroll
	for (i = 0; i < TS_HIERARCHIES; i++) {
		f = i < control.hierarchies_count ? get_cgroup(control.hierarchies[i]) : 0;
		if (!f)
			continue;
		found |= f->keys[0].accept;
		contained |= f->keys[1].accept;
		reject |= f->keys[0].reject | f->keys[1].reject;
	}
	return subs & (~control.wants[TS_KEY_CGROUP] | found) &
	       (~control.wants[TS_KEY_CONTAINER] | contained) & ~reject;
}

/* The same, where any of them asks for cgroups. */
static __always_inline __u64 filter_cgroup(__u64 subs)
{
	const __u64 asking = control.wants[TS_KEY_CGROUP] | control.wants[TS_KEY_CONTAINER] |
			     control.rejects[TS_KEY_CGROUP] | control.rejects[TS_KEY_CONTAINER];

	return subs & asking ? filter_cgroups(subs) : subs;
}

#endif
