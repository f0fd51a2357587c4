/* SPDX-License-Identifier: MIT */
/* The line being typed, and what else wants to be on the screen. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <readline/readline.h>

#include "repl_private.h"

#define SECOND 1000000000ull
#define FLOOD_LINES 300		/* more in a second are counted */
#define CALM_LINES 100		/* until there were fewer than these in one */
#define TELL_EVERY (SECOND / 2) /* the counter moves */

void screen_hide(struct repl *r)
{
	if (!r->shown)
		return;
	rl_clear_visible_line();
	fflush(rl_outstream);
	r->shown = false;
}

void screen_show(struct repl *r)
{
	if (!r->installed || r->shown)
		return;
	rl_on_new_line();
	rl_redisplay();
	fflush(rl_outstream);
	r->shown = true;
}

void screen_message(void *ctx)
{
	struct repl *r = ctx;

	screen_hide(r);
	r->flood.drawn = false;
}

static void next_window(struct repl *r, uint64_t now)
{
	if (now - r->flood.start < SECOND)
		return;
	if (r->flood.on && (r->flood.lines < CALM_LINES || now - r->flood.start >= 2 * SECOND))
		r->flood.on = false;
	r->flood.start = now;
	r->flood.lines = 0;
}

/* How many bytes of what events print shall be seen. */
size_t screen_gate(void *ctx, const char *data, size_t len)
{
	const char *p = data, *end = data + len, *newline;
	struct repl *r = ctx;
	size_t shown = 0;

	if (r->busy || !r->installed) {
		screen_message(r);
		return len;
	}
	next_window(r, ts_now());
	while (p < end) {
		newline = memchr(p, '\n', (size_t)(end - p));
		p = newline ? newline + 1 : end;
		r->flood.lines++;
		if (!r->flood.on && r->flood.lines > FLOOD_LINES) {
			r->flood.on = true;
			r->flood.held = 0;
			r->flood.since = ts_now();
		}
		if (r->flood.on)
			r->flood.held++;
		else
			shown = (size_t)(p - data);
	}
	if (shown)
		screen_message(r);
	return shown;
}

void screen_settle(struct repl *r)
{
	uint64_t now = ts_now();

	next_window(r, now);
	if (r->flood.held == r->flood.told || (r->flood.on && now - r->flood.told_at < TELL_EVERY))
		return;
	screen_hide(r);
	if (r->flood.drawn)
		fputs("\033[A\033[K", rl_outstream);
	fprintf(rl_outstream, "... %llu lines in %llu s held back (.pause, .on, .off N)\n",
		(unsigned long long)r->flood.held,
		(unsigned long long)((now - r->flood.since) / SECOND + 1));
	r->flood.drawn = r->flood.on;
	r->flood.told = r->flood.on ? r->flood.held : 0;
	r->flood.told_at = now;
	if (!r->flood.on)
		r->flood.held = 0;
}
