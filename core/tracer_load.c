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

static int make_maps(struct tracer *t)
{
	t->maps = tracer_open_plain("bpf/maps.bpf.o");
	if (!t->maps)
		return -errno;
	set_sizes(t);
	return bpf_object__load(t->maps);
}

/* --- the programs */

static int load_life(struct tracer *t)
{
	tracer_share_maps(t, t->lives);
	return bpf_object__load(t->lives);
}

/* type: of the links that it is attached by; 0: of perf events. */
static int load_program(struct tracer *t, struct tracer_program *out, const char *name,
			enum bpf_attach_type type)
{
	const __u32 copies = t->attach == TRACER_COPIES;
	const __u32 in_session = type == TRACE_UPROBE_SESSION;
	struct bpf_program *p;

	tracer_share_maps(t, out->object);
	tracer_set_constant(out->object, ".rodata.copies", &copies, sizeof(copies));
	tracer_set_constant(out->object, ".rodata.session", &in_session, sizeof(in_session));
	bpf_object__for_each_program(p, out->object)
	{
		bpf_program__set_autoload(p, !strcmp(bpf_program__name(p), name));
		bpf_program__set_expected_attach_type(p, type);
	}
	out->program = bpf_object__find_program_by_name(out->object, name);
	return bpf_object__load(out->object);
}

static enum bpf_attach_type link_type(const struct tracer *t)
{
	return t->attach == TRACER_SESSIONS ? TRACE_UPROBE_SESSION
	       : t->attach == TRACER_MULTI  ? TRACE_UPROBE_MULTI
					    : 0;
}

/* What is loaded first: all probes are of one kind, but for those of Go with sessions. */
static struct tracer_pair *first_pair(struct tracer *t)
{
	return t->attach == TRACER_SESSIONS ? &t->session : &t->plain;
}

static int load_enter(struct tracer *t)
{
	return load_program(t, &first_pair(t)->enter, "enter", link_type(t));
}

static int load_leave(struct tracer *t)
{
	return load_program(t, &first_pair(t)->leave, t->leave_name, link_type(t));
}

static int load_moment(struct tracer *t)
{
	return t->moment.object ? load_program(t, &t->moment, "moment", TRACE_UPROBE_MULTI) : 0;
}

static void close_program(struct tracer_program *p)
{
	bpf_object__close(p->object);
	*p = (struct tracer_program){0};
}

static void close_pair(struct tracer_pair *p)
{
	close_program(&p->enter);
	close_program(&p->leave);
}

static int load_sockets(struct tracer *t)
{
	tracer_load_sockets(t);
	return 0;
}

static int attach_first(struct tracer *t)
{
	if (t->attach <= TRACER_MULTI)
		tracer_attach_first(t);
	return 0;
}

/* since_6_2: programs that do not ask which of these kernels it is. */
static int open_those(struct tracer *t, bool since_6_2)
{
	enum { LIFE, LEAVE, ENTER, SOCK, MOMENT, OBJECTS };
	const char *names[] = {
		[LIFE] = "bpf/life.bpf.o",
		[LEAVE] = since_6_2 ? "bpf/leave_since_6_2.bpf.o" : "bpf/leave.bpf.o",
		[ENTER] = since_6_2 ? "bpf/enter_since_6_2.bpf.o" : "bpf/enter.bpf.o",
		[SOCK] = TRACER_SOCK_FILE,
		[MOMENT] = "bpf/moment.bpf.o",
	};
	struct bpf_object *o[OBJECTS] = {0};
	int ret = tracer_open_objects(o, names, OBJECTS - (t->attach != TRACER_SESSIONS), false);

	t->lives = o[LIFE];
	first_pair(t)->leave.object = o[LEAVE];
	first_pair(t)->enter.object = o[ENTER];
	t->sockets = o[SOCK];
	t->moment.object = o[MOMENT];
	return ret;
}

static void close_programs(struct tracer *t)
{
	close_pair(&t->plain);
	close_pair(&t->session);
	close_program(&t->moment);
	bpf_object__close(t->sockets);
	bpf_object__close(t->lives);
	t->sockets = t->lives = NULL;
}

static int open_objects(struct tracer *t)
{
	int ret;

	if (t->attach == TRACER_COPIES || tracer_kernel_before(6, 2))
		return open_those(t, false);
	ret = open_those(t, true);
	if (ret || tracer_has_cast())
		return ret;
	/* Its types do not say all that it has. */
	close_programs(t);
	return open_those(t, false);
}

/* --- at the same time */

typedef int step_fn(struct tracer *t);

