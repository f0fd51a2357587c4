/* SPDX-License-Identifier: MIT */
/*
 * Links: what attaches a file's sites. All sites of one kind by one link of uprobe_multi, where the
 * kernel has that; else each by a perf event, with a cookie or a copy of the programs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
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

#define NOTHINGS 2 /* probes: tracer_attach_first */
static int attach_nothing(int program, __u32 type, const char *path)
{
	const __u64 offsets[NOTHINGS] = {0, 1};
	struct multi_attr a = {
		.prog_fd = (__u32)program,
		.attach_type = type,
		.path = (uintptr_t)path,
		.offsets = (uintptr_t)offsets,
		.count = NOTHINGS,
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

/* Probes of a file that nobody has mapped; returns their link, or below 0. */
static int attach_empty(void)
{
	int program = load_nothing(TRACE_UPROBE_MULTI), file = tracer_memory_file("tlsscope");
	char path[32];
	int link = -1;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	if (program >= 0 && file >= 0 && !ftruncate(file, NOTHINGS))
		link = attach_nothing(program, TRACE_UPROBE_MULTI, path);
	if (file >= 0)
		close(file);
	if (program >= 0)
		close(program);
	return link;
}

void tracer_attach_first(struct tracer *t)
{
	int link = attach_empty();

	if (link >= 0 && tracer_add_link(t, (struct probe_link){.fd = link}))
		close(link);
}

static void *expect_files(void *arg)
{
	bool *runs = arg;
	int link = attach_empty();

	if (link >= 0)
		close(link);
	__atomic_store_n(runs, false, __ATOMIC_RELEASE);
	return NULL;
}

void tracer_expect_files(struct tracer *t)
{
	if (t->detached || t->attach > TRACER_MULTI ||
	    __atomic_load_n(&t->expecting.runs, __ATOMIC_ACQUIRE))
		return;
	tracer_end_expecting(t);
	t->expecting.runs = true;
	t->expecting.aside =
		tracer_begin_thread(&t->expecting.thread, expect_files, &t->expecting.runs);
}

void tracer_end_expecting(struct tracer *t)
{
	if (t->expecting.aside)
		pthread_join(t->expecting.thread, NULL);
	t->expecting.aside = false;
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

size_t tracer_file_set(const struct tracer *t, const struct traced_file *f, enum tracer_set set)
{
	return TRACER_SET_BIOS + 1 + (size_t)(f - t->files) * TRACER_SETS + set;
}

void tracer_close_set(struct tracer *t, size_t set)
{
	struct probe_links *links = tracer_take_links(t, set, tracer_count_links(t, set));

	/* The kernel takes its time, and records wait meanwhile. */
	if (links)
		tracer_close_aside(t, links);
}

struct site_list {
	__u64 *offsets, *cookies;
	__u32 count;
	bool go; /* they are of Go's functions; else none is */
};

static __u64 cookie_of(const struct tracer *t, enum resolve_where where, uint32_t rule)
{
	if (where == RESOLVE_ANYHOW || where == RESOLVE_ASIDE || t->at_symbols)
		return rule;
	return rule | (where == RESOLVE_CHEAP ? TS_SITE_CHEAP : TS_SITE_SYMBOL);
}

/* Whether a site is of a role. A session stands for its function's return; the entry is its own. */
static bool has_role(const struct tracer *t, const struct resolve_site *s, enum resolve_role role)
{
	if (t->attach == TRACER_SESSIONS && s->session)
		return s->role == RESOLVE_ENTER && role == RESOLVE_RETURN;
	return s->role == role;
}

static bool in_part(const struct site_pick *pick, const struct traced_func *func)
{
	return pick->part == SITES_ALL || func->has_ends == (pick->part == SITES_INNER);
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
		if (!has_role(t, s, pick->role) || !(pick->where & 1u << s->where) || !func->rule ||
		    func->rule < pick->first || (pick->tests && !func->testing) ||
		    pick->bios != (func->func.rule.role == TS_ROLE_BIO) || !in_part(pick, func))
			continue;
		out->go = func->func.rule.flow_mode == TS_FLOW_GO;
		out->offsets[out->count] = s->offset;
		out->cookies[out->count++] = cookie_of(t, s->where, func->rule);
	}
	return 0;
}

/* With sessions, a return is probed by one. */
static bool by_session(const struct tracer *t, enum resolve_role role)
{
	return role == RESOLVE_RETURN && t->attach == TRACER_SESSIONS;
}

/* What probes run, which is loaded if it is not. 0 or -errno */
static int get_program(struct tracer *t, enum resolve_role role, bool go, struct bpf_program **out)
{
	int ret = 0;

	if (role == RESOLVE_END) {
		*out = t->programs[TRACER_END].program;
	} else if (by_session(t, role)) {
		*out = t->programs[TRACER_SESSION_ENTER].program;
	} else if (t->attach == TRACER_SESSIONS && !go) {
		ret = tracer_end_later(t);
		*out = t->programs[TRACER_MOMENT].program;
	} else {
		ret = tracer_load_plain(t);
		*out = t->programs[role == RESOLVE_ENTER ? TRACER_PLAIN_ENTER : TRACER_PLAIN_LEAVE]
			       .program;
	}
	return ret;
}

static int attach_multi(struct tracer *t, const struct bpf_program *p, const char *path,
			const struct site_pick *pick, uint32_t pid, const struct site_list *sites)
{
	enum resolve_role role = pick->role;
	bool session = by_session(t, role);
	struct multi_attr a = {
		.prog_fd = (__u32)bpf_program__fd(p),
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
	bpf_map__reuse_fd(bpf_object__find_map_by_name(o, "programs"), t->copied);
	return bpf_object__load(o);
}

static int attach_perf(struct tracer *t, struct bpf_program *p, const char *path,
		       const struct site_pick *pick, uint32_t pid, __u64 offset, __u64 cookie)
{
	enum resolve_role role = pick->role;
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .retprobe = role == RESOLVE_RETURN);
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
	struct bpf_program *program = NULL;
	struct site_list sites = {0};
	char path[64];
	size_t p;
	int ret;
	__u32 i;

	/* The very file, also when it has no name any more or another name space's. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	ret = list_sites(t, f, pick, &sites);
	if (!ret && sites.count)
		ret = get_program(t, pick->role, sites.go, &program);
	for (p = 0; !ret && sites.count && p < t->pids_count; p++) {
		if (t->attach <= TRACER_MULTI) {
			ret = attach_multi(t, program, path, pick, t->pids[p], &sites);
		} else {
			for (i = 0; !ret && i < sites.count; i++)
				ret = attach_perf(t, program, path, pick, t->pids[p],
						  sites.offsets[i], sites.cookies[i]);
		}
		/* A process that has ended needs no probes. */
		if (ret == -ESRCH && t->pids[p])
			ret = 0;
	}
	free(sites.offsets);
	free(sites.cookies);
	return ret;
}
