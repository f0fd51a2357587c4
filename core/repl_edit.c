/* SPDX-License-Identifier: MIT */
/* .edit: the user's editor on a file. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "repl.h"
#include "signals.h"

#define TEXT_MAX (1u << 20)

static int read_back(const char *path, struct ts_buf *out, struct ts_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char block[4096];
	ssize_t n = -1;

	if (fd < 0)
		return ts_fail(err, errno, "cannot read %s: %s", path, strerror(errno));
	while (out->len < TEXT_MAX && (n = read(fd, block, sizeof(block))) > 0)
		if (ts_buf_add(out, block, (size_t)n))
			break;
	close(fd);
	return n ? ts_fail(err, EFBIG, "cannot read all of %s", path) : 0;
}

static int run_editor(const char *path, struct ts_err *err)
{
	const char *editor = getenv("VISUAL");
	int status = -1;
	pid_t pid;

	if (!editor || !*editor)
		editor = getenv("EDITOR");
	if (!editor || !*editor)
		editor = "vi";
	signals_set_foreign(true);
	pid = fork();
	if (!pid) {
		signals_reset();
		setenv("TLSSCOPE_EDITOR", editor, 1);
		/* It may be a command with arguments. Its Ctrl-C does not end the shell. */
		execl("/bin/sh", "sh", "-c", "trap : INT QUIT; eval \"$TLSSCOPE_EDITOR\" '\"$1\"'",
		      "sh", path, (char *)NULL);
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	signals_set_foreign(false);
	if (pid < 0 || !WIFEXITED(status) || WEXITSTATUS(status))
		return ts_fail(err, ECANCELED, "the editor '%s' failed: nothing is run", editor);
	return 0;
}

int repl_edit(const char *path, const char *text, struct ts_buf *out, struct ts_err *err)
{
	char name[] = "/tmp/tlsscope-XXXXXX.lua";
	int fd = path ? -1 : mkstemps(name, 4), ret = 0;
	size_t len = text ? strlen(text) : 0;

	if (!path && fd < 0)
		return ts_fail(err, errno, "cannot make %s: %s", name, strerror(errno));
	if (fd >= 0 && (write(fd, text, len) != (ssize_t)len || write(fd, "\n", 1) != 1))
		ret = ts_fail(err, errno, "cannot write to %s: %s", name, strerror(errno));
	if (fd >= 0)
		close(fd);
	if (!ret)
		ret = run_editor(path ? path : name, err);
	if (!ret)
		ret = read_back(path ? path : name, out, err);
	if (!path)
		unlink(name);
	return ret;
}
