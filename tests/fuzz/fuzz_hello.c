/* SPDX-License-Identifier: MIT */
/*
 * What connections begin with: the finder of hellos, and their reader. The first byte says how:
 * even, and the rest is a direction's bytes, in pieces of that size; odd, and it is a hello, with
 * the flags that the byte's upper half has.
 */
#include <stdlib.h>
#include <string.h>

#include "hello.h"

/* Everything that a script can ask for. */
static void read_all(const unsigned char *data, size_t size, unsigned int flags)
{
	struct hello_part part, name;
	char ja4[HELLO_JA4_SIZE];
	struct hello h;
	size_t sum = 0;
	int n;

	if (!hello_read(&h, data, size, flags))
		return;
	if (h.size < size || (h.sni.at && !h.has_sni))
		abort();
	for (part = h.ciphers; (n = hello_number(&part, h.cipher_size)) >= 0;)
		sum += hello_cipher_name((unsigned int)n) != NULL;
	for (part = h.groups; (n = hello_number(&part, 2)) >= 0;)
		sum += hello_group_name((unsigned int)n) != NULL;
	for (part = h.versions; (n = hello_number(&part, 2)) >= 0;)
		sum += hello_version_name((unsigned int)n) != NULL;
	for (part = h.alpn; hello_name(&part, &name);)
		sum += name.size ? name.at[name.size - 1] : 0;
	if (h.sni.size)
		sum += h.sni.at[h.sni.size - 1];
	if (hello_ja4(&h, ja4)) {
		if (!h.whole || strlen(ja4) != 36 || ja4[0] != 't' || ja4[10] != '_' ||
		    ja4[23] != '_')
			abort();
	}
	if (sum > size + 4096 * 256)
		abort();
}

static int on_found(void *ctx, const struct ts_record *r)
{
	const struct ts_hello *h = (const struct ts_hello *)r;
	unsigned int *found = ctx;

	if (!record_valid(r, r->size) || ++*found > 2)
		abort();
	read_all(h->payload, h->len, h->flags);
	return 0;
}

static void on_done(void *ctx, uint64_t sock, uint32_t start, uint8_t dir)
{
	(void)ctx;
	if (sock != 1 || start != 2 || dir != TS_IN)
		abort();
}

static void find(const unsigned char *data, size_t size, size_t step)
{
	static const struct hello_finder_ops ops = {on_found, on_done};
	struct ts_hello *p = malloc(sizeof(*p) + step);
	struct hello_finder *f;
	unsigned int found = 0;
	size_t at, n;

	if (!p || hello_finder_open(&f, &ops, &found))
		abort();
	for (at = 0; at < size; at += n) {
		n = size - at < step ? size - at : step;
		*p = (struct ts_hello){
			.sock = 1, .start = 2, .pos = (__u32)at, .len = (__u32)n, .pid = 42};
		memcpy(p->payload, data + at, n);
		hello_finder_feed(f, p);
	}
	hello_finder_close(f);
	free(p);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	unsigned char *copy;

	if (!size)
		return 0;
	if (data[0] % 2 == 0) {
		find(data + 1, size - 1, data[0] * 8u + 8);
		return 0;
	}
	copy = malloc(size);
	if (!copy)
		abort();
	memcpy(copy, data + 1, size - 1);
	read_all(copy, size - 1, data[0] >> 4);
	free(copy);
	return 0;
}
