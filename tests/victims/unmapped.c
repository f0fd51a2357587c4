/* SPDX-License-Identifier: MIT */
/*
 * Ends up as a packer's programs do: all that was mapped from files lies in memory of its own. Then
 * it says "unmapped" and waits.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_RANGES 64

struct range {
	char *start, *end;
	int prot;
};

/* A copy takes the place of what is there: nothing that changes it may run in between. */
static void replace(const struct range *r)
{
	size_t size = (size_t)(r->end - r->start);
	char *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (copy == MAP_FAILED)
		abort();
	memcpy(copy, r->start, size);
	if (mprotect(copy, size, r->prot) ||
	    mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, r->start) == MAP_FAILED)
		abort();
}

int main(void)
{
	struct range ranges[MAX_RANGES];
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[4096], perms[5], path[2];
	size_t n = 0, i;

	while (maps && n < MAX_RANGES && fgets(line, sizeof(line), maps)) {
		struct range *r = &ranges[n];

		if (sscanf(line, "%p-%p %4s %*s %*s %*s %1s", (void **)&r->start, (void **)&r->end,
			   perms, path) != 4 ||
		    path[0] != '/' || perms[0] != 'r')
			continue;
		r->prot = PROT_READ | (perms[1] == 'w' ? PROT_WRITE : 0) |
			  (perms[2] == 'x' ? PROT_EXEC : 0);
		n++;
	}
	if (!n)
		return 1;
	fclose(maps);
	for (i = 0; i < n; i++)
		replace(&ranges[i]);
	puts("unmapped");
	fflush(stdout);
	pause();
	return 0;
}
