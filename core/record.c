/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libs.h"
#include "record.h"

#define BUFFER_SIZE (256u << 10)
#define LENGTH_MAX (1ull << 62) /* sums of two lengths never overflow */

struct file_header {
	char magic[8];
	__u32 version;
	__u32 order;
};
static const struct file_header header_made = {
	{'t', 'l', 's', 's', 'c', 'o', 'p', 'e'}, RECORD_VERSION, 0x01020304};

/* What each type's record consists of: a body of fixed size, then at most so many strings. */
static const struct form {
	size_t body;
	unsigned int strings;
} forms[TS_REC_TYPES] = {
	[TS_REC_CONN] = {sizeof(struct ts_conn_info), 0},
	[TS_REC_START] = {sizeof(struct rec_start), 2},
	[TS_REC_SOURCE] = {sizeof(struct rec_source), 3},
	[TS_REC_PROCESS] = {sizeof(struct rec_process), 9},
	[TS_REC_EXEC] = {sizeof(struct rec_exec), 1},
	[TS_REC_EXIT] = {sizeof(struct rec_exec), 1},
	[TS_REC_LOST] = {sizeof(struct rec_lost), 0},
	[TS_REC_TICK] = {sizeof(struct rec_tick), 0},
	[TS_REC_SIGNAL] = {sizeof(struct rec_signal), 0},
	[TS_REC_STOP] = {sizeof(struct rec_stop), 0},
	[TS_REC_ATTACH] = {sizeof(struct rec_attach), 3},
};

const struct ts_record *record_build(struct ts_buf *buf, uint16_t type, const void *body,
				     size_t size, const char *const *strings)
{
	struct ts_record *r;

	buf->len = 0;
	if (ts_buf_add(buf, body, size))
		return NULL;
	for (; strings && *strings; strings++)
		if (ts_buf_add(buf, *strings, strlen(*strings) + 1))
			return NULL;
	if (buf->len > RECORD_MAX)
		return NULL;
	r = (struct ts_record *)buf->data;
	*r = (struct ts_record){.size = (__u32)buf->len, .type = type};
	return r;
}

const char *record_string(const struct ts_record *r, size_t size, unsigned int n)
{
	const char *s = (const char *)r + size, *end = (const char *)r + r->size;

	while (n-- && s < end)
		s += strlen(s) + 1;
	return s < end ? s : "";
}

bool record_container(const struct ts_record *r, struct container *out)
{
	const size_t body = sizeof(struct rec_process);

	if (!container_parse(record_string(r, body, 4), out, NULL))
		return false;
	if (*record_string(r, body, 5))
		ts_copy(out->name, sizeof(out->name), record_string(r, body, 5));
	ts_copy(out->pod, sizeof(out->pod), record_string(r, body, 6));
	ts_copy(out->namespace, sizeof(out->namespace), record_string(r, body, 7));
	return true;
}

static bool data_valid(const struct ts_data *d)
{
	const __u32 flags = TS_DATA_MORE | TS_DATA_PEEK | TS_DATA_FAULT | TS_DATA_NODATA |
			    TS_DATA_EARLY | TS_DATA_KTLS | TS_DATA_BELOW | TS_DATA_CONTROL |
			    TS_DATA_REST;

	if (d->record.size < sizeof(*d) || d->captured != d->record.size - sizeof(*d) ||
	    d->captured > TS_CHUNK)
		return false;
	if (d->len > LENGTH_MAX || d->pos > LENGTH_MAX || d->off > d->len ||
	    d->captured > d->len - d->off)
		return false;
	if (d->dir > TS_OUT || d->how >= TS_HOW_COUNT || (d->flags & ~flags) ||
	    d->comm[TS_COMM_LEN - 1])
		return false;
	return !d->captured || (d->record.type == TS_REC_DATA && !(d->flags & TS_DATA_NODATA));
}

static bool conn_valid(const struct ts_conn_info *i)
{
	return i->llen <= TS_ADDRESS && i->rlen <= TS_ADDRESS;
}

static bool open_valid(const struct ts_data *d)
{
	const struct ts_open *o = (const struct ts_open *)d->payload;
	struct ts_data head = *d;

	if (d->record.size != sizeof(*d) + sizeof(*o) || d->captured != sizeof(*o) || d->len)
		return false;
	head.captured = 0;
	head.record.size = sizeof(head);
	return data_valid(&head) && o->what && !o->alpn[sizeof(o->alpn) - 1] &&
	       !o->sni[sizeof(o->sni) - 1];
}

static bool strings_valid(const char *s, size_t size, unsigned int most)
{
	unsigned int n = 0;
	size_t i;

	for (i = 0; i < size; i++)
		n += !s[i];
	return n <= most && (!size || !s[size - 1]);
}

