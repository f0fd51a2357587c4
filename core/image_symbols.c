/* SPDX-License-Identifier: MIT */
/* The symbols of an ELF file: by name, and by address. */
#include <stdlib.h>
#include <string.h>

#include "image_private.h"

static bool read_names(struct table *t)
{
	Elf_Data *d;

	if (t->names)
		return true;
	if (!t->syms_scn || t->bad)
		return false;
	d = elf_getdata(t->names_scn, NULL);
	if (!d || !d->d_buf || !d->d_size || ((const char *)d->d_buf)[d->d_size - 1]) {
		t->bad = true;
		return false;
	}
	t->names = d->d_buf;
	t->size = d->d_size;
	return true;
}

static bool read_syms(struct table *t)
{
	Elf_Data *d;

	if (t->syms)
		return true;
	if (!read_names(t))
		return false;
	d = elf_getdata(t->syms_scn, NULL);
	if (!d || !d->d_buf) {
		t->bad = true;
		return false;
	}
	t->syms = d->d_buf;
	t->count = d->d_size / sizeof(*t->syms);
	return true;
}

/* Code that the file itself holds. Names with a dollar are marks ("$x"), not functions. */
static bool is_code(const struct table *t, const Elf64_Sym *s)
{
	int type = ELF64_ST_TYPE(s->st_info);

	return (type == STT_FUNC || type == STT_NOTYPE) && s->st_shndx != SHN_UNDEF &&
	       s->st_shndx != SHN_ABS && s->st_value && s->st_name < t->size &&
	       t->names[s->st_name] && t->names[s->st_name] != '$';
}

static const Elf64_Sym *symbol_named(const struct table *t, size_t name)
{
	size_t i;

	for (i = 0; i < t->count; i++)
		if (t->syms[i].st_name == name && is_code(t, &t->syms[i]))
			return &t->syms[i];
	return NULL;
}

/*
 * Most files have none of the names that we look for. So the name is searched in the strings, which
 * is fast, and the symbols are read only if it is there.
 */
static const Elf64_Sym *table_find(struct table *t, const char *name)
{
	size_t len = strlen(name);
	const Elf64_Sym *s;
	const char *p, *end;

	if (!read_names(t))
		return NULL;
	end = t->names + t->size;
	for (p = t->names; (p = memmem(p, (size_t)(end - p), name, len)); p++) {
		/* A NUL is the last of the names: there is a byte behind this one. */
		if (p[len] && p[len] != '@')
			continue;
		s = read_syms(t) ? symbol_named(t, (size_t)(p - t->names)) : NULL;
		if (s)
			return s;
	}
	return NULL;
}

enum image_source image_symbol(struct image *im, const char *name, struct image_symbol *out)
{
	enum image_source source = IMAGE_DYNSYM;
	const Elf64_Sym *s = table_find(&im->dynsym, name);

	if (!s) {
		source = IMAGE_SYMTAB;
		s = table_find(&im->symtab, name);
	}
	if (!s)
		return IMAGE_NOWHERE;
	*out = (struct image_symbol){name, s->st_value, s->st_size};
	return source;
}

static int by_address(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Where code begins, in order: a file may have a million symbols, and be asked a thousand times. */
static bool sort_starts(struct table *t)
{
	size_t i;

	if (t->starts)
		return true;
	t->starts = malloc(t->count * sizeof(*t->starts));
	for (i = 0; t->starts && i < t->count; i++)
		if (is_code(t, &t->syms[i]))
			t->starts[t->starts_count++] = t->syms[i].st_value;
	if (t->starts)
		qsort(t->starts, t->starts_count, sizeof(*t->starts), by_address);
	return t->starts;
}

static bool table_starts(struct table *t, uint64_t addr)
{
	size_t i;

	if (!read_syms(t) || !t->count)
		return false;
	if (sort_starts(t))
		return bsearch(&addr, t->starts, t->starts_count, sizeof(addr), by_address);
	for (i = 0; i < t->count; i++)
		if (t->syms[i].st_value == addr && is_code(t, &t->syms[i]))
			return true;
	return false;
}

bool image_symbol_starts(struct image *im, uint64_t addr)
{
	return table_starts(&im->dynsym, addr) || table_starts(&im->symtab, addr);
}
