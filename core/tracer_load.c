/* SPDX-License-Identifier: MIT */
/*
 * Loading, at the start. The maps are made while the kernel's types are looked for; then all
 * programs are loaded at the same time: the kernel takes its time to verify one.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tracer_private.h"

/* What libbpf says in threads of ours, until the main one tells it: outputs are that one's. */
static struct {
	pthread_mutex_t lock;
	struct ts_buf text;
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool is_main(void)
{
	return gettid() == getpid();
}

/* A verifier's log comes as one text. */
static void tell_lines(char *text)
{
	char *line;

	while ((line = strsep(&text, "\n")))
		if (*line)
			ts_verbose("libbpf", "%s", line + (strncmp(line, "libbpf: ", 8) ? 0 : 8));
}

static void tell_kept(void)
{
	if (!is_main())
		return;
	pthread_mutex_lock(&kept.lock);
	if (kept.text.len && !ts_buf_add(&kept.text, "", 1))
		tell_lines((char *)kept.text.data);
	ts_buf_free(&kept.text);
	pthread_mutex_unlock(&kept.lock);
}

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list ap)
{
	char *text;

	if (level > LIBBPF_INFO || ts_get_level() < TS_VERBOSE || vasprintf(&text, format, ap) < 0)
		return 0;
	if (is_main()) {
		tell_lines(text);
	} else {
		pthread_mutex_lock(&kept.lock);
		ts_buf_add(&kept.text, text, strlen(text));
		pthread_mutex_unlock(&kept.lock);
	}
	free(text);
	return 0;
}

int tracer_explain_load(int ret, struct ts_err *err)
{
	const int code = -ret;

	if (access("/sys/kernel/btf/vmlinux", R_OK))
		return ts_fail(err, ENOTSUP,
			       "this kernel has no type information (/sys/kernel/btf/vmlinux); a "
			       "kernel built with CONFIG_DEBUG_INFO_BTF is needed");
	if ((code == EPERM || code == EACCES) && geteuid())
		return ts_fail(
			err, code,
			"loading BPF programs is not permitted; run tlsscope as root (sudo)");
	if (code == EPERM)
		return ts_fail(
			err, code,
			"loading BPF programs is not permitted, though this is root: a "
			"container without CAP_BPF and CAP_PERFMON, or a locked-down kernel");
	return ts_fail(err, code,
		       "cannot load the BPF programs: %s (-v shows the kernel's reasons)",
		       strerror(code));
}

/* --- what the programs share */

/*
 * Of these there are seldom many. Since 6.1 the kernel has memory for it at hand, whatever it
 * does when a probe is hit (bpf_mem_alloc); before, all that a map may have is taken when the map
 * is made.
 */
static void take_as_needed(struct tracer *t)
{
	static const char *const names[] = {"flows", "goroutines", "filters"};
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(names) && !tracer_kernel_before(6, 1); i++)
		bpf_map__set_map_flags(bpf_object__find_map_by_name(t->maps, names[i]),
				       BPF_F_NO_PREALLOC);
}

static void set_sizes(struct tracer *t)
{
	struct bpf_map *ring = bpf_object__find_map_by_name(t->maps, "ring");
	struct bpf_map *counters = bpf_object__find_map_by_name(t->maps, "counters");
	struct bpf_map *watched = bpf_object__find_map_by_name(t->maps, "watched");
	struct bpf_map *small = bpf_object__find_map_by_name(t->maps, "small_ring");
	int cpus = libbpf_num_possible_cpus();

	t->small = tracer_buffer_size(t->options) > TS_SMALL_RING;
	if (!t->small)
		bpf_map__set_max_entries(small, (__u32)sysconf(_SC_PAGESIZE));
	t->cpus = cpus > 0 ? (uint32_t)cpus : 1;
	bpf_map__set_max_entries(ring, (__u32)tracer_buffer_size(t->options));
	bpf_map__set_max_entries(counters, t->cpus);
	bpf_map__set_max_entries(watched, (__u32)t->pids_count);
	take_as_needed(t);
}

