/* SPDX-License-Identifier: MIT */
/* Listings: probes (-l), recipes (-L), and what is or would be probed in files. */
#ifndef TLSSCOPE_LIST_H
#define TLSSCOPE_LIST_H

#include <stdio.h>

#include "options.h"
#include "targets.h"

/* -l [PATTERN]; with -p, --lib and the like: what resolves there, and how. */
int list_probes(const struct options *o, struct ts_err *err);
void list_recipes(void);

/* Whether -p, --lib or the like name anything. */
bool list_filters_anything(const struct ts_filter *f);
/* Looks at all files that pass the filter, and prints what would be probed for these probes. */
int list_files(const struct ts_filter *filter, uint64_t probes, struct ts_err *err);

/* A file, the functions of these probes with how they were found, and what was left out. */
void list_file(FILE *to, const struct targets_file *f, uint64_t probes);

#endif
