# SPDX-License-Identifier: MIT
"""The same load under each tracer, in interleaved rounds: what a call costs, and the tracer itself."""
import collections

from table import Gap, Row, line, note
from tracers import (Bare, Bpftrace, Skip, Sslsniff, Tlsscope, bpftrace_version)

CAPTURE = """config{buffer = "4M"}
local bytes = sum("bytes")
local data = on.tls_data({capture = 16384}, function(e) bytes:add(e.len, e.comm) end)
on.signal_usr1(function() printf("seen %d\\n", data.stats.events) end)"""
COUNT = """count("calls", {from = "tls_data", by = "comm"})
on.signal_usr1(function() print("seen 0") end)"""
BPFTRACE_COPY = """
uprobe:LIB:SSL_read, uprobe:LIB:SSL_write { @buf[tid] = arg1; }
uretprobe:LIB:SSL_read, uretprobe:LIB:SSL_write /@buf[tid]/ {
    if ((int32)retval > 0) { printf("%s %d %d %r\\n", comm, pid, retval, buf(@buf[tid], 64)); }
    delete(@buf[tid]);
}"""
BPFTRACE_COUNT = "uprobe:LIB:SSL_read, uprobe:LIB:SSL_write { @calls[comm] = count(); }"

SIZES = (64, 1024, 16384)  # bytes a call
SECONDS = 0.3  # of load, for each size in each round
WARM = 0.4  # of load before that: what a tracer finds out by the first calls
PEERS = ("bpftrace", "bpftrace count", "sslsniff")

# What makes a tracer of a process.
CONFIGS = collections.OrderedDict([
    ("none", None),
    ("one", lambda lab, pid: Bare(lab, pid, "empty")),
    ("two", lambda lab, pid: Bare(lab, pid, "empty", "empty")),
    ("bare count", lambda lab, pid: Bare(lab, pid, "add")),
    ("bare", lambda lab, pid: Bare(lab, pid, "keep", "capture")),
    ("capture", lambda lab, pid: Tlsscope(lab, pid, CAPTURE)),
    ("count", lambda lab, pid: Tlsscope(lab, pid, COUNT)),
    ("bpftrace count", lambda lab, pid: Bpftrace(lab, pid, BPFTRACE_COUNT)),
    ("bpftrace", lambda lab, pid: Bpftrace(lab, pid, BPFTRACE_COPY, output=False)),
    ("sslsniff", lambda lab, pid: Sslsniff(lab, pid, output=False)),
])


def sample(lab, load, make):
    """A tracer's part of a round: ns a call by size; and at 1 KiB its CPU an event, memory and loss."""
    s = {}
    tracer = make(lab, load.pid) if make else None
    try:
        if tracer:
            tracer.wait_ready(load)
            load.ask(f"pair 64 {WARM * 1000:.0f}")
        s["spin"] = load.ask("spin 50")[0]
        for size in SIZES:
            if tracer and size == 1024:
                tracer.begin()
            s[size], calls = load.ask(f"pair {size} {SECONDS * 1000:.0f}")
            if tracer and size == 1024:
                tracer.settle(calls)
                s["cpu"], s["rss"] = tracer.cpu / max(tracer.events, 1), tracer.rss
                s["lost"] = max(0, 1 - tracer.events / calls)
    finally:
        if tracer:
            tracer.stop()
    return s


