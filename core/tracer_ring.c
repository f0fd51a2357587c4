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
struct buffer {
	unsigned long *consumer; /* ours to write */
	const unsigned long *producer;
	const unsigned char *data;
	size_t size;
	int fd; /* below 0: there is none */
};

struct tracer_ring {
	struct buffer now, next; /* the next one is looked at when that now in use is empty */
	size_t page, used;
	struct ts_buf joined; /* a sample that lies around the end */
};

/* A page that we write, one that the kernel writes, the data. */
static int map_buffer(struct buffer *b, int fd, size_t size, size_t page)
{
	void *consumer, *producer;
	int ret;

	consumer = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (consumer == MAP_FAILED)
		return -errno;
	producer = mmap(NULL, page + size, PROT_READ, MAP_SHARED, fd, (off_t)page);
	if (producer == MAP_FAILED) {
		ret = -errno;
		munmap(consumer, page);
		return ret;
	}
	*b = (struct buffer){.consumer = consumer,
			     .producer = producer,
			     .data = (const unsigned char *)producer + page,
			     .size = size,
			     .fd = fd};
	return 0;
}

static void unmap_buffer(struct buffer *b, size_t page)
{
	if (b->fd < 0)
		return;
	munmap(b->consumer, page);
	munmap((void *)b->producer, page + b->size);
	close(b->fd);
	b->fd = -1;
}

int tracer_ring_open(struct tracer_ring **out, int fd, size_t size)
{
	struct tracer_ring *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return -ENOMEM;
	r->page = (size_t)sysconf(_SC_PAGESIZE);
	r->next.fd = -1;
	ret = map_buffer(&r->now, fd, size, r->page);
	if (ret) {
		free(r);
		return ret;
	}
	*out = r;
	return 0;
}

void tracer_ring_close(struct tracer_ring *r)
{
	if (!r)
		return;
	unmap_buffer(&r->now, r->page);
	unmap_buffer(&r->next, r->page);
	ts_buf_free(&r->joined);
	free(r);
}

int tracer_ring_follow(struct tracer_ring *r, int fd, size_t size)
{
	return map_buffer(&r->next, fd, size, r->page);
}

bool tracer_ring_moves(const struct tracer_ring *r)
{
	return r->next.fd >= 0;
}

void tracer_ring_stay(struct tracer_ring *r)
{
	unmap_buffer(&r->next, r->page);
}

int tracer_ring_fd(const struct tracer_ring *r)
{
	return tracer_ring_moves(r) ? r->next.fd : r->now.fd;
}

size_t tracer_ring_size(const struct tracer_ring *r)
{
	return r->now.size;
}

size_t tracer_ring_used(const struct tracer_ring *r)
{
	return r->used;
}

/* The len bytes from pos on, in one piece; NULL: no memory. */
static const void *sample_at(struct tracer_ring *r, unsigned long pos, size_t len)
{
	const struct buffer *b = &r->now;
	size_t at = pos & (b->size - 1), first = b->size - at;

	if (len <= first)
		return b->data + at;
	r->joined.len = 0;
	if (ts_buf_add(&r->joined, b->data + at, first) ||
	    ts_buf_add(&r->joined, b->data, len - first))
		return NULL;
	return r->joined.data;
}

/* As tracer_ring_poll, of the buffer in use; *count goes up to the budget. 0, or what ended it. */
static int poll_buffer(struct tracer_ring *r, unsigned int budget, unsigned int *count,
		       int (*take)(void *ctx, const void *sample, size_t size), void *ctx)
{
	const struct buffer *b = &r->now;
	unsigned long pos = *b->consumer, told = pos;
	const void *sample;
	int ret = 0;
	__u32 len;

	r->used = __atomic_load_n(b->producer, __ATOMIC_ACQUIRE) - pos;
	while (*count < budget && pos != __atomic_load_n(b->producer, __ATOMIC_ACQUIRE)) {
		len = __atomic_load_n((const __u32 *)(b->data + (pos & (b->size - 1))),
				      __ATOMIC_ACQUIRE);
		if (len & BUSY)
			break;
		if (!(len & DISCARD)) {
			sample = sample_at(r, pos + HEADER, len);
			ret = sample ? take(ctx, sample, len) : -ENOMEM;
			(*count)++;
		}
		pos += ((len & ~DISCARD) + HEADER + 7) & ~7ul;
		/* Each write of it costs the kernel's next sample a cache miss. */
		if (pos - told >= b->size / 16) {
			__atomic_store_n(b->consumer, pos, __ATOMIC_RELEASE);
			told = pos;
		}
		if (ret)
			break;
	}
	if (pos != told)
		__atomic_store_n(b->consumer, pos, __ATOMIC_RELEASE);
	return ret;
}

int tracer_ring_poll(struct tracer_ring *r, unsigned int budget,
		     int (*take)(void *ctx, const void *sample, size_t size), void *ctx)
{
	unsigned int count = 0;
	int ret = poll_buffer(r, budget, &count, take, ctx);

	if (!ret && tracer_ring_moves(r) && *r->now.consumer == *r->now.producer) {
		unmap_buffer(&r->now, r->page);
		r->now = r->next;
		r->next.fd = -1;
		ret = poll_buffer(r, budget, &count, take, ctx);
	}
	return ret < 0 ? ret : (int)count;
}
