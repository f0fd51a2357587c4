/* SPDX-License-Identifier: MIT */
/* Attaching: from a file's plan to rules in the map and probes in the kernel. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tracer_private.h"

/* linux/bpf.h since 6.6 */
#define F_UPROBE_MULTI_RETURN 1

/* The part of union bpf_attr that BPF_LINK_CREATE reads for uprobe_multi (linux/bpf.h, 6.6). */
struct multi_attr {
	__u32 prog_fd, target_fd, attach_type, flags;
	__u64 path, offsets, ref_ctr_offsets, cookies;
	__u32 count, multi_flags, pid, zero;
};

static int create_multi(struct multi_attr *a)
{
	return (int)syscall(SYS_bpf, BPF_LINK_CREATE, a, sizeof(*a));
}

/* The least that can be attached by links of this type. */
static int load_nothing(__u32 type)
{
	const struct bpf_insn nothing[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K},
					   {.code = BPF_JMP | BPF_EXIT}};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = type);

	return bpf_prog_load(BPF_PROG_TYPE_KPROBE, "tlsscope", "GPL", nothing,
			     TS_ARRAY_SIZE(nothing), &opts);
}

static int attach_nothing(int program, __u32 type, const char *path)
{
	__u64 offset = 0;
	struct multi_attr a = {
		.prog_fd = (__u32)program,
		.attach_type = type,
		.path = (uintptr_t)path,
		.offsets = (uintptr_t)&offset,
		.count = 1,
	};

	return create_multi(&a);
}

/* A kernel that has them finds that "/" is not a file; another does not know the type. */
int tracer_has_links(__u32 type)
{
	int program = load_nothing(type), link, has;

	if (program < 0)
		return -errno;
	link = attach_nothing(program, type, "/");
	has = link >= 0 || errno == EBADF;
	if (link >= 0)
		close(link);
	close(program);
	return has;
}

void tracer_attach_first(struct tracer *t)
{
	int program = load_nothing(TRACE_UPROBE_MULTI),
	    file = memfd_create("tlsscope", MFD_CLOEXEC);
	char path[32];
	int link = -1;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	if (program >= 0 && file >= 0 && !ftruncate(file, 1))
		link = attach_nothing(program, TRACE_UPROBE_MULTI, path);
	if (link >= 0 && tracer_add_link(t, (struct probe_link){.fd = link}))
		close(link);
	if (file >= 0)
		close(file);
	if (program >= 0)
		close(program);
}

void tracer_free_file(struct traced_file *f)
{
	size_t i;

	for (i = 0; f->funcs && i < f->funcs_count; i++)
		bpf_object__close(f->funcs[i].object);
	if (f->fd >= 0)
		close(f->fd);
	free(f->path);
	free(f->funcs);
	free(f->sites);
}

/*
 * Whose ends a subscription asks for must be known before the first bytes: what a memory BIO gets
 * in the handshake is looked for at sockets.
 */
static bool wants_handshake(const struct ts_sub *sub, const struct lib_func *func)
{
	const uint64_t calls = TS_PROBE(TS_P_SSL_READ) | TS_PROBE(TS_P_SSL_WRITE);

	return func->role == TS_ROLE_SHAKE && sub->probes & calls &&
	       ts_filter_names_ends(&sub->filter);
}

/* The subscriptions that want a function of a file; what they want of it, in its rule. */
static uint64_t func_subs(const struct tracer *t, const struct traced_file *f,
			  const struct resolve_func *func, struct ts_rule *rule)
{
	uint64_t mask = 0, wants;
	size_t i;

	rule->capture = 0;
	rule->calls = 0;
	rule->largest = 0;
	for (i = 0; i < t->subs_count; i++) {
		wants = t->subs[i].removed ? 0 : t->subs[i].probes;
		if ((!(wants & lib_events(func->func)) &&
		     !(wants && wants_handshake(&t->subs[i], func->func))) ||
		    (!f->aside && !ts_filter_lib_passes(&t->subs[i].filter, f->path)))
			continue;
		mask |= 1ull << i;
		if (!(wants & TS_PROBE(func->func->probe) & ~TS_PROBES_OPEN))
			continue;
		rule->calls |= 1ull << i;
		if (t->subs[i].capture < rule->capture)
			continue;
		if (t->subs[i].capture > rule->capture)
			rule->largest = 0;
		rule->capture = t->subs[i].capture;
		rule->largest |= 1ull << i;
	}
	return mask;
}

