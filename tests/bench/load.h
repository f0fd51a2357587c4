/* SPDX-License-Identifier: MIT */
/* What the load generator's files share: load.c reads commands, the others each make one kind. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <openssl/ssl.h>

/* Two ends of one TLS connection in this process. */
struct pair {
	SSL *client, *server;
};

/* A load: runs until `until` (ns of CLOCK_MONOTONIC) and returns how many times it did its thing.
 */
typedef unsigned long load_fn(void *arg, uint64_t until);

_Noreturn void load_die(const char *what);

static inline uint64_t load_now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/*
 * Where the bench's own probes sit: before and after each call of the library, at an instruction
 * that the kernel emulates. What such a probe costs does not depend on how the library was
 * compiled.
 */
void bench_enter(const void *conn, const void *buf, long len);
void bench_leave(const void *conn, const void *buf, long ret);

/* load_tls.c */
void tls_open(const char *cert, const char *key);
struct pair tls_pair(void); /* over memory */
load_fn tls_pingpong;	    /* struct pingpong: four operations a time */
load_fn tls_http;	    /* struct pair: a request and its response */
struct pingpong {
	struct pair pair;
	int size;
};
/* `rate` writes and reads a second of `size` bytes, on several threads; returns how many there
 * were. */
unsigned long tls_rate(int size, unsigned long rate, int threads, uint64_t until);
/* Writes that are read, `count` of them, each some time after the one before: `gap` ns on average.
 */
void tls_slow(unsigned long gap, unsigned long count);
/* A connection over loopback TCP to a process that sends back what it gets. Its pid. */
int tls_connect(SSL **client);
unsigned long tls_echo(SSL *client, int size, uint64_t until);

/* load_plain.c: without TLS */
int plain_socket(void); /* of a TCP connection */
load_fn plain_pingpong, plain_connect, plain_exec;

#endif
