/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "hello.h"
#include "hellos.h"
#include "make_hello.h"

/* --- reading one */

/* What was read, as one line. */
static void describe(const struct hello *h, char out[2048])
{
	struct hello_part list = h->alpn, name;
	struct ts_buf text = {0};
	char ja4[HELLO_JA4_SIZE];
	int n;

	ts_buf_printf(&text, "%s %04x%s%s sni=%.*s", h->client ? "client" : "server", h->version,
		      h->retry ? " retry" : "", h->whole ? "" : " damaged", (int)h->sni.size,
		      h->sni.at ? (const char *)h->sni.at : "");
	while (hello_name(&list, &name))
		ts_buf_printf(&text, " alpn=%.*s", (int)name.size, (const char *)name.at);
	for (list = h->versions; (n = hello_number(&list, 2)) >= 0;)
		ts_buf_printf(&text, " %s", hello_version_name((unsigned int)n));
	ts_buf_printf(&text, " ciphers=%zu", h->ciphers.size / h->cipher_size);
	for (list = h->groups; (n = hello_number(&list, 2)) >= 0;)
		ts_buf_printf(&text, " %s", hello_group_name((unsigned int)n));
	if (hello_ja4(h, ja4))
		ts_buf_printf(&text, " %s", ja4);
	assert_in_range(text.len, 1, 2047);
	memcpy(out, text.data, text.len);
	out[text.len] = 0;
	ts_buf_free(&text);
}

static void expect(const struct bytes *b, unsigned int flags, const char *wanted)
{
	unsigned char *exact = malloc(b->size);
	struct hello h;
	char text[2048];

	/* A byte past its end is seen. */
	memcpy(exact, b->data, b->size);
	assert_true(hello_read(&h, exact, b->size, flags));
	describe(&h, text);
	free(exact);
	assert_string_equal(text, wanted);
}

static void real_ones(void **state)
{
	static const struct {
		const char *digits, *wanted;
	} cases[] = {
		{gnutls_client,
		 "client 0303 sni=localhost TLSv1.3 TLSv1.2 TLSv1.1 TLSv1 ciphers=29 secp256r1 "
		 "secp384r1 secp521r1 x25519 x448 ffdhe2048 ffdhe3072 ffdhe4096 ffdhe6144 "
		 "ffdhe8192 "
		 "t13d291300_723694b0fccc_2cc26d266019"},
		{node_client,
		 "client 0303 sni=node.test TLSv1.3 TLSv1.2 ciphers=59 x25519 secp256r1 "
		 "x448 secp521r1 secp384r1 ffdhe2048 ffdhe3072 ffdhe4096 ffdhe6144 "
		 "ffdhe8192 t13d591000_a33745022dd6_1f22a2ca17c4"},
		{curl_client,
		 "client 0303 sni=localhost alpn=h2 alpn=http/1.1 TLSv1.3 TLSv1.2 TLSv1.1 TLSv1 "
		 "ciphers=31 x25519 secp256r1 x448 secp521r1 secp384r1 ffdhe2048 ffdhe3072 "
		 "ffdhe4096 "
		 "ffdhe6144 ffdhe8192 t13d3112h2_e8f1e7e78f70_b26ce05bbdd6"},
		{retry_server, "server 0304 retry sni= ciphers=1 secp384r1"},
		{retry_done, "server 0304 sni= ciphers=1 secp384r1"},
		{tls12_server, "server 0303 sni= alpn=h2 ciphers=1"},
	};
	struct bytes b;
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		b = from_digits(cases[i].digits);
		expect(&b, 0, cases[i].wanted);
	}
	b = from_digits(retry_again);
	expect(&b, TS_HELLO_RETRY,
	       "client 0303 retry sni=retry.test TLSv1.3 TLSv1.2 TLSv1.1 TLSv1 ciphers=31 x25519 "
	       "secp256r1 x448 secp521r1 secp384r1 ffdhe2048 ffdhe3072 ffdhe4096 ffdhe6144 "
	       "ffdhe8192 t13d311000_e8f1e7e78f70_1f22a2ca17c4");
}

/* Every beginning of one, and every one with a byte changed: nothing is read past its end. */
static void damaged_ones(void **state)
{
	static const char *const all[] = {gnutls_client, curl_client, retry_server, tls12_server};
	struct bytes b;
	unsigned char *copy;
	char text[2048];
	struct hello h;
	size_t i, n;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(all); i++) {
		b = from_digits(all[i]);
		for (n = 0; n < b.size; n++) {
			copy = malloc(n + 1);
			memcpy(copy, b.data, n);
			assert_int_equal(hello_read(&h, copy, n, 0), n >= 38);
			assert_false(n >= 38 && h.whole);
			if (n >= 38) {
				describe(&h, text);
				assert_null(strstr(text, "t13"));
				assert_int_equal(h.size, b.size);
			}
			free(copy);
		}
		for (n = 0; n < b.size; n++) {
			copy = malloc(b.size);
			memcpy(copy, b.data, b.size);
			copy[n] ^= 0xff;
			if (hello_read(&h, copy, b.size, 0))
				describe(&h, text);
			free(copy);
		}
	}
}

