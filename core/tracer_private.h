/* SPDX-License-Identifier: MIT */
/* What the files of the tracer share: tracer.c (life, ring), tracer_attach.c, tracer_subs.c. */
#ifndef TLSSCOPE_TRACER_PRIVATE_H
#define TLSSCOPE_TRACER_PRIVATE_H

#include <pthread.h>
#include <sched.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "tracer.h"
#include "tracer_ring.h"

/* linux/bpf.h since 6.6, and 6.13; Debian 12's header and libbpf do not have them. */
#define TRACE_UPROBE_MULTI 48
#define TRACE_UPROBE_SESSION 57

/* One function of an attached file. rule is 0 until its probes are there. */
struct traced_func {
	struct resolve_func func;
	uint32_t rule;
	bool testing;  /* its symbol is probed beside a cheaper site, or instead of it */
	bool failed;   /* for good: told */
	bool has_ends; /* there are functions in the plan whose `inner` it is */
	struct bpf_object *object; /* of the kernel's functions: the copy that serves it */
};

/* What is only counted: core/tracer_ends.c. */
enum traced_ends {
	ENDS_NONE,   /* it is not, or there are no functions with `inner` */
	ENDS_TESTED, /* they have probes, and are compared */
	ENDS_ALONE,  /* they are all that counts */
	ENDS_BOTH,   /* the functions themselves have probes again, for good */
	ENDS_OVER    /* only they do */
};

struct traced_file {
	int fd; /* ours; the kernel has none: below 0 */
	char *path;
	const char *kind;
	bool aside; /* lib_row.aside: no filter of files concerns it */
	struct traced_func *funcs;
	size_t funcs_count;
	struct resolve_site *sites;
	size_t sites_count;
	bool bios; /* what it writes to BIOs is watched */
	enum traced_ends ends;
	bool unwatched;	     /* calls that have no end are not kept where they begin any more */
	uint64_t watch_over; /* since when nothing new is watched; 0: it is, or all is over */
};

/* An attached probe, or many: link, or else fd. */
struct probe_link {
	struct bpf_link *link;
	int fd;
	bool begins; /* calls; else it ends them */
	size_t set;  /* of those that go together, before the run ends; 0: of none */
};

/* Probes of what writes to BIOs; a file's own sets have its index behind this. */
#define TRACER_SET_BIOS 1
enum tracer_set {
	TRACER_SET_TESTS, /* of the symbols that cheaper sites are compared with */
	TRACER_SET_INNER, /* of functions that have ends, where these may take over */
	TRACER_SET_ENDS,
	TRACER_SET_WATCH, /* of what calls them and has no end */
	TRACER_SETS
};

/* Links that are let go of by a thread of their own, which tracer_detach waits for. */
struct probe_links {
	struct probe_links *next;
	pthread_t thread;
	bool aside; /* the thread runs */
	size_t count;
	struct probe_link links[];
};

/* Which of a file's sites. */
enum site_part { SITES_ALL, SITES_INNER /* of functions that have ends */, SITES_REST };
struct site_pick {
	enum site_part part;
	enum resolve_role role;
	uint32_t where; /* a bit for each enum resolve_where */
	uint32_t first; /* rules from this one on */
	bool bios;	/* of functions that write to BIOs; else of all others */
	bool tests;	/* only of functions that are being tested */
	size_t set;	/* of the links */
};

/*
 * The programs for user space. Plain: a probe runs one of them; with sessions only for Go, when
 * there is such a file. Moment: with sessions, where a site can be none.
 */
enum tracer_which {
	TRACER_PLAIN_ENTER,
	TRACER_PLAIN_LEAVE,
	TRACER_SESSION_ENTER,
	TRACER_SESSION_LEAVE,
	TRACER_MOMENT,
	TRACER_END, /* where calls end that are only counted; if handlers may ask for that */
	TRACER_PROGRAMS
};

/* Something that is done by a thread of its own; with which of the programs, where that matters. */
typedef int tracer_step_fn(struct tracer *t, int which);
struct tracer_step {
	tracer_step_fn *run; /* NULL: not begun */
	struct tracer *t;
	int which;
	pthread_t thread;
	bool aside, over; /* the thread is to be joined; `run` has returned ret */
	int ret;
};

/* One of them, which is alone in its object; NULL: not loaded. */
struct tracer_program {
	struct bpf_object *object;
	struct bpf_program *program;
};

