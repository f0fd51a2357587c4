/* SPDX-License-Identifier: MIT */
/* WebSocket: cases as an endpoint under test would get them, and what an observer says. */
#include "ws_run.h"

struct test_frame {
	unsigned int first, how;
	const char *payload;
	int len; /* 0: to the NUL */
};

/* From clients, but where a row says that no mask is there: how is what differs from MASKED. */
static const struct test_case {
	struct test_frame frames[5];
	const char *want;
} cases[] = {
	/* whole messages */
	{{{FIN | 1, 0, "hello", 0}}, "> text 5 [hello]\n"},
	{{{FIN | 1, 0, "", 0}}, "> text 0 []\n"},
	{{{FIN | 2, 0, "\1\2", 0}}, "> binary 2 [\1\2]\n"},
	{{{FIN | 1, 0, long126, 125}}, "> text 125 [012345678901234567890123]\n"},
	{{{FIN | 1, 0, long126, 126}}, "> text 126 [012345678901234567890123]\n"},
	/* pings and pongs */
	{{{FIN | 9, 0, "", 0}, {FIN | 10, 0, "abc", 0}}, "> ping 0 []\n> pong 3 [abc]\n"},
	{{{FIN | 9, 0, long126, 125}}, "> ping 125 [012345678901234567890123]\n"},
	{{{FIN | 9, 0, long126, 126}},
	 "> ping 126 [012345678901234567890123] truncated: a control frame of more than 125 "
	 "bytes\n"},
	/* fragments, with control frames among them */
	{{{1, 0, "he", 0}, {0, 0, "l", 0}, {FIN, 0, "lo", 0}}, "> text 5/3 [hello]\n"},
	{{{2, 0, "", 0}, {0, 0, "", 0}, {FIN, 0, "", 0}}, "> binary 0/3 []\n"},
	{{{1, 0, "he", 0}, {FIN | 9, 0, "p", 0}, {FIN, 0, "llo", 0}},
	 "> ping 1 [p]\n> text 5/2 [hello]\n"},
	{{{1, 0, "he", 0}, {FIN | 8, 0, "\3\350", 0}}, "> close 2 1000\n> text ? [he] truncated\n"},
	{{{9, 0, "p", 0}, {FIN, 0, "q", 0}},
	 "> ping 1 [p]: a control frame in fragments\n"
	 "> continuation 1 [q]: there is nothing that it continues\n"},
	{{{FIN, 0, "q", 0}, {FIN | 1, 0, "a", 0}},
	 "> continuation 1 [q]: there is nothing that it continues\n> text 1 [a]\n"},
	{{{1, 0, "a", 0}, {FIN | 1, 0, "b", 0}, {FIN, 0, "c", 0}},
	 "> text ? [a] truncated: another message began before its end\n> text 1 [b]\n"
	 "> continuation 1 [c]: there is nothing that it continues\n"},
	{{{1, 0, "a", 0}}, "> text ? [a] truncated\n"},
	/* what is reserved */
	{{{FIN | RSV1 | 1, 0, "a", 0}, {FIN | 1, 0, "b", 0}},
	 "> text ? [] truncated: reserved bits are set\n> text 1 [b]\n"},
	{{{FIN | RSV2 | 9, 0, "a", 0}}, "> ping ? [] truncated: reserved bits are set\n"},
	{{{FIN | 3, 0, "a", 0}, {FIN | 11, 0, "b", 0}, {FIN | 15, 0, "", 0}},
	 "> reserved 1 [a]: a reserved opcode\n> reserved 1 [b]: a reserved opcode\n"
	 "> reserved 0 []: a reserved opcode\n"},
	/* lengths and masks */
	{{{FIN | 1, LONG16, "ab", 0}, {FIN | 1, LONG64, "cd", 0}},
	 "> text 2 [ab]: a length in more bytes than it needs\n"
	 "> text 2 [cd]: a length in more bytes than it needs\n"},
	{{{FIN | 1, MASKED, "plain", 0}}, "> text 5 [plain]: a client's frame is not masked\n"},
	/* UTF-8, over frames too: what is whole in the end, a half, surrogates, too long, too high
	 */
	{{{1, 0, "\xc3", 0}, {0, 0, "\xa4\xe2\x82", 0}, {FIN, 0, "\xac", 0}},
	 "> text 5/3 [\xc3\xa4\xe2\x82\xac]\n"},
	{{{FIN | 1, 0, "\xf0\x9f\x98\x80", 0}}, "> text 4 [\xf0\x9f\x98\x80]\n"},
	{{{FIN | 1, 0, "\xe2\x82", 0}}, "> text 2 [\xe2\x82]: the text is not UTF-8\n"},
	{{{FIN | 1, 0, "\xed\xa0\x80", 0}}, "> text 3 [\xed\xa0\x80]: the text is not UTF-8\n"},
	{{{FIN | 1, 0, "\xc0\xaf", 0}}, "> text 2 [\xc0\xaf]: the text is not UTF-8\n"},
	{{{FIN | 1, 0, "\xf4\x90\x80\x80", 0}},
	 "> text 4 [\xf4\x90\x80\x80]: the text is not UTF-8\n"},
	{{{FIN | 1, 0, "a\x80", 0}}, "> text 2 [a\x80]: the text is not UTF-8\n"},
	{{{FIN | 1, 0, "\xef\xbf\xbf\xee\x80\x80\xed\x9f\xbf", 0}},
	 "> text 9 [\xef\xbf\xbf\xee\x80\x80\xed\x9f\xbf]\n"},
	/* closes */
	{{{FIN | 8, 0, "", 0}}, "> close 0 []\n"},
	{{{FIN | 8, 0, "\3", 0}}, "> close 1 [\3]: not a code to close with\n"},
	{{{FIN | 8, 0, "\3\350bye", 0}}, "> close 5 1000\n"},
	{{{FIN | 8, 0, "\3\350\xff", 0}}, "> close 3 1000: the reason is not UTF-8\n"},
	{{{FIN | 8, 0, "\3\347", 0}}, "> close 2 999: not a code to close with\n"},
	{{{FIN | 8, 0, "\3\354", 0}}, "> close 2 1004: not a code to close with\n"},
	{{{FIN | 8, 0, "\3\355", 0}}, "> close 2 1005: not a code to close with\n"},
	{{{FIN | 8, 0, "\3\356", 0}}, "> close 2 1006: not a code to close with\n"},
	{{{FIN | 8, 0, "\3\357", 0}}, "> close 2 1007\n"},
	{{{FIN | 8, 0, "\3\367", 0}}, "> close 2 1015: not a code to close with\n"},
	{{{FIN | 8, 0, "\13\267", 0}}, "> close 2 2999: not a code to close with\n"},
	{{{FIN | 8, 0, "\13\270", 0}}, "> close 2 3000\n"},
	{{{FIN | 8, 0, "\23\207", 0}}, "> close 2 4999\n"},
	{{{FIN | 8, 0, "\23\210", 0}}, "> close 2 5000: not a code to close with\n"},
};

