/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a goroutine writes may be somebody else's memory when its call returns: Go's collector takes
 * what is not used any more. So some of the bytes are compared with what they were when it began.
 */
#ifndef TLSSCOPE_PROOF_H
#define TLSSCOPE_PROOF_H

#include "maps.h"

#define PROOFS 8 /* words, from the first to the last */

/* What the words at an address are; 0: they cannot be read, or are too few. */
__noinline __u64 proof_of(__u64 at, __u64 len)
{
	__u64 word, proof = len;
	__u32 i;

	if (len < sizeof(word))
		return 0;
#pragma clang loop unroll(disable)
	for (i = 0; i < PROOFS; i++) {
		if (bpf_probe_read_user(&word, sizeof(word),
					(void *)(at + (len - sizeof(word)) * i / (PROOFS - 1))))
			return 0;
		proof = (proof ^ word) * 0x9e3779b97f4a7c15ull;
		proof ^= proof >> 32;
	}
	return proof | 1;
}

/*
 * While a record is written: kernels before 6.15 let only static functions be called where a
 * program keeps the processor, and those are verified for each of their calls.
 */
static __always_inline bool still_true(const struct proof *p)
{
	bool same;

	if (!p || !p->is)
		return true;
	leave_processor();
	same = proof_of(p->at, p->len) == p->is;
	keep_processor();
	return same;
}

#endif
