/* SPDX-License-Identifier: MIT */
/*
 * The embedded BPF objects: opened, and loaded by libbpf, which is spared what takes it longest. It
 * would read all of the kernel's types, and go through them for each that the programs use; it gets
 * a file with these alone. The numbers of types that the kernel itself wants are put in here: those
 * of its functions that programs call, and those that tp_btf programs attach to.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <bpf/btf.h>

#include "embed.h"
#include "ktypes.h"
#include "tracer_private.h"

/* What the programs name only by number. */
enum { CAST, KEEP_PROCESSOR, LEAVE_PROCESSOR, CAST_FILE, CAST_TASK, CAST_WORD };
static const char *const by_number[] = {[CAST] = "bpf_rdonly_cast",
					[KEEP_PROCESSOR] = "bpf_preempt_disable",
					[LEAVE_PROCESSOR] = "bpf_preempt_enable",
					[CAST_FILE] = "file",
					[CAST_TASK] = "task_struct",
					[CAST_WORD] = "timespec64"};

/* A name's end, where a flavor begins ("iov_iter___type"), is not the kernel's. */
static const char flavor[] = "___";

static const char trace_of[] = "btf_trace_"; /* the typedef that a tp_btf program attaches to */

/* The tracepoint of such a program; NULL: it is another one. */
static const char *tracepoint_of(const struct bpf_program *p)
{
	static const char prefix[] = "tp_btf/";
	const char *section = bpf_program__section_name(p);

	return strncmp(section, prefix, strlen(prefix)) ? NULL : section + strlen(prefix);
}

/*
 * Of the objects that are open and not loaded yet: libbpf's handlers are told only the program.
 * types is NULL, fd below 0 where there is none.
 */
static struct {
	struct ktypes *types;
	char **names;
	size_t names_count;
	int fd; /* of the file with the types */
} loading = {.fd = -1};

/*
 * libbpf has copied what it needs of the embedded files. Their pages are our own program's: where
 * one is wanted again, the kernel reads it again.
 */
static void let_go_of_files(void)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	const struct embed_file *last = embed_files;
	uintptr_t from, to;

	while (last[1].name)
		last++;
	from = ((uintptr_t)embed_files->data + page - 1) & ~(page - 1);
	to = (uintptr_t)last->end & ~(page - 1);
	if (from < to)
		madvise((void *)from, to - from, MADV_DONTNEED);
}

static void forget(void)
{
	size_t i;

	ktypes_close(loading.types);
	loading.types = NULL;
	for (i = 0; i < loading.names_count; i++)
		free(loading.names[i]);
	free(loading.names);
	loading.names = NULL;
	loading.names_count = 0;
	if (loading.fd >= 0)
		close(loading.fd);
	loading.fd = -1;
}

void tracer_end_loading(void)
{
	forget();
	let_go_of_files();
}

/* 0: the kernel has none. */
static uint32_t number_of(uint32_t kind, const char *name)
{
	return loading.types ? ktypes_id(loading.types, kind, name) : 0;
}

/* The numbers of the functions that programs call; 0: the kernel has none. */
struct functions {
	uint32_t cast, keep, leave;
};

static struct functions find_functions(void)
{
	struct functions f = {.cast = number_of(BTF_KIND_FUNC, by_number[CAST])};

	/* Before 6.12 a kernel that is preemptible everywhere sleeps for a ring's lock. */
	if (tracer_kernel_before(6, 12))
		return f;
	f.keep = number_of(BTF_KIND_FUNC, by_number[KEEP_PROCESSOR]);
	f.leave = number_of(BTF_KIND_FUNC, by_number[LEAVE_PROCESSOR]);
	if (!f.keep || !f.leave)
		f.keep = f.leave = 0;
	return f;
}

/* A call of no helper becomes one of a function (BPF_PSEUDO_KFUNC_CALL), or nothing. */
static void name_function(struct bpf_insn *insn, const struct functions *f)
{
	uint32_t number;

	if (insn->code != (BPF_JMP | BPF_CALL) || insn->src_reg)
		return;
	if (insn->imm == TS_CALL_CAST)
		number = f->cast;
	else if (insn->imm == TS_CALL_KEEP_PROCESSOR)
		number = f->keep;
	else if (insn->imm == TS_CALL_LEAVE_PROCESSOR)
		number = f->leave;
	else
		return;
	if (number)
		*insn = (struct bpf_insn){.code = BPF_JMP | BPF_CALL,
					  .src_reg = BPF_PSEUDO_KFUNC_CALL,
					  .imm = (__s32)number};
	else
		*insn = (struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_K};
}

