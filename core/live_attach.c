/* SPDX-License-Identifier: MIT */
/* Probes: loaded and attached at the start or with the first handler, then kept in step. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gobin.h"
#include "run_private.h"

#define LEAST_BUFFER (8u << 20) /* bytes, where the script does not say */

static enum tracer_attach attach_mode(const char *name)
{
	return !strcmp(name, "sessions") ? TRACER_SESSIONS
	       : !strcmp(name, "multi")	 ? TRACER_MULTI
	       : !strcmp(name, "perf")	 ? TRACER_PERF
	       : !strcmp(name, "copies") ? TRACER_COPIES
					 : TRACER_AUTO;
}

/* The processes that alone can be wanted, for the probes themselves; *count 0: any can be. */
static uint32_t *only_pids(const struct ts_filter *f, size_t *count)
{
	const struct ts_filter_list *list = &f->keys[TS_KEY_PID];
	uint32_t *pids = calloc(list->count + 1, sizeof(*pids));
	size_t i, n = 0;

	for (i = 0; pids && i < list->count; i++) {
		if (list->items[i].follow) {
			n = 0;
			break;
		}
		if (!list->items[i].exclude)
			pids[n++] = (uint32_t)list->items[i].number;
	}
	*count = n;
	return pids;
}

static bool is_go(uint32_t pid)
{
	struct gobin *go = NULL;
	struct ts_err err;
	struct image *im;
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/exe", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && !image_open(&im, fd, path, &err)) {
		gobin_open(&go, im, &err);
		gobin_close(go);
		image_close(im);
	}
	if (fd >= 0)
		close(fd);
	return go;
}

static bool are_go(const struct tracer_options *o)
{
	size_t i;

	for (i = 0; i < o->pids_count && is_go(o->pids[i]); i++)
		;
	return o->pids_count && i == o->pids_count;
}

static int open_tracer(struct run *r, struct ts_err *err)
{
	const struct script_config *config = script_config(r->script);
	struct record_sink sink = {run_record, r};
	struct tracer_options options = {
		.ring_bytes = config->buffer ? config->buffer : LEAST_BUFFER,
		.ring_grows = !config->buffer,
		.attach = attach_mode(config->attach),
		.symbols = !strcmp(config->sites, "symbol"),
		.groups = r->groups,
		.agg_sink = {run_agg_cell, r},
	};
	uint32_t *pids = only_pids(script_target(r->script), &options.pids_count);
	int ret;

	/* At a prompt anything may be asked for. */
	if (!r->repl)
		options.subs = script_subs(r->script, &options.subs_count);
	options.pids = pids;
	options.go = are_go(&options);
	if (!proc_pidns_is_init())
		ts_warn("this is not the machine's first pid namespace: pids are those of the "
			"machine, and -p with other numbers finds nothing");
	ret = tracer_open(&r->tracer, &options, &sink, err);
	free(pids);
	return ret;
}

/* A script that asks for the kernel's TLS itself should know why nothing comes. */
static void tell_kernel(const struct ts_sub *subs, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (!subs[i].removed && lib_kernel_only(subs[i].probes) &&
		    !resolve_kernel_ready()) {
			ts_warn("%s", resolve_kernel_missing());
			return;
		}
}

int live_attach(struct run *r, struct ts_err *err)
{
	const struct ts_sub *subs;
	size_t count;
	int ret = groups_open(&r->groups, err);

	if (!ret)
		ret = open_tracer(r, err);
	if (ret)
		return ret;
	script_changed(r->script);
	r->wants_processes |= script_keys_processes(r->script);
	subs = script_subs(r->script, &count);
	ret = tracer_set_subs(r->tracer, subs, count, err);
	if (!ret)
		ret = targets_open(&r->targets, script_target(r->script), r->tracer, &live_targets,
				   r, err);
	if (!ret)
		ret = targets_scan(r->targets, err);
	if (ret)
		return ret;
	if (r->o->command)
		targets_prepare(r->targets, r->o->command);
	/* Before the start is told: the first connection is to have its address too. */
	tracer_search(r->tracer);
	tell_kernel(subs, count);
	ts_verbose("tracer", "attached by %s", tracer_attach_name(r->tracer));
	if (!targets_attached(r->targets))
		ts_warn("no TLS library that can be probed is in use or installed where it is "
			"looked for; waiting for a program that brings one (`tlsscope doctor` "
			"tells why, of each process)");
	return 0;
}

/* With the first handler that needs probes. */
static int attach_late(struct run *r, struct ts_err *err)
{
	int ret;

	if (r->o->replay)
		return ts_fail(err, EINVAL, "after a replay there is nothing to attach to");
	ret = live_attach(r, err);
	if (!ret)
		return child_release(&r->child, err);
	targets_close(r->targets);
	tracer_close(r->tracer);
	groups_close(r->groups);
	r->targets = NULL;
	r->tracer = NULL;
	r->groups = NULL;
	return ret;
}

static void apply_changes(struct run *r)
{
	const struct ts_sub *subs;
	struct ts_err err;
	size_t count;
	int ret;

	if (!script_changed(r->script) && !r->regroup && !r->asks)
		return;
	r->regroup = false;
	r->wants_processes |= script_keys_processes(r->script);
	subs = script_subs(r->script, &count);
	ret = tracer_set_subs(r->tracer, subs, count, &err);
	r->asks = ret > 0;
	if (ret >= 0)
		return;
	if (r->repl)
		ts_error("%s", err.text);
	else
		run_fail(r, &err);
}

bool live_apply(struct run *r)
{
	struct ts_err err = {""};

	if (r->tracer) {
		apply_changes(r);
		return true;
	}
	if (!script_wants_probes(r->script))
		return true;
	/* Once more only for what is new. */
	if (!script_changed(r->script) && r->refused)
		return false;
	r->refused = attach_late(r, &err);
	if (r->refused)
		ts_error("%s", err.text);
	return !r->refused;
}
