/* SPDX-License-Identifier: MIT */
/* Keeping the kernel's filters in step with the subscriptions. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tracer_private.h"

/* The filters map as it should be. */
struct desired {
	struct desired_entry {
		struct ts_filter_id id;
		struct ts_filter_subs subs;
	} * entries;
	size_t count;
	struct ts_control control; /* wants, rejects, follows, enabled, errors, hierarchies */
	struct desired_net {
		struct ts_filter_item item;
		enum ts_filter_key key;
		uint64_t bit;
	} * nets;
	size_t nets_count;
};

static struct ts_filter_id filter_id(enum ts_filter_key key, const struct ts_filter_item *item)
{
	struct ts_filter_id id = {.key = key};

	/* As the kernel compares: a comm padded with NULs, hashes, a number in the first 8 bytes.
	 */
	if (key == TS_KEY_COMM || key == TS_KEY_EXE)
		memcpy(id.value, item->text, sizeof(id.value));
	else
		memcpy(id.value, &item->number, sizeof(item->number));
	return id;
}

static struct ts_filter_subs *find_entry(const struct desired *d, const struct ts_filter_id *id)
{
	size_t i;

	for (i = 0; i < d->count; i++)
		if (!memcmp(&d->entries[i].id, id, sizeof(*id)))
			return &d->entries[i].subs;
	return NULL;
}

/* item: how the subscription names the value. */
static int add_value(struct desired *d, const struct ts_filter_id *id,
		     const struct ts_filter_item *item, uint64_t bit)
{
	struct ts_filter_subs *subs = find_entry(d, id);
	struct desired_entry *entries;

	if (!subs) {
		entries = realloc(d->entries, (d->count + 1) * sizeof(*entries));
		if (!entries)
			return -ENOMEM;
		d->entries = entries;
		entries[d->count] = (struct desired_entry){.id = *id};
		subs = &entries[d->count++].subs;
	}
	if (item->exclude) {
		subs->reject |= bit;
		d->control.rejects[id->key] |= bit;
		return 0;
	}
	subs->accept |= bit;
	d->control.wants[id->key] |= bit;
	if (item->follow) {
		subs->follow |= bit;
		d->control.follows |= bit;
	}
	return 0;
}

/* Networks lie in one another: what each means is known when all are there. */
static int add_net(struct desired *d, enum ts_filter_key key, const struct ts_filter_item *item,
		   uint64_t bit)
{
	struct desired_net *nets = realloc(d->nets, (d->nets_count + 1) * sizeof(*nets));

	if (!nets)
		return -ENOMEM;
	d->nets = nets;
	nets[d->nets_count++] = (struct desired_net){*item, key, bit};
	if (item->exclude)
		d->control.rejects[key] |= bit;
	else
		d->control.wants[key] |= bit;
	return 0;
}

/* Lets the kernel's filter look at the hierarchy, and says how. */
static int add_hierarchy(struct desired *d, const struct cgroup *c, __u32 *subsys,
			 struct ts_err *err)
{
	__u32 *list = d->control.hierarchies, i;

	if (tracer_subsys(c->controller, subsys))
		return ts_fail(
			err, ENOENT,
			"cannot filter by cgroup '%s' of '%s': that is no controller of this "
			"kernel; name its cgroup of v2, or of a controller such as memory",
			c->path, c->controller);
	for (i = 0; i < d->control.hierarchies_count; i++)
		if (list[i] == *subsys)
			return 0;
	if (i == TS_HIERARCHIES)
		return ts_fail(err, ENOSPC,
			       "cannot filter by cgroup '%s' of '%s': cgroups of more than %d "
			       "controllers are named",
			       c->path, c->controller, TS_HIERARCHIES);
	list[d->control.hierarchies_count++] = *subsys;
	return 0;
}

static int add_cgroup(struct desired *d, enum ts_filter_key key, const struct groups_item *group,
		      uint64_t bit, struct ts_err *err)
{
	struct ts_filter_item item = {.exclude = group->exclude};
	struct ts_cgroup value = {.id = group->cgroup.id};
	struct ts_filter_id id = {.key = key};
	int ret = add_hierarchy(d, &group->cgroup, &value.subsys, err);

	memcpy(id.value, &value, sizeof(value));
	return ret ? ret : add_value(d, &id, &item, bit);
}

