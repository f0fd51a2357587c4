/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "alloc.h"
#include "libs.h"
#include "record.h"

static char path[64]; /* the file of the test that runs */

static int make_path(void **state)
{
	int fd;

	(void)state;
	strcpy(path, "/tmp/test_record.XXXXXX");
	fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
	(void)state;
	return unlink(path);
}

/* A data record with its payload, in one object that is long enough. */
union data {
	struct ts_data d;
	unsigned char bytes[sizeof(struct ts_data) + TS_CHUNK + 8];
};

static union data *make_data(const char *payload)
{
	static union data u;

	memset(&u, 0, sizeof(u));
	u.d.record.type = TS_REC_DATA;
	u.d.captured = (__u32)strlen(payload);
	u.d.record.size = sizeof(u.d) + u.d.captured;
	u.d.len = u.d.captured;
	u.d.dir = TS_OUT;
	memcpy(u.d.payload, payload, u.d.captured);
	return &u;
}

static bool valid(const union data *u)
{
	return record_valid(&u->d.record, sizeof(*u));
}

static void built_records_have_their_strings(void **state)
{
	static const char *const strings[] = {"openssl", "SSL_read", "/usr/lib/libssl.so.3", NULL};
	struct rec_source body = {.id = 7, .probe = TS_P_SSL_READ};
	char *endless;
	const struct ts_record *r;
	struct ts_buf buf = {0};

	(void)state;
	assert_int_equal(ts_buf_add(&buf, "what was here before", 20), 0);
	r = record_build(&buf, TS_REC_SOURCE, &body, sizeof(body), strings);
	assert_non_null(r);
	assert_int_equal(r->size, sizeof(body) + 8 + 9 + 21);
	assert_int_equal(r->type, TS_REC_SOURCE);
	assert_int_equal(((const struct rec_source *)r)->id, 7);
	assert_string_equal(record_string(r, sizeof(body), 0), "openssl");
	assert_string_equal(record_string(r, sizeof(body), 1), "SSL_read");
	assert_string_equal(record_string(r, sizeof(body), 2), "/usr/lib/libssl.so.3");
	assert_string_equal(record_string(r, sizeof(body), 3), "");
	assert_string_equal(record_string(r, sizeof(body), 999), "");
	assert_true(record_valid(r, r->size));
	r = record_build(&buf, TS_REC_SOURCE, &body, sizeof(body), NULL);
	assert_int_equal(r->size, sizeof(body));
	assert_string_equal(record_string(r, sizeof(body), 0), "");
	assert_true(record_valid(r, r->size));
	endless = calloc(1, RECORD_MAX + 1);
	assert_non_null(endless);
	memset(endless, 'x', RECORD_MAX);
	assert_null(record_build(&buf, TS_REC_EXEC, &body, sizeof(body),
				 (const char *const[]){endless, NULL}));
	free(endless);
	ts_buf_free(&buf);
	alloc_left = 1;
	assert_null(record_build(&buf, TS_REC_SOURCE, &body, sizeof(body), strings));
}

