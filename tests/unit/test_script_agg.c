/* SPDX-License-Identifier: MIT */
/* Aggregations in the kernel, as the script sees them: what is asked of it, and what comes of
 * cells. */
#include "alloc.h"
#include "script_run.h"

#include <sys/socket.h>

/* The kernel: cells that wait to be taken, and how often they were asked for. */
static struct {
	struct script *script;
	struct ts_agg_key keys[32];
	struct ts_agg_cell cells[32];
	size_t count;
	unsigned int drains;
	bool fails; /* there is no memory for the first cell */
} kernel;

static const struct stream_source source = {1, TS_P_SSL_WRITE, "openssl", "SSL_write_ex",
					    "/usr/lib/libssl.so.3"};

static void drain(void *ctx)
{
	size_t i;

	(void)ctx;
	kernel.drains++;
	alloc_left = kernel.fails;
	for (i = 0; i < kernel.count; i++)
		script_agg_cell(kernel.script, &kernel.keys[i], &kernel.cells[i],
				kernel.keys[i].source ? &source : NULL);
	kernel.count = 0;
}

static void start_kernel(struct run *r, const char *code)
{
	memset(&kernel, 0, sizeof(kernel));
	r->options.drain_aggs = drain;
	start(r, code);
	kernel.script = r->script;
}

/* One call of `value`, first seen at `first`; the caller fills in the rest of the key. */
static struct ts_agg_key *bring(uint32_t id, int64_t value, uint64_t first)
{
	size_t i = kernel.count++;

	kernel.keys[i] = (struct ts_agg_key){.id = id};
	kernel.cells[i] = (struct ts_agg_cell){1, 10, value, value, value, first};
	return &kernel.keys[i];
}

static void plans(void **state)
{
	const struct ts_sub *subs;
	struct ts_agg a, b, c;
	struct run r = {0};
	size_t count;

	(void)state;
	start_kernel(
		&r, "count('a', {from = 'tls_data', by = {'comm', 'container', 'peer'}})\n"
		    "hist('b', {from = 'ssl_read', value = 'duration_us'})\n"
		    "lhist('c', {from = 'tls_read', value = 'ret', min = -5, max = 12, step = 4})\n"
		    "sum('d', {from = 'tls_read', where = function() return true end})\n"
		    "sum('e', {from = 'tls_hello', by = 'comm', value = 'pid'})\n"
		    "tseries('f', {from = 'tls_read'})");
	subs = script_subs(r.script, &count);
	a = subs[0].agg;
	b = subs[1].agg;
	c = subs[2].agg;
	assert_int_equal(count, 6);
	assert_int_equal(a.form, TS_AGG_SUM);
	assert_int_equal(a.parts,
			 TS_AGG_COMM | TS_AGG_PID | TS_AGG_CGROUP | TS_AGG_RADDR | TS_AGG_RPORT);
	assert_true(b.form == TS_AGG_HIST && b.value == TS_AGG_DURATION && b.scale == 1000);
	assert_true(c.form == TS_AGG_LHIST && c.value == TS_AGG_RET && c.min == -5 && c.max == 12);
	assert_true(c.step == 4 && c.last == 5);
	assert_true(a.id && a.id < b.id && b.id < c.id);
	assert_false(subs[3].agg.form || subs[4].agg.form || subs[5].agg.form);
	assert_true(script_keys_processes(r.script));
	expect(&r, "", "");
}

static void no_kernel(void **state)
{
	const struct ts_sub *subs;
	struct run r = {0};
	size_t count;

	(void)state;
	start(&r, "a = count('a', {from = 'tls_data', by = 'comm'})");
	subs = script_subs(r.script, &count);
	assert_int_equal(subs[0].agg.form, TS_AGG_NONE);
	message(&r, "abc");
	record_stopped(&r);
	expect(&r, "a\n  comm  count\n  curl      1\n", "");
}

