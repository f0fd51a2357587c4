/* SPDX-License-Identifier: MIT */
/*
 * Debugging information of unknown origin: either changes to that of a sound program, or the
 * sections themselves, so that the fuzzer gets to libdwarf without a seed. It is read in this
 * process, where the sanitizers see what goes wrong, and now and then as tlsscope does, by a child.
 */
#include <errno.h>
#include <stdlib.h>

#include "../unit/make_dwarf.h"
#include "../unit/make_elf.h"
#include "dwarf_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PATCH = 4, MAX_PATCHES = 16, MAX_PART = 4096 };

/* A patch: the part (and whether it is cut, or a byte inserted, or set), 16-bit place, value. */
static void change(struct dwarf_parts *parts, const uint8_t *data, size_t count)
{
	struct dwarf_bytes *b;
	size_t at;

	for (; count; count--, data += PATCH) {
		b = &parts->part[data[0] % PART_COUNT];
		at = (data[1] | (size_t)data[2] << 8) % (b->len + 1);
		if (data[0] & 0x80 && at < b->len) {
			b->len = at;
		} else if (data[0] & 0x40) {
			memmove(b->data + at + 1, b->data + at, b->len++ - at);
			b->data[at] = data[3];
		} else {
			b->data[at] = data[3];
		}
	}
}

/* Each part after its length. */
static void split(struct dwarf_parts *parts, const uint8_t *data, size_t size)
{
	size_t i, len;

	memset(parts, 0, sizeof(*parts));
	for (i = 0; i < PART_COUNT && size > 2; i++) {
		len = (data[0] | (size_t)data[1] << 8) % MAX_PART;
		data += 2;
		size -= 2;
		if (len > size)
			len = size;
		dwarf_add(&parts->part[i], data, len);
		data += len;
		size -= len;
	}
}

static void check(int64_t ret)
{
	if (ret && ret != -ENOENT && ret != -EBADMSG && ret != -E2BIG)
		abort();
}

static void ask_here(struct image *im)
{
	static const struct dwarf_question questions[] = {
		{"runtime", "runtime.g", "goid"},
		{"crypto/tls", "crypto/tls.(*Conn).Read", ""},
		{"crypto/tls", "crypto/tls.small", ""},
		{"none", "none", "none"},
	};
	struct dwarf_reader *reader;
	struct dwarf_answer a;
	size_t i;

	check(dwarf_reader_open(&reader, im, 1 << 20));
	for (i = 0; reader && i < TS_ARRAY_SIZE(questions); i++) {
		dwarf_reader_ask(reader, &questions[i], &a);
		check(a.ret);
	}
	dwarf_reader_close(reader);
}

static void ask_a_child(struct image *im)
{
	struct image_symbol s;
	struct dwarf *d;
	int64_t offset;

	check(dwarf_open(&d, im, NULL));
	if (!d)
		return;
	check(dwarf_member(d, "runtime", "runtime.g", "goid", &offset));
	check(dwarf_function(d, "crypto/tls", "crypto/tls.small", &s));
	dwarf_close(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[DWARF_FILE_MAX];
	static struct dwarf_parts parts;
	struct image *im;
	size_t patches;
	int fd;

	if (size < 2)
		return 0;
	if (data[0] & 0x80) {
		split(&parts, data + 2, size - 2);
	} else {
		patches = (size - 2) / PATCH;
		dwarf_program(&parts, data[0] & 1 ? 4 : 5);
		change(&parts, data + 2, patches < MAX_PATCHES ? patches : MAX_PATCHES);
	}
	fd = make_file(file, dwarf_file(&parts, (data[0] >> 1) % (PACK_GNU + 1), file));
	if (fd < 0 || image_open(&im, fd, "fuzz", NULL))
		abort();
	if (data[1] % 64 == 1)
		ask_a_child(im);
	else
		ask_here(im);
	image_close(im);
	close(fd);
	return 0;
}
