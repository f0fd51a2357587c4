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

#include "alloc.h"
#include "hello.h"
#include "hellos.h"
#include "libs.h"
#include "make_hello.h"
#include "stream.h"

/* Each test feeds pieces of directions; `said` has a line for each hello and each end. */
struct fixture {
	struct hello_finder *finder;
	struct ts_buf said;
	struct ts_buf last; /* the last hello's bytes */
};

static int on_found(void *ctx, const struct ts_record *r)
{
	const struct ts_hello *h = (const struct ts_hello *)r;
	struct fixture *f = ctx;

	assert_true(record_valid(r, r->size));
	f->last.len = 0;
	ts_buf_add(&f->last, h->payload, h->len);
	ts_buf_printf(&f->said, "%d hello of %d: %d bytes, flags %d\n", (int)h->sock, (int)h->pid,
		      (int)h->len, h->flags);
	return 0;
}

static void on_done(void *ctx, uint64_t sock, uint32_t start, uint8_t dir)
{
	struct fixture *f = ctx;

	assert_int_equal(start, 1000);
	assert_int_equal(dir, TS_OUT);
	ts_buf_printf(&f->said, "%d done\n", (int)sock);
}

static int set_up(void **state)
{
	static const struct hello_finder_ops ops = {on_found, on_done};
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(hello_finder_open(&f->finder, &ops, f), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	hello_finder_close(f->finder);
	ts_buf_free(&f->said);
	ts_buf_free(&f->last);
	free(f);
	return 0;
}

static int feed(struct fixture *f, uint64_t sock, const struct bytes *b, size_t from, size_t to)
{
	struct ts_hello *p = calloc(1, sizeof(*p) + (to - from));
	int ret;

	*p = (struct ts_hello){.nsecs = from,
			       .sock = sock,
			       .start = 1000,
			       .pos = (__u32)from,
			       .len = (__u32)(to - from),
			       .pid = from ? 99 : 42,
			       .dir = TS_OUT};
	memcpy(p->payload, b->data + from, to - from);
	ret = hello_finder_feed(f->finder, p);
	free(p);
	return ret;
}

static void expect(struct fixture *f, const char *wanted)
{
	ts_buf_add(&f->said, "", 1);
	assert_string_equal((char *)f->said.data, wanted);
	f->said.len = 0;
}

/* A message in records of `most` bytes. */
static void add_records(struct bytes *b, const struct bytes *message, size_t most)
{
	size_t at, n;

	for (at = 0; at < message->size; at += n) {
		n = message->size - at < most ? message->size - at : most;
		add_number(b, 22, 1);
		add_number(b, 0x0301, 2);
		add_number(b, n, 2);
		add_bytes(b, message->data + at, n);
	}
}

static struct bytes *wrap(const char *digits, size_t most)
{
	static struct bytes b;
	struct bytes message = from_digits(digits);

	b.size = 0;
	add_records(&b, &message, most);
	return &b;
}

static void expect_message(struct fixture *f, const char *digits)
{
	struct bytes message = from_digits(digits);

	assert_int_equal(f->last.len, message.size);
	assert_memory_equal(f->last.data, message.data, message.size);
}

/* In pieces and records of any size, in any order, more than once. */
static void pieces(void **state)
{
	static const size_t records[] = {1, 3, 4, 5, 100, 16384}, sizes[] = {1, 2, 5, 7, 133};
	struct fixture *f = *state;
	const struct bytes *b;
	char wanted[100];
	size_t i, j, at;
	int sock = 0;

	for (i = 0; i < TS_ARRAY_SIZE(records); i++)
		for (j = 0; j < TS_ARRAY_SIZE(sizes); j++) {
			sock++;
			b = wrap(curl_client, records[i]);
			for (at = 0; at < b->size; at += sizes[j])
				feed(f, (uint64_t)sock, b, at,
				     at + sizes[j] < b->size ? at + sizes[j] : b->size);
			snprintf(wanted, sizeof(wanted), "%d hello of 42: 512 bytes, flags 0\n",
				 sock);
			expect(f, wanted);
			expect_message(f, curl_client);
		}
	b = wrap(curl_client, 100);
	feed(f, 100, b, 400, b->size);
	feed(f, 100, b, 200, 450);
	feed(f, 100, b, 1, 200);
	feed(f, 100, b, 1, 200);
	expect(f, "");
	feed(f, 100, b, 0, 3);
	feed(f, 100, b, 0, 300);
	expect(f, "100 hello of 42: 512 bytes, flags 0\n");
	expect_message(f, curl_client);
}

/* What follows on a hello says whether another can come. */
static void what_follows(void **state)
{
	static const struct bytes ccs = {{20, 3, 3, 0, 1, 1}, 6}, data = {{23, 3, 3, 0, 1, 0}, 6},
				  other = {{22, 3, 3, 0, 4, 16, 0, 0, 0}, 9};
	struct fixture *f = *state;
	struct bytes b, message;

	b = *wrap(retry_client, 16384);
	add_bytes(&b, ccs.data, ccs.size);
	message = from_digits(retry_again);
	add_records(&b, &message, 16384);
	feed(f, 1, &b, 0, b.size);
	expect(f, "1 hello of 42: 311 bytes, flags 0\n1 hello of 42: 376 bytes, flags 1\n1 done\n");
	b = *wrap(curl_client, 16384);
	feed(f, 2, &b, 0, b.size);
	expect(f, "2 hello of 42: 512 bytes, flags 0\n");
	add_bytes(&b, ccs.data, ccs.size);
	add_bytes(&b, data.data, data.size);
	feed(f, 2, &b, b.size - 12, b.size);
	expect(f, "2 done\n");
	feed(f, 2, &b, 0, b.size);
	expect(f, "");
	b = *wrap(curl_client, 16384);
	add_bytes(&b, other.data, other.size);
	feed(f, 3, &b, 0, b.size);
	expect(f, "3 hello of 42: 512 bytes, flags 0\n3 done\n");
	/* A server's only hello, and one that asks for another. */
	b = *wrap(tls12_server, 16384);
	feed(f, 4, &b, 0, b.size);
	expect(f, "4 hello of 42: 74 bytes, flags 0\n4 done\n");
	b = *wrap(retry_server, 16384);
	add_bytes(&b, ccs.data, ccs.size);
	feed(f, 5, &b, 0, b.size);
	expect(f, "5 hello of 42: 88 bytes, flags 0\n");
}

/* A server's hello, and its certificate in the same record. */
static void more_in_the_record(void **state)
{
	struct fixture *f = *state;
	struct bytes message = from_digits(tls12_server), b = {.size = 0};

	add_number(&message, 0x0b000010, 4);
	add_records(&b, &message, 16384);
	feed(f, 1, &b, 0, 60);
	expect(f, "");
	feed(f, 1, &b, 60, b.size);
	expect(f, "1 hello of 42: 74 bytes, flags 0\n1 done\n");
	expect_message(f, tls12_server);
}

static void no_hello(void **state)
{
	static const struct bytes cases[] = {
		{"GET / HTTP/1.1", 14},
		{{22, 3, 1, 0, 0, 1}, 6},	      /* an empty record */
		{{22, 2, 1, 0, 9, 1, 0, 0, 5}, 9},    /* no version of TLS */
		{{22, 3, 1, 0, 9, 11, 0, 0, 5}, 9},   /* not a hello's message */
		{{22, 3, 1, 0, 9, 1, 0xff, 0, 5}, 9}, /* longer than any */
		{{22, 3, 1, 0xff, 9, 1, 0, 0, 5}, 9}, /* its record is */
		{{23, 3, 3, 0, 9, 1, 0, 0, 5}, 9},    /* data */
		{{20, 3, 3, 0, 1, 1}, 6},	      /* not at the beginning */
		{{0x80, 20, 4, 3, 1, 0, 3}, 7},	      /* of SSL 2.0: another message */
		{{0x80, 20, 1, 0, 2, 0, 3}, 7},	      /* and nothing but that version */
		{{0x80, 8, 1, 3, 1, 0, 3}, 7},	      /* and too short */
	};
	struct fixture *f = *state;
	char wanted[32];
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		feed(f, i, &cases[i], 0, cases[i].size);
		snprintf(wanted, sizeof(wanted), "%zu done\n", i);
		expect(f, wanted);
	}
}

