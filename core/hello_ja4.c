/* SPDX-License-Identifier: MIT */
/* JA4: FoxIO's fingerprint of a ClientHello, which orders what clients send in random order. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <nettle/sha2.h>

#include "hello.h"

#define HASH_SIZE 13 /* the first 12 digits, and NUL */

/* Numbers that count: GREASE is left out. */
struct numbers {
	uint16_t *all;
	size_t count;
};

static void add(struct numbers *n, int value)
{
	if (!hello_is_grease((unsigned int)value))
		n->all[n->count++] = (uint16_t)value;
}

static int compare(const void *a, const void *b)
{
	return *(const uint16_t *)a - *(const uint16_t *)b;
}

static void hash_numbers(struct sha256_ctx *sha, const struct numbers *n, const char *before)
{
	char text[8];
	size_t i;

	for (i = 0; i < n->count; i++) {
		snprintf(text, sizeof(text), "%s%04x", i ? "," : before, n->all[i]);
		sha256_update(sha, strlen(text), (const uint8_t *)text);
	}
}

/* `second` follows, in its own order, after an underscore. */
static void hash(char out[HASH_SIZE], struct numbers *sorted, const struct numbers *second)
{
	uint8_t digest[(HASH_SIZE - 1) / 2];
	struct sha256_ctx sha;
	size_t i;

	if (!sorted->count) {
		ts_copy(out, HASH_SIZE, "000000000000");
		return;
	}
	qsort(sorted->all, sorted->count, sizeof(*sorted->all), compare);
	sha256_init(&sha);
	hash_numbers(&sha, sorted, "");
	hash_numbers(&sha, second, "_");
	sha256_digest(&sha, sizeof(digest), digest);
	for (i = 0; i < sizeof(digest); i++)
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

static const char *version_of(const struct hello *h)
{
	struct hello_part list = h->versions;
	int version = h->version, v;

	if (list.at)
		version = 0;
	while ((v = hello_number(&list, 2)) >= 0)
		if (!hello_is_grease((unsigned int)v) && v > version)
			version = v;
	switch (version) {
	case 0x0304:
		return "13";
	case 0x0303:
		return "12";
	case 0x0302:
		return "11";
	case 0x0301:
		return "10";
	case 0x0300:
		return "s3";
	case 0x0002:
		return "s2";
	default:
		return "00";
	}
}

static bool is_alnum(unsigned char c)
{
	return c < 0x80 && isalnum(c);
}

/* The first and the last character of the first name of ALPN, or of its hexadecimal digits. */
static void alpn_of(const struct hello *h, char out[3])
{
	struct hello_part list = h->alpn, name;
	unsigned char first, last;

	ts_copy(out, 3, "00");
	if (!hello_name(&list, &name) || !name.size)
		return;
	first = name.at[0];
	last = name.at[name.size - 1];
	if (is_alnum(first) && is_alnum(last))
		snprintf(out, 3, "%c%c", first, last);
	else
		snprintf(out, 3, "%x%x", first >> 4, last & 15);
}

static void write_ja4(const struct hello *h, uint16_t *buffer, char out[HELLO_JA4_SIZE])
{
	struct hello_part ciphers = h->ciphers, types = h->types, list = h->signatures, content;
	struct numbers n = {buffer, 0}, none = {buffer, 0}, signatures;
	char cipher_hash[HASH_SIZE], extension_hash[HASH_SIZE], alpn[3];
	size_t cipher_count, extensions = 0;
	int value;

	while ((value = hello_number(&ciphers, 2)) >= 0)
		add(&n, value);
	cipher_count = n.count;
	hash(cipher_hash, &n, &none);
	n.count = 0;
	while ((value = hello_extension(&types, &content)) >= 0) {
		if (!hello_is_grease((unsigned int)value))
			extensions++;
		/* The first part tells of these two. */
		if (value != 0 && value != 16)
			add(&n, value);
	}
	signatures = (struct numbers){buffer + n.count, 0};
	while ((value = hello_number(&list, 2)) >= 0)
		add(&signatures, value);
	hash(extension_hash, &n, &signatures);
	alpn_of(h, alpn);
	snprintf(out, HELLO_JA4_SIZE, "t%s%c%02zu%02zu%s_%s_%s", version_of(h),
		 h->has_sni ? 'd' : 'i', cipher_count < 99 ? cipher_count : 99,
		 extensions < 99 ? extensions : 99, alpn, cipher_hash, extension_hash);
}

bool hello_ja4(const struct hello *h, char out[HELLO_JA4_SIZE])
{
	uint16_t *buffer;

	if (!h->client || !h->whole || h->cipher_size != 2)
		return false;
	/* Every number takes two bytes of the hello at least. */
	buffer = malloc(h->ciphers.size + h->types.size + 2);
	if (!buffer)
		return false;
	write_ja4(h, buffer, out);
	free(buffer);
	return true;
}
