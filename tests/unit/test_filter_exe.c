/* SPDX-License-Identifier: MIT */
/* Programs as values of a filter: what user space makes of a path, as bpf/exe.h walks it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "filter.h"

static void add(struct ts_filter *f, const char *value)
{
	struct ts_err err;
	bool exclude = *value == '!';

	assert_int_equal(ts_filter_add(f, "exe", value + exclude, exclude, &err), 0);
}

static bool passes(const struct ts_filter *f, const char *exe)
{
	return ts_filter_passes(f, 1, "comm", 0, exe);
}

static bool one_passes(const char *value, const char *exe)
{
	struct ts_filter f = {0};
	bool yes;

	add(&f, value);
	yes = passes(&f, exe);
	ts_filter_free(&f);
	return yes;
}

/* As the kernel has it: words that are read one by one, of names that end where they end. */
static uint64_t walk(const char *const *names, size_t count, uint64_t *last)
{
	uint64_t path = TS_EXE_SEED, hash, word;
	size_t len, at;

	while (count--) {
		hash = TS_EXE_SEED;
		len = strlen(names[count]);
		for (at = 0; at < len; at += 8) {
			word = 0;
			memcpy(&word, names[count] + at, len - at < 8 ? len - at : 8);
			hash = ts_exe_mix(hash, word);
		}
		if (path == TS_EXE_SEED)
			*last = hash;
		path = ts_exe_mix(path, hash);
	}
	return ts_exe_path(path);
}

static void paths_are_as_the_kernel_walks_them(void **state)
{
	static const char *const names[] = {"usr", "a name of more than 8 bytes", "12345678", "x"};
	const char *path = "/usr/a name of more than 8 bytes/12345678/x";
	struct ts_exe exe = ts_exe_of(path), name = ts_exe_of("x");
	uint64_t last = 0;

	(void)state;
	assert_int_equal(exe.path, walk(names, TS_ARRAY_SIZE(names), &last));
	assert_int_equal(exe.name, last);
	assert_int_equal(name.name, last);
	assert_int_equal(name.path, 0);
}

static void paths_differ(void **state)
{
	static const char *const paths[] = {
		"/a",	       "/b",	     "/a/a",	  "/a/b",      "/b/a",
		"/ab",	       "/a/b/c",     "/c/b/a",	  "/12345678", "/1234567/8",
		"/12345678/a", "/123456789", "/87654321", "/a/a/a",    "/b/b",
	};
	struct ts_exe a, b;
	size_t i, j;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(paths); i++)
		for (j = 0; j < TS_ARRAY_SIZE(paths); j++) {
			a = ts_exe_of(paths[i]);
			b = ts_exe_of(paths[j]);
			assert_int_equal(a.path == b.path, i == j);
			assert_int_equal(a.name == b.name,
					 !strcmp(strrchr(paths[i], '/'), strrchr(paths[j], '/')));
		}
}

static void programs_match_by_path_and_by_last_name(void **state)
{
	(void)state;
	assert_true(one_passes("/usr/bin/curl", "/usr/bin/curl"));
	assert_true(one_passes("/usr//bin/curl", "/usr/bin/curl"));
	assert_false(one_passes("/usr/bin/curl", "/usr/local/bin/curl"));
	assert_false(one_passes("/bin/curl", "/usr/bin/curl"));
	assert_false(one_passes("/curl", "/usr/bin/curl"));
	assert_true(one_passes("curl", "/usr/bin/curl"));
	assert_true(one_passes("curl", "/curl"));
	assert_false(one_passes("curl", "/usr/bin/curl2"));
	assert_false(one_passes("bin", "/usr/bin/curl"));
	assert_true(one_passes("curl", "/usr/bin/curl (deleted)"));
	assert_true(one_passes("/usr/bin/curl", "/usr/bin/curl (deleted)"));
	assert_true(one_passes("/usr/bin/curl (deleted)", "/usr/bin/curl"));
	assert_false(one_passes("!curl", "/usr/bin/curl (deleted)"));
	assert_true(one_passes("!/bin/curl", "/usr/bin/curl"));
	assert_true(one_passes("memfd:x", "/memfd:x (deleted)"));
}

static void what_is_not_known_is_neither_named_nor_excluded(void **state)
{
	struct ts_filter none = {0};

	(void)state;
	assert_true(passes(&none, ""));
	assert_false(one_passes("curl", ""));
	assert_false(one_passes("/usr/bin/curl", ""));
	assert_true(one_passes("!curl", ""));
}

