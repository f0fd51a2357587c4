/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tracer_ring.h"

/* kernel/bpf/ringbuf.c: each sample follows a header of a length, with flags, and a page's number.
 */
#define HEADER 8u
#define BUSY (1u << 31)	   /* is being written */
#define DISCARD (1u << 30) /* is to be skipped */

/*
 * Invariant: positions only grow; that of a byte in `data` is its position & (size - 1). The kernel
 * writes between *consumer + size and *producer, and nothing below.
 */
struct tracer_ring {
	unsigned long *consumer; /* ours to write */
	const unsigned long *producer;
	const unsigned char *data;
	size_t size, page;
	int fd;
	struct ts_buf joined; /* a sample that lies around the end */
};

int tracer_ring_open(struct tracer_ring **out, int fd, size_t size)
{
	struct tracer_ring *r = calloc(1, sizeof(*r));
	void *consumer, *producer = MAP_FAILED;
	int ret;

	if (!r)
		return -ENOMEM;
	r->size = size;
	r->fd = fd;
	r->page = (size_t)sysconf(_SC_PAGESIZE);
	/* A page that we write, one that the kernel writes, the data. */
	consumer = mmap(NULL, r->page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (consumer != MAP_FAILED)
		producer = mmap(NULL, r->page + size, PROT_READ, MAP_SHARED, fd, (off_t)r->page);
	if (producer == MAP_FAILED) {
		ret = -errno;
		if (consumer != MAP_FAILED)
			munmap(consumer, r->page);
		free(r);
		return ret;
	}
	r->consumer = consumer;
	r->producer = producer;
	r->data = (const unsigned char *)producer + r->page;
	*out = r;
	return 0;
}

void tracer_ring_close(struct tracer_ring *r)
{
	if (!r)
		return;
	munmap(r->consumer, r->page);
	munmap((void *)r->producer, r->page + r->size);
	ts_buf_free(&r->joined);
	free(r);
}

int tracer_ring_fd(const struct tracer_ring *r)
{
	return r->fd;
}

/* The len bytes from pos on, in one piece; NULL: no memory. */
static const void *sample_at(struct tracer_ring *r, unsigned long pos, size_t len)
{
	size_t at = pos & (r->size - 1), first = r->size - at;

	if (len <= first)
		return r->data + at;
	r->joined.len = 0;
	if (ts_buf_add(&r->joined, r->data + at, first) ||
	    ts_buf_add(&r->joined, r->data, len - first))
		return NULL;
	return r->joined.data;
}

int tracer_ring_poll(struct tracer_ring *r, unsigned int budget,
		     int (*take)(void *ctx, const void *sample, size_t size), void *ctx)
{
	unsigned long pos = *r->consumer, told = pos;
	unsigned int count = 0;
	const void *sample;
	int ret = 0;
	__u32 len;

	while (count < budget && pos != __atomic_load_n(r->producer, __ATOMIC_ACQUIRE)) {
		len = __atomic_load_n((const __u32 *)(r->data + (pos & (r->size - 1))),
				      __ATOMIC_ACQUIRE);
		if (len & BUSY)
			break;
		if (!(len & DISCARD)) {
			sample = sample_at(r, pos + HEADER, len);
			ret = sample ? take(ctx, sample, len) : -ENOMEM;
			count++;
		}
		pos += ((len & ~DISCARD) + HEADER + 7) & ~7ul;
		/* Each write of it costs the kernel's next sample a cache miss. */
		if (pos - told >= r->size / 16) {
			__atomic_store_n(r->consumer, pos, __ATOMIC_RELEASE);
			told = pos;
		}
		if (ret)
			break;
	}
	if (pos != told)
		__atomic_store_n(r->consumer, pos, __ATOMIC_RELEASE);
	return ret < 0 ? ret : (int)count;
}
