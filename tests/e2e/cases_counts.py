# SPDX-License-Identifier: MIT
"""What is only counted costs one probe a call: probes take turns, and each call is counted once."""
import os
import platform
import shutil
import signal
import subprocess
import time

import suites
from cases_aggregate import crowd, go
from cases_asked import TALK
from cases_ktls import without_module
from cases_pitfalls import own_library
from cases_sites import info, ways
from harness import PYTHON, Skip, case, check, children, wait_for
from web import backend, nginx

ALONE, BACK = "these alone are probed", "called where no end is probed"
COUNTS = """
config{attach = "WAY"}
on.start(function() print("ready") end)
local calls, seen = stats("calls", {from = "ssl_*", by = {"pid", "dir"}}), {}
local function take()
    for _, row in ipairs(calls:drain():top()) do
        local key = row.key[1] .. " " .. row.key[2]
        seen[key] = (seen[key] or 0) + row.value.count
    end
end
every("23ms", take)
local later, events = nil, 0
on.signal_usr1(function()
    later = on.tls_data(function(e) events = events + (#e.data == e.len and 1 or 0) end)
    print("asked")
end)
on.stop(function()
    take()
    for key, n in pairs(seen) do print("calls", key, n) end
    print("events", events)
end)
"""


# Says back what it is told, each word in a read that it waited in.
PERL = """
use IO::Socket::SSL;
my ($port, $cert, $key) = @ARGV;
my $listener = IO::Socket::SSL->new(LocalAddr => "127.0.0.1", LocalPort => $port, Listen => 1, ReuseAddr => 1,
                                    SSL_cert_file => $cert, SSL_key_file => $key) or die;
my $c = $listener->accept or die;
while (sysread($c, my $word, 100)) { syswrite($c, $word) or die }
"""


# Beside it, another run, by events: two probes a call.
EVENTS = """
config{buffer = "32M"}
on.start(function() print("ready") end)
local n = {["in"] = 0, out = 0}
on.tls_data({capture = 0}, function(e) n[e.dir] = n[e.dir] + 1 end)
on.stop(function() print("in", n["in"]) print("out", n.out) end)
"""


def by_events(lab, p):
    return lab.tracer("-p", str(p.pid), script=EVENTS, form="text")


def counted_by_events(tracer):
    check(tracer.process.stop(2) == 0, tracer.process.err())
    rows = [line.split("\t") for line in tracer.output().decode().splitlines()]
    return {r[0]: int(r[1]) for r in rows if len(r) == 2}


def trace(lab, way, *programs, of="ssl_*"):
    pids = [w for p in programs for w in ("-p", str(p.pid))]
    return lab.tracer("-v", *pids, script=COUNTS.replace("WAY", way).replace("ssl_*", of), form="text")


def has_ends():
    """Whether this machine can count at ends; else each call has two probes."""
    return b"uprobe_multi" in info() and platform.machine() == "x86_64"


def need_ends():
    if not has_ends():
        raise Skip("this kernel has no uprobe_multi, or the machine is no x86_64: nothing is counted at ends")


def says(tracer, words):
    wait_for(repr(words), lambda: words in tracer.process.err())


def ended(tracer):
    """Calls by "PID DIRECTION", and events; nothing was lost, or given up."""
    check(tracer.process.stop(2) == 0, tracer.process.err())
    said = tracer.process.err()
    check("lost" not in said and "not seen" not in said and "given up" not in said, said)
    rows = [line.split("\t") for line in tracer.output().decode().splitlines()]
    return {r[1]: int(r[2]) for r in rows if r[0] == "calls"}, int(rows[-1][1])


def same(name, got, want):
    check(got == want, f"{name}: {got}, not {want}")


def of(p, calls):
    return {f"{p.pid} in": calls, f"{p.pid} out": calls}