static bool hello_valid(const struct ts_hello *h)
{
	return h->record.size >= sizeof(*h) && h->len == h->record.size - sizeof(*h) &&
	       h->len <= TS_HELLO_WINDOW && !h->pos && !h->skip && h->dir <= TS_OUT &&
	       !h->comm[TS_COMM_LEN - 1];
}

bool record_valid(const struct ts_record *r, size_t available)
{
	const struct form *form;
	__u32 probe;

	if (available < sizeof(*r) || r->size < sizeof(*r) || r->size > available ||
	    r->size > RECORD_MAX || r->zero || r->type >= TS_REC_TYPES)
		return false;
	if (r->type == TS_REC_DATA || r->type == TS_REC_CLOSE)
		return data_valid((const struct ts_data *)r);
	if (r->type == TS_REC_OPEN)
		return r->size >= sizeof(struct ts_data) && open_valid((const struct ts_data *)r);
	if (r->type == TS_REC_HELLO)
		return hello_valid((const struct ts_hello *)r);
	form = &forms[r->type];
	if (!form->body || r->size < form->body ||
	    !strings_valid((const char *)r + form->body, r->size - form->body, form->strings))
		return false;
	if (r->type == TS_REC_CONN)
		return conn_valid((const struct ts_conn_info *)r);
	probe = r->type == TS_REC_SOURCE ? ((const struct rec_source *)r)->probe : 0;
	return probe < TS_P_COUNT && probe != TS_P_TLS_HELLO;
}

/* Invariant: once failed is set (an errno value), nothing more is written. */
struct record_writer {
	int fd, failed;
	size_t used;
	char *path;
	unsigned char buffer[BUFFER_SIZE];
};

static int write_error(struct record_writer *w, int code, struct ts_err *err)
{
	w->failed = code;
	return ts_fail(err, code, "cannot write the recording to %s: %s; it ends early", w->path,
		       strerror(code));
}

