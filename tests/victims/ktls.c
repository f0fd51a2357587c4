/* SPDX-License-Identifier: MIT */
/*
 * A client and a server, two processes of one program, on a loopback connection whose TLS records
 * the kernel makes, with keys that both know. They walk the STEPs together; each checks every byte
 * that it gets. At the end each side of each connection prints a JSON line: what it moved, call by
 * call.
 *
 * usage: ktls [OPTION...] STEP...
 * OPTION: -V TLSv1.2|TLSv1.3   -C AES_128_GCM|AES_256_GCM|CHACHA20_POLY1305
 *         -w wait for a line on stdin when the (first) connection is there
 *         -t two threads instead of two processes   -6 IPv6   -m IPv4 in IPv6
 *         -n N connections, one after the other     -u UID the server's user
 * STEP:   [<]SEND/RECEIVE:SIZE[*COUNT][@CAP]   COUNT calls of SIZE bytes, received in calls of CAP
 *         bytes at most; '<': the server sends. The names of the calls: ktls_calls.h.
 *         [<]alert [<]handshake   a control record        pause   wait for a line on stdin
 *         [<]fail                 calls that move nothing
 *         [<]hang:SIZE            a call that waits for ever: nobody receives until its process
 * dies Byte number p of a direction is always the same: cells of 16 bytes with the direction's tag
 * and their number. Ends with 77 where the kernel has no kTLS, or not this cipher.
 */
#include "ktls_calls.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

struct step {
	void (*sender)(struct side *, const struct step *);
	void (*receiver)(struct side *, const struct step *);
	const struct means *tx, *rx;
	bool back; /* from the server to the client */
	size_t size, count, cap;
};

struct plan {
	const char *version;
	const struct cipher *cipher;
	bool threads, wait, v6, mapped;
	unsigned connections, uid;
	struct step *steps;
	size_t count;
};

struct party {
	const struct plan *plan;
	struct side side;
	bool server, wait;
};

/* --- steps */

static void transmit(struct side *s, const struct step *st)
{
	char *buf = memory(st->size);
	size_t i, at;

	for (i = 0; i < st->count; i++) {
		text(buf, st->size, s->out.tag, s->out.bytes);
		for (at = 0; at < st->size;)
			at += st->tx->call(s, buf + at, st->size - at);
	}
	free(buf);
}

static void receive(struct side *s, const struct step *st)
{
	size_t left = st->size * st->count, n;
	char *buf = memory(st->cap);

	if (st->tx->call == tx_short)
		hear_peer(s);
	while (left) {
		uint64_t at = s->in.bytes;

		n = st->rx->call(s, buf, left < st->cap ? left : st->cap);
		check_text(&s->in, at, buf, n);
		left -= n;
	}
	free(buf);
}

static const char alert_text[] = "\1\x5a";		       /* a warning: user_canceled */
static const char handshake_text[] = "\4\0\0\014new session."; /* not one that the kernel reads */

/* What has another level goes before it: the kernel passes over that. */
static void control(struct side *s, int type, const char *name, const char *text, size_t n)
{
	union type_message t[2] = {{.align = {CMSG_LEN(1), SOL_IP, IP_TTL}},
				   {.align = {CMSG_LEN(1), SOL_TLS, TLS_SET_RECORD_TYPE}}};
	bool both = type == HANDSHAKE;
	struct iovec v = {(char *)text, n};
	struct msghdr m = {.msg_iov = &v,
			   .msg_iovlen = 1,
			   .msg_control = both ? t : t + 1,
			   .msg_controllen = both ? sizeof(t) : sizeof(*t)};

	t[1].bytes[CMSG_LEN(0)] = (char)type;
	if (sendmsg(s->fd, &m, 0) != (ssize_t)n)
		die("sendmsg of a control record");
	note(&s->out.controls, name, s->out.bytes, n, NULL);
}

static void send_alert(struct side *s, const struct step *st)
{
	(void)st;
	control(s, ALERT, "alert", alert_text, sizeof(alert_text) - 1);
}

static void send_handshake(struct side *s, const struct step *st)
{
	(void)st;
	control(s, HANDSHAKE, "handshake", handshake_text, sizeof(handshake_text) - 1);
}