/* What was cut off is known as far as it was there. */
static void cut_one(void **state)
{
	struct bytes b = from_digits(curl_client);

	(void)state;
	b.size = 240;
	expect(&b, TS_HELLO_CUT,
	       "client 0303 damaged sni=localhost alpn=h2 alpn=http/1.1 ciphers=31 x25519 "
	       "secp256r1 "
	       "x448 secp521r1 secp384r1 ffdhe2048 ffdhe3072 ffdhe4096 ffdhe6144 ffdhe8192");
}

static void ssl2(void **state)
{
	struct bytes b = from_digits("01030100060000000400000a00ffc0c101020304");

	(void)state;
	expect(&b, TS_HELLO_SSL2, "client 0301 damaged sni= ciphers=2");
	b = from_digits("01030100060000000400002f0700c001020304");
	expect(&b, TS_HELLO_SSL2, "client 0301 sni= ciphers=2");
}

/* --- JA4: what its specification has for examples */

static void expect_ja4(const char *ciphers, const char *extensions, const char *wanted)
{
	struct bytes b = make_client(ciphers, extensions);
	char ja4[HELLO_JA4_SIZE];
	struct hello h;

	assert_true(hello_read(&h, b.data, b.size, 0));
	assert_true(h.whole);
	assert_true(hello_ja4(&h, ja4));
	assert_string_equal(ja4, wanted);
}

#define CIPHERS "1301 1302 1303 c02b c02f c02c c030 cca9 cca8 c013 c014 009c 009d 002f 0035"

static void ja4(void **state)
{
	(void)state;
	expect_ja4(CIPHERS,
		   "001b 0000 0033 0010=0003026832 4469 0017 002d "
		   "000d=001004030804040105030805050108060601 0005 0023 0012 002b=020304 ff01 000b "
		   "000a=00020017 0015",
		   "t13d1516h2_8daaf6152771_e5627efa2ab1");
	/* GREASE anywhere. */
	expect_ja4("dada " CIPHERS,
		   "4a4a 001b 0000 0033 0010=0003026832 4469 0017 002d "
		   "000d=00120a0a04030804040105030805050108060601 0005 0023 0012 "
		   "002b=041a1a0304 ff01 000b 000a=00020017 0015 fafa=00",
		   "t13d1516h2_8daaf6152771_e5627efa2ab1");
	/* No signature algorithms; but 000d is there. */
	expect_ja4(CIPHERS,
		   "001b 0000 0033 0010=0003026832 4469 0017 002d 000d=0000 0005 0023 0012 "
		   "002b=020304 ff01 000b 000a=00020017 0015",
		   "t13d1516h2_8daaf6152771_6d807ffa2a79");
	expect_ja4("", "", "t12i000000_000000000000_000000000000");
}

/* The first and the last character of ALPN's first name. */
static void ja4_alpn(void **state)
{
	static const struct {
		const char *name, *wanted;
	} cases[] = {
		{"0010=000908687474702f312e31", "h1"},
		{"0010=000201ab", "ab"},
		{"0010=000302abcd", "ad"},
		{"0010=00030230ab", "3b"},
		{"0010=0005043031abcd", "3d"},
		{"0010=00050430abcd31", "01"},
		{"0010=00020178", "xx"},
		{"0010=0001", "00"},
		{"0010=000100", "00"},
		{"", "00"},
	};
	char ja4[HELLO_JA4_SIZE];
	struct hello h;
	struct bytes b;
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		b = make_client("1301", cases[i].name);
		assert_true(hello_read(&h, b.data, b.size, 0));
		if (!hello_ja4(&h, ja4))
			assert_string_equal(cases[i].name, "0010=0001");
		else
			assert_memory_equal(ja4 + 8, cases[i].wanted, 2);
	}
}

static void names(void **state)
{
	(void)state;
	assert_string_equal(hello_cipher_name(0x1301), "TLS_AES_128_GCM_SHA256");
	assert_string_equal(hello_cipher_name(0x0003), "TLS_RSA_EXPORT_WITH_RC4_40_MD5");
	assert_string_equal(hello_cipher_name(0xccaa), "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256");
	assert_null(hello_cipher_name(0));
	assert_null(hello_cipher_name(0xffff));
	assert_string_equal(hello_group_name(0x11ec), "X25519MLKEM768");
	assert_string_equal(hello_version_name(0x0300), "SSLv3");
	assert_true(hello_is_grease(0x0a0a) && hello_is_grease(0xfafa));
	assert_false(hello_is_grease(0x0a1a) || hello_is_grease(0x0b0b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_ones), cmocka_unit_test(damaged_ones),
		cmocka_unit_test(cut_one),   cmocka_unit_test(ssl2),
		cmocka_unit_test(ja4),	     cmocka_unit_test(ja4_alpn),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
