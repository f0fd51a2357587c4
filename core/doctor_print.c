/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "doctor_private.h"

#define WAYS 6

/* How many functions were found in one way. */
struct way {
	const char *how;
	size_t count;
};

static const char *way_of(const struct doctor_func *f)
{
	return strncmp(f->how, "call target", 11) ? f->how : "disassembly";
}

static size_t count_ways(const struct doctor_lib *lib, struct way ways[WAYS], unsigned int *sites)
{
	size_t n = 0, i, k;

	*sites = 0;
	for (i = 0; i < lib->funcs_count; i++) {
		*sites += lib->funcs[i].sites;
		for (k = 0; k < n && strcmp(ways[k].how, way_of(&lib->funcs[i])) != 0; k++)
			;
		if (k == WAYS)
			continue;
		if (k == n)
			ways[n++] = (struct way){way_of(&lib->funcs[i]), 0};
		ways[k].count++;
	}
	return n;
}

/* --- text */

/* Names are the process' own choice: nothing in them acts on a terminal. */
static void add_clean(struct ts_buf *b, const char *text)
{
	output_escape(b, text, strlen(text), false);
}

void doctor_send(struct output *out, struct ts_buf *b)
{
	output_write(out, b->data, b->len);
	ts_buf_free(b);
}

static void add_sentence(struct ts_buf *b, const char *reason, const char *remedy)
{
	add_clean(b, reason);
	if (remedy) {
		ts_buf_printf(b, "; ");
		add_clean(b, remedy);
	}
	ts_buf_printf(b, "\n");
}

static void add_attachment(struct ts_buf *b, const struct doctor_lib *lib)
{
	struct way ways[WAYS];
	unsigned int sites;
	size_t n = count_ways(lib, ways, &sites), i;

	for (i = 0; i < n; i++)
		ts_buf_printf(b, "%s%zu %sby %s", i ? ", " : "", ways[i].count,
			      i			   ? ""
			      : ways[i].count == 1 ? "function "
						   : "functions ",
			      ways[i].how);
	ts_buf_printf(b, "; %u probe%s%s%s\n", sites, sites == 1 ? "" : "s",
		      lib->about[0] ? "; " : "", lib->about);
}

static void add_details(struct ts_buf *b, const struct doctor_lib *lib)
{
	const char *line = (const char *)lib->notes.data, *end = line + lib->notes.len, *stop;
	size_t i;

	for (i = 0; i < lib->funcs_count; i++) {
		ts_buf_printf(b, "    ");
		add_clean(b, lib->funcs[i].name);
		ts_buf_printf(b, ": %s, %s, %u probe%s (%s)\n", lib->funcs[i].serves,
			      lib->funcs[i].how, lib->funcs[i].sites,
			      lib->funcs[i].sites == 1 ? "" : "s", lib->funcs[i].cost);
	}
	for (; line && line < end; line = stop + 1) {
		stop = memchr(line, '\n', (size_t)(end - line));
		if (!stop)
			break;
		ts_buf_printf(b, "    ");
		output_escape(b, line, (size_t)(stop - line), false);
		ts_buf_printf(b, "\n");
	}
}

struct widths {
	int name, path;
};

static void add_name(struct ts_buf *b, const struct doctor_lib *lib)
{
	ts_buf_printf(b, "%s%s", lib->name, lib->version[0] ? " " : "");
	add_clean(b, lib->version);
}

/* How wide the columns of a block are. */
static void measure(const struct doctor_use *use, struct widths *w)
{
	struct ts_buf b = {0};
	size_t i;

	for (i = 0; i < use->file->libs_count; i++) {
		add_name(&b, &use->file->libs[i]);
		w->name = (int)b.len > w->name ? (int)b.len : w->name;
		ts_buf_free(&b);
		add_clean(&b, use->path);
		w->path = (int)b.len > w->path ? (int)b.len : w->path;
		ts_buf_free(&b);
	}
}

/* told: a reason that was given before. */
static void add_lib(struct ts_buf *b, const struct doctor_lib *lib, const struct doctor_use *use,
		    const struct widths *w, const char *told)
{
	struct ts_buf name = {0}, path = {0};

	add_name(&name, lib);
	add_clean(&path, use->path);
	ts_buf_printf(b, "  %-*.*s  %-*.*s  %s%s%s: ", w->name, (int)name.len, (char *)name.data,
		      w->path, (int)path.len, (char *)path.data,
		      doctor_is_shared(lib, use->path) ? "shared" : "static",
		      use->file->stripped ? ", stripped" : "", use->deleted ? ", deleted" : "");
	ts_buf_free(&name);
	ts_buf_free(&path);
	if (lib->captured)
		add_attachment(b, lib);
	else if (told == lib->reason)
		ts_buf_printf(b, "not captured\n");
	else
		add_sentence(b, lib->reason, lib->remedy);
	if (ts_get_level() >= TS_VERBOSE)
		add_details(b, lib);
}

