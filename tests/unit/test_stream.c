/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "stream_run.h"

static void feed_close(struct fixture *f, unsigned int pid, unsigned int conn)
{
	struct ts_data d = {
		.record = {sizeof(d), TS_REC_CLOSE, 0}, .pid = pid, .conn = 0x1000 + 16 * conn};

	assert_int_equal(stream_feed(f->stream, &d.record), 0);
}

static void feed_life(struct fixture *f, __u16 type, unsigned int pid)
{
	struct rec_exec r = {.record = {sizeof(r), type, 0}, .pid = pid, .nsecs = 5};

	assert_int_equal(stream_feed(f->stream, &r.record), 0);
}

static void feed_exit(struct fixture *f, unsigned int pid)
{
	feed_life(f, TS_REC_EXIT, pid);
}

static void keep_pid(void *ctx, uint32_t pid)
{
	*(uint32_t *)ctx = *(uint32_t *)ctx * 100 + pid;
}

/* The number went to another process before the end was handed over. */
static void an_end_is_not_that_of_later_connections(void **state)
{
	struct fixture *f = *state;
	uint32_t pids = 0;

	FEED("old", .call = 1, .conn = 1);
	FEED("new", .call = 2, .conn = 2, .opened = 7);
	FEED("old too", .call = 3, .conn = 3);
	EXPECT("1 in 'old' len=3\n2 in 'new' len=3\n3 in 'old too' len=7\n");
	feed_exit(f, 10);
	EXPECT("3 closed 7 0\n1 closed 3 0\n");
	stream_each_process(f->stream, keep_pid, &pids);
	assert_int_equal(pids, 10);
	FEED("more", .call = 4, .conn = 2, .opened = 7, .pos = 3);
	EXPECT("2 in 'more' len=4\n");
}

static void one_record_is_one_message(void **state)
{
	struct fixture *f = *state;

	FEED("hello", .call = 1, .dir = TS_OUT);
	FEED("world", .call = 2, .dir = TS_IN);
	EXPECT("1 out 'hello' len=5\n1 in 'world' len=5\n");
	assert_int_equal(stream_conn_count(f->stream), 1);
}

static void pieces_are_joined(void **state)
{
	struct fixture *f = *state;

	FEED("hel", .call = 1, .of = 8, MORE);
	FEED("lo ", .call = 1, .of = 8, .off = 3, MORE);
	EXPECT("");
	FEED("me", .call = 1, .of = 8, .off = 6);
	EXPECT("1 in 'hello me' len=8\n");
	/* The capture's limit ended before the call. */
	FEED("abc", .call = 2, .pos = 8, .of = 100, MORE);
	FEED("def", .call = 2, .pos = 8, .of = 100, .off = 3);
	EXPECT("1 in 'abcdef' len=100 cut\n");
	FEED("x", .call = 3, .pos = 108);
	EXPECT("1 in 'x' len=1\n");
}

static void a_megabyte_arrives_whole(void **state)
{
	struct fixture *f = *state;
	char chunk[TS_CHUNK + 1];
	unsigned int i;

	memset(chunk, 'm', TS_CHUNK);
	chunk[TS_CHUNK] = 0;
	for (i = 0; i < 64; i++)
		FEED(chunk, .call = 1, .of = 1 << 20, .off = i * TS_CHUNK,
		     .flags = i < 63 ? TS_DATA_MORE : 0);
	assert_int_equal(f->messages, 1);
	assert_int_equal(f->bytes, 1 << 20);
}

static void calls_of_threads_interleave(void **state)
{
	struct fixture *f = *state;

	FEED("aa", .tid = 1, .call = 1, .conn = 1, .of = 4, MORE);
	FEED("bb", .tid = 2, .call = 2, .conn = 2, .of = 4, MORE);
	FEED("AA", .tid = 1, .call = 1, .conn = 1, .of = 4, .off = 2);
	FEED("c", .tid = 1, .call = 3, .conn = 3);
	FEED("BB", .tid = 2, .call = 2, .conn = 2, .of = 4, .off = 2);
	EXPECT("1 in 'aaAA' len=4\n3 in 'c' len=1\n2 in 'bbBB' len=4\n");
}

