/* SPDX-License-Identifier: MIT */
/* What doctor takes a file for: made-up programs and libraries, with symbols and constants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "arch.h"
#include "doctor_private.h"
#include "make_elf.h"

static struct doctor_files files;

static int open_files(void **state)
{
	(void)state;
	return doctor_files_open(&files, NULL);
}

static int close_files(void **state)
{
	(void)state;
	doctor_files_close(&files);
	return 0;
}

/* A file of this name that defines the symbol (NULL: none) and has the text among its constants. */
static struct doctor_file *look_at(const char *path, const char *name, const char *text, bool deep)
{
	static const uint8_t code[] = {0x90, 0x90, 0xc3};
	struct elf_symbol symbols[] = {
		{name, ELF_CODE_ADDR, 2, STT_FUNC, 1, false},
		{"SSL_CTX_free", ELF_CODE_ADDR + 2, 1, STT_FUNC, 1, false},
	};
	struct code_buf buf = {.len = 0};
	struct elf_layout layout = {.machine = arch_host()->machine, .code = &buf};
	static uint8_t bytes[ELF_MAX];
	struct doctor_file *f;
	int fd;

	code_add(&buf, code, sizeof(code));
	code_add(&buf, text, strlen(text) + 1);
	layout.symbols = symbols;
	layout.count = name ? TS_ARRAY_SIZE(symbols) : 0;
	fd = make_file(bytes, make_elf(&layout, bytes));
	assert_true(fd >= 0);
	f = doctor_look(&files, 0, fd, path, deep);
	close(fd);
	assert_non_null(f);
	return f;
}

static const struct doctor_lib *only(const struct doctor_file *f, const char *name,
				     const char *version)
{
	assert_int_equal(f->libs_count, 1);
	assert_string_equal(f->libs[0].name, name);
	assert_string_equal(f->libs[0].version, version);
	assert_true(f->libs[0].captured || f->libs[0].reason[0]);
	return &f->libs[0];
}

static void test_hooked(void **state)
{
	const struct doctor_lib *lib;

	(void)state;
	lib = only(look_at("/lib/libssl.so.3", "SSL_write", "", false), "openssl", "");
	assert_true(lib->captured);
	assert_int_equal(lib->funcs_count, 1);
	assert_string_equal(lib->funcs[0].name, "SSL_write");
	assert_string_equal(lib->funcs[0].serves, "ssl_write");
	assert_string_equal(lib->funcs[0].how, "dynsym");
	assert_int_equal(lib->funcs[0].sites, 2);
	assert_true(doctor_is_shared(lib, "/lib/libssl.so.3"));
	assert_false(doctor_is_shared(lib, "/usr/bin/node"));
	lib = only(look_at("/bin/n", "SSL_write", "OpenSSL 3.0.17+quic 1 Jul 2025", true),
		   "openssl", "3.0.17+quic");
	lib = only(look_at("/bin/e", "SSL_write", "external/boringssl/src/ssl/ssl_lib.cc", true),
		   "boringssl", "");
	lib = only(look_at("/bin/l", "SSL_write", "LibreSSL 3.6.2", true), "libressl", "3.6.2");
	assert_true(lib->known->like_openssl);
}

/* Nothing but constants: only a look at all of them finds it. */
static void test_stripped(void **state)
{
	static const struct {
		const char *text, *name, *version, *word;
	} all[] = {
		{"ssl/statem/statem.c", "openssl", "", "without symbols"},
		{"../third_party/boringssl/src/ssl/ssl_lib.cc", "boringssl", "", "without symbols"},
		{"/registry/src/x/rustls-0.23.40/src/vecbuf.rs", "rustls", "0.23.40", "rustls"},
		{"The TLS connection was non-properly terminated.", "gnutls", "", "GnuTLS"},
		{"SSL - The connection indicated an EOF", "mbedtls", "", "mbedTLS"},
		{"S2N_ERR_CIPHER_NOT_SUPPORTED", "s2n", "", "s2n"},
	};
	const struct doctor_lib *lib;
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(all); i++) {
		assert_int_equal(look_at("/bin/p", NULL, all[i].text, false)->libs_count, 0);
		lib = only(look_at("/bin/p", NULL, all[i].text, true), all[i].name, all[i].version);
		assert_false(lib->captured);
		assert_non_null(strstr(lib->reason, all[i].word));
		assert_non_null(lib->remedy);
		assert_false(doctor_is_shared(lib, "/bin/p"));
	}
}

