/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "proc.h"

#define NO_PID 0x7ffffffe

/* What a walk over mappings met. */
struct seen {
	const char *want; /* part of a path */
	struct proc_map found;
	char path[4096];
	size_t all, hits;
	int stop; /* returned at a hit */
};

static int see(void *ctx, const struct proc_map *map)
{
	struct seen *s = ctx;

	s->all++;
	assert_true(map->start < map->end);
	assert_true(map->inode != 0);
	assert_int_equal(map->path[0], '/');
	assert_null(strchr(map->path, '\n'));
	if (!strstr(map->path, s->want))
		return 0;
	s->hits++;
	s->found = *map;
	snprintf(s->path, sizeof(s->path), "%s", map->path);
	s->found.path = s->path;
	return s->stop;
}

static void self_exe(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - 1);

	assert_true(n > 0);
	path[n] = 0;
}

/* Whether files of mappings can be opened themselves, which needs a capability. */
static bool have_map_files(const struct proc_map *map)
{
	char name[128], to[4096];

	snprintf(name, sizeof(name), "/proc/self/map_files/%lx-%lx", (unsigned long)map->start,
		 (unsigned long)map->end);
	return readlink(name, to, sizeof(to)) > 0 && access(name, R_OK) == 0;
}

static void test_own_maps(void **state)
{
	char exe[4096];
	struct seen s = {.want = exe};
	struct stat st, own;
	int fd;

	(void)state;
	self_exe(exe, sizeof(exe));
	assert_int_equal(proc_maps((uint32_t)getpid(), see, &s), 0);
	assert_int_equal(s.hits, 1);
	assert_true(s.all > 1); /* libc is there too */
	fd = proc_open_map((uint32_t)getpid(), &s.found);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(stat("/proc/self/exe", &own), 0);
	assert_int_equal(st.st_ino, own.st_ino);
	assert_int_equal(st.st_dev, own.st_dev);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	s.stop = 42;
	assert_int_equal(proc_maps((uint32_t)getpid(), see, &s), 42);
}

/* Without map_files (the range is no mapping), only the path can lead there, and may mislead. */
static void test_by_path(void **state)
{
	char exe[4096];
	struct seen s = {.want = exe};
	int fd;

	(void)state;
	self_exe(exe, sizeof(exe));
	proc_maps((uint32_t)getpid(), see, &s);
	s.found.start = 0x1000;
	s.found.end = 0x2000;
	fd = proc_open_map((uint32_t)getpid(), &s.found);
	assert_true(fd >= 0);
	close(fd);
	s.found.inode++;
	assert_int_equal(proc_open_map((uint32_t)getpid(), &s.found), -ESTALE);
	s.found.path = "/nothing/is (deleted)";
	assert_int_equal(proc_open_map((uint32_t)getpid(), &s.found), -ENOENT);
	s.found.path = "/dev/null";
	assert_int_equal(proc_open_map((uint32_t)getpid(), &s.found), -ENODEV);
	s.found.path = "/";
	assert_int_equal(proc_open_map((uint32_t)getpid(), &s.found), -ENODEV);
}

/* Files and folders as a process sees them; no link leads out of its root. */
static void test_open_path(void **state)
{
	char dir[] = "/tmp/test_procXXXXXX", path[64];
	struct stat own, seen;
	uint64_t dev, inode;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/link", dir);
	assert_int_equal(symlink("/../../../etc/passwd", path), 0);
	fd = proc_open_path(0, path);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &seen), 0);
	assert_int_equal(stat("/etc/passwd", &own), 0);
	assert_int_equal(own.st_ino, seen.st_ino);
	close(fd);
	unlink(path);
	fd = proc_open_path((uint32_t)getpid(), dir);
	assert_true(fd >= 0);
	close(fd);
	rmdir(dir);
	assert_int_equal(proc_open_path(0, dir), -ENOENT);
	assert_int_equal(proc_open_path(0, "/dev/null"), -ENODEV);
	assert_int_equal(proc_root((uint32_t)getpid(), &dev, &inode), 0);
	assert_int_equal(stat("/", &own), 0);
	assert_true(dev == own.st_dev && inode == own.st_ino);
}

/* A pipe in the file's place must not hold us up. */
static void test_pipe(void **state)
{
	char dir[] = "/tmp/test_procXXXXXX", path[64];
	struct proc_map map = {.start = 1, .end = 2, .inode = 1, .path = path};

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/pipe", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	alarm(5);
	assert_int_equal(proc_open_map((uint32_t)getpid(), &map), -ENODEV);
	alarm(0);
	unlink(path);
	rmdir(dir);
}

/* A name with everything in it, of a file that has no path: twice mapped, seen once. */
static void test_odd_name(void **state)
{
	struct seen s = {.want = "odd name"};
	int fd = memfd_create("odd name\n1-2 r-xp 0 0:0 7 /x (deleted)", MFD_CLOEXEC), got;
	void *one, *two, *data;
	struct stat st, st2;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 8192), 0);
	one = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	two = mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	data = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_true(one != MAP_FAILED && two != MAP_FAILED && data != MAP_FAILED);
	assert_int_equal(proc_maps((uint32_t)getpid(), see, &s), 0);
	assert_int_equal(s.hits, 1);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(s.found.inode, st.st_ino);
	assert_string_equal(s.path, "/memfd:odd name\\0121-2 r-xp 0 0:0 7 /x (deleted) (deleted)");
	got = proc_open_map((uint32_t)getpid(), &s.found);
	if (have_map_files(&s.found)) {
		assert_true(got >= 0);
		assert_int_equal(fstat(got, &st2), 0);
		assert_int_equal(st2.st_ino, st.st_ino);
		close(got);
	} else {
		assert_true(got < 0);
	}
	munmap(one, 4096);
	munmap(two, 8192);
	munmap(data, 4096);
	close(fd);
}

