/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proc.h"

/* The inode number of the first pid namespace: PROC_PID_INIT_INO of the kernel's proc_ns.h. */
#define PIDNS_INIT_INODE 0xEFFFFFFCu

/* A process that ends while we look at it shows as either. */
static int gone(int error)
{
	return error == ENOENT ? -ESRCH : -error;
}

int proc_each(int (*fn)(void *ctx, uint32_t pid), void *ctx)
{
	DIR *dir = opendir("/proc");
	unsigned long pid;
	struct dirent *e;
	char *end;
	int ret = 0;

	if (!dir)
		return -errno;
	while (!ret && (e = readdir(dir))) {
		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		pid = strtoul(e->d_name, &end, 10);
		if (!*end && pid && pid <= INT32_MAX)
			ret = fn(ctx, (uint32_t)pid);
	}
	closedir(dir);
	return ret;
}

/*
 * "START-END PERMS OFFSET MAJOR:MINOR INODE    PATH": false for what is not an executable file's.
 * The path is the rest of the line, whatever is in it; the kernel shows a newline there as \012.
 */
static bool parse_map(char *line, struct proc_map *map)
{
	char perms[5];
	size_t len;
	int at = 0;

	*map = (struct proc_map){0};
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %x:%x %" SCNu64 "%n", &map->start,
		   &map->end, perms, &map->dev_major, &map->dev_minor, &map->inode, &at) != 6 ||
	    !at)
		return false;
	line += at + strspn(line + at, " ");
	len = strlen(line);
	if (len && line[len - 1] == '\n')
		line[len - 1] = 0;
	map->path = line;
	return strlen(perms) == 4 && perms[2] == 'x' && map->inode && line[0] == '/' &&
	       map->start < map->end;
}

int proc_maps(uint32_t pid, int (*fn)(void *ctx, const struct proc_map *map), void *ctx)
{
	struct ts_map seen = {0};
	struct proc_map map;
	char name[64], *line = NULL;
	size_t size = 0;
	uint64_t dev;
	int ret = 0;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%u/maps", pid);
	f = fopen(name, "re");
	if (!f)
		return gone(errno);
	errno = 0;
	while (!ret && getline(&line, &size, f) >= 0) {
		if (!parse_map(line, &map))
			continue;
		dev = (uint64_t)map.dev_major << 32 | map.dev_minor;
		if (ts_map_get(&seen, dev, map.inode))
			continue;
		ret = ts_map_set(&seen, dev, map.inode, &seen);
		if (!ret)
			ret = fn(ctx, &map);
		errno = 0;
	}
	if (!ret && !feof(f) && errno)
		ret = gone(errno);
	ts_map_free(&seen);
	free(line);
	fclose(f);
	return ret;
}

