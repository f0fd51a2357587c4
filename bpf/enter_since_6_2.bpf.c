/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* enter.bpf.c for kernels that need not be asked (task.h). */
#define SINCE_6_2
#include "enter.bpf.c"
