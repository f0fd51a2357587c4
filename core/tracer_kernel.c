/* SPDX-License-Identifier: MIT */
/* Hooking the kernel's own TLS: for each of its functions a copy of bpf/ktls.bpf.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <bpf/btf.h>

#include "arch.h"
#include "embed.h"
#include "tracer_private.h"

/*
 * Whether a recvmsg has its flags behind an argument that went with Linux 5.19: struct proto says
 * what this kernel has.
 */
static bool is_recv_old(void)
{
	struct btf *btf = btf__load_vmlinux_btf();
	__s32 id = btf ? btf__find_by_name_kind(btf, "proto", BTF_KIND_STRUCT) : -1;
	const struct btf_type *t = id > 0 ? btf__type_by_id(btf, (__u32)id) : NULL;
	const struct btf_member *m = t ? btf_members(t) : NULL;
	__u16 i, count = t ? btf_vlen(t) : 0;
	bool old = false;

	for (i = 0; i < count; i++) {
		if (strcmp(btf__name_by_offset(btf, m[i].name_off), "recvmsg"))
			continue;
		t = btf__type_by_id(btf, m[i].type);
		t = t && btf_is_ptr(t) ? btf__type_by_id(btf, t->type) : NULL;
		old = t && btf_is_func_proto(t) && btf_vlen(t) > 5;
		break;
	}
	btf__free(btf);
	return old;
}

static struct ts_hook hook_of(const struct traced_func *f)
{
	const struct arch *arch = arch_host();
	struct ts_hook hook = {.rule = f->rule, .ret = arch->ret, .sp = arch->sp};

	memcpy(hook.args, arch->args, sizeof(hook.args));
	return hook;
}

/* All maps are shared: with the programs for user space, or among the copies. */
static void share_maps(struct tracer *t, struct bpf_object *o, const struct ts_hook *hook)
{
	struct bpf_map *m;
	const char *name;
	size_t size;
	int fd;

	bpf_object__for_each_map(m, o)
	{
		name = bpf_map__name(m);
		if (strstr(name, ".rodata.hook"))
			memcpy((void *)bpf_map__initial_value(m, &size), hook, sizeof(*hook));
		if (strchr(name, '.') || !strcmp(name, "more"))
			continue;
		fd = tracer_map_fd(t, name);
		if (fd < 0 && t->kernel)
			fd = bpf_object__find_map_fd_by_name(t->kernel, name);
		if (fd >= 0)
			bpf_map__reuse_fd(m, fd);
	}
}

static void choose_programs(struct bpf_object *o, const char *enter, const char *leave,
			    const char *more, const char *target)
{
	struct bpf_program *p;
	const char *name;

	bpf_object__for_each_program(p, o)
	{
		name = bpf_program__name(p);
		if (strcmp(name, enter) && strcmp(name, leave) && strcmp(name, more))
			bpf_program__set_autoload(p, false);
		else if (bpf_program__type(p) == BPF_PROG_TYPE_TRACING)
			bpf_program__set_attach_target(p, 0, target);
	}
}

static int link_program(struct tracer *t, struct bpf_object *o, const char *name,
			const char *target, bool returns)
{
	struct bpf_program *p = bpf_object__find_program_by_name(o, name);
	struct bpf_link *link;

	if (bpf_program__type(p) == BPF_PROG_TYPE_TRACING)
		link = bpf_program__attach(p);
	else
		link = bpf_program__attach_kprobe(p, returns, target);
	if (!link)
		return -errno;
	if (tracer_add_link(t, (struct probe_link){.link = link})) {
		bpf_link__destroy(link);
		return -ENOMEM;
	}
	return 0;
}

static int hook_by(struct tracer *t, struct traced_func *f, const char *way, const char *leave)
{
	const struct embed_file *file = embed_find("bpf/ktls.bpf.o");
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "tlsscope_ktls");
	const char *more = strcmp(leave, "leave_no_loop") ? "" : "leave_no_loop_more";
	const char *target = f->func.name;
	struct ts_hook hook = hook_of(f);
	bool calls = f->func.func->role == TS_ROLE_CALL;
	struct bpf_object *o;
	char enter[64];
	int ret;

	snprintf(enter, sizeof(enter), "%s%s_%s", f->func.func->program,
		 !strcmp(f->func.func->program, "recv") && is_recv_old() ? "_old" : "", way);
	o = bpf_object__open_mem(file->data, (size_t)(file->end - file->data), &opts);
	if (!o)
		return -errno;
	share_maps(t, o, &hook);
	choose_programs(o, enter, calls ? leave : "", calls ? more : "", target);
	ret = bpf_object__load(o);
	if (!ret && calls && *more)
		ret = tracer_set_tail(o, more);
	/* The return first: no call is begun that could not end. */
	if (!ret && calls)
		ret = link_program(t, o, leave, target, true);
	if (!ret)
		ret = link_program(t, o, enter, target, false);
	if (ret) {
		bpf_object__close(o);
		return ret;
	}
	f->object = o;
	if (!t->kernel)
		t->kernel = o;
	snprintf(f->func.how, sizeof(f->func.how), "%s", way);
	return 0;
}

int tracer_hook(struct tracer *t, struct traced_func *f)
{
	int fentry = -ENOTSUP, ret;

	if (!t->no_fentry) {
		fentry = hook_by(t, f, "fentry", "leave_fexit");
		if (!fentry)
			return 0;
	}
	ret = hook_by(t, f, "kprobe",
		      strcmp(t->leave_name, "leave") ? "leave_no_loop" : "leave_kretprobe");
	if (!ret) {
		t->no_fentry = true;
		return 0;
	}
	ts_warn("the kernel's %s cannot be hooked: fentry: %s; kprobe: %s (a kernel with "
		"CONFIG_KPROBES, or with fentry and types of its modules, is needed)",
		f->func.name, strerror(-fentry), strerror(-ret));
	return ret;
}

uint64_t tracer_kernel_misses(const struct tracer *t, uint64_t (*misses)(int fd))
{
	const struct traced_file *f;
	struct bpf_program *p;
	uint64_t sum = 0;
	size_t i, j;

	for (i = 0; i < t->files_count; i++) {
		f = &t->files[i];
		for (j = 0; j < f->funcs_count; j++) {
			if (!f->funcs[j].object)
				continue;
			bpf_object__for_each_program(p, f->funcs[j].object)
			{
				if (bpf_program__fd(p) >= 0)
					sum += misses(bpf_program__fd(p));
			}
		}
	}
	return sum;
}

int tracer_attach_kernel(struct tracer *t, struct resolve_plan *plan, struct ts_err *err)
{
	struct traced_file *f;
	size_t i;
	int ret = tracer_add_file(t, -1, LIB_KERNEL, plan, err);

	if (ret)
		return ret;
	f = &t->files[t->files_count - 1];
	ret = tracer_sync_file(t, f, err);
	for (i = 0; i < plan->funcs_count; i++)
		plan->funcs[i] = f->funcs[i].func;
	return ret;
}
