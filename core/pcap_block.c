/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <string.h>

#include "pcap_block.h"

enum {
	BLOCK_INTERFACE = 1,
	BLOCK_COUNTS = 5,
	BLOCK_PACKET = 6,
	BLOCK_SECTION = 0x0a0d0d0a,
};
enum { OPT_END = 0, OPT_COMMENT = 1 };
enum { SECTION_OS = 3, SECTION_PROGRAM = 4 };
enum { INTERFACE_NAME = 2, INTERFACE_TEXT = 3, INTERFACE_UNIT = 9, INTERFACE_OS = 12 };
enum { PACKET_FLAGS = 2 };
enum { COUNTS_FIRST = 2, COUNTS_LAST = 3, COUNTS_RECEIVED = 4, COUNTS_DROPPED = 5 };

#define BYTE_ORDER_MAGIC 0x1a2b3c4du
#define LINKTYPE_RAW 101 /* a packet begins with its IP header */
#define NANOSECONDS 9	 /* 10^-9 s */
#define COMMENT_MAX 32767
#define WINDOW_SHIFT 14

static void add(struct pcap_blocks *b, const void *data, size_t len)
{
	if (len && ts_buf_add(&b->buf, data, len))
		b->failed = true;
}

static void add32(struct pcap_blocks *b, uint32_t v)
{
	add(b, &v, sizeof(v));
}

static void align(struct pcap_blocks *b)
{
	/* Every block's length is a multiple of 4, so the buffer's tells. */
	add(b, "\0\0\0", -b->buf.len & 3);
}

static void begin(struct pcap_blocks *b, uint32_t type)
{
	b->start = b->buf.len;
	add32(b, type);
	add32(b, 0);
}

static void end(struct pcap_blocks *b)
{
	uint32_t size = (uint32_t)(b->buf.len - b->start + sizeof(size));

	add32(b, size);
	if (!b->failed)
		memcpy(b->buf.data + b->start + 4, &size, sizeof(size));
}

static void option(struct pcap_blocks *b, uint16_t code, const void *value, size_t len)
{
	uint16_t head[2] = {code, (uint16_t)len};

	add(b, head, sizeof(head));
	add(b, value, len);
	align(b);
}

static void option_text(struct pcap_blocks *b, uint16_t code, const char *text)
{
	size_t len = text ? strlen(text) : 0;

	if (len)
		option(b, code, text, len < COMMENT_MAX ? len : COMMENT_MAX);
}

/* A time as two words, the upper one first in every byte order. */
static void option_time(struct pcap_blocks *b, uint16_t code, uint64_t time)
{
	uint32_t words[2] = {(uint32_t)(time >> 32), (uint32_t)time};

	option(b, code, words, sizeof(words));
}

void pcap_block_section(struct pcap_blocks *b, const char *kernel, const char *host)
{
	struct {
		uint32_t magic;
		uint16_t major, minor;
		uint32_t length[2]; /* all ones: not told */
	} section = {BYTE_ORDER_MAGIC, 1, 0, {~0u, ~0u}};
	struct {
		uint16_t link, zero;
		uint32_t most; /* bytes of a packet; 0: no limit */
	} interface = {LINKTYPE_RAW, 0, 0};
	const uint8_t unit = NANOSECONDS;
	char os[256] = "";

	if (kernel && *kernel) {
		ts_copy(os, sizeof(os), "Linux ");
		ts_clean(os + 6, sizeof(os) - 6, kernel);
	}
	begin(b, BLOCK_SECTION);
	add(b, &section, sizeof(section));
	option_text(b, SECTION_OS, os);
	option_text(b, SECTION_PROGRAM, "tlsscope " TS_VERSION);
	option(b, OPT_END, NULL, 0);
	end(b);
	begin(b, BLOCK_INTERFACE);
	add(b, &interface, sizeof(interface));
	option_text(b, INTERFACE_NAME, "tlsscope");
	option_text(b, INTERFACE_TEXT, "plaintext of TLS connections, in packets made for it");
	option(b, INTERFACE_UNIT, &unit, 1);
	option_text(b, INTERFACE_OS, os);
	if (host && *host) {
		ts_clean(os, sizeof(os), host);
		option_text(b, OPT_COMMENT, os);
	}
	option(b, OPT_END, NULL, 0);
	end(b);
}

/* RFC 1071: adds up 16-bit words of the network's byte order. */
static uint32_t sum(uint32_t so_far, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t total = so_far;

	for (; len > 1; p += 2, len -= 2)
		total += (uint32_t)p[0] << 8 | p[1];
	if (len)
		total += (uint32_t)p[0] << 8;
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return (uint32_t)total;
}

static uint16_t checksum(uint32_t total)
{
	return htons((uint16_t)~total);
}

