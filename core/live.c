/* SPDX-License-Identifier: MIT */
/* The live half of a run: attaching, the event loop, and what came and went meanwhile. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "list.h"
#include "run_private.h"
#include "signals.h"

#define SECOND 1000000000ull
#define POLL_BUDGET 1024   /* records between two looks at everything else */
#define FEW 4		   /* records at a time: then it is cheap to be woken by each */
#define WAKE_PAUSE_MS 1	   /* but not more often than this */
#define ARMED_SLEEP_MS 100 /* a wake-up that raced with going to sleep costs no more than this */

static size_t count_enters(const struct resolve_plan *plan)
{
	size_t i, n = 0;

	if (plan && plan->row == &lib_kernel)
		return plan->funcs_count;
	for (i = 0; plan && i < plan->sites_count; i++)
		n += plan->sites[i].role == RESOLVE_ENTER &&
		     plan->sites[i].where != RESOLVE_SYMBOL &&
		     plan->sites[i].where != RESOLVE_ASIDE;
	return n;
}

static void tell_file(const struct targets_file *f)
{
	ts_before_message();
	list_file(stderr, f, ~0ull);
}

static void on_file(void *ctx, const struct targets_file *f)
{
	const char *strings[] = {f->path, f->kind, f->problem ? f->problem : "", NULL};
	struct rec_attach body = {.nsecs = ts_now(), .sites = (__u32)count_enters(f->plan)};
	struct run *r = ctx;

	if (f->problem)
		ts_warn("%s", f->problem);
	else if (ts_get_level() >= TS_VERBOSE)
		tell_file(f);
	run_send(r, TS_REC_ATTACH, &body, sizeof(body), strings);
}

static void on_exec(void *ctx, uint32_t pid, const char *comm, uint64_t nsecs)
{
	struct rec_exec body = {.nsecs = nsecs, .pid = pid};
	const char *strings[] = {comm, NULL};
	struct run *r = ctx;

	run_forget_process(r, pid);
	r->regroup |= groups_note(r->groups, pid);
	/* It may be gone before its first message is handled. */
	if (r->writer || r->wants_processes)
		run_tell_process(r, pid, 0);
	run_send(r, TS_REC_EXEC, &body, sizeof(body), strings);
}

/* Kept until everything that the process said was handed over. */
static void on_exited(void *ctx, uint32_t pid, uint64_t nsecs)
{
	struct run *r = ctx;
	struct rec_exec *exits = realloc(r->exits, (r->exits_count + 1) * sizeof(*exits));

	if (!exits) {
		ts_warn("out of memory: the end of process %u is not told", pid);
		return;
	}
	r->exits = exits;
	exits[r->exits_count++] = (struct rec_exec){.nsecs = nsecs, .pid = pid};
}

static void on_lives_lost(void *ctx)
{
	struct run *r = ctx;

	r->lives_lost = true;
}

const struct targets_ops live_targets = {on_file, on_exec, on_exited, on_lives_lost};

static void send_exits(struct run *r)
{
	const char *strings[] = {"", NULL};
	size_t i;

	for (i = 0; i < r->exits_count; i++) {
		run_send(r, TS_REC_EXIT, &r->exits[i], sizeof(r->exits[i]), strings);
		run_forget_process(r, r->exits[i].pid);
	}
	r->sweep |= r->exits_count > 0;
	r->exits_count = 0;
}

static bool is_loss(unsigned int counter)
{
	return counter != TS_CNT_EVENTS && counter != TS_CNT_BYTES && counter != TS_CNT_FILTERED;
}

/* In ns, what the kernel says of this thread (CONFIG_SCHED_INFO; else 0). */
static struct run_times read_times(void)
{
	FILE *f = fopen("/proc/thread-self/schedstat", "re");
	struct run_times t = {0};

	if (f && fscanf(f, "%" SCNu64 " %" SCNu64, &t.ran, &t.waited) != 2)
		t = (struct run_times){0};
	if (f)
		fclose(f);
	return t;
}

static void warn_of_loss(const struct run *r)
{
	const struct run_times now = read_times();
	const bool starved = now.ran && now.waited - r->times.waited > now.ran - r->times.ran;

	ts_warn("events are being lost: %s (the total is told at the end)",
		starved ? "tlsscope waits for a processor, as others have them all; start it by "
			  "nice -n -20"
			: "the handlers are slower than the traffic");
}

