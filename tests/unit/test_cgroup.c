/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "alloc.h"
#include "groups.h"

static const char hybrid[] =
	"24 18 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
	"30 24 0:26 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755\n"
	"31 30 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate\n"
	"32 30 0:28 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd\n"
	"35 30 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	"36 30 0:32 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 master:2 - cgroup cgroup "
	"rw,cpu,cpuacct\n"
	"37 30 0:33 /box /mnt/a\\040b rw - cgroup cgroup rw,pids\n"
	"not a mount\n"
	"1 2 3 4 5 6\n"
	"1 2 3 4 - cgroup2\n";

static const char processes[] = "12:cpu,cpuacct:/docker/abc\n"
				"4:memory:/docker/abc\n"
				"1:name=systemd:/docker/abc\n"
				"0::/system.slice/docker.service\n";

static struct cgroup_mounts mounts_of(const char *text)
{
	char *copy = strdup(text);
	struct cgroup_mounts m;

	assert_int_equal(cgroup_mounts_parse(&m, copy), 0);
	free(copy);
	return m;
}

static void values_name_cgroups(void **state)
{
	static const struct {
		const char *value, *controller, *path;
	} cases[] = {
		{"/sys/fs/cgroup/unified/a/b", "", "/a/b"},
		{"/sys/fs/cgroup/unified/a/b//", "", "/a/b"},
		{"/sys/fs/cgroup/unified", "", "/"},
		{"/sys/fs/cgroup/memory/docker/abc", "memory", "/docker/abc"},
		{"/sys/fs/cgroup/systemd/x", "name=systemd", "/x"},
		{"/sys/fs/cgroup/cpu,cpuacct/x", "cpu", "/x"},
		{"/mnt/a b/in", "pids", "/box/in"},
		{"0::/user.slice", "", "/user.slice"},
		{"12:cpu,cpuacct:/x", "cpu", "/x"},
		{"memory:/x", "memory", "/x"},
		{":/x", "", "/x"},
		{"/system.slice/nginx.service", "", "/system.slice/nginx.service"},
		{"/with:/colon", "", "/with:/colon"},
		{"nginx.service", NULL, NULL},
		{"12ab", NULL, NULL},
		{"a:b", NULL, NULL},
	};
	struct cgroup_mounts m = mounts_of(hybrid);
	struct cgroup c;
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		assert_int_equal(cgroup_parse(&m, cases[i].value, &c), cases[i].path ? 0 : -ENOENT);
		if (!cases[i].path)
			continue;
		assert_string_equal(c.controller, cases[i].controller);
		assert_string_equal(c.path, cases[i].path);
		free(c.path);
	}
	cgroup_mounts_free(&m);
	assert_int_equal(cgroup_parse(&m, "/sys/fs/cgroup/a", &c), 0);
	assert_string_equal(c.path, "/a");
	free(c.path);
	assert_int_equal(cgroup_parse(&m, "4711", &c), 0);
	assert_null(c.path);
	assert_int_equal(c.id, 4711);
}

static void ancestry_is_by_whole_names(void **state)
{
	struct cgroup outer = {.path = "/a/b"}, inner = {.path = "/a/b/c"};
	struct cgroup beside = {.path = "/a/bc"}, root = {.path = "/"};
	struct cgroup other = {.controller = "memory", .path = "/a/b/c"};
	struct cgroup number = {.id = 7}, same = {.id = 7};

	(void)state;
	assert_true(cgroup_within(&inner, &outer));
	assert_true(cgroup_within(&outer, &outer));
	assert_true(cgroup_within(&beside, &root));
	assert_false(cgroup_within(&outer, &inner));
	assert_false(cgroup_within(&beside, &outer));
	assert_false(cgroup_within(&other, &outer));
	assert_true(cgroup_within(&number, &same));
	assert_false(cgroup_within(&number, &root));
}

static void named(const char *value, const char *controller, const char *path)
{
	static const struct cgroup_mounts none;
	struct cgroup c;

	assert_int_equal(cgroup_named(&none, value, processes, &c), path ? 0 : -ENOENT);
	if (!path)
		return;
	assert_string_equal(c.controller, controller);
	assert_string_equal(c.path, path);
	free(c.path);
}