/* Without room for its type a control record cannot be read; it stays. */
static void receive_control(struct side *s, const struct step *st)
{
	bool alert = st->sender == send_alert;
	size_t n = alert ? sizeof(alert_text) - 1 : sizeof(handshake_text) - 1;
	union type_message type;
	char buf[64];
	struct iovec v = {buf, sizeof(buf)};
	int p[2], i;

	fails(&s->in, "recv", recv(s->fd, buf, sizeof(buf), 0));
	if (pipe(p))
		die("pipe");
	fails(&s->in, "splice", splice(s->fd, NULL, p[1], NULL, sizeof(buf), 0));
	close(p[0]);
	close(p[1]);
	for (i = 0; i < 2; i++) {
		if (receive_typed(s->fd, &v, 1, i ? 0 : MSG_PEEK, &type) != (ssize_t)n ||
		    type.bytes[CMSG_LEN(0)] != (alert ? ALERT : HANDSHAKE) ||
		    memcmp(buf, alert ? alert_text : handshake_text, n))
			die("recvmsg: not the control record that was sent");
		note(&s->in.controls, alert ? "alert" : "handshake", s->in.bytes, n,
		     i ? NULL : "peeked");
	}
}

static void fail_sending(struct side *s, const struct step *st)
{
	char byte = 'x';

	(void)st;
	fails(&s->out, "write", write(s->fd, &byte, 0));
	fails(&s->out, "write", write(-1, &byte, 1));
	fails(&s->out, "send", send(s->fd, (void *)8, 100, 0));
	fails(&s->out, "send", send(s->fd, &byte, 1, MSG_ZEROCOPY));
	fails(&s->out, "send", send(s->fd, &byte, 1, MSG_OOB));
}

static void fail_receiving(struct side *s, const struct step *st)
{
	char byte;

	(void)st;
	fails(&s->in, "recv", recv(s->fd, &byte, 1, MSG_DONTWAIT));
	fails(&s->in, "recv", recv(s->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK));
	fails(&s->in, "recv", recv(s->fd, &byte, 0, MSG_DONTWAIT));
	fails(&s->in, "read", read(-1, &byte, 1));
}

static void hang(struct side *s, const struct step *st)
{
	small_buffer(s);
	printf("hanging\n");
	fflush(stdout);
	transmit(s, st);
	die("the call did not wait");
}

/* Takes what came in spite of all. */
static void outlive(struct side *s, const struct step *st)
{
	char c, buf[4096];
	ssize_t n;

	(void)st;
	while (read(s->sync, &c, 1) > 0)
		;
	while ((n = recv(s->fd, buf, sizeof(buf), 0)) > 0) {
		check_text(&s->in, s->in.bytes, buf, (size_t)n);
		moved(&s->in, "recv", n);
	}
}

static void ask(struct side *s, const struct step *st)
{
	char c;

	(void)s;
	(void)st;
	printf("waiting\n");
	fflush(stdout);
	while (read(0, &c, 1) == 1 && c != '\n')
		;
}

static void nothing(struct side *s, const struct step *st)
{
	(void)s;
	(void)st;
}

static const struct {
	const char *name;
	void (*sender)(struct side *, const struct step *);
	void (*receiver)(struct side *, const struct step *);
} special[] = {
	{"alert", send_alert, receive_control},
	{"handshake", send_handshake, receive_control},
	{"fail", fail_sending, fail_receiving},
	{"hang", hang, outlive},
	{"pause", ask, nothing},
};

static void *walk(void *arg)
{
	struct party *me = arg;
	const struct plan *p = me->plan;
	size_t i;

	if (me->server)
		set_keys(&me->side);
	meet(&me->side);
	if (me->wait && !me->server)
		ask(&me->side, NULL);
	for (i = 0; i < p->count; i++) {
		const struct step *st = &p->steps[i];

		meet(&me->side);
		(st->back == me->server ? st->sender : st->receiver)(&me->side, st);
		if (st->receiver == outlive)
			break;
	}
	report(&me->side);
	return NULL;
}

/* --- the connection */

static void serve(const struct plan *p, struct party *server, const struct party *client)
{
	struct ring ring;

	close(client->side.fd);
	close(client->side.sync);
	prctl(PR_SET_NAME, "ktls-server");
	if (p->uid && (setgid(p->uid) || setuid(p->uid)))
		die("setuid");
	/* A ring belongs to the process that made it. */
	if (server->side.ring && !ring_open(server->side.ring = &ring))
		die("io_uring");
	walk(server);
	_exit(0);
}

