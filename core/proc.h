/* SPDX-License-Identifier: MIT */
/* Processes as /proc shows them. Every name in there is the process's own choice: never trusted. */
#ifndef TLSSCOPE_PROC_H
#define TLSSCOPE_PROC_H

#include "base.h"

/* A file mapped executable. dev and inode as stat(2) of the file itself says them. */
struct proc_map {
	uint64_t start, end;
	uint32_t dev_major, dev_minor;
	uint64_t inode;
	const char *path; /* as the process sees it; may end in " (deleted)" */
};

/* Stops at and returns the callback's first value that is not 0. */
int proc_each(int (*fn)(void *ctx, uint32_t pid), void *ctx);
/* The distinct executable file mappings of a process; -ESRCH when it is gone, -EACCES. */
int proc_maps(uint32_t pid, int (*fn)(void *ctx, const struct proc_map *map), void *ctx);

/*
 * Opens the file behind a mapping, read-only: the very file, also when it was deleted or replaced
 * or lies in another mount namespace. Returns a descriptor, or -errno.
 */
int proc_open_map(uint32_t pid, const struct proc_map *map);

/*
 * Opens a file or folder as the process would, read-only: links lead nowhere outside its root.
 * pid 0: ours. Returns a descriptor, or -errno; -ENODEV: it is neither.
 */
int proc_open_path(uint32_t pid, const char *path);
/* What tells a process' root folder from others; 0, or -errno. */
int proc_root(uint32_t pid, uint64_t *dev, uint64_t *inode);

bool proc_exists(uint32_t pid); /* false for a zombie too */

/* What can be told of a process; what is unknown is "" or (uint32_t)-1. */
struct proc_info {
	uint32_t pid, ppid, uid;
	uint64_t start_ticks; /* field 22 of /proc/PID/stat */
	char comm[TS_COMM_LEN];
	char exe[4096];
	char cmdline[4096]; /* arguments with a space between them; cut to fit */
};
int proc_read(uint32_t pid, struct proc_info *out); /* -ESRCH */

/* The names of the files of TLS libraries that it has mapped, with spaces between them; "": none.
 */
void proc_tls(uint32_t pid, char *out, size_t size);

/* Whether we are in the machine's first pid namespace, whose numbers BPF reports. */
bool proc_pidns_is_init(void);

#endif
