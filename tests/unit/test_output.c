/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "output.h"

#define TO_FILE(p) (&(struct output_file_options){.path = (p)})
#define STDOUT (&(struct output_file_options){.fd = STDOUT_FILENO})

static void assert_escaped_n(const char *in, size_t len, bool keep_lines, const char *want)
{
	struct ts_buf b = {0};

	assert_int_equal(output_escape(&b, in, len, keep_lines), 0);
	assert_int_equal(ts_buf_add(&b, "", 1), 0);
	assert_string_equal((char *)b.data, want);
	ts_buf_free(&b);
}

static void assert_escaped(const char *in, const char *want)
{
	assert_escaped_n(in, strlen(in), false, want);
}

static void escape_plain(void **state)
{
	(void)state;
	assert_escaped("", "");
	assert_escaped("GET / HTTP/1.1\r\nHost: a\tb\r\n", "GET / HTTP/1.1\\r\\nHost: a\\tb\\r\\n");
	assert_escaped("a\\n", "a\\\\n");
	assert_escaped("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
		       "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
	assert_escaped_n("a\0b", 3, false, "a\\x00b");
	assert_escaped_n("one\r\n\rtwo\\\x1b", 11, true, "one\n\\rtwo\\\\x1b");
}

static void escape_what_acts_on_a_terminal(void **state)
{
	(void)state;
	assert_escaped("\x1b[2J\x07\x7f", "\\x1b[2J\\x07\\x7f");
	assert_escaped("\xc2\x80\xc2\x9b\xc2\x9f\xc2\xa0",
		       "\\xc2\\x80\\xc2\\x9b\\xc2\\x9f\xc2\xa0");
	assert_escaped("\xe2\x80\xa7\xe2\x80\xa8\xe2\x80\xaa\xe2\x80\xae\xe2\x80\xaf",
		       "\xe2\x80\xa7\\xe2\\x80\\xa8\\xe2\\x80\\xaa\\xe2\\x80\\xae\xe2\x80\xaf");
	assert_escaped("\xe2\x81\xa5\xe2\x81\xa6\xe2\x81\xa9\xe2\x81\xaa",
		       "\xe2\x81\xa5\\xe2\\x81\\xa6\\xe2\\x81\\xa9\xe2\x81\xaa");
	/* A bare C1 byte is no UTF-8. */
	assert_escaped("\x9b[2J", "\\x9b[2J");
}

static void escape_broken_utf8(void **state)
{
	(void)state;
	assert_escaped("\xc3", "\\xc3");
	assert_escaped("\xe2\x82x", "\\xe2\\x82x");
	assert_escaped("\xed\xa0\x80", "\\xed\\xa0\\x80");
	assert_escaped("\xc0\xaf", "\\xc0\\xaf");
	assert_escaped("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80");
	/* The length ends a character that the bytes behind it would complete. */
	assert_escaped_n("\xe2\x82\xac", 2, false, "\\xe2\\x82");
}

/* Every sequence of up to four bytes from the edges of RFC 3629's table, against its grammar. */
static bool model_utf8(const unsigned char *s, size_t n)
{
	uint32_t c, least;
	size_t more;

	while (n) {
		if (*s < 0x80) {
			s++;
			n--;
			continue;
		}
		more = *s >= 0xf8 ? 9 : *s >= 0xf0 ? 3 : *s >= 0xe0 ? 2 : *s >= 0xc0 ? 1 : 9;
		if (more >= n)
			return false;
		c = *s & (0x3fu >> more);
		least = more == 1 ? 0x80 : more == 2 ? 0x800 : 0x10000;
		for (s++, n--; more; more--, s++, n--) {
			if ((*s & 0xc0) != 0x80)
				return false;
			c = c << 6 | (*s & 0x3f);
		}
		if (c < least || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
			return false;
	}
	return true;
}

static void utf8_exact(void **state)
{
	static const unsigned char edges[] = {
		0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf,
		0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
	};
	enum { N = sizeof(edges) };
	size_t i, len;

	(void)state;
	for (i = 0; i < (size_t)N * N * N * N; i++) {
		const unsigned char s[] = {edges[i % N], edges[i / N % N], edges[i / N / N % N],
					   edges[i / N / N / N]};

		for (len = 0; len <= sizeof(s); len++)
			if (output_is_utf8(s, len) != model_utf8(s, len))
				fail_msg("%02x %02x %02x %02x of %zu bytes", s[0], s[1], s[2], s[3],
					 len);
	}
}

static void assert_json(const char *in, size_t len, const char *want)
{
	struct ts_buf b = {0};

	assert_int_equal(output_json_string(&b, in, len), 0);
	assert_true(output_is_utf8(b.data, b.len));
	assert_int_equal(ts_buf_add(&b, "", 1), 0);
	assert_string_equal((char *)b.data, want);
	ts_buf_free(&b);
}

static void json_string(void **state)
{
	(void)state;
	assert_json("", 0, "\"\"");
	assert_json("a\"b\\c/\n\r\t\b\f", 11, "\"a\\\"b\\\\c/\\n\\r\\t\\b\\f\"");
	assert_json("\0\x1f\x7f", 3, "\"\\u0000\\u001f\\u007f\"");
	assert_json("\xc2\x9b\xe2\x80\xae\xc3\xa9", 7, "\"\\u009b\\u202e\xc3\xa9\"");
	/* One replacement for each longest start of a character, as Unicode recommends. */
	assert_json("a\xf0\x9f\x98z\xff\xc0\xaf", 8, "\"a\\ufffdz\\ufffd\\ufffd\\ufffd\"");
}

static char *temp_path(char *dir, char *path, size_t size, const char *name)
{
	strcpy(dir, "/tmp/tlsscope-test-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, size, "%s/%s", dir, name);
	return path;
}

static size_t read_file(const char *path, char *data, size_t size)
{
	int fd = open(path, O_RDONLY);
	size_t n = 0;
	ssize_t r;

	assert_true(fd >= 0);
	while ((r = read(fd, data + n, size - n)) > 0)
		n += (size_t)r;
	assert_int_equal(close(fd), 0);
	return n;
}

static void file_is_replaced_and_private(void **state)
{
	static char big[200000], back[300000];
	char dir[64], path[128];
	struct output *o;
	struct stat st;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7 >> 3);
	temp_path(dir, path, sizeof(path), "out");
	assert_int_equal(output_open(&o, TO_FILE(path), OUTPUT_JSON, NULL), 0);
	assert_int_equal(output_format(o), OUTPUT_JSON);
	assert_false(output_is_terminal(o));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	output_write(o, "head", 4);
	assert_int_equal(read_file(path, back, sizeof(back)), 0);
	output_flush(o);
	assert_int_equal(read_file(path, back, sizeof(back)), 4);
	for (i = 0; i < 1000; i++)
		output_write(o, big + i * 100, 100);
	output_write(o, big + 100000, 100000);
	assert_int_equal(output_close(o, NULL), 0);
	assert_int_equal(read_file(path, back, sizeof(back)), 200004);
	assert_memory_equal(back, "head", 4);
	assert_memory_equal(back + 4, big, sizeof(big));

	assert_int_equal(output_open(&o, TO_FILE(path), OUTPUT_TEXT, NULL), 0);
	assert_int_equal(output_close(o, NULL), 0);
	assert_int_equal(read_file(path, back, sizeof(back)), 0);
	unlink(path);
	rmdir(dir);
}

/* Lines are whole whatever is written at once; a line that is too long has a file of its own. */
static void rotation(void **state)
{
	static char back[5000], line[301] = {[300] = '\n'};
	struct output_file_options where = {.rotate = 100, .keep = 2};
	char dir[64], path[128], older[140];
	struct ts_err err = {""};
	struct output *o;
	struct stat st;
	size_t i;

	(void)state;
	temp_path(dir, path, sizeof(path), "out");
	where.path = path;
	memset(line, 'x', 300);
	assert_int_equal(output_open(&o, &where, OUTPUT_TEXT, NULL), 0);
	for (i = 0; i < 9; i++)
		output_write(o, "0123456789\n", 11); /* 99: one more is too much */
	output_write(o, "be", 2);
	output_write(o, "gin", 3);
	output_flush(o);
	assert_int_equal(read_file(path, back, sizeof(back)), 5);
	output_write(o, line, sizeof(line)); /* the rest of that line */
	snprintf(older, sizeof(older), "%s.1", path);
	assert_int_equal(read_file(older, back, sizeof(back)), 99);
	output_write(o, "a\nb\n", 4);
	output_flush(o);
	assert_int_equal(read_file(older, back, sizeof(back)), 306);
	assert_int_equal(read_file(path, back, sizeof(back)), 4);
	output_write(o, line, sizeof(line));
	for (i = 0; i < 30; i++)
		memcpy(back + 10 * i, "abcdefghi\n", 10);
	output_write(o, back, 300);
	assert_int_equal(output_close(o, NULL), 0);
	assert_int_equal(read_file(path, back, sizeof(back)), 100);
	assert_int_equal(read_file(older, back, sizeof(back)), 100);
	assert_int_equal(stat(older, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	unlink(older);
	snprintf(older, sizeof(older), "%s.2", path);
	assert_int_equal(unlink(older), 0);
	snprintf(older, sizeof(older), "%s.3", path);
	assert_int_equal(unlink(older), -1);

	/* Where the file cannot be renamed, that is told; what was written stays. */
	snprintf(older, sizeof(older), "%s.1", path);
	assert_int_equal(mkdir(older, 0700), 0);
	where.keep = 1;
	assert_int_equal(output_open(&o, &where, OUTPUT_TEXT, NULL), 0);
	for (i = 0; i < 20; i++)
		output_write(o, "0123456789\n", 11);
	assert_int_equal(output_close(o, &err), -EISDIR);
	assert_non_null(strstr(err.text, "rotating"));
	assert_int_equal(read_file(path, back, sizeof(back)), 99);
	rmdir(older);
	unlink(path);
	assert_int_equal(rmdir(dir), 0);

	where.path = "/dev/null";
	assert_int_equal(output_open(&o, &where, OUTPUT_TEXT, &err), -EINVAL);
	assert_non_null(strstr(err.text, "no regular file"));
}

static void full_disk_is_told_once(void **state)
{
	struct ts_err err = {""};
	struct output *o;

	(void)state;
	assert_int_equal(output_open(&o, TO_FILE("/dev/full"), OUTPUT_TEXT, &err), 0);
	output_write(o, "x", 1);
	assert_int_equal(output_failed(o), 0);
	output_flush(o);
	assert_int_equal(output_failed(o), ENOSPC);
	output_write(o, "more", 4);
	output_flush(o);
	assert_int_equal(output_close(o, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "/dev/full"));
	assert_non_null(strstr(err.text, "No space left"));

	/* What was only buffered is told at the close. */
	assert_int_equal(output_open(&o, TO_FILE("/dev/full"), OUTPUT_TEXT, &err), 0);
	output_write(o, "x", 1);
	assert_int_equal(output_close(o, &err), -ENOSPC);
	assert_int_equal(output_close(NULL, NULL), 0);
}

static void cannot_open(void **state)
{
	struct ts_err err = {""};
	struct output *o = (struct output *)&err;

	(void)state;
	assert_int_equal(output_open(&o, TO_FILE("/nonexistent/file"), OUTPUT_TEXT, &err), -ENOENT);
	assert_null(o);
	assert_non_null(strstr(err.text, "/nonexistent/file"));
	assert_int_equal(output_open(&o, TO_FILE("/tmp"), OUTPUT_TEXT, &err), -EISDIR);
}

static void links(void **state)
{
	char dir[64], path[128], link[160], target[160], back[8];
	struct ts_err err = {""};
	struct output *o;

	(void)state;
	temp_path(dir, path, sizeof(path), "out");
	snprintf(link, sizeof(link), "%s/link", dir);
	assert_int_equal(symlink(path, link), 0);
	assert_int_equal(output_open(&o, TO_FILE(link), OUTPUT_TEXT, &err), 0);
	output_write(o, "via", 3);
	assert_int_equal(output_close(o, &err), 0);
	assert_int_equal(read_file(path, back, sizeof(back)), 3);
	if (geteuid() == 0) {
		snprintf(target, sizeof(target), "%s/precious", dir);
		assert_int_equal(unlink(link), 0);
		assert_int_equal(symlink(target, link), 0);
		assert_int_equal(lchown(link, 65534, 65534), 0);
		assert_int_equal(output_open(&o, TO_FILE(link), OUTPUT_TEXT, &err), -EPERM);
		assert_int_equal(access(target, F_OK), -1);
	}
	unlink(link);
	unlink(path);
	rmdir(dir);
}

static void *slow_reader(void *arg)
{
	static char data[1 << 20];
	int fd = *(int *)arg;
	size_t *n = malloc(sizeof(*n));
	ssize_t r;

	*n = 0;
	usleep(50000);
	while ((r = read(fd, data, sizeof(data))) > 0)
		*n += (size_t)r;
	return n;
}

/* A pipe that someone else made non-blocking is waited for; one without a reader is a failure. */
static void pipes(void **state)
{
	static char big[1 << 20];
	int fds[2], saved = dup(STDOUT_FILENO);
	struct ts_err err = {""};
	struct output *o;
	pthread_t thread;
	void *got;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	fcntl(fds[0], F_SETFL, 0);
	fflush(stdout);
	dup2(fds[1], STDOUT_FILENO);
	assert_int_equal(output_open(&o, STDOUT, OUTPUT_TEXT, &err), 0);
	pthread_create(&thread, NULL, slow_reader, &fds[0]);
	output_write(o, big, sizeof(big));
	assert_int_equal(output_close(o, &err), 0);
	dup2(saved, STDOUT_FILENO);
	close(fds[1]);
	pthread_join(thread, &got);
	assert_int_equal(*(size_t *)got, sizeof(big));
	free(got);
	close(fds[0]);

	assert_int_equal(pipe(fds), 0);
	close(fds[0]);
	dup2(fds[1], STDOUT_FILENO);
	assert_int_equal(output_open(&o, STDOUT, OUTPUT_TEXT, &err), 0);
	output_write(o, "x", 1);
	output_flush(o);
	dup2(saved, STDOUT_FILENO);
	assert_int_equal(output_failed(o), EPIPE);
	assert_int_equal(output_close(o, &err), -EPIPE);
	assert_non_null(strstr(err.text, "standard output"));
	close(fds[1]);

	close(STDOUT_FILENO);
	assert_int_equal(output_open(&o, STDOUT, OUTPUT_TEXT, &err), -EBADF);
	dup2(saved, STDOUT_FILENO);
	close(saved);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(escape_plain),
		cmocka_unit_test(escape_what_acts_on_a_terminal),
		cmocka_unit_test(escape_broken_utf8),
		cmocka_unit_test(utf8_exact),
		cmocka_unit_test(json_string),
		cmocka_unit_test(file_is_replaced_and_private),
		cmocka_unit_test(rotation),
		cmocka_unit_test(full_disk_is_told_once),
		cmocka_unit_test(cannot_open),
		cmocka_unit_test(links),
		cmocka_unit_test(pipes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
