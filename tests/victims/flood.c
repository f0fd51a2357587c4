/* SPDX-License-Identifier: MIT */
/*
 * Writes and reads TLS within one process, in memory, as fast as it can: a round is one SSL_write
 * and the SSL_reads that take it. Waits for a line on stdin after the handshake. Ends after ROUNDS
 * (0: at SIGTERM) and prints "writes CALLS BYTES" and "reads CALLS BYTES"; ends with 1 when a byte
 * is not what was sent.
 *
 * usage: flood CERT KEY ROUNDS SIZE
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t ended;

static void end(int number)
{
	(void)number;
	ended = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "flood: %s\n", what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

static void handshake(SSL *c, SSL *s)
{
	int i;

	for (i = 0; i < 10; i++) {
		SSL_do_handshake(c);
		SSL_do_handshake(s);
	}
	if (!SSL_is_init_finished(c) || !SSL_is_init_finished(s))
		die("handshake");
}

int main(int argc, char **argv)
{
	unsigned long rounds, round, calls = 0, bytes = 0;
	SSL_CTX *ctx[2] = {SSL_CTX_new(TLS_client_method()), SSL_CTX_new(TLS_server_method())};
	SSL *c = SSL_new(ctx[0]), *s;
	BIO *a = NULL, *b = NULL;
	char *out, *in;
	int size, at, ret;

	if (argc != 5)
		return 2;
	signal(SIGTERM, end);
	if (SSL_CTX_use_certificate_file(ctx[1], argv[1], SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx[1], argv[2], SSL_FILETYPE_PEM) != 1)
		die("certificate");
	rounds = strtoul(argv[3], NULL, 10);
	size = atoi(argv[4]);
	s = SSL_new(ctx[1]);
	out = malloc((size_t)size + 32);
	in = malloc((size_t)size + 32);
	if (!c || !s || !out || !in || !BIO_new_bio_pair(&a, (size_t)size + 65536, &b, 65536))
		die("memory");
	SSL_set_bio(c, a, a);
	SSL_set_bio(s, b, b);
	SSL_set_connect_state(c);
	SSL_set_accept_state(s);
	handshake(c, s);
	memset(out, '.', (size_t)size);
	printf("waiting\n");
	fflush(stdout);
	if (getchar() == EOF)
		return 1;
	for (round = 0; (!rounds || round < rounds) && !ended; round++) {
		snprintf(out, (size_t)size, "round %012lu ", round);
		if (SSL_write(c, out, size) != size)
			die("write");
		for (at = 0; at < size; at += ret, calls++, bytes += (unsigned long)ret) {
			ret = SSL_read(s, in + at, size - at);
			if (ret <= 0)
				die("read");
		}
		if (memcmp(in, out, (size_t)size))
			die("not the bytes that were sent");
	}
	printf("writes %lu %lu\nreads %lu %lu\n", round, round * (unsigned long)size, calls, bytes);
	SSL_free(c);
	SSL_free(s);
	return 0;
}
