/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor_private.h"
#include "groups.h"

struct doctor {
	const struct options *o;
	struct output *out;
	struct doctor_files files;
	struct doctor_net net;
	struct groups_list cgroups, containers; /* those that are named */
	struct doctor_others *others;		/* libraries of those without connections */
	size_t others_count;
	bool named;	/* those that the command line names, not those with connections */
	bool each;	/* by number or name: without a library too */
	bool second;	/* now those without */
	bool failed;	/* something that was asked for cannot be captured */
	size_t printed; /* processes and files */
};

/* --- all of them */

/* NULL: no memory. */
static struct doctor_others *others_of(struct doctor *d, const struct doctor_lib *lib,
				       const char *path, const char *comm)
{
	struct doctor_others *others;
	size_t i;

	for (i = 0; i < d->others_count; i++)
		if (d->others[i].lib == lib)
			return &d->others[i];
	others = realloc(d->others, (i + 1) * sizeof(*others));
	if (!others)
		return NULL;
	d->others = others;
	others[i] = (struct doctor_others){.lib = lib, .path = strdup(path)};
	ts_copy(others[i].comm, sizeof(others[i].comm), comm);
	d->others_count += others[i].path != NULL;
	return others[i].path ? &others[i] : NULL;
}

static int count_other(struct doctor *d, const struct doctor_process *p)
{
	const struct doctor_file *file;
	struct doctor_others *o;
	uint32_t *pids;
	size_t i, n;

	for (i = 0; i < p->uses_count; i++) {
		file = p->uses[i].file;
		for (n = 0; n < file->libs_count; n++) {
			o = others_of(d, &file->libs[n], p->uses[i].path, p->info.comm);
			pids = o ? realloc(o->pids, (o->count + 1) * sizeof(*pids)) : NULL;
			if (!pids)
				return -ENOMEM;
			o->pids = pids;
			pids[o->count++] = p->info.pid;
		}
	}
	return 0;
}

static void print_process(struct doctor *d, struct doctor_process *p, int connections)
{
	p->connections_known = connections >= 0;
	p->connections = connections > 0 ? (unsigned int)connections : 0;
	doctor_print_process(d->out, p);
	d->printed++;
	d->failed |= p->verdict == DOCTOR_NO;
}

/* Whether one of its cgroups is one of those, or below it. */
static bool in_groups(const struct groups_list *list, uint32_t pid)
{
	struct cgroup_line lines[CGROUP_LINES];
	char text[CGROUP_TEXT];
	struct cgroup c;
	size_t count, i, k;
	bool in = !list->accepts;

	if (in)
		return true;
	cgroup_read(pid, text, sizeof(text));
	count = cgroup_lines(text, lines);
	for (i = 0; !in && i < count; i++) {
		if (cgroup_of_line(&lines[i], lines[i].path_len, &c))
			continue;
		for (k = 0; k < list->count; k++)
			in |= cgroup_within(&c, &list->items[k].cgroup);
		free(c.path);
	}
	return in;
}

static bool wanted(const struct doctor *d, uint32_t pid)
{
	struct proc_info *info = malloc(sizeof(*info));
	bool passes = pid != (uint32_t)getpid() && info && !proc_read(pid, info) &&
		      ts_filter_passes(&d->o->filter, pid, info->comm, info->uid, info->exe) &&
		      in_groups(&d->cgroups, pid) && in_groups(&d->containers, pid);

	free(info);
	return passes;
}

static int each_process(void *ctx, uint32_t pid)
{
	struct doctor *d = ctx;
	struct doctor_process *p;
	int connections, ret = 0;
	bool talks;

	if (!wanted(d, pid))
		return 0;
	connections = doctor_net_count(&d->net, pid);
	talks = d->named || connections > 0;
	if (talks == d->second)
		return connections == -ENOMEM ? connections : 0;
	p = doctor_look_at_process(&d->files, &d->o->filter, pid, talks, &ret);
	if (!p)
		return ret == -ENOMEM ? ret : 0;
	if (!talks)
		ret = count_other(d, p);
	else if (doctor_has_library(p) || d->each)
		print_process(d, p, connections);
	doctor_process_free(p);
	return ret;
}

/* --- files that are named */

/* "/usr/lib/libcrypto.so.3" of "/usr/lib/libssl.so.3": it has the version. */
static void take_version_beside(struct doctor *d, struct doctor_use *use)
{
	static const char ssl[] = "libssl", crypto[] = "libcrypto";
	const char *base = doctor_base_name(use->path);
	struct doctor_file *file;
	char *path;
	size_t i;
	int fd;

	if (strncmp(base, ssl, sizeof(ssl) - 1) != 0 ||
	    asprintf(&path, "%.*s%s%s", (int)(base - use->path), use->path, crypto,
		     base + sizeof(ssl) - 1) < 0)
		return;
	fd = proc_open_path(0, path);
	file = fd < 0 ? NULL : doctor_look(&d->files, 0, fd, path, false);
	if (fd >= 0)
		close(fd);
	free(path);
	for (i = 0; file && i < use->file->libs_count; i++)
		doctor_take_version(&use->file->libs[i], file);
}

