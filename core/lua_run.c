/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "lua_host.h"

#define SECOND 1000000000ull

void host_interrupted(lua_State *L, lua_Debug *ar)
{
	lua_getinfo(L, "Sl", ar);
	if (ar->currentline > 0)
		lua_pushfstring(L, "%s:%d: interrupted", ar->short_src, ar->currentline);
	else
		lua_pushliteral(L, "interrupted");
	lua_error(L);
}

/*
 * Fires at every instruction until the call from C is over: a script that catches the error with
 * pcall gets the next one.
 */
static void interrupt_hook(lua_State *L, lua_Debug *ar)
{
	/* What the kernel handed over is not lost on the way. */
	if (!host_of(L)->aggs.merging)
		host_interrupted(L, ar);
}

void script_interrupt(struct script *s)
{
	if (!s->running)
		return;
	s->interrupted = 1;
	lua_sethook(s->L, interrupt_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
}

unsigned long script_running(const struct script *s)
{
	return s->running ? s->calls : 0;
}

int host_call(struct script *s, int nargs, int nresults)
{
	int err;

	s->calls++;
	s->running = 1;
	err = lua_pcall(s->L, nargs, nresults, HOST_MSGH);
	s->running = 0;
	s->aggs.merging = false;
	if (s->interrupted) {
		lua_sethook(s->L, NULL, 0, 0);
		s->interrupted = 0;
		s->cut = true;
	}
	return err;
}

/* Calls the function under nargs arguments, for which no handler of the script's is to blame. */
static void call_back(struct script *s, int nargs)
{
	lua_State *L = s->L;

	if (host_call(s, nargs, 0)) {
		if (!host_is_exit(L, -1)) {
			s->errors++;
			host_tell(L, -1, "");
		}
		lua_pop(L, 1);
	}
}

void host_clock(struct script *s, uint64_t nsecs)
{
	bool first = !s->now;

	if (nsecs <= s->now)
		return;
	s->now = nsecs;
	if (first) {
		/* Timers that the main chunk made count from here. */
		lua_rawgeti(s->L, LUA_REGISTRYINDEX, s->callbacks.started);
		lua_pushinteger(s->L, (lua_Integer)nsecs);
		call_back(s, 1);
	}
}

/* What was seen before the start has a minus. */
static void push_relative(lua_State *L, const struct script *s, uint64_t nsecs)
{
	uint64_t ns = nsecs < s->began ? s->began - nsecs : nsecs - s->began;
	char text[48];

	snprintf(text, sizeof(text), "%s%llu.%06llu", nsecs < s->began ? "-" : "",
		 (unsigned long long)(ns / SECOND), (unsigned long long)(ns % SECOND / 1000));
	lua_pushstring(L, text);
}

void host_push_time(lua_State *L, struct script *s, uint64_t nsecs)
{
	uint64_t wall = nsecs + s->wall_offset;
	time_t second = (time_t)(wall / SECOND);
	char text[48];
	struct tm tm;

	if (s->time_shown == SCRIPT_TIME_RELATIVE && s->started) {
		push_relative(L, s, nsecs);
		return;
	}
	if (!s->wall_offset || s->time_shown == SCRIPT_TIME_RELATIVE) {
		lua_pushnil(L);
		return;
	}
	if (s->time.second != wall / SECOND) {
		s->time_shown == SCRIPT_TIME_UTC ? gmtime_r(&second, &tm)
						 : localtime_r(&second, &tm);
		strftime(s->time.text, sizeof(s->time.text), "%H:%M:%S", &tm);
		s->time.second = wall / SECOND;
	}
	snprintf(text, sizeof(text), "%s.%03u", s->time.text,
		 (unsigned int)(wall % SECOND / 1000000));
	lua_pushstring(L, text);
}

void host_handler_failed(struct script *s, const struct host_handler *h, int handle)
{
	lua_State *L = s->L;

	if (host_is_exit(L, -1)) {
		lua_pop(L, 1);
		return;
	}
	lua_rawgeti(L, LUA_REGISTRYINDEX, s->callbacks.failed);
	lua_insert(L, -2);
	if (h->used && h->handle == handle)
		lua_rawgeti(L, LUA_REGISTRYINDEX, handle);
	else
		lua_pushnil(L); /* it detached itself, then failed */
	lua_insert(L, -2);
	lua_pushboolean(L, s->cut);
	call_back(s, 3);
}

/* Calls a function of the handler with the event; false: it failed, and that was told. */
static bool run_function(struct script *s, struct host_handler *h, int fn, int nresults)
{
	int handle = h->handle, err;
	lua_State *L = s->L;

	lua_rawgeti(L, LUA_REGISTRYINDEX, fn);
	lua_pushvalue(L, (int)s->event_slot);
	err = host_call(s, 1, nresults);
	if (s->event_has_data) {
		lua_pushnil(L);
		lua_setiuservalue(L, (int)s->event_slot, 1);
		s->event_has_data = false;
	}
	if (!err)
		return true;
	s->message = NULL;
	host_handler_failed(s, h, handle);
	return false;
}

static void run_handler(struct script *s, struct host_handler *h, const struct stream_message *m)
{
	lua_State *L = s->L;
	bool wanted = true;

	if (++s->event_slot > HOST_TOP)
		s->event_slot = HOST_FIRST_EVENT;
	s->event = lua_touserdata(L, (int)s->event_slot);
	s->message = m;
	s->handler = h;
	s->event_size = m->size < h->own.capture ? m->size : h->own.capture;
	if (h->where != LUA_NOREF) {
		wanted = run_function(s, h, h->where, 1);
		if (wanted) {
			wanted = lua_toboolean(L, -1);
			lua_pop(L, 1);
		}
	}
	if (wanted && h->used) {
		h->events++;
		h->bytes += m->len;
		run_function(s, h, h->fn, 0);
		host_keep_last(s, m);
	}
	s->message = NULL;
}

/* Its bit is set; but records that were on their way when it changed still carry the old bit. */
static bool wants(const struct host_handler *h, const struct stream_message *m)
{
	if (!h->used || h->fn == LUA_NOREF || !h->own.enabled || !(h->own.probes & m->probes))
		return false;
	if (h->no_peeks && m->head->flags & TS_DATA_PEEK)
		return false;
	return m->open || m->len || h->own.errors;
}

/* The kernel may let too many pass: it counts on all processors. */
static bool in_rate(struct host_handler *h, const struct stream_message *m)
{
	const uint64_t second = m->head->nsecs / 1000000000;

	if (h->second < second) {
		h->second = second;
		h->in_second = 0;
	}
	return !h->own.pick.rate || h->in_second++ < h->own.pick.rate;
}

void script_message(struct script *s, const struct stream_message *m)
{
	uint64_t mask = m->head->subs, http = 0;
	struct host_handler *h;

	host_clock(s, m->head->nsecs);
	m->conn->subs |= mask;
	for (; mask && !s->exited && !s->stopped; mask &= mask - 1) {
		h = &s->handlers[__builtin_ctzll(mask)];
		if (!wants(h, m) || !in_rate(h, m))
			continue;
		if (h->http)
			http |= mask & -mask;
		else
			run_handler(s, h, m);
	}
	if (http)
		host_http_message(s, m, http);
}

static void set_integer(lua_State *L, const char *name, uint64_t value)
{
	lua_pushinteger(L, (lua_Integer)value);
	lua_setfield(L, -2, name);
}

static void set_string(lua_State *L, const char *name, const char *value)
{
	if (!value || !*value)
		return;
	lua_pushstring(L, value);
	lua_setfield(L, -2, name);
}

static void set_time(lua_State *L, uint64_t nsecs)
{
	set_integer(L, "nsecs", nsecs);
	host_push_time(L, host_of(L), nsecs);
	lua_setfield(L, -2, "time");
}

/* Pushes the prelude's function, the event's name and its table; false: nobody listens. */
static bool begin_event(lua_State *L, const char *name)
{
	struct script *s = host_of(L);
	bool any;

	lua_rawgeti(L, LUA_REGISTRYINDEX, s->callbacks.lists);
	lua_getfield(L, -1, name);
	any = lua_istable(L, -1) && lua_rawlen(L, -1) > 0;
	lua_pop(L, 2);
	/* Where no handler listens to the end, the prelude prints the aggregations. */
	if (!any && strcmp(name, "stop"))
		return false;
	lua_rawgeti(L, LUA_REGISTRYINDEX, s->callbacks.fire);
	lua_pushstring(L, name);
	lua_newtable(L);
	return true;
}

static int fire_start(lua_State *L)
{
	const struct rec_start *r = lua_touserdata(L, 1);

	if (!begin_event(L, "start"))
		return 0;
	set_time(L, r->nsecs);
	set_string(L, "kernel", record_string(&r->record, sizeof(*r), 0));
	set_string(L, "host", record_string(&r->record, sizeof(*r), 1));
	lua_call(L, 2, 0);
	return 0;
}

static int fire_life(lua_State *L)
{
	const struct rec_exec *r = lua_touserdata(L, 1);
	bool ended = r->record.type == TS_REC_EXIT;

	if (!begin_event(L, ended ? "exit" : "exec"))
		return 0;
	host_of(L)->about = (struct host_who){r->pid, r->nsecs, .ended = ended};
	set_time(L, r->nsecs);
	set_integer(L, "pid", r->pid);
	set_string(L, "comm", record_string(&r->record, sizeof(*r), 0));
	lua_call(L, 2, 0);
	return 0;
}

static int fire_lost(lua_State *L)
{
	static const struct {
		const char *name;
		unsigned int counter;
		bool events, bytes; /* which total it belongs to */
	} reasons[] = {
		{"lost_events", TS_CNT_LOST_EVENTS, true, false},
		{"lost_bytes", TS_CNT_LOST_BYTES, false, true},
		{"faults", TS_CNT_FAULTS, false, true},
		{"unreadable", TS_CNT_UNREADABLE, true, false},
		{"flows_full", TS_CNT_FLOWS_FULL, true, false},
		{"unpaired", TS_CNT_UNPAIRED, true, false},
		{"stacks", TS_CNT_STACKS, true, false},
		{"earlier", TS_CNT_EARLIER, true, false},
		{"missed", TS_CNT_MISSED, true, false},
		{"unfinished", TS_CNT_UNFINISHED, true, false},
		{"conns_full", TS_CNT_CONNS_FULL, false, false},
	};
	const struct rec_lost *r = lua_touserdata(L, 1);
	uint64_t events = 0, bytes = 0, any = 0, n;
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(reasons); i++) {
		n = r->counters[reasons[i].counter];
		any |= n;
		events += reasons[i].events ? n : 0;
		bytes += reasons[i].bytes ? n : 0;
	}
	if (!any || !begin_event(L, "lost"))
		return 0;
	set_time(L, r->nsecs);
	set_integer(L, "events", events);
	set_integer(L, "bytes", bytes);
	lua_newtable(L);
	for (i = 0; i < TS_ARRAY_SIZE(reasons); i++)
		if (r->counters[reasons[i].counter])
			set_integer(L, reasons[i].name, r->counters[reasons[i].counter]);
	lua_setfield(L, -2, "reasons");
	lua_call(L, 2, 0);
	return 0;
}

