# SPDX-License-Identifier: MIT
"""What of a call handlers ask for, against the same question asked of all calls; live and replayed."""
import collections
import subprocess

from cases_open import SERVE
from harness import PYTHON, TLSSCOPE, case, check, children, wait_for
from ktls import ktls_case, talk

SCRIPT = """
config{buffer = "64M"}
on.start(function() emit{type = "ready"} end)
local function tell(name)
    return function(e)
        emit{type = "seen", name = name, pid = e.pid, conn = e.conn.id, dir = e.dir, len = e.len,
             nsecs = e.nsecs, hex = name == "all" and hex(e.data) or nil}
    end
end
function hex(s) return (s:gsub(".", function(c) return ("%%02x"):format(c:byte()) end)) end
local event, pids = %s, {%s}
on(event, {pid = pids, capture = "all"}, tell("all"))
for name, options in pairs{%s} do
    options.pid = pids
    on(event, options, tell(name))
end
"""


def lua_string(data):
    return '"' + "".join(f"\\{b:03}" for b in data) + '"'


def ours(call):
    return call["pid"], call["conn"], call["dir"], call["nsecs"], call["len"]


def nth(calls):
    """{call: its number in its direction of its connection}"""
    seen, found = collections.Counter(), {}
    for c in calls:
        way = c["pid"], c["conn"], c["dir"]
        seen[way] += 1
        found[ours(c)] = seen[way]
    return found


def wanted(prefixes):
    """name: (options in Lua, which calls: a function of a call and its number)"""
    begins = ", ".join(lua_string(p) for p in prefixes)
    return {
        "dir_in": ('{dir = "in"}', lambda c, n: c["dir"] == "in"),
        "dir_out": ('{dir = "out"}', lambda c, n: c["dir"] == "out"),
        "min_len": ("{min_len = 100}", lambda c, n: c["len"] >= 100),
        "max_len": ('{max_len = "1K", capture = 0}', lambda c, n: c["len"] <= 1024),
        "both": ("{min_len = 100, max_len = 100}", lambda c, n: c["len"] == 100),
        "prefix": ("{prefix = {%s}, capture = 0}" % begins,
                   lambda c, n: bytes.fromhex(c["hex"]).startswith(prefixes)),
        "one": ("{prefix = %s}" % lua_string(prefixes[0]),
                lambda c, n: bytes.fromhex(c["hex"]).startswith(prefixes[0])),
        "first": ("{first = 3}", lambda c, n: n <= 3),
        "mixed": ('{first = 30, min_len = 100, dir = "out", prefix = %s}' % lua_string(prefixes[0]),
                  lambda c, n: n <= 30 and c["len"] >= 100 and c["dir"] == "out" and
                  bytes.fromhex(c["hex"]).startswith(prefixes[0])),
    }


def by_name(records):
    found = collections.defaultdict(list)
    for r in records:
        if r["type"] == "seen":
            found[r["name"]].append(r)
    return found


