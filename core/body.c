/* SPDX-License-Identifier: MIT */
#include <brotli/decode.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>
#include <zstd.h>

#include "body.h"

#define STEP 16384
#define ENCODINGS_MAX 8
#define ZSTD_WINDOW_LOG 24 /* 16 MiB: no stream may ask for more memory */

struct job {
	struct ts_buf *out;
	size_t max; /* out is never longer */
	const unsigned char *in;
	size_t len;
};

/* Adds what a decoder made; BODY_CUT: that is enough. */
static int add(struct job *j, const void *data, size_t n)
{
	size_t room = j->max - j->out->len;

	if (ts_buf_add(j->out, data, n < room ? n : room))
		return -ENOMEM;
	return n > room ? BODY_CUT : BODY_WHOLE;
}

/* bits: what inflateInit2 takes: which header is there. */
static int inflate_as(struct job *j, int bits)
{
	unsigned char step[STEP];
	z_stream z = {.next_in = (Bytef *)j->in, .avail_in = (uInt)j->len};
	int ret, state = BODY_WHOLE;

	if (j->len > UINT32_MAX || inflateInit2(&z, bits) != Z_OK)
		return -ENOMEM;
	do {
		z.next_out = step;
		z.avail_out = sizeof(step);
		ret = inflate(&z, Z_NO_FLUSH);
		state = add(j, step, sizeof(step) - z.avail_out);
		/* A gzip file may be several, one behind the other. */
		if (ret == Z_STREAM_END && bits > MAX_WBITS && z.avail_in > 1 && *z.next_in == 0x1f)
			ret = inflateReset(&z);
	} while (ret == Z_OK && state == BODY_WHOLE);
	inflateEnd(&z);
	if (state != BODY_WHOLE || ret == Z_STREAM_END)
		return state;
	if (ret == Z_MEM_ERROR)
		return -ENOMEM;
	return ret == Z_BUF_ERROR ? BODY_CUT : BODY_DAMAGED;
}

static int decode_gzip(struct job *j)
{
	return inflate_as(j, MAX_WBITS + 16);
}

/* RFC 9110 means zlib's format; some send deflate as it is (RFC 1951), and all browsers take it. */
static int decode_deflate(struct job *j)
{
	bool zlib = j->len >= 2 && (j->in[0] & 0x0f) == 8 && (j->in[0] * 256 + j->in[1]) % 31 == 0;

	return inflate_as(j, zlib ? MAX_WBITS : -MAX_WBITS);
}

static int decode_brotli(struct job *j)
{
	BrotliDecoderState *b = BrotliDecoderCreateInstance(NULL, NULL, NULL);
	BrotliDecoderResult ret;
	const uint8_t *in = j->in;
	size_t left = j->len, room;
	unsigned char step[STEP];
	uint8_t *to;
	int state;

	if (!b)
		return -ENOMEM;
	do {
		to = step;
		room = sizeof(step);
		ret = BrotliDecoderDecompressStream(b, &left, &in, &room, &to, NULL);
		state = add(j, step, sizeof(step) - room);
	} while (ret == BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT && state == BODY_WHOLE);
	BrotliDecoderDestroyInstance(b);
	if (state != BODY_WHOLE || ret == BROTLI_DECODER_RESULT_SUCCESS)
		return state;
	return ret == BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT ? BODY_CUT : BODY_DAMAGED;
}

static int decode_zstd(struct job *j)
{
	ZSTD_DCtx *d = ZSTD_createDCtx();
	ZSTD_inBuffer in = {j->in, j->len, 0};
	unsigned char step[STEP];
	ZSTD_outBuffer out;
	size_t ret, before;
	int state;

	if (!d)
		return -ENOMEM;
	ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
	do {
		before = in.pos;
		out = (ZSTD_outBuffer){step, sizeof(step), 0};
		ret = ZSTD_decompressStream(d, &out, &in);
		state = add(j, step, out.pos);
		if (ZSTD_isError(ret) || (!out.pos && in.pos == before))
			break;
	} while ((in.pos < in.size || out.pos == out.size) && state == BODY_WHOLE);
	ZSTD_freeDCtx(d);
	if (state != BODY_WHOLE)
		return state;
	if (ZSTD_isError(ret))
		return BODY_DAMAGED;
	return ret ? BODY_CUT : BODY_WHOLE;
}

static int decode_identity(struct job *j)
{
	return add(j, j->in, j->len);
}

static const struct encoding {
	const char *name;
	int (*decode)(struct job *j);
} encodings[] = {
	{"gzip", decode_gzip}, {"x-gzip", decode_gzip}, {"deflate", decode_deflate},
	{"br", decode_brotli}, {"zstd", decode_zstd},	{"identity", decode_identity},
};

static const struct encoding *find(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(encodings); i++)
		if (strlen(encodings[i].name) == len && !strncasecmp(encodings[i].name, name, len))
			return &encodings[i];
	return NULL;
}

/* The names of the list, in order; -1: one is not known, or they are too many. */
static int parse(const char *list, const struct encoding *found[ENCODINGS_MAX])
{
	size_t len;
	int n = 0;

	for (; list && *list; list += len) {
		list += strspn(list, ", \t");
		len = strcspn(list, ", \t");
		if (!len)
			break;
		if (n == ENCODINGS_MAX)
			return -1;
		found[n] = find(list, len);
		if (!found[n++])
			return -1;
	}
	return n;
}

/* The last encoding that was applied is undone first. Damage in the middle stays damage. */
static int undo(struct job *j, const struct encoding *const *found, int n)
{
	struct ts_buf *out = j->out, from = {0}, to = {0};
	int state = BODY_WHOLE, worst = BODY_WHOLE;

	while (n-- && state >= 0) {
		j->out = n ? &to : out;
		state = found[n]->decode(j);
		worst = state > worst ? state : worst;
		ts_buf_free(&from);
		from = to;
		to = (struct ts_buf){0};
		j->in = from.data;
		j->len = from.len;
	}
	ts_buf_free(&from);
	return state < 0 ? state : worst;
}

int body_decode(struct ts_buf *out, size_t max, const char *list, const void *data, size_t len)
{
	const struct encoding *found[ENCODINGS_MAX];
	struct job j = {out, max, data, len};
	int n = parse(list, found);

	if (n < 0)
		return BODY_UNKNOWN;
	if (!n || !len)
		return decode_identity(&j);
	return undo(&j, found, n);
}
