/* SPDX-License-Identifier: MIT */
/* The kernel's types, against what libbpf reads of the same file; and a file that is damaged. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/btf.h>
#include <cmocka.h>

#include "ktypes.h"

/* Kinds of all sorts; one twice, and one that there is not. */
static const char *const names[] = {
	"task_struct", "file",	      "sock",	   "iov_iter", "bpf_func_id", "kernfs_node",
	"pt_regs",     "sock_common", "inet_sock", "socket",   "page",	      "bpf_rdonly_cast",
	"task_struct", "no_such_one",
};

/* NULL: this kernel has no types. */
static struct ktypes *open_kernel(void)
{
	struct ktypes *k;
	int ret = ktypes_open(&k, KTYPES_VMLINUX, names, TS_ARRAY_SIZE(names));

	assert_true(!ret || ret == -ENOENT);
	return k;
}

static struct btf *open_written(const struct ktypes *k)
{
	struct ts_buf out = {0};
	struct btf *btf;

	assert_int_equal(ktypes_write(k, &out), 0);
	btf = btf__new(out.data, (__u32)out.len);
	assert_non_null(btf);
	assert_true(out.len < 200000);
	ts_buf_free(&out);
	return btf;
}

static const struct btf_type *find(const struct btf *btf, const char *name, __u32 kind)
{
	__s32 id = btf__find_by_name_kind(btf, name, kind);

	return id > 0 ? btf__type_by_id(btf, (__u32)id) : NULL;
}

static void compare_members(const struct btf *a, const struct btf_type *ta, const struct btf *b,
			    const struct btf_type *tb)
{
	const struct btf_member *ma = btf_members(ta), *mb = btf_members(tb);
	__u32 i;

	assert_int_equal(ta->size, tb->size);
	assert_int_equal(ta->info, tb->info);
	for (i = 0; i < btf_vlen(ta); i++) {
		assert_string_equal(btf__name_by_offset(a, ma[i].name_off),
				    btf__name_by_offset(b, mb[i].name_off));
		assert_int_equal(ma[i].offset, mb[i].offset);
		assert_int_equal(btf__resolve_size(a, ma[i].type),
				 btf__resolve_size(b, mb[i].type));
		assert_int_equal(btf_kind(btf__type_by_id(a, ma[i].type)),
				 btf_kind(btf__type_by_id(b, mb[i].type)));
	}
}

static void compare_enumerators(const struct btf *a, const struct btf_type *ta, const struct btf *b,
				const struct btf_type *tb)
{
	const struct btf_enum *ea = btf_enum(ta), *eb = btf_enum(tb);
	__u32 i;

	assert_int_equal(ta->info, tb->info);
	for (i = 0; i < btf_vlen(ta); i++) {
		assert_string_equal(btf__name_by_offset(a, ea[i].name_off),
				    btf__name_by_offset(b, eb[i].name_off));
		assert_int_equal(ea[i].val, eb[i].val);
	}
}

static void test_as_the_kernel_says(void **state)
{
	struct ktypes *k = open_kernel();
	struct btf *all = k ? btf__load_vmlinux_btf() : NULL, *few;
	const struct btf_type *a, *b;
	__s32 id;
	size_t i;

	(void)state;
	if (!k)
		skip();
	few = open_written(k);
	for (i = 0; i < TS_ARRAY_SIZE(names); i++) {
		id = btf__find_by_name_kind(all, names[i], BTF_KIND_STRUCT);
		assert_int_equal(ktypes_id(k, BTF_KIND_STRUCT, names[i]), id > 0 ? id : 0);
		a = find(all, names[i], BTF_KIND_STRUCT);
		b = find(few, names[i], BTF_KIND_STRUCT);
		assert_true(!a == !b);
		if (a)
			compare_members(all, a, few, b);
	}
	compare_enumerators(all, find(all, "bpf_func_id", BTF_KIND_ENUM), few,
			    find(few, "bpf_func_id", BTF_KIND_ENUM));
	id = btf__find_by_name_kind(all, "bpf_rdonly_cast", BTF_KIND_FUNC);
	assert_int_equal(ktypes_id(k, BTF_KIND_FUNC, "bpf_rdonly_cast"), id > 0 ? id : 0);
	assert_true(btf__type_cnt(few) < btf__type_cnt(all) / 20);
	btf__free(few);
	btf__free(all);
	ktypes_close(k);
}

static void test_no_file(void **state)
{
	struct ktypes *k;

	(void)state;
	assert_int_equal(ktypes_open(&k, "/nonexistent", names, TS_ARRAY_SIZE(names)), -ENOENT);
	assert_null(k);
	assert_int_equal(ktypes_open(&k, "/dev/null", names, TS_ARRAY_SIZE(names)), -EINVAL);
	ktypes_close(NULL);
}

/* What is found in it may be anything, but nothing outside of it is read. */
static void read_damaged(const char *path, const unsigned char *data, size_t len)
{
	struct ts_buf out = {0};
	struct ktypes *k;
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
	if (ktypes_open(&k, path, names, TS_ARRAY_SIZE(names)))
		return;
	ktypes_write(k, &out);
	ts_buf_free(&out);
	ktypes_close(k);
}

#define DAMAGES 3000

static void test_damaged(void **state)
{
	struct ktypes *k = open_kernel();
	char path[] = "/tmp/test_ktypes.XXXXXX";
	struct ts_buf small = {0};
	unsigned char *copy;
	size_t i, j, len;

	(void)state;
	if (!k)
		skip();
	assert_int_equal(ktypes_write(k, &small), 0);
	ktypes_close(k);
	close(mkstemp(path));
	copy = malloc(small.len);
	assert_non_null(copy);
	srand(1);
	for (i = 0; i < DAMAGES; i++) {
		memcpy(copy, small.data, small.len);
		for (j = 0; j < 1 + i % 4; j++)
			copy[(size_t)rand() % (i % 3 ? small.len : 64)] = (unsigned char)rand();
		len = i % 5 ? small.len : (size_t)rand() % small.len;
		read_damaged(path, copy, len);
	}
	unlink(path);
	free(copy);
	ts_buf_free(&small);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_the_kernel_says),
		cmocka_unit_test(test_no_file),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests_name("ktypes", tests, NULL, NULL);
}
