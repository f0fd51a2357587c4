/* SPDX-License-Identifier: MIT */
/* Hellos for tests: from hexadecimal digits, and from what they shall say. */
#ifndef TLSSCOPE_TEST_MAKE_HELLO_H
#define TLSSCOPE_TEST_MAKE_HELLO_H

#include <stdio.h>
#include <string.h>

struct bytes {
	unsigned char data[40000];
	size_t size;
};

static inline void add_bytes(struct bytes *b, const void *data, size_t size)
{
	assert_true(size <= sizeof(b->data) - b->size);
	memcpy(b->data + b->size, data, size);
	b->size += size;
}

static inline void add_number(struct bytes *b, size_t n, unsigned int size)
{
	unsigned char byte;

	while (size--) {
		byte = (unsigned char)(n >> 8 * size);
		add_bytes(b, &byte, 1);
	}
}

/* Up to `end`; spaces are left out. */
static inline void add_digits(struct bytes *b, const char *digits, const char *end)
{
	unsigned int byte;

	for (; digits < end; digits += 2) {
		while (digits < end && *digits == ' ')
			digits++;
		if (digits >= end)
			return;
		assert_int_equal(sscanf(digits, "%2x", &byte), 1);
		add_number(b, byte, 1);
	}
}

static inline struct bytes from_digits(const char *digits)
{
	static struct bytes b;

	b.size = 0;
	add_digits(&b, digits, digits + strlen(digits));
	return b;
}

/* What comes is as long as the number of two bytes at `at` says. */
static inline void set_length(struct bytes *b, size_t at)
{
	b->data[at] = (unsigned char)((b->size - at - 2) >> 8);
	b->data[at + 1] = (unsigned char)(b->size - at - 2);
}

/* A ClientHello with these ciphers, and extensions as "TYPE=CONTENT" or "TYPE". */
static inline struct bytes make_client(const char *ciphers, const char *extensions)
{
	static const unsigned char random[32];
	static struct bytes b;
	const char *end;
	size_t at, all;

	b.size = 0;
	add_number(&b, 0x01000000, 4);
	add_number(&b, 0x0303, 2);
	add_bytes(&b, random, sizeof(random));
	add_number(&b, 0, 1);
	at = b.size;
	add_number(&b, 0, 2);
	add_digits(&b, ciphers, ciphers + strlen(ciphers));
	set_length(&b, at);
	add_number(&b, 0x0100, 2);
	all = b.size;
	add_number(&b, 0, 2);
	while (*extensions) {
		end = extensions + strcspn(extensions, " ");
		add_digits(&b, extensions, extensions + 4);
		at = b.size;
		add_number(&b, 0, 2);
		if (extensions[4] == '=')
			add_digits(&b, extensions + 5, end);
		set_length(&b, at);
		extensions = end + strspn(end, " ");
	}
	set_length(&b, all);
	set_length(&b, 2);
	return b;
}

#endif
