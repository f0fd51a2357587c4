/* SPDX-License-Identifier: MIT */
/*
 * ClientHello and ServerHello (RFC 8446, 4.1; RFC 5246, 7.4.1): found in what a TCP connection
 * begins with, and read. All bytes come from strangers: a hello that is damaged is read as far as
 * it is sound.
 */
#ifndef TLSSCOPE_HELLO_H
#define TLSSCOPE_HELLO_H

#include "record.h"

/* --- reading one */

/* Part of a hello's bytes; at is NULL where it has no such part. */
struct hello_part {
	const unsigned char *at;
	size_t size;
};

/* Points into the bytes that were read. Parts that are lists of numbers have two bytes for each. */
struct hello {
	bool client, retry;
	bool whole;	  /* all of it was there, and sound */
	size_t size;	  /* of all of it, as it says itself; never less than there is */
	uint16_t version; /* server: the one chosen; client: the one outside of the extensions */
	unsigned int cipher_size;  /* bytes of a number in ciphers: 2, or 3 as in SSL 2.0 */
	struct hello_part ciphers; /* server: the one chosen */
	struct hello_part types;   /* the extensions, all of them; see hello_extension */
	struct hello_part sni;
	struct hello_part alpn;	      /* names, each with a byte for its length before it */
	struct hello_part versions;   /* client's */
	struct hello_part groups;     /* server: the one chosen */
	struct hello_part signatures; /* client's algorithms */
	bool has_sni;		      /* the extension, whatever is in it */
};

/* False: it is none, or not even its fixed part is there. flags: enum ts_hello_flags. */
bool hello_read(struct hello *out, const unsigned char *data, size_t size, unsigned int flags);

/* Takes the next extension from `types`: its type; below 0: there is none. */
int hello_extension(struct hello_part *types, struct hello_part *content);
/* Takes the next number of `size` bytes; below 0: there is none. */
int hello_number(struct hello_part *list, unsigned int size);
/* Takes the next name of alpn; false: there is none. */
bool hello_name(struct hello_part *list, struct hello_part *name);
/* RFC 8701: values that stand for nothing; they are sent so that nobody gets used to a fixed set.
 */
bool hello_is_grease(unsigned int value);

/* The names of numbers; NULL where there is none here. */
const char *hello_version_name(unsigned int version); /* "TLSv1.3" */
const char *hello_cipher_name(unsigned int cipher);   /* as IANA says it */
const char *hello_group_name(unsigned int group);     /* as IANA says it */

/* JA4 of a ClientHello, as FoxIO specifies it; false: it has none (not whole, or of SSL 2.0). */
#define HELLO_JA4_SIZE 40
bool hello_ja4(const struct hello *h, char out[HELLO_JA4_SIZE]);

/* --- finding them in connections */

struct hello_finder;
struct hello_finder_ops {
	/* A TS_REC_HELLO. Returns what record_sink.record does. */
	int (*found)(void *ctx, const struct ts_record *r);
	/* This direction is of no more use. */
	void (*done)(void *ctx, uint64_t sock, uint32_t start, uint8_t dir);
};
int hello_finder_open(struct hello_finder **out, const struct hello_finder_ops *ops, void *ctx);
void hello_finder_close(struct hello_finder *f);
/*
 * Takes a piece of a direction; its payload is p->len bytes, no `skip`. Pieces may come in any
 * order, and more than once. 0, -ENOMEM, or what `found` returned.
 */
int hello_finder_feed(struct hello_finder *f, const struct ts_hello *p);

#endif
