/* SPDX-License-Identifier: MIT */
/*
 * The running kernel's types (BTF, as /sys/kernel/btf/vmlinux has them; the format is the kernel's
 * Documentation/bpf/btf.rst): as few as are asked for, found in one pass. libbpf would make all of
 * them its own, and go through them once for each type that a program uses.
 */
#ifndef TLSSCOPE_KTYPES_H
#define TLSSCOPE_KTYPES_H

#include "base.h"

struct ktypes;

#define KTYPES_VMLINUX "/sys/kernel/btf/vmlinux"

/*
 * Looks in a file for the types of these names (any kind). The caller closes *out, and keeps the
 * names until then. -ENOENT: there is no such file; -EINVAL: its form is not known.
 */
int ktypes_open(struct ktypes **out, const char *path, const char *const *names, size_t count);
void ktypes_close(struct ktypes *k); /* NULL is allowed */

/* The number that the kernel has for a type of a name that was asked for; 0: it has none.
 * kind: BTF_KIND_* of linux/btf.h. */
uint32_t ktypes_id(const struct ktypes *k, uint32_t kind, const char *name);

/*
 * Adds to out, in the same form, what was found and what that is made of, with other numbers.
 * Pointers lead to void: enough to find members (CO-RE). 0 or -ENOMEM.
 */
int ktypes_write(const struct ktypes *k, struct ts_buf *out);

#endif
