/* SPDX-License-Identifier: MIT */
/* What the runtimes' own files tell of a container. */
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container.h"
#include "json_find.h"

#define FILE_MAX (16u << 20) /* podman has all its containers in one */

/* Only a plain file, and not more of it than is good for us. 0 or -1. */
static int read_file(const char *path, struct ts_buf *out)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
	char piece[16384];
	struct stat st;
	ssize_t n = -1;

	if (fd < 0)
		return -1;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size <= (off_t)FILE_MAX)
		while ((n = read(fd, piece, sizeof(piece))) > 0 && out->len < FILE_MAX)
			if (ts_buf_add(out, piece, (size_t)n))
				break;
	close(fd);
	return n ? -1 : 0;
}

/* Where names are, by the runtime's own keys. */
struct keys {
	const char *name, *pod, *namespace;
};

static const struct keys labels[] = {
	{"io.kubernetes.cri.container-name", "io.kubernetes.cri.sandbox-name",
	 "io.kubernetes.cri.sandbox-namespace"},
	{"io.kubernetes.container.name", "io.kubernetes.pod.name", "io.kubernetes.pod.namespace"},
	{"nerdctl/name", "", ""},
};

static bool take_labels(struct json_value object, struct container *c)
{
	size_t i;

	for (i = 0; object.at && i < TS_ARRAY_SIZE(labels); i++) {
		json_string(json_member(object, labels[i].pod), c->pod, sizeof(c->pod));
		json_string(json_member(object, labels[i].namespace), c->namespace,
			    sizeof(c->namespace));
		json_string(json_member(object, labels[i].name), c->name, sizeof(c->name));
		/* The container that holds a pod's namespaces has no name of its own. */
		if (!*c->name && *c->pod)
			ts_copy(c->name, sizeof(c->name), "POD");
		if (*c->name)
			return true;
	}
	return false;
}

/* The OCI runtime's config.json: containerd, cri-o. */
static bool take_bundle(struct json_value file, struct container *c)
{
	return take_labels(json_member(file, "annotations"), c);
}

/* Docker's config.v2.json. Its names begin with a slash. */
static bool take_docker(struct json_value file, struct container *c)
{
	struct json_value config = json_member(file, "Config");
	char name[CONTAINER_NAME];

	if (take_labels(json_member(config, "Labels"), c))
		return true;
	if (!json_string(json_member(file, "Name"), name, sizeof(name)))
		return false;
	ts_copy(c->name, sizeof(c->name), name + (*name == '/'));
	return *c->name;
}

/* The list of containers/storage: podman. */
static bool take_storage(struct json_value file, struct container *c)
{
	struct json_value one;
	char id[CONTAINER_NAME];

	for (one = json_first(file); one.at; one = json_next(one))
		if (json_string(json_member(one, "id"), id, sizeof(id)) && !strcmp(id, c->id))
			return json_string(json_first(json_member(one, "names")), c->name,
					   sizeof(c->name));
	return false;
}

#define TASKS "/containerd/io.containerd.runtime.v2.task/"
#define STORAGE "/containers/storage/overlay-containers/"

/* %s is the id. */
static const struct source {
	const char *path, *runtime;
	bool (*take)(struct json_value file, struct container *c);
} sources[] = {
	{"/run" TASKS "k8s.io/%s/config.json", "containerd", take_bundle},
	{"/run/k3s" TASKS "k8s.io/%s/config.json", "containerd", take_bundle},
	{"/var/lib/docker/containers/%s/config.v2.json", "docker", take_docker},
	{"/run" TASKS "default/%s/config.json", "containerd", take_bundle},
	{"/run" STORAGE "%s/userdata/config.json", "cri-o", take_bundle},
	{"/var/lib" STORAGE "%s/userdata/config.json", "cri-o", take_bundle},
	{"/var/lib" STORAGE "containers.json", "podman", take_storage},
};

static bool read_source(const char *root, const char *folder, const struct source *s,
			struct container *c)
{
	char path[PATH_MAX], below[512];
	struct ts_buf text = {0};
	bool found = false;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(below, sizeof(below), s->path, c->id);
#pragma GCC diagnostic pop
	snprintf(path, sizeof(path), "%s%s%s", root, folder, below);
	if (!read_file(path, &text))
		found = s->take(json_text((const char *)text.data, text.len), c);
	ts_buf_free(&text);
	if (found && !*c->runtime)
		ts_copy(c->runtime, sizeof(c->runtime), s->runtime);
	return found;
}

/* Of podman without root: in the home of the user whose slice it is. */
static bool read_home(const char *root, const char *text, struct container *c)
{
	static const struct source s = {"/.local/share" STORAGE "containers.json", "podman",
					take_storage};
	const char *slice = strstr(text, "/user-");
	struct passwd *pw;
	unsigned int uid;

	if (!slice || sscanf(slice, "/user-%u.slice/", &uid) != 1)
		return false;
	pw = getpwuid(uid);
	return pw && pw->pw_dir && read_source(root, pw->pw_dir, &s, c);
}

bool container_read_names(const char *root, const char *text, struct container *c)
{
	size_t i;

	/* Also what keeps a path from being another one: an id is digits. */
	if (strlen(c->id) != 64 || strspn(c->id, "0123456789abcdef") != 64)
		return *c->name;
	for (i = 0; i < TS_ARRAY_SIZE(sources); i++)
		if ((!*c->runtime || !strcmp(c->runtime, sources[i].runtime)) &&
		    read_source(root, "", &sources[i], c))
			return true;
	return read_home(root, text, c);
}
