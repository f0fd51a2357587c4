/* SPDX-License-Identifier: MIT */
/* The prompt without a terminal. With the sanitizers, what it leaves behind is found at the end. */
#include "script_prompt.h"
#include "script_run.h"

static int no_command(void *ctx, const struct script_command *c, struct ts_buf *out,
		      struct ts_err *err)
{
	(void)ctx;
	(void)out;
	return ts_fail(err, ENOTSUP, "no %s here", c->name);
}

static void open_prompt(struct run *r)
{
	start(r, "");
	assert_int_equal(r->loaded, 0);
	assert_int_equal(script_prompt_open(r->script, no_command, NULL, &r->err), 0);
}

static size_t complete(struct script *s, const char *line)
{
	size_t count;
	struct script_match *list = script_complete(s, line, &count);

	script_matches_free(list, count);
	return count;
}

/* Expressions, statements, handlers that come and go, help, errors, completion. */
static void ten_thousand_lines(void **state)
{
	static const char *const lines[] = {
		"%d + 1",
		"local x%d = {a = %d, 'text'}",
		"for i = 1, 2 do local y = i + %d end",
		"h = on.tls_data(function(e) return %d end)",
		"h:detach()",
		"count('calls', {from = 'tls_data', by = 'comm'})",
		".off calls",
		".help hist",
		"nosuch%d",
		"x y %d",
	};
	struct run r = {0};
	char line[128];
	int i, n = 0;

	(void)state;
	open_prompt(&r);
	for (i = 0; i < 10000; i++) {
		snprintf(line, sizeof(line), lines[i % 10], i % 100, i);
		n += script_prompt_line(r.script, line) == SCRIPT_FAILED;
		if (i % 100 == 0)
			complete(r.script, "on.tls_");
	}
	script_close(r.script);
	output_close(r.out, &r.err);
	dup2(r.saved_stderr, STDERR_FILENO);
	close(r.saved_stderr);
	unlink(r.out_path);
	unlink(r.err_path);
	assert_int_equal(n, 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ten_thousand_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