static void a_threads_next_call_ends_the_unfinished_one(void **state)
{
	struct fixture *f = *state;

	FEED("begun", .call = 1, .of = 50, .conn = 1, MORE);
	FEED("next", .call = 2, .conn = 2);
	EXPECT("1 in 'begun' len=50 cut\n2 in 'next' len=4\n");
	FEED("after", .call = 3, .pos = 50, .conn = 1);
	EXPECT("1 in 'after' len=5\n");
}

/* A call's number with other facts is another call: a file may say anything. */
static void pieces_that_contradict_are_not_joined(void **state)
{
	struct fixture *f = *state;

	FEED("x", .call = 4, .of = 9, .conn = 1, MORE);
	FEED("y", .call = 4, .of = 9, .off = 1, .conn = 2);
	EXPECT("1 in 'x' len=9 cut\n2 in '' len=9 cut\n");
	FEED("x", .call = 5, .pos = 9, .of = 9, .conn = 1, MORE);
	FEED("y", .call = 5, .pos = 9, .of = 9, .conn = 1, .off = 1, .opened = 7);
	EXPECT("1 in 'x' len=9 cut\n1 closed 18 0\n3 in '' len=9 gap=9 cut\n");
	FEED("x", .call = 6, .of = 9, .conn = 4, MORE);
	FEED("y", .call = 6, .of = 9, .pos = 20, .conn = 4, .off = 1);
	EXPECT("4 in 'x' len=9 cut\n4 in '' len=9 gap=11 cut\n");
}

static void a_later_message_waits_for_none_and_passes_none(void **state)
{
	struct fixture *f = *state;

	/* Two threads write: the second's message is there, so the first's rest is lost. */
	FEED("first", .tid = 1, .call = 1, .of = 20, MORE);
	FEED("second", .tid = 2, .call = 2, .pos = 20);
	EXPECT("1 in 'first' len=20 cut\n1 in 'second' len=6\n");
	/* What still comes of the first was told as missing. */
	FEED("rest", .tid = 1, .call = 1, .off = 5, .of = 20);
	EXPECT("");
	/* The other direction and other connections do not matter. */
	FEED("go", .tid = 1, .call = 3, .pos = 26, .of = 4, MORE);
	FEED("out", .tid = 2, .call = 4, .dir = TS_OUT);
	FEED("other", .tid = 3, .call = 5, .pos = 0, .conn = 1);
	EXPECT("1 out 'out' len=3\n2 in 'other' len=5\n");
	FEED("on", .tid = 1, .call = 3, .pos = 26, .off = 2, .of = 4);
	EXPECT("1 in 'goon' len=4\n");
}

static void unfinished_calls_keep_their_order(void **state)
{
	struct fixture *f = *state;

	FEED("c", .tid = 3, .call = 3, .pos = 20, .of = 10, MORE);
	FEED("b", .tid = 2, .call = 2, .pos = 10, .of = 10, MORE);
	FEED("a", .tid = 1, .call = 1, .pos = 0, .of = 10, MORE);
	stream_flush(f->stream, UINT64_MAX);
	EXPECT("1 in 'a' len=10 cut\n1 in 'b' len=10 cut\n1 in 'c' len=10 cut\n");
	FEED("e", .tid = 2, .call = 5, .pos = 40, .of = 10, MORE);
	FEED("d", .tid = 1, .call = 4, .pos = 30, .of = 10, MORE);
	FEED("E", .tid = 2, .call = 5, .pos = 40, .of = 10, .off = 1);
	EXPECT("1 in 'd' len=10 cut\n1 in 'eE' len=10 cut\n");
}

