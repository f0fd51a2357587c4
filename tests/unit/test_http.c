/* SPDX-License-Identifier: MIT */
/* HTTP/1: what two streams of bytes become. */
#include "http_run.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"
#define OK(len, body) "HTTP/1.1 200 OK\r\nContent-Length: " len "\r\n\r\n" body

static void one_exchange(void **state)
{
	static const struct piece pieces[] = {
		IN("POST /a?b=c HTTP/1.1\r\nHost: example.org\r\nContent-Length: 5\r\n"
		   "X-Empty:\r\nX-Space:  two words \t\r\n\r\nhello"),
		OUT("HTTP/1.1 201 Created\r\nContent-Length: 3\r\nSet-Cookie: a=1\r\n"
		    "set-cookie: b=2\r\n\r\nabc"),
		END,
	};

	(void)state;
	expect_always(pieces,
		      "> POST /a?b=c Host=example.org Content-Length=5 X-Empty= X-Space=two words "
		      "[5:hello]\n"
		      "< 201 Content-Length=3 Set-Cookie=a=1 set-cookie=b=2 [3:abc]\n"
		      "= POST /a?b=c 201\n");
}

static void client_side(void **state)
{
	static const struct piece pieces[] = {
		OUT(GET("/1")), IN(OK("2", "ok")), OUT(GET("/2")), IN(OK("0", "")), END,
	};

	(void)state;
	expect_always(pieces, "> GET /1 Host=h\n< 200 Content-Length=2 [2:ok]\n= GET /1 200\n"
			      "> GET /2 Host=h\n< 200 Content-Length=0\n= GET /2 200\n");
}

