/* SPDX-License-Identifier: MIT */
/* What a handshake's record says, in words. */
#include <stdio.h>

#include "lua_host.h"

struct name {
	unsigned int number;
	const char *text;
};

/* Numbers that the registries of TLS, and OpenSSL since 1.1.1, do not give to anything else. */
static const struct name versions[] = {
	{0x0300, "SSLv3"},   {0x0301, "TLSv1"},	 {0x0302, "TLSv1.1"},  {0x0303, "TLSv1.2"},
	{0x0304, "TLSv1.3"}, {0xfeff, "DTLSv1"}, {0xfefd, "DTLSv1.2"}, {0xfefc, "DTLSv1.3"},
};

/* IANA, TLS Cipher Suites: those that libraries still have, and the weak ones of before. */
static const struct name ciphers[] = {
	{0x0001, "TLS_RSA_WITH_NULL_MD5"},
	{0x0002, "TLS_RSA_WITH_NULL_SHA"},
	{0x0004, "TLS_RSA_WITH_RC4_128_MD5"},
	{0x0005, "TLS_RSA_WITH_RC4_128_SHA"},
	{0x000a, "TLS_RSA_WITH_3DES_EDE_CBC_SHA"},
	{0x002f, "TLS_RSA_WITH_AES_128_CBC_SHA"},
	{0x0033, "TLS_DHE_RSA_WITH_AES_128_CBC_SHA"},
	{0x0035, "TLS_RSA_WITH_AES_256_CBC_SHA"},
	{0x0039, "TLS_DHE_RSA_WITH_AES_256_CBC_SHA"},
	{0x003b, "TLS_RSA_WITH_NULL_SHA256"},
	{0x003c, "TLS_RSA_WITH_AES_128_CBC_SHA256"},
	{0x003d, "TLS_RSA_WITH_AES_256_CBC_SHA256"},
	{0x0067, "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256"},
	{0x006b, "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256"},
	{0x009c, "TLS_RSA_WITH_AES_128_GCM_SHA256"},
	{0x009d, "TLS_RSA_WITH_AES_256_GCM_SHA384"},
	{0x009e, "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"},
	{0x009f, "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384"},
	{0x00a8, "TLS_PSK_WITH_AES_128_GCM_SHA256"},
	{0x00a9, "TLS_PSK_WITH_AES_256_GCM_SHA384"},
	{0x1301, "TLS_AES_128_GCM_SHA256"},
	{0x1302, "TLS_AES_256_GCM_SHA384"},
	{0x1303, "TLS_CHACHA20_POLY1305_SHA256"},
	{0x1304, "TLS_AES_128_CCM_SHA256"},
	{0x1305, "TLS_AES_128_CCM_8_SHA256"},
	{0xc007, "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA"},
	{0xc009, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"},
	{0xc00a, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"},
	{0xc011, "TLS_ECDHE_RSA_WITH_RC4_128_SHA"},
	{0xc012, "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA"},
	{0xc013, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"},
	{0xc014, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"},
	{0xc018, "TLS_ECDH_anon_WITH_AES_128_CBC_SHA"},
	{0xc019, "TLS_ECDH_anon_WITH_AES_256_CBC_SHA"},
	{0xc023, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"},
	{0xc024, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384"},
	{0xc027, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"},
	{0xc028, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384"},
	{0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
	{0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
	{0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"},
	{0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
	{0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"},
	{0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"},
	{0xccaa, "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256"},
};

/* RFC 8446, 6; RFC 5246, 7.2 */
static const struct name alerts[] = {
	{0, "close_notify"},
	{10, "unexpected_message"},
	{20, "bad_record_mac"},
	{21, "decryption_failed"},
	{22, "record_overflow"},
	{30, "decompression_failure"},
	{40, "handshake_failure"},
	{41, "no_certificate"},
	{42, "bad_certificate"},
	{43, "unsupported_certificate"},
	{44, "certificate_revoked"},
	{45, "certificate_expired"},
	{46, "certificate_unknown"},
	{47, "illegal_parameter"},
	{48, "unknown_ca"},
	{49, "access_denied"},
	{50, "decode_error"},
	{51, "decrypt_error"},
	{70, "protocol_version"},
	{71, "insufficient_security"},
	{80, "internal_error"},
	{86, "inappropriate_fallback"},
	{90, "user_canceled"},
	{100, "no_renegotiation"},
	{109, "missing_extension"},
	{110, "unsupported_extension"},
	{112, "unrecognized_name"},
	{113, "bad_certificate_status_response"},
	{115, "unknown_psk_identity"},
	{116, "certificate_required"},
	{120, "no_application_protocol"},
};

/* openssl/sslerr.h */
#define REASON_VERIFY 134
#define REASON_ALERT 1000 /* an alert's number is added */
static const struct name reasons[] = {
	{REASON_VERIFY, "certificate verify failed"},
	{155, "https proxy request"},
	{156, "http request"},
	{158, "certificate lookup error"},
	{160, "length too short"},
	{168, "certificate hostname mismatch"},
	{181, "no certificates returned"},
	{188, "no protocols available"},
	{193, "no shared cipher"},
	{199, "peer did not return a certificate"},
	{207, "protocol is shutdown"},
	{234, "callback failed"},
	{235, "no application protocol"},
	{244, "unexpected message"},
	{246, "unknown protocol"},
	{258, "unsupported protocol"},
	{267, "wrong version number"},
	{281, "decryption failed or bad record mac"},
	{294, "unexpected eof while reading"},
	{376, "no suitable signature algorithm"},
	{396, "version too low"},
	{399, "dh key too small"},
	{415, "signature algorithms error"},
};

/* openssl/x509_vfy.h */
static const struct name verdicts[] = {
	{2, "unable to get issuer certificate"},
	{9, "certificate is not yet valid"},
	{10, "certificate has expired"},
	{18, "self-signed certificate"},
	{19, "self-signed certificate in certificate chain"},
	{20, "unable to get local issuer certificate"},
	{21, "unable to verify the first certificate"},
	{23, "certificate revoked"},
	{24, "invalid CA certificate"},
	{26, "unsuitable certificate purpose"},
	{27, "certificate not trusted"},
	{62, "hostname mismatch"},
	{63, "email address mismatch"},
	{64, "IP address mismatch"},
};

/* Its name, or the number by `format`; format NULL: or nil. */
static void push_name(lua_State *L, const struct name *names, size_t count, unsigned int number,
		      const char *format)
{
	char text[64];
	size_t i;

	for (i = 0; i < count; i++)
		if (names[i].number == number) {
			lua_pushstring(L, names[i].text);
			return;
		}
	if (format)
		snprintf(text, sizeof(text), format, number);
	lua_pushstring(L, format ? text : NULL);
}
#define PUSH(L, table, number, format) push_name(L, table, TS_ARRAY_SIZE(table), number, format)

void host_push_version(lua_State *L, unsigned int version)
{
	PUSH(L, versions, version, NULL);
}

void host_push_cipher(lua_State *L, unsigned int cipher)
{
	if (cipher)
		PUSH(L, ciphers, cipher, "0x%04x");
	else
		lua_pushnil(L);
}

static void push_library_error(lua_State *L, const struct ts_open *o)
{
	if (o->reason >= REASON_ALERT && o->reason <= REASON_ALERT + 255) {
		lua_pushliteral(L, "alert received: ");
		PUSH(L, alerts, o->reason - REASON_ALERT, "%u");
		lua_concat(L, 2);
		return;
	}
	PUSH(L, reasons, o->reason, "OpenSSL's error %u");
	if (o->reason != REASON_VERIFY || !o->verify)
		return;
	lua_pushliteral(L, ": ");
	PUSH(L, verdicts, o->verify, "X.509 error %u");
	lua_concat(L, 3);
}

void host_push_failure(lua_State *L, const struct ts_open *o)
{
	if (o->what & TS_OPEN_DONE)
		lua_pushnil(L);
	else if (o->reason)
		push_library_error(L, o);
	else if (o->result == 5) /* SSL_ERROR_SYSCALL */
		lua_pushliteral(L, "the connection broke");
	else if (o->what & TS_OPEN_GIVEN_UP)
		lua_pushliteral(L, "ended before the handshake was done");
	else
		lua_pushliteral(L, "failed");
}
