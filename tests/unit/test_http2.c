/* SPDX-License-Identifier: MIT */
/* HTTP/2: what two streams of frames become. */
#include "http2_make.h"
#include "http_run.h"

#define REQUEST(method, path) ":method " method "|:scheme https|:authority h|:path " path

/* A client and a server; what they said is put in order by `turn`. */
struct h2 {
	struct h2_end client, server;
	struct piece pieces[64];
	size_t taken[64], count, client_at, server_at;
};

static void begin(struct h2 *t)
{
	memset(t, 0, sizeof(*t));
	h2_open(&t->client);
	h2_open(&t->server);
	ts_buf_add(&t->client.out, H2_PREFACE, 24);
	h2_frame(&t->client, H2_SETTINGS, 0, 0, "\0\3\0\0\0\x64", 6);
	h2_frame(&t->server, H2_SETTINGS, 0, 0, "", 0);
}

/* What that end said since its last turn is a call. */
static void turn(struct h2 *t, enum ts_dir dir)
{
	size_t *at = dir == TS_IN ? &t->client_at : &t->server_at;
	struct ts_buf *out = dir == TS_IN ? &t->client.out : &t->server.out;

	t->pieces[t->count].dir = dir;
	t->pieces[t->count].len = out->len - *at;
	t->taken[t->count++] = *at;
	*at = out->len;
}

/* That end's words are not seen. */
static void unheard(struct h2 *t, enum ts_dir dir)
{
	turn(t, dir);
	t->taken[t->count - 1] = SIZE_MAX;
}

static void place(struct h2 *t)
{
	size_t i;

	for (i = 0; i < t->count; i++)
		if (t->taken[i] != SIZE_MAX)
			t->pieces[i].data =
				(const char *)(t->pieces[i].dir == TS_IN ? t->client.out.data
									 : t->server.out.data) +
				t->taken[i];
}

static void finish(struct h2 *t, const char *want, bool always)
{
	place(t);
	if (always)
		expect_always(t->pieces, want);
	else
		expect_talk(t->pieces, want);
	h2_free(&t->client);
	h2_free(&t->server);
}

static void one_stream(void **state)
{
	struct h2 t;

	(void)state;
	begin(&t);
	h2_headers(&t.client, 1, 0, REQUEST("POST", "/a") "|x-a 1");
	h2_data(&t.client, 1, 0, "hel");
	h2_data(&t.client, 1, H2_END_STREAM, "lo");
	turn(&t, TS_IN);
	h2_frame(&t.server, H2_SETTINGS, 1, 0, "", 0);
	h2_frame(&t.server, H2_WINDOW, 0, 1, "\0\0\1\0", 4);
	h2_headers(&t.server, 1, 0, ":status 100");
	h2_headers(&t.server, 1, 0, ":status 200|content-type text/plain");
	h2_data(&t.server, 1, 0, "world");
	h2_headers(&t.server, 1, H2_END_STREAM, "x-sum 42");
	turn(&t, TS_OUT);
	finish(&t,
	       "> POST /a x-a=1 [5:hello]\n< 200 content-type=text/plain ;x-sum=42 [5:world]\n"
	       "= POST /a 200 #1\n",
	       true);
}