static void ssl2(void **state)
{
	struct bytes b = from_digits("801301030100060000000400002f0700c001020304 16030300");
	struct fixture *f = *state;

	feed(f, 1, &b, 0, 20);
	expect(f, "");
	feed(f, 1, &b, 20, b.size);
	expect(f, "1 hello of 42: 19 bytes, flags 2\n1 done\n");
}

/* Longer than what is looked at. */
static void cut(void **state)
{
	static const unsigned char zeros[20000];
	struct fixture *f = *state;
	struct bytes message = {.size = 0}, b = {.size = 0};

	add_number(&message, 0x01000000 + 20000, 4);
	add_bytes(&message, zeros, 20000);
	add_records(&b, &message, 16384);
	feed(f, 1, &b, 0, 9000);
	expect(f, "");
	feed(f, 1, &b, 9000, TS_HELLO_WINDOW);
	expect(f, "1 hello of 42: 16379 bytes, flags 4\n1 done\n");
}

/* However many connections begin and say nothing more, memory is bounded, and the newest is known.
 */
static void many(void **state)
{
	struct fixture *f = *state;
	const struct bytes *b = wrap(curl_client, 16384);
	uint64_t sock;

	for (sock = 1; sock < 20000; sock++)
		feed(f, sock, b, 0, 100);
	feed(f, 1, b, 100, b->size);
	expect(f, "");
	feed(f, 19999, b, 100, b->size);
	expect(f, "19999 hello of 42: 512 bytes, flags 0\n");
}

