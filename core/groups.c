/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "groups.h"
#include "proc.h"

#define KNOWN_MAX 4096

/* What /proc/PID/cgroup says of some processes. */
struct group {
	char *text;
	uint64_t mark; /* of the folders: a cgroup can be made anew under its name */
	bool nameless; /* a container whose files told no name yet */
};

struct groups {
	struct cgroup_mounts mounts;
	struct group *known;
	size_t count;
	struct ts_map places;	  /* hash of a text, to its place in `known` and one more */
	struct ts_map told;	  /* hash of a name that stands for nothing */
	struct ts_map containers; /* hash of an id, to a struct container that has a name */
	bool used;
};

static uint64_t hash(const char *text)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * 0x100000001b3u;
	return h;
}

static void forget_known(struct groups *g)
{
	size_t i;

	for (i = 0; i < g->count; i++)
		free(g->known[i].text);
	free(g->known);
	g->known = NULL;
	g->count = 0;
	ts_map_free(&g->places);
}

int groups_open(struct groups **out, struct ts_err *err)
{
	struct groups *g = calloc(1, sizeof(*g));
	int ret = g ? cgroup_mounts_read(&g->mounts) : -ENOMEM;

	if (ret) {
		free(g);
		return ts_fail(err, -ret, "cannot see where cgroups are mounted: %s",
			       strerror(-ret));
	}
	*out = g;
	return 0;
}

static void forget_containers(struct groups *g)
{
	size_t i;

	for (i = 0; i < g->containers.cap; i++)
		free(g->containers.slots[i].value);
	ts_map_free(&g->containers);
}

void groups_close(struct groups *g)
{
	if (!g)
		return;
	cgroup_mounts_free(&g->mounts);
	forget_known(g);
	ts_map_free(&g->told);
	forget_containers(g);
	free(g);
}

/* The inode numbers of the folders in v2 and in the first hierarchy with a controller. */
static uint64_t mark_of(const struct groups *g, const char *text)
{
	struct cgroup_line lines[CGROUP_LINES];
	size_t count = cgroup_lines(text, lines), i;
	uint64_t mark = 0, seen = 0;
	struct cgroup c;

	for (i = 0; i < count && seen < 2; i++) {
		if (!strncmp(lines[i].controllers, "name=", 5) ||
		    cgroup_of_line(&lines[i], lines[i].path_len, &c))
			continue;
		cgroup_find(&g->mounts, &c);
		mark = mark * 31 + c.id;
		free(c.path);
		seen++;
	}
	return mark;
}

bool groups_container(struct groups *g, const char *text, struct container *out)
{
	struct container *kept;
	uint64_t h;

	if (!container_parse(text, out, NULL))
		return false;
	h = hash(out->id);
	kept = ts_map_get(&g->containers, h, 0);
	if (kept && !strcmp(kept->id, out->id)) {
		*out = *kept;
		return true;
	}
	if (kept || !container_read_names("", text, out))
		return true;
	if (g->containers.count >= KNOWN_MAX)
		forget_containers(g);
	kept = malloc(sizeof(*kept));
	if (kept) {
		*kept = *out;
		if (ts_map_set(&g->containers, h, 0, kept))
			free(kept);
	}
	return true;
}

static bool is_nameless(struct groups *g, const char *text)
{
	struct container c;

	return groups_container(g, text, &c) && !*c.name;
}

/* Whether something is new of what was known. */
static bool renew(struct groups *g, struct group *known, uint64_t mark)
{
	bool same = known->mark == mark;

	known->mark = mark;
	if (!known->nameless)
		return !same;
	known->nameless = is_nameless(g, known->text);
	return !same || !known->nameless;
}

