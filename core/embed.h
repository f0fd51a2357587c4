/* SPDX-License-Identifier: MIT */
/* Files carried in the program: BPF objects, the Lua library, the recipes. Made by the Makefile. */
#ifndef TLSSCOPE_EMBED_H
#define TLSSCOPE_EMBED_H

#include <stddef.h>
#include <string.h>

struct embed_file {
	const char *name; /* its path in the source tree: "lua/prelude.lua", "bpf/enter.bpf.o" */
	const unsigned char *data, *end; /* a NUL follows at end */
};

extern const struct embed_file embed_files[]; /* name NULL at the end */

static inline const struct embed_file *embed_find(const char *name)
{
	const struct embed_file *f;

	for (f = embed_files; f->name; f++)
		if (!strcmp(f->name, name))
			return f;
	return NULL;
}

#endif
