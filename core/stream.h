/* SPDX-License-Identifier: MIT */
/*
 * From records to messages: pieces of one call are joined, connections are known by a number, each
 * connection and direction has a position, so that what is missing is seen as a gap.
 */
#ifndef TLSSCOPE_STREAM_H
#define TLSSCOPE_STREAM_H

#include "hello.h"
#include "record.h"

/* Told by TS_REC_SOURCE; owned by the stream for its whole life. */
struct stream_source {
	uint32_t id;
	uint32_t probe; /* enum ts_probe */
	const char *kind, *func, *path;
};

/* What a handshake told of its connection; 0 and "": not known. */
struct stream_shake {
	uint16_t version, cipher;
	uint8_t role;	 /* TS_CLIENT, TS_SERVER */
	const char *sni; /* in what follows, as long as it is */
	char alpn[];
};

/* Owned by the stream until `closed` returned. */
struct stream_conn {
	uint64_t id; /* 1, 2, ... in the order of their first message */
	uint32_t pid;
	uint64_t address, opened; /* with pid: the kernel's name for it */
	uint64_t bytes[2];	  /* transferred, by enum ts_dir; peeks do not count */
	uint64_t next[2];	  /* position expected next */
	uint64_t missing[2];	  /* bytes of gaps so far */
	int32_t fd;		  /* descriptor in its process; below 0: unknown */
	struct ts_conn_info info; /* what its socket told; all 0: nothing */
	/* Freed after `closed`, who may take it by setting it to NULL. NULL: nothing is known. */
	struct stream_shake *shake;
	uint64_t subs;		/* the script's: subscriptions that saw something of it */
	int user;		/* the script's: a Lua reference. 0 at first */
	enum ts_how how;	/* how it ended */
	uint64_t cgroup;	/* that of whom was last at work on it; 0: not known */
	char comm[TS_COMM_LEN]; /* of the thread that was last at work on it; "": not known */
};

/* One call's plaintext, or a handshake's end, or an error. Valid during the callback only. */
struct stream_message {
	const struct ts_data *head; /* the call's first record that arrived */
	const struct stream_source *source;
	struct stream_conn *conn;
	const struct ts_open *open; /* NULL: plaintext */
	uint64_t probes;	    /* enum ts_probe's bits: what it is an event of */
	const unsigned char *data;  /* NULL when size is 0 */
	size_t size;		    /* a prefix of the call's bytes, without holes */
	uint64_t len;		    /* what the call transferred */
	uint64_t gap;		    /* bytes of this connection and direction missing before it */
	bool truncated;		    /* size < len */
	/*
	 * Not NULL: a hello, of which data is the message. Then conn has nothing but addresses, and
	 * ends with the callback; the source has no names; head->pid 0 is nobody known.
	 */
	const struct hello *hello;
};

struct stream_ops {
	void (*message)(void *ctx, const struct stream_message *m);
	void (*closed)(void *ctx, struct stream_conn *c, uint64_t nsecs);
};

struct stream;
int stream_open(struct stream **out, const struct stream_ops *ops, void *ctx);
void stream_close(struct stream *s); /* hands over what is unfinished, closes every connection */

/*
 * Takes TS_REC_DATA, TS_REC_OPEN, TS_REC_CLOSE, TS_REC_CONN, TS_REC_HELLO, TS_REC_SOURCE, and
 * TS_REC_EXIT (closes the connections of the process) and TS_REC_EXEC (those that began before);
 * ignores others. 0, -ENOMEM, or -EBADMSG for a record that is not valid: nothing of it was used,
 * and it was counted.
 */
int stream_feed(struct stream *s, const struct ts_record *r);

/*
 * Hands over calls whose remaining records will not come: call it when the ring is empty and
 * `nsecs` is a second past their last record, and at the end (nsecs = UINT64_MAX). They are
 * truncated.
 */
void stream_flush(struct stream *s, uint64_t nsecs);

const struct stream_source *stream_source(const struct stream *s, uint32_t id); /* or NULL */
/* Those that have connections. each: feeds it nothing meanwhile. */
void stream_each_process(const struct stream *s, void (*each)(void *ctx, uint32_t pid), void *ctx);
size_t stream_conn_count(const struct stream *s);
uint64_t stream_invalid(const struct stream *s); /* records refused so far */
/* Connections closed to make room for newer ones; what they say next is a connection of its own. */
uint64_t stream_evicted(const struct stream *s);
/* Connections that began where others were, whose ends were not seen, while there were so many that
 * the kernel may have forgotten these: they may be the same. */
uint64_t stream_renewed(const struct stream *s);

#endif
