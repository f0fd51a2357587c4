/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Telling of the lives of processes. */
#ifndef TLSSCOPE_LIFE_H
#define TLSSCOPE_LIFE_H

#include "maps.h"
#include "task.h"

static __always_inline bool is_watched(__u32 pid)
{
	return control.lives || bpf_map_lookup_elem(&watched, &pid);
}

__noinline int send_life(__u32 pid, __u32 what)
{
	const __u64 nsecs = bpf_ktime_get_ns();
	struct ts_life *l = reserve(sizeof(*l));

	if (!l) {
		control.lives_lost = 1;
		return 0;
	}
	__builtin_memset(l, 0, sizeof(*l));
	l->record.type = TS_REC_LIFE;
	l->record.size = sizeof(*l);
	l->nsecs = nsecs;
	l->pid = pid;
	l->what = what;
	current_comm(l->comm);
	submit(l, wake_flags());
	return 0;
}

#endif
