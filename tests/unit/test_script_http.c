/* SPDX-License-Identifier: MIT */
/* on.http, on.http_request, on.http_response. */
#include "api.h"
#include "script_run.h"

#define REQUEST                                                                                    \
	"POST /a?b=1 HTTP/1.1\r\nHost: example.org\r\nX-Two: 1\r\nx-two: 2\r\n"                    \
	"Content-Length: 4\r\n\r\nbody"
#define RESPONSE                                                                                   \
	"HTTP/1.1 201 Made\r\nContent-Length: 2\r\nContent-Encoding: identity\r\n"                 \
	"Set-Cookie: a=b\r\n\r\nok"

static void say(struct run *r, enum ts_dir dir, const char *text)
{
	r->head.dir = (__u8)dir;
	r->head.nsecs += 1000000;
	r->head.duration = 1000;
	message(r, text);
}

static void exchange(struct run *r)
{
	say(r, TS_OUT, REQUEST);
	say(r, TS_IN, RESPONSE);
}

static void fields(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r,
	      "config{time = 'utc'}\n"
	      "on.http(function(e)\n"
	      "print(e.proto, e.side, e.method, e.url, e.host, e.path, e.status, e.reason)\n"
	      "print(e.body, e.raw_body, e.body_len, e.truncated, e.partial, e.stream_id)\n"
	      "print(e.latency_ns, e.latency_us, e.latency_ms, e.duration_ns, e.pushed, e.reset)\n"
	      "print(e.request.body, e.request.headers['X-TWO'], e.request.headers.none)\n"
	      "for name, value in pairs(e.request.headers) do print(name, value) end\n"
	      "print(#e.headers, e.headers[3].name, e.headers[3].value, e.trailers)\n"
	      "print(e.time, e.pid, e.comm, e.lib, e.kind, e.conn, e.sub)\nend)");
	record_started(&r);
	exchange(&r);
	expect(&r,
	       "HTTP/1.1\tclient\tPOST\thttps://example.org/a?b=1\texample.org\t/a?b=1\t201\tMade\n"
	       "ok\tok\t2\tfalse\tfalse\tnil\n"
	       "1000000\t1000.0\t1.0\t1000000\tfalse\tfalse\n"
	       "body\t1, 2\tnil\n"
	       "Host\texample.org\nX-Two\t1\nx-two\t2\nContent-Length\t4\n"
	       "3\tSet-Cookie\ta=b\tnil\n"
	       "01:16:40.003\t42\tcurl\t/usr/lib/libssl.so.3\topenssl\t"
	       "connection 7 of process 42\thandler of http\n",
	       "");
}

static void three_events(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r,
	      "on.http_request(function(e) print('>', e.method, e.body, e.status, e.response) "
	      "end)\n"
	      "on.http_response(function(e) print('<', e.method, e.status, e.body) end)\n"
	      "local h = on.http({where = function(e) return e.status == 201 end}, function(e)\n"
	      "print('=', e.method, e.status) end)\n"
	      "on.stop(function() print(h.stats.events) end)");
	say(&r, TS_OUT, REQUEST);
	say(&r, TS_IN, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
	exchange(&r);
	record_stopped(&r);
	expect(&r,
	       ">\tPOST\tbody\tnil\tnil\n<\tPOST\t404\t\n"
	       ">\tPOST\tbody\tnil\tnil\n<\tPOST\t201\tok\n=\tPOST\t201\n1\n",
	       "");
}

/* Every field that is documented can be read, copied, and asked of a message. */
static void documented_fields(void **state)
{
	struct run r = {0};
	char code[8192];
	size_t i, n = 0;

	(void)state;
	n += (size_t)snprintf(code, sizeof(code), "on.http(function(e) local _\n");
	for (i = 0; i < api_count; i++)
		if (api_table[i].kind == API_HTTP_FIELD || api_table[i].kind == API_HTTP_MESSAGE)
			n += (size_t)snprintf(code + n, sizeof(code) - n, "_ = e.%s%s\n",
					      api_table[i].kind == API_HTTP_FIELD ? "" : "request.",
					      api_table[i].name);
	snprintf(code + n, sizeof(code) - n, "print('all') end)");
	start(&r, code);
	exchange(&r);
	expect(&r, "all\n", "");
}

static void kept_and_copied(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "local kept, part, copy, headers\n"
		  "on.http(function(e) kept, part, copy, headers = e, e.request, e:copy(), "
		  "e.headers end)\n"
		  "on.stop(function()\n"
		  "print(pcall(function() return kept.url end))\n"
		  "print(pcall(function() return part.body end))\n"
		  "print(copy.url, copy.request.body, copy.response.body, headers['set-cookie'])\n"
		  "end)");
	exchange(&r);
	record_stopped(&r);
	expect(&r,
	       "false\t-e:4: this event is over: it is valid only while its handler runs; keep "
	       "e:copy()\n"
	       "false\t-e:5: this event is over: it is valid only while its handler runs; keep "
	       "e:copy()\n"
	       "https://example.org/a?b=1\tbody\tok\ta=b\n",
	       "");
}

static void wrong_names(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "local function try(f) print((select(2, pcall(f)))) end\n"
		  "on.http(function(e)\n"
		  "try(function() return e.methd end)\n"
		  "try(function() return e.request.bdy end)\n"
		  "try(function() e.url = 1 end)\n"
		  "try(function() return e[1] end)\nend)");
	exchange(&r);
	expect(&r,
	       "-e:3: unknown field of an HTTP event: 'methd', did you mean 'method'?\n"
	       "-e:4: unknown field of a message: 'bdy', did you mean 'body'?\n"
	       "-e:5: an event cannot be changed; keep things in e.conn.state, or change e:copy()\n"
	       "-e:6: fields of an event are named by strings\n",
	       "");
	expect_wrong("on.http({peek = false}, print)",
		     "tlsscope: -e:1: on.http is of whole messages: it takes no option `errors` or "
		     "`peek`\n"
		     "     1 | on.http({peek = false}, print)\n"
		     "       |          ^^^^\n");
}

