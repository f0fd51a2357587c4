/* SPDX-License-Identifier: MIT */
/*
 * Two streams of bytes that anybody may have sent. A byte 0xff begins a control: whose bytes
 * follow, or a gap. The same input, in other pieces, must give the same messages as long as
 * nothing is missing.
 */
#include "fuzz_http.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct seen whole = {0}, cut = {0};
	bool gaps = feed_input(&whole, data, size, SIZE_MAX, NULL, 0);

	feed_input(&cut, data, size, 1 + size % 7, NULL, 0);
	if (!gaps && !whole.lost && !cut.lost && differ(&whole, &cut))
		abort();
	return 0;
}
