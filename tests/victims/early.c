/* SPDX-License-Identifier: MIT */
/*
 * TLS 1.3 early data: a first connection for a session, a second one that uses it. The client sends
 * N bytes early and N bytes after; the server reads both. Prints "server PID", "client PID" and
 * what each call transferred.
 *
 * usage: early CERT KEY N
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static SSL_SESSION *session;

static void die(const char *what)
{
	fprintf(stderr, "early: %s\n", what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

static void tell(const char *name, int ret, size_t bytes)
{
	printf("%s %d %zu\n", name, ret, bytes);
	fflush(stdout);
}

/* Numbered lines; early and later bytes are one sequence. */
static char *text(size_t n)
{
	char *buf = malloc(n + 17);
	size_t i;

	if (!buf)
		die("malloc");
	for (i = 0; i < n; i += 16)
		snprintf(buf + i, 17, "early %09u\n", (unsigned int)(i / 16 % 1000000000));
	return buf;
}

static int keep(SSL *ssl, SSL_SESSION *s)
{
	(void)ssl;
	SSL_SESSION_free(session);
	session = s;
	return 1;
}

static void serve(SSL_CTX *ctx, int fd, size_t n, bool early)
{
	SSL *ssl = SSL_new(ctx);
	char buf[5000];
	size_t got, total = 0;
	int ret;

	SSL_set_fd(ssl, fd);
	if (early) {
		do {
			got = 0;
			ret = SSL_read_early_data(ssl, buf, sizeof(buf), &got);
			tell("SSL_read_early_data", ret, got);
			if (ret == SSL_READ_EARLY_DATA_ERROR)
				die("read early");
			total += got;
		} while (ret != SSL_READ_EARLY_DATA_FINISH);
		if (total != n)
			die("early data was not accepted");
	}
	if (SSL_accept(ssl) != 1)
		die("accept");
	for (total = 0; total < n; total += (size_t)ret) {
		ret = SSL_read(ssl, buf, sizeof(buf));
		if (ret <= 0)
			die("read");
		tell("SSL_read", ret, (size_t)ret);
	}
	SSL_write(ssl, "end\n", 4);
	SSL_shutdown(ssl);
	SSL_free(ssl);
	close(fd);
}

static void ask(SSL_CTX *ctx, int fd, const char *buf, size_t n, bool early)
{
	SSL *ssl = SSL_new(ctx);
	char answer[16];
	size_t done = 0;
	int ret;

	SSL_set_fd(ssl, fd);
	SSL_set_connect_state(ssl);
	if (early) {
		if (!session || !SSL_set_session(ssl, session))
			die("no session");
		ret = SSL_write_early_data(ssl, buf, n, &done);
		tell("SSL_write_early_data", ret, done);
		if (ret != 1)
			die("write early");
	}
	if (SSL_connect(ssl) != 1)
		die("connect");
	ret = SSL_write(ssl, buf + (early ? n : 0), (int)n);
	tell("SSL_write", ret, ret > 0 ? (size_t)ret : 0);
	while (SSL_read(ssl, answer, sizeof(answer)) > 0)
		;
	SSL_shutdown(ssl);
	SSL_free(ssl);
	close(fd);
}

int main(int argc, char **argv)
{
	SSL_CTX *server = SSL_CTX_new(TLS_server_method()),
		*client = SSL_CTX_new(TLS_client_method());
	int first[2], second[2], status;
	size_t n;
	char *buf;
	pid_t pid;

	if (argc != 4)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	n = strtoul(argv[3], NULL, 10);
	if (SSL_CTX_use_certificate_file(server, argv[1], SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_use_PrivateKey_file(server, argv[2], SSL_FILETYPE_PEM) != 1)
		die("certificate");
	SSL_CTX_set_max_early_data(server, 1 << 20);
	SSL_CTX_set_recv_max_early_data(server, 1 << 20);
	SSL_CTX_set_options(server, SSL_OP_NO_ANTI_REPLAY);
	SSL_CTX_set_session_cache_mode(client, SSL_SESS_CACHE_CLIENT);
	SSL_CTX_sess_set_new_cb(client, keep);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, first) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, second))
		die("socketpair");
	pid = fork();
	if (!pid) {
		printf("server %d\n", getpid());
		close(first[1]);
		close(second[1]);
		serve(server, first[0], n, false);
		serve(server, second[0], n, true);
		return 0;
	}
	printf("client %d\n", getpid());
	close(first[0]);
	close(second[0]);
	buf = text(2 * n);
	ask(client, first[1], buf, n, false);
	ask(client, second[1], buf, n, true);
	return waitpid(pid, &status, 0) == pid && !status ? 0 : 1;
}
