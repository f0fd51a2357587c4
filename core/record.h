/* SPDX-License-Identifier: MIT */
/*
 * Records (struct ts_record) are the one form in which anything travels up the pipeline: from the
 * ring buffer, from user space's own observations, and from a file. This module makes those that
 * user space makes, checks those that come from a file, writes files (-w) and reads them (-r).
 *
 * A file is the 8 bytes "tlsscope", a __u32 version, a __u32 byte-order mark 0x01020304, then
 * records. What was recorded replays to the same output: whatever a script can observe is a record.
 */
#ifndef TLSSCOPE_RECORD_H
#define TLSSCOPE_RECORD_H

#include "base.h"
#include "container.h"
#include "proc.h"

#define RECORD_VERSION 6
#define RECORD_MAX (1u << 20) /* no record is larger */

/* Bodies. Strings follow the struct, each ended by NUL, in the order named; missing ones are "". */
struct rec_start { /* strings: kernel release, host name */
	struct ts_record record;
	__u64 nsecs;	   /* CLOCK_MONOTONIC */
	__u64 wall_offset; /* CLOCK_REALTIME - CLOCK_MONOTONIC, ns */
};
struct rec_source { /* strings: kind ("openssl"), function, path */
	struct ts_record record;
	__u32 id;
	__u32 probe; /* enum ts_probe */
};
/*
 * strings: comm, exe, cmdline, user, what /proc/PID/cgroup says; its container's name, its pod's,
 * and their namespace; the TLS libraries that it has mapped
 */
struct rec_process {
	struct ts_record record;
	__u64 nsecs;
	__u32 pid, ppid, uid;
	__u32 zero;
};
struct rec_exec { /* TS_REC_EXEC, TS_REC_EXIT. strings: comm */
	struct ts_record record;
	__u64 nsecs;
	__u32 pid;
	__u32 zero;
};
struct rec_lost { /* what the counters gained since the last one */
	struct ts_record record;
	__u64 nsecs;
	__u64 counters[TS_CNT_ROOM];
};
struct rec_tick { /* timers that are due at nsecs run now. TS_REC_TICK */
	struct ts_record record;
	__u64 nsecs;
	__u32 behind; /* records wait in the ring: the rest of an unfinished call may be there */
	__u32 zero;
};
struct rec_signal {
	struct ts_record record;
	__u64 nsecs;
	__u32 number;
	__u32 zero;
};
struct rec_stop {
	struct ts_record record;
	__u64 nsecs;
	__s32 status; /* of the command of -c as waitpid(2) gives it, or -1 */
	__u32 zero;
};

struct rec_attach { /* a file was attached or refused. strings: path, kind, problem ("": none) */
	struct ts_record record;
	__u64 nsecs;
	__u32 sites;
	__u32 zero;
};

/*
 * Where records go. Returns 0, or a negative value that ends the run. The record is the callee's
 * only for the call.
 */
struct record_sink {
	int (*record)(void *ctx, const struct ts_record *r);
	void *ctx;
};
static inline int record_send(const struct record_sink *s, const void *r)
{
	return s->record(s->ctx, r);
}

/*
 * Appends strings to a body of `size` bytes and returns the finished record, in *buf (which is
 * emptied first; the caller's). NULL when there is no memory. strings: NULL-terminated list.
 */
const struct ts_record *record_build(struct ts_buf *buf, uint16_t type, const void *body,
				     size_t size, const char *const *strings);

/* The n-th string of a record whose body struct has `size` bytes; "" if there is none. */
const char *record_string(const struct ts_record *r, size_t size, unsigned int n);

/* The container of a TS_REC_PROCESS' process. False: it is in none. */
bool record_container(const struct ts_record *r, struct container *out);

/* Whether a record keeps the invariants of its type (sizes, terminated strings, values in range).
 */
bool record_valid(const struct ts_record *r, size_t available);

struct record_writer;
int record_writer_open(struct record_writer **out, const char *path, struct ts_err *err);
int record_write(struct record_writer *w, const struct ts_record *r, struct ts_err *err);
int record_flush(struct record_writer *w, struct ts_err *err); /* before a wait: nothing is kept */
int record_writer_close(struct record_writer *w,
			struct ts_err *err); /* a full disk shows here too */

/*
 * Hands every record of a file to the sink. A damaged or unfinished file is told by a sentence in
 * err and -EBADMSG, after all the records before the damage were handed over. `stop` is asked
 * between records; true ends the replay with 0.
 */
int record_replay(const char *path, const struct record_sink *sink, bool (*stop)(void *ctx),
		  void *stop_ctx, struct ts_err *err);

#endif
