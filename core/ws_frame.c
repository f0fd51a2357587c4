/* SPDX-License-Identifier: MIT */
/* Frames: the head of one, and where they surely begin. */
#include <string.h>

#include "ws_private.h"

/*
 * How many bits of chance speak against a beginning before it is believed: once in some millions a
 * place that is none looks like one.
 */
#define PROOF 24
#define HEAD_BITS 4 /* 26 of 512 pairs of bytes can begin a frame */

size_t ws_frame_head(struct ws_frame *f, const unsigned char *data, size_t len)
{
	size_t size, extra, i;

	if (len < 2)
		return 0;
	f->fin = data[0] & 0x80;
	f->rsv = data[0] >> 4 & 7;
	f->opcode = data[0] & 0x0f;
	f->masked = data[1] & 0x80;
	f->len = data[1] & 0x7f;
	extra = f->len == 126 ? 2 : f->len == 127 ? 8 : 0;
	size = 2 + extra + (f->masked ? 4 : 0);
	if (len < size)
		return 0;
	if (extra)
		f->len = 0;
	for (i = 0; i < extra; i++)
		f->len = f->len << 8 | data[2 + i];
	f->longer = extra && f->len < (extra == 2 ? 126u : 65536u);
	if (f->masked)
		memcpy(f->mask, data + 2 + extra, 4);
	return size;
}

void ws_unmask(const struct ws_frame *f, size_t at, unsigned char *to, const unsigned char *from,
	       size_t len)
{
	size_t i;

	if (!f->masked)
		memcpy(to, from, len);
	for (i = 0; f->masked && i < len; i++)
		to[i] = from[i] ^ f->mask[(at + i) % 4];
}

static void utf8_begin(struct ws_utf8 *u, unsigned char c)
{
	*u = (struct ws_utf8){0,
			      c == 0xe0	  ? 0xa0
			      : c == 0xf0 ? 0x90
					  : 0x80,
			      c == 0xed	  ? 0x9f
			      : c == 0xf4 ? 0x8f
					  : 0xbf,
			      false};
	if (c >= 0xc2 && c <= 0xdf)
		u->left = 1;
	else if (c >= 0xe0 && c <= 0xef)
		u->left = 2;
	else if (c >= 0xf0 && c <= 0xf4)
		u->left = 3;
	else
		u->bad = c >= 0x80;
}

void ws_utf8_feed(struct ws_utf8 *u, const unsigned char *data, size_t len)
{
	size_t i;

	for (i = 0; i < len && !u->bad; i++) {
		if (!u->left) {
			utf8_begin(u, data[i]);
			continue;
		}
		u->bad = data[i] < u->low || data[i] > u->high;
		u->low = 0x80;
		u->high = 0xbf;
		u->left--;
	}
}

/* RFC 6455, 7.4, and IANA's registry. */
bool ws_close_code_valid(unsigned int code)
{
	return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
	       (code >= 3000 && code <= 4999);
}

/* What nobody sends who keeps to the RFC. */
static bool possible(const struct ws_frame *f, bool masked, bool deflate)
{
	bool rsv1 = deflate && (f->opcode == WS_TEXT || f->opcode == WS_BINARY);

	if (f->masked != masked || f->longer || f->rsv & (rsv1 ? 3 : 7) || f->len > WS_HELD)
		return false;
	if (f->opcode & 8)
		return f->opcode <= WS_PONG && f->fin && f->len <= 125 &&
		       (f->opcode != WS_CLOSE || f->len != 1);
	return f->opcode <= WS_BINARY;
}

static bool content_possible(const struct ws_frame *f, const unsigned char *data)
{
	unsigned char part[1024];
	struct ws_utf8 u = {0};
	size_t at, n;

	if (f->opcode == WS_CLOSE && f->len) {
		ws_unmask(f, 0, part, data, 2);
		return ws_close_code_valid((unsigned int)part[0] << 8 | part[1]);
	}
	if (f->opcode != WS_TEXT || f->rsv)
		return true;
	for (at = 0; at < f->len; at += n) {
		n = f->len - at < sizeof(part) ? (size_t)f->len - at : sizeof(part);
		ws_unmask(f, at, part, data + at, n);
		ws_utf8_feed(&u, part, n);
	}
	return !u.bad && !(f->fin && u.left);
}

static bool is_call_end(const struct ws_held *held, size_t at)
{
	unsigned int i;

	for (i = 0; i < held->count; i++)
		if (held->calls[i] == at)
			return true;
	return at == held->bytes.len;
}

/* How much a frame says that ends where a call does: less where many calls do. */
static int end_bits(const struct ws_held *held, const struct ws_frame *f)
{
	int bits = f->len < 126 ? 7 : 20;
	unsigned int n;

	for (n = held->count; n && bits; n /= 2)
		bits--;
	return bits;
}

/* Bits that speak for frames from `at` on; negative: there are none. */
static int weigh(const struct ws_held *held, size_t at, bool masked, bool deflate)
{
	struct ws_frame f = {0};
	bool open = false, known = false; /* known: whether a message is open */
	int bits = 0;
	size_t head;

	while (bits < PROOF && at < held->bytes.len) {
		head = ws_frame_head(&f, held->bytes.data + at, held->bytes.len - at);
		if (!head)
			break;
		if (!possible(&f, masked, deflate))
			return -1;
		if (!(f.opcode & 8)) {
			if (known && open != (f.opcode == WS_CONTINUATION))
				return -1;
			known = true;
			open = !f.fin;
		}
		at += head;
		if (f.len > held->bytes.len - at)
			break;
		if (!content_possible(&f, held->bytes.data + at))
			return -1;
		at += (size_t)f.len;
		/* Zeros look like empty frames. */
		if (f.len)
			bits += HEAD_BITS + (is_call_end(held, at) ? end_bits(held, &f) : 0);
	}
	return bits;
}

static void drop_calls(struct ws_held *held, unsigned int n)
{
	size_t to = n < held->count ? held->calls[n] : held->bytes.len;
	unsigned int i;

	held->bytes.len -= to;
	memmove(held->bytes.data, held->bytes.data + to, held->bytes.len);
	held->count -= n;
	memmove(held->calls, held->calls + n, held->count * sizeof(held->calls[0]));
	for (i = 0; i < held->count; i++)
		held->calls[i] -= to;
}

bool ws_find(struct ws_held *held, bool masked, bool deflate)
{
	unsigned int i, first = held->count;
	int bits;

	for (i = 0; i < held->count; i++) {
		bits = weigh(held, held->calls[i], masked, deflate);
		if (bits >= PROOF) {
			drop_calls(held, i);
			return true;
		}
		if (bits >= 0 && first == held->count)
			first = i;
	}
	if (first)
		drop_calls(held, first);
	while (held->count && (held->count == WS_CALLS || held->bytes.len > WS_HELD))
		drop_calls(held, 1);
	return false;
}
