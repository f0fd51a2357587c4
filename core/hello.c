/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "hello.h"

/* RFC 8446, 4.2 */
enum extension {
	EXT_SERVER_NAME = 0,
	EXT_GROUPS = 10,
	EXT_SIGNATURES = 13,
	EXT_ALPN = 16,
	EXT_VERSIONS = 43,
	EXT_KEY_SHARE = 51,
};

/* RFC 8446, 4.1.3: the random of a HelloRetryRequest, which is a ServerHello else. */
static const unsigned char retry_random[32] = {
	0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c,
	0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb,
	0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
};

/* Takes n bytes from the front; false, and nothing is taken, where there are less. */
static bool take(struct hello_part *from, size_t n, struct hello_part *out)
{
	if (from->size < n)
		return false;
	*out = (struct hello_part){from->at, n};
	from->at += n;
	from->size -= n;
	return true;
}

int hello_number(struct hello_part *list, unsigned int size)
{
	struct hello_part p;
	unsigned int i;
	int n = 0;

	if (!take(list, size, &p))
		return -1;
	for (i = 0; i < size; i++)
		n = n << 8 | p.at[i];
	return n;
}

/* Takes what has its length, a number of `size` bytes, before it. */
static bool take_sized(struct hello_part *from, unsigned int size, struct hello_part *out)
{
	struct hello_part rest = *from;
	int n = hello_number(&rest, size);

	if (n < 0 || !take(&rest, (size_t)n, out))
		return false;
	*from = rest;
	return true;
}

bool hello_name(struct hello_part *list, struct hello_part *name)
{
	return take_sized(list, 1, name);
}

int hello_extension(struct hello_part *types, struct hello_part *content)
{
	struct hello_part rest = *types;
	int type = hello_number(&rest, 2);

	if (type < 0 || !take_sized(&rest, 2, content))
		return -1;
	*types = rest;
	return type;
}

bool hello_is_grease(unsigned int value)
{
	return (value & 0x0f0f) == 0x0a0a && value >> 8 == (value & 0xff);
}

/* RFC 6066, 3: a list of names, of which only host names exist. */
static bool read_sni(struct hello *h, struct hello_part content)
{
	struct hello_part list, name;
	int type;

	h->has_sni = true;
	/* A server says so that it has used it. */
	if (!content.size)
		return true;
	if (!take_sized(&content, 2, &list))
		return false;
	type = hello_number(&list, 1);
	if (type < 0 || !take_sized(&list, 2, &name))
		return false;
	if (!type && name.size)
		h->sni = name;
	return true;
}

static bool read_extension(struct hello *h, int type, struct hello_part content)
{
	int version;

	switch (type) {
	case EXT_SERVER_NAME:
		return read_sni(h, content);
	case EXT_ALPN:
		return take_sized(&content, 2, &h->alpn);
	case EXT_GROUPS:
		return !h->client || take_sized(&content, 2, &h->groups);
	case EXT_SIGNATURES:
		return take_sized(&content, 2, &h->signatures);
	case EXT_KEY_SHARE:
		return h->client || take(&content, 2, &h->groups);
	case EXT_VERSIONS:
		if (h->client)
			return take_sized(&content, 1, &h->versions);
		version = hello_number(&content, 2);
		if (version >= 0)
			h->version = (uint16_t)version;
		return version >= 0;
	default:
		return true;
	}
}

static bool read_extensions(struct hello *h, struct hello_part *body)
{
	struct hello_part types, content;
	bool sound = true;
	int type;

	/* They are none, before TLS 1.2. */
	if (!body->size)
		return true;
	if (!take_sized(body, 2, &h->types)) {
		/* Cut off: read those that are there. */
		if (hello_number(body, 2) < 0)
			return false;
		h->types = *body;
		sound = false;
	}
	types = h->types;
	while ((type = hello_extension(&types, &content)) >= 0)
		sound &= read_extension(h, type, content);
	return sound && !types.size;
}

/* RFC 5246, E.2: the form in which older clients began. */
static bool read_ssl2(struct hello *h, struct hello_part body)
{
	struct hello_part rest;
	int type = hello_number(&body, 1), version = hello_number(&body, 2);
	int ciphers = hello_number(&body, 2), session = hello_number(&body, 2);
	int challenge = hello_number(&body, 2);

	if (type != 1 || challenge < 0)
		return false;
	h->client = true;
	h->version = (uint16_t)version;
	h->cipher_size = 3;
	h->whole = take(&body, (size_t)ciphers, &h->ciphers) &&
		   take(&body, (size_t)session, &rest) && take(&body, (size_t)challenge, &rest) &&
		   !body.size;
	return true;
}

/* What follows on the random. */
static bool read_body(struct hello *h, struct hello_part body)
{
	struct hello_part rest;

	if (!take_sized(&body, 1, &rest)) /* the session's id */
		return false;
	if (h->client && (!take_sized(&body, 2, &h->ciphers) || !take_sized(&body, 1, &rest)))
		return false;
	if (!h->client && (!take(&body, 2, &h->ciphers) || !take(&body, 1, &rest)))
		return false;
	return read_extensions(h, &body) && !body.size;
}

bool hello_read(struct hello *out, const unsigned char *data, size_t size, unsigned int flags)
{
	struct hello_part body = {data, size}, random;
	int type, length, version;

	*out = (struct hello){.cipher_size = 2, .size = size};
	if (flags & TS_HELLO_SSL2)
		return read_ssl2(out, body);
	type = hello_number(&body, 1);
	length = hello_number(&body, 3);
	version = hello_number(&body, 2);
	if ((type != 1 && type != 2) || !take(&body, sizeof(retry_random), &random))
		return false;
	out->client = type == 1;
	out->version = (uint16_t)version;
	out->retry = out->client ? flags & TS_HELLO_RETRY
				 : !memcmp(random.at, retry_random, sizeof(retry_random));
	out->whole = read_body(out, body) && (size_t)length == size - 4;
	if ((size_t)length + 4 > size)
		out->size = (size_t)length + 4;
	return true;
}