struct tracer {
	struct bpf_object *maps;  /* all programs' */
	struct bpf_object *lives; /* what keeps them in step with threads and processes */
	struct tracer_program programs[TRACER_PROGRAMS];
	struct tracer_program wholes[TRACER_PROGRAMS]; /* that took over from them */
	__u32 asked;		    /* enum ts_ask: what may be asked of those that run */
	bool opened_later;	    /* what `later` loads is open */
	struct tracer_step later;   /* tracer_begin_later */
	struct tracer_step asking;  /* tracer_ask: what takes over is being loaded */
	bool took_over;		    /* what was loaded by it, which is told when it serves */
	struct bpf_object **copies; /* TRACER_COPIES: by rule */
	int copied;		    /* TRACER_COPIES: the map of what they go on in; else below 0 */
	enum tracer_attach attach;
	const struct tracer_options *options; /* while it is opened */
	const struct hook_way *hook_way; /* the one that the last of the kernel's functions took */
	struct resolve_kernel symbols;	 /* when the kernel is hooked */
	struct bpf_object *kernel; /* the first of those of traced_file.kernel: owns their maps */
	const char *leave_name;	   /* "leave", or the other one for kernels without bpf_loop */
	bool since_6_2;		   /* programs that do not ask which of these kernels it is */
	int rules, filters, nets, picks;
	bool at_symbols;		  /* as in the options, or cheaper sites need cookies */
	struct ts_control *control;	  /* mapped */
	struct ts_tested *tested;	  /* mapped: by rule */
	__u64 tests_seen;		  /* control->tested, as far as it was looked at */
	const struct ts_counts *counters; /* mapped: one a possible processor */
	uint32_t cpus;
	struct tracer_ring *ring;
	bool small;		    /* there is a small one before it */
	size_t ring_most;	    /* bytes that it may have */
	bool ring_short;	    /* it was more than half full */
	uint64_t ring_lost;	    /* bytes that were lost when it was enlarged last */
	struct tracer_hello *hello; /* NULL while nobody wants hellos */
	bool hello_failed;	    /* and that was told */
	struct bpf_link *exit_link, *fork_link, *exec_link;
	struct tracer_life life;    /* its functions are NULL while nobody watches */
	struct bpf_object *sockets; /* tracer_search.c: what watches them; NULL: not loaded */
	const struct search_way *sockets_way; /* what is loaded; NULL: nothing serves here */
	bool sockets_tried;
	bool detached; /* for good */
	struct bpf_link *sockets_links[2];
	uint64_t sockets_asked; /* when it was looked at last whether they are still needed */
	uint64_t search_pause;	/* ns until that is asked again */
	bool search_over;	/* TS_SEARCH_OVER was seen */
	bool search_ended;	/* something went since it was watched last */
	bool marks;		/* what is written to BIOs is watched */
	bool has_mounts;	/* tracer_check_exe found that they can */
	struct probe_link *links;
	size_t links_count;
	struct probe_links *asides;
	struct {
		pthread_t thread;
		bool aside, runs; /* there is a thread; and it is not done */
	} expecting;
	struct traced_file *files;
	size_t files_count;
	uint32_t last_rule;
	uint64_t unpaired;   /* calls of goroutines that were sending when their process ended */
	uint64_t unfinished; /* connections that ended with their process, as the counter says */
	struct groups *groups;
	struct {
		struct tracer_agg_sink sink;
		int tables[2];
		__u32 sizes[2]; /* entries; 0: not made */
		__u32 size;	/* that they should have */
		int in_use;	/* the one that the programs use */
		bool failed;	/* to make them, and that was told */
		struct ts_agg list[TS_MAX_SUBS];
		uint32_t count;
	} aggs;
	const struct ts_sub *subs;
	size_t subs_count;
	uint32_t *pids; /* ours; at least one: 0 is the whole system */
	size_t pids_count;
	struct record_sink sink;
	unsigned int polled; /* of this poll so far: how many, and what the sink said */
	int sink_error;
};

/*
 * The number of a controller of cgroup v1 in this kernel; TS_CGROUP_V2 for "". -ENOENT: it has
 * none.
 */
