/* SPDX-License-Identifier: MIT */
/*
 * Calls of OpenSSL that are left in their middle, by a BIO that would have to wait. `switch`: to
 * another coroutine, which has a stack of its own, above or below, and calls OpenSSL too; `jump`:
 * by longjmp, for good. When all that is over, two calls on the main stack transfer "last".
 *
 * usage: stacks CERT KEY switch|pause|jump|keep
 * pause: as switch; in the middle it says "amid" and waits for a line. keep: as jump, but what was
 * left is not freed.
 */
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

#define PAIRS 4
#define ROUNDS 10
#define STACK 262144
#define PAUSE (6 * PAIRS) /* turns */

struct end {
	ucontext_t context;
	SSL *ssl;
	int fd, number;
	bool server, done;
};

static struct end ends[2 * PAIRS], *running; /* NULL: main */
static ucontext_t main_context;
static jmp_buf out;
static bool jumps;

static void die(const char *what)
{
	fprintf(stderr, "stacks: %s\n", what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

static void wait_elsewhere(void)
{
	struct end *me = running;

	if (jumps)
		longjmp(out, 1);
	if (!me)
		die("main waits");
	swapcontext(&me->context, &main_context);
}

static int bio_read(BIO *b, char *buf, int len)
{
	int fd = (int)(long)BIO_get_data(b);
	ssize_t n;

	while ((n = recv(fd, buf, (size_t)len, MSG_DONTWAIT)) < 0)
		wait_elsewhere();
	return (int)n;
}

static int bio_write(BIO *b, const char *buf, int len)
{
	int fd = (int)(long)BIO_get_data(b);

	if (running)
		wait_elsewhere();
	return (int)send(fd, buf, (size_t)len, MSG_NOSIGNAL);
}

static long bio_ctrl(BIO *b, int cmd, long n, void *p)
{
	(void)b, (void)n, (void)p;
	return cmd == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *b)
{
	BIO_set_init(b, 1);
	return 1;
}

static void give_bio(struct end *e)
{
	static BIO_METHOD *method;
	BIO *b;

	if (!method) {
		method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "waiting");
		BIO_meth_set_read(method, bio_read);
		BIO_meth_set_write(method, bio_write);
		BIO_meth_set_ctrl(method, bio_ctrl);
		BIO_meth_set_create(method, bio_create);
	}
	b = BIO_new(method);
	BIO_set_data(b, (void *)(long)e->fd);
	SSL_set_bio(e->ssl, b, b);
}

static void say(struct end *e, const char *text)
{
	if (SSL_write(e->ssl, text, (int)strlen(text)) != (int)strlen(text))
		die("SSL_write");
}

static void hear(struct end *e, const char *text)
{
	char buf[64] = "";

	if (SSL_read(e->ssl, buf, sizeof(buf) - 1) != (int)strlen(text) || strcmp(buf, text))
		die("SSL_read");
}

static void talk(void)
{
	struct end *me = running;
	char text[64];
	int i;

	for (i = 0; i < ROUNDS; i++) {
		snprintf(text, sizeof(text), "pair %d, round %d", me->number, i);
		if (me->server)
			hear(me, text);
		say(me, text);
		if (!me->server)
			hear(me, text);
	}
	me->done = true;
}

static void make_context(struct end *e, char *stack)
{
	getcontext(&e->context);
	e->context.uc_stack.ss_sp = stack;
	e->context.uc_stack.ss_size = STACK;
	e->context.uc_link = &main_context;
	makecontext(&e->context, talk, 0);
}

static void run_all(bool pause)
{
	char *stacks = malloc(2l * PAIRS * STACK);
	int left = 2 * PAIRS, i;

	/* The stacks of the pairs' first ends go downwards, the others' upwards. */
	for (i = 0; i < 2 * PAIRS; i++)
		make_context(&ends[i], stacks + STACK * (i % 2 ? i : 2 * PAIRS - 2 - i));
	for (i = 0; left; i++) {
		running = &ends[i % (2 * PAIRS)];
		if (running->done)
			continue;
		swapcontext(&main_context, &running->context);
		left -= running->done;
		if (pause && i == PAUSE) {
			puts("amid");
			fflush(stdout);
			getchar();
		}
	}
	running = NULL;
	free(stacks);
}

static void open_all(const char *cert, const char *key)
{
	SSL_CTX *server = SSL_CTX_new(TLS_server_method()),
		*client = SSL_CTX_new(TLS_client_method());
	int fds[2], i;

	if (SSL_CTX_use_certificate_file(server, cert, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_use_PrivateKey_file(server, key, SSL_FILETYPE_PEM) != 1)
		die(cert);
	for (i = 0; i < 2 * PAIRS; i++) {
		if (i % 2 == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
			die("socketpair");
		ends[i] = (struct end){.fd = fds[i % 2], .number = i / 2, .server = i % 2};
		ends[i].ssl = SSL_new(i % 2 ? server : client);
		give_bio(&ends[i]);
		if (i % 2)
			SSL_set_accept_state(ends[i].ssl);
		else
			SSL_set_connect_state(ends[i].ssl);
	}
}

/* Nobody answers. */
static void jump_out(struct end *e, bool keep)
{
	jumps = true;
	if (!setjmp(out)) {
		hear(e, "");
		die("it did not wait");
	}
	jumps = false;
	if (!keep)
		SSL_free(e->ssl);
}

/* Shakes hands without waiting: each end as far as it comes. */
static void shake(struct end *client, struct end *server)
{
	BIO *there = BIO_new(BIO_s_mem()), *back = BIO_new(BIO_s_mem());
	int i;

	BIO_up_ref(there);
	BIO_up_ref(back);
	SSL_set_bio(client->ssl, back, there);
	SSL_set_bio(server->ssl, there, back);
	for (i = 0; i < 4; i++) {
		SSL_do_handshake(client->ssl);
		SSL_do_handshake(server->ssl);
	}
	if (!SSL_is_init_finished(client->ssl) || !SSL_is_init_finished(server->ssl))
		die("SSL_do_handshake");
}

int main(int argc, char **argv)
{
	int i;

	if (argc != 4)
		return 2;
	open_all(argv[1], argv[2]);
	if (!strcmp(argv[3], "switch") || !strcmp(argv[3], "pause")) {
		run_all(!strcmp(argv[3], "pause"));
	} else {
		for (i = 0; i < 2 * (PAIRS - 1); i++)
			jump_out(&ends[i], !strcmp(argv[3], "keep"));
		shake(&ends[2 * PAIRS - 2], &ends[2 * PAIRS - 1]);
	}
	say(&ends[2 * PAIRS - 2], "last");
	hear(&ends[2 * PAIRS - 1], "last");
	printf("pid %d\n", getpid());
	return 0;
}
