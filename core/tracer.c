/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "tracer_private.h"

bool tracer_kernel_before(unsigned int major, unsigned int minor)
{
	unsigned int a = 0, b = 0;
	struct utsname u;

	uname(&u);
	if (sscanf(u.release, "%u.%u", &a, &b) != 2)
		return false;
	return a < major || (a == major && b < minor);
}

static bool lacks_helper(enum bpf_func_id helper)
{
	return libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE, helper, NULL) == 0;
}

/* by_pid: before 6.11 uprobe_multi compared threads where its pid should have meant the process. */
static bool has_multi(bool by_pid)
{
	return tracer_has_links(TRACE_UPROBE_MULTI) > 0 && !(by_pid && tracer_kernel_before(6, 11));
}

/*
 * Sessions spare a call's return where nobody wants it, or it would do harm (bpf/returns.h). Where
 * Go's programs alone are traced there is no such call, and they would be loaded for nothing.
 */
static enum tracer_attach best_attach(const struct tracer *t)
{
	if (lacks_helper(BPF_FUNC_get_attach_cookie))
		return TRACER_COPIES;
	if (!has_multi(t->pids[0]))
		return TRACER_PERF;
	return !t->options->go && tracer_has_links(TRACE_UPROBE_SESSION) > 0 ? TRACER_SESSIONS
									     : TRACER_MULTI;
}

static int choose_attach(struct tracer *t, struct ts_err *err)
{
	const struct tracer_options *o = t->options;

	t->leave_name = lacks_helper(BPF_FUNC_loop) ? "leave_no_loop" : "leave";
	t->attach = o->attach == TRACER_AUTO ? best_attach(t) : o->attach;
	if (o->attach == TRACER_MULTI && tracer_has_links(TRACE_UPROBE_MULTI) == 0)
		return ts_fail(err, ENOTSUP, "this kernel has no uprobe_multi (it came with 6.6)");
	if (o->attach == TRACER_SESSIONS && tracer_has_links(TRACE_UPROBE_SESSION) == 0)
		return ts_fail(err, ENOTSUP,
			       "this kernel's uprobe_multi has no sessions (they came with 6.13)");
	/* Without cookies, a copy of the programs serves a function, at whatever site. */
	t->at_symbols = o->symbols || t->attach == TRACER_COPIES;
	return tracer_load(t, err);
}

int tracer_map_fd(const struct tracer *t, const char *name)
{
	return bpf_object__find_map_fd_by_name(t->maps, name);
}

static int on_sample(void *ctx, const void *sample, size_t size)
{
	const struct ts_record *r = sample;
	struct tracer *t = ctx;

	if (size < sizeof(*r) || r->size > size)
		return 0;
	if (r->type != TS_REC_LIFE)
		return record_send(&t->sink, r);
	tracer_take_life(t, sample);
	return 0;
}

static int open_maps(struct tracer *t, struct ts_err *err)
{
	int ret;

	t->rules = tracer_map_fd(t, "rules");
	t->filters = tracer_map_fd(t, "filters");
	t->nets = tracer_map_fd(t, "nets");
	t->picks = tracer_map_fd(t, "picks");
	t->control = mmap(NULL, sizeof(*t->control), PROT_READ | PROT_WRITE, MAP_SHARED,
			  tracer_map_fd(t, ".bss.control"), 0);
	if (t->control == MAP_FAILED) {
		t->control = NULL;
		return ts_fail(err, errno, "cannot map the BPF control page: %s", strerror(errno));
	}
	t->tested = mmap(NULL, TS_MAX_RULES * sizeof(*t->tested), PROT_READ | PROT_WRITE,
			 MAP_SHARED, tracer_map_fd(t, ".bss.tested"), 0);
	if (t->tested == MAP_FAILED) {
		t->tested = NULL;
		return ts_fail(err, errno, "cannot map the BPF tests: %s", strerror(errno));
	}
	t->counters = mmap(NULL, t->cpus * sizeof(*t->counters), PROT_READ, MAP_SHARED,
			   tracer_map_fd(t, "counters"), 0);
	if (t->counters == MAP_FAILED) {
		t->counters = NULL;
		return ts_fail(err, errno, "cannot map the BPF counters: %s", strerror(errno));
	}
	ret = tracer_open_buffer(t);
	if (ret)
		return ts_fail(err, -ret, "cannot make the ring buffer: %s", strerror(-ret));
	return 0;
}

