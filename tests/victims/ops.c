/* SPDX-License-Identifier: MIT */
/*
 * One side of a TLS connection that makes exactly the calls it is told to, and tells on stdout what
 * each returned: "FUNCTION RETURN BYTES", where BYTES is what the call transferred.
 *
 * usage: ops server|client ADDRESS PORT CERT KEY [OPTION...] [CALL...]
 * OPTION: -0 the socket becomes fd 0   -S a small send buffer   -2 TLS 1.2 only
 *         -b a BIO of its own, which has the type of sockets' but not its descriptor
 * CALL:   w:N SSL_write   W:N SSL_write_ex   X:N SSL_write_ex2   of N bytes in one call
 *         r:N[:CAP] R:N[:CAP] SSL_read, SSL_read_ex with a buffer of CAP until N bytes came
 *         p:N P:N SSL_peek, SSL_peek_ex once, for N bytes        z zero-length write and read
 *         s:N SSL_sendfile      n make the socket non-blocking   q allow partial writes
 *         e SSL_read that expects the end     t:N write and read N bytes in two threads at once
 *         i wait for a line on stdin          d:N sleep N ms     k SSL_shutdown
 *         u take a reference and drop it
 * Byte number p of a direction is always the same: numbered lines of 64 bytes, marked by the side
 * that writes them. Readers check that.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef MAIN
#define MAIN main
#endif

#define LINE 64

struct side {
	SSL *ssl;
	int fd;
	bool server, nonblock, fd0, small, tls12, own_bio;
	size_t sent, received, goal; /* goal: bytes that the reading thread waits for */
	pthread_mutex_t lock;	     /* one SSL must not be used by two threads at once */
};

static void die(const char *what)
{
	fprintf(stderr, "ops: %s: %s\n", what, strerror(errno));
	ERR_print_errors_fp(stderr);
	exit(1);
}

static void fill(char *buf, size_t n, size_t pos, bool server)
{
	char line[LINE + 1];
	size_t i;

	for (i = 0; i < n; i++, pos++) {
		if (!i || pos % LINE == 0) {
			snprintf(line, sizeof(line), "%c%010zu:", server ? 'S' : 'C', pos / LINE);
			memset(line + 12, 'a' + pos / LINE % 26, LINE - 13);
			line[LINE - 1] = '\n';
		}
		buf[i] = line[pos % LINE];
	}
}

static void tell(const char *name, long ret, size_t bytes)
{
	printf("%s %ld %zu\n", name, ret, bytes);
	fflush(stdout);
}

/* After a call that must be repeated: waits until it makes sense. False: it failed for good. */
static bool retry(struct side *s, int ret)
{
	struct pollfd p = {.fd = s->fd};
	int error = SSL_get_error(s->ssl, ret);

	if (!s->nonblock)
		return false;
	p.events = error == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN;
	if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ)
		return false;
	pthread_mutex_unlock(&s->lock);
	poll(&p, 1, 10);
	pthread_mutex_lock(&s->lock);
	return true;
}

static int write_once(struct side *s, char how, const char *buf, size_t n, size_t *done)
{
	int (*ex2)(SSL *, const void *, size_t, uint64_t, size_t *);
	int ret;

	*done = 0;
	switch (how) {
	case 'W':
		ret = SSL_write_ex(s->ssl, buf, n, done);
		tell("SSL_write_ex", ret, *done);
		return ret;
	case 'X':
		*(void **)&ex2 = dlsym(RTLD_DEFAULT, "SSL_write_ex2");
		if (!ex2)
			die("SSL_write_ex2 is not there");
		ret = ex2(s->ssl, buf, n, 0, done);
		tell("SSL_write_ex2", ret, *done);
		return ret;
	default:
		ret = SSL_write(s->ssl, buf, (int)n);
		*done = ret > 0 ? (size_t)ret : 0;
		tell("SSL_write", ret, *done);
		return ret;
	}
}

static void do_write(struct side *s, char how, size_t n)
{
	char *buf = malloc(n + 1);
	size_t at = 0, done;
	int ret;

	if (!buf)
		die("malloc");
	fill(buf, n, s->sent, s->server);
	pthread_mutex_lock(&s->lock);
	while (at < n) {
		ret = write_once(s, how, buf + at, n - at, &done);
		if (ret <= 0 && !retry(s, ret))
			die("write");
		at += done;
		s->sent += done;
	}
	pthread_mutex_unlock(&s->lock);
	free(buf);
}