static void add_use(struct ts_buf *b, const struct doctor_use *use, const struct widths *w,
		    const char *told)
{
	size_t i;

	for (i = 0; i < use->file->libs_count; i++)
		add_lib(b, &use->file->libs[i], use, w, told);
}

static void add_remarks(struct ts_buf *b, const struct doctor_process *p)
{
	char label[CONTAINER_NAME];

	if (p->deleted)
		ts_buf_printf(b, "  its program was deleted or replaced since it started; what "
				 "runs is probed, not what has its name now\n");
	if (p->container.id[0]) {
		ts_buf_printf(b, "  it is in the container ");
		add_clean(b, container_label(&p->container, label));
		ts_buf_printf(b, "\n");
	}
	if (p->other_mount_namespace)
		ts_buf_printf(b, "  it is in another mount namespace; paths are as it sees them\n");
	if (p->musl)
		ts_buf_printf(b, "  its C library is musl\n");
}

static void text_process(struct output *out, const struct doctor_process *p)
{
	struct widths w = {0};
	struct ts_buf b = {0};
	size_t i;

	add_clean(&b, p->info.comm);
	ts_buf_printf(&b, " (pid %u%s", p->info.pid, p->info.exe[0] ? ", " : "");
	add_clean(&b, p->info.exe);
	if (p->connections)
		ts_buf_printf(&b, ", %u TCP connection%s", p->connections,
			      p->connections == 1 ? "" : "s");
	ts_buf_printf(&b, "): %s be captured%s", p->verdict == DOCTOR_NO ? "cannot" : "can",
		      p->verdict == DOCTOR_PARTLY ? " in part\n"
		      : p->verdict == DOCTOR_YES  ? "\n"
						  : ": ");
	if (p->verdict == DOCTOR_NO)
		add_sentence(&b, p->reason, p->remedy);
	for (i = 0; i < p->uses_count; i++)
		measure(&p->uses[i], &w);
	for (i = 0; i < p->uses_count; i++)
		add_use(&b, &p->uses[i], &w, p->reason);
	add_remarks(&b, p);
	doctor_send(out, &b);
}

static void text_file(struct output *out, const struct doctor_use *use)
{
	struct ts_buf b = {0};
	struct widths w = {0};

	if (use->file->libs_count) {
		measure(use, &w);
		add_use(&b, use, &w, NULL);
	} else {
		ts_buf_printf(&b, "  ");
		if (!use->file->problem[0])
			add_clean(&b, use->path);
		add_sentence(&b,
			     use->file->problem[0] ? use->file->problem
						   : ": no known TLS library is in it",
			     NULL);
	}
	doctor_send(out, &b);
}

static void text_machine(struct output *out, const struct info_check *checks, size_t count)
{
	struct ts_buf b = {0};
	struct utsname u;
	size_t i;

	uname(&u);
	ts_buf_printf(&b, "this machine (Linux %s, %s): %s\n", u.release, u.machine,
		      info_captures(checks, count) ? "can capture" : "cannot capture");
	for (i = 0; i < count; i++) {
		if (checks[i].good)
			continue;
		ts_buf_printf(&b, "  %s%s: ", checks[i].needed ? "" : "no ", checks[i].what);
		add_sentence(&b, checks[i].text, checks[i].remedy);
	}
	doctor_send(out, &b);
}

static void text_others(struct output *out, const struct doctor_others *others, size_t count,
			size_t printed)
{
	const struct doctor_others *o;
	struct ts_buf b = {0};
	size_t i;

	if (!printed)
		ts_buf_printf(&b, "no process has a TCP connection and a known TLS library\n");
	if (count)
		ts_buf_printf(&b, "without a connection at the moment:\n");
	for (i = 0; i < count; i++) {
		o = &others[i];
		ts_buf_printf(&b, "  ");
		add_name(&b, o->lib);
		ts_buf_printf(&b, "  ");
		add_clean(&b, o->path);
		ts_buf_printf(&b, ": %zu process%s (", o->count, o->count == 1 ? "" : "es");
		add_clean(&b, o->comm);
		ts_buf_printf(&b, "%s), %s\n", o->count == 1 ? "" : ", ...",
			      o->lib->captured ? "can be captured" : "not captured");
	}
	doctor_send(out, &b);
}

/* --- both */

static bool json(const struct output *out)
{
	return output_format(out) == OUTPUT_JSON;
}

void doctor_print_machine(struct output *out, const struct info_check *checks, size_t count)
{
	json(out) ? doctor_json_machine(out, checks, count) : text_machine(out, checks, count);
}

void doctor_print_process(struct output *out, const struct doctor_process *p)
{
	json(out) ? doctor_json_process(out, p) : text_process(out, p);
}

void doctor_print_file(struct output *out, const struct doctor_use *use)
{
	json(out) ? doctor_json_file(out, use) : text_file(out, use);
}

void doctor_print_others(struct output *out, const struct doctor_others *others, size_t count,
			 size_t printed)
{
	json(out) ? doctor_json_others(out, others, count)
		  : text_others(out, others, count, printed);
}
