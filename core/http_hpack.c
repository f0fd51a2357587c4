/* SPDX-License-Identifier: MIT */
/*
 * HPACK (RFC 7541) of one direction. Where the beginning was not seen, the table is filled with
 * entries without a name: a reference to one is a field that is not known, and what follows stays
 * in step. The table is as large as the other end may ever have allowed: an entry that is kept
 * longer than the sender keeps it is never referred to.
 */
#include <nghttp2/nghttp2.h>
#include <stdlib.h>

#include "http_private.h"

#define TABLE_MAX 65536
#define UNKNOWN_ENTRIES 512
#define ENTRY_SIZE 208

struct hpack {
	nghttp2_hd_inflater *inflater;
};

static bool inflate(struct hpack *p, const unsigned char *data, size_t len, hpack_field field,
		    void *ctx)
{
	nghttp2_nv nv;
	ssize_t used;
	int flags;

	for (;;) {
		flags = 0;
		used = nghttp2_hd_inflate_hd2(p->inflater, &nv, &flags, data, len, 1);
		if (used < 0)
			return false;
		data += used;
		len -= (size_t)used;
		if (flags & NGHTTP2_HD_INFLATE_EMIT)
			field(ctx, nv.namelen ? (const char *)nv.name : NULL, nv.namelen,
			      (const char *)nv.value, nv.valuelen);
		if (flags & NGHTTP2_HD_INFLATE_FINAL)
			break;
		if (!(flags & NGHTTP2_HD_INFLATE_EMIT) && !len)
			return false;
	}
	return !nghttp2_hd_inflate_end_headers(p->inflater);
}

static void ignore(void *ctx, const char *name, size_t name_len, const char *value,
		   size_t value_len)
{
	(void)ctx;
	(void)name;
	(void)name_len;
	(void)value;
	(void)value_len;
}

/* A table of TABLE_MAX bytes with entries whose name and value are empty. */
static bool fill(struct hpack *p)
{
	/* Table size (RFC 7541, 6.3), then literals that are added to the table (6.2.1). */
	unsigned char block[4 + 3 * UNKNOWN_ENTRIES] = {0x3f, 0xe1, 0xff, 0x03};
	size_t i;

	for (i = 4; i < sizeof(block); i += 3)
		block[i] = 0x40;
	return inflate(p, block, sizeof(block), ignore, NULL);
}

struct hpack *hpack_open(bool fresh)
{
	struct hpack *p = calloc(1, sizeof(*p));

	if (!p || nghttp2_hd_inflate_new(&p->inflater)) {
		free(p);
		return NULL;
	}
	if (nghttp2_hd_inflate_change_table_size(p->inflater, TABLE_MAX) || (!fresh && !fill(p))) {
		hpack_close(p);
		return NULL;
	}
	return p;
}

void hpack_close(struct hpack *p)
{
	if (!p)
		return;
	nghttp2_hd_inflate_del(p->inflater);
	free(p);
}

/* What an entry takes beside its texts was measured: three allocations, a pointer. */
size_t hpack_memory(const struct hpack *p)
{
	if (!p)
		return 0;
	return 4096 + nghttp2_hd_inflate_get_dynamic_table_size(p->inflater) +
	       ENTRY_SIZE * nghttp2_hd_inflate_get_num_table_entries(p->inflater);
}

bool hpack_decode(struct hpack *p, const unsigned char *data, size_t len, hpack_field field,
		  void *ctx)
{
	return inflate(p, len ? data : (const unsigned char *)"", len, field, ctx);
}