/* Tells what was lost since it was told last. */
static void send_lost(struct run *r)
{
	struct rec_lost body = {.nsecs = ts_now()};
	uint64_t now[TS_CNT_COUNT];
	bool any = false;
	unsigned int i;

	if (!r->tracer)
		return;
	tracer_counters(r->tracer, now);
	for (i = 0; i < TS_CNT_COUNT; i++) {
		body.counters[i] = now[i] - r->lost[i];
		any |= body.counters[i] && is_loss(i);
	}
	if (!any)
		return;
	if (now[TS_CNT_LOST_EVENTS] && !r->lost[TS_CNT_LOST_EVENTS])
		warn_of_loss(r);
	if (now[TS_CNT_STACKS] && !r->lost[TS_CNT_STACKS])
		ts_warn("calls are not shown: a thread makes them while others that it has left "
			"are unfinished on other stacks (SAFETY in man tlsscope; the total is told "
			"at the end)");
	memcpy(r->lost, now, sizeof(now));
	run_send(r, TS_REC_LOST, &body, sizeof(body), NULL);
}

/* A process of -p may be moved to another cgroup without a program being started. */
static void note_groups(struct run *r)
{
	const struct ts_filter_list *list = &script_target(r->script)->keys[TS_KEY_PID];
	size_t i;

	for (i = 0; i < list->count; i++)
		r->regroup |= groups_note(r->groups, (uint32_t)list->items[i].number);
}

static int note_group(void *ctx, uint32_t pid)
{
	struct run *r = ctx;

	r->regroup |= groups_note(r->groups, pid);
	return 0;
}

static void end_if_gone(void *ctx, uint32_t pid)
{
	struct run *r = ctx;
	size_t i;

	for (i = 0; i < r->exits_count; i++)
		if (r->exits[i].pid == pid)
			return;
	if (!proc_exists(pid))
		on_exited(r, pid, ts_now());
}

static void end_gone(struct run *r)
{
	const struct ts_map_slot *slot = r->told.slots;
	size_t i;

	/* In another pid namespace nobody could be found. */
	if (!proc_pidns_is_init())
		return;
	stream_each_process(r->stream, end_if_gone, r);
	for (i = 0; i < r->told.cap; i++)
		if (slot[i].value)
			end_if_gone(r, (uint32_t)slot[i].a);
}

/* There was no room for some exec and exit, and they will not come. */
static void catch_up(struct run *r)
{
	if (!r->lives_lost)
		return;
	r->lives_lost = false;
	ts_verbose("watch", "not all was told of what became of processes; looking again");
	proc_each(note_group, r);
	end_gone(r);
	/* What they are now is told with what they say next. */
	ts_map_free(&r->told);
}

static void send_tick(struct run *r, uint64_t now, bool behind)
{
	struct rec_tick body = {.nsecs = now, .behind = behind};

	r->last_tick = now;
	send_lost(r);
	r->times = read_times();
	if (r->sweep && r->tracer)
		tracer_sweep(r->tracer);
	if (r->tracer)
		note_groups(r);
	catch_up(r);
	r->sweep = false;
	run_send(r, TS_REC_TICK, &body, sizeof(body), NULL);
}

static uint64_t next_tick(const struct run *r)
{
	uint64_t script = script_next_tick(r->script), house = r->last_tick + SECOND;

	return script < house ? script : house;
}

/* The processes of -p: the run ends when the last of them does. */
static int open_pids(struct run *r, struct ts_err *err)
{
	const struct ts_filter_list *list = &script_target(r->script)->keys[TS_KEY_PID];
	size_t i, n = FD_PIDS;
	int fd;

	r->fds = calloc(FD_PIDS + list->count, sizeof(*r->fds));
	if (!r->fds)
		return ts_fail(err, ENOMEM, "out of memory");
	/* At a prompt the user says when it is over. */
	for (i = 0; i < list->count && !r->repl; i++) {
		if (list->items[i].exclude || list->items[i].follow)
			continue;
		fd = (int)syscall(SYS_pidfd_open, (pid_t)list->items[i].number, 0);
		if (fd < 0 && errno == ESRCH)
			return ts_fail(err, ESRCH, "there is no process %llu",
				       (unsigned long long)list->items[i].number);
		r->fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
	}
	r->fds_count = n;
	return 0;
}

static bool pids_ended(struct run *r)
{
	size_t i, running = 0;

	for (i = FD_PIDS; i < r->fds_count; i++) {
		if (r->fds[i].revents & POLLIN) {
			close(r->fds[i].fd);
			r->fds[i] = (struct pollfd){.fd = -1, .revents = POLLNVAL};
		}
		running += r->fds[i].fd >= 0;
	}
	return r->fds_count > FD_PIDS && !running;
}

static int sleep_ms(const struct run *r, int most)
{
	uint64_t now = ts_now(), next = next_tick(r);

	if (next <= now)
		return 0;
	return (next - now) / 1000000 < (uint64_t)most ? (int)((next - now) / 1000000) + 1 : most;
}

