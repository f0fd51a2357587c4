/* SPDX-License-Identifier: MIT */
/*
 * Connections without a descriptor: their sockets are looked for, at a small cost to every socket
 * of the machine. Where only some processes are traced, this begins when there is such a
 * connection, which the programs say in the control page.
 */
#include <errno.h>
#include <string.h>
#include <bpf/btf.h>

#include "arch.h"
#include "tracer_private.h"

/* A way to see what passes at sockets: its programs, and the kernel's function for a kprobe. */
struct search_way {
	const char *name, *programs[2], *function;
};
static const struct search_way ways[] = {
	{"tp_btf sock_send_length, sock_recv_length", {"sent_tp", "received_tp"}, NULL},
	{"kprobe security_socket_sendmsg", {"sent_kprobe", NULL}, "security_socket_sendmsg"},
};

static bool is_of(const struct search_way *way, const struct bpf_program *p)
{
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(way->programs) && way->programs[i]; i++)
		if (!strcmp(way->programs[i], bpf_program__name(p)))
			return true;
	return false;
}

static int load(struct tracer *t, const struct search_way *way)
{
	const struct arch *arch = arch_host();
	struct ts_hook hook = {.sp = arch->sp};
	struct bpf_program *p;

	memcpy(hook.args, arch->args, sizeof(hook.args));
	tracer_set_constant(t->sockets, ".rodata.hook", &hook, sizeof(hook));
	tracer_share_maps(t, t->sockets);
	bpf_object__for_each_program(p, t->sockets)
	{
		bpf_program__set_autoload(p, is_of(way, p));
	}
	return bpf_object__load(t->sockets);
}

void tracer_load_sockets(struct tracer *t)
{
	const struct search_way *way;

	for (way = ways; t->sockets && way < ways + TS_ARRAY_SIZE(ways); way++) {
		if (!load(t, way)) {
			t->sockets_way = way;
			return;
		}
		bpf_object__close(t->sockets);
		t->sockets = tracer_open_again(TRACER_SOCK_FILE);
	}
	bpf_object__close(t->sockets);
	t->sockets = NULL;
}

void tracer_detach_sockets(struct tracer *t)
{
	size_t i;

	if (t->control)
		t->control->watched = 0;
	for (i = 0; i < TS_ARRAY_SIZE(t->sockets_links); i++) {
		bpf_link__destroy(t->sockets_links[i]);
		t->sockets_links[i] = NULL;
	}
}

static int attach(struct tracer *t, const struct search_way *way)
{
	struct bpf_program *p;
	struct bpf_link *link;
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(way->programs) && way->programs[i]; i++) {
		p = bpf_object__find_program_by_name(t->sockets, way->programs[i]);
		link = way->function ? bpf_program__attach_kprobe(p, false, way->function)
				     : bpf_program__attach_trace(p);
		if (!link)
			return -errno;
		t->sockets_links[i] = link;
	}
	return 0;
}

static void watch_sockets(struct tracer *t)
{
	bool first = !t->sockets_tried;

	t->sockets_tried = true;
	tracer_end_later(t);
	if (t->sockets_way && !attach(t, t->sockets_way)) {
		t->control->watched = t->sockets_asked = ts_now();
	} else {
		tracer_detach_sockets(t);
		t->sockets_way = NULL;
	}
	if (!first)
		return;
	ts_verbose("tracer", "sockets of connections without a descriptor: %s%s",
		   t->sockets_way ? "by "
				  : "cannot be found: neither tp_btf sock_send_length nor "
				    "a kprobe can be attached",
		   t->sockets_way ? t->sockets_way->name : "");
}

const char *tracer_sockets_name(struct tracer *t)
{
	if (!t->sockets_tried)
		watch_sockets(t);
	return t->sockets_way ? t->sockets_way->name : NULL;
}

static void sync_files(struct tracer *t)
{
	struct ts_err err = {""};
	size_t i;

	for (i = 0; i < t->files_count; i++)
		if (tracer_sync_file(t, &t->files[i], &err))
			ts_warn("%s", err.text);
}

static void watch_bios(struct tracer *t)
{
	ts_verbose("tracer", "memory BIOs: their records are looked for at sockets");
	t->marks = true;
	sync_files(t);
}

