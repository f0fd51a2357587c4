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
#define INTERRUPT_AFTER_S 1

static struct {
	volatile sig_atomic_t stop, usr1;
	struct script *volatile script;
	int pipe[2];
} state = {.pipe = {-1, -1}};

static const int handled[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD, SIGPROF, SIGPIPE};

void signals_postpone(void)
{
	const struct itimerval timer = {.it_value.tv_sec = INTERRUPT_AFTER_S};

	setitimer(ITIMER_PROF, &timer, NULL);
}

static void on_signal(int number)
{
	int saved = errno;

	if (number == SIGPROF) {
		if (state.script)
			script_interrupt(state.script);
	} else if (number == SIGUSR1) {
		state.usr1 = 1;
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

bool signals_take_usr1(void)
{
	bool came = state.usr1;

	state.usr1 = 0;
	return came;
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
