/* SPDX-License-Identifier: MIT */
/*
 * An ELF file, opened by descriptor: its symbols, and where its code lies. Files come from
 * processes that are not trusted: nothing is mapped (a file that shrinks must not kill us), every
 * size is checked against the file's, and a broken file is an error with a sentence.
 */
#ifndef TLSSCOPE_IMAGE_H
#define TLSSCOPE_IMAGE_H

#include "base.h"

struct image;

/* A function or code symbol. addr and size are of the file's virtual addresses; size may be 0. */
struct image_symbol {
	const char *name; /* lives as long as the image */
	uint64_t addr, size;
};

/*
 * fd stays the caller's and must outlive the image. path is for messages.
 * -ENOEXEC: not a 64-bit little-endian ELF program or library for a machine of arch_find.
 * -EBADMSG: truncated or inconsistent. -EIO, -ENOMEM.
 */
int image_open(struct image **out, int fd, const char *path, struct ts_err *err);
void image_close(struct image *im);

const char *image_path(const struct image *im);
int image_fd(const struct image *im);
uint16_t image_machine(const struct image *im); /* EM_X86_64, EM_AARCH64 */
/* Lower-case hex of the GNU build-id, "" if there is none. */
const char *image_build_id(const struct image *im);

enum image_source { IMAGE_NOWHERE, IMAGE_DYNSYM, IMAGE_SYMTAB };

/* Finds code of this name in .dynsym, else in .symtab. IMAGE_NOWHERE: there is none. out->name is
 * the caller's name. */
enum image_source image_symbol(struct image *im, const char *name, struct image_symbol *out);

/* The defined symbol that starts at addr, else one that covers it. Its name may have "@VERSION". */
bool image_symbol_at(struct image *im, uint64_t addr, struct image_symbol *out);

/* Virtual address of code to the offset in the file that uprobes want. -ENOENT: not in an
 * executable segment's part of the file. */
int image_offset(const struct image *im, uint64_t addr, uint64_t *offset);

/* Reads up to len bytes of code at addr; returns how many there were (short at a segment's end), or
 * -errno. */
ptrdiff_t image_read(const struct image *im, uint64_t addr, void *buf, size_t len);

/* Whether addr lies in a section of the procedure linkage table (.plt, .plt.sec, .plt.got). */
bool image_in_plt(const struct image *im, uint64_t addr);

#endif