static void every_type_that_is_built_is_valid(void **state)
{
	static const struct {
		uint16_t type;
		size_t body;
		unsigned int strings;
	} types[] = {
		{TS_REC_CONN, sizeof(struct ts_conn_info), 0},
		{TS_REC_HELLO, sizeof(struct ts_hello), 0},
		{TS_REC_START, sizeof(struct rec_start), 2},
		{TS_REC_SOURCE, sizeof(struct rec_source), 3},
		{TS_REC_PROCESS, sizeof(struct rec_process), 9},
		{TS_REC_EXEC, sizeof(struct rec_exec), 1},
		{TS_REC_EXIT, sizeof(struct rec_exec), 1},
		{TS_REC_LOST, sizeof(struct rec_lost), 0},
		{TS_REC_TICK, sizeof(struct rec_tick), 0},
		{TS_REC_SIGNAL, sizeof(struct rec_signal), 0},
		{TS_REC_STOP, sizeof(struct rec_stop), 0},
		{TS_REC_ATTACH, sizeof(struct rec_attach), 3},
	};
	const char *strings[12] = {NULL};
	const unsigned char body[512] = {0};
	const struct ts_record *r;
	struct ts_buf buf = {0};
	unsigned int n;
	size_t i;

	(void)state;
	/* The three of BPF with struct ts_data, and 0, are not in the list. */
	assert_int_equal(TS_ARRAY_SIZE(types), TS_REC_TYPES - 4);
	for (i = 0; i < TS_ARRAY_SIZE(types); i++) {
		for (n = 0; n <= types[i].strings + 1; n++) {
			r = record_build(&buf, types[i].type, body, types[i].body, strings);
			assert_int_equal(record_valid(r, r->size), n <= types[i].strings);
			assert_false(record_valid(r, r->size - 1));
			strings[n] = "text";
		}
		memset(strings, 0, sizeof(strings));
		r = record_build(&buf, types[i].type, body, types[i].body - 1, NULL);
		assert_false(record_valid(r, r->size));
	}
	ts_buf_free(&buf);
}

static void strings_must_end(void **state)
{
	static const char *const strings[] = {"comm", NULL};
	struct rec_exec body = {.pid = 1};
	struct ts_buf buf = {0};
	struct ts_record *r;

	(void)state;
	r = (struct ts_record *)record_build(&buf, TS_REC_EXEC, &body, sizeof(body), strings);
	assert_true(record_valid(r, r->size));
	r->size--;
	assert_false(record_valid(r, r->size));
	ts_buf_free(&buf);
}

