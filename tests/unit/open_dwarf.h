/* SPDX-License-Identifier: MIT */
/* Debugging information made by make_dwarf.h, opened; and what dwarf.h shall say about it. */
#ifndef TLSSCOPE_OPEN_DWARF_H
#define TLSSCOPE_OPEN_DWARF_H

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dwarf.h"
#include "make_dwarf.h"
#include "make_elf.h"

static uint8_t file[DWARF_FILE_MAX];
static struct dwarf_parts parts;

struct opened {
	struct image *im;
	struct dwarf *d;
	int fd, ret;
	struct ts_err err;
};

static inline void open_fd(struct opened *o, int fd)
{
	*o = (struct opened){.fd = fd};
	assert_true(fd >= 0);
	assert_int_equal(image_open(&o->im, fd, "the file", NULL), 0);
	o->ret = dwarf_open(&o->d, o->im, &o->err);
	if (o->ret) {
		assert_null(o->d);
		assert_true(strlen(o->err.text) > 20);
	}
}

static inline void open_parts(struct opened *o, enum dwarf_packing how)
{
	open_fd(o, make_file(file, dwarf_file(&parts, how, file)));
}

/* Nothing stays behind, whatever went wrong. */
static inline void shut(struct opened *o)
{
	dwarf_close(o->d);
	image_close(o->im);
	close(o->fd);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static inline void check_member(struct opened *o, const char *unit, const char *type,
				const char *member, int64_t wanted)
{
	int64_t offset = -1;

	assert_int_equal(dwarf_member(o->d, unit, type, member, &offset), wanted < 0 ? wanted : 0);
	assert_int_equal(offset, wanted < 0 ? -1 : wanted);
}

static inline void check_function(struct opened *o, const char *name, uint64_t addr, uint64_t size)
{
	struct image_symbol s;

	assert_int_equal(dwarf_function(o->d, "crypto/tls", name, &s), 0);
	assert_string_equal(s.name, name);
	assert_int_equal(s.addr, addr);
	assert_int_equal(s.size, size);
}

static inline void check_program(struct opened *o)
{
	struct image_symbol s;

	assert_int_equal(o->ret, 0);
	check_member(o, "runtime", "runtime.g", "goid", 152);
	check_function(o, "crypto/tls.(*Conn).Read", DWARF_READ, DWARF_READ_SIZE);
	/* In the first unit, after the last: the list of units starts anew for each question. */
	check_member(o, "main", "main.T", "x", 40);
	/* All packages' types are in one unit; and the type unit is none of Go's. */
	check_member(o, "crypto/tls", "crypto/tls.Conn", "conn", 16);
	/* The unit that was named comes before the others. */
	check_member(o, "runtime", "twice", "x", 56);
	check_member(o, "main", "twice", "x", 48);
	check_member(o, "none", "twice", "x", 48);
	check_function(o, "crypto/tls.small", DWARF_SMALL, DWARF_SMALL_SIZE);
	assert_int_equal(dwarf_function(o->d, "crypto/tls", "crypto/tls.gone", &s), -ENOENT);
	assert_int_equal(dwarf_function(o->d, "crypto/tls", "runtime.g", &s), -ENOENT);
	check_member(o, "runtime", "runtime.g", "none", -ENOENT);
	check_member(o, "runtime", "none", "goid", -ENOENT);
	check_member(o, "runtime", "runtime.g", "", -ENOENT);
	check_member(o, "crypto/tls", "crypto/tls.(*Conn).Read", "", -ENOENT);
}

#endif
