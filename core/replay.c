/* SPDX-License-Identifier: MIT */
/* The run of a recording: who passes the filters is decided here, not in the kernel. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "groups.h"
#include "libs.h"
#include "run_private.h"

static bool ended(void *ctx)
{
	return run_ended(ctx);
}

void replay_run(struct run *r)
{
	struct record_sink sink = {run_record, r};
	struct ts_err err = {""};
	int ret = record_replay(r->o->replay, &sink, ended, r, &err);

	if (ret && ret != -ECANCELED)
		run_fail(r, &err);
}

void replay_process(struct run *r, const struct ts_record *rec)
{
	const struct rec_process *p = (const void *)rec;
	void *copy = malloc(rec->size);

	free(ts_map_remove(&r->processes, p->pid, 0));
	if (!copy)
		return;
	memcpy(copy, rec, rec->size);
	if (ts_map_set(&r->processes, p->pid, 0, copy))
		free(copy);
}

/* The keys that ask where a process runs. */
static bool place_passes(const struct run *r, const struct ts_filter *f, const struct ts_data *d)
{
	const struct ts_record *told = ts_map_get(&r->processes, d->pid, 0);
	struct groups_process p = {.text = "", .id = d->cgroup};
	struct container c;

	if (!f->names[TS_NAMES_CGROUP].count && !f->names[TS_NAMES_CONTAINER].count)
		return true;
	if (told) {
		p.text = record_string(told, sizeof(struct rec_process), 4);
		p.container = record_container(told, &c) ? &c : NULL;
	}
	return groups_passes(f, &p);
}

/* "": not known. */
static const char *exe_of(const struct run *r, uint32_t pid)
{
	const struct ts_record *told = ts_map_get(&r->processes, pid, 0);

	return told ? record_string(told, sizeof(struct rec_process), 1) : "";
}

static bool passes(const struct run *r, const struct ts_sub *sub, const struct stream_message *m)
{
	const struct ts_data *d = m->head;

	return ts_filter_passes(&sub->filter, d->pid, d->comm, d->uid, exe_of(r, d->pid)) &&
	       ts_filter_ends_pass(&sub->filter, &m->conn->info) &&
	       ts_filter_lib_passes(&sub->filter, m->source->path) &&
	       place_passes(r, &sub->filter, d);
}

uint64_t replay_wanted(const struct run *r, const struct stream_message *m)
{
	const __u32 kernel = TS_DATA_CONTROL | TS_DATA_BELOW;
	const struct ts_sub *subs;
	uint64_t mask = 0;
	size_t count, i;

	subs = script_subs(r->script, &count);
	for (i = 0; i < count; i++)
		if (!subs[i].removed && subs[i].probes & m->probes &&
		    (!(m->head->flags & kernel) || lib_kernel_only(subs[i].probes)) &&
		    (m->open || m->len || subs[i].errors) && passes(r, &subs[i], m) &&
		    (m->open || m->hello ||
		     ts_pick_passes(&subs[i].pick, m->head, m->data, m->size)))
			mask |= 1ull << i;
	return mask;
}

void replay_free(struct run *r)
{
	size_t i;

	for (i = 0; i < r->processes.cap; i++)
		free(r->processes.slots[i].value);
	ts_map_free(&r->processes);
}
