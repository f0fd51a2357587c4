/* SPDX-License-Identifier: MIT */
/* Hooking the kernel's own TLS: for each of its functions a copy of bpf/ktls.bpf.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <bpf/btf.h>

#include "arch.h"
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

/* A way of hooking, in the order in which they are tried. */
struct hook_way {
	const char *name;
	const char *enter, *leave,
		*leave_no_loop; /* suffix of the program at the entry, and names */
};

/*
 * fentry and fexit programs can be preempted where the kernel is preemptible, and do not run for
 * the next thread on that processor; kprobe.multi's are not, once the function graph runs them.
 */
static const struct hook_way ways[] = {
	{"kprobe.multi", "kprobe", "leave_kretprobe", "leave_no_loop"},
	{"fentry", "fentry", "leave_fexit", NULL},
	{"kprobe", "kprobe", "leave_kretprobe", "leave_no_loop"},
};
enum { WAY_MULTI, WAY_FENTRY, WAY_KPROBE, WAYS };

static struct ts_hook hook_of(const struct tracer *t, const struct traced_func *f)
{
	const struct arch *arch = arch_host();
	struct ts_hook hook = {.rule = f->rule,
			       .ret = arch->ret,
			       .sp = arch->sp,
			       .page_offset_base = t->symbols.page_offset_base,
			       .vmemmap_base = t->symbols.vmemmap_base};

	memcpy(hook.args, arch->args, sizeof(hook.args));
	return hook;
}

static void choose_programs(struct bpf_object *o, const struct hook_way *way, const char *enter,
			    const char *leave, const char *target)
{
	struct bpf_program *p;
	const char *name;

	bpf_object__for_each_program(p, o)
	{
		name = bpf_program__name(p);
		if (strcmp(name, enter) && strcmp(name, leave))
			bpf_program__set_autoload(p, false);
		else if (way == &ways[WAY_FENTRY])
			bpf_program__set_attach_target(p, 0, target);
		else if (way == &ways[WAY_MULTI])
			bpf_program__set_expected_attach_type(p, BPF_TRACE_KPROBE_MULTI);
	}
}

static int link_program(struct tracer *t, struct bpf_object *o, const struct hook_way *way,
			const char *name, const char *target, bool returns)
{
	LIBBPF_OPTS(bpf_kprobe_multi_opts, opts, .syms = &target, .cnt = 1, .retprobe = returns);
	struct bpf_program *p = bpf_object__find_program_by_name(o, name);
	struct bpf_link *link;

	if (way == &ways[WAY_FENTRY])
		link = bpf_program__attach(p);
	else if (way == &ways[WAY_MULTI])
		link = bpf_program__attach_kprobe_multi_opts(p, NULL, &opts);
	else
		link = bpf_program__attach_kprobe(p, returns, target);
	if (!link)
		return -errno;
	if (tracer_add_link(t, (struct probe_link){.link = link, .begins = !returns})) {
		bpf_link__destroy(link);
		return -ENOMEM;
	}
	return 0;
}

static int hook_by(struct tracer *t, struct traced_func *f, const struct hook_way *way)
{
	const char *leave = strcmp(t->leave_name, "leave") ? way->leave_no_loop : way->leave;
	const char *target = f->func.name;
	struct ts_hook hook = hook_of(t, f);
	bool calls = f->func.func->role == TS_ROLE_CALL;
	const char *file = "bpf/ktls.bpf.o";
	struct bpf_object *o;
	char enter[64];
	int ret;

	if (!leave)
		return -ENOTSUP;
	snprintf(enter, sizeof(enter), "%s%s_%s", f->func.func->program,
		 !strcmp(f->func.func->program, "recv") && is_recv_old() ? "_old" : "", way->enter);
	tracer_end_aside(t);
	ret = tracer_open_objects(&o, &file, 1, true);
	if (ret)
		return ret;
	tracer_set_constant(o, ".rodata.hook", &hook, sizeof(hook));
	tracer_share_maps(t, o);
	choose_programs(o, way, enter, calls ? leave : "", target);
	ret = bpf_object__load(o);
	tracer_end_loading();
	/* The return first: no call is begun that could not end. */
	if (!ret && calls)
		ret = link_program(t, o, way, leave, target, true);
	if (!ret)
		ret = link_program(t, o, way, enter, target, false);
	if (ret) {
		bpf_object__close(o);
		return ret;
	}
	f->object = o;
	if (!t->kernel)
		t->kernel = o;
	t->hook_way = way;
	snprintf(f->func.how, sizeof(f->func.how), "%s", way->name);
	return 0;
}

int tracer_hook(struct tracer *t, struct traced_func *f)
{
	const struct hook_way *first = &ways[t->symbols.preempt_off ? WAY_MULTI : WAY_FENTRY], *way;
	int why[WAYS] = {0};

	for (way = t->hook_way ? t->hook_way : first; way < &ways[WAYS]; way++) {
		why[way - ways] = hook_by(t, f, way);
		if (!why[way - ways])
			return 0;
	}
	ts_warn("the kernel's %s cannot be hooked: fentry: %s; kprobe: %s (a kernel with "
		"CONFIG_KPROBES, or with fentry and types of its modules, is needed)",
		f->func.name, strerror(-why[WAY_FENTRY]), strerror(-why[WAY_KPROBE]));
	return why[WAY_KPROBE];
}

void tracer_hasten(const struct tracer *t, struct tracer_haste *h)
{
	const struct sched_param first = {.sched_priority = 1};

	h->policy = sched_getscheduler(0);
	h->on = t->kernel && h->policy == SCHED_OTHER && !sched_getparam(0, &h->own) &&
		!sched_setscheduler(0, SCHED_FIFO, &first);
}

void tracer_relax(const struct tracer_haste *h)
{
	if (h->on)
		sched_setscheduler(0, h->policy, &h->own);
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
	t->symbols = plan->kernel;
	f = &t->files[t->files_count - 1];
	ret = tracer_sync_file(t, f, err);
	for (i = 0; i < plan->funcs_count; i++)
		plan->funcs[i] = f->funcs[i].func;
	return ret;
}
