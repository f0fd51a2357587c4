/* SPDX-License-Identifier: MIT */
/* For LD_PRELOAD: looks at some of OpenSSL's calls as they pass, as agents do. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

#define PASS(name, params, args)                                                                   \
	int name params                                                                            \
	{                                                                                          \
		static int(*real) params;                                                          \
                                                                                                   \
		if (!real)                                                                         \
			*(void **)&real = dlsym(RTLD_NEXT, #name);                                 \
		return real args;                                                                  \
	}

PASS(SSL_read, (void *ssl, void *buf, int len), (ssl, buf, len))
PASS(SSL_read_ex, (void *ssl, void *buf, size_t len, size_t *done), (ssl, buf, len, done))
PASS(SSL_write, (void *ssl, const void *buf, int len), (ssl, buf, len))
PASS(SSL_write_ex, (void *ssl, const void *buf, size_t len, size_t *done), (ssl, buf, len, done))
PASS(SSL_do_handshake, (void *ssl), (ssl))
PASS(SSL_get_error, (const void *ssl, int ret), (ssl, ret))
