/* SPDX-License-Identifier: MIT */
/* One process: the files that it maps, and what can be captured of it. */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor_private.h"

void doctor_process_free(struct doctor_process *p)
{
	size_t i;

	for (i = 0; i < p->uses_count; i++)
		free(p->uses[i].path);
	free(p->uses);
	free(p);
}

static const char deleted_mark[] = " (deleted)";

static int add_use(struct doctor_process *p, const char *path, struct doctor_file *file)
{
	struct doctor_use *uses = realloc(p->uses, (p->uses_count + 1) * sizeof(*uses)), *u;
	size_t len = strlen(path), mark = sizeof(deleted_mark) - 1;

	if (!uses)
		return -ENOMEM;
	p->uses = uses;
	u = &uses[p->uses_count];
	*u = (struct doctor_use){.file = file, .is_program = !strcmp(path, p->info.exe)};
	u->deleted = len > mark && !strcmp(path + len - mark, deleted_mark);
	u->path = strndup(path, u->deleted ? len - mark : len);
	if (!u->path)
		return -ENOMEM;
	p->uses_count++;
	return 0;
}

struct looking {
	struct doctor_files *files;
	const struct ts_filter *narrow;
	struct doctor_process *p;
	bool deep;
};

static int look_at_map(void *ctx, const struct proc_map *map)
{
	struct looking *l = ctx;
	struct doctor_file *file;
	int fd;

	l->p->files_count++;
	l->p->musl |= !fnmatch("ld-musl-*", doctor_base_name(map->path), 0) ||
		      strstr(map->path, "-linux-musl");
	if (!ts_filter_lib_passes(l->narrow, map->path))
		return 0;
	fd = proc_open_map(l->p->info.pid, map);
	if (fd < 0) {
		/* Unmapped since, or the process has ended: nothing is wrong. */
		if (fd == -EACCES || fd == -EPERM)
			l->p->problem = "its files cannot be opened";
		return 0;
	}
	file = doctor_look(l->files, l->p->info.pid, fd, map->path, l->deep);
	close(fd);
	if (!file)
		return -ENOMEM;
	l->p->is_32bit |= file->is_32bit && !strcmp(map->path, l->p->info.exe);
	return file->libs_count || file->companion ? add_use(l->p, map->path, file) : 0;
}

static bool same_folder(const char *a, const char *b)
{
	size_t len = (size_t)(doctor_base_name(a) - a);

	return len == (size_t)(doctor_base_name(b) - b) && !strncmp(a, b, len);
}

/* Libssl has no version in it; the libcrypto beside it has. */
static void take_versions(struct doctor_process *p)
{
	struct doctor_file *file;
	size_t i, k, n;

	for (i = 0; i < p->uses_count; i++) {
		file = p->uses[i].file;
		for (n = 0; n < file->libs_count; n++)
			for (k = 0; k < p->uses_count; k++)
				if (same_folder(p->uses[i].path, p->uses[k].path))
					doctor_take_version(&file->libs[n], p->uses[k].file);
	}
}

static bool other_namespace(uint32_t pid, const char *kind)
{
	char path[64], self[64];
	struct stat theirs, ours;

	snprintf(path, sizeof(path), "/proc/%u/ns/%s", pid, kind);
	snprintf(self, sizeof(self), "/proc/self/ns/%s", kind);
	return !stat(path, &theirs) && !stat(self, &ours) && theirs.st_ino != ours.st_ino;
}

static void find_container(struct doctor_process *p)
{
	char text[CGROUP_TEXT];

	cgroup_read(p->info.pid, text, sizeof(text));
	if (container_parse(text, &p->container, NULL))
		container_read_names("", text, &p->container);
	else
		p->container = (struct container){.id = ""};
}

/* Why nothing of it can be captured, where no library says so. */
static void judge_without_library(struct doctor_process *p)
{
	if (p->problem) {
		p->reason = p->problem;
		p->remedy = "run tlsscope as root";
	} else if (p->is_32bit) {
		p->reason = "it is a 32-bit program, and only 64-bit ones are probed";
		p->remedy = "run its 64-bit build";
	} else if (!p->files_count && p->info.exe[0]) {
		p->reason = "none of its code is mapped from a file, as of a packed program (UPX), "
			    "and only files are probed";
		p->remedy = "unpack its program (upx -d) and start that, or capture at the "
			    "connection's other end";
	} else if (!p->files_count) {
		p->reason = "it has no program: it is a thread of the kernel, or is ending";
		p->remedy = "what the kernel's own TLS sends is seen by ktls_send and ktls_recv";
	} else {
		p->reason = "no known TLS library is in it";
		p->remedy = "if it loads one later, that is noticed; if TLS of its own is built "
			    "into it, capture at the connection's other end";
	}
}

enum doctor_verdict doctor_judge(const struct doctor_use *uses, size_t count,
				 const struct doctor_lib **problem)
{
	const struct doctor_lib *lib;
	bool captured = false;
	size_t i, n;

	*problem = NULL;
	for (i = 0; i < count; i++)
		for (n = 0; n < uses[i].file->libs_count; n++) {
			lib = &uses[i].file->libs[n];
			captured |= lib->captured;
			if (!lib->captured && !*problem)
				*problem = lib;
		}
	return !captured ? DOCTOR_NO : *problem ? DOCTOR_PARTLY : DOCTOR_YES;
}

static void judge(struct doctor_process *p)
{
	const struct doctor_lib *problem;

	p->verdict = doctor_judge(p->uses, p->uses_count, &problem);
	if (p->verdict != DOCTOR_NO)
		return;
	if (!problem || p->is_32bit) {
		judge_without_library(p);
		return;
	}
	p->reason = problem->reason;
	p->remedy = problem->remedy;
}

bool doctor_has_library(const struct doctor_process *p)
{
	size_t i;

	for (i = 0; i < p->uses_count; i++)
		if (p->uses[i].file->libs_count)
			return true;
	return false;
}

struct doctor_process *doctor_look_at_process(struct doctor_files *files,
					      const struct ts_filter *narrow, uint32_t pid,
					      bool deep, int *ret)
{
	struct doctor_process *p = calloc(1, sizeof(*p));
	struct looking l = {.files = files, .narrow = narrow, .p = p, .deep = deep};
	size_t len;

	*ret = p ? proc_read(pid, &p->info) : -ENOMEM;
	if (*ret) {
		free(p);
		return NULL;
	}
	*ret = proc_maps(pid, look_at_map, &l);
	if (*ret == -EACCES || *ret == -EPERM) {
		p->problem = "its mappings cannot be read";
		*ret = 0;
	}
	if (*ret || !proc_exists(pid)) {
		doctor_process_free(p);
		return NULL;
	}
	len = strlen(p->info.exe);
	p->deleted = len >= sizeof(deleted_mark) &&
		     !strcmp(p->info.exe + len + 1 - sizeof(deleted_mark), deleted_mark);
	if (p->deleted)
		p->info.exe[len + 1 - sizeof(deleted_mark)] = 0;
	/* A file that never had a name is always shown so. */
	p->deleted &= strncmp(p->info.exe, "/memfd:", 7) != 0;
	p->other_mount_namespace = other_namespace(pid, "mnt");
	find_container(p);
	take_versions(p);
	judge(p);
	return p;
}
