/* SPDX-License-Identifier: MIT */
/* Which TLS libraries a process has mapped, by their files' names. */
#include <fnmatch.h>
#include <string.h>

#include "proc.h"

static const char *const names[] = {
	"libssl.so*",	  "libssl3.so*",    "libgnutls.so*", "libmbedtls.so*",
	"libwolfssl.so*", "libs2n.so*",	    "libtls.so*",    "libboringssl.so*",
	"librustls*.so*", "libbearssl.so*", "libmatrixssl*",
};

struct names {
	char *out;
	size_t size, used;
};

static int add_map(void *ctx, const struct proc_map *map)
{
	const char *base = strrchr(map->path, '/') + 1;
	size_t len = strcspn(base, " ");
	struct names *n = ctx;
	char name[64];
	size_t i;

	if (len >= sizeof(name) || n->used + len + 2 > n->size)
		return 0;
	ts_copy(name, len + 1, base);
	for (i = 0; i < TS_ARRAY_SIZE(names); i++) {
		if (fnmatch(names[i], name, 0))
			continue;
		if (n->used)
			n->out[n->used++] = ' ';
		memcpy(n->out + n->used, name, len + 1);
		n->used += len;
		break;
	}
	return 0;
}

void proc_tls(uint32_t pid, char *out, size_t size)
{
	struct names n = {out, size, 0};

	*out = 0;
	proc_maps(pid, add_map, &n);
}
