/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filter.h"

void ts_filter_free(struct ts_filter *f)
{
	size_t i, j;

	for (i = 0; i < TS_KEY_COUNT; i++)
		free(f->keys[i].items);
	for (i = 0; i < TS_NAMES_COUNT; i++) {
		for (j = 0; j < f->names[i].count; j++)
			free(f->names[i].items[j].text);
		free(f->names[i].items);
	}
	*f = (struct ts_filter){0};
}

static int add_item(struct ts_filter_list *list, const struct ts_filter_item *item)
{
	struct ts_filter_item *items;

	items = realloc(list->items, (list->count + 1) * sizeof(*items));
	if (!items)
		return -ENOMEM;
	list->items = items;
	items[list->count++] = *item;
	return 0;
}

static int add_name(struct ts_filter_names *n, const char *text, bool exclude, unsigned int set)
{
	struct ts_filter_name *items = realloc(n->items, (n->count + 1) * sizeof(*items));

	if (!items)
		return -ENOMEM;
	n->items = items;
	items[n->count] = (struct ts_filter_name){strdup(text), exclude, set};
	if (!items[n->count].text)
		return -ENOMEM;
	n->count++;
	return 0;
}

/* A decimal number from min to max and nothing else. */
static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return !errno && !*end && *out >= min && *out <= max;
}

static int parse_uid(const char *value, uint64_t *number, struct ts_err *err)
{
	struct passwd *pw;

	if (parse_number(value, 0, UINT32_MAX - 1, number))
		return 0;
	pw = getpwnam(value);
	if (!pw)
		return ts_fail(err, EINVAL,
			       "uid '%s' is neither a number nor a user of this machine", value);
	*number = pw->pw_uid;
	return 0;
}

int ts_filter_add(struct ts_filter *f, const char *key, const char *value, bool exclude,
		  struct ts_err *err)
{
	struct ts_filter_item item = {.exclude = exclude};
	int ret = 0;

	if (!*value)
		return ts_fail(err, EINVAL, "%s is empty; name a value or leave the key out", key);
	if (!strcmp(key, "pid")) {
		if (!parse_number(value, 1, INT_MAX, &item.number))
			return ts_fail(err, EINVAL, "pid '%s' is not a process number", value);
		ret = add_item(&f->keys[TS_KEY_PID], &item);
	} else if (!strcmp(key, "comm")) {
		ts_copy(item.text, sizeof(item.text), value);
		ret = add_item(&f->keys[TS_KEY_COMM], &item);
	} else if (!strcmp(key, "uid")) {
		ret = parse_uid(value, &item.number, err);
		if (!ret)
			ret = add_item(&f->keys[TS_KEY_UID], &item);
	} else if (!strcmp(key, "lib")) {
		ret = add_name(&f->names[TS_NAMES_LIB], value, exclude, 0);
	} else if (!strcmp(key, "cgroup")) {
		ret = add_name(&f->names[TS_NAMES_CGROUP], value, exclude, 0);
	} else if (!strcmp(key, "container")) {
		ret = add_name(&f->names[TS_NAMES_CONTAINER], value, exclude, 0);
	} else {
		return ts_fail(err, EINVAL, "'%s' is not a key to filter by", key);
	}
	if (ret == -ENOMEM)
		ts_fail(err, ENOMEM, "out of memory");
	return ret;
}

int ts_filter_follow(struct ts_filter *f, uint32_t pid)
{
	struct ts_filter_item item = {.number = pid, .follow = true};

	return add_item(&f->keys[TS_KEY_PID], &item);
}

static bool accepts_any(const struct ts_filter_list *list)
{
	size_t i;

	for (i = 0; i < list->count; i++)
		if (!list->items[i].exclude)
			return false;
	return !list->nothing;
}

static struct ts_filter_item *find_accepted(const struct ts_filter_list *list,
					    const struct ts_filter_item *item)
{
	size_t i;

	for (i = 0; i < list->count; i++)
		if (!list->items[i].exclude && list->items[i].number == item->number &&
		    !strcmp(list->items[i].text, item->text))
			return &list->items[i];
	return NULL;
}