static void interleaved(void **state)
{
	struct h2 t;

	(void)state;
	begin(&t);
	h2_headers(&t.client, 1, H2_END_STREAM, REQUEST("GET", "/1") "|cookie a=b");
	h2_headers(&t.client, 3, H2_END_STREAM, REQUEST("GET", "/3") "|cookie a=b");
	h2_headers(&t.client, 5, 0, REQUEST("PUT", "/5") "|cookie a=b");
	turn(&t, TS_IN);
	h2_headers(&t.server, 3, 0, ":status 200|server s");
	h2_headers(&t.server, 1, 0, ":status 404|server s");
	h2_data(&t.server, 3, 0, "three ");
	h2_data(&t.server, 1, 0, "one");
	h2_data(&t.server, 3, H2_END_STREAM, "3");
	turn(&t, TS_OUT);
	h2_data(&t.client, 5, H2_END_STREAM, "put");
	turn(&t, TS_IN);
	h2_headers(&t.server, 5, H2_END_STREAM, ":status 204|server s");
	h2_data(&t.server, 1, H2_END_STREAM, "1");
	turn(&t, TS_OUT);
	finish(&t,
	       "> GET /1 cookie=a=b\n> GET /3 cookie=a=b\n< 200 server=s [7:three 3]\n"
	       "= GET /3 200 #3\n> PUT /5 cookie=a=b [3:put]\n< 204 server=s\n= PUT /5 204 #5\n"
	       "< 404 server=s [4:one1]\n= GET /1 404 #1\n",
	       true);
}

static void padding_priority_continuation(void **state)
{
	unsigned char block[1024], frame[1100];
	struct h2 t;
	size_t len;

	(void)state;
	begin(&t);
	len = h2_block(&t.client, REQUEST("GET", "/long/path") "|a b|c d", block, sizeof(block));
	memset(frame, 0, sizeof(frame));
	frame[0] = 7; /* padding; then five bytes of priority */
	memcpy(frame + 6, block, 3);
	h2_frame(&t.client, H2_HEADERS, H2_PADDED | H2_PRIORITIZED | H2_END_STREAM, 1, frame,
		 6 + 3 + 7);
	h2_frame(&t.client, H2_CONTINUATION, 0, 1, block + 3, 4);
	h2_frame(&t.client, H2_CONTINUATION, 0, 1, "", 0);
	h2_frame(&t.client, H2_CONTINUATION, H2_END_HEADERS, 1, block + 7, len - 7);
	turn(&t, TS_IN);
	h2_headers(&t.server, 1, 0, ":status 200");
	h2_frame(&t.server, H2_DATA, H2_PADDED, 1, "\3abc\0\0\0", 7);
	h2_frame(&t.server, H2_DATA, H2_PADDED, 1, "\5\0\0\0\0\0", 6);
	h2_frame(&t.server, H2_DATA, H2_PADDED | H2_END_STREAM, 1, "\0def", 4);
	turn(&t, TS_OUT);
	finish(&t, "> GET /long/path a=b c=d\n< 200 [6:abcdef]\n= GET /long/path 200 #1\n", true);
}

static void resets_and_goaway(void **state)
{
	struct h2 t;

	(void)state;
	begin(&t);
	h2_headers(&t.client, 1, H2_END_STREAM, REQUEST("GET", "/1"));
	h2_headers(&t.client, 3, 0, REQUEST("POST", "/3"));
	h2_headers(&t.client, 5, H2_END_STREAM, REQUEST("GET", "/5"));
	turn(&t, TS_IN);
	h2_headers(&t.server, 1, 0, ":status 200");
	h2_data(&t.server, 1, 0, "part");
	turn(&t, TS_OUT);
	h2_frame(&t.client, H2_RST, 0, 1, "\0\0\0\x8", 4);
	turn(&t, TS_IN);
	/* What was on its way is nobody's; a response may come before the request ended. */
	h2_data(&t.server, 1, 0, "more");
	h2_headers(&t.server, 1, H2_END_STREAM, "late 1");
	h2_headers(&t.server, 3, H2_END_STREAM, ":status 413");
	h2_frame(&t.server, H2_RST, 0, 3, "\0\0\0\0", 4);
	h2_frame(&t.server, H2_GOAWAY, 0, 0, "\0\0\0\3\0\0\0\0bye", 11);
	turn(&t, TS_OUT);
	finish(&t,
	       "> GET /1\n> GET /5\n< 200 [4:part] truncated\n= GET /1 200 #1 reset\n"
	       "< 413\n> POST /3 truncated\n= POST /3 413 #3 reset\n= GET /5 0 #5\n",
	       true);
}

