/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base.h"

int ts_fail(struct ts_err *err, int code, const char *format, ...)
{
	va_list ap;

	if (err) {
		va_start(ap, format);
		vsnprintf(err->text, sizeof(err->text), format, ap);
		va_end(ap);
	}
	return -code;
}

/* Set once from the command line, before anything can be said. */
static enum ts_level message_level = TS_WARN;

void ts_set_level(enum ts_level level)
{
	message_level = level;
}

static struct {
	void (*call)(void *ctx);
	void *ctx;
} before_message;

void ts_set_before_message(void (*call)(void *ctx), void *ctx)
{
	before_message.call = call;
	before_message.ctx = ctx;
}

void ts_before_message(void)
{
	if (before_message.call)
		before_message.call(before_message.ctx);
}

enum ts_level ts_get_level(void)
{
	return message_level;
}

/* Control characters from U+0080 to U+009F; separators and marks that turn the order of text. */
static bool acts(const unsigned char *s, size_t n)
{
	unsigned int c = n == 3 ? (s[1] & 63u) << 6 | (s[2] & 63u) : 0;

	return (n == 2 && s[0] == 0xc2 && s[1] < 0xa0) ||
	       (n == 3 && s[0] == 0xe2 && ((c >= 0x28 && c <= 0x2e) || (c >= 0x66 && c <= 0x69)));
}

