/* SPDX-License-Identifier: MIT */
/*
 * tlsscope doctor: for processes and files, which TLS library is in them, what of it would be
 * probed and how; where nothing can be, why, and what to do.
 */
#ifndef TLSSCOPE_DOCTOR_H
#define TLSSCOPE_DOCTOR_H

#include "options.h"

/* The exit status: 0, or 1 where something that was asked for cannot be captured. */
int doctor_run(const struct options *o);

#endif
