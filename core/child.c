/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
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

void child_stop(struct child *c)
{
	int status, i;

	if (!c->pid)
		return;
	if (c->gate >= 0)
		close(c->gate);
	c->gate = -1;
	kill(c->pid, SIGTERM);
	for (i = 0; i < 200 && !child_ended(c, &status); i++)
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	if (!c->pid)
		return;
	kill(c->pid, SIGKILL);
	waitpid(c->pid, &status, 0);
	c->pid = 0;
}
