/* SPDX-License-Identifier: MIT */
/* TLS in memory and over loopback TCP. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define LARGEST 16384
#define ROOM (4 * LARGEST) /* bytes in flight in memory */
#define BATCHES 1000	   /* of `rate`, a second */

static SSL_CTX *client_ctx, *server_ctx;

void tls_open(const char *cert, const char *key)
{
	client_ctx = SSL_CTX_new(TLS_client_method());
	server_ctx = SSL_CTX_new(TLS_server_method());
	if (!client_ctx || !server_ctx ||
	    SSL_CTX_use_certificate_file(server_ctx, cert, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_use_PrivateKey_file(server_ctx, key, SSL_FILETYPE_PEM) != 1)
		load_die("certificate");
	SSL_CTX_set_num_tickets(server_ctx, 0);
}

struct pair tls_pair(void)
{
	struct pair p = {SSL_new(client_ctx), SSL_new(server_ctx)};
	BIO *a, *b;
	int i;

	if (!p.client || !p.server || !BIO_new_bio_pair(&a, ROOM, &b, ROOM))
		load_die("SSL_new");
	SSL_set_bio(p.client, a, a);
	SSL_set_bio(p.server, b, b);
	SSL_set_connect_state(p.client);
	SSL_set_accept_state(p.server);
	for (i = 0; i < 10; i++) {
		SSL_do_handshake(p.client);
		SSL_do_handshake(p.server);
	}
	if (!SSL_is_init_finished(p.client) || !SSL_is_init_finished(p.server))
		load_die("handshake");
	return p;
}

static int put(SSL *ssl, const void *buf, int size)
{
	int ret;

	bench_enter(ssl, buf, size);
	ret = SSL_write(ssl, buf, size);
	bench_leave(ssl, buf, ret);
	if (ret != size)
		load_die("SSL_write");
	return ret;
}

static int get(SSL *ssl, void *buf, int size)
{
	int ret;

	bench_enter(ssl, buf, size);
	ret = SSL_read(ssl, buf, size);
	bench_leave(ssl, buf, ret);
	if (ret <= 0)
		load_die("SSL_read");
	return ret;
}

static void round_trip(const struct pair *p, char *out, char *in, int size)
{
	put(p->client, out, size);
	get(p->server, in, size);
	put(p->server, out, size);
	get(p->client, in, size);
}

unsigned long tls_pingpong(void *arg, uint64_t until)
{
	static char out[LARGEST], in[LARGEST];
	const struct pingpong *p = arg;
	unsigned long n = 0;
	int i;

	memset(out, 'x', sizeof(out));
	while (load_now(CLOCK_MONOTONIC) < until)
		for (i = 0; i < 16; i++, n++)
			round_trip(&p->pair, out, in, p->size);
	return n;
}

unsigned long tls_http(void *arg, uint64_t until)
{
	static const char response[] =
		"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\n"
		"Content-Length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz";
	const struct pair *p = arg;
	char request[256], in[1024];
	unsigned long n = 0;
	int len;

	for (; load_now(CLOCK_MONOTONIC) < until; n++) {
		len = snprintf(request, sizeof(request),
			       "GET /item/%lu?page=2 HTTP/1.1\r\nHost: www.example.org\r\n"
			       "User-Agent: bench\r\nAccept: */*\r\n\r\n",
			       n);
		put(p->client, request, len);
		get(p->server, in, sizeof(in));
		put(p->server, response, sizeof(response) - 1);
		get(p->client, in, sizeof(in));
	}
	return n;
}

struct worker {
	pthread_t thread;
	struct pair pair;
	int size;
	unsigned long per_batch, done;
	uint64_t until;
};

static void sleep_until(uint64_t ns)
{
	struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* A batch each millisecond; when it is late, the next ones at once. */
static void *work(void *arg)
{
	static char out[LARGEST];
	char in[LARGEST];
	struct worker *w = arg;
	uint64_t next = load_now(CLOCK_MONOTONIC);
	unsigned long i;

	while (load_now(CLOCK_MONOTONIC) < w->until) {
		for (i = 0; i < w->per_batch; i += 4)
			round_trip(&w->pair, out, in, w->size);
		w->done += i;
		next += 1000000000 / BATCHES;
		if (next > load_now(CLOCK_MONOTONIC))
			sleep_until(next);
	}
	return NULL;
}

unsigned long tls_rate(int size, unsigned long rate, int threads, uint64_t until)
{
	static struct worker workers[16];
	unsigned long sum = 0;
	int i;

	if (threads < 1 || threads > 16)
		load_die("threads");
	for (i = 0; i < threads; i++) {
		if (!workers[i].pair.client)
			workers[i].pair = tls_pair();
		workers[i].size = size;
		workers[i].until = until;
		workers[i].done = 0;
		workers[i].per_batch = rate / BATCHES / (unsigned long)threads;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			load_die("pthread_create");
	}
	for (i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		sum += workers[i].done;
	}
	return sum;
}

void tls_slow(unsigned long gap, unsigned long count)
{
	static struct pair p;
	char text[64];
	unsigned int seed = 1;
	unsigned long i;

	if (!p.client)
		p = tls_pair();
	for (i = 0; i < count; i++) {
		sleep_until(load_now(CLOCK_MONOTONIC) + gap / 2 +
			    (unsigned long)rand_r(&seed) % (gap + 1));
		put(p.client, "a line of text", 14);
		get(p.server, text, sizeof(text));
	}
}

static _Noreturn void serve(int listener)
{
	static char buf[LARGEST];
	SSL *ssl = SSL_new(server_ctx);
	int fd, ret, one = 1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = accept(listener, NULL, NULL);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (fd < 0 || !ssl || SSL_set_fd(ssl, fd) != 1 || SSL_accept(ssl) != 1)
		load_die("accept");
	while ((ret = SSL_read(ssl, buf, sizeof(buf))) > 0)
		SSL_write(ssl, buf, ret);
	_exit(0);
}

int tls_connect(SSL **client)
{
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0),
	    one = 1;
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof(at);
	pid_t pid;

	if (bind(listener, (void *)&at, size) || listen(listener, 1) ||
	    getsockname(listener, (void *)&at, &size))
		load_die("listen");
	pid = fork();
	if (!pid)
		serve(listener);
	close(listener);
	*client = SSL_new(client_ctx);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (pid < 0 || connect(fd, (void *)&at, size) || !*client || SSL_set_fd(*client, fd) != 1 ||
	    SSL_connect(*client) != 1)
		load_die("connect");
	return pid;
}

unsigned long tls_echo(SSL *client, int size, uint64_t until)
{
	static char buf[LARGEST];
	unsigned long n = 0;
	int at;

	for (; load_now(CLOCK_MONOTONIC) < until; n++) {
		put(client, buf, size);
		for (at = 0; at < size;)
			at += get(client, buf, size - at);
	}
	return n;
}
