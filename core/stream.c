/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libs.h"
#include "stream_private.h"

/* Bounds for what a record file, or a machine, can make us remember. */
#define CALL_BYTES (64u << 20)	 /* of one joined call */
#define OPEN_BYTES (256u << 20)	 /* of all unfinished calls together */
#define OPEN_CALLS 1024		 /* unfinished calls */
#define CONNS (256u << 10)	 /* connections */
#define CROWD (TS_MAX_CONNS / 2) /* more of them the kernel may forget: it keeps some room free */
#define SPARE_CALLS 8		 /* kept with their buffers, so that joining seldom allocates */
#define SPARE_BYTES (2u << 20)	 /* no larger buffer is kept */
#define LINGER 100000000u	 /* ns in which the rest is read of what was closed */
#define FLUSH_AFTER 1000000000u	 /* ns after which a missing piece no longer comes */

struct link {
	struct link *prev, *next;
};
#define OF(type, member, link) ((type *)((char *)(link)-offsetof(type, member)))

/* Invariant: {pid, address} finds it in stream.conns; it is in stream.lru and its process's list.
 */
struct conn {
	struct stream_conn is;
	struct link lru, ending; /* the second one if `closed` */
	uint64_t closed;	 /* when; what was decrypted before may still come. Else 0 */
	struct conn *next, **at; /* the process's others; what points here */
	unsigned int open;	 /* unfinished calls */
};

/*
 * A call of which more records may come. A thread emits all records of one call before any of the
 * next, so {pid, tid} finds it in stream.calls. data is a prefix of what the call transferred;
 * after a hole nothing is added.
 */
struct call {
	struct link order;
	struct call *spare; /* the next one, when this is not in use */
	struct conn *conn;
	struct ts_buf data;
	bool hole;
	struct ts_data head; /* without payload */
};

/* What a pid in stream.processes leads to. */
struct process {
	struct conn *conns;
};

struct stream {
	struct stream_ops ops;
	void *ctx;
	struct stream_sources sources;
	struct ts_map conns, calls, processes;
	struct link lru;    /* connections, the one silent for longest first */
	struct link order;  /* unfinished calls, oldest first */
	struct link ending; /* closed connections, the one closed first first */
	struct call *spare; /* not in use */
	size_t spare_count, open_bytes;
	uint64_t last_id, invalid, evicted, renewed;
	uint64_t now; /* the latest time seen */
};

static void list_init(struct link *list)
{
	list->prev = list->next = list;
}

static void list_add(struct link *list, struct link *l)
{
	l->prev = list->prev;
	l->next = list;
	list->prev->next = l;
	list->prev = l;
}

static void list_remove(struct link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
}

static bool counted(const struct ts_data *d)
{
	return !(d->flags & TS_DATA_UNCOUNTED);
}

/* Who was last at work on it. */
static void set_owner(struct stream_conn *c, const struct ts_data *d)
{
	memcpy(c->comm, d->comm, sizeof(c->comm));
	c->cgroup = d->cgroup;
}

static void deliver(struct stream *s, struct conn *c, const struct ts_data *head,
		    const unsigned char *data, size_t size)
{
	const struct stream_source *source = stream_source(s, head->source);
	struct stream_conn *is = &c->is;
	struct stream_message m = {
		.head = head,
		.source = source,
		.conn = is,
		.probes = TS_PROBE(source->probe),
		.data = size ? data : NULL,
		.size = size,
		.len = head->len,
		.truncated = size < head->len,
	};

	if (counted(head)) {
		if (head->pos > is->next[head->dir])
			m.gap = head->pos - is->next[head->dir];
		is->missing[head->dir] += m.gap;
		is->next[head->dir] = head->pos + head->len;
		is->bytes[head->dir] += head->len;
	}
	set_owner(is, head);
	s->ops.message(s->ctx, &m);
}

static void call_retire(struct stream *s, struct call *call)
{
	s->open_bytes -= call->data.len;
	if (s->spare_count < SPARE_CALLS && call->data.cap <= SPARE_BYTES) {
		s->spare_count++;
		call->spare = s->spare;
		s->spare = call;
		return;
	}
	ts_buf_free(&call->data);
	free(call);
}

static void call_finish(struct stream *s, struct call *call);

/*
 * Unfinished calls that lie before pos in the same direction: a later one of theirs is there, so
 * the rest of them was lost.
 */
