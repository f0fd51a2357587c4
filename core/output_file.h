/* SPDX-License-Identifier: MIT */
/*
 * A file, pipe or terminal that is written through a buffer. A regular file can be rotated: when it
 * has its size it becomes PATH.1, PATH.1 becomes PATH.2 and so on, and a new one begins. A write
 * that fails (full disk, closed pipe) is kept: nothing more is written, and closing tells it.
 */
#ifndef TLSSCOPE_OUTPUT_FILE_H
#define TLSSCOPE_OUTPUT_FILE_H

#include "base.h"

struct output_file_options {
	const char *path;  /* NULL: `fd`, which is not ours to close */
	int fd;		   /* standard output or standard error */
	bool secret;	   /* mode 0600 also where the file was there before */
	uint64_t rotate;   /* bytes that a file should not exceed; 0: no limit */
	unsigned int keep; /* older files that stay, 1 at least */
};

struct output_file;
/* The path must outlive it. An existing file is replaced; it is created with mode 0600. */
int output_file_open(struct output_file **out, const struct output_file_options *options,
		     struct ts_err *err);
int output_file_close(struct output_file *f, struct ts_err *err); /* 0, or what failed */
void output_file_write(struct output_file *f, const void *data, size_t len);
void output_file_flush(struct output_file *f);
/*
 * Puts text behind all that was written, where it stays until more is written in its place: so a
 * file whose form has an end has one at any time. Does nothing but in a regular file.
 */
void output_file_end_with(struct output_file *f, const char *text);
uint64_t output_file_room(const struct output_file *f); /* bytes until the next one is due */
void output_file_next(struct output_file *f);		/* nothing, where nothing is in this one */
/* Asks, before bytes are written, how many of them shall be; the others are dropped. */
void output_file_set_gate(struct output_file *f,
			  size_t (*gate)(void *ctx, const char *data, size_t len), void *ctx);
bool output_file_is_terminal(const struct output_file *f);
int output_file_failed(
	const struct output_file *f); /* 0, or the errno value of the first failure */

#endif
