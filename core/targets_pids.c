/* SPDX-License-Identifier: MIT */
/*
 * Where only named processes can ever be wanted, nobody else should pay for our knowing what they
 * do: the tracer tells of them. Their dynamic linkers say when they have loaded something.
 */
#include <errno.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "targets_private.h"

/* What one process has mapped. */
struct look {
	struct targets *t;
	uint32_t pid;
	size_t files;
	bool loader; /* there is one, and it is probed */
};

static bool is_loader(const char *path)
{
	const char *base = strrchr(path, '/');
	size_t i;

	base = base ? base + 1 : path;
	for (i = 0; i < TS_ARRAY_SIZE(lib_loader.names) && lib_loader.names[i]; i++)
		if (!fnmatch(lib_loader.names[i], base, 0))
			return true;
	return false;
}

static int attach_loader(struct targets *t, int fd, const char *path, struct ts_err *err)
{
	struct resolve_plan plan = {0};
	struct image *im;
	int ret = image_open(&im, fd, path, err);

	if (ret)
		return ret;
	ret = resolve_image(im, &lib_loader, &plan, err);
	if (!ret && !plan.sites_count)
		ret = ts_fail(err, ENOENT, "%s has no _dl_debug_state", path);
	if (!ret)
		ret = tracer_attach(t->tracer, fd, path, &plan, err);
	resolve_free(&plan);
	image_close(im);
	return ret;
}

static int look_at_loader(void *ctx, const struct proc_map *map)
{
	struct look *l = ctx;
	struct ts_map *loaders = &l->t->loaders;
	struct ts_err err = {""};
	struct stat st;
	int fd;

	l->files++;
	if (l->loader || !is_loader(map->path))
		return 0;
	fd = proc_open_map(l->pid, map);
	if (fd < 0)
		return 0;
	if (!fstat(fd, &st)) {
		l->loader = ts_map_get(loaders, st.st_dev, st.st_ino) ||
			    (!attach_loader(l->t, fd, map->path, &err) &&
			     !ts_map_set(loaders, st.st_dev, st.st_ino, l->t));
		if (!l->loader)
			ts_verbose("targets", "process %u: %s", l->pid, err.text);
	}
	close(fd);
	return 0;
}

/* First its loader: what it loads while its mappings are looked at is told then. */
void targets_look_at_pid(struct targets *t, uint32_t pid)
{
	struct look l = {.t = t, .pid = pid};

	proc_maps(pid, look_at_loader, &l);
	/* A program that is all of one file loads nothing. */
	if (!l.loader && l.files > 1)
		targets_watch_all(t);
	targets_scan_process(t, pid);
}

void targets_scan_pids(struct targets *t)
{
	const struct ts_filter_list *list = &t->narrow->keys[TS_KEY_PID];
	size_t i;

	for (i = 0; i < list->count; i++)
		if (!list->items[i].exclude)
			targets_look_at_pid(t, (uint32_t)list->items[i].number);
}
