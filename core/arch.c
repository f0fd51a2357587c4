/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <sys/utsname.h>

#include "arch.h"

static const struct arch *const arches[] = {&arch_x86_64, &arch_arm64};

const struct arch *arch_find(uint16_t machine)
{
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(arches); i++)
		if (arches[i]->machine == machine)
			return arches[i];
	return NULL;
}

const struct arch *arch_host(void)
{
	struct utsname u;
	size_t i;

	if (uname(&u))
		return NULL;
	for (i = 0; i < TS_ARRAY_SIZE(arches); i++)
		if (!strcmp(arches[i]->name, u.machine))
			return arches[i];
	return NULL;
}