static void keys(void **state)
{
	struct run r = {0};
	struct ts_agg_key *k;
	uint32_t id;

	(void)state;
	start_kernel(&r, "count('a', {from = 'tls_data', by = {'pid', 'tid', 'uid', 'comm'}})\n"
			 "count('b', {from = 'tls_data', by = {'lib', 'kind', 'func', 'probe'}})\n"
			 "count('c', {from = 'tls_data', by = {'dir', 'cgroup', 'container'}})\n"
			 "count('d', {from = 'tls_data', by = {'raddr', 'rport', 'peer'}})");
	k = bring(1, 3, STARTED);
	k->pid = 1;
	k->tid = 2;
	k->uid = 3;
	memcpy(k->comm, "0123456789abcdef", 16);
	bring(2, 3, STARTED)->source = 1;
	bring(2, 3, STARTED);
	k = bring(3, 3, STARTED);
	k->dir = TS_OUT;
	k->cgroup = 77;
	bring(3, 3, STARTED);
	for (id = 0; id < 3; id++) {
		k = bring(4, 3, STARTED + id);
		k->rport = id ? 443 : 0;
		memcpy(k->raddr, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\1", 16);
		if (id == 2)
			memcpy(k->raddr, "\x20\1\r\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16);
	}
	bring(9, 3, STARTED); /* of no aggregation */
	record_stopped(&r);
	expect(&r,
	       "a\n  pid  tid  uid  comm              count\n"
	       "  1    2    3    0123456789abcdef      1\n\n"
	       "b\n  lib                   kind     func          probe      count\n"
	       "  -                     -        -             -              1\n"
	       "  /usr/lib/libssl.so.3  openssl  SSL_write_ex  ssl_write      1\n\n"
	       "c\n  dir  cgroup  container  count\n"
	       "  in   -       -              1\n"
	       "  out  77      -              1\n\n"
	       "d\n  raddr        rport  peer               count\n"
	       "  127.0.0.1    -      127.0.0.1:0            1\n"
	       "  127.0.0.1    443    127.0.0.1:443          1\n"
	       "  2001:db8::1  443    [2001:db8::1]:443      1\n",
	       "");
}

/* In one call nothing changes; in handlers of events it is looked at seldom. */
static void looks(void **state)
{
	struct run r = {0};
	unsigned int once, often;
	int i;

	(void)state;
	start_kernel(&r, "local a = sum('a', {from = 'tls_read', by = 'pid', max_keys = 2})\n"
			 "on.ssl_write(function() a:get(1) end)\n"
			 "on.signal_usr1(function() a:get(1) a:top() print(a:get(7), a.other) "
			 "a.handle:detach() end)\n"
			 "on.stop(function() a:print() print(a.handle.stats.events, "
			 "a.handle.stats.bytes) end)");
	bring(1, 5, STARTED + 3)->pid = 9; /* the third key: too many */
	bring(1, 7, STARTED + 1)->pid = 7;
	bring(1, 8, STARTED + 2)->pid = 8;
	record(&r, TS_REC_SIGNAL, &(struct rec_signal){.number = 10}, sizeof(struct rec_signal),
	       NULL);
	once = kernel.drains;
	for (i = 0; i < 20; i++)
		message(&r, "abc");
	often = kernel.drains;
	/* Counted while it was detached. */
	bring(1, 100, STARTED + 4)->pid = 7;
	record_stopped(&r);
	expect(&r,
	       "7\t5\na\n  pid      sum\n  7        107\n  8          8\n  (other)    5\n3\t30\n",
	       NULL);
	assert_int_equal(once, 1);
	assert_in_range(often, 1, 10);
	assert_int_equal(kernel.count, 0);
}

/* What there is no memory for is told; nothing else is lost. */
static void without_memory(void **state)
{
	struct run r = {0};
	int i;

	(void)state;
	start_kernel(&r, "count('a', {from = 'tls_read', by = 'pid'})");
	for (i = 0; i < 3; i++)
		bring(1, 5, STARTED + 1)->pid = 7;
	kernel.fails = true;
	record_stopped(&r);
	expect(&r, "a\n  pid  count\n  7        2\n",
	       "tlsscope: out of memory: 1 events are missing in an aggregation\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plans), cmocka_unit_test(no_kernel),	   cmocka_unit_test(keys),
		cmocka_unit_test(looks), cmocka_unit_test(without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