static int converse(const struct plan *p, unsigned number, struct ring rings[2])
{
	unsigned up = 2 * number, down = up + 1;
	struct party client = {.plan = p, .side = {.in.tag = down, .out.tag = up}};
	struct party server = {.plan = p, .side = {.in.tag = up, .out.tag = down}, .server = true};
	int fd[2], sync[2], status = 0, i;
	pthread_t thread;
	pid_t child;

	connected(p->v6, p->mapped, fd);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sync))
		die("socketpair");
	client.wait = p->wait && number == 1;
	for (i = 0; i < 2; i++) {
		struct side *s = i ? &server.side : &client.side;

		s->name = i ? "server" : "client";
		s->version = p->version;
		s->cipher = p->cipher;
		s->fd = fd[i];
		s->sync = sync[i];
		s->ring = rings[0].fd >= 0 ? &rings[i] : NULL;
	}
	/* Here, before there are two: it ends the program where the kernel lacks something. */
	set_keys(&client.side);
	if (p->threads) {
		if (pthread_create(&thread, NULL, walk, &server))
			die("pthread_create");
		walk(&client);
		pthread_join(thread, NULL);
		close(server.side.fd);
		close(server.side.sync);
	} else {
		fflush(stdout);
		child = fork();
		if (child < 0)
			die("fork");
		if (!child)
			serve(p, &server, &client);
		close(server.side.fd);
		close(server.side.sync);
		walk(&client);
		waitpid(child, &status, 0);
	}
	close(client.side.fd);
	close(client.side.sync);
	return status;
}

/* --- the command line */

static const struct means *means_of(const struct means *all, const char *name, const char *step)
{
	for (; all->name; all++)
		if (!strcmp(all->name, name))
			return all;
	fprintf(stderr, "ktls: %s: no such call: %s\n", step, name);
	exit(2);
}

static void parse_step(struct step *st, const char *arg)
{
	char tx[32] = "", rx[32] = "";
	const char *word = arg + (*arg == '<'), *at;
	size_t i;

	*st = (struct step){.sender = transmit, .receiver = receive, .count = 1};
	for (i = 0; i < sizeof(special) / sizeof(*special); i++)
		if (!strncmp(word, special[i].name, strlen(special[i].name))) {
			st->sender = special[i].sender;
			st->receiver = special[i].receiver;
		}
	st->back = *arg == '<';
	at = strchr(word, ':');
	st->size = at ? strtoul(at + 1, NULL, 10) : 0;
	at = strchr(word, '*');
	st->count = at ? strtoul(at + 1, NULL, 10) : 1;
	at = strchr(word, '@');
	st->cap = at ? strtoul(at + 1, NULL, 10) : st->size * st->count;
	if (st->receiver == outlive)
		st->tx = &sending[0];
	if (st->receiver != receive)
		return;
	if (sscanf(word, "%31[^/]/%31[^:]", tx, rx) != 2 || !st->size || !st->cap) {
		fprintf(stderr, "ktls: not a step: %s\n", arg);
		exit(2);
	}
	st->tx = means_of(sending, tx, arg);
	st->rx = means_of(receiving, rx, arg);
}

static void parse(struct plan *p, int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "V:C:wt6mn:u:")) != -1) {
		switch (c) {
		case 'V':
			p->version = optarg;
			break;
		case 'C':
			for (p->cipher = ciphers; strcmp(p->cipher->name, optarg);)
				if (!(++p->cipher)->name)
					exit(2);
			break;
		case 'n':
			p->connections = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'u':
			p->uid = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case '?':
			exit(2);
		default:
			p->wait |= c == 'w';
			p->threads |= c == 't';
			p->v6 |= c == '6' || c == 'm';
			p->mapped |= c == 'm';
		}
	}
	p->steps = memory((size_t)(argc - optind) * sizeof(*p->steps));
	for (; optind < argc; optind++)
		parse_step(&p->steps[p->count++], argv[optind]);
}

int main(int argc, char **argv)
{
	struct plan plan = {.version = "TLSv1.3", .cipher = ciphers, .connections = 1};
	struct ring rings[2];
	unsigned i;
	int status = 0;

	signal(SIGPIPE, SIG_IGN);
	parse(&plan, argc, argv);
	if (!ring_open(&rings[0]) || !ring_open(&rings[1])) {
		rings[0].fd = -1;
		printf("no io_uring: %s\n", strerror(errno));
	}
	if (!plan.threads)
		prctl(PR_SET_NAME, "ktls-client");
	for (i = 1; i <= plan.connections && !status; i++)
		status = converse(&plan, i, rings);
	free(plan.steps);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
