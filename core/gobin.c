/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gobin_private.h"

/* How much is searched, without section headers, for the buildinfo; and then for the tables. */
#define MAX_SEARCH (16u << 20)
#define MAX_SCAN (1u << 30)

static const char magic[] = "\xff Go buildinf:"; /* then a pointer's size and flags */
enum { BUILDINFO = 32, BIG_ENDIAN_FLAG = 1, INLINE_FLAG = 2, ALIGNMENT = 16 };

uint64_t gobin_number(const unsigned char *p, unsigned int width)
{
	uint64_t value = 0;

	while (width--)
		value = value << 8 | p[width];
	return value;
}

int gobin_read(const struct gobin *g, uint64_t addr, void *buf, size_t len)
{
	ptrdiff_t n = image_read_data(g->im, addr, buf, len);

	if (n == (ptrdiff_t)len)
		return 0;
	return n < 0 && n != -ENOENT ? (int)n : -EBADMSG;
}

/* The linker aligns it to 16 bytes. *addr is 0 if it is not there. */
static int find_magic(struct gobin *g, const struct image_range *in, uint64_t *addr)
{
	uint64_t at = (in->addr + ALIGNMENT - 1) & ~(uint64_t)(ALIGNMENT - 1);
	unsigned char buf[4096];
	ptrdiff_t n, i;

	*addr = 0;
	for (; at - in->addr < in->size && g->scan_left >= sizeof(buf); at += sizeof(buf)) {
		g->scan_left -= sizeof(buf);
		n = image_read_file(g->im, at, buf, sizeof(buf));
		if (n < 0 && n != -ENOENT)
			return (int)n;
		for (i = 0; i + ALIGNMENT <= n; i += ALIGNMENT) {
			if (memcmp(buf + i, magic, sizeof(magic) - 1) != 0)
				continue;
			*addr = at + (uint64_t)i;
			return 0;
		}
		if (n < (ptrdiff_t)sizeof(buf))
			break;
	}
	return 0;
}

/* Also of "devel go1.27-abcdef"; of a "devel +abcdef" it is not known. */
static int minor_of(const char *version)
{
	const char *p = strstr(version, "go1.");
	int minor = 0;

	if (!p || (p != version && p[-1] != ' ') || !isdigit((unsigned char)p[4]))
		return -1;
	for (p += 4; isdigit((unsigned char)*p) && minor < 1000; p++)
		minor = minor * 10 + (*p - '0');
	return minor;
}

/* What is not text is not a version. */
static int read_version(struct gobin *g, uint64_t addr, uint64_t len)
{
	size_t i;
	int ret;

	if (!len || len >= sizeof(g->version))
		return 0;
	ret = gobin_read(g, addr, g->version, len);
	for (i = 0; !ret && i < len; i++)
		if (!isprint((unsigned char)g->version[i]))
			ret = -EBADMSG;
	g->version[ret ? 0 : len] = 0;
	g->minor = minor_of(g->version);
	return ret == -EBADMSG ? 0 : ret;
}

/* The length of a string, which is in front of it: *addr becomes the string's. */
static int read_length(struct gobin *g, uint64_t *addr, uint64_t *len)
{
	unsigned char byte = 0x80;
	unsigned int shift;
	int ret = 0;

	*len = 0;
	for (shift = 0; !ret && byte & 0x80 && shift < 21; shift += 7) {
		ret = gobin_read(g, (*addr)++, &byte, 1);
		*len |= (uint64_t)(byte & 0x7f) << shift;
	}
	return ret;
}

/* Whether the text is in a string. */
static int find_text(struct gobin *g, uint64_t addr, uint64_t len, const char *text, bool *found)
{
	const size_t size = strlen(text);
	unsigned char buf[4096];
	int ret = 0;
	size_t n;

	*found = false;
	while (!ret && !*found && len >= size) {
		n = len < sizeof(buf) ? (size_t)len : sizeof(buf);
		ret = gobin_read(g, addr, buf, n);
		*found = !ret && memmem(buf, n, text, size);
		/* The next window may begin with a part of the text. */
		addr += n - size + 1;
		len -= n - size + 1;
	}
	return ret;
}

