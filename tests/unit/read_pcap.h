/* SPDX-License-Identifier: MIT */
/*
 * Reads a pcapng file back, as its specification says and with none of the code that wrote it, and
 * checks every byte: lengths, padding, checksums. What is in it becomes text, a line a block.
 */
#ifndef TLSSCOPE_TEST_READ_PCAP_H
#define TLSSCOPE_TEST_READ_PCAP_H

#include <arpa/inet.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base.h"

/* Sequence numbers are told relative to the SYN of their flow, also in a later file. */
struct flow {
	char name[128];
	uint32_t first;
};
struct pcap_reader {
	struct ts_buf text;
	struct ts_buf said; /* the data of packets in their order, both directions */
	struct flow flows[16];
	size_t flows_count;
};

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint16_t get16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t get_time(const uint8_t *p)
{
	return (uint64_t)get32(p) << 32 | get32(p + 4);
}

static uint32_t net32(const uint8_t *p)
{
	return ntohl(get32(p));
}

static uint16_t net16(const uint8_t *p)
{
	return ntohs(get16(p));
}

/* 0xffff where the checksum in it is right. */
static uint32_t ones(uint32_t start, const uint8_t *p, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		start += i % 2 ? p[i] : (uint32_t)p[i] << 8;
		start = (start & 0xffff) + (start >> 16);
	}
	return start;
}

static uint32_t *first_of(struct pcap_reader *r, const char *name)
{
	size_t i;

	for (i = 0; i < r->flows_count; i++)
		if (!strcmp(r->flows[i].name, name))
			return &r->flows[i].first;
	assert_true(r->flows_count < TS_ARRAY_SIZE(r->flows));
	strcpy(r->flows[r->flows_count].name, name);
	return &r->flows[r->flows_count++].first;
}

static void read_segment(struct pcap_reader *r, const uint8_t *p, size_t n)
{
	bool v6 = p[0] >> 4 == 6;
	size_t ip = v6 ? 40 : 20, addresses = v6 ? 32 : 8, head, size;
	const uint8_t *tcp = p + ip, *from = p + ip - addresses;
	char a[64], b[64], name[300], back[300];
	uint32_t *mine, *theirs;
	int af = v6 ? AF_INET6 : AF_INET;

	assert_true(n >= ip + 20);
	if (v6) {
		assert_int_equal(get32(p), htonl(0x60000000));
		assert_int_equal(net16(p + 4), n - ip);
		assert_int_equal(p[6], 6);
	} else {
		assert_int_equal(p[0], 0x45);
		assert_int_equal(net16(p + 2), n);
		assert_int_equal(net16(p + 6), 0x4000);
		assert_int_equal(p[9], 6);
		assert_int_equal(ones(0, p, 20), 0xffff);
	}
	assert_int_equal(ones(ones(6 + (uint32_t)(n - ip), from, addresses), tcp, n - ip), 0xffff);
	head = tcp[12] >> 4 << 2;
	assert_int_equal(tcp[12] & 15, 0);
	assert_int_equal(head, tcp[13] & 2 ? 28 : 20);
	if (tcp[13] & 2)
		assert_memory_equal(tcp + 20, "\2\4\xfc\0\3\3\16\0", 8);
	assert_int_equal(net16(tcp + 14), 0xffff);
	assert_int_equal(get16(tcp + 18), 0);
	inet_ntop(af, from, a, sizeof(a));
	inet_ntop(af, from + addresses / 2, b, sizeof(b));
	snprintf(name, sizeof(name), "%s:%u > %s:%u", a, net16(tcp), b, net16(tcp + 2));
	snprintf(back, sizeof(back), "%s:%u > %s:%u", b, net16(tcp + 2), a, net16(tcp));
	mine = first_of(r, name);
	theirs = first_of(r, back);
	if (tcp[13] & 2)
		*mine = net32(tcp + 4) + 1;
	size = n - ip - head;
	ts_buf_printf(&r->text, "%s %s%s%s%s %d", name, tcp[13] & 2 ? "S" : "",
		      tcp[13] & 16 ? "A" : "", tcp[13] & 8 ? "P" : "", tcp[13] & 1 ? "F" : "",
		      (int32_t)(net32(tcp + 4) - *mine));
	assert_int_equal(tcp[13] & ~27, 0);
	if (tcp[13] & 16)
		ts_buf_printf(&r->text, " ack %d", (int32_t)(net32(tcp + 8) - *theirs));
	else
		assert_int_equal(get32(tcp + 8), 0);
	if (size > 20)
		ts_buf_printf(&r->text, " of %zu", size);
	else if (size)
		ts_buf_printf(&r->text, " '%.*s'", (int)size, (const char *)tcp + head);
	ts_buf_add(&r->said, tcp + head, size);
}

