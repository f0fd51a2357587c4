/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

#define NOT_A_CHARACTER UINT32_MAX

struct output {
	struct output_file *file;
	bool terminal, color;
	bool redraw;   /* lines are written over older ones */
	bool mid_line; /* the last byte written ends no line */
	enum output_format format;
};

int output_open(struct output **out, const struct output_file_options *where,
		enum output_format format, struct ts_err *err)
{
	struct output *o = calloc(1, sizeof(*o));
	const char *no_color;
	int ret;

	*out = NULL;
	if (!o)
		return ts_fail(err, ENOMEM, "out of memory");
	ret = output_file_open(&o->file, where, err);
	if (ret) {
		free(o);
		return ret;
	}
	o->format = format;
	o->terminal = output_file_is_terminal(o->file);
	no_color = getenv("NO_COLOR");
	o->color = o->terminal && format == OUTPUT_TEXT && !(no_color && *no_color);
	*out = o;
	return 0;
}

int output_close(struct output *o, struct ts_err *err)
{
	int ret;

	if (!o)
		return 0;
	output_flush(o);
	ret = output_file_close(o->file, err);
	free(o);
	return ret;
}

enum output_format output_format(const struct output *o)
{
	return o->format;
}

void output_set_gate(struct output *o, size_t (*gate)(void *ctx, const char *data, size_t len),
		     void *ctx)
{
	output_file_set_gate(o->file, gate, ctx);
}

bool output_is_terminal(const struct output *o)
{
	return o->terminal;
}

int output_failed(const struct output *o)
{
	return output_file_failed(o->file);
}

#define ERASE_LINE "\033[K"
#define ERASE_BELOW "\033[J"

static void write_text(struct output *o, const char *text)
{
	output_file_write(o->file, text, strlen(text));
}

void output_redraw(struct output *o)
{
	if (!o->terminal)
		return;
	write_text(o, "\033[H" ERASE_LINE);
	o->redraw = true;
}

bool output_color(struct output *o, const char *name)
{
	static const struct {
		const char *name, *code;
	} colors[] = {{"bold", "\033[1m"},     {"dim", "\033[2m"},     {"red", "\033[31m"},
		      {"green", "\033[32m"},   {"yellow", "\033[33m"}, {"blue", "\033[34m"},
		      {"magenta", "\033[35m"}, {"cyan", "\033[36m"}};
	const char *code = name ? NULL : "\033[m";
	size_t i;

	for (i = 0; name && i < TS_ARRAY_SIZE(colors); i++)
		if (!strcmp(colors[i].name, name))
			code = colors[i].code;
	if (code && o->color)
		write_text(o, code);
	return code;
}

void output_flush(struct output *o)
{
	if (o->redraw)
		write_text(o, ERASE_BELOW);
	o->redraw = false;
	output_file_flush(o->file);
}

/* A line is emptied before it is written, not after it: its last column may be the screen's. */
static void write_over(struct output *o, const char *line, const char *end)
{
	const char *next;

	for (; line < end; line = next) {
		next = memchr(line, '\n', (size_t)(end - line));
		next = next ? next + 1 : end;
		output_file_write(o->file, line, (size_t)(next - line));
		if (next[-1] == '\n')
			write_text(o, ERASE_LINE);
	}
}

void output_write(struct output *o, const void *data, size_t len)
{
	const char *line = data, *end = line + len, *next;

	if (o->redraw) {
		write_over(o, line, end);
		return;
	}
	/* A file ends where a line does: each is looked at only where there are to be several. */
	for (; line < end && (size_t)(end - line) > output_file_room(o->file); line = next) {
		next = memchr(line, '\n', (size_t)(end - line));
		next = next ? next + 1 : end;
		if (!o->mid_line && (size_t)(next - line) > output_file_room(o->file))
			output_file_next(o->file);
		output_file_write(o->file, line, (size_t)(next - line));
		o->mid_line = next[-1] != '\n';
	}
	if (line < end) {
		output_file_write(o->file, line, (size_t)(end - line));
		o->mid_line = end[-1] != '\n';
	}
}

/*
 * Reads one character of n > 0 bytes of UTF-8 (RFC 3629) and returns its length. Where there is
 * none: NOT_A_CHARACTER, and the length of the longest start of one, at least 1.
 */
