/* SPDX-License-Identifier: MIT */
/* TAB: what lua/repl_complete.lua finds, as readline wants it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <readline/readline.h>

#include "repl_private.h"

/* readline's functions take no context. */
static struct {
	struct repl *repl;
	struct script_match *list;
	size_t count;
} found;

static char *next_match(const char *text, int state)
{
	static size_t at;

	if (!state)
		at = 0;
	while (at < found.count) {
		struct script_match *m = &found.list[at++];

		if (!strncmp(m->text, text, strlen(text)))
			return strdup(m->text);
	}
	return NULL;
}

/* Whether the cursor stands in a string that is open. */
static bool in_string(void)
{
	char quote = 0;
	int i;

	for (i = 0; i < rl_point; i++) {
		if (quote && rl_line_buffer[i] == '\\')
			i++;
		else if (quote && rl_line_buffer[i] == quote)
			quote = 0;
		else if (!quote && strchr("\"'", rl_line_buffer[i]))
			quote = rl_line_buffer[i];
	}
	return quote;
}

static bool is_command(void)
{
	return rl_line_buffer[strspn(rl_line_buffer, " \t")] == '.';
}

/* A command's arguments may be paths; in Lua a string is one word. */
static char *word_breaks(void)
{
	static char lua[] = " \t\n\"'(){}[],;=<>~+-*/%^#&|", command[] = " \t\n", string[] = "\"'";

	return is_command() ? command : in_string() ? string : lua;
}

static char **complete(const char *text, int start, int end)
{
	char *before = strndup(rl_line_buffer, (size_t)end);

	(void)start;
	script_matches_free(found.list, found.count);
	found.list = before ? script_complete(found.repl->script, before, &found.count) : NULL;
	free(before);
	rl_completion_append_character = is_command() ? ' ' : 0;
	if (!found.list) {
		found.count = 0;
		return NULL; /* files */
	}
	rl_attempted_completion_over = 1;
	return rl_completion_matches(text, next_match);
}

/* Several: with what stands beside them, a process's name beside its number. */
static void display(char **matches, int count, int longest)
{
	char **shown = calloc((size_t)count + 2, sizeof(*shown));
	size_t i;
	int n, len;

	for (n = 0; shown && n <= count; n++) {
		shown[n] = matches[n];
		for (i = 0; n && i < found.count; i++)
			if (found.list[i].shown && !strcmp(found.list[i].text, matches[n]))
				shown[n] = found.list[i].shown;
		len = (int)strlen(shown[n]);
		longest = len > longest ? len : longest;
	}
	rl_crlf();
	rl_display_match_list(shown ? shown : matches, count, longest);
	rl_forced_update_display();
	free(shown);
}

void complete_open(struct repl *r)
{
	script_matches_free(found.list, found.count);
	found.list = NULL;
	found.count = 0;
	found.repl = r;
	rl_attempted_completion_function = complete;
	rl_completion_word_break_hook = word_breaks;
	rl_completion_display_matches_hook = display;
	rl_completer_quote_characters = "";
	/* Questions would hold up the event loop. */
	rl_completion_query_items = 0;
}