@case(timeout=180)
def counts_at_ends(lab):
    """The first calls show that ends do; then these alone are probed, while others are in flight."""
    for way in ways():
        first, second = crowd(lab, 2, 300, 500), crowd(lab, 12, 3000, 700)
        tracer = trace(lab, way, first, second)
        want = of(first, go(first)[0])
        if way != "perf" and has_ends():
            says(tracer, ALONE)
        want.update(of(second, go(second)[0]))
        same(way, ended(tracer)[0], want)
        check(way != "perf" or ALONE not in tracer.process.err(), "perf: ends")


@case(timeout=120)
def counts_while_probes_change(lab):
    """From the first call on, by many threads: what is in flight when probes come and go is counted too."""
    for n in range(8):
        p = crowd(lab, 16, 700 + 400 * n, 100)
        tracer = trace(lab, "auto", p)
        want = of(p, go(p)[0])
        same(f"round {n}", ended(tracer)[0], want)


@case(timeout=120)
def counts_where_others_call(lab):
    """Python calls SSL_read_ex and SSL_write_ex, which have no such end: from then on there are two probes."""
    need_ends()
    for n in range(3):
        first, crowded = crowd(lab, 2, 300, 500), crowd(lab, 8, 4000 + n, 300)
        python = lab.spawn([PYTHON, "-c", TALK, lab.cert, lab.key], ready=b"connected", stdin=subprocess.PIPE)
        tracer = trace(lab, "auto", first, crowded, python)
        want = of(first, go(first)[0])
        says(tracer, ALONE)
        crowded.say()
        python.say("40\n")
        wait_for("40", lambda: b"said 40" in python.out())
        says(tracer, BACK)
        python.say("1000\n")
        wait_for("1000", lambda: b"said 1000" in python.out())
        crowded.finish(60)
        words = crowded.out().split()
        want.update(of(crowded, int(words[2]) * int(words[4])))
        # The read that waited when tracing began is not known: it may have begun anywhere.
        want.update({f"{python.pid} in": 2 * 1040 - 1, f"{python.pid} out": 2 * 1040})
        same(f"round {n}", ended(tracer)[0], want)
        python.stop(signal.SIGKILL)


@case(timeout=120)
def counts_beside_a_later_handler(lab):
    """A handler that wants more than results: it sees all from then on, and nothing is counted twice."""
    need_ends()
    first, second, third = crowd(lab, 2, 300, 500), crowd(lab, 8, 5000, 300), crowd(lab, 4, 900, 400)
    tracer = trace(lab, "auto", first, second, third)
    want = of(first, go(first)[0])
    says(tracer, ALONE)
    second.say()
    os.kill(tracer.process.pid, signal.SIGUSR1)
    says(tracer, "loaded once more")
    second.finish(60)
    words = second.out().split()
    want.update(of(second, int(words[2]) * int(words[4])))
    last = go(third)[0]
    want.update(of(third, last))
    calls, events = ended(tracer)
    same("calls", calls, want)
    check(2 * last <= events <= sum(calls.values()), f"{events} events of {sum(calls.values())}")


@case(needs=["curl", "openssl"], timeout=120)
def counts_through_bios(lab):
    """openssl s_server -WWW writes through BIO_f_ssl, past SSL_write: it is told from the first call on."""
    need_ends()
    lab.write("page", "some words\n" * 3000)
    first, port = crowd(lab, 2, 300, 500), lab.port()
    server = lab.spawn(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", lab.cert, "-key", lab.key,
                        "-WWW"], port=port)
    tracer, beside = trace(lab, "auto", first, server), by_events(lab, server)
    want = of(first, go(first)[0])
    says(tracer, ALONE)
    for n in range(20):
        lab.run(["curl", "-sS", "--http1.0", "--cacert", lab.cert, f"https://localhost:{port}/page"])
        if n == 3:
            says(tracer, BACK)
    want.update({f"{server.pid} {c}": n for c, n in counted_by_events(beside).items()})
    check(want[f"{server.pid} out"] > 20 <= want[f"{server.pid} in"], want)
    same("calls", ended(tracer)[0], want)
    server.stop(signal.SIGKILL)


