/* SPDX-License-Identifier: MIT */
/*
 * What the debugging information of a file tells, where it has any. It is read by a child process,
 * bounded in memory and time, that lives until dwarf_close.
 */
#ifndef TLSSCOPE_DWARF_H
#define TLSSCOPE_DWARF_H

#include "image.h"

struct dwarf;

/*
 * The image stays the caller's and must outlive it. -ENOENT: the file has none; -E2BIG: more than
 * we read; -EBADMSG: damaged, or takes too long; -ENOMEM; why no process could be started.
 */
int dwarf_open(struct dwarf **out, struct image *im, struct ts_err *err);
void dwarf_close(struct dwarf *d);

/*
 * A function's code: unit is the compilation unit's name ("crypto/tls": Go has one a package), name
 * the function's ("crypto/tls.(*Conn).Read"). That unit is searched first, then all others.
 * -ENOENT: it has no code of its own; -E2BIG, -EBADMSG.
 */
int dwarf_function(struct dwarf *d, const char *unit, const char *name, struct image_symbol *out);

/*
 * Where a member lies in a struct ("runtime.g", "goid"), in bytes. Go's linker puts the structs of
 * all packages into the unit "runtime". -ENOENT, -E2BIG, -EBADMSG.
 */
int dwarf_member(struct dwarf *d, const char *unit, const char *type, const char *member,
		 int64_t *offset);

#endif