static int send_source(struct tracer *t, const struct traced_file *f,
		       const struct traced_func *func)
{
	const char *strings[] = {f->kind, func->func.name, f->path, NULL};
	struct rec_source body = {.id = func->rule, .probe = func->func.func->probe};
	const struct ts_record *r;
	struct ts_buf buf = {0};
	int ret = -ENOMEM;

	r = record_build(&buf, TS_REC_SOURCE, &body, sizeof(body), strings);
	if (r)
		ret = record_send(&t->sink, r);
	ts_buf_free(&buf);
	/* The run ends: nothing of the function will be asked for. */
	return ret == -ECANCELED ? 0 : ret;
}

static int write_rule(const struct tracer *t, const struct traced_func *func)
{
	struct tracer_haste haste;
	int ret;

	tracer_hasten(t, &haste);
	ret = bpf_map_update_elem(t->rules, &func->rule, &func->func.rule, BPF_ANY);
	tracer_relax(&haste);
	return ret;
}

/* Brings a function's rule up to date; gives it a number first when it is wanted and has none. */
static int sync_func(struct tracer *t, const struct traced_file *f, struct traced_func *func,
		     bool any, struct ts_err *err)
{
	struct ts_rule *rule = &func->func.rule;

	rule->subs = func_subs(t, f, &func->func, rule);
	if (rule->role == TS_ROLE_CLOSE)
		rule->subs = any ? ~0ull : 0;
	if (rule->role == TS_ROLE_BIO)
		rule->subs = t->marks ? ~0ull : 0;
	if (rule->role == TS_ROLE_LOADER)
		rule->subs = ~0ull;
	if (!func->rule) {
		if (!rule->subs)
			return 0;
		if (t->last_rule + 1 >= TS_MAX_RULES)
			return ts_fail(err, E2BIG, "%s: more than %d functions are probed already",
				       f->path, TS_MAX_RULES - 1);
		func->rule = ++t->last_rule;
		rule->source = func->rule;
		if (send_source(t, f, func))
			return ts_fail(err, ENOMEM, "out of memory");
	}
	if (write_rule(t, func))
		return ts_fail(err, errno, "cannot write a rule: %s", strerror(errno));
	return 0;
}

int tracer_add_link(struct tracer *t, struct probe_link link)
{
	struct probe_link *links = realloc(t->links, (t->links_count + 1) * sizeof(*links));

	if (!links)
		return -ENOMEM;
	t->links = links;
	links[t->links_count++] = link;
	return 0;
}

size_t tracer_count_links(const struct tracer *t, size_t set)
{
	size_t count = 0, i;

	for (i = 0; i < t->links_count; i++)
		count += t->links[i].set == set;
	return count;
}

struct probe_links *tracer_take_links(struct tracer *t, size_t set, size_t count)
{
	struct probe_links *taken = calloc(1, sizeof(*taken) + count * sizeof(taken->links[0]));
	size_t i, kept = 0;

	for (i = 0; taken && i < t->links_count; i++) {
		if (t->links[i].set == set && taken->count < count)
			taken->links[taken->count++] = t->links[i];
		else
			t->links[kept++] = t->links[i];
	}
	if (taken)
		t->links_count = kept;
	return taken;
}

struct site_list {
	__u64 *offsets, *cookies;
	__u32 count;
};

static __u64 cookie_of(const struct tracer *t, enum resolve_where where, uint32_t rule)
{
	if (where == RESOLVE_ANYHOW || t->at_symbols)
		return rule;
	return rule | (where == RESOLVE_CHEAP ? TS_SITE_CHEAP : TS_SITE_SYMBOL);
}

/* Whether a function's return is probed where this site is. */
static bool returns(const struct traced_file *f, const struct resolve_site *enter)
{
	const struct resolve_site *s;
	size_t i;

	for (i = 0; i < f->sites_count; i++) {
		s = &f->sites[i];
		if (s->role == RESOLVE_RETURN && s->func == enter->func &&
		    s->offset == enter->offset)
			return true;
	}
	return false;
}

/* A session is listed as a return; the entry there is its own. */
static bool is_sessions(const struct tracer *t, const struct traced_file *f,
			const struct resolve_site *s)
{
	return t->attach == TRACER_SESSIONS && s->role == RESOLVE_ENTER && returns(f, s);
}

static int list_sites(const struct tracer *t, const struct traced_file *f,
		      const struct site_pick *pick, struct site_list *out)
{
	const struct resolve_site *s;
	const struct traced_func *func;
	size_t i;

	out->count = 0;
	out->offsets = calloc(f->sites_count + 1, sizeof(__u64));
	out->cookies = calloc(f->sites_count + 1, sizeof(__u64));
	if (!out->offsets || !out->cookies)
		return -ENOMEM;
	for (i = 0; i < f->sites_count; i++) {
		s = &f->sites[i];
		func = &f->funcs[s->func];
		if (s->role != pick->role || !(pick->where & 1u << s->where) || !func->rule ||
		    func->rule < pick->first || (pick->tests && !func->testing) ||
		    pick->bios != (func->func.rule.role == TS_ROLE_BIO) || is_sessions(t, f, s))
			continue;
		out->offsets[out->count] = s->offset;
		out->cookies[out->count++] = cookie_of(t, s->where, func->rule);
	}
	return 0;
}