static int make_maps(struct tracer *t, int which)
{
	(void)which;
	t->maps = tracer_open_plain("bpf/maps.bpf.o");
	if (!t->maps)
		return -errno;
	set_sizes(t);
	return bpf_object__load(t->maps);
}

/* --- the programs */

static int load_life(struct tracer *t, int which)
{
	(void)which;
	tracer_share_maps(t, t->lives);
	return bpf_object__load(t->lives);
}

static enum tracer_which first_enter(const struct tracer *t)
{
	return t->attach == TRACER_SESSIONS ? TRACER_SESSION_ENTER : TRACER_PLAIN_ENTER;
}

static enum tracer_which first_leave(const struct tracer *t)
{
	return t->attach == TRACER_SESSIONS ? TRACER_SESSION_LEAVE : TRACER_PLAIN_LEAVE;
}

/* Whether nothing but calls' results may be asked for: core/tracer_ends.c. */
static bool may_count(const struct tracer *t)
{
	const struct tracer_options *o = t->options;

	return t->since_6_2 && t->attach <= TRACER_MULTI && o->agg_sink.cell && !o->symbols &&
	       (!o->subs || tracer_any_counts(o->subs, o->subs_count));
}

static int open_those(struct tracer *t)
{
	enum { LIFE, SOCK, ENTER, LEAVE, MORE, OBJECTS = MORE + 2 };
	const char *names[OBJECTS] = {
		[LIFE] = "bpf/life.bpf.o",
		[SOCK] = TRACER_SOCK_FILE,
		[ENTER] = tracer_program_file(t, first_enter(t)),
		[LEAVE] = tracer_program_file(t, first_leave(t)),
	};
	struct bpf_object *o[OBJECTS] = {0};
	enum tracer_which more[OBJECTS];
	size_t count = MORE, i;
	int ret;

	if (t->attach == TRACER_SESSIONS)
		more[count++] = TRACER_MOMENT;
	if (may_count(t))
		more[count++] = TRACER_END;
	for (i = MORE; i < count; i++)
		names[i] = tracer_program_file(t, more[i]);
	ret = tracer_open_objects(o, names, count, false);
	t->lives = o[LIFE];
	t->sockets = o[SOCK];
	t->programs[first_enter(t)].object = o[ENTER];
	t->programs[first_leave(t)].object = o[LEAVE];
	for (i = MORE; i < count; i++)
		t->programs[more[i]].object = o[i];
	return ret;
}

static void close_all(struct tracer *t)
{
	tracer_close_programs(t->programs);
	tracer_close_programs(t->wholes);
	bpf_object__close(t->sockets);
	bpf_object__close(t->lives);
	t->sockets = t->lives = NULL;
}

static int open_objects(struct tracer *t)
{
	int ret;

	t->since_6_2 = t->attach != TRACER_COPIES && !tracer_kernel_before(6, 2);
	ret = open_those(t);
	if (ret || !t->since_6_2 || tracer_has_cast())
		return ret;
	/* Its types do not say all that it has. */
	close_all(t);
	t->since_6_2 = false;
	return open_those(t);
}

/* --- at the same time */

static void *run(void *arg)
{
	struct tracer_step *s = arg;

	s->ret = s->run(s->t, s->which);
	__atomic_store_n(&s->over, true, __ATOMIC_RELEASE);
	return NULL;
}

void tracer_step_begin(struct tracer_step *s, tracer_step_fn *fn, struct tracer *t, int which)
{
	*s = (struct tracer_step){.run = fn, .t = t, .which = which};
	s->aside = tracer_begin_thread(&s->thread, run, s);
}

bool tracer_step_is_over(const struct tracer_step *s)
{
	return __atomic_load_n(&s->over, __ATOMIC_ACQUIRE);
}

int tracer_step_end(struct tracer_step *s)
{
	if (s->aside)
		pthread_join(s->thread, NULL);
	s->aside = false;
	tell_kept();
	return s->ret;
}

int tracer_steps_end(struct tracer_step *steps, size_t count)
{
	int ret = 0, one;
	size_t i;

	for (i = 0; i < count; i++) {
		one = tracer_step_end(&steps[i]);
		ret = ret ? ret : one;
	}
	return ret;
}

