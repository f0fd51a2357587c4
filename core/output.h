/* SPDX-License-Identifier: MIT */
/*
 * Where a script's output goes: standard output or the file of -o, as text or as JSON lines. A
 * write that fails (full disk, closed pipe) is told once and ends the run with status 1.
 */
#ifndef TLSSCOPE_OUTPUT_H
#define TLSSCOPE_OUTPUT_H

#include "output_file.h"

enum output_format { OUTPUT_TEXT, OUTPUT_JSON };

struct output;
/* Where it is rotated, each file ends where a line does. */
int output_open(struct output **out, const struct output_file_options *where,
		enum output_format format, struct ts_err *err);
int output_close(struct output *o, struct ts_err *err); /* 0, or what kept the last bytes from it */
enum output_format output_format(const struct output *o);
bool output_is_terminal(const struct output *o);
void output_write(struct output *o, const void *data, size_t len);
void output_flush(struct output *o);
/*
 * On a terminal: what is written until the next flush takes the place of all that is shown, without
 * a moment in which nothing is.
 */
void output_redraw(struct output *o);
/* On a terminal, unless NO_COLOR is set: what follows is of this colour; NULL: of none. False:
 * there is no such colour. */
bool output_color(struct output *o, const char *name);
/*
 * Asks, before bytes are written, how many of them shall be; the others are dropped. NULL: all.
 */
void output_set_gate(struct output *o, size_t (*gate)(void *ctx, const char *data, size_t len),
		     void *ctx);
int output_failed(const struct output *o); /* 0, or the errno value of the first failure */

/*
 * Appends text so that nothing in it acts on a terminal or breaks a line: control characters, DEL,
 * C1 controls and invalid UTF-8 as \n \r \t \\ or \xNN, valid UTF-8 as it is. keep_lines: newlines
 * and tabs stay, a carriage return before a newline is left out, and backslashes are not doubled.
 */
int output_escape(struct ts_buf *b, const void *data, size_t len, bool keep_lines);
/* As a JSON string with its quotes; valid UTF-8 only is the caller's to check: others become
 * U+FFFD. */
int output_json_string(struct ts_buf *b, const void *data, size_t len);
bool output_is_utf8(const void *data, size_t len);

#endif
