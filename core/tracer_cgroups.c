/* SPDX-License-Identifier: MIT */
/* How the kernel numbers the controllers of cgroup v1: its type information tells. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <bpf/btf.h>

#include "tracer_private.h"

/* include/linux/cgroup_subsys.h: a controller's enumerator is NAME_cgrp_id. */
static int find_enumerator(const struct btf *btf, const char *controller, __u32 *subsys)
{
	__s32 id = btf__find_by_name_kind(btf, "cgroup_subsys_id", BTF_KIND_ENUM);
	const struct btf_type *type = id > 0 ? btf__type_by_id(btf, (__u32)id) : NULL;
	const struct btf_enum *e = type ? btf_enum(type) : NULL;
	char name[64];
	__u32 i;

	/* The only one whose mount option is not its name. */
	snprintf(name, sizeof(name), "%s_cgrp_id", strcmp(controller, "blkio") ? controller : "io");
	for (i = 0; type && i < btf_vlen(type); i++)
		if (!strcmp(btf__name_by_offset(btf, e[i].name_off), name)) {
			*subsys = (__u32)e[i].val;
			return 0;
		}
	return -ENOENT;
}

int tracer_subsys(const char *controller, __u32 *subsys)
{
	struct btf *btf;
	int ret;

	*subsys = TS_CGROUP_V2;
	if (!*controller)
		return 0;
	btf = btf__load_vmlinux_btf();
	if (!btf)
		return -ENOENT;
	ret = find_enumerator(btf, controller, subsys);
	btf__free(btf);
	return ret;
}
