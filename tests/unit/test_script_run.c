/* SPDX-License-Identifier: MIT */
/* Which handlers run, when, and what becomes of their errors. */
#include "alloc.h"
#include "script_run.h"

static void who_wants_what(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "local function say(what) return function(e) print(what, e.len, e.err) end end\n"
		  "on.ssl_read(say('read'))\non.ssl_write(say('write'))\n"
		  "on('ssl_*', say('both'))\non.tls_data({errors = true}, say('errors'))\n"
		  "on.tls_write({peek = false, where = function(e) return e.len > 3 end}, "
		  "say('long'))");
	message(&r, "abc");
	message(&r, "abcde");
	r.head.ret = -1;
	message(&r, "");
	r.head.flags = TS_DATA_PEEK;
	r.head.subs = 1 << 4 | 1 << 0;
	message(&r, "peeked");
	r.source.probe = TS_P_SSL_READ;
	message(&r, "read");
	expect(&r,
	       "write\t3\tnil\nboth\t3\tnil\nerrors\t3\tnil\n"
	       "write\t5\tnil\nboth\t5\tnil\nerrors\t5\tnil\nlong\t5\tnil\n"
	       "errors\t0\t-1\nread\t4\tnil\n",
	       "");
}

static void handles(void **state)
{
	struct run r = {0};
	bool changed[4];
	size_t count;

	(void)state;
	start(&r, "h = on.ssl_write(function(e) print('h', e.len) if e.len > 2 then error('x') end "
		  "end)\n"
		  "on.signal_usr1(function() h:disable() end)\n"
		  "on.exec(function() h:enable() end)\n"
		  "on.exit(function() h:detach() h:detach() print(pcall(h.enable, h)) end)\n"
		  "on.stop(function() local s = h.stats print(s.events, s.bytes, s.errors) "
		  "print(pcall(function() return h.stat end)) end)");
	changed[0] = script_changed(r.script) && !script_changed(r.script);
	message(&r, "abc");
	record(&r, TS_REC_SIGNAL, &(struct rec_signal){.number = 10}, sizeof(struct rec_signal),
	       NULL);
	changed[1] = script_changed(r.script) && !script_subs(r.script, &count)[0].enabled;
	message(&r, "no");
	record(&r, TS_REC_EXEC, &(struct rec_exec){.pid = 1}, sizeof(struct rec_exec), NULL);
	changed[2] = script_changed(r.script) && script_subs(r.script, &count)[0].enabled;
	message(&r, "ab");
	record(&r, TS_REC_EXIT, &(struct rec_exec){.pid = 1}, sizeof(struct rec_exec), NULL);
	changed[3] = script_changed(r.script) && script_subs(r.script, &count)[0].removed;
	message(&r, "no");
	record_stopped(&r);
	expect(&r,
	       "h\t3\nh\t2\n"
	       "false\t-e:4: the handler of ssl_write was detached; attach a new one\n"
	       "2\t5\t1\n"
	       "false\t-e:5: unknown method of a handle: 'stat', did you mean 'stats'?\n",
	       "tlsscope: error in handler of ssl_write: -e:1: x\n");
	assert_true(changed[0] && changed[1] && changed[2] && changed[3]);
}

