/* SPDX-License-Identifier: MIT */
/* One io_uring, one request at a time, without a library. */
#ifndef KTLS_URING_H
#define KTLS_URING_H

#include <errno.h>
#include <linux/io_uring.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FIXED_SIZE = 32768 };

struct ring {
	int fd;
	unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	char *fixed; /* the registered buffer */
};

static inline void *ring_map(int fd, size_t size, off_t what)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, what);

	return at == MAP_FAILED ? NULL : at;
}

/* False, with errno: this kernel or this user has no io_uring. */
static inline bool ring_open(struct ring *r)
{
	struct io_uring_params p = {0};
	struct iovec fixed = {.iov_len = FIXED_SIZE};
	char *sq, *cq;

	r->fd = (int)syscall(SYS_io_uring_setup, 4, &p);
	if (r->fd < 0)
		return false;
	sq = ring_map(r->fd, p.sq_off.array + p.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
	cq = ring_map(r->fd, p.cq_off.cqes + p.cq_entries * sizeof(*r->cqes), IORING_OFF_CQ_RING);
	r->sqes = ring_map(r->fd, p.sq_entries * sizeof(*r->sqes), IORING_OFF_SQES);
	if (!sq || !cq || !r->sqes || posix_memalign((void **)&r->fixed, 4096, FIXED_SIZE))
		return false;
	r->sq_tail = (unsigned *)(sq + p.sq_off.tail);
	r->sq_mask = (unsigned *)(sq + p.sq_off.ring_mask);
	r->sq_array = (unsigned *)(sq + p.sq_off.array);
	r->cq_head = (unsigned *)(cq + p.cq_off.head);
	r->cq_tail = (unsigned *)(cq + p.cq_off.tail);
	r->cq_mask = (unsigned *)(cq + p.cq_off.ring_mask);
	r->cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
	fixed.iov_base = r->fixed;
	return !syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_BUFFERS, &fixed, 1);
}

/* Makes one call and waits for it; returns as the system call of that name would. */
static inline ssize_t ring_call(struct ring *r, int opcode, int fd, const void *at, size_t n)
{
	unsigned tail = *r->sq_tail, slot = tail & *r->sq_mask, head = *r->cq_head;
	struct io_uring_sqe *e = &r->sqes[slot];
	int result;

	memset(e, 0, sizeof(*e));
	e->opcode = (unsigned char)opcode;
	e->fd = fd;
	e->addr = (unsigned long)at;
	e->len = (unsigned)n;
	r->sq_array[slot] = slot;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	while (syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		if (errno != EINTR)
			return -1;
	while (__atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) == head)
		;
	result = r->cqes[head & *r->cq_mask].res;
	__atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
	if (result >= 0)
		return result;
	errno = -result;
	return -1;
}

#endif