static int name_functions(struct bpf_program *p)
{
	const size_t count = bpf_program__insn_cnt(p);
	const struct functions f = find_functions();
	struct bpf_insn *insns = malloc(count * sizeof(*insns));
	size_t i;
	int ret;

	if (!insns)
		return -ENOMEM;
	memcpy(insns, bpf_program__insns(p), count * sizeof(*insns));
	for (i = 0; i < count; i++)
		name_function(&insns[i], &f);
	ret = bpf_program__set_insns(p, insns, count);
	free(insns);
	return ret;
}

/* The last before a program is loaded: all of its functions are in it. */
static int prepare(struct bpf_program *p, struct bpf_prog_load_opts *opts, long cookie)
{
	const char *tracepoint = tracepoint_of(p);
	char name[64];

	(void)cookie;
	if (tracepoint) {
		snprintf(name, sizeof(name), "%s%s", trace_of, tracepoint);
		opts->attach_btf_id = number_of(BTF_KIND_TYPEDEF, name);
		if (!opts->attach_btf_id)
			return -ENOENT;
		/* Until now libbpf was not to see one for which it reads all types. */
		bpf_program__set_type(p, BPF_PROG_TYPE_TRACING);
	}
	return name_functions(p);
}

static int attach(const struct bpf_program *p, long cookie, struct bpf_link **link)
{
	const char *section = bpf_program__section_name(p), *name = strchr(section, '/');

	(void)cookie;
	*link = name ? bpf_program__attach_raw_tracepoint(p, name + 1)
		     : bpf_program__attach_trace(p);
	return *link ? 0 : -errno;
}

static void register_sections(void)
{
	static const struct {
		const char *name;
		enum bpf_prog_type type;
		enum bpf_attach_type attach;
	} sections[] = {
		{"uprobe", BPF_PROG_TYPE_KPROBE, 0},
		{"kprobe", BPF_PROG_TYPE_KPROBE, 0},
		{"kretprobe", BPF_PROG_TYPE_KPROBE, 0},
		{"raw_tp+", BPF_PROG_TYPE_RAW_TRACEPOINT, 0},
		{"tp_btf+", BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_TRACE_RAW_TP},
		{"fentry", BPF_PROG_TYPE_TRACING, BPF_TRACE_FENTRY},
		{"fexit", BPF_PROG_TYPE_TRACING, BPF_TRACE_FEXIT},
	};
	LIBBPF_OPTS(libbpf_prog_handler_opts, opts, .prog_prepare_load_fn = prepare,
		    .prog_attach_fn = attach);
	static bool done;
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(sections) && !done; i++)
		libbpf_register_prog_handler(sections[i].name, sections[i].type, sections[i].attach,
					     &opts);
	done = true;
}

static int add_name(const char *prefix, const char *name, size_t len)
{
	char **slot = &loading.names[loading.names_count];

	if (asprintf(slot, "%s%.*s", prefix, (int)len, name) < 0) {
		*slot = NULL;
		return -ENOMEM;
	}
	loading.names_count++;
	return 0;
}

/* Of all that the kernel may have of what the object's types are called. */
static int add_types(const struct btf *btf)
{
	const __u32 count = btf__type_cnt(btf);
	const struct btf_type *t;
	const char *name, *end;
	int ret = 0;
	__u32 i;

	for (i = 1; i < count && !ret; i++) {
		t = btf__type_by_id(btf, i);
		name = btf__name_by_offset(btf, t->name_off);
		if (!*name || (!btf_is_composite(t) && !btf_is_any_enum(t)))
			continue;
		end = strstr(name, flavor);
		ret = add_name("", name, end ? (size_t)(end - name) : strlen(name));
	}
	return ret;
}

/* Of one object; there is room for them. */
static int add_names(const struct bpf_object *o)
{
	const struct btf *btf = bpf_object__btf(o);
	struct bpf_program *p;
	const char *tracepoint;
	int ret = 0;

	bpf_object__for_each_program(p, o)
	{
		tracepoint = tracepoint_of(p);
		if (!ret && tracepoint)
			ret = add_name(trace_of, tracepoint, strlen(tracepoint));
	}
	return ret ? ret : btf ? add_types(btf) : 0;
}

static size_t most_names(const struct bpf_object *o)
{
	const struct btf *btf = bpf_object__btf(o);
	struct bpf_program *p;
	size_t most = btf ? btf__type_cnt(btf) : 0;

	bpf_object__for_each_program(p, o) most++;
	return most;
}