static size_t utf8_next(const unsigned char *s, size_t n, uint32_t *character)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t want, i;

	*character = s[0];
	if (s[0] < 0x80)
		return 1;
	*character = NOT_A_CHARACTER;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 1;
	want = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	/* The second byte keeps out overlong forms, surrogates and what is above U+10FFFF. */
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	for (i = 1; i < want; i++, low = 0x80, high = 0xbf)
		if (i == n || s[i] < low || s[i] > high)
			return i;
	*character = s[0] & (0xffu >> (want + 1));
	for (i = 1; i < want; i++)
		*character = *character << 6 | (s[i] & 0x3f);
	return want;
}

bool output_is_utf8(const void *data, size_t len)
{
	const unsigned char *s = data, *end = s + len;
	uint32_t c;

	while (s < end) {
		s += utf8_next(s, (size_t)(end - s), &c);
		if (c == NOT_A_CHARACTER)
			return false;
	}
	return true;
}

/* Characters that act on a terminal, break a line, or turn the order of what is shown. */
static bool acts(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069);
}

/* What of "\b\f\n\r\t" c is, as the letter after the backslash; 0 if none. */
static char letter(uint32_t c)
{
	static const char letters[] = {[8] = 'b', [9] = 't', [10] = 'n', [12] = 'f', [13] = 'r'};

	return c < sizeof(letters) ? letters[c] : 0;
}

static int escape_one(struct ts_buf *b, const unsigned char *s, size_t n, uint32_t c)
{
	const char *form = c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : "\\\\";
	char hex[16];
	size_t i;

	if (c == '\n' || c == '\r' || c == '\t' || c == '\\')
		return ts_buf_add(b, form, 2);
	for (i = 0; i < n; i++) {
		hex[4 * i] = '\\';
		hex[4 * i + 1] = 'x';
		hex[4 * i + 2] = "0123456789abcdef"[s[i] >> 4];
		hex[4 * i + 3] = "0123456789abcdef"[s[i] & 15];
	}
	return ts_buf_add(b, hex, 4 * n);
}

int output_escape(struct ts_buf *b, const void *data, size_t len, bool keep_lines)
{
	const unsigned char *s = data, *end = s + len, *plain = s;
	uint32_t c;
	size_t n;
	int err;

	for (; s < end; s += n) {
		n = utf8_next(s, (size_t)(end - s), &c);
		if (keep_lines && (c == '\n' || c == '\t' || c == '\\'))
			continue;
		if (c != NOT_A_CHARACTER && c != '\\' && !acts(c))
			continue;
		err = ts_buf_add(b, plain, (size_t)(s - plain));
		/* The ends of a network protocol's lines are lines' ends here. */
		if (!err && !(keep_lines && c == '\r' && s + 1 < end && s[1] == '\n'))
			err = escape_one(b, s, n, c);
		if (err)
			return err;
		plain = s + n;
	}
	return ts_buf_add(b, plain, (size_t)(end - plain));
}

static int json_one(struct ts_buf *b, uint32_t c)
{
	char form[8] = {'\\', (char)c};
	int n = 2;

	if (letter(c))
		form[1] = letter(c);
	else if (c != '"' && c != '\\')
		n = snprintf(form, sizeof(form), "\\u%04x", c == NOT_A_CHARACTER ? 0xfffd : c);
	return ts_buf_add(b, form, (size_t)n);
}

/* What acts on a terminal is escaped here too: JSON allows it, and the value stays the same. */
int output_json_string(struct ts_buf *b, const void *data, size_t len)
{
	const unsigned char *s = data, *end = s + len, *plain = s;
	uint32_t c;
	size_t n;
	int err = ts_buf_add(b, "\"", 1);

	for (; s < end && !err; s += n) {
		n = utf8_next(s, (size_t)(end - s), &c);
		if (c != NOT_A_CHARACTER && c != '"' && c != '\\' && !acts(c))
			continue;
		err = ts_buf_add(b, plain, (size_t)(s - plain));
		if (!err)
			err = json_one(b, c);
		plain = s + n;
	}
	if (!err)
		err = ts_buf_add(b, plain, (size_t)(end - plain));
	return err ? err : ts_buf_add(b, "\"", 1);
}
