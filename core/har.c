/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "har.h"

static const char head[] = "{\"log\":{\"version\":\"1.2\",\"creator\":{\"name\":\"tlsscope\","
			   "\"version\":\"" TS_VERSION "\"},\"entries\":[";
static const char tail[] = "\n]}}\n";

struct har {
	struct output_file *file;
	bool begun;   /* the file at hand has an entry */
	bool unended; /* and bytes that no end follows yet */
};

static void write_text(struct har *h, const char *text)
{
	h->unended = true;
	output_file_write(h->file, text, strlen(text));
}

int har_open(struct har **out, const struct output_file_options *where, struct ts_err *err)
{
	struct har *h = calloc(1, sizeof(*h));
	int ret;

	if (!h)
		return ts_fail(err, ENOMEM, "out of memory");
	ret = output_file_open(&h->file, where, err);
	if (ret) {
		free(h);
		return ret;
	}
	write_text(h, head);
	*out = h;
	return 0;
}

int har_close(struct har *h, struct ts_err *err)
{
	int ret;

	if (!h)
		return 0;
	write_text(h, tail);
	ret = output_file_close(h->file, err);
	free(h);
	return ret;
}

void har_entry(struct har *h, const char *json, size_t len)
{
	if (h->begun && len + sizeof(",\n") + sizeof(tail) > output_file_room(h->file)) {
		write_text(h, tail);
		output_file_next(h->file);
		write_text(h, head);
		h->begun = false;
	}
	write_text(h, h->begun ? ",\n" : "\n");
	output_file_write(h->file, json, len);
	h->begun = true;
}

void har_flush(struct har *h)
{
	if (h->unended)
		output_file_end_with(h->file, tail);
	h->unended = false;
}

int har_failed(const struct har *h)
{
	return output_file_failed(h->file);
}
