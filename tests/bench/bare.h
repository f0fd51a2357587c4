/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What bare.bpf.c and bare.c share. */
#ifndef BENCH_BARE_H
#define BENCH_BARE_H

#define BARE_LARGEST 16384

struct bare_event {
	__u64 nsecs, duration, conn, len;
	__u32 pid, tid;
	char comm[16];
	__u8 payload[];
};

/* Set before the load: byte offsets in struct pt_regs of arguments, and the bytes to capture. */
struct bare_constants {
	__u32 args[3], room;
};

struct bare_control {
	__u32 armed, zero; /* the consumer sleeps: wake it */
	__u64 events, lost, inode;
};

#endif