/* Each allocation fails once: told, and what comes next works. */
static void no_memory(void **state)
{
	struct fixture *f = *state;
	const struct bytes *b = wrap(curl_client, 16384);
	struct ts_hello *p = calloc(1, sizeof(*p) + b->size);
	unsigned int failed = 0;
	size_t n;

	for (n = 1; n < 12; n++) {
		*p = (struct ts_hello){
			.sock = n, .start = 1000, .len = (__u32)b->size, .pid = 42, .dir = TS_OUT};
		memcpy(p->payload, b->data, b->size);
		f->said.len = 0;
		alloc_left = n;
		failed += hello_finder_feed(f->finder, p) == -ENOMEM;
		alloc_left = 0;
	}
	free(p);
	assert_in_range(failed, 3, 10);
	f->said.len = 0;
	feed(f, 100, b, 0, b->size);
	expect(f, "100 hello of 42: 512 bytes, flags 0\n");
}

/* --- as a message */

static void on_message(void *ctx, const struct stream_message *m)
{
	struct fixture *f = ctx;

	assert_non_null(m->hello);
	assert_int_equal(m->source->probe, TS_P_TLS_HELLO);
	assert_int_equal(m->truncated, m->size < m->len);
	ts_buf_printf(&f->said, "%s %d uid %d %d of %d %.*s:%d\n",
		      m->hello->client ? "client" : "server", (int)m->head->pid, (int)m->head->uid,
		      (int)m->size, (int)m->len, (int)m->hello->sni.size,
		      m->hello->sni.at ? (const char *)m->hello->sni.at : "",
		      (int)m->conn->info.rport);
}

static void on_closed(void *ctx, struct stream_conn *c, uint64_t nsecs)
{
	(void)ctx;
	(void)c;
	(void)nsecs;
}

static void messages(void **state)
{
	static const struct stream_ops ops = {on_message, on_closed};
	struct bytes b = from_digits(curl_client);
	struct ts_hello *r = calloc(1, sizeof(*r) + b.size);
	struct fixture *f = *state;
	struct stream *s;

	assert_int_equal(stream_open(&s, &ops, f), 0);
	*r = (struct ts_hello){
		.record = {.size = (__u32)(sizeof(*r) + b.size), .type = TS_REC_HELLO},
		.len = (__u32)b.size,
		.pid = 42,
		.rport = 443};
	memcpy(r->payload, b.data, b.size);
	assert_int_equal(stream_feed(s, &r->record), 0);
	expect(f, "client 42 uid 0 512 of 512 localhost:443\n");
	/* Cut off; of nobody known. */
	r->record.size -= 12;
	r->len -= 12;
	r->pid = 0;
	assert_int_equal(stream_feed(s, &r->record), 0);
	expect(f, "client 0 uid -1 500 of 512 localhost:443\n");
	r->payload[0] = 11;
	assert_int_equal(stream_feed(s, &r->record), 0);
	expect(f, "");
	r->len++;
	assert_int_equal(stream_feed(s, &r->record), -EBADMSG);
	assert_int_equal(stream_conn_count(s), 0);
	stream_close(s);
	free(r);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(pieces),	TEST(what_follows), TEST(more_in_the_record),
		TEST(no_hello), TEST(ssl2),	    TEST(cut),
		TEST(many),	TEST(no_memory),    TEST(messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