static void pushed(void **state)
{
	unsigned char block[256];
	struct h2 t;
	size_t len;

	(void)state;
	begin(&t);
	h2_headers(&t.client, 1, H2_END_STREAM, REQUEST("GET", "/"));
	turn(&t, TS_IN);
	memcpy(block, "\0\0\0\2", 4);
	len = h2_block(&t.server, REQUEST("GET", "/style"), block + 4, sizeof(block) - 4);
	h2_frame(&t.server, H2_PUSH, H2_END_HEADERS, 1, block, len + 4);
	h2_headers(&t.server, 1, H2_END_STREAM, ":status 200");
	h2_headers(&t.server, 2, 0, ":status 200");
	h2_data(&t.server, 2, H2_END_STREAM, "css");
	turn(&t, TS_OUT);
	finish(&t,
	       "> GET /\n> GET /style\n< 200\n= GET / 200 #1\n< 200 [3:css]\n"
	       "= GET /style 200 #2 pushed\n",
	       true);
}

/* The encoders change the size of their tables, as the other end allows. */
static void table_sizes(void **state)
{
	char big[4000], text[8000];
	struct h2 t;

	(void)state;
	begin(&t);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	nghttp2_hd_deflate_change_table_size(t.client.hd, 0);
	h2_headers(&t.client, 1, H2_END_STREAM, REQUEST("GET", "/1") "|k v");
	nghttp2_hd_deflate_change_table_size(t.client.hd, 4096);
	snprintf(text, sizeof(text), REQUEST("GET", "/3") "|k v|big %s", big);
	h2_headers(&t.client, 3, H2_END_STREAM, text);
	h2_headers(&t.client, 5, H2_END_STREAM, REQUEST("GET", "/5") "|k v|l w");
	h2_headers(&t.client, 7, H2_END_STREAM, REQUEST("GET", "/5") "|k v|l w");
	turn(&t, TS_IN);
	snprintf(text, sizeof(text),
		 "> GET /1 k=v\n> GET /3 k=v big=%s\n> GET /5 k=v l=w\n> GET /5 k=v l=w\n"
		 "= GET /1 0 #1\n= GET /3 0 #3\n= GET /5 0 #5\n= GET /5 0 #7\n",
		 big);
	finish(&t, text, false);
}

/* HTTP/1.1 becomes HTTP/2 by Upgrade: the response to the first request is stream 1. */
static void upgrade(void **state)
{
	static const char switching[] =
		"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
	struct h2 t;

	(void)state;
	memset(&t, 0, sizeof(t));
	h2_open(&t.client);
	h2_open(&t.server);
	ts_buf_printf(&t.client.out, "GET /up HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\n"
				     "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n");
	turn(&t, TS_IN);
	ts_buf_add(&t.server.out, switching, sizeof(switching) - 1);
	h2_frame(&t.server, H2_SETTINGS, 0, 0, "", 0);
	turn(&t, TS_OUT);
	ts_buf_add(&t.client.out, H2_PREFACE, 24);
	h2_frame(&t.client, H2_SETTINGS, 0, 0, "", 0);
	h2_headers(&t.client, 3, H2_END_STREAM, REQUEST("GET", "/3"));
	turn(&t, TS_IN);
	h2_headers(&t.server, 1, H2_END_STREAM, ":status 200|a 1");
	h2_headers(&t.server, 3, H2_END_STREAM, ":status 404|a 1");
	turn(&t, TS_OUT);
	finish(&t,
	       "> GET /up Connection=Upgrade, HTTP2-Settings Upgrade=h2c HTTP2-Settings=AAMAAABk\n"
	       "> GET /3\n< 200 a=1\n= GET /up 200 #1\n< 404 a=1\n= GET /3 404 #3\n",
	       true);
}

