/* SPDX-License-Identifier: MIT */
/* Hellos: bpf/hello.bpf.c is there while a subscription wants them. */
#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hello.h"
#include "tracer_private.h"

#define PAGES_LEAST 16 /* of a processor's buffer: a piece needs less */
#define LINKS 4	       /* programs in hello.bpf.c, at most */

struct tracer_hello {
	struct tracer *tracer;
	struct bpf_object *object;
	struct bpf_link *links[LINKS];
	struct perf_buffer *buffer;
	struct hello_finder *finder;
	int looks;
	struct ts_hello *piece; /* aligned, as what is in the buffer is not */
};

static int on_found(void *ctx, const struct ts_record *r)
{
	struct tracer_hello *h = ctx;

	return record_send(&h->tracer->sink, r);
}

static void on_done(void *ctx, uint64_t sock, uint32_t start, uint8_t dir)
{
	/* struct look_key of bpf/hello.bpf.c */
	struct {
		__u64 sock;
		__u32 start, dir;
	} key = {sock, start, dir};
	const struct tracer_hello *h = ctx;
	struct tracer_haste haste;
	__u32 all = ~0u;

	tracer_hasten(h->tracer, &haste);
	bpf_map_update_elem(h->looks, &key, &all, BPF_EXIST);
	tracer_relax(&haste);
}

static const struct hello_finder_ops ops = {on_found, on_done};

static int on_piece(struct tracer_hello *h, const char *data, size_t size)
{
	struct ts_hello *p = h->piece;

	if (size < sizeof(*p))
		return 0;
	memcpy(p, data, sizeof(*p));
	if (p->len > TS_HELLO_WINDOW || p->skip > size || p->len > size - p->skip ||
	    sizeof(*p) > size - p->skip - p->len)
		return 0;
	memcpy(p->payload, data + sizeof(*p) + p->skip, p->len);
	return hello_finder_feed(h->finder, p);
}

/* What is lost, BPF counts. */
static enum bpf_perf_event_ret on_event(void *ctx, int cpu, struct perf_event_header *event)
{
	const struct {
		struct perf_event_header header;
		__u32 size;
		char data[];
	} *sample = (const void *)event;
	struct tracer_hello *h = ctx;
	struct tracer *t = h->tracer;

	(void)cpu;
	if (event->type != PERF_RECORD_SAMPLE || t->sink_error)
		return LIBBPF_PERF_EVENT_CONT;
	t->polled++;
	t->sink_error = on_piece(h, sample->data, sample->size);
	return LIBBPF_PERF_EVENT_CONT;
}

/* All processors' buffers together are as large as the ring, in powers of two. */
static size_t buffer_pages(const struct tracer *t)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE), pages = PAGES_LEAST;

	while (2 * pages * size * t->cpus <= tracer_ring_size(t->ring))
		pages *= 2;
	return pages;
}

void tracer_detach_hello(struct tracer *t)
{
	size_t i;

	for (i = 0; t->hello && i < LINKS; i++) {
		bpf_link__destroy(t->hello->links[i]);
		t->hello->links[i] = NULL;
	}
}

void tracer_close_hello(struct tracer *t)
{
	struct tracer_hello *h = t->hello;

	if (!h)
		return;
	tracer_detach_hello(t);
	t->hello = NULL;
	perf_buffer__free(h->buffer);
	bpf_object__close(h->object);
	hello_finder_close(h->finder);
	free(h->piece);
	free(h);
}

static int load(struct tracer_hello *h)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_BPF_OUTPUT,
		.sample_type = PERF_SAMPLE_RAW,
		.sample_period = 1,
		.wakeup_events = INT32_MAX, /* never: the ring wakes us */
	};
	const char *file = "bpf/hello.bpf.o";
	struct bpf_program *p;
	int ret;

	tracer_end_aside(h->tracer);
	ret = tracer_open_objects(&h->object, &file, 1, false);
	if (ret)
		return ret;
	tracer_share_maps(h->tracer, h->object);
	bpf_object__for_each_program(p, h->object) if (!strncmp(bpf_program__name(p), "again_", 6))
		bpf_program__set_autoload(p, !tracer_kernel_before(7, 0));
	ret = bpf_object__load(h->object);
	tracer_end_loading();
	if (ret)
		return ret;
	h->looks = bpf_object__find_map_fd_by_name(h->object, "looks");
	h->buffer = perf_buffer__new_raw(bpf_object__find_map_fd_by_name(h->object, "pieces"),
					 buffer_pages(h->tracer), &attr, on_event, h, NULL);
	return h->buffer ? 0 : -errno;
}

static int attach(struct tracer_hello *h)
{
	struct bpf_program *p;
	size_t n = 0;

	bpf_object__for_each_program(p, h->object)
	{
		if (!bpf_program__autoload(p))
			continue;
		if (n == LINKS)
			return -E2BIG;
		h->links[n] = bpf_program__attach_trace(p);
		if (!h->links[n++])
			return -errno;
	}
	return 0;
}

static int open_hello(struct tracer *t)
{
	struct tracer_hello *h = calloc(1, sizeof(*h));
	int ret;

	if (!h)
		return -ENOMEM;
	t->hello = h;
	h->tracer = t;
	h->piece = malloc(sizeof(*h->piece) + TS_HELLO_WINDOW);
	ret = h->piece ? hello_finder_open(&h->finder, &ops, h) : -ENOMEM;
	if (!ret)
		ret = load(h);
	if (!ret)
		ret = attach(h);
	if (ret)
		tracer_close_hello(t);
	return ret;
}

uint64_t tracer_hello_subs(const struct ts_sub *subs, size_t count)
{
	uint64_t wanted = 0;
	size_t i;

	/* A hello is no file's: who names files gets none. */
	for (i = 0; i < count; i++)
		if (!subs[i].removed && subs[i].probes & TS_PROBE(TS_P_TLS_HELLO) &&
		    ts_filter_lib_passes(&subs[i].filter, ""))
			wanted |= 1ull << i;
	return wanted;
}

void tracer_sync_hello(struct tracer *t)
{
	int ret;

	if (!t->control->hellos) {
		tracer_close_hello(t);
		t->hello_failed = false;
	} else if (!t->hello && !t->hello_failed) {
		ret = open_hello(t);
		if (!ret)
			return;
		/* The rest of a script can run without. */
		t->hello_failed = true;
		ts_warn("tls_hello: the kernel's net_dev_queue and skb_copy_datagram_iovec cannot "
			"be hooked (%s): no hello is seen (-v shows the kernel's reasons)",
			strerror(-ret));
	}
}

void tracer_poll_hello(struct tracer *t)
{
	if (t->hello && !t->sink_error)
		perf_buffer__consume(t->hello->buffer);
}

/* What comes is missed where each of its programs missed it: at most as often as any did. */
uint64_t tracer_hello_misses(const struct tracer *t, uint64_t (*misses)(int fd))
{
	uint64_t out = 0, in = UINT64_MAX, n;
	struct bpf_program *p;

	if (!t->hello)
		return 0;
	bpf_object__for_each_program(p, t->hello->object)
	{
		if (!bpf_program__autoload(p))
			continue;
		n = misses(bpf_program__fd(p));
		if (!strcmp(bpf_program__name(p), "hello_out"))
			out = n;
		else if (n < in)
			in = n;
	}
	return out + in;
}
