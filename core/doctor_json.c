/* SPDX-License-Identifier: MIT */
/* What doctor found as JSON: one object a line; what is unknown is left out. */
#include <string.h>
#include <sys/utsname.h>

#include "doctor_private.h"

static const char *const verdicts[] = {
	[DOCTOR_NO] = "no", [DOCTOR_PARTLY] = "partly", [DOCTOR_YES] = "yes"};

static void key(struct ts_buf *b, const char *name)
{
	unsigned char last = b->len ? b->data[b->len - 1] : '{';

	ts_buf_printf(b, "%s\"%s\":", last == '{' || last == '[' ? "" : ",", name);
}

static void put_string(struct ts_buf *b, const char *name, const char *value)
{
	if (!value || !*value)
		return;
	key(b, name);
	output_json_string(b, value, strlen(value));
}

static void put_number(struct ts_buf *b, const char *name, uint64_t value)
{
	key(b, name);
	ts_buf_printf(b, "%llu", (unsigned long long)value);
}

static void put_bool(struct ts_buf *b, const char *name, bool value)
{
	key(b, name);
	ts_buf_printf(b, value ? "true" : "false");
}

/* An object in a list, or an object's end and the line's. */
static void next_object(struct ts_buf *b)
{
	ts_buf_printf(b, b->data[b->len - 1] == '[' ? "{" : ",{");
}

static void end_line(struct output *out, struct ts_buf *b)
{
	ts_buf_printf(b, "}\n");
	doctor_send(out, b);
}

static void put_reason(struct ts_buf *b, const char *reason, const char *remedy)
{
	put_string(b, "reason", reason);
	put_string(b, "remedy", remedy);
}

static void put_functions(struct ts_buf *b, const struct doctor_lib *lib)
{
	const char *serves;
	size_t i;

	key(b, "functions");
	ts_buf_printf(b, "[");
	for (i = 0; i < lib->funcs_count; i++) {
		next_object(b);
		put_string(b, "name", lib->funcs[i].name);
		serves = lib->funcs[i].serves;
		put_string(b, "probe", serves[0] == '(' ? NULL : serves);
		put_string(b, "how", lib->funcs[i].how);
		put_string(b, "site", lib->funcs[i].cost);
		put_number(b, "probes", lib->funcs[i].sites);
		ts_buf_printf(b, "}");
	}
	ts_buf_printf(b, "]");
}

static void put_notes(struct ts_buf *b, const struct doctor_lib *lib)
{
	const char *line = (const char *)lib->notes.data, *end = line + lib->notes.len, *stop;

	key(b, "notes");
	ts_buf_printf(b, "[");
	for (; line && line < end; line = stop + 1) {
		stop = memchr(line, '\n', (size_t)(end - line));
		if (!stop)
			break;
		ts_buf_printf(b, b->data[b->len - 1] == '[' ? "" : ",");
		output_json_string(b, line, (size_t)(stop - line));
	}
	ts_buf_printf(b, "]");
}

static void put_lib(struct ts_buf *b, const struct doctor_lib *lib, const struct doctor_use *use)
{
	next_object(b);
	put_string(b, "name", lib->name);
	put_string(b, "version", lib->version);
	put_string(b, "path", use->path);
	put_string(b, "linkage", doctor_is_shared(lib, use->path) ? "shared" : "static");
	put_bool(b, "stripped", use->file->stripped);
	put_bool(b, "deleted", use->deleted);
	put_bool(b, "captured", lib->captured);
	put_string(b, "about", lib->about);
	if (lib->captured) {
		put_functions(b, lib);
		put_notes(b, lib);
	} else {
		put_reason(b, lib->reason, lib->remedy);
	}
	ts_buf_printf(b, "}");
}

static void put_uses(struct ts_buf *b, const struct doctor_use *uses, size_t count)
{
	size_t i, n;

	key(b, "libraries");
	ts_buf_printf(b, "[");
	for (i = 0; i < count; i++)
		for (n = 0; n < uses[i].file->libs_count; n++)
			put_lib(b, &uses[i].file->libs[n], &uses[i]);
	ts_buf_printf(b, "]");
}

void doctor_json_process(struct output *out, const struct doctor_process *p)
{
	struct ts_buf b = {0};

	ts_buf_printf(&b, "{\"type\":\"process\"");
	put_number(&b, "pid", p->info.pid);
	put_string(&b, "comm", p->info.comm);
	put_string(&b, "exe", p->info.exe);
	put_string(&b, "cmdline", p->info.cmdline);
	put_string(&b, "container", p->container.id);
	put_string(&b, "container_name", p->container.name);
	if (p->connections_known)
		put_number(&b, "connections", p->connections);
	put_string(&b, "verdict", verdicts[p->verdict]);
	if (p->verdict == DOCTOR_NO)
		put_reason(&b, p->reason, p->remedy);
	put_bool(&b, "deleted", p->deleted);
	put_bool(&b, "other_mount_namespace", p->other_mount_namespace);
	put_bool(&b, "musl", p->musl);
	put_uses(&b, p->uses, p->uses_count);
	end_line(out, &b);
}

void doctor_json_file(struct output *out, const struct doctor_use *use)
{
	const struct doctor_lib *problem;
	struct ts_buf b = {0};

	ts_buf_printf(&b, "{\"type\":\"file\"");
	put_string(&b, "path", use->path);
	put_string(&b, "verdict", verdicts[doctor_judge(use, 1, &problem)]);
	put_string(&b, "reason", use->file->problem);
	put_uses(&b, use, 1);
	end_line(out, &b);
}

void doctor_json_machine(struct output *out, const struct info_check *checks, size_t count)
{
	struct ts_buf b = {0};
	struct utsname u;
	size_t i;

	uname(&u);
	ts_buf_printf(&b, "{\"type\":\"machine\"");
	put_string(&b, "kernel", u.release);
	put_string(&b, "machine", u.machine);
	put_bool(&b, "captures", info_captures(checks, count));
	key(&b, "checks");
	ts_buf_printf(&b, "[");
	for (i = 0; i < count; i++) {
		next_object(&b);
		put_string(&b, "what", checks[i].what);
		put_bool(&b, "good", checks[i].good);
		put_bool(&b, "needed", checks[i].needed);
		put_string(&b, "text", checks[i].text);
		if (!checks[i].good)
			put_string(&b, "remedy", checks[i].remedy);
		ts_buf_printf(&b, "}");
	}
	ts_buf_printf(&b, "]");
	end_line(out, &b);
}

void doctor_json_others(struct output *out, const struct doctor_others *others, size_t count)
{
	struct ts_buf b = {0};
	size_t i, n;

	for (i = 0; i < count; i++) {
		ts_buf_printf(&b, "{\"type\":\"library\"");
		put_string(&b, "name", others[i].lib->name);
		put_string(&b, "version", others[i].lib->version);
		put_string(&b, "path", others[i].path);
		put_bool(&b, "captured", others[i].lib->captured);
		if (!others[i].lib->captured)
			put_reason(&b, others[i].lib->reason, others[i].lib->remedy);
		key(&b, "pids");
		for (n = 0; n < others[i].count; n++)
			ts_buf_printf(&b, "%s%u", n ? "," : "[", others[i].pids[n]);
		ts_buf_printf(&b, "]");
		end_line(out, &b);
	}
}
