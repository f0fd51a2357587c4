/* SPDX-License-Identifier: MIT */
/* What an event, its connection and its process tell. */
#include <sys/socket.h>

#include "api.h"
#include "script_run.h"

static void all_fields(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "config{time = 'utc'}\n"
		  "on.tls_data(function(e)\n"
		  "print(e.nsecs, e.time, e.pid, e.tid, e.ppid, e.uid, e.gid, e.cpu, e.cgroup)\n"
		  "print(e.comm, e.func, e.probe, e.lib, e.kind, e.dir, e.len, e.ret)\n"
		  "print(e.duration_ns, e.duration_us, e.duration_ms, e.err, e.data, e.truncated)\n"
		  "print(e.nodata, e.gap, e.peeked, e.early, e.container, e.peer, e.proc)\n"
		  "print(e.conn, e.sub, e, e.goid)\nend)");
	r.head.goid = 17;
	record_started(&r);
	message(&r, "hello");
	expect(&r,
	       "1000001500000\t01:16:40.001\t42\t43\t41\t1000\t100\t3\tnil\n"
	       "curl\tSSL_write_ex\tssl_write\t/usr/lib/libssl.so.3\topenssl\tout\t5\t1\n"
	       "2500\t2.5\t0.0025\tnil\thello\tfalse\n"
	       "false\tnil\tfalse\tfalse\tnil\tnil\tnil\n"
	       "connection 7 of process 42\thandler of tls_data\tevent ssl_write of curl (42), 5 "
	       "bytes\t17\n",
	       "");
}

