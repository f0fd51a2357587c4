/* SPDX-License-Identifier: MIT */
/*
 * What programs do that nobody traces. Both ends of a connection are in this thread: loopback hands
 * over what is sent at once, so that all work done for it is in this thread's time.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "load.h"

#define MESSAGE 512

struct listener {
	int fd;
	struct sockaddr_in at;
};

static struct listener listen_here(void)
{
	struct listener l = {.at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}};
	socklen_t size = sizeof(l.at);

	l.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(l.fd, (void *)&l.at, size) || listen(l.fd, 16) ||
	    getsockname(l.fd, (void *)&l.at, &size))
		load_die("listen");
	return l;
}

static void open_both(const struct listener *l, int *a, int *b)
{
	int one = 1;

	*a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(*a, (const void *)&l->at, sizeof(l->at)))
		load_die("connect");
	*b = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
	setsockopt(*a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(*b, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

int plain_socket(void)
{
	struct listener l = listen_here();
	int a, b;

	open_both(&l, &a, &b);
	return a;
}

static void send_over(int from, int to)
{
	char buf[MESSAGE] = "no TLS";
	ssize_t got = 0, ret;

	if (send(from, buf, sizeof(buf), 0) != sizeof(buf))
		load_die("send");
	while (got < MESSAGE) {
		ret = recv(to, buf, sizeof(buf), 0);
		if (ret <= 0)
			load_die("recv");
		got += ret;
	}
}

unsigned long plain_pingpong(void *arg, uint64_t until)
{
	struct listener l = listen_here();
	unsigned long n = 0;
	int a, b, i;

	(void)arg;
	open_both(&l, &a, &b);
	while (load_now(CLOCK_MONOTONIC) < until)
		for (i = 0; i < 16; i++, n++) {
			send_over(a, b);
			send_over(b, a);
		}
	close(a);
	close(b);
	close(l.fd);
	return n;
}

/* A connection, a question, an answer, and its end. */
unsigned long plain_connect(void *arg, uint64_t until)
{
	/* At once gone: else ports would be used up. */
	struct linger now = {.l_onoff = 1};
	struct listener l = listen_here();
	unsigned long n;
	int a, b;

	(void)arg;
	for (n = 0; load_now(CLOCK_MONOTONIC) < until; n++) {
		open_both(&l, &a, &b);
		send_over(a, b);
		send_over(b, a);
		setsockopt(a, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(a);
		close(b);
	}
	close(l.fd);
	return n;
}

unsigned long plain_exec(void *arg, uint64_t until)
{
	char *argv[] = {"true", NULL}, *env[] = {NULL};
	unsigned long n;
	int status;
	pid_t pid;

	(void)arg;
	for (n = 0; load_now(CLOCK_MONOTONIC) < until; n++) {
		if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, env) ||
		    waitpid(pid, &status, 0) != pid || status)
			load_die("/bin/true");
	}
	return n;
}
