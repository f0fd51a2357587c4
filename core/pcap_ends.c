/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <string.h>

#include "pcap_ends.h"

#define PORT_UNKNOWN 80	 /* of a server */
#define PORT_FIRST 49152 /* of the 2^14 that clients take */

static bool is_mapped(const uint8_t *address)
{
	static const uint8_t prefix[12] = {[10] = 0xff, 0xff};

	return !memcmp(address, prefix, sizeof(prefix));
}

/* False: there is none, or "any", which is nobody's. */
static bool set_end(struct pcap_end *e, const uint8_t *address, size_t len, uint16_t port)
{
	*e = (struct pcap_end){.port = port};
	memcpy(e->address, address, len);
	while (len && !address[len - 1])
		len--;
	return len && port;
}

bool pcap_ends_real(struct pcap_ends *e, const struct ts_conn_info *i)
{
	bool v6 = i->family == AF_INET6, mapped;
	size_t len = v6 ? 16 : 4, skip;

	if ((!v6 && i->family != AF_INET) || i->llen != len || i->rlen != len)
		return false;
	mapped = v6 && is_mapped(i->laddr) && is_mapped(i->raddr);
	skip = mapped ? 12 : 0;
	e->v6 = v6 && !mapped;
	return set_end(&e->by[TS_OUT], i->laddr + skip, len - skip, i->lport) &&
	       set_end(&e->by[TS_IN], i->raddr + skip, len - skip, i->rport);
}

/* RFC 5737. It takes 2^14 * 254 * 254 connections until one has the ends of an earlier one. */
void pcap_ends_make(struct pcap_ends *e, uint64_t id, enum ts_dir client)
{
	const uint8_t process[4] = {192, 0, 2, (uint8_t)(1 + (id >> 14) % 254)};
	const uint8_t peer[4] = {198, 51, 100, (uint8_t)(1 + (id >> 14) / 254 % 254)};

	e->v6 = false;
	set_end(&e->by[TS_OUT], process, sizeof(process), PORT_UNKNOWN);
	set_end(&e->by[TS_IN], peer, sizeof(peer), PORT_UNKNOWN);
	e->by[client].port = (uint16_t)(PORT_FIRST + (id & 0x3fff));
}

uint16_t pcap_plain_port(uint16_t port)
{
	static const uint16_t ports[][2] = {
		{443, 80},    {8443, 8080}, {465, 25},	 {563, 119},   {636, 389},
		{853, 53},    {990, 21},    {993, 143},	 {995, 110},   {3269, 3268},
		{5061, 5060}, {5671, 5672}, {6514, 514}, {6697, 6667}, {8883, 1883},
	};
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(ports); i++)
		if (ports[i][0] == port)
			return ports[i][1];
	return port;
}

/* FNV-1a. */
static uint64_t hash(uint64_t h, const struct pcap_end *e)
{
	size_t i;

	for (i = 0; i < sizeof(e->address); i++)
		h = (h ^ e->address[i]) * 0x100000001b3u;
	return (h ^ e->port) * 0x100000001b3u;
}

void pcap_ends_name(const struct pcap_ends *e, uint64_t name[2])
{
	const struct pcap_end *a = &e->by[0], *b = &e->by[1];
	int order = memcmp(a->address, b->address, sizeof(a->address));
	bool swap = order ? order > 0 : a->port > b->port;
	unsigned int i;

	for (i = 0; i < 2; i++)
		name[i] = hash(hash(0xcbf29ce484222325u + i, swap ? b : a), swap ? a : b);
}

static void print_end(struct ts_buf *b, const struct pcap_end *e, bool v6)
{
	char text[INET6_ADDRSTRLEN] = "";

	inet_ntop(v6 ? AF_INET6 : AF_INET, e->address, text, sizeof(text));
	ts_buf_printf(b, v6 ? "[%s]:%u" : "%s:%u", text, e->port);
}

void pcap_ends_print(struct ts_buf *b, const struct pcap_ends *e)
{
	print_end(b, &e->by[TS_OUT], e->v6);
	ts_buf_printf(b, " to ");
	print_end(b, &e->by[TS_IN], e->v6);
}
