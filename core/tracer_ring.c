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
#define LINE 64u	   /* bytes that processors hand each other at once, about */

/*
 * Invariant: positions only grow; that of a byte in `data` is its position & (size - 1). The kernel
 * writes between *consumer + size and *producer, and nothing below.
 */
struct buffer {
	unsigned long *consumer; /* ours to write */
	const unsigned long *producer;
	const unsigned char *data;
	size_t size;
	unsigned long pos; /* of the next sample; *consumer comes after it */
	int fd;		   /* below 0: there is none */
};

struct tracer_ring {
	struct buffer small; /* samples come here first */
	struct buffer now,
		next; /* the next one takes the place of that in use when this is empty */
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
			     .pos = *(unsigned long *)consumer,
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
	r->small.fd = r->next.fd = -1;
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
	unmap_buffer(&r->small, r->page);
	unmap_buffer(&r->now, r->page);
	unmap_buffer(&r->next, r->page);
	ts_buf_free(&r->joined);
	free(r);
}

int tracer_ring_precede(struct tracer_ring *r, int fd, size_t size)
{
	return map_buffer(&r->small, fd, size, r->page);
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

void tracer_ring_fds(const struct tracer_ring *r, int fds[TRACER_RING_FDS])
{
	fds[0] = tracer_ring_moves(r) ? r->next.fd : r->now.fd;
	fds[1] = r->small.fd;
}

size_t tracer_ring_size(const struct tracer_ring *r)
{
	return r->now.size;
}

size_t tracer_ring_used(const struct tracer_ring *r)
{
	return r->used;
}

/* --- which sample comes next */

static unsigned long end_of(const struct buffer *b)
{
	return __atomic_load_n(b->producer, __ATOMIC_ACQUIRE);
}

/* Bytes that have not been handed over. */
static size_t waiting(const struct buffer *b)
{
	return end_of(b) - b->pos;
}

static __u32 header_of(const struct buffer *b)
{
	return __atomic_load_n((const __u32 *)(b->data + (b->pos & (b->size - 1))),
			       __ATOMIC_ACQUIRE);
}

static void tell(struct buffer *b)
{
	if (b->fd >= 0 && *b->consumer != b->pos)
		__atomic_store_n(b->consumer, b->pos, __ATOMIC_RELEASE);
}

static void advance(struct buffer *b, __u32 header)
{
	b->pos += ((header & ~DISCARD) + HEADER + 7) & ~7ul;
	/* Each write of it costs the kernel's next sample a cache miss. */
	if (b->pos - *b->consumer >= b->size / 16)
		tell(b);
}

enum state { EMPTY, WRITTEN /* what comes next is being written */, READY };

static enum state look(struct buffer *b)
{
	__u32 header;

	while (b->fd >= 0 && b->pos != end_of(b)) {
		header = header_of(b);
		if (header & BUSY)
			return WRITTEN;
		if (!(header & DISCARD))
			return READY;
		advance(b, header);
	}
	return EMPTY;
}

/* Of the next sample. Positions and sizes are multiples of 8: it does not lie around the end. */
static __u64 time_of(const struct buffer *b)
{
	const size_t at = b->pos + HEADER + offsetof(struct ts_data, nsecs);

	return *(const __u64 *)(b->data + (at & (b->size - 1)));
}

/* The buffer in use, and what comes next there. What it will never get more of makes room. */
static enum state look_at_large(struct tracer_ring *r)
{
	enum state state = look(&r->now);

	if (state != EMPTY || !tracer_ring_moves(r))
		return state;
	unmap_buffer(&r->now, r->page);
	r->now = r->next;
	r->next.fd = -1;
	return look(&r->now);
}

/*
 * Where the next sample is; NULL: there is none yet. What one buffer has may have come after what
 * is in the other: so the other is looked at afterwards, and what is being written is waited for.
 */
static struct buffer *choose(struct tracer_ring *r)
{
	enum state small = look(&r->small), large = look_at_large(r);

	if (large != EMPTY && small == EMPTY)
		small = look(&r->small);
	if (small == WRITTEN || large == WRITTEN)
		return NULL;
	if (small == READY && large == READY)
		return time_of(&r->now) < time_of(&r->small) ? &r->now : &r->small;
	return small == READY ? &r->small : large == READY ? &r->now : NULL;
}

/* --- handing over */

/*
 * Another processor has written it: the first lines of what comes next, a record's head, are on
 * their way while this one is handled.
 */
static void fetch_next(const struct buffer *b, __u32 header)
{
	const unsigned long next = b->pos + ((header + HEADER + 7) & ~7ul);
	const unsigned char *at = b->data + (next & (b->size - 1));
	size_t i;

	if (next == end_of(b))
		return;
	for (i = 0; i < HEADER + sizeof(struct ts_data); i += LINE)
		__builtin_prefetch(at + i);
}

/* The next sample, in one piece; NULL: no memory. */
static const void *sample_of(struct tracer_ring *r, const struct buffer *b, size_t len)
{
	size_t at = (b->pos + HEADER) & (b->size - 1), first = b->size - at;

	if (len <= first)
		return b->data + at;
	r->joined.len = 0;
	if (ts_buf_add(&r->joined, b->data + at, first) ||
	    ts_buf_add(&r->joined, b->data, len - first))
		return NULL;
	return r->joined.data;
}

int tracer_ring_poll(struct tracer_ring *r, unsigned int budget,
		     int (*take)(void *ctx, const void *sample, size_t size), void *ctx)
{
	unsigned int count = 0;
	struct buffer *b;
	const void *sample;
	size_t after;
	int ret = 0;
	__u32 header;

	r->used = waiting(&r->now);
	while (!ret && count < budget && (b = choose(r))) {
		header = header_of(b);
		fetch_next(b, header);
		sample = sample_of(r, b, header);
		ret = sample ? take(ctx, sample, header) : -ENOMEM;
		count++;
		advance(b, header);
	}
	tell(&r->small);
	tell(&r->now);
	after = waiting(&r->now);
	if (after > r->used)
		r->used = after;
	return ret < 0 ? ret : (int)count;
}
