/* SPDX-License-Identifier: MIT */
/*
 * WebSocket frames that anybody may have sent. The first byte says what was agreed on. Input is a
 * list of short descriptions of frames, so that lengths fit; or, where the next byte is a 'b',
 * bytes. It is read whole and cut: without gaps the messages are the same.
 */
#include <stdlib.h>
#include <string.h>

#include "ws.h"

#define KEPT 300
#define MEMORY (1u << 20)

struct seen {
	struct ws_memory memory;
	unsigned int sum[2]; /* by direction: their order is that of the calls */
	bool lost;
};

static const char *const answers[] = {
	"",
	"permessage-deflate",
	"permessage-deflate; client_no_context_takeover; server_max_window_bits=9",
	"permessage-deflate; server_no_context_takeover; client_max_window_bits=10",
};

static void add(unsigned int *sum, const void *data, size_t len)
{
	const unsigned char *bytes = data;
	size_t i;

	for (i = 0; i < len; i++)
		*sum = *sum * 31 + bytes[i];
}

static void check_message(void *ctx, const struct ws_message *m)
{
	struct seen *s = ctx;
	unsigned int *sum = &s->sum[m->dir];

	if (m->data.len > KEPT || (m->counted && m->data.len > m->len))
		abort();
	if (!m->truncated && (!m->counted || m->data.len != m->len))
		abort();
	if (!m->compressed && m->counted && m->len != m->sent)
		abort();
	if (ws_close_code(m) > 65535 || !ws_opcode_name(m->opcode))
		abort();
	s->lost |= m->gap;
	add(sum, m->data.data, m->data.len);
	add(sum, &m->sent, sizeof(m->sent));
	if (m->counted)
		add(sum, &m->len, sizeof(m->len));
	if (m->problem)
		add(sum, m->problem, strlen(m->problem));
}

static void feed(struct ws *w, enum ts_dir dir, const unsigned char *data, size_t len, size_t step)
{
	unsigned char *copy;
	size_t at, n;

	for (at = 0; at < len; at += n) {
		n = len - at < step ? len - at : step;
		copy = malloc(n);
		if (!copy)
			abort();
		memcpy(copy, data + at, n);
		ws_feed(w, dir, copy, n);
		free(copy);
	}
}

/* 0xff, then: 0 or 1: that direction follows; 2 or 3 and a size: a gap of it. True: there were
 * gaps. */
static bool run(struct seen *s, unsigned int agreed, const unsigned char *data, size_t size,
		size_t step)
{
	static unsigned char text[256] = "Sec-WebSocket-Extensions";
	struct http_field f = {0, 24, 25, (uint32_t)strlen(answers[agreed])};
	struct http_exchange x = {.status = 101, .request_dir = TS_OUT};
	enum ts_dir dir = TS_OUT;
	bool gaps = false;
	size_t at, from = 0;
	struct ws *w;

	memcpy(text + 25, answers[agreed], f.value_len + 1);
	x.message[HTTP_RESP].text = (struct ts_buf){text, sizeof(text), sizeof(text)};
	x.message[HTTP_RESP].fields = (struct ts_buf){(unsigned char *)&f, sizeof(f), sizeof(f)};
	s->memory.left = MEMORY;
	if (ws_open(&w, &(struct ws_options){&x, KEPT, &s->memory, check_message, s}))
		abort();
	for (at = 0; at + 1 < size; at++) {
		if (data[at] != 0xff || data[at + 1] > 3)
			continue;
		feed(w, dir, data + from, at - from, step);
		if (data[at + 1] < 2) {
			dir = data[at + 1] ? TS_OUT : TS_IN;
			from = at + 2;
		} else if (at + 2 < size) {
			gaps = true;
			ws_feed(w, data[at + 1] - 2 ? TS_OUT : TS_IN, NULL, data[at + 2]);
			from = at + 3;
		} else {
			from = size;
		}
		at = from - 1;
	}
	if (from < size)
		feed(w, dir, data + from, size - from, step);
	ws_close(w);
	if (s->memory.left != MEMORY)
		abort();
	return gaps;
}

/* first byte, length and mask bit, then the payload; masks are zeros. */
static size_t describe(unsigned char *out, size_t room, const unsigned char *in, size_t size)
{
	size_t at = 0, used = 0, n;

	while (at + 3 <= size && used + 6 + 255 <= room) {
		if (in[at] == 0xff) {
			memcpy(out + used, in + at, 3);
			used += in[at + 1] < 2 ? 2 : 3;
			at += in[at + 1] < 2 ? 2 : 3;
			continue;
		}
		n = in[at + 1] & 0x7f;
		n = n > 125 ? 125 : n;
		if (n > size - at - 2)
			n = size - at - 2;
		out[used++] = in[at];
		out[used++] = (unsigned char)(n | (in[at + 1] & 0x80));
		if (in[at + 1] & 0x80) {
			memset(out + used, 0, 4);
			used += 4;
		}
		memcpy(out + used, in + at + 2, n);
		used += n;
		at += 2 + n;
	}
	return used;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static unsigned char frames[65536];
	struct seen whole = {0}, cut = {0};
	unsigned int agreed;
	bool gaps;

	if (size < 2)
		return 0;
	agreed = data[0] % TS_ARRAY_SIZE(answers);
	if (data[1] == 'b') {
		data += 2;
		size -= 2;
	} else {
		size = describe(frames, sizeof(frames), data + 1, size - 1);
		data = frames;
	}
	gaps = run(&whole, agreed, data, size, SIZE_MAX);
	run(&cut, agreed, data, size, 1 + size % 5);
	if (!gaps && !whole.lost && !cut.lost && memcmp(whole.sum, cut.sum, sizeof(cut.sum)) != 0)
		abort();
	return 0;
}