static void subscriptions(void **state)
{
	struct ts_filter narrow = {0};
	struct run r = {.options.narrow = &narrow};
	const struct ts_sub *subs;
	struct ts_sub s[3];
	size_t count, pids, excluded, target_pids;
	uint64_t pid;

	(void)state;
	ts_filter_add(&narrow, "pid", "5", false, NULL);
	ts_filter_add(&narrow, "pid", "6", false, NULL);
	start(&r, "on.ssl_read({pid = {6, '7'}, comm = 'a', exclude = {uid = {1, 2}}}, print)\n"
		  "on.tls_data({capture = '1K', errors = true}, print)\n"
		  "config{capture = 'all'} target{pid = {6, 9}}\n"
		  "on.ssl_write(print)");
	subs = script_subs(r.script, &count);
	memcpy(s, subs, sizeof(s));
	pids = s[0].filter.keys[TS_KEY_PID].count;
	pid = pids ? s[0].filter.keys[TS_KEY_PID].items[0].number : 0;
	excluded = s[0].filter.keys[TS_KEY_UID].count;
	target_pids = script_target(r.script)->keys[TS_KEY_PID].count;
	expect(&r, "", "");
	assert_int_equal(count, 3);
	assert_int_equal(pids, 1);
	assert_int_equal(pid, 6);
	assert_int_equal(excluded, 2);
	assert_int_equal(target_pids, 1);
	assert_int_equal(s[0].probes, TS_PROBE(TS_P_SSL_READ));
	assert_int_equal(s[1].probes, TS_PROBE(TS_P_SSL_READ) | TS_PROBE(TS_P_SSL_WRITE) |
					      TS_PROBE(TS_P_GOTLS_READ) | TS_PROBE(TS_P_KTLS_RECV) |
					      TS_PROBE(TS_P_KTLS_SEND) |
					      TS_PROBE(TS_P_GOTLS_WRITE));
	assert_int_equal(s[0].capture, TS_CAPTURE_ALL);
	assert_int_equal(s[1].capture, 1024);
	assert_int_equal(s[2].capture, TS_CAPTURE_ALL);
	assert_true(s[1].errors && !s[0].errors && s[0].enabled && !s[0].removed);
	ts_filter_free(&narrow);
}

static void at_most_64(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "local h for i = 1, 64 do h = on.ssl_write(function() print(i) end) end\n"
		  "print(pcall(on.ssl_write, print))\n"
		  "h:detach() on.ssl_write(function() print('new') end)");
	r.head.subs = 1ull << 63 | 1ull << 62;
	message(&r, "x");
	expect(&r,
	       "false\t-e:2: more than 64 handlers and aggregations of probes; detach some, or let "
	       "one handler do the work of several\n63\nnew\n",
	       "");
}

/* Handlers that handlers attach. */
static void attached_while_running(void **state)
{
	struct run r = {0};
	size_t count;

	(void)state;
	start(&r,
	      "on.ssl_write(function(e)\n"
	      "  e.sub:detach()\n  on.ssl_write(function(e2) print('second', e2.data) end)\nend)");
	script_changed(r.script);
	r.head.subs = 1;
	message(&r, "one");
	assert_true(script_changed(r.script));
	script_subs(r.script, &count);
	r.head.subs = 2;
	message(&r, "two");
	expect(&r, "second\ttwo\n", "");
	assert_int_equal(count, 2);
}

static void errors_of_handlers(void **state)
{
	struct run r = {0};
	uint64_t errors;
	int i;

	(void)state;
	start(&r,
	      "local function inner(e) local x = e.proc.exe end\n"
	      "on.ssl_write(function(e)\n  inner(e)\n  print('not here')\nend)\n"
	      "on.error(function(e) print(e.count, e.probe, e.message) print(e.traceback) end)\n"
	      "on.error(function(e) error('again') end)");
	for (i = 0; i < 3; i++)
		message(&r, "x");
	errors = script_errors(r.script);
	expect(&r,
	       "1\tssl_write\t-e:1: attempt to index a nil value (field 'proc')\n"
	       "-e:1: in upvalue 'inner'\n-e:3: in the function of line 2\n"
	       "2\tssl_write\t-e:1: attempt to index a nil value (field 'proc')\n"
	       "-e:1: in upvalue 'inner'\n-e:3: in the function of line 2\n"
	       "3\tssl_write\t-e:1: attempt to index a nil value (field 'proc')\n"
	       "-e:1: in upvalue 'inner'\n-e:3: in the function of line 2\n",
	       "tlsscope: error in handler of ssl_write: -e:1: attempt to index a nil value (field "
	       "'proc')\n"
	       "    -e:1: in upvalue 'inner'\n    -e:3: in the function of line 2\n"
	       "tlsscope: error in handler of error: -e:7: again\n"
	       "tlsscope: error in handler of ssl_write (2nd time): -e:1: attempt to index a nil "
	       "value (field 'proc')\n"
	       "    -e:1: in upvalue 'inner'\n    -e:3: in the function of line 2\n"
	       "tlsscope: error in handler of error (2nd time): -e:7: again\n");
	assert_int_equal(errors, 6);
}