@case(needs=["curl", "nginx"], timeout=120)
def counts_of_nginx(lab):
    """Programs that come and go, and processes that fork: as events say."""
    need_ends()
    first, port = crowd(lab, 2, 300, 500), lab.port()
    server = nginx(lab, port, backend())
    pids = [w for p in (first.pid, server.pid, *children(server.pid)) for w in ("-p", str(p))]
    tracer = lab.tracer("-v", *pids, script=COUNTS.replace("WAY", "auto"), form="text")
    beside = lab.tracer(*pids[2:], script=EVENTS, form="text")
    want = of(first, go(first)[0])
    says(tracer, ALONE)
    for _ in range(30):
        lab.run(["curl", "-sS", "--http1.1", "--cacert", lab.cert, *[f"https://localhost:{port}/a"] * 3])
    total = counted_by_events(beside)
    got = {k: n for k, n in ended(tracer)[0].items() if k not in want}
    for way in ("in", "out"):
        same(way, sum(n for k, n in got.items() if k.endswith(way)), total[way])


@case(timeout=120)
def counts_of_a_full_table(lab):
    """More keys than the kernel's table has: what it has no room for comes as events, without connections."""
    need_ends()
    first, p = crowd(lab, 2, 300, 500), crowd(lab, 20, 1100, 1000)
    tracer = lab.tracer("-v", "-p", str(first.pid), "-p", str(p.pid), script="""
        config{buffer = "64M"}
        on.start(function() emit{type = "ready"} end)
        lhist("steps", {from = "ssl_*", by = {"tid", "dir"}, min = 0, max = 1000, step = 1})
        """)
    calls = go(first)[0]
    says(tracer, ALONE)
    more, _ = go(p)
    seen = tracer.finish()
    rows = next(r for r in seen.records if r["type"] == "lhist")["data"]
    same("calls", sum(r["count"] for r in rows), 2 * (calls + more))
    check("table of aggregations was full" in seen.stderr, "the table was not full")
    check("lost" not in seen.stderr, seen.stderr)


@case(needs=["modprobe", "rmmod"], timeout=120)
def counts_until_the_kernel_has_tls(lab):
    """What is in flight in the library has to be known then: it has two probes from then on."""
    need_ends()
    with without_module(lab) as load:
        first, second, third = crowd(lab, 2, 300, 500), crowd(lab, 8, 5000, 300), crowd(lab, 4, 900, 400)
        tracer = trace(lab, "auto", first, second, third, of="tls_data")
        want = of(first, go(first)[0])
        says(tracer, ALONE)
        second.say()
        load()
        says(tracer, "tls_sw_sendmsg")
        second.finish(60)
        words = second.out().split()
        want.update(of(second, int(words[2]) * int(words[4])))
        want.update(of(third, go(third)[0]))
        same("calls", ended(tracer)[0], want)


@case(needs=["apt-get", "dpkg-deb"], timeout=400)
def counts_of_trixie(lab):
    """A libssl whose own functions are compared at two sites first: then ends are all that is probed too."""
    need_ends()
    root, port = suites.unpacked(lab, "trixie"), lab.port()
    place = f"/tmp/{lab.case.name}"
    os.makedirs(root + place, exist_ok=True)
    for path in (lab.cert, lab.key):
        shutil.copy(path, root + place)
    openssl = ["chroot", root, "openssl"]
    try:
        server = lab.spawn([*openssl, "s_server", "-accept", f"127.0.0.1:{port}", "-cert", f"{place}/cert.pem",
                            "-key", f"{place}/key.pem", "-quiet"], port=port, stdin=subprocess.PIPE)
        client = lab.spawn([*openssl, "s_client", "-connect", f"127.0.0.1:{port}", "-quiet"], stdin=subprocess.PIPE)
        talked = 0

        def talk(count):
            nonlocal talked
            for _ in range(count):
                talked += 1
                for a, b in ((client, server), (server, client)):
                    a.say(f"line {talked}\n")
                    wait_for(f"line {talked}", lambda b=b: b"line %d\n" % talked in b.out())
        talk(1)
        tracer = trace(lab, "auto", client, server)
        talk(30)
        says(tracer, ALONE)
        talk(50)
        same("calls", ended(tracer)[0], {**of(client, 80), **of(server, 80)})
        client.stop(signal.SIGKILL)
        server.stop(signal.SIGKILL)
    finally:
        shutil.rmtree(root + place)