/* Length of the valid UTF-8 sequence of more than one byte at s, or 0 (RFC 3629). */
static size_t utf8_length(const unsigned char *s)
{
	size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	size_t i;

	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	for (i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return acts(s, n) ? 0 : n;
}

char *ts_clean(char *out, size_t size, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t used = 0, n;

	while (*s && used + 5 <= size) {
		if (*s >= 0x20 && *s < 0x7f) {
			out[used++] = (char)*s++;
		} else if ((n = utf8_length(s))) {
			memcpy(out + used, s, n);
			used += n;
			s += n;
		} else if (*s == '\n' || *s == '\t' || *s == '\r') {
			out[used++] = '\\';
			out[used++] = *s == '\n' ? 'n' : *s == '\t' ? 't' : 'r';
			s++;
		} else {
			used += (size_t)snprintf(out + used, size - used, "\\x%02x", *s++);
		}
	}
	out[used] = 0;
	return out;
}

static void say(const char *what, const char *format, va_list ap)
{
	char text[2048], clean[4096];

	vsnprintf(text, sizeof(text), format, ap);
	ts_clean(clean, sizeof(clean), text);
	ts_before_message();
	fprintf(stderr, "tlsscope: %s%s%s\n", what ? what : "", what ? ": " : "", clean);
}

void ts_warn(const char *format, ...)
{
	va_list ap;

	if (message_level < TS_WARN)
		return;
	va_start(ap, format);
	say(NULL, format, ap);
	va_end(ap);
}

void ts_verbose(const char *what, const char *format, ...)
{
	va_list ap;

	if (message_level < TS_VERBOSE)
		return;
	va_start(ap, format);
	say(what, format, ap);
	va_end(ap);
}

void ts_error(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(NULL, format, ap);
	va_end(ap);
}

static int buf_reserve(struct ts_buf *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 64;
	unsigned char *data;

	if (more <= b->cap - b->len)
		return 0;
	if (more > SIZE_MAX / 2 - b->len)
		return -ENOMEM;
	while (cap - b->len < more)
		cap *= 2;
	data = realloc(b->data, cap);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->cap = cap;
	return 0;
}

int ts_buf_add(struct ts_buf *b, const void *data, size_t len)
{
	int err = buf_reserve(b, len);

	if (err)
		return err;
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	return 0;
}

int ts_buf_printf(struct ts_buf *b, const char *format, ...)
{
	va_list ap;
	int n, err;

	va_start(ap, format);
	n = vsnprintf(NULL, 0, format, ap);
	va_end(ap);
	if (n < 0)
		return -EINVAL;
	err = buf_reserve(b, (size_t)n + 1);
	if (err)
		return err;
	va_start(ap, format);
	vsnprintf((char *)b->data + b->len, (size_t)n + 1, format, ap);
	va_end(ap);
	b->len += (size_t)n;
	return 0;
}

void ts_buf_free(struct ts_buf *b)
{
	free(b->data);
	*b = (struct ts_buf){0};
}

/* Where {a, b} is, or the free slot where it would go. There always is a free slot. */
static struct ts_map_slot *map_find(const struct ts_map *m, uint64_t a, uint64_t b)
{
	/* Multiplication spreads pointers and small numbers alike over the upper bits. */
	uint64_t hash = (a ^ (b * 0x9e3779b97f4a7c15u)) * 0xff51afd7ed558ccdu;
	size_t i = (hash >> 32) & (m->cap - 1);

	while (m->slots[i].value && (m->slots[i].a != a || m->slots[i].b != b))
		i = (i + 1) & (m->cap - 1);
	return &m->slots[i];
}

void *ts_map_get(const struct ts_map *m, uint64_t a, uint64_t b)
{
	return m->cap ? map_find(m, a, b)->value : NULL;
}

static int map_grow(struct ts_map *m)
{
	struct ts_map bigger = {.cap = m->cap ? m->cap * 2 : 16, .count = m->count};
	size_t i;

	bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (i = 0; i < m->cap; i++)
		if (m->slots[i].value)
			*map_find(&bigger, m->slots[i].a, m->slots[i].b) = m->slots[i];
	free(m->slots);
	*m = bigger;
	return 0;
}

int ts_map_set(struct ts_map *m, uint64_t a, uint64_t b, void *value)
{
	struct ts_map_slot *slot;

	if (m->count + 1 > m->cap / 4 * 3 && map_grow(m))
		return -ENOMEM;
	slot = map_find(m, a, b);
	m->count += !slot->value;
	*slot = (struct ts_map_slot){a, b, value};
	return 0;
}

void *ts_map_remove(struct ts_map *m, uint64_t a, uint64_t b)
{
	struct ts_map_slot *slot, moved;
	void *value;
	size_t i;

	if (!m->cap)
		return NULL;
	slot = map_find(m, a, b);
	value = slot->value;
	if (!value)
		return NULL;
	slot->value = NULL;
	m->count--;
	/* Those behind it may have been pushed on by it: each finds its place again. */
	for (i = (size_t)(slot - m->slots + 1) & (m->cap - 1); m->slots[i].value;
	     i = (i + 1) & (m->cap - 1)) {
		moved = m->slots[i];
		m->slots[i].value = NULL;
		*map_find(m, moved.a, moved.b) = moved;
	}
	return value;
}

void ts_map_free(struct ts_map *m)
{
	free(m->slots);
	*m = (struct ts_map){0};
}

/* Levenshtein distance of names shorter than 64 bytes; longer ones are as far as they are long. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b), row[64], i, j, left, diagonal, cost;

	if (la >= 64 || lb >= 64)
		return la > lb ? la : lb;
	for (j = 0; j <= lb; j++)
		row[j] = j;
	for (i = 1; i <= la; i++) {
		diagonal = row[0];
		row[0] = i;
		for (j = 1; j <= lb; j++) {
			left = row[j - 1] + 1;
			cost = diagonal + (a[i - 1] != b[j - 1]);
			diagonal = row[j];
			row[j] = row[j] + 1 < cost ? row[j] + 1 : cost;
			row[j] = left < row[j] ? left : row[j];
		}
	}
	return row[lb];
}

const char *ts_nearest(const char *name, const char *const *names, size_t n)
{
	size_t best = strlen(name) / 3 + 2, d, i;
	const char *found = NULL;

	for (i = 0; i < n; i++) {
		d = edit_distance(name, names[i]);
		if (d < best) {
			best = d;
			found = names[i];
		}
	}
	return found;
}

bool ts_copy(char *out, size_t size, const char *text)
{
	size_t len = strlen(text);
	bool fits = len < size;

	if (!fits)
		len = size - 1;
	memcpy(out, text, len);
	out[len] = 0;
	return fits;
}

uint64_t ts_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
