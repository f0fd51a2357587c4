/* SPDX-License-Identifier: MIT */
/* The blocks of a pcapng file (draft-ietf-opsawg-pcapng), and the IP packets in them. */
#ifndef TLSSCOPE_PCAP_BLOCK_H
#define TLSSCOPE_PCAP_BLOCK_H

#include "pcap_ends.h"

/* Blocks are appended; each has this machine's byte order, which a section's first block tells. */
struct pcap_blocks {
	struct ts_buf buf;
	size_t start; /* of the block that is being made */
	bool failed;  /* no memory: what is in buf is of no use */
};

/* A section and its one interface. NULL: not known. */
void pcap_block_section(struct pcap_blocks *b, const char *kernel, const char *host);

enum pcap_flags { PCAP_FIN = 1, PCAP_SYN = 2, PCAP_PUSH = 8, PCAP_ACK = 16 };

struct pcap_segment {
	const struct pcap_end *from, *to;
	bool v6;
	uint8_t flags; /* enum pcap_flags */
	uint32_t seq, ack;
	const void *data;
	size_t size; /* PCAP_SEGMENT at most */
};
/* Data bytes in one packet at most: an IPv4 packet's 65535, without headers, in whole KiB. */
#define PCAP_SEGMENT (63u << 10)
#define PCAP_WINDOW (65535ull << 14) /* bytes on their way that every segment allows */

struct pcap_packet {
	uint64_t time;	     /* ns since 1970 */
	bool out;	     /* sent by the process that is watched */
	const char *comment; /* NULL: none */
};
void pcap_block_packet(struct pcap_blocks *b, const struct pcap_packet *p,
		       const struct pcap_segment *s);

struct pcap_counts {
	uint64_t first, last; /* ns since 1970 */
	uint64_t received, dropped;
};
void pcap_block_counts(struct pcap_blocks *b, const struct pcap_counts *counts);

#endif