static int fire_signal(lua_State *L)
{
	const struct rec_signal *r = lua_touserdata(L, 1);

	if (r->number != SIGUSR1 || !begin_event(L, "signal_usr1"))
		return 0;
	set_time(L, r->nsecs);
	lua_call(L, 2, 0);
	return 0;
}

static int fire_stop(lua_State *L)
{
	const struct rec_stop *r = lua_touserdata(L, 1);

	if (!begin_event(L, "stop"))
		return 0;
	set_time(L, r->nsecs);
	if (r->status >= 0 && WIFEXITED(r->status))
		set_integer(L, "status", (uint64_t)WEXITSTATUS(r->status));
	if (r->status >= 0 && WIFSIGNALED(r->status))
		set_integer(L, "signal", (uint64_t)WTERMSIG(r->status));
	lua_call(L, 2, 0);
	return 0;
}

/* Runs a function with a pointer, protected: building an event may fail too. */
static void fire(struct script *s, lua_CFunction fn, const void *what)
{
	if (s->stopped || (s->exited && fn != fire_stop))
		return;
	lua_pushcfunction(s->L, fn);
	lua_pushlightuserdata(s->L, (void *)what);
	call_back(s, 1);
}

static void tick(struct script *s, uint64_t nsecs)
{
	if (s->stopped || s->exited)
		return;
	host_aggs_tick(s);
	if (nsecs < s->next_tick)
		return;
	lua_rawgeti(s->L, LUA_REGISTRYINDEX, s->callbacks.tick);
	lua_pushinteger(s->L, (lua_Integer)nsecs);
	call_back(s, 1);
}