static void test_info(void **state)
{
	struct proc_info *p = malloc(sizeof(*p));
	char exe[4096], old[16];

	(void)state;
	assert_non_null(p);
	self_exe(exe, sizeof(exe));
	prctl(PR_GET_NAME, old);
	prctl(PR_SET_NAME, "a) R 1 (b\n)");
	assert_int_equal(proc_read((uint32_t)getpid(), p), 0);
	prctl(PR_SET_NAME, old);
	assert_int_equal(p->pid, getpid());
	assert_int_equal(p->ppid, getppid());
	assert_int_equal(p->uid, getuid());
	assert_true(p->start_ticks > 0);
	assert_string_equal(p->comm, "a) R 1 (b\n)");
	assert_string_equal(p->exe, exe);
	assert_non_null(strstr(p->cmdline, program_invocation_short_name));
	assert_int_not_equal(p->cmdline[strlen(p->cmdline) - 1], ' ');
	assert_int_equal(proc_read(NO_PID, p), -ESRCH);
	free(p);
}

static void test_arguments(void **state)
{
	struct proc_info *p = malloc(sizeof(*p));
	pid_t pid = fork();
	int tries;

	(void)state;
	assert_non_null(p);
	if (!pid) {
		execlp("sleep", "sleep", "30.0", "0.0", (char *)NULL);
		_exit(1);
	}
	for (tries = 0; tries < 200; tries++) {
		assert_int_equal(proc_read((uint32_t)pid, p), 0);
		/* It may execute between two of the files that are read, too. */
		if (!strcmp(p->cmdline, "sleep 30.0 0.0") && !strcmp(p->comm, "sleep"))
			break;
		usleep(10000);
	}
	assert_string_equal(p->cmdline, "sleep 30.0 0.0");
	assert_string_equal(p->comm, "sleep");
	assert_int_equal(p->ppid, getpid());
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	free(p);
}

static int nothing(void *ctx, const struct proc_map *map)
{
	(void)map;
	++*(int *)ctx;
	return 0;
}

static void test_gone(void **state)
{
	int maps = 0, tries;
	pid_t pid = fork();
	siginfo_t info;

	(void)state;
	if (!pid)
		_exit(0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	for (tries = 0; proc_exists((uint32_t)pid) && tries < 100; tries++)
		usleep(10000);
	assert_false(proc_exists((uint32_t)pid)); /* a zombie */
	assert_true(proc_maps((uint32_t)pid, nothing, &maps) <= 0);
	assert_int_equal(maps, 0);
	waitpid(pid, NULL, 0);
	assert_false(proc_exists(NO_PID));
	assert_true(proc_exists((uint32_t)getpid()));
	assert_int_equal(proc_maps(NO_PID, nothing, &maps), -ESRCH);
}

static int count_self(void *ctx, uint32_t pid)
{
	*(int *)ctx += pid == (uint32_t)getpid();
	return 0;
}

static int stop_at_once(void *ctx, uint32_t pid)
{
	(void)pid;
	++*(int *)ctx;
	return -7;
}

static void test_each(void **state)
{
	int n = 0;
	char to[64] = "";

	(void)state;
	assert_int_equal(proc_each(count_self, &n), 0);
	assert_int_equal(n, 1);
	n = 0;
	assert_int_equal(proc_each(stop_at_once, &n), -7);
	assert_int_equal(n, 1);
	assert_true(readlink("/proc/self/ns/pid", to, sizeof(to) - 1) > 0);
	assert_int_equal(proc_pidns_is_init(), !strcmp(to, "pid:[4026531836]"));
}

/* Files that are mapped to be executed, by their names: each once. */
static void tls_libraries(void **state)
{
	static const char *const names[] = {"libgnutls.so.99 x", "libssl.so.3", "libssl.txt"};
	char folder[] = "/tmp/tlsscope-proc-XXXXXX", path[64], text[64], small[16];
	void *maps[TS_ARRAY_SIZE(names)];
	size_t i;
	int fd;

	(void)state;
	proc_tls((uint32_t)getpid(), text, sizeof(text));
	assert_string_equal(text, "");
	assert_non_null(mkdtemp(folder));
	for (i = 0; i < TS_ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		fd = open(path, O_RDWR | O_CREAT, 0700);
		assert_int_equal(ftruncate(fd, 4096), 0);
		maps[i] = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
		close(fd);
		unlink(path);
	}
	rmdir(folder);
	proc_tls((uint32_t)getpid(), text, sizeof(text));
	proc_tls((uint32_t)getpid(), small, sizeof(small));
	for (i = 0; i < TS_ARRAY_SIZE(names); i++)
		munmap(maps[i], 4096);
	assert_non_null(strstr(text, "libgnutls.so.99"));
	assert_non_null(strstr(text, "libssl.so.3"));
	assert_int_equal(strlen(text), strlen("libgnutls.so.99 libssl.so.3"));
	assert_true(!strcmp(small, "libssl.so.3") || !strcmp(small, ""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_maps),  cmocka_unit_test(test_by_path),
		cmocka_unit_test(test_open_path), cmocka_unit_test(test_pipe),
		cmocka_unit_test(test_odd_name),  cmocka_unit_test(test_info),
		cmocka_unit_test(test_arguments), cmocka_unit_test(test_gone),
		cmocka_unit_test(test_each),	  cmocka_unit_test(tls_libraries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
