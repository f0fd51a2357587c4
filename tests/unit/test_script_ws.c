/* SPDX-License-Identifier: MIT */
/* on.ws_message and on.grpc_call. */
#include "api.h"
#include "http2_make.h"
#include "script_run.h"
#include "ws_make.h"

#define ASK                                                                                        \
	"GET /chat?a=1 HTTP/1.1\r\nHost: h.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"  \
	"\r\n"
#define ANSWER                                                                                     \
	"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"        \
	"Sec-WebSocket-Protocol: chat.v2\r\n\r\n"

static void say(struct run *r, enum ts_dir dir, const void *data, size_t len)
{
	r->head.dir = (__u8)dir;
	r->head.nsecs += 1000000;
	r->head.duration = 1000;
	message_part(r, data, len, len);
}

/* Says it, and empties it. */
static void say_buf(struct run *r, enum ts_dir dir, struct ts_buf *b)
{
	say(r, dir, b->data, b->len);
	ts_buf_free(b);
}

static void upgrade(struct run *r)
{
	say(r, TS_OUT, ASK, sizeof(ASK) - 1);
	say(r, TS_IN, ANSWER, sizeof(ANSWER) - 1);
}

static void send_text(struct run *r, const char *text)
{
	struct ts_buf b = {0};

	ws_frame_of(&b, FIN | 1, MASKED, text, strlen(text));
	say_buf(r, TS_OUT, &b);
}

static void ws_fields(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "config{time = 'utc'}\n"
		  "on.ws_message(function(e)\n"
		  "print(e.opcode, e.dir, e.side, e.data, e.len, e.raw_len, e.frames)\n"
		  "print(e.compressed, e.truncated, e.gap, e.err, e.code, e.reason)\n"
		  "print(e.url, e.host, e.path, e.protocol, e.proto, e.stream_id)\n"
		  "print(e.request.headers.upgrade, e.response.headers.upgrade, e.conn, e)\nend)");
	record_started(&r);
	upgrade(&r);
	send_text(&r, "hello");
	say(&r, TS_IN, "\x88\x07\3\350abcde", 9);
	expect(&r,
	       "text\tout\tclient\thello\t5\t5\t1\nfalse\tfalse\tfalse\tnil\tnil\tnil\n"
	       "wss://h.test/chat?a=1\th.test\t/chat?a=1\tchat.v2\tHTTP/1.1\tnil\n"
	       "websocket\twebsocket\tconnection 7 of process 42\tevent of a WebSocket\n"
	       "close\tin\tclient\t\\x03\\xe8abcde\t7\t7\t1\nfalse\tfalse\tfalse\tnil\t1000\tabcde"
	       "\n"
	       "wss://h.test/chat?a=1\th.test\t/chat?a=1\tchat.v2\tHTTP/1.1\tnil\n"
	       "websocket\twebsocket\tconnection 7 of process 42\tevent of a WebSocket\n",
	       "");
}

/* A handler that reads every field that is documented. */
static void start_documented(struct run *r, const char *event, enum api_kind kind)
{
	char code[8192];
	size_t i, n;

	n = (size_t)snprintf(code, sizeof(code), "on.%s(function(e) local _\n", event);
	for (i = 0; i < api_count; i++)
		if (api_table[i].kind == kind)
			n += (size_t)snprintf(code + n, sizeof(code) - n, "_ = e.%s\n",
					      api_table[i].name);
	snprintf(code + n, sizeof(code) - n,
		 "print(e:copy().pid) print(pcall(function() "
		 "return e.methd end)) end)");
	start(r, code);
}

static void ws_documented(void **state)
{
	struct run r = {0};

	(void)state;
	start_documented(&r, "ws_message", API_WS_FIELD);
	upgrade(&r);
	send_text(&r, "x");
	expect(&r, "42\nfalse\t-e:41: unknown field of a WebSocket message: 'methd'\n", "");
}

static void ws_limits(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "local h = on.ws_message({capture = 2}, function(e)\n"
		  "print('a', e.data, e.truncated, e.len) end)\n"
		  "on.ws_message({capture = 0}, function(e) print('b', e.data, e.truncated) end)\n"
		  "on.ws_message({where = function(e) return e.len > 3 end}, function(e)\n"
		  "print('c', e.data, e.truncated) end)\n"
		  "on.http(function(e) print(e.status) end)\n"
		  "on.stop(function() print(h.stats.events, h.stats.bytes) end)");
	upgrade(&r);
	send_text(&r, "hello");
	send_text(&r, "");
	record_stopped(&r);
	expect(&r,
	       "101\na\the\ttrue\t5\nb\tnil\ttrue\nc\thello\tfalse\na\t\tfalse\t0\nb\t\tfalse\n"
	       "2\t5\n",
	       "");
}

