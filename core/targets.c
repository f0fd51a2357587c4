/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "targets_private.h"

#define KERNEL_PAUSE 20000000u /* ns between two looks for the kernel's module */

static bool pid_passes(const struct targets *t, uint32_t pid)
{
	const struct ts_filter_list *list = &t->narrow->keys[TS_KEY_PID];
	size_t i;

	if (!t->pids_only)
		return true;
	for (i = 0; i < list->count; i++)
		if (!list->items[i].exclude && list->items[i].number == pid)
			return true;
	return false;
}

static bool has_pids_only(const struct ts_filter *f)
{
	const struct ts_filter_list *list = &f->keys[TS_KEY_PID];
	bool any = false;
	size_t i;

	for (i = 0; i < list->count; i++) {
		if (list->items[i].follow)
			return false;
		any |= !list->items[i].exclude;
	}
	return any;
}

static void tell(struct targets *t, const char *path, const char *kind,
		 const struct resolve_plan *plan, const char *problem)
{
	struct targets_file f = {.path = path, .kind = kind, .plan = plan, .problem = problem};

	if (t->ops->file)
		t->ops->file(t->ctx, &f);
}

static int nothing_to_probe(const char *path, const struct resolve_plan *plan, struct ts_err *err)
{
	const struct ts_buf *why = &plan->notes;
	size_t line =
		why->len ? (size_t)((char *)memchr(why->data, '\n', why->len) - (char *)why->data)
			 : 0;

	/* A Go program without TLS: nothing is wrong with it. */
	if (!why->len)
		return -ENOENT;
	return ts_fail(err, ENOTSUP, "%s: no function of %s can be probed: %.*s", path,
		       plan->row->kind, (int)line, (const char *)why->data);
}

/* Whether the process has the image's file under this path. */
static bool is_at(uint32_t pid, const char *path, const struct image *im)
{
	int fd = proc_open_path(pid, path);
	struct stat a, b;
	bool same = fd >= 0 && !fstat(fd, &a) && !fstat(image_fd(im), &b) && a.st_dev == b.st_dev &&
		    a.st_ino == b.st_ino;

	if (fd >= 0)
		close(fd);
	return same;
}

/*
 * OpenSSL's other library has the same name but for its first part, and lies beside it. The path of
 * a mapping is the process', or, of one in another root of the same mounts, ours. Below 0: none.
 */
static int open_crypto(uint32_t pid, const char *path, const struct image *im)
{
	static const char name[] = "libssl";
	const char *base = strrchr(path, '/');
	char beside[PATH_MAX];

	base = base ? base + 1 : path;
	if (strncmp(base, name, sizeof(name) - 1) ||
	    (size_t)snprintf(beside, sizeof(beside), "%.*slibcrypto%s", (int)(base - path), path,
			     base + sizeof(name) - 1) >= sizeof(beside))
		return -ENOENT;
	if (!is_at(pid, path, im))
		pid = 0;
	return is_at(pid, path, im) ? proc_open_path(pid, beside) : -ENOENT;
}

/* Memory BIOs: what is needed once a connection has one. Without it their sockets are not found. */
static void attach_bio(struct targets *t, struct image *im, const char *path)
{
	struct resolve_plan plan = {0};
	struct ts_err err = {""};
	int ret = resolve_image(im, &lib_bio, &plan, &err);

	if (!ret && plan.sites_count)
		ret = tracer_attach(t->tracer, image_fd(im), path, &plan, &err);
	if (ret)
		ts_warn("%s", err.text);
	resolve_free(&plan);
}

static int find_bio(struct targets *t, uint32_t pid, struct image *im, const char *path,
		    struct resolve_plan *plan)
{
	int fd = open_crypto(pid, path, im), ret;
	struct image *crypto = NULL;

	if (fd >= 0 && image_open(&crypto, fd, "libcrypto", NULL))
		crypto = NULL;
	ret = resolve_bio(plan, im, crypto);
	if (!ret && t->tracer)
		attach_bio(t, crypto ? crypto : im, path);
	image_close(crypto);
	if (fd >= 0)
		close(fd);
	return ret;
}