static void a_hole_ends_the_prefix(void **state)
{
	struct fixture *f = *state;

	FEED("ab", .call = 1, .of = 8, MORE);
	FEED("ef", .call = 1, .of = 8, .off = 4, MORE);
	FEED("cd", .call = 1, .of = 8, .off = 2, MORE);
	FEED("gh", .call = 1, .of = 8, .off = 6);
	EXPECT("1 in 'ab' len=8 cut\n");
	FEED("late", .call = 2, .pos = 8, .of = 8, .off = 4);
	EXPECT("1 in '' len=8 cut\n");
	FEED("wh", .call = 3, .pos = 16, .of = 4, MORE);
	FEED("le", .call = 3, .pos = 16, .of = 4, .off = 2);
	EXPECT("1 in 'whle' len=4\n");
}

static void what_is_missing_is_a_gap(void **state)
{
	struct fixture *f = *state;

	FEED("a", .call = 1);
	FEED("b", .call = 2, .pos = 11);
	EXPECT("1 in 'a' len=1\n1 in 'b' len=1 gap=10\n");
	FEED("c", .call = 3, .pos = 12);
	FEED("first seen", .call = 4, .conn = 1, .pos = 7);
	EXPECT("1 in 'c' len=1\n2 in 'first seen' len=10 gap=7\n");
	/* A position that went back is no gap, and the next is counted from there. */
	FEED("d", .call = 5);
	FEED("e", .call = 6, .pos = 1);
	FEED("f", .call = 7, .pos = 5);
	EXPECT("1 in 'd' len=1\n1 in 'e' len=1\n1 in 'f' len=1 gap=3\n");
	/* The directions have their own positions. */
	FEED("g", .call = 8, .dir = TS_OUT);
	EXPECT("1 out 'g' len=1\n");
}

static void a_peek_has_no_position(void **state)
{
	struct fixture *f = *state;

	FEED("peek", .call = 1, .pos = 99, .flags = TS_DATA_PEEK);
	FEED("peek", .call = 2);
	FEED("peek", .call = 3, .flags = TS_DATA_PEEK);
	FEED("more", .call = 4, .pos = 4);
	EXPECT("1 in 'peek' len=4\n1 in 'peek' len=4\n1 in 'peek' len=4\n1 in 'more' len=4\n");
	feed_close(f, 10, 0);
	EXPECT("1 closed 8 0\n");
}

static void bytes_of_another_layer_have_no_position(void **state)
{
	struct fixture *f = *state;

	FEED("alert", .call = 1, .pos = 99, .flags = TS_DATA_CONTROL | TS_DATA_KTLS);
	FEED("data", .call = 2, .flags = TS_DATA_KTLS);
	FEED("data", .call = 3, .pos = 4, .flags = TS_DATA_BELOW | TS_DATA_KTLS);
	FEED("more", .call = 4, .pos = 4);
	EXPECT("1 in 'alert' len=5\n1 in 'data' len=4\n1 in 'data' len=4\n1 in 'more' len=4\n");
	feed_close(f, 10, 0);
	EXPECT("1 closed 8 0\n");
}

static void feed_info(struct fixture *f, unsigned int opened, unsigned int port,
		      unsigned int version)
{
	struct ts_conn_info i = {
		.record = {sizeof(i), TS_REC_CONN, 0},
		.pid = 10,
		.conn = 0x1000,
		.conn_opened = 1 + opened,
		.rport = (__u16)port,
		.version = (__u16)version,
	};

	assert_int_equal(stream_feed(f->stream, &i.record), 0);
}

