/* SPDX-License-Identifier: MIT */
/* The calls that move plaintext through a kTLS socket; each notes what it moved. */
#ifndef KTLS_CALLS_H
#define KTLS_CALLS_H

#include "ktls_keys.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

enum { ALERT = 21, HANDSHAKE = 22, DATA = 23 }; /* types of records */

enum {
	FEW = 5,
	MANY = 40,   /* above what the kernel keeps on its stack, and above 16 */
	MOST = 1024, /* all that it takes (IOV_MAX) */
	GAP = 24,    /* between the pieces of a scattered buffer */
	PIPE = 40000 /* what is put into a pipe at a time: less than it takes */
};

/*
 * Cuts n bytes into pieces of which every third is empty, far from each other and in falling order
 * of address. Returns the memory that they lie in.
 */
static char *scatter(struct iovec *v, size_t count, size_t n)
{
	size_t piece = n / (count * 2 / 3) + 1, room = n + count * GAP, i;
	char *area = memory(room), *at = area + room;

	memset(area, '#', room);
	for (i = 0; i < count; i++) {
		size_t len = i % 3 == 0 && i < count - 1 ? 0 : piece < n ? piece : n;

		if (i == count - 1)
			len = n;
		n -= len;
		at -= len + GAP;
		v[i] = (struct iovec){at, len};
	}
	return area;
}

static void fill_pieces(const struct iovec *v, size_t count, const char *buf)
{
	size_t i;

	for (i = 0; i < count; buf += v[i++].iov_len)
		memcpy(v[i].iov_base, buf, v[i].iov_len);
}

static void take_pieces(const struct iovec *v, size_t count, char *buf)
{
	size_t i;

	for (i = 0; i < count; buf += v[i++].iov_len)
		memcpy(buf, v[i].iov_base, v[i].iov_len);
}

/* --- sending: one or more calls that move n bytes or less; returns how many */

static size_t tx_send(struct side *s, char *buf, size_t n)
{
	return moved(&s->out, "send", send(s->fd, buf, n, 0));
}

static size_t tx_write(struct side *s, char *buf, size_t n)
{
	return moved(&s->out, "write", write(s->fd, buf, n));
}

static size_t write_pieces(struct side *s, char *buf, size_t n, int count)
{
	struct iovec v[MOST];
	char *area = scatter(v, (size_t)count, n);

	fill_pieces(v, (size_t)count, buf);
	n = moved(&s->out, "writev", writev(s->fd, v, count));
	free(area);
	return n;
}

static size_t tx_writev(struct side *s, char *buf, size_t n)
{
	return write_pieces(s, buf, n, MANY);
}

static size_t tx_wide(struct side *s, char *buf, size_t n)
{
	return write_pieces(s, buf, n, MOST);
}

static size_t tx_sendmsg(struct side *s, char *buf, size_t n)
{
	struct iovec v[FEW];
	struct msghdr m = {.msg_iov = v, .msg_iovlen = FEW};
	char *area = scatter(v, FEW, n);

	fill_pieces(v, FEW, buf);
	n = moved(&s->out, "sendmsg", sendmsg(s->fd, &m, 0));
	free(area);
	return n;
}

/* The kernel refuses two messages (MSG_BATCH), and takes one. */
static size_t tx_sendmmsg(struct side *s, char *buf, size_t n)
{
	struct iovec v[2] = {{buf, n - n / 2}, {buf + n - n / 2, n / 2}};
	struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = &v[0], .msg_iovlen = 1}},
			       {.msg_hdr = {.msg_iov = &v[1], .msg_iovlen = 1}}};
	int i, got = sendmmsg(s->fd, m, 2, 0);

	if (got < 0) {
		fails(&s->out, "sendmmsg", got);
		v[0].iov_len = n;
		got = sendmmsg(s->fd, m, 1, 0);
	}
	if (got < 1)
		die("sendmmsg");
	for (n = 0, i = 0; i < got; i++)
		n += moved(&s->out, "sendmmsg", m[i].msg_len);
	return n;
}

/* Pieces that the kernel gathers into one record. */
static size_t tx_more(struct side *s, char *buf, size_t n)
{
	size_t piece = n > 700 ? 700 : n;

	return moved(&s->out, "send", send(s->fd, buf, piece, piece < n ? MSG_MORE : 0));
}

static size_t tx_sendfile(struct side *s, char *buf, size_t n)
{
	off_t at = 4000; /* the first page ends soon */
	int file = memfd_create("ktls", MFD_CLOEXEC);

	if (file < 0 || pwrite(file, buf, n, at) != (ssize_t)n)
		die("memfd");
	n = moved(&s->out, "sendfile", sendfile(s->fd, file, &at, n));
	close(file);
	return n;
}

/* Empties a pipe into the socket. */
static void pipe_out(struct side *s, const char *call, int pipe, size_t n, bool more)
{
	while (n)
		n -= moved(&s->out, call,
			   splice(pipe, NULL, s->fd, NULL, n, more ? SPLICE_F_MORE : 0));
}