/* path: as realpath says it. */
static int look_at_path(struct doctor *d, char *path, int fd, struct ts_err *err)
{
	struct doctor_use use = {.path = path, .file = doctor_look(&d->files, 0, fd, path, true)};
	const struct doctor_lib *problem;

	if (!use.file)
		return ts_fail(err, ENOMEM, "out of memory");
	take_version_beside(d, &use);
	doctor_print_file(d->out, &use);
	d->printed++;
	d->failed |= doctor_judge(&use, 1, &problem) == DOCTOR_NO;
	return 0;
}

static int look_at_named_file(struct doctor *d, const char *name, struct ts_err *err)
{
	char *path = realpath(name, NULL);
	int fd = path ? proc_open_path(0, path) : -errno, ret;
	struct stat st;

	if (fd == -ENODEV || (fd >= 0 && !fstat(fd, &st) && !S_ISREG(st.st_mode)))
		ret = ts_fail(err, EINVAL, "%s is not a file", name);
	else if (fd < 0)
		ret = ts_fail(err, -fd, "%s: %s", name, strerror(-fd));
	else
		ret = look_at_path(d, path, fd, err);
	if (fd >= 0)
		close(fd);
	free(path);
	return ret;
}

/* --- the run */

static int look_at_named_files(struct doctor *d, struct ts_err *err)
{
	const struct ts_filter_names *libs = &d->o->filter.names[TS_NAMES_LIB];
	const struct ts_filter_name *lib;
	size_t i;
	int ret = 0;

	for (i = 0; !ret && i < libs->count; i++) {
		lib = &libs->items[i];
		if (!lib->exclude && strchr(lib->text, '/') && !strpbrk(lib->text, "*?["))
			ret = look_at_named_file(d, lib->text, err);
	}
	return ret;
}

static int check_pids(const struct doctor *d, struct ts_err *err)
{
	const struct ts_filter_list *pids = &d->o->filter.keys[TS_KEY_PID];
	size_t i;

	for (i = 0; i < pids->count; i++)
		if (!proc_exists((uint32_t)pids->items[i].number))
			return ts_fail(err, ENOENT, "there is no process %llu",
				       (unsigned long long)pids->items[i].number);
	return 0;
}

static int find_groups(struct doctor *d, struct ts_err *err)
{
	const struct ts_filter *f = &d->o->filter;
	struct groups *groups;
	int ret = groups_open(&groups, err);

	if (ret)
		return ret;
	ret = groups_resolve(groups, f, TS_NAMES_CGROUP, &d->cgroups);
	if (!ret)
		ret = groups_resolve(groups, f, TS_NAMES_CONTAINER, &d->containers);
	groups_close(groups);
	return ret ? ts_fail(err, ENOMEM, "out of memory") : 0;
}

static int look_around(struct doctor *d, struct ts_err *err)
{
	const struct ts_filter *f = &d->o->filter;
	size_t i, keys = f->names[TS_NAMES_CGROUP].count + f->names[TS_NAMES_CONTAINER].count;
	int ret;

	for (i = 0; i < TS_KEY_COUNT; i++)
		keys += f->keys[i].count;
	d->each = (f->keys[TS_KEY_PID].count || f->keys[TS_KEY_COMM].count ||
		   f->keys[TS_KEY_EXE].count) &&
		  !f->names[TS_NAMES_LIB].count;
	d->named = keys || f->names[TS_NAMES_LIB].count;
	ret = check_pids(d, err);
	if (!ret)
		ret = find_groups(d, err);
	if (!ret)
		ret = look_at_named_files(d, err);
	/* A file alone: nobody asked for who uses it. */
	if (ret || (!keys && d->printed))
		return ret;
	ret = proc_each(each_process, d);
	d->second = true;
	if (!ret && !d->named)
		ret = proc_each(each_process, d);
	if (ret)
		return ts_fail(err, -ret, "cannot look at the processes: %s", strerror(-ret));
	/* Unless it has ended meanwhile. */
	if (d->named && !d->printed && !check_pids(d, err))
		return ts_fail(err, ENOENT, "there is no such process, or none with a TLS library");
	if (!d->named)
		doctor_print_others(d->out, d->others, d->others_count, d->printed);
	return 0;
}

static void look_at_machine(struct doctor *d)
{
	struct info_check checks[INFO_CHECKS];
	size_t count = info_machine(checks);

	d->failed |= !info_captures(checks, count);
	doctor_print_machine(d->out, checks, count);
}

static void close_doctor(struct doctor *d)
{
	struct ts_err err;
	size_t i;

	if (d->out && output_close(d->out, &err)) {
		ts_error("%s", err.text);
		d->failed = true;
	}
	for (i = 0; i < d->others_count; i++) {
		free(d->others[i].path);
		free(d->others[i].pids);
	}
	free(d->others);
	doctor_files_close(&d->files);
	doctor_net_close(&d->net);
	groups_list_free(&d->cgroups);
	groups_list_free(&d->containers);
}

int doctor_run(const struct options *o)
{
	const struct output_file_options where = {
		.path = o->output,
		.fd = STDOUT_FILENO,
		.rotate = o->output ? o->rotate : 0,
		.keep = o->rotate_keep,
	};
	struct doctor d = {.o = o};
	struct ts_err err = {""};
	int ret = doctor_files_open(&d.files, &err);

	if (!ret)
		ret = output_open(&d.out, &where, o->format, &err);
	if (!ret) {
		look_at_machine(&d);
		ret = look_around(&d, &err);
	}
	if (ret) {
		ts_error("%s", err.text);
		d.failed = true;
	}
	close_doctor(&d);
	return d.failed ? 1 : 0;
}
