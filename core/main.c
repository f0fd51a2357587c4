/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "doctor.h"
#include "help.h"
#include "info.h"
#include "list.h"
#include "options.h"
#include "run.h"

/* Returns the exit status: 0, 1 when the run failed, 2 for a wrong command line. */
static int run_mode(const struct options *o)
{
	struct ts_err err;

	switch (o->mode) {
	case OPTIONS_HELP:
		options_print_help();
		return 0;
	case OPTIONS_VERSION:
		puts("tlsscope " TS_VERSION);
		return 0;
	case OPTIONS_INFO:
		info_print();
		if (!list_filters_anything(&o->filter))
			return 0;
		putchar('\n');
		if (!list_files(&o->filter, ~0ull, &err))
			return 0;
		break;
	case OPTIONS_DOCTOR:
		return doctor_run(o);
	case OPTIONS_EXPLAIN:
	case OPTIONS_COMPLETE:
		return help_run(o);
	case OPTIONS_RECIPES:
		list_recipes();
		return 0;
	case OPTIONS_LIST:
		if (!list_probes(o, &err))
			return 0;
		break;
	case OPTIONS_RUN:
	case OPTIONS_CHECK:
	case OPTIONS_DRY_RUN:
		return run_script(o);
	}
	if (err.text[0])
		ts_error("%s", err.text);
	return 1;
}

int main(int argc, char **argv)
{
	struct options o;
	struct ts_err err;
	int status = 2;

	if (options_parse(&o, argc, argv, &err))
		ts_error("%s", err.text);
	else
		status = run_mode(&o);
	options_free(&o);
	/* A listing that did not reach its reader is a failure too. */
	if (fflush(stdout) || ferror(stdout)) {
		ts_error("cannot write to standard output");
		status = status ? status : 1;
	}
	return status;
}
