/* SPDX-License-Identifier: MIT */
/*
 * The Lua host. Runs a script's main chunk, which declares what it wants; then messages, records
 * and timers run its handlers. Every call into Lua is protected: an error in a handler is told,
 * with its traceback, and never ends more than that handler's run (unless strict).
 */
#ifndef TLSSCOPE_SCRIPT_H
#define TLSSCOPE_SCRIPT_H

#include "filter.h"
#include "output.h"
#include "stream.h"

struct script;

/* What e.time shows: the time of day, or seconds since the run began. */
enum script_time { SCRIPT_TIME_LOCAL, SCRIPT_TIME_UTC, SCRIPT_TIME_RELATIVE };

struct script_options {
	struct output *out;
	const char *const *include; /* folders of -I */
	size_t include_count;
	const struct ts_filter *narrow; /* the command line's filter */
	bool unsafe, strict;
	bool time_given; /* `time` counts, whatever the script says */
	enum script_time time;
	/* Asks for a TS_REC_PROCESS of pid, of this cgroup of v2, now; may be NULL. */
	void (*want_process)(void *ctx, uint32_t pid, uint64_t cgroup);
	/* Takes an entry of a HAR file; NULL: none is wanted. */
	void (*har_entry)(void *ctx, const char *json, size_t len);
	bool show_secrets;
	/*
	 * Hands over, by script_agg_cell, what the kernel has aggregated. NULL: the kernel is to
	 * aggregate nothing, all are events.
	 */
	void (*drain_aggs)(void *ctx);
	void *ctx;
};

/* What a script set by config{}; the defaults otherwise. */
struct script_config {
	size_t buffer;	    /* bytes; 0: as many as the load needs */
	const char *attach; /* "auto", "sessions", "multi", "perf", "copies" */
	const char *sites;  /* "auto", "symbol" */
};

/* The options and all they point to stay the caller's and must outlive the script. */
int script_open(struct script **out, const struct script_options *options, struct ts_err *err);
void script_close(struct script *s);

/*
 * Runs a main chunk: a file ("-": standard input), code of -e, or a shipped recipe by its name.
 * argv are the script's arguments. 0; -EINVAL when the script is wrong (already told on stderr,
 * with file, line and caret); -ENOENT and others when it cannot be read (in err).
 */
enum script_kind { SCRIPT_FILE, SCRIPT_CODE, SCRIPT_RECIPE };
enum script_kind script_kind_of(const char *name); /* a file's, or a recipe's */
int script_load(struct script *s, enum script_kind kind, const char *what, int argc,
		char *const *argv, struct ts_err *err);

/*
 * What the script wants. Bit n of a record's subs is the n-th subscription; already narrowed by
 * target{} and the command line. Valid until Lua runs again. script_changed tells, once, that it is
 * not what it was when last asked.
 */
const struct ts_sub *script_subs(struct script *s, size_t *count);
bool script_changed(struct script *s);
const struct ts_filter *script_target(const struct script *s); /* target{} and the command line */
const struct script_config *script_config(const struct script *s);

/* Runs what concerns it. Records that stream_feed takes are handed over as messages instead. */
void script_message(struct script *s, const struct stream_message *m);
void script_closed(struct script *s, struct stream_conn *c, uint64_t nsecs);
void script_record(struct script *s, const struct ts_record *r);
/* A file was attached (problem NULL) or refused: on.attach. */
void script_attached(struct script *s, const char *path, const char *kind, const char *problem,
		     size_t sites);

/*
 * An entry of an aggregation in the kernel (ts_sub.agg). source: of the call's function, NULL where
 * the key has none; it stays for as long as the script.
 */
void script_agg_cell(struct script *s, const struct ts_agg_key *key, const struct ts_agg_cell *cell,
		     const struct stream_source *source);
void script_sync_aggs(struct script *s); /* asks for all there is; no Lua runs */
/* Whether processes should be told of when they start: what is known of them is in keys. */
bool script_keys_processes(const struct script *s);

/*
 * The script's clock is the latest nsecs of any record or message it saw, so that a replay runs the
 * timers where the recording did. Next due timer, or UINT64_MAX; it runs at the TS_REC_TICK whose
 * nsecs reaches it.
 */
uint64_t script_next_tick(const struct script *s);

/* The script called exit(), or strict ended it: no more handlers but `stop`. */
bool script_exited(const struct script *s, int *status);
uint64_t script_errors(const struct script *s); /* handlers' errors so far */
/* Connections whose HTTP was cut short, as all together it had too much unfinished. */
uint64_t script_http_given_up(const struct script *s);

/* Whether it has no handler and no timer: nothing of it would ever run. */
bool script_idle(struct script *s);
/* Whether anything of it needs probes, or news of processes. */
bool script_wants_probes(struct script *s);

/* Async-signal-safe: interrupts Lua code that is running, now. */
void script_interrupt(struct script *s);
/* The number of the call that runs; 0: none does. Also from a signal handler. */
unsigned long script_running(const struct script *s);

/* Writes what lua/help.lua's function `what` says of these words. -EINVAL: told on stderr. */
int script_answer(struct script *s, const char *what, int argc, char *const *argv);

/* Shipped recipes, in order, and what the first comment line of each says. NULL at the end. */
struct script_recipe {
	const char *name, *summary;
};
const struct script_recipe *script_recipes(void);

#endif
