/* SPDX-License-Identifier: MIT */
/* The command line. */
#ifndef TLSSCOPE_OPTIONS_H
#define TLSSCOPE_OPTIONS_H

#include "filter.h"
#include "output.h"
#include "script.h"

enum options_mode {
	OPTIONS_RUN,
	OPTIONS_CHECK,	  /* --check: load the script, attach nothing */
	OPTIONS_DRY_RUN,  /* --dry-run: say what would be attached */
	OPTIONS_LIST,	  /* -l */
	OPTIONS_RECIPES,  /* -L */
	OPTIONS_INFO,	  /* --info */
	OPTIONS_DOCTOR,	  /* doctor [PID...] */
	OPTIONS_EXPLAIN,  /* help [NAME...] */
	OPTIONS_COMPLETE, /* complete [WORD...]: for shells; the last word is to be completed */
	OPTIONS_VERSION,  /* -V */
	OPTIONS_HELP,	  /* -h */
};

/* Strings point into argv, which must outlive it; options_free frees the rest. */
struct options {
	enum options_mode mode;
	const char *script, *code; /* one of them when a script is to run */
	const char *pattern;	   /* -l */
	const char *command;	   /* -c */
	const char *output, *record, *replay, *pcap, *har;
	uint64_t rotate; /* bytes; 0: no */
	unsigned int rotate_keep;
	enum output_format format;
	const char **include;
	size_t include_count;
	struct ts_filter filter;
	bool unsafe, strict, show_secrets;
	bool time_given;
	enum script_time time;
	bool interactive; /* -i, or no script */
	int argc;	  /* the script's arguments */
	char *const *argv;
};

/* 0, or -EINVAL with a sentence. Sets the level of messages (-q, -v). */
int options_parse(struct options *o, int argc, char *const *argv, struct ts_err *err);
void options_free(struct options *o);
void options_print_help(void);

#endif
