/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "output_file.h"

#define BUFFER_SIZE 65536

/* Invariant: once `failed` is set, nothing more is written or kept. */
struct output_file {
	struct output_file_options o;
	int fd, failed;
	const char *doing; /* when it failed */
	uint64_t size;	   /* of the file, with what is in the buffer */
	size_t (*gate)(void *ctx, const char *data, size_t len);
	void *gate_ctx;
	size_t used;
	char buffer[BUFFER_SIZE];
};

static const char *name_of(const struct output_file_options *o)
{
	return o->path ? o->path : o->fd == STDERR_FILENO ? "standard error" : "standard output";
}

/*
 * Whoever owns a symbolic link chooses what is overwritten: it is followed only if it belongs to us
 * or to root (/dev/stdout), whatever the sysctl fs.protected_symlinks says.
 */
static bool foreign_link(const char *path)
{
	struct stat st;

	return !lstat(path, &st) && S_ISLNK(st.st_mode) && st.st_uid && st.st_uid != geteuid();
}

static int check_file(int fd, const struct output_file_options *o, struct ts_err *err)
{
	struct stat st;

	if (fstat(fd, &st))
		return ts_fail(err, errno, "cannot write to %s: %s", name_of(o), strerror(errno));
	if (o->rotate && (!o->path || !S_ISREG(st.st_mode)))
		return ts_fail(err, EINVAL, "%s cannot be rotated: it is no regular file",
			       name_of(o));
	if (o->secret && o->path && S_ISREG(st.st_mode) && fchmod(fd, 0600))
		return ts_fail(err, errno, "cannot make %s readable for its owner only: %s",
			       o->path, strerror(errno));
	return 0;
}

static int open_path(const char *path, struct ts_err *err)
{
	int fd;

	if (foreign_link(path))
		return ts_fail(err, EPERM,
			       "cannot write to %s: it is a symbolic link of another user", path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
	if (fd < 0)
		return ts_fail(err, errno, "cannot write to %s: %s", path, strerror(errno));
	return fd;
}

int output_file_open(struct output_file **out, const struct output_file_options *options,
		     struct ts_err *err)
{
	struct output_file *f;
	int ret = options->fd;

	*out = NULL;
	if (!options->path && fcntl(ret, F_GETFD) < 0)
		return ts_fail(err, errno, "%s is closed", name_of(options));
	f = calloc(1, sizeof(*f));
	if (!f)
		return ts_fail(err, ENOMEM, "no memory for the output's buffer");
	f->o = *options;
	f->doing = "writing to";
	if (options->path)
		ret = open_path(options->path, err);
	f->fd = ret;
	if (ret >= 0)
		ret = check_file(ret, options, err);
	if (ret < 0) {
		if (f->fd >= 0 && options->path)
			close(f->fd);
		free(f);
		return ret;
	}
	*out = f;
	return 0;
}

int output_file_close(struct output_file *f, struct ts_err *err)
{
	int failed;

	if (!f)
		return 0;
	output_file_flush(f);
	if (f->o.path && f->fd >= 0 && close(f->fd) && !f->failed && errno != EINTR)
		f->failed = errno;
	failed = f->failed;
	if (failed)
		ts_fail(err, failed, "the output is incomplete: %s %s failed: %s", f->doing,
			name_of(&f->o), strerror(failed));
	free(f);
	return -failed;
}

void output_file_set_gate(struct output_file *f,
			  size_t (*gate)(void *ctx, const char *data, size_t len), void *ctx)
{
	f->gate = gate;
	f->gate_ctx = ctx;
}

bool output_file_is_terminal(const struct output_file *f)
{
	return isatty(f->fd);
}

int output_file_failed(const struct output_file *f)
{
	return f->failed;
}

/* A descriptor that was made non-blocking by someone who shares it is waited for. */
static int write_some(struct output_file *f, const char *data, size_t len, size_t *done)
{
	struct pollfd p = {.fd = f->fd, .events = POLLOUT};
	ssize_t n = write(f->fd, data, len);

	*done = n > 0 ? (size_t)n : 0;
	if (n > 0 || (n < 0 && errno == EINTR))
		return 0;
	if (!n)
		return EIO;
	if (errno != EAGAIN)
		return errno;
	return poll(&p, 1, -1) < 0 && errno != EINTR ? errno : 0;
}

static void write_all(struct output_file *f, const char *data, size_t len)
{
	size_t done;

	if (f->gate && len)
		len = f->gate(f->gate_ctx, data, len);
	while (len && !f->failed) {
		f->failed = write_some(f, data, len, &done);
		data += done;
		len -= done;
	}
}

void output_file_flush(struct output_file *f)
{
	write_all(f, f->buffer, f->used);
	f->used = 0;
}

void output_file_end_with(struct output_file *f, const char *text)
{
	off_t end;

	output_file_flush(f);
	end = f->o.path && !f->failed ? lseek(f->fd, 0, SEEK_CUR) : -1;
	/* That there is no room for it shows when it is written for good. */
	if (end >= 0 && pwrite(f->fd, text, strlen(text), end) < 0)
		return;
}

void output_file_write(struct output_file *f, const void *data, size_t len)
{
	if (len > sizeof(f->buffer) - f->used)
		output_file_flush(f);
	if (f->failed)
		return;
	f->size += len;
	if (len > sizeof(f->buffer)) {
		write_all(f, data, len);
	} else if (len) {
		memcpy(f->buffer + f->used, data, len);
		f->used += len;
	}
}

uint64_t output_file_room(const struct output_file *f)
{
	if (!f->o.rotate)
		return UINT64_MAX;
	return f->size < f->o.rotate ? f->o.rotate - f->size : 0;
}

/* PATH.n, or PATH itself. */
static int rename_one(const char *path, unsigned int from, unsigned int to)
{
	char a[PATH_MAX], b[PATH_MAX];

	if (snprintf(a, sizeof(a), from ? "%s.%u" : "%s", path, from) >= PATH_MAX ||
	    snprintf(b, sizeof(b), "%s.%u", path, to) >= PATH_MAX)
		return ENAMETOOLONG;
	return !rename(a, b) || (from && errno == ENOENT) ? 0 : errno;
}

void output_file_next(struct output_file *f)
{
	unsigned int n;
	int ret = 0;

	if (!f->size)
		return;
	output_file_flush(f);
	if (f->failed)
		return;
	for (n = f->o.keep; n && !ret; n--)
		ret = rename_one(f->o.path, n - 1, n);
	if (!ret && close(f->fd) && errno != EINTR)
		ret = errno;
	if (!ret) {
		/* Nothing that somebody put there meanwhile is followed or overwritten. */
		f->fd = open(f->o.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600);
		ret = f->fd < 0 ? errno : 0;
	}
	if (ret)
		f->doing = "rotating";
	f->failed = ret;
	f->size = 0;
}