static void finish_earlier(struct stream *s, struct conn *c, const struct ts_data *d)
{
	struct call *call, *first;
	struct link *l;

	while (c->open && counted(d)) {
		first = NULL;
		for (l = s->order.next; l != &s->order; l = l->next) {
			call = OF(struct call, order, l);
			if (call->conn == c && call->head.dir == d->dir && counted(&call->head) &&
			    call->head.pos < d->pos && (!first || call->head.pos < first->head.pos))
				first = call;
		}
		if (!first)
			return;
		call_finish(s, first);
	}
}

static void call_finish(struct stream *s, struct call *call)
{
	struct conn *c = call->conn;

	list_remove(&call->order);
	ts_map_remove(&s->calls, call->head.pid, call->head.tid);
	c->open--;
	finish_earlier(s, c, &call->head);
	deliver(s, c, &call->head, call->data.data, call->data.len);
	call_retire(s, call);
}

static struct call *call_open(struct stream *s, struct conn *c, const struct ts_data *d)
{
	struct call *call;

	if (s->calls.count >= OPEN_CALLS)
		call_finish(s, OF(struct call, order, s->order.next));
	call = s->spare;
	if (call) {
		s->spare = call->spare;
		s->spare_count--;
	} else {
		call = calloc(1, sizeof(*call));
		if (!call)
			return NULL;
	}
	call->conn = c;
	call->head = *d;
	call->data.len = 0;
	call->hole = false;
	if (ts_map_set(&s->calls, d->pid, d->tid, call)) {
		call_retire(s, call);
		return NULL;
	}
	list_add(&s->order, &call->order);
	c->open++;
	return call;
}

static void call_add(struct stream *s, struct call *call, const struct ts_data *d)
{
	if (call->hole || d->off != call->data.len || d->captured > CALL_BYTES - call->data.len ||
	    d->captured > OPEN_BYTES - s->open_bytes ||
	    ts_buf_add(&call->data, d->payload, d->captured))
		call->hole = true;
	else
		s->open_bytes += d->captured;
}

static void finish_conn(struct stream *s, struct conn *c)
{
	struct link *l, *next;
	struct call *call;

	/* Finishing one may finish others: begin again after each. */
	for (l = s->order.next; c->open && l != &s->order; l = next) {
		call = OF(struct call, order, l);
		next = l->next;
		if (call->conn == c) {
			call_finish(s, call);
			next = s->order.next;
		}
	}
}

static void conn_close(struct stream *s, struct conn *c, uint64_t nsecs, enum ts_how how)
{
	struct process *p;

	finish_conn(s, c);
	ts_map_remove(&s->conns, c->is.pid, c->is.address);
	list_remove(&c->lru);
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	p = ts_map_get(&s->processes, c->is.pid, 0);
	if (!p->conns)
		free(ts_map_remove(&s->processes, c->is.pid, 0));
	if (c->closed) {
		list_remove(&c->ending);
		nsecs = c->closed;
	} else {
		c->is.how = how;
	}
	s->ops.closed(s->ctx, &c->is, nsecs);
	free(c->is.shake);
	free(c);
}

/* Closed, but what its program had decrypted before it may yet read. */
static void conn_linger(struct stream *s, struct conn *c, const struct ts_data *d)
{
	if (c->closed)
		return;
	c->closed = d->nsecs;
	c->is.how = (enum ts_how)d->how;
	list_add(&s->ending, &c->ending);
}

static void close_ended(struct stream *s, uint64_t now)
{
	struct conn *c;

	while (s->ending.next != &s->ending) {
		c = OF(struct conn, ending, s->ending.next);
		if (now < c->closed || now - c->closed < LINGER)
			return;
		conn_close(s, c, now, c->is.how);
	}
}

static void conn_ends(struct stream *s, const struct ts_data *d)
{
	struct conn *c = ts_map_get(&s->conns, d->pid, d->conn);

	if (c && d->flags & TS_DATA_REST)
		conn_linger(s, c, d);
	else if (c)
		conn_close(s, c, d->nsecs, (enum ts_how)d->how);
}

static struct process *process_get(struct stream *s, uint32_t pid)
{
	struct process *p = ts_map_get(&s->processes, pid, 0);

	if (p)
		return p;
	p = calloc(1, sizeof(*p));
	if (p && ts_map_set(&s->processes, pid, 0, p)) {
		free(p);
		p = NULL;
	}
	return p;
}

/* How the kernel names a connection. */
struct name {
	uint32_t pid;
	uint64_t address, opened;
};

