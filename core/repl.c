/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <readline/readline.h>

#include "repl_private.h"
#include "signals.h"

#define PROMPT "tlsscope> "
#define PROMPT_MORE "       >> "
#define FLUSH_EVERY 20000000ull /* ns: the line need not flicker */

/* readline's callback takes no context. */
static struct repl *current;

/* Evaluates one line and attaches what it wants. */
static void enter(struct repl *r, const char *line)
{
	enum script_input status;
	bool applied;

	r->busy = true;
	status = script_prompt_line(r->script, line);
	r->more = status == SCRIPT_MORE;
	r->failed |= status == SCRIPT_FAILED;
	r->quit |= status == SCRIPT_QUIT;
	if (!r->more && !r->quit) {
		applied = r->ops.apply(r->ctx);
		script_prompt_settled(r->script, applied ? NULL : "refused");
		r->failed |= !applied;
	}
	output_flush(r->out);
	r->busy = false;
}

/* What was pasted may be several lines. */
static void enter_lines(struct repl *r, char *text)
{
	char *line = text, *end;

	while (line && !r->quit) {
		end = strchr(line, '\n');
		if (end)
			*end = 0;
		ts_buf_printf(&r->typed, "%s%s", r->typed.len ? "\n" : "", line);
		enter(r, line);
		line = end ? end + 1 : NULL;
		if (!r->more && !ts_buf_add(&r->typed, "", 1)) {
			history_add(r, (const char *)r->typed.data);
			r->typed.len = 0;
		}
	}
}

static void on_line(char *line)
{
	struct repl *r = current;

	r->shown = false;
	r->flood.drawn = false;
	if (line) {
		enter_lines(r, line);
		free(line);
	} else {
		r->quit = true;
		putc('\n', rl_outstream);
	}
	/* It came for what ran: not for the next line. */
	if (signals_take_interrupt())
		signals_calm();
	rl_set_prompt(r->more ? PROMPT_MORE : PROMPT);
	if (r->quit || r->ops.waiting(r->ctx)) {
		rl_callback_handler_remove();
		r->installed = false;
	}
}

static void install(struct repl *r)
{
	rl_callback_handler_install(r->more ? PROMPT_MORE : PROMPT, on_line);
	r->installed = r->shown = true;
}

static int open_terminal(struct repl *r)
{
	current = r;
	rl_readline_name = "tlsscope";
	rl_outstream = isatty(STDOUT_FILENO) ? stdout : stderr;
	rl_catch_signals = 0;
	rl_catch_sigwinch = 0;
	rl_change_environment = 0;
	/* Defaults that ~/.inputrc can change: a pager would hold up the event loop. */
	rl_variable_bind("page-completions", "off");
	rl_variable_bind("enable-bracketed-paste", "on");
	rl_initialize();
	complete_open(r);
	history_open(r);
	signals_set_prompt(true);
	ts_set_before_message(screen_message, r);
	if (output_is_terminal(r->out))
		output_set_gate(r->out, screen_gate, r);
	printf("tlsscope %s: Lua at the prompt; .help tells more, Ctrl-D ends\n", TS_VERSION);
	return 0;
}

int repl_open(struct repl **out, struct script *script, struct output *o,
	      const struct repl_ops *ops, void *ctx, struct ts_err *err)
{
	struct repl *r = calloc(1, sizeof(*r));

	*out = NULL;
	if (!r)
		return ts_fail(err, ENOMEM, "no memory for the prompt");
	*r = (struct repl){.script = script, .out = o, .ops = *ops, .ctx = ctx};
	r->terminal = isatty(STDIN_FILENO) && (isatty(STDOUT_FILENO) || isatty(STDERR_FILENO));
	if (r->terminal)
		open_terminal(r);
	*out = r;
	return 0;
}

