/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "options.h"

#define ROTATE_MIN 4096
#define ROTATE_KEEP 9
#define ROTATE_KEEP_MAX 9999
/* What --pcap and --har run where no script is named. */
#define PCAP_RECIPE "pcap"
#define HAR_RECIPE "httplog"

enum { /* long options without a letter */
       OPT_COMM = 256,
       OPT_UID,
       OPT_EXE,
       OPT_LIB,
       OPT_CGROUP,
       OPT_CONTAINER,
       OPT_RPORT,
       OPT_LPORT,
       OPT_RADDR,
       OPT_LADDR,
       OPT_CHECK,
       OPT_DRY_RUN,
       OPT_INFO,
       OPT_UNSAFE,
       OPT_STRICT,
       OPT_PCAP,
       OPT_HAR,
       OPT_SHOW_SECRETS,
       OPT_ROTATE,
       OPT_TIME,
};

static const struct option long_options[] = {
	{"pid", required_argument, NULL, 'p'},
	{"command", required_argument, NULL, 'c'},
	{"comm", required_argument, NULL, OPT_COMM},
	{"uid", required_argument, NULL, OPT_UID},
	{"exe", required_argument, NULL, OPT_EXE},
	{"lib", required_argument, NULL, OPT_LIB},
	{"cgroup", required_argument, NULL, OPT_CGROUP},
	{"container", required_argument, NULL, OPT_CONTAINER},
	{"rport", required_argument, NULL, OPT_RPORT},
	{"lport", required_argument, NULL, OPT_LPORT},
	{"raddr", required_argument, NULL, OPT_RADDR},
	{"laddr", required_argument, NULL, OPT_LADDR},
	{"execute", required_argument, NULL, 'e'},
	{"list", no_argument, NULL, 'l'},
	{"recipes", no_argument, NULL, 'L'},
	{"format", required_argument, NULL, 'f'},
	{"output", required_argument, NULL, 'o'},
	{"time", required_argument, NULL, OPT_TIME},
	{"rotate", required_argument, NULL, OPT_ROTATE},
	{"pcap", required_argument, NULL, OPT_PCAP},
	{"har", required_argument, NULL, OPT_HAR},
	{"show-secrets", no_argument, NULL, OPT_SHOW_SECRETS},
	{"write", required_argument, NULL, 'w'},
	{"replay", required_argument, NULL, 'r'},
	{"interactive", no_argument, NULL, 'i'},
	{"include", required_argument, NULL, 'I'},
	{"check", no_argument, NULL, OPT_CHECK},
	{"dry-run", no_argument, NULL, OPT_DRY_RUN},
	{"info", no_argument, NULL, OPT_INFO},
	{"unsafe", no_argument, NULL, OPT_UNSAFE},
	{"strict", no_argument, NULL, OPT_STRICT},
	{"quiet", no_argument, NULL, 'q'},
	{"verbose", no_argument, NULL, 'v'},
	{"version", no_argument, NULL, 'V'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

#define HELP_WIDTH 79

/* The forms of a kind's options, a line after the other. */
static void print_forms(enum api_kind kind)
{
	size_t column = 0, len, i;

	for (i = 0; i < api_count; i++) {
		if (api_table[i].kind != kind)
			continue;
		len = strlen(api_table[i].type) + 2;
		if (column && column + len > HELP_WIDTH) {
			putchar('\n');
			column = 0;
		}
		printf("  %s", api_table[i].type);
		column += len;
	}
	putchar('\n');
}

void options_print_help(void)
{
	puts("Usage: tlsscope [options] SCRIPT.lua|RECIPE [args]  a script (-: standard input)\n"
	     "       tlsscope [options] -e CODE [args]     a line of Lua\n"
	     "       tlsscope [options]                    a prompt to explore at\n"
	     "       tlsscope doctor [PID...]              what can be captured, and why not\n"
	     "       tlsscope help NAME                    explains an option, event, recipe\n"
	     "Who is traced (repeatable: or; together: and; without any: everybody)");
	print_forms(API_CLI_WHO);
	puts("Output");
	print_forms(API_CLI_OUTPUT);
	puts("Looking around");
	print_forms(API_CLI_LOOK);
	puts("The script");
	print_forms(API_CLI_SCRIPT);
	puts("Try: tlsscope sniff  Learn: man tlsscope-tutorial  More: tlsscope help options");
}

static int add_include(struct options *o, const char *folder, struct ts_err *err)
{
	const char **include;

	include = realloc(o->include, (o->include_count + 1) * sizeof(*include));
	if (!include)
		return ts_fail(err, ENOMEM, "out of memory");
	o->include = include;
	include[o->include_count++] = folder;
	return 0;
}

static int set_once(const char **where, const char *value, const char *option, struct ts_err *err)
{
	if (*where)
		return ts_fail(err, EINVAL, "%s is given twice", option);
	if (!*value)
		return ts_fail(err, EINVAL, "%s needs a value that is not empty", option);
	*where = value;
	return 0;
}

static int set_format(struct options *o, const char *value, struct ts_err *err)
{
	if (!strcmp(value, "text"))
		o->format = OUTPUT_TEXT;
	else if (!strcmp(value, "json"))
		o->format = OUTPUT_JSON;
	else
		return ts_fail(err, EINVAL, "-f %s: the formats are text and json", value);
	return 0;
}

static int set_time(struct options *o, const char *value, struct ts_err *err)
{
	o->time_given = true;
	if (!strcmp(value, "local"))
		o->time = SCRIPT_TIME_LOCAL;
	else if (!strcmp(value, "utc"))
		o->time = SCRIPT_TIME_UTC;
	else if (!strcmp(value, "relative"))
		o->time = SCRIPT_TIME_RELATIVE;
	else
		return ts_fail(err, EINVAL, "--time %s: it is local, utc or relative", value);
	return 0;
}

/* "100M", "64K,20": bytes, and how many older files stay. */
static int set_rotate(struct options *o, const char *value, struct ts_err *err)
{
	static const char units[] = "KMG";
	unsigned long long size, keep = ROTATE_KEEP;
	const char *unit;
	char *end;

	errno = 0;
	size = strtoull(value, &end, 10);
	unit = *end ? strchr(units, *end) : NULL;
	if (unit) {
		size = size < 1ull << 32 ? size << 10 * (unit - units + 1) : 0;
		end++;
	}
	if (*end == ',' && end[1] >= '0' && end[1] <= '9')
		keep = strtoull(end + 1, &end, 10);
	if (*end || *value < '0' || *value > '9' || errno)
		return ts_fail(err, EINVAL,
			       "--rotate %s: give a size and how many older files stay, as in "
			       "100M or 100M,20",
			       value);
	if (size < ROTATE_MIN || !keep || keep > ROTATE_KEEP_MAX)
		return ts_fail(err, EINVAL,
			       "--rotate %s: the size is 4K at least, and 1 to %d older files "
			       "can stay",
			       value, ROTATE_KEEP_MAX);
	o->rotate = size;
	o->rotate_keep = (unsigned int)keep;
	return 0;
}

/* getopt's '?' and ':': says what was wrong with argv[optind - 1]. */
static int bad_option(int code, char *const *argv, struct ts_err *err)
{
	const char *names[TS_ARRAY_SIZE(long_options)], *word = argv[optind - 1], *near;
	size_t i;

	if (code == ':')
		return ts_fail(err, EINVAL, "%s needs a value", word);
	if (optopt && optopt < 256)
		return ts_fail(err, EINVAL, "unknown option -%c", optopt);
	if (optopt)
		return ts_fail(err, EINVAL, "%s takes no value", word);
	for (i = 0; long_options[i].name; i++)
		names[i] = long_options[i].name;
	near = ts_nearest(word + 2, names, i);
	return ts_fail(err, EINVAL,
		       near ? "unknown option %s; did you mean --%s?" : "unknown option %s", word,
		       near);
}

static int set_option(struct options *o, int code, char *const *argv, struct ts_err *err)
{
	switch (code) {
	case 'p':
		return ts_filter_add(&o->filter, "pid", optarg, false, err);
	case OPT_COMM:
		return ts_filter_add(&o->filter, "comm", optarg, false, err);
	case OPT_UID:
		return ts_filter_add(&o->filter, "uid", optarg, false, err);
	case OPT_EXE:
		return ts_filter_add(&o->filter, "exe", optarg, false, err);
	case OPT_LIB:
		return ts_filter_add(&o->filter, "lib", optarg, false, err);
	case OPT_CGROUP:
		return ts_filter_add(&o->filter, "cgroup", optarg, false, err);
	case OPT_CONTAINER:
		return ts_filter_add(&o->filter, "container", optarg, false, err);
	case OPT_RPORT:
		return ts_filter_add(&o->filter, "rport", optarg, false, err);
	case OPT_LPORT:
		return ts_filter_add(&o->filter, "lport", optarg, false, err);
	case OPT_RADDR:
		return ts_filter_add(&o->filter, "raddr", optarg, false, err);
	case OPT_LADDR:
		return ts_filter_add(&o->filter, "laddr", optarg, false, err);
	case 'c':
		return set_once(&o->command, optarg, "-c", err);
	case 'e':
		return set_once(&o->code, optarg, "-e", err);
	case 'o':
		return set_once(&o->output, optarg, "-o", err);
	case 'w':
		return set_once(&o->record, optarg, "-w", err);
	case OPT_PCAP:
		return set_once(&o->pcap, optarg, "--pcap", err);
	case OPT_HAR:
		return set_once(&o->har, optarg, "--har", err);
	case OPT_SHOW_SECRETS:
		o->show_secrets = true;
		return 0;
	case OPT_TIME:
		return set_time(o, optarg, err);
	case OPT_ROTATE:
		return set_rotate(o, optarg, err);
	case 'r':
		return set_once(&o->replay, optarg, "-r", err);
	case 'f':
		return set_format(o, optarg, err);
	case 'I':
		return add_include(o, optarg, err);
	case 'i':
		o->interactive = true;
		return 0;
	case 'l':
		o->mode = OPTIONS_LIST;
		return 0;
	case 'L':
		o->mode = OPTIONS_RECIPES;
		return 0;
	case 'V':
		o->mode = OPTIONS_VERSION;
		return 0;
	case 'h':
		o->mode = OPTIONS_HELP;
		return 0;
	case OPT_CHECK:
		o->mode = OPTIONS_CHECK;
		return 0;
	case OPT_DRY_RUN:
		o->mode = OPTIONS_DRY_RUN;
		return 0;
	case OPT_INFO:
		o->mode = OPTIONS_INFO;
		return 0;
	case OPT_UNSAFE:
		o->unsafe = true;
		return 0;
	case OPT_STRICT:
		o->strict = true;
		return 0;
	case 'q':
		ts_set_level(TS_QUIET);
		return 0;
	case 'v':
		ts_set_level(TS_VERBOSE);
		return 0;
	}
	return bad_option(code, argv, err);
}

static bool same(const char *a, const char *b)
{
	return a && b && !strcmp(a, b);
}

static int check_combination(struct options *o, struct ts_err *err)
{
	bool runs =
		o->mode == OPTIONS_RUN || o->mode == OPTIONS_CHECK || o->mode == OPTIONS_DRY_RUN;

	if (o->mode == OPTIONS_EXPLAIN)
		return 0;
	if (!runs)
		return o->argc ? ts_fail(err, EINVAL, "what is '%s' for?", o->argv[0]) : 0;
	if (!o->script && !o->code && (o->mode != OPTIONS_RUN || o->replay))
		return ts_fail(err, EINVAL,
			       "name a script, a recipe (-L lists them) or -e CODE; -h tells more");
	if (!o->pcap && o->mode == OPTIONS_RUN && o->script && !strcmp(o->script, PCAP_RECIPE))
		return ts_fail(err, EINVAL, "name the file: tlsscope --pcap FILE");
	if (o->rotate && !o->output && !o->pcap && !o->har)
		return ts_fail(err, EINVAL, "--rotate needs -o FILE, --pcap FILE or --har FILE");
	if (same(o->pcap, o->output) || same(o->pcap, o->record) || same(o->pcap, o->har))
		return ts_fail(err, EINVAL, "--pcap %s: a file of its own is needed", o->pcap);
	if (same(o->har, o->output) || same(o->har, o->record))
		return ts_fail(err, EINVAL, "--har %s: a file of its own is needed", o->har);
	if (!o->script && !o->code)
		o->interactive = true;
	if (o->interactive && o->mode != OPTIONS_RUN)
		return ts_fail(err, EINVAL, "-i does not go with --check and --dry-run");
	if (o->interactive && o->script && !strcmp(o->script, "-"))
		return ts_fail(err, EINVAL,
			       "-i needs the standard input: put the script in a file");
	if (o->replay && (o->command || o->record))
		return ts_fail(err, EINVAL, "-r does not go with -%c", o->command ? 'c' : 'w');
	return 0;
}

/* All options up to the first word that is none. */
static int parse_options(struct options *o, int argc, char *const *argv, struct ts_err *err)
{
	int code, ret;

	/* "+": what follows the script's name is the script's. */
	while ((code = getopt_long(argc, argv, "+:p:c:e:f:o:w:r:I:ilLqvVh", long_options, NULL)) !=
	       -1) {
		ret = set_option(o, code, argv, err);
		if (ret)
			return ret;
	}
	return 0;
}

/* Of doctor: the other words are process numbers, with options among them. */
static int parse_doctor(struct options *o, int argc, char *const *argv, struct ts_err *err)
{
	int ret = 0;

	o->mode = OPTIONS_DOCTOR;
	while (!ret && optind < argc) {
		ret = parse_options(o, argc, argv, err);
		if (!ret && optind < argc)
			ret = ts_filter_add(&o->filter, "pid", argv[optind++], false, err);
	}
	if (!ret && o->mode != OPTIONS_DOCTOR)
		ret = ts_fail(err, EINVAL, "doctor does not go with another way to look around");
	if (!ret && (o->code || o->command || o->record || o->replay || o->pcap || o->har))
		ret = ts_fail(err, EINVAL, "doctor does not go with %s",
			      o->code	   ? "-e"
			      : o->command ? "-c"
			      : o->record  ? "-w"
			      : o->replay  ? "-r"
			      : o->pcap	   ? "--pcap"
					   : "--har");
	if (!ret && ts_filter_names_ends(&o->filter))
		ret = ts_fail(err, EINVAL,
			      "doctor looks at processes: it takes no port and no address");
	return ret;
}

int options_parse(struct options *o, int argc, char *const *argv, struct ts_err *err)
{
	int ret;

	*o = (struct options){0};
	opterr = 0;
	if (argc > 1 && !strcmp(argv[1], "complete")) {
		o->mode = OPTIONS_COMPLETE;
		o->argc = argc - 2;
		o->argv = argv + 2;
		return 0;
	}
	ret = parse_options(o, argc, argv, err);
	if (!ret && o->mode == OPTIONS_LIST && optind < argc) {
		o->pattern = argv[optind++];
		ret = parse_options(o, argc, argv, err);
	} else if (!ret && !o->code && optind < argc) {
		o->script = argv[optind++];
		if (o->mode == OPTIONS_RUN && !strcmp(o->script, "doctor"))
			ret = parse_doctor(o, argc, argv, err);
		else if (o->mode == OPTIONS_RUN && !strcmp(o->script, "help"))
			o->mode = OPTIONS_EXPLAIN;
	}
	if (!o->script && !o->code && (o->pcap || o->har))
		o->script = o->pcap ? PCAP_RECIPE : HAR_RECIPE;
	o->argc = argc - optind;
	o->argv = argv + optind;
	return ret ? ret : check_combination(o, err);
}

void options_free(struct options *o)
{
	free(o->include);
	ts_filter_free(&o->filter);
}
