/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/btf.h>

#include "ktypes.h"

/* A name that is asked for. */
struct wanted {
	const char *name;
	size_t len;
	uint32_t off; /* among the kernel's strings; 0: it is not there */
};

/*
 * Of the data [0, size) all that is used lies inside: types at types[0, types_len), whole, and
 * NUL-terminated strings at strings[0, strings_len).
 */
struct ktypes {
	unsigned char *data;
	size_t size;
	bool mapped;
	const unsigned char *types;
	const char *strings;
	uint32_t types_len, strings_len;
	uint32_t *at; /* by number: where a type begins; [1, count] */
	uint32_t count;
	struct wanted *wanted;
	size_t wanted_count;
	uint32_t *found; /* numbers of types with a name that is wanted */
	size_t found_count, found_cap;
};

static uint32_t kind_of(const struct btf_type *t)
{
	return BTF_INFO_KIND(t->info);
}

/* Bytes behind struct btf_type; -1: a kind that is not known. */
static long extra_of(const struct btf_type *t)
{
	const uint32_t n = BTF_INFO_VLEN(t->info);

	switch (kind_of(t)) {
	case BTF_KIND_PTR:
	case BTF_KIND_FWD:
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_CONST:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_FUNC:
	case BTF_KIND_FLOAT:
	case BTF_KIND_TYPE_TAG:
		return 0;
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case BTF_KIND_DECL_TAG:
		return 4;
	case BTF_KIND_ARRAY:
		return sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return n * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return n * sizeof(struct btf_enum);
	case BTF_KIND_ENUM64:
		return n * sizeof(struct btf_enum64);
	case BTF_KIND_FUNC_PROTO:
		return n * sizeof(struct btf_param);
	case BTF_KIND_DATASEC:
		return n * sizeof(struct btf_var_secinfo);
	}
	return -1;
}

