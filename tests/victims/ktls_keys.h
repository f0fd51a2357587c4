/* SPDX-License-Identifier: MIT */
/* Connections over loopback whose records the kernel makes. */
#ifndef KTLS_KEYS_H
#define KTLS_KEYS_H

#include "ktls_side.h"

#include <linux/tls.h>
#include <netinet/tcp.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

enum { UNSUPPORTED = 77 };

static const struct cipher ciphers[] = {
	{"AES_128_GCM", TLS_CIPHER_AES_GCM_128, sizeof(struct tls12_crypto_info_aes_gcm_128)},
	{"AES_256_GCM", TLS_CIPHER_AES_GCM_256, sizeof(struct tls12_crypto_info_aes_gcm_256)},
	{"CHACHA20_POLY1305", TLS_CIPHER_CHACHA20_POLY1305,
	 sizeof(struct tls12_crypto_info_chacha20_poly1305)},
	{NULL, 0, 0},
};

static inline void unsupported(const char *what)
{
	fprintf(stderr, "ktls: unsupported: %s: %s\n", what, strerror(errno));
	exit(UNSUPPORTED);
}

/* Both ends call a direction by its tag, of which the lowest bit makes its keys. */
static inline void set_key(const struct side *s, int way, unsigned tag)
{
	union {
		struct tls_crypto_info info;
		unsigned char bytes[64];
	} key;
	size_t i;

	for (i = 0; i < sizeof(key); i++)
		key.bytes[i] = (unsigned char)((tag & 1) * 100 + i);
	key.info.version = strcmp(s->version, "TLSv1.2") ? TLS_1_3_VERSION : TLS_1_2_VERSION;
	key.info.cipher_type = (unsigned short)s->cipher->number;
	if (setsockopt(s->fd, SOL_TLS, way, &key, s->cipher->size))
		unsupported(s->cipher->name);
}

static inline void set_keys(const struct side *s)
{
	if (setsockopt(s->fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")))
		unsupported("kTLS (TCP_ULP \"tls\")");
	set_key(s, TLS_TX, s->out.tag);
	set_key(s, TLS_RX, s->in.tag);
}

/* A loopback connection: fd[0] is the client's, fd[1] the server's. */
static inline void connected(bool v6, bool v4_in_v6, int fd[2])
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in four = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr *a = v6 ? (void *)&six : (void *)&four;
	socklen_t size = v6 ? sizeof(six) : sizeof(four);
	static const unsigned char mapped[16] = {[10] = 255, 255, 127, [15] = 1};
	int listener = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (v4_in_v6)
		memcpy(&six.sin6_addr, mapped, sizeof(mapped));
	fd[0] = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || fd[0] < 0 || bind(listener, a, size) || listen(listener, 1) ||
	    getsockname(listener, a, &size) || connect(fd[0], a, size))
		die("connect");
	fd[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd[1] < 0)
		die("accept");
	close(listener);
}

#endif
