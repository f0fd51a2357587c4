/* SPDX-License-Identifier: MIT */
/*
 * HTTP/2 that anybody may have sent. Input is a list of short descriptions of frames, so that
 * lengths fit; or, where it begins with a 'b', bytes. See fuzz_http.h for the rest.
 */
#include "fuzz_http.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* type, flags, stream, length, then the payload. */
static size_t describe(unsigned char *out, size_t room, const unsigned char *in, size_t size)
{
	size_t at = 0, used = 0, n;

	while (at + 4 <= size && used + 9 + 255 <= room) {
		if (in[at] == 0xff) { /* a control of fuzz_http.h */
			memcpy(out + used, in + at, 3);
			used += in[at + 1] < 2 ? 2 : 3;
			at += in[at + 1] < 2 ? 2 : 3;
			continue;
		}
		n = in[at + 3];
		if (n > size - at - 4)
			n = size - at - 4;
		memset(out + used, 0, 9);
		out[used + 2] = (unsigned char)n;
		out[used + 3] = in[at] % 10;
		out[used + 4] = in[at + 1];
		out[used + 8] = in[at + 2] % 8;
		memcpy(out + used + 9, in + at + 4, n);
		used += 9 + n;
		at += 4 + n;
	}
	return used;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static const unsigned char preface[] = PREFACE;
	struct seen whole = {0}, cut = {0};
	static unsigned char frames[65536];
	const unsigned char *first = preface;
	size_t first_len = sizeof(preface) - 1;
	bool gaps;

	if (size && *data == 'b') {
		data++;
		size--;
		/* Some connections are older than what is seen of them. */
		first_len = size % 2 ? first_len : 0;
	} else {
		size = describe(frames, sizeof(frames), data, size);
		data = frames;
	}
	gaps = feed_input(&whole, data, size, SIZE_MAX, first, first_len);
	feed_input(&cut, data, size, 1 + size % 7, first, first_len);
	if (!gaps && first_len && !whole.lost && !cut.lost && differ(&whole, &cut))
		abort();
	return 0;
}
