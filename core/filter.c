/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
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

	for (i = 0; i < TS_KEY_COUNT; i++) {
		for (j = 0; j < f->keys[i].count; j++)
			free(f->keys[i].items[j].exe);
		free(f->keys[i].items);
	}
	for (i = 0; i < TS_NAMES_COUNT; i++) {
		for (j = 0; j < f->names[i].count; j++)
			free(f->names[i].items[j].text);
		free(f->names[i].items);
	}
	*f = (struct ts_filter){0};
}

static int add_item(struct ts_filter_list *list, const struct ts_filter_item *item)
{
	char *exe = item->exe ? strdup(item->exe) : NULL;
	struct ts_filter_item *items = NULL;

	if (!item->exe || exe)
		items = realloc(list->items, (list->count + 1) * sizeof(*items));
	if (!items) {
		free(exe);
		return -ENOMEM;
	}
	list->items = items;
	items[list->count] = *item;
	items[list->count++].exe = exe;
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

static const char *const key_names[TS_KEY_COUNT] = {
	[TS_KEY_PID] = "pid",	  [TS_KEY_COMM] = "comm",   [TS_KEY_UID] = "uid",
	[TS_KEY_EXE] = "exe",	  [TS_KEY_LPORT] = "lport", [TS_KEY_RPORT] = "rport",
	[TS_KEY_LADDR] = "laddr", [TS_KEY_RADDR] = "raddr",
};

const char *ts_filter_key(enum ts_filter_key key)
{
	return key_names[key];
}

static const unsigned char v4[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
#define V4_BITS (8 * sizeof(v4))

const char *ts_filter_text(const struct ts_filter_item *item, char text[TS_FILTER_TEXT])
{
	bool is_v4 = item->number >= V4_BITS && !memcmp(item->text, v4, sizeof(v4));
	unsigned int bits = is_v4 ? TS_NET_BITS - V4_BITS : TS_NET_BITS;
	unsigned int prefix = (unsigned int)(bits - (TS_NET_BITS - item->number));
	char address[INET6_ADDRSTRLEN];

	if (item->exe)
		return item->exe;
	if (item->net) {
		inet_ntop(is_v4 ? AF_INET : AF_INET6, item->text + (is_v4 ? sizeof(v4) : 0),
			  address, sizeof(address));
		snprintf(text, TS_FILTER_TEXT, prefix < bits ? "%s/%u" : "%s", address, prefix);
	} else if (item->text[0]) {
		ts_copy(text, TS_FILTER_TEXT, item->text);
	} else {
		snprintf(text, TS_FILTER_TEXT, "%llu", (unsigned long long)item->number);
	}
	return text;
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

/* The bits of an address that count; what lies behind them is 0 from then on. */
static void cut_address(struct ts_filter_item *item)
{
	unsigned int i, bits;

	for (i = 0; i < TS_FILTER_VALUE; i++) {
		bits = item->number < 8 * i ? 0 : (unsigned int)item->number - 8 * i;
		if (bits < 8)
			item->text[i] = (char)(item->text[i] & (0xff00 >> bits));
	}
}

/* "192.0.2.1", "10.0.0.0/8", "::1", "2001:db8::/32" */
static int parse_net(const char *key, const char *value, struct ts_filter_item *item,
		     struct ts_err *err)
{
	const char *slash = strchr(value, '/');
	size_t len = slash ? (size_t)(slash - value) : strlen(value);
	char address[INET6_ADDRSTRLEN] = "";
	uint64_t most = TS_NET_BITS, bits;

	if (len < sizeof(address))
		snprintf(address, sizeof(address), "%.*s", (int)len, value);
	if (inet_pton(AF_INET, address, item->text + sizeof(v4)) == 1) {
		memcpy(item->text, v4, sizeof(v4));
		most -= V4_BITS;
	} else if (inet_pton(AF_INET6, address, item->text) != 1) {
		return ts_fail(err, EINVAL,
			       "%s '%s' is not an address: 192.0.2.1, 2001:db8::1, or a network "
			       "as 10.0.0.0/8",
			       key, value);
	}
	bits = most;
	if (slash && !parse_number(slash + 1, 0, most, &bits))
		return ts_fail(err, EINVAL, "%s '%s': behind the slash stands a number up to %llu",
			       key, value, (unsigned long long)most);
	item->net = true;
	item->number = TS_NET_BITS - most + bits;
	cut_address(item);
	return 0;
}

static int parse_program(const char *value, struct ts_filter_item *item, struct ts_err *err)
{
	struct ts_exe exe;

	if (ts_exe_parse(value, &exe, err))
		return -EINVAL;
	memcpy(item->text, &exe, sizeof(exe));
	item->program = true;
	item->exe = (char *)value;
	return 0;
}

static enum ts_filter_key find_key(const char *name)
{
	unsigned int key;

	for (key = 0; key < TS_KEY_COUNT; key++)
		if (key_names[key] && !strcmp(key_names[key], name))
			break;
	return (enum ts_filter_key)key;
}

/* A value of a key that the kernel compares. */
static int parse_item(enum ts_filter_key key, const char *value, struct ts_filter_item *item,
		      struct ts_err *err)
{
	switch (key) {
	case TS_KEY_PID:
		if (!parse_number(value, 1, INT_MAX, &item->number))
			return ts_fail(err, EINVAL, "pid '%s' is not a process number", value);
		return 0;
	case TS_KEY_COMM:
		ts_copy(item->text, TS_COMM_LEN, value);
		return 0;
	case TS_KEY_UID:
		return parse_uid(value, &item->number, err);
	case TS_KEY_EXE:
		return parse_program(value, item, err);
	case TS_KEY_LPORT:
	case TS_KEY_RPORT:
		if (!parse_number(value, 1, UINT16_MAX, &item->number))
			return ts_fail(err, EINVAL, "%s '%s' is not a port: 1 to 65535",
				       key_names[key], value);
		return 0;
	default:
		return parse_net(key_names[key], value, item, err);
	}
}

int ts_filter_add(struct ts_filter *f, const char *key, const char *value, bool exclude,
		  struct ts_err *err)
{
	struct ts_filter_item item = {.exclude = exclude};
	enum ts_filter_key own = find_key(key);
	int ret = 0;

	if (!*value)
		return ts_fail(err, EINVAL, "%s is empty; name a value or leave the key out", key);
	if (own < TS_KEY_COUNT) {
		ret = parse_item(own, value, &item, err);
		if (!ret)
			ret = add_item(&f->keys[own], &item);
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

static bool holds_program(const struct ts_filter_item *a, const struct ts_filter_item *b)
{
	struct ts_exe wide, narrow;

	memcpy(&wide, a->text, sizeof(wide));
	memcpy(&narrow, b->text, sizeof(narrow));
	return wide.name == narrow.name && (!wide.path || wide.path == narrow.path);
}

bool ts_filter_holds(const struct ts_filter_item *a, const struct ts_filter_item *b)
{
	struct ts_filter_item cut = *b;

	if (a->program)
		return holds_program(a, b);
	if (a->net && a->number < b->number) {
		cut.number = a->number;
		cut_address(&cut);
	}
	return a->number == cut.number && !memcmp(a->text, cut.text, sizeof(a->text));
}

static const struct ts_filter_item *find_accepted(const struct ts_filter_list *list,
						  const struct ts_filter_item *item)
{
	size_t i;

	for (i = 0; i < list->count; i++)
		if (!list->items[i].exclude && ts_filter_holds(&list->items[i], item))
			return &list->items[i];
	return NULL;
}

/* Adds b's accepted values that are narrower than one of a's first n. */
static int add_narrower(struct ts_filter_list *a, size_t n, const struct ts_filter_list *b)
{
	const struct ts_filter_item *wider;
	struct ts_filter_list first;
	size_t i;

	for (i = 0; i < b->count; i++) {
		if (b->items[i].exclude)
			continue;
		first = (struct ts_filter_list){.items = a->items, .count = n};
		wider = find_accepted(&first, &b->items[i]);
		if (wider && !ts_filter_holds(&b->items[i], wider) && add_item(a, &b->items[i]))
			return -ENOMEM;
	}
	return 0;
}

/* Keeps what both accept. */
static int keep_common(struct ts_filter_list *a, const struct ts_filter_list *b)
{
	const struct ts_filter_item *other;
	size_t i, kept = 0;

	if (add_narrower(a, a->count, b))
		return -ENOMEM;
	for (i = 0; i < a->count; i++) {
		other = a->items[i].exclude ? NULL : find_accepted(b, &a->items[i]);
		if (!a->items[i].exclude && !other) {
			free(a->items[i].exe);
			continue;
		}
		a->items[kept] = a->items[i];
		a->items[kept].follow |= other && other->follow;
		kept++;
	}
	a->count = kept;
	a->nothing |= b->nothing || accepts_any(a);
	return 0;
}

static int intersect_list(struct ts_filter_list *a, const struct ts_filter_list *b)
{
	bool copy_accepted = accepts_any(a);
	size_t i;

	if (!copy_accepted && !accepts_any(b) && keep_common(a, b))
		return -ENOMEM;
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

/* value: NULL is not known. */
static bool list_passes(const struct ts_filter_list *list, const struct ts_filter_item *value)
{
	bool named = list->nothing, found = false, match;
	size_t i;

	for (i = 0; i < list->count; i++) {
		match = value && ts_filter_holds(&list->items[i], value);
		if (list->items[i].exclude && match)
			return false;
		named |= !list->items[i].exclude;
		found |= match && !list->items[i].exclude;
	}
	return found || !named;
}

static bool program_passes(const struct ts_filter_list *list, const char *path)
{
	struct ts_filter_item item = {.program = true};
	struct ts_exe exe;

	if (!list->count)
		return !list->nothing;
	exe = ts_exe_of(path);
	memcpy(item.text, &exe, sizeof(exe));
	return list_passes(list, *path ? &item : NULL);
}

bool ts_filter_passes(const struct ts_filter *f, uint32_t pid, const char *comm, uint32_t uid,
		      const char *exe)
{
	struct ts_filter_item name = {.number = 0};

	ts_copy(name.text, TS_COMM_LEN, comm);
	return list_passes(&f->keys[TS_KEY_PID], &(struct ts_filter_item){.number = pid}) &&
	       list_passes(&f->keys[TS_KEY_COMM], &name) &&
	       list_passes(&f->keys[TS_KEY_UID], &(struct ts_filter_item){.number = uid}) &&
	       program_passes(&f->keys[TS_KEY_EXE], exe);
}

static struct ts_filter_item address_item(const struct ts_conn_info *info, const __u8 *address)
{
	struct ts_filter_item item = {.number = TS_NET_BITS, .net = true};

	if (info->family == AF_INET) {
		memcpy(item.text, v4, sizeof(v4));
		memcpy(item.text + sizeof(v4), address, sizeof(item.text) - sizeof(v4));
	} else {
		memcpy(item.text, address, sizeof(item.text));
	}
	return item;
}

bool ts_filter_ends_pass(const struct ts_filter *f, const struct ts_conn_info *info)
{
	struct ts_filter_item ends[TS_KEY_COUNT] = {
		[TS_KEY_LPORT] = {.number = info->lport},
		[TS_KEY_RPORT] = {.number = info->rport},
		[TS_KEY_LADDR] = address_item(info, info->laddr),
		[TS_KEY_RADDR] = address_item(info, info->raddr),
	};
	bool known = info->family == AF_INET || info->family == AF_INET6;
	unsigned int key;

	for (key = TS_PROCESS_KEYS; key < TS_KEY_COUNT; key++)
		if (!list_passes(&f->keys[key], known ? &ends[key] : NULL))
			return false;
	return true;
}

bool ts_filter_names_ends(const struct ts_filter *f)
{
	unsigned int key;

	for (key = TS_PROCESS_KEYS; key < TS_KEY_COUNT; key++)
		if (f->keys[key].count || f->keys[key].nothing)
			return true;
	return false;
}

bool ts_filter_names_pass(const struct ts_filter_names *n,
			  bool (*matches)(void *ctx, const char *value), void *ctx)
{
	const struct ts_filter_name *name;
	bool named = false, found = false;
	size_t i;

	for (i = 0; i < n->count; i++) {
		name = &n->items[i];
		if (i && name->set != name[-1].set) {
			if (named && !found)
				return false;
			named = found = false;
		}
		if (!name->exclude) {
			named = true;
			found = found || matches(ctx, name->text);
		} else if (matches(ctx, name->text)) {
			return false;
		}
	}
	return found || !named;
}

bool ts_filter_lib_passes(const struct ts_filter *f, const char *path)
{
	return ts_filter_names_pass(&f->names[TS_NAMES_LIB], lib_matches, (void *)path);
}