/* Older than the tracer: fields of the table that was not seen are left out, and that is said. */
static void joined_in_the_middle(void **state)
{
	struct h2 t;

	(void)state;
	begin(&t);
	h2_headers(&t.client, 1, H2_END_STREAM, REQUEST("GET", "/same") "|agent old|x 1");
	h2_headers(&t.server, 1, H2_END_STREAM, ":status 302|server old");
	t.client_at = t.client.out.len;
	t.server_at = t.server.out.len;
	h2_headers(&t.server, 1, H2_END_STREAM, ":status 404|server old|y 1");
	turn(&t, TS_OUT);
	h2_headers(&t.client, 3, H2_END_STREAM, REQUEST("GET", "/same") "|agent old|x 2|new 3");
	h2_headers(&t.client, 5, H2_END_STREAM, REQUEST("GET", "/five") "|agent old|x 2|new 3");
	turn(&t, TS_IN);
	h2_headers(&t.server, 3, H2_END_STREAM, ":status 302|server old|y 2");
	h2_headers(&t.server, 5, H2_END_STREAM, ":status 200|server new|y 2");
	turn(&t, TS_OUT);
	finish(&t,
	       "< 404 y=1 partial\n= ? ? 404 #1\n"
	       "> GET /same new=3 partial\n> GET /five new=3 partial\n"
	       "< 0 y=2 partial\n= GET /same 0 #3\n< 200 server=new y=2\n= GET /five 200 #5\n",
	       false);
}

static void gap_in_data(void **state)
{
	static char data[1001];
	struct h2 t;

	(void)state;
	memset(data, 'd', 1000);
	begin(&t);
	h2_headers(&t.client, 1, H2_END_STREAM, REQUEST("GET", "/1"));
	turn(&t, TS_IN);
	h2_headers(&t.server, 1, 0, ":status 200|server s");
	h2_data(&t.server, 1, 0, data);
	t.server.out.len -= 900;
	turn(&t, TS_OUT);
	t.server.out.len += 800;
	unheard(&t, TS_OUT);
	t.server.out.len += 100;
	h2_headers(&t.server, 1, H2_END_STREAM, "server s");
	turn(&t, TS_OUT);
	finish(&t,
	       "> GET /1\n< 200 server=s ;server=s [1000:dddddddddddddddddddd] truncated\n"
	       "= GET /1 200 #1\n",
	       false);
}

/* Frames are lost: others are found again, and no field is another's. */
static void gap_over_frames(void **state)
{
	struct h2 t;

	(void)state;
	begin(&t);
	h2_headers(&t.client, 1, H2_END_STREAM, REQUEST("GET", "/1") "|a 1");
	turn(&t, TS_IN);
	h2_headers(&t.client, 3, H2_END_STREAM, REQUEST("GET", "/3") "|b 2");
	unheard(&t, TS_IN);
	h2_headers(&t.client, 5, H2_END_STREAM, REQUEST("GET", "/5") "|a 1|b 2|c 3");
	turn(&t, TS_IN);
	h2_headers(&t.server, 5, H2_END_STREAM, ":status 200|s 5");
	h2_headers(&t.server, 1, 0, ":status 200|s 1");
	turn(&t, TS_OUT);
	h2_data(&t.server, 1, 0, "one");
	h2_headers(&t.server, 3, 0, ":status 200|s 3");
	unheard(&t, TS_OUT);
	h2_data(&t.server, 3, H2_END_STREAM, "three");
	h2_data(&t.server, 1, H2_END_STREAM, "1");
	turn(&t, TS_OUT);
	h2_headers(&t.client, 7, H2_END_STREAM, REQUEST("GET", "/7") "|c 3");
	turn(&t, TS_IN);
	h2_headers(&t.server, 7, H2_END_STREAM, ":status 200|s 7");
	turn(&t, TS_OUT);
	finish(&t,
	       "> GET /1 a=1\n> GET /5 c=3 partial\n< 200 s=5\n= GET /5 200 #5\n"
	       "< 200 s=1 [1:] partial truncated\n= GET /1 200 #1\n"
	       "> GET /7 c=3 partial\n< 200 partial\n= GET /7 200 #7\n",
	       false);
}

