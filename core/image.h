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
bool image_is_fixed(const struct image *im);	/* loaded at the very addresses that it names */
/* Lower-case hex of the build-id that GNU's or Go's linker left, "" if there is none. */
enum { IMAGE_BUILD_ID = 2 * 96 }; /* its longest */
const char *image_build_id(const struct image *im);

enum image_source { IMAGE_NOWHERE, IMAGE_DYNSYM, IMAGE_SYMTAB };

/* Finds code of this name in .dynsym, else in .symtab. IMAGE_NOWHERE: there is none. out->name is
 * the caller's name. */
enum image_source image_symbol(struct image *im, const char *name, struct image_symbol *out);

/* Whether code with a name begins at addr. */
bool image_symbol_starts(struct image *im, uint64_t addr);

/* Virtual address of code to the offset in the file that uprobes want. -ENOENT: not in an
 * executable segment's part of the file. */
int image_offset(const struct image *im, uint64_t addr, uint64_t *offset);

/* Reads up to len bytes of code at addr; returns how many there were (short at a segment's end), or
 * -errno. */
ptrdiff_t image_read(const struct image *im, uint64_t addr, void *buf, size_t len);

/* The same for code or data, as the file has it. */
ptrdiff_t image_read_file(const struct image *im, uint64_t addr, void *buf, size_t len);

/*
 * Reads up to len bytes of what is loaded at addr, code or data, as it is once the dynamic linker
 * has put in the addresses that depend only on where the file is loaded (the file taken as loaded
 * at 0). Returns how many there were, or -errno: -EBADMSG when those addresses cannot be known.
 */
ptrdiff_t image_read_data(struct image *im, uint64_t addr, void *buf, size_t len);

/* A part of the file's address space. */
struct image_range {
	uint64_t addr, size; /* size: what of it is in the file */
};
/* The n-th segment that is loaded; false when there is none. */
bool image_segment(const struct image *im, size_t n, struct image_range *out, bool *writable);
/* Whether the file names its sections: they may be stripped too. */
bool image_has_sections(const struct image *im);
/* Whether it has symbols beside those that the dynamic linker needs: a stripped file has none. */
bool image_has_symtab(const struct image *im);
/* The section of this name that is loaded and in the file; false when there is none. */
bool image_section(const struct image *im, const char *name, struct image_range *out);

/*
 * The offset from the thread pointer that the dynamic linker puts into the slot at addr, in a
 * program (not a library: -ENOENT). -ENOENT: the slot is for something else.
 */
int image_tls_slot(struct image *im, uint64_t addr, int64_t *offset);

/*
 * The sections of debugging information: not loaded, perhaps compressed. How much memory one takes
 * when it is read; and its content, which lives as long as the image and is to be read once.
 * -ENOENT: there is none; -E2BIG: takes more than max; -EBADMSG: damaged; -EIO.
 */
int image_debug_size(struct image *im, const char *name, uint64_t *size);
int image_debug_read(struct image *im, const char *name, uint64_t max, const void **data,
		     size_t *len);

/* Whether addr lies in a section of the procedure linkage table (.plt, .plt.sec, .plt.got). */
bool image_in_plt(const struct image *im, uint64_t addr);

/*
 * The file's own code that the entry of that table at addr leads to, where no other file puts a
 * function of this name in its place. false: it leads elsewhere, or that is not known.
 */
bool image_plt_target(struct image *im, uint64_t addr, uint64_t *target);

#endif
