/* SPDX-License-Identifier: MIT */
/*
 * What every other module needs: errors that carry a sentence, messages on stderr, a byte buffer
 * and a hash map. Includes nothing of this project but the header shared with BPF.
 */
#ifndef TLSSCOPE_BASE_H
#define TLSSCOPE_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/types.h>

#include "../bpf/tlsscope.h"

#define TS_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define TS_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* A cause for a human: one sentence that says what happened, to what, and what to do. */
struct ts_err {
	char text[512];
};

/* Sets the sentence (err may be NULL) and returns -code. code: a positive errno value. */
int ts_fail(struct ts_err *err, int code, const char *format, ...) TS_PRINTF(3, 4);

/*
 * Messages to stderr, one line each, "tlsscope: " before it. Control characters in the text are
 * shown as \xNN: names come from processes that are not trusted.
 */
enum ts_level { TS_QUIET, TS_WARN, TS_VERBOSE };
void ts_set_level(enum ts_level level);
enum ts_level ts_get_level(void);
void ts_warn(const char *format, ...) TS_PRINTF(1, 2); /* not with -q */
void ts_verbose(const char *what, const char *format, ...)
	TS_PRINTF(2, 3);				/* with -v: "what: ..." */
void ts_error(const char *format, ...) TS_PRINTF(1, 2); /* always */

/*
 * Something to do before anything is written to stderr, which may be a terminal on which a line is
 * being edited. Whoever writes there past the functions above calls ts_before_message.
 */
void ts_set_before_message(void (*call)(void *ctx), void *ctx);
void ts_before_message(void);

/*
 * Copies text into out (size > 0, always terminated), bytes below 0x20, 0x7f and invalid UTF-8 as
 * \n, \t, \r or \xNN. Returns out.
 */
char *ts_clean(char *out, size_t size, const char *text);

/* A byte buffer that grows. {0} is empty. The owner frees it. */
struct ts_buf {
	unsigned char *data;
	size_t len, cap;
};
int ts_buf_add(struct ts_buf *b, const void *data, size_t len); /* 0 or -ENOMEM, then unchanged */
int ts_buf_printf(struct ts_buf *b, const char *format, ...) TS_PRINTF(2, 3); /* adds no NUL */
void ts_buf_free(struct ts_buf *b);					      /* and empties it */

/*
 * A hash map from a pair of numbers to a pointer that is not NULL. {0} is empty. It owns its slots,
 * never the pointers.
 */
struct ts_map {
	struct ts_map_slot {
		uint64_t a, b;
		void *value; /* NULL: free */
	} * slots;
	size_t count, cap; /* cap is 0 or a power of two; at most 3/4 is used */
};
void *ts_map_get(const struct ts_map *m, uint64_t a, uint64_t b);      /* NULL if absent */
int ts_map_set(struct ts_map *m, uint64_t a, uint64_t b, void *value); /* 0 or -ENOMEM */
void *ts_map_remove(struct ts_map *m, uint64_t a, uint64_t b);	       /* what was there, or NULL */
void ts_map_free(struct ts_map *m);

/*
 * The name among names[0..n) that is nearest to name (edit distance at most a third of its length
 * and one more), or NULL.
 */
const char *ts_nearest(const char *name, const char *const *names, size_t n);

/* Copies at most size-1 bytes; always terminated. Returns false when it did not fit. */
bool ts_copy(char *out, size_t size, const char *text);

uint64_t ts_now(void); /* CLOCK_MONOTONIC, ns: the clock of bpf_ktime_get_ns */

#endif