/* Whether something is new. Where there is no memory, nothing is. */
static bool note_text(struct groups *g, const char *text)
{
	uint64_t h = hash(text), mark = mark_of(g, text);
	uintptr_t place = (uintptr_t)ts_map_get(&g->places, h, 0);
	struct group *known;

	if (place)
		return renew(g, &g->known[place - 1], mark);
	/* Most of them are gone: what runs is found again when it starts something. */
	if (g->count >= KNOWN_MAX)
		forget_known(g);
	known = realloc(g->known, (g->count + 1) * sizeof(*known));
	if (!known)
		return false;
	g->known = known;
	known[g->count] = (struct group){strdup(text), mark, is_nameless(g, text)};
	if (!known[g->count].text ||
	    ts_map_set(&g->places, h, 0, (void *)(uintptr_t)(g->count + 1))) {
		free(known[g->count].text);
		return false;
	}
	g->count++;
	return true;
}

bool groups_note(struct groups *g, uint32_t pid)
{
	char text[CGROUP_TEXT];

	if (!g->used)
		return false;
	cgroup_read(pid, text, sizeof(text));
	return *text && note_text(g, text);
}

void groups_read(const struct groups *g, uint32_t pid, uint64_t id, char *out, size_t size)
{
	struct cgroup c;

	cgroup_read(pid, out, size);
	if (*out || !id || cgroup_by_id(&g->mounts, id, &c))
		return;
	if (c.path && (size_t)snprintf(out, size, "0::%s\n", c.path) >= size)
		out[0] = 0;
	free(c.path);
}

static int note_process(void *ctx, uint32_t pid)
{
	groups_note(ctx, pid);
	return 0;
}

static int add_item(struct groups_list *list, const struct cgroup *c, bool exclude)
{
	struct groups_item *items = realloc(list->items, (list->count + 1) * sizeof(*items)), *new;

	if (!items)
		return -ENOMEM;
	list->items = items;
	new = &items[list->count];
	*new = (struct groups_item){*c, exclude};
	new->cgroup.path = c->path ? strdup(c->path) : NULL;
	if (c->path && !new->cgroup.path)
		return -ENOMEM;
	list->count++;
	return 0;
}

void groups_list_free(struct groups_list *list)
{
	size_t i;

	for (i = 0; i < list->count; i++)
		free(list->items[i].cgroup.path);
	free(list->items);
	*list = (struct groups_list){0};
}

/* Takes c's path. What is not there is not added. */
static int add_found(struct groups *g, struct groups_list *list, struct cgroup *c, bool exclude)
{
	int ret = 0;

	cgroup_find(&g->mounts, c);
	if (c->id)
		ret = add_item(list, c, exclude);
	free(c->path);
	return ret;
}

/* A list that grows by what names stand for. */
struct resolving {
	struct groups *g;
	enum ts_names key;
	struct groups_list list;
};

/* The cgroup that a name stands for, where a process with this text is in it. As cgroup_named. */
static int find_in_text(struct resolving *r, const char *name, const char *text, struct cgroup *c)
{
	struct container box;

	if (r->key == TS_NAMES_CGROUP)
		return cgroup_named(&r->g->mounts, name, text, c);
	if (!groups_container(r->g, text, &box) || !container_is(&box, name))
		return -ENOENT;
	return container_parse(text, &box, c) ? 0 : -ENOENT;
}

static int add_named(struct resolving *r, const struct ts_filter_name *name)
{
	int ret = -ENOENT;
	struct cgroup c;
	size_t i;

	if (r->key == TS_NAMES_CGROUP)
		ret = cgroup_parse(&r->g->mounts, name->text, &c);
	if (!ret)
		return add_found(r->g, &r->list, &c, name->exclude);
	for (i = 0; ret == -ENOENT && i < r->g->count; i++) {
		ret = find_in_text(r, name->text, r->g->known[i].text, &c);
		if (!ret)
			ret = add_found(r->g, &r->list, &c, name->exclude);
		ret = ret ? ret : -ENOENT;
	}
	return ret == -ENOENT ? 0 : ret;
}

