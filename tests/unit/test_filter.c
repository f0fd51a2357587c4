/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "alloc.h"
#include "filter.h"

static void add(struct ts_filter *f, const char *key, const char *value)
{
	struct ts_err err;

	if (*value == '!')
		assert_int_equal(ts_filter_add(f, key, value + 1, true, &err), 0);
	else
		assert_int_equal(ts_filter_add(f, key, value, false, &err), 0);
}

/* What BPF does with a key's list, by the same rules. */
static bool passes(const struct ts_filter_list *list, const char *text, uint64_t number)
{
	bool wants = list->nothing, accepted = false, same;
	size_t i;

	for (i = 0; i < list->count; i++) {
		same = list->items[i].number == number && !strcmp(list->items[i].text, text);
		if (list->items[i].exclude && same)
			return false;
		wants |= !list->items[i].exclude;
		accepted |= !list->items[i].exclude && same;
	}
	return !wants || (accepted && !list->nothing);
}

static void values_are_checked(void **state)
{
	static const char *const bad[][2] = {
		{"pid", ""},
		{"pid", "0"},
		{"pid", "-1"},
		{"pid", "12x"},
		{"pid", " 12"},
		{"pid", "1e3"},
		{"pid", "99999999999"},
		{"pid", "2147483648"},
		{"uid", "4294967295"},
		{"uid", "no such user"},
		{"uid", ""},
		{"comm", ""},
		{"lib", ""},
		{"cgroup", ""},
		{"container", ""},
		{"colour", "red"},
	};
	struct ts_filter f = {0};
	struct ts_err err;
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(bad); i++) {
		err.text[0] = 0;
		assert_int_equal(ts_filter_add(&f, bad[i][0], bad[i][1], false, &err), -EINVAL);
		assert_non_null(strstr(err.text, bad[i][0]));
		if (*bad[i][1] && strcmp(bad[i][0], "colour") != 0)
			assert_non_null(strstr(err.text, bad[i][1]));
	}
	for (i = 0; i < TS_KEY_COUNT; i++)
		assert_int_equal(f.keys[i].count, 0);
	for (i = 0; i < TS_NAMES_COUNT; i++)
		assert_int_equal(f.names[i].count, 0);
	ts_filter_free(&f);
}

static void values_are_kept(void **state)
{
	struct ts_filter f = {0};

	(void)state;
	add(&f, "pid", "2147483647");
	add(&f, "comm", "a name with spaces that is long");
	add(&f, "uid", "0");
	add(&f, "uid", "root");
	assert_int_equal(f.keys[TS_KEY_PID].items[0].number, 2147483647);
	assert_string_equal(f.keys[TS_KEY_COMM].items[0].text, "a name with spa");
	assert_int_equal(f.keys[TS_KEY_UID].count, 2);
	assert_int_equal(f.keys[TS_KEY_UID].items[1].number, 0);
	ts_filter_free(&f);
	assert_int_equal(f.keys[TS_KEY_PID].count, 0);
}

static void a_list_means_or(void **state)
{
	struct ts_filter f = {0};

	(void)state;
	assert_true(passes(&f.keys[TS_KEY_COMM], "anyone", 0));
	add(&f, "comm", "curl");
	add(&f, "comm", "nginx");
	assert_true(passes(&f.keys[TS_KEY_COMM], "curl", 0));
	assert_true(passes(&f.keys[TS_KEY_COMM], "nginx", 0));
	assert_false(passes(&f.keys[TS_KEY_COMM], "wget", 0));
	ts_filter_free(&f);
}

/*
 * Every pair of lists over three names: what passes the intersection is exactly what passes both.
 * A list is a bit set of what it accepts and what it excludes.
 */
static void intersection_passes_what_passes_both(void **state)
{
	static const char *const names[] = {"a", "b", "c"};
	struct ts_filter f[3] = {0};
	unsigned int lists, i, n;
	bool want;

	(void)state;
	for (lists = 0; lists < 1u << 12; lists++) {
		for (i = 0; i < 12; i++) {
			if (!(lists & (1u << i)))
				continue;
			assert_int_equal(
				ts_filter_add(&f[i / 6], "comm", names[i % 3], i / 3 % 2, NULL), 0);
		}
		assert_int_equal(ts_filter_intersect(&f[2], &f[0]), 0);
		assert_int_equal(ts_filter_intersect(&f[2], &f[1]), 0);
		for (n = 0; n < 3; n++) {
			want = passes(&f[0].keys[TS_KEY_COMM], names[n], 0) &&
			       passes(&f[1].keys[TS_KEY_COMM], names[n], 0);
			if (passes(&f[2].keys[TS_KEY_COMM], names[n], 0) != want)
				fail_msg("lists %03x, name %s: wanted %d", lists, names[n], want);
		}
		for (i = 0; i < 3; i++)
			ts_filter_free(&f[i]);
	}
}

