/* SPDX-License-Identifier: MIT */
/* WebSocket with permessage-deflate. */
#include "ws_run.h"

/* RFC 7692, 7.2.3: "Hello" in one frame, in two, stored, and in a block that is the last one. */
static void examples_of_the_rfc(void **state)
{
	static const char once[] = "\xf2\x48\xcd\xc9\xc9\x07\x00", again[] = "\xf2\x00\x11\x00\x00";
	static const char stored[] = "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00";
	static const char last[] = "\xf3\x48\xcd\xc9\xc9\x07\x00\x00";
	static const char two[] = "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00";
	struct ts_buf b = {0};

	(void)state;
	ws_frame_of(&b, FIN | RSV1 | 1, MASKED, once, 7);
	ws_frame_of(&b, FIN | RSV1 | 1, MASKED, again, 5);
	ws_frame_of(&b, RSV1 | 1, MASKED, once, 3);
	ws_frame_of(&b, FIN, MASKED, once + 3, 4);
	ws_frame_of(&b, FIN | RSV1 | 1, MASKED, stored, 11);
	ws_frame_of(&b, FIN | RSV1 | 1, MASKED, last, 8);
	ws_frame_of(&b, FIN | RSV1 | 1, MASKED, again, 5);
	ws_frame_of(&b, FIN | RSV1 | 1, MASKED, two, 13);
	ws_frame_of(&b, FIN | 1, MASKED, "plain", 5);
	ws_frame_of(&b, FIN | RSV1 | 2, MASKED, "\0", 1);
	expect_bytes(UPGRADE(PMD "\r\n"), TS_IN, &b,
		     "> text 5(7) [Hello]\n> text 5(5) [Hello]\n> text 5(7)/2 [Hello]\n"
		     "> text 5(11) [Hello]\n> text 5(8) [Hello]\n> text 5(5) [Hello]\n"
		     "> text 5(13) [Hello]\n> text 5 [plain]\n> binary 0(1) []\n");
}

/* What an answer means for a client's and a server's compressor. */
static void extensions(void **state)
{
	static const struct {
		const char *answer;
		int client, server; /* window bits; negative: no takeover; 0: not compressed */
	} rows[] = {
		{UPGRADE(PMD "\r\n"), 15, 15},
		{UPGRADE(PMD "; client_max_window_bits=9; server_max_window_bits=\"10\"\r\n"), 9,
		 10},
		{UPGRADE(PMD ";server_no_context_takeover\r\n"), 15, -15},
		{UPGRADE(PMD " ; client_no_context_takeover ;client_max_window_bits = 12\r\n"), -12,
		 15},
		{UPGRADE("sec-websocket-extensions: foo; a=b\r\n" PMD
			 "; client_no_context_takeover; server_no_context_takeover\r\n"),
		 -15, -15},
		{UPGRADE("Sec-WebSocket-Extensions: foo; a=\"b\", bar, Permessage-Deflate\r\n"), 15,
		 15},
		{UPGRADE("Sec-WebSocket-Extensions: x-webkit-deflate-frame\r\n"), 0, 0},
	};
	const char *want;
	char text[2000];
	struct ts_buf b = {0};
	struct socket s;
	z_stream z;
	size_t i, n;
	int dir, bits;

	(void)state;
	for (i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + (i * i) % 23);
	for (i = 0; i < TS_ARRAY_SIZE(rows); i++)
		for (dir = TS_IN; dir <= TS_OUT; dir++) {
			bits = dir == TS_IN ? rows[i].client : rows[i].server;
			open_socket(&s, rows[i].answer, 65536);
			ws_deflate_open(&z, bits ? abs(bits) : 15);
			for (n = 0; n < 2; n++) {
				add_compressed(&b, &z, dir == TS_IN ? MASKED : 0, text,
					       sizeof(text));
				if (bits < 0)
					deflateReset(&z);
				feed_buf(&s, (enum ts_dir)dir, &b);
			}
			deflateEnd(&z);
			want = (const char *)s.log.data;
			assert_int_equal(ts_buf_add(&s.log, "", 1), 0);
			assert_int_equal(!!strstr(want, " 2000("), bits != 0);
			assert_int_equal(!!strstr(want, "truncated: reserved"), !bits);
			s.log.len--;
			free(end_socket(&s));
		}
}

/* Without takeover a message that refers to the one before is not what it was agreed to be. */
static void refers_too_far(void **state)
{
	struct ts_buf b = {0};

	(void)state;
	ws_frame_of(&b, FIN | RSV1 | 1, MASKED, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7);
	ws_frame_of(&b, FIN | RSV1 | 1, MASKED, "\xf2\x00\x11\x00\x00", 5);
	expect_bytes(
		UPGRADE(PMD "; client_no_context_takeover\r\n"), TS_IN, &b,
		"> text 5(7) [Hello]\n"
		"> text ?(5) [H] truncated: it is compressed with a message that was not seen\n");
}

static void damaged(void **state)
{
	struct ts_buf b = {0};

	(void)state;
	ws_frame_of(&b, RSV1 | 1, MASKED, "\xff\xff\xff", 3);
	ws_frame_of(&b, FIN, MASKED, "abc", 3);
	ws_frame_of(&b, FIN | RSV1 | 1, MASKED, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7);
	/* RSV1 belongs to the first frame alone. */
	ws_frame_of(&b, RSV1 | 1, MASKED, "\xf2\x48\xcd", 3);
	ws_frame_of(&b, FIN | RSV1, MASKED, "\xc9\xc9\x07\x00", 4);
	expect_bytes(UPGRADE(PMD "\r\n"), TS_IN, &b,
		     "> text ?(6)/2 [] truncated: damaged compression\n> text 5(7) [Hello]\n"
		     "> text ?(7)/2 [He] truncated: reserved bits are set\n");
}

/* What decompresses to too much is left, and so is what was compressed with it. */
static void bomb(void **state)
{
	char *zeros = calloc(1, 40 << 20);
	struct ts_buf b = {0};
	struct socket s;
	z_stream z;

	(void)state;
	assert_non_null(zeros);
	open_socket(&s, UPGRADE(PMD "\r\n"), 1000);
	ws_deflate_open(&z, 15);
	memcpy(zeros, "start", 5);
	add_compressed(&b, &z, 0, zeros, 40 << 20);
	add_compressed(&b, &z, 0, zeros + 100, 100);
	deflateReset(&z);
	add_compressed(&b, &z, 0, "hello", 5);
	feed_buf(&s, TS_OUT, &b);
	deflateEnd(&z);

	free(zeros);
	expect_end(&s,
		   "< text ?(40777) [start] truncated: it decompresses to too much\n"
		   "< text ?(4) [] truncated: it is compressed with a message that was not seen\n"
		   "< text 5(7) [hello]\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(examples_of_the_rfc),
		cmocka_unit_test(extensions),
		cmocka_unit_test(refers_too_far),
		cmocka_unit_test(damaged),
		cmocka_unit_test(bomb),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
