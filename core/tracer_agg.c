/* SPDX-License-Identifier: MIT */
/*
 * Aggregations in the kernel: two tables, of which the programs use one. An update of a map of maps
 * returns when no program runs any more that found what was there before (linux: since 4.20,
 * maybe_wait_bpf_programs in kernel/bpf/syscall.c): then the other table is at rest, and is
 * emptied.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tracer_private.h"

/*
 * While user space looks through a table, no program of a kprobe runs on that processor: it is
 * small as long as that will do, and nobody shall get the processor meanwhile.
 */
#define LEAST_ENTRIES 512
#define MOST_ENTRIES 65536
#define BATCH 1024

static int make_table(__u32 entries)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_HASH, "agg_table", sizeof(struct ts_agg_key),
				sizeof(struct ts_agg_cell), entries, NULL);

	return fd < 0 ? -errno : fd;
}

/* Makes the table anew, where it is smaller than it should be. It is empty, and not in use. */
static int enlarge(struct tracer *t, int which)
{
	int fd;

	if (t->aggs.sizes[which] >= t->aggs.size)
		return 0;
	fd = make_table(t->aggs.size);
	if (fd < 0)
		return fd;
	if (t->aggs.sizes[which])
		close(t->aggs.tables[which]);
	t->aggs.tables[which] = fd;
	t->aggs.sizes[which] = t->aggs.size;
	return 0;
}

/* Lets the programs use a table, and waits for those that use another. */
static int use_table(struct tracer *t, int which)
{
	__u32 zero = 0;

	if (bpf_map_update_elem(tracer_map_fd(t, "agg_tables"), &zero, &t->aggs.tables[which],
				BPF_ANY))
		return -errno;
	t->aggs.in_use = which;
	return 0;
}

static int open_tables(struct tracer *t)
{
	int ret = 0;

	if (!t->aggs.sizes[1]) {
		t->aggs.size = LEAST_ENTRIES;
		ret = enlarge(t, 0);
		if (!ret)
			ret = enlarge(t, 1);
	}
	return ret ? ret : use_table(t, t->aggs.in_use);
}

struct batch {
	struct ts_agg_key *keys;
	struct ts_agg_cell *cells;
	__u32 room;
};

static int grow(struct batch *b)
{
	__u32 room = b->room ? b->room * 2 : BATCH;
	struct ts_agg_cell *cells = realloc(b->cells, room * sizeof(*cells));
	struct ts_agg_key *keys;

	if (!cells)
		return -ENOMEM;
	b->cells = cells;
	keys = realloc(b->keys, room * sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	b->keys = keys;
	b->room = room;
	return 0;
}

/* Empties a table that no program uses. */
static int take_cells(const struct tracer *t, int table, struct batch *b)
{
	__u32 at = 0, count, i;
	void *from = NULL;
	int ret = 0;

	for (;;) {
		count = b->room;
		ret = bpf_map_lookup_and_delete_batch(table, from, &at, b->keys, b->cells, &count,
						      NULL)
			      ? -errno
			      : 0;
		/* A bucket of the table must fit in as a whole. */
		if (ret == -ENOSPC) {
			ret = grow(b);
			if (ret)
				return ret;
			continue;
		}
		if (ret && ret != -ENOENT)
			return ret;
		for (i = 0; i < count; i++)
			t->aggs.sink.cell(t->aggs.sink.ctx, &b->keys[i], &b->cells[i]);
		if (ret)
			return 0;
		from = &at;
	}
}

/* Puts a table in the place of that in use, and empties it. */
static int change_table(struct tracer *t, struct batch *b)
{
	struct tracer_haste haste;
	int last = t->aggs.in_use, ret;

	tracer_hasten(t, &haste);
	ret = use_table(t, !last);
	if (!ret) {
		t->control->aggs_full = 0;
		ret = take_cells(t, t->aggs.tables[last], b);
	}
	tracer_relax(&haste);
	return ret;
}

int tracer_drain_aggs(struct tracer *t)
{
	int last = t->aggs.in_use, ret;
	struct batch b = {0};

	if (!t->aggs.sink.cell || !t->aggs.sizes[1])
		return 0;
	if (tracer_aggs_full(t) && t->aggs.size < MOST_ENTRIES)
		t->aggs.size *= 2;
	ret = grow(&b);
	/* A smaller one does too. */
	if (!ret)
		enlarge(t, !last);
	if (!ret)
		ret = change_table(t, &b);
	free(b.keys);
	free(b.cells);
	return ret;
}

bool tracer_aggs_full(const struct tracer *t)
{
	return __atomic_load_n(&t->control->aggs_full, __ATOMIC_RELAXED);
}

/* Lists what the subscriptions want aggregated; returns how many. */
static uint32_t list_aggs(const struct tracer *t, struct ts_agg list[TS_MAX_SUBS])
{
	uint32_t count = 0;
	size_t i;

	memset(list, 0, TS_MAX_SUBS * sizeof(*list));
	for (i = 0; i < t->subs_count; i++) {
		if (t->subs[i].removed || t->subs[i].agg.form == TS_AGG_NONE)
			continue;
		list[count] = t->subs[i].agg;
		list[count++].sub = 1ull << i;
	}
	return count;
}

/* The programs aggregate nothing meanwhile. */
static int write_aggs(struct tracer *t)
{
	int map = tracer_map_fd(t, "aggs"), ret = 0;
	struct tracer_haste haste;
	uint32_t i;

	tracer_hasten(t, &haste);
	for (i = 0; !ret && i < t->aggs.count; i++)
		if (bpf_map_update_elem(map, &i, &t->aggs.list[i], BPF_ANY))
			ret = -errno;
	/* Whoever is told of them sees them. */
	if (!ret)
		ret = open_tables(t);
	tracer_relax(&haste);
	return ret;
}

void tracer_sync_aggs(struct tracer *t)
{
	struct ts_agg list[TS_MAX_SUBS];
	uint32_t count = t->aggs.sink.cell ? list_aggs(t, list) : 0, i;
	uint64_t mask = 0, ends = 0;
	int ret;

	if (count == t->aggs.count && (!count || !memcmp(list, t->aggs.list, sizeof(list))))
		return;
	/* From here on their calls are events. */
	__atomic_store_n(&t->control->aggs, 0, __ATOMIC_SEQ_CST);
	ret = tracer_drain_aggs(t);
	memcpy(t->aggs.list, list, sizeof(list));
	t->aggs.count = count;
	for (i = 0; i < count; i++) {
		mask |= list[i].sub;
		ends |= list[i].parts & TS_AGG_ENDS_PARTS ? list[i].sub : 0;
	}
	if (!ret && count)
		ret = write_aggs(t);
	if (ret && !t->aggs.failed) {
		ts_warn("the kernel cannot aggregate (%s): each call is an event", strerror(-ret));
		t->aggs.failed = true;
	}
	t->control->aggs_count = count;
	t->control->aggs_ends = ends;
	__atomic_store_n(&t->control->aggs, ret ? 0 : mask, __ATOMIC_SEQ_CST);
}

void tracer_close_aggs(struct tracer *t)
{
	int i;

	for (i = 0; i < 2; i++)
		if (t->aggs.sizes[i])
			close(t->aggs.tables[i]);
}
