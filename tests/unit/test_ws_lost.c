/* SPDX-License-Identifier: MIT */
/* WebSocket of which not everything was seen. */
#include "ws_run.h"

static void lost_in_a_payload(void **state)
{
	struct socket s;

	(void)state;
	open_socket(&s, UPGRADE(""), 100);
	feed(&s, TS_OUT, "\x81\x0ahello", 7);
	http_gap(s.http, TS_OUT, 3, s.now);
	feed(&s, TS_OUT, "do\x02\x04zw", 6);
	http_gap(s.http, TS_OUT, 2, s.now);
	feed(&s, TS_OUT, "\x80\x01!\x82\x01?", 6);
	expect_end(&s, "< text 10 [hello] truncated\n< binary 5/2 [zw] truncated\n"
		       "< binary 1 [?]\n");
}

/* The mask goes on behind the hole: seen in the code of the close that follows. */
static void lost_in_a_mask(void **state)
{
	struct ts_buf b = {0};
	struct socket s;

	(void)state;
	open_socket(&s, UPGRADE(""), 100);
	ws_frame_of(&b, FIN | 8, MASKED, "\3\350 that is all", 14);
	feed(&s, TS_IN, b.data, 9);
	http_gap(s.http, TS_IN, 4, s.now);
	feed(&s, TS_IN, b.data + 13, b.len - 13);
	ts_buf_free(&b);
	expect_end(&s, "> close 14 1000 truncated\n");
}

/* Messages like chats have: each in a call of its own. */
static void chat(struct socket *s, enum ts_dir dir, unsigned int from, unsigned int n)
{
	struct ts_buf b = {0};
	char text[64];

	for (; n; n--, from++) {
		snprintf(text, sizeof(text), "this is message %u", from);
		ws_frame_of(&b, FIN | 1, dir == TS_IN ? MASKED : 0, text, strlen(text));
		feed_buf(s, dir, &b);
	}
}

static void found_again(void **state)
{
	struct socket s;

	(void)state;
	open_socket(&s, UPGRADE(""), 100);
	chat(&s, TS_IN, 1, 1);
	feed(&s, TS_IN, "\x01\x85\0\0\0\0ab", 8);
	http_gap(s.http, TS_IN, 1000, s.now);
	feed(&s, TS_IN, "the rest of a frame", 19);
	chat(&s, TS_IN, 7, 5);
	http_gap(s.http, TS_IN, 1000, s.now);
	chat(&s, TS_IN, 20, 1);
	expect_end(&s, "> text 17 [this is message 1]\n> text ? [ab] truncated\n"
		       "> text 17 [this is message 7] gap\n> text 17 [this is message 8]\n"
		       "> text 17 [this is message 9]\n> text 18 [this is message 10]\n"
		       "> text 18 [this is message 11]\n");
}

/* A fragment whose message began before is dropped; a long frame tells by itself. */
static void found_in_fragments(void **state)
{
	unsigned char bytes[3000];
	struct ts_buf b = {0};
	struct socket s;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(1 + i * 37 % 251);
	open_socket(&s, UPGRADE(""), 1);
	http_gap(s.http, TS_IN, 5, s.now);
	ws_frame_of(&b, 0, MASKED, bytes, sizeof(bytes));
	feed_buf(&s, TS_IN, &b);
	ws_frame_of(&b, FIN, MASKED, bytes, sizeof(bytes));
	feed_buf(&s, TS_IN, &b);
	ws_frame_of(&b, FIN | 2, MASKED, bytes, sizeof(bytes));
	feed_buf(&s, TS_IN, &b);
	expect_end(&s, "> binary 3000 [\1] truncated gap\n");
}

/* Calls in the middle of something else are never messages. */
static void never_found(void **state)
{
	static const char *const lines[] = {
		"A text, whose letters have the bits of frames; @ABCHIJ \n", "\x81 is no frame",
		"{\"json\": [1, 2, 3]}", "\xe4\xb8\x81\xe4\xb8\x82"};
	unsigned char noise[600];
	unsigned long long seed = 88172645463325252ull;
	struct socket s;
	size_t i, n, len;
	int deflate;

	(void)state;
	for (deflate = 0; deflate < 2; deflate++) {
		open_socket(&s, deflate ? UPGRADE(PMD "\r\n") : UPGRADE(""), 100);
		http_gap(s.http, TS_IN, 5, s.now);
		http_gap(s.http, TS_OUT, 5, s.now);
		for (n = 0; n < 20000; n++) {
			for (i = 0; i < sizeof(noise); i++) {
				seed ^= seed << 13;
				seed ^= seed >> 7;
				seed ^= seed << 17;
				noise[i] = (unsigned char)seed;
			}
			len = 1 + seed % (n % 2 ? sizeof(noise) : 40);
			feed(&s, n % 4 < 2 ? TS_IN : TS_OUT, noise, len);
		}
		/* Little numbers, as binary messages have them. */
		for (n = 0; n < 2000; n++) {
			memset(noise, 0, sizeof(noise));
			for (i = 0; i < sizeof(noise); i += 4)
				noise[i] = (unsigned char)(n % 7 * (i / 4) % 5);
			feed(&s, TS_OUT, noise, sizeof(noise));
		}
		for (n = 0; n < 400; n++)
			feed(&s, n % 2 ? TS_IN : TS_OUT, lines[n / 2 % 4],
			     strlen(lines[n / 2 % 4]));
		expect_end(&s, "");
	}
}

