/* SPDX-License-Identifier: MIT */
/*
 * Files are not trusted, and one of 700 KiB makes libdwarf (20210528, 0.11) take more than 6 GiB
 * and half a minute: so it runs in a child that has little memory and time, and no rights to
 * misuse.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/capability.h>

#include "dwarf_private.h"

#define MAX_SECTIONS (64u << 20)
#define MAX_OWN (64u << 20) /* what libdwarf may take besides */
#define MAX_CPU_S 5
#define MAX_WAIT_NS 20000000000u
#define NOBODY 65534

struct dwarf {
	pid_t pid;
	int sock; /* -1: the child has failed, and is gone */
};

/* Bytes of address space that this process has; 0: unknown. */
static uint64_t address_space(void)
{
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	char text[32] = "";
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	return n > 0 ? strtoull(text, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static bool limit(__rlimit_resource_t what, uint64_t value)
{
	struct rlimit l;

	if (getrlimit(what, &l))
		return false;
	l.rlim_cur = l.rlim_max = value < l.rlim_max ? value : l.rlim_max;
	return !setrlimit(what, &l);
}

static void close_all_but(unsigned int a, unsigned int b)
{
	unsigned int low = a < b ? a : b, high = a < b ? b : a;

	if (low)
		close_range(0, low - 1, 0);
	if (high - low > 1)
		close_range(low + 1, high - 1, 0);
	close_range(high + 1, ~0u, 0);
}

static bool drop_rights(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

	/* Not root, or a container without such a user: what follows does without. */
	(void)(!setgroups(0, NULL) && !setresgid(NOBODY, NOBODY, NOBODY) &&
	       !setresuid(NOBODY, NOBODY, NOBODY));
	return !syscall(SYS_capset, &header, none) && !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int confine(int file, int sock, uint64_t sections)
{
	uint64_t used = address_space();
	sigset_t all;

	/* Ctrl-C is for the parent, and the parent's handlers are not for this process. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	close_all_but((unsigned int)file, (unsigned int)sock);
	if (!used || !drop_rights())
		return -EPERM;
	/* The sections twice: as the file has them, and uncompressed. */
	if (!limit(RLIMIT_AS, used + 2 * sections + MAX_OWN) || !limit(RLIMIT_CPU, MAX_CPU_S) ||
	    !limit(RLIMIT_NOFILE, 0) || !limit(RLIMIT_NPROC, 0) || !limit(RLIMIT_FSIZE, 0) ||
	    !limit(RLIMIT_CORE, 0))
		return -EPERM;
	return prctl(PR_SET_PDEATHSIG, SIGKILL) ? -EPERM : 0;
}

/* The child's life. */
static void serve(struct image *im, int sock, uint64_t sections)
{
	struct dwarf_reader *reader = NULL;
	struct dwarf_question q;
	struct dwarf_answer a = {.ret = confine(image_fd(im), sock, sections)};

	if (!a.ret)
		a.ret = dwarf_reader_open(&reader, im, sections);
	while (send(sock, &a, sizeof(a), MSG_NOSIGNAL) == sizeof(a) && reader &&
	       recv(sock, &q, sizeof(q), 0) == sizeof(q))
		dwarf_reader_ask(reader, &q, &a);
	dwarf_reader_close(reader);
}

static void stop(struct dwarf *d)
{
	if (d->sock < 0)
		return;
	close(d->sock);
	d->sock = -1;
	kill(d->pid, SIGKILL);
	while (waitpid(d->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* The child is not trusted: it cannot make us wait for ever. */
static bool hear(const struct dwarf *d, struct dwarf_answer *a)
{
	struct pollfd p = {.fd = d->sock, .events = POLLIN};
	uint64_t now = ts_now(), end = now + MAX_WAIT_NS;
	int n = 0;

	for (; now < end; now = ts_now()) {
		n = poll(&p, 1, (int)((end - now) / 1000000) + 1);
		if (n >= 0 || errno != EINTR)
			break;
	}
	return n == 1 && recv(d->sock, a, sizeof(*a), MSG_DONTWAIT) == sizeof(*a) && a->ret <= 0 &&
	       a->ret > -4096;
}

static int ask(struct dwarf *d, const struct dwarf_question *q, struct dwarf_answer *a)
{
	if (d->sock >= 0 && send(d->sock, q, sizeof(*q), MSG_NOSIGNAL) == sizeof(*q) && hear(d, a))
		return (int)a->ret;
	stop(d);
	return -EBADMSG;
}

/* How much is to be read; compressed sections are told by what they are in the end. */
static int measure(struct image *im, uint64_t *sum)
{
	uint64_t size;
	size_t i;
	int ret;

	*sum = 0;
	for (i = 0; i < DWARF_SECTIONS; i++) {
		ret = image_debug_size(im, dwarf_sections[i], &size);
		if (ret == -ENOENT && i >= DWARF_NEEDED)
			continue;
		if (ret)
			return ret;
		if (size > MAX_SECTIONS - *sum)
			return -E2BIG;
		*sum += size;
	}
	return 0;
}

static int start(struct dwarf *d, struct image *im, uint64_t sections)
{
	struct dwarf_answer a;
	int socks[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks))
		return -errno;
	d->pid = fork();
	if (!d->pid) {
		close(socks[0]);
		serve(im, socks[1], sections);
		_exit(0);
	}
	close(socks[1]);
	d->sock = socks[0];
	if (d->pid > 0)
		return hear(d, &a) ? (int)a.ret : -EBADMSG;
	close(d->sock);
	d->sock = -1;
	return -EAGAIN;
}

static int explain(const struct image *im, int ret, struct ts_err *err)
{
	const char *path = image_path(im);

	switch (ret) {
	case -ENOENT:
		return ts_fail(err, ENOENT, "%s has no debugging information", path);
	case -E2BIG:
		return ts_fail(err, E2BIG,
			       "%s has more debugging information than the %u MiB that are read",
			       path, MAX_SECTIONS >> 20);
	case -EBADMSG:
		return ts_fail(
			err, EBADMSG,
			"%s: its debugging information is damaged, or takes too long to read",
			path);
	default:
		return ts_fail(err, -ret, "cannot read the debugging information of %s: %s", path,
			       strerror(-ret));
	}
}

int dwarf_open(struct dwarf **out, struct image *im, struct ts_err *err)
{
	struct dwarf *d = calloc(1, sizeof(*d));
	uint64_t sections;
	int ret;

	*out = NULL;
	if (!d)
		return ts_fail(err, ENOMEM, "out of memory");
	d->sock = -1;
	ret = measure(im, &sections);
	if (!ret)
		ret = start(d, im, sections);
	if (ret) {
		dwarf_close(d);
		return explain(im, ret, err);
	}
	*out = d;
	return 0;
}

void dwarf_close(struct dwarf *d)
{
	if (!d)
		return;
	stop(d);
	free(d);
}

static bool set_question(struct dwarf_question *q, const char *unit, const char *name,
			 const char *member)
{
	memset(q, 0, sizeof(*q));
	return ts_copy(q->unit, sizeof(q->unit), unit) && ts_copy(q->name, sizeof(q->name), name) &&
	       ts_copy(q->member, sizeof(q->member), member);
}

int dwarf_function(struct dwarf *d, const char *unit, const char *name, struct image_symbol *out)
{
	struct dwarf_question q;
	struct dwarf_answer a;
	int ret = set_question(&q, unit, name, "") ? ask(d, &q, &a) : -ENAMETOOLONG;

	if (!ret)
		*out = (struct image_symbol){name, a.value, a.size};
	return ret;
}

int dwarf_member(struct dwarf *d, const char *unit, const char *type, const char *member,
		 int64_t *offset)
{
	struct dwarf_question q;
	struct dwarf_answer a;
	int ret;

	if (!*member) /* it would be asked for a function */
		return -ENOENT;
	ret = set_question(&q, unit, type, member) ? ask(d, &q, &a) : -ENAMETOOLONG;
	if (!ret && a.value > INT64_MAX)
		return -EBADMSG;
	if (!ret)
		*offset = (int64_t)a.value;
	return ret;
}