struct step {
	step_fn *run;
	struct tracer *t;
	pthread_t thread;
	bool aside; /* the thread runs */
	int ret;
};

static void *run(void *arg)
{
	struct step *s = arg;

	s->ret = s->run(s->t);
	return NULL;
}

static void begin(struct step *s, step_fn *fn, struct tracer *t)
{
	*s = (struct step){.run = fn, .t = t};
	s->aside = tracer_begin_thread(&s->thread, run, s);
}

static int end(struct step *s)
{
	if (s->aside)
		pthread_join(s->thread, NULL);
	return s->ret;
}

static int load_programs(struct tracer *t)
{
	/* What takes longest comes first. */
	static step_fn *const fns[] = {load_leave, load_enter, load_moment, load_sockets,
				       load_life};
	struct step steps[TS_ARRAY_SIZE(fns)];
	int ret = 0, one;
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(fns); i++)
		begin(&steps[i], fns[i], t);
	for (i = 0; i < TS_ARRAY_SIZE(fns); i++) {
		one = end(&steps[i]);
		ret = ret ? ret : one;
	}
	return ret;
}

/* Where the copies go on. */
static int make_programs(struct tracer *t)
{
	const int fds[] = {bpf_program__fd(t->plain.enter.program),
			   bpf_program__fd(t->plain.leave.program)};
	__u32 i;

	t->programs = bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "programs", sizeof(__u32),
				     sizeof(__u32), TS_ARRAY_SIZE(fds), NULL);
	for (i = 0; t->programs >= 0 && i < TS_ARRAY_SIZE(fds); i++)
		if (bpf_map_update_elem(t->programs, &i, &fds[i], BPF_ANY))
			return -errno;
	return t->programs < 0 ? -errno : 0;
}

/* Where a session's probe goes on at the return. */
static int join_session(struct tracer *t)
{
	const int leave = bpf_program__fd(t->session.leave.program);
	int map = bpf_object__find_map_fd_by_name(t->session.enter.object, "goes_on");
	__u32 zero = 0;

	return bpf_map_update_elem(map, &zero, &leave, BPF_ANY) ? -errno : 0;
}

static int load_opened(struct tracer *t)
{
	int ret = load_programs(t);

	if (!ret && t->attach == TRACER_COPIES)
		ret = make_programs(t);
	if (!ret && t->attach == TRACER_SESSIONS)
		ret = join_session(t);
	return ret;
}

/* Where sessions were not asked for, it is done without them. */
static int load_without_sessions(struct tracer *t)
{
	int ret;

	close_programs(t);
	t->attach = TRACER_MULTI;
	ret = open_objects(t);
	return ret ? ret : load_opened(t);
}

int tracer_load(struct tracer *t, struct ts_err *err)
{
	struct step first, maps;
	int ret, made;

	libbpf_set_print(print_libbpf);
	begin(&first, attach_first, t);
	begin(&maps, make_maps, t);
	ret = open_objects(t);
	made = end(&maps);
	if (!ret && !made)
		ret = load_opened(t);
	if (ret && t->attach == TRACER_SESSIONS && t->options->attach == TRACER_AUTO)
		ret = load_without_sessions(t);
	end(&first);
	tracer_end_loading();
	if (!t->maps || !first_pair(t)->enter.object)
		return ts_fail(err, ret ? -ret : -made, "cannot read the embedded BPF objects: %s",
			       strerror(ret ? -ret : -made));
	ret = ret ? ret : made;
	return ret ? explain_load(-ret, err) : 0;
}

static int load_plain_leave(struct tracer *t)
{
	return load_program(t, &t->plain.leave, t->leave_name, TRACE_UPROBE_MULTI);
}

int tracer_load_plain(struct tracer *t)
{
	const char *names[] = {"bpf/enter_since_6_2.bpf.o", "bpf/leave_since_6_2.bpf.o"};
	struct bpf_object *o[TS_ARRAY_SIZE(names)];
	struct step leave;
	int ret, left;

	if (t->plain.enter.program)
		return 0;
	ret = tracer_open_objects(o, names, TS_ARRAY_SIZE(names), false);
	if (ret)
		return ret;
	t->plain.enter.object = o[0];
	t->plain.leave.object = o[1];
	begin(&leave, load_plain_leave, t);
	ret = load_program(t, &t->plain.enter, "enter", TRACE_UPROBE_MULTI);
	left = end(&leave);
	tracer_end_loading();
	ret = ret ? ret : left;
	if (ret)
		close_pair(&t->plain);
	return ret;
}

void tracer_unload(struct tracer *t)
{
	close_programs(t);
	bpf_object__close(t->maps);
	if (t->programs >= 0)
		close(t->programs);
}
