/* SPDX-License-Identifier: MIT */
/*
 * Loading. The maps are made while the kernel's types are looked for; then all programs are loaded,
 * each of those for user space in an object of its own, at the same time: the kernel takes its time
 * to verify one.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tracer_private.h"

static pthread_mutex_t printing = PTHREAD_MUTEX_INITIALIZER;

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list ap)
{
	char *text, *line, *rest;

	if (level > LIBBPF_INFO || ts_get_level() < TS_VERBOSE || vasprintf(&text, format, ap) < 0)
		return 0;
	pthread_mutex_lock(&printing);
	/* A verifier's log comes as one text. */
	for (rest = text; (line = strsep(&rest, "\n"));)
		if (*line)
			ts_verbose("libbpf", "%s", line + (strncmp(line, "libbpf: ", 8) ? 0 : 8));
	pthread_mutex_unlock(&printing);
	free(text);
	return 0;
}

static int explain_load(int code, struct ts_err *err)
{
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

static const char *name_of(const struct tracer *t, enum tracer_which which)
{
	switch (which) {
	case TRACER_PLAIN_ENTER:
	case TRACER_SESSION_ENTER:
		return "enter";
	case TRACER_PLAIN_LEAVE:
	case TRACER_SESSION_LEAVE:
		return t->leave_name;
	default:
		return "moment";
	}
}

static const char *file_of(const struct tracer *t, enum tracer_which which)
{
	switch (which) {
	case TRACER_PLAIN_ENTER:
	case TRACER_SESSION_ENTER:
		return t->since_6_2 ? "bpf/enter_since_6_2.bpf.o" : "bpf/enter.bpf.o";
	case TRACER_PLAIN_LEAVE:
	case TRACER_SESSION_LEAVE:
		return t->since_6_2 ? "bpf/leave_since_6_2.bpf.o" : "bpf/leave.bpf.o";
	default:
		return "bpf/moment.bpf.o";
	}
}

/* Of the links that it is attached by; 0: of perf events. */
static enum bpf_attach_type type_of(const struct tracer *t, enum tracer_which which)
{
	if (which == TRACER_SESSION_ENTER || which == TRACER_SESSION_LEAVE)
		return TRACE_UPROBE_SESSION;
	return t->attach <= TRACER_MULTI ? TRACE_UPROBE_MULTI : 0;
}

/* Loads what was opened; asked: what may be asked of it. */
static int load_as(struct tracer *t, struct tracer_program *out, enum tracer_which which,
		   __u32 asked)
{
	const enum bpf_attach_type type = type_of(t, which);
	const __u32 copies = t->attach == TRACER_COPIES;
	const __u32 in_session = type == TRACE_UPROBE_SESSION;
	const char *name = name_of(t, which);
	struct bpf_program *p;

	tracer_share_maps(t, out->object);
	tracer_set_constant(out->object, ".rodata.copies", &copies, sizeof(copies));
	tracer_set_constant(out->object, ".rodata.session", &in_session, sizeof(in_session));
	tracer_set_constant(out->object, ".rodata.asked", &asked, sizeof(asked));
	bpf_object__for_each_program(p, out->object)
	{
		bpf_program__set_autoload(p, !strcmp(bpf_program__name(p), name));
		bpf_program__set_expected_attach_type(p, type);
	}
	out->program = bpf_object__find_program_by_name(out->object, name);
	return bpf_object__load(out->object);
}

static int load_program(struct tracer *t, int which)
{
	return load_as(t, &t->programs[which], which, t->asked);
}

static int load_whole(struct tracer *t, int which)
{
	return load_as(t, &t->wholes[which], which, TS_ASK_ALL);
}

static void close_programs(struct tracer_program programs[TRACER_PROGRAMS])
{
	size_t i;

	for (i = 0; i < TRACER_PROGRAMS; i++) {
		bpf_object__close(programs[i].object);
		programs[i] = (struct tracer_program){0};
	}
}

/* Where `from` goes on from a slot of its map; each may be NULL. */
static int go_on(const struct tracer_program *from, __u32 slot, const struct tracer_program *in)
{
	int map, fd;

	if (!from->object || !in->object)
		return 0;
	map = bpf_object__find_map_fd_by_name(from->object, "goes_on");
	fd = bpf_program__fd(in->program);
	return bpf_map_update_elem(map, &slot, &fd, BPF_ANY) ? -errno : 0;
}

/* Where a session's probe goes on at the return. */
static int join_session(const struct tracer_program programs[TRACER_PROGRAMS])
{
	return go_on(&programs[TRACER_SESSION_ENTER], TS_GOES_ON_AT_RETURN,
		     &programs[TRACER_SESSION_LEAVE]);
}

static enum tracer_which first_enter(const struct tracer *t)
{
	return t->attach == TRACER_SESSIONS ? TRACER_SESSION_ENTER : TRACER_PLAIN_ENTER;
}

static enum tracer_which first_leave(const struct tracer *t)
{
	return t->attach == TRACER_SESSIONS ? TRACER_SESSION_LEAVE : TRACER_PLAIN_LEAVE;
}

static int open_those(struct tracer *t)
{
	enum { LIFE, SOCK, ENTER, LEAVE, MOMENT, OBJECTS };
	const char *names[] = {
		[LIFE] = "bpf/life.bpf.o",
		[SOCK] = TRACER_SOCK_FILE,
		[ENTER] = file_of(t, first_enter(t)),
		[LEAVE] = file_of(t, first_leave(t)),
		[MOMENT] = file_of(t, TRACER_MOMENT),
	};
	struct bpf_object *o[OBJECTS] = {0};
	int ret = tracer_open_objects(t, o, names, OBJECTS - (t->attach != TRACER_SESSIONS), false);

	t->lives = o[LIFE];
	t->sockets = o[SOCK];
	t->programs[first_enter(t)].object = o[ENTER];
	t->programs[first_leave(t)].object = o[LEAVE];
	t->programs[TRACER_MOMENT].object = o[MOMENT];
	return ret;
}

static void close_all(struct tracer *t)
{
	close_programs(t->programs);
	close_programs(t->wholes);
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

typedef int step_fn(struct tracer *t, int which);

struct step {
	step_fn *run;
	struct tracer *t;
	int which; /* enum tracer_which, where it is of a program */
	pthread_t thread;
	bool aside; /* the thread runs */
	int ret;
};

static void *run(void *arg)
{
	struct step *s = arg;

	s->ret = s->run(s->t, s->which);
	return NULL;
}

static void begin(struct step *s, step_fn *fn, struct tracer *t, int which)
{
	*s = (struct step){.run = fn, .t = t, .which = which};
	s->aside = tracer_begin_thread(&s->thread, run, s);
}

static int end(struct step *s)
{
	if (s->aside)
		pthread_join(s->thread, NULL);
	return s->ret;
}

/* Ends all; the first one's failure, or 0. */
static int end_steps(struct step *steps, size_t count)
{
	int ret = 0, one;
	size_t i;

	for (i = 0; i < count; i++) {
		one = end(&steps[i]);
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

static int load_programs(struct tracer *t)
{
	struct step steps[3];

	/* What takes longest comes first. */
	begin(&steps[0], load_program, t, first_leave(t));
	begin(&steps[1], load_program, t, first_enter(t));
	begin(&steps[2], load_life, t, 0);
	return end_steps(steps, TS_ARRAY_SIZE(steps));
}

/* --- what few need at once: aside, when the probes are attached */

static void *load_later(void *arg)
{
	struct tracer *t = arg;

	if (t->programs[TRACER_MOMENT].object)
		t->later.ret = load_program(t, TRACER_MOMENT);
	tracer_load_sockets(t);
	tracer_end_loading();
	__atomic_store_n(&t->later.state, LATER_THERE, __ATOMIC_RELEASE);
	return NULL;
}

void tracer_begin_later(struct tracer *t)
{
	if (t->later.state != LATER_OPEN)
		return;
	t->later.state = LATER_BEGUN;
	t->later.aside = tracer_begin_thread(&t->later.thread, load_later, t);
}

bool tracer_has_later(const struct tracer *t)
{
	return __atomic_load_n(&t->later.state, __ATOMIC_ACQUIRE) == LATER_THERE;
}

int tracer_end_later(struct tracer *t)
{
	tracer_begin_later(t);
	if (t->later.aside)
		pthread_join(t->later.thread, NULL);
	t->later.aside = false;
	return t->later.ret;
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
	return ret ? ret : join_session(t->programs);
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
	struct step first, maps;
	int ret, made;

	libbpf_set_print(print_libbpf);
	begin(&first, attach_first, t, 0);
	begin(&maps, make_maps, t, 0);
	ret = open_objects(t);
	made = end(&maps);
	if (!ret && !made)
		ret = load_opened(t);
	if (ret && t->attach == TRACER_SESSIONS && t->options->attach == TRACER_AUTO)
		ret = load_without_sessions(t);
	end(&first);
	if (!ret && !made)
		t->later.state = LATER_OPEN;
	else
		tracer_end_loading();
	if (!t->maps || !t->lives)
		return ts_fail(err, ret ? -ret : -made, "cannot read the embedded BPF objects: %s",
			       strerror(ret ? -ret : -made));
	ret = ret ? ret : made;
	return ret ? explain_load(-ret, err) : 0;
}

/* Loads more of them, while it runs. 0 or -errno: then none. */
static int load_more(struct tracer *t, struct tracer_program programs[TRACER_PROGRAMS],
		     const enum tracer_which *list, size_t count, step_fn *load)
{
	const char *names[TRACER_PROGRAMS] = {0};
	struct bpf_object *o[TRACER_PROGRAMS] = {0};
	struct step steps[TRACER_PROGRAMS];
	size_t i;
	int ret;

	for (i = 0; i < count; i++)
		names[i] = file_of(t, list[i]);
	ret = tracer_open_objects(t, o, names, count, false);
	if (ret)
		return ret;
	for (i = 0; i < count; i++) {
		programs[list[i]].object = o[i];
		begin(&steps[i], load, t, list[i]);
	}
	ret = end_steps(steps, count);
	tracer_end_loading();
	for (i = 0; i < count && ret; i++) {
		bpf_object__close(programs[list[i]].object);
		programs[list[i]] = (struct tracer_program){0};
	}
	return ret;
}

int tracer_load_plain(struct tracer *t)
{
	static const enum tracer_which list[] = {TRACER_PLAIN_LEAVE, TRACER_PLAIN_ENTER};

	if (t->programs[TRACER_PLAIN_ENTER].program)
		return 0;
	return load_more(t, t->programs, list, TS_ARRAY_SIZE(list), load_program);
}

/* --- when more is asked for */

/* The programs are there, and go on in those that know all. */
static int hand_over(struct tracer *t)
{
	int ret = join_session(t->wholes);
	size_t i;

	for (i = 0; i < TRACER_PROGRAMS && !ret; i++)
		ret = go_on(&t->programs[i], TS_GOES_ON_IN_WHOLE, &t->wholes[i]);
	return ret;
}

int tracer_ask(struct tracer *t, __u32 asked, struct ts_err *err)
{
	enum tracer_which list[TRACER_PROGRAMS];
	size_t count = 0, i;
	int ret;

	if (!(asked & ~t->asked))
		return 0;
	tracer_end_later(t);
	for (i = 0; i < TRACER_PROGRAMS; i++)
		if (t->programs[i].object)
			list[count++] = (enum tracer_which)i;
	ret = load_more(t, t->wholes, list, count, load_whole);
	if (!ret)
		ret = hand_over(t);
	if (ret) {
		close_programs(t->wholes);
		return explain_load(-ret, err);
	}
	t->asked = TS_ASK_ALL;
	ts_verbose("tracer", "loaded once more, for all that can be asked for");
	return 0;
}

void tracer_unload(struct tracer *t)
{
	if (t->later.state == LATER_OPEN)
		tracer_end_loading();
	else
		tracer_end_later(t);
	close_all(t);
	bpf_object__close(t->maps);
	if (t->copied >= 0)
		close(t->copied);
}
