/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "watch.h"

#define DATA_PAGES 16 /* of each CPU's buffer; a power of two */
#define RECORD_MAX_BYTES 65536

/* One CPU's side-band records. fd is -1 where the CPU is not online. */
struct cpu_ring {
	int fd;
	struct perf_event_mmap_page *page; /* followed by the data */
};

struct watch {
	const struct watch_ops *ops;
	void *ctx;
	int epoll;
	struct cpu_ring *cpus;
	int cpus_count;
	size_t page_bytes;
	/* A record that wraps around the ring's end is put together here. */
	unsigned char record[RECORD_MAX_BYTES] __attribute__((aligned(8)));
};

/* Bodies of records: linux/perf_event.h, enum perf_event_type. */
struct mmap2_record {
	struct perf_event_header header;
	__u32 pid, tid;
	__u64 start, len, offset;
	__u32 dev_major, dev_minor;
	__u64 inode, generation;
	__u32 prot, flags;
	char path[];
};
struct lost_record {
	struct perf_event_header header;
	__u64 id, lost;
};

static int open_cpu(struct watch *w, int cpu)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_DUMMY,
		.mmap = 1,
		.mmap2 = 1,
		.watermark = 1,
		.wakeup_watermark = 1,
	};
	struct epoll_event event = {.events = EPOLLIN, .data.fd = cpu};
	struct cpu_ring *c = &w->cpus[cpu];
	void *page;

	c->fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	if (c->fd < 0)
		return errno == ENODEV ? 0 : -errno; /* a CPU that is offline */
	page = mmap(NULL, (DATA_PAGES + 1) * w->page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		    c->fd, 0);
	if (page == MAP_FAILED)
		return -errno;
	c->page = page;
	return epoll_ctl(w->epoll, EPOLL_CTL_ADD, c->fd, &event) ? -errno : 0;
}

int watch_open(struct watch **out, const struct watch_ops *ops, void *ctx, struct ts_err *err)
{
	struct watch *w = calloc(1, sizeof(*w));
	int ret = 0, cpu;

	if (!w)
		return ts_fail(err, ENOMEM, "out of memory");
	w->ops = ops;
	w->ctx = ctx;
	w->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	w->cpus_count = (int)sysconf(_SC_NPROCESSORS_CONF);
	w->cpus = calloc((size_t)w->cpus_count, sizeof(*w->cpus));
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	for (cpu = 0; w->cpus && cpu < w->cpus_count; cpu++)
		w->cpus[cpu].fd = -1;
	if (!w->cpus || w->epoll < 0)
		ret = -ENOMEM;
	for (cpu = 0; !ret && cpu < w->cpus_count; cpu++)
		ret = open_cpu(w, cpu);
	if (ret) {
		watch_close(w);
		return ts_fail(err, -ret, "cannot watch for new libraries (perf events): %s",
			       strerror(-ret));
	}
	*out = w;
	return 0;
}

void watch_close(struct watch *w)
{
	int cpu;

	if (!w)
		return;
	for (cpu = 0; w->cpus && cpu < w->cpus_count; cpu++) {
		if (w->cpus[cpu].page)
			munmap(w->cpus[cpu].page, (DATA_PAGES + 1) * w->page_bytes);
		if (w->cpus[cpu].fd >= 0)
			close(w->cpus[cpu].fd);
	}
	if (w->epoll >= 0)
		close(w->epoll);
	free(w->cpus);
	free(w);
}

int watch_fd(const struct watch *w)
{
	return w->epoll;
}

static void handle_mapping(struct watch *w, const struct mmap2_record *m)
{
	size_t room = m->header.size - sizeof(*m);
	struct proc_map map = {
		.start = m->start,
		.end = m->start + m->len,
		.dev_major = m->dev_major,
		.dev_minor = m->dev_minor,
		.inode = m->inode,
		.path = m->path,
	};

	/* "//anon", "[vdso]" and the like are no files. */
	if (!m->inode || !memchr(m->path, 0, room))
		return;
	w->ops->mapped(w->ctx, m->pid, &map, m->generation);
}

/*
 * One whole record, whose size is at least its header's. With mappings come the starts and ends of
 * threads: not to be believed, as a process that changes its identity by exec is said to end.
 */
static void handle_record(struct watch *w, const void *record)
{
	const struct perf_event_header *h = record;

	switch (h->type) {
	case PERF_RECORD_MMAP2:
		if (h->size > sizeof(struct mmap2_record))
			handle_mapping(w, record);
		break;
	case PERF_RECORD_LOST:
		if (h->size >= sizeof(struct lost_record))
			w->ops->lost(w->ctx, ((const struct lost_record *)record)->lost);
		break;
	}
}

static void poll_cpu(struct watch *w, struct cpu_ring *c)
{
	const unsigned char *data = (const unsigned char *)c->page + w->page_bytes;
	size_t bytes = DATA_PAGES * w->page_bytes, at, first;
	__u64 head = __atomic_load_n(&c->page->data_head, __ATOMIC_ACQUIRE);
	__u64 tail = c->page->data_tail;
	const struct perf_event_header *h;

	while (tail < head) {
		at = tail & (bytes - 1);
		/* Headers are 8 bytes, aligned to 8: never split. */
		h = (const void *)(data + at);
		if (h->size < sizeof(*h))
			break;
		first = bytes - at < h->size ? bytes - at : h->size;
		memcpy(w->record, data + at, first);
		memcpy(w->record + first, data, h->size - first);
		tail += h->size;
		__atomic_store_n(&c->page->data_tail, tail, __ATOMIC_RELEASE);
		handle_record(w, w->record);
	}
}

void watch_poll(struct watch *w)
{
	struct epoll_event events[64];
	int cpu;

	/* Takes the readiness back; all rings are read anyway. */
	epoll_wait(w->epoll, events, TS_ARRAY_SIZE(events), 0);
	for (cpu = 0; cpu < w->cpus_count; cpu++)
		if (w->cpus[cpu].page)
			poll_cpu(w, &w->cpus[cpu]);
}