static size_t tx_splice(struct side *s, char *buf, size_t n)
{
	size_t now = n < PIPE ? n : PIPE;
	int p[2];

	/* In two, so that a page of the pipe is not full. */
	if (pipe(p) || write(p[1], buf, now / 3) != (ssize_t)(now / 3) ||
	    write(p[1], buf + now / 3, now - now / 3) != (ssize_t)(now - now / 3))
		die("pipe");
	pipe_out(s, "splice", p[0], now, now < n);
	close(p[0]);
	close(p[1]);
	return now;
}

static size_t tx_vmsplice(struct side *s, char *buf, size_t n)
{
	size_t now = n < PIPE ? n : PIPE;
	struct iovec v[FEW];
	char *area = scatter(v, FEW, now);
	int p[2];

	fill_pieces(v, FEW, buf);
	if (pipe(p) || vmsplice(p[1], v, FEW, 0) != (ssize_t)now)
		die("vmsplice");
	/* The record is closed before its pages are given back. */
	pipe_out(s, "vmsplice", p[0], now, false);
	close(p[0]);
	close(p[1]);
	free(area);
	return now;
}

static size_t tx_uring_send(struct side *s, char *buf, size_t n)
{
	if (!s->ring)
		return tx_send(s, buf, n);
	return moved(&s->out, "uring_send", ring_call(s->ring, IORING_OP_SEND, s->fd, buf, n));
}

static size_t tx_uring_writev(struct side *s, char *buf, size_t n)
{
	struct iovec v[FEW];
	char *area;

	if (!s->ring)
		return tx_writev(s, buf, n);
	area = scatter(v, FEW, n);
	fill_pieces(v, FEW, buf);
	n = moved(&s->out, "uring_writev", ring_call(s->ring, IORING_OP_WRITEV, s->fd, v, FEW));
	free(area);
	return n;
}

static size_t tx_uring_fixed(struct side *s, char *buf, size_t n)
{
	const size_t at = 4000, room = FIXED_SIZE - at;

	if (!s->ring)
		return tx_write(s, buf, n);
	n = n < room ? n : room;
	memcpy(s->ring->fixed + at, buf, n);
	return moved(&s->out, "uring_fixed",
		     ring_call(s->ring, IORING_OP_WRITE_FIXED, s->fd, s->ring->fixed + at, n));
}

/* So that a sender soon waits for the receiver. */
static void small_buffer(const struct side *s)
{
	int small = 20000;

	setsockopt(s->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
}

/* Without waiting, and first while nobody reads: calls that are cut short, one that moves nothing.
 */
static size_t tx_short(struct side *s, char *buf, size_t n)
{
	struct pollfd p = {.fd = s->fd, .events = POLLOUT};
	int flags = fcntl(s->fd, F_GETFL);
	size_t done = 0;
	bool full = false;
	ssize_t ret;

	small_buffer(s);
	fcntl(s->fd, F_SETFL, flags | O_NONBLOCK);
	while (done < n) {
		ret = send(s->fd, buf + done, n - done, 0);
		if (ret >= 0) {
			done += moved(&s->out, "send", ret);
			continue;
		}
		fails(&s->out, "send", ret);
		if (!full)
			tell_peer(s);
		full = true;
		poll(&p, 1, 1000);
	}
	if (!full)
		die("no call was cut short: it needs more bytes");
	fcntl(s->fd, F_SETFL, flags);
	return n;
}

/* --- receiving: one or more calls that move n bytes or less; returns how many */

/* A message beside the bytes: the type of the record. */
union type_message {
	char bytes[CMSG_SPACE(1)];
	struct cmsghdr align;
};

static ssize_t receive_typed(int fd, struct iovec *v, size_t count, int flags,
			     union type_message *type)
{
	struct msghdr m = {.msg_iov = v,
			   .msg_iovlen = count,
			   .msg_control = type,
			   .msg_controllen = sizeof(*type)};

	memset(type, 0, sizeof(*type));
	return recvmsg(fd, &m, flags);
}

static size_t rx_recv(struct side *s, char *buf, size_t n)
{
	return moved(&s->in, "recv", recv(s->fd, buf, n, 0));
}

static size_t rx_read(struct side *s, char *buf, size_t n)
{
	return moved(&s->in, "read", read(s->fd, buf, n));
}

static size_t read_pieces(struct side *s, char *buf, size_t n, int count)
{
	struct iovec v[MOST];
	char *area = scatter(v, (size_t)count, n);

	n = moved(&s->in, "readv", readv(s->fd, v, count));
	take_pieces(v, (size_t)count, buf);
	free(area);
	return n;
}

static size_t rx_readv(struct side *s, char *buf, size_t n)
{
	return read_pieces(s, buf, n, MANY);
}

static size_t rx_wide(struct side *s, char *buf, size_t n)
{
	return read_pieces(s, buf, n, MOST);
}

/* Asks for the record's type too, as OpenSSL does. */
static size_t rx_recvmsg(struct side *s, char *buf, size_t n)
{
	struct iovec v[FEW];
	char *area = scatter(v, FEW, n);
	union type_message type;

	n = moved(&s->in, "recvmsg", receive_typed(s->fd, v, FEW, 0, &type));
	if (type.bytes[CMSG_LEN(0)] != DATA)
		die("recvmsg: not a data record");
	take_pieces(v, FEW, buf);
	free(area);
	return n;
}

static size_t rx_recvmmsg(struct side *s, char *buf, size_t n)
{
	struct iovec v[2] = {{buf, n - n / 2}, {buf + n - n / 2, n / 2}};
	struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = &v[0], .msg_iovlen = 1}},
			       {.msg_hdr = {.msg_iov = &v[1], .msg_iovlen = 1}}};
	int got = recvmmsg(s->fd, m, n > 1 ? 2 : 1, MSG_WAITFORONE, NULL);
	size_t first;

	if (got < 1)
		die("recvmmsg");
	first = moved(&s->in, "recvmmsg", m[0].msg_len);
	if (got == 1)
		return first;
	memmove(buf + first, v[1].iov_base, m[1].msg_len);
	return first + moved(&s->in, "recvmmsg", m[1].msg_len);
}

