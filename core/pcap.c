/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "output.h"
#include "pcap.h"
#include "pcap_block.h"

#define HOLE_MAX (1ull << 30)	    /* a longer one could not be told from a step back */
#define ACK_AFTER (PCAP_WINDOW / 4) /* unacknowledged bytes */
#define PORT_CLIENTS 32768	    /* ip_local_port_range */
#define COMMENT_NAME 1024	    /* bytes of a path in a comment */
#define COMMENT_ROOM 8192	    /* more than any comment has, with all of it escaped */

/* What one end says. */
struct side {
	uint32_t first;	  /* sequence number of the stream's first byte */
	uint64_t next;	  /* position expected next */
	uint64_t skipped; /* bytes of holes that the sequence numbers do not show */
	uint64_t acked;	  /* what the other side has acknowledged */
};

/* Invariant: it is in pcap.conns; where `named`, also in pcap.names. */
struct conn {
	struct pcap_ends ends;
	struct side sides[2]; /* as ends.by */
	uint64_t name[2];     /* of the ends */
	bool named;
};

struct pcap {
	struct output_file *file;
	struct pcap_blocks blocks;
	struct ts_buf comment;
	struct ts_map conns; /* by stream_conn.id */
	struct ts_map names; /* open connections with ends of their own, by conn.name */
	struct pcap_counts counts;
	uint64_t wall_offset;
	char kernel[128], host[256];
	bool begun, no_memory;
};

int pcap_open(struct pcap **out, const struct output_file_options *where, struct ts_err *err)
{
	struct pcap *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return ts_fail(err, ENOMEM, "out of memory");
	/* Memory for all comments, now: none comes out shortened. */
	if (ts_buf_add(&p->comment, (const char[COMMENT_ROOM]){0}, COMMENT_ROOM)) {
		free(p);
		return ts_fail(err, ENOMEM, "out of memory");
	}
	ret = output_file_open(&p->file, where, err);
	if (!ret && output_file_is_terminal(p->file))
		ret = ts_fail(err, EINVAL,
			      "a capture is not for a terminal: name a file, or redirect the "
			      "output");
	if (ret) {
		output_file_close(p->file, NULL);
		ts_buf_free(&p->comment);
		free(p);
		return ret;
	}
	*out = p;
	return 0;
}

/* Writes the blocks that were made, all to one file. */
static void write_blocks(struct pcap *p)
{
	struct pcap_blocks *b = &p->blocks;

	p->no_memory |= b->failed;
	if (!p->no_memory)
		output_file_write(p->file, b->buf.data, b->buf.len);
	b->buf.len = 0;
	b->failed = false;
}

static void begin(struct pcap *p)
{
	if (p->begun)
		return;
	p->begun = true;
	pcap_block_section(&p->blocks, p->kernel, p->host);
	write_blocks(p);
}

/* A block goes to the next file where this one has its size. */
static void write_block(struct pcap *p)
{
	struct pcap_blocks section = {0};

	if (p->blocks.buf.len > output_file_room(p->file)) {
		output_file_next(p->file);
		pcap_block_section(&section, p->kernel, p->host);
		p->no_memory |= section.failed;
		if (!section.failed)
			output_file_write(p->file, section.buf.data, section.buf.len);
		ts_buf_free(&section.buf);
	}
	write_blocks(p);
}

void pcap_start(struct pcap *p, const struct rec_start *start)
{
	p->wall_offset = start->wall_offset;
	ts_copy(p->kernel, sizeof(p->kernel), record_string(&start->record, sizeof(*start), 0));
	ts_copy(p->host, sizeof(p->host), record_string(&start->record, sizeof(*start), 1));
	begin(p);
}

int pcap_close(struct pcap *p, struct ts_err *err)
{
	bool no_memory;
	size_t i;
	int ret;

	if (!p)
		return 0;
	begin(p);
	pcap_block_counts(&p->blocks, &p->counts);
	write_block(p);
	no_memory = p->no_memory;
	ret = output_file_close(p->file, err);
	if (!ret && no_memory)
		ret = ts_fail(err, ENOMEM, "the capture is incomplete: out of memory");
	for (i = 0; i < p->conns.cap; i++)
		free(p->conns.slots[i].value);
	ts_map_free(&p->conns);
	ts_map_free(&p->names);
	ts_buf_free(&p->blocks.buf);
	ts_buf_free(&p->comment);
	free(p);
	return ret;
}

void pcap_lost(struct pcap *p, uint64_t calls)
{
	p->counts.received += calls;
	p->counts.dropped += calls;
}

void pcap_flush(struct pcap *p)
{
	output_file_flush(p->file);
}

int pcap_failed(const struct pcap *p)
{
	return p->no_memory ? ENOMEM : output_file_failed(p->file);
}

/* A packet of one side, at `position` of what it says, which acknowledges all of the other's. */
struct packet {
	enum ts_dir dir;
	uint8_t flags;
	uint64_t position, nsecs;
	const unsigned char *data;
	size_t size;
	const char *comment;
};

static uint32_t sequence(const struct side *s, uint64_t position)
{
	return s->first + (uint32_t)(position - s->skipped);
}