static int add_cgroups(struct tracer *t, struct desired *d, enum ts_filter_key key,
		       const struct ts_sub *sub, uint64_t bit, struct ts_err *err)
{
	enum ts_names names = key == TS_KEY_CGROUP ? TS_NAMES_CGROUP : TS_NAMES_CONTAINER;
	struct groups_list list;
	int ret = groups_resolve(t->groups, &sub->filter, names, &list);
	size_t i;

	if (list.accepts)
		d->control.wants[key] |= bit;
	for (i = 0; !ret && i < list.count; i++)
		ret = add_cgroup(d, key, &list.items[i], bit, err);
	groups_list_free(&list);
	return ret;
}

static int add_item(struct desired *d, enum ts_filter_key key, const struct ts_filter_item *item,
		    uint64_t bit)
{
	struct ts_filter_id id = filter_id(key, item);

	return item->net ? add_net(d, key, item, bit) : add_value(d, &id, item, bit);
}

static int add_sub(struct tracer *t, struct desired *d, const struct ts_sub *sub, uint64_t bit,
		   struct ts_err *err)
{
	const struct ts_filter_list *list;
	size_t key, i;
	int ret;

	if (sub->removed)
		return 0;
	if (sub->filter.keys[TS_KEY_EXE].count && tracer_check_exe(t, err))
		return -ENOTSUP;
	if (sub->enabled)
		d->control.enabled |= bit;
	if (sub->errors)
		d->control.errors |= bit;
	if (lib_kernel_only(sub->probes))
		d->control.control |= bit;
	if (sub->probes & TS_PROBE(TS_P_OPEN))
		d->control.opens |= bit;
	if (sub->probes & TS_PROBE(TS_P_ERROR))
		d->control.fails |= bit;
	if (ts_filter_names_ends(&sub->filter))
		d->control.ends |= bit;
	if (!ts_pick_is_any(&sub->pick))
		d->control.picks |= bit;
	if (sub->pick.prefixes)
		d->control.heads |= bit;
	if (tracer_sub_counts(sub))
		d->control.counted |= bit;
	for (key = 0; key < TS_KEY_COUNT; key++) {
		list = &sub->filter.keys[key];
		if (list->nothing)
			d->control.wants[key] |= bit;
		for (i = 0; i < list->count; i++) {
			if (add_item(d, (enum ts_filter_key)key, &list->items[i], bit))
				return -ENOMEM;
		}
	}
	ret = add_cgroups(t, d, TS_KEY_CGROUP, sub, bit, err);
	return ret ? ret : add_cgroups(t, d, TS_KEY_CONTAINER, sub, bit, err);
}

/*
 * Takes out what is not wanted any more. Children that the kernel added because their parent is
 * followed stay, for those subscriptions that follow now.
 */
static void remove_stale(struct tracer *t, const struct desired *d)
{
	struct ts_filter_id *last = NULL, id, next;
	struct ts_filter_subs subs;

	while (!bpf_map_get_next_key(t->filters, last, &next)) {
		if (!find_entry(d, &next) && !bpf_map_lookup_elem(t->filters, &next, &subs)) {
			if (subs.follow && d->control.follows) {
				subs.accept = subs.follow = d->control.follows;
				bpf_map_update_elem(t->filters, &next, &subs, BPF_EXIST);
			} else {
				/* The walk starts again: its place is gone. */
				bpf_map_delete_elem(t->filters, &next);
				last = NULL;
				continue;
			}
		}
		id = next;
		last = &id;
	}
}

static struct ts_net_id net_id(const struct desired_net *net)
{
	struct ts_net_id id = {.bits = TS_NET_KEY_BITS + (__u32)net->item.number, .key = net->key};

	memcpy(id.address, net->item.text, sizeof(id.address));
	return id;
}

static bool is_desired(const struct desired *d, const struct ts_net_id *id)
{
	struct ts_net_id own;
	size_t i;

	for (i = 0; i < d->nets_count; i++) {
		own = net_id(&d->nets[i]);
		if (!memcmp(&own, id, sizeof(own)))
			return true;
	}
	return false;
}

