/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* TLS records on their way: known by their header, and told from others by how they begin. */
#ifndef TLSSCOPE_RECORDS_H
#define TLSSCOPE_RECORDS_H

#include "maps.h"

/* RFC 8446, 5.1: type, version, length; change_cipher_spec (20) to application_data (23). */
static __always_inline bool is_record(const __u8 *b)
{
	__u32 len = (__u32)b[3] << 8 | b[4];

	return b[0] >= 20 && b[0] <= 23 && b[1] == 3 && b[2] <= 4 && len && len <= 16384 + 2048;
}

/*
 * What a process' bytes begin with, as a mark of them. False: they are too few to tell them from
 * others, or no record.
 */
static __always_inline bool get_mark(struct mark_key *key, __u32 pid, __u64 at, __u64 len)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->pid = pid;
	return len >= MARK_LEAST && !bpf_probe_read_user(key->bytes, MARK_LEAST, (void *)at) &&
	       is_record(key->bytes);
}

#endif
