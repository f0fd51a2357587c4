/* SPDX-License-Identifier: MIT */
/* A small Go program, opened as a file and searched. */
#ifndef TLSSCOPE_OPEN_GO_H
#define TLSSCOPE_OPEN_GO_H

#include "gobin.h"
#include "make_go.h"

#define LONG_NAME                                                                                  \
	"github.com/a/very/long/path/that/goes/on/and/on/github.com/a/very/long/path/that/goes/"   \
	"on/and/on/github.com/a/very/long/path/that/goes/on/and/on/github.com/a/very/long/path/"   \
	"that/goes/on/and/on/github.com/a/very/long/path/that/goes/on/and/on/github.com/a/very/"   \
	"long.(*Conn).Read"

static const struct go_func funcs[] = {
	{"runtime.text", 64, 0, false},
	{"crypto/tls.(*Conn).Read", 0x124, 12, false},
	{NULL, 0x40, 0, true},
	{"_cgo_of_c", 0, 0x20, false},
	{"crypto/tls.(*Conn).Write", 0x200, 0, false},
	{LONG_NAME, 64, 0, false},
	{"gopkg.in/yaml%2ev3.(*T[...]).Read", 64, 16, false},
	{"net.(*TCPConn).Read", 12, 4, false},
};

/* Where Read and Write are, from the base. */
enum { READ_AT = GO_TEXT + 64, WRITE_AT = READ_AT + 0x124 + 12 + 0x60 };

static inline struct go_layout layout(uint32_t magic, bool pie)
{
	return (struct go_layout){.magic = magic,
				  .machine = EM_X86_64,
				  .pie = pie,
				  .version = "go1.24.4",
				  .funcs = funcs,
				  .count = sizeof(funcs) / sizeof(funcs[0])};
}

/* A program that is open. */
struct go {
	int fd;
	struct image *im;
	struct gobin *g;
	struct ts_err err;
};

static inline int open_file(struct go *go, const struct go_file *f)
{
	go->fd = make_file(f->bytes, f->size);
	assert_true(go->fd >= 0);
	assert_int_equal(image_open(&go->im, go->fd, "the file", &go->err), 0);
	go->err.text[0] = 0;
	return gobin_open(&go->g, go->im, &go->err);
}

static inline void shut(struct go *go)
{
	gobin_close(go->g);
	image_close(go->im);
	close(go->fd);
}

struct seen {
	struct gobin_func f[16];
	size_t pattern[16], count;
	int result; /* of the callback */
};

static inline int see(void *ctx, const struct gobin_func *f, size_t pattern)
{
	struct seen *s = ctx;

	assert_true(s->count < 16);
	s->f[s->count] = *f;
	s->pattern[s->count++] = pattern;
	return s->result;
}

static inline int find(struct go *go, struct seen *s, const char *pattern)
{
	*s = (struct seen){0};
	return gobin_find(go->g, &pattern, 1, see, s);
}

#endif