/* Whoever names a network means those within it too. */
static int write_net(struct tracer *t, const struct desired *d, const struct desired_net *net)
{
	struct ts_filter_subs subs = {0};
	struct ts_net_id id = net_id(net);
	const struct desired_net *wide;
	size_t i;

	for (i = 0; i < d->nets_count; i++) {
		wide = &d->nets[i];
		if (wide->key != net->key || !ts_filter_holds(&wide->item, &net->item))
			continue;
		if (wide->item.exclude)
			subs.reject |= wide->bit;
		else
			subs.accept |= wide->bit;
	}
	return bpf_map_update_elem(t->nets, &id, &subs, BPF_ANY) ? -errno : 0;
}

static int write_nets(struct tracer *t, const struct desired *d)
{
	struct ts_net_id *last = NULL, id, next;
	int ret = 0;
	size_t i;

	for (i = 0; !ret && i < d->nets_count; i++)
		ret = write_net(t, d, &d->nets[i]);
	while (!ret && !bpf_map_get_next_key(t->nets, last, &next)) {
		if (is_desired(d, &next)) {
			id = next;
			last = &id;
		} else {
			/* The walk starts again: its place is gone. */
			bpf_map_delete_elem(t->nets, &next);
			last = NULL;
		}
	}
	return ret;
}

/* Of those that are followed the kernel's programs change what the map says. */
static void set_first_pid(struct tracer *t, const struct desired *d)
{
	const struct desired_entry *e;
	__u64 pid;
	size_t i;

	for (i = 0; i < d->count; i++) {
		e = &d->entries[i];
		if (e->id.key != TS_KEY_PID || e->subs.follow)
			continue;
		memcpy(&pid, e->id.value, sizeof(pid));
		t->control->first = e->subs;
		__atomic_store_n(&t->control->first_pid, pid, __ATOMIC_SEQ_CST);
		return;
	}
}

static int write_filters(struct tracer *t, const struct desired *d, struct ts_err *err)
{
	int ret = 0;
	size_t i;

	__atomic_store_n(&t->control->first_pid, 0, __ATOMIC_SEQ_CST);
	remove_stale(t, d);
	for (i = 0; !ret && i < d->count; i++)
		if (bpf_map_update_elem(t->filters, &d->entries[i].id, &d->entries[i].subs,
					BPF_ANY))
			ret = -errno;
	ret = ret ? ret : write_nets(t, d);
	if (!ret) {
		set_first_pid(t, d);
		return 0;
	}
	return ts_fail(err, -ret,
		       ret == -E2BIG || ret == -ENOSPC ? "too many values to filter by: %s"
						       : "cannot write a filter: %s",
		       strerror(-ret));
}

/* Only of those that are not enabled yet is it another one. */
static int write_picks(struct tracer *t, const struct ts_sub *subs, __u32 count, struct ts_err *err)
{
	struct ts_pick pick;
	__u32 i;

	for (i = 0; i < count; i++) {
		pick = subs[i].pick;
		pick.capture = subs[i].capture;
		if (bpf_map_update_elem(t->picks, &i, &pick, BPF_ANY))
			return ts_fail(err, errno, "cannot write a filter: %s", strerror(errno));
	}
	return 0;
}

static void free_desired(struct desired *d)
{
	free(d->entries);
	free(d->nets);
}

static bool is_filtered(const struct ts_filter_list *list)
{
	return list->count || list->nothing;
}

bool tracer_sub_counts(const struct ts_sub *sub)
{
	const uint64_t kernel = TS_PROBE(TS_P_KTLS_RECV) | TS_PROBE(TS_P_KTLS_SEND);
	const struct ts_agg *a = &sub->agg;

	return a->form != TS_AGG_NONE && a->value == TS_AGG_LEN &&
	       !(a->parts & TS_AGG_ENDS_PARTS) && ts_pick_is_any(&sub->pick) &&
	       !ts_filter_names_ends(&sub->filter) && !sub->errors &&
	       !(sub->probes & TS_PROBES_OPEN) && sub->probes & ~kernel;
}

bool tracer_any_counts(const struct ts_sub *subs, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (!subs[i].removed && tracer_sub_counts(&subs[i]))
			return true;
	return false;
}

