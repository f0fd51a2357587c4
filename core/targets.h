/* SPDX-License-Identifier: MIT */
/*
 * Which files are probed: those of running processes, those that processes map later, those that
 * the system's library folders hold, and those that the user names. Each file (device and inode)
 * once.
 */
#ifndef TLSSCOPE_TARGETS_H
#define TLSSCOPE_TARGETS_H

#include "filter.h"
#include "tracer.h"
#include "watch.h"

struct targets;

/* What became of one file. */
struct targets_file {
	const char *path; /* as its process sees it */
	const char *kind; /* "openssl" */
	const struct resolve_plan *plan;
	const char *problem; /* why it is not attached, or NULL */
};

struct targets_ops {
	void (*file)(void *ctx, const struct targets_file *f); /* attached, planned or refused */
	void (*exec)(void *ctx, uint32_t pid, const char *comm, uint64_t nsecs);
	void (*exited)(void *ctx, uint32_t pid, uint64_t nsecs);
	void (*lost)(void *ctx); /* some of the two before were not told */
};

/*
 * tracer NULL: plan only (--dry-run, -l). narrow: what the command line and target{} say together.
 * The caller's, and must outlive the targets.
 */
int targets_open(struct targets **out, const struct ts_filter *narrow, struct tracer *tracer,
		 const struct targets_ops *ops, void *ctx, struct ts_err *err);
void targets_close(struct targets *t);

/*
 * Looks at the system's libraries and the running processes, as far as `narrow` lets them pass, and
 * at files named by a path in its lib key. -ENOENT with a sentence for a pid or named file that is
 * not there; -ECANCELED without one for a named file that the `file` op told of.
 */
int targets_scan(struct targets *t, struct ts_err *err);
/*
 * Looks at the programs that a shell command seems to name, before they start: by the time that a
 * new program is noticed, a short one may have said all it has to say.
 */
void targets_prepare(struct targets *t, const char *command);
/*
 * Tells the `file` op, for each kind that an image is of, what would be attached to it, whether or
 * not it was looked at before; for targets without a tracer. 0; -ENOENT: it has no TLS functions;
 * -ECANCELED: it has, but they cannot be probed. pid: whose path it is; 0: ours.
 */
int targets_judge(struct targets *t, uint32_t pid, struct image *im, const char *path,
		  struct ts_err *err);
int targets_fd(const struct targets *t); /* -1 when nothing is watched */
void targets_poll(struct targets *t);
/* The kernel's own TLS comes with a module, which any program may cause to be loaded; now and then.
 */
void targets_look_at_kernel(struct targets *t);
size_t targets_attached(const struct targets *t); /* files with probes */

#endif
