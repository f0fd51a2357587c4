/* SPDX-License-Identifier: MIT */
/* The consumer of a ring buffer, on a file that is laid out as the kernel's map is. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tracer_ring.h"

#define SIZE 4096u

/* As the kernel has it. */
struct map {
	int fd;
	unsigned long *consumer, *producer;
	unsigned char *data;
};

struct fixture {
	size_t page;
	struct map map, next, small;
	struct tracer_ring *ring;
	char seen[64]; /* the first byte of each sample */
	size_t count, last_size;
	unsigned char last[SIZE];
	int answer;
};

/* fd: for the ring, which closes it. */
static void make_map(struct map *m, size_t page, int *fd)
{
	unsigned char *at;

	m->fd = memfd_create("ring", MFD_CLOEXEC);
	assert_int_equal(ftruncate(m->fd, (off_t)(2 * page + SIZE)), 0);
	at = mmap(NULL, 2 * page + SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	assert_ptr_not_equal(at, MAP_FAILED);
	m->consumer = (void *)at;
	m->producer = (void *)(at + page);
	m->data = at + 2 * page;
	*fd = dup(m->fd);
	assert_true(*fd >= 0);
}

static int open_ring(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd;

	f->page = (size_t)sysconf(_SC_PAGESIZE);
	make_map(&f->map, f->page, &fd);
	assert_int_equal(tracer_ring_open(&f->ring, fd, SIZE), 0);
	*state = f;
	return 0;
}

static void free_map(const struct map *m, size_t page)
{
	if (!m->consumer)
		return;
	munmap(m->consumer, 2 * page + SIZE);
	close(m->fd);
}

static int close_ring(void **state)
{
	struct fixture *f = *state;

	tracer_ring_close(f->ring);
	free_map(&f->map, f->page);
	free_map(&f->next, f->page);
	free_map(&f->small, f->page);
	free(f);
	return 0;
}

/* A sample of n bytes `c`; flags: of its header. Returns where the header is. */
static uint32_t *put_in(struct map *m, char c, uint32_t n, uint32_t flags)
{
	uint32_t *header = (uint32_t *)(m->data + (*m->producer & (SIZE - 1)));
	uint32_t i;

	*header = n | flags;
	for (i = 0; i < n; i++)
		m->data[(*m->producer + 8 + i) & (SIZE - 1)] = (unsigned char)c;
	*m->producer += (n + 8 + 7) & ~7u;
	return header;
}

static uint32_t *put(struct fixture *f, char c, uint32_t n, uint32_t flags)
{
	return put_in(&f->map, c, n, flags);
}

static int take(void *ctx, const void *sample, size_t size)
{
	struct fixture *f = ctx;

	f->seen[f->count++] = *(const char *)sample;
	f->last_size = size;
	memcpy(f->last, sample, size);
	return f->answer;
}

static void hands_over_in_order(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 0);
	put(f, 'a', 1, 0);
	put(f, 'b', 100, 0);
	put(f, 'x', 30, 1u << 30);
	put(f, 'c', 8, 0);
	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 3);
	assert_string_equal(f->seen, "abc");
	assert_int_equal(f->last_size, 8);
	assert_int_equal(*f->map.consumer, *f->map.producer);
}

static void waits_for_what_is_written(void **state)
{
	struct fixture *f = *state;
	uint32_t *busy;

	put(f, 'a', 1, 0);
	busy = put(f, 'b', 5, 1u << 31);
	put(f, 'c', 1, 0);
	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 1);
	*busy &= ~(1u << 31);
	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 2);
	assert_string_equal(f->seen, "abc");
}

static void keeps_to_its_budget(void **state)
{
	struct fixture *f = *state;
	int i;

	for (i = 0; i < 5; i++)
		put(f, (char)('a' + i), 1, 0);
	assert_int_equal(tracer_ring_poll(f->ring, 2, take, f), 2);
	assert_int_equal(*f->map.consumer, 32);
	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 3);
	assert_string_equal(f->seen, "abcde");
}

static void joins_what_lies_around_the_end(void **state)
{
	struct fixture *f = *state;
	size_t i, at;

	/* Each of 1000 bytes: the fifth begins before the end and goes on at the beginning. */
	for (at = 0; at < 40; at++) {
		put(f, (char)('A' + at % 26), 1000, 0);
		f->count = 0;
		assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 1);
		assert_int_equal(f->last_size, 1000);
		for (i = 0; i < 1000; i++)
			assert_int_equal(f->last[i], 'A' + at % 26);
		assert_int_equal(*f->map.consumer, *f->map.producer);
	}
}

static void an_error_ends_it(void **state)
{
	struct fixture *f = *state;

	put(f, 'a', 1, 0);
	put(f, 'b', 1, 0);
	f->answer = -ECANCELED;
	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), -ECANCELED);
	assert_string_equal(f->seen, "a");
	/* What was handed over is not handed over again. */
	f->answer = 0;
	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 1);
	assert_string_equal(f->seen, "ab");
}

/* A record's beginning: 'c' and its time. */
static uint32_t *put_record(struct map *m, char c, uint64_t nsecs, uint32_t flags)
{
	uint32_t *header = put_in(m, c, sizeof(struct ts_data), flags);
	unsigned char *at = (unsigned char *)header + 8;

	memcpy(at + offsetof(struct ts_data, nsecs), &nsecs, sizeof(nsecs));
	return header;
}