void script_record(struct script *s, const struct ts_record *r)
{
	const union {
		struct ts_record record;
		struct rec_start start;
		struct rec_exec exec;
		struct rec_lost lost;
		struct rec_tick tick;
		struct rec_signal signal;
		struct rec_stop stop;
	} *u = (const void *)r;

	switch (r->type) {
	case TS_REC_START:
		s->wall_offset = u->start.wall_offset;
		s->began = u->start.nsecs;
		s->started = true;
		host_clock(s, u->start.nsecs);
		fire(s, fire_start, r);
		break;
	case TS_REC_PROCESS:
		/* May come while Lua runs, as the answer to want_process: must not run Lua. */
		host_proc_record(s, r);
		break;
	case TS_REC_EXEC:
	case TS_REC_EXIT:
		host_clock(s, u->exec.nsecs);
		host_proc_record(s, r);
		s->aggs.often = true;
		fire(s, fire_life, r);
		s->aggs.often = false;
		break;
	case TS_REC_LOST:
		host_clock(s, u->lost.nsecs);
		fire(s, fire_lost, r);
		break;
	case TS_REC_TICK:
		host_clock(s, u->tick.nsecs);
		tick(s, u->tick.nsecs);
		break;
	case TS_REC_SIGNAL:
		host_clock(s, u->signal.nsecs);
		fire(s, fire_signal, r);
		break;
	case TS_REC_STOP:
		host_clock(s, u->stop.nsecs);
		host_http_flush(s, u->stop.nsecs);
		fire(s, fire_stop, r);
		s->stopped = true;
		break;
	}
}

