/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
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
		{"rport", "0"},
		{"lport", "65536"},
		{"rport", "http"},
		{"lport", "-1"},
		{"raddr", "localhost"},
		{"laddr", "1.2.3"},
		{"raddr", "1.2.3.4/33"},
		{"raddr", "1.2.3.4/"},
		{"raddr", "1.2.3.4/-1"},
		{"laddr", "::1/129"},
		{"laddr", "::1/1 "},
		{"laddr", "/8"},
		{"raddr", "1111:2222:3333:4444:5555:6666:123.123.123.1234444/8"},
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

static void networks_are_kept(void **state)
{
	static const char *const nets[][2] = {
		{"192.0.2.1", "192.0.2.1"},
		{"192.0.2.1/32", "192.0.2.1"},
		{"10.255.255.255/8", "10.0.0.0/8"},
		{"172.31.0.1/12", "172.16.0.0/12"},
		{"1.2.3.4/0", "0.0.0.0/0"},
		{"::ffff:10.1.2.3", "10.1.2.3"},
		{"::ffff:10.1.2.3/104", "10.0.0.0/8"},
		{"2001:DB8:0:0::1", "2001:db8::1"},
		{"2001:db8:ffff::/33", "2001:db8:8000::/33"},
		{"::/0", "::/0"},
		{"::ffff:0:0/95", "::fffe:0:0/95"},
	};
	char text[TS_FILTER_TEXT];
	struct ts_filter f = {0};
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(nets); i++) {
		add(&f, "raddr", nets[i][0]);
		assert_string_equal(ts_filter_text(&f.keys[TS_KEY_RADDR].items[i], text),
				    nets[i][1]);
	}
	add(&f, "comm", "curl");
	add(&f, "lport", "8443");
	assert_string_equal(ts_filter_text(f.keys[TS_KEY_COMM].items, text), "curl");
	assert_string_equal(ts_filter_text(f.keys[TS_KEY_LPORT].items, text), "8443");
	assert_string_equal(ts_filter_key(TS_KEY_RADDR), "raddr");
	assert_null(ts_filter_key(TS_KEY_CGROUP));
	ts_filter_free(&f);
}

/* A connection from 127.0.0.1:40000 to 10.1.2.3:443, or the same over IPv6 sockets. */
static struct ts_conn_info ends(bool mapped)
{
	static const unsigned char addresses[2][4] = {{127, 0, 0, 1}, {10, 1, 2, 3}};
	struct ts_conn_info info = {.lport = 40000, .rport = 443, .family = AF_INET};

	if (mapped) {
		info.family = AF_INET6;
		memset(info.laddr + 10, 0xff, 2);
		memset(info.raddr + 10, 0xff, 2);
	}
	memcpy(info.laddr + (mapped ? 12 : 0), addresses[0], 4);
	memcpy(info.raddr + (mapped ? 12 : 0), addresses[1], 4);
	return info;
}

/* A word for each value: KEY=VALUE, or KEY!VALUE to exclude it. */
static struct ts_filter filter_of(const char *words)
{
	char text[256], *word, *rest = text, *sign;
	struct ts_filter f = {0};
	bool exclude;

	ts_copy(text, sizeof(text), words);
	while ((word = strsep(&rest, " "))) {
		if (!*word)
			continue;
		sign = word + strcspn(word, "=!");
		exclude = *sign == '!';
		*sign = 0;
		assert_int_equal(ts_filter_add(&f, word, sign + 1, exclude, NULL), 0);
	}
	return f;
}

static void ends_pass(void **state)
{
	static const struct {
		const char *words;
		bool known, unknown;
	} cases[] = {
		{"", true, true},
		{"rport=443", true, false},
		{"rport=444 rport=443", true, false},
		{"lport=443", false, false},
		{"rport=40000", false, false},
		{"lport=40000 rport=443 laddr=127.0.0.1 raddr=10.1.2.3", true, false},
		{"lport=40000 rport=444", false, false},
		{"rport!443", false, true},
		{"rport!444", true, true},
		{"rport=443 rport!443", false, false},
		{"raddr=10.0.0.0/8", true, false},
		{"raddr=10.1.2.0/24 raddr=::1", true, false},
		{"raddr=::ffff:10.1.0.0/112", true, false},
		{"raddr=::/0", true, false},
		{"raddr=10.1.2.2/31", true, false},
		{"raddr=10.1.2.4/31", false, false},
		{"laddr!127.0.0.0/8", false, true},
		{"raddr=10.0.0.0/8 raddr!10.1.0.0/16", false, false},
		{"raddr=10.1.0.0/16 raddr!10.2.0.0/16", true, false},
		{"laddr=::1", false, false},
	};
	struct ts_conn_info four = ends(false), six = ends(true);
	struct ts_conn_info none = {0}, local = {.family = AF_UNIX};
	struct ts_filter f;
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		f = filter_of(cases[i].words);
		assert_int_equal(ts_filter_names_ends(&f), i > 0);
		if (ts_filter_ends_pass(&f, &four) != cases[i].known ||
		    ts_filter_ends_pass(&f, &six) != cases[i].known ||
		    ts_filter_ends_pass(&f, &none) != cases[i].unknown ||
		    ts_filter_ends_pass(&f, &local) != cases[i].unknown)
			fail_msg("wrong with '%s'", cases[i].words);
		ts_filter_free(&f);
	}
}