static void nothing_in_common_stays_nothing(void **state)
{
	struct ts_filter a = {0}, b = {0}, c = {0};

	(void)state;
	add(&a, "pid", "1");
	add(&b, "pid", "2");
	assert_int_equal(ts_filter_intersect(&a, &b), 0);
	assert_true(a.keys[TS_KEY_PID].nothing);
	/* Nor does a later filter revive it, from either side. */
	assert_int_equal(ts_filter_intersect(&a, &b), 0);
	assert_true(a.keys[TS_KEY_PID].nothing);
	assert_int_equal(ts_filter_intersect(&c, &a), 0);
	assert_true(c.keys[TS_KEY_PID].nothing);
	assert_false(c.keys[TS_KEY_COMM].nothing);
	ts_filter_free(&a);
	ts_filter_free(&b);
	ts_filter_free(&c);
}

static void children_are_followed_through_an_intersection(void **state)
{
	struct ts_filter a = {0}, b = {0};

	(void)state;
	add(&a, "pid", "7");
	assert_int_equal(ts_filter_follow(&b, 7), 0);
	assert_int_equal(ts_filter_intersect(&a, &b), 0);
	assert_int_equal(a.keys[TS_KEY_PID].count, 1);
	assert_int_equal(a.keys[TS_KEY_PID].items[0].number, 7);
	assert_true(a.keys[TS_KEY_PID].items[0].follow);
	ts_filter_free(&a);
	ts_filter_free(&b);
}

static bool lib_passes(const char *value, const char *path)
{
	struct ts_filter f = {0};
	bool yes;

	add(&f, "lib", value);
	yes = ts_filter_lib_passes(&f, path);
	ts_filter_free(&f);
	return yes;
}

static void libraries_match_by_name_glob_and_path(void **state)
{
	(void)state;
	assert_true(lib_passes("libssl", "/usr/lib/libssl.so.3"));
	assert_true(lib_passes("libssl.so", "/usr/lib/libssl.so.3"));
	assert_true(lib_passes("libssl", "/usr/lib/libssl-0a1b.so"));
	assert_false(lib_passes("libssl", "/usr/lib/libssl3.so"));
	assert_false(lib_passes("libssl", "/libssl/other.so"));
	assert_false(lib_passes("ssl", "/usr/lib/libssl.so.3"));
	assert_true(lib_passes("*ssl*", "/usr/lib/libssl.so.3"));
	assert_false(lib_passes("lib?", "/usr/lib/libssl.so.3"));
	assert_true(lib_passes("/usr/bin/node", "/usr/bin/node"));
	assert_false(lib_passes("/usr/bin/node", "/usr/bin/node-18"));
	assert_true(lib_passes("/opt/*/libssl.so.3", "/opt/app/libssl.so.3"));
	assert_true(lib_passes("node", "node"));
	assert_true(lib_passes("!libssl", "/usr/bin/node"));
	assert_false(lib_passes("!libssl", "/usr/lib/libssl.so.3"));
}

static void libraries_intersect(void **state)
{
	struct ts_filter a = {0}, b = {0};

	(void)state;
	add(&a, "lib", "libssl");
	add(&a, "lib", "node");
	add(&b, "lib", "*.so.3");
	add(&b, "lib", "!/opt/*");
	assert_int_equal(ts_filter_intersect(&a, &b), 0);
	assert_true(ts_filter_lib_passes(&a, "/usr/lib/libssl.so.3"));
	assert_false(ts_filter_lib_passes(&a, "/usr/lib/libssl.so.1.1"));
	assert_false(ts_filter_lib_passes(&a, "/usr/bin/node"));
	assert_false(ts_filter_lib_passes(&a, "/usr/lib/libgnutls.so.3"));
	assert_false(ts_filter_lib_passes(&a, "/opt/libssl.so.3"));
	ts_filter_free(&a);
	ts_filter_free(&b);
}

/* A filter that memory ran out for is still whole, and is freed without a leak. */
static void every_allocation_may_fail(void **state)
{
	struct ts_filter a, b;
	size_t at;
	int ret = -ENOMEM;

	(void)state;
	for (at = 1; ret; at++) {
		a = (struct ts_filter){0};
		b = (struct ts_filter){0};
		add(&b, "comm", "x");
		add(&b, "lib", "libssl");
		alloc_left = at;
		ret = ts_filter_add(&a, "lib", "node", false, NULL);
		ret = ret ? ret : ts_filter_add(&a, "pid", "1", false, NULL);
		ret = ret ? ret : ts_filter_follow(&a, 2);
		ret = ret ? ret : ts_filter_intersect(&a, &b);
		assert_true(ret == 0 || ret == -ENOMEM);
		alloc_left = 0;
		ts_filter_free(&a);
		ts_filter_free(&b);
	}
	assert_true(at > 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_checked),
		cmocka_unit_test(values_are_kept),
		cmocka_unit_test(a_list_means_or),
		cmocka_unit_test(intersection_passes_what_passes_both),
		cmocka_unit_test(nothing_in_common_stays_nothing),
		cmocka_unit_test(children_are_followed_through_an_intersection),
		cmocka_unit_test(libraries_match_by_name_glob_and_path),
		cmocka_unit_test(libraries_intersect),
		cmocka_unit_test(every_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