/* What is unfinished when the connection or the run ends is told. */
static void ws_unfinished(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "on.ws_message(function(e) print(e.opcode, e.data, e.len, e.truncated, e.url) "
		  "end)\n");
	upgrade(&r);
	say(&r, TS_IN, "\x01\x02he", 4);
	say(&r, TS_IN, "\x00\x05ll", 4);
	script_closed(r.script, &r.conn, r.head.nsecs + 5);
	r.conn.id = 8;
	r.conn.bytes[TS_IN] = r.conn.bytes[TS_OUT] = 0;
	upgrade(&r);
	say(&r, TS_IN, "\x82\x02h", 3);
	record_stopped(&r);
	expect(&r,
	       "text\thell\tnil\ttrue\twss://h.test/chat?a=1\n"
	       "binary\th\tnil\ttrue\twss://h.test/chat?a=1\n",
	       "");
}

/* Frames whose upgrade was not seen are not taken for any. */
static void ws_from_the_middle(void **state)
{
	struct run r = {0};
	int i;

	(void)state;
	start(&r, "on.ws_message(function(e) print(e.data) end)\n"
		  "on.http(function(e) print(e.status) end)");
	for (i = 0; i < 20; i++) {
		send_text(&r, "a message of text");
		say(&r, TS_IN, "\x81\x05hello", 7);
	}
	record_stopped(&r);
	expect(&r, "", "");
}

/* --- HTTP/2, as a client */

struct ends {
	struct h2_end client, server;
};

static void open_ends(struct run *r, struct ends *e)
{
	h2_open(&e->client);
	h2_open(&e->server);
	if (ts_buf_add(&e->client.out, H2_PREFACE, strlen(H2_PREFACE)))
		abort();
	h2_frame(&e->client, H2_SETTINGS, 0, 0, "", 0);
	h2_frame(&e->server, H2_SETTINGS, 0, 0, "", 0);
	say_buf(r, TS_OUT, &e->client.out);
	say_buf(r, TS_IN, &e->server.out);
}

static void say_ends(struct run *r, struct ends *e)
{
	if (e->client.out.len)
		say_buf(r, TS_OUT, &e->client.out);
	if (e->server.out.len)
		say_buf(r, TS_IN, &e->server.out);
}

static void free_ends(struct ends *e)
{
	h2_free(&e->client);
	h2_free(&e->server);
}

/* RFC 8441: each stream is a WebSocket of its own. */
static void ws_on_http2(void **state)
{
	struct run r = {0};
	struct ends e;
	struct ts_buf b = {0};
	uint32_t id;

	(void)state;
	start(&r, "on.ws_message(function(e)\n"
		  "print(e.opcode, e.dir, e.data, e.url, e.proto, e.stream_id) end)\n"
		  "on.http(function(e) print(e.status, e.stream_id) end)");
	open_ends(&r, &e);
	for (id = 1; id <= 3; id += 2)
		h2_headers(&e.client, id, 0,
			   ":method CONNECT|:protocol websocket|:scheme https|:path /chat|"
			   ":authority h.test");
	h2_headers(&e.server, 1, 0, ":status 200");
	h2_headers(&e.server, 3, H2_END_STREAM, ":status 403");
	say_ends(&r, &e);
	ws_frame_of(&b, FIN | 1, MASKED, "hello", 5);
	h2_frame(&e.client, H2_DATA, 0, 1, b.data, 4);
	h2_frame(&e.client, H2_DATA, 0, 1, b.data + 4, b.len - 4);
	h2_frame(&e.server, H2_DATA, 0, 1, "\x81\x03you\x89\x00\x01\x01t", 10);
	h2_frame(&e.client, H2_DATA, H2_END_STREAM, 3, b.data, b.len);
	say_ends(&r, &e);
	h2_frame(&e.client, H2_DATA, H2_END_STREAM, 1, "", 0);
	h2_frame(&e.server, H2_DATA, H2_END_STREAM, 1, "", 0);
	say_ends(&r, &e);
	ts_buf_free(&b);
	free_ends(&e);
	expect(&r,
	       "text\tout\thello\twss://h.test/chat\tHTTP/2\t1\n403\t3\n"
	       "text\tin\tyou\twss://h.test/chat\tHTTP/2\t1\n"
	       "ping\tin\t\twss://h.test/chat\tHTTP/2\t1\n"
	       "text\tin\tt\twss://h.test/chat\tHTTP/2\t1\n200\t1\n",
	       "");
}

