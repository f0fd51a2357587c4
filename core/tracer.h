/* SPDX-License-Identifier: MIT */
/*
 * The kernel's side: loads the BPF programs, attaches them to the sites of a file, keeps the maps
 * in step with the subscriptions, and hands up what the ring buffer brings.
 */
#ifndef TLSSCOPE_TRACER_H
#define TLSSCOPE_TRACER_H

#include "filter.h"
#include "groups.h"
#include "record.h"
#include "resolve.h"

/* How probes are attached; AUTO takes the first that the kernel has. */
enum tracer_attach { TRACER_AUTO, TRACER_SESSIONS, TRACER_MULTI, TRACER_PERF, TRACER_COPIES };

/* Takes an entry of an aggregation's table: from now on it is only here. */
struct tracer_agg_sink {
	void (*cell)(void *ctx, const struct ts_agg_key *key, const struct ts_agg_cell *cell);
	void *ctx;
};

struct tracer_options {
	size_t ring_bytes; /* rounded up to a power of two, and a page */
	bool ring_grows;   /* where the load needs it */
	enum tracer_attach attach;
	bool symbols; /* probes at functions' symbols only, and no cheaper sites */
	/*
	 * What will be wanted first: the programs are loaded for no more, which takes half the
	 * time. For more they are loaded again. NULL: for all that can be wanted.
	 */
	const struct ts_sub *subs;
	size_t subs_count;
	/*
	 * Where only these processes can ever be wanted, nobody else pays for the probes, unless
	 * there are too many for probes of their own.
	 */
	const uint32_t *pids;
	size_t pids_count;     /* 0: probes for the whole system */
	bool go;	       /* these are Go programs: no sessions are needed */
	struct groups *groups; /* finds the cgroups that filters name; outlives the tracer */
	struct tracer_agg_sink agg_sink; /* cell NULL: nothing is aggregated in the kernel */
};

struct tracer;

/* -EPERM, -ENOSYS and others come with a sentence that names the remedy. */
int tracer_open(struct tracer **out, const struct tracer_options *options,
		const struct record_sink *sink, struct ts_err *err);
void tracer_close(struct tracer *t); /* detaches; what is in the ring is dropped */

/*
 * What the tracer should want from now on: files attached before follow too. subs is the caller's
 * and must stay until the next call. A subscription's bit is its index. Call it again when there
 * are new cgroups. 0 or -errno with a sentence; 1: what serves them is being loaded, and nothing
 * has changed: call it again, some milliseconds later.
 */
int tracer_set_subs(struct tracer *t, const struct ts_sub *subs, size_t count, struct ts_err *err);

/*
 * Attaches all of a plan's sites that a subscription wants and sends a TS_REC_SOURCE for each of
 * its functions. fd: the file. 0 or -errno with a sentence.
 */
int tracer_attach(struct tracer *t, int fd, const char *path, const struct resolve_plan *plan,
		  struct ts_err *err);
/*
 * A program starts: there may be a file to attach to in some milliseconds. What the kernel waits
 * for with the first probe for a while begins now, in a thread.
 */
void tracer_expect_files(struct tracer *t);
/*
 * Hooks the functions of the kernel's own TLS that a subscription wants, and says in the plan how.
 * One that cannot be hooked is told as a warning; 0 if any could, or none is wanted.
 */
int tracer_attach_kernel(struct tracer *t, struct resolve_plan *plan, struct ts_err *err);
/* Whether functions with `inner` in a plan may be of use: where handlers may only count. */
bool tracer_may_count(const struct tracer *t);
void tracer_detach(struct tracer *t); /* all probes; the ring can still be drained */

/* One is readable when records wait; below 0: there is none. */
#define TRACER_FDS 2
void tracer_fds(const struct tracer *t, int fds[TRACER_FDS]);
/*
 * Hands up to `budget` records to the sink. Returns how many, or the sink's negative value. Fewer
 * than budget: the ring is empty.
 */
int tracer_poll(struct tracer *t, unsigned int budget);
void tracer_arm(struct tracer *t, bool armed); /* the consumer is about to sleep: wake it */

/*
 * Forgets the calls in flight of processes that have ended, and counts what they had not finished.
 * Call it after such ends, not for each.
 */
void tracer_sweep(struct tracer *t);

/* Whether there are probes, and lives, of tracer_options.pids only. */
bool tracer_has_pids(const struct tracer *t);
/*
 * What becomes of processes, told from tracer_poll, in order with what they said; where
 * tracer_has_pids, of these. loaded: their dynamic linker loaded something, where lib_loader's plan
 * of it was attached. lost: some of this was not told.
 */
struct tracer_life {
	void (*exec)(void *ctx, uint32_t pid, const char *comm, uint64_t nsecs);
	void (*exited)(void *ctx, uint32_t pid, uint64_t nsecs);
	void (*loaded)(void *ctx, uint32_t pid);
	void (*lost)(void *ctx);
	void *ctx;
};
/* 0 or -errno with a sentence. */
int tracer_watch(struct tracer *t, const struct tracer_life *life, struct ts_err *err);

/*
 * Hands over all that the kernel has aggregated, once: what a later call brings happened later.
 * Waits until no program writes to it any more: some ms. 0 or -errno; then it stays there.
 */
int tracer_drain_aggs(struct tracer *t);
/* Whether a table is full: then calls are events until it is drained. */
bool tracer_aggs_full(const struct tracer *t);

/* Sums over all CPUs since the start. */
void tracer_counters(const struct tracer *t, uint64_t counters[TS_CNT_COUNT]);
/*
 * How the sockets of connections without a descriptor are found, where the kernel lets them:
 * "tp_btf
 * ...". NULL: it does not. Begins to watch, if that has not begun.
 */
const char *tracer_sockets_name(struct tracer *t);
/* Attaches what the programs ask for, and lets go of what is not needed any more; now and then. */
void tracer_search(struct tracer *t);
/* At which instructions functions are entered, in words. */
const char *tracer_sites_name(const struct tracer *t);
const char *tracer_attach_name(const struct tracer *t); /* "uprobe_multi", ... */

#endif
