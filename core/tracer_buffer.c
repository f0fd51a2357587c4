/* SPDX-License-Identifier: MIT */
/*
 * The buffer between kernel and script. It is as large as the load needs: where it is found more
 * than half full, a larger one takes its place. That is an update of a map of maps, which returns
 * when no program runs any more that found the old one (as in tracer_agg.c): all that comes is in
 * the new one, and what is in the old one came before it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "tracer_private.h"

#define MOST ((size_t)64 << 20)
#define PART_OF_MEMORY 32 /* of all that the machine has, at most */

/* Lets the programs use a ring, and waits for those that use another. */
static int use_ring(struct tracer *t, int fd)
{
	struct tracer_haste haste;
	__u32 zero = 0;
	int ret;

	tracer_hasten(t, &haste);
	ret = bpf_map_update_elem(tracer_map_fd(t, "rings"), &zero, &fd, BPF_ANY) ? -errno : 0;
	tracer_relax(&haste);
	return ret;
}

static size_t most_bytes(void)
{
	size_t memory = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);

	return memory / PART_OF_MEMORY < MOST ? memory / PART_OF_MEMORY : MOST;
}

size_t tracer_buffer_size(const struct tracer_options *o)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);

	while (size < o->ring_bytes && size < (1u << 30))
		size *= 2;
	return size;
}

static int duplicate(const struct tracer *t, const char *map)
{
	int fd = fcntl(tracer_map_fd(t, map), F_DUPFD_CLOEXEC, 3);

	return fd < 0 ? -errno : fd;
}

int tracer_open_buffer(struct tracer *t)
{
	int fd = duplicate(t, "ring"), ret;

	if (fd < 0)
		return fd;
	t->ring_most = t->options->ring_grows ? most_bytes() : 0;
	ret = tracer_ring_open(&t->ring, fd, tracer_buffer_size(t->options));
	if (ret) {
		close(fd);
		return ret;
	}
	if (!t->small)
		return 0;
	fd = duplicate(t, "small_ring");
	if (fd < 0)
		return fd;
	ret = tracer_ring_precede(t->ring, fd, TS_SMALL_RING);
	if (ret)
		close(fd);
	return ret;
}

static int enlarge(struct tracer *t, size_t size)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "ring", 0, 0, (__u32)size, NULL), ret;

	if (fd < 0)
		return -errno;
	ret = tracer_ring_follow(t->ring, fd, size);
	if (ret) {
		close(fd);
		return ret;
	}
	ret = use_ring(t, fd);
	if (ret)
		tracer_ring_stay(t->ring);
	return ret;
}

/*
 * While it is put in its place the old one must do: that is begun when it is empty, or where it
 * does not do anyway.
 */
void tracer_fit_buffer(struct tracer *t, bool drained)
{
	const size_t size = tracer_ring_size(t->ring);
	uint64_t lost;
	int ret;

	t->ring_short |= tracer_ring_used(t->ring) > size / 2;
	if (t->detached || !t->ring_short || 2 * size > t->ring_most || tracer_ring_moves(t->ring))
		return;
	lost = tracer_counter(t, TS_CNT_LOST_BYTES);
	if (!drained && lost == t->ring_lost)
		return;
	t->ring_short = false;
	t->ring_lost = lost;
	ret = enlarge(t, 2 * size);
	if (ret)
		t->ring_most = size;
	ts_verbose("tracer", "the buffer was more than half full: %s%s",
		   ret ? "there is no larger one: " : "it is twice as large now",
		   ret ? strerror(-ret) : "");
}
