/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fnmatch.h>
#include <string.h>

#include "api.h"
#include "list.h"
#include "script.h"

static const char *const role_names[] = {
	[RESOLVE_ENTER] = "entry",
	[RESOLVE_LEAVE] = "exit",
	[RESOLVE_RETURN] = "return",
	[RESOLVE_END] = "end",
};

static void print_func(FILE *to, const struct targets_file *f, uint32_t index)
{
	const struct resolve_func *func = &f->plan->funcs[index];
	char name[512];
	size_t i;

	fprintf(to, "  %-22s %-10s %s:", ts_clean(name, sizeof(name), func->name),
		lib_serves(func->func), func->how);
	for (i = 0; i < f->plan->sites_count; i++)
		if (f->plan->sites[i].func == index && f->plan->sites[i].where != RESOLVE_SYMBOL)
			fprintf(to, " %s 0x%llx", role_names[f->plan->sites[i].role],
				(unsigned long long)f->plan->sites[i].offset);
	fprintf(to, " (%s)\n", func->cost);
}

void list_file(FILE *to, const struct targets_file *f, uint64_t probes)
{
	char text[8192];
	uint32_t i;

	if (f->problem) {
		fprintf(to, "%s\n", ts_clean(text, sizeof(text), f->problem));
		return;
	}
	fprintf(to, "%s (%s%s", ts_clean(text, sizeof(text), f->path), f->kind,
		f->plan->about[0] ? ": " : "");
	fprintf(to, "%s)\n", ts_clean(text, sizeof(text), f->plan->about));
	for (i = 0; i < f->plan->funcs_count; i++)
		if (probes & TS_PROBE(f->plan->funcs[i].func->probe))
			print_func(to, f, i);
	if (f->plan->notes.len)
		fprintf(to, "%.*s", (int)f->plan->notes.len, (const char *)f->plan->notes.data);
}

struct listing {
	uint64_t probes;
	size_t files;
};

static void on_file(void *ctx, const struct targets_file *f)
{
	struct listing *l = ctx;

	l->files++;
	list_file(stdout, f, l->probes);
}

static const struct targets_ops ops = {.file = on_file};

int list_files(const struct ts_filter *filter, uint64_t probes, struct ts_err *err)
{
	struct listing l = {.probes = probes};
	struct targets *t;
	int ret;

	ret = targets_open(&t, filter, NULL, &ops, &l, err);
	if (ret)
		return ret;
	ret = targets_scan(t, err);
	targets_close(t);
	if (!ret && !l.files)
		puts("nothing: no TLS library that can be probed is in use there, or none that "
		     "this user may look at (`tlsscope doctor` tells why, of each process)");
	return ret;
}

static void print_fields(void)
{
	size_t i;

	puts("fields of their events (also e.conn.NAME and e.proc.NAME; man tlsscope-lua):");
	for (i = 0; i < api_count; i++)
		if (api_table[i].kind == API_FIELD)
			printf("  %-14s %-18s %s\n", api_table[i].name, api_table[i].type,
			       api_table[i].help);
}

bool list_filters_anything(const struct ts_filter *f)
{
	size_t i, n = 0;

	for (i = 0; i < TS_KEY_COUNT; i++)
		n += f->keys[i].count;
	for (i = 0; i < TS_NAMES_COUNT; i++)
		n += f->names[i].count;
	return n;
}

int list_probes(const struct options *o, struct ts_err *err)
{
	const char *pattern = o->pattern ? o->pattern : "*";
	uint64_t probes = 0;
	size_t i, found = 0;

	for (i = 0; i < api_count; i++) {
		if ((api_table[i].kind != API_PROBE && api_table[i].kind != API_EVENT &&
		     api_table[i].kind != API_HTTP) ||
		    fnmatch(pattern, api_table[i].name, 0))
			continue;
		found++;
		if (!list_filters_anything(&o->filter))
			printf("%-12s %s\n", api_table[i].name, api_table[i].help);
	}
	if (!found)
		return ts_fail(err, ENOENT, "no probe matches '%s'; -l lists them all", pattern);
	for (i = 0; i < lib_probes_count; i++)
		if (!fnmatch(pattern, lib_probes[i].name, 0))
			probes |= lib_probes[i].probes;
	if (list_filters_anything(&o->filter))
		return list_files(&o->filter, probes, err);
	if (ts_get_level() >= TS_VERBOSE)
		print_fields();
	return 0;
}

void list_recipes(void)
{
	const struct script_recipe *r;

	for (r = script_recipes(); r->name; r++)
		printf("%-12s %s\n", r->name, r->summary);
}
