/* SPDX-License-Identifier: MIT */
/*
 * A HAR file (HTTP Archive 1.2, JSON) that is written an entry at a time; lua/har.lua makes these.
 * Where it is rotated, each file is a whole one; a regular file is after each har_flush.
 */
#ifndef TLSSCOPE_HAR_H
#define TLSSCOPE_HAR_H

#include "output_file.h"

struct har;
/* The file is made for the eyes of its owner only. */
int har_open(struct har **out, const struct output_file_options *where, struct ts_err *err);
int har_close(struct har *h, struct ts_err *err); /* ends the file. 0, or what is missing and why */
void har_entry(struct har *h, const char *json, size_t len);
void har_flush(struct har *h);
int har_failed(const struct har *h); /* 0, or the errno value of the first failure */

#endif