struct bpf_link *tracer_tracepoint(struct tracer *t, const char *name, const char *without)
{
	struct bpf_program *p = bpf_object__find_program_by_name(t->lives, name);
	struct bpf_link *link = bpf_program__attach(p);

	if (!link)
		ts_warn("%s: cannot attach (%s); %s", name, strerror(errno), without);
	return link;
}

/*
 * Each process has probes of its own. To take one away, the kernel goes through all processes that
 * have its file mapped, and asks all probes of that place for each: 0.35 s with 100 processes, 40 s
 * with 600 (6.18). Of perf events each waits for itself: 1.6 s a process.
 */
#define MOST_PIDS 100
#define MOST_PIDS_PERF 4
static bool too_many_pids(const struct tracer_options *o)
{
	const bool multi = o->attach <= TRACER_MULTI && has_multi(true);

	return o->pids_count > (multi ? MOST_PIDS : MOST_PIDS_PERF);
}

static int copy_pids(struct tracer *t, const struct tracer_options *o)
{
	size_t count = o->pids_count;

	if (too_many_pids(o)) {
		ts_verbose("tracer",
			   "%zu processes are too many for probes of their own: everybody's calls "
			   "are looked at, and theirs are taken",
			   count);
		count = 0;
	}
	t->pids_count = count ? count : 1;
	t->pids = calloc(t->pids_count, sizeof(*t->pids));
	if (!t->pids)
		return -ENOMEM;
	if (count)
		memcpy(t->pids, o->pids, count * sizeof(*t->pids));
	return 0;
}

int tracer_open(struct tracer **out, const struct tracer_options *options,
		const struct record_sink *sink, struct ts_err *err)
{
	struct tracer *t = calloc(1, sizeof(*t));
	int ret;

	if (!t || copy_pids(t, options)) {
		free(t);
		return ts_fail(err, ENOMEM, "out of memory");
	}
	t->copied = -1;
	t->asked = options->subs ? tracer_asked_by(options->subs, options->subs_count) : TS_ASK_ALL;
	t->sink = *sink;
	t->groups = options->groups;
	t->aggs.sink = options->agg_sink;
	t->options = options;
	ret = choose_attach(t, err);
	if (!ret)
		ret = open_maps(t, err);
	t->options = NULL;
	if (ret) {
		tracer_close(t);
		return ret;
	}
	t->exit_link = tracer_tracepoint(
		t, "thread_exit",
		"threads that end inside a call stay counted as in flight, and no end is told");
	*out = t;
	return 0;
}

void tracer_close(struct tracer *t)
{
	size_t i;

	if (!t)
		return;
	tracer_detach(t);
	tracer_close_hello(t);
	tracer_close_aggs(t);
	bpf_link__destroy(t->exit_link);
	bpf_link__destroy(t->fork_link);
	bpf_link__destroy(t->exec_link);
	for (i = 0; i < t->files_count; i++)
		tracer_free_file(&t->files[i]);
	for (i = 0; t->copies && i <= t->last_rule; i++)
		bpf_object__close(t->copies[i]);
	tracer_ring_close(t->ring);
	if (t->control)
		munmap(t->control, sizeof(*t->control));
	if (t->tested)
		munmap(t->tested, TS_MAX_RULES * sizeof(*t->tested));
	if (t->counters)
		munmap((void *)t->counters, t->cpus * sizeof(*t->counters));
	tracer_unload(t);
	free(t->copies);
	free(t->files);
	free(t->links);
	free(t->pids);
	free(t);
}

void tracer_fds(const struct tracer *t, int fds[TRACER_FDS])
{
	_Static_assert(TRACER_FDS == TRACER_RING_FDS, "those of the ring");

	tracer_ring_fds(t->ring, fds);
}

int tracer_poll(struct tracer *t, unsigned int budget)
{
	int ret = tracer_ring_poll(t->ring, budget, on_sample, t);

	t->polled = ret < 0 ? 0 : (unsigned int)ret;
	t->sink_error = ret < 0 ? ret : 0;
	tracer_fit_buffer(t, t->polled < budget);
	tracer_poll_life(t);
	tracer_poll_hello(t);
	return t->sink_error ? t->sink_error : (int)t->polled;
}

void tracer_arm(struct tracer *t, bool armed)
{
	__atomic_store_n(&t->control->armed, armed, __ATOMIC_SEQ_CST);
}

static bool sends(const struct tracer *t, uint32_t rule)
{
	const struct traced_file *f;
	size_t i, j;

	for (i = 0; i < t->files_count; i++) {
		f = &t->files[i];
		for (j = 0; j < f->funcs_count; j++)
			if (f->funcs[j].rule == rule)
				return f->funcs[j].func.rule.dir == TS_OUT;
	}
	return false;
}

