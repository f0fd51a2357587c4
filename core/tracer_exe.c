/* SPDX-License-Identifier: MIT */
/* Whether this kernel's type information has what bpf/exe.h walks along. */
#include <errno.h>
#include <linux/btf.h>

#include "ktypes.h"
#include "tracer_private.h"

int tracer_check_exe(struct tracer *t, struct ts_err *err)
{
	static const char *const name = "mount";
	struct ktypes *types;

	if (t->has_mounts)
		return 0;
	if (!ktypes_open(&types, KTYPES_VMLINUX, &name, 1)) {
		t->has_mounts = ktypes_id(types, BTF_KIND_STRUCT, name);
		ktypes_close(types);
	}
	if (t->has_mounts)
		return 0;
	return ts_fail(err, ENOTSUP,
		       "cannot filter by exe: this kernel's type information has no struct mount; "
		       "filter by comm, pid or lib");
}