#define REFUSED(change)                                                                            \
	do {                                                                                       \
		union data *u = make_data("payload");                                              \
		assert_true(valid(u));                                                             \
		change;                                                                            \
		if (valid(u))                                                                      \
			fail_msg("taken for valid: %s", #change);                                  \
	} while (0)

static void data_that_contradicts_itself_is_refused(void **state)
{
	(void)state;
	REFUSED(u->d.record.size = 0);
	REFUSED(u->d.record.size = 7);
	REFUSED(u->d.record.size--);
	REFUSED(u->d.record.size++);
	REFUSED(u->d.record.size = sizeof(u->d) - 1);
	REFUSED(u->d.record.size = (__u32)-1);
	REFUSED(u->d.record.type = 0);
	REFUSED((u->d.record.type = 0, u->d.record.size = 8));
	REFUSED(u->d.record.type = TS_REC_TYPES);
	REFUSED(u->d.record.type = 0xffff);
	REFUSED(u->d.record.type = TS_REC_CLOSE);
	REFUSED(u->d.record.zero = 1);
	REFUSED(u->d.captured = (__u32)-1);
	REFUSED((u->d.captured = TS_CHUNK + 1, u->d.record.size = sizeof(u->d) + TS_CHUNK + 1,
		 u->d.len = TS_CHUNK + 1));
	REFUSED(u->d.len = 6);
	REFUSED(u->d.off = 1);
	REFUSED((u->d.off = ~0ull, u->d.len = 3));
	REFUSED((u->d.off = ~0ull - 100, u->d.len = 3));
	REFUSED(u->d.len = ~0ull);
	REFUSED(u->d.pos = ~0ull);
	REFUSED(u->d.dir = 2);
	REFUSED(u->d.flags = TS_DATA_REST << 1);
	REFUSED(u->d.flags = TS_DATA_NODATA);
	REFUSED(memset(u->d.comm, 'x', TS_COMM_LEN));
}

static void data_of_every_kind_is_taken(void **state)
{
	union data *u = make_data("");

	(void)state;
	assert_true(valid(u));
	u->d.flags = TS_DATA_NODATA;
	u->d.len = 1u << 30;
	assert_true(valid(u));
	u = make_data("");
	u->d.record.type = TS_REC_CLOSE;
	assert_true(valid(u));
	u = make_data("cut");
	u->d.flags = TS_DATA_MORE | TS_DATA_PEEK | TS_DATA_FAULT | TS_DATA_EARLY;
	u->d.len = 1000;
	u->d.off = 997;
	u->d.ret = -1;
	assert_true(valid(u));
	assert_false(record_valid(&u->d.record, u->d.record.size - 1));
	assert_false(record_valid(&u->d.record, 7));
	u = make_data("");
	u->d.captured = TS_CHUNK;
	u->d.len = TS_CHUNK;
	u->d.record.size = sizeof(u->d) + TS_CHUNK;
	assert_true(valid(u));
}

static void hellos_that_contradict_themselves_are_refused(void **state)
{
	union {
		struct ts_hello h;
		unsigned char bytes[sizeof(struct ts_hello) + 8];
	} good = {.h = {.record = {sizeof(good), TS_REC_HELLO, 0}, .len = 8}}, bad;

	(void)state;
	assert_true(record_valid(&good.h.record, sizeof(good)));
#define BAD(change)                                                                                \
	do {                                                                                       \
		bad = good;                                                                        \
		bad.change;                                                                        \
		assert_false(record_valid(&bad.h.record, sizeof(bad)));                            \
	} while (0)
	BAD(h.len++);
	BAD(h.len--);
	BAD(h.record.size--);
	BAD(h.record.size = sizeof(good.h) - 1);
	BAD(h.pos = 1);
	BAD(h.skip = 1);
	BAD(h.dir = 2);
	BAD(h.comm[TS_COMM_LEN - 1] = 'x');
#undef BAD
}

static void sources_name_a_probe_that_there_is(void **state)
{
	struct rec_source body = {
		.record = {sizeof(body), TS_REC_SOURCE, 0}, .id = 1, .probe = TS_P_COUNT};

	(void)state;
	assert_false(record_valid(&body.record, sizeof(body)));
	/* Hellos are of no file. */
	while (body.probe-- > 0)
		assert_int_equal(record_valid(&body.record, sizeof(body)),
				 body.probe != TS_P_TLS_HELLO);
}

/* What a replay handed over. */
struct seen {
	size_t count, bytes, stop_after;
	int answer;
	uint64_t sum;
};

static int see(void *ctx, const struct ts_record *r)
{
	struct seen *seen = ctx;
	const struct ts_data *d = (const struct ts_data *)r;
	size_t i;

	assert_int_equal((uintptr_t)r % 8, 0);
	seen->count++;
	seen->bytes += r->size;
	for (i = 0; r->type == TS_REC_DATA && i < d->captured; i++)
		seen->sum = seen->sum * 31 + d->payload[i];
	return seen->answer;
}

static bool enough(void *ctx)
{
	const struct seen *seen = ctx;

	return seen->stop_after && seen->count >= seen->stop_after;
}

static int replay(struct seen *seen, struct ts_err *err)
{
	const struct record_sink sink = {see, seen};

	err->text[0] = 0;
	return record_replay(path, &sink, enough, seen, err);
}

/* Writes n records of odd sizes; returns what a replay should see. */
static struct seen write_records(size_t n)
{
	struct seen want = {0};
	struct record_writer *w;
	char payload[1500];
	struct ts_err err;
	size_t i;

	assert_int_equal(record_writer_open(&w, path, &err), 0);
	for (i = 0; i < n; i++) {
		memset(payload, 'a' + (int)(i % 26), sizeof(payload));
		payload[i * 7 % sizeof(payload)] = 0;
		see(&want, &make_data(payload)->d.record);
		assert_int_equal(record_write(w, &make_data(payload)->d.record, &err), 0);
	}
	assert_int_equal(record_writer_close(w, &err), 0);
	return want;
}

static void what_was_written_is_read(void **state)
{
	struct seen want = write_records(5000), got = {0};
	struct ts_err err;

	(void)state;
	assert_int_equal(replay(&got, &err), 0);
	assert_int_equal(got.count, 5000);
	assert_int_equal(got.bytes, want.bytes);
	assert_int_equal(got.sum, want.sum);
}

static void only_the_owner_can_read_it(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(chmod(path, 0644), 0);
	write_records(1);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(unlink(path), 0);
	write_records(1);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_flush_leaves_nothing_behind(void **state)
{
	struct seen got = {0};
	struct record_writer *w;
	struct ts_err err;

	(void)state;
	assert_int_equal(record_writer_open(&w, path, &err), 0);
	assert_int_equal(record_write(w, &make_data("one")->d.record, &err), 0);
	assert_int_equal(record_flush(w, &err), 0);
	assert_int_equal(replay(&got, &err), 0);
	assert_int_equal(got.count, 1);
	assert_int_equal(record_writer_close(w, &err), 0);
}

static void the_sink_and_the_user_can_end_it(void **state)
{
	struct seen got = {.stop_after = 3};
	struct ts_err err;

	(void)state;
	write_records(10);
	assert_int_equal(replay(&got, &err), 0);
	assert_int_equal(got.count, 3);
	got = (struct seen){.answer = -ECANCELED};
	assert_int_equal(replay(&got, &err), -ECANCELED);
	assert_int_equal(got.count, 1);
}

static void a_file_cut_anywhere_gives_all_before_the_cut(void **state)
{
	const off_t header = 16, record = sizeof(struct ts_data) + 6;
	struct record_writer *w;
	struct seen got;
	struct ts_err err;
	off_t size;
	int i;

	(void)state;
	assert_int_equal(record_writer_open(&w, path, &err), 0);
	for (i = 0; i < 3; i++)
		assert_int_equal(record_write(w, &make_data("sixsix")->d.record, &err), 0);
	assert_int_equal(record_writer_close(w, &err), 0);
	for (size = header + 3 * record; size >= 0; size--) {
		assert_int_equal(truncate(path, size), 0);
		got = (struct seen){0};
		if (size >= header && (size - header) % record == 0) {
			assert_int_equal(replay(&got, &err), 0);
			assert_string_equal(err.text, "");
		} else {
			assert_int_equal(replay(&got, &err), -EBADMSG);
			assert_non_null(strstr(err.text, path));
		}
		assert_int_equal(got.count, size < header ? 0 : (size - header) / record);
	}
	assert_non_null(strstr(err.text, "is empty"));
}

static void overwrite(off_t at, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, at), len);
	close(fd);
}