@case(timeout=120)
def counts_spare_others(lab):
    """Python is not asked for, and the probe of what it calls costs much: it goes at the first call."""
    need_ends()
    folder, copy = own_library(lab)
    env = dict(os.environ, LD_LIBRARY_PATH=folder)
    first = crowd(lab, 2, 300, 500, env=env)
    python = lab.spawn([PYTHON, "-c", TALK, lab.cert, lab.key], ready=b"connected", stdin=subprocess.PIPE, env=env)
    tracer = lab.tracer("-v", "--comm", "crowd", script=COUNTS.replace("WAY", "auto"), form="text")
    want = of(first, go(first)[0])
    says(tracer, f"{copy}: tested: what")
    python.say("1\n")
    says(tracer, f"{copy}: {BACK}")
    python.stop(signal.SIGKILL)
    got = ended(tracer)[0]
    same("calls", {k: got.get(k) for k in want}, want)


@case(needs=["perl", "openssl"], timeout=120)
def counts_of_long_reads(lab):
    """A read that waits while its function's probes go, and another one while they come back."""
    need_ends()
    if lab.run(["perl", "-MIO::Socket::SSL", "-e", "1"], status=None).returncode:
        raise Skip("perl's IO::Socket::SSL is not installed")
    port, first = lab.port(), crowd(lab, 2, 300, 500)
    python = lab.spawn([PYTHON, "-c", TALK, lab.cert, lab.key], ready=b"connected", stdin=subprocess.PIPE)
    perl = lab.spawn(["perl", lab.write("talk.pl", PERL), str(port), lab.cert, lab.key], port=port)
    client = lab.spawn(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet"], stdin=subprocess.PIPE)

    def talk(word):
        client.say(word + "\n")
        wait_for(word, lambda: word.encode() in client.out())
    talk("before")
    tracer = trace(lab, "auto", first, python, perl)
    talk("first")
    want = of(first, go(first)[0])
    says(tracer, ALONE)
    time.sleep(0.5)
    talk("second")
    python.say("1\n")
    says(tracer, BACK)
    time.sleep(0.5)
    talk("third")
    talk("fourth")
    calls = ended(tracer)[0]
    # The read in which it waited when tracing began is not known.
    same("calls", {k: calls.get(k) for k in {**want, **of(perl, 0)}}, {**want, f"{perl.pid} in": 3, f"{perl.pid} out": 4})
    for p in (client, perl, python):
        p.stop(signal.SIGKILL)


@case(needs=["h2load", "nginx"], timeout=120)
def counts_under_load(lab):
    """A server that is never idle: two runs count it, one at ends, the other by two probes."""
    need_ends()
    port = lab.port()
    server = nginx(lab, port, backend())
    pids = [w for p in (server.pid, *children(server.pid)) for w in ("-p", str(p))]
    at_ends = lab.tracer("-v", *pids, script=COUNTS.replace("WAY", "auto"), form="text")
    twice = lab.tracer(*pids, script=COUNTS.replace('attach = "WAY"', 'sites = "symbol"'), form="text")
    for _ in range(4):
        lab.run(["h2load", "-n", "4000", "-c", "40", "-m", "5", f"https://localhost:{port}/small"])
    says(at_ends, ALONE)
    lab.run(["h2load", "-n", "4000", "-c", "40", "-m", "5", f"https://localhost:{port}/small"])
    time.sleep(1)  # the connections' ends
    got, want = ended(at_ends)[0], ended(twice)[0]
    same("calls", got, want)
    check(sum(got.values()) > 10000, f"only {got}")
