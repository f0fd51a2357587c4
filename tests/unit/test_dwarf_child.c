/* SPDX-License-Identifier: MIT */
/* The child that reads debugging information can do no harm, and its end does none. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <cmocka.h>

#include "alloc.h"
#include "open_dwarf.h"

/*
 * libdwarf makes a table of the abbreviations for each unit: with many of both, gigabytes from a
 * file of 60 KiB.
 */
static void test_memory_is_bounded(void **state)
{
	struct dwarf_bytes *info = &parts.part[PART_INFO], *ab = &parts.part[PART_ABBREV];
	uint64_t before = ts_now(), i;
	struct rusage use;
	struct opened o;
	size_t unit;

	(void)state;
	memset(&parts, 0, sizeof(parts));
	parts.version = 4;
	for (i = 1; ab->len < sizeof(ab->data) - 16; i++) {
		dwarf_leb(ab, i);
		dwarf_add(ab, "\x11\0\0\0", 4);
	}
	dwarf_number(ab, 0, 1);
	while (info->len < sizeof(info->data) - 32) {
		unit = info->len;
		dwarf_number(info, 0, 4);
		dwarf_number(info, 4, 2);
		dwarf_number(info, 0, 4);
		dwarf_number(info, 8, 1);
		dwarf_leb(info, i - 1);
		dwarf_unit_end(&parts, unit);
	}
	open_parts(&o, PACK_NONE);
	assert_int_equal(o.ret, 0);
	check_member(&o, "runtime", "runtime.g", "goid", -EBADMSG);
	shut(&o);
	assert_int_equal(getrusage(RUSAGE_CHILDREN, &use), 0);
	assert_true(use.ru_maxrss < 160 << 10);
	assert_true(ts_now() - before < 15000000000u);
}

static pid_t parent_of(pid_t pid)
{
	char path[64], line[256];
	pid_t parent = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "PPid:", 5))
			parent = (pid_t)strtol(line + 5, NULL, 10);
	if (f)
		fclose(f);
	return parent;
}

static pid_t find_child(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *e;
	pid_t found = 0;

	assert_non_null(dir);
	while ((e = readdir(dir)))
		if (isdigit((unsigned char)e->d_name[0]) &&
		    parent_of((pid_t)strtol(e->d_name, NULL, 10)) == getpid())
			found = (pid_t)strtol(e->d_name, NULL, 10);
	closedir(dir);
	assert_true(found > 0);
	return found;
}

static void has_line(pid_t pid, const char *name, const char *wanted)
{
	char path[64], line[256];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		found |= !strncmp(line, wanted, strlen(wanted));
	fclose(f);
	if (!found)
		print_error("%s has no line '%s'\n", path, wanted);
	assert_true(found);
}

static size_t count_files(pid_t pid)
{
	size_t count = 0;
	struct dirent *e;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	assert_non_null(dir);
	while ((e = readdir(dir)))
		count += isdigit((unsigned char)e->d_name[0]) != 0;
	closedir(dir);
	return count;
}

static void test_the_child_may_nothing(void **state)
{
	int other = fcntl(0, F_DUPFD, 300);
	struct opened o;
	pid_t pid;

	(void)state;
	/* Else the kernel takes the capabilities when the user changes. */
	prctl(PR_SET_KEEPCAPS, 1);
	dwarf_program(&parts, 4);
	open_parts(&o, PACK_NONE);
	prctl(PR_SET_KEEPCAPS, 0);
	close(other);
	pid = find_child();
	assert_int_equal(count_files(pid), 2);
	has_line(pid, "status", "CapPrm:\t0000000000000000");
	has_line(pid, "status", "CapEff:\t0000000000000000");
	has_line(pid, "status", "CapInh:\t0000000000000000");
	has_line(pid, "status", "NoNewPrivs:\t1");
	if (!geteuid())
		has_line(pid, "status", "Uid:\t65534\t65534\t65534\t65534");
	has_line(pid, "limits", "Max open files            0                    0 ");
	has_line(pid, "limits", "Max processes             0                    0 ");
	has_line(pid, "limits", "Max cpu time              5                    5 ");
	check_program(&o);
	shut(&o);
}

static void test_the_child_dies(void **state)
{
	struct opened o;

	(void)state;
	dwarf_program(&parts, 4);
	open_parts(&o, PACK_NONE);
	check_program(&o);
	kill(find_child(), SIGKILL);
	check_member(&o, "runtime", "runtime.g", "goid", -EBADMSG);
	check_member(&o, "runtime", "runtime.g", "goid", -EBADMSG);
	shut(&o);
}

static void on_alarm(int number)
{
	(void)number;
}

/* Signals reach this process all the time; and the child when it is Ctrl-C. */
static void test_signals_do_not_matter(void **state)
{
	const struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
	struct sigaction action = {.sa_handler = on_alarm}, was;
	struct opened o;
	int i;

	(void)state;
	dwarf_program(&parts, 4);
	sigaction(SIGALRM, &action, &was);
	setitimer(ITIMER_REAL, &often, NULL);
	open_parts(&o, PACK_NONE);
	for (i = 0; i < 100; i++)
		check_member(&o, "runtime", "runtime.g", "goid", 152);
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &was, NULL);
	kill(find_child(), SIGINT);
	check_program(&o);
	shut(&o);
}

static void test_no_memory(void **state)
{
	struct opened o = {.ret = -ENOMEM};
	size_t n;

	(void)state;
	dwarf_program(&parts, 4);
	o.fd = make_file(file, dwarf_file(&parts, PACK_NONE, file));
	assert_int_equal(image_open(&o.im, o.fd, "the file", NULL), 0);
	for (n = 1; o.ret; n++) {
		alloc_left = n;
		o.ret = dwarf_open(&o.d, o.im, &o.err);
		alloc_left = 0;
		assert_true(!o.ret || o.ret == -ENOMEM);
	}
	assert_true(n > 3);
	check_program(&o);
	shut(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_is_bounded),
		cmocka_unit_test(test_the_child_may_nothing),
		cmocka_unit_test(test_the_child_dies),
		cmocka_unit_test(test_signals_do_not_matter),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