static void other_files_are_told_apart(void **state)
{
	const uint32_t version = RECORD_VERSION + 1, swapped = 0x04030201;
	struct seen got = {0};
	struct ts_err err;

	(void)state;
	write_records(1);
	overwrite(8, &version, 4);
	assert_int_equal(replay(&got, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "reads version 6"));
	overwrite(12, &swapped, 4);
	assert_int_equal(replay(&got, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "byte order"));
	overwrite(0, "#!/bin/sh\n", 10);
	assert_int_equal(replay(&got, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "not a recording"));
	assert_int_equal(got.count, 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(replay(&got, &err), -ENOENT);
	assert_non_null(strstr(err.text, path));
	write_records(0);
}

static void a_damaged_record_ends_the_replay(void **state)
{
	static const uint32_t sizes[] = {0, 7, 8, RECORD_MAX + 1, UINT32_MAX};
	struct seen got;
	struct ts_err err;
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(sizes); i++) {
		write_records(2);
		overwrite(16 + sizeof(struct ts_data), &sizes[i], 4); /* the second one's size */
		got = (struct seen){0};
		assert_int_equal(replay(&got, &err), -EBADMSG);
		assert_non_null(strstr(err.text, "damaged at byte"));
		assert_int_equal(got.count, 1);
	}
}

