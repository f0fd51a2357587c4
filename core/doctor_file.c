/* SPDX-License-Identifier: MIT */
/* What is in one file: the probe table's libraries as they would be probed, and others by signs. */
#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor_private.h"
#include "image.h"

#define MAX_CONSTANTS (512u << 20) /* of one file that are read */
#define WINDOW (256u << 10)
#define OVERLAP 128 /* more than any sign, or text of a version */

/* What a file's constants tell. */
struct constants {
	bool signs[DOCTOR_KNOWN_MAX];
	char versions[DOCTOR_KNOWN_MAX][64];
};

static struct doctor_lib *add_lib(struct doctor_file *f, const struct doctor_known *known,
				  const char *name)
{
	struct doctor_lib *lib;

	if (f->libs_count == DOCTOR_LIBS)
		return NULL;
	lib = &f->libs[f->libs_count++];
	*lib = (struct doctor_lib){.known = known, .name = name};
	return lib;
}

static const struct doctor_known *openssl(void)
{
	size_t i = 0;

	while (i + 1 < doctor_known_count && strcmp(doctor_known[i].name, "openssl") != 0)
		i++;
	return &doctor_known[i];
}

/* "go1.24.4, arguments in registers, ..."; the version may be unknown. */
static void take_about(struct doctor_lib *lib, const char *about)
{
	size_t len = strcspn(about, ",");

	ts_copy(lib->about, sizeof(lib->about), about + len + strspn(about + len, ", "));
	if (!strncmp(about, "go1.", 4))
		snprintf(lib->version, sizeof(lib->version), "%.*s", (int)len - 2, about + 2);
	else if (!strncmp(about, "devel", 5))
		snprintf(lib->version, sizeof(lib->version), "%.*s", (int)len, about);
}

static int copy_plan(struct doctor_lib *lib, const struct resolve_plan *plan)
{
	struct doctor_func *out;
	size_t i;

	lib->funcs = calloc(plan->funcs_count + 1, sizeof(*lib->funcs));
	if (!lib->funcs ||
	    (plan->notes.len && ts_buf_add(&lib->notes, plan->notes.data, plan->notes.len)))
		return -ENOMEM;
	for (i = 0; i < plan->funcs_count; i++) {
		out = &lib->funcs[lib->funcs_count++];
		ts_copy(out->name, sizeof(out->name), plan->funcs[i].name);
		ts_copy(out->how, sizeof(out->how), plan->funcs[i].how);
		ts_copy(out->cost, sizeof(out->cost), plan->funcs[i].cost);
		out->serves = lib_serves(plan->funcs[i].func);
	}
	for (i = 0; i < plan->sites_count; i++)
		lib->funcs[plan->sites[i].func].sites += plan->sites[i].where != RESOLVE_SYMBOL;
	return 0;
}

/* A row of the probe table: what would be attached, or why nothing can be. */
static void on_file(void *ctx, const struct targets_file *f)
{
	struct doctor_files *files = ctx;
	bool go = !strcmp(f->kind, "go");
	struct doctor_lib *lib;

	/* What only explains is no plaintext. */
	if (f->plan ? f->plan->row->aside : doctor_is_companion(openssl(), f->path))
		return;
	lib = add_lib(files->now, go ? NULL : openssl(), f->kind);
	if (!lib)
		return;
	if (!f->plan || f->problem) {
		ts_copy(lib->reason, sizeof(lib->reason), f->problem ? f->problem : "");
		return;
	}
	lib->captured = !copy_plan(lib, f->plan);
	if (!lib->captured)
		ts_copy(lib->reason, sizeof(lib->reason), "out of memory");
	take_about(lib, f->plan->about);
}

static const struct targets_ops ops = {.file = on_file};

/* Whether spaces and a digit stand there. */
static bool is_date(const char *at, const char *end)
{
	const char *p = at;

	while (p < end && *p == ' ')
		p++;
	return p > at && p < end && isdigit((unsigned char)*p);
}