/* Looks before it opens: opening a device or a pipe may block or do something. */
static int reopen(int at, struct stat *st, bool folders)
{
	char self[64];
	int fd, ret;

	if (fstat(at, st)) {
		ret = -errno;
	} else if (!S_ISREG(st->st_mode) && !(folders && S_ISDIR(st->st_mode))) {
		ret = -ENODEV;
	} else {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", at);
		fd = open(self, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
		ret = fd < 0 ? -errno : fd;
	}
	close(at);
	return ret;
}

static int open_regular(const char *path, struct stat *st)
{
	int at = open(path, O_PATH | O_CLOEXEC);

	return at < 0 ? -errno : reopen(at, st, false);
}

int proc_open_path(uint32_t pid, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	char root[64] = "/";
	struct stat st;
	int dir, at;

	if (pid)
		snprintf(root, sizeof(root), "/proc/%u/root", pid);
	dir = open(root, O_PATH | O_CLOEXEC | O_DIRECTORY);
	if (dir < 0)
		return -errno;
	at = (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
	at = at < 0 ? -errno : at;
	close(dir);
	return at < 0 ? at : reopen(at, &st, true);
}

int proc_root(uint32_t pid, uint64_t *dev, uint64_t *inode)
{
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%u/root/", pid);
	if (stat(path, &st))
		return -errno;
	*dev = st.st_dev;
	*inode = st.st_ino;
	return 0;
}

/*
 * Opens a path that may lead to another file by now; its inode number tells. Not its device: btrfs
 * and overlayfs show one in the maps and another in stat.
 */
static int open_if_same(const char *path, const struct proc_map *map)
{
	struct stat st = {0};
	int fd = open_regular(path, &st);

	if (fd >= 0 && st.st_ino != map->inode) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

int proc_open_map(uint32_t pid, const struct proc_map *map)
{
	struct stat st;
	char *path;
	int fd, n;

	n = asprintf(&path, "/proc/%u/map_files/%" PRIx64 "-%" PRIx64, pid, map->start, map->end);
	if (n < 0)
		return -ENOMEM;
	fd = open_regular(path, &st);
	free(path);
	if (fd >= 0)
		return fd;
	/* Without the capability for map_files, or unmapped since. */
	n = asprintf(&path, "/proc/%u/root%s", pid, map->path);
	if (n < 0)
		return -ENOMEM;
	fd = open_if_same(path, map);
	free(path);
	/* The process is gone; its file may have the same name here. */
	if (fd < 0 && !proc_exists(pid))
		fd = open_if_same(map->path, map);
	return fd;
}

/* Reads at most size - 1 bytes of /proc/PID/NAME and ends them with NUL. Returns how many. */
static ssize_t read_file(uint32_t pid, const char *name, char *buf, size_t size)
{
	char path[64];
	size_t done = 0;
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return gone(errno);
	while (done < size - 1 && (n = read(fd, buf + done, size - 1 - done)) > 0)
		done += (size_t)n;
	if (n < 0)
		n = gone(errno);
	close(fd);
	buf[done] = 0;
	return n < 0 && !done ? n : (ssize_t)done;
}

/* Fields 3 (state), 4 (parent) and 22 (start) of stat. The name before them can hold anything. */
static int read_stat(uint32_t pid, char *state, uint32_t *ppid, uint64_t *start)
{
	char buf[1024], *at;
	ssize_t n = read_file(pid, "stat", buf, sizeof(buf));

	if (n < 0)
		return (int)n;
	at = strrchr(buf, ')');
	if (!at || sscanf(at + 1,
			  " %c %u %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
			  "%*d %" SCNu64,
			  state, ppid, start) != 3)
		return -ESRCH;
	return 0;
}

bool proc_exists(uint32_t pid)
{
	uint64_t start;
	uint32_t ppid;
	char state;

	return !read_stat(pid, &state, &ppid, &start) && state != 'Z' && state != 'X';
}

/* The real user id, which BPF reports too. */
static uint32_t read_uid(uint32_t pid)
{
	char buf[4096], *at;
	uint32_t uid;

	if (read_file(pid, "status", buf, sizeof(buf)) < 0)
		return (uint32_t)-1;
	/* The name comes first, but the kernel lets no newline of it through. */
	at = strstr(buf, "\nUid:");
	return at && sscanf(at + 5, "%u", &uid) == 1 ? uid : (uint32_t)-1;
}

static void read_cmdline(uint32_t pid, char *out, size_t size)
{
	ssize_t n = read_file(pid, "cmdline", out, size), i;

	while (n > 0 && !out[n - 1])
		n--;
	for (i = 0; i < n; i++)
		if (!out[i])
			out[i] = ' ';
	if (n < 0)
		out[0] = 0;
}

int proc_read(uint32_t pid, struct proc_info *out)
{
	char path[64], comm[128], state;
	ssize_t n;
	int ret;

	memset(out, 0, sizeof(*out));
	out->pid = pid;
	out->ppid = out->uid = (uint32_t)-1;
	ret = read_stat(pid, &state, &out->ppid, &out->start_ticks);
	if (ret)
		return ret;
	out->uid = read_uid(pid);
	n = read_file(pid, "comm", comm, sizeof(comm));
	if (n > 0) {
		comm[n - (comm[n - 1] == '\n')] = 0;
		ts_copy(out->comm, sizeof(out->comm), comm);
	}
	snprintf(path, sizeof(path), "/proc/%u/exe", pid);
	n = readlink(path, out->exe, sizeof(out->exe) - 1);
	out->exe[n > 0 ? n : 0] = 0;
	read_cmdline(pid, out->cmdline, sizeof(out->cmdline));
	return 0;
}

bool proc_pidns_is_init(void)
{
	struct stat st;

	return !stat("/proc/self/ns/pid", &st) && st.st_ino == PIDNS_INIT_INODE;
}
