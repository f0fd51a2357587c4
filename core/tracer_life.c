/* SPDX-License-Identifier: MIT */
/* What becomes of processes: of all, or where only some can be wanted, of these. */
#include <errno.h>
#include <string.h>

#include "tracer_private.h"

static int watch_pid(const struct tracer *t, uint32_t pid)
{
	__u32 one = 1;

	return bpf_map_update_elem(tracer_map_fd(t, "watched"), &pid, &one, BPF_ANY) ? -errno : 0;
}

bool tracer_has_pids(const struct tracer *t)
{
	return t->pids[0];
}

int tracer_watch(struct tracer *t, const struct tracer_life *life, struct ts_err *err)
{
	struct bpf_program *p = bpf_object__find_program_by_name(t->lives, "process_exec");
	int ret = 0;
	size_t i;

	t->life = *life;
	for (i = 0; !ret && tracer_has_pids(t) && i < t->pids_count; i++)
		ret = watch_pid(t, t->pids[i]);
	if (!ret) {
		t->exec_link = bpf_program__attach(p);
		ret = t->exec_link ? 0 : -errno;
	}
	if (ret)
		return ts_fail(err, -ret, "cannot watch processes: %s", strerror(-ret));
	t->control->lives = !tracer_has_pids(t);
	return 0;
}

void tracer_take_life(struct tracer *t, const struct ts_life *l)
{
	char comm[TS_COMM_LEN + 1];

	if (!t->life.exec || l->record.size < sizeof(*l))
		return;
	switch (l->what) {
	case TS_LIFE_EXEC:
		memcpy(comm, l->comm, TS_COMM_LEN);
		comm[TS_COMM_LEN] = 0;
		t->life.exec(t->life.ctx, l->pid, comm, l->nsecs);
		break;
	case TS_LIFE_EXIT:
		t->life.exited(t->life.ctx, l->pid, l->nsecs);
		break;
	case TS_LIFE_LOADED:
		t->life.loaded(t->life.ctx, l->pid);
		break;
	}
}

void tracer_poll_life(struct tracer *t)
{
	if (t->life.lost && __atomic_exchange_n(&t->control->lives_lost, 0, __ATOMIC_SEQ_CST))
		t->life.lost(t->life.ctx);
}
