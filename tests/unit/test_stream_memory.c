/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "alloc.h"
#include "stream_run.h"

static int teardown_alloc(void **state)
{
	alloc_left = 0;
	return teardown(state);
}

/* The bytes are those in the record, and nothing is allocated once the connection is known. */
static void one_record_is_not_copied(void **state)
{
	struct fixture *f = *state;
	const unsigned char *before;
	const size_t unreachable = 1000000;

	FEED("a", .call = 1);
	before = f->data;
	ts_buf_printf(&f->said, "%1000s", ""); /* room for what we note ourselves */
	f->said.len = 0;
	alloc_left = unreachable;
	FEED("b", .call = 2, .pos = 1);
	assert_ptr_equal(f->data, before);
	assert_int_equal(alloc_left, unreachable);
}

static void a_hostile_file_cannot_fill_the_memory(void **state)
{
	struct fixture *f = *state;
	char *chunk = malloc(1 << 19);
	unsigned int i, refused = 0;
	size_t kept;

	assert_non_null(chunk);
	/* Sources with endless names. */
	memset(chunk, 'x', (1 << 19) - 1);
	chunk[(1 << 19) - 1] = 0;
	for (i = 0; i < 64; i++)
		refused += feed_source(f, 100 + i, chunk) == -EBADMSG;
	assert_int_equal(refused, 33);
	assert_int_equal(stream_invalid(f->stream), 33);
	/* One call without an end. */
	chunk[TS_CHUNK] = 0;
	for (i = 0; i < 5000; i++)
		FEED(chunk, .call = 1, .of = 1u << 31, .off = i * TS_CHUNK, MORE);
	stream_flush(f->stream, UINT64_MAX);
	assert_int_equal(f->messages, 1);
	assert_int_equal(f->bytes, 64 << 20);
	/* Many that do not end: the oldest are handed over. */
	for (i = 0; i < 3000; i++)
		FEED("x", .tid = 1000 + i, .conn = i, .call = 10 + i, .of = 9, MORE);
	assert_int_equal(f->messages, 1 + 3000 - 1024);
	/* All of them long. */
	stream_flush(f->stream, UINT64_MAX);
	f->bytes = 0;
	for (i = 0; i < 20 * 1024; i++)
		FEED(chunk, .tid = 1 + i % 20, .conn = i % 20, .call = 1 + i % 20, .pos = 9,
		     .of = 1u << 31, .off = i / 20 * TS_CHUNK, MORE);
	stream_flush(f->stream, UINT64_MAX);
	assert_int_equal(f->bytes, 256 << 20);
	kept = stream_conn_count(f->stream);
	assert_true(kept <= 3001);
	free(chunk);
}

static void the_connection_silent_for_longest_makes_room(void **state)
{
	const unsigned int most = 256 << 10;
	struct fixture *f = *state;
	unsigned int i;

	for (i = 0; i < most; i++) {
		FEED("x", .conn = i, .call = i);
		f->said.len = 0;
	}
	assert_int_equal(stream_conn_count(f->stream), most);
	assert_int_equal(stream_evicted(f->stream), 0);
	FEED("y", .conn = 0, .call = most, .pos = 1);
	FEED("z", .conn = most, .call = most + 1);
	EXPECT("1 in 'y' len=1\n2 closed 1 0\n262145 in 'z' len=1\n");
	assert_int_equal(stream_conn_count(f->stream), most);
	assert_int_equal(stream_evicted(f->stream), 1);
}

static void what_the_kernel_may_have_forgotten_is_counted(void **state)
{
	struct fixture *f = *state;
	unsigned int i;

	FEED("x", .conn = 0, .call = 1);
	FEED("x", .conn = 0, .call = 2, .opened = 1);
	assert_int_equal(stream_renewed(f->stream), 0);
	for (i = 0; i <= TS_MAX_CONNS / 2; i++) {
		FEED("x", .conn = i, .call = i + 3, .opened = 2);
		f->said.len = 0;
	}
	FEED("x", .conn = 7, .call = i + 3, .opened = 3);
	assert_int_equal(stream_renewed(f->stream), 1);
}

/* Whatever allocation fails, nothing is used after it was freed, and the rest is handed over. */
static void memory_may_end(void **state)
{
	struct fixture *f = *state;
	static const struct stream_ops ops = {on_message, on_closed};
	struct stream *none;
	size_t at;
	int ret = 1;

	alloc_left = 1;
	assert_int_equal(stream_open(&none, &ops, f), -ENOMEM);
	for (at = 1; ret; at++) {
		stream_close(f->stream);
		assert_int_equal(stream_open(&f->stream, &ops, f), 0);
		assert_int_equal(feed_source(f, 1, "SSL_write"), 0);
		ts_buf_printf(&f->said, "%1000s", "");
		f->said.len = f->messages = 0;
		alloc_left = at;
		ret = feed_piece(f, (struct piece){"one", .call = 1});
		ret |= feed_piece(f,
				  (struct piece){"late", .call = 9, .conn = 5, .of = 8, .off = 4});
		ret |= feed_piece(f, (struct piece){"two", .call = 2, .pos = 3, .of = 6, MORE});
		ret |= feed_piece(f, (struct piece){"two", .call = 2, .pos = 3, .of = 6, .off = 3});
		ret |= feed_piece(f, (struct piece){"three", .call = 3, .pid = 4});
		ret |= alloc_left == 0; /* one failed, though the message came, cut */
		alloc_left = 0;
		assert_true(f->messages >= 3);
		assert_null(memmem(f->said.data, f->said.len, "late", 4));
	}
	EXPECT("1 in 'one' len=3\n2 in '' len=8 cut\n1 in 'twotwo' len=6\n3 in 'three' len=5\n");
	assert_true(at > 6);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown_alloc)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_record_is_not_copied),
		TEST(a_hostile_file_cannot_fill_the_memory),
		TEST(the_connection_silent_for_longest_makes_room),
		TEST(what_the_kernel_may_have_forgotten_is_counted),
		TEST(memory_may_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
