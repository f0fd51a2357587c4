/* SPDX-License-Identifier: MIT */
/*
 * Writes and reads TLS within one process, in memory, as fast as it can: a round is one SSL_write
 * and the SSL_reads that take it. Waits for a line on stdin after the handshake. Ends after ROUNDS
 * (0: at SIGTERM) and prints "writes CALLS BYTES" and "reads CALLS BYTES"; ends with 1 when a byte
 * is not what was sent. With `split`, another thread gives back a part of the huge page that both
 * buffers are in, and has it made huge again, all the time: the kernel takes the pages away and
 * puts them back. How often is printed too.
 *
 * usage: flood CERT KEY ROUNDS SIZE [split]
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif
#define HUGE_PAGE (2UL << 20)
#define GIVEN_BACK (256UL << 10)

static char *page;
static unsigned long splits;
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

static void *split(void *nothing)
{
	while (!ended) {
		page[HUGE_PAGE - 1] = 1;
		if (!madvise(page, HUGE_PAGE, MADV_COLLAPSE) &&
		    !madvise(page + HUGE_PAGE - GIVEN_BACK, GIVEN_BACK, MADV_FREE))
			splits++;
	}
	return nothing;
}

static void use_huge_page(char **out, char **in, int size)
{
	char *all = mmap(NULL, 2 * HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);

	if (all == MAP_FAILED || (size_t)size > (HUGE_PAGE - GIVEN_BACK) / 2)
		die("huge page");
	page = (char *)(((size_t)all + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
	*out = page;
	*in = page + (HUGE_PAGE - GIVEN_BACK) / 2;
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
	pthread_t splitter;
	int size, at, ret;

	if (argc != 5 && argc != 6)
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
	if (argc == 6)
		use_huge_page(&out, &in, size);
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
	if (page && pthread_create(&splitter, NULL, split, NULL))
		die("thread");
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
	ended = 1;
	if (page)
		pthread_join(splitter, NULL);
	printf("writes %lu %lu\nreads %lu %lu\n", round, round * (unsigned long)size, calls, bytes);
	if (page)
		printf("splits %lu\n", splits);
	SSL_free(c);
	SSL_free(s);
	return 0;
}