static __u32 asked_by_one(const struct ts_sub *sub)
{
	const uint64_t outcomes = TS_PROBE(TS_P_OPEN) | TS_PROBE(TS_P_ERROR);
	const struct ts_filter *f = &sub->filter;
	__u32 asked = 0;

	if (f->names[TS_NAMES_CGROUP].count || is_filtered(&f->keys[TS_KEY_CGROUP]) ||
	    f->names[TS_NAMES_CONTAINER].count || is_filtered(&f->keys[TS_KEY_CONTAINER]))
		asked |= TS_ASK_CGROUPS;
	if (is_filtered(&f->keys[TS_KEY_EXE]))
		asked |= TS_ASK_EXES;
	if (ts_filter_names_ends(f))
		asked |= TS_ASK_SOCKETS;
	if (!ts_pick_is_any(&sub->pick))
		asked |= TS_ASK_PICKS;
	if (sub->agg.form != TS_AGG_NONE)
		asked |= TS_ASK_AGGS;
	if (sub->probes & outcomes)
		asked |= TS_ASK_OUTCOMES;
	return asked;
}

__u32 tracer_asked_by(const struct ts_sub *subs, size_t count)
{
	const struct ts_sub *first = NULL;
	__u32 asked = 0;
	size_t i;

	for (i = 0; i < count; i++) {
		if (subs[i].removed)
			continue;
		asked |= asked_by_one(&subs[i]);
		if (first && first->capture != subs[i].capture)
			asked |= TS_ASK_PICKS;
		first = &subs[i];
	}
	return asked;
}

int tracer_set_subs(struct tracer *t, const struct ts_sub *subs, size_t count, struct ts_err *err)
{
	struct tracer_haste haste;
	struct desired d = {0};
	int ret = 0;
	size_t i;

	if (count > TS_MAX_SUBS)
		return ts_fail(err, E2BIG, "more than %d handlers", TS_MAX_SUBS);
	ret = tracer_ask(t, tracer_asked_by(subs, count), err);
	if (ret)
		return ret;
	ts_fail(err, ENOMEM, "out of memory");
	/* None goes again: who is let pass by it must not be missed for a moment. */
	d.control.hierarchies_count = t->control->hierarchies_count;
	memcpy(d.control.hierarchies, t->control->hierarchies, sizeof(d.control.hierarchies));
	for (i = 0; !ret && i < count; i++)
		ret = add_sub(t, &d, &subs[i], 1ull << i, err);
	if (ret) {
		free_desired(&d);
		return ret;
	}
	t->subs = subs;
	t->subs_count = count;
	/* Whoever goes, goes before the filters change; whoever comes, comes after. */
	t->control->enabled &= d.control.enabled;
	memcpy(t->control->wants, d.control.wants, sizeof(d.control.wants));
	t->control->ends |= d.control.ends;
	if (d.control.follows && !t->fork_link)
		t->fork_link = tracer_tracepoint(t, "process_fork", "children are not followed");
	tracer_hasten(t, &haste);
	ret = write_filters(t, &d, err);
	if (!ret)
		ret = write_picks(t, subs, (__u32)count, err);
	tracer_relax(&haste);
	memcpy(t->control->hierarchies, d.control.hierarchies, sizeof(d.control.hierarchies));
	t->control->hierarchies_count = d.control.hierarchies_count;
	/* What the kernel remembers of cgroups and programs is looked up anew. */
	__atomic_add_fetch(&t->control->generation, 1, __ATOMIC_SEQ_CST);
	memcpy(t->control->rejects, d.control.rejects, sizeof(d.control.rejects));
	t->control->ends = d.control.ends;
	t->control->picks = d.control.picks;
	t->control->heads = d.control.heads;
	t->control->follows = d.control.follows;
	t->control->errors = d.control.errors;
	t->control->control = d.control.control;
	t->control->hellos = tracer_hello_subs(subs, count);
	t->control->opens = d.control.opens;
	t->control->fails = d.control.fails;
	t->control->counted = d.control.counted;
	for (i = 0; !ret && i < t->files_count; i++)
		ret = tracer_sync_file(t, &t->files[i], err);
	tracer_sync_hello(t);
	tracer_sync_aggs(t);
	t->control->enabled = d.control.enabled;
	if (t->took_over)
		ts_verbose("tracer", "loaded once more, for all that can be asked for");
	t->took_over = false;
	free_desired(&d);
	return ret;
}
