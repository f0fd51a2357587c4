/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "list.h"
#include "run_private.h"
#include "signals.h"

#define SECOND 1000000000ull

void run_fail(struct run *r, const struct ts_err *err)
{
	if (err->text[0])
		ts_error("%s", err->text);
	r->failed = true;
}

static void send_process(struct run *r, const struct proc_info *info, const char *cgroups)
{
	struct container c;
	struct rec_process body = {
		.nsecs = ts_now(), .pid = info->pid, .ppid = info->ppid, .uid = info->uid};
	struct passwd *pw = info->uid == (uint32_t)-1 ? NULL : getpwuid(info->uid);
	char tls[256];
	const char *strings[] = {info->comm, info->exe, info->cmdline, pw ? pw->pw_name : "",
				 cgroups,    c.name,	c.pod,	       c.namespace,
				 tls,	     NULL};

	groups_container(r->groups, cgroups, &c);
	proc_tls(info->pid, tls, sizeof(tls));
	run_send(r, TS_REC_PROCESS, &body, sizeof(body), strings);
}

void run_tell_process(struct run *r, uint32_t pid, uint64_t cgroup)
{
	char cgroups[CGROUP_TEXT];
	struct proc_info *info;

	if (r->o->replay || ts_map_get(&r->told, pid, 0))
		return;
	info = malloc(sizeof(*info));
	if (info && !ts_map_set(&r->told, pid, 0, r)) {
		groups_read(r->groups, pid, cgroup, cgroups, sizeof(cgroups));
		if (!proc_read(pid, info) || *cgroups)
			send_process(r, info, cgroups);
	}
	free(info);
}

void run_forget_process(struct run *r, uint32_t pid)
{
	ts_map_remove(&r->told, pid, 0);
	ts_map_remove(&r->told, pid, 1);
}

/* Told when it was started, it had no library yet: now it has. */
static void tell_again(struct run *r, uint32_t pid, uint64_t cgroup)
{
	if (r->o->replay || !(r->writer || r->wants_processes) || ts_map_get(&r->told, pid, 1))
		return;
	run_forget_process(r, pid);
	run_tell_process(r, pid, cgroup);
	ts_map_set(&r->told, pid, 1, r);
}

static void want_process(void *ctx, uint32_t pid, uint64_t cgroup)
{
	struct run *r = ctx;

	r->wants_processes = true;
	run_tell_process(r, pid, cgroup);
}

void run_agg_cell(void *ctx, const struct ts_agg_key *key, const struct ts_agg_cell *cell)
{
	struct run *r = ctx;

	script_agg_cell(r->script, key, cell, stream_source(r->stream, key->source));
}

static void drain_aggs(void *ctx)
{
	struct run *r = ctx;
	int ret = r->tracer ? tracer_drain_aggs(r->tracer) : 0;

	if (ret)
		ts_warn("what the kernel aggregated cannot be read now: %s", strerror(-ret));
}

static void hand_attach(struct run *r, const struct ts_record *rec)
{
	const struct rec_attach *a = (const void *)rec;
	const char *problem = record_string(rec, sizeof(*a), 2);

	script_attached(r->script, record_string(rec, sizeof(*a), 0),
			record_string(rec, sizeof(*a), 1), *problem ? problem : NULL, a->sites);
}

