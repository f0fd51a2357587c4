/* SPDX-License-Identifier: MIT */
/* Whether bytes are where a message or a frame begins. */
#include <string.h>

#include "http_private.h"

/* Reads n bytes at most that are (not) in a set. */
struct reader {
	const unsigned char *at, *end;
};

/* FOUND_REQUEST: the text is there. */
static enum found expect(struct reader *r, const char *text)
{
	for (; *text; text++, r->at++) {
		if (r->at == r->end)
			return FOUND_PART;
		if (*r->at != (unsigned char)*text)
			return FOUND_NOTHING;
	}
	return FOUND_REQUEST;
}

/* The end of the line; bytes that no line has end the search. */
static enum found line_end(struct reader *r)
{
	for (; r->at < r->end && *r->at != '\n'; r->at++)
		if (*r->at < ' ' && *r->at != '\t' && *r->at != '\r')
			return FOUND_NOTHING;
	return r->at < r->end ? FOUND_REQUEST : FOUND_PART;
}

static enum found response_line(struct reader r)
{
	enum found f = expect(&r, "HTTP/1.");
	int i;

	if (f != FOUND_REQUEST)
		return f;
	if (r.at < r.end && *r.at != '0' && *r.at != '1')
		return FOUND_NOTHING;
	for (i = 0, r.at++; r.at < r.end && i < 4; i++, r.at++)
		if (i ? *r.at < '0' || *r.at > '9' : *r.at != ' ')
			return FOUND_NOTHING;
	if (r.at >= r.end)
		return FOUND_PART;
	if (!strchr(" \r\n", *r.at))
		return FOUND_NOTHING;
	f = line_end(&r);
	return f == FOUND_REQUEST ? FOUND_RESPONSE : f;
}

static enum found request_line(struct reader r)
{
	const unsigned char *start = r.at;
	enum found f;

	while (r.at < r.end && r.at - start < 24 &&
	       ((*r.at >= 'A' && *r.at <= 'Z') || *r.at == '-' || *r.at == '_'))
		r.at++;
	if (r.at == r.end)
		return FOUND_PART;
	if (r.at == start || *r.at != ' ')
		return FOUND_NOTHING;
	for (start = ++r.at; r.at<r.end && * r.at> ' ' && *r.at != 0x7f;)
		r.at++;
	if (r.at == r.end)
		return FOUND_PART;
	if (r.at == start || *r.at != ' ')
		return FOUND_NOTHING;
	f = expect(&r, " HTTP/1.");
	if (f != FOUND_REQUEST)
		return f;
	if (r.at < r.end && *r.at != '0' && *r.at != '1')
		return FOUND_NOTHING;
	if (r.at < r.end && ++r.at < r.end && *r.at == '\r')
		r.at++;
	return expect(&r, "\n");
}

enum found http_find_line(const unsigned char *data, size_t len)
{
	struct reader r = {data, data + len};
	enum found f;

	while (r.at < r.end && (*r.at == '\r' || *r.at == '\n'))
		r.at++;
	if (r.at == r.end)
		return FOUND_PART;
	f = response_line(r);
	return f == FOUND_NOTHING ? request_line(r) : f;
}

enum found http_find_preface(const unsigned char *data, size_t len)
{
	size_t n = len < sizeof(PREFACE) - 1 ? len : sizeof(PREFACE) - 1;

	if (memcmp(data, PREFACE, n) != 0)
		return FOUND_NOTHING;
	return n == sizeof(PREFACE) - 1 ? FOUND_REQUEST : FOUND_PART;
}

static uint32_t frame_length(const unsigned char *head)
{
	return (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
}

static uint32_t frame_stream(const unsigned char *head)
{
	return (head[5] & 0x7fu) << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 | head[8];
}

/* RFC 9113, 6: how long each type is, and whether it belongs to a stream. */
bool http_frame_possible(const unsigned char head[9])
{
	uint32_t length = frame_length(head), stream = frame_stream(head);

	switch (head[3]) {
	case 0: /* DATA */
	case 1: /* HEADERS */
	case 5: /* PUSH_PROMISE */
	case 9: /* CONTINUATION */
		return stream;
	case 2: /* PRIORITY */
		return stream && length == 5;
	case 3: /* RST_STREAM */
		return stream && length == 4;
	case 4: /* SETTINGS */
		return !stream && length % 6 == 0 && (!(head[4] & 1) || !length);
	case 6: /* PING */
		return !stream && length == 8;
	case 7: /* GOAWAY */
		return !stream && length >= 8;
	case 8: /* WINDOW_UPDATE */
		return length == 4;
	default:
		return true;
	}
}

/* Stricter than what is possible: types that everybody sends, flags that they have, usual sizes. */
static bool frame_likely(const unsigned char *head)
{
	static const unsigned char flags[] = {0x09, 0x2d, 0, 0, 0x01, 0x0c, 0x01, 0, 0, 0x04};

	return head[3] < sizeof(flags) && !(head[4] & ~flags[head[3]]) && !(head[5] & 0x80) &&
	       frame_length(head) <= 1u << 20 && http_frame_possible(head);
}

/*
 * Three frames that follow each other, or frames to the very end of what is there: a random
 * place looks like one once in some millions.
 */
enum found http_find_frames(const unsigned char *data, size_t len)
{
	size_t at = 0;
	int frames;

	for (frames = 0; frames < 3; frames++) {
		if (frames && at == len)
			return FOUND_REQUEST;
		if (len < at + 9)
			return FOUND_PART;
		if (!frame_likely(data + at))
			return FOUND_NOTHING;
		at += 9 + frame_length(data + at);
		if (at > len)
			return FOUND_PART;
	}
	return FOUND_REQUEST;
}

enum found http_find_settings(const unsigned char *data, size_t len)
{
	static const unsigned char rest[] = {4, 0, 0, 0, 0, 0};
	size_t i;

	for (i = 0; i < len && i < 9; i++)
		if (i < 2 ? data[i] : i > 2 && data[i] != rest[i - 3])
			return FOUND_NOTHING;
	if (len < 9)
		return FOUND_PART;
	return data[2] % 6 ? FOUND_NOTHING : FOUND_REQUEST;
}
