/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "output.h"

#define OUTPUT_BUFFER 65536
#define NOT_A_CHARACTER UINT32_MAX

/* Invariant: once `failed` is set, nothing more is written or kept. */
struct output {
	int fd, failed;
	bool terminal;
	enum output_format format;
	size_t used;
	char *path; /* NULL: standard output, which is not ours to close */
	char buffer[OUTPUT_BUFFER];
};

/*
 * Whoever owns a symbolic link chooses what is overwritten: it is followed only if it belongs to us
 * or to root (/dev/stdout), whatever the sysctl fs.protected_symlinks says.
 */
static bool foreign_link(const char *path)
{
	struct stat st;

	return !lstat(path, &st) && S_ISLNK(st.st_mode) && st.st_uid && st.st_uid != geteuid();
}

static int open_file(const char *path, struct ts_err *err)
{
	int fd;

	if (foreign_link(path))
		return ts_fail(err, EPERM,
			       "cannot write to %s: it is a symbolic link of another user", path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
	if (fd < 0)
		return ts_fail(err, errno, "cannot write to %s: %s", path, strerror(errno));
	return fd;
}

int output_open(struct output **out, const char *path, enum output_format format,
		struct ts_err *err)
{
	struct output *o;
	int fd = STDOUT_FILENO;

	*out = NULL;
	if (!path && fcntl(fd, F_GETFD) < 0)
		return ts_fail(err, errno, "standard output is closed; use -o FILE");
	o = calloc(1, sizeof(*o));
	if (!o)
		return ts_fail(err, ENOMEM, "no memory for the output's buffer");
	if (path) {
		o->path = strdup(path);
		fd = o->path ? open_file(path, err) : ts_fail(err, ENOMEM, "no memory");
	}
	if (fd < 0) {
		free(o->path);
		free(o);
		return fd;
	}
	o->fd = fd;
	o->format = format;
	o->terminal = isatty(fd);
	*out = o;
	return 0;
}

int output_close(struct output *o, struct ts_err *err)
{
	int failed;

	if (!o)
		return 0;
	output_flush(o);
	if (o->path && close(o->fd) && !o->failed && errno != EINTR)
		o->failed = errno;
	failed = o->failed;
	if (failed)
		ts_fail(err, failed, "the output is incomplete: writing to %s failed: %s",
			o->path ? o->path : "standard output", strerror(failed));
	free(o->path);
	free(o);
	return -failed;
}

enum output_format output_format(const struct output *o)
{
	return o->format;
}

bool output_is_terminal(const struct output *o)
{
	return o->terminal;
}

int output_failed(const struct output *o)
{
	return o->failed;
}

/* A descriptor that was made non-blocking by someone who shares it is waited for. */
static int write_some(struct output *o, const char *data, size_t len, size_t *done)
{
	struct pollfd p = {.fd = o->fd, .events = POLLOUT};
	ssize_t n = write(o->fd, data, len);

	*done = n > 0 ? (size_t)n : 0;
	if (n > 0 || (n < 0 && errno == EINTR))
		return 0;
	if (!n)
		return EIO;
	if (errno != EAGAIN)
		return errno;
	return poll(&p, 1, -1) < 0 && errno != EINTR ? errno : 0;
}

static void write_all(struct output *o, const char *data, size_t len)
{
	size_t done;

	while (len && !o->failed) {
		o->failed = write_some(o, data, len, &done);
		data += done;
		len -= done;
	}
}

void output_flush(struct output *o)
{
	write_all(o, o->buffer, o->used);
	o->used = 0;
}

void output_write(struct output *o, const void *data, size_t len)
{
	if (len > sizeof(o->buffer) - o->used)
		output_flush(o);
	if (o->failed)
		return;
	if (len > sizeof(o->buffer)) {
		write_all(o, data, len);
	} else if (len) {
		memcpy(o->buffer + o->used, data, len);
		o->used += len;
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
