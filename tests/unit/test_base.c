/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "alloc.h"
#include "base.h"

static void fail_sets_the_sentence(void **state)
{
	struct ts_err err;

	(void)state;
	assert_int_equal(ts_fail(&err, ENOENT, "no %s in %d", "file", 7), -ENOENT);
	assert_string_equal(err.text, "no file in 7");
	assert_int_equal(ts_fail(NULL, EPERM, "nobody asks"), -EPERM);
}

static void fail_cuts_a_long_sentence(void **state)
{
	struct ts_err err;
	char name[2000];

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	ts_fail(&err, EINVAL, "%s", name);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void clean_disarms_terminals(void **state)
{
	char out[128];

	(void)state;
	assert_string_equal(ts_clean(out, sizeof(out), "plain text"), "plain text");
	assert_string_equal(ts_clean(out, sizeof(out), "a\nb\tc\rd"), "a\\nb\\tc\\rd");
	assert_string_equal(ts_clean(out, sizeof(out), "\033[2J\x7f\x01"), "\\x1b[2J\\x7f\\x01");
	assert_string_equal(
		ts_clean(out, sizeof(out), "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x94\x92"),
		"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x94\x92");
}

static void clean_shows_bad_utf8_as_bytes(void **state)
{
	char out[128];

	(void)state;
	assert_string_equal(ts_clean(out, sizeof(out), "\xff"), "\\xff");
	assert_string_equal(ts_clean(out, sizeof(out), "\xc3"), "\\xc3");
	assert_string_equal(ts_clean(out, sizeof(out), "\xc0\xaf"), "\\xc0\\xaf");
	assert_string_equal(ts_clean(out, sizeof(out), "\xed\xa0\x80"), "\\xed\\xa0\\x80");
	assert_string_equal(ts_clean(out, sizeof(out), "\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
	assert_string_equal(ts_clean(out, sizeof(out), "\xe2\x82x"), "\\xe2\\x82x");
	assert_string_equal(ts_clean(out, sizeof(out), "a\xe2\x80\xae"), "a\\xe2\\x80\\xae");
	/* U+009B, which starts a control sequence as ESC [ does. */
	assert_string_equal(ts_clean(out, sizeof(out), "\xc2\x9b"), "\\xc2\\x9b");
}

static void clean_never_writes_past_its_end(void **state)
{
	char out[16];
	size_t size;

	(void)state;
	for (size = 1; size < sizeof(out); size++) {
		memset(out, '#', sizeof(out));
		ts_clean(out, size, "\x01\x02\xe2\x82\xac\n\x03\x04\x05");
		assert_non_null(memchr(out, 0, size));
		assert_int_equal(out[size], '#');
	}
}

static void buf_grows_and_keeps(void **state)
{
	struct ts_buf b = {0};
	char chunk[1000];
	size_t i;

	(void)state;
	memset(chunk, 'c', sizeof(chunk));
	assert_int_equal(ts_buf_add(&b, NULL, 0), 0);
	for (i = 0; i < 100; i++)
		assert_int_equal(ts_buf_add(&b, chunk, sizeof(chunk)), 0);
	assert_int_equal(ts_buf_printf(&b, "%s=%d", "n", 42), 0);
	assert_int_equal(b.len, 100004);
	assert_memory_equal(b.data + 99999, "cn=42", 5);
	ts_buf_free(&b);
	assert_null(b.data);
	assert_int_equal(b.len + b.cap, 0);
}

static void buf_is_unchanged_when_memory_ends(void **state)
{
	struct ts_buf b = {0};
	char big[200] = "";

	(void)state;
	assert_int_equal(ts_buf_add(&b, "kept", 4), 0);
	alloc_left = 1;
	assert_int_equal(ts_buf_add(&b, big, sizeof(big)), -ENOMEM);
	alloc_left = 1;
	assert_int_equal(ts_buf_printf(&b, "%200d", 1), -ENOMEM);
	assert_int_equal(ts_buf_add(&b, big, SIZE_MAX - 2), -ENOMEM);
	assert_int_equal(b.len, 4);
	assert_memory_equal(b.data, "kept", 4);
	ts_buf_free(&b);
}

/* Against an array that is searched from end to end. */
static void map_does_what_an_array_does(void **state)
{
	static char values[4096];
	static bool there[4096];
	struct ts_map m = {0};
	size_t count = 0, i, round;
	uint64_t random = 1;
	void *before;

	(void)state;
	assert_null(ts_map_get(&m, 1, 2));
	assert_null(ts_map_remove(&m, 1, 2));
	for (round = 0; round < 100000; round++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		i = (random >> 33) % 4096;
		before = there[i] ? &values[i] : NULL;
		/* Keys as they come: a small number and an aligned address. */
		assert_ptr_equal(ts_map_get(&m, i % 16, i / 16 * 64), before);
		if (random >> 63) {
			assert_int_equal(ts_map_set(&m, i % 16, i / 16 * 64, &values[i]), 0);
			count += !there[i];
			there[i] = true;
		} else {
			assert_ptr_equal(ts_map_remove(&m, i % 16, i / 16 * 64), before);
			count -= there[i];
			there[i] = false;
		}
		assert_int_equal(m.count, count);
	}
	ts_map_free(&m);
	assert_int_equal(m.cap, 0);
}

static void map_tells_its_two_keys_apart(void **state)
{
	struct ts_map m = {0};
	int x, y;

	(void)state;
	assert_int_equal(ts_map_set(&m, 1, 2, &x), 0);
	assert_int_equal(ts_map_set(&m, 2, 1, &y), 0);
	assert_ptr_equal(ts_map_get(&m, 1, 2), &x);
	assert_ptr_equal(ts_map_get(&m, 2, 1), &y);
	assert_int_equal(ts_map_set(&m, 1, 2, &y), 0);
	assert_ptr_equal(ts_map_get(&m, 1, 2), &y);
	assert_int_equal(m.count, 2);
	ts_map_free(&m);
}

static void map_is_whole_when_memory_ends(void **state)
{
	struct ts_map m = {0};
	uint64_t i, n;
	int x;

	(void)state;
	alloc_left = 1;
	assert_int_equal(ts_map_set(&m, 0, 0, &x), -ENOMEM);
	for (n = 0; n < 12; n++)
		assert_int_equal(ts_map_set(&m, n, n, &x), 0);
	alloc_left = 1;
	assert_int_equal(ts_map_set(&m, n, n, &x), -ENOMEM);
	alloc_left = 0;
	for (i = 0; i < n; i++)
		assert_ptr_equal(ts_map_get(&m, i, i), &x);
	assert_null(ts_map_get(&m, n, n));
	ts_map_free(&m);
}

static void nearest_finds_typing_errors(void **state)
{
	static const char *const names[] = {"ssl_read", "ssl_write", "tls_data", "stop"};
	const size_t n = TS_ARRAY_SIZE(names);
	char longest[300];

	(void)state;
	assert_string_equal(ts_nearest("ssl_raed", names, n), "ssl_read");
	assert_string_equal(ts_nearest("ssl_writ", names, n), "ssl_write");
	assert_string_equal(ts_nearest("tlsdata", names, n), "tls_data");
	assert_string_equal(ts_nearest("stpo", names, n), "stop");
	assert_null(ts_nearest("gnutls_handshake", names, n));
	assert_null(ts_nearest("ssl_read", names, 0));
	memset(longest, 's', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	assert_null(ts_nearest(longest, names, n));
	longest[100] = 0;
	assert_null(ts_nearest("ssl_read", (const char *const[]){longest}, 1));
}

static void copy_says_when_it_cuts(void **state)
{
	char out[5];

	(void)state;
	assert_true(ts_copy(out, sizeof(out), "four"));
	assert_string_equal(out, "four");
	assert_false(ts_copy(out, sizeof(out), "fives"));
	assert_string_equal(out, "five");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fail_sets_the_sentence),
		cmocka_unit_test(fail_cuts_a_long_sentence),
		cmocka_unit_test(clean_disarms_terminals),
		cmocka_unit_test(clean_shows_bad_utf8_as_bytes),
		cmocka_unit_test(clean_never_writes_past_its_end),
		cmocka_unit_test(buf_grows_and_keeps),
		cmocka_unit_test(buf_is_unchanged_when_memory_ends),
		cmocka_unit_test(map_does_what_an_array_does),
		cmocka_unit_test(map_tells_its_two_keys_apart),
		cmocka_unit_test(map_is_whole_when_memory_ends),
		cmocka_unit_test(nearest_finds_typing_errors),
		cmocka_unit_test(copy_says_when_it_cuts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
