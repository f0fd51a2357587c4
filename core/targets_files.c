/* SPDX-License-Identifier: MIT */
/* Files that are looked at by their names: the user's, system libraries, programs of a command. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "targets_private.h"

int targets_look_at_path(struct targets *t, const char *path, struct ts_err *err)
{
	/* Not to hang on a FIFO. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), ret = 0;
	struct stat st;

	if (fd < 0)
		return ts_fail(err, errno, "%s: %s", path, strerror(errno));
	if (!fstat(fd, &st) && !S_ISREG(st.st_mode))
		ret = ts_fail(err, EINVAL, "%s is not a file", path);
	else if (ts_filter_lib_passes(t->narrow, path))
		ret = targets_look(t, 0, fd, path, err);
	close(fd);
	return ret;
}

/* Under the name that mappings of it will have, not a link's. */
static void look_at_library(struct targets *t, uint32_t pid, int fd)
{
	char self[64], path[PATH_MAX];
	struct ts_err err = {""};
	ssize_t n;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	n = readlink(self, path, sizeof(path) - 1);
	if (n < 0)
		return;
	path[n] = 0;
	if (ts_filter_lib_passes(t->narrow, path) &&
	    targets_look(t, pid, fd, path, &err) != -ECANCELED && err.text[0])
		ts_verbose("targets", "%s", err.text);
}

static void look_at_entry(struct targets *t, uint32_t pid, const char *path)
{
	int fd = proc_open_path(pid, path);

	if (fd < 0)
		return;
	look_at_library(t, pid, fd);
	close(fd);
}

/* Where the dynamic linkers of distributions look, and in folders of these, as FOLDERS matches. */
static const char *const library_folders[] = {"/lib", "/usr/lib", "/lib64", "/usr/lib64",
					      "/usr/local/lib"};
#define FOLDERS "*-linux-*"
#define MOST_FILES 64 /* of a folder: who fills it may mean harm */

static void look_at_folder(struct targets *t, uint32_t pid, const char *folder, bool inside)
{
	int fd = proc_open_path(pid, folder), left = MOST_FILES;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;
	char path[PATH_MAX];

	if (!dir && fd >= 0)
		close(fd);
	while (dir && left && (e = readdir(dir))) {
		if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, e->d_name) >=
		    sizeof(path))
			continue;
		if (targets_is_library(path))
			look_at_entry(t, pid, path);
		else if (!inside && !fnmatch(FOLDERS, e->d_name, 0))
			look_at_folder(t, pid, path, true);
		else
			continue;
		left--;
	}
	if (dir)
		closedir(dir);
}

void targets_look_at_root(struct targets *t, uint32_t pid)
{
	uint64_t dev, inode;
	size_t i;

	if (t->pids_only || proc_root(pid ? pid : (uint32_t)getpid(), &dev, &inode) ||
	    ts_map_get(&t->roots, dev, inode))
		return;
	if (ts_map_set(&t->roots, dev, inode, t))
		ts_warn("out of memory");
	for (i = 0; i < TS_ARRAY_SIZE(library_folders); i++)
		look_at_folder(t, pid, library_folders[i], false);
}

/* To open a device could do something. False: no program. */
static bool look_at_program(struct targets *t, const char *path)
{
	struct stat st;
	int fd;

	if (stat(path, &st) || !S_ISREG(st.st_mode) || access(path, X_OK))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd >= 0) {
		look_at_library(t, 0, fd);
		close(fd);
	}
	return true;
}

/* The word as the shell would find it. */
static void look_at_word(struct targets *t, const char *word, const char *folders)
{
	char path[PATH_MAX];
	size_t len;

	if (strchr(word, '/')) {
		look_at_program(t, word);
		return;
	}
	for (; *folders; folders += len + (folders[len] == ':')) {
		len = strcspn(folders, ":");
		snprintf(path, sizeof(path), "%.*s/%s", (int)len, folders, word);
		if (look_at_program(t, path))
			return;
	}
}

void targets_prepare(struct targets *t, const char *command)
{
	static const char between[] = " \t\n;|&()<>{}'\"`$=";
	const char *folders = getenv("PATH");
	char *copy = strdup(command), *rest, *word;

	for (word = copy ? strtok_r(copy, between, &rest) : NULL; word;
	     word = strtok_r(NULL, between, &rest))
		look_at_word(t, word, folders ? folders : "");
	free(copy);
}