static void call(struct ends *e, uint32_t id, unsigned int flags, const char *more)
{
	char headers[512];

	snprintf(headers, sizeof(headers),
		 ":method POST|:scheme https|:path /shop.v1.Orders/Get|:authority h.test|"
		 "content-type application/grpc+proto|te trailers%s",
		 more);
	h2_headers(&e->client, id, flags, headers);
}

static void answer(struct ends *e, uint32_t id, const char *data, size_t len, const char *trailers)
{
	h2_headers(&e->server, id, 0, ":status 200|content-type application/grpc");
	h2_frame(&e->server, H2_DATA, 0, id, data, len);
	h2_headers(&e->server, id, H2_END_STREAM, trailers);
}

#define GET_SHORT                                                                                  \
	"on.grpc_call(function(e) print(e.service, e.method, e.status, e.status_name, e.message, " \
	"e.request_count, e.request_len, e.response_count, e.response_len, e.partial) end)\n"

static void grpc_fields(void **state)
{
	struct run r = {0};
	struct ends e;

	(void)state;
	start(&r,
	      "on.grpc_call(function(e)\n"
	      "print(e.service, e.method, e.path, e.host, e.side, e.stream_id)\n"
	      "print(e.status, e.status_name, e.message, e.http_status, e.streaming, e.reset)\n"
	      "print(e.request_count, e.request_len, table.concat(e.request_lens, ' '))\n"
	      "print(e.response_count, e.response_len, table.concat(e.response_lens, ' '))\n"
	      "print(e.compressed, e.partial, e.timeout_ns, e.timeout_us, e.timeout_ms)\n"
	      "print(e.latency_ms, e.duration_ms, e.response.trailers['grpc-status'], e)\nend)");
	open_ends(&r, &e);
	call(&e, 1, 0, "|grpc-timeout 1500m");
	h2_frame(&e.client, H2_DATA, H2_END_STREAM, 1, "\0\0\0\0\5hello", 10);
	say_ends(&r, &e);
	answer(&e, 1, "\1\0\0\0\2ok\0\0\0\0\0\0\0\0\0\3abc", 20,
	       "grpc-status 5|grpc-message no order %22a%22 %e4%zz%");
	say_ends(&r, &e);
	free_ends(&e);
	expect(&r,
	       "shop.v1.Orders\tGet\t/shop.v1.Orders/Get\th.test\tclient\t1\n"
	       "5\tNOT_FOUND\tno order \"a\" \\xe4%zz%\t200\tserver\tfalse\n"
	       "1\t5\t5\n3\t5\t2 0 3\n"
	       "true\tfalse\t1500000000\t1500000.0\t1500.0\n"
	       "1.0\t1.0\t5\tevent of gRPC\n",
	       "");
}

static void grpc_documented(void **state)
{
	struct run r = {0};
	struct ends e;

	(void)state;
	start_documented(&r, "grpc_call", API_GRPC_FIELD);
	open_ends(&r, &e);
	call(&e, 1, H2_END_STREAM, "");
	h2_headers(&e.server, 1, H2_END_STREAM,
		   ":status 200|content-type application/grpc|grpc-status 12");
	say_ends(&r, &e);
	free_ends(&e);
	expect(&r,
	       "42\nfalse\t-e:51: unknown field of a gRPC call: 'methd', did you mean 'method'?\n",
	       "");
}

/* Message heads cut at every byte, by frames of DATA and by calls. */
static void grpc_cut(void **state)
{
	static const char data[] = "\0\0\0\0\3abc\1\0\0\1\0";
	char want[2048] = "", big[256 + sizeof(data)] = {0};
	struct run r = {0};
	struct ends e;
	uint32_t id = 1;
	size_t i;

	(void)state;
	memcpy(big, data, sizeof(data) - 1);
	start(&r, GET_SHORT);
	open_ends(&r, &e);
	for (i = 1; i < 13; i++, id += 2) {
		call(&e, id, 0, "");
		h2_frame(&e.client, H2_DATA, 0, id, big, i);
		say_ends(&r, &e);
		h2_frame(&e.client, H2_DATA, H2_END_STREAM, id, big + i, 13 + 256 - i);
		say_ends(&r, &e);
		answer(&e, id, "\0\0\0\0\0", 5, "grpc-status 0");
		say_ends(&r, &e);
		strcat(want, "shop.v1.Orders\tGet\t0\tOK\tnil\t2\t259\t1\t0\tfalse\n");
	}
	free_ends(&e);
	expect(&r, want, "");
}