/* A name is no address where it is missing, "any", or of the wrong length. */
static void addresses(void **state)
{
	static const struct {
		unsigned short family;
		unsigned char len;
		const char *address;
	} given[] = {
		{AF_INET, 4, "\x7f\0\0\1"},
		{AF_INET, 4, "\0\0\0\0"},
		{AF_INET, 5, "\x7f\0\0\1\1"},
		{AF_UNIX, 6, "/run/x"},
		{AF_UNIX, 4, "\0abc"},
		{AF_UNIX, 0, "x"},
		{17, 4, "\x7f\0\0\1"},
		{AF_INET6, 16, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"},
		{AF_INET6, 16, "\0\0\0\0\0\0\0\0\0\0\xff\xff\0\0\0"},
	};
	struct run r = {0};
	size_t i;

	(void)state;
	start(&r, "on.tls_data(function(e) print(e.conn.family, e.conn.laddr, e.conn.peer) end)");
	for (i = 0; i < TS_ARRAY_SIZE(given); i++) {
		r.conn.info = (struct ts_conn_info){
			.family = given[i].family, .llen = given[i].len, .rlen = given[i].len};
		memcpy(r.conn.info.laddr, given[i].address, given[i].len);
		memcpy(r.conn.info.raddr, given[i].address, given[i].len);
		r.conn.info.rport = given[i].family == AF_UNIX ? 0 : 443;
		message(&r, "x");
	}
	expect(&r,
	       "inet\t127.0.0.1\t127.0.0.1:443\ninet\tnil\tnil\ninet\tnil\tnil\n"
	       "unix\t/run/x\t/run/x\nunix\t@abc\t@abc\nunix\tnil\tnil\nnil\tnil\tnil\n"
	       "inet6\tnil\tnil\ninet6\tnil\tnil\n",
	       "");
}

static void what_the_kernel_tells(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "on.tls_data(function(e)\n"
		  "print(e.record, e.ktls, e.peer)\n"
		  "local c = e.conn\n"
		  "print(c.laddr, c.lport, c.raddr, c.rport, c.peer, c.version, c.cipher)\nend)");
	message(&r, "x");
	r.head.flags = TS_DATA_KTLS;
	r.head.content = 21;
	r.conn.info = (struct ts_conn_info){
		.family = AF_INET,
		.version = 0x0304,
		.cipher = 52,
		.llen = 4,
		.rlen = 4,
		.laddr = {192, 0, 2, 7},
		.raddr = {192, 0, 2, 1},
		.lport = 50000,
		.rport = 443,
	};
	message(&r, "x");
	r.head.content = 99;
	r.conn.info.family = AF_INET6;
	r.conn.info.llen = r.conn.info.rlen = 16;
	r.conn.info.version = 0x0303;
	r.conn.info.cipher = 54;
	memcpy(r.conn.info.laddr, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\1", 16);
	memcpy(r.conn.info.raddr, "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16);
	message(&r, "x");
	r.head.content = TS_RECORD_DATA;
	r.conn.info.version = r.conn.info.cipher = 7;
	message(&r, "x");
	expect(&r,
	       "nil\tnil\tnil\nnil\tnil\tnil\tnil\tnil\tnil\tnil\n"
	       "alert\ttrue\t192.0.2.1:443\n"
	       "192.0.2.7\t50000\t192.0.2.1\t443\t192.0.2.1:443\tTLSv1.3\tAES_256_GCM\n"
	       "type 99\ttrue\t[2001:db8::1]:443\n"
	       "127.0.0.1\t50000\t2001:db8::1\t443\t[2001:db8::1]:443\tTLSv1.2\t"
	       "CHACHA20_POLY1305\n"
	       "data\ttrue\t[2001:db8::1]:443\n"
	       "127.0.0.1\t50000\t2001:db8::1\t443\t[2001:db8::1]:443\tnil\tnil\n",
	       "");
}

/* Every field that is documented can be read. */
static void documented_fields(void **state)
{
	struct run r = {0};
	char code[8192];
	size_t i, n = 0;

	(void)state;
	n += (size_t)snprintf(code, sizeof(code), "on.ssl_write(function(e) local _\n");
	for (i = 0; i < api_count; i++)
		if (api_table[i].kind == API_FIELD || api_table[i].kind == API_CONN)
			n += (size_t)snprintf(code + n, sizeof(code) - n, "_ = e.%s%s\n",
					      api_table[i].kind == API_CONN ? "conn." : "",
					      api_table[i].name);
	snprintf(code + n, sizeof(code) - n, "print('all') end)");
	start(&r, code);
	message(&r, "x");
	expect(&r, "all\n", "");
}

static void wrong_fields(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "local function try(f) print((select(2, pcall(f)))) end\n"
		  "on.ssl_write(function(e)\n"
		  "try(function() return e.conn.fdd end)\n"
		  "try(function() e.len = 1 end)\n"
		  "try(function() e.conn.id = 1 end)\n"
		  "try(function() return e[1] end)\n"
		  "try(function() e.copy() end)\n"
		  "end)");
	message(&r, "x");
	expect(&r,
	       "-e:3: unknown field of a connection: 'fdd', did you mean 'fd'?\n"
	       "-e:4: an event cannot be changed; keep things in e.conn.state, or change e:copy()\n"
	       "-e:5: a connection's fields cannot be changed; keep things in conn.state\n"
	       "-e:6: fields of an event are named by strings\n"
	       "-e:7: not an event; call methods as e:copy()\n",
	       "");
}

static void kept_events(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "local kept, copy\n"
		  "on.ssl_write(function(e)\n"
		  "  if kept then print(pcall(function() return kept.len end)) print(copy.len, "
		  "copy.data) end\n"
		  "  kept, copy = e, e:copy()\nend)\n"
		  "on.signal_usr1(function() print(kept, pcall(kept.copy, 5)) end)");
	message(&r, "abc");
	message(&r, "defg");
	expect(&r,
	       "false\t-e:3: this event is over: it is valid only while its handler runs; keep "
	       "e:copy()\n3\tabc\n",
	       "");
}

static void copies_hold_all(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r,
	      "on.ssl_write(function(e)\n"
	      "local c, n = e:copy(), 0\n"
	      "for k, v in pairs(c) do n = n + 1 if k ~= 'conn' then assert(e[k] == v, k) end end\n"
	      "local m = 0 for _ in pairs(e) do m = m + 1 end\n"
	      "c.len = 9 print(n, m, c.len, getmetatable(c), c.conn == e.conn)\nend)");
	message(&r, "abc");
	expect(&r, "24\t24\t9\tnil\ttrue\n", "");
}

static void data_and_its_size(void **state)
{
	static char big[20000];
	struct run r = {0};

	(void)state;
	memset(big, 'b', sizeof(big));
	start(&r,
	      "local function show(e) print(e.data and #e.data, e.len, e.truncated, e.nodata) end\n"
	      "on.ssl_write({capture = 10}, show)\non.ssl_write({capture = 'all'}, show)\n"
	      "on.ssl_write(show)\non.ssl_write({capture = 0}, show)");
	message_part(&r, big, sizeof(big), 30000);
	message(&r, "0123456789");
	r.head.flags = TS_DATA_NODATA;
	message_part(&r, NULL, 0, 500);
	expect(&r,
	       "10\t30000\ttrue\tfalse\n20000\t30000\ttrue\tfalse\n16384\t30000\ttrue\tfalse\n"
	       "0\t30000\ttrue\tfalse\n"
	       "10\t10\tfalse\tfalse\n10\t10\tfalse\tfalse\n10\t10\tfalse\tfalse\n0\t10\ttrue\tfals"
	       "e\n"
	       "nil\t500\tfalse\ttrue\nnil\t500\tfalse\ttrue\nnil\t500\tfalse\ttrue\n"
	       "nil\t500\tfalse\ttrue\n",
	       "");
}

