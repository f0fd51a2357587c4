/* SPDX-License-Identifier: MIT */
/*
 * Loads one of the bench's own programs (bare.bpf.c) onto a process: what a probe costs at the
 * least, and a consumer in C that does nothing but sum the bytes by comm. Prints "ready"; at
 * SIGTERM "EVENTS LOST".
 *
 * usage: bare OBJECT PROGRAM PID ENTER LEAVE SIZE RING
 * ENTER, LEAVE: the programs for bench_enter and bench_leave of PROGRAM, or "-"; SIZE: bytes to
 * capture; RING: of the ring buffer
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/types.h>

#include "arch.h"
#include "bare.h"

#define SLOTS 64

struct sum {
	char comm[16];
	__u64 bytes;
};

static volatile sig_atomic_t ended, asked;
static struct bare_control *control;
static struct sum sums[SLOTS];
static unsigned long taken;

static void end(int number)
{
	(void)number;
	ended = 1;
}

static void ask(int number)
{
	(void)number;
	asked = 1;
}

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int on_sample(void *ctx, void *data, size_t size)
{
	const struct bare_event *e = data;
	unsigned int i;

	(void)ctx;
	(void)size;
	for (i = 0; i < SLOTS; i++) {
		if (!sums[i].comm[0])
			memcpy(sums[i].comm, e->comm, sizeof(e->comm));
		if (!memcmp(sums[i].comm, e->comm, sizeof(e->comm)))
			break;
	}
	sums[i % SLOTS].bytes += e->len;
	taken++;
	return 0;
}

static void set_constants(struct bpf_object *o, __u32 room)
{
	const struct arch *arch = arch_host();
	struct bpf_map *map = bpf_object__find_map_by_name(o, ".rodata");
	unsigned int i;
	struct bare_constants values = {.room = room};

	if (!arch || !map || bpf_map__value_size(map) != sizeof(values))
		die("constants");
	for (i = 0; i < 3; i++)
		values.args[i] = arch->args[i];
	bpf_map__set_initial_value(map, &values, sizeof(values));
}

static void attach(struct bpf_object *o, const char *name, const char *at, char **argv)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .func_name = at);
	struct bpf_program *p = bpf_object__find_program_by_name(o, name);

	if (!strcmp(name, "-"))
		return;
	if (!p || !bpf_program__attach_uprobe_opts(p, atoi(argv[3]), argv[2], 0, &opts))
		die(name);
}

/* As tlsscope waits: a moment while events come, until woken when there were none for some rounds.
 */
static void consume(struct ring_buffer *ring)
{
	struct pollfd fd = {.fd = ring_buffer__epoll_fd(ring), .events = POLLIN};
	unsigned int idle = 0;

	while (!ended) {
		if (asked) {
			asked = 0;
			printf("seen %lu\n", taken);
			fflush(stdout);
		}
		idle = ring_buffer__consume(ring) > 0 ? 0 : idle + 1;
		if (idle <= 3) {
			poll(NULL, 0, 1);
			continue;
		}
		__atomic_store_n(&control->armed, 1, __ATOMIC_SEQ_CST);
		if (ring_buffer__consume(ring) <= 0)
			poll(&fd, 1, 100);
		__atomic_store_n(&control->armed, 0, __ATOMIC_SEQ_CST);
		idle = 0;
	}
	ring_buffer__consume(ring);
}

int main(int argc, char **argv)
{
	struct ring_buffer *ring;
	struct bpf_object *o;

	if (argc != 8)
		return 2;
	signal(SIGTERM, end);
	signal(SIGINT, end);
	signal(SIGUSR1, ask);
	o = bpf_object__open_file(argv[1], NULL);
	if (!o)
		die(argv[1]);
	set_constants(o, (__u32)atoi(argv[6]));
	bpf_map__set_max_entries(bpf_object__find_map_by_name(o, "ring"), (__u32)atoi(argv[7]));
	if (bpf_object__load(o))
		die("load");
	control = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED,
		       bpf_object__find_map_fd_by_name(o, "control"), 0);
	ring = ring_buffer__new(bpf_object__find_map_fd_by_name(o, "ring"), on_sample, NULL, NULL);
	if (control == MAP_FAILED || !ring)
		die("maps");
	attach(o, argv[4], "bench_enter", argv);
	attach(o, argv[5], "bench_leave", argv);
	puts("ready");
	fflush(stdout);
	consume(ring);
	printf("lost %llu\n", control->lost);
	return 0;
}
