/* SPDX-License-Identifier: MIT */
/*
 * What this kernel and machine offer, for --info and doctor. Needs no privileges; says what it
 * cannot see.
 */
#ifndef TLSSCOPE_INFO_H
#define TLSSCOPE_INFO_H

#include "base.h"

struct info_check {
	const char *what;
	bool good;
	bool needed; /* without it nothing can be captured */
	char text[512];
	const char *remedy; /* where it is not good; NULL: the text has it */
};
#define INFO_CHECKS 16

/* How many there are. */
size_t info_machine(struct info_check checks[INFO_CHECKS]);
/* Whether all that is needed is good: something can be captured. */
bool info_captures(const struct info_check *checks, size_t count);
void info_print(void);

#endif
