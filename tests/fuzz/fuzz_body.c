/* SPDX-License-Identifier: MIT */
/*
 * A body that anybody may have sent, in any encoding: the first byte says which. Nobody comes upon
 * what brotli or zstd made by chance, so some inputs are encoded here before they are changed.
 */
#include <brotli/encode.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "body.h"

static const char *const lists[] = {"gzip",  "deflate", "br",	      "zstd",
				    "br,br", "gzip,br", "zstd, gzip", "deflate,deflate"};

size_t LLVMFuzzerMutate(unsigned char *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(unsigned char *data, size_t size, size_t max, unsigned int seed);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* Puts `text` into out, encoded with the one encoding; the length, or 0. */
static size_t encode(const char *with, size_t with_len, unsigned int seed,
		     const unsigned char *text, size_t len, unsigned char *out, size_t max)
{
	int level = (int)(seed % 9) + 1;
	size_t n = max;
	uLongf z = max;

	if (!strncmp(with, "br", with_len))
		return BrotliEncoderCompress(level, 10 + level, BROTLI_MODE_GENERIC, len, text, &n,
					     out)
			       ? n
			       : 0;
	if (!strncmp(with, "zstd", with_len)) {
		n = ZSTD_compress(out, max, text, len, level);
		return ZSTD_isError(n) ? 0 : n;
	}
	if (!strncmp(with, "deflate", with_len))
		return compress2(out, &z, text, len, level) == Z_OK ? z : 0;
	return 0; /* gzip is found easily */
}

/* Some text, as long and as repetitive as the seed has it, in the encodings of data's list. */
static size_t make(unsigned char *data, size_t max, unsigned int seed)
{
	unsigned char text[4096], coded[8192];
	size_t i, len = seed % sizeof(text), n;
	const char *list = lists[data[0] % 8], *end;

	for (i = 0; i < len; i++)
		text[i] = (unsigned char)(i % (1 + seed / 7 % 50) * (seed % 13) + (i >> 7));
	while (list) {
		list += strspn(list, ", ");
		end = strchr(list, ',');
		n = encode(list, end ? (size_t)(end - list) : strlen(list), seed, text, len, coded,
			   sizeof(coded));
		if (!n || n > sizeof(text))
			return 0;
		memcpy(text, coded, n);
		len = n;
		list = end;
	}
	if (len + 1 > max)
		return 0;
	memcpy(data + 1, text, len);
	return len + 1;
}

size_t LLVMFuzzerCustomMutator(unsigned char *data, size_t size, size_t max, unsigned int seed)
{
	size_t made;

	if (size && seed % 16 == 0) {
		made = make(data, max, seed / 16);
		if (made && seed % 3)
			return LLVMFuzzerMutate(data, made, max);
		if (made)
			return made;
	}
	return LLVMFuzzerMutate(data, size, max);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct ts_buf out = {0};
	int ret;

	if (!size)
		return 0;
	ret = body_decode(&out, 65536, lists[*data % 8], data + 1, size - 1);
	if (ret < 0 || ret == BODY_UNKNOWN || out.len > 65536)
		abort();
	ts_buf_free(&out);
	return 0;
}