static void test_named(void **state)
{
	const struct doctor_lib *lib;

	(void)state;
	lib = only(look_at("/lib/libssl3.so", NULL, "Version: NSS 3.87.1", false), "nss", "3.87.1");
	assert_true(doctor_is_shared(lib, "/lib/libssl3.so"));
	only(look_at("/lib/libgnutls.so.30.34.3", NULL, "Enabled GnuTLS 3.7.9 logging", false),
	     "gnutls", "3.7.9");
	only(look_at("/jdk/lib/server/libjvm.so", NULL, "", false), "jsse", "");
	only(look_at("/usr/lib/erlang/bin/beam.smp", NULL, "", false), "erlang", "");
	only(look_at("/lib/libother.so", "gnutls_record_send", "", false), "gnutls", "");
	only(look_at("/lib/libother.so", "wolfSSL_write", "", false), "wolfssl", "");
}

/* What only sounds like it. */
static void test_others(void **state)
{
	static const char *const texts[] = {
		"OpenSSL 3.0.17 1 Jul 2025", /* a libcrypto's, linked in: no TLS yet */
		"OpenSSL 1.1.1 (compatible; BoringSSL)",
		"rustls-webpki-0.103.1/src/lib.rs",
		"/rustls-pki-types-1.0",
		"/rustls-",
		"LibreSSL is fine",
		"Enabled GnuTLS ",
	};
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(texts); i++)
		assert_int_equal(look_at("/bin/p", NULL, texts[i], true)->libs_count, 0);
	/* A version without a date is a word about it. */
	only(look_at("/bin/p", "SSL_write", "needs OpenSSL 1.0.2 or newer", true), "openssl", "");
}

static void test_companion(void **state)
{
	struct doctor_file *ssl = look_at("/lib/libssl.so.3", "SSL_write", "", false);
	struct doctor_file *crypto =
		look_at("/lib/libcrypto.so.3", NULL, "OpenSSL 1.1.1w  11 Sep 2023", false);
	struct doctor_file *libre = look_at("/lib/libcrypto.so.50", NULL, "LibreSSL 3.6.2", false);
	struct doctor_file *mbed =
		look_at("/lib/libmbedcrypto.so.7", NULL, "mbed TLS 2.28.3", false);

	(void)state;
	assert_int_equal(crypto->libs_count, 0);
	assert_string_equal(crypto->version, "1.1.1w");
	doctor_take_version(&ssl->libs[0], mbed);
	assert_string_equal(ssl->libs[0].version, "");
	doctor_take_version(&ssl->libs[0], libre);
	assert_string_equal(ssl->libs[0].name, "libressl");
	doctor_take_version(&ssl->libs[0], crypto);
	assert_string_equal(ssl->libs[0].version, "3.6.2");
}

static void test_unreadable(void **state)
{
	uint8_t old[64] = "\x7f"
			  "ELF\1\1\1";
	int fd = make_file(old, sizeof(old));
	struct doctor_file *f = doctor_look(&files, 0, fd, "/lib/libssl.so.1.1", true);
	const struct doctor_lib *lib = only(f, "openssl", "");

	(void)state;
	assert_true(f->is_32bit);
	assert_false(lib->captured);
	assert_non_null(strstr(lib->reason, "64-bit"));
	assert_ptr_equal(doctor_look(&files, 0, fd, "/lib/libssl.so.1.1", true), f);
	close(fd);
	fd = make_file("text", 4);
	f = doctor_look(&files, 0, fd, "/bin/text", true);
	assert_int_equal(f->libs_count, 0);
	assert_non_null(strstr(f->problem, "not an ELF file"));
	close(fd);
}

/* Each that is not like OpenSSL says why it cannot be captured, and what to do. */
static void test_table(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < doctor_known_count; i++) {
		assert_non_null(doctor_known[i].reason);
		assert_non_null(doctor_known[i].remedy);
		assert_true(strlen(doctor_known[i].reason) <
			    sizeof(((struct doctor_lib *)0)->reason));
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_hooked, open_files, close_files),
		cmocka_unit_test_setup_teardown(test_stripped, open_files, close_files),
		cmocka_unit_test_setup_teardown(test_named, open_files, close_files),
		cmocka_unit_test_setup_teardown(test_others, open_files, close_files),
		cmocka_unit_test_setup_teardown(test_companion, open_files, close_files),
		cmocka_unit_test_setup_teardown(test_unreadable, open_files, close_files),
		cmocka_unit_test(test_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