static void put_packet(struct pcap *p, struct conn *c, const struct packet *k)
{
	struct side *from = &c->sides[k->dir], *to = &c->sides[!k->dir];
	struct pcap_packet packet = {p->wall_offset + k->nsecs, k->dir == TS_OUT, k->comment};
	struct pcap_segment segment = {
		.from = &c->ends.by[k->dir],
		.to = &c->ends.by[!k->dir],
		.v6 = c->ends.v6,
		.flags = k->flags,
		.seq = sequence(from, k->position),
		.data = k->data,
		.size = k->size,
	};

	if (segment.flags & PCAP_ACK)
		segment.ack = sequence(to, to->next);
	/* A SYN comes before the first byte, and has a number of its own. */
	if (segment.flags & PCAP_SYN)
		segment.seq--;
	to->acked = to->next;
	begin(p);
	pcap_block_packet(&p->blocks, &packet, &segment);
	write_block(p);
	if (!p->counts.first || packet.time < p->counts.first)
		p->counts.first = packet.time;
	if (packet.time > p->counts.last)
		p->counts.last = packet.time;
}

/* "curl[12715] conn 1" */
static void name_process(struct ts_buf *b, const struct stream_message *m)
{
	const struct ts_data *d = m->head;

	b->len = 0;
	output_escape(b, d->comm, strnlen(d->comm, sizeof(d->comm)), false);
	ts_buf_printf(b, "[%u] conn %llu", d->pid, (unsigned long long)m->conn->id);
}

static const char *finish_comment(struct pcap *p)
{
	if (ts_buf_add(&p->comment, "", 1))
		p->no_memory = true;
	return p->no_memory ? NULL : (const char *)p->comment.data;
}

/* Of the first packet: whose connection it is, and what its ends really are (NULL: not known). */
static const char *describe_conn(struct pcap *p, const struct conn *c, const struct pcap_ends *real,
				 const struct stream_message *m)
{
	const struct ts_conn_info *i = &m->conn->info;
	const __u8 *path = i->rlen ? i->raddr : i->laddr;
	struct ts_buf *b = &p->comment;

	name_process(b, m);
	if (m->conn->fd >= 0)
		ts_buf_printf(b, " fd %d", m->conn->fd);
	if (i->family == AF_UNIX) {
		ts_buf_printf(b, ", Unix socket ");
		output_escape(b, path, i->rlen ? i->rlen : i->llen, false);
	} else if (!real) {
		ts_buf_printf(b, ", its addresses are not known");
	} else if (memcmp(real->by, c->ends.by, sizeof(real->by))) {
		ts_buf_printf(b, ", in truth ");
		pcap_ends_print(b, real);
	}
	return finish_comment(p);
}

static const char *describe_message(struct pcap *p, const struct stream_message *m)
{
	const char *path = m->source->path;
	struct ts_buf *b = &p->comment;

	name_process(b, m);
	ts_buf_printf(b, " %s ", m->source->func);
	output_escape(b, path, strnlen(path, COMMENT_NAME), false);
	if (m->head->tid != m->head->pid)
		ts_buf_printf(b, " tid %u", m->head->tid);
	if (m->gap)
		ts_buf_printf(b, ", %llu bytes missing before", (unsigned long long)m->gap);
	if (m->truncated)
		ts_buf_printf(b, ", %zu of %llu bytes captured", m->size,
			      (unsigned long long)m->len);
	return finish_comment(p);
}

/* Whether it begins as HTTP/2 does: with the client's preface, or the server's SETTINGS. */
static bool is_preface(const struct stream_message *m)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n";

	return m->size >= sizeof(preface) - 1 && !memcmp(m->data, preface, sizeof(preface) - 1);
}

static bool is_settings(const struct stream_message *m)
{
	static const unsigned char head[6] = {4}; /* type, flags, stream 0 */

	return m->size >= 9 && !m->data[0] && !m->data[1] && m->data[2] % 6 == 0 &&
	       !memcmp(m->data + 3, head, sizeof(head));
}

/*
 * Who connected: the handshake told it, where it was seen; of HTTP/2, the first message tells; else
 * it is who alone has one of the ports that Linux gives to clients, or who speaks first.
 */
static enum ts_dir client_of(const struct pcap_ends *real, const struct stream_message *m)
{
	bool process = real && real->by[TS_OUT].port >= PORT_CLIENTS;
	bool peer = real && real->by[TS_IN].port >= PORT_CLIENTS;
	const struct stream_shake *shake = m->conn->shake;
	enum ts_dir first = m->head->dir;

	if (shake && shake->role)
		return shake->role == TS_SERVER ? TS_IN : TS_OUT;
	if (is_settings(m))
		return !first;
	if (process == peer || is_preface(m))
		return first;
	return process ? TS_OUT : TS_IN;
}

/*
 * The port at which a dissector will understand what is there; for HTTP/2, Wireshark looks at those
 * of HTTP only.
 */
static uint16_t shown_port(uint16_t port, const struct stream_message *m)
{
	uint16_t plain = pcap_plain_port(port);

	return plain == port && (is_preface(m) || is_settings(m)) ? 80 : plain;
}

