/* SPDX-License-Identifier: MIT */
/* A body that anybody may have sent, in any encoding: the first byte says which. */
#include <stdlib.h>

#include "body.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static const char *const lists[] = {"gzip",  "deflate", "br",	      "zstd",
					    "br,br", "gzip,br", "zstd, gzip", "deflate,deflate"};
	struct ts_buf out = {0};
	int ret;

	if (!size)
		return 0;
	ret = body_decode(&out, 65536, lists[*data % 8], data + 1, size - 1);
	if (ret < 0 || ret == BODY_UNKNOWN || out.len > 65536)
		abort();
	ts_buf_free(&out);
	return 0;
}
