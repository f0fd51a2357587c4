/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/time.h>
#include <termios.h>
#include <unistd.h>

#include "script.h"
#include "signals.h"

/* Of processor time: on a busy machine a handler is slow without being endless. */
#define INTERRUPT_AFTER_US 1000000
#define PROMPT_AFTER_US 100000 /* at the prompt somebody waits */
/* Of the clock: then it is C that does not come back. */
#define LATE_AFTER_US 3000000
#define HANGUP_AFTER_US 10000000

static struct {
	volatile sig_atomic_t stop; /* by these signals: a bit each */
	volatile sig_atomic_t usr1, prompt, interrupt, late, resized, continued;
	struct script *volatile script;
	volatile unsigned long call; /* of Lua, that was running at SIGHUP */
	struct termios cooked;	     /* the terminal as it was before the prompt */
	int pipe[2];
} state = {.pipe = {-1, -1}};

static const int handled[] = {SIGINT,  SIGTERM, SIGHUP,	  SIGUSR1, SIGCHLD,
			      SIGPROF, SIGPIPE, SIGWINCH, SIGCONT, SIGALRM};
static const int at_prompt[] = {SIGTSTP, SIGQUIT};

static void timer_after(int which, long us)
{
	const struct itimerval timer = {
		.it_value = {.tv_sec = us / 1000000, .tv_usec = us % 1000000}};

	setitimer(which, &timer, NULL);
}

static void interrupt_after(long us)
{
	timer_after(ITIMER_PROF, us);
}

static void say(const char *text)
{
	/* Who cannot read it misses nothing. */
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return;
}

/* What readline did to the terminal is undone: by what a signal handler may call. */
static void restore_terminal(void)
{
	struct termios now;

	if (!state.prompt || tcgetattr(STDIN_FILENO, &now) || now.c_lflag & ICANON)
		return;
	say("\033[?2004l\r\n");
	tcsetattr(STDIN_FILENO, TCSANOW, &state.cooked);
}

/* What the signal does by default, now. */
static void by_default(int number)
{
	sigset_t only;

	restore_terminal();
	signal(number, SIG_DFL);
	sigemptyset(&only);
	sigaddset(&only, number);
	raise(number);
	sigprocmask(SIG_UNBLOCK, &only, NULL);
}

/* Neither Ctrl-C nor the end of the terminal helped: a function in C runs, or waits. */
static void on_late(void)
{
	if (state.stop) {
		if (state.script && state.call && script_running(state.script) == state.call)
			by_default(SIGHUP);
	} else if (state.interrupt) {
		state.late = 1;
		say("\r\ntlsscope: what runs does not let itself be interrupted (a function "
		    "in C, or one\r\nthat waits); Ctrl-C again ends tlsscope\r\n");
	}
}

static void on_interrupt(void)
{
	if (state.interrupt && state.late)
		by_default(SIGINT);
	if (!state.interrupt)
		timer_after(ITIMER_REAL, LATE_AFTER_US);
	state.interrupt = 1;
	interrupt_after(PROMPT_AFTER_US);
}

static void on_stop(int number)
{
	/* Ended from here, never inside a system call: a kernel that is removing breakpoints gives
	 * up at a fatal signal (6.18: "failed to unregister, leaking uprobe"). */
	if (state.stop & 1 << number)
		by_default(number);
	state.stop |= 1 << number;
	signals_postpone();
	if (number != SIGHUP)
		return;
	/* It comes from the shell and from the kernel; nobody is there to send one more. */
	signal(number, SIG_IGN);
	state.call = state.script ? script_running(state.script) : 0;
	timer_after(ITIMER_REAL, HANGUP_AFTER_US);
}

void signals_postpone(void)
{
	interrupt_after(INTERRUPT_AFTER_US);
}

/* What a stop at the prompt took away for a moment. */
static void handle_again(int number)
{
	struct sigaction action;

	sigaction(SIGUSR1, NULL, &action);
	sigaction(number, &action, NULL);
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
	} else if (number == SIGALRM) {
		on_late();
	} else if (number == SIGTSTP || number == SIGQUIT) {
		by_default(number);
		handle_again(number);
	} else if (number == SIGINT && state.prompt) {
		on_interrupt();
	} else if (number != SIGCHLD) {
		on_stop(number);
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
	struct sigaction action = {.sa_handler = prompt ? on_signal : SIG_DFL,
				   .sa_flags = SA_RESTART};
	size_t i;

	if (prompt && tcgetattr(STDIN_FILENO, &state.cooked))
		return;
	state.prompt = prompt;
	for (i = 0; i < TS_ARRAY_SIZE(at_prompt); i++)
		sigaction(at_prompt[i], &action, NULL);
}

/* An editor has the terminal, and its keys. */
void signals_set_foreign(bool foreign)
{
	signal(SIGINT, foreign ? SIG_IGN : on_signal);
	signal(SIGQUIT, foreign ? SIG_IGN : state.prompt ? on_signal : SIG_DFL);
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
	state.late = 0;
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
	timer_after(ITIMER_PROF, 0);
	if (!state.stop)
		timer_after(ITIMER_REAL, 0);
}

void signals_reset(void)
{
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(handled); i++)
		signal(handled[i], SIG_DFL);
	for (i = 0; i < TS_ARRAY_SIZE(at_prompt); i++)
		signal(at_prompt[i], SIG_DFL);
}
