/* SPDX-License-Identifier: MIT */
/* Whether this kernel's type information has what bpf/exe.h walks along. */
#include <errno.h>
#include <string.h>

#include <bpf/btf.h>

#include "tracer_private.h"

int tracer_check_exe(struct tracer *t, struct ts_err *err)
{
	struct btf *btf;

	if (t->has_mounts)
		return 0;
	btf = btf__load_vmlinux_btf();
	t->has_mounts = btf && btf__find_by_name_kind(btf, "mount", BTF_KIND_STRUCT) > 0;
	btf__free(btf);
	if (t->has_mounts)
		return 0;
	return ts_fail(err, ENOTSUP,
		       "cannot filter by exe: this kernel's type information has no struct mount; "
		       "filter by comm, pid or lib");
}