static void tell_missing(struct groups *g, enum ts_names key, const char *name)
{
	uint64_t h = hash(name);

	if (ts_map_get(&g->told, h, key))
		return;
	ts_warn("%s '%s' is not there, or nobody is in it; waiting for it",
		key == TS_NAMES_CGROUP ? "cgroup" : "container", name);
	ts_map_set(&g->told, h, key, g);
}

/* What is in both lists: of two, one within the other, the inner one. */
static int intersect(struct groups_list *a, const struct groups_list *b)
{
	struct groups_list both = {.accepts = true};
	const struct cgroup *x, *y;
	size_t i, j;
	int ret = 0;

	for (i = 0; !ret && i < a->count; i++)
		for (j = 0; !ret && j < b->count; j++) {
			x = &a->items[i].cgroup;
			y = &b->items[j].cgroup;
			if (cgroup_within(x, y))
				ret = add_item(&both, x, false);
			else if (cgroup_within(y, x))
				ret = add_item(&both, y, false);
			else if (strcmp(x->controller, y->controller) != 0)
				ts_warn("'%s' and '%s' are cgroups of different hierarchies: "
					"nobody is looked for in both",
					x->path, y->path);
		}
	groups_list_free(a);
	*a = both;
	return ret;
}

/* The accepted names of one set. */
static int resolve_set(struct resolving *r, const struct ts_filter_names *names, unsigned int set,
		       bool *any)
{
	size_t i, before;
	int ret = 0;

	*any = false;
	for (i = 0; !ret && i < names->count; i++) {
		if (names->items[i].exclude || names->items[i].set != set)
			continue;
		before = r->list.count;
		ret = add_named(r, &names->items[i]);
		if (r->list.count == before)
			tell_missing(r->g, r->key, names->items[i].text);
		*any = true;
	}
	return ret;
}

/* What is accepted: in each set, one name must stand for it. */
static int resolve_sets(struct resolving *r, const struct ts_filter_names *names,
			struct groups_list *out)
{
	unsigned int sets = 0, n;
	int ret = 0;
	size_t i;
	bool any;

	for (i = 0; i < names->count; i++)
		sets = names->items[i].set >= sets ? names->items[i].set + 1 : sets;
	for (n = 0; !ret && n < sets; n++) {
		ret = resolve_set(r, names, n, &any);
		if (!ret && any && out->accepts) {
			ret = intersect(out, &r->list);
		} else if (any) {
			*out = r->list;
			out->accepts = true;
			r->list = (struct groups_list){0};
		}
		groups_list_free(&r->list);
	}
	return ret;
}

int groups_resolve(struct groups *g, const struct ts_filter *f, enum ts_names key,
		   struct groups_list *out)
{
	const struct ts_filter_names *names = &f->names[key];
	struct resolving r = {.g = g, .key = key};
	int ret;
	size_t i;

	*out = (struct groups_list){0};
	if (names->count && !g->used) {
		g->used = true;
		proc_each(note_process, g);
	}
	ret = resolve_sets(&r, names, out);
	r.list = *out;
	for (i = 0; !ret && i < names->count; i++)
		if (names->items[i].exclude)
			ret = add_named(&r, &names->items[i]);
	*out = r.list;
	return ret;
}

static bool is_in_cgroup(void *ctx, const char *value)
{
	static const struct cgroup_mounts none;
	const struct groups_process *p = ctx;
	struct cgroup c;
	bool in;

	if (cgroup_parse(&none, value, &c) == 0 && !c.path)
		return c.id == p->id;
	free(c.path);
	in = !cgroup_named(&none, value, p->text, &c);
	free(c.path);
	return in;
}

static bool is_in_container(void *ctx, const char *value)
{
	const struct groups_process *p = ctx;

	return p->container && container_is(p->container, value);
}

bool groups_passes(const struct ts_filter *f, const struct groups_process *p)
{
	return ts_filter_names_pass(&f->names[TS_NAMES_CGROUP], is_in_cgroup, (void *)p) &&
	       ts_filter_names_pass(&f->names[TS_NAMES_CONTAINER], is_in_container, (void *)p);
}
