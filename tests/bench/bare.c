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
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <linux/types.h>

#include "base.h"
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

static __s32 cast; /* the kernel's number of bpf_rdonly_cast (6.2); below 0: it has none */

/* As tlsscope (core/tracer_object.c), just before the load: what is called by a number of ours. */
static int name_cast(struct bpf_program *p, struct bpf_prog_load_opts *opts, long cookie)
{
	const size_t count = bpf_program__insn_cnt(p);
	struct bpf_insn *insns = malloc(count * sizeof(*insns));
	size_t i;

	(void)opts;
	(void)cookie;
	if (!insns)
		return -ENOMEM;
	memcpy(insns, bpf_program__insns(p), count * sizeof(*insns));
	for (i = 0; i < count; i++)
		if (cast > 0 && insns[i].code == (BPF_JMP | BPF_CALL) &&
		    insns[i].imm == TS_CALL_CAST) {
			insns[i].src_reg = BPF_PSEUDO_KFUNC_CALL;
			insns[i].imm = cast;
		}
	bpf_program__set_insns(p, insns, count);
	free(insns);
	return 0;
}

static void set_types(struct bpf_object *o)
{
	struct bpf_map *map = bpf_object__find_map_by_name(o, ".rodata.types");
	struct btf *kernel = btf__load_vmlinux_btf();
	struct ts_types types = {
		.cast = 1,
		.file = (__u32)btf__find_by_name_kind(kernel, "file", BTF_KIND_STRUCT),
		.task = (__u32)btf__find_by_name_kind(kernel, "task_struct", BTF_KIND_STRUCT),
		.word = (__u32)btf__find_by_name_kind(kernel, "timespec64", BTF_KIND_STRUCT),
	};

	cast = btf__find_by_name_kind(kernel, "bpf_rdonly_cast", BTF_KIND_FUNC);
	btf__free(kernel);
	if (cast > 0 && (!map || bpf_map__set_initial_value(map, &types, sizeof(types))))
		die("types");
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
	LIBBPF_OPTS(libbpf_prog_handler_opts, opts, .prog_prepare_load_fn = name_cast);
	struct ring_buffer *ring;
	struct bpf_object *o;

	if (argc != 8)
		return 2;
	signal(SIGTERM, end);
	signal(SIGINT, end);
	signal(SIGUSR1, ask);
	libbpf_register_prog_handler("uprobe", BPF_PROG_TYPE_KPROBE, 0, &opts);
	o = bpf_object__open_file(argv[1], NULL);
	if (!o)
		die(argv[1]);
	set_constants(o, (__u32)atoi(argv[6]));
	set_types(o);
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