struct tcp {
	uint16_t from, to;
	uint32_t seq, ack;
	uint8_t offset, flags; /* offset: length in words, in the upper half */
	uint16_t window, checksum, urgent;
	uint8_t options[8]; /* of a SYN only */
};
#define TCP_SIZE 20
_Static_assert(sizeof(struct tcp) == TCP_SIZE + 8, "layout");

/* total: of the pseudo header. Returns the header's length. */
static size_t fill_tcp(struct tcp *t, const struct pcap_segment *s, uint32_t total)
{
	/* Maximum segment size; window scale, of which the length is padded to whole words. */
	static const uint8_t options[8] = {2, 4, PCAP_SEGMENT >> 8, (uint8_t)PCAP_SEGMENT,
					   3, 3, WINDOW_SHIFT,	    0};
	size_t size = s->flags & PCAP_SYN ? sizeof(*t) : TCP_SIZE;

	*t = (struct tcp){.from = htons(s->from->port),
			  .to = htons(s->to->port),
			  .seq = htonl(s->seq),
			  .ack = htonl(s->ack),
			  .offset = (uint8_t)(size / 4 << 4),
			  .flags = s->flags,
			  .window = 0xffff};
	memcpy(t->options, options, sizeof(options));
	total = sum(total + (uint32_t)(size + s->size), t, size);
	t->checksum = checksum(sum(total, s->data, s->size));
	return size;
}

static void add_v4(struct pcap_blocks *b, const struct pcap_segment *s)
{
	struct {
		uint8_t version, service;
		uint16_t length, id, fragment;
		uint8_t ttl, protocol;
		uint16_t checksum;
		uint8_t addresses[2][4];
	} ip = {.version = 0x45, .fragment = htons(0x4000), .ttl = 64, .protocol = IPPROTO_TCP};
	struct tcp tcp;
	size_t size;

	_Static_assert(sizeof(ip) == 20, "layout");
	memcpy(ip.addresses[0], s->from->address, sizeof(ip.addresses[0]));
	memcpy(ip.addresses[1], s->to->address, sizeof(ip.addresses[1]));
	size = fill_tcp(&tcp, s, sum(IPPROTO_TCP, &ip.addresses, sizeof(ip.addresses)));
	ip.length = htons((uint16_t)(sizeof(ip) + size + s->size));
	ip.checksum = checksum(sum(0, &ip, sizeof(ip)));
	add(b, &ip, sizeof(ip));
	add(b, &tcp, size);
}

static void add_v6(struct pcap_blocks *b, const struct pcap_segment *s)
{
	struct {
		uint8_t version, zero[3];
		uint16_t length;
		uint8_t next, hops;
		uint8_t addresses[2][16];
	} ip = {.version = 0x60, .next = IPPROTO_TCP, .hops = 64};
	struct tcp tcp;
	size_t size;

	_Static_assert(sizeof(ip) == 40, "layout");
	memcpy(ip.addresses[0], s->from->address, sizeof(ip.addresses[0]));
	memcpy(ip.addresses[1], s->to->address, sizeof(ip.addresses[1]));
	size = fill_tcp(&tcp, s, sum(IPPROTO_TCP, &ip.addresses, sizeof(ip.addresses)));
	ip.length = htons((uint16_t)(size + s->size));
	add(b, &ip, sizeof(ip));
	add(b, &tcp, size);
}

void pcap_block_packet(struct pcap_blocks *b, const struct pcap_packet *p,
		       const struct pcap_segment *s)
{
	size_t ip = s->v6 ? 40 : 20, tcp = s->flags & PCAP_SYN ? sizeof(struct tcp) : TCP_SIZE;
	uint32_t size = (uint32_t)(ip + tcp + s->size);
	const uint32_t direction = p->out ? 2 : 1;

	begin(b, BLOCK_PACKET);
	add32(b, 0); /* the interface */
	add32(b, (uint32_t)(p->time >> 32));
	add32(b, (uint32_t)p->time);
	add32(b, size); /* captured, and on the wire */
	add32(b, size);
	s->v6 ? add_v6(b, s) : add_v4(b, s);
	add(b, s->data, s->size);
	align(b);
	option_text(b, OPT_COMMENT, p->comment);
	option(b, PACKET_FLAGS, &direction, sizeof(direction));
	option(b, OPT_END, NULL, 0);
	end(b);
}

void pcap_block_counts(struct pcap_blocks *b, const struct pcap_counts *counts)
{
	begin(b, BLOCK_COUNTS);
	add32(b, 0);
	add32(b, (uint32_t)(counts->last >> 32));
	add32(b, (uint32_t)counts->last);
	option_time(b, COUNTS_FIRST, counts->first);
	option_time(b, COUNTS_LAST, counts->last);
	option(b, COUNTS_RECEIVED, &counts->received, sizeof(counts->received));
	option(b, COUNTS_DROPPED, &counts->dropped, sizeof(counts->dropped));
	option(b, OPT_END, NULL, 0);
	end(b);
}