static void processes_are_in_cgroups(void **state)
{
	(void)state;
	named("/system.slice", "", "/system.slice");
	named("/system.slice/docker.service/x", "", NULL);
	named("/docker", "", NULL);
	named("memory:/docker", "memory", "/docker");
	named("cpuacct:/docker/abc", "cpuacct", "/docker/abc");
	named("freezer:/docker", "", NULL);
	named("docker.service", "", "/system.slice/docker.service");
	named("docker", "cpu", "/docker");
	named("abc", "cpu", "/docker/abc");
	named("ab", "", NULL);
	named("4711", "", NULL);
}

static void lines_are_untrusted(void **state)
{
	static const char *const bad[] = {"", "\n\n", ":", "::", "0:", "1:x", "0::", ":\n:\n::\n"};
	struct cgroup_line lines[CGROUP_LINES];
	static const struct cgroup_mounts none;
	char many[CGROUP_LINES * 8 + 64] = "";
	struct cgroup c;
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(bad); i++) {
		assert_true(cgroup_lines(bad[i], lines) <= 1);
		assert_int_equal(cgroup_named(&none, "x", bad[i], &c), -ENOENT);
	}
	for (i = 0; i < CGROUP_LINES + 4; i++)
		strcat(many, "1:a:/x\n");
	assert_int_equal(cgroup_lines(many, lines), CGROUP_LINES);
	assert_int_equal(cgroup_lines(processes, lines), 4);
	assert_int_equal(lines[0].controllers_len, 0);
	assert_memory_equal(lines[0].path, "/system.slice", 13);
}

static bool passes(const char *accept, const char *exclude, uint64_t id)
{
	struct groups_process p = {.text = processes, .id = id};
	struct ts_filter f = {0};
	struct ts_err err;
	bool yes;

	if (accept)
		assert_int_equal(ts_filter_add(&f, "cgroup", accept, false, &err), 0);
	if (exclude)
		assert_int_equal(ts_filter_add(&f, "cgroup", exclude, true, &err), 0);
	yes = groups_passes(&f, &p);
	ts_filter_free(&f);
	return yes;
}

static void a_replay_asks_the_text(void **state)
{
	(void)state;
	assert_true(passes(NULL, NULL, 0));
	assert_true(passes("/system.slice", NULL, 0));
	assert_true(passes("/sys/fs/cgroup/system.slice", NULL, 0));
	assert_false(passes("/system.slice", "memory:/docker/abc", 0));
	assert_true(passes("/system.slice", "memory:/docker/ab", 0));
	assert_false(passes("other.service", NULL, 5));
	assert_true(passes("5", NULL, 5));
	assert_false(passes("6", NULL, 5));
	assert_false(passes(NULL, "5", 5));
}

static void containers_are_named(void **state)
{
	struct container box = {.id = "3f4e1c0d9a21", .name = "web", .pod = "web-0"};
	struct groups_process p = {.text = "", .container = &box};
	struct ts_filter f = {0};
	struct ts_err err;

	(void)state;
	assert_int_equal(ts_filter_add(&f, "container", "other", false, &err), 0);
	assert_false(groups_passes(&f, &p));
	assert_int_equal(ts_filter_add(&f, "container", "3f4e", false, &err), 0);
	assert_true(groups_passes(&f, &p));
	assert_int_equal(ts_filter_add(&f, "container", "web-0", true, &err), 0);
	assert_false(groups_passes(&f, &p));
	p.container = NULL;
	assert_false(groups_passes(&f, &p));
	ts_filter_free(&f);
}

/* Whatever allocation fails, nothing is lost or freed twice. */
static void memory_may_be_short(void **state)
{
	struct cgroup_mounts m;
	struct cgroup c;
	char *copy;
	size_t n;

	(void)state;
	for (n = 1; n < 60; n++) {
		copy = strdup(hybrid);
		alloc_left = n;
		if (!cgroup_mounts_parse(&m, copy)) {
			if (!cgroup_named(&m, "abc", processes, &c))
				free(c.path);
			cgroup_mounts_free(&m);
		}
		alloc_left = 0;
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_name_cgroups),
		cmocka_unit_test(ancestry_is_by_whole_names),
		cmocka_unit_test(processes_are_in_cgroups),
		cmocka_unit_test(lines_are_untrusted),
		cmocka_unit_test(a_replay_asks_the_text),
		cmocka_unit_test(containers_are_named),
		cmocka_unit_test(memory_may_be_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
