# SPDX-License-Identifier: MIT
"""What is measured of tlsscope alone: how much it takes, how soon, and what it costs those beside it."""
import os
import re
import shutil
import signal
import statistics
import subprocess
import threading
import time

from table import Gap, Row, line, note
from tracers import Bare, Bpftrace, Skip, Sslsniff, Tlsscope, die_with_parent

HANDLERS = {
    "an empty": "on.tls_data({capture = 16384}, function() end)",
    "an aggregating": 'local n = sum("bytes") on.tls_data({capture = 16384}, function(e) n:add(e.len, e.comm) end)',
    "a printing": "on.tls_data({capture = 16384}, function(e) print(e.comm, e.pid, e.dir, e.len) end)",
}
RATE, SIZE, THREADS = 300000, 1024, 2
STEPS = (50000, 100000, 150000, 200000, 250000, 300000, 400000, 500000, 700000)  # calls a second


def rate(lab, load, script, calls, ms):
    """(calls a second that the load reached, the share of them that was lost)"""
    tracer = Tlsscope(lab, load.pid, script, output=False)
    try:
        tracer.wait_ready(load)
        done, ns = load.ask(f"rate {SIZE} {calls} {THREADS} {ms}")
    finally:
        tracer.stop()
    return done * 1e9 / ns, sum(int(n) for n in re.findall(r"(\d+) events lost", tracer.said())) / done


def rate_load(lab):
    load = lab.load()
    load.ask(f"rate {SIZE} 1000 {THREADS} 10")  # its handshakes
    return load


@line
def loss(lab, rounds):
    """300,000 events a second of 1 KiB into a Lua aggregation: how many are lost"""
    load = rate_load(lab)
    got = [rate(lab, load, HANDLERS["an aggregating"], RATE, 1500) for _ in range(rounds)]
    load.close()
    return [Row("events a second, of 300,000 wanted", [r for r, _ in got], "/s", RATE * 0.98, least=True),
            Row("lost of them", [share for _, share in got], "lost", 0)]


def highest(lab, load, script):
    """The highest rate of STEPS, or what the load reaches, at which nothing is lost."""
    reached = 0
    for wanted in STEPS:
        now, lost = rate(lab, load, script, wanted, 400)
        if lost:
            break
        reached = max(reached, now)
        if now < 0.9 * wanted:
            break
    return reached


@line
def rates(lab, rounds):
    """events a second before the first loss, by kind of handler"""
    load = rate_load(lab)
    rows = [Row(f"events a second of 1 KiB before the first loss, {kind} handler",
                [highest(lab, load, script) for _ in range(min(rounds, 3))], "/s")
            for kind, script in HANDLERS.items()]
    load.close()
    return rows


def ms_until(argv, first, env=None, end=signal.SIGINT):
    """(ms from a program's start until it writes what begins with `first`, ms that its end takes)"""
    began = time.monotonic()
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         env=dict(os.environ, **(env or {})), preexec_fn=die_with_parent)
    late = threading.Timer(60, p.kill)
    late.start()
    try:
        for text in p.stdout:
            if text.startswith(first):
                break
        else:
            raise RuntimeError(f"{argv[0]} ended and had written nothing")
        at = time.monotonic()
        p.send_signal(end)
        p.stdout.read()
        p.wait(60)
        return (at - began) * 1e3, (time.monotonic() - at) * 1e3
    finally:
        late.cancel()
        p.kill()
        p.wait()


FIRST = {
    "tlsscope": (Tlsscope, 'on.tls_data(function() print("first") end)'),
    "bpftrace": (Bpftrace, 'uprobe:LIB:SSL_write { printf("first\\n"); }'),
    "sslsniff": (Sslsniff,),
}


@line
def start(lab, rounds):
    """from the start to the first event"""
    load, took, missing = lab.load(), {name: [] for name in FIRST}, {}
    load.say("slow 200 100000000")
    for n in range(3 * rounds + 1):  # one takes little time, and differs much from the next
        for name, (tracer, *script) in FIRST.items():
            try:
                if name not in missing and (name != "sslsniff" or n < 3):
                    argv, env = tracer.command(lab, load.pid, *script)
                    took[name].append(ms_until(argv, (b"first", b"READ", b"WRITE"), env,
                                               tracer.stop_signal)[0])
            except (Skip, RuntimeError) as e:
                if name == "tlsscope":
                    raise
                missing[name] = str(e)
    load.close()
    ours = took["tlsscope"][1:]  # the first read the files from the disk
    rows = [Row("start to first event", ours, "ms", 25)]
    for name in ("bpftrace", "sslsniff"):
        what = f"start to first event, of {name}'s"
        if name in missing:
            rows.append(Gap(what, missing[name]))
        else:
            median = statistics.median(took[name][1:])
            rows.append(Row(what, [o / median for o in ours], "1/", 1 / 4 if name == "bpftrace" else None))
    return rows


ATTACH = """on.tls_data(function() end) on.tls_open(function() end) on.tls_error(function() end)
on.start(function() print("start") end)"""


def sites_of(lab, path):
    """Those of handlers: where calls are only counted there are others."""
    said = subprocess.run([lab.tlsscope, "-lv", "--lib", path], capture_output=True, text=True, check=True).stdout
    return sum(len(re.findall(r"\b0x[0-9a-f]+", line)) for line in said.splitlines()
               if " end 0x" not in line and "only until" not in line)


