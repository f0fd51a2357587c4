/* SPDX-License-Identifier: MIT */
/* Addresses and ports of the connections in a capture file. */
#ifndef TLSSCOPE_PCAP_ENDS_H
#define TLSSCOPE_PCAP_ENDS_H

#include "base.h"

struct pcap_end {
	uint8_t address[16]; /* IPv4: the first 4 bytes, zeros after them */
	uint16_t port;
};

/* by[TS_OUT] is the process that is watched, by[TS_IN] its peer: as they send. */
struct pcap_ends {
	struct pcap_end by[2];
	bool v6;
};

/* What a socket told; false: nothing. Mapped IPv4 addresses are IPv4. */
bool pcap_ends_real(struct pcap_ends *e, const struct ts_conn_info *info);
/* Ends for the connection `id`, of which nothing is known but which of them is the client. */
void pcap_ends_make(struct pcap_ends *e, uint64_t id, enum ts_dir client);
/* The port of the protocol that speaks TLS at this one, without TLS; others as they are. */
uint16_t pcap_plain_port(uint16_t port);
/* Two numbers that name the ends, whichever is the process. */
void pcap_ends_name(const struct pcap_ends *e, uint64_t name[2]);
/* "192.0.2.1:443 to [2001:db8::1]:80", the process first */
void pcap_ends_print(struct ts_buf *b, const struct pcap_ends *e);

#endif