/* Now and then. It may take milliseconds: what came before was shown. */
static void look_around(struct run *r)
{
	tracer_search(r->tracer);
	targets_look_at_kernel(r->targets);
}

/* The tracer's own readiness is of no use while it is polled anyway. */
static void watch_tracer(struct run *r, bool armed)
{
	int fds[TRACER_FDS], i;

	tracer_fds(r->tracer, fds);
	for (i = 0; i < TRACER_FDS; i++)
		r->fds[FD_TRACER + i].fd = armed ? fds[i] : -1;
}

static bool tracer_woke(const struct run *r)
{
	int i;

	for (i = 0; i < TRACER_FDS; i++)
		if (r->fds[FD_TRACER + i].revents)
			return true;
	return false;
}

/*
 * Waits for something to happen, after `got` records: until woken where they are few, as being
 * woken costs the traced program microseconds; else for a moment.
 */
static void wait_events(struct run *r, int got)
{
	bool armed = got <= FEW && ts_now() - r->woken >= WAKE_PAUSE_MS * 1000000ull;

	run_flush_outputs(r);
	if (!r->tracer) {
		poll(r->fds, r->fds_count, sleep_ms(r, ARMED_SLEEP_MS));
		return;
	}
	look_around(r);
	if (armed) {
		tracer_arm(r->tracer, true);
		/* What came before that wakes nobody. */
		if (tracer_poll(r->tracer, POLL_BUDGET))
			return;
	}
	r->fds[FD_WATCH].fd = targets_fd(r->targets);
	watch_tracer(r, armed);
	poll(r->fds, r->fds_count, sleep_ms(r, armed && !r->asks ? ARMED_SLEEP_MS : WAKE_PAUSE_MS));
	tracer_arm(r->tracer, false);
	if (armed && tracer_woke(r))
		r->woken = ts_now();
}

static void on_usr1(struct run *r)
{
	struct rec_signal body = {.nsecs = ts_now(), .number = SIGUSR1};

	if (signals_take_usr1())
		run_send(r, TS_REC_SIGNAL, &body, sizeof(body), NULL);
}

/* Before the events are handled for which the kernel had no room. */
static void make_room(struct run *r)
{
	if (!tracer_aggs_full(r->tracer))
		return;
	ts_verbose("tracer", "the kernel's table of aggregations was full: what it had no room "
			     "for comes as events");
	script_sync_aggs(r->script);
}

/* The event loop. */
static void loop(struct run *r)
{
	bool last = false;
	int n = 0;

	/* What on.start wrote is seen, whatever a timer does next. */
	run_flush_outputs(r);
	while (!run_ended(r)) {
		if (r->tracer) {
			targets_poll(r->targets);
			make_room(r);
			n = tracer_poll(r->tracer, POLL_BUDGET);
		}
		if (n >= 0 && n < POLL_BUDGET)
			send_exits(r);
		if (ts_now() >= next_tick(r))
			send_tick(r, ts_now(), n == POLL_BUDGET);
		on_usr1(r);
		live_apply(r);
		if (r->repl)
			run_prompt(r);
		if (n == POLL_BUDGET && r->repl)
			repl_flush(r->repl);
		if (n == POLL_BUDGET) {
			look_around(r);
			continue;
		}
		if (last)
			return;
		wait_events(r, n);
		if (r->fds[FD_SIGNALS].revents)
			signals_clear();
		if (r->repl)
			continue;
		/* One more round for what it said last. */
		last = child_ended(&r->child, &r->child_status) || pids_ended(r);
	}
}

/* Everything that was captured before the end is still handed over. */
static void drain(struct run *r)
{
	int status;

	tracer_detach(r->tracer);
	while (!script_exited(r->script, &status) && !output_failed(r->out) &&
	       tracer_poll(r->tracer, POLL_BUDGET) == POLL_BUDGET)
		;
	send_exits(r);
	if (r->sweep)
		tracer_sweep(r->tracer);
	send_lost(r);
}

static int start(struct run *r, struct ts_err *err)
{
	int ret = r->repl ? 0 : live_attach(r, err), i;

	if (!ret)
		ret = open_pids(r, err);
	if (ret)
		return ret;
	r->fds[FD_SIGNALS] = (struct pollfd){.fd = r->signals, .events = POLLIN};
	for (i = FD_SIGNALS + 1; i < FD_PIDS; i++)
		r->fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
	r->times = read_times();
	if (!r->started)
		run_send_start(r);
	if (r->repl) {
		script_prompt_settled(r->script, live_apply(r) ? NULL : "refused");
		return 0;
	}
	return child_release(&r->child, err);
}

void live_run(struct run *r)
{
	struct ts_err err;

	if (start(r, &err))
		run_fail(r, &err);
	else
		loop(r);
	if (r->tracer)
		drain(r);
}