static int write_all(struct record_writer *w, const void *data, size_t len, struct ts_err *err)
{
	const char *p = data;
	ssize_t n;

	while (len) {
		n = write(w->fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return write_error(w, n ? errno : ENOSPC, err);
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int record_flush(struct record_writer *w, struct ts_err *err)
{
	size_t len = w->used;

	if (w->failed)
		return write_error(w, w->failed, err);
	w->used = 0;
	return write_all(w, w->buffer, len, err);
}

/* Plaintext is for the eyes of its owner only, also in a file that was there before. */
static int open_private(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600), code;
	struct stat st;

	if (fd >= 0 && (fstat(fd, &st) || (S_ISREG(st.st_mode) && fchmod(fd, 0600)))) {
		code = errno;
		close(fd);
		errno = code;
		return -1;
	}
	return fd;
}

int record_writer_open(struct record_writer **out, const char *path, struct ts_err *err)
{
	bool standard = !strcmp(path, "-");
	struct record_writer *w;
	int code;

	if (standard && isatty(STDOUT_FILENO))
		return ts_fail(err, EINVAL,
			       "a recording is not for a terminal: name a file, or "
			       "redirect the output");
	w = calloc(1, sizeof(*w));
	if (w)
		w->path = strdup(standard ? "standard output" : path);
	if (!w || !w->path) {
		free(w);
		return ts_fail(err, ENOMEM, "out of memory");
	}
	w->fd = standard ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3) : open_private(path);
	if (w->fd < 0) {
		code = errno;
		free(w->path);
		free(w);
		return ts_fail(err, code, "cannot create %s for the recording: %s", path,
			       strerror(code));
	}
	memcpy(w->buffer, &header_made, sizeof(header_made));
	w->used = sizeof(header_made);
	*out = w;
	return 0;
}

int record_write(struct record_writer *w, const struct ts_record *r, struct ts_err *err)
{
	int ret;

	if (w->failed || w->used + r->size > BUFFER_SIZE) {
		ret = record_flush(w, err);
		if (ret)
			return ret;
	}
	if (r->size > BUFFER_SIZE)
		return write_all(w, r, r->size, err);
	memcpy(w->buffer + w->used, r, r->size);
	w->used += r->size;
	return 0;
}

int record_writer_close(struct record_writer *w, struct ts_err *err)
{
	int ret;

	if (!w)
		return 0;
	ret = record_flush(w, err);
	if (close(w->fd) && !ret)
		ret = write_error(w, errno, err);
	free(w->path);
	free(w);
	return ret;
}

/* buffer[start..end) is read and not used yet. record is aligned, as a file's records are not. */
struct reader {
	const char *path;
	int fd;
	bool (*stop)(void *ctx);
	void *stop_ctx;
	size_t start, end;
	uint64_t at; /* offset in the file of buffer[start] */
	unsigned char buffer[BUFFER_SIZE];
	union {
		struct ts_record head;
		__u64 aligned;
		unsigned char bytes[RECORD_MAX];
	} record;
};

static bool stopped(const struct reader *r)
{
	return r->stop && r->stop(r->stop_ctx);
}

/* How many of len bytes there were, or -errno; -EINTR when stopped while it waits. */
static ptrdiff_t read_bytes(struct reader *r, unsigned char *out, size_t len)
{
	size_t got = 0, part;
	ssize_t n;

	while (got < len) {
		if (r->start == r->end) {
			n = read(r->fd, r->buffer, BUFFER_SIZE);
			if (n < 0 && errno == EINTR && !stopped(r))
				continue;
			if (n < 0)
				return -errno;
			if (!n)
				break;
			r->start = 0;
			r->end = (size_t)n;
		}
		part = r->end - r->start < len - got ? r->end - r->start : len - got;
		memcpy(out + got, r->buffer + r->start, part);
		r->start += part;
		r->at += part;
		got += part;
	}
	return (ptrdiff_t)got;
}

static int read_error(const struct reader *r, ptrdiff_t code, struct ts_err *err)
{
	if (code == -EINTR)
		return 0;
	return ts_fail(err, (int)-code, "cannot read %s: %s", r->path, strerror((int)-code));
}

/* 1: the file is one that we read. */
static int read_header(struct reader *r, struct ts_err *err)
{
	struct file_header h = {0};
	ptrdiff_t n = read_bytes(r, (unsigned char *)&h, sizeof(h));

	if (n < 0)
		return read_error(r, n, err);
	if (!n)
		return ts_fail(err, EBADMSG, "%s is empty: nothing was recorded in it", r->path);
	if ((size_t)n < sizeof(h) || memcmp(h.magic, header_made.magic, sizeof(h.magic)))
		return ts_fail(err, EBADMSG, "%s is not a recording: name a file made with -w",
			       r->path);
	if (h.order != header_made.order)
		return ts_fail(err, EBADMSG,
			       "%s was recorded on a machine of the other byte order: replay it "
			       "on one of the same",
			       r->path);
	if (h.version != RECORD_VERSION)
		return ts_fail(err, EBADMSG,
			       "%s has version %" PRIu32 " of the recording format and this "
			       "program reads version %u: replay it with the program that made it",
			       r->path, h.version, RECORD_VERSION);
	return 1;
}

/* 1: r->record holds the next record. 0: there is none. */
static int read_record(struct reader *r, struct ts_err *err)
{
	uint64_t at = r->at;
	size_t size = sizeof(r->record.head);
	ptrdiff_t n = read_bytes(r, r->record.bytes, size);

	if (n < 0)
		return read_error(r, n, err);
	if (!n)
		return 0;
	if ((size_t)n == size && r->record.head.size > size && r->record.head.size <= RECORD_MAX) {
		size = r->record.head.size;
		n = read_bytes(r, r->record.bytes + sizeof(r->record.head),
			       size - sizeof(r->record.head));
		if (n < 0)
			return read_error(r, n, err);
		n += (ptrdiff_t)sizeof(r->record.head);
	}
	if ((size_t)n < size)
		return ts_fail(err, EBADMSG,
			       "%s ends in the middle of a record, at byte %" PRIu64
			       ": the recording was cut off; what came before was replayed",
			       r->path, at);
	if (!record_valid(&r->record.head, size))
		return ts_fail(err, EBADMSG,
			       "%s is damaged at byte %" PRIu64 ": what came before was replayed",
			       r->path, at);
	return 1;
}

int record_replay(const char *path, const struct record_sink *sink, bool (*stop)(void *ctx),
		  void *stop_ctx, struct ts_err *err)
{
	bool standard = !strcmp(path, "-");
	struct reader *r = malloc(sizeof(*r));
	int ret;

	if (!r)
		return ts_fail(err, ENOMEM, "out of memory");
	r->path = standard ? "standard input" : path;
	r->stop = stop;
	r->stop_ctx = stop_ctx;
	r->start = r->end = 0;
	r->at = 0;
	r->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (r->fd < 0) {
		ret = read_error(r, -errno, err);
		free(r);
		return ret;
	}
	ret = read_header(r, err);
	while (ret > 0) {
		ret = stopped(r) ? 0 : read_record(r, err);
		if (ret > 0) {
			ret = record_send(sink, &r->record.head);
			ret = ret < 0 ? ret : 1;
		}
	}
	if (!standard)
		close(r->fd);
	free(r);
	return ret;
}
