/* SPDX-License-Identifier: MIT */
/* The command of -c: started at once, but held before its exec until the probes are there. */
#ifndef TLSSCOPE_CHILD_H
#define TLSSCOPE_CHILD_H

#include <sys/types.h>

#include "base.h"

struct child {
	pid_t pid; /* 0: none, or already waited for */
	int gate;  /* closed to hold it back no longer */
};

int child_start(struct child *c, const char *command, struct ts_err *err);
int child_release(struct child *c, struct ts_err *err); /* lets it exec */
/* True when it has ended: *status as waitpid gives it. */
bool child_ended(struct child *c, int *status);
/* Ends it when it still runs or was never released, with all that it started; waits for it. */
void child_stop(struct child *c);

#endif