/* Keeps of a's accepted values those that b accepts too. */
static void keep_common(struct ts_filter_list *a, const struct ts_filter_list *b)
{
	const struct ts_filter_item *other;
	size_t i, kept = 0;

	for (i = 0; i < a->count; i++) {
		other = a->items[i].exclude ? NULL : find_accepted(b, &a->items[i]);
		if (!a->items[i].exclude && !other)
			continue;
		a->items[kept] = a->items[i];
		a->items[kept].follow |= other && other->follow;
		kept++;
	}
	a->count = kept;
	a->nothing |= b->nothing || accepts_any(a);
}

static int intersect_list(struct ts_filter_list *a, const struct ts_filter_list *b)
{
	bool copy_accepted = accepts_any(a);
	size_t i;

	if (!copy_accepted && !accepts_any(b))
		keep_common(a, b);
	a->nothing |= b->nothing;
	for (i = 0; i < b->count; i++)
		if ((b->items[i].exclude || copy_accepted) && add_item(a, &b->items[i]))
			return -ENOMEM;
	return 0;
}

static int intersect_names(struct ts_filter_names *a, const struct ts_filter_names *b)
{
	unsigned int sets = 0;
	size_t i;

	for (i = 0; i < a->count; i++)
		if (a->items[i].set >= sets)
			sets = a->items[i].set + 1;
	for (i = 0; i < b->count; i++)
		if (add_name(a, b->items[i].text, b->items[i].exclude, sets + b->items[i].set))
			return -ENOMEM;
	return 0;
}

int ts_filter_intersect(struct ts_filter *f, const struct ts_filter *other)
{
	size_t i;

	for (i = 0; i < TS_KEY_COUNT; i++)
		if (intersect_list(&f->keys[i], &other->keys[i]))
			return -ENOMEM;
	for (i = 0; i < TS_NAMES_COUNT; i++)
		if (intersect_names(&f->names[i], &other->names[i]))
			return -ENOMEM;
	return 0;
}

static bool lib_matches(void *ctx, const char *value)
{
	const char *path = ctx, *base = strrchr(path, '/');
	const char *subject = strchr(value, '/') || !base ? path : base + 1;
	size_t len = strlen(value);

	if (strpbrk(value, "*?["))
		return !fnmatch(value, subject, 0);
	if (strncmp(value, subject, len))
		return false;
	/* A name may go on with a version, a path may not. */
	return !subject[len] || (!strchr(value, '/') && strchr(".-", subject[len]));
}

static bool list_passes(const struct ts_filter_list *list, uint64_t number, const char *text)
{
	bool named = list->nothing, found = false, match;
	size_t i;

	for (i = 0; i < list->count; i++) {
		match = list->items[i].number == number && !strcmp(list->items[i].text, text);
		if (list->items[i].exclude && match)
			return false;
		named |= !list->items[i].exclude;
		found |= match && !list->items[i].exclude;
	}
	return found || !named;
}

bool ts_filter_passes(const struct ts_filter *f, uint32_t pid, const char *comm, uint32_t uid)
{
	return list_passes(&f->keys[TS_KEY_PID], pid, "") &&
	       list_passes(&f->keys[TS_KEY_COMM], 0, comm) &&
	       list_passes(&f->keys[TS_KEY_UID], uid, "");
}

/* Whether the set that item i belongs to has a name that matches. */
static bool set_matches(const struct ts_filter_names *n, size_t i,
			bool (*matches)(void *ctx, const char *value), void *ctx)
{
	size_t j;

	for (j = 0; j < n->count; j++)
		if (n->items[j].set == n->items[i].set && !n->items[j].exclude &&
		    matches(ctx, n->items[j].text))
			return true;
	return false;
}

bool ts_filter_names_pass(const struct ts_filter_names *n,
			  bool (*matches)(void *ctx, const char *value), void *ctx)
{
	size_t i;

	for (i = 0; i < n->count; i++)
		if (n->items[i].exclude ? matches(ctx, n->items[i].text)
					: !set_matches(n, i, matches, ctx))
			return false;
	return true;
}

bool ts_filter_lib_passes(const struct ts_filter *f, const char *path)
{
	return ts_filter_names_pass(&f->names[TS_NAMES_LIB], lib_matches, (void *)path);
}