static void table(void **state)
{
	struct ts_buf b = {0};
	const struct test_frame *f;
	size_t i, n;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		for (n = 0, f = cases[i].frames; n < 5 && f->payload; n++, f++)
			ws_frame_of(&b, f->first, f->how ^ MASKED, f->payload,
				    f->len ? (size_t)f->len : strlen(f->payload));
		expect_bytes(UPGRADE(""), TS_IN, &b, cases[i].want);
	}
}

static void server_side(void **state)
{
	struct ts_buf b = {0};

	(void)state;
	ws_frame_of(&b, FIN | 1, 0, "hi", 2);
	ws_frame_of(&b, FIN | 1, MASKED, "you", 3);
	expect_bytes(UPGRADE(""), TS_OUT, &b,
		     "< text 2 [hi]\n< text 3 [you]: a server's frame is masked\n");
}

/* The first frames may stand behind the answer, in one call. */
static void behind_the_answer(void **state)
{
	struct socket s;

	(void)state;
	open_socket(&s, UPGRADE("") "\x81\x02ok\x81", 100);
	feed(&s, TS_OUT, "\x01!", 2);
	expect_end(&s, "< text 2 [ok]\n< text 1 [!]\n");
}

/* A length that cannot be: the rest of the direction cannot be read. */
static void endless(void **state)
{
	struct socket s;

	(void)state;
	open_socket(&s, UPGRADE(""), 100);
	feed(&s, TS_OUT, "\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", 10);
	feed(&s, TS_OUT, "\x81\x02ok", 4);
	feed(&s, TS_IN, "\x81\x82\0\0\0\0me", 8);
	expect_end(&s, "> text 2 [me]\n");
}

static void long_messages(void **state)
{
	unsigned char *text = malloc(200000);
	struct ts_buf b = {0};
	struct socket s;
	size_t i;

	(void)state;
	assert_non_null(text);
	for (i = 0; i < 200000; i++)
		text[i] = (unsigned char)('a' + i % 26);
	open_socket(&s, UPGRADE(""), 1000);
	ws_frame_of(&b, FIN | 1, MASKED, text, 200000);
	ws_frame_of(&b, 1, MASKED, text, 900);
	ws_frame_of(&b, FIN, MASKED, text, 101);
	ws_frame_of(&b, FIN | 2, MASKED, text, 1000);
	feed_buf(&s, TS_IN, &b);
	expect_end(&s, "> text 200000 [abcdefghijklmnopqrstuvwx] truncated\n"
		       "> text 1001/2 [abcdefghijklmnopqrstuvwx] truncated\n"
		       "> binary 1000 [abcdefghijklmnopqrstuvwx]\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table),
		cmocka_unit_test(server_side),
		cmocka_unit_test(behind_the_answer),
		cmocka_unit_test(endless),
		cmocka_unit_test(long_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
