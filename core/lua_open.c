/* SPDX-License-Identifier: MIT */
/*
 * What a handshake's record says, in words. The numbers are those of the registries of TLS, and of
 * OpenSSL since 1.1.1, which give them to nothing else.
 */
#include <stdio.h>

#include "hello.h"
#include "lua_host.h"

struct name {
	unsigned int number;
	const char *text;
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
	snprintf(text, sizeof(text), format, number);
	lua_pushstring(L, text);
}
#define PUSH(L, table, number, format) push_name(L, table, TS_ARRAY_SIZE(table), number, format)

void host_push_version(lua_State *L, unsigned int version)
{
	lua_pushstring(L, hello_version_name(version)); /* NULL: nil */
}

void host_push_cipher(lua_State *L, unsigned int cipher)
{
	const char *name = hello_cipher_name(cipher);
	char text[16];

	snprintf(text, sizeof(text), "0x%04x", cipher);
	lua_pushstring(L, name ? name : cipher ? text : NULL);
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
