/* SPDX-License-Identifier: MIT */
/* What a subscription asks of a call: as bpf/picks.h. */
#include <errno.h>
#include <string.h>

#include "filter.h"

bool ts_pick_is_any(const struct ts_pick *p)
{
	return !p->min_len && !p->max_len && !p->sample && !p->first && !p->rate && !p->prefixes;
}

int ts_pick_prefix(struct ts_pick *p, const char *text, size_t len)
{
	if (!len || len > TS_PREFIX)
		return -EINVAL;
	if (p->prefixes == TS_PREFIXES)
		return -E2BIG;
	memcpy(p->prefix[p->prefixes].value, text, len);
	memset(p->prefix[p->prefixes].mask, 0xff, len);
	p->prefix[p->prefixes++].len = len;
	return 0;
}

static bool has_prefix(const struct ts_pick *p, uint64_t len, const unsigned char *data,
		       size_t size)
{
	size_t i, n;

	for (i = 0; i < p->prefixes; i++) {
		n = size < p->prefix[i].len ? size : p->prefix[i].len;
		if (len >= p->prefix[i].len && (!n || !memcmp(data, p->prefix[i].value, n)))
			return true;
	}
	return false;
}

bool ts_pick_passes(const struct ts_pick *p, const struct ts_data *call, const unsigned char *data,
		    size_t size)
{
	if (call->len < p->min_len || (p->max_len && call->len > p->max_len))
		return false;
	if (p->first && call->nth > p->first)
		return false;
	if (p->prefixes && !has_prefix(p, call->len, data, size))
		return false;
	return !p->sample || !((uint64_t)ts_sample_of(call->call) * p->sample >> 32);
}
