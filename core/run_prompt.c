/* SPDX-License-Identifier: MIT */
/* The prompt in a run: what of the run its commands ask for. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "list.h"
#include "run_private.h"
#include "signals.h"

static bool apply(void *ctx)
{
	return live_apply(ctx);
}

static bool waiting(void *ctx)
{
	const struct run *r = ctx;

	return r->child.pid && r->child.gate < 0;
}

static int print_libraries(struct run *r, const char *pattern, struct ts_err *err)
{
	struct ts_filter narrow = {0};
	int ret = 0;

	if (pattern && *pattern)
		ret = ts_filter_add(&narrow, "lib", pattern, false, err);
	if (!ret && ts_filter_intersect(&narrow, script_target(r->script)))
		ret = ts_fail(err, ENOMEM, "out of memory");
	if (!ret)
		ret = list_files(&narrow, ~0ull, err);
	ts_filter_free(&narrow);
	fflush(stdout);
	return ret;
}

static int print_stats(struct run *r)
{
	static const char *const names[TS_CNT_COUNT] = {
		[TS_CNT_EVENTS] = "records",
		[TS_CNT_BYTES] = "bytes captured",
		[TS_CNT_FILTERED] = "calls that a filter kept out",
		[TS_CNT_LOST_EVENTS] = "events lost: the ring was full",
		[TS_CNT_LOST_BYTES] = "bytes lost with them",
		[TS_CNT_FAULTS] = "bytes not readable, or changed",
		[TS_CNT_UNREADABLE] = "calls with unreadable arguments",
		[TS_CNT_FLOWS_FULL] = "calls not shown: too many threads",
		[TS_CNT_UNPAIRED] = "calls that never returned",
		[TS_CNT_STACKS] = "calls amid others on other stacks",
		[TS_CNT_EARLIER] = "calls that had begun before",
		[TS_CNT_CONNS_FULL] = "calls without a position",
		[TS_CNT_MISSED] = "probe hits skipped by the kernel",
		[TS_CNT_UNFINISHED] = "writes that failed, but may have gone out in part",
	};
	uint64_t now[TS_CNT_COUNT] = {0};
	unsigned int i;

	if (!r->tracer) {
		puts("no probe is loaded yet: the first handler brings them");
	} else {
		printf("probes attached by %s to %zu files\n", tracer_attach_name(r->tracer),
		       targets_attached(r->targets));
		tracer_counters(r->tracer, now);
		for (i = 0; i < TS_CNT_COUNT; i++)
			if (names[i] && (now[i] || i <= TS_CNT_BYTES))
				printf("%14llu %s\n", (unsigned long long)now[i], names[i]);
	}
	printf("%14zu connections\n%14llu errors in handlers\n", stream_conn_count(r->stream),
	       (unsigned long long)script_errors(r->script));
	fflush(stdout);
	return 0;
}

static int run_command(struct run *r, const char *command, struct ts_err *err)
{
	if (!command || !*command)
		return ts_fail(err, EINVAL, ".run needs a command");
	if (r->child.pid)
		return ts_fail(err, EBUSY,
			       "a command is there already: it waits for the first "
			       "handler");
	if (child_start(&r->child, command, err))
		return -ECHILD;
	return child_release(&r->child, err);
}

static int command(void *ctx, const struct script_command *c, struct ts_buf *out,
		   struct ts_err *err)
{
	struct run *r = ctx;

	if (!strcmp(c->name, "libs"))
		return print_libraries(r, c->argument, err);
	if (!strcmp(c->name, "stats"))
		return print_stats(r);
	if (!strcmp(c->name, "run"))
		return run_command(r, c->argument, err);
	if (!strcmp(c->name, "edit"))
		return repl_edit(c->argument, c->text, out, err);
	return ts_fail(err, EINVAL, "no command %s", c->name);
}

int run_open_prompt(struct run *r, struct ts_err *err)
{
	static const struct repl_ops ops = {apply, waiting};
	int ret = script_prompt_open(r->script, command, r, err);

	return ret ? ret : repl_open(&r->repl, r->script, r->out, &ops, r, err);
}

/* One look at what is typed; the command of .run or -c ends meanwhile. */
void run_prompt(struct run *r)
{
	struct pollfd *input = &r->fds[FD_INPUT];
	int status;

	if (child_ended(&r->child, &status) && (!WIFEXITED(status) || WEXITSTATUS(status)))
		ts_warn(WIFEXITED(status) ? "the command exited with status %d"
					  : "the command was ended by signal %d",
			WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	/* While records keep coming the loop does not wait, and would not see what is typed. */
	input->fd = repl_fd(r->repl);
	poll(input, 1, 0);
	repl_step(r->repl, input->revents);
	input->revents = 0;
	input->fd = repl_fd(r->repl);
}
