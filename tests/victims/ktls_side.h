/* SPDX-License-Identifier: MIT */
/* One side of a connection, what is sent over it, and what is told of it at the end. */
#ifndef KTLS_SIDE_H
#define KTLS_SIDE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ktls_uring.h"

enum { CELL = 16 };

struct note {
	const char *call;
	uint64_t at;
	size_t len;
	const char *word;
};

struct notes {
	struct note *all;
	size_t count, room;
};

/* What went over a connection in one direction. */
struct tally {
	unsigned tag; /* stands in each cell */
	uint64_t bytes;
	struct notes moved, peeked, controls, failed;
};

struct cipher {
	const char *name;
	int number; /* TLS_CIPHER_* */
	socklen_t size;
};

struct side {
	const char *name, *version;
	const struct cipher *cipher;
	int fd, sync; /* sync: a stream to the other side */
	struct tally in, out;
	struct ring *ring; /* NULL: io_uring is not to be had */
};

static inline void die(const char *what)
{
	fprintf(stderr, "ktls: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static inline void *memory(size_t n)
{
	void *p = malloc(n + !n);

	if (!p)
		die("malloc");
	return p;
}

static inline void note(struct notes *n, const char *call, uint64_t at, size_t len,
			const char *word)
{
	if (n->count == n->room) {
		n->room = n->room ? 2 * n->room : 64;
		n->all = realloc(n->all, n->room * sizeof(*n->all));
		if (!n->all)
			die("realloc");
	}
	n->all[n->count++] = (struct note){call, at, len, word};
}

static inline const char *error_name(int number)
{
	const char *name = strerrorname_np(number);

	return name ? name : "?";
}

static inline void fails(struct tally *t, const char *call, ssize_t ret)
{
	if (ret > 0) {
		fprintf(stderr, "ktls: %s must fail here, and returned %zd\n", call, ret);
		_exit(1);
	}
	note(&t->failed, call, t->bytes, 0, ret ? error_name(errno) : "nothing");
}

/* The result of a call that must move something. */
static inline size_t moved(struct tally *t, const char *call, ssize_t ret)
{
	if (ret <= 0)
		die(call);
	note(&t->moved, call, t->bytes, (size_t)ret, NULL);
	t->bytes += (size_t)ret;
	return (size_t)ret;
}

/* The bytes of a direction from a position on: cells "TAG.NUMBER\n" of 7 hexadecimal digits. */
static inline void text(char *buf, size_t n, unsigned tag, uint64_t at)
{
	char cell[CELL + 1] = "";
	size_t i;

	for (i = 0; i < n; i++, at++) {
		if (!i || at % CELL == 0)
			snprintf(cell, sizeof(cell), "%07x.%07x\n", tag & 0xfffffff,
				 (unsigned)(at / CELL) & 0xfffffff);
		buf[i] = cell[at % CELL];
	}
}

static inline void check_text(const struct tally *t, uint64_t at, const char *got, size_t n)
{
	char *want = memory(n);

	text(want, n, t->tag, at);
	if (memcmp(got, want, n)) {
		fprintf(stderr, "ktls: at %llu: not the bytes that were sent: %.*s\n",
			(unsigned long long)at, n < 40 ? (int)n : 40, got);
		_exit(1);
	}
	free(want);
}

static inline void tell_peer(struct side *s)
{
	if (write(s->sync, "", 1) != 1)
		_exit(1);
}

/* The other side's end, whatever its reason, is ours. */
static inline void hear_peer(struct side *s)
{
	char c;

	if (read(s->sync, &c, 1) != 1)
		_exit(1);
}

/* Neither side begins a step before the other has ended the last one. */
static inline void meet(struct side *s)
{
	tell_peer(s);
	hear_peer(s);
}

/* --- the report */

static inline void print_notes(const char *name, const struct notes *n)
{
	size_t i;

	printf(", \"%s\": [", name);
	for (i = 0; i < n->count; i++) {
		printf("%s[\"%s\", %zu, %llu", i ? ", " : "", n->all[i].call, n->all[i].len,
		       (unsigned long long)n->all[i].at);
		if (n->all[i].word)
			printf(", \"%s\"", n->all[i].word);
		printf("]");
	}
	printf("]");
}

static inline void print_tally(const char *name, const struct tally *t)
{
	printf(", \"%s\": {\"tag\": %u, \"bytes\": %llu", name, t->tag,
	       (unsigned long long)t->bytes);
	print_notes("calls", &t->moved);
	print_notes("peeks", &t->peeked);
	print_notes("controls", &t->controls);
	print_notes("failed", &t->failed);
	printf("}");
}

static inline void print_address(char letter, const struct sockaddr_storage *a)
{
	const struct sockaddr_in6 *six = (const void *)a;
	const struct sockaddr_in *four = (const void *)a;
	char text[INET6_ADDRSTRLEN] = "";

	if (a->ss_family == AF_INET6)
		inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof(text));
	else
		inet_ntop(AF_INET, &four->sin_addr, text, sizeof(text));
	printf(", \"%caddr\": \"%s\", \"%cport\": %u", letter, text, letter,
	       ntohs(a->ss_family == AF_INET6 ? six->sin6_port : four->sin_port));
}

static inline void report(const struct side *s)
{
	struct sockaddr_storage mine, other;
	socklen_t size = sizeof(mine), size2 = sizeof(other);

	flockfile(stdout);
	printf("{\"conn\": \"%s\", \"pid\": %d, \"fd\": %d, \"version\": \"%s\", \"cipher\": "
	       "\"%s\"",
	       s->name, getpid(), s->fd, s->version, s->cipher->name);
	/* The peer may be gone, and then the kernel knows it no more. */
	if (!getsockname(s->fd, (struct sockaddr *)&mine, &size))
		print_address('l', &mine);
	if (!getpeername(s->fd, (struct sockaddr *)&other, &size2))
		print_address('r', &other);
	printf(", \"uring\": %s", s->ring ? "true" : "false");
	print_tally("in", &s->in);
	print_tally("out", &s->out);
	printf("}\n");
	fflush(stdout);
	funlockfile(stdout);
}

#endif
