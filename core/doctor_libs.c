/* SPDX-License-Identifier: MIT */
#include <fnmatch.h>
#include <string.h>

#include "doctor_private.h"

#define OTHER_END "capture at the connection's other end, if its program can be"
#define UNNAMED "is built into this file without symbols for its functions: they cannot be found"
#define UNNAMED_REMEDY "use a build that is not stripped, or one that uses the shared libssl"

/* Those that are like OpenSSL come first, the most special ones before the general one. */
const struct doctor_known doctor_known[] = {
	{
		.name = "boringssl",
		.signs = {"ssl/ssl_lib.cc", "ssl/s3_both.cc", "ssl/tls13_both.cc"},
		.like_openssl = true,
		.reason = "BoringSSL " UNNAMED,
		.remedy = UNNAMED_REMEDY,
	},
	{
		.name = "libressl",
		.companion = "libcrypto.so*",
		.version = "LibreSSL ",
		.version_is_sign = true,
		.like_openssl = true,
		.reason = "LibreSSL " UNNAMED,
		.remedy = UNNAMED_REMEDY,
	},
	{
		.name = "openssl",
		.files = {"libssl.so*", "libssl-*.so*"},
		.companion = "libcrypto.so*",
		.signs = {"ssl/statem/statem"},
		.version = "OpenSSL ",
		.dated = true,
		.like_openssl = true,
		.reason = "OpenSSL " UNNAMED,
		.remedy = UNNAMED_REMEDY,
	},
	{
		.name = "gnutls",
		.files = {"libgnutls.so*"},
		.symbol = "gnutls_record_send",
		.signs = {"The TLS connection was non-properly terminated."},
		.version = "Enabled GnuTLS ",
		.reason = "this version has no probes for GnuTLS",
		.remedy =
			"let GnuTLS use the kernel's TLS (ktls = true in its configuration file), "
			"which is probed, or " OTHER_END,
	},
	{
		.name = "nss",
		.files = {"libssl3.so*"},
		.symbol = "SSL_ImportFD",
		.version = "Version: NSS ",
		.reason = "this version has no probes for NSS",
		.remedy = OTHER_END ", or give Wireshark the keys (SSLKEYLOGFILE)",
	},
	{
		.name = "mbedtls",
		.files = {"libmbedtls.so*"},
		.companion = "libmbedcrypto.so*",
		.symbol = "mbedtls_ssl_write",
		.signs = {"SSL - The connection indicated an EOF"},
		.version = "mbed TLS ",
		.reason = "this version has no probes for mbedTLS",
		.remedy = OTHER_END,
	},
	{
		.name = "wolfssl",
		.files = {"libwolfssl.so*"},
		.symbol = "wolfSSL_write",
		.signs = {"Peer closed underlying transport Error"},
		.version = "wolfSSL ",
		.reason = "this version has no probes for wolfSSL",
		.remedy = OTHER_END,
	},
	{
		.name = "rustls",
		.files = {"librustls.so*"},
		.symbol = "rustls_connection_write",
		.signs = {"received corrupt message of type"},
		.version = "/rustls-",
		.version_is_sign = true,
		.reason = "this version has no probes for rustls",
		.remedy = "use a build of the program with OpenSSL (native-tls), or " OTHER_END,
	},
	{
		.name = "s2n",
		.files = {"libs2n.so*"},
		.symbol = "s2n_send",
		.signs = {"S2N_ERR_CIPHER_NOT_SUPPORTED"},
		.reason = "this version has no probes for s2n",
		.remedy = OTHER_END,
	},
	{
		.name = "jsse",
		.files = {"libjvm.so"},
		.reason = "Java's own TLS (JSSE) is compiled while it runs: it is in no file that "
			  "could be probed",
		.remedy =
			"let the program use OpenSSL (Netty's tcnative, Tomcat's native library), "
			"or " OTHER_END,
	},
	{
		.name = "erlang",
		.files = {"beam.smp"},
		.reason = "Erlang's TLS is Erlang code: it is in no file that could be probed",
		.remedy = OTHER_END,
	},
};
const size_t doctor_known_count = TS_ARRAY_SIZE(doctor_known);
_Static_assert(TS_ARRAY_SIZE(doctor_known) <= DOCTOR_KNOWN_MAX, "one bit for each");

const char *doctor_base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

bool doctor_named(const struct doctor_known *k, const char *path)
{
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(k->files) && k->files[i]; i++)
		if (!fnmatch(k->files[i], doctor_base_name(path), 0))
			return true;
	return false;
}

bool doctor_is_companion(const struct doctor_known *k, const char *path)
{
	return k->companion && !fnmatch(k->companion, doctor_base_name(path), 0);
}

bool doctor_is_shared(const struct doctor_lib *lib, const char *path)
{
	size_t i;

	if (!lib->known || !lib->known->like_openssl)
		return lib->known && doctor_named(lib->known, path);
	for (i = 0; i < doctor_known_count; i++)
		if (doctor_known[i].like_openssl && doctor_named(&doctor_known[i], path))
			return true;
	return false;
}