static int attach_multi(struct tracer *t, const char *path, const struct site_pick *pick,
			uint32_t pid, const struct site_list *sites)
{
	enum resolve_role role = pick->role;
	bool session = role == RESOLVE_RETURN && t->attach == TRACER_SESSIONS;
	struct multi_attr a = {
		.prog_fd = (__u32)bpf_program__fd(session		  ? t->session.program
						  : role == RESOLVE_ENTER ? t->enter.program
									  : t->leave.program),
		.attach_type = session ? TRACE_UPROBE_SESSION : TRACE_UPROBE_MULTI,
		.path = (uintptr_t)path,
		.offsets = (uintptr_t)sites->offsets,
		.cookies = (uintptr_t)sites->cookies,
		.count = sites->count,
		.multi_flags = role == RESOLVE_RETURN && !session ? F_UPROBE_MULTI_RETURN : 0,
		.pid = pid,
	};
	int fd = create_multi(&a);

	if (fd < 0)
		return -errno;
	if (tracer_add_link(t, (struct probe_link){.fd = fd,
						   .begins = role == RESOLVE_ENTER || session,
						   .set = pick->set})) {
		close(fd);
		return -ENOMEM;
	}
	return 0;
}

/* The copy of bpf/copy.bpf.c that serves one rule only. */
static int open_copy(struct tracer *t, uint32_t rule)
{
	struct bpf_object *o;

	if (!t->copies)
		t->copies = calloc(TS_MAX_RULES, sizeof(*t->copies));
	if (!t->copies)
		return -ENOMEM;
	if (t->copies[rule])
		return 0;
	o = tracer_open_plain("bpf/copy.bpf.o");
	if (!o)
		return -errno;
	t->copies[rule] = o;
	tracer_set_constant(o, ".rodata.rule", &rule, sizeof(rule));
	tracer_share_maps(t, o);
	bpf_map__reuse_fd(bpf_object__find_map_by_name(o, "programs"), t->programs);
	return bpf_object__load(o);
}

static int attach_perf(struct tracer *t, const char *path, const struct site_pick *pick,
		       uint32_t pid, __u64 offset, __u64 cookie)
{
	enum resolve_role role = pick->role;
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .retprobe = role == RESOLVE_RETURN);
	struct bpf_program *p = role == RESOLVE_ENTER ? t->enter.program : t->leave.program;
	struct bpf_link *link;
	int ret;

	if (t->attach == TRACER_COPIES) {
		ret = open_copy(t, (uint32_t)cookie);
		if (ret)
			return ret;
		p = bpf_object__find_program_by_name(
			t->copies[cookie], role == RESOLVE_ENTER ? "go_enter" : "go_leave");
	} else {
		opts.bpf_cookie = cookie;
	}
	link = bpf_program__attach_uprobe_opts(p, pid ? (pid_t)pid : -1, path, offset, &opts);
	if (!link)
		return -errno;
	if (tracer_add_link(t, (struct probe_link){.link = link,
						   .begins = role == RESOLVE_ENTER,
						   .set = pick->set})) {
		bpf_link__destroy(link);
		return -ENOMEM;
	}
	return 0;
}

int tracer_attach_sites(struct tracer *t, const struct traced_file *f, const struct site_pick *pick)
{
	struct site_list sites = {0};
	char path[64];
	size_t p;
	int ret;
	__u32 i;

	/* The very file, also when it has no name any more or another name space's. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	ret = list_sites(t, f, pick, &sites);
	for (p = 0; !ret && sites.count && p < t->pids_count; p++) {
		if (t->attach <= TRACER_MULTI) {
			ret = attach_multi(t, path, pick, t->pids[p], &sites);
		} else {
			for (i = 0; !ret && i < sites.count; i++)
				ret = attach_perf(t, path, pick, t->pids[p], sites.offsets[i],
						  sites.cookies[i]);
		}
		/* A process that has ended needs no probes. */
		if (ret == -ESRCH && t->pids[p])
			ret = 0;
	}
	free(sites.offsets);
	free(sites.cookies);
	return ret;
}