static struct conn *conn_open(struct stream *s, const struct name *name)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct process *p = c ? process_get(s, name->pid) : NULL;

	if (!p || ts_map_set(&s->conns, name->pid, name->address, c)) {
		if (p && !p->conns)
			free(ts_map_remove(&s->processes, name->pid, 0));
		free(c);
		return NULL;
	}
	c->is = (struct stream_conn){.id = ++s->last_id,
				     .pid = name->pid,
				     .address = name->address,
				     .opened = name->opened,
				     .fd = -1};
	c->next = p->conns;
	if (c->next)
		c->next->at = &c->next;
	c->at = &p->conns;
	p->conns = c;
	list_add(&s->lru, &c->lru);
	return c;
}

/* The connection of this name; NULL when there is no memory. */
static struct conn *conn_get(struct stream *s, const struct name *name, uint64_t nsecs)
{
	struct conn *c = ts_map_get(&s->conns, name->pid, name->address);

	if (c && c->is.opened == name->opened) {
		list_remove(&c->lru);
		list_add(&s->lru, &c->lru);
		return c;
	}
	/* The address serves a new connection, and the end of the old one was not seen. */
	if (c) {
		s->renewed += !c->closed && s->conns.count > CROWD;
		conn_close(s, c, nsecs, TS_HOW_NONE);
	}
	if (s->conns.count >= CONNS) {
		s->evicted++;
		conn_close(s, OF(struct conn, lru, s->lru.next), nsecs, TS_HOW_NONE);
	}
	return conn_open(s, name);
}

static bool same_call(const struct ts_data *a, const struct ts_data *b)
{
	return a->call == b->call && a->conn == b->conn && a->conn_opened == b->conn_opened &&
	       a->source == b->source && a->dir == b->dir && a->pos == b->pos && a->len == b->len;
}

static int feed_data(struct stream *s, const struct ts_data *d)
{
	struct call *call = s->calls.count ? ts_map_get(&s->calls, d->pid, d->tid) : NULL;
	struct name name = {d->pid, d->conn, d->conn_opened};
	struct conn *c;

	if (call && !same_call(&call->head, d)) {
		call_finish(s, call);
		call = NULL;
	}
	c = conn_get(s, &name, d->nsecs);
	if (!c)
		return -ENOMEM;
	if (d->fd >= 0)
		c->is.fd = d->fd;
	/* The rest of a call that was handed over, truncated, when a later one came. */
	if (!call && d->off && counted(d) && d->pos < c->is.next[d->dir])
		return 0;
	if (!call && (d->off || (d->flags & TS_DATA_MORE)))
		call = call_open(s, c, d);
	if (!call) {
		finish_earlier(s, c, d);
		deliver(s, c, d, d->payload, d->off ? 0 : d->captured);
		return 0;
	}
	call_add(s, call, d);
	if (!(d->flags & TS_DATA_MORE))
		call_finish(s, call);
	return 0;
}

static int feed_source(struct stream *s, const struct rec_source *r)
{
	int ret = stream_add_source(&s->sources, r);

	s->invalid += ret == -EBADMSG;
	return ret;
}

/* A connection of a handshake that failed tells nothing for certain. */
static int keep_shake(struct stream_conn *c, const struct ts_open *o)
{
	const size_t alpn = strlen(o->alpn) + 1, sni = strlen(o->sni) + 1;
	struct stream_shake *shake = calloc(1, sizeof(*shake) + alpn + sni);

	if (!shake)
		return -ENOMEM;
	shake->role = o->role;
	if (o->what & TS_OPEN_DONE) {
		shake->version = o->version;
		shake->cipher = o->cipher;
	}
	memcpy(shake->alpn, o->alpn, alpn);
	shake->sni = memcpy(shake->alpn + alpn, o->sni, sni);
	free(c->shake);
	c->shake = shake;
	return 0;
}

static int feed_open(struct stream *s, const struct ts_data *d)
{
	struct name name = {d->pid, d->conn, d->conn_opened};
	const struct ts_open *o = (const struct ts_open *)d->payload;
	struct conn *c = conn_get(s, &name, d->nsecs);
	struct stream_message m = {.head = d, .source = stream_source(s, d->source), .open = o};

	if (!c)
		return -ENOMEM;
	finish_conn(s, c);
	if (d->fd >= 0)
		c->is.fd = d->fd;
	if ((o->what & (TS_OPEN_DONE | TS_OPEN_FAILED)) && keep_shake(&c->is, o))
		return -ENOMEM;
	set_owner(&c->is, d);
	m.conn = &c->is;
	if (o->what & (TS_OPEN_DONE | TS_OPEN_FAILED))
		m.probes |= TS_PROBE(TS_P_OPEN);
	if (o->what & TS_OPEN_ERROR)
		m.probes |= TS_PROBE(TS_P_ERROR);
	s->ops.message(s->ctx, &m);
	return 0;
}