/* Since 6.16 it can be mapped; before, a read gives a page. */
static int get_data(struct ktypes *k, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	size_t done = 0;
	ssize_t n;

	if (fd < 0)
		return -ENOENT;
	if (fstat(fd, &st) || st.st_size < (off_t)sizeof(struct btf_header)) {
		close(fd);
		return -EINVAL;
	}
	k->size = (size_t)st.st_size;
	k->data = mmap(NULL, k->size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	k->mapped = k->data != MAP_FAILED;
	if (!k->mapped)
		k->data = malloc(k->size);
	while (!k->mapped && k->data && done < k->size) {
		n = read(fd, k->data + done, k->size - done);
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	close(fd);
	if (!k->data)
		return -ENOMEM;
	return k->mapped || done == k->size ? 0 : -EINVAL;
}

static int find_sections(struct ktypes *k)
{
	const struct btf_header *h = (const void *)k->data;
	uint64_t types, strings;

	if (h->magic != BTF_MAGIC || h->hdr_len > k->size || h->hdr_len < sizeof(*h))
		return -EINVAL;
	types = (uint64_t)h->hdr_len + h->type_off;
	strings = (uint64_t)h->hdr_len + h->str_off;
	if (types % 4 || types + h->type_len > k->size || strings + h->str_len > k->size ||
	    !h->str_len || k->data[strings + h->str_len - 1])
		return -EINVAL;
	k->types = k->data + types;
	k->types_len = h->type_len;
	k->strings = (const char *)k->data + strings;
	k->strings_len = h->str_len;
	return 0;
}

/* One of 2^12 classes of strings: most names have none of those that are wanted. */
#define CLASSES 4096
static uint32_t class_of(const char *s, size_t len)
{
	const uint32_t a = (unsigned char)s[0], b = (unsigned char)s[len / 2],
		       c = (unsigned char)s[len - 1];

	return (a * 31 + b * 17 + c * 7 + (uint32_t)len * 131) % CLASSES;
}

/* Each of the kernel's strings is there once. */
static void find_names(struct ktypes *k)
{
	bool classes[CLASSES] = {0};
	uint32_t off, len;
	size_t i;

	for (i = 0; i < k->wanted_count; i++)
		classes[class_of(k->wanted[i].name, k->wanted[i].len)] = true;
	for (off = 1; off < k->strings_len; off += len + 1) {
		len = (uint32_t)strlen(k->strings + off);
		if (!len || !classes[class_of(k->strings + off, len)])
			continue;
		for (i = 0; i < k->wanted_count; i++)
			if (k->wanted[i].len == len &&
			    !memcmp(k->wanted[i].name, k->strings + off, len))
				k->wanted[i].off = off;
	}
}

static bool is_wanted(const struct ktypes *k, uint32_t name)
{
	size_t lo = 0, hi = k->wanted_count, mid;

	if (!name)
		return false;
	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (k->wanted[mid].off == name)
			return true;
		if (k->wanted[mid].off < name)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

static int add_found(struct ktypes *k, uint32_t id)
{
	uint32_t *more;

	if (k->found_count == k->found_cap) {
		k->found_cap = 2 * k->found_cap + 64;
		more = realloc(k->found, k->found_cap * sizeof(*more));
		if (!more)
			return -ENOMEM;
		k->found = more;
	}
	k->found[k->found_count++] = id;
	return 0;
}

static int find_types(struct ktypes *k)
{
	/* No type is shorter; number 0 is void. */
	const size_t most = k->types_len / sizeof(struct btf_type) + 1;
	const struct btf_type *t;
	uint32_t off = 0;
	long extra;

	k->at = malloc(most * sizeof(*k->at));
	if (!k->at)
		return -ENOMEM;
	while (off < k->types_len) {
		t = (const void *)(k->types + off);
		if (k->types_len - off < sizeof(*t))
			return -EINVAL;
		extra = extra_of(t);
		if (extra < 0 || (size_t)extra > k->types_len - off - sizeof(*t))
			return -EINVAL;
		k->at[++k->count] = off;
		if (is_wanted(k, t->name_off) && add_found(k, k->count))
			return -ENOMEM;
		off += (uint32_t)(sizeof(*t) + (size_t)extra);
	}
	return 0;
}

static int by_off(const void *a, const void *b)
{
	const struct wanted *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

static int find_all(struct ktypes *k, const char *path, const char *const *names, size_t count)
{
	size_t i;
	int ret = get_data(k, path);

	if (!ret)
		ret = find_sections(k);
	if (ret)
		return ret;
	k->wanted = calloc(count + 1, sizeof(*k->wanted));
	if (!k->wanted)
		return -ENOMEM;
	for (i = 0; i < count; i++)
		if (*names[i])
			k->wanted[k->wanted_count++] =
				(struct wanted){.name = names[i], .len = strlen(names[i])};
	find_names(k);
	qsort(k->wanted, k->wanted_count, sizeof(*k->wanted), by_off);
	return find_types(k);
}

int ktypes_open(struct ktypes **out, const char *path, const char *const *names, size_t count)
{
	struct ktypes *k = calloc(1, sizeof(*k));
	int ret = k ? find_all(k, path, names, count) : -ENOMEM;

	*out = ret ? NULL : k;
	if (ret)
		ktypes_close(k);
	return ret;
}

void ktypes_close(struct ktypes *k)
{
	if (!k)
		return;
	if (k->mapped)
		munmap(k->data, k->size);
	else
		free(k->data);
	free(k->at);
	free(k->wanted);
	free(k->found);
	free(k);
}

/* id: 1 to k->count. */
static const struct btf_type *type_of(const struct ktypes *k, uint32_t id)
{
	return (const void *)(k->types + k->at[id]);
}

static const char *string_of(const struct ktypes *k, uint32_t off)
{
	return off < k->strings_len ? k->strings + off : "";
}

uint32_t ktypes_id(const struct ktypes *k, uint32_t kind, const char *name)
{
	const struct btf_type *t;
	size_t i;

	for (i = 0; i < k->found_count; i++) {
		t = type_of(k, k->found[i]);
		if (kind_of(t) == kind && !strcmp(string_of(k, t->name_off), name))
			return k->found[i];
	}
	return 0;
}

/* Types that are written down: queue[i] of the kernel's has the number i + 1. */
struct writer {
	const struct ktypes *k;
	uint32_t *ids; /* by the kernel's number; 0: not queued */
	uint32_t *queue;
	uint32_t queued;
	uint32_t pointer; /* the one pointer's number; 0: not queued */
	struct ts_buf types, strings;
	int ret;
};

static void put(struct writer *w, struct ts_buf *b, const void *data, size_t len)
{
	if (!w->ret)
		w->ret = ts_buf_add(b, data, len);
}

static uint32_t put_string(struct writer *w, uint32_t off)
{
	const char *s = string_of(w->k, off);
	const size_t at = w->strings.len;

	if (!*s)
		return 0;
	put(w, &w->strings, s, strlen(s) + 1);
	return (uint32_t)at;
}

/* The number of a type that is used by one that is written. */
static uint32_t number_of(struct writer *w, uint32_t id)
{
	bool pointer;

	if (!id || id > w->k->count)
		return 0;
	pointer = kind_of(type_of(w->k, id)) == BTF_KIND_PTR;
	if (pointer && w->pointer)
		return w->pointer;
	if (!w->ids[id]) {
		w->queue[w->queued++] = id;
		w->ids[id] = w->queued;
	}
	if (pointer)
		w->pointer = w->ids[id];
	return w->ids[id];
}

static void put_members(struct writer *w, const struct btf_type *t)
{
	const struct btf_member *m = (const void *)(t + 1);
	struct btf_member copy;
	uint32_t i;

	for (i = 0; i < BTF_INFO_VLEN(t->info); i++) {
		copy = m[i];
		copy.name_off = put_string(w, m[i].name_off);
		copy.type = number_of(w, m[i].type);
		put(w, &w->types, &copy, sizeof(copy));
	}
}

/* struct btf_enum, and struct btf_enum64, begin with the name. */
static void put_enumerators(struct writer *w, const struct btf_type *t, size_t size)
{
	const unsigned char *e = (const void *)(t + 1);
	uint32_t i, name;

	for (i = 0; i < BTF_INFO_VLEN(t->info); i++, e += size) {
		memcpy(&name, e, sizeof(name));
		name = put_string(w, name);
		put(w, &w->types, &name, sizeof(name));
		put(w, &w->types, e + sizeof(name), size - sizeof(name));
	}
}

static void put_array(struct writer *w, const struct btf_type *t)
{
	struct btf_array copy = *(const struct btf_array *)(t + 1);

	copy.type = number_of(w, copy.type);
	copy.index_type = number_of(w, copy.index_type);
	put(w, &w->types, &copy, sizeof(copy));
}

static void put_type(struct writer *w, const struct btf_type *t)
{
	const uint32_t kind = kind_of(t);
	struct btf_type copy = *t;

	copy.name_off = put_string(w, t->name_off);
	if (kind == BTF_KIND_PTR)
		copy.type = 0;
	else if (kind == BTF_KIND_TYPEDEF || kind == BTF_KIND_CONST || kind == BTF_KIND_VOLATILE ||
		 kind == BTF_KIND_RESTRICT || kind == BTF_KIND_TYPE_TAG)
		copy.type = number_of(w, t->type);
	put(w, &w->types, &copy, sizeof(copy));
	if (kind == BTF_KIND_INT)
		put(w, &w->types, t + 1, 4);
	else if (kind == BTF_KIND_ARRAY)
		put_array(w, t);
	else if (kind == BTF_KIND_ENUM)
		put_enumerators(w, t, sizeof(struct btf_enum));
	else if (kind == BTF_KIND_ENUM64)
		put_enumerators(w, t, sizeof(struct btf_enum64));
	else if (kind == BTF_KIND_STRUCT || kind == BTF_KIND_UNION)
		put_members(w, t);
}

/* What is found by its name, and a program may have a struct, a union or an enum of. */
static void queue_found(struct writer *w)
{
	uint32_t kind;
	size_t i;

	for (i = 0; i < w->k->found_count; i++) {
		kind = kind_of(type_of(w->k, w->k->found[i]));
		if (kind == BTF_KIND_STRUCT || kind == BTF_KIND_UNION || kind == BTF_KIND_ENUM ||
		    kind == BTF_KIND_ENUM64)
			number_of(w, w->k->found[i]);
	}
}

static void write_all(struct writer *w, struct ts_buf *out)
{
	struct btf_header h = {.magic = BTF_MAGIC, .version = BTF_VERSION, .hdr_len = sizeof(h)};
	uint32_t i;

	put(w, &w->strings, "", 1);
	queue_found(w);
	for (i = 0; i < w->queued && !w->ret; i++)
		put_type(w, type_of(w->k, w->queue[i]));
	h.type_len = (uint32_t)w->types.len;
	h.str_off = h.type_len;
	h.str_len = (uint32_t)w->strings.len;
	put(w, out, &h, sizeof(h));
	put(w, out, w->types.data, w->types.len);
	put(w, out, w->strings.data, w->strings.len);
}

int ktypes_write(const struct ktypes *k, struct ts_buf *out)
{
	struct writer w = {.k = k};

	w.ids = calloc(k->count + 1, sizeof(*w.ids));
	w.queue = calloc(k->count + 1, sizeof(*w.queue));
	w.ret = w.ids && w.queue ? 0 : -ENOMEM;
	if (!w.ret)
		write_all(&w, out);
	free(w.ids);
	free(w.queue);
	ts_buf_free(&w.types);
	ts_buf_free(&w.strings);
	return w.ret;
}