/* struct goroutine_key and struct conn_key of bpf/maps.h: the process is at the same place. */
struct swept {
	__u64 what[2];
	__u32 pid, number;
};

/* As bpf/life.bpf.c counts them for threads. */
static void end_goroutine(struct tracer *t, const struct swept *key)
{
	t->unpaired += sends(t, key->number);
}

/* As count_unfinished of bpf/handshake.h. */
static void end_unfinished(struct tracer *t, const struct swept *key)
{
	union {
		struct ts_progress is;
		unsigned char room[TS_CONN_ROOM];
	} conn;
	struct ts_progress was;

	t->unfinished += !bpf_map_lookup_elem(tracer_map_fd(t, "unfinished"), key, &was) &&
			 !bpf_map_lookup_elem(tracer_map_fd(t, "conns"), key, &conn) &&
			 conn.is.opened == was.opened && conn.is.pos[TS_OUT] == was.pos[TS_OUT];
}

/*
 * Key by key: a batch would keep the programs of kprobes from running for as long as it takes, and
 * so would every other call that reads or writes a hash.
 */
#define SWEEP 32768 /* keys at a time, at most: other threads change the map */
static void sweep(struct tracer *t, const char *name,
		  void (*end)(struct tracer *t, const struct swept *key))
{
	int map = tracer_map_fd(t, name), i;
	struct tracer_haste haste;
	struct swept key, next;
	__u32 gone = 0;
	bool more;

	more = !bpf_map_get_next_key(map, NULL, &key);
	for (i = 0; more && i < SWEEP; i++, key = next) {
		more = !bpf_map_get_next_key(map, &key, &next);
		if (key.pid != gone && !proc_exists(key.pid))
			gone = key.pid;
		if (key.pid != gone)
			continue;
		end(t, &key);
		tracer_hasten(t, &haste);
		bpf_map_delete_elem(map, &key);
		tracer_relax(&haste);
	}
}

void tracer_sweep(struct tracer *t)
{
	/* In another pid namespace nobody could be found. */
	if (!proc_pidns_is_init())
		return;
	/* Threads' calls go with the thread; goroutines end unseen. */
	sweep(t, "goroutines", end_goroutine);
	sweep(t, "unfinished", end_unfinished);
}

/* Hits at which the kernel did not run a program, because it was running already. */
static uint64_t program_misses(int fd)
{
	struct bpf_prog_info info = {0};
	__u32 size = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &size) ? 0 : info.recursion_misses;
}

uint64_t tracer_counter(const struct tracer *t, unsigned int which)
{
	uint64_t sum = 0;
	uint32_t cpu;

	for (cpu = 0; cpu < t->cpus; cpu++)
		sum += __atomic_load_n(&t->counters[cpu].n[which], __ATOMIC_RELAXED);
	return sum;
}

void tracer_counters(const struct tracer *t, uint64_t counters[TS_CNT_COUNT])
{
	unsigned int i;

	for (i = 0; i < TS_CNT_COUNT; i++)
		counters[i] = tracer_counter(t, i);
	counters[TS_CNT_UNPAIRED] += t->unpaired;
	counters[TS_CNT_UNFINISHED] += t->unfinished;
	counters[TS_CNT_MISSED] =
		tracer_kernel_misses(t, program_misses) + tracer_hello_misses(t, program_misses);
	/* Of `moment` when it is there. Where another one takes over, this count is of both. */
	for (i = 0; i < TRACER_PROGRAMS; i++)
		if (i != TRACER_MOMENT || tracer_has_later(t))
			counters[TS_CNT_MISSED] +=
				program_misses(bpf_program__fd(t->programs[i].program));
}

const char *tracer_sites_name(const struct tracer *t)
{
	if (!t->at_symbols)
		return "at an instruction that the kernel emulates, where one is proved to serve";
	return t->attach == TRACER_COPIES ? "at symbols: this kernel's probes have no cookies"
					  : "at symbols";
}

const char *tracer_attach_name(const struct tracer *t)
{
	static const char *const names[] = {
		[TRACER_AUTO] = "?",
		[TRACER_SESSIONS] = "uprobe_multi, with sessions",
		[TRACER_MULTI] = "uprobe_multi",
		[TRACER_PERF] = "perf events with cookies",
		[TRACER_COPIES] = "perf events, a copy of two programs a function",
	};

	return names[t->attach];
}
