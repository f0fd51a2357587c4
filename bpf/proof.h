/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a goroutine writes may be somebody else's memory when its call returns: Go's collector takes
 * what is not used any more. So the bytes that are shown are compared with what they were when it
 * began: all of a TLS record's, and of more than that as many, in even steps.
 */
#ifndef TLSSCOPE_PROOF_H
#define TLSSCOPE_PROOF_H

#include "maps.h"

#define PROOF_BLOCK 64
#define PROOF_ROW 16 /* blocks; and of as many rows */
#define PROOF_BLOCKS (PROOF_ROW * PROOF_ROW)
_Static_assert(PROOF_BLOCK *PROOF_BLOCKS == TS_CHUNK, "what one record sends");

/* The proof so far, with n bytes more; 0: they cannot be read. Each function is verified once. */
__noinline __u64 prove_block(__u64 proof, __u64 at, __u64 n)
{
	__u64 words[PROOF_BLOCK / 8] = {0};
	int i;

	asm volatile("if %0 <= %1 goto +1\n\t%0 = %1" : "+r"(n) : "i"(PROOF_BLOCK));
	if (!n || bpf_probe_read_user(words, n, (void *)at))
		return 0;
#pragma unroll
	for (i = 0; i < PROOF_BLOCK / 8; i++) {
		proof = (proof ^ words[i]) * 0x9e3779b97f4a7c15ull;
		proof ^= proof >> 32;
	}
	return proof | 1;
}

/* From the first of so many blocks on, whose places are in even steps. */
__noinline __u64 prove_row(__u64 proof, __u64 at, __u64 len, __u32 first, __u32 blocks)
{
	__u32 i;

	for (i = 0; i < PROOF_ROW && first + i < blocks && proof; i++)
		proof = prove_block(proof, at + (len - PROOF_BLOCK) * (first + i) / (blocks - 1),
				    PROOF_BLOCK);
	return proof;
}

/* What the bytes at an address are; 0: they cannot be read. */
__noinline __u64 proof_of(__u64 at, __u64 len)
{
	__u64 blocks = (len + PROOF_BLOCK - 1) / PROOF_BLOCK, proof = len | 1;
	__u32 i;

	if (blocks <= 1)
		return prove_block(proof, at, len);
	if (blocks > PROOF_BLOCKS)
		blocks = PROOF_BLOCKS;
	for (i = 0; i < PROOF_ROW && i * PROOF_ROW < blocks && proof; i++)
		proof = prove_row(proof, at, len, i * PROOF_ROW, blocks);
	return proof;
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
