/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "proc.h"
#include "signals.h"

/* In the child: a byte lets it go on, the end of the pipe ends it. */
static void run_command(int gate, const char *command)
{
	char byte;

	signals_reset();
	if (read(gate, &byte, 1) != 1)
		_exit(127);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

int child_start(struct child *c, const char *command, struct ts_err *err)
{
	int gate[2];

	if (pipe2(gate, O_CLOEXEC))
		return ts_fail(err, errno, "cannot start '%s': %s", command, strerror(errno));
	c->pid = fork();
	if (c->pid < 0) {
		c->pid = 0;
		close(gate[0]);
		close(gate[1]);
		return ts_fail(err, errno, "cannot start '%s': %s", command, strerror(errno));
	}
	if (!c->pid) {
		close(gate[1]);
		run_command(gate[0], command);
	}
	close(gate[0]);
	c->gate = gate[1];
	return 0;
}

int child_release(struct child *c, struct ts_err *err)
{
	ssize_t n;

	if (!c->pid)
		return 0;
	n = write(c->gate, "", 1);
	close(c->gate);
	c->gate = -1;
	return n == 1 ? 0 : ts_fail(err, EPIPE, "the command ended before it was run");
}

bool child_ended(struct child *c, int *status)
{
	if (!c->pid || waitpid(c->pid, status, WNOHANG) != c->pid)
		return false;
	c->pid = 0;
	return true;
}

/* The processes that the command has started, and they, and so on. */
struct family {
	pid_t root;
	pid_t *pids;
	size_t count;
};

static bool descends(uint32_t pid, pid_t root)
{
	struct proc_info info;
	int depth;

	for (depth = 0; depth < 64 && pid > 1; depth++) {
		if (proc_read(pid, &info))
			return false;
		pid = info.ppid;
		if (pid == (uint32_t)root)
			return true;
	}
	return false;
}

static int add_relative(void *ctx, uint32_t pid)
{
	struct family *f = ctx;
	pid_t *pids;

	if (!descends(pid, f->root))
		return 0;
	pids = realloc(f->pids, (f->count + 1) * sizeof(*pids));
	if (!pids)
		return -ENOMEM;
	f->pids = pids;
	pids[f->count++] = (pid_t)pid;
	return 0;
}

void child_stop(struct child *c)
{
	struct family f = {.root = c->pid};
	int status, i;

	if (!c->pid)
		return;
	if (c->gate >= 0)
		close(c->gate);
	c->gate = -1;
	/* Found first: they are nobody's children once the shell is gone. */
	proc_each(add_relative, &f);
	kill(c->pid, SIGTERM);
	while (f.count)
		kill(f.pids[--f.count], SIGTERM);
	free(f.pids);
	for (i = 0; i < 200 && !child_ended(c, &status); i++)
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	if (!c->pid)
		return;
	kill(c->pid, SIGKILL);
	waitpid(c->pid, &status, 0);
	c->pid = 0;
}