struct attached {
	const char *path, *kind, *problem;
	size_t sites;
};

static int fire_attach(lua_State *L)
{
	const struct attached *a = lua_touserdata(L, 1);

	if (!begin_event(L, "attach"))
		return 0;
	set_string(L, "path", a->path);
	set_string(L, "kind", a->kind);
	set_string(L, "problem", a->problem);
	set_integer(L, "sites", a->sites);
	lua_call(L, 2, 0);
	return 0;
}

void script_attached(struct script *s, const char *path, const char *kind, const char *problem,
		     size_t sites)
{
	struct attached a = {path, kind, problem, sites};

	fire(s, fire_attach, &a);
}

struct closed {
	struct stream_conn *conn;
	uint64_t nsecs;
};

static void set_duration(lua_State *L, uint64_t ns)
{
	set_integer(L, "duration_ns", ns);
	lua_pushnumber(L, (double)ns / 1e3);
	lua_setfield(L, -2, "duration_us");
	lua_pushnumber(L, (double)ns / 1e6);
	lua_setfield(L, -2, "duration_ms");
}

static int fire_close(lua_State *L)
{
	static const char *const hows[TS_HOW_COUNT] = {
		[TS_HOW_FREED] = "freed",	    [TS_HOW_CLEARED] = "cleared",
		[TS_HOW_CLOSED] = "closed",	    [TS_HOW_EXITED] = "process ended",
		[TS_HOW_NOTIFIED] = "close_notify", [TS_HOW_ERROR] = "error",
	};
	const struct closed *c = lua_touserdata(L, 1);

	if (!begin_event(L, "tls_close"))
		return 0;
	host_of(L)->about = (struct host_who){c->conn->pid, c->nsecs, .cgroup = c->conn->cgroup};
	set_time(L, c->nsecs);
	set_integer(L, "pid", c->conn->pid);
	lua_pushlstring(L, c->conn->comm, strnlen(c->conn->comm, sizeof(c->conn->comm)));
	lua_setfield(L, -2, "comm");
	set_string(L, "how", hows[c->conn->how]);
	set_duration(L, c->nsecs > c->conn->opened ? c->nsecs - c->conn->opened : 0);
	host_push_conn(L, c->conn);
	lua_setfield(L, -2, "conn");
	/* Handlers of this event are subscriptions too: only of what they saw they are told. */
	lua_pushinteger(L, (lua_Integer)c->conn->subs);
	lua_call(L, 3, 0);
	return 0;
}

void script_closed(struct script *s, struct stream_conn *c, uint64_t nsecs)
{
	struct closed closed = {c, nsecs};

	host_clock(s, nsecs);
	if (s->last.valid && s->last.message.conn == c)
		host_settle_last(s);
	host_http_closed(s, c, nsecs);
	s->aggs.often = true;
	fire(s, fire_close, &closed);
	s->aggs.often = false;
	/* Allocates nothing, so it needs no protection: Lua must not keep a pointer to it. */
	host_conn_closed(s->L, c);
}
