/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "arch.h"
#include "info.h"
#include "proc.h"
#include "script.h"
#include "tracer.h"

struct list {
	struct info_check *checks;
	size_t count;
};

static struct info_check *add(struct list *l, const char *what, bool good, const char *text)
{
	struct info_check *c = &l->checks[l->count++];

	*c = (struct info_check){.what = what, .good = good};
	ts_copy(c->text, sizeof(c->text), text);
	return c;
}

static void add_needed(struct list *l, const char *what, bool good, const char *text,
		       const char *remedy)
{
	struct info_check *c = add(l, what, good, text);

	c->needed = true;
	c->remedy = remedy;
}

/* Whether the kernel or this process holds a capability; numbers of linux/capability.h. */
static bool has_capability(unsigned int number)
{
	unsigned long long effective = 0;
	char line[256];
	FILE *f = fopen("/proc/self/status", "re");

	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "CapEff: %llx", &effective) == 1)
			break;
	fclose(f);
	return effective >> number & 1;
}

static int refuse(void *ctx, const struct ts_record *r)
{
	(void)ctx;
	(void)r;
	return 0;
}

/* The only proof that the programs load is to load them. */
static void add_tracer(struct list *l)
{
	struct tracer_options options = {.ring_bytes = 1 << 16};
	struct record_sink sink = {refuse, NULL};
	const char *name, *sockets;
	struct tracer *t;
	struct ts_err err;

	if (tracer_open(&t, &options, &sink, &err)) {
		add_needed(l, "BPF programs", false, err.text, NULL);
		return;
	}
	add_needed(l, "BPF programs", true, "load on this kernel", NULL);
	name = tracer_attach_name(t);
	add(l, "sites", true, tracer_sites_name(t));
	sockets = tracer_sockets_name(t);
	tracer_close(t);
	add_needed(l, "probes",
		   !strncmp(name, "uprobe_multi", strlen("uprobe_multi")) ||
			   !access("/sys/bus/event_source/devices/uprobe/type", R_OK),
		   name, "mount /sys, on a kernel that is built with CONFIG_UPROBE_EVENTS");
	add(l, "sockets", sockets,
	    sockets ? sockets
		    : "neither tp_btf sock_send_length nor a kprobe: addresses only where a "
		      "connection has a descriptor");
}

/* "none integrity [confidentiality]"; a kernel without it has no such file. */
static void add_lockdown(struct list *l)
{
	FILE *f = fopen("/sys/kernel/security/lockdown", "re");
	char line[128] = "", *mode;

	if (f && !fgets(line, sizeof(line), f))
		line[0] = 0;
	if (f)
		fclose(f);
	mode = strchr(line, '[');
	if (mode)
		mode[strcspn(mode, "]")] = 0;
	add_needed(l, "reading memory", !mode || strcmp(mode + 1, "confidentiality") != 0,
		   mode ? "as the kernel's lockdown says" : "the kernel is not locked down",
		   "start the kernel with lockdown=integrity, or without it");
}

static void add_privileges(struct list *l)
{
	static const struct {
		unsigned int number; /* of linux/capability.h */
		const char *name, *use;
	} capabilities[] = {
		{39, "CAP_BPF", "load programs"},
		{38, "CAP_PERFMON", "attach probes"},
		{21, "CAP_SYS_ADMIN", "open the files behind other processes' mappings"},
		{19, "CAP_SYS_PTRACE", "see other users' processes"},
	};
	size_t i;

	add(l, "root", !geteuid(),
	    geteuid() ? "needed to trace; -r and --info need no privileges" : "")
		->remedy = "run it with sudo";
	for (i = 0; i < TS_ARRAY_SIZE(capabilities); i++)
		add(l, capabilities[i].name, has_capability(capabilities[i].number),
		    capabilities[i].use)
			->remedy = "run it as root";
}

size_t info_machine(struct info_check checks[INFO_CHECKS])
{
	struct list l = {.checks = checks};
	const struct arch *arch = arch_host();

	add_needed(&l, "architecture", arch,
		   arch ? "supported" : "only x86_64 and aarch64 are supported",
		   "run it on one of these");
	add_needed(&l, "kernel types", !access("/sys/kernel/btf/vmlinux", R_OK),
		   "/sys/kernel/btf/vmlinux",
		   "use a kernel that is built with CONFIG_DEBUG_INFO_BTF");
	add_lockdown(&l);
	add_privileges(&l);
	add(&l, "kernel's TLS", resolve_kernel_ready(),
	    resolve_kernel_ready() ? "the module tls is there" : resolve_kernel_missing());
	add(&l, "first pid namespace", proc_pidns_is_init(), "pids are the machine's")->remedy =
		"run it outside of containers: process numbers here are not those of the kernel";
	add_tracer(&l);
	return l.count;
}

static void print_library(const struct lib_row *r)
{
	size_t i;

	printf("%-18s      ", r->kind);
	/* What is only a pattern, of forks, says little here. */
	for (i = 0; i < r->funcs_count; i++)
		if (r->funcs[i].name[0] != '*')
			printf("%s%s", i ? " " : "", r->funcs[i].name);
	putchar('\n');
}

static void print_libraries(void)
{
	size_t i;

	for (i = 0; i < lib_rows_count; i++)
		print_library(&lib_rows[i]);
	print_library(&lib_kernel);
}

bool info_captures(const struct info_check *checks, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (checks[i].needed && !checks[i].good)
			return false;
	return true;
}

void info_print(void)
{
	struct info_check checks[INFO_CHECKS];
	struct utsname u;
	size_t count, i;

	uname(&u);
	printf("tlsscope %s on Linux %s, %s\n", TS_VERSION, u.release, u.machine);
	count = info_machine(checks);
	for (i = 0; i < count; i++)
		printf("%-18s %-4s %s\n", checks[i].what, checks[i].good ? "yes" : "no",
		       checks[i].text);
	print_libraries();
}