/* A handler gets what its own filter took; bodies as long as it wants them. */
static void filters_and_limits(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "on.http({capture = 1}, function(e) print('a', e.body, e.truncated, e.body_len) "
		  "end)\n"
		  "on.http({capture = 0}, function(e) print('b', e.body, e.truncated, e.body_len) "
		  "end)\n"
		  "on.http({comm = 'other'}, function(e) print('c') end)\n"
		  "on.http(function(e) print('d', e.body, e.truncated) end)");
	r.head.subs = 1 | 2 | 8;
	exchange(&r);
	expect(&r, "a\to\ttrue\t2\nb\tnil\ttrue\t2\nd\tok\tfalse\n", "");
}

static void failing_handler(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "on.http(function(e) error('no', 0) end)\n"
		  "on.http(function(e) print('still') end)");
	exchange(&r);
	exchange(&r);
	assert_int_equal(script_errors(r.script), 2);
	expect(&r, "still\nstill\n", NULL);
}

/* What is unfinished when the run or the connection ends is told. */
static void unfinished(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r,
	      "on.http(function(e) print(e.method, e.status, e.partial, e.body, e.duration_ns,\n"
	      "(e.nsecs - (e.response or e.request).ended_ns) // 1000000000) end)\n"
	      "on.tls_close(function() print('closed') end)\n"
	      "on.stop(function() print('stop') end)");
	say(&r, TS_OUT, REQUEST);
	say(&r, TS_IN, "HTTP/1.1 200 OK\r\n\r\nuntil the end");
	script_closed(r.script, &r.conn, r.head.nsecs + 5);
	r.conn.id = 8;
	r.conn.bytes[TS_IN] = r.conn.bytes[TS_OUT] = 0;
	say(&r, TS_OUT, REQUEST);
	record_stopped(&r);
	expect(&r,
	       "POST\t200\tfalse\tuntil the end\t1000005\t0\nclosed\n"
	       "POST\tnil\ttrue\tnil\tnil\t8\nstop\n",
	       "");
}

/* Bytes of bodies as they come, and where each belongs; of another event these fields are nil. */
static void pieces(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r,
	      "on.http_data({capture = 0}, function(e)\n"
	      "print(e.part, e.offset, e.data, e.status, e.response and e.response.ended_ns)\n"
	      "end)\n"
	      "on.http(function(e) print(e.part, e.offset, e.data, e.sub.stats.bytes)\n"
	      "print(e.request.ended_ns - e.request.started_ns,\n"
	      "e.response.started_ns - e.request.started_ns,\n"
	      "e.response.ended_ns - e.request.started_ns, e.nsecs - e.response.ended_ns) end)");
	say(&r, TS_OUT, "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbo");
	say(&r, TS_OUT, "dy");
	say(&r, TS_IN, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n4\r\nt");
	say(&r, TS_IN, "woo\r\n0\r\n\r\n");
	expect(&r,
	       "request\t0\tbo\tnil\tnil\nrequest\t2\tdy\tnil\tnil\n"
	       "response\t0\tone\t200\tnil\nresponse\t3\tt\t200\tnil\n"
	       "response\t4\twoo\t200\tnil\nnil\tnil\tnil\t11\n"
	       "1000000\t2000000\t3000000\t0\n",
	       "");
}

/* What was not seen of a body is left out, and the offset tells. */
static void piece_after_gap(void **state)
{
	static const char first[] = "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nab";
	struct run r = {0};

	(void)state;
	start(&r, "on.http_data(function(e) print(e.offset, e.data) end)");
	r.head.dir = TS_OUT;
	message_part(&r, first, sizeof(first) - 1, sizeof(first) + 4);
	say(&r, TS_OUT, "hij");
	expect(&r, "0\tab\n7\thij\n", "");
}

static void encoded_body(void **state)
{
	static const char gzipped[] =
		"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\x48\xcd\xc9\xc9\x07\x00\x86\xa6\x10"
		"\x36\x05\x00\x00\x00";
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
				   "Content-Length: 25\r\n\r\n";
	char response[sizeof(head) + sizeof(gzipped)];
	struct run r = {0};

	(void)state;
	memcpy(response, head, sizeof(head) - 1);
	memcpy(response + sizeof(head) - 1, gzipped, sizeof(gzipped) - 1);
	start(&r, "on.http(function(e) print(e.body, #e.raw_body, e.body_len) end)");
	say(&r, TS_OUT, "GET / HTTP/1.1\r\n\r\n");
	r.head.dir = TS_IN;
	message_part(&r, response, sizeof(head) + sizeof(gzipped) - 2,
		     sizeof(head) + sizeof(gzipped) - 2);
	expect(&r, "hello\t25\t25\n", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields),
		cmocka_unit_test(three_events),
		cmocka_unit_test(documented_fields),
		cmocka_unit_test(kept_and_copied),
		cmocka_unit_test(wrong_names),
		cmocka_unit_test(filters_and_limits),
		cmocka_unit_test(failing_handler),
		cmocka_unit_test(unfinished),
		cmocka_unit_test(pieces),
		cmocka_unit_test(piece_after_gap),
		cmocka_unit_test(encoded_body),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
