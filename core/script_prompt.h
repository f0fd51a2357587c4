/* SPDX-License-Identifier: MIT */
/*
 * The prompt's half of the Lua host: lines come in, what they say runs in the script's state, and
 * what could be typed next is asked here. lua/repl.lua has the policy.
 */
#ifndef TLSSCOPE_SCRIPT_PROMPT_H
#define TLSSCOPE_SCRIPT_PROMPT_H

#include "script.h"

/* What the prompt asks of those above: "edit", "libs", "run", "stats". */
struct script_command {
	const char *name;
	const char *argument, *text; /* or NULL */
};
/* Puts what it answers into out. 0, or -errno with a sentence. */
typedef int (*script_command_fn)(void *ctx, const struct script_command *c, struct ts_buf *out,
				 struct ts_err *err);

/* After the script was loaded, if there is one. ctx must outlive the script. */
int script_prompt_open(struct script *s, script_command_fn command, void *ctx, struct ts_err *err);

enum script_input {
	SCRIPT_DONE,
	SCRIPT_MORE, /* what was begun is not whole: another line is needed */
	SCRIPT_FAILED,
	SCRIPT_QUIT,
};
enum script_input script_prompt_line(struct script *s, const char *line);
bool script_prompt_forget(struct script *s); /* what was begun; whether anything was */
/* Ctrl-C while no line was evaluated: a handler that had to be interrupted is paused. */
void script_prompt_interrupted(struct script *s);
/* What the line wanted is attached, or is not, and why: tells of its handlers. */
void script_prompt_settled(struct script *s, const char *problem);

/* What could follow or replace the last word before the cursor. */
struct script_match {
	char *text, *shown; /* shown: in a list of several; NULL: as it is */
};
/* NULL: names of files. Nothing that the user wrote runs. */
struct script_match *script_complete(struct script *s, const char *before, size_t *count);
void script_matches_free(struct script_match *list, size_t count);

#endif