static int feed_conn(struct stream *s, const struct ts_conn_info *i)
{
	struct name name = {i->pid, i->conn, i->conn_opened};
	struct conn *c = conn_get(s, &name, i->nsecs);
	struct ts_conn_info was;

	if (!c)
		return -ENOMEM;
	was = c->is.info;
	c->is.info = *i;
	/* Only the kernel's TLS knows these. */
	if (!i->version) {
		c->is.info.version = was.version;
		c->is.info.cipher = was.cipher;
	}
	return 0;
}

/* A process ends, or is another program from now on: so do its connections. */
static void feed_life(struct stream *s, const struct rec_exec *r)
{
	struct process *p = ts_map_get(&s->processes, r->pid, 0);
	struct conn *c, *next;

	/* What was opened later is another process', of the same number, or the new program's. */
	for (c = p ? p->conns : NULL; c; c = next) {
		next = c->next;
		if (c->is.opened <= r->nsecs)
			conn_close(s, c, r->nsecs, TS_HOW_EXITED);
	}
}

int stream_feed(struct stream *s, const struct ts_record *r)
{
	const struct ts_data *d = (const struct ts_data *)r;

	if (!record_valid(r, r->size) ||
	    ((r->type == TS_REC_DATA || r->type == TS_REC_OPEN) && !stream_source(s, d->source))) {
		s->invalid++;
		return -EBADMSG;
	}
	switch (r->type) {
	case TS_REC_DATA:
		s->now = d->nsecs > s->now ? d->nsecs : s->now;
		close_ended(s, d->nsecs);
		return feed_data(s, d);
	case TS_REC_OPEN:
		s->now = d->nsecs > s->now ? d->nsecs : s->now;
		return feed_open(s, d);
	case TS_REC_CLOSE:
		close_ended(s, d->nsecs);
		conn_ends(s, d);
		return 0;
	case TS_REC_CONN:
		return feed_conn(s, (const struct ts_conn_info *)r);
	case TS_REC_HELLO:
		stream_hello(&s->ops, s->ctx, (const struct ts_hello *)r);
		return 0;
	case TS_REC_SOURCE:
		return feed_source(s, (const struct rec_source *)r);
	case TS_REC_EXEC:
	case TS_REC_EXIT:
		feed_life(s, (const struct rec_exec *)r);
		return 0;
	default:
		return 0;
	}
}

void stream_flush(struct stream *s, uint64_t nsecs)
{
	struct link *l, *next;
	uint64_t last;

	for (l = s->order.next; l != &s->order; l = next) {
		next = l->next;
		last = OF(struct call, order, l)->head.nsecs;
		if (nsecs == UINT64_MAX || (nsecs > last && nsecs - last >= FLUSH_AFTER)) {
			call_finish(s, OF(struct call, order, l));
			next = s->order.next;
		}
	}
	close_ended(s, nsecs);
}

int stream_open(struct stream **out, const struct stream_ops *ops, void *ctx)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->ops = *ops;
	s->ctx = ctx;
	list_init(&s->lru);
	list_init(&s->order);
	list_init(&s->ending);
	*out = s;
	return 0;
}

void stream_close(struct stream *s)
{
	struct call *call;

	if (!s)
		return;
	stream_flush(s, UINT64_MAX);
	while (s->lru.next != &s->lru)
		conn_close(s, OF(struct conn, lru, s->lru.next), s->now, TS_HOW_NONE);
	while ((call = s->spare)) {
		s->spare = call->spare;
		ts_buf_free(&call->data);
		free(call);
	}
	stream_free_sources(&s->sources);
	ts_map_free(&s->conns);
	ts_map_free(&s->calls);
	ts_map_free(&s->processes);
	free(s);
}

const struct stream_source *stream_source(const struct stream *s, uint32_t id)
{
	return stream_find_source(&s->sources, id);
}

void stream_each_process(const struct stream *s, void (*each)(void *ctx, uint32_t pid), void *ctx)
{
	size_t i;

	for (i = 0; i < s->processes.cap; i++)
		if (s->processes.slots[i].value)
			each(ctx, (uint32_t)s->processes.slots[i].a);
}

size_t stream_conn_count(const struct stream *s)
{
	return s->conns.count;
}

uint64_t stream_invalid(const struct stream *s)
{
	return s->invalid;
}

uint64_t stream_evicted(const struct stream *s)
{
	return s->evicted;
}

uint64_t stream_renewed(const struct stream *s)
{
	return s->renewed;
}
