/* SPDX-License-Identifier: MIT */
/* permessage-deflate (RFC 7692): what was agreed on, and messages as they were before. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ws_private.h"

#define STEP 16384
#define INFLATED (16u << 20)
#define RATIO 16

/* Takes a word, in quotes or not, off the front; ends before one of `ends`. */
static size_t word(const char **at, const char *ends, const char **start)
{
	const char *end;
	size_t len;

	*at += strspn(*at, " \t");
	len = strcspn(*at, ends);
	end = *at + len;
	*start = *at;
	*at = end;
	while (len && strchr(" \t", (*start)[len - 1]))
		len--;
	if (len >= 2 && **start == '"' && (*start)[len - 1] == '"') {
		*start += 1;
		len -= 2;
	}
	return len;
}

static bool is(const char *text, size_t len, const char *name)
{
	return len == strlen(name) && !strncasecmp(text, name, len);
}

static void read_parameter(struct ws_deflate *d, const char **at)
{
	const char *name, *value = "";
	size_t len = word(at, "=;,", &name), value_len = 0;
	enum http_side who;
	int bits;

	if (**at == '=') {
		++*at;
		value_len = word(at, ";,", &value);
	}
	if (len < 7 || (strncasecmp(name, "client_", 7) && strncasecmp(name, "server_", 7)))
		return;
	who = strncasecmp(name, "client_", 7) ? HTTP_RESP : HTTP_REQ;
	name += 7;
	len -= 7;
	if (is(name, len, "no_context_takeover"))
		d->takeover[who] = false;
	if (!is(name, len, "max_window_bits") || !value_len)
		return;
	bits = atoi(value);
	/* zlib makes 9 of 8 where it compresses. */
	if (bits >= 8 && bits <= MAX_WBITS)
		d->bits[who] = bits < 9 ? 9 : bits;
}

static void read_list(struct ws_deflate *d, const char *at)
{
	const char *name;
	bool mine;

	while (*at && !d->on) {
		size_t len = word(&at, ";,", &name);

		mine = is(name, len, "permessage-deflate");
		while (*at == ';') {
			at++;
			if (mine)
				read_parameter(d, &at);
			else
				word(&at, ";,", &name);
		}
		d->on = mine;
		at += strcspn(at, ",");
		at += *at == ',';
	}
}

void ws_read_extensions(struct ws_deflate *d, const struct http_message *response)
{
	const char *text = (const char *)response->text.data;
	const struct http_field *f;
	size_t i;

	*d = (struct ws_deflate){false, {true, true}, {MAX_WBITS, MAX_WBITS}};
	for (i = 0; !d->on && (f = http_field(response, i)); i++)
		if (!strcasecmp(text + f->name, "sec-websocket-extensions"))
			read_list(d, text + f->value);
}

/* What zlib takes is of the memory that all WebSockets have; its size stands before it. */
union block {
	size_t size;
	max_align_t align;
};

static void *take(void *opaque, unsigned int items, unsigned int size)
{
	struct ws_memory *memory = opaque;
	size_t n = sizeof(union block) + (size_t)items * size;
	union block *b;

	if (n > memory->left)
		return NULL;
	b = malloc(n);
	if (!b)
		return NULL;
	b->size = n;
	memory->left -= n;
	return b + 1;
}

static void give_back(void *opaque, void *address)
{
	struct ws_memory *memory = opaque;
	union block *b = (union block *)address - 1;

	memory->left += b->size;
	free(b);
}

void ws_inflate_forget(struct ws_inflater *i)
{
	if (i->open)
		inflateEnd(&i->z);
	i->open = false;
	i->in = i->out = 0;
}

static bool begin(struct ws_inflater *i)
{
	if (i->open)
		return true;
	i->z = (z_stream){.zalloc = take, .zfree = give_back, .opaque = i->memory};
	i->open = inflateInit2(&i->z, -i->bits) == Z_OK;
	return i->open;
}

/* A block said to be the last one: what follows goes on with the same window. */
static int go_on(z_stream *z)
{
	unsigned char window[1 << MAX_WBITS];
	unsigned int len = sizeof(window);
	int ret = inflateGetDictionary(z, window, &len);

	if (ret == Z_OK)
		ret = inflateReset(z);
	return ret == Z_OK && len ? inflateSetDictionary(z, window, len) : ret;
}

static const char *failed(struct ws_inflater *i, int ret)
{
	const char *far = i->z.msg ? strstr(i->z.msg, "too far back") : NULL;

	ws_inflate_forget(i);
	if (ret == Z_MEM_ERROR)
		return "no memory is left to decompress it";
	return far ? "it is compressed with a message that was not seen" : "damaged compression";
}

const char *ws_inflate(struct ws_inflater *i, const unsigned char *data, size_t len,
		       ws_inflated out, void *ctx)
{
	unsigned char step[STEP];
	int ret = begin(i) ? Z_OK : Z_MEM_ERROR;

	i->in += len;
	i->z.next_in = (Bytef *)data;
	i->z.avail_in = (uInt)len;
	i->z.avail_out = 0;
	while (ret == Z_OK && (i->z.avail_in || !i->z.avail_out)) {
		i->z.next_out = step;
		i->z.avail_out = sizeof(step);
		ret = inflate(&i->z, Z_SYNC_FLUSH);
		i->out += sizeof(step) - i->z.avail_out;
		out(ctx, step, sizeof(step) - i->z.avail_out);
		if (i->out > INFLATED && i->out / RATIO > i->in) {
			ws_inflate_forget(i);
			return "it decompresses to too much";
		}
		if (ret == Z_STREAM_END)
			ret = go_on(&i->z);
	}
	/* Z_BUF_ERROR: all was used, and nothing came of it. */
	return ret == Z_OK || ret == Z_BUF_ERROR ? NULL : failed(i, ret);
}

const char *ws_inflate_end(struct ws_inflater *i, ws_inflated out, void *ctx)
{
	/* What the sender took off the end. */
	const char *problem = ws_inflate(i, (const unsigned char *)"\0\0\xff\xff", 4, out, ctx);

	i->in = i->out = 0;
	if (!i->takeover)
		ws_inflate_forget(i);
	return problem;
}