static void declared_errors_of_handlers(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "on.ssl_write(function(e)\n  print(e.lenn)\nend)");
	message(&r, "x");
	expect(&r, "",
	       "tlsscope: error in handler of ssl_write: -e:2: unknown field of an event: 'lenn', "
	       "did you mean 'len'?\n"
	       "     2 |   print(e.lenn)\n"
	       "       |           ^^^^\n");
}

static void strict_ends(void **state)
{
	struct run r = {.options.strict = true};
	int status;
	bool exited;

	(void)state;
	start(&r,
	      "on.ssl_write(function(e) error('x') end)\non.stop(function() print('stop') end)");
	message(&r, "x");
	message(&r, "x");
	exited = script_exited(r.script, &status);
	record_stopped(&r);
	expect(&r, "stop\n", "tlsscope: error in handler of ssl_write: -e:1: x\n");
	assert_true(exited);
	assert_int_equal(status, 1);
}

static void exit_ends(void **state)
{
	struct run r = {0};
	bool exited;
	int status;

	(void)state;
	start(&r, "on.ssl_write(function(e) print('a') pcall(exit, 3) print('b') end)\n"
		  "on.ssl_write(function(e) print('not here') end)\n"
		  "on.stop(function() print('stop') exit(4) end)");
	message(&r, "x");
	message(&r, "x");
	exited = script_exited(r.script, &status);
	assert_int_equal(status, 3);
	record_stopped(&r);
	script_exited(r.script, &status);
	message(&r, "x");
	expect(&r, "a\nb\nstop\n", "");
	assert_true(exited);
	assert_int_equal(status, 4);
}

/* --time outweighs the script. */
static void relative_time(void **state)
{
	struct rec_exec life = {.nsecs = STARTED + 61 * SECOND + 2345678};
	const char *const comm[] = {"sh", NULL};
	struct run r = {0};

	(void)state;
	start(&r, "config{time = 'relative'} on.exec(function(e) print(e.time) end)");
	record(&r, TS_REC_EXEC, &life, sizeof(life), comm); /* when it began is not known */
	record_started(&r);
	record(&r, TS_REC_EXEC, &life, sizeof(life), comm);
	life.nsecs = STARTED - 1500000;
	record(&r, TS_REC_EXEC, &life, sizeof(life), comm);
	expect(&r, "nil\n61.002345\n-0.001500\n", "");
	r = (struct run){.options = {.time_given = true, .time = SCRIPT_TIME_UTC}};
	start(&r, "config{time = 'relative'} on.start(function(e) print(e.time) end)");
	record_started(&r);
	expect(&r, "01:16:40.000\n", "");
}