/* What was compressed with something that was not seen is not shown; nothing else is left out. */
static void lost_window(void **state)
{
	static const char text[] = "some words, some more words, and in the end the same words";
	static const char other[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ!$%&/()=?";
	struct ts_buf b[4] = {{0}};
	struct socket s;
	z_stream z;
	int i;

	(void)state;
	ws_deflate_open(&z, 15);
	add_compressed(&b[0], &z, 0, text, sizeof(text) - 1);
	add_compressed(&b[1], &z, 0, text, sizeof(text) - 1);
	add_compressed(&b[2], &z, 0, other, sizeof(other) - 1);
	add_compressed(&b[3], &z, 0, other, sizeof(other) - 1);
	deflateEnd(&z);
	open_socket(&s, UPGRADE(PMD "\r\n"), 100);
	feed(&s, TS_OUT, b[0].data, 10);
	http_gap(s.http, TS_OUT, b[0].len - 10, s.now);
	for (i = 1; i < 4; i++)
		feed(&s, TS_OUT, b[i].data, b[i].len);
	for (i = 0; i < 4; i++)
		ts_buf_free(&b[i]);
	expect_end(&s,
		   "< text ?(41) [some wo] truncated\n"
		   "< text ?(5) [s] truncated: it is compressed with a message that was not seen\n"
		   "< text 45(47) [0123456789ABCDEFGHIJKLMN]\n"
		   "< text 45(4) [0123456789ABCDEFGHIJKLMN]\n");
}

/*
 * A message that is missing as a whole, or that cannot be read, as RSV2 says what nobody knows:
 * what refers to one before it would be read at another place.
 */
static void lost_message(void **state)
{
	static const char other[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ!$%&/()=?";
	struct ts_buf first = {0}, lost = {0}, again = {0}, pings = {0};
	struct socket s;
	z_stream z;
	int i, unknown;

	(void)state;
	ws_deflate_open(&z, 15);
	add_compressed(&first, &z, 0, long126, sizeof(long126) - 1);
	add_compressed(&first, &z, 0, "some words, some more, the end", 30);
	add_compressed(&lost, &z, 0, other, sizeof(other) - 1);
	add_compressed(&again, &z, 0, "some words, some more, the end", 30);
	deflateEnd(&z);
	for (i = 0; i < 8; i++)
		ws_frame_of(&pings, FIN | 9, 0, "still there", 11);
	lost.data[0] |= RSV2;
	for (unknown = 0; unknown < 2; unknown++) {
		open_socket(&s, UPGRADE(PMD "\r\n"), 100);
		feed(&s, TS_OUT, first.data, first.len);
		if (unknown)
			feed(&s, TS_OUT, lost.data, lost.len);
		else
			http_gap(s.http, TS_OUT, lost.len, s.now);
		feed(&s, TS_OUT, pings.data, pings.len);
		s.log.len = 0;
		feed(&s, TS_OUT, again.data, again.len);
		expect_end(&s, "< text ?(4) [] truncated: it is compressed with a message that was "
			       "not seen\n");
	}
	ts_buf_free(&first);
	ts_buf_free(&lost);
	ts_buf_free(&again);
	ts_buf_free(&pings);
}

/* All WebSockets together have so much memory; who gets none is told so. */
static void little_memory(void **state)
{
	struct ts_buf b = {0};
	struct socket s;
	z_stream z;

	(void)state;
	open_socket(&s, UPGRADE(PMD "\r\n"), 1000);
	s.memory.left = 4;
	ws_deflate_open(&z, 15);
	ws_frame_of(&b, FIN | 1, 0, "hello", 5);
	add_compressed(&b, &z, 0, "hello", 5);
	feed_buf(&s, TS_OUT, &b);
	deflateEnd(&z);
	assert_int_equal(s.memory.left, 4);
	s.memory.left = WS_MEMORY;
	expect_end(&s, "< text 5 [] truncated\n"
		       "< text ?(7) [] truncated: no memory is left to decompress it\n");
}

/* Another protocol is not taken for a WebSocket. */
static void other_upgrades(void **state)
{
	struct http_exchange x = {.status = 200};

	(void)state;
	assert_false(ws_is_upgrade(&x));
	x.protocol = (struct ts_buf){(unsigned char *)"websocket", 9, 10};
	assert_true(ws_is_upgrade(&x));
	x.status = 403;
	assert_false(ws_is_upgrade(&x));
	x.status = 200;
	x.protocol = (struct ts_buf){(unsigned char *)"connect-udp", 11, 12};
	assert_false(ws_is_upgrade(&x));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lost_in_a_payload), cmocka_unit_test(lost_in_a_mask),
		cmocka_unit_test(found_again),	     cmocka_unit_test(found_in_fragments),
		cmocka_unit_test(never_found),	     cmocka_unit_test(lost_window),
		cmocka_unit_test(lost_message),	     cmocka_unit_test(little_memory),
		cmocka_unit_test(other_upgrades),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