/* Hands a record to whom it concerns. */
static int hand_on(struct run *r, const struct ts_record *rec)
{
	int status, ret = 0;

	/* Handlers that are short may take their time for what was captured before Ctrl-C. */
	if (signals_stop() && !r->stopped)
		signals_postpone();
	switch (rec->type) {
	case TS_REC_START:
		r->started = true;
		if (r->pcap)
			pcap_start(r->pcap, (const void *)rec);
		script_record(r->script, rec);
		break;
	case TS_REC_DATA:
	case TS_REC_OPEN:
	case TS_REC_CLOSE:
		r->last_nsecs = ((const struct ts_data *)rec)->nsecs;
		ret = stream_feed(r->stream, rec);
		break;
	case TS_REC_HELLO:
		r->last_nsecs = ((const struct ts_hello *)rec)->nsecs;
		ret = stream_feed(r->stream, rec);
		break;
	case TS_REC_SOURCE:
	case TS_REC_CONN:
		ret = stream_feed(r->stream, rec);
		break;
	case TS_REC_ATTACH:
		hand_attach(r, rec);
		break;
	case TS_REC_EXEC:
	case TS_REC_EXIT:
		ret = stream_feed(r->stream, rec);
		script_record(r->script, rec);
		break;
	case TS_REC_TICK:
		if (!((const struct rec_tick *)rec)->behind)
			stream_flush(r->stream, ((const struct rec_tick *)rec)->nsecs);
		script_record(r->script, rec);
		break;
	case TS_REC_PROCESS:
		if (r->o->replay)
			replay_process(r, rec);
		script_record(r->script, rec);
		break;
	case TS_REC_LOST:
		if (r->pcap)
			pcap_lost(r->pcap,
				  ((const struct rec_lost *)rec)->counters[TS_CNT_LOST_EVENTS]);
		script_record(r->script, rec);
		break;
	case TS_REC_STOP:
		r->stopped = true;
		r->child_status = ((const struct rec_stop *)rec)->status;
		stream_flush(r->stream, UINT64_MAX);
		script_record(r->script, rec);
		break;
	default:
		script_record(r->script, rec);
	}
	if (ret == -ENOMEM)
		return ret;
	return script_exited(r->script, &status) || run_unwritable(r) ? -ECANCELED : 0;
}

/* The one way of every record. */
int run_record(void *ctx, const struct ts_record *rec)
{
	const struct ts_data *data = (const void *)rec;
	const struct ts_hello *hello = (const void *)rec;
	struct run *r = ctx;
	struct ts_err err;

	if (rec->type == TS_REC_HELLO && hello->pid)
		tell_again(r, hello->pid, hello->cgroup);
	if (r->writer) {
		if (rec->type == TS_REC_DATA || rec->type == TS_REC_OPEN)
			run_tell_process(r, data->pid, data->cgroup);
		if (record_write(r->writer, rec, &err)) {
			run_drop_recording(r, &err);
			return -ECANCELED;
		}
	}
	return hand_on(r, rec);
}

int run_send(struct run *r, uint16_t type, const void *body, size_t size,
	     const char *const *strings)
{
	struct ts_buf buf = {0};
	const struct ts_record *rec = record_build(&buf, type, body, size, strings);
	int ret = rec ? run_record(r, rec) : -ENOMEM;

	ts_buf_free(&buf);
	return ret;
}

static void on_message(void *ctx, const struct stream_message *m)
{
	struct stream_message replayed = *m;
	struct run *r = ctx;
	struct ts_data head;

	if (r->o->replay) {
		head = *m->head;
		head.subs = replay_wanted(r, m);
		replayed.head = &head;
	}
	if (r->pcap && replayed.head->subs)
		pcap_message(r->pcap, &replayed);
	script_message(r->script, &replayed);
}

static void on_closed(void *ctx, struct stream_conn *c, uint64_t nsecs)
{
	struct run *r = ctx;

	if (r->pcap)
		pcap_closed(r->pcap, c, nsecs);
	script_closed(r->script, c, nsecs);
}

static const struct stream_ops stream_ops = {on_message, on_closed};

void run_send_start(struct run *r)
{
	struct rec_start body = {.nsecs = ts_now()};
	const char *strings[3] = {0};
	struct timespec wall;
	struct utsname u;

	uname(&u);
	clock_gettime(CLOCK_REALTIME, &wall);
	body.wall_offset = (uint64_t)wall.tv_sec * SECOND + (uint64_t)wall.tv_nsec - body.nsecs;
	strings[0] = u.release;
	strings[1] = u.nodename;
	r->last_tick = body.nsecs;
	run_send(r, TS_REC_START, &body, sizeof(body), strings);
}

bool run_ended(const struct run *r)
{
	int status;

	return signals_stop() || r->failed || (r->repl && repl_ended(r->repl)) ||
	       script_exited(r->script, &status) || run_unwritable(r);
}

