/* SPDX-License-Identifier: MIT */
/*
 * Cgroups by name: where their hierarchies are mounted, and what /proc/PID/cgroup says. A cgroup is
 * named by its controller ("" is cgroup v2) and its path there, as that file shows them.
 */
#ifndef TLSSCOPE_CGROUP_H
#define TLSSCOPE_CGROUP_H

#include "base.h"

#define CGROUP_TEXT 4096 /* of /proc/PID/cgroup at most; no more is looked at */
#define CGROUP_LINES 32

struct cgroup_mounts {
	struct cgroup_mount {
		char *controller; /* "memory"; "" for v2 */
		char *root;	  /* the cgroup that is seen there */
		char *folder;
	} * items;
	size_t count;
};

int cgroup_mounts_read(struct cgroup_mounts *m); /* those that we see; 0 or -errno */
/* The same of a text like /proc/PID/mountinfo, which is changed. 0 or -ENOMEM. */
int cgroup_mounts_parse(struct cgroup_mounts *m, char *text);
void cgroup_mounts_free(struct cgroup_mounts *m);

/* Owns its path. path NULL: only the id is known, which is v2's. */
struct cgroup {
	char controller[32];
	char *path;
	uint64_t id; /* the folder's inode number; 0: not there */
};

/*
 * What a user names: a folder below a mount, "CONTROLLER:PATH", a line of /proc/PID/cgroup, a path
 * or the id of v2. 0, -ENOENT for what names no single one, as a unit's name does (nginx.service),
 * or -ENOMEM.
 */
int cgroup_parse(const struct cgroup_mounts *m, const char *value, struct cgroup *out);
/* A cgroup of v2, without a path where it is not there. 0 or -ENOMEM. */
int cgroup_by_id(const struct cgroup_mounts *m, uint64_t id, struct cgroup *out);
void cgroup_find(const struct cgroup_mounts *m, struct cgroup *c); /* fills in the id */
/* Whether c is `other` or below it. */
bool cgroup_within(const struct cgroup *c, const struct cgroup *other);

/* "" when the process is gone. */
void cgroup_read(uint32_t pid, char *out, size_t size);

/* A line of /proc/PID/cgroup. Its parts do not end with NUL. */
struct cgroup_line {
	const char *controllers, *path; /* "cpu,cpuacct"; "" is v2's */
	size_t controllers_len, path_len;
};
/* The lines of such a text: v2's first. Returns how many. */
size_t cgroup_lines(const char *text, struct cgroup_line lines[CGROUP_LINES]);

/* The cgroup of a line's first controller and the first `len` bytes of its path. 0 or -ENOMEM. */
int cgroup_of_line(const struct cgroup_line *line, size_t len, struct cgroup *out);

/*
 * The cgroup that a user names, if a process with this /proc/PID/cgroup is in it. 0, -ENOENT, or
 * -ENOMEM.
 */
int cgroup_named(const struct cgroup_mounts *m, const char *value, const char *text,
		 struct cgroup *out);

#endif
