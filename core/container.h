/* SPDX-License-Identifier: MIT */
/*
 * Containers: their id is in the path of their cgroup; their name in files that their runtime
 * keeps, which are as little trusted as the rest.
 */
#ifndef TLSSCOPE_CONTAINER_H
#define TLSSCOPE_CONTAINER_H

#include "cgroup.h"

#define CONTAINER_NAME 256

/* What is not known is "". */
struct container {
	char id[CONTAINER_NAME];   /* 64 hexadecimal digits; of LXC and systemd-nspawn the name */
	char runtime[16];	   /* docker, containerd, cri-o, podman, lxc, systemd-nspawn */
	char pod_uid[40];	   /* of Kubernetes, as it writes them */
	char name[CONTAINER_NAME]; /* as its runtime calls it */
	char pod[CONTAINER_NAME], namespace[CONTAINER_NAME]; /* of Kubernetes */
};

/*
 * The container that a process with this /proc/PID/cgroup is in, without what files tell: the
 * innermost. False: none. place: its cgroup (the caller frees the path), or NULL.
 */
bool container_parse(const char *text, struct container *out, struct cgroup *place);

/* Looks for the names in the runtimes' files below `root` (""). False: none was found. */
bool container_read_names(const char *root, const char *text, struct container *c);

/* What a human calls it: its name, or the first 12 digits of its id. */
const char *container_label(const struct container *c, char out[CONTAINER_NAME]);

/* Whether a user who says `value` means it: its name, the beginning of its id, its pod. */
bool container_is(const struct container *c, const char *value);

#endif
