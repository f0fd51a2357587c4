/* SPDX-License-Identifier: MIT */
/*
 * Copies of one program, in many containers, are looked at once. A build-id is only a claim: a plan
 * is used again where the file has the same size, and the same code at each place to be probed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "resolve_private.h"

#define MAX_PLANS 64
#define CODE 16 /* as long as an instruction can be, and more */

struct cached {
	struct resolve_plan plan;
	char build_id[IMAGE_BUILD_ID + 1];
	off_t size;
	unsigned char (*code)[CODE]; /* what is at each of the plan's sites */
};

/* The oldest gives way. */
struct resolve_cache {
	bool ends;
	struct cached plans[MAX_PLANS];
	size_t next;
};

struct resolve_cache *resolve_cache_open(bool ends)
{
	struct resolve_cache *cache = calloc(1, sizeof(*cache));

	if (cache)
		cache->ends = ends;
	return cache;
}

static void forget(struct cached *c)
{
	resolve_free(&c->plan);
	free(c->code);
	memset(c, 0, sizeof(*c));
}

void resolve_cache_close(struct resolve_cache *cache)
{
	size_t i;

	for (i = 0; cache && i < MAX_PLANS; i++)
		forget(&cache->plans[i]);
	free(cache);
}

static bool read_code(const struct image *im, const struct resolve_site *s, unsigned char *code)
{
	memset(code, 0, CODE);
	return pread(image_fd(im), code, CODE, (off_t)s->offset) > 0;
}

static bool same_code(const struct image *im, const struct cached *c)
{
	unsigned char code[CODE];
	size_t i;

	for (i = 0; i < c->plan.sites_count; i++)
		if (!read_code(im, &c->plan.sites[i], code) || memcmp(code, c->code[i], CODE))
			return false;
	return true;
}

static int copy_plan(struct resolve_plan *out, const struct resolve_plan *from)
{
	*out = *from;
	out->notes = (struct ts_buf){0};
	out->funcs = calloc(from->funcs_count + 1, sizeof(*out->funcs));
	out->sites = calloc(from->sites_count + 1, sizeof(*out->sites));
	if (!out->funcs || !out->sites ||
	    (from->notes.len && ts_buf_add(&out->notes, from->notes.data, from->notes.len))) {
		resolve_free(out);
		return -ENOMEM;
	}
	if (from->funcs_count)
		memcpy(out->funcs, from->funcs, from->funcs_count * sizeof(*out->funcs));
	if (from->sites_count)
		memcpy(out->sites, from->sites, from->sites_count * sizeof(*out->sites));
	return 0;
}

/* Not to be able to keep it costs time only. */
static void keep(struct resolve_cache *cache, const struct image *im, off_t size,
		 const struct resolve_plan *plan)
{
	struct cached *c = &cache->plans[cache->next];
	size_t i;

	forget(c);
	c->code = calloc(plan->sites_count + 1, sizeof(*c->code));
	if (!c->code || copy_plan(&c->plan, plan) ||
	    !ts_copy(c->build_id, sizeof(c->build_id), image_build_id(im))) {
		forget(c);
		return;
	}
	for (i = 0; i < plan->sites_count; i++)
		if (!read_code(im, &plan->sites[i], c->code[i])) {
			forget(c);
			return;
		}
	c->size = size;
	cache->next = (cache->next + 1) % MAX_PLANS;
}

int resolve_cached(struct resolve_cache *cache, struct image *im, const struct lib_row *row,
		   struct resolve_plan *out, struct ts_err *err)
{
	const char *id = image_build_id(im);
	struct stat st;
	size_t i;
	int ret;

	if (!*id || fstat(image_fd(im), &st))
		return resolve_with(im, row, cache->ends, out, err);
	for (i = 0; i < MAX_PLANS; i++)
		if (cache->plans[i].plan.row == row && cache->plans[i].size == st.st_size &&
		    !strcmp(cache->plans[i].build_id, id) && same_code(im, &cache->plans[i]))
			return copy_plan(out, &cache->plans[i].plan)
				       ? ts_fail(err, ENOMEM, "out of memory")
				       : 0;
	ret = resolve_with(im, row, cache->ends, out, err);
	if (!ret && out->sites_count)
		keep(cache, im, st.st_size, out);
	return ret;
}