/* Options from p to end. Numbers and times by code, texts as they are. */
static void read_options(struct pcap_reader *r, uint32_t block, const uint8_t *p,
			 const uint8_t *end)
{
	uint16_t code, len;

	for (;; p += 4 + (len + 3u) / 4 * 4) {
		assert_true(p + 4 <= end);
		code = get16(p);
		len = get16(p + 2);
		assert_true(p + 4 + (len + 3u) / 4 * 4 <= end);
		assert_memory_equal(p + 4 + len, "\0\0\0", -len & 3);
		if (!code)
			break;
		if (block == 5 && code <= 3)
			ts_buf_printf(&r->text, " %u=%" PRIu64, code, get_time(p + 4));
		else if (block == 5)
			ts_buf_printf(&r->text, " %u=%u", code, get32(p + 4));
		else if (block == 6 && code == 2)
			ts_buf_printf(&r->text, get32(p + 4) == 1 ? " in" : " out");
		else if (block == 1 && code == 9)
			ts_buf_printf(&r->text, " unit=%u", p[4]);
		else
			ts_buf_printf(&r->text, " %u=%.*s", code, len, (const char *)p + 4);
	}
	assert_int_equal(len, 0);
	assert_ptr_equal(p + 4, end);
}

static void read_block(struct pcap_reader *r, const uint8_t *p, uint32_t size)
{
	const uint8_t *end = p + size - 4;
	uint32_t type = get32(p), n;

	assert_int_equal(get32(end), size);
	switch (type) {
	case 0x0a0d0d0a:
		assert_int_equal(get32(p + 8), 0x1a2b3c4d);
		assert_int_equal(get16(p + 12), 1);
		assert_int_equal(get16(p + 14), 0);
		assert_memory_equal(p + 16, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
		ts_buf_printf(&r->text, "section");
		p += 24;
		break;
	case 1:
		ts_buf_printf(&r->text, "interface link=%u most=%u", get16(p + 8), get32(p + 12));
		p += 16;
		break;
	case 5:
		ts_buf_printf(&r->text, "counts %" PRIu64, get_time(p + 12));
		assert_int_equal(get32(p + 8), 0);
		p += 20;
		break;
	default:
		assert_int_equal(type, 6);
		assert_int_equal(get32(p + 8), 0);
		n = get32(p + 20);
		assert_int_equal(n, get32(p + 24));
		assert_true(n <= 65535 && p + 28 + n <= end);
		ts_buf_printf(&r->text, "%" PRIu64 " ", get_time(p + 12));
		read_segment(r, p + 28, n);
		assert_memory_equal(p + 28 + n, "\0\0\0", -n & 3);
		p += 28 + (n + 3) / 4 * 4;
	}
	read_options(r, type, p, end);
	ts_buf_printf(&r->text, "\n");
}

/* Adds what is in the file; returns how many blocks. */
static size_t read_pcap(struct pcap_reader *r, const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t head[8], *block;
	size_t count = 0;

	assert_non_null(f);
	for (; fread(head, 1, 8, f) == 8; count++) {
		assert_true(get32(head + 4) % 4 == 0 && get32(head + 4) < 200000);
		assert_true(count || get32(head) == 0x0a0d0d0a);
		block = malloc(get32(head + 4));
		memcpy(block, head, 8);
		assert_int_equal(fread(block + 8, 1, get32(head + 4) - 8, f), get32(head + 4) - 8);
		read_block(r, block, get32(head + 4));
		free(block);
	}
	assert_true(feof(f));
	fclose(f);
	return count;
}

static void free_reader(struct pcap_reader *r)
{
	ts_buf_free(&r->text);
	ts_buf_free(&r->said);
}

#endif
