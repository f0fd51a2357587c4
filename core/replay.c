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
	char *text = strdup(record_string(rec, sizeof(*p), 4));

	free(ts_map_remove(&r->cgroups, p->pid, 0));
	if (text && ts_map_set(&r->cgroups, p->pid, 0, text))
		free(text);
}

static bool passes(const struct run *r, const struct ts_sub *sub, const struct stream_message *m)
{
	const char *cgroups = ts_map_get(&r->cgroups, m->head->pid, 0);
	const struct ts_filter *f = &sub->filter;
	const struct ts_data *d = m->head;

	return ts_filter_passes(f, d->pid, d->comm, d->uid) &&
	       ts_filter_lib_passes(f, m->source->path) &&
	       groups_passes(f, cgroups ? cgroups : "", d->cgroup);
}

uint64_t replay_wanted(const struct run *r, const struct stream_message *m)
{
	const __u32 kernel = TS_DATA_CONTROL | TS_DATA_BELOW;
	const struct ts_sub *subs;
	uint64_t mask = 0;
	size_t count, i;

	subs = script_subs(r->script, &count);
	for (i = 0; i < count; i++)
		if (!subs[i].removed && subs[i].probes & TS_PROBE(m->source->probe) &&
		    (!(m->head->flags & kernel) || lib_kernel_only(subs[i].probes)) &&
		    (m->len || subs[i].errors) && passes(r, &subs[i], m))
			mask |= 1ull << i;
	return mask;
}

void replay_free(struct run *r)
{
	size_t i;

	for (i = 0; i < r->cgroups.cap; i++)
		free(r->cgroups.slots[i].value);
	ts_map_free(&r->cgroups);
}