/* Real ends are taken unless another connection that is open has them. */
static void choose_ends(struct pcap *p, struct conn *c, const struct pcap_ends *real,
			const struct stream_message *m, enum ts_dir client)
{
	uint16_t port;

	if (real) {
		c->ends = *real;
		port = shown_port(real->by[!client].port, m);
		c->ends.by[!client].port = port;
		pcap_ends_name(&c->ends, c->name);
		c->named = !ts_map_get(&p->names, c->name[0], c->name[1]);
	}
	if (!c->named)
		pcap_ends_make(&c->ends, m->conn->id, client);
	if (real && !c->named)
		c->ends.by[!client].port = port;
}

static int remember(struct pcap *p, struct conn *c, uint64_t id)
{
	if (ts_map_set(&p->conns, id, 0, c))
		return -ENOMEM;
	if (c->named && ts_map_set(&p->names, c->name[0], c->name[1], c)) {
		ts_map_remove(&p->conns, id, 0);
		return -ENOMEM;
	}
	return 0;
}

/* The connection, in the file too, at its first message. */
static struct conn *conn_open(struct pcap *p, const struct stream_message *m)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct pcap_ends ends, *real = pcap_ends_real(&ends, &m->conn->info) ? &ends : NULL;
	enum ts_dir client = client_of(real, m);
	struct packet k = {client, PCAP_SYN, .nsecs = m->head->nsecs};
	uint64_t id = m->conn->id;

	if (!c)
		return NULL;
	choose_ends(p, c, real, m, client);
	/* Not those of an earlier connection with the same ends. */
	c->sides[TS_OUT].first = (uint32_t)id * 2654435761u;
	c->sides[TS_IN].first = c->sides[TS_OUT].first ^ 0x5bd1e995u;
	if (remember(p, c, id)) {
		free(c);
		return NULL;
	}
	k.comment = describe_conn(p, c, real, m);
	put_packet(p, c, &k);
	put_packet(p, c, &(struct packet){!client, PCAP_SYN | PCAP_ACK, .nsecs = k.nsecs});
	put_packet(p, c, &(struct packet){client, PCAP_ACK, .nsecs = k.nsecs});
	return c;
}

/* Leaves a hole, but none so long that the numbers after it would look like those before it. */
static void leave_hole(struct side *s, uint64_t size)
{
	s->skipped += size > HOLE_MAX ? size - HOLE_MAX : 0;
}

void pcap_message(struct pcap *p, const struct stream_message *m)
{
	const struct ts_data *d = m->head;
	struct packet k = {d->dir, PCAP_ACK, .nsecs = d->nsecs};
	struct conn *c;
	struct side *s;
	size_t at = 0;

	/* What is peeked at, or has been seen above already, is not part of the stream. */
	if (!m->len || d->flags & TS_DATA_UNCOUNTED)
		return;
	c = ts_map_get(&p->conns, m->conn->id, 0);
	if (!c)
		c = conn_open(p, m);
	if (!c) {
		p->no_memory = true;
		return;
	}
	p->counts.received++;
	s = &c->sides[d->dir];
	/* Where the kernel had no room for the connection there is no position. */
	k.position = d->conn_opened ? d->pos : s->next;
	if (k.position > s->next)
		leave_hole(s, k.position - s->next);
	k.comment = describe_message(p, m);
	do {
		k.size = m->size - at < PCAP_SEGMENT ? m->size - at : PCAP_SEGMENT;
		k.data = k.size ? m->data + at : NULL;
		k.flags = at + k.size == m->size && k.size ? PCAP_ACK | PCAP_PUSH : PCAP_ACK;
		put_packet(p, c, &k);
		k.position += k.size;
		k.comment = NULL;
		at += k.size;
	} while (at < m->size);
	leave_hole(s, m->len - m->size);
	k.position += m->len - m->size;
	s->next = k.position > s->next ? k.position : s->next;
	if (s->next - s->acked > ACK_AFTER)
		put_packet(p, c,
			   &(struct packet){!d->dir, PCAP_ACK, c->sides[!d->dir].next,
					    .nsecs = d->nsecs});
}

/* Each says that it has no more, and the other acknowledges. */
static void put_end(struct pcap *p, struct conn *c, uint64_t nsecs)
{
	struct packet k = {TS_OUT, PCAP_FIN | PCAP_ACK, c->sides[TS_OUT].next++, .nsecs = nsecs};

	put_packet(p, c, &k);
	k.dir = TS_IN;
	k.position = c->sides[TS_IN].next++;
	put_packet(p, c, &k);
	k = (struct packet){TS_OUT, PCAP_ACK, c->sides[TS_OUT].next, .nsecs = nsecs};
	put_packet(p, c, &k);
}

void pcap_closed(struct pcap *p, const struct stream_conn *sc, uint64_t nsecs)
{
	struct conn *c = ts_map_remove(&p->conns, sc->id, 0);

	if (!c)
		return;
	if (sc->how != TS_HOW_NONE)
		put_end(p, c, nsecs);
	if (c->named)
		ts_map_remove(&p->names, c->name[0], c->name[1]);
	free(c);
}