/* Since Go 1.18: the version, then a line for each module and for each setting of the build. */
static int read_strings(struct gobin *g, uint64_t addr)
{
	uint64_t len;
	int ret = read_length(g, &addr, &len);

	if (!ret)
		ret = read_version(g, addr, len);
	addr += len;
	if (!ret)
		ret = read_length(g, &addr, &len);
	if (!ret)
		ret = find_text(g, addr, len, "\nbuild\t-pgo=", &g->profiled);
	return ret == -EBADMSG ? 0 : ret;
}

static int read_buildinfo(struct gobin *g, uint64_t addr, struct ts_err *err)
{
	unsigned char b[BUILDINFO], s[16];
	int ret = gobin_read(g, addr, b, sizeof(b));

	if (ret)
		return ret == -EBADMSG ? 0 : ret;
	if (b[sizeof(magic) - 1] != 8 || b[sizeof(magic)] & BIG_ENDIAN_FLAG)
		return ts_fail(err, EBADMSG,
			       "%s says that Go built it for a big-endian or 32-bit machine: "
			       "not supported",
			       image_path(g->im));
	if (!(b[sizeof(magic)] & INLINE_FLAG)) {
		/* Until Go 1.17: the address of a string, which is an address and a length. */
		ret = gobin_read(g, gobin_number(b + 16, 8), s, sizeof(s));
		if (ret)
			return ret == -EBADMSG ? 0 : ret;
		return read_version(g, gobin_number(s, 8), gobin_number(s + 8, 8));
	}
	return read_strings(g, addr + BUILDINFO);
}

/* Runs for every file that is mapped on the machine, nearly all of which are not Go's. */
static int recognise(struct gobin *g, uint64_t *buildinfo)
{
	struct image_range r;
	bool writable;
	size_t i;
	int ret = 0;

	*buildinfo = 0;
	g->scan_left = MAX_SEARCH;
	if (image_section(g->im, ".go.buildinfo", &r))
		return find_magic(g, &r, buildinfo);
	if (image_section(g->im, ".note.go.buildid", &r) ||
	    image_section(g->im, ".gopclntab", &r) ||
	    image_section(g->im, ".data.rel.ro.gopclntab", &r))
		return 0;
	if (image_has_sections(g->im))
		return -ENOENT;
	for (i = 0; !ret && !*buildinfo && image_segment(g->im, i, &r, &writable); i++)
		if (writable)
			ret = find_magic(g, &r, buildinfo);
	return ret ? ret : *buildinfo ? 0 : -ENOENT;
}

static int open_all(struct gobin *g, struct ts_err *err)
{
	uint64_t buildinfo;
	int ret = recognise(g, &buildinfo);

	if (ret == -ENOENT)
		return ts_fail(err, ENOENT, "%s is not built by Go", image_path(g->im));
	if (!ret && buildinfo)
		ret = read_buildinfo(g, buildinfo, err);
	if (ret == -EBADMSG)
		return ret;
	if (!ret) {
		g->entries.window = malloc(GOBIN_WINDOW);
		g->funcs.window = malloc(GOBIN_WINDOW);
		g->names.window = malloc(GOBIN_WINDOW);
		ret = g->entries.window && g->funcs.window && g->names.window ? 0 : -ENOMEM;
	}
	g->scan_left = MAX_SCAN;
	if (!ret)
		ret = gobin_table_open(g);
	if (ret == -ENOMEM)
		return ts_fail(err, ENOMEM, "out of memory");
	if (ret)
		return ts_fail(err, EIO, "cannot read %s: %s", image_path(g->im), strerror(-ret));
	return 0;
}

int gobin_open(struct gobin **out, struct image *im, struct ts_err *err)
{
	struct gobin *g = calloc(1, sizeof(*g));
	int ret;

	*out = NULL;
	if (!g)
		return ts_fail(err, ENOMEM, "out of memory");
	g->im = im;
	g->minor = -1;
	ret = open_all(g, err);
	if (ret)
		gobin_close(g);
	else
		*out = g;
	return ret;
}

void gobin_close(struct gobin *g)
{
	if (!g)
		return;
	free(g->entries.window);
	free(g->funcs.window);
	free(g->names.window);
	free(g);
}

const char *gobin_version(const struct gobin *g)
{
	return g->version;
}

int gobin_minor(const struct gobin *g)
{
	return g->minor;
}

bool gobin_profiled(const struct gobin *g)
{
	return g->profiled;
}

const char *gobin_problem(const struct gobin *g)
{
	return g->problem;
}
