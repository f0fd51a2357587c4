/* SPDX-License-Identifier: MIT */
/* Where the output of a run goes. */
#include <string.h>
#include <unistd.h>

#include "run_private.h"

static bool is_stdout(const char *path)
{
	return path && !strcmp(path, "-");
}

int run_open_output(struct run *r, struct ts_err *err)
{
	const struct options *o = r->o;
	const struct output_file_options where = {
		.path = o->output,
		/* Text does not mix with packets, or with entries. */
		.fd = is_stdout(o->pcap) || is_stdout(o->har) ? STDERR_FILENO : STDOUT_FILENO,
		.rotate = o->output ? o->rotate : 0,
		.keep = o->rotate_keep,
	};

	return output_open(&r->out, &where, o->format, err);
}

int run_open_captures(struct run *r, struct ts_err *err)
{
	const struct options *o = r->o;
	struct output_file_options where = {
		.path = is_stdout(o->pcap) ? NULL : o->pcap,
		.fd = STDOUT_FILENO,
		.secret = true,
		.rotate = o->rotate,
		.keep = o->rotate_keep,
	};
	int ret = 0;

	if (o->pcap)
		ret = pcap_open(&r->pcap, &where, err);
	where.path = is_stdout(o->har) ? NULL : o->har;
	if (!ret && o->har)
		ret = har_open(&r->har, &where, err);
	if (!ret && o->record)
		ret = record_writer_open(&r->writer, o->record, err);
	return ret;
}

void run_put_har_entry(void *ctx, const char *json, size_t len)
{
	struct run *r = ctx;

	if (r->har)
		har_entry(r->har, json, len);
}

void run_flush_outputs(struct run *r)
{
	struct ts_err err;

	if (r->repl)
		repl_flush(r->repl);
	else
		output_flush(r->out);
	if (r->pcap)
		pcap_flush(r->pcap);
	if (r->har)
		har_flush(r->har);
	if (r->writer && record_flush(r->writer, &err))
		run_drop_recording(r, &err);
}

bool run_unwritable(const struct run *r)
{
	return output_failed(r->out) || (r->pcap && pcap_failed(r->pcap)) ||
	       (r->har && har_failed(r->har));
}

void run_drop_recording(struct run *r, const struct ts_err *err)
{
	run_fail(r, err);
	record_writer_close(r->writer, NULL);
	r->writer = NULL;
}

void run_close_capture(struct run *r)
{
	struct ts_err err;

	if (pcap_close(r->pcap, &err))
		run_fail(r, &err);
	r->pcap = NULL;
	if (har_close(r->har, &err))
		run_fail(r, &err);
	r->har = NULL;
}

void run_close_outputs(struct run *r)
{
	struct ts_err err;

	if (record_writer_close(r->writer, &err))
		run_fail(r, &err);
	if (r->out && output_close(r->out, &err))
		run_fail(r, &err);
}