static void tell_losses(const struct run *r)
{
	static const char *const texts[TS_CNT_COUNT] = {
		[TS_CNT_LOST_EVENTS] = "events lost: the ring buffer was full; enlarge it with "
				       "config{buffer = \"256M\"} or do less in the handlers",
		[TS_CNT_LOST_BYTES] = "bytes lost with them, or at the end of cut ones",
		[TS_CNT_FAULTS] = "bytes not readable in the process's memory, or no "
				  "longer what was written",
		[TS_CNT_UNREADABLE] = "calls not shown: their arguments were not readable",
		[TS_CNT_FLOWS_FULL] = "calls not shown: too many threads at once",
		[TS_CNT_UNPAIRED] = "calls not shown: they never returned",
		[TS_CNT_STACKS] = "calls not shown: their thread has left others unfinished on "
				  "other stacks",
		[TS_CNT_EARLIER] = "calls not shown: they had begun before they were asked for",
		[TS_CNT_CONNS_FULL] = "calls without a position: too many connections",
		[TS_CNT_MISSED] = "probe hits skipped by the kernel",
		[TS_CNT_UNFINISHED] = "writes not shown: they failed, but part of them may have "
				      "gone out",
	};
	unsigned int i;

	for (i = 0; i < TS_CNT_COUNT; i++)
		if (texts[i] && r->lost[i])
			ts_warn("%llu %s", (unsigned long long)r->lost[i], texts[i]);
	if (stream_invalid(r->stream))
		ts_warn("%llu damaged records ignored",
			(unsigned long long)stream_invalid(r->stream));
	if (stream_evicted(r->stream))
		ts_warn("%llu connections were forgotten: too many at once",
			(unsigned long long)stream_evicted(r->stream));
	if (stream_renewed(r->stream))
		ts_warn("%llu connections may be told as new ones: there were more than the %d "
			"that the kernel remembers",
			(unsigned long long)stream_renewed(r->stream), TS_MAX_CONNS);
	if (script_http_given_up(r->script))
		ts_warn("%llu times what a connection had begun of HTTP was given up: too much is "
			"unfinished at once",
			(unsigned long long)script_http_given_up(r->script));
	if (script_errors(r->script))
		ts_warn("%llu errors in handlers", (unsigned long long)script_errors(r->script));
}

static void tell_child(const struct run *r)
{
	int s = r->child_status;

	if (s < 0 || !r->o->command)
		return;
	if (WIFSIGNALED(s))
		ts_warn("'%s' was ended by signal %d (%s)", r->o->command, WTERMSIG(s),
			strsignal(WTERMSIG(s)));
	else
		ts_warn("'%s' exited with status %d", r->o->command, WEXITSTATUS(s));
}

static void finish(struct run *r)
{
	/* Also where a recording ends without its end. */
	struct rec_stop body = {.nsecs = r->o->replay ? r->last_nsecs : ts_now(),
				.status = r->child_status};

	signals_calm();
	/* What comes now is for a screen without a prompt. */
	if (r->repl)
		r->failed |= repl_failed(r->repl);
	repl_close(r->repl);
	r->repl = NULL;
	/* What never began has no end. */
	if (!r->stopped && r->started)
		run_send(r, TS_REC_STOP, &body, sizeof(body), NULL);
	output_flush(r->out);
	tell_losses(r);
	tell_child(r);
}

/* A file's name, a recipe's, or standard input. */
static int load(struct run *r, struct ts_err *err)
{
	const struct options *o = r->o;

	if (!o->code && !o->script)
		return 0;
	if (o->code)
		return script_load(r->script, SCRIPT_CODE, o->code, o->argc, o->argv, err);
	return script_load(r->script, script_kind_of(o->script), o->script, o->argc, o->argv, err);
}

static int open_script(struct run *r, struct ts_err *err)
{
	const struct options *o = r->o;
	struct script_options options = {
		.include = o->include,
		.include_count = o->include_count,
		.narrow = &r->filter,
		.unsafe = o->unsafe,
		.strict = o->strict,
		.time_given = o->time_given,
		.time = o->time,
		.want_process = want_process,
		.har_entry = o->har ? run_put_har_entry : NULL,
		.show_secrets = o->show_secrets,
		.ctx = r,
	};
	int ret = run_open_output(r, err);

	if (ret)
		return ret;
	options.out = r->out;
	/* A recording is of events, and so is a capture: what is made of them must be the same. */
	if (!o->replay && !o->record && !o->pcap)
		options.drain_aggs = drain_aggs;
	ret = script_open(&r->script, &options, err);
	if (ret)
		return ret;
	signals_set_script(r->script);
	return load(r, err);
}

