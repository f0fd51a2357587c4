/* SPDX-License-Identifier: MIT */
/*
 * One run of a script: live or from a recording. Everything that happens is a record and passes
 * through one function, which writes it down (-w) and hands it to the stream or the script.
 */
#ifndef TLSSCOPE_RUN_H
#define TLSSCOPE_RUN_H

#include "options.h"

/* Does what the options say and returns the exit status. All messages are told. */
int run_script(const struct options *o);

#endif
