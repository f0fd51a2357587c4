/* SPDX-License-Identifier: MIT */
/* What a script may say, and what it is told when it says something else. */
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "api.h"
#include "script_run.h"

static void wrong_names(void **state)
{
	(void)state;
	expect_wrong("on.ssl_raed(print)",
		     "tlsscope: -e:1: unknown event 'ssl_raed', did you mean 'ssl_read'?\n"
		     "     1 | on.ssl_raed(print)\n"
		     "       |    ^^^^^^^^\n");
	expect_wrong("on.ssl_read({\n\tcomm = 'x',\n\tcaptur = 1,\n}, print)",
		     "tlsscope: -e:3: unknown option of on.ssl_read: 'captur', did you mean "
		     "'capture'?\n"
		     "     3 |  captur = 1,\n"
		     "       |  ^^^^^^\n");
	expect_wrong("target{com = 'x'}",
		     "tlsscope: -e:1: unknown option of target: 'com', did you mean 'comm'?\n"
		     "     1 | target{com = 'x'}\n"
		     "       |        ^^^\n");
	expect_wrong("config{bufer = '1M'}",
		     "tlsscope: -e:1: unknown option of config: 'bufer', did you mean 'buffer'?\n"
		     "     1 | config{bufer = '1M'}\n"
		     "       |        ^^^^^\n");
	expect_wrong("prnt(1)", "tlsscope: -e:1: undefined global 'prnt', did you mean 'print'?\n"
				"     1 | prnt(1)\n"
				"       | ^^^^\n");
	expect_wrong("on('gnutls_*', print)",
		     "tlsscope: -e:1: no probe matches 'gnutls_*'; -l lists them\n"
		     "     1 | on('gnutls_*', print)\n"
		     "       |     ^^^^^^^^\n");
}

static void wrong_values(void **state)
{
	(void)state;
	expect_wrong("target{pid = 'abc'}", "tlsscope: -e:1: pid 'abc' is not a process number\n"
					    "     1 | target{pid = 'abc'}\n"
					    "       |        ^^^\n");
	expect_wrong("on.ssl_read({pid = 1.5}, print)",
		     "tlsscope: -e:1: on.ssl_read: pid must be a name or a whole number, not 1.5\n"
		     "     1 | on.ssl_read({pid = 1.5}, print)\n"
		     "       |              ^^^\n");
	expect_wrong("on.ssl_read({capture = '8X'}, print)",
		     "tlsscope: -e:1: capture must be a number of bytes, as in 4096 or \"64K\" or "
		     "\"all\"; not 8X\n"
		     "     1 | on.ssl_read({capture = '8X'}, print)\n"
		     "       |              ^^^^^^^\n");
	expect_wrong("on.ssl_read({errors = 1}, print)",
		     "tlsscope: -e:1: on.ssl_read: errors must be a boolean, not a number\n"
		     "     1 | on.ssl_read({errors = 1}, print)\n"
		     "       |              ^^^^^^\n");
	expect_wrong("on.ssl_read{comm = 'x'}",
		     "tlsscope: -e:1: on.ssl_read needs a function: on.ssl_read([{options},] "
		     "function(e) ... end)\n"
		     "     1 | on.ssl_read{comm = 'x'}\n"
		     "       |    ^^^^^^^^\n");
	expect_wrong("on.lost({comm = 'x'}, print)",
		     "tlsscope: -e:1: on.lost takes no option but `where`\n"
		     "     1 | on.lost({comm = 'x'}, print)\n"
		     "       |          ^^^^\n");
	expect_wrong("every('1ns', print)", "tlsscope: -e:1: every: an interval is 1ms at least\n"
					    "     1 | every('1ns', print)\n");
	expect_wrong("exit(256)", "tlsscope: -e:1: exit takes a status from 0 to 255, not 256\n"
				  "     1 | exit(256)\n");
}