/* What two filters let pass together is what each lets pass. */
static void networks_intersect(void **state)
{
	static const char *const words[] = {
		"",
		"raddr=10.0.0.0/8",
		"raddr=10.1.0.0/16 raddr=192.0.2.0/24",
		"raddr=10.1.2.3",
		"raddr=10.2.0.0/16",
		"raddr=::/0",
		"raddr=10.0.0.0/8 raddr!10.1.2.0/24",
		"raddr!10.1.2.3",
		"raddr=10.1.2.3 raddr=10.1.2.0/23 raddr=::1",
	};
	struct ts_conn_info info = ends(false);
	struct ts_filter a, b;
	size_t i;
	bool want;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(words) * TS_ARRAY_SIZE(words) * 2; i++) {
		a = filter_of(words[i / 2 / TS_ARRAY_SIZE(words)]);
		b = filter_of(words[i / 2 % TS_ARRAY_SIZE(words)]);
		info.raddr[2] = i % 2 ? 2 : 77;
		want = ts_filter_ends_pass(&a, &info) && ts_filter_ends_pass(&b, &info);
		assert_int_equal(ts_filter_intersect(&a, &b), 0);
		if (ts_filter_ends_pass(&a, &info) != want)
			fail_msg("wrong: pair %zu", i);
		ts_filter_free(&a);
		ts_filter_free(&b);
	}
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

static bool counts(void *ctx, const char *value)
{
	++*(unsigned int *)ctx;
	return !strcmp(value, "b");
}

static void names_are_matched_once(void **state)
{
	struct ts_filter a = {0}, b = {0}, c = {0};
	unsigned int count = 0;

	(void)state;
	add(&a, "lib", "a");
	add(&a, "lib", "b");
	add(&a, "lib", "c");
	add(&b, "lib", "!x");
	add(&c, "lib", "a");
	add(&c, "lib", "c");
	assert_int_equal(ts_filter_intersect(&a, &b), 0);
	assert_true(ts_filter_names_pass(&a.names[TS_NAMES_LIB], counts, &count));
	assert_int_equal(count, 3); /* not c: b was found */
	assert_int_equal(ts_filter_intersect(&a, &c), 0);
	assert_false(ts_filter_names_pass(&a.names[TS_NAMES_LIB], counts, &count));
	assert_int_equal(count, 8);
	ts_filter_free(&a);
	ts_filter_free(&b);
	ts_filter_free(&c);
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
		add(&b, "raddr", "10.1.0.0/16");
		add(&b, "exe", "/bin/curl");
		add(&b, "exe", "!nginx");
		alloc_left = at;
		ret = ts_filter_add(&a, "lib", "node", false, NULL);
		ret = ret ? ret : ts_filter_add(&a, "raddr", "10.0.0.0/8", false, NULL);
		ret = ret ? ret : ts_filter_add(&a, "pid", "1", false, NULL);
		ret = ret ? ret : ts_filter_add(&a, "exe", "wget", false, NULL);
		ret = ret ? ret : ts_filter_add(&a, "exe", "curl", false, NULL);
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
		cmocka_unit_test(networks_are_kept),
		cmocka_unit_test(ends_pass),
		cmocka_unit_test(networks_intersect),
		cmocka_unit_test(a_list_means_or),
		cmocka_unit_test(intersection_passes_what_passes_both),
		cmocka_unit_test(nothing_in_common_stays_nothing),
		cmocka_unit_test(children_are_followed_through_an_intersection),
		cmocka_unit_test(libraries_match_by_name_glob_and_path),
		cmocka_unit_test(libraries_intersect),
		cmocka_unit_test(names_are_matched_once),
		cmocka_unit_test(every_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