static void own_events(void **state)
{
	static const char *const comm[] = {"sh", NULL};
	struct rec_exec life = {.nsecs = STARTED + SECOND, .pid = 9};
	struct rec_lost lost = {.nsecs = STARTED + SECOND};
	struct run r = {0};

	(void)state;
	start(&r, "config{time = 'utc'}\n"
		  "on.start(function(e) print('start', e.time, e.kernel, e.host) end)\n"
		  "on.exec(function(e) print('exec', e.pid, e.comm, e.nsecs) end)\n"
		  "on.exit({where = function(e) return e.pid == 9 end}, function(e) print('exit', "
		  "e.comm) end)\n"
		  "on.attach(function(e) print('attach', e.path, e.kind, e.sites, e.problem) end)\n"
		  "on.lost(function(e) print('lost', e.events, e.bytes, e.reasons.lost_events,\n"
		  "  e.reasons.faults, e.reasons.unpaired) end)\n"
		  "on.signal_usr1(function(e) print(e.tme) end)\n"
		  "on.stop(function(e) print('stop', e.status, e.signal) end)");
	record_started(&r);
	record(&r, TS_REC_EXEC, &life, sizeof(life), comm);
	record(&r, TS_REC_EXIT, &life, sizeof(life), comm);
	life.pid = 10;
	record(&r, TS_REC_EXIT, &life, sizeof(life), comm);
	script_attached(r.script, "/lib/a.so", "openssl", NULL, 12);
	script_attached(r.script, "/lib/b.so", "openssl", "not ELF", 0);
	record(&r, TS_REC_LOST, &lost, sizeof(lost), NULL);
	lost.counters[TS_CNT_EVENTS] = 5;
	record(&r, TS_REC_LOST, &lost, sizeof(lost), NULL);
	lost.counters[TS_CNT_LOST_EVENTS] = 2;
	lost.counters[TS_CNT_UNREADABLE] = 1;
	lost.counters[TS_CNT_FAULTS] = 100;
	record(&r, TS_REC_LOST, &lost, sizeof(lost), NULL);
	record(&r, TS_REC_SIGNAL, &(struct rec_signal){.number = 10}, sizeof(struct rec_signal),
	       NULL);
	record_stopped(&r);
	expect(&r,
	       "start\t01:16:40.000\t6.1.0\tbox\nexec\t9\tsh\t1001000000000\nexit\tsh\n"
	       "attach\t/lib/a.so\topenssl\t12\tnil\nattach\t/lib/b.so\topenssl\t0\tnot ELF\n"
	       "lost\t3\t100\t2\t100\tnil\nstop\t3\tnil\n",
	       "tlsscope: error in handler of signal_usr1: -e:8: unknown field of the event "
	       "signal_usr1: 'tme', did you mean 'time'?\n"
	       "     8 | on.signal_usr1(function(e) print(e.tme) end)\n"
	       "       |                                    ^^^\n");
}

static void timers(void **state)
{
	struct run r = {0};
	uint64_t next[4], now = STARTED;

	(void)state;
	start(&r, "local n = 0\n"
		  "every('100ms', function() n = n + 1 print('every', n) end)\n"
		  "after('0.15s', function() print('after') end)\n"
		  "local off = every(1, function() print('off') end) off:disable()");
	next[0] = script_next_tick(r.script);
	record_started(&r);
	next[1] = script_next_tick(r.script) - now;
	record_tick(&r, now + 99000000);
	record_tick(&r, now + 100000000);
	/* Late, and the rhythm stays. */
	record_tick(&r, now + 230000000);
	next[2] = script_next_tick(r.script) - now;
	/* After a stall it runs once. */
	record_tick(&r, now + 5010000000);
	next[3] = script_next_tick(r.script) - now;
	expect(&r, "every\t1\nafter\nevery\t2\nevery\t3\n", "");
	assert_int_equal(next[0], UINT64_MAX);
	assert_int_equal(next[1], 100000000);
	assert_int_equal(next[2], 300000000);
	assert_int_equal(next[3], 5100000000);
}

/* What a script wants, before anything has happened. */
static void idle_scripts(void **state)
{
	static const struct {
		const char *code;
		bool idle;
	} cases[] = {
		{"print = nil", true},
		{"every('1s', function() end)", false},
		{"after('1s', function() end):detach()", true},
		{"on.ssl_read(function() end)", false},
		{"on.ssl_read(function() end):detach()", true},
		{"on.stop(function() end)", false},
		{"count('c', {from = 'ssl_read'}) on.stop(function() end)", false},
	};
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		struct run r = {0};
		bool idle;

		start(&r, cases[i].code);
		idle = script_idle(r.script);
		expect(&r, "", "");
		assert_int_equal(idle, cases[i].idle);
	}
}