static void a_socket_tells_of_its_connection(void **state)
{
	struct fixture *f = *state;

	feed_info(f, 0, 443, 0x0304);
	FEED("one", .call = 1);
	assert_int_equal(f->conn->info.rport, 443);
	feed_info(f, 0, 444, 0);
	FEED("two", .call = 2, .pos = 3);
	assert_int_equal(f->conn->info.rport, 444);
	assert_int_equal(f->conn->info.version, 0x0304);
	/* The address serves another connection, of which nothing is known. */
	FEED("new", .call = 3, .opened = 7);
	assert_int_equal(f->conn->info.rport, 0);
	feed_info(f, 9, 445, 0);
	FEED("last", .call = 4, .opened = 9);
	assert_int_equal(f->conn->info.rport, 445);
	assert_int_equal(f->conn->info.version, 0);
	EXPECT("1 in 'one' len=3\n1 in 'two' len=3\n1 closed 6 0\n2 in 'new' len=3\n"
	       "2 closed 3 0\n3 in 'last' len=4\n");
}

static void lengths_without_bytes(void **state)
{
	struct fixture *f = *state;

	FEED("", .call = 1, .of = 1000, .flags = TS_DATA_NODATA, .dir = TS_OUT);
	FEED("got", .call = 2, .pos = 1000, .of = 10, .flags = TS_DATA_FAULT, .dir = TS_OUT);
	FEED("", .call = 3, .pos = 1010, .dir = TS_OUT);
	EXPECT("1 out '' len=1000 cut\n1 out 'got' len=10 cut\n1 out '' len=0\n");
	assert_int_equal(f->head.call, 3);
}

static void a_close_ends_what_is_unfinished(void **state)
{
	struct fixture *f = *state;

	FEED("x", .call = 1, .conn = 1);
	FEED("half", .tid = 2, .call = 2, .conn = 1, .pos = 1, .of = 8, MORE);
	FEED("half", .tid = 3, .call = 3, .conn = 1, .of = 8, .dir = TS_OUT, MORE);
	FEED("stay", .tid = 4, .call = 4, .conn = 2, .of = 8, MORE);
	f->said.len = 0;
	feed_close(f, 10, 1);
	EXPECT("1 in 'half' len=8 cut\n1 out 'half' len=8 cut\n1 closed 9 8\n");
	feed_close(f, 10, 1);
	feed_close(f, 11, 2);
	EXPECT("");
	assert_int_equal(stream_conn_count(f->stream), 1);
	/* Finishing the first of these finishes the second before it. */
	FEED("b", .tid = 5, .call = 5, .conn = 3, .pos = 1, .of = 9, MORE);
	FEED("a", .tid = 6, .call = 6, .conn = 3, .pos = 0, .of = 1, MORE);
	FEED("c", .tid = 7, .call = 7, .conn = 3, .of = 9, .dir = TS_OUT, MORE);
	feed_close(f, 10, 3);
	EXPECT("3 in 'a' len=1\n3 in 'b' len=9 cut\n3 out 'c' len=9 cut\n3 closed 10 9\n");
}

static void an_address_serves_again(void **state)
{
	struct fixture *f = *state;

	FEED("old", .call = 1, .of = 9, MORE);
	FEED("new", .tid = 2, .call = 2, .opened = 5);
	EXPECT("1 in 'old' len=9 cut\n1 closed 9 0\n2 in 'new' len=3\n");
	/* The same address in another process is another connection. */
	FEED("p", .call = 3, .pid = 11);
	EXPECT("3 in 'p' len=1\n");
	assert_int_equal(stream_conn_count(f->stream), 2);
}

static void feed_closed_by_go(struct fixture *f, unsigned int conn, uint64_t nsecs)
{
	struct ts_data d = {.record = {sizeof(d), TS_REC_CLOSE, 0},
			    .pid = 10,
			    .conn = 0x1000 + 16 * conn,
			    .nsecs = nsecs,
			    .how = TS_HOW_CLOSED,
			    .flags = TS_DATA_REST};

	assert_int_equal(stream_feed(f->stream, &d.record), 0);
}

