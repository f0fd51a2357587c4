/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * No program, but all maps that those of other objects share: user space makes them once, and gives
 * each object these, by their names. So in maps.h all functions are inlined: libbpf would take one
 * that is not for a program.
 */
#include "maps.h"