static void timers_made_later(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r,
	      "on.ssl_write(function() after('1s', function() print('after')\n"
	      "  local h h = every('10ms', function() print('every') h:detach() end) end) end)");
	r.head.nsecs = STARTED;
	message(&r, "x");
	record_tick(&r, STARTED + SECOND);
	record_tick(&r, STARTED + SECOND + 10000000);
	record_tick(&r, STARTED + SECOND + 20000000);
	assert_true(script_next_tick(r.script) == UINT64_MAX);
	expect(&r, "after\nevery\n", "");
}

static void aggregations_at_the_end(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "sum('sent', {from = 'tls_write', by = 'comm'})");
	message(&r, "abc");
	message(&r, "de");
	record_stopped(&r);
	expect(&r, "sent\n  comm  sum\n  curl    5\n", "");
	start(&r, "local s = sum('sent', {from = 'tls_write'}) on.stop(function() end)");
	message(&r, "abc");
	record_stopped(&r);
	expect(&r, "", "");
}

static void streams(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "stream{from = 'ssl_write', data = function(conn, dir, buf)\n"
		  "  local line = buf:match('^(.-)\\n') if line then print(dir, line) return #line "
		  "+ 1 end\n"
		  "end, close = function(conn) print('close', conn.id) end}");
	message(&r, "on");
	message(&r, "e\ntwo\nthr");
	message(&r, "ee\n");
	script_closed(r.script, &r.conn, STARTED + SECOND);
	expect(&r, "out\tone\nout\ttwo\nout\tthree\nclose\t7\n", "");
}

/* Whichever allocation fails: a sentence, and nothing is left behind (SAN=1 shows). */
static void no_memory(void **state)
{
	struct script_options options = {0};
	struct script *script = NULL;
	struct ts_err err;
	size_t n, fails = 0;
	int ret = -1;

	(void)state;
	assert_int_equal(output_open(&options.out, TO_FILE("/dev/null"), OUTPUT_TEXT, NULL), 0);
	for (n = 1; ret; n += 1 + n / 50) {
		alloc_left = n;
		ret = script_open(&script, &options, &err);
		if (ret) {
			assert_int_equal(ret, -ENOMEM);
			assert_null(script);
			fails++;
		}
	}
	alloc_left = 0;
	script_close(script);
	output_close(options.out, NULL);
	assert_true(fails > 2);
}

/* A handler for which there is no memory fails; the next event finds all in order. */
static void no_memory_in_handlers(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r,
	      "config{memory = '8M'}\n"
	      "on.ssl_write(function(e) local t = {} for i = 1, 1e9 do t[i] = e:copy() end end)\n"
	      "on.ssl_write(function(e) print(e.data) end)");
	message(&r, "one");
	message(&r, "two");
	expect(&r, "one\ntwo\n", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_wants_what),
		cmocka_unit_test(handles),
		cmocka_unit_test(subscriptions),
		cmocka_unit_test(at_most_64),
		cmocka_unit_test(attached_while_running),
		cmocka_unit_test(errors_of_handlers),
		cmocka_unit_test(declared_errors_of_handlers),
		cmocka_unit_test(strict_ends),
		cmocka_unit_test(exit_ends),
		cmocka_unit_test(relative_time),
		cmocka_unit_test(own_events),
		cmocka_unit_test(timers),
		cmocka_unit_test(idle_scripts),
		cmocka_unit_test(timers_made_later),
		cmocka_unit_test(aggregations_at_the_end),
		cmocka_unit_test(streams),
		cmocka_unit_test(no_memory),
		cmocka_unit_test(no_memory_in_handlers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
