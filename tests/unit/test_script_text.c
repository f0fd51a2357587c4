/* SPDX-License-Identifier: MIT */
/* What scripts print, their options and settings. */
#include "script_run.h"

static void print_functions(void **state)
{
	(void)state;
	expect_prints("print(1, nil, 'a\\tb') printf('%d %d %d|%s|%5.1f|%x\\n', 3.0, 3.7, nil, "
		      "nil, 2, 255)",
		      "1\tnil\ta\tb\n3 4 nil|nil|  2.0|ff\n");
	expect_prints("printf('%5d|%-5d|%05d|%5.2s|%%|%d|%f\\n', nil, nil, 'x', 'abc', 0/0, 'no')",
		      "  nil|nil  |    x|   ab|%|nan|no\n");
	expect_prints("printf('%6s|%-6s|%.1s|%d\\n', 'a\\0b', 'c\\0d', 'ef', nil)",
		      "   a\\x00b|c\\x00d   |e|nil\n");
	expect_prints("printf('%s %s %d\\n', true, {1} ~= nil, '12') printf('%q\\n', 'a\\nb')",
		      "true true 12\n\"a\\\nb\"\n");
	expect_wrong("printf('%y', 1)",
		     "tlsscope: -e:1: printf: '%y' is not a conversion; a percent sign is %%\n"
		     "     1 | printf('%y', 1)\n");
	expect_prints("emit{b = 2, a = 'x y', c = true} emit{type = 't', s = 'q\"', n = ''}",
		      "emit a=\"x y\" b=2 c=true\nt n=\"\" s=\"q\\\"\"\n");
	expect_prints("hexdump('AB')",
		      "00000000  41 42                                             "
		      "|AB|\n");
}

/* Payload that a script prints must not act on a terminal, in a file neither, whose reader has one;
 * what the script itself asks for does. */
static void on_a_terminal(void **state)
{
	int terminal = posix_openpt(O_RDWR | O_NOCTTY);
	struct script_options options = {0};
	struct script *script;
	struct ts_err err;
	char text[256] = "";
	ssize_t n;

	(void)state;
	if (terminal < 0 || grantpt(terminal) || unlockpt(terminal))
		skip(); /* no /dev/pts here */
	assert_int_equal(output_open(&options.out, TO_FILE(ptsname(terminal)), OUTPUT_TEXT, &err),
			 0);
	assert_true(output_is_terminal(options.out));
	assert_int_equal(script_open(&script, &options, &err), 0);
	assert_int_equal(
		script_load(script, SCRIPT_CODE,
			    "print('a\\27[2J\\tb') printf('\\r%s\\n', '\\155') clear_screen() "
			    "io.write('\\7\\n') color('red') print('x') color()",
			    0, NULL, &err),
		0);
	output_flush(options.out);
	n = read(terminal, text, sizeof(text) - 1);
	assert_true(n > 0);
	/* The terminal makes a carriage return of its own before a newline. */
	assert_string_equal(text, "a\\x1b[2J\tb\r\n\\r\\x9b\r\n\033[H\033[K\\x07\r\n\033[K\033[31m"
				  "x\r\n\033[K\033[m\033[J");
	script_close(script);
	output_close(options.out, NULL);
	expect_prints("print('\\27') clear_screen() color('red') print('a')", "\\x1b\na\n");
	assert_int_equal(setenv("NO_COLOR", "1", 1), 0);
	assert_int_equal(output_open(&options.out, TO_FILE(ptsname(terminal)), OUTPUT_TEXT, &err),
			 0);
	assert_true(output_color(options.out, "red") && output_color(options.out, NULL));
	assert_false(output_color(options.out, "no such"));
	output_write(options.out, "plain", 5);
	output_close(options.out, NULL);
	unsetenv("NO_COLOR");
	n = read(terminal, text, sizeof(text) - 1);
	assert_int_equal(n, 5);
	close(terminal);
}

static void json_output(void **state)
{
	struct run r = {.format = OUTPUT_JSON};

	(void)state;
	start(&r,
	      "print('a', 1) printf('b\\n') emit{x = 1} emit{type = 'k', y = 'z'} io.write('c')");
	expect(&r,
	       "{\"text\":\"a\\t1\",\"type\":\"print\"}\n"
	       "{\"text\":\"b\",\"type\":\"print\"}\n"
	       "{\"type\":\"emit\",\"x\":1}\n"
	       "{\"type\":\"k\",\"y\":\"z\"}\n"
	       "{\"text\":\"c\",\"type\":\"print\"}\n",
	       "");
}

#define OPTIONS                                                                                    \
	"local o = options{top = {15, 'rows'}, json = {false, 'as JSON'}, long_name = 'x', n = "   \
	"{}}"                                                                                      \
	" print(o.top, o.json, o.long_name, o.n, #o, o[1], o[2])"

static void script_options(void **state)
{
	static char *const given[] = {"--top=5", "--json", "a", "--long-name", "y", "--", "--b"};
	static char *const wrong[] = {"--tpo", "5"};
	static char *const bad[] = {"--top", "five"};
	static char *const help[] = {"--help"};
	struct run r = {0};
	int status;

	(void)state;
	expect_prints(OPTIONS, "15\tfalse\tx\tnil\t0\tnil\tnil\n");
	r = (struct run){.argc = 7, .argv = given};
	start(&r, OPTIONS "print(#args, args[0])");
	expect(&r, "5\ttrue\ty\tnil\t2\ta\t--b\n7\t-e\n", "");
	r = (struct run){.argc = 2, .argv = wrong};
	start(&r, OPTIONS);
	assert_true(script_exited(r.script, &status));
	expect(&r, "",
	       "tlsscope: unknown option '--tpo', did you mean '--top'?; --help tells the script's "
	       "options\n");
	assert_int_equal(status, 2);
	r = (struct run){.argc = 2, .argv = bad};
	start(&r, OPTIONS);
	expect(&r, "",
	       "tlsscope: --top takes a number, not 'five'; --help tells the script's options\n");
	r = (struct run){.argc = 1, .argv = help};
	start(&r, OPTIONS);
	script_exited(r.script, &status);
	expect(&r,
	       "usage: tlsscope -e [options] [arguments]\n"
	       "  --json                   as JSON\n"
	       "  --long-name TEXT          (x)\n"
	       "  --n TEXT                 \n"
	       "  --top N                  rows (15)\n"
	       "  --help                   shows this\n",
	       "");
	assert_int_equal(status, 0);
}

static void config_is_told(void **state)
{
	const struct script_config *config;
	struct run r = {0};
	size_t buffer;
	bool perf;

	(void)state;
	start(&r, "config{buffer = '5M', attach = 'perf'}");
	config = script_config(r.script);
	buffer = config->buffer;
	perf = !strcmp(config->attach, "perf");
	expect(&r, "", "");
	assert_int_equal(buffer, 8 << 20);
	assert_true(perf);
	expect_wrong("config{attach = 'pref'}",
		     "tlsscope: -e:1: config: unknown way to attach: 'pref', did you mean 'perf'?\n"
		     "     1 | config{attach = 'pref'}\n"
		     "       |                  ^^^^\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(print_functions), cmocka_unit_test(on_a_terminal),
		cmocka_unit_test(json_output),	   cmocka_unit_test(script_options),
		cmocka_unit_test(config_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
