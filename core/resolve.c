/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gobin.h"
#include "resolve_private.h"

void resolve_note(struct resolve_work *w, const char *format, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (ts_buf_printf(&w->plan->notes, "%s\n", text))
		w->no_memory = true;
}

struct resolve_func *resolve_add_func(struct resolve_work *w, const struct lib_func *func,
				      const char *name)
{
	struct resolve_plan *p = w->plan;
	struct resolve_func *funcs = realloc(p->funcs, (p->funcs_count + 1) * sizeof(*funcs));

	if (!funcs) {
		w->no_memory = true;
		return NULL;
	}
	p->funcs = funcs;
	funcs += p->funcs_count++;
	memset(funcs, 0, sizeof(*funcs));
	funcs->func = func;
	funcs->inner = p->funcs_count - 1;
	ts_copy(funcs->name, sizeof(funcs->name), name);
	return funcs;
}

void resolve_add_site(struct resolve_work *w, struct resolve_site site)
{
	struct resolve_plan *p = w->plan;
	struct resolve_site *sites = realloc(p->sites, (p->sites_count + 1) * sizeof(*sites));

	if (!sites) {
		w->no_memory = true;
		return;
	}
	p->sites = sites;
	site.func = (uint32_t)p->funcs_count - 1;
	sites[p->sites_count++] = site;
}

struct ts_rule resolve_rule(const struct resolve_work *w, const struct lib_func *func,
			    uint64_t addr)
{
	return (struct ts_rule){
		.role = (uint8_t)func->role,
		.dir = (uint8_t)func->dir,
		.ret_mode = (uint8_t)func->ret_mode,
		.flags = func->flags,
		.how = func->how,
		.sp = {.reg = w->arch->sp, .kind = TS_VAL_REG, .size = 8},
		.ip = {.reg = w->arch->ip, .kind = TS_VAL_REG, .size = 8},
		.entry = addr,
	};
}

static bool has_markers(struct image *im, const struct lib_row *row)
{
	struct image_symbol sym;
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(row->markers) && row->markers[i]; i++) {
		if (image_symbol(im, row->markers[i], &sym) != IMAGE_NOWHERE)
			continue;
		if (i)
			ts_verbose("resolve",
				   "%s: not probed: it has %s and no %s, so it passes calls on",
				   image_path(im), row->markers[0], row->markers[i]);
		return false;
	}
	return true;
}

int resolve_is(struct image *im, const struct lib_row *row, struct ts_err *err)
{
	struct gobin *g;
	int ret;

	if (!row->go)
		return has_markers(im, row) ? 0 : -ENOENT;
	ret = gobin_open(&g, im, err);
	if (!ret)
		gobin_close(g);
	return ret;
}

static int resolve_one(struct image *im, const struct lib_row *row, bool ends,
		       struct resolve_plan *out, struct ts_err *err)
{
	struct resolve_work w = {.im = im,
				 .arch = arch_find(image_machine(im)),
				 .row = row,
				 .plan = out,
				 .ends = ends};
	int ret;

	memset(out, 0, sizeof(*out));
	out->row = row;
	ret = row->go ? resolve_go(&w) : resolve_symbols(&w);
	if (!ret && !w.no_memory)
		return 0;
	resolve_free(out);
	return ts_fail(err, ENOMEM, "out of memory while looking at %s", image_path(im));
}

int resolve_any(struct image *im, const struct lib_row *row, struct resolve_plan *out,
		struct ts_err *err)
{
	return resolve_one(im, row, true, out, err);
}

int resolve_with(struct image *im, const struct lib_row *row, bool ends, struct resolve_plan *out,
		 struct ts_err *err)
{
	const struct arch *host = arch_host(), *arch = arch_find(image_machine(im));

	memset(out, 0, sizeof(*out));
	if (host == arch)
		return resolve_one(im, row, ends, out, err);
	return ts_fail(
		err, ENOEXEC,
		"%s is built for %s, and this kernel runs %s: its code cannot be probed here",
		image_path(im), arch->name, host ? host->name : "another architecture");
}

int resolve_image(struct image *im, const struct lib_row *row, struct resolve_plan *out,
		  struct ts_err *err)
{
	return resolve_with(im, row, true, out, err);
}

void resolve_free(struct resolve_plan *plan)
{
	free(plan->funcs);
	free(plan->sites);
	ts_buf_free(&plan->notes);
	memset(plan, 0, sizeof(*plan));
}