static int read_once(struct side *s, char how, char *buf, size_t cap, size_t *done)
{
	int ret;

	*done = 0;
	if (how == 'R' || how == 'P') {
		ret = how == 'R' ? SSL_read_ex(s->ssl, buf, cap, done)
				 : SSL_peek_ex(s->ssl, buf, cap, done);
	} else {
		ret = how == 'r' ? SSL_read(s->ssl, buf, (int)cap)
				 : SSL_peek(s->ssl, buf, (int)cap);
		*done = ret > 0 ? (size_t)ret : 0;
	}
	tell(how == 'R'	  ? "SSL_read_ex"
	     : how == 'P' ? "SSL_peek_ex"
	     : how == 'p' ? "SSL_peek"
			  : "SSL_read",
	     ret, *done);
	return ret;
}

static void do_read(struct side *s, char how, size_t n, size_t cap)
{
	char *buf = malloc(cap + 1), *want = malloc(cap + 1);
	bool peek = how == 'p' || how == 'P';
	size_t end = s->received + n, left, done;
	int ret;

	if (!buf || !want)
		die("malloc");
	pthread_mutex_lock(&s->lock);
	while (s->received < end) {
		left = end - s->received;
		ret = read_once(s, how, buf, left < cap ? left : cap, &done);
		if (ret <= 0 && !retry(s, ret))
			die("read");
		fill(want, done, s->received, !s->server);
		if (memcmp(buf, want, done))
			die("not the bytes expected");
		if (peek)
			break;
		s->received += done;
	}
	pthread_mutex_unlock(&s->lock);
	free(buf);
	free(want);
}

static void do_zero(struct side *s)
{
	char byte = 'x';
	size_t done;
	int ret;

	write_once(s, 'w', &byte, 0, &done);
	ret = SSL_write_ex(s->ssl, &byte, 0, &done);
	tell("SSL_write_ex", ret, 0);
	/* OpenSSL would wait for data even for a buffer of no bytes. */
	fcntl(s->fd, F_SETFL, O_NONBLOCK);
	ret = SSL_read(s->ssl, &byte, 0);
	tell("SSL_read", ret, 0);
	if (!s->nonblock)
		fcntl(s->fd, F_SETFL, 0);
}

static void *reader(void *arg)
{
	struct side *s = arg;

	do_read(s, 'r', s->goal, 3000);
	return NULL;
}

static void do_threads(struct side *s, size_t n)
{
	pthread_t thread;
	size_t at;

	s->goal = n;
	s->nonblock = true;
	fcntl(s->fd, F_SETFL, O_NONBLOCK);
	if (pthread_create(&thread, NULL, reader, s))
		die("pthread_create");
	for (at = 0; at < n; at += 1000)
		do_write(s, 'w', n - at < 1000 ? n - at : 1000);
	pthread_join(thread, NULL);
}

static void do_sendfile(struct side *s, size_t n)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	long ret = SSL_sendfile(s->ssl, fd, 0, n, 0);

	tell("SSL_sendfile", ret, ret > 0 ? (size_t)ret : 0);
	ERR_clear_error();
	close(fd);
}

static void wait_line(void)
{
	char c;

	printf("waiting\n");
	fflush(stdout);
	while (read(0, &c, 1) == 1 && c != '\n')
		;
}

