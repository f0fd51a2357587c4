/* SPDX-License-Identifier: MIT */
/* What was typed, from one session to the next: a file of the user's alone. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <readline/history.h>

#include "repl_private.h"

#define KEPT 5000 /* inputs */

/* $XDG_STATE_HOME, else ~/.local/state, with tlsscope/history below it. Makes the folders. */
static int history_path(struct ts_buf *path)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	char *slash;

	if (state && *state == '/') {
		if (ts_buf_printf(path, "%s/tlsscope/history%c", state, 0))
			return -ENOMEM;
	} else if (!home || *home != '/') {
		return -ENOENT;
	} else if (ts_buf_printf(path, "%s/.local/state/tlsscope/history%c", home, 0)) {
		return -ENOMEM;
	}
	for (slash = (char *)path->data + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = 0;
		if (mkdir((char *)path->data, 0700) && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return 0;
}

/* Nobody else's file, nobody else's to read: what is typed may hold secrets. */
static int check_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600), ret = 0;
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_uid != geteuid())
		ret = -EPERM;
	else if (st.st_mode & 077 && fchmod(fd, 0600))
		ret = -errno;
	close(fd);
	return ret;
}

void history_open(struct repl *r)
{
	struct ts_buf path = {0};
	int ret = history_path(&path);

	using_history();
	/* With times an input of several lines stays one. */
	history_comment_char = '#';
	history_write_timestamps = 1;
	stifle_history(KEPT);
	if (!ret)
		ret = check_file((char *)path.data);
	if (ret) {
		if (path.len)
			ts_warn("what is typed is not kept for the next session: %s: %s",
				(char *)path.data, strerror(-ret));
		ts_buf_free(&path);
		return;
	}
	r->history = (char *)path.data;
	read_history(r->history);
}

void history_add(struct repl *r, const char *text)
{
	HIST_ENTRY *last = history_length ? history_get(history_base + history_length - 1) : NULL;

	if (!text[strspn(text, " \t\n")] || (last && !strcmp(last->line, text)))
		return;
	add_history(text);
	if (r->history)
		append_history(1, r->history);
}

void history_close(struct repl *r)
{
	if (r->history)
		history_truncate_file(r->history, KEPT);
	free(r->history);
	clear_history();
}