@line
def attach(lab, rounds):
    """attaching and detaching about 1, 100 and 1,000 sites: copies of the library, as containers have"""
    sites = sites_of(lab, lab.libssl)
    paths, rows, took = [], [], {}
    for n in range(-(-1000 // sites)):
        os.makedirs(lab.path(f"many/{n}"))
        paths.append(shutil.copy(lab.libssl, lab.path(f"many/{n}/libssl.so.3")))
    counts = (1, -(-100 // sites), len(paths))
    for _ in range(rounds):
        for n in counts:
            argv, env = Tlsscope.command(lab, None, ATTACH, *[w for p in paths[:n] for w in ("--lib", p)])
            took.setdefault(n, []).append(ms_until(argv, b"start", env))
    one = [statistics.median(t[i] for t in took[1]) for i in (0, 1)]
    for n in counts:
        files = f"{n * sites:,} sites in {n} file{'s' if n > 1 else ''}"
        last = n == counts[-1]
        if n == 1:
            rows.append(Row(f"{files}: from the start to probes in place", [a for a, _ in took[n]], "ms"))
            rows.append(Row(f"{files}: from Ctrl-C to the end", [d for _, d in took[n]], "ms"))
            continue
        rows.append(Row(f"{files}: attach, more than one file", [a - one[0] for a, _ in took[n]], "ms",
                        25 if last else None))
        rows.append(Row(f"{files}: detach, more than one file", [d - one[1] for _, d in took[n]], "ms",
                        150 if last else None))
    return rows


@line
def address(lab, rounds):
    """from a connection's descriptor to the socket whose addresses are known, as at each call"""
    load, empty, walks = lab.load(), [], []
    for _ in range(2 * rounds):
        for program, took in (("empty", empty), ("address", walks)):
            tracer = Bare(lab, load.pid, program)
            try:
                tracer.wait_ready(load)
                took.append(load.ask("spin 100")[0])
            finally:
                tracer.stop()
    load.close()
    return [Row("descriptor to known addresses, a call", [w - e for w, e in zip(walks, empty)], "ns", 65)]


# What sits before and after each call of both processes, to compare with.
BARE = {"two empty programs": ("empty", "empty"), "bare capture": ("keep", "capture")}


@line
def tcp(lab, rounds):
    """TLS ping-pong of 1 KiB between two processes over loopback, both traced with all their bytes"""
    load = lab.load()
    pids = load.pid, int(load.ask("tcp 1024 10")[2])
    every = os.sched_getaffinity(0)
    first, last = {min(every)}, {max(every)}

    def traced():
        return [Tlsscope(lab, pids[0], HANDLERS["an aggregating"], "-p", str(pids[1]))]

    # Whether one process wakes the other on its own processor or on another's makes more of a
    # difference than all else: so each way is measured too.
    ways = {"": ((every, every), traced), ", each on its own": ((first, last), traced),
            ", on one processor": ((first, first), traced)}
    for what, programs in BARE.items():
        ways[f", on one processor: {what}"] = (
            (first, first), lambda p=programs: [Bare(lab, pid, *p) for pid in pids])
    times = {way: [] for way in ways}
    for n in range(rounds + 1):
        for way, (processors, make) in ways.items():
            for pid, allowed in zip(pids, processors):
                os.sched_setaffinity(pid, allowed)
            bare = load.ask("tcp 1024 300")[0]
            tracers = make()
            try:
                for tracer in tracers:
                    tracer.wait_ready(load)
                if n:
                    times[way].append(load.ask("tcp 1024 300")[0] / bare)
            finally:
                for tracer in tracers:
                    tracer.stop()
    load.close()
    name = "slowdown over loopback TCP, two processes, 1 KiB"
    return [Row(name + way, found, "x", None if way else 1.5) for way, found in times.items()]


def delays(lab, load, gap_us, count):
    """us from a call's return until what a handler printed of it was read"""
    argv, env = Tlsscope.command(lab, load.pid, 'on.start(function() print("start") end) '
                                 "on.tls_data(function(e) print(e.nsecs) end)")
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         env=env, preexec_fn=die_with_parent)
    found = []
    try:
        p.stdout.readline()
        load.say(f"slow {gap_us} {count}")
        while len(found) < 2 * count:
            lines = os.read(p.stdout.fileno(), 65536).split()
            now = time.monotonic_ns()
            if not lines:
                raise RuntimeError("tlsscope ended")
            found += [(now - int(t)) / 1e3 for t in lines]
        load.answer()
    finally:
        p.send_signal(signal.SIGINT)
        p.wait(30)
    return sorted(found)


@line
def latency(lab, rounds):
    """from a call's return until its line was read by another program, at 200 and at 20 calls a second"""
    load = lab.load()
    p50, p99 = [], []
    for _ in range(rounds):
        for gap, count in ((10000, 150), (100000, 10)):
            found = delays(lab, load, gap, count)
            p50.append(found[len(found) // 2])
            p99.append(found[len(found) * 99 // 100])
    load.close()
    return [Row("latency at low rates, p50", p50, "us", 100), Row("latency at low rates, p99", p99, "us", 1500)]


@line
def httplog(lab, rounds):
    """requests through the recipe httplog, against the load generator's own rate"""
    load = lab.load()
    slow, rates_, lost = [], [], []
    for _ in range(rounds):
        bare = load.ask("http 300")[0]
        tracer = Tlsscope(lab, load.pid, None, recipe="httplog")
        try:
            tracer.wait_ready(load)
            ns, count = load.ask("http 600")
        finally:
            tracer.stop()
        with open(tracer.out, "rb") as f:
            shown = sum(1 for text in f if b"/item/" in text)
        slow.append(ns / bare)
        rates_.append(1e9 / ns)
        lost.append(max(0, 1 - shown / (2 * count)))  # each is seen by its client and by its server
    load.close()
    return [Row("httplog: slowdown of a request and its response in memory", slow, "x"),
            Row("httplog: requests a second of the load, each logged at both ends", rates_, "/s"),
            Row("httplog: not logged of them", lost, "lost")]