static void a_full_disk_is_told(void **state)
{
	struct record_writer *w;
	struct ts_err err = {""};
	int i, ret = 0;

	(void)state;
	assert_int_equal(record_writer_open(&w, "/dev/full", &err), 0);
	assert_int_equal(record_write(w, &make_data("x")->d.record, &err), 0);
	assert_int_equal(record_writer_close(w, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "/dev/full"));
	assert_int_equal(record_writer_open(&w, "/dev/full", &err), 0);
	for (i = 0; !ret && i < 100000; i++)
		ret = record_write(w, &make_data("x")->d.record, &err);
	assert_int_equal(ret, -ENOSPC);
	err.text[0] = 0;
	assert_int_equal(record_write(w, &make_data("x")->d.record, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "No space left"));
	assert_int_equal(record_writer_close(w, &err), -ENOSPC);
}

static void files_that_cannot_be_made_are_told(void **state)
{
	struct record_writer *w;
	struct ts_err err = {""};

	(void)state;
	assert_int_equal(record_writer_open(&w, "/nowhere/file", &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nowhere/file"));
	assert_int_equal(record_writer_open(&w, "/", &err), -EISDIR);
	assert_int_equal(record_writer_close(NULL, &err), 0);
}

/* Standard output of one process is standard input of the other. */
static void a_pipe_serves(void **state)
{
	const struct record_sink sink = {see, NULL};
	struct record_writer *w;
	int fds[2], status, i, in = dup(0), out = dup(1);
	struct record_sink counting = sink;
	struct seen got = {0};
	struct ts_err err;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (!pid) {
		dup2(fds[1], 1);
		close(fds[0]);
		close(fds[1]);
		if (record_writer_open(&w, "-", &err))
			_exit(1);
		for (i = 0; i < 3000; i++)
			if (record_write(w, &make_data("through a pipe")->d.record, &err))
				_exit(2);
		_exit(record_writer_close(w, &err) ? 3 : 0);
	}
	close(fds[1]);
	dup2(fds[0], 0);
	close(fds[0]);
	counting.ctx = &got;
	assert_int_equal(record_replay("-", &counting, NULL, NULL, &err), 0);
	assert_int_equal(got.count, 3000);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	dup2(in, 0);
	dup2(out, 1);
	close(in);
	close(out);
}

static void memory_may_end(void **state)
{
	struct record_writer *w;
	struct seen got = {0};
	struct ts_err err;

	(void)state;
	write_records(1);
	alloc_left = 1;
	assert_int_equal(replay(&got, &err), -ENOMEM);
	alloc_left = 1;
	assert_int_equal(record_writer_open(&w, path, &err), -ENOMEM);
	alloc_left = 2;
	assert_int_equal(record_writer_open(&w, path, &err), -ENOMEM);
}

#define WITH_FILE(f) cmocka_unit_test_setup_teardown(f, make_path, remove_path)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(built_records_have_their_strings),
		cmocka_unit_test(every_type_that_is_built_is_valid),
		cmocka_unit_test(strings_must_end),
		cmocka_unit_test(data_that_contradicts_itself_is_refused),
		cmocka_unit_test(data_of_every_kind_is_taken),
		cmocka_unit_test(hellos_that_contradict_themselves_are_refused),
		cmocka_unit_test(sources_name_a_probe_that_there_is),
		WITH_FILE(what_was_written_is_read),
		WITH_FILE(only_the_owner_can_read_it),
		WITH_FILE(a_flush_leaves_nothing_behind),
		WITH_FILE(the_sink_and_the_user_can_end_it),
		WITH_FILE(a_file_cut_anywhere_gives_all_before_the_cut),
		WITH_FILE(other_files_are_told_apart),
		WITH_FILE(a_damaged_record_ends_the_replay),
		cmocka_unit_test(a_full_disk_is_told),
		cmocka_unit_test(files_that_cannot_be_made_are_told),
		cmocka_unit_test(a_pipe_serves),
		WITH_FILE(memory_may_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
