/* SPDX-License-Identifier: MIT */
/* --info: what this kernel and machine offer. Needs no privileges; says what it cannot see. */
#ifndef TLSSCOPE_INFO_H
#define TLSSCOPE_INFO_H

void info_print(void);

#endif