static void syntax_errors(void **state)
{
	(void)state;
	expect_wrong("local x = 1\n\tprint(x y)\n", "tlsscope: -e:2: ')' expected near 'y'\n"
						    "     2 |  print(x y)\n"
						    "       |          ^\n");
	/* The same token earlier in the line is not the one. */
	expect_wrong("f(y, y y)", "tlsscope: -e:1: ')' expected near 'y'\n"
				  "     1 | f(y, y y)\n"
				  "       |        ^\n");
	expect_wrong("local s = \"abc\nprint(s)", "tlsscope: -e:1: unfinished string near '\"abc'\n"
						  "     1 | local s = \"abc\n"
						  "       |           ^^^^\n");
	expect_wrong("if x then\n", "tlsscope: -e:2: 'end' expected (to close 'if' at line 1) near "
				    "<eof>\n"
				    "     2 | \n");
	/* Nothing of a source line acts on the terminal. */
	expect_wrong("print('\033[2J') )", "tlsscope: -e:1: unexpected symbol near ')'\n"
					   "     1 | print('\\x1b[2J') )\n"
					   "       |                  ^\n");
}

static void run_time_errors(void **state)
{
	(void)state;
	expect_wrong("local function g()\n  local x\n  return x.y\nend\n"
		     "local function f()\n  g()\nend\nf()",
		     "tlsscope: -e:3: attempt to index a nil value (local 'x')\n"
		     "    -e:3: in upvalue 'g'\n"
		     "    -e:6: in local 'f'\n"
		     "    -e:8: in the main chunk\n");
	expect_wrong("error({})", "tlsscope: error with a table instead of a message\n"
				  "    -e:1: in the main chunk\n");
	/* A script that catches them sees text. */
	expect_prints("local ok, err = pcall(function() on.ssl_raed(print) end)\n"
		      "print(ok, err) print('> ' .. err)",
		      "false\t-e:1: unknown event 'ssl_raed', did you mean 'ssl_read'?\n"
		      "> -e:1: unknown event 'ssl_raed', did you mean 'ssl_read'?\n");
}

static void globals(void **state)
{
	(void)state;
	expect_wrong("local function f()\n  coutn = 1\nend\nf()",
		     "tlsscope: -e:2: global 'coutn' is made inside a function: write 'local "
		     "coutn', or give it a first value at the top level\n"
		     "     2 |   coutn = 1\n"
		     "       |   ^^^^^\n");
	expect_prints("total, unset = 0, nil\n"
		      "local function f() total = total + 1 unset = 5 end\nf() print(total, unset)",
		      "1\t5\n");
	/* Shadowing a builtin name breaks nothing but the name. */
	expect_prints("escape, json, pairs = 1, 2, 3 emit{a = {1}} print(1)", "emit a=[1]\n1\n");
}

static void memory_limit(void **state)
{
	(void)state;
	expect_wrong(
		"config{memory = '4M'} local t = {} while true do t[#t + 1] = ('x'):rep(#t) end",
		"tlsscope: not enough memory: a script may use 1G, or what it sets with "
		"config{memory = ...}\n");
	expect_prints("config{memory = '4M'}\n"
		      "print(pcall(function() local s = 'x' while true do s = s .. s end end))",
		      "false\tnot enough memory\n");
}