static void damaged(void **state)
{
	struct h2 t;

	(void)state;
	begin(&t);
	h2_headers(&t.client, 1, H2_END_STREAM, REQUEST("GET", "/1"));
	/* An index that no table has; then a block that is interrupted. */
	h2_frame(&t.client, H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, 3, "\x82\xff\xff\xff\x7f",
		 5);
	h2_headers(&t.client, 5, H2_END_STREAM, ":method GET|:path /|new 5");
	h2_frame(&t.client, H2_HEADERS, 0, 7, "\x82", 1);
	h2_frame(&t.client, H2_PING, 0, 0, "12345678", 8);
	h2_frame(&t.client, H2_PING, 0, 0, "12345678", 8);
	h2_frame(&t.client, H2_PING, 0, 0, "12345678", 8);
	h2_headers(&t.client, 9, H2_END_STREAM, ":method GET|:path /|newer 9");
	turn(&t, TS_IN);
	finish(&t,
	       "> GET /1\n> GET ? partial\n> GET / new=5\n> GET / newer=9\n= GET /1 0 #1\n"
	       "= GET ? 0 #3\n= GET / 0 #5\n= GET / 0 #9\n",
	       false);
}

/* A stream for each of many requests that nobody answers. */
static void many_streams(void **state)
{
	struct h2_end client;
	char *got;
	struct talk t;
	uint32_t i;

	(void)state;
	h2_open(&client);
	talk_open(&t, 100);
	talk_feed(&t, TS_OUT, H2_PREFACE, 24);
	for (i = 0; i < 3 * HTTP_OPEN; i++) {
		client.out.len = 0;
		h2_headers(&client, 2 * i + 1, 0, REQUEST("GET", "/"));
		talk_feed(&t, TS_OUT, client.out.data, client.out.len);
	}
	assert_true(t.log.len > 0);
	got = talk_close(&t);
	assert_non_null(strstr(got, "= GET / 0 #6143\n"));
	free(got);
	h2_free(&client);
}

/* RFC 7541, C.4: requests, with Huffman codes and a table. */
static void public_vectors(void **state)
{
	static const unsigned char blocks[][24] = {
		{17, 0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0,
		 0xab, 0x90, 0xf4, 0xff},
		{12, 0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf},
		{24 - 1, 0x82, 0x87, 0x85, 0xbf, 0x40, 0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b,
		 0xa9,	 0x7d, 0x7f, 0x89, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4},
	};
	struct h2 t;
	uint32_t i;

	(void)state;
	begin(&t);
	for (i = 0; i < 2; i++)
		h2_frame(&t.client, H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, 2 * i + 1,
			 blocks[i] + 1, blocks[i][0]);
	h2_frame(&t.client, H2_HEADERS, H2_END_STREAM, 5, blocks[2] + 1, blocks[2][0]);
	h2_frame(&t.client, H2_CONTINUATION, H2_END_HEADERS, 5, "\xbf", 1);
	turn(&t, TS_IN);
	finish(&t,
	       "> GET /\n> GET / cache-control=no-cache\n> GET /index.html "
	       "custom-key=custom-value\n"
	       "= GET / 0 #1\n= GET / 0 #3\n= GET /index.html 0 #5\n",
	       true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_stream),
		cmocka_unit_test(interleaved),
		cmocka_unit_test(padding_priority_continuation),
		cmocka_unit_test(resets_and_goaway),
		cmocka_unit_test(pushed),
		cmocka_unit_test(table_sizes),
		cmocka_unit_test(upgrade),
		cmocka_unit_test(joined_in_the_middle),
		cmocka_unit_test(gap_in_data),
		cmocka_unit_test(gap_over_frames),
		cmocka_unit_test(damaged),
		cmocka_unit_test(many_streams),
		cmocka_unit_test(public_vectors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