static void what_is_read_after_a_close_is_its_connections(void **state)
{
	struct fixture *f = *state;

	FEED("one", .call = 1, .nsecs = 1000);
	feed_closed_by_go(f, 0, 2000);
	feed_closed_by_go(f, 0, 2500);
	FEED("two", .call = 2, .pos = 3, .nsecs = 3000);
	EXPECT("1 in 'one' len=3\n1 in 'two' len=3\n");
	/* Another one is at its address. */
	FEED("new", .call = 3, .opened = 5, .nsecs = 4000);
	EXPECT("1 closed 6 0\n2 in 'new' len=3\n");
	assert_int_equal(f->closed, 2000);
	/* For a while, which others' records tell. */
	feed_closed_by_go(f, 0, 5000);
	FEED("other", .call = 4, .conn = 1, .nsecs = 5000 + 99999999);
	EXPECT("3 in 'other' len=5\n");
	FEED("s", .call = 5, .conn = 1, .pos = 5, .nsecs = 5000 + 100000000);
	EXPECT("2 closed 3 0\n3 in 's' len=1\n");
	/* Or the clock; and its process' end is none of how it ended. */
	feed_closed_by_go(f, 1, 200000000);
	stream_flush(f->stream, 200000001);
	EXPECT("");
	feed_exit(f, 10);
	EXPECT("3 closed 6 0\n");
	assert_int_equal(f->closed, 200000000);
	assert_int_equal(f->how, TS_HOW_CLOSED);
}

static void an_exit_closes_the_processs_connections(void **state)
{
	struct fixture *f = *state;

	FEED("a", .pid = 1, .conn = 1, .call = 1);
	FEED("b", .pid = 1, .conn = 2, .call = 2);
	FEED("c", .pid = 1, .conn = 3, .call = 3);
	FEED("d", .pid = 2, .conn = 1, .call = 4);
	FEED("e", .pid = 1, .conn = 2, .call = 5, .pos = 1, .of = 7, MORE);
	feed_close(f, 1, 2); /* from the middle of the process's list */
	f->said.len = 0;
	feed_exit(f, 1);
	EXPECT("3 closed 1 0\n1 closed 1 0\n");
	feed_exit(f, 1);
	feed_exit(f, 77);
	EXPECT("");
	assert_int_equal(stream_conn_count(f->stream), 1);
	FEED("again", .pid = 1, .conn = 1, .call = 6);
	EXPECT("5 in 'again' len=5\n");
}

/* It may be told when the new program has begun connections of its own. */
static void an_exec_closes_what_began_before(void **state)
{
	struct fixture *f = *state;

	FEED("a", .pid = 1, .conn = 1, .call = 1, .opened = 1);
	FEED("b", .pid = 1, .conn = 2, .call = 2, .opened = 4);
	FEED("c", .pid = 1, .conn = 3, .call = 3, .opened = 5);
	FEED("d", .pid = 2, .conn = 1, .call = 4, .opened = 1);
	f->said.len = 0;
	feed_life(f, TS_REC_EXEC, 1);
	EXPECT("2 closed 1 0\n1 closed 1 0\n");
	assert_int_equal(f->how, TS_HOW_EXITED);
	assert_int_equal(f->closed, 5);
	feed_life(f, TS_REC_EXEC, 1);
	feed_life(f, TS_REC_EXEC, 77);
	EXPECT("");
	FEED("c", .pid = 1, .conn = 3, .call = 5, .pos = 1, .opened = 5);
	EXPECT("3 in 'c' len=1\n");
	feed_life(f, TS_REC_EXEC, 2); /* its only one */
	EXPECT("4 closed 1 0\n");
	assert_int_equal(stream_conn_count(f->stream), 1);
}

