/* SPDX-License-Identifier: MIT */
/* What the files of the prompt share: repl.c (lines), repl_screen.c (the terminal), repl_history.c,
 * repl_complete.c. */
#ifndef TLSSCOPE_REPL_PRIVATE_H
#define TLSSCOPE_REPL_PRIVATE_H

#include "repl.h"

struct repl {
	struct script *script;
	struct output *out;
	struct repl_ops ops;
	void *ctx;
	bool terminal;	/* lines are edited; else they come from a pipe */
	bool installed; /* readline has the terminal */
	bool shown;	/* the line is on the screen, the cursor in it */
	bool busy;	/* a line is being evaluated: what is written is its answer */
	bool more;	/* what was begun is not whole */
	bool quit, ended, failed;
	struct ts_buf input; /* of a pipe: what is not yet handled */
	struct ts_buf typed; /* the lines of one input, for the history */
	char *history;	     /* path of the file; NULL: none is kept */

	/* Output that nobody asked for, in windows of a second. */
	struct {
		uint64_t start;	      /* of the window */
		unsigned int lines;   /* in it */
		bool on;	      /* too many: they are counted, not shown */
		bool drawn;	      /* the counter is the line above the prompt */
		uint64_t held, since; /* lines held back, and from when on */
		uint64_t told, told_at;
	} flood;
	uint64_t flushed; /* when output was written last */
};

/* repl_screen.c */
void screen_hide(struct repl *r);
void screen_show(struct repl *r);
/* The gate of the output, and what runs before messages. */
size_t screen_gate(void *ctx, const char *data, size_t len);
void screen_message(void *ctx);
void screen_settle(struct repl *r); /* tells what was held back, when it is time */

/* repl_history.c: the file in the user's state folder */
void history_open(struct repl *r);
void history_add(struct repl *r, const char *text);
void history_close(struct repl *r);

/* repl_complete.c */
void complete_open(struct repl *r);

#endif
