/* SPDX-License-Identifier: MIT */
/* The kernel's own TLS: the module tls, or a part of the kernel (CONFIG_TLS). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "resolve_private.h"

/* Whether a line of a file contains the word. */
static bool has_line(const char *path, const char *word)
{
	char line[512];
	bool found = false;
	FILE *f = fopen(path, "re");

	while (f && !found && fgets(line, sizeof(line), f))
		found = strstr(line, word) != NULL;
	if (f)
		fclose(f);
	return found;
}

/* The upper layer protocols of TCP are told where the first network namespace is this one. */
bool resolve_kernel_ready(void)
{
	return has_line("/sys/module/tls/initstate", "live") ||
	       has_line("/proc/sys/net/ipv4/tcp_available_ulp", "tls");
}

const char *resolve_kernel_missing(void)
{
	char path[sizeof(((struct utsname *)0)->release) + 64];
	struct utsname u;

	uname(&u);
	snprintf(path, sizeof(path), "/lib/modules/%s/modules.dep", u.release);
	if (has_line(path, "/tls.ko"))
		return "the kernel's module tls is not loaded, so nobody uses the kernel's TLS "
		       "yet; its probes come with the module (`modprobe tls` loads it)";
	return "this kernel has no TLS of its own, or does not tell (CONFIG_TLS; module tls): "
	       "its probes come if the module is loaded";
}

static void add_named(struct resolve_work *w, const char *name)
{
	const struct lib_func *func;
	struct resolve_func *f;
	size_t i;

	for (i = 0; i < lib_kernel.funcs_count; i++) {
		func = &lib_kernel.funcs[i];
		if (strcmp(func->name, name))
			continue;
		f = resolve_add_func(w, func, name);
		if (!f)
			return;
		f->rule = (struct ts_rule){.role = (uint8_t)func->role, .dir = (uint8_t)func->dir};
		ts_copy(f->how, sizeof(f->how), "kallsyms");
	}
}

static void add_symbol(struct resolve_work *w, uint64_t addr, char type, const char *name)
{
	struct resolve_kernel *k = &w->plan->kernel;

	if (!strcmp(name, "page_offset_base"))
		k->page_offset_base = addr;
	else if (!strcmp(name, "vmemmap_base"))
		k->vmemmap_base = addr;
	else if (!strcmp(name, "fprobe_graph_ops"))
		k->preempt_off = true;
	else if (type == 't' || type == 'T')
		add_named(w, name);
}

int resolve_kernel(struct resolve_plan *out, struct ts_err *err)
{
	static const char *const starts[] = {" tls_", " page_off", " vmemmap_b", " fprobe_g"};
	struct resolve_work w = {.row = &lib_kernel, .plan = out};
	char line[512], name[256], type;
	unsigned long long addr;
	FILE *f;
	size_t i;

	memset(out, 0, sizeof(*out));
	out->row = &lib_kernel;
	f = fopen("/proc/kallsyms", "re");
	if (!f)
		return ts_fail(err, errno, "cannot read /proc/kallsyms: %s", strerror(errno));
	while (fgets(line, sizeof(line), f))
		for (i = 0; i < sizeof(starts) / sizeof(*starts); i++)
			if (strstr(line, starts[i]) &&
			    sscanf(line, "%llx %c %255s", &addr, &type, name) == 3)
				add_symbol(&w, addr, type, name);
	fclose(f);
	if (!w.no_memory)
		return 0;
	resolve_free(out);
	return ts_fail(err, ENOMEM, "out of memory");
}