void repl_close(struct repl *r)
{
	if (!r)
		return;
	if (r->terminal) {
		screen_hide(r);
		if (r->installed)
			rl_callback_handler_remove();
		signals_set_prompt(false);
		ts_set_before_message(NULL, NULL);
		output_set_gate(r->out, NULL, NULL);
		history_close(r);
		complete_open(NULL);
		current = NULL;
	}
	ts_buf_free(&r->input);
	ts_buf_free(&r->typed);
	free(r);
}

int repl_fd(const struct repl *r)
{
	return r->ended || r->quit || r->ops.waiting(r->ctx) ? -1 : STDIN_FILENO;
}

/* Ctrl-C: the line goes, and what was begun before it. */
static void interrupt(struct repl *r)
{
	signals_calm();
	script_prompt_interrupted(r->script);
	if (!r->installed)
		return;
	screen_show(r);
	rl_callback_sigcleanup();
	rl_point = rl_end;
	rl_redisplay();
	fputs("^C\n", rl_outstream);
	r->flood.drawn = false;
	rl_replace_line("", 1);
	rl_free_line_state();
	script_prompt_forget(r->script);
	r->typed.len = 0;
	r->more = false;
	rl_set_prompt(PROMPT);
	r->shown = false;
}

static void continued(struct repl *r)
{
	if (!r->installed)
		return;
	rl_deprep_terminal();
	rl_prep_terminal(1);
	rl_reset_screen_size();
	r->flood.drawn = r->shown = false;
}

static void resized(struct repl *r)
{
	r->flood.drawn = false;
	if (r->shown)
		rl_resize_terminal();
	else
		rl_reset_screen_size();
}

static void step_terminal(struct repl *r, bool readable)
{
	if (signals_take_continued())
		continued(r);
	if (signals_take_resized())
		resized(r);
	if (signals_take_interrupt())
		interrupt(r);
	if (!r->installed && !r->quit && !r->ops.waiting(r->ctx)) {
		fflush(stdout);
		install(r);
	}
	if (!readable || !r->installed)
		return;
	screen_show(r);
	rl_callback_read_char();
	r->shown = r->installed;
}

/* The lines that a pipe brought; at its end also one without a newline. */
static void enter_input(struct repl *r)
{
	char *start = (char *)r->input.data, *newline;
	size_t used = 0;

	while (used < r->input.len && !r->quit && !r->ops.waiting(r->ctx)) {
		newline = memchr(start + used, '\n', r->input.len - used);
		if (!newline)
			break;
		*newline = 0;
		enter(r, start + used);
		used = (size_t)(newline + 1 - start);
	}
	memmove(start, start + used, r->input.len - used);
	r->input.len -= used;
}

static void read_pipe(struct repl *r)
{
	char block[4096];
	ssize_t n = read(STDIN_FILENO, block, sizeof(block));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	r->ended = n <= 0;
	if (ts_buf_add(&r->input, n > 0 ? block : "\n", n > 0 ? (size_t)n : 1)) {
		ts_error("no memory for what the pipe brings");
		r->failed = r->quit = true;
	}
}

static void step_pipe(struct repl *r, bool readable)
{
	if (readable && !r->ended)
		read_pipe(r);
	if (r->input.len)
		enter_input(r);
	if (r->ended && !r->input.len && !r->ops.waiting(r->ctx)) {
		if (script_prompt_forget(r->script)) {
			ts_error("the input ends in the middle of a chunk");
			r->failed = true;
		}
		r->quit = true;
	}
}

void repl_step(struct repl *r, bool readable)
{
	if (r->terminal)
		step_terminal(r, readable);
	else
		step_pipe(r, readable);
}

void repl_flush(struct repl *r)
{
	uint64_t now = ts_now();

	if (!r->terminal || now - r->flushed >= FLUSH_EVERY) {
		output_flush(r->out);
		r->flushed = now;
	}
	if (!r->terminal)
		return;
	screen_settle(r);
	screen_show(r);
}

bool repl_ended(const struct repl *r)
{
	return r->quit;
}

bool repl_failed(const struct repl *r)
{
	return !r->terminal && r->failed;
}
