/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <unistd.h>

#include "help.h"

int help_run(const struct options *o)
{
	const struct output_file_options where = {.fd = STDOUT_FILENO};
	struct ts_filter everybody = {0};
	struct script_options options = {.narrow = &everybody};
	struct script *s = NULL;
	struct ts_err err;
	int ret;

	ret = output_open(&options.out, &where, OUTPUT_TEXT, &err);
	if (!ret)
		ret = script_open(&s, &options, &err);
	if (ret)
		ts_error("%s", err.text);
	else
		ret = script_answer(s, o->mode == OPTIONS_COMPLETE ? "complete" : "explain",
				    o->argc, o->argv);
	script_close(s);
	if (options.out && output_close(options.out, &err)) {
		ts_error("%s", err.text);
		ret = -EIO;
	}
	return ret ? 1 : 0;
}
