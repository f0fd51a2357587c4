/* SPDX-License-Identifier: MIT */
/* Bodies that were encoded come back, whole or as far as they go; bombs do not go off. */
#include <brotli/encode.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <cmocka.h>

#include "body.h"

#define TEXT_SIZE 100000
static unsigned char text[TEXT_SIZE];

static void deflate_to(struct ts_buf *out, int bits, const void *data, size_t len)
{
	static unsigned char made[TEXT_SIZE * 2];
	z_stream z = {.next_in = (Bytef *)data, .avail_in = (uInt)len};

	z.next_out = made;
	z.avail_out = sizeof(made);
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	assert_int_equal(ts_buf_add(out, made, sizeof(made) - z.avail_out), 0);
}

static void encode(struct ts_buf *out, const char *how, const void *data, size_t len)
{
	static unsigned char made[TEXT_SIZE * 2];
	size_t n = sizeof(made);

	if (!strcmp(how, "gzip"))
		deflate_to(out, MAX_WBITS + 16, data, len);
	if (!strcmp(how, "deflate"))
		deflate_to(out, MAX_WBITS, data, len);
	if (!strcmp(how, "raw"))
		deflate_to(out, -MAX_WBITS, data, len);
	if (!strcmp(how, "br")) {
		assert_true(BrotliEncoderCompress(5, 22, BROTLI_MODE_TEXT, len, data, &n, made));
		assert_int_equal(ts_buf_add(out, made, n), 0);
	}
	if (!strcmp(how, "zstd")) {
		n = ZSTD_compress(made, sizeof(made), data, len, 3);
		assert_int_equal(ts_buf_add(out, made, n), 0);
	}
}

static const char *const kinds[] = {"gzip", "deflate", "raw", "br", "zstd"};

static const char *header_of(const char *kind)
{
	return strcmp(kind, "raw") != 0 ? kind : "deflate";
}

static void every_encoding(void **state)
{
	struct ts_buf in = {0}, out = {0};
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(kinds); i++) {
		encode(&in, kinds[i], text, TEXT_SIZE);
		assert_int_equal(body_decode(&out, 1 << 20, header_of(kinds[i]), in.data, in.len),
				 BODY_WHOLE);
		assert_int_equal(out.len, TEXT_SIZE);
		assert_memory_equal(out.data, text, TEXT_SIZE);
		ts_buf_free(&out);
		/* Half of it gives a beginning. */
		assert_int_equal(
			body_decode(&out, 1 << 20, header_of(kinds[i]), in.data, in.len / 2),
			BODY_CUT);
		/* zstd gives whole blocks only. */
		assert_true(out.len < TEXT_SIZE && (out.len > 0 || !strcmp(kinds[i], "zstd")));
		assert_memory_equal(out.data, text, out.len);
		ts_buf_free(&out);
		/* And no more than is asked for. */
		assert_int_equal(body_decode(&out, 1000, header_of(kinds[i]), in.data, in.len),
				 BODY_CUT);
		assert_int_equal(out.len, 1000);
		assert_memory_equal(out.data, text, 1000);
		ts_buf_free(&out);
		ts_buf_free(&in);
	}
}

static void lists(void **state)
{
	struct ts_buf once = {0}, twice = {0}, out = {0};

	(void)state;
	encode(&once, "gzip", text, 500);
	encode(&twice, "br", once.data, once.len);
	assert_int_equal(body_decode(&out, 1 << 20, "GZip , identity,br", twice.data, twice.len),
			 BODY_WHOLE);
	assert_int_equal(out.len, 500);
	assert_memory_equal(out.data, text, 500);
	ts_buf_free(&out);
	assert_int_equal(body_decode(&out, 10, NULL, "plain", 5), BODY_WHOLE);
	assert_int_equal(body_decode(&out, 5, "", "x", 1), BODY_CUT);
	assert_int_equal(out.len, 5);
	ts_buf_free(&out);
	assert_int_equal(body_decode(&out, 10, "exi", "x", 1), BODY_UNKNOWN);
	assert_int_equal(body_decode(&out, 10, "gzip, exi", "x", 1), BODY_UNKNOWN);
	assert_int_equal(body_decode(&out, 10, "br,br,br,br,br,br,br,br,br", "x", 1), BODY_UNKNOWN);
	assert_int_equal(body_decode(&out, 10, "gzip", "", 0), BODY_WHOLE);
	assert_int_equal(out.len, 0);
	ts_buf_free(&once);
	ts_buf_free(&twice);
}

/* Two members, one behind the other, are one text. */
static void gzip_members(void **state)
{
	struct ts_buf in = {0}, out = {0};

	(void)state;
	encode(&in, "gzip", text, 300);
	encode(&in, "gzip", text + 300, 300);
	assert_int_equal(body_decode(&out, 1 << 20, "gzip", in.data, in.len), BODY_WHOLE);
	assert_int_equal(out.len, 600);
	assert_memory_equal(out.data, text, 600);
	ts_buf_free(&in);
	ts_buf_free(&out);
}

static void damage(void **state)
{
	struct ts_buf in = {0}, out = {0};
	size_t i, at;
	int ret;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(kinds); i++) {
		encode(&in, kinds[i], text, 2000);
		for (at = 0; at < in.len; at++) {
			in.data[at] ^= 0x55;
			ret = body_decode(&out, 4000, header_of(kinds[i]), in.data, in.len);
			assert_true(ret >= BODY_WHOLE && ret <= BODY_DAMAGED);
			assert_true(out.len <= 4000);
			ts_buf_free(&out);
			in.data[at] ^= 0x55;
		}
		ts_buf_free(&in);
	}
	assert_int_equal(body_decode(&out, 10, "gzip", "no gzip", 7), BODY_DAMAGED);
	assert_int_equal(body_decode(&out, 10, "zstd", "no zstd", 7), BODY_DAMAGED);
	assert_int_equal(body_decode(&out, 10, "gzip", "\x1f", 1), BODY_CUT);
}

/* A gigabyte of nothing, packed twice: only what was asked for comes out, and soon. */
static void bomb(void **state)
{
	static unsigned char zeros[65536], made[2 << 20];
	struct ts_buf in = {0}, out = {0};
	z_stream z = {0};
	int i;

	(void)state;
	z.next_out = made;
	z.avail_out = sizeof(made);
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY),
			 Z_OK);
	for (i = 0; i < 4096; i++) {
		z.next_in = zeros;
		z.avail_in = sizeof(zeros);
		assert_int_equal(deflate(&z, i < 4095 ? Z_NO_FLUSH : Z_FINISH),
				 i < 4095 ? Z_OK : Z_STREAM_END);
	}
	deflateEnd(&z);
	encode(&in, "gzip", made, 100000);
	assert_int_equal(body_decode(&out, 70000, "gzip, gzip", in.data, in.len), BODY_CUT);
	assert_true(out.len <= 70000);
	ts_buf_free(&in);
	ts_buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_encoding), cmocka_unit_test(lists),
		cmocka_unit_test(gzip_members),	  cmocka_unit_test(damage),
		cmocka_unit_test(bomb),
	};
	size_t i;

	srand(1);
	for (i = 0; i < TEXT_SIZE; i++)
		text[i] = (unsigned char)("abcdefgh\n"[rand() % 9] + (rand() % 50 == 0));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
