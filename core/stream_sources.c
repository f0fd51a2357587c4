/* SPDX-License-Identifier: MIT */
/* What numbers in records stand for: functions of files. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stream_private.h"

#define SOURCE_BYTES                                                                               \
	(16u << 20) /* of their names: a bound for what a record file can make us keep */

/* One allocation: the struct, then its strings. */
struct source {
	struct stream_source is;
	char strings[];
};

const struct stream_source *stream_find_source(const struct stream_sources *s, uint32_t id)
{
	const struct source *source = ts_map_get(&s->map, id, 0);

	return source ? &source->is : NULL;
}

int stream_add_source(struct stream_sources *s, const struct rec_source *r)
{
	size_t size = r->record.size - sizeof(*r);
	struct source *source;
	const char *names[3];
	unsigned int i;
	size_t len;
	char *at;

	if (stream_find_source(s, r->id)) /* sent again by another attach */
		return 0;
	size += TS_ARRAY_SIZE(names);
	if (size > SOURCE_BYTES - s->bytes)
		return -EBADMSG;
	source = calloc(1, sizeof(*source) + size);
	if (!source)
		return -ENOMEM;
	at = source->strings;
	for (i = 0; i < TS_ARRAY_SIZE(names); i++) {
		names[i] = record_string(&r->record, sizeof(*r), i);
		len = strlen(names[i]) + 1;
		names[i] = memcpy(at, names[i], len);
		at += len;
	}
	source->is = (struct stream_source){r->id, r->probe, names[0], names[1], names[2]};
	if (ts_map_set(&s->map, r->id, 0, source)) {
		free(source);
		return -ENOMEM;
	}
	s->bytes += size;
	return 0;
}

void stream_free_sources(struct stream_sources *s)
{
	size_t i;

	for (i = 0; i < s->map.cap; i++)
		free(s->map.slots[i].value);
	ts_map_free(&s->map);
}
