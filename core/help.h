/* SPDX-License-Identifier: MIT */
/* `tlsscope help` and `tlsscope complete`: what there is to know, by name. */
#ifndef TLSSCOPE_HELP_H
#define TLSSCOPE_HELP_H

#include "options.h"

/* Returns the exit status. */
int help_run(const struct options *o);

#endif
