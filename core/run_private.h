/* SPDX-License-Identifier: MIT */
/*
 * What the parts of a run share: run.c (records, scripts), live.c (the event loop), replay.c and
 * run_output.c (where it all goes).
 */
#ifndef TLSSCOPE_RUN_PRIVATE_H
#define TLSSCOPE_RUN_PRIVATE_H

#include <poll.h>

#include "child.h"
#include "har.h"
#include "pcap.h"
#include "repl.h"
#include "run.h"
#include "script.h"
#include "targets.h"

/* Of the thread that reads: it had a processor, and it waited for one. */
struct run_times {
	uint64_t ran, waited; /* ns */
};

struct run {
	const struct options *o;
	struct ts_filter filter; /* the command line's, with the child of -c */
	struct output *out;
	struct script *script;
	struct stream *stream;
	struct tracer *tracer;
	struct targets *targets;
	struct groups *groups;
	struct record_writer *writer;
	struct pcap *pcap; /* NULL: not wanted; as har */
	struct har *har;
	struct child child;
	int child_status;	 /* as waitpid gives it; -1: no command, or it has not ended */
	struct ts_map told;	 /* processes that a record told of, by pid */
	struct ts_map processes; /* replay: their last TS_REC_PROCESS, by pid */
	struct rec_exec *exits;	 /* that wait until the ring's older records were handed over */
	struct repl *repl;	 /* NULL: no prompt */
	size_t exits_count;
	bool regroup;		     /* there are new cgroups, which filters may name */
	bool asks;		     /* tracer_set_subs is to be called again: it was not ready */
	bool lives_lost;	     /* some exec and exit were not told */
	bool sweep;		     /* processes ended since their calls were last looked for */
	uint64_t lost[TS_CNT_COUNT]; /* the counters as they were told */
	uint64_t last_tick, last_nsecs;
	struct run_times times; /* as they were at the last tick */
	struct pollfd *fds;	/* their places are below; then one for each process of -p */
	size_t fds_count;
	uint64_t woken;	      /* when the last record woke it */
	int signals;	      /* readable after a signal */
	bool wants_processes; /* the script asks for e.proc */
	bool started;	      /* TS_REC_START was handed on */
	bool stopped;	      /* TS_REC_STOP was handed on */
	bool refused;	      /* at the prompt: probes cannot be had */
	bool failed;	      /* something went wrong that makes the exit status 1 */
};

/* Places in run.fds. */
enum { FD_SIGNALS, FD_WATCH, FD_INPUT, FD_TRACER, FD_PIDS = FD_TRACER + TRACER_FDS };

/* The sink of everything that sends records. */
int run_record(void *ctx, const struct ts_record *rec);
/* Builds a record of body and strings, and sends it. */
int run_send(struct run *r, uint16_t type, const void *body, size_t size,
	     const char *const *strings);
/*
 * Sends a TS_REC_PROCESS of what /proc says, once a process. cgroup: its cgroup of v2, which tells
 * something of a process that is gone; 0: unknown.
 */
void run_tell_process(struct run *r, uint32_t pid, uint64_t cgroup);
/* Another process may have the number, or another program run: it will be told anew. */
void run_forget_process(struct run *r, uint32_t pid);
/* Hands an entry of the kernel's aggregations to the script. */
void run_agg_cell(void *ctx, const struct ts_agg_key *key, const struct ts_agg_cell *cell);
/* Tells an error; the exit status will be 1. */
void run_fail(struct run *r, const struct ts_err *err);
/* Whether handlers should run no more. */
bool run_ended(const struct run *r);

void run_send_start(struct run *r);

/* What a run writes: the script's output, the files of --pcap and --har, the recording of -w. */
int run_open_output(struct run *r, struct ts_err *err);
int run_open_captures(struct run *r, struct ts_err *err);	 /* the others */
void run_put_har_entry(void *ctx, const char *json, size_t len); /* ctx: the run */
void run_flush_outputs(struct run *r); /* what was seen is in the files, whatever comes */
bool run_unwritable(const struct run *r);
void run_drop_recording(struct run *r, const struct ts_err *err); /* it cannot be written */
/* Connections that are open have no end in it: before the stream forgets them. */
void run_close_capture(struct run *r);
void run_close_outputs(struct run *r);
/* run_prompt.c: with a script that is loaded, or none; and in the event loop */
int run_open_prompt(struct run *r, struct ts_err *err);
void run_prompt(struct run *r);

/*
 * Keeps the probes in step with what the script wants; at a prompt they come with the first handler
 * that needs them. False: they cannot be had, which was told.
 */
bool live_apply(struct run *r);
int live_attach(struct run *r, struct ts_err *err);
extern const struct targets_ops live_targets; /* what targets tell of; their ctx is the run */

/* From the first probe to the last record; TS_REC_STOP is not among them. */
void live_run(struct run *r);

/* All records of a file. */
void replay_run(struct run *r);
void replay_process(struct run *r, const struct ts_record *rec); /* a TS_REC_PROCESS */
/* The subscriptions that want a recorded message: the bits in it are the recording script's. */
uint64_t replay_wanted(const struct run *r, const struct stream_message *m);
void replay_free(struct run *r);

#endif