def check_rate(way, calls, limited, most):
    """The first of each second, and no more. Of two that end at the same time either may be the last."""
    number, left = {}, collections.Counter()
    for c in calls:
        left[c["nsecs"] // 10**9] += 1
        number[ours(c)] = left[c["nsecs"] // 10**9]
    passed = collections.Counter(c["nsecs"] // 10**9 for c in limited)
    check(passed == {second: min(n, most) for second, n in left.items()}, f"{way}: rate: {passed} of {left}")
    check(all(ours(c) in number and number[ours(c)] <= most + 1 for c in limited), f"{way}: rate: not the first ones")


def check_picks(way, records, expected):
    seen = by_name(records)
    calls = seen["all"]
    number = nth(calls)
    for name, (options, passes) in expected.items():
        want = [ours(c) for c in calls if passes(c, number[ours(c)])]
        got = [ours(c) for c in seen[name]]
        check(want and len(want) < len(calls), f"{name} is no question: {len(want)} of {len(calls)}")
        check(got == want, f"{way}: {options}: {len(got)} calls, not {len(want)}: "
              f"{sorted(set(got) ^ set(want))[:3]}")
    check_rate(way, calls, seen["rate"], 4)
    sampled = {ours(c) for c in seen["sample"]}
    check(sampled <= set(number) and 0.1 < len(sampled) / len(calls) < 0.45,
          f"{way}: {len(sampled)} of {len(calls)} calls are a sample of one in four")
    return sampled


def compare(lab, event, pids, prefixes, go_on):
    expected = wanted(prefixes)
    options = {k: v[0] for k, v in expected.items()}
    options.update(sample="{sample = 4}", rate="{rate = 4}", never="{min_len = 1000000000}")
    script = SCRIPT % (f'"{event}"', ", ".join(str(p) for p in pids),
                       ", ".join(f"{k} = {v}" for k, v in options.items()))
    record = lab.path("record")
    tracer = lab.tracer("-w", record, script=script, ready=False)
    wait_for("marker that the tracer is attached", tracer.attached, 60)
    go_on()
    live = tracer.stop()
    check("lost" not in live.stderr, live.stderr)
    sampled = check_picks("live", live.records, expected)
    replay = lab.tracer("-r", record, script=script, ready=False).finish()
    check(check_picks("replay", replay.records, expected) == sampled, "a replay's sample is another")


CLIENT = """
import socket, ssl, sys
context = ssl._create_unverified_context()
sys.stdin.readline()
words = (b"GET /", b"POST /", b"PUT\\0 /", b"PU", b"GE")
for _ in range(2):
    s = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    for i in range(60):
        m = (words[i % 5] + b"x" * 3000)[:(3, 50, 100, 2000, 1, 2, 4, 16, 700)[i % 9]]
        s.sendall(m)
        got = 0
        while got < len(m):
            got += len(s.recv(4096))
    s.close()
"""


@case(timeout=120)
def filter_picks(lab):
    """OpenSSL: each key alone and some together."""
    port = lab.port()
    server = lab.spawn([PYTHON, "-c", SERVE, str(port), lab.both], port=port)
    client = lab.spawn([PYTHON, "-c", CLIENT, str(port)], stdin=subprocess.PIPE)

    def go_on():
        client.say()
        client.finish()
    compare(lab, "tls_data", (client.pid, server.pid), (b"GET ", b"PUT\0"), go_on)


@ktls_case(timeout=120)
def ktls_filter_picks(lab):
    """The kernel's TLS: bytes in one piece, in several, in pages, and of a reader in a pipe."""
    p = talk(lab, "send/recv:100*6", "writev/readv:5000", "<wide/wide:6000*2", "sendfile/recv:1100*2",
             "<splice/splice:300*3", "<send/recv:7*20", "send/recv:2*20", "writev/readv:100*4")

    def go_on():
        p.say()
        p.finish()
    # Each direction begins with a number; parts of it are at the beginning of others.
    compare(lab, "ktls_*", (p.pid, children(p.pid)[0]), (b"0000", b"0."), go_on)


COPIES = """
config{buffer = "64M"}
on.start(function() emit{type = "ready"} end)
local pids = {%s}
on.tls_data({pid = pids, capture = 500, min_len = 700}, function(e) end)
on.tls_data({pid = pids, capture = 5, dir = "out"}, function(e) end)
on.tls_data({pid = pids, capture = 0, max_len = 20}, function(e) end)
"""


@case(timeout=120)
def filter_copies_what_is_wanted(lab):
    """The largest capture of those that want a call decides; what nobody wants is not recorded."""
    port, record = lab.port(), lab.path("record")
    server = lab.spawn([PYTHON, "-c", SERVE, str(port), lab.both], port=port)
    client = lab.spawn([PYTHON, "-c", CLIENT, str(port)], stdin=subprocess.PIPE)
    tracer = lab.tracer("-w", record, script=COPIES % f"{client.pid}, {server.pid}")
    client.say()
    client.finish()
    tracer.stop()
    script = """on.tls_data({capture = "all"}, function(e)
        emit{type = "seen", dir = e.dir, len = e.len, n = #(e.data or "")}
    end)"""
    seen = [r for r in lab.tracer("-r", record, script=script, ready=False).finish().records
            if r["type"] == "seen"]
    check(len(seen) > 200, f"{len(seen)} calls")
    for r in seen:
        want = min(r["len"], 500 if r["len"] >= 700 else 5 if r["dir"] == "out" else 0)
        check(r["n"] == want, f"{r['n']} bytes are there of {r}")
        check(r["dir"] == "out" or r["len"] >= 700 or r["len"] <= 20, f"nobody wanted {r}")


ADDED = """
config{buffer = "64M"}
on.start(function() emit{type = "ready"} end)
local pids = {%s}
for name, options in pairs{
    first = {first = 20, min_len = 100}, prefix = {prefix = "POST", dir = "out"}, sample = {sample = 3},
    rate = {rate = 5},
} do
    local seen, own = {["in"] = 0, out = 0}, {from = "tls_data", by = "dir"}
    options.pid = pids
    for key, value in pairs(options) do own[key] = value end
    local added = count(name, own)
    on.tls_data(options, function(e) seen[e.dir] = seen[e.dir] + 1 end)
    on.stop(function()
        for dir, n in pairs(seen) do
            emit{type = "sum", name = name, dir = dir, seen = n, added = added:get(dir) or 0}
        end
    end)
end
"""


@case(timeout=120)
def filter_picks_of_aggregations(lab):
    """What is added up, in the kernel or of events, is what a handler with the same options sees."""
    port = lab.port()
    server = lab.spawn([PYTHON, "-c", SERVE, str(port), lab.both], port=port)
    client = lab.spawn([PYTHON, "-c", CLIENT, str(port)], stdin=subprocess.PIPE)
    tracer = lab.tracer(script=ADDED % f"{client.pid}, {server.pid}")
    client.say()
    client.finish()
    sums = {(r["name"], r["dir"]): r for r in tracer.stop().records if r["type"] == "sum"}
    check(len(sums) == 8 and sums["prefix", "in"]["seen"] == 0, f"{sums}")
    for r in sums.values():
        check(r["seen"] == r["added"] and (r["seen"] or r["name"] == "prefix"), f"{r}")


REFUSED = {
    "tls_data, {dir = 'up'}": 'dir must be "in" (read) or "out" (written), not up',
    "ssl_read, {dir = 'out'}": 'nothing of it goes "out"',
    "tls_data, {min_len = 'x'}": "min_len must be a number of bytes",
    "tls_data, {min_len = 0}": "min_len is 1 at least",
    "tls_data, {min_len = 2, max_len = 1}": "max_len is below min_len",
    "tls_data, {prefix = ''}": "prefix: 1 to 16 bytes long",
    "tls_data, {prefix = ('x'):rep(17)}": "prefix: 1 to 16 bytes long",
    "tls_data, {prefix = {'a', 'b', 'c', 'd', 'e'}}": "prefix: 4 of them at most",
    "tls_data, {prefix = {}}": "prefix is an empty list",
    "tls_data, {prefix = 7}": "prefix must be a string",
    "tls_data, {sample = 0}": "sample must be a whole number from 1 on, not 0",
    "tls_data, {first = 1.5}": "first must be a whole number from 1 on, not 1.5",
    "tls_data, {rate = 1 << 32}": "rate must be a whole number",
    "http, {rate = 1}": "on.http takes no option `rate`",
    "tls_open, {first = 1}": "on.tls_open takes no option `first`",
    "tls_close, {min_len = 1}": "on.tls_close takes no option but",
}


@case()
def filter_picks_are_checked(lab):
    for words, said in REFUSED.items():
        event, options = words.split(", ", 1)
        p = lab.run([TLSSCOPE, "--check", "-e", f"on.{event}({options}, function() end)"], status=None)
        check(p.returncode and said in p.err(), f"{words}: {p.err()}")
