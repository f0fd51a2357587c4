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

static void row(const char *what, bool good, const char *text)
{
	printf("%-18s %-4s %s\n", what, good ? "yes" : "no", text);
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
static void print_tracer(void)
{
	struct tracer_options options = {.ring_bytes = 1 << 16};
	struct record_sink sink = {refuse, NULL};
	const char *sockets;
	struct tracer *t;
	struct ts_err err;

	if (tracer_open(&t, &options, &sink, &err)) {
		row("BPF programs", false, err.text);
		return;
	}
	row("BPF programs", true, "load on this kernel");
	row("probes", true, tracer_attach_name(t));
	sockets = tracer_sockets_name(t);
	row("sockets", sockets,
	    sockets ? sockets
		    : "neither tp_btf sock_send_length nor a kprobe: addresses only where a "
		      "connection has a descriptor");
	tracer_close(t);
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

void info_print(void)
{
	const struct arch *arch = arch_host();
	struct utsname u;

	uname(&u);
	printf("tlsscope %s on Linux %s, %s\n", TS_VERSION, u.release, u.machine);
	row("architecture", arch, arch ? "supported" : "only x86_64 and aarch64 are supported");
	row("kernel types", !access("/sys/kernel/btf/vmlinux", R_OK), "/sys/kernel/btf/vmlinux");
	row("root", !geteuid(),
	    geteuid() ? "needed to trace; -r and --info need no privileges" : "");
	row("CAP_BPF", has_capability(39), "load programs");
	row("CAP_PERFMON", has_capability(38), "attach probes");
	row("CAP_SYS_ADMIN", has_capability(21), "open the files behind other processes' mappings");
	row("CAP_SYS_PTRACE", has_capability(19), "see other users' processes");
	row("kernel's TLS", resolve_kernel_ready(),
	    resolve_kernel_ready() ? "the module tls is there" : resolve_kernel_missing());
	row("first pid namespace", proc_pidns_is_init(), "pids are the machine's");
	print_tracer();
	print_libraries();
}
