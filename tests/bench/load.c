/* SPDX-License-Identifier: MIT */
/*
 * The load that `make bench` traces. Reads commands from stdin and answers each with a line:
 *
 *   spin MS                     calls of a function that a probe can be put on, with the descriptor
 * of a socket; ns each pair SIZE MS                TLS ping-pong in memory, four calls a round
 * trip; ns a call http MS                     a request and its response in memory; ns an exchange
 *   rate SIZE N THREADS MS      N calls a second; how many calls there were, and in how many ns
 *   slow GAP_US COUNT           COUNT writes, and reads, far apart
 *   tcp SIZE MS                 TLS ping-pong with another process; ns a round trip, how many, its
 * pid plain MS, connect MS, exec MS   without TLS: ping-pong, short connections, programs started;
 * ns each
 *
 * ns are of this thread's CPU time, and its children's, which other programs disturb least; but
 * `tcp` and `rate` tell what passed.
 *
 * usage: load CERT KEY
 */
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <signal.h>

#include "load.h"

/* `push` and a branch are among the instructions that kernels emulate. */
#if defined(__x86_64__)
#define EMULATED "push %rax\n\tpop %rcx\n\t"
#else
#define EMULATED "b 1f\n1:\t"
#endif
#define SITE(name)                                                                                 \
	__asm__(".text\n.globl " name "\n.type " name ", %function\n" name ":\n\t" EMULATED        \
		"ret\n.size " name ", . - " name "\n")
SITE("bench_enter");
SITE("bench_leave");

_Noreturn void load_die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static unsigned long spin(void *arg, uint64_t until)
{
	unsigned long i, done = 0;
	static int fd = -1;

	if (fd < 0)
		fd = plain_socket();
	while (load_now(CLOCK_MONOTONIC) < until) {
		for (i = 0; i < 1000; i++)
			bench_enter(arg, arg, fd);
		done += 1000;
	}
	return done;
}

static uint64_t children_ns(void)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000u +
	       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000u;
}

static void measure(load_fn *load, void *arg, unsigned long ms, int each)
{
	uint64_t cpu = load_now(CLOCK_THREAD_CPUTIME_ID) + children_ns();
	uint64_t end = load_now(CLOCK_MONOTONIC) + ms * 1000000;
	unsigned long n = load(arg, end) * (unsigned long)each;

	cpu = load_now(CLOCK_THREAD_CPUTIME_ID) + children_ns() - cpu;
	printf("%.1f %lu\n", (double)cpu / (double)n, n);
}

static void tcp(int size, unsigned long ms)
{
	static SSL *client;
	static int child;
	uint64_t begin;
	unsigned long n;

	if (!client)
		child = tls_connect(&client);
	begin = load_now(CLOCK_MONOTONIC);
	n = tls_echo(client, size, begin + ms * 1000000);
	printf("%.1f %lu %d\n", (double)(load_now(CLOCK_MONOTONIC) - begin) / (double)n, n, child);
}

static void rate(int size, unsigned long per_second, int threads, unsigned long ms)
{
	uint64_t begin = load_now(CLOCK_MONOTONIC);
	unsigned long n = tls_rate(size, per_second, threads, begin + ms * 1000000);

	printf("%lu %lu\n", n, (unsigned long)(load_now(CLOCK_MONOTONIC) - begin));
}

static void command(const char *line, struct pingpong *p)
{
	unsigned long a = 0, b = 0, c = 0, d = 0;
	char name[16];

	if (sscanf(line, "%15s %lu %lu %lu %lu", name, &a, &b, &c, &d) < 2)
		load_die("not a command");
	p->size = (int)a;
	if (!strcmp(name, "spin"))
		measure(spin, p, a, 1);
	else if (!strcmp(name, "pair"))
		measure(tls_pingpong, p, b, 4);
	else if (!strcmp(name, "http"))
		measure(tls_http, &p->pair, a, 1);
	else if (!strcmp(name, "rate"))
		rate((int)a, b, (int)c, d);
	else if (!strcmp(name, "slow"))
		tls_slow(a * 1000, b), puts("done");
	else if (!strcmp(name, "tcp"))
		tcp((int)a, b);
	else if (!strcmp(name, "plain"))
		measure(plain_pingpong, NULL, a, 1);
	else if (!strcmp(name, "connect"))
		measure(plain_connect, NULL, a, 1);
	else if (!strcmp(name, "exec"))
		measure(plain_exec, NULL, a, 1);
	else
		load_die("no such command");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct pingpong p;
	char line[128];

	if (argc != 3)
		return 2;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	tls_open(argv[1], argv[2]);
	p.pair = tls_pair();
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
		command(line, &p);
	return 0;
}