/* Their symbols' probes are among others' while they are tested. */
static bool tests_bios(const struct tracer *t)
{
	const struct traced_file *f;
	size_t i;

	for (f = t->files; f < t->files + t->files_count; f++)
		for (i = 0; i < f->funcs_count; i++)
			if (f->funcs[i].testing && f->funcs[i].func.rule.role == TS_ROLE_BIO)
				return true;
	return false;
}

static void leave_bios(struct tracer *t)
{
	struct probe_links *links;
	size_t i;

	links = tests_bios(t) ? NULL
			      : tracer_take_links(t, TRACER_SET_BIOS,
						  tracer_count_links(t, TRACER_SET_BIOS));
	if (!links)
		return;
	ts_verbose("tracer", "memory BIOs: no records are looked for");
	t->marks = false;
	for (i = 0; i < t->files_count; i++)
		t->files[i].bios = false;
	sync_files(t);
	tracer_close_aside(t, links);
}

/* Where any process may be traced, such a connection may be short: its first call is to be seen. */
static bool may_come(const struct tracer *t)
{
	size_t i;

	for (i = 0; !t->pids[0] && i < t->files_count; i++)
		if (t->files[i].funcs_count && t->files[i].funcs[0].func.func->role == TS_ROLE_BIO)
			return true;
	return false;
}

/*
 * What is watched costs something: it goes when the programs have not asked for it for a while, and
 * comes back when there is another connection of which the socket is not known. Soon, where one
 * seems to have none; the later, the more often it came back.
 */
#define SEARCH_PAUSE_LEAST 100000000u  /* ns */
#define SEARCH_PAUSE_MOST 30000000000u /* ns */
static void end_search(struct tracer *t)
{
	const __u64 now = ts_now(), over = t->control->search & TS_SEARCH_OVER;
	const bool news = over && !t->search_over;
	__u64 asked;

	if ((!t->control->watched && !t->marks) || t->control->ends ||
	    (!news && now - t->sockets_asked < (over ? t->search_pause : SEARCH_PAUSE_MOST)))
		return;
	t->sockets_asked = now;
	asked = __atomic_exchange_n(&t->control->search, 0, __ATOMIC_SEQ_CST) & ~over;
	t->search_over = over && (asked || news);
	if (t->search_over)
		__atomic_fetch_or(&t->control->search, over, __ATOMIC_SEQ_CST);
	/* Whoever asked may be the one that is over: others ask again. */
	if (news)
		return;
	if (!(asked & TS_SEARCH_MARKS) && t->marks) {
		leave_bios(t);
		t->search_ended = true;
	}
	/* Where any process may be traced, they are always watched. */
	if (!asked && t->control->watched && t->pids[0]) {
		tracer_detach_sockets(t);
		t->search_ended = true;
	}
}

/* From now on what is watched stays so for a while. */
static void begin_pause(struct tracer *t)
{
	t->sockets_asked = ts_now();
	if (!t->search_pause)
		t->search_pause = SEARCH_PAUSE_LEAST;
	else if (t->search_ended)
		t->search_pause *= 2;
	if (t->search_pause > SEARCH_PAUSE_MOST)
		t->search_pause = SEARCH_PAUSE_MOST;
	t->search_ended = false;
}

void tracer_search(struct tracer *t)
{
	/* Whoever asks for certain ends misses what comes before they are known. */
	const __u64 search = t->control->search | (t->control->ends ? ~0ull : 0);
	const bool refused = t->sockets_tried && !t->sockets_way;
	const bool waits = t->control->ends || may_come(t);

	if (t->detached)
		return;
	tracer_end_tests(t);
	tracer_begin_later(t);
	tracer_turn_ends(t);
	if (!t->control->watched && !refused &&
	    (waits || (search & TS_SEARCH_CALLS && tracer_has_later(t)))) {
		watch_sockets(t);
		begin_pause(t);
	}
	if (search & TS_SEARCH_MARKS && t->sockets_tried && t->sockets_way && !t->marks) {
		watch_bios(t);
		begin_pause(t);
	}
	end_search(t);
}
