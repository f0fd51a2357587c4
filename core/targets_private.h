/* SPDX-License-Identifier: MIT */
/*
 * What the files of targets share: targets.c (processes), targets_files.c (files by their names),
 * targets_pids.c (what becomes of named processes).
 */
#ifndef TLSSCOPE_TARGETS_PRIVATE_H
#define TLSSCOPE_TARGETS_PRIVATE_H

#include "resolve.h"
#include "targets.h"

/*
 * What is known of a mapped file, by the device, inode and path that the kernel shows. Kept in
 * `seen` as a pointer's value: the generation of the inode, shifted, with the lowest bit set;
 * generation 0 where it was not told. A file without TLS functions may give its inode to another
 * file: a new generation is looked at again. A probed file's inode stays taken while we hold it.
 */
struct targets {
	const struct ts_filter *narrow;
	struct tracer *tracer;
	struct watch *watch;
	const struct targets_ops *ops;
	void *ctx;
	struct resolve_cache *plans;
	struct ts_map seen;  /* {device and path, inode} as mappings show them */
	struct ts_map files; /* {device, inode} as fstat says them: those with TLS functions */
	struct ts_map
		layers; /* of files on overlayfs: {change time, inode}, as of the layer's file */
	struct ts_map loaders; /* {device, inode} of dynamic linkers that are probed */
	struct ts_map roots;   /* {device, inode} of root folders whose libraries were looked at */
	size_t attached;
	bool pids_only;	   /* only named processes can ever be wanted */
	bool pids_watched; /* and the tracer tells of nobody else; also what they load */
	bool kernel;	   /* its TLS was there, and looked at */
	uint64_t kernel_asked;
};

/*
 * Looks at an open file, which process pid calls path (0: we do). 0: probed, or was before.
 * -ENOENT: has no TLS functions. -ECANCELED: has, but they cannot be probed; that was told. Others:
 * what is wrong with it.
 */
int targets_look(struct targets *t, uint32_t pid, int fd, const char *path, struct ts_err *err);
bool targets_is_library(const char *path); /* by its name */

/*
 * A file that the user named: here whatever is wrong with it is an error. As targets_look; 0, too,
 * where another filter does not let it pass.
 */
int targets_look_at_path(struct targets *t, const char *path, struct ts_err *err);
/* The libraries where a process' root folder has them; each root once. pid 0: ours. */
void targets_look_at_root(struct targets *t, uint32_t pid);

/* Looks at all that a process has mapped. */
void targets_scan_process(struct targets *t, uint32_t pid);
/* What all processes map is looked at from now on, if it is not; a failure is told. */
void targets_watch_all(struct targets *t);

/* targets_pids.c: the processes of `narrow`, where there can be no others. */
void targets_look_at_pid(struct targets *t, uint32_t pid);
void targets_scan_pids(struct targets *t);

#endif
