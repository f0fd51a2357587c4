/* SPDX-License-Identifier: MIT */
/*
 * What a handshake's record says, in words. The numbers are those of the registries of TLS, and of
 * OpenSSL since 1.1.1, where they mean nothing else.
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

/* openssl/x509_vfy.h; 24 is left out, which meant "invalid CA certificate" before 3.0. */
static const struct name verdicts[] = {
	{2, "unable to get issuer certificate"},
	{7, "certificate signature failure"},
	{9, "certificate is not yet valid"},
	{10, "certificate has expired"},
	{18, "self-signed certificate"},
	{19, "self-signed certificate in certificate chain"},
	{20, "unable to get local issuer certificate"},
	{21, "unable to verify the first certificate"},
	{23, "certificate revoked"},
	{25, "path length constraint exceeded"},
	{26, "unsuitable certificate purpose"},
	{27, "certificate not trusted"},
	{62, "hostname mismatch"},
	{63, "email address mismatch"},
	{64, "IP address mismatch"},
	{66, "EE certificate key too weak"},
	{67, "CA certificate key too weak"},
	{68, "CA signature digest algorithm too weak"},
	{79, "invalid CA certificate"},
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
	const char *text = host_reason_text(o->reason);

	if (o->reason >= REASON_ALERT && o->reason <= REASON_ALERT + 255) {
		lua_pushliteral(L, "alert received: ");
		PUSH(L, alerts, o->reason - REASON_ALERT, "%u");
		lua_concat(L, 2);
		return;
	}
	if (text)
		lua_pushstring(L, text);
	else
		lua_pushfstring(L, "OpenSSL's error %I", (LUAI_UACINT)o->reason);
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
