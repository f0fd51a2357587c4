/* SPDX-License-Identifier: MIT */
/*
 * A capture file (pcapng) of plaintext, for Wireshark and its like: each connection is a TCP
 * connection in it, each message is segments of that. Bytes that are missing are missing in the
 * sequence numbers too. Addresses and ports are the connection's own, with two exceptions, which
 * the packets' comments tell:
 * - Where they are not known, or two connections that are open have the same (both ends are
 *   watched), the process is 192.0.2.n and its peer 198.51.100.n (RFC 5737: nobody's addresses).
 * - A server's port at which TLS is expected is shown as that of the same protocol without it (443
 *   as 80): a dissector for TLS would not understand what is there. HTTP/2 is at port 80.
 */
#ifndef TLSSCOPE_PCAP_H
#define TLSSCOPE_PCAP_H

#include "output_file.h"
#include "stream.h"

struct pcap;
/* The file is made for the eyes of its owner only. */
int pcap_open(struct pcap **out, const struct output_file_options *where, struct ts_err *err);
/*
 * Ends the file; connections that are not closed have no end in it. 0, or what is missing and why.
 */
int pcap_close(struct pcap *p, struct ts_err *err);

/* The file's beginning, with what a TS_REC_START tells. Where it is left out, less is known. */
void pcap_start(struct pcap *p, const struct rec_start *start);
void pcap_message(struct pcap *p, const struct stream_message *m);
void pcap_closed(struct pcap *p, const struct stream_conn *c, uint64_t nsecs);
void pcap_lost(struct pcap *p, uint64_t calls); /* calls that were not seen: told at the end */
void pcap_flush(struct pcap *p);
int pcap_failed(const struct pcap *p); /* 0, or the errno value of the first failure */

#endif