static void call(struct side *s, const char *op)
{
	char *rest = NULL;
	size_t n = op[1] == ':' ? strtoul(op + 2, &rest, 10) : 0, cap = n;
	char buf[16];
	int ret;

	if (rest && *rest == ':')
		cap = strtoul(rest + 1, NULL, 10);
	if (strchr("wWX", *op))
		return do_write(s, *op, n);
	if (strchr("rRpP", *op))
		return do_read(s, *op, n, cap);
	switch (*op) {
	case 'z':
		return do_zero(s);
	case 's':
		return do_sendfile(s, n);
	case 't':
		return do_threads(s, n);
	case 'i':
		return wait_line();
	case 'n':
		s->nonblock = true;
		fcntl(s->fd, F_SETFL, O_NONBLOCK);
		return;
	case 'q':
		SSL_set_mode(s->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
		return;
	case 'u':
		SSL_up_ref(s->ssl);
		SSL_free(s->ssl);
		return;
	case 'd':
		usleep(n * 1000);
		return;
	case 'k':
		SSL_shutdown(s->ssl);
		return;
	case 'e':
		ret = SSL_read(s->ssl, buf, sizeof(buf));
		tell("SSL_read", ret, ret > 0 ? (size_t)ret : 0);
		return;
	default:
		fprintf(stderr, "ops: no such call: %s\n", op);
		exit(2);
	}
}

static int connected(bool server, const char *address, const char *port)
{
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(port))};
	struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	bool v6 = strchr(address, ':');
	struct sockaddr *a = v6 ? (void *)&a6 : (void *)&a4;
	socklen_t len = v6 ? sizeof(a6) : sizeof(a4);
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0), one = 1;

	if (inet_pton(v6 ? AF_INET6 : AF_INET, address,
		      v6 ? (void *)&a6.sin6_addr : (void *)&a4.sin_addr) != 1)
		die("address");
	if (!server) {
		if (connect(fd, a, len))
			die("connect");
		return fd;
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, a, len) || listen(fd, 1))
		die("bind");
	printf("listening\n");
	fflush(stdout);
	return accept(fd, NULL, NULL);
}

static int own_write(BIO *bio, const char *buf, int n)
{
	const struct side *s = BIO_get_data(bio);

	return (int)write(s->fd, buf, (size_t)n);
}

static int own_read(BIO *bio, char *buf, int n)
{
	const struct side *s = BIO_get_data(bio);

	return (int)read(s->fd, buf, (size_t)n);
}

static long own_ctrl(BIO *bio, int cmd, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return cmd == BIO_CTRL_FLUSH;
}

static void set_own_bio(struct side *s)
{
	BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOCKET, "own");
	BIO *bio;

	BIO_meth_set_write(method, own_write);
	BIO_meth_set_read(method, own_read);
	BIO_meth_set_ctrl(method, own_ctrl);
	bio = BIO_new(method);
	if (!bio)
		die("BIO_new");
	BIO_set_data(bio, s);
	BIO_set_init(bio, 1);
	SSL_set_bio(s->ssl, bio, bio);
}

static SSL *handshake(struct side *s, char **argv)
{
	SSL_CTX *ctx = SSL_CTX_new(s->server ? TLS_server_method() : TLS_client_method());
	int small = 4096;

	if (!ctx)
		die("SSL_CTX_new");
	if (s->server && (SSL_CTX_use_certificate_file(ctx, argv[4], SSL_FILETYPE_PEM) != 1 ||
			  SSL_CTX_use_PrivateKey_file(ctx, argv[5], SSL_FILETYPE_PEM) != 1))
		die("certificate");
	if (s->tls12)
		SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	s->fd = connected(s->server, argv[2], argv[3]);
	if (s->small)
		setsockopt(s->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	if (s->fd0) {
		dup2(s->fd, 0);
		close(s->fd);
		s->fd = 0;
	}
	s->ssl = SSL_new(ctx);
	if (s->own_bio)
		set_own_bio(s);
	else
		SSL_set_fd(s->ssl, s->fd);
	if ((s->server ? SSL_accept(s->ssl) : SSL_connect(s->ssl)) != 1)
		die("handshake");
	SSL_CTX_free(ctx);
	return s->ssl;
}

int MAIN(int argc, char **argv)
{
	struct side side = {.lock = PTHREAD_MUTEX_INITIALIZER}, *s = &side;
	char rest[4096];
	int i = 6;

	if (argc < 6) {
		fprintf(stderr,
			"usage: ops server|client ADDRESS PORT CERT KEY OPTION... CALL...\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	s->server = !strcmp(argv[1], "server");
	for (; i < argc && argv[i][0] == '-'; i++) {
		s->fd0 |= argv[i][1] == '0';
		s->small |= argv[i][1] == 'S';
		s->tls12 |= argv[i][1] == '2';
		s->own_bio |= argv[i][1] == 'b';
	}
	handshake(s, argv);
	for (; i < argc; i++)
		call(s, argv[i]);
	SSL_free(s->ssl);
	/* Unread bytes at the close would reset the connection and cost the peer its last ones. */
	fcntl(s->fd, F_SETFL, 0);
	shutdown(s->fd, SHUT_WR);
	while (read(s->fd, rest, sizeof(rest)) > 0)
		;
	printf("done\n");
	return 0;
}
