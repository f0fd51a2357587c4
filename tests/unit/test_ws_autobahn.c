/* SPDX-License-Identifier: MIT */
/*
 * What Autobahn's test suite asks of an endpoint, by the numbers of its cases, as far as an
 * observer can be asked. Its other cases are rows of test_ws.c: 2 (pings), 3 and 4 (reserved bits
 * and opcodes), 5 (fragments).
 */
#include "ws_run.h"

/* 1.1 and 1.2: lengths on both sides of each way to write them; in one piece and in pieces. */
static void lengths(void **state)
{
	static const struct {
		const char *number; /* the last part */
		size_t len, piece;
	} rows[] = {{"1", 0, 0},   {"2", 125, 0},   {"3", 126, 0},   {"4", 127, 0},
		    {"5", 128, 0}, {"6", 65535, 0}, {"7", 65536, 0}, {"8", 65536, 997}};
	unsigned char *text = malloc(65536);
	struct ts_buf b = {0};
	struct socket s;
	char want[100];
	size_t i, at, n;
	int opcode;

	(void)state;
	assert_non_null(text);
	memset(text, '*', 65536);
	for (i = 0; i < TS_ARRAY_SIZE(rows); i++)
		for (opcode = 1; opcode <= 2; opcode++) {
			print_message("1.%d.%s\n", opcode, rows[i].number);
			open_socket(&s, UPGRADE(""), 65536);
			ws_frame_of(&b, FIN | (unsigned int)opcode, MASKED, text, rows[i].len);
			for (at = 0; at < b.len; at += n) {
				n = rows[i].piece ? rows[i].piece : b.len;
				n = n < b.len - at ? n : b.len - at;
				feed(&s, TS_IN, b.data + at, n);
			}
			ts_buf_free(&b);
			snprintf(want, sizeof(want), "> %s %zu [%.*s]\n",
				 opcode == 1 ? "text" : "binary", rows[i].len,
				 rows[i].len > 24 ? 24 : (int)rows[i].len, (char *)text);
			expect_end(&s, want);
		}
	free(text);
}

/* 6: UTF-8, whole and in two frames that are cut at each place (and in calls cut at each place). */
static void utf8(void **state)
{
	static const struct {
		const char *number, *text;
		bool good;
	} rows[] = {
		{"6.2.1", "Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!",
		 true},
		{"6.3.1",
		 "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"
		 "edited",
		 false},
		{"6.4.1", "\xce\xba\xe1\xbd\xb9\xcf\x83\xf4\x90\x80\x80", false},
		{"6.5.1", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", true},
		{"6.6.1", "\xce", false},
		{"6.6.3", "\xce\xba\xe1", false},
		{"6.6.4", "\xce\xba\xe1\xbd", false},
		{"6.6.11", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", true},
		{"6.7.2", "\xc2\x80", true},
		{"6.7.3", "\xe0\xa0\x80", true},
		{"6.7.4", "\xf0\x90\x80\x80", true},
		{"6.8.1", "\xf8\x88\x80\x80\x80", false},
		{"6.8.2", "\xfc\x84\x80\x80\x80\x80", false},
		{"6.9.1", "\x7f", true},
		{"6.9.2", "\xdf\xbf", true},
		{"6.9.3", "\xef\xbf\xbf", true},
		{"6.9.4", "\xf4\x8f\xbf\xbf", true},
		{"6.10.1", "\xf7\xbf\xbf\xbf", false},
		{"6.10.2", "\xfb\xbf\xbf\xbf\xbf", false},
		{"6.11.1", "\xed\x9f\xbf", true},
		{"6.11.2", "\xee\x80\x80", true},
		{"6.11.3", "\xef\xbf\xbd", true},
		{"6.11.5", "\xf4\x90\x80\x80", false},
		{"6.12.1", "\x80", false},
		{"6.12.2", "\xbf", false},
		{"6.12.5", "\x80\xbf\x80\xbf", false},
		{"6.13.1", "\xc0 \xc1 \xc2 ", false},
		{"6.14.1", "\xc0", false},
		{"6.14.5", "\xfc\x80\x80\x80\x80", false},
		{"6.14.6", "\xdf", false},
		{"6.14.7", "\xef\xbf", false},
		{"6.16.1", "\xfe", false},
		{"6.16.2", "\xff", false},
		{"6.17.1", "\xc0\xaf", false},
		{"6.17.2", "\xe0\x80\xaf", false},
		{"6.17.3", "\xf0\x80\x80\xaf", false},
		{"6.18.1", "\xc1\xbf", false},
		{"6.18.2", "\xe0\x9f\xbf", false},
		{"6.18.3", "\xf0\x8f\xbf\xbf", false},
		{"6.20.1", "\xed\xa0\x80", false},
		{"6.20.7", "\xed\xbf\xbf", false},
		{"6.21.1", "\xed\xa0\x80\xed\xb0\x80", false},
		{"6.22.1", "\xef\xbf\xbe", true},
	};
	struct ts_buf b = {0};
	char want[200];
	size_t i, cut, len;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(rows); i++) {
		print_message("%s\n", rows[i].number);
		len = strlen(rows[i].text);
		for (cut = 0; cut <= len; cut++) {
			ws_frame_of(&b, cut < len ? 1 : FIN | 1, MASKED, rows[i].text, cut);
			if (cut < len)
				ws_frame_of(&b, FIN, MASKED, rows[i].text + cut, len - cut);
			snprintf(want, sizeof(want), "> text %zu%s [%.24s]%s\n", len,
				 cut < len ? "/2" : "", rows[i].text,
				 rows[i].good ? "" : ": the text is not UTF-8");
			expect_bytes(UPGRADE(""), TS_IN, &b, want);
		}
	}
}

/* 7.3, 7.5, 7.7, 7.9, 7.13: close messages. */
static void closes(void **state)
{
	static const struct {
		const char *number;
		unsigned int code;
		bool good;
	} rows[] = {
		{"7.7.1", 1000, true},	 {"7.7.2", 1001, true},	   {"7.7.3", 1002, true},
		{"7.7.4", 1003, true},	 {"7.7.5", 1007, true},	   {"7.7.6", 1008, true},
		{"7.7.7", 1009, true},	 {"7.7.8", 1010, true},	   {"7.7.9", 1011, true},
		{"7.7.10", 3000, true},	 {"7.7.11", 3999, true},   {"7.7.12", 4000, true},
		{"7.7.13", 4999, true},	 {"7.9.2", 999, false},	   {"7.9.3", 1004, false},
		{"7.9.4", 1005, false},	 {"7.9.5", 1006, false},   {"7.9.6", 1016, false},
		{"7.9.7", 1100, false},	 {"7.9.8", 2000, false},   {"7.9.9", 2999, false},
		{"7.13.1", 5000, false}, {"7.13.2", 65535, false},
	};
	unsigned char body[125] = {3, 0xe8};
	struct ts_buf b = {0};
	char want[100];
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(rows); i++) {
		unsigned char code[2] = {(unsigned char)(rows[i].code >> 8),
					 (unsigned char)rows[i].code};

		print_message("%s\n", rows[i].number);
		ws_frame_of(&b, FIN | 8, MASKED, code, 2);
		snprintf(want, sizeof(want), "> close 2 %u%s\n", rows[i].code,
			 rows[i].good ? "" : ": not a code to close with");
		expect_bytes(UPGRADE(""), TS_IN, &b, want);
	}
	memset(body + 2, '*', 123);
	print_message("7.3.5\n");
	ws_frame_of(&b, FIN | 8, MASKED, body, 125);
	expect_bytes(UPGRADE(""), TS_IN, &b, "> close 125 1000\n");
	print_message("7.5.1\n");
	ws_frame_of(&b, FIN | 8, MASKED, "\3\350\xce\xba\xed\xa0\x80", 7);
	expect_bytes(UPGRADE(""), TS_IN, &b, "> close 7 1000: the reason is not UTF-8\n");
}