int tracer_subsys(const char *controller, __u32 *subsys);
/* Fails where the kernel's programs cannot tell the path of a process' program. */
int tracer_check_exe(struct tracer *t, struct ts_err *err);
/* tracer_search.c: loads t->sockets, which is open. NULL then: not in this kernel. */
#define TRACER_SOCK_FILE "bpf/sock.bpf.o"
void tracer_load_sockets(struct tracer *t);
/* tracer_load.c: the maps, and the programs for user space. attach is chosen; it may get less. */
int tracer_load(struct tracer *t, struct ts_err *err);
int tracer_explain_load(int ret, struct ts_err *err); /* -errno of a program's load, as ts_fail */
/* Where there is no thread to be had, the step is over when it has begun. */
void tracer_step_begin(struct tracer_step *s, tracer_step_fn *fn, struct tracer *t, int which);
bool tracer_step_is_over(const struct tracer_step *s);
int tracer_step_end(struct tracer_step *s); /* waits; what it returned, also when called again */
int tracer_steps_end(struct tracer_step *steps, size_t count); /* all; the first failure, or 0 */
/*
 * What is loaded when the probes are there, `moment` and t->sockets: begins it; whether that is
 * done; waits for it: 0, or -errno of `moment`.
 */
void tracer_begin_later(struct tracer *t);
bool tracer_has_later(const struct tracer *t);
int tracer_end_later(struct tracer *t);
/* tracer_programs.c */
const char *tracer_program_file(const struct tracer *t, enum tracer_which which);
int tracer_load_program(struct tracer *t, int which); /* whose object is open */
void tracer_close_programs(struct tracer_program list[TRACER_PROGRAMS]);
/* Where a session's probe goes on at the return. */
int tracer_join_session(const struct tracer_program list[TRACER_PROGRAMS]);
int tracer_load_plain(struct tracer *t); /* with sessions, if it is not there yet. 0 or -errno */
/*
 * Has programs that know all that can be asked for take over, where enum ts_ask's `asked` is more
 * than what those that run were loaded for. 0; 1: they are being loaded, ask again; or -errno with
 * a sentence.
 */
int tracer_ask(struct tracer *t, __u32 asked, struct ts_err *err);
/* Waits for what is being loaded aside: before anything else is opened. */
void tracer_end_aside(struct tracer *t);
/* Whether nothing but a call's result is asked for, to be added up; whether one asks so. */
bool tracer_sub_counts(const struct ts_sub *sub);
bool tracer_any_counts(const struct ts_sub *subs, size_t count);
/* tracer_subs.c: what the subscriptions ask for, or may: enum ts_ask. */
__u32 tracer_asked_by(const struct ts_sub *subs, size_t count);
void tracer_unload(struct tracer *t);
/* Attaches a program of ours; NULL when that is not possible, and then it is told what is
 * `without`.
 */
struct bpf_link *tracer_tracepoint(struct tracer *t, const char *name, const char *without);
void tracer_detach_sockets(struct tracer *t);
int tracer_map_fd(const struct tracer *t, const char *name);
/* Whether the kernel has links of this type, TRACE_*: 1, 0, or -errno: no program can be loaded. */
int tracer_has_links(__u32 type);
/*
 * Probes of nothing, by a link of uprobe_multi: with the first probe for a while the kernel waits
 * until no processor is where it was (rcu_sync_enter of the lock that forks take), some ms, and
 * not with those that follow soon: before it would have waited as long once more, or, where there
 * was a second one (GP_REPLAY), twice.
 */
void tracer_attach_first(struct tracer *t);
void tracer_end_expecting(struct tracer *t);
/* By version: only for what the kernel cannot be asked. */
bool tracer_kernel_before(unsigned int major, unsigned int minor);
/* What the programs counted, on all processors; which: TS_CNT_*. */
uint64_t tracer_counter(const struct tracer *t, unsigned int which);
/*
 * Opens embedded objects, which are to be loaded next, by any threads; then tracer_end_loading is
 * called. modules: their programs use types of modules too, so libbpf has to look for them. 0 or
 * -errno: none is open.
 */
int tracer_open_objects(struct bpf_object **out, const char *const *names, size_t count,
			bool modules);
/* One of these once more: what failed to be loaded cannot be. NULL: errno says why. */
struct bpf_object *tracer_open_again(const char *name);
void tracer_end_loading(void);
bool tracer_has_cast(void); /* those opened last find bpf_rdonly_cast in this kernel */
/* A file in memory, which nobody executes; below 0: errno says why. */
int tracer_memory_file(const char *name);
/* An embedded object that uses none of the kernel's types. NULL: errno says why. */
struct bpf_object *tracer_open_plain(const char *name);
/* Before it is loaded. size: the section's, which may be absent. */
void tracer_set_constant(struct bpf_object *o, const char *section, const void *value, size_t size);
/* Keeps a plan as a file of ours. fd: the file, or below 0. */
int tracer_add_file(struct tracer *t, int fd, const char *path, const struct resolve_plan *plan,
		    struct ts_err *err);