static void sandbox(void **state)
{
	static const char *const refused[] = {
		"os.execute('true')", "io.popen('true')",    "os.remove('x')",
		"os.rename('x','y')", "os.tmpname()",	     "io.tmpfile()",
		"io.output('x')",     "debug.getregistry()", "package.loadlib('x','*')",
		"debug.sethook()",    "os.setlocale('C')",   "debug.getmetatable('')",
	};
	char code[128], out[256], name[64];
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(refused); i++) {
		ts_copy(name, sizeof(name), refused[i]);
		*strchr(name, '(') = 0;
		snprintf(code, sizeof(code), "print(pcall(function() %s end))", refused[i]);
		snprintf(out, sizeof(out),
			 "false\t-e:1: %s is not available to scripts; --unsafe on the command "
			 "line allows it\n",
			 name);
		expect_prints(code, out);
	}
	expect_prints("print(pcall(os.exit))",
		      "false\t-e:1: os.exit is not available to scripts; call exit(status)\n");
	expect_prints("for _, m in ipairs{'w', 'a', 'r+', 'w+b'} do\n"
		      "assert(not pcall(io.open, '/tmp/tlsscope-no', m)) end\n"
		      "assert(not io.open('/tmp/tlsscope-no'))\n"
		      "print(io.open('/proc/self/comm'):read('n'))",
		      "nil\n");
	expect_prints("print(load('\\27Lua'))\nprint(load(string.dump(function() end), 'x', 'b'))",
		      "nil\tattempt to load a binary chunk (mode is 't')\n"
		      "nil\tattempt to load a binary chunk (mode is 't')\n");
	expect_prints(
		"print(load('return x', 'c', 't', {x = 5})(), package.cpath, package.searchers)",
		"5\tnil\tnil\n");
	/* The tables are the same by every way to them. */
	expect_prints("print(package.loaded.os == os, require('io') == io, #package.loaded)",
		      "true\ttrue\t0\n");
	expect_prints("io.write('a', 1) io.stdout:write('b\\n')", "a1b\n");
}

static void unsafe_has_all(void **state)
{
	struct run r = {.options.unsafe = true};

	(void)state;
	start(&r, "print((os.execute('true')), type(debug.sethook), type(require('format')))");
	expect(&r, "true\tfunction\ttable\n", "");
	assert_int_equal(r.loaded, 0);
}

static void write_text(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
}

static void modules(void **state)
{
	char folder[] = "/tmp/tlsscope-lib-XXXXXX", file[64];
	const char *include = folder;
	struct run r = {.options = {.include = &include, .include_count = 1}};

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(file, sizeof(file), "%s/mine.lua", folder);
	write_text(file, "shared = 1 return {name = ...}", 0644);
	start(&r, "print(require('mine').name, require('mine') == require('mine'), shared)");
	expect(&r, "mine\ttrue\t1\n", "");
	assert_int_equal(r.loaded, 0);

	chmod(file, 0646);
	start(&r, "local ok, err = pcall(require, 'mine')\n"
		  "print(ok, tostring(err):match('(module refused: everybody may write "
		  "to).*mine.lua'))");
	expect(&r, "false\tmodule refused: everybody may write to\n", "");
	chmod(file, 0644);
	chmod(folder, 0777);
	start(&r, "print((pcall(require, 'mine')))");
	expect(&r, "false\n", "");
	chmod(folder, 0755);
	start(&r, "print((pcall(require, 'mine')), (pcall(require, '../mine')))");
	expect(&r, "true\tfalse\n", "");
	start(&r, "require 'mime'");
	expect(&r, "",
	       "tlsscope: -e:1: there is no module 'mime', neither in the library nor in a folder "
	       "of -I\n"
	       "     1 | require 'mime'\n"
	       "       |          ^^^^\n");
	unlink(file);
	rmdir(folder);
}

static void unreadable_scripts(void **state)
{
	struct run r = {0};

	(void)state;
	start_kind(&r, SCRIPT_FILE, "/nonexistent/x.lua");
	expect(&r, "", "");
	assert_int_equal(r.loaded, -ENOENT);
	assert_string_equal(r.err.text,
			    "cannot read '/nonexistent/x.lua': No such file or directory");
	start_kind(&r, SCRIPT_FILE, "/tmp");
	expect(&r, "", "");
	assert_int_equal(r.loaded, -EISDIR);
	start_kind(&r, SCRIPT_RECIPE, "no-such");
	expect(&r, "", "");
	assert_int_equal(r.loaded, -ENOENT);
	start(&r, "\033Lua");
	expect(&r, "", "");
	assert_int_equal(r.loaded, -ENOEXEC);
	start_kind(&r, SCRIPT_FILE, "/dev/null");
	expect(&r, "", "");
	assert_int_equal(r.loaded, 0);
}

