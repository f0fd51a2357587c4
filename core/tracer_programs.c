/* SPDX-License-Identifier: MIT */
/*
 * The programs for user space, each in an object of its own: as they are loaded at the start, and
 * while it runs, for Go or because more is asked for than they were loaded for.
 */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "tracer_private.h"

/* leave's name is the tracer's: t->leave_name. */
static const struct {
	const char *name, *file, *file_since_6_2;
	bool in_session;
} programs[TRACER_PROGRAMS] = {
	[TRACER_PLAIN_ENTER] = {"enter", "bpf/enter.bpf.o", "bpf/enter_since_6_2.bpf.o", false},
	[TRACER_PLAIN_LEAVE] = {NULL, "bpf/leave.bpf.o", "bpf/leave_since_6_2.bpf.o", false},
	[TRACER_SESSION_ENTER] = {"enter", "bpf/enter.bpf.o", "bpf/enter_since_6_2.bpf.o", true},
	[TRACER_SESSION_LEAVE] = {NULL, "bpf/leave.bpf.o", "bpf/leave_since_6_2.bpf.o", true},
	[TRACER_MOMENT] = {"moment", "bpf/moment.bpf.o", "bpf/moment.bpf.o", false},
	[TRACER_END] = {"end", "bpf/end.bpf.o", "bpf/end.bpf.o", false},
};

const char *tracer_program_file(const struct tracer *t, enum tracer_which which)
{
	return t->since_6_2 ? programs[which].file_since_6_2 : programs[which].file;
}

/* Loads what was opened; asked: what may be asked of it. */
static int load_as(struct tracer *t, struct tracer_program *out, enum tracer_which which,
		   __u32 asked)
{
	const __u32 copies = t->attach == TRACER_COPIES, in_session = programs[which].in_session;
	const char *name = programs[which].name ? programs[which].name : t->leave_name;
	/* Of the links that it is attached by; 0: of perf events. */
	const enum bpf_attach_type type = in_session		      ? TRACE_UPROBE_SESSION
					  : t->attach <= TRACER_MULTI ? TRACE_UPROBE_MULTI
								      : 0;
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

int tracer_load_program(struct tracer *t, int which)
{
	return load_as(t, &t->programs[which], which, t->asked);
}

static int load_whole(struct tracer *t, int which)
{
	return load_as(t, &t->wholes[which], which, TS_ASK_ALL);
}

void tracer_close_programs(struct tracer_program list[TRACER_PROGRAMS])
{
	size_t i;

	for (i = 0; i < TRACER_PROGRAMS; i++) {
		bpf_object__close(list[i].object);
		list[i] = (struct tracer_program){0};
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

int tracer_join_session(const struct tracer_program list[TRACER_PROGRAMS])
{
	return go_on(&list[TRACER_SESSION_ENTER], TS_GOES_ON_AT_RETURN,
		     &list[TRACER_SESSION_LEAVE]);
}

/* --- while it runs */

/* Opens and loads those that are listed, at the same time. 0 or -errno: then none of them. */
static int load_more(struct tracer *t, struct tracer_program list[TRACER_PROGRAMS],
		     const enum tracer_which *which, size_t count, tracer_step_fn *load)
{
	const char *names[TRACER_PROGRAMS] = {0};
	struct bpf_object *o[TRACER_PROGRAMS] = {0};
	struct tracer_step steps[TRACER_PROGRAMS];
	size_t i;
	int ret;

	for (i = 0; i < count; i++)
		names[i] = tracer_program_file(t, which[i]);
	ret = tracer_open_objects(o, names, count, false);
	if (ret)
		return ret;
	for (i = 0; i < count; i++) {
		list[which[i]].object = o[i];
		tracer_step_begin(&steps[i], load, t, which[i]);
	}
	ret = tracer_steps_end(steps, count);
	tracer_end_loading();
	for (i = 0; i < count && ret; i++) {
		bpf_object__close(list[which[i]].object);
		list[which[i]] = (struct tracer_program){0};
	}
	return ret;
}

int tracer_load_plain(struct tracer *t)
{
	static const enum tracer_which list[] = {TRACER_PLAIN_LEAVE, TRACER_PLAIN_ENTER};

	if (t->programs[TRACER_PLAIN_ENTER].program)
		return 0;
	tracer_end_aside(t);
	return load_more(t, t->programs, list, TS_ARRAY_SIZE(list), tracer_load_program);
}

/* --- when more is asked for */

/* Others need the processors more, the event loop first of all. */
#define NICE_OF_WHOLES 10

static int load_wholes(struct tracer *t, int which)
{
	const int nice_before = getpriority(PRIO_PROCESS, 0); /* of this thread */
	enum tracer_which list[TRACER_PROGRAMS];
	size_t count = 0, i;
	int ret;

	(void)which;
	for (i = 0; i < TRACER_PROGRAMS; i++)
		if (t->programs[i].object)
			list[count++] = (enum tracer_which)i;
	setpriority(PRIO_PROCESS, 0, nice_before + NICE_OF_WHOLES);
	ret = load_more(t, t->wholes, list, count, load_whole);
	setpriority(PRIO_PROCESS, 0, nice_before);
	return ret;
}

/* The programs are there, and go on in those that know all. */
static int hand_over(struct tracer *t)
{
	int ret = tracer_join_session(t->wholes);
	size_t i;

	for (i = 0; i < TRACER_PROGRAMS && !ret; i++)
		ret = go_on(&t->programs[i], TS_GOES_ON_IN_WHOLE, &t->wholes[i]);
	return ret;
}

/* 0 also where none are being loaded. */
static int end_wholes(struct tracer *t)
{
	int ret;

	if (!t->asking.run)
		return 0;
	ret = tracer_step_end(&t->asking);
	t->asking = (struct tracer_step){0};
	if (!ret)
		ret = hand_over(t);
	if (ret) {
		tracer_close_programs(t->wholes);
		return ret;
	}
	t->asked = TS_ASK_ALL;
	t->took_over = true;
	return 0;
}

int tracer_ask(struct tracer *t, __u32 asked, struct ts_err *err)
{
	int ret;

	if (!(asked & ~t->asked))
		return 0;
	if (!t->asking.run && tracer_has_later(t))
		tracer_step_begin(&t->asking, load_wholes, t, 0);
	if (!tracer_step_is_over(&t->asking))
		return 1;
	ret = end_wholes(t);
	return ret ? tracer_explain_load(ret, err) : 0;
}

void tracer_end_aside(struct tracer *t)
{
	tracer_end_later(t);
	end_wholes(t);
}