/* 9.3 and 9.4: 4 MiB in frames of 64 bytes and more. */
static void many_frames(void **state)
{
	static const size_t sizes[] = {64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304};
	const size_t all = 4u << 20;
	unsigned char *text = malloc(all);
	struct ts_buf b = {0};
	struct socket s;
	char want[100], frames[20];
	size_t i, at;

	(void)state;
	assert_non_null(text);
	memset(text, '*', all);
	for (i = 0; i < TS_ARRAY_SIZE(sizes); i++) {
		print_message("9.3.%zu\n", i + 1);
		open_socket(&s, UPGRADE(""), 24);
		for (at = 0; at < all; at += sizes[i])
			ws_frame_of(&b, (at ? 0 : 1) | (at + sizes[i] == all ? FIN : 0), MASKED,
				    text + at, sizes[i]);
		feed_buf(&s, TS_IN, &b);
		snprintf(frames, sizeof(frames), "/%zu", all / sizes[i]);
		snprintf(want, sizeof(want), "> text 4194304%s [%.24s] truncated\n",
			 all == sizes[i] ? "" : frames, (char *)text);
		expect_end(&s, want);
	}
	free(text);
}

/* 12 and 13: messages of each size, compressed as was agreed; below 0: no takeover. */
static void compressed(void **state)
{
	static const struct {
		const char *number, *answer;
		int bits;
	} rows[] = {
		{"12", UPGRADE(PMD "\r\n"), 15},
		{"13.1", UPGRADE(PMD "; client_no_context_takeover\r\n"), -15},
		{"13.3", UPGRADE(PMD "; client_max_window_bits=9\r\n"), 9},
		{"13.4", UPGRADE(PMD "; client_max_window_bits=15\r\n"), 15},
		{"13.5", UPGRADE(PMD "; client_no_context_takeover; client_max_window_bits=9\r\n"),
		 -9},
		{"13.6", UPGRADE(PMD "; client_no_context_takeover; client_max_window_bits=15\r\n"),
		 -15},
	};
	static const size_t sizes[] = {16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072};
	char *text = malloc(131072), want[60];
	struct ts_buf b = {0};
	struct socket s;
	z_stream z;
	size_t i, k;

	(void)state;
	assert_non_null(text);
	for (i = 0; i < 131072; i++)
		text[i] = (char)('a' + (i * i / 7 + i % 13) % 26);
	for (i = 0; i < TS_ARRAY_SIZE(rows); i++) {
		print_message("%s\n", rows[i].number);
		open_socket(&s, rows[i].answer, 131072);
		ws_deflate_open(&z, abs(rows[i].bits));
		for (k = 0; k < TS_ARRAY_SIZE(sizes); k++) {
			add_compressed(&b, &z, MASKED, text, sizes[k]);
			if (rows[i].bits < 0)
				deflateReset(&z);
			feed_buf(&s, TS_IN, &b);
			assert_int_equal(ts_buf_add(&s.log, "", 1), 0);
			snprintf(want, sizeof(want), "> text %zu(", sizes[k]);
			assert_memory_equal(s.log.data, want, strlen(want));
			assert_null(strstr((char *)s.log.data, "truncated"));
			assert_null(strstr((char *)s.log.data, ": "));
			s.log.len = 0;
		}
		deflateEnd(&z);
		free(end_socket(&s));
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lengths),    cmocka_unit_test(utf8),
		cmocka_unit_test(closes),     cmocka_unit_test(many_frames),
		cmocka_unit_test(compressed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