static int collect_names(struct bpf_object *const *objects, size_t count)
{
	size_t most = TS_ARRAY_SIZE(by_number), i;
	int ret = 0;

	for (i = 0; i < count; i++)
		most += most_names(objects[i]);
	loading.names = calloc(most, sizeof(*loading.names));
	if (!loading.names)
		return -ENOMEM;
	for (i = 0; i < TS_ARRAY_SIZE(by_number) && !ret; i++)
		ret = add_name("", by_number[i], strlen(by_number[i]));
	for (i = 0; i < count && !ret; i++)
		ret = add_names(objects[i]);
	return ret;
}

static int write_types(void)
{
	struct ts_buf out = {0};
	int ret = ktypes_write(loading.types, &out);

	if (!ret && write(loading.fd, out.data, out.len) != (ssize_t)out.len)
		ret = -EIO;
	ts_buf_free(&out);
	return ret;
}

static int find_types(struct bpf_object *const *objects, size_t count)
{
	int ret = collect_names(objects, count);

	if (!ret)
		ret = ktypes_open(&loading.types, KTYPES_VMLINUX,
				  (const char *const *)loading.names, loading.names_count);
	if (!ret && loading.fd >= 0)
		ret = write_types();
	return ret;
}

static void tell_types(struct bpf_object *o)
{
	const struct ts_types numbers = {
		.cast = tracer_has_cast(),
		.file = number_of(BTF_KIND_STRUCT, by_number[CAST_FILE]),
		.task = number_of(BTF_KIND_STRUCT, by_number[CAST_TASK]),
		.word = number_of(BTF_KIND_STRUCT, by_number[CAST_WORD]),
	};

	tracer_set_constant(o, ".rodata.types", &numbers, sizeof(numbers));
}

static struct bpf_object *open_with(const char *name, const char *types)
{
	const struct embed_file *file = embed_find(name);
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "tlsscope",
		    .btf_custom_path = types);

	return bpf_object__open_mem(file->data, (size_t)(file->end - file->data), &opts);
}

static struct bpf_object *open_one(const char *name)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", loading.fd);
	return open_with(name, loading.fd < 0 ? NULL : path);
}

static int open_all(struct bpf_object **out, const char *const *names, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		out[i] = open_one(names[i]);
		if (!out[i])
			return -errno;
	}
	return 0;
}

static void close_all(struct bpf_object **objects, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		bpf_object__close(objects[i]);
		objects[i] = NULL;
	}
}

int tracer_memory_file(const char *name)
{
	/* linux/memfd.h since 6.3; vm.memfd_noexec may ask for it. */
	const unsigned int noexec_seal = 8;
	int fd = memfd_create(name, MFD_CLOEXEC | noexec_seal);

	return fd < 0 && errno == EINVAL ? memfd_create(name, MFD_CLOEXEC) : fd;
}

int tracer_open_objects(struct bpf_object **out, const char *const *names, size_t count,
			bool modules)
{
	size_t i;
	int ret;

	register_sections();
	forget();
	loading.fd = modules ? -1 : tracer_memory_file("types");
	ret = open_all(out, names, count);
	if (!ret && find_types(out, count)) {
		/* As libbpf does it alone. */
		close_all(out, count);
		forget();
		ret = open_all(out, names, count);
		if (!ret && find_types(out, count))
			forget();
	}
	for (i = 0; i < count && !ret; i++)
		tell_types(out[i]);
	if (ret) {
		close_all(out, count);
		forget();
	}
	return ret;
}

bool tracer_has_cast(void)
{
	return number_of(BTF_KIND_FUNC, by_number[CAST]);
}

struct bpf_object *tracer_open_again(const char *name)
{
	struct bpf_object *o = open_one(name);

	if (o)
		tell_types(o);
	return o;
}

struct bpf_object *tracer_open_plain(const char *name)
{
	return open_with(name, NULL);
}

void tracer_set_constant(struct bpf_object *o, const char *section, const void *value, size_t size)
{
	struct bpf_map *m;

	bpf_object__for_each_map(m, o)
	{
		if (strstr(bpf_map__name(m), section))
			bpf_map__set_initial_value(m, value, size);
	}
}

void tracer_share_maps(struct tracer *t, struct bpf_object *o)
{
	const __u32 small = t->small;
	struct bpf_map *m;
	const char *name;
	int fd;

	tracer_set_constant(o, ".rodata.small", &small, sizeof(small));
	bpf_object__for_each_map(m, o)
	{
		name = bpf_map__name(m);
		/* Constants are each object's own. */
		if (strstr(name, ".rodata"))
			continue;
		fd = tracer_map_fd(t, name);
		if (fd < 0 && t->kernel)
			fd = bpf_object__find_map_fd_by_name(t->kernel, name);
		if (fd >= 0)
			bpf_map__reuse_fd(m, fd);
	}
}