/* "3.0.17" of "OpenSSL 3.0.17 1 Jul 2025"; nothing if it is no version. */
static void read_version(const struct doctor_known *k, const char *at, const char *end, char *out,
			 size_t size)
{
	size_t n = 0;

	while (at + n < end && n + 1 < size &&
	       (isalnum((unsigned char)at[n]) || (at[n] && strchr(".+-", at[n]))))
		n++;
	/* Text at the end of what was read may go on: it is in the next window again. */
	if (!n || at + n == end || !isdigit((unsigned char)at[0]) || !memchr(at, '.', n) ||
	    (k->dated && !is_date(at + n, end)))
		return;
	memcpy(out, at, n);
	out[n] = 0;
}

static void find_version(const struct doctor_known *k, const char *text, size_t len, char *out,
			 size_t size)
{
	const char *end = text + len, *at = text;

	while (!*out && (at = memmem(at, (size_t)(end - at), k->version, strlen(k->version)))) {
		at += strlen(k->version);
		read_version(k, at, end, out, size);
	}
}

static void search(struct constants *c, const char *text, size_t len)
{
	const struct doctor_known *k;
	size_t i, n;

	for (i = 0; i < doctor_known_count; i++) {
		k = &doctor_known[i];
		for (n = 0; n < TS_ARRAY_SIZE(k->signs) && k->signs[n] && !c->signs[i]; n++)
			c->signs[i] = memmem(text, len, k->signs[n], strlen(k->signs[n]));
		if (k->version && !c->versions[i][0])
			find_version(k, text, len, c->versions[i], sizeof(c->versions[i]));
		c->signs[i] |= k->version_is_sign && c->versions[i][0];
	}
}

/* Windows overlap: what lies across the end of one lies in the next. */
static void search_range(struct image *im, struct constants *c, const struct image_range *r,
			 char *window, size_t *left)
{
	uint64_t done = 0;
	ptrdiff_t n;

	while (done < r->size && *left) {
		n = image_read_file(im, r->addr + done, window,
				    r->size - done < WINDOW ? (size_t)(r->size - done) : WINDOW);
		if (n <= 0)
			return;
		search(c, window, (size_t)n);
		*left -= (size_t)n < *left ? (size_t)n : *left;
		if ((size_t)n < WINDOW)
			return;
		done += (size_t)n - OVERLAP;
	}
}

static void read_constants(struct image *im, struct constants *c)
{
	char *window = malloc(WINDOW);
	size_t left = MAX_CONSTANTS, i;
	struct image_range r;
	bool writable;

	if (!window)
		return;
	if (image_section(im, ".rodata", &r))
		search_range(im, c, &r, window, &left);
	else
		for (i = 0; image_segment(im, i, &r, &writable); i++)
			if (!writable)
				search_range(im, c, &r, window, &left);
	free(window);
}

/* The file has OpenSSL's functions: whose are they? */
static void name_family(struct doctor_file *f, const struct constants *c)
{
	struct doctor_lib *lib = NULL;
	size_t i;

	for (i = 0; i < f->libs_count; i++)
		if (f->libs[i].known && f->libs[i].known->like_openssl)
			lib = &f->libs[i];
	for (i = 0; i < doctor_known_count; i++) {
		if (!doctor_known[i].like_openssl || !(c->signs[i] || c->versions[i][0]))
			continue;
		if (!lib && !c->signs[i])
			continue;
		if (!lib) {
			lib = add_lib(f, &doctor_known[i], doctor_known[i].name);
			if (!lib)
				return;
			ts_copy(lib->reason, sizeof(lib->reason), doctor_known[i].reason);
			lib->remedy = doctor_known[i].remedy;
		}
		lib->known = &doctor_known[i];
		lib->name = doctor_known[i].name;
		ts_copy(lib->version, sizeof(lib->version), c->versions[i]);
		return;
	}
}

static void add_known(struct doctor_file *f, struct image *im, const char *path,
		      const struct constants *c)
{
	const struct doctor_known *k;
	struct image_symbol sym;
	struct doctor_lib *lib;
	size_t i;

	for (i = 0; i < doctor_known_count; i++) {
		k = &doctor_known[i];
		if (k->like_openssl || !(doctor_named(k, path) || c->signs[i] ||
					 (k->symbol && image_symbol(im, k->symbol, &sym))))
			continue;
		lib = add_lib(f, k, k->name);
		if (!lib)
			return;
		ts_copy(lib->version, sizeof(lib->version), c->versions[i]);
		ts_copy(lib->reason, sizeof(lib->reason), k->reason);
		lib->remedy = k->remedy;
	}
}

