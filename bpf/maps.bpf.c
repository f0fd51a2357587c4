/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * No program, but all maps that those of other objects share: user space makes them once, and gives
 * each object these, by their names.
 */
#include "maps.h"