int tracer_add_link(struct tracer *t, struct probe_link link);
/* A thread that no signal comes to: see signals.c. false: there is none, and `run` is done. */
bool tracer_begin_thread(pthread_t *thread, void *(*run)(void *arg), void *arg);
void tracer_close_aside(struct tracer *t, struct probe_links *links); /* takes them */
/* Attaches a file's sites of one kind. */
int tracer_attach_sites(struct tracer *t, const struct traced_file *f,
			const struct site_pick *pick);
/* Takes `count` links of a set, the first ones, out of the list. NULL: no memory. */
struct probe_links *tracer_take_links(struct tracer *t, size_t set, size_t count);
size_t tracer_count_links(const struct tracer *t, size_t set);
size_t tracer_file_set(const struct tracer *t, const struct traced_file *f, enum tracer_set set);
void tracer_close_set(struct tracer *t, size_t set); /* its links, by a thread */
/* tracer_attach.c: the picked sites of all roles; pick->role and ->where are set. */
int tracer_attach_roles(struct tracer *t, struct traced_file *f, struct site_pick pick);
int tracer_write_rule(const struct tracer *t, const struct traced_func *func);
/*
 * Brings a function's rule up to date; gives it a number first when it is wanted and has none. any:
 * calls of its file are wanted.
 */
int tracer_sync_func(struct tracer *t, const struct traced_file *f, struct traced_func *func,
		     bool any, struct ts_err *err);
/*
 * tracer_ends.c, when a file's rules are up to date, before those have probes whose numbers begin
 * with `first`. True: ends may take the place of functions that have such. Then what has no end is
 * watched, and the functions' own probes belong into TRACER_SET_INNER.
 */
bool tracer_choose_ends(struct tracer *t, struct traced_file *f, uint32_t first);
void tracer_leave_ends(struct tracer *t, struct traced_file *f); /* it is not so any more */
void tracer_turn_ends(struct tracer *t);			 /* now and then */
bool tracer_has_aside(const struct traced_file *f, size_t func); /* it has `inner` */
/* tracer_test.c: begins the tests of those of a file's functions that are picked. */
int tracer_begin_tests(struct tracer *t, struct traced_file *f, const struct site_pick *pick);
void tracer_end_tests(struct tracer *t); /* those that are over: their symbols' probes go */
/* Hooks a function of the kernel that has a rule. Says how in func.how. 0 or -errno. */
int tracer_hook(struct tracer *t, struct traced_func *func);
/* Of an object that is not loaded yet: its maps are those of bpf/state.bpf.c that have their names,
 * or those of the first that hooks the kernel. */
void tracer_share_maps(struct tracer *t, struct bpf_object *o);

/*
 * tracer_kernel.c. A system call that reads or writes a map keeps the programs of kprobes from
 * running on its processor until it is over (bpf_disable_instrumentation): where the kernel is
 * hooked, nobody else shall get that processor meanwhile. For what takes microseconds.
 */
struct tracer_haste {
	int policy;
	struct sched_param own;
	bool on;
};
void tracer_hasten(const struct tracer *t, struct tracer_haste *h);
void tracer_relax(const struct tracer_haste *h);

/* tracer_buffer.c: the ring, and a larger one where a poll has found that it is short. */
size_t tracer_buffer_size(const struct tracer_options *o); /* bytes, at first */
int tracer_open_buffer(struct tracer *t);
void tracer_fit_buffer(struct tracer *t, bool drained);

/* tracer_life.c */
void tracer_take_life(struct tracer *t, const struct ts_life *l);
void tracer_poll_life(struct tracer *t); /* as tracer_poll, to its end */

/* tracer_agg.c: what the kernel aggregates, as the subscriptions say. */
void tracer_sync_aggs(struct tracer *t);
void tracer_close_aggs(struct tracer *t);

/* tracer_hello.c: as control.hellos says; what fails is told. */
void tracer_sync_hello(struct tracer *t);
uint64_t tracer_hello_subs(const struct ts_sub *subs, size_t count);
void tracer_poll_hello(struct tracer *t); /* as tracer_poll, to its end */
void tracer_detach_hello(struct tracer *t);
void tracer_close_hello(struct tracer *t);
uint64_t tracer_hello_misses(const struct tracer *t, uint64_t (*misses)(int fd));
/* What `misses` says of each program that hooks the kernel, summed. */
uint64_t tracer_kernel_misses(const struct tracer *t, uint64_t (*misses)(int fd));
/* Brings a file's rules up to date, and attaches the functions that were not wanted before. */
int tracer_sync_file(struct tracer *t, struct traced_file *f, struct ts_err *err);
void tracer_free_file(struct traced_file *f);

#endif