static void first_lines(void **state)
{
	char file[] = "/tmp/tlsscope-script-XXXXXX";
	struct run r = {0};

	(void)state;
	close(mkstemp(file));
	write_text(file, "#!/usr/bin/env tlsscope\nprint(debug.getinfo(1, 'l').currentline)", 0600);
	start_kind(&r, SCRIPT_FILE, file);
	expect(&r, "2\n", "");
	write_text(file, "\xef\xbb\xbfprint(1)", 0600);
	start_kind(&r, SCRIPT_FILE, file);
	expect(&r, "1\n", "");
	unlink(file);
}

/* Ctrl-C every 50 ms. */
static struct script *volatile to_interrupt;

static void on_alarm(int number)
{
	(void)number;
	if (to_interrupt)
		script_interrupt(to_interrupt);
}

static void interrupt_soon(bool on)
{
	struct itimerval every = {{0, on ? 50000 : 0}, {0, on ? 50000 : 0}};

	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &every, NULL);
}

/* The script's handler never ends by itself. */
static void interrupt_handler(const char *body, const char *err)
{
	struct run r = {0};
	char code[512];

	snprintf(code, sizeof(code), "on.ssl_write(function(e)\n%s\nend)", body);
	start(&r, code);
	to_interrupt = r.script;
	interrupt_soon(true);
	message(&r, "x");
	interrupt_soon(false);
	to_interrupt = NULL;
	/* What runs next is not interrupted too. */
	script_interrupt(r.script);
	record_stopped(&r);
	expect(&r, "", err);
}

static void interrupts(void **state)
{
	(void)state;
	interrupt_handler("while true do end",
			  "tlsscope: error in handler of ssl_write: -e:2: interrupted\n");
	interrupt_handler("while true do pcall(function() while true do end end) end", NULL);
	interrupt_handler("local co = coroutine.wrap(function() while true do end end) co()", NULL);
	interrupt_handler("while true do coroutine.wrap(function() pcall(error) end)() end", NULL);
	interrupt_handler("local s = 0 repeat s = s + #('x'):rep(10) until false", NULL);
}

/* What every name in a kind is used for: the list of what is documented is complete. */
static void api_is_complete(void **state)
{
	struct run r = {0};
	size_t i;

	(void)state;
	for (i = 0; i < lib_probes_count; i++)
		assert_non_null(api_find(API_PROBE, lib_probes[i].name));
	for (i = 0; i < api_count; i++) {
		assert_true(*api_table[i].name && *api_table[i].type && *api_table[i].help);
		assert_true(strlen(api_table[i].help) < 80);
		assert_ptr_equal(api_find(api_table[i].kind, api_table[i].name), &api_table[i]);
	}
	start(&r, "for _, name in ipairs{'on', 'target', 'options', 'config', 'every', 'after', "
		  "'stream',\n"
		  "'print', 'printf', 'emit', 'warn', 'escape', 'hexdump', 'human', 'duration', "
		  "'json',\n"
		  "'clear_screen', 'color', 'exit', 'count', 'sum', 'avg', 'min', 'max', 'stats', "
		  "'hist', "
		  "'lhist',\n"
		  "'tseries', 'args'} do assert(_G[name] ~= nil, name) end");
	expect(&r, "", "");
	assert_string_equal(api_nearest(API_FIELD, "lenght"), "len");
	assert_null(api_nearest(API_FIELD, "something_else"));
}

static void recipes(void **state)
{
	const struct script_recipe *recipe;
	(void)state;
	for (recipe = script_recipes(); recipe->name; recipe++) {
		struct run r = {0};

		assert_true(*recipe->summary);
		start_kind(&r, SCRIPT_RECIPE, recipe->name);
		expect(&r, "", "");
		assert_int_equal(r.loaded, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_names),	   cmocka_unit_test(wrong_values),
		cmocka_unit_test(syntax_errors),   cmocka_unit_test(run_time_errors),
		cmocka_unit_test(globals),	   cmocka_unit_test(memory_limit),
		cmocka_unit_test(sandbox),	   cmocka_unit_test(unsafe_has_all),
		cmocka_unit_test(modules),	   cmocka_unit_test(unreadable_scripts),
		cmocka_unit_test(first_lines),	   cmocka_unit_test(interrupts),
		cmocka_unit_test(api_is_complete), cmocka_unit_test(recipes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
