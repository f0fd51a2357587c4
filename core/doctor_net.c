/* SPDX-License-Identifier: MIT */
/* Who holds established TCP connections: /proc/PID/net of each network namespace, and /proc/PID/fd.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor_private.h"

#define ESTABLISHED 1 /* TCP_ESTABLISHED of the kernel's tcp_states.h */

/* "sl local remote st tx:rx tr:when retrnsmt uid timeout inode ..." */
static int read_table(struct doctor_net *net, uint64_t namespace, const char *path)
{
	FILE *f = fopen(path, "re");
	unsigned int state;
	char line[512];
	uint64_t inode;
	int ret = 0;

	if (!f)
		return -errno;
	while (!ret && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %*s %*s %x %*s %*s %*s %*s %*s %" SCNu64, &state, &inode) ==
			    2 &&
		    state == ESTABLISHED && inode)
			ret = ts_map_set(&net->sockets, namespace, inode, net);
	fclose(f);
	return ret;
}

/* The namespace of the process, whose connections are known afterwards. */
static int read_namespace(struct doctor_net *net, uint32_t pid, uint64_t *namespace)
{
	static const char *const tables[] = {"tcp", "tcp6"};
	char path[64];
	struct stat st;
	int ret = 0;
	size_t i;

	snprintf(path, sizeof(path), "/proc/%u/ns/net", pid);
	if (stat(path, &st))
		return -errno;
	*namespace = st.st_ino;
	if (ts_map_get(&net->namespaces, st.st_ino, 0))
		return 0;
	for (i = 0; !ret && i < TS_ARRAY_SIZE(tables); i++) {
		snprintf(path, sizeof(path), "/proc/%u/net/%s", pid, tables[i]);
		ret = read_table(net, st.st_ino, path);
		/* A kernel without IPv6 has no tcp6. */
		ret = ret == -ENOENT ? 0 : ret;
	}
	return ret ? ret : ts_map_set(&net->namespaces, st.st_ino, 0, net);
}

int doctor_net_count(struct doctor_net *net, uint32_t pid)
{
	uint64_t namespace = 0, inode;
	char path[64], link[64];
	struct dirent *e;
	int ret, count = 0;
	ssize_t n;
	DIR *dir;

	ret = read_namespace(net, pid, &namespace);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/proc/%u/fd", pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((e = readdir(dir))) {
		n = readlinkat(dirfd(dir), e->d_name, link, sizeof(link) - 1);
		if (n <= 0)
			continue;
		link[n] = 0;
		if (sscanf(link, "socket:[%" SCNu64 "]", &inode) == 1 &&
		    ts_map_get(&net->sockets, namespace, inode))
			count++;
	}
	closedir(dir);
	return count;
}

void doctor_net_close(struct doctor_net *net)
{
	ts_map_free(&net->namespaces);
	ts_map_free(&net->sockets);
}
