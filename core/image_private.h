/* SPDX-License-Identifier: MIT */
/* What the files of image share. */
#ifndef TLSSCOPE_IMAGE_PRIVATE_H
#define TLSSCOPE_IMAGE_PRIVATE_H

#include <gelf.h>

#include "image.h"

#define MAX_PLTS 8

struct range {
	uint64_t addr, size, offset; /* size: what of it is in the file */
	uint32_t flags;		     /* of a segment: PF_* */
};

/* A symbol table and its strings; read when first asked for. Invariant: both lie in the file. */
struct table {
	Elf_Scn *syms_scn, *names_scn; /* NULL: there is none */
	const Elf64_Sym *syms;
	size_t count;
	const char *names; /* size bytes, the last one a NUL */
	size_t size;
	uint64_t *starts; /* addresses of code, in order; NULL: not asked for yet */
	size_t starts_count;
	bool bad; /* could not be read */
};

/*
 * The dynamic relocations of the file. There may be a million, so they are not kept: only, for each
 * block of them, from where to where its slots lie, and the block that was looked at last.
 * Invariant: count of them, from offset on, lie in the file.
 */
struct relocs {
	bool known; /* looked for; then error is 0, or why they cannot be used */
	int error;
	uint64_t offset, symbols; /* in the file; an address, 0: none */
	size_t count;
	struct reloc_block {
		uint64_t first, last; /* first > last: changes nothing */
	} * blocks;
	Elf64_Rela *block; /* the entries of block number loaded */
	size_t loaded, loaded_count, loads;
	bool pie; /* the file calls itself a program */
	bool soname;
};

/* What the dynamic linker is told of the procedure linkage table. */
struct linking {
	bool known; /* was looked for; the rest is 0 where there is none */
	bool rela;
	uint64_t relocs, size, symbols;
};

struct image {
	Elf *elf;
	int fd;
	char *path;
	uint64_t file_size;
	uint16_t machine, type;
	size_t sections_names; /* index of the section that holds the sections' names; 0: none */
	struct range *loads;   /* the segments' parts of the file */
	size_t loads_count;
	struct range dynamic;
	GElf_Phdr tls; /* p_type is PT_TLS, or there is none */
	bool interp;   /* asks for a dynamic linker */
	struct relocs relocs;
	struct linking linking;
	struct range plts[MAX_PLTS];
	size_t plts_count;
	struct table dynsym, symtab;
	char build_id[IMAGE_BUILD_ID + 1];
};

bool image_in_file(const struct image *im, uint64_t offset, uint64_t size);
/* The segment that holds addr and has these flags; NULL: none. */
const struct range *image_load_of(const struct image *im, uint64_t addr, uint32_t flags);
/* Reads from the file; fewer than len only at its end. */
ptrdiff_t image_pread(const struct image *im, uint64_t offset, void *buf, size_t len);
/* Entry i of the dynamic section; false: there is none. Section headers may be stripped, this is
 * not. */
bool image_dynamic(const struct image *im, size_t i, Elf64_Dyn *d);
void image_relocs_free(struct relocs *r);

#endif
