/* SPDX-License-Identifier: MIT */
/*
 * Signals: the only global state of the program, because a handler can reach nothing else. Ctrl-C
 * asks the run to end; Lua code that keeps running is interrupted after a second; a second Ctrl-C
 * kills. At a prompt it ends nothing: it interrupts Lua code that does not end by itself at once;
 * where that does not help, the user is told, and the next one ends the program. Whatever stops or
 * ends it there leaves the terminal as it was.
 */
#ifndef TLSSCOPE_SIGNALS_H
#define TLSSCOPE_SIGNALS_H

#include <stdbool.h>

struct script;

/* Installs the handlers. Returns a descriptor that is readable after a signal, or -errno. */
int signals_open(void);
void signals_set_script(struct script *s); /* whose Lua code is interrupted; NULL: nobody's */

bool signals_stop(void);      /* SIGINT, SIGTERM or SIGHUP came */
bool signals_take_usr1(void); /* SIGUSR1 came since the last call */
void signals_set_prompt(bool prompt);
void signals_set_foreign(bool foreign); /* Ctrl-C is a child's that has the terminal, not ours */
bool signals_take_interrupt(void);	/* Ctrl-C at the prompt, since the last call */
bool signals_take_resized(void);	/* the terminal has another size */
bool signals_take_continued(void);	/* we were stopped, and others had the terminal */
void signals_clear(void);		/* empties the descriptor */
/* What runs now is not what Ctrl-C was meant for: a second more, or no end. */
void signals_postpone(void);
void signals_calm(void);
/* In a child before exec: dispositions as they were. */
void signals_reset(void);

#endif