static void pipelining(void **state)
{
	static const struct piece pieces[] = {
		IN(GET("/1") GET("/2") "HEAD /3 HTTP/1.1\r\n\r\n" GET("/4")),
		OUT(OK("1", "a") OK("2", "bc")
			    OK("99", "") "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
		END,
	};

	(void)state;
	expect_always(pieces, "> GET /1 Host=h\n> GET /2 Host=h\n> HEAD /3\n> GET /4 Host=h\n"
			      "< 200 Content-Length=1 [1:a]\n= GET /1 200\n"
			      "< 200 Content-Length=2 [2:bc]\n= GET /2 200\n"
			      "< 200 Content-Length=99\n= HEAD /3 200\n"
			      "< 404 Content-Length=0\n= GET /4 404\n");
}

static void chunks_and_trailers(void **state)
{
	static const struct piece pieces[] = {
		IN("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
		   "5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 42\r\nX-More: 1\r\n\r\n"),
		OUT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
		END,
	};

	(void)state;
	expect_always(pieces,
		      "> POST / Transfer-Encoding=chunked ;X-Sum=42 X-More=1 [11:hello world]\n"
		      "< 200 Transfer-Encoding=chunked [1:x]\n= POST / 200\n");
}

static void no_bodies(void **state)
{
	static const struct piece pieces[] = {
		IN("GET /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
		OUT("HTTP/1.1 100 Continue\r\n\r\n"),
		IN("hi"),
		OUT("HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 None\r\n\r\n"),
		IN(GET("/b")),
		OUT("HTTP/1.1 304 Same\r\nContent-Length: 1000\r\n\r\n"),
		IN("HEAD /c HTTP/1.1\r\n\r\n"),
		OUT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
		IN(GET("/d")),
		OUT(OK("1", "d")),
		END,
	};

	(void)state;
	expect_always(pieces,
		      "> GET /a Expect=100-continue Content-Length=2 [2:hi]\n< 204\n= GET /a 204\n"
		      "> GET /b Host=h\n< 304 Content-Length=1000\n= GET /b 304\n"
		      "> HEAD /c\n< 200 Transfer-Encoding=chunked\n= HEAD /c 200\n"
		      "> GET /d Host=h\n< 200 Content-Length=1 [1:d]\n= GET /d 200\n");
}

static void body_until_close(void **state)
{
	static const struct piece pieces[] = {
		IN("GET /old HTTP/1.0\r\n\r\n"),
		OUT("HTTP/1.0 200 OK\r\nServer: s\r\n\r\nall of it\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
		END,
	};

	(void)state;
	expect_always(pieces, "> GET /old\n< 200 Server=s [32:all of it\r\n\r\nHTTP/1.]\n"
			      "= GET /old 200\n");
}

static void folded_lines(void **state)
{
	static const struct piece pieces[] = {
		IN("GET / HTTP/1.1\r\nA: one\r\n two\r\n\tthree\r\nB: x\r\nC:\r\n y\r\n\r\n"),
		OUT(OK("0", "")),
		END,
	};

	(void)state;
	expect_always(pieces, "> GET / A=one two three B=x C=y\n< 200 Content-Length=0\n"
			      "= GET / 200\n");
}

static void tunnels(void **state)
{
	static const struct piece connect[] = {
		IN("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"),
		OUT("HTTP/1.1 200 Yes\r\n\r\n\x16\x03"),
		IN("tls"),
		END,
	};
	static const struct piece refused[] = {
		IN("GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
		OUT(OK("2", "no")),
		IN(GET("/next")),
		OUT(OK("0", "")),
		END,
	};
	static const struct piece upgraded[] = {
		IN("GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
		OUT("HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframe"),
		IN(GET("/no")),
		END,
	};

	(void)state;
	expect_always(connect, "> CONNECT h:443 Host=h:443\n< 200\n= CONNECT h:443 200\n"
			       "\x16\x03tls");
	expect_always(refused, "> GET /ws Connection=Upgrade Upgrade=websocket\n"
			       "< 200 Content-Length=2 [2:no]\n= GET /ws 200\n"
			       "> GET /next Host=h\n< 200 Content-Length=0\n= GET /next 200\n");
	expect_always(upgraded, "> GET /ws Connection=Upgrade Upgrade=websocket\n"
				"< 101 Connection=Upgrade Upgrade=websocket\n= GET /ws 101\n"
				"frameGET /no HTTP/1.1\r\nHost: h\r\n\r\n");
}

/* The programs' threads may be seen in another order than the network saw them. */
static void response_seen_first(void **state)
{
	struct talk t;
	char *got;

	(void)state;
	talk_open(&t, 100);
	http_feed(t.http, TS_OUT, GET("/0"), sizeof(GET("/0")) - 1, 1, 2);
	http_feed(t.http, TS_IN, OK("0", ""), sizeof(OK("0", "")) - 1, 3, 4);
	http_feed(t.http, TS_IN, OK("1", "x"), sizeof(OK("1", "x")) - 1, 3, 20);
	http_feed(t.http, TS_OUT, GET("/1"), sizeof(GET("/1")) - 1, 10, 21);
	got = talk_close(&t);
	assert_string_equal(got, "> GET /0 Host=h\n< 200 Content-Length=0\n= GET /0 200\n"
				 "> GET /1 Host=h\n< 200 Content-Length=1 [1:x]\n= GET /1 200\n");
	free(got);
}

/* A connection older than the tracer: the first response is that of a request not seen. */
static void joined_in_the_middle(void **state)
{
	static const struct piece pieces[] = {
		OUT("the end of a body"), IN(GET("/1")), OUT(OK("1", "1")), IN(GET("/2")),
		OUT(OK("1", "2")),	  END,
	};
	static const struct piece answer[] = {
		OUT(OK("1", "0")), IN(GET("/1")),     OUT(OK("1", "1")),
		IN(GET("/2")),	   OUT(OK("1", "2")), END,
	};

	(void)state;
	expect_talk(pieces, "> GET /1 Host=h\n= GET /1 0\n< 200 Content-Length=1 [1:1]\n= ? ? 200\n"
			    "> GET /2 Host=h\n< 200 Content-Length=1 [1:2]\n= GET /2 200\n");
	expect_talk(answer, "< 200 Content-Length=1 [1:0]\n= ? ? 200\n"
			    "> GET /1 Host=h\n= GET /1 0\n< 200 Content-Length=1 [1:1]\n= ? ? 200\n"
			    "> GET /2 Host=h\n< 200 Content-Length=1 [1:2]\n= GET /2 200\n");
}

static void gap_in_a_body(void **state)
{
	static const struct piece length[] = {
		IN(GET("/1")), OUT(OK("1000", "abc")), LOST_OUT(990), OUT("xyzuvwz" GET("/")), END,
	};
	static const struct piece whole[] = {
		IN(GET("/1")), OUT(OK("1000", "abc")), LOST_OUT(997),
		IN(GET("/2")), OUT(OK("1", "2")),      END,
	};
	static const struct piece chunk[] = {
		IN(GET("/1")),
		OUT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc"),
		LOST_OUT(10),
		OUT("xyz\r\n0\r\n\r\n"),
		END,
	};
	static const struct piece until_close[] = {
		IN(GET("/1")),
		OUT("HTTP/1.1 200 OK\r\n\r\nabc"),
		LOST_OUT((size_t)1 << 60),
		OUT("x"),
		END,
	};

	(void)state;
	expect_talk(length, "> GET /1 Host=h\n< 200 Content-Length=1000 [1000:abc] truncated\n"
			    "= GET /1 200\n");
	expect_talk(whole, "> GET /1 Host=h\n< 200 Content-Length=1000 [1000:abc] truncated\n"
			   "= GET /1 200\n> GET /2 Host=h\n< 200 Content-Length=1 [1:2]\n"
			   "= GET /2 200\n");
	expect_talk(chunk, "> GET /1 Host=h\n< 200 Transfer-Encoding=chunked [16:abc] truncated\n"
			   "= GET /1 200\n");
	expect_talk(until_close, "> GET /1 Host=h\n< 200 [1152921504606846980:abc] truncated\n"
				 "= GET /1 200\n");
}

static void gap_over_messages(void **state)
{
	/* The response to /2 and the request /3 are not seen. */
	static const struct piece pieces[] = {
		IN(GET("/1")), OUT(OK("1", "1")), IN(GET("/2")), LOST_OUT(40),
		LOST_IN(30),   OUT(OK("1", "3")), IN(GET("/4")), OUT(OK("1", "4")),
		IN(GET("/5")), OUT(OK("1", "5")), END,
	};
	/* What is cut: the rest of the message is not taken for one. */
	static const struct piece in_headers[] = {
		IN("GET /1 HTTP/1.1\r\nHos"),
		LOST_IN(20),
		IN("oo\r\n\r\n"),
		OUT(OK("1", "1")),
		IN(GET("/2")),
		OUT(OK("1", "2")),
		IN(GET("/3")),
		OUT(OK("1", "3")),
		END,
	};

	(void)state;
	expect_talk(pieces, "> GET /1 Host=h\n< 200 Content-Length=1 [1:1]\n= GET /1 200\n"
			    "> GET /2 Host=h\n= GET /2 0\n< 200 Content-Length=1 [1:3]\n= ? ? 200\n"
			    "> GET /4 Host=h\n= GET /4 0\n< 200 Content-Length=1 [1:4]\n= ? ? 200\n"
			    "> GET /5 Host=h\n< 200 Content-Length=1 [1:5]\n= GET /5 200\n");
	expect_talk(in_headers,
		    "< 200 Content-Length=1 [1:1]\n= ? ? 200\n"
		    "> GET /2 Host=h\n= GET /2 0\n< 200 Content-Length=1 [1:2]\n= ? ? 200\n"
		    "> GET /3 Host=h\n< 200 Content-Length=1 [1:3]\n= GET /3 200\n");
}

/*
 * Whatever is lost of a pipelined conversation, each response names its request in its body: none
 * may be paired with another.
 */
static void check_pair(void *ctx, const struct http_exchange *x)
{
	size_t *pairs = ctx;

	if (!x->message[HTTP_REQ].seen || !x->message[HTTP_RESP].seen)
		return;
	++*pairs;
	assert_true(x->message[HTTP_RESP].body.len >= 3 &&
		    !memcmp(x->message[HTTP_RESP].body.data, x->target.data + 1, 3));
}

static void never_the_wrong_one(void **state)
{
	static const struct http_ops ops = {.done = check_pair};
	unsigned int round, i, sent, answered, lost, depth;
	size_t pairs, paired_before_loss = 0, rounds = 4000;
	struct http *h;
	char text[128];
	int n;

	(void)state;
	srand(1);
	for (round = 0; round < rounds; round++) {
		depth = 1 + (unsigned int)rand() % 4;
		lost = (unsigned int)rand() % 40;
		pairs = sent = answered = 0;
		assert_int_equal(http_open(&h, &ops, &pairs, 100), 0);
		/* From the start it is seen that the client does not wait, if it does not. */
		for (i = 0; i < 80; i++) {
			if (sent - answered < depth &&
			    (i < depth || rand() % 2 || sent == answered)) {
				n = snprintf(text, sizeof(text), GET("/%03u"), sent++);
				if (i >= depth && i % 40 == lost)
					http_gap(h, TS_IN, (uint64_t)n, i);
				else
					http_feed(h, TS_IN, text, (size_t)n, i, i);
			} else {
				n = snprintf(text, sizeof(text), OK("3", "%03u"), answered++);
				if (i >= depth && i % 40 == lost)
					http_gap(h, TS_OUT, (uint64_t)n, i);
				else
					http_feed(h, TS_OUT, text, (size_t)n, i, i);
			}
		}
		http_close(h, i);
		paired_before_loss += pairs;
		/* A client that waits is understood again. */
		assert_true(depth > 1 || pairs >= 25);
	}
	assert_true(paired_before_loss > rounds * 8);
}

static void what_is_not_http(void **state)
{
	static const struct piece pieces[] = {
		OUT("220 mail.example ESMTP\r\n"), IN("EHLO x\r\n"), OUT("250 OK\r\n"),
		IN("\0\0\0\x08\x04\xd2\x16\x2f"),  OUT("S"),	     END,
	};

	(void)state;
	expect_always(pieces, "");
}

/* A method that the parser does not know: its answer is not the next one's. */
static void unknown_method(void **state)
{
	static const struct piece pieces[] = {
		IN(GET("/1")),	   OUT(OK("1", "1")), IN("QUERY /q HTTP/1.1\r\n\r\n"),
		OUT(OK("1", "q")), IN(GET("/2")),     OUT(OK("1", "2")),
		IN(GET("/3")),	   OUT(OK("1", "3")), END,
	};

	(void)state;
	expect_talk(pieces, "> GET /1 Host=h\n< 200 Content-Length=1 [1:1]\n= GET /1 200\n"
			    "< 200 Content-Length=1 [1:q]\n= ? ? 200\n"
			    "> GET /2 Host=h\n= GET /2 0\n< 200 Content-Length=1 [1:2]\n= ? ? 200\n"
			    "> GET /3 Host=h\n< 200 Content-Length=1 [1:3]\n= GET /3 200\n");
}

static void body_limits(void **state)
{
	static const struct piece pieces[] = {
		IN(GET("/1")),
		OUT(OK("10", "0123456789")),
		END,
	};
	char *none = talk_of(pieces, SIZE_MAX, 0, 0), *some = talk_of(pieces, 3, 0, 7);

	(void)state;
	assert_string_equal(none, "> GET /1 Host=h\n< 200 Content-Length=10 [10:] truncated\n"
				  "= GET /1 200\n");
	assert_string_equal(some,
			    "> GET /1 Host=h\n< 200 Content-Length=10 [10:0123456] truncated\n"
			    "= GET /1 200\n");
	free(none);
	free(some);
}

static void unfinished(void **state)
{
	static const struct piece pieces[] = {
		IN(GET("/1") GET("/2")),
		OUT("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
		END,
	};

	(void)state;
	expect_talk(pieces, "> GET /1 Host=h\n> GET /2 Host=h\n"
			    "< 200 Content-Length=9 [3:abc] truncated\n= GET /1 200\n= GET /2 0\n");
}

/* What goes on unread is not whole, though a connection's end would have made it so. */
static void abandoned(void **state)
{
	static const char request[] = "GET /1 HTTP/1.0\r\n\r\n",
			  response[] = "HTTP/1.0 200 OK\r\n\r\nabc";
	struct talk t;

	(void)state;
	talk_open(&t, 100);
	talk_feed(&t, TS_OUT, request, sizeof(request) - 1);
	talk_feed(&t, TS_IN, response, sizeof(response) - 1);
	assert_true(http_memory(t.http) > 100);
	http_abandon(t.http, t.now);
	assert_int_equal(ts_buf_add(&t.log, "", 1), 0);
	assert_string_equal((char *)t.log.data,
			    "> GET /1\n< 200 [3:abc] truncated\n= GET /1 200\n");
	ts_buf_free(&t.log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_exchange),	       cmocka_unit_test(client_side),
		cmocka_unit_test(pipelining),	       cmocka_unit_test(chunks_and_trailers),
		cmocka_unit_test(no_bodies),	       cmocka_unit_test(body_until_close),
		cmocka_unit_test(folded_lines),	       cmocka_unit_test(tunnels),
		cmocka_unit_test(response_seen_first), cmocka_unit_test(joined_in_the_middle),
		cmocka_unit_test(gap_in_a_body),       cmocka_unit_test(gap_over_messages),
		cmocka_unit_test(never_the_wrong_one), cmocka_unit_test(what_is_not_http),
		cmocka_unit_test(unknown_method),      cmocka_unit_test(body_limits),
		cmocka_unit_test(unfinished),	       cmocka_unit_test(abandoned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