static int attach_first(struct tracer *t, int which)
{
	(void)which;
	if (t->attach <= TRACER_MULTI)
		tracer_attach_first(t);
	return 0;
}

/* It is done without, too. */
static int load_end(struct tracer *t, int which)
{
	if (tracer_load_program(t, which)) {
		bpf_object__close(t->programs[which].object);
		t->programs[which] = (struct tracer_program){0};
	}
	return 0;
}

static int load_programs(struct tracer *t)
{
	struct tracer_step steps[4];
	size_t count = 3;

	/* What takes longest comes first. */
	tracer_step_begin(&steps[0], tracer_load_program, t, first_leave(t));
	tracer_step_begin(&steps[1], tracer_load_program, t, first_enter(t));
	tracer_step_begin(&steps[2], load_life, t, 0);
	if (t->programs[TRACER_END].object)
		tracer_step_begin(&steps[count++], load_end, t, TRACER_END);
	return tracer_steps_end(steps, count);
}

/* --- what few need at once: aside, when the probes are attached */

static int load_later(struct tracer *t, int which)
{
	int ret = 0;

	(void)which;
	if (t->programs[TRACER_MOMENT].object)
		ret = tracer_load_program(t, TRACER_MOMENT);
	tracer_load_sockets(t);
	tracer_end_loading();
	return ret;
}

void tracer_begin_later(struct tracer *t)
{
	if (t->opened_later)
		tracer_step_begin(&t->later, load_later, t, 0);
	t->opened_later = false;
}

bool tracer_has_later(const struct tracer *t)
{
	return tracer_step_is_over(&t->later);
}

int tracer_end_later(struct tracer *t)
{
	tracer_begin_later(t);
	return tracer_step_end(&t->later);
}

/* Where the copies go on. */
static int make_programs(struct tracer *t)
{
	const int fds[] = {bpf_program__fd(t->programs[TRACER_PLAIN_ENTER].program),
			   bpf_program__fd(t->programs[TRACER_PLAIN_LEAVE].program)};
	__u32 i;

	t->copied = bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "programs", sizeof(__u32),
				   sizeof(__u32), TS_ARRAY_SIZE(fds), NULL);
	for (i = 0; t->copied >= 0 && i < TS_ARRAY_SIZE(fds); i++)
		if (bpf_map_update_elem(t->copied, &i, &fds[i], BPF_ANY))
			return -errno;
	return t->copied < 0 ? -errno : 0;
}

static int load_opened(struct tracer *t)
{
	int ret = load_programs(t);

	if (!ret && t->attach == TRACER_COPIES)
		ret = make_programs(t);
	return ret ? ret : tracer_join_session(t->programs);
}

/* Where sessions were not asked for, it is done without them. */
static int load_without_sessions(struct tracer *t)
{
	int ret;

	close_all(t);
	t->attach = TRACER_MULTI;
	ret = open_objects(t);
	return ret ? ret : load_opened(t);
}

int tracer_load(struct tracer *t, struct ts_err *err)
{
	struct tracer_step first, maps;
	int ret, made;

	libbpf_set_print(print_libbpf);
	tracer_step_begin(&first, attach_first, t, 0);
	tracer_step_begin(&maps, make_maps, t, 0);
	ret = open_objects(t);
	made = tracer_step_end(&maps);
	if (!ret && !made)
		ret = load_opened(t);
	if (ret && t->attach == TRACER_SESSIONS && t->options->attach == TRACER_AUTO)
		ret = load_without_sessions(t);
	tracer_step_end(&first);
	if (!ret && !made)
		t->opened_later = true;
	else
		tracer_end_loading();
	if (!t->maps || !t->lives)
		return ts_fail(err, ret ? -ret : -made, "cannot read the embedded BPF objects: %s",
			       strerror(ret ? -ret : -made));
	ret = ret ? ret : made;
	return ret ? tracer_explain_load(ret, err) : 0;
}

void tracer_unload(struct tracer *t)
{
	if (t->opened_later)
		tracer_end_loading();
	else
		tracer_end_aside(t);
	close_all(t);
	bpf_object__close(t->maps);
	if (t->copied >= 0)
		close(t->copied);
}