static size_t rx_waitall(struct side *s, char *buf, size_t n)
{
	return moved(&s->in, "recv", recv(s->fd, buf, n, MSG_WAITALL));
}

static void peek(struct side *s, char *buf, size_t n)
{
	ssize_t ret = recv(s->fd, buf, n, MSG_PEEK);

	if (ret <= 0)
		die("recv with MSG_PEEK");
	check_text(&s->in, s->in.bytes, buf, (size_t)ret);
	note(&s->in.peeked, "recv", s->in.bytes, (size_t)ret, NULL);
}

static size_t rx_peek(struct side *s, char *buf, size_t n)
{
	peek(s, buf, n);
	peek(s, buf, n / 2 + 1);
	return rx_recv(s, buf, n);
}

static size_t rx_splice(struct side *s, char *buf, size_t n)
{
	int p[2];

	if (pipe(p))
		die("pipe");
	n = moved(&s->in, "splice", splice(s->fd, NULL, p[1], NULL, n < PIPE ? n : PIPE, 0));
	if (read(p[0], buf, n) != (ssize_t)n)
		die("read of the pipe");
	close(p[0]);
	close(p[1]);
	return n;
}

static size_t rx_uring_recv(struct side *s, char *buf, size_t n)
{
	if (!s->ring)
		return rx_recv(s, buf, n);
	return moved(&s->in, "uring_recv", ring_call(s->ring, IORING_OP_RECV, s->fd, buf, n));
}

static size_t rx_uring_readv(struct side *s, char *buf, size_t n)
{
	struct iovec v[FEW];
	char *area;

	if (!s->ring)
		return rx_readv(s, buf, n);
	area = scatter(v, FEW, n);
	n = moved(&s->in, "uring_readv", ring_call(s->ring, IORING_OP_READV, s->fd, v, FEW));
	take_pieces(v, FEW, buf);
	free(area);
	return n;
}

static size_t rx_uring_fixed(struct side *s, char *buf, size_t n)
{
	const size_t at = 4000, room = FIXED_SIZE - at;

	if (!s->ring)
		return rx_read(s, buf, n);
	n = moved(&s->in, "uring_fixed",
		  ring_call(s->ring, IORING_OP_READ_FIXED, s->fd, s->ring->fixed + at,
			    n < room ? n : room));
	memcpy(buf, s->ring->fixed + at, n);
	return n;
}

struct means {
	const char *name;
	size_t (*call)(struct side *, char *, size_t);
};

static const struct means sending[] = {
	{"send", tx_send},
	{"write", tx_write},
	{"writev", tx_writev},
	{"wide", tx_wide},
	{"sendmsg", tx_sendmsg},
	{"sendmmsg", tx_sendmmsg},
	{"more", tx_more},
	{"sendfile", tx_sendfile},
	{"splice", tx_splice},
	{"vmsplice", tx_vmsplice},
	{"uring_send", tx_uring_send},
	{"uring_writev", tx_uring_writev},
	{"uring_fixed", tx_uring_fixed},
	{"short", tx_short},
	{NULL, NULL},
};

static const struct means receiving[] = {
	{"recv", rx_recv},
	{"read", rx_read},
	{"readv", rx_readv},
	{"wide", rx_wide},
	{"recvmsg", rx_recvmsg},
	{"recvmmsg", rx_recvmmsg},
	{"waitall", rx_waitall},
	{"peek", rx_peek},
	{"splice", rx_splice},
	{"uring_recv", rx_uring_recv},
	{"uring_readv", rx_uring_readv},
	{"uring_fixed", rx_uring_fixed},
	{NULL, NULL},
};

#endif
