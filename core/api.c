/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "api.h"
#include "base.h"

const struct api_entry api_table[] = {
	{API_PROBE, "ssl_read", "event", "plaintext that a program read with OpenSSL's functions"},
	{API_PROBE, "ssl_write", "event",
	 "plaintext that a program wrote with OpenSSL's functions"},
	{API_PROBE, "gotls_read", "event", "plaintext that a Go program read (crypto/tls)"},
	{API_PROBE, "gotls_write", "event", "plaintext that a Go program wrote (crypto/tls)"},
	{API_PROBE, "ktls_recv", "event", "plaintext that the kernel's own TLS received"},
	{API_PROBE, "ktls_send", "event", "plaintext that the kernel's own TLS sent"},
	{API_PROBE, "tls_hello", "event", "a TLS connection begins, seen at its socket"},
	{API_PROBE, "tls_read", "event", "plaintext read, whatever the library"},
	{API_PROBE, "tls_write", "event", "plaintext written, whatever the library"},
	{API_PROBE, "tls_data", "event", "plaintext read or written, whatever the library"},

	{API_PROBE, "tls_open", "event", "a handshake is done, or failed: then err says why"},
	{API_PROBE, "tls_error", "event", "a handshake or a call failed: err says why"},

	{API_EVENT, "start", "nsecs time kernel host", "probes are in place, or the replay begins"},
	{API_EVENT, "stop", "nsecs time status signal",
	 "the run ends; status or signal: how the command of -c ended"},
	{API_EVENT, "lost", "nsecs time events bytes reasons",
	 "calls or bytes were not shown; reasons: how many, by counter"},
	{API_EVENT, "error", "message traceback probe count",
	 "a handler failed, for the count-th time"},
	{API_EVENT, "attach", "path kind sites problem",
	 "a file was probed at that many sites, or refused: then problem says why"},
	{API_EVENT, "exec", "nsecs time pid comm", "a process started another program"},
	{API_EVENT, "exit", "nsecs time pid comm", "a process ended"},
	{API_EVENT, "tls_close", "nsecs time pid comm conn how duration_ns duration_us duration_ms",
	 "a connection ended; how: close_notify, error, freed, closed, ..."},
	{API_EVENT, "signal_usr1", "nsecs time", "tlsscope got SIGUSR1"},

	{API_FIELD, "nsecs", "integer", "when the call returned: ns of the monotonic clock"},
	{API_FIELD, "time", "string|nil", "the same as HH:MM:SS.mmm, or as config{time=} says"},
	{API_FIELD, "pid", "integer",
	 "process number, as the machine's first pid namespace counts"},
	{API_FIELD, "tid", "integer", "thread number"},
	{API_FIELD, "ppid", "integer|nil", "the parent's process number"},
	{API_FIELD, "goid", "integer|nil", "number of the goroutine that called, of a Go program"},
	{API_FIELD, "uid", "integer", "user number"},
	{API_FIELD, "gid", "integer", "group number"},
	{API_FIELD, "cpu", "integer", "processor on which the call returned"},
	{API_FIELD, "cgroup", "integer|nil", "cgroup v2 id"},
	{API_FIELD, "comm", "string", "the thread's name, 15 bytes at most"},
	{API_FIELD, "func", "string", "the function called: SSL_write_ex"},
	{API_FIELD, "probe", "string", "the probe: ssl_write"},
	{API_FIELD, "lib", "string", "path of the probed file, as the process sees it"},
	{API_FIELD, "kind", "string", "kind of library: openssl, go, ktls"},
	{API_FIELD, "dir", "string|nil", "\"in\" for a read, \"out\" for a write"},
	{API_FIELD, "len", "integer|nil", "bytes that the call transferred"},
	{API_FIELD, "ret", "integer", "what the function returned"},
	{API_FIELD, "duration_ns", "integer|nil",
	 "time in the call, or of the handshake (duration_us, duration_ms: floats)"},
	{API_FIELD, "duration_us", "number|nil", "duration_ns in microseconds"},
	{API_FIELD, "duration_ms", "number|nil", "duration_ns in milliseconds"},
	{API_FIELD, "err", "integer|string|nil",
	 "why it failed; of plaintext (errors = true): ret of a call without any"},
	{API_FIELD, "resumed", "boolean|nil", "of tls_open: an earlier session goes on"},
	{API_FIELD, "data", "string|nil", "the first bytes of the plaintext, `capture` at most"},
	{API_FIELD, "truncated", "boolean", "data is shorter than len"},
	{API_FIELD, "nodata", "boolean", "the call never has the bytes in memory: data is nil"},
	{API_FIELD, "gap", "integer|nil", "bytes missing before these in connection and direction"},
	{API_FIELD, "peeked", "boolean", "bytes that the program will read again"},
	{API_FIELD, "early", "boolean", "TLS 1.3 early data"},
	{API_FIELD, "record", "string|nil",
	 "of ktls: what the TLS record is: data, alert, handshake"},
	{API_FIELD, "ktls", "boolean|nil", "true where the kernel makes the TLS records"},
	{API_FIELD, "container", "string|nil",
	 "its container: name, or the first 12 digits of its id"},
	{API_FIELD, "peer", "string|nil",
	 "the other end: \"192.0.2.1:443\", or a Unix socket's path"},
	{API_FIELD, "laddr", "string|nil", "the connection's own address"},
	{API_FIELD, "lport", "integer|nil", "its own port"},
	{API_FIELD, "raddr", "string|nil", "the other end's address"},
	{API_FIELD, "rport", "integer|nil", "the other end's port"},
	{API_FIELD, "hello", "string|nil", "of tls_hello: \"client\" or \"server\""},
	{API_FIELD, "retry", "boolean|nil", "the server asks for another hello; or this is it"},
	{API_FIELD, "sni", "string|nil", "client hello: the server's name"},
	{API_FIELD, "alpn", "list|nil", "hello: protocols offered, or the one chosen"},
	{API_FIELD, "versions", "list|nil", "client hello: versions offered: TLSv1.3"},
	{API_FIELD, "version", "string|nil", "server hello: the version chosen"},
	{API_FIELD, "ciphers", "list|nil", "client hello: ciphers offered, by IANA's names"},
	{API_FIELD, "cipher", "string|nil", "server hello: the cipher chosen"},
	{API_FIELD, "groups", "list|nil", "hello: groups offered for the key, or the one chosen"},
	{API_FIELD, "ja4", "string|nil", "client hello: its JA4 fingerprint"},
	{API_FIELD, "conn", "conn", "the connection"},
	{API_FIELD, "proc", "proc|nil", "the process, as /proc tells"},
	{API_FIELD, "sub", "handle", "the handle of the handler that runs"},
	{API_FIELD, "copy", "method", "e:copy(): a table of all fields, to keep"},

	{API_CONN, "id", "integer", "number of the connection: 1, 2, ... as they are first seen"},
	{API_CONN, "pid", "integer", "process that has it"},
	{API_CONN, "fd", "integer|nil", "its descriptor in the process (Go, OpenSSL)"},
	{API_CONN, "laddr", "string|nil", "its own address or a Unix socket's path"},
	{API_CONN, "family", "string|nil", "inet, inet6 or unix"},
	{API_CONN, "lport", "integer|nil", "its own port"},
	{API_CONN, "raddr", "string|nil", "the other end's address"},
	{API_CONN, "rport", "integer|nil", "the other end's port"},
	{API_CONN, "peer", "string|nil", "raddr and rport: \"192.0.2.1:443\""},
	{API_CONN, "sni", "string|nil", "the server's name, as the client said it"},
	{API_CONN, "alpn", "string|nil", "the protocol agreed on: h2, http/1.1"},
	{API_CONN, "version", "string|nil", "TLSv1.2, TLSv1.3, ... (with tls_open, or of ktls)"},
	{API_CONN, "cipher", "string|nil",
	 "TLS_AES_128_GCM_SHA256, ... (with tls_open); of ktls: AES_128_GCM, ..."},
	{API_CONN, "role", "string|nil", "client or server (with tls_open)"},
	{API_CONN, "bytes_in", "integer", "bytes read so far, as far as they were seen"},
	{API_CONN, "bytes_out", "integer", "bytes written so far, as far as they were seen"},
	{API_CONN, "opened_ns", "integer", "when first seen (opened_us, opened_ms: floats)"},
	{API_CONN, "opened_us", "number", "opened_ns in microseconds"},
	{API_CONN, "opened_ms", "number", "opened_ns in milliseconds"},
	{API_CONN, "closed", "boolean", "it has ended: other fields keep their last values"},
	{API_CONN, "state", "table|nil", "the script's own table; nil once the connection ended"},

	{API_PROC, "exe", "string|nil", "path of its program"},
	{API_PROC, "cmdline", "string|nil", "its arguments, with a space between them"},
	{API_PROC, "user", "string|nil", "its user's name"},
	{API_PROC, "tls", "string|nil", "names of the TLS libraries it has mapped, by a space"},
	{API_PROC, "container", "container|nil", "the container that it is in"},

	{API_CONTAINER, "id", "string", "its id"},
	{API_CONTAINER, "name", "string|nil", "its name, where its runtime's files tell it"},
	{API_CONTAINER, "runtime", "string|nil", "docker, containerd, cri-o, podman, lxc, ..."},
	{API_CONTAINER, "pod", "string|nil", "name of its pod (Kubernetes)"},
	{API_CONTAINER, "namespace", "string|nil", "the pod's namespace"},
	{API_CONTAINER, "pod_uid", "string|nil", "the pod's UID"},

	{API_OPTION, "pid", "integer|list", "only these processes"},
	{API_OPTION, "comm", "string|list", "only threads of this name"},
	{API_OPTION, "uid", "integer|string|list", "only these users, by number or name"},
	{API_OPTION, "lib", "string|list", "only these files: name, glob or path"},
	{API_OPTION, "cgroup", "integer|string|list", "only in these cgroups, by path, unit or id"},
	{API_OPTION, "container", "string|list", "only in these containers, by name, id or pod"},
	{API_OPTION, "exclude", "table",
	 "none of these: {pid=, comm=, uid=, lib=, cgroup=, container=}"},
	{API_OPTION, "capture", "integer|string", "bytes a call: 4096, \"64K\", \"all\""},
	{API_OPTION, "errors", "boolean", "also calls that transferred nothing"},
	{API_OPTION, "where", "function(e)", "runs in Lua; the handler runs where it returns true"},
	{API_OPTION, "peek", "boolean", "false: no bytes that will be read again"},

	{API_TARGET, "pid", "integer|list", "only these processes (-p)"},
	{API_TARGET, "comm", "string|list", "only threads of this name (--comm)"},
	{API_TARGET, "uid", "integer|string|list", "only these users, by number or name (--uid)"},
	{API_TARGET, "lib", "string|list", "only these files: name, glob or path (--lib)"},
	{API_TARGET, "cgroup", "integer|string|list",
	 "only in these cgroups, by path, unit or id (--cgroup)"},
	{API_TARGET, "container", "string|list",
	 "only in these containers, by name, id or pod (--container)"},
	{API_TARGET, "exclude", "table",
	 "none of these: {pid=, comm=, uid=, lib=, cgroup=, container=}"},

	{API_CONFIG, "buffer", "integer|string", "bytes of the ring buffer: \"8M\""},
	{API_CONFIG, "capture", "integer|string", "what handlers without `capture` take: \"16K\""},
	{API_CONFIG, "attach", "string", "\"auto\", \"multi\", \"perf\" or \"copies\""},
	{API_CONFIG, "time", "string", "what e.time shows: \"local\", \"utc\" or \"relative\""},
	{API_CONFIG, "memory", "integer|string", "bytes that the script may use: \"1G\""},

	{API_AGGREGATION, "count", "count(name[, opts])", "how many"},
	{API_AGGREGATION, "sum", "sum(name[, opts])", "sum of the values"},
	{API_AGGREGATION, "avg", "avg(name[, opts])", "their mean"},
	{API_AGGREGATION, "min", "min(name[, opts])", "the smallest"},
	{API_AGGREGATION, "max", "max(name[, opts])", "the largest"},
	{API_AGGREGATION, "stats", "stats(name[, opts])", "count, mean, sum, smallest and largest"},
	{API_AGGREGATION, "hist", "hist(name[, opts])", "histogram by powers of two"},
	{API_AGGREGATION, "lhist", "lhist(name, {min=, max=, step=})", "histogram of even steps"},
	{API_AGGREGATION, "tseries", "tseries(name[, opts])", "sums over time"},

	{API_AGG_OPTION, "from", "string", "feed it from this event"},
	{API_AGG_OPTION, "by", "string|list", "field or fields that make the key"},
	{API_AGG_OPTION, "value", "string", "field that is added"},
	{API_AGG_OPTION, "min", "number", "lhist: where the first step begins"},
	{API_AGG_OPTION, "max", "number", "lhist: where the last step ends"},
	{API_AGG_OPTION, "step", "number", "lhist: width of a step"},
	{API_AGG_OPTION, "interval", "string", "tseries: time of one bucket: \"1s\""},
	{API_AGG_OPTION, "buckets", "integer", "tseries: how many are kept"},
	{API_AGG_OPTION, "max_keys", "integer", "keys that are kept; others add up as (other)"},
	{API_AGG_OPTION, "unit", "string",
	 "how values show: \"bytes\", \"ns\", \"us\", \"ms\", \"s\""},
	{API_AGG_OPTION, "title", "string", "first line of what print writes"},
	{API_AGG_OPTION, "top", "integer", "rows that print writes"},
	{API_AGG_OPTION, "sort", "string", "order of print: \"value\", \"key\" or a column"},

	{API_STREAM_OPTION, "name", "string", "its name in messages"},
	{API_STREAM_OPTION, "from", "string", "the event that feeds it; tls_data"},
	{API_STREAM_OPTION, "data", "function(conn, dir, buf)",
	 "takes bytes: returns how many it used; nil: needs more"},
	{API_STREAM_OPTION, "gap", "function(conn, dir, missing)", "bytes are missing here"},
	{API_STREAM_OPTION, "max", "integer", "bytes kept for data to use; beyond, they are a gap"},
	{API_STREAM_OPTION, "close", "function(conn)", "the connection ended"},

	{API_METHOD, "add", "a:add([value,] key...)", "adds a value under a key"},
	{API_METHOD, "get", "a:get(key...)", "the value of a key, or nil"},
	{API_METHOD, "pairs", "a:pairs()", "walks keys and values"},
	{API_METHOD, "top", "a:top(n)", "list of the n largest"},
	{API_METHOD, "quantile", "a:quantile(q, key...)", "of a histogram: value at 0 < q < 1"},
	{API_METHOD, "drain", "a:drain()", "a copy of it; it starts from nothing"},
	{API_METHOD, "clear", "a:clear()", "forgets all keys"},
	{API_METHOD, "delete", "a:delete(key...)", "forgets one key"},
	{API_METHOD, "print", "a:print{top=, sort=, title=, unit=}", "writes it to the output"},
	{API_METHOD, "disable", "h:disable()", "the handler does not run until enabled"},
	{API_METHOD, "enable", "h:enable()", "the handler runs again"},
	{API_METHOD, "detach", "h:detach()", "the handler is gone for good"},
	{API_METHOD, "stats", "h.stats", "{events=, bytes=, errors=} so far"},

	{API_FUNCTION, "on", "on.NAME([opts,] fn)", "runs fn at an event; on(\"ssl_*\", ...) too"},
	{API_FUNCTION, "target", "target{...}", "narrows who is traced, for all handlers"},
	{API_FUNCTION, "options", "options{name = {default, help}}",
	 "the script's own options, from its arguments"},
	{API_FUNCTION, "config", "config{...}", "settings of the run"},
	{API_FUNCTION, "every", "every(\"1s\", fn)", "runs fn at that interval; returns a handle"},
	{API_FUNCTION, "after", "after(\"1s\", fn)", "runs fn once; returns a handle"},
	{API_FUNCTION, "stream", "stream{...}", "hands connections over as streams of bytes"},
	{API_FUNCTION, "print", "print(...)", "writes values and a newline to the output"},
	{API_FUNCTION, "printf", "printf(format, ...)", "writes formatted text; nil never fails"},
	{API_FUNCTION, "emit", "emit{...}", "one JSON object a line; key=value in text"},
	{API_FUNCTION, "warn", "warn(...)", "a message to standard error"},
	{API_FUNCTION, "escape", "escape(s)", "s with control characters as \\n or \\xNN"},
	{API_FUNCTION, "hexdump", "hexdump(s[, max])",
	 "writes a hex dump of s, or of its first max bytes"},
	{API_FUNCTION, "human", "human(n)", "a number of bytes as 1.5K, 2.0M"},
	{API_FUNCTION, "duration", "duration(ns)", "nanoseconds as 1.5ms, 2.0s"},
	{API_FUNCTION, "json", "json.encode(v), json.decode(s)", "JSON"},
	{API_FUNCTION, "clear_screen", "clear_screen()",
	 "what follows replaces what is shown, on a terminal"},
	{API_FUNCTION, "color", "color([name])", "what follows is of this colour, on a terminal"},
	{API_FUNCTION, "exit", "exit([status])", "ends the run; on.stop still runs"},
};

const size_t api_count = TS_ARRAY_SIZE(api_table);

const char *api_kind_name(enum api_kind kind)
{
	static const char *const names[API_KINDS] = {
		"probe",     "event",	 "field",      "conn",	       "proc",
		"container", "option",	 "target",     "config",       "aggregation",
		"method",    "function", "agg_option", "stream_option"};

	return names[kind];
}

const struct api_entry *api_find(enum api_kind kind, const char *name)
{
	size_t i;

	for (i = 0; i < api_count; i++)
		if (api_table[i].kind == kind && !strcmp(api_table[i].name, name))
			return &api_table[i];
	return NULL;
}

const char *api_nearest(enum api_kind kind, const char *name)
{
	const char *names[TS_ARRAY_SIZE(api_table)];
	size_t i, n = 0;

	for (i = 0; i < api_count; i++)
		if (api_table[i].kind == kind)
			names[n++] = api_table[i].name;
	return ts_nearest(name, names, n);
}