static void connections(void **state)
{
	struct run r = {0};

	(void)state;
	start(&r, "local kept\n"
		  "on.ssl_write(function(e) local c = e.conn kept = c\n"
		  "  c.state.n = (c.state.n or 0) + 1\n"
		  "  print(c.id, c.pid, c.bytes_out, c.bytes_in, c.opened_ns, c.opened_ms, c.fd, "
		  "c.sni,\n"
		  "    c.closed, c.state.n) end)\n"
		  "on.tls_close(function(e) print('close', e.conn == kept, e.conn.state.n, e.pid) "
		  "end)\n"
		  "on.stop(function() print(kept, kept.bytes_out, kept.closed, kept.state) end)");
	message(&r, "abc");
	r.conn.fd = 0;
	message(&r, "de");
	script_closed(r.script, &r.conn, STARTED + SECOND);
	assert_int_equal(r.conn.user, 0);
	memset(&r.conn, 0xee, sizeof(r.conn));
	record_stopped(&r);
	expect(&r,
	       "7\t42\t3\t0\t5000000000\t5000.0\tnil\tnil\tfalse\t1\n"
	       "7\t42\t5\t0\t5000000000\t5000.0\t0\tnil\tfalse\t2\n"
	       "close\ttrue\t2\t42\n"
	       "connection 7 of process 42\t5\ttrue\tnil\n",
	       "");
}

static struct script *asked_script;
static int asked;

static void answer(void *ctx, uint32_t pid, uint64_t cgroup)
{
	static const char *const strings[] = {"curl", "/usr/bin/curl", "curl -k", "me", NULL};
	struct rec_process body = {.pid = pid};
	struct ts_buf buf = {0};

	(void)ctx;
	(void)cgroup;
	asked++;
	if (pid != 42)
		return;
	script_record(asked_script,
		      record_build(&buf, TS_REC_PROCESS, &body, sizeof(body), strings));
	ts_buf_free(&buf);
}

static void processes(void **state)
{
	struct rec_exec ended = {.nsecs = STARTED + 1500000, .pid = 42};
	struct run r = {.options.want_process = answer};

	(void)state;
	asked = 0;
	start(&r, "on.ssl_write(function(e) local p = e.proc\n"
		  "  print(p and p.exe, p and p.cmdline, p and p.user, p and p.container)\n"
		  "  if p then print(pcall(function() return p.exx end)) end end)");
	asked_script = r.script;
	message(&r, "x");
	message(&r, "x");
	assert_int_equal(asked, 1);
	/* Its last events still know it; a later one is of another process. */
	record(&r, TS_REC_EXIT, &ended, sizeof(ended), NULL);
	message(&r, "x");
	assert_int_equal(asked, 1);
	r.head.nsecs++;
	message(&r, "x");
	assert_int_equal(asked, 2);
	r.head.pid = 77;
	message(&r, "x");
	message(&r, "x");
	assert_int_equal(asked, 3);
#define KNOWN                                                                                      \
	"/usr/bin/curl\tcurl -k\tme\tnil\n"                                                        \
	"false\t-e:3: unknown field of a process: 'exx', did you mean 'exe'?\n"
	expect(&r, KNOWN KNOWN KNOWN KNOWN "nil\tnil\tnil\tnil\nnil\tnil\tnil\tnil\n", "");
}

static void many_processes(void **state)
{
	struct rec_process body = {0};
	struct run r = {0};

	(void)state;
	start(&r, "on.ssl_write(function(e) print(e.proc ~= nil) end)");
	for (body.pid = 1; body.pid <= 10000; body.pid++)
		record(&r, TS_REC_PROCESS, &body, sizeof(body), NULL);
	message(&r, "x");
	r.head.pid = 10000;
	message(&r, "x");
	expect(&r, "false\ntrue\n", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_fields),	     cmocka_unit_test(what_the_kernel_tells),
		cmocka_unit_test(addresses),	     cmocka_unit_test(all_fields),
		cmocka_unit_test(documented_fields), cmocka_unit_test(wrong_fields),
		cmocka_unit_test(kept_events),	     cmocka_unit_test(copies_hold_all),
		cmocka_unit_test(data_and_its_size), cmocka_unit_test(connections),
		cmocka_unit_test(processes),	     cmocka_unit_test(many_processes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
