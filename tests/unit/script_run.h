/* SPDX-License-Identifier: MIT */
/*
 * One run of a script in a test: start, feed it, then expect what it wrote to its output and to
 * standard error. Standard error is held back in between, so assertions come after `expect`.
 */
#ifndef TLSSCOPE_TEST_SCRIPT_RUN_H
#define TLSSCOPE_TEST_SCRIPT_RUN_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "libs.h"
#include "script.h"

#define TO_FILE(p) (&(struct output_file_options){.path = (p)})
#define SECOND 1000000000ull
#define STARTED (1000 * SECOND) /* when START says that the run began */

struct run {
	struct output *out;
	struct script *script;
	struct script_options options; /* set before `start` where a test needs it */
	enum output_format format;
	char out_path[32], err_path[32];
	int saved_stderr;
	int loaded; /* what script_load returned */
	struct ts_err err;
	struct stream_conn conn;
	struct stream_source source;
	int argc;
	char *const *argv;
	struct ts_data head; /* last, as its size varies */
};

static void start_kind(struct run *r, enum script_kind kind, const char *what)
{
	int fd;

	strcpy(r->out_path, "/tmp/tlsscope-out-XXXXXX");
	strcpy(r->err_path, "/tmp/tlsscope-err-XXXXXX");
	close(mkstemp(r->out_path));
	fd = mkstemp(r->err_path);
	assert_true(fd >= 0);
	assert_int_equal(output_open(&r->out, TO_FILE(r->out_path), r->format, &r->err), 0);
	fflush(stderr);
	r->saved_stderr = dup(STDERR_FILENO);
	dup2(fd, STDERR_FILENO);
	close(fd);
	r->options.out = r->out;
	r->err.text[0] = 0;
	r->conn = (struct stream_conn){
		.id = 7, .pid = 42, .address = 1, .opened = 5 * SECOND, .fd = -1};
	r->source = (struct stream_source){1, TS_P_SSL_WRITE, "openssl", "SSL_write_ex",
					   "/usr/lib/libssl.so.3"};
	r->head = (struct ts_data){.nsecs = STARTED + 1500000,
				   .duration = 2500,
				   .subs = ~0ull,
				   .ret = 1,
				   .pid = 42,
				   .tid = 43,
				   .ppid = 41,
				   .uid = 1000,
				   .gid = 100,
				   .cpu = 3,
				   .dir = TS_OUT,
				   .comm = "curl"};
	r->loaded = script_open(&r->script, &r->options, &r->err);
	if (!r->loaded)
		r->loaded = script_load(r->script, kind, what, r->argc, r->argv, &r->err);
}

static void start(struct run *r, const char *code)
{
	start_kind(r, SCRIPT_CODE, code);
}

/* A call that transferred `len` bytes, of which `size` were captured. */
static void message_part(struct run *r, const char *data, size_t size, uint64_t len)
{
	struct stream_message m = {
		.head = &r->head,
		.source = &r->source,
		.conn = &r->conn,
		.probes = TS_PROBE(r->source.probe),
		.data = size ? (const unsigned char *)data : NULL,
		.size = size,
		.len = len,
		.truncated = size < len,
	};

	r->conn.bytes[r->head.dir] += len;
	script_message(r->script, &m);
}

static inline void message(struct run *r, const char *data)
{
	message_part(r, data, strlen(data), strlen(data));
}

static inline void record(struct run *r, uint16_t type, const void *body, size_t size,
			  const char *const *strings)
{
	static const char *const none[] = {NULL};
	struct ts_buf buf = {0};
	const struct ts_record *rec =
		record_build(&buf, type, body, size, strings ? strings : none);

	script_record(r->script, rec);
	ts_buf_free(&buf);
}

static inline void record_started(struct run *r)
{
	static const char *const strings[] = {"6.1.0", "box", NULL};
	struct rec_start body = {.nsecs = STARTED, .wall_offset = 3600 * SECOND};

	record(r, TS_REC_START, &body, sizeof(body), strings);
}

static inline void record_tick(struct run *r, uint64_t nsecs)
{
	struct rec_tick body = {.nsecs = nsecs};

	record(r, TS_REC_TICK, &body, sizeof(body), NULL);
}

static inline void record_stopped(struct run *r)
{
	struct rec_stop body = {.nsecs = STARTED + 9 * SECOND, .status = 3 << 8};

	record(r, TS_REC_STOP, &body, sizeof(body), NULL);
}

static char *read_whole(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = calloc(1, 1 << 20);

	assert_non_null(f);
	assert_non_null(text);
	assert_true(fread(text, 1, (1 << 20) - 1, f) < (1 << 20) - 1);
	fclose(f);
	unlink(path);
	return text;
}

/* Ends the run, and compares. err: NULL: whatever. */
static void expect(struct run *r, const char *out, const char *err)
{
	char *said, *told;

	script_close(r->script);
	output_close(r->out, NULL);
	fflush(stderr);
	dup2(r->saved_stderr, STDERR_FILENO);
	close(r->saved_stderr);
	said = read_whole(r->out_path);
	told = read_whole(r->err_path);
	if (err)
		assert_string_equal(told, err);
	assert_string_equal(said, out);
	free(said);
	free(told);
}

/* A script that fails while it is loaded. */
static inline void expect_wrong(const char *code, const char *err)
{
	struct run r = {0};

	start(&r, code);
	expect(&r, "", err);
	assert_int_equal(r.loaded, -EINVAL);
	assert_string_equal(r.err.text, "");
}

/* A script that prints while it is loaded, and nothing else. */
static inline void expect_prints(const char *code, const char *out)
{
	struct run r = {0};

	start(&r, code);
	expect(&r, out, "");
	assert_int_equal(r.loaded, 0);
}

#endif