/* A script that would wait for ever for nothing is a mistake. */
static int check_idle(struct run *r, struct ts_err *err)
{
	int status;

	if (r->o->mode != OPTIONS_RUN || r->o->replay || r->o->interactive ||
	    script_exited(r->script, &status) || !script_idle(r->script))
		return 0;
	return ts_fail(err, EINVAL,
		       "%s has no handler and no timer: nothing to do (try on.tls_data(...))",
		       r->o->script ? r->o->script : "-e");
}

static int open_run(struct run *r, struct ts_err *err)
{
	const struct options *o = r->o;
	int ret = signals_open();

	if (ret < 0)
		return ts_fail(err, -ret, "cannot handle signals: %s", strerror(-ret));
	r->signals = ret;
	if (ts_filter_intersect(&r->filter, &o->filter))
		return ts_fail(err, ENOMEM, "out of memory");
	if (o->command && o->mode == OPTIONS_RUN) {
		ret = child_start(&r->child, o->command, err);
		if (ret)
			return ret;
		if (ts_filter_follow(&r->filter, (uint32_t)r->child.pid))
			return ts_fail(err, ENOMEM, "out of memory");
	}
	err->text[0] = 0;
	ret = open_script(r, err);
	/* What is wrong in a script was told: there is still the prompt. */
	if (ret == -EINVAL && o->interactive && !err->text[0])
		ret = 0;
	if (!ret)
		ret = check_idle(r, err);
	if (ret)
		return ret;
	ret = stream_open(&r->stream, &stream_ops, r);
	if (ret)
		return ts_fail(err, -ret, "out of memory");
	if (o->interactive && run_open_prompt(r, err))
		return -EINVAL;
	return o->mode == OPTIONS_RUN ? run_open_captures(r, err) : 0;
}

static void close_run(struct run *r)
{
	size_t i;

	repl_close(r->repl);
	child_stop(&r->child);
	targets_close(r->targets);
	tracer_close(r->tracer);
	groups_close(r->groups);
	run_close_capture(r);
	if (r->stream)
		stream_close(r->stream);
	signals_set_script(NULL);
	script_close(r->script);
	run_close_outputs(r);
	for (i = FD_PIDS; i < r->fds_count; i++)
		if (r->fds[i].fd >= 0)
			close(r->fds[i].fd);
	free(r->fds);
	free(r->exits);
	ts_map_free(&r->told);
	replay_free(r);
	ts_filter_free(&r->filter);
}

/* Says what would be attached for what the script wants. */
static void dry_run(struct run *r)
{
	const struct ts_sub *subs;
	struct ts_err err;
	uint64_t probes = 0;
	size_t count, i;

	subs = script_subs(r->script, &count);
	for (i = 0; i < count; i++)
		probes |= subs[i].removed ? 0 : subs[i].probes;
	if (list_files(script_target(r->script), probes, &err))
		run_fail(r, &err);
}

int run_script(const struct options *o)
{
	struct run r = {.o = o, .child = {.gate = -1}, .child_status = -1};
	struct ts_err err = {""};
	int status = 0;

	if (open_run(&r, &err)) {
		/* What is wrong in a script is told already. */
		if (err.text[0])
			ts_error("%s", err.text);
		r.failed = true;
	} else if (!script_exited(r.script, &status)) {
		if (o->mode == OPTIONS_DRY_RUN)
			dry_run(&r);
		else if (o->mode == OPTIONS_RUN)
			o->replay ? replay_run(&r) : live_run(&r);
		if (o->replay && r.repl)
			live_run(&r);
	}
	if (o->mode == OPTIONS_RUN && r.stream)
		finish(&r);
	if (r.script)
		script_exited(r.script, &status);
	close_run(&r);
	return r.failed ? 1 : status;
}