static void precede(struct fixture *f)
{
	int fd, fds[TRACER_RING_FDS];

	make_map(&f->small, f->page, &fd);
	tracer_ring_fds(f->ring, fds);
	assert_true(fds[0] >= 0 && fds[1] < 0);
	assert_int_equal(tracer_ring_precede(f->ring, fd, SIZE), 0);
	tracer_ring_fds(f->ring, fds);
	assert_true(fds[0] >= 0);
	assert_int_equal(fds[1], fd);
}

static void reads_two_maps_by_time(void **state)
{
	struct fixture *f = *state;

	precede(f);
	put_record(&f->small, 'a', 10, 0);
	put_record(&f->map, 'x', 11, 1u << 30);
	put_record(&f->map, 'b', 20, 0);
	put_record(&f->map, 'c', 30, 0);
	put_record(&f->small, 'd', 40, 0);
	put_record(&f->map, 'e', 50, 0);
	assert_int_equal(tracer_ring_poll(f->ring, 2, take, f), 2);
	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 3);
	assert_string_equal(f->seen, "abcde");
	assert_int_equal(*f->map.consumer, *f->map.producer);
	assert_int_equal(*f->small.consumer, *f->small.producer);
}

/* What is behind it may have come before what the other map has. */
static void waits_for_what_is_written_in_either(void **state)
{
	struct fixture *f = *state;
	uint32_t *busy;

	precede(f);
	busy = put_record(&f->map, 'b', 20, 1u << 31);
	put_record(&f->map, 'c', 30, 0);
	put_record(&f->small, 'd', 40, 0);
	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 0);
	*busy &= ~(1u << 31);
	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 3);
	busy = put_record(&f->small, 'e', 50, 1u << 31);
	put_record(&f->map, 'f', 60, 0);
	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 0);
	*busy &= ~(1u << 31);
	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 2);
	assert_string_equal(f->seen, "bcdef");
}

/* What is in the first map comes first, whatever the budget. */
static void goes_on_in_another_map(void **state)
{
	struct fixture *f = *state;
	int fd, old, fds[TRACER_RING_FDS];

	put(f, 'a', 1000, 0);
	put(f, 'b', 1, 0);
	make_map(&f->next, f->page, &fd);
	tracer_ring_fds(f->ring, fds);
	old = fds[0];
	assert_int_equal(tracer_ring_follow(f->ring, fd, SIZE), 0);
	put_in(&f->next, 'c', 1, 0);
	assert_true(tracer_ring_moves(f->ring));
	tracer_ring_fds(f->ring, fds);
	assert_int_equal(fds[0], fd);
	assert_int_equal(tracer_ring_poll(f->ring, 1, take, f), 1);
	assert_int_equal(tracer_ring_used(f->ring), 1008 + 16);
	assert_true(tracer_ring_moves(f->ring));
	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 2);
	assert_string_equal(f->seen, "abc");
	assert_false(tracer_ring_moves(f->ring));
	assert_int_equal(fcntl(old, F_GETFD), -1);
	put_in(&f->next, 'd', 1, 0);
	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 1);
	assert_string_equal(f->seen, "abcd");
}

static void reads_the_next_map_by_time_too(void **state)
{
	struct fixture *f = *state;
	int fd;

	precede(f);
	put_record(&f->map, 'a', 10, 0);
	put_record(&f->small, 'c', 30, 0);
	make_map(&f->next, f->page, &fd);
	assert_int_equal(tracer_ring_follow(f->ring, fd, SIZE), 0);
	put_record(&f->next, 'b', 20, 0);
	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 3);
	assert_string_equal(f->seen, "abc");
}

static void stays_after_all(void **state)
{
	struct fixture *f = *state;
	int fd;

	make_map(&f->next, f->page, &fd);
	assert_int_equal(tracer_ring_follow(f->ring, fd, SIZE), 0);
	tracer_ring_stay(f->ring);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	put(f, 'a', 1, 0);
	assert_int_equal(tracer_ring_poll(f->ring, 10, take, f), 1);
	assert_int_equal(tracer_ring_follow(f->ring, -1, SIZE), -EBADF);
	assert_false(tracer_ring_moves(f->ring));
}

static void no_map_is_an_error(void **state)
{
	struct tracer_ring *r = NULL;

	(void)state;
	assert_int_equal(tracer_ring_open(&r, -1, SIZE), -EBADF);
	assert_null(r);
	tracer_ring_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(hands_over_in_order, open_ring, close_ring),
		cmocka_unit_test_setup_teardown(waits_for_what_is_written, open_ring, close_ring),
		cmocka_unit_test_setup_teardown(keeps_to_its_budget, open_ring, close_ring),
		cmocka_unit_test_setup_teardown(joins_what_lies_around_the_end, open_ring,
						close_ring),
		cmocka_unit_test_setup_teardown(reads_two_maps_by_time, open_ring, close_ring),
		cmocka_unit_test_setup_teardown(waits_for_what_is_written_in_either, open_ring,
						close_ring),
		cmocka_unit_test_setup_teardown(an_error_ends_it, open_ring, close_ring),
		cmocka_unit_test_setup_teardown(goes_on_in_another_map, open_ring, close_ring),
		cmocka_unit_test_setup_teardown(reads_the_next_map_by_time_too, open_ring,
						close_ring),
		cmocka_unit_test_setup_teardown(stays_after_all, open_ring, close_ring),
		cmocka_unit_test(no_map_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