/* Each of the kernel's functions is optional. */
static int hook_kernel(struct tracer *t, struct traced_file *f, uint32_t first, struct ts_err *err)
{
	size_t i, hooked = 0, wanted = 0;
	int ret = 0, one;

	for (i = 0; i < f->funcs_count; i++) {
		if (f->funcs[i].rule < first)
			continue;
		one = tracer_hook(t, &f->funcs[i]);
		wanted++;
		hooked += !one;
		if (one)
			ret = one;
	}
	if (!wanted || hooked)
		return 0;
	return ts_fail(err, -ret, "cannot hook the kernel's TLS: %s", strerror(-ret));
}

/* Of the functions that are picked. */
static int attach_funcs(struct tracer *t, struct traced_file *f, struct site_pick pick)
{
	static const enum resolve_role order[] = {RESOLVE_RETURN, RESOLVE_LEAVE, RESOLVE_ENTER};
	size_t i;
	int ret = 0;

	pick.where = 1u << RESOLVE_ANYHOW | 1u << (t->at_symbols ? RESOLVE_SYMBOL : RESOLVE_CHEAP);
	for (i = 0; !ret && i < TS_ARRAY_SIZE(order); i++) {
		pick.role = order[i];
		ret = tracer_attach_sites(t, f, &pick);
	}
	return ret || t->at_symbols ? ret : tracer_begin_tests(t, f, &pick);
}

/* The functions whose rules are `first` or above; and those that write to BIOs, when watched. */
static int attach_file(struct tracer *t, struct traced_file *f, uint32_t first)
{
	int ret = 0;

	if (t->last_rule >= first)
		ret = attach_funcs(t, f, (struct site_pick){.first = first});
	if (!ret && t->marks && !f->bios) {
		ret = attach_funcs(t, f, (struct site_pick){.bios = true, .set = TRACER_SET_BIOS});
		f->bios = !ret;
	}
	return ret;
}

int tracer_sync_file(struct tracer *t, struct traced_file *f, struct ts_err *err)
{
	uint32_t first = t->last_rule + 1;
	bool any = false;
	size_t i;
	int ret;

	/* Closes come after all calls in a plan's use: they are wanted when any call is. */
	for (i = 0; i < f->funcs_count; i++) {
		if (f->funcs[i].func.rule.role != TS_ROLE_CALL)
			continue;
		ret = sync_func(t, f, &f->funcs[i], false, err);
		if (ret)
			return ret;
		any |= f->funcs[i].rule != 0;
	}
	for (i = 0; i < f->funcs_count; i++) {
		if (f->funcs[i].func.rule.role == TS_ROLE_CALL)
			continue;
		ret = sync_func(t, f, &f->funcs[i], any, err);
		if (ret)
			return ret;
	}
	if (f->fd < 0)
		return hook_kernel(t, f, first, err);
	ret = attach_file(t, f, first);
	return ret ? ts_fail(err, -ret, "%s: cannot attach probes: %s", f->path, strerror(-ret))
		   : 0;
}

static int copy_plan(struct traced_file *f, int fd, const char *path,
		     const struct resolve_plan *plan)
{
	size_t i;

	*f = (struct traced_file){
		.fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3),
		.path = strdup(path),
		.kind = plan->row->kind,
		.aside = plan->row->aside,
		.funcs = calloc(plan->funcs_count + 1, sizeof(*f->funcs)),
		.funcs_count = plan->funcs_count,
		.sites = calloc(plan->sites_count + 1, sizeof(*f->sites)),
		.sites_count = plan->sites_count,
	};
	if (fd >= 0 && f->fd < 0)
		return -EMFILE;
	if (!f->path || !f->funcs || !f->sites)
		return -ENOMEM;
	for (i = 0; i < plan->funcs_count; i++)
		f->funcs[i].func = plan->funcs[i];
	if (plan->sites_count)
		memcpy(f->sites, plan->sites, plan->sites_count * sizeof(*f->sites));
	return 0;
}

int tracer_add_file(struct tracer *t, int fd, const char *path, const struct resolve_plan *plan,
		    struct ts_err *err)
{
	struct traced_file *files = realloc(t->files, (t->files_count + 1) * sizeof(*files));
	int ret;

	if (!files)
		return ts_fail(err, ENOMEM, "out of memory");
	t->files = files;
	ret = copy_plan(&files[t->files_count], fd, path, plan);
	if (!ret) {
		t->files_count++;
		return 0;
	}
	tracer_free_file(&files[t->files_count]);
	return ts_fail(err, -ret, "%s: cannot attach probes: %s", path, strerror(-ret));
}

int tracer_attach(struct tracer *t, int fd, const char *path, const struct resolve_plan *plan,
		  struct ts_err *err)
{
	int ret = tracer_add_file(t, fd, path, plan, err);

	return ret ? ret : tracer_sync_file(t, &t->files[t->files_count - 1], err);
}
