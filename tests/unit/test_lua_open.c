/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>

#include "lua_host.h"

#define ERR_LIB_SSL 20ul

/* The library that is here knows best; it may be older than the table, or newer. */
static void reasons_of_the_library(void **state)
{
	void *lib = dlopen("libssl.so.3", RTLD_NOW);
	const char *(*text_of)(unsigned long), *theirs, *ours;
	int (*init)(uint64_t, const void *);
	unsigned int n, same = 0;

	(void)state;
	if (!lib)
		skip();
	*(void **)&init = dlsym(lib, "OPENSSL_init_ssl");
	*(void **)&text_of = dlsym(lib, "ERR_reason_error_string");
	assert_true(init && text_of && init(0x00200000, NULL)); /* LOAD_SSL_STRINGS */
	for (n = 1; n < 1000; n++) {
		theirs = text_of(ERR_LIB_SSL << 23 | n);
		ours = host_reason_text(n);
		if (!theirs || !ours)
			continue;
		assert_string_equal(ours, theirs);
		same++;
	}
	assert_in_range(same, 280, 1000);
	dlclose(lib);
}

static void numbers_without_a_reason(void **state)
{
	static const unsigned int none[] = {0, 1, 99, 138, 442, 444, 1000, 65536 + 100, UINT32_MAX};
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(none); i++)
		assert_null(host_reason_text(none[i]));
	assert_string_equal(host_reason_text(100), "app data in handshake");
	assert_string_equal(host_reason_text(999), "invalid session id");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reasons_of_the_library),
		cmocka_unit_test(numbers_without_a_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
