/* SPDX-License-Identifier: MIT */
/*
 * Threads that all write and read TLS at the same time, each in memory of its own: a round is one
 * SSL_write and the one SSL_read that takes it. Waits for a line on stdin after the handshakes, and
 * prints "threads THREADS rounds ROUNDS bytes BYTES" when all are done: rounds of each thread,
 * bytes of all together. A thread's message number r is of 1 + r % SIZE bytes.
 *
 * usage: crowd CERT KEY THREADS ROUNDS SIZE
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pair {
	pthread_t thread;
	SSL *c, *s;
	unsigned long rounds, size, bytes;
};

static void die(const char *what)
{
	fprintf(stderr, "crowd: %s\n", what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

static void connect_pair(struct pair *p, SSL_CTX *client, SSL_CTX *server)
{
	BIO *a = NULL, *b = NULL;
	int i;

	p->c = SSL_new(client);
	p->s = SSL_new(server);
	if (!p->c || !p->s || !BIO_new_bio_pair(&a, 1 << 17, &b, 1 << 17))
		die("memory");
	SSL_set_bio(p->c, a, a);
	SSL_set_bio(p->s, b, b);
	SSL_set_connect_state(p->c);
	SSL_set_accept_state(p->s);
	for (i = 0; i < 10; i++) {
		SSL_do_handshake(p->c);
		SSL_do_handshake(p->s);
	}
	if (!SSL_is_init_finished(p->c) || !SSL_is_init_finished(p->s))
		die("handshake");
}

static void *run(void *arg)
{
	struct pair *p = arg;
	char *buf = calloc(1, p->size);
	unsigned long round;
	int len;

	if (!buf)
		die("memory");
	for (round = 0; round < p->rounds; round++) {
		len = (int)(1 + round % p->size);
		if (SSL_write(p->c, buf, len) != len || SSL_read(p->s, buf, len) != len)
			die("a call");
		p->bytes += (unsigned long)len;
	}
	free(buf);
	return NULL;
}

int main(int argc, char **argv)
{
	SSL_CTX *client = SSL_CTX_new(TLS_client_method()),
		*server = SSL_CTX_new(TLS_server_method());
	unsigned long threads, bytes = 0, i;
	struct pair *pairs;

	if (argc != 6)
		return 2;
	threads = strtoul(argv[3], NULL, 10);
	pairs = calloc(threads, sizeof(*pairs));
	if (!pairs || SSL_CTX_use_certificate_file(server, argv[1], SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_use_PrivateKey_file(server, argv[2], SSL_FILETYPE_PEM) != 1)
		die("certificate");
	for (i = 0; i < threads; i++) {
		connect_pair(&pairs[i], client, server);
		pairs[i].rounds = strtoul(argv[4], NULL, 10);
		pairs[i].size = strtoul(argv[5], NULL, 10);
	}
	printf("waiting\n");
	fflush(stdout);
	if (getchar() == EOF)
		return 1;
	for (i = 0; i < threads; i++)
		if (pthread_create(&pairs[i].thread, NULL, run, &pairs[i]))
			die("a thread");
	for (i = 0; i < threads; i++) {
		pthread_join(pairs[i].thread, NULL);
		bytes += pairs[i].bytes;
		SSL_free(pairs[i].c);
		SSL_free(pairs[i].s);
	}
	printf("threads %lu rounds %s bytes %lu\n", threads, argv[4], bytes);
	return 0;
}