static void a_flush_takes_what_is_old(void **state)
{
	const uint64_t second = 1000000000;
	struct fixture *f = *state;

	FEED("old", .tid = 1, .conn = 1, .call = 1, .of = 9, .nsecs = 5 * second, MORE);
	FEED("new", .tid = 2, .conn = 2, .call = 2, .of = 9, .nsecs = 6 * second, MORE);
	stream_flush(f->stream, 6 * second - 1);
	EXPECT("");
	stream_flush(f->stream, 6 * second);
	EXPECT("1 in 'old' len=9 cut\n");
	FEED(" on", .tid = 2, .conn = 2, .call = 2, .of = 9, .off = 3, .nsecs = 6 * second);
	EXPECT("2 in 'new on' len=9 cut\n");
	FEED("end", .call = 3, .of = 9, .nsecs = UINT64_MAX - 1, MORE);
	stream_flush(f->stream, UINT64_MAX);
	EXPECT("3 in 'end' len=9 cut\n");
}

static void the_end_hands_over_everything(void **state)
{
	struct fixture *f = *state;
	static const struct stream_ops ops = {on_message, on_closed};

	FEED("x", .conn = 1, .call = 1, .of = 9, MORE);
	FEED("y", .conn = 2, .call = 2, .of = 9, .tid = 2, MORE);
	stream_close(f->stream);
	EXPECT("1 in 'x' len=9 cut\n2 in 'y' len=9 cut\n1 closed 9 0\n2 closed 9 0\n");
	stream_close(NULL);
	assert_int_equal(stream_open(&f->stream, &ops, f), 0);
}

static void what_is_not_valid_is_refused_and_counted(void **state)
{
	struct fixture *f = *state;
	struct ts_data d = {.record = {sizeof(d), TS_REC_DATA, 0}, .source = 1};
	struct rec_tick tick = {.record = {sizeof(tick), TS_REC_TICK, 0}};

	d.dir = 2;
	assert_int_equal(stream_feed(f->stream, &d.record), -EBADMSG);
	d.dir = TS_IN;
	d.source = 99; /* of which nothing was told */
	assert_int_equal(stream_feed(f->stream, &d.record), -EBADMSG);
	assert_int_equal(stream_invalid(f->stream), 2);
	assert_int_equal(stream_feed(f->stream, &tick.record), 0);
	EXPECT("");
	assert_int_equal(stream_conn_count(f->stream), 0);
}

static void sources_are_known_by_their_number(void **state)
{
	struct fixture *f = *state;
	const struct stream_source *s;

	assert_int_equal(feed_source(f, 70000, "SSL_write_ex"), 0);
	s = stream_source(f->stream, 70000);
	assert_string_equal(s->kind, "openssl");
	assert_string_equal(s->func, "SSL_write_ex");
	assert_string_equal(s->path, "/usr/lib/libssl.so.3");
	assert_int_equal(s->probe, TS_P_SSL_WRITE);
	assert_int_equal(feed_source(f, 70000, "other"), 0);
	assert_ptr_equal(stream_source(f->stream, 70000), s);
	assert_string_equal(s->func, "SSL_write_ex");
	assert_null(stream_source(f->stream, 2));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_end_is_not_that_of_later_connections),
		TEST(one_record_is_one_message),
		TEST(pieces_are_joined),
		TEST(a_megabyte_arrives_whole),
		TEST(calls_of_threads_interleave),
		TEST(a_threads_next_call_ends_the_unfinished_one),
		TEST(pieces_that_contradict_are_not_joined),
		TEST(a_later_message_waits_for_none_and_passes_none),
		TEST(unfinished_calls_keep_their_order),
		TEST(a_hole_ends_the_prefix),
		TEST(what_is_missing_is_a_gap),
		TEST(a_peek_has_no_position),
		TEST(bytes_of_another_layer_have_no_position),
		TEST(a_socket_tells_of_its_connection),
		TEST(lengths_without_bytes),
		TEST(a_close_ends_what_is_unfinished),
		TEST(an_address_serves_again),
		TEST(what_is_read_after_a_close_is_its_connections),
		TEST(an_exit_closes_the_processs_connections),
		TEST(an_exec_closes_what_began_before),
		TEST(a_flush_takes_what_is_old),
		TEST(the_end_hands_over_everything),
		TEST(what_is_not_valid_is_refused_and_counted),
		TEST(sources_are_known_by_their_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