/* What is missing inside a message of DATA leaves the lengths known; else they are said not to be.
 */
static void grpc_lost(void **state)
{
	struct run r = {0};
	struct ends e;
	struct ts_buf lost = {0};
	int i;

	(void)state;
	start(&r, GET_SHORT);
	open_ends(&r, &e);
	for (i = 0; i < 2; i++) {
		call(&e, 1 + 2 * (uint32_t)i, 0, "");
		say_ends(&r, &e);
		h2_frame(&e.client, H2_DATA, H2_END_STREAM, 1 + 2 * (uint32_t)i,
			 "\0\0\0\0\5hello\0\0\0\0\1!", 16);
		lost = e.client.out;
		e.client.out = (struct ts_buf){0};
		r.head.dir = TS_OUT;
		/* The call's last bytes were not kept: in a message, or a head too. */
		message_part(&r, (const char *)lost.data, i ? 13 : 16, i ? 23 : 19);
		if (i)
			message_part(&r, (const char *)lost.data + 23, 2, 2);
		else
			message_part(&r, (const char *)lost.data + 19, 6, 6);
		ts_buf_free(&lost);
		answer(&e, 1 + 2 * (uint32_t)i, "\0\0\0\0\0", 5, "grpc-status 0");
		say_ends(&r, &e);
	}
	free_ends(&e);
	expect(&r,
	       "shop.v1.Orders\tGet\t0\tOK\tnil\t2\t6\t1\t0\tfalse\n"
	       "shop.v1.Orders\tGet\t0\tOK\tnil\t0\t0\t1\t0\ttrue\n",
	       "");
}

/* Calls that end without a status, and what only looks like one. */
static void grpc_ends(void **state)
{
	struct run r = {0};
	struct ends e;

	(void)state;
	start(&r, GET_SHORT "on.http(function(e) print(e.stream_id, e.reset) end)");
	open_ends(&r, &e);
	call(&e, 1, 0, "");
	h2_frame(&e.client, H2_DATA, 0, 1, "\0\0\0\0\5hel", 8);
	h2_frame(&e.client, H2_RST, 0, 1, "\0\0\0\10", 4);
	h2_headers(&e.client, 3, H2_END_STREAM,
		   ":method POST|:path /a|:authority h|content-type application/grpc-web");
	h2_headers(&e.server, 3, H2_END_STREAM, ":status 200");
	call(&e, 5, 0, "");
	h2_frame(&e.client, H2_DATA, 0, 5, "\7\0\0\0\0", 5);
	call(&e, 7, 0, "");
	h2_frame(&e.client, H2_DATA, H2_END_STREAM, 7, "\0\0\0\0\1a", 6);
	h2_headers(&e.server, 7, 0, ":status 200|content-type application/grpc");
	say_ends(&r, &e);
	record_stopped(&r);
	free_ends(&e);
	expect(&r,
	       "1\ttrue\nshop.v1.Orders\tGet\tnil\tnil\tnil\t0\t0\t0\t0\ttrue\n3\tfalse\n"
	       "5\tfalse\nshop.v1.Orders\tGet\tnil\tnil\tnil\t0\t0\t0\t0\ttrue\n"
	       "7\tfalse\nshop.v1.Orders\tGet\tnil\tnil\tnil\t1\t1\t0\t0\ttrue\n",
	       "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ws_fields),	      cmocka_unit_test(ws_documented),
		cmocka_unit_test(ws_limits),	      cmocka_unit_test(ws_unfinished),
		cmocka_unit_test(ws_from_the_middle), cmocka_unit_test(ws_on_http2),
		cmocka_unit_test(grpc_fields),	      cmocka_unit_test(grpc_documented),
		cmocka_unit_test(grpc_cut),	      cmocka_unit_test(grpc_lost),
		cmocka_unit_test(grpc_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