/* Plans and attaches an image that has TLS functions; -ENOENT: it has none after all. */
static int attach_image(struct targets *t, uint32_t pid, struct image *im,
			const struct lib_row *row, const char *path, struct ts_err *err)
{
	struct resolve_plan plan = {0};
	int ret = resolve_cached(t->plans, im, row, &plan, err);

	if (!ret && !plan.sites_count)
		ret = nothing_to_probe(path, &plan, err);
	if (!ret && !row->go && !row->aside && find_bio(t, pid, im, path, &plan))
		ret = ts_fail(err, ENOMEM, "out of memory");
	if (!ret && t->tracer)
		ret = tracer_attach(t->tracer, image_fd(im), path, &plan, err);
	if (!ret) {
		t->attached += !row->aside;
		if (!row->aside || !t->tracer)
			tell(t, path, row->kind, &plan, NULL);
	}
	resolve_free(&plan);
	return ret;
}

/* A file may be of several kinds: a Go program with OpenSSL linked in. Results as below. */
static int look_at_image(struct targets *t, uint32_t pid, struct image *im, const char *path,
			 struct ts_err *err)
{
	int ret = -ENOENT, one;
	size_t i;

	for (i = 0; i < lib_rows_count; i++) {
		one = resolve_is(im, &lib_rows[i], err);
		if (one == -ENOENT)
			continue;
		if (!one)
			one = attach_image(t, pid, im, &lib_rows[i], path, err);
		if (one == -ENOENT)
			continue;
		if (one) {
			tell(t, path, lib_rows[i].kind, NULL, err->text);
			one = -ECANCELED;
		}
		if (ret == -ENOENT || !one)
			ret = one;
	}
	if (ret == -ENOENT)
		ts_fail(err, ENOENT, "%s: no functions of a known TLS library in it", path);
	return ret;
}

int targets_judge(struct targets *t, uint32_t pid, struct image *im, const char *path,
		  struct ts_err *err)
{
	return look_at_image(t, pid, im, path, err);
}

/*
 * Containers of one image have one file at the bottom of several file systems, and probes are that
 * file's. overlayfs shows its inode and times, but not its device.
 */
static bool is_known(struct targets *t, int fd, const struct stat *st)
{
	uint64_t changed =
		(uint64_t)st->st_ctim.tv_sec * 1000000000u + (uint64_t)st->st_ctim.tv_nsec;
	struct statfs fs;

	if (ts_map_get(&t->files, st->st_dev, st->st_ino))
		return true;
	if (fstatfs(fd, &fs) || fs.f_type != OVERLAYFS_SUPER_MAGIC)
		return false;
	if (ts_map_get(&t->layers, changed, st->st_ino))
		return true;
	if (ts_map_set(&t->layers, changed, st->st_ino, t))
		ts_warn("out of memory");
	return false;
}

int targets_look(struct targets *t, uint32_t pid, int fd, const char *path, struct ts_err *err)
{
	struct image *im;
	struct stat st;
	int ret;

	if (fstat(fd, &st))
		return ts_fail(err, errno, "%s: %s", path, strerror(errno));
	if (is_known(t, fd, &st))
		return 0;
	ret = image_open(&im, fd, path, err);
	if (ret)
		return ret;
	ret = look_at_image(t, pid, im, path, err);
	image_close(im);
	if (ret != -ENOENT && ts_map_set(&t->files, st.st_dev, st.st_ino, t))
		ts_warn("out of memory");
	return ret;
}

bool targets_is_library(const char *path)
{
	const char *base = strrchr(path, '/');
	size_t row, i;

	base = base ? base + 1 : path;
	for (row = 0; row < lib_rows_count; row++)
		for (i = 0; i < TS_ARRAY_SIZE(lib_rows[row].names) && lib_rows[row].names[i]; i++)
			if (!fnmatch(lib_rows[row].names[i], base, 0))
				return true;
	return false;
}