/* Every pair of lists of two values: what passes the intersection is what passes both. */
static void intersection_passes_what_passes_both(void **state)
{
	static const char *const values[] = {"a",  "b",	 "/x/a",  "/y/a",  "/x/b",
					     "!a", "!b", "!/x/a", "!/y/a", NULL};
	static const char *const paths[] = {"/x/a", "/y/a", "/x/b", "/y/b", "/x/c"};
	const size_t n = TS_ARRAY_SIZE(values);
	struct ts_filter f[3] = {0};
	size_t lists, i;
	bool want;

	(void)state;
	for (lists = 0; lists < n * n * n * n; lists++) {
		const char *const said[] = {values[lists % n], values[lists / n % n],
					    values[lists / n / n % n], values[lists / n / n / n]};

		for (i = 0; i < 4; i++)
			if (said[i])
				add(&f[i / 2], said[i]);
		assert_int_equal(ts_filter_intersect(&f[2], &f[0]), 0);
		assert_int_equal(ts_filter_intersect(&f[2], &f[1]), 0);
		for (i = 0; i < TS_ARRAY_SIZE(paths); i++) {
			want = passes(&f[0], paths[i]) && passes(&f[1], paths[i]);
			if (passes(&f[2], paths[i]) != want)
				fail_msg("lists %zu, %s: wanted %d", lists, paths[i], want);
		}
		for (i = 0; i < 3; i++)
			ts_filter_free(&f[i]);
	}
}

static void values_are_kept_as_they_were_said(void **state)
{
	struct ts_filter f = {0}, g = {0};
	char text[TS_FILTER_TEXT], long_path[200];

	(void)state;
	memset(long_path, 'x', sizeof(long_path) - 1);
	long_path[0] = '/';
	long_path[sizeof(long_path) - 1] = 0;
	add(&f, long_path);
	add(&f, "curl");
	assert_int_equal(ts_filter_intersect(&g, &f), 0);
	ts_filter_free(&f);
	assert_string_equal(ts_filter_text(&g.keys[TS_KEY_EXE].items[0], text), long_path);
	assert_string_equal(ts_filter_text(&g.keys[TS_KEY_EXE].items[1], text), "curl");
	assert_string_equal(ts_filter_key(TS_KEY_EXE), "exe");
	ts_filter_free(&g);
}

static void refused(const char *value, const char *why)
{
	struct ts_filter f = {0};
	struct ts_err err = {""};

	assert_int_equal(ts_filter_add(&f, "exe", value, false, &err), -EINVAL);
	assert_non_null(strstr(err.text, why));
	assert_non_null(strstr(err.text, "exe"));
	assert_int_equal(f.keys[TS_KEY_EXE].count, 0);
	ts_filter_free(&f);
}

static void values_are_checked(void **state)
{
	char name[TS_EXE_NAME + 3] = "/", path[2 * TS_EXE_NAMES + 3] = "";
	struct ts_exe exe;
	struct ts_err err;
	size_t i;

	(void)state;
	refused("", "empty");
	refused("bin/curl", "/usr/bin/curl");
	refused("./curl", "from the root");
	refused("/usr/bin/", "from the root");
	refused("/", "from the root");
	refused("/usr/./curl", ". and ..");
	refused("..", ". and ..");
	memset(name + 1, 'x', TS_EXE_NAME);
	assert_int_equal(ts_exe_parse(name, &exe, &err), 0);
	name[TS_EXE_NAME + 1] = 'x';
	refused(name, "too long");
	refused(name + 1, "too long");
	for (i = 0; i < TS_EXE_NAMES; i++)
		memcpy(path + 2 * i, "/x", sizeof("/x"));
	assert_int_equal(ts_exe_parse(path, &exe, &err), 0);
	memcpy(path + 2 * i, "/x", sizeof("/x"));
	refused(path, "too long");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_are_as_the_kernel_walks_them),
		cmocka_unit_test(paths_differ),
		cmocka_unit_test(programs_match_by_path_and_by_last_name),
		cmocka_unit_test(what_is_not_known_is_neither_named_nor_excluded),
		cmocka_unit_test(intersection_passes_what_passes_both),
		cmocka_unit_test(values_are_kept_as_they_were_said),
		cmocka_unit_test(values_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