static void set_companion(struct doctor_file *f, const char *path, const struct constants *c)
{
	size_t i;

	for (i = 0; i < doctor_known_count && !f->companion; i++)
		if (doctor_is_companion(&doctor_known[i], path) && c->versions[i][0]) {
			f->companion = &doctor_known[i];
			ts_copy(f->version, sizeof(f->version), c->versions[i]);
		}
}

static void look_inside(struct doctor_files *files, uint32_t pid, struct image *im,
			const char *path)
{
	struct constants *c = calloc(1, sizeof(*c));
	struct doctor_file *f = files->now;
	bool read = f->deep, companion = false;
	struct ts_err err = {""};
	size_t i;

	f->stripped = !image_has_symtab(im);
	for (i = 0; i < doctor_known_count; i++) {
		read |= doctor_named(&doctor_known[i], path);
		companion |= doctor_is_companion(&doctor_known[i], path);
	}
	targets_judge(files->targets, pid, im, path, &err);
	read |= companion || f->libs_count;
	if (c && read)
		read_constants(im, c);
	if (c && companion && !f->libs_count)
		set_companion(f, path, c);
	else if (c) {
		name_family(f, c);
		add_known(f, im, path, c);
	}
	free(c);
}

/* What cannot be looked into may still tell by its name what it is. */
static void by_name_only(struct doctor_file *f, const char *path)
{
	struct doctor_lib *lib;
	size_t i;

	for (i = 0; i < doctor_known_count; i++) {
		if (!doctor_named(&doctor_known[i], path))
			continue;
		lib = add_lib(f, &doctor_known[i], doctor_known[i].name);
		if (lib)
			ts_copy(lib->reason, sizeof(lib->reason), f->problem);
	}
}

static void examine(struct doctor_files *files, uint32_t pid, int fd, const char *path)
{
	struct doctor_file *f = files->now;
	unsigned char ident[EI_NIDENT];
	struct ts_err err = {""};
	struct image *im;

	f->is_32bit = pread(fd, ident, sizeof(ident), 0) == sizeof(ident) &&
		      !memcmp(ident, ELFMAG, SELFMAG) && ident[EI_CLASS] == ELFCLASS32;
	if (image_open(&im, fd, path, &err)) {
		ts_copy(f->problem, sizeof(f->problem), err.text);
		by_name_only(f, path);
		return;
	}
	look_inside(files, pid, im, path);
	image_close(im);
}

static void forget(struct doctor_file *f)
{
	size_t i;

	for (i = 0; i < f->libs_count; i++) {
		free(f->libs[i].funcs);
		ts_buf_free(&f->libs[i].notes);
	}
	f->libs_count = 0;
	f->companion = NULL;
}

struct doctor_file *doctor_look(struct doctor_files *files, uint32_t pid, int fd, const char *path,
				bool deep)
{
	struct doctor_file *f;
	struct stat st;

	if (fstat(fd, &st))
		return NULL;
	f = ts_map_get(&files->map, st.st_dev, st.st_ino);
	if (f && (f->deep || !deep))
		return f;
	if (!f) {
		f = calloc(1, sizeof(*f));
		if (!f || ts_map_set(&files->map, st.st_dev, st.st_ino, f)) {
			free(f);
			return NULL;
		}
		f->next = files->first;
		files->first = f;
	}
	forget(f);
	f->deep = deep;
	files->now = f;
	examine(files, pid, fd, path);
	return f;
}

void doctor_take_version(struct doctor_lib *lib, const struct doctor_file *companion)
{
	if (lib->version[0] || !lib->known || !lib->known->companion || !companion->companion ||
	    lib->known->like_openssl != companion->companion->like_openssl)
		return;
	lib->known = companion->companion;
	lib->name = companion->companion->name;
	ts_copy(lib->version, sizeof(lib->version), companion->version);
}

int doctor_files_open(struct doctor_files *files, struct ts_err *err)
{
	memset(files, 0, sizeof(*files));
	return targets_open(&files->targets, &files->everybody, NULL, &ops, files, err);
}

void doctor_files_close(struct doctor_files *files)
{
	struct doctor_file *f;

	while ((f = files->first)) {
		files->first = f->next;
		forget(f);
		free(f);
	}
	ts_map_free(&files->map);
	targets_close(files->targets);
}