class Samples:
    """{config: [a sample a round]}, and {config: why} of those that are not to be had."""

    def __init__(self, lab, rounds):
        self.of, self.missing, load = collections.defaultdict(list), {}, lab.load()
        for n in range(rounds):
            for name, make in CONFIGS.items():
                try:
                    if name not in self.missing:
                        self.of[name].append(sample(lab, load, make))
                except Skip as e:
                    self.missing[name] = str(e)
                except RuntimeError as e:
                    if name not in PEERS:
                        raise
                    self.missing[name] = f"does not work here: {e}"
            note(f"round {n + 1} of {rounds}")
        load.close()

    def get(self, name, what):
        return [s[what] for s in self.of[name]]

    def added(self, name, size=1024):
        """ns that a tracer adds to a call, by round."""
        return [a - b for a, b in zip(self.get(name, size), self.get("none", size))]

    def row(self, what, a, b, unit, budget=None):
        return Row(what, [x / y for x, y in zip(a, b)], unit, budget)

    def peer(self, what, name, get, ours, budget=None):
        """A row of our part of what a peer needs; get(name) is either's, by round."""
        if name in self.missing:
            return Gap(what, self.missing[name])
        return self.row(what, get(ours), get(name), "1/", budget)


def peer_rows(s):
    version = ".".join(map(str, bpftrace_version()))
    share = 1 / 6 if bpftrace_version() >= (0, 20) else 1 / 8
    copies, counts, sniffs = f"bpftrace {version}", f"bpftrace {version}'s count", "sslsniff"
    cpu, rss = (lambda name: s.get(name, "cpu")), (lambda name: s.get(name, "rss"))
    return [
        s.peer(f"capture, added, of {copies}'s (64 B of each)", "bpftrace", s.added, "capture", share),
        s.peer(f"capture, added, of {sniffs}'s", "sslsniff", s.added, "capture", 1 / 9),
        s.peer(f"count in the kernel, added, of {counts}", "bpftrace count", s.added, "count", 1 / 10),
        s.peer(f"CPU an event, Lua aggregation, of {copies}'s", "bpftrace", cpu, "capture", 1 / 50),
        s.peer(f"CPU an event, Lua aggregation, of {sniffs}'s", "sslsniff", cpu, "capture", 1 / 50),
        s.peer(f"memory, ring of 4 MiB, of {copies}'s", "bpftrace", rss, "capture", 1 / 6),
        s.peer(f"memory, ring of 4 MiB, of {sniffs}'s", "sslsniff", rss, "capture"),
    ]


def slowdown_rows(s):
    names = [("two", "two empty programs"), ("bare", "bare capture"), ("capture", "tlsscope, capture"),
             ("count", "tlsscope, count"), ("bpftrace count", "bpftrace, count"), ("bpftrace", "bpftrace, 64 B"),
             ("sslsniff", "sslsniff")]
    return [s.row(f"slowdown at {size} B: {text}", s.get(name, size), s.get("none", size), "x")
            for size in SIZES for name, text in names if name not in s.missing]


@line
def tracers(lab, rounds):
    """what a call costs under tlsscope, under the least of programs, and under peers; their CPU, memory"""
    s = Samples(lab, rounds)
    one = s.added("one")
    lua = [a - b for a, b in zip(s.get("capture", "cpu"), s.get("bare", "cpu"))]
    rows = [
        Row("a call of 1 KiB, not traced", s.get("none", 1024), "ns"),
        Row("F: an empty program at an emulated instruction", s.get("one", "spin"), "ns"),
        Row("F1: the same, added to a call of 1 KiB", one, "ns"),
        s.row("two empty programs, added, of F1", s.added("two"), one, "x"),
        s.row("bare count, added, of F1", s.added("bare count"), one, "x"),
        s.row("bare capture of 1 KiB, added, of F1", s.added("bare"), one, "x"),
        s.row("capture of 1 KiB, added, of F1", s.added("capture"), one, "x", 2.7),
        s.row("count in the kernel, added, of F1", s.added("count"), one, "x", 1.3),
        Row("CPU an event of a bare consumer", s.get("bare", "cpu"), "ns"),
        Row("CPU an event, Lua aggregation, over a bare consumer", lua, "ns", 150),
        Row("memory, ring of 4 MiB", s.get("capture", "rss"), "MB"),
    ]
    lost = [Row(f"lost in that run: {name}", s.get(name, "lost"), "lost")
            for name in ("bare", "capture", "bpftrace", "sslsniff") if name not in s.missing]
    return rows + peer_rows(s) + slowdown_rows(s) + lost