/* Of a mapped file, with its inode: on overlayfs, files of several layers can have both in common.
 */
static uint64_t name_of(const struct proc_map *map)
{
	uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
	const char *p;

	for (p = map->path; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
	return hash ^ makedev(map->dev_major, map->dev_minor);
}

static void look_at_mapping(struct targets *t, uint32_t pid, const struct proc_map *map,
			    uint64_t generation)
{
	uint64_t name = name_of(map);
	uintptr_t mark = (uintptr_t)generation << 1 | 1, known;
	struct ts_err err = {""};
	int fd, ret;

	if (!pid_passes(t, pid) || !ts_filter_lib_passes(t->narrow, map->path))
		return;
	known = (uintptr_t)ts_map_get(&t->seen, name, map->inode);
	if (known && (!generation || known == mark))
		return;
	fd = proc_open_map(pid, map);
	if (fd < 0) {
		/* The process is gone, or has unmapped it: another will show it again. */
		ts_verbose("targets", "%s (process %u): %s", map->path, pid, strerror(-fd));
		return;
	}
	ret = targets_look(t, pid, fd, map->path, &err);
	close(fd);
	if (ts_map_set(&t->seen, name, map->inode, (void *)mark))
		ts_warn("out of memory");
	if (!ret || ret == -ENOENT || ret == -ECANCELED)
		return;
	/* A broken file that is no TLS library by its name either is nobody's loss. */
	if (targets_is_library(map->path))
		ts_warn("%s", err.text);
	else
		ts_verbose("targets", "%s", err.text);
}

static void on_mapped(void *ctx, uint32_t pid, const struct proc_map *map, uint64_t generation)
{
	look_at_mapping(ctx, pid, map, generation);
}

struct scan {
	struct targets *t;
	uint32_t pid;
};

static int scan_map(void *ctx, const struct proc_map *map)
{
	struct scan *s = ctx;

	look_at_mapping(s->t, s->pid, map, 0);
	return 0;
}

void targets_scan_process(struct targets *t, uint32_t pid)
{
	struct scan s = {.t = t, .pid = pid};

	targets_look_at_root(t, pid);
	if (pid_passes(t, pid))
		proc_maps(pid, scan_map, &s);
}

static int scan_process(void *ctx, uint32_t pid)
{
	targets_scan_process(ctx, pid);
	return 0;
}

static void on_mappings_lost(void *ctx, uint64_t records)
{
	ts_verbose("watch", "%llu records lost; looking at all processes again",
		   (unsigned long long)records);
	proc_each(scan_process, ctx);
}

/* --- what becomes of processes */

static void on_exec(void *ctx, uint32_t pid, const char *comm, uint64_t nsecs)
{
	struct targets *t = ctx;

	if (!pid_passes(t, pid))
		return;
	tracer_expect_files(t->tracer);
	if (t->pids_watched)
		targets_look_at_pid(t, pid);
	/* A container's first program: there may be time before the one that has TLS. */
	targets_look_at_root(t, pid);
	if (t->ops->exec)
		t->ops->exec(t->ctx, pid, comm, nsecs);
}

static void on_exited(void *ctx, uint32_t pid, uint64_t nsecs)
{
	struct targets *t = ctx;

	if (t->ops->exited && pid_passes(t, pid))
		t->ops->exited(t->ctx, pid, nsecs);
}

static void on_loaded(void *ctx, uint32_t pid)
{
	targets_scan_process(ctx, pid);
}

/* Mappings come by another way, but for those of -p. */
static void on_lives_lost(void *ctx)
{
	struct targets *t = ctx;

	if (t->pids_watched)
		targets_scan_pids(t);
	if (t->ops->lost)
		t->ops->lost(t->ctx);
}

static void watch_lives(struct targets *t)
{
	const struct tracer_life life = {on_exec, on_exited, on_loaded, on_lives_lost, t};
	struct ts_err err = {""};

	t->pids_watched = t->pids_only && tracer_has_pids(t->tracer);
	if (!tracer_watch(t->tracer, &life, &err))
		return;
	ts_warn("%s; which programs start and which end is not seen", err.text);
	t->pids_watched = false;
}

/* --- all of them */

void targets_look_at_kernel(struct targets *t)
{
	struct resolve_plan plan = {0};
	struct ts_err err = {""};
	int ret;

	if (t->kernel || ts_now() - t->kernel_asked < KERNEL_PAUSE ||
	    !ts_filter_lib_passes(t->narrow, LIB_KERNEL))
		return;
	t->kernel_asked = ts_now();
	if (!resolve_kernel_ready())
		return;
	t->kernel = true;
	ret = resolve_kernel(&plan, &err);
	if (!ret && t->tracer)
		ret = tracer_attach_kernel(t->tracer, &plan, &err);
	t->attached += !ret;
	tell(t, LIB_KERNEL, lib_kernel.kind, &plan, ret ? err.text : NULL);
	resolve_free(&plan);
}

void targets_watch_all(struct targets *t)
{
	static const struct watch_ops ops = {on_mapped, on_mappings_lost};
	struct ts_err err = {""};

	if (t->watch)
		return;
	if (watch_open(&t->watch, &ops, t, &err)) {
		ts_warn("%s; libraries that are loaded later are not seen", err.text);
		t->watch = NULL;
	}
}

int targets_open(struct targets **out, const struct ts_filter *narrow, struct tracer *tracer,
		 const struct targets_ops *ops, void *ctx, struct ts_err *err)
{
	struct targets *t = calloc(1, sizeof(*t));

	if (t)
		t->plans = resolve_cache_open(!tracer || tracer_may_count(tracer));
	if (!t || !t->plans) {
		free(t);
		return ts_fail(err, ENOMEM, "out of memory");
	}
	t->narrow = narrow;
	t->tracer = tracer;
	t->ops = ops;
	t->ctx = ctx;
	t->pids_only = has_pids_only(narrow);
	if (tracer)
		watch_lives(t);
	if (tracer && !t->pids_watched)
		targets_watch_all(t);
	*out = t;
	return 0;
}

void targets_close(struct targets *t)
{
	if (!t)
		return;
	watch_close(t->watch);
	resolve_cache_close(t->plans);
	ts_map_free(&t->seen);
	ts_map_free(&t->files);
	ts_map_free(&t->layers);
	ts_map_free(&t->loaders);
	ts_map_free(&t->roots);
	free(t);
}

static int scan_named(struct targets *t, struct ts_err *err)
{
	const struct ts_filter_list *pids = &t->narrow->keys[TS_KEY_PID];
	const struct ts_filter_names *libs = &t->narrow->names[TS_NAMES_LIB];
	const struct ts_filter_name *lib;
	size_t i;
	int ret;

	for (i = 0; i < pids->count; i++)
		if (!pids->items[i].exclude && !proc_exists((uint32_t)pids->items[i].number))
			return ts_fail(err, ENOENT, "there is no process %llu",
				       (unsigned long long)pids->items[i].number);
	for (i = 0; i < libs->count; i++) {
		lib = &libs->items[i];
		if (lib->exclude || !strchr(lib->text, '/') || strpbrk(lib->text, "*?["))
			continue;
		ret = targets_look_at_path(t, lib->text, err);
		if (ret == -ECANCELED)
			err->text[0] = 0;
		if (ret)
			return ret;
	}
	return 0;
}

int targets_scan(struct targets *t, struct ts_err *err)
{
	int ret = scan_named(t, err);

	if (ret)
		return ret;
	targets_look_at_root(t, 0);
	if (t->pids_watched)
		targets_scan_pids(t);
	else
		proc_each(scan_process, t);
	targets_look_at_kernel(t);
	return 0;
}

int targets_fd(const struct targets *t)
{
	return t->watch ? watch_fd(t->watch) : -1;
}

void targets_poll(struct targets *t)
{
	if (t->watch)
		watch_poll(t->watch);
}

size_t targets_attached(const struct targets *t)
{
	return t->attached;
}
