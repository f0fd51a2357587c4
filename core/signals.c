/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/time.h>
#include <unistd.h>

#include "script.h"
#include "signals.h"

/* Of processor time: on a busy machine a handler is slow without being endless. */
#define INTERRUPT_AFTER_US 1000000
#define PROMPT_AFTER_US 100000 /* at the prompt somebody waits */

static struct {
	volatile sig_atomic_t stop, usr1, prompt, interrupt, resized, continued;
	struct script *volatile script;
	int pipe[2];
} state = {.pipe = {-1, -1}};

static const int handled[] = {SIGINT,  SIGTERM, SIGHUP,	  SIGUSR1, SIGCHLD,
			      SIGPROF, SIGPIPE, SIGWINCH, SIGCONT};

static void interrupt_after(long us)
{
	const struct itimerval timer = {
		.it_value = {.tv_sec = us / 1000000, .tv_usec = us % 1000000}};

	setitimer(ITIMER_PROF, &timer, NULL);
}

void signals_postpone(void)
{
	interrupt_after(INTERRUPT_AFTER_US);
}

static void on_signal(int number)
{
	int saved = errno;

	if (number == SIGPROF) {
		if (state.script)
			script_interrupt(state.script);
	} else if (number == SIGUSR1) {
		state.usr1 = 1;
	} else if (number == SIGWINCH) {
		state.resized = 1;
	} else if (number == SIGCONT) {
		state.continued = 1;
	} else if (number == SIGINT && state.prompt) {
		state.interrupt = 1;
		interrupt_after(PROMPT_AFTER_US);
	} else if (number != SIGCHLD) {
		state.stop = 1;
		signals_postpone();
		signal(number, SIG_DFL);
	}
	/* A full pipe is readable already. */
	if (write(state.pipe[1], "", 1) < 0)
		errno = saved;
	errno = saved;
}

int signals_open(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	size_t i;

	if (pipe2(state.pipe, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	for (i = 0; i < TS_ARRAY_SIZE(handled); i++) {
		/* A write to a closed pipe is an error that output.c tells. */
		action.sa_handler = handled[i] == SIGPIPE ? SIG_IGN : on_signal;
		sigaction(handled[i], &action, NULL);
	}
	return state.pipe[0];
}

void signals_set_script(struct script *s)
{
	state.script = s;
}

bool signals_stop(void)
{
	return state.stop;
}

void signals_set_prompt(bool prompt)
{
	state.prompt = prompt;
}

static bool take(volatile sig_atomic_t *flag)
{
	bool came = *flag;

	*flag = 0;
	return came;
}

bool signals_take_usr1(void)
{
	return take(&state.usr1);
}

bool signals_take_interrupt(void)
{
	return take(&state.interrupt);
}

bool signals_take_resized(void)
{
	return take(&state.resized);
}

bool signals_take_continued(void)
{
	return take(&state.continued);
}

void signals_clear(void)
{
	char bytes[64];

	while (read(state.pipe[0], bytes, sizeof(bytes)) > 0)
		;
}

void signals_calm(void)
{
	const struct itimerval none = {0};

	setitimer(ITIMER_PROF, &none, NULL);
}

void signals_reset(void)
{
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(handled); i++)
		signal(handled[i], SIG_DFL);
}
