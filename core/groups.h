/* SPDX-License-Identifier: MIT */
/*
 * Which cgroups there are, as far as processes are in them, and which of them a filter names. What
 * comes later is learnt when a process there starts a program.
 */
#ifndef TLSSCOPE_GROUPS_H
#define TLSSCOPE_GROUPS_H

#include "container.h"
#include "filter.h"

struct groups;
int groups_open(struct groups **out, struct ts_err *err);
void groups_close(struct groups *g);

/*
 * A process started a program: looks at its cgroups. True when those were not known, and a filter
 * that was resolved may name them. Costs nothing while no filter names any.
 */
bool groups_note(struct groups *g, uint32_t pid);

/*
 * A process' /proc/PID/cgroup; of one that is gone, what its cgroup of v2 tells, if that is there
 * yet; else "".
 */
void groups_read(const struct groups *g, uint32_t pid, uint64_t id, char *out, size_t size);

/*
 * The container that a process with this /proc/PID/cgroup is in, with its names. False: none. Files
 * are read until they tell a name, once a container.
 */
bool groups_container(struct groups *g, const char *text, struct container *out);

/* The cgroups that a key's names stand for now: each with what is below it. */
struct groups_list {
	struct groups_item {
		struct cgroup cgroup;
		bool exclude;
	} * items;
	size_t count;
	bool accepts; /* only those pass that are not excluded, be there none */
};
/*
 * 0 or -ENOMEM; the list is the caller's to free in any case. A name that stands for nothing yet is
 * told once.
 */
int groups_resolve(struct groups *g, const struct ts_filter *f, enum ts_names key,
		   struct groups_list *out);
void groups_list_free(struct groups_list *list);

/* What a recording tells of a process, for replays. */
struct groups_process {
	const char *text;		   /* its /proc/PID/cgroup, or "" */
	uint64_t id;			   /* its cgroup of v2 */
	const struct container *container; /* or NULL */
};
/* Whether it passes the keys of cgroups and containers. */
bool groups_passes(const struct ts_filter *f, const struct groups_process *p);

#endif
