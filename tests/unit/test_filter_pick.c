/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "filter.h"

static bool passes(const struct ts_pick *p, const char *text)
{
	struct ts_data call = {.len = strlen(text)};

	return ts_pick_passes(p, &call, (const unsigned char *)text, strlen(text));
}

static void lengths(void **state)
{
	struct ts_pick p = {0};

	(void)state;
	assert_true(ts_pick_is_any(&p));
	assert_true(passes(&p, ""));
	p.min_len = 2;
	assert_false(ts_pick_is_any(&p));
	assert_false(passes(&p, "x"));
	assert_true(passes(&p, "xx"));
	p.max_len = 3;
	assert_true(passes(&p, "xxx"));
	assert_false(passes(&p, "xxxx"));
}

static void prefixes(void **state)
{
	struct ts_pick p = {0};
	struct ts_data call = {.len = 5};

	(void)state;
	assert_int_equal(ts_pick_prefix(&p, "", 0), -EINVAL);
	assert_int_equal(ts_pick_prefix(&p, "12345678901234567", 17), -EINVAL);
	assert_int_equal(ts_pick_prefix(&p, "GET ", 4), 0);
	assert_int_equal(ts_pick_prefix(&p, "P\0", 2), 0);
	assert_false(ts_pick_is_any(&p));
	assert_true(passes(&p, "GET /"));
	assert_false(passes(&p, "GET"));
	assert_false(passes(&p, "get /"));
	assert_false(passes(&p, "P"));
	call.len = 2;
	assert_true(ts_pick_passes(&p, &call, (const unsigned char *)"P\0", 2));
	/* What was not recorded may be anything, but not more than there was. */
	call.len = 4;
	assert_true(ts_pick_passes(&p, &call, NULL, 0));
	assert_true(ts_pick_passes(&p, &call, (const unsigned char *)"GE", 2));
	assert_false(ts_pick_passes(&p, &call, (const unsigned char *)"GX", 2));
	call.len = 1;
	assert_false(ts_pick_passes(&p, &call, NULL, 0));
	assert_int_equal(ts_pick_prefix(&p, "1234567890123456", 16), 0);
	assert_int_equal(ts_pick_prefix(&p, "x", 1), 0);
	assert_int_equal(ts_pick_prefix(&p, "y", 1), -E2BIG);
	assert_true(passes(&p, "1234567890123456789"));
	assert_false(passes(&p, "123456789012345X789"));
}

static void first_calls(void **state)
{
	struct ts_pick p = {.first = 2};
	struct ts_data call = {.len = 1};

	(void)state;
	for (call.nth = 0; call.nth < 5; call.nth++)
		assert_int_equal(ts_pick_passes(&p, &call, NULL, 0), call.nth <= 2);
}

/* Calls of one thread follow each other in nearly even steps: all the same no pattern shows. */
static void samples(void **state)
{
	static const uint64_t steps[] = {1, 1000, 1 << 20, 999999937};
	struct ts_pick p = {.sample = 10};
	struct ts_data call = {.len = 1};
	unsigned int i, k, found;

	(void)state;
	for (k = 0; k < TS_ARRAY_SIZE(steps); k++) {
		for (i = found = 0; i < 10000; i++) {
			call.call = (1234567890 + i * steps[k]) << 22 | 4711;
			found += ts_pick_passes(&p, &call, NULL, 0);
		}
		assert_in_range(found, 900, 1100);
	}
	p.sample = 1;
	assert_true(ts_pick_passes(&p, &call, NULL, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lengths),
		cmocka_unit_test(prefixes),
		cmocka_unit_test(first_calls),
		cmocka_unit_test(samples),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
