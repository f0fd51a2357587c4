/* SPDX-License-Identifier: MIT */
/*
 * The prompt: lines from a terminal, edited with readline inside the event loop, or from a pipe.
 * Whatever is written while a line is being typed appears above it.
 */
#ifndef TLSSCOPE_REPL_H
#define TLSSCOPE_REPL_H

#include "output.h"
#include "script_prompt.h"

struct repl_ops {
	/* Attaches what the script wants now; false: it cannot be, which was told. */
	bool (*apply)(void *ctx);
	/* A command has the terminal: no line is read until it ends. */
	bool (*waiting)(void *ctx);
};

struct repl;

/* There is one at a time. script and out are the caller's, and must outlive it. */
int repl_open(struct repl **out, struct script *script, struct output *o,
	      const struct repl_ops *ops, void *ctx, struct ts_err *err);
void repl_close(struct repl *r); /* leaves the terminal as it was */

int repl_fd(const struct repl *r);	       /* to wait for; -1: nothing is read now */
void repl_step(struct repl *r, bool readable); /* reads, and answers signals */
void repl_flush(struct repl *r);	       /* before waiting: the line is on the screen again */
bool repl_ended(const struct repl *r);	       /* Ctrl-D, .quit, or the end of the pipe */
bool repl_failed(const struct repl *r);	       /* a line of the pipe had an error */

/* Has text edited in the user's editor, or the file `path`; out: what it is then. */
int repl_edit(const char *path, const char *text, struct ts_buf *out, struct ts_err *err);

#endif
