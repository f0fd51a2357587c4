# SPDX-License-Identifier: MIT
"""Aggregations with from=: what the kernel adds up is what events add up to, to the last call."""
import json
import os
import shutil
import subprocess

import cgroups
import golang
import ktls
from cases_containers import docker, flood, said
from cases_go import conversation, named, served
from cases_payload import start
from harness import TLSSCOPE, case, check, children, same
from ktls import ktls_case
from web import backend, curl, nginx

# Each aggregation twice: a `where` lets the second be fed from events.
TWICE = """
config{buffer = "32M"}
on.start(function() emit{type = "ready"} end)
local function twice(kind, name, opts)
    local events = {where = function() return true end, capture = 0}
    for key, value in pairs(opts) do events[key] = value end
    _G[kind](name, opts)
    _G[kind](name .. " by events", events)
end
"""
KINDS = TWICE + """
for _, kind in ipairs {"count", "sum", "avg", "min", "max", "stats", "hist"} do
    twice(kind, kind .. " len", {from = "FROM", by = {"comm", "dir"}})
    twice(kind, kind .. " us", {from = "FROM", by = "pid", value = "duration_us"})
    twice(kind, kind .. " ret", {from = "FROM", value = "ret", errors = true})
end
twice("lhist", "steps", {from = "FROM", by = "probe", min = 10, max = 800, step = 7})
twice("lhist", "ms", {from = "FROM", min = 0, max = 3, step = 1, value = "duration_ms"})
twice("stats", "keys", {from = "FROM", by = {"tid", "uid", "lib", "func"}, value = "duration_ns"})
twice("count", "more", {from = "FROM", by = {"kind", "cgroup", "container", "dir"}})
twice("sum", "ends", {from = "FROM", by = {"raddr", "rport", "peer", "pid"}})
"""


def both_same(records, *names):
    """What each aggregation counted is what its twin did; returns them by name."""
    found = {r["name"]: r for r in records if "data" in r}
    pairs = [n for n in found if n + " by events" in found]
    check(pairs and (not names or set(names) <= set(pairs)), f"only {list(found)}")
    for name in pairs:
        kernel, events = found[name], found[name + " by events"]
        check(kernel["data"], f"{name} is empty")
        for part in ("data", "other", "type", "by"):
            same(f"{name}: {part}", json.dumps(kernel.get(part)), json.dumps(events.get(part)))
    return found


def crowd(lab, threads, rounds, size, name="crowd", **options):
    """A program of threads that wait for a line; afterwards it says how much it transferred."""
    path = lab.path(name)
    if not os.path.exists(path):
        shutil.copy(lab.victim("crowd"), path)
    return lab.spawn([path, lab.cert, lab.key, str(threads), str(rounds), str(size)],
                     ready=b"waiting", stdin=subprocess.PIPE, **options)


def go(p):
    """Lets a crowd run to its end: calls and bytes of each direction."""
    p.say()
    p.finish(60)
    words = p.out().split()
    return int(words[2]) * int(words[4]), int(words[6])


@case()
def aggregate_as_events(lab):
    """Every kind, value and key: the same numbers as from events, and the right ones."""
    p = crowd(lab, 6, 1500, 900)
    tracer = lab.tracer("-p", str(p.pid), script=KINDS.replace("FROM", "tls_data"))
    calls, total = go(p)
    seen = tracer.finish()
    found = both_same(seen.records)
    for name, want in (("count len", {"value": calls}), ("sum len", {"value": total}),
                       ("min len", {"value": 1}), ("max len", {"value": 900}),
                       ("stats len", {"count": calls, "sum": total, "min": 1, "max": 900}),
                       ("hist len", {"count": calls, "sum": total})):
        for row in found[name]["data"]:
            check(row["key"][0] == "crowd" and want.items() <= row.items(), f"{name}: {row}")
        check(len(found[name]["data"]) == 2, f"{name}: {found[name]['data']}")
    # Six threads, two directions, each a function's.
    check(len(found["keys"]["data"]) == 12, f"keys: {len(found['keys']['data'])} rows")
    check("lost" not in seen.stderr, seen.stderr)


DRAINS = """
local calls, bytes, drains = 0, 0, 0
local traffic = stats("traffic", {from = "tls_data", pid = PID, by = {"tid", "dir"}})
local all = count("all", {from = "tls_data", pid = PID})
local lengths = hist("lengths", {from = "tls_data", pid = PID})
local seen = 0
local function take()
    drains = drains + 1
    for _, row in ipairs(traffic:drain():top()) do
        calls, bytes = calls + row.value.count, bytes + row.value.sum
        if row.value.min < 1 or row.value.max > 700 or row.value.min > row.value.max then
            print("wrong ends", row.value.min, row.value.max)
        end
    end
    for _, bucket in ipairs((lengths:drain():get() or {buckets = {}}).buckets) do
        seen = seen + bucket.count
    end
end
on.start(function() print("ready") end)
every("11ms", take)
on.stop(function()
    take()
    print(calls, bytes, seen, all:get(), all.handle.stats.events, traffic.handle.stats.bytes, drains > 2)
end)
"""


@case(timeout=120)
def aggregate_exact_while_drained(lab):
    """Intervals add up to the total, whatever the threads do while they are taken."""
    p = crowd(lab, 12, 6000, 700)
    tracer = lab.tracer(script=DRAINS.replace("PID", str(p.pid)), form="text")
    calls, total = go(p)
    check(tracer.process.stop(2) == 0, tracer.process.err())
    n, b = 2 * calls, 2 * total
    same("sums", tracer.output().decode(), f"ready\n{n}\t{b}\t{n}\t{n}\t{n}\t{b}\ttrue\n")


@case()
def aggregate_sends_nothing(lab):
    """A ring of a page: events would be lost, what is only aggregated is not."""
    for where, lossy in (("", False), (", where = function() return true end", True)):
        p = crowd(lab, 4, 4000, 500)
        tracer = lab.tracer("-p", str(p.pid), script='config{buffer = 4096}\n'
                            'on.start(function() emit{type = "ready"} end)\n'
                            f'count("calls", {{from = "tls_data", comm = "crowd"{where}}})\n')
        calls, _ = go(p)
        seen = tracer.finish()
        value = next(r for r in seen.records if r["type"] == "count")["data"][0]["value"]
        check((value == 2 * calls) != lossy and ("events lost" in seen.stderr) == lossy,
              f"{value} of {2 * calls}, {'by events' if where else 'in the kernel'}: {seen.stderr}")


@case(timeout=120)
def aggregate_full_table(lab):
    """More keys than the kernel's table has: what it has no room for is added up from events."""
    p = crowd(lab, 20, 1100, 1000)
    tracer = lab.tracer("-v", "-p", str(p.pid), script=TWICE + """
        twice("lhist", "steps", {from = "tls_data", by = {"tid", "dir"}, min = 0, max = 1000, step = 1})
        twice("count", "calls", {from = "tls_data"})
        """)
    calls, _ = go(p)
    seen = tracer.finish()
    found = both_same(seen.records, "steps", "calls")
    check(found["calls"]["data"][0]["value"] == 2 * calls, found["calls"])
    check("table of aggregations was full" in seen.stderr, "the table was not full")


@case()
def aggregate_other(lab):
    """Keys beyond max_keys are one row, of which there is a warning with the remedy."""
    programs = [crowd(lab, 1, 100 + n, 300) for n in range(6)]
    pids = [w for p in programs for w in ("-p", str(p.pid))]
    tracer = lab.tracer(*pids, script=TWICE + """
        twice("stats", "programs", {from = "tls_data", by = {"pid"}, max_keys = 4})
        """)
    want = [go(p) for p in programs]
    seen = tracer.finish()
    found = both_same(seen.records, "programs")["programs"]
    got = {r["key"][0]: (r["count"], r["sum"]) for r in found["data"]}
    check(got == {p.pid: (2 * n, 2 * b) for p, (n, b) in zip(programs[:4], want)}, got)
    rest = [2 * sum(w[i] for w in want[4:]) for i in range(2)]
    check([found["other"]["count"], found["other"]["sum"]] == rest, found["other"])
    check('stats "programs" has more than 4 keys' in seen.stderr and "max_keys" in seen.stderr,
          seen.stderr)


@case()
def aggregate_replay(lab):
    """Recorded, replayed, and in the kernel without a recording: one result."""
    script = lab.write("agg.lua", """
        count("calls", {from = "tls_data", by = {"comm", "dir"}})
        hist("sizes", {from = "tls_*", by = "probe", comm = "crowd"})
        lhist("small", {from = "ssl_read", min = 0, max = 100, step = 25})
        stats("all", {from = "tls_data", by = {"kind", "lib"}})
        """)
    shutil.copy(lab.victim("crowd"), lab.path("crowd"))
    command = f"sh -c 'echo go | {lab.path('crowd')} {lab.cert} {lab.key} 3 500 200'"
    outs = []
    for n, options in enumerate((["-w", lab.path("rec")], [], ["-r", lab.path("rec")])):
        run = [] if "-r" in options else ["-c", command]
        lab.run([TLSSCOPE, "-f", "json", "-o", lab.path(f"out{n}"), *options, *run, script])
        with open(lab.path(f"out{n}"), "rb") as f:
            outs.append(f.read())
    same("in the kernel", outs[1], outs[0])
    same("replayed", outs[2], outs[0])
    check(outs[0].count(b"\n") == 4 and b'"value":1500' in outs[0], outs[0])


FILTERED = """
on.start(function() emit{type = "ready"} end)
local a = count("a", {from = "tls_data", comm = "crowd-a"})
local not_a = count("not a", {from = "tls_data", exclude = {comm = "crowd-a"}, pid = {PIDS}})
local reads = sum("reads", {from = "tls_read", pid = {PIDS}})
local off = count("off", {from = "tls_data", pid = {PIDS}})
local late
off.handle:disable()
on.signal_usr1(function()
    a.handle:detach()
    off.handle:enable()
    late = count("late", {from = "tls_write", comm = "crowd-b"})
    after("100ms", function() emit{type = "again"} end)
end)
"""


@case()
def aggregate_filters(lab):
    """A handler's filters; one that is paused, one that goes, one that comes while all run."""
    first = [crowd(lab, 2, 100, 50, "crowd-a"), crowd(lab, 2, 110, 50, "crowd-b")]
    second = [crowd(lab, 2, 120, 50, "crowd-a"), crowd(lab, 2, 130, 50, "crowd-b")]
    pids = ", ".join(str(p.pid) for p in first + second)
    tracer = lab.tracer(script=FILTERED.replace("PIDS", pids))
    (a1, bytes0), (b1, bytes1) = [go(p) for p in first]
    tracer.process.send_signal(10)
    tracer.wait_until("second half", b'"again"')
    (a2, bytes2), (b2, bytes3) = [go(p) for p in second]
    found = {r["name"]: r["data"] for r in tracer.stop().records if "data" in r}
    values = {n: d[0]["value"] for n, d in found.items()}
    want = {"a": 2 * a1, "not a": 2 * (b1 + b2), "reads": bytes0 + bytes1 + bytes2 + bytes3,
            "off": 2 * (a2 + b2), "late": b2}
    check(values == want, f"{values}, not {want}")


@case(needs=["nginx", "curl"])
def aggregate_nginx_curl(lab):
    """Programs that others wrote, with short-lived ones among them."""
    port = lab.port()
    nginx(lab, port, backend(), workers=2)
    tracer = lab.tracer("--comm", "nginx", "--comm", "curl", script=KINDS.replace("FROM", "ssl_*"))
    clients = [curl(lab, port, "--http2" if n % 2 else "--http1.1") for n in range(6)]
    found = both_same(tracer.stop().records)
    pids = {row["key"][0] for row in found["count us"]["data"]}
    check({p.pid for p in clients} <= pids, f"not all of the clients in {pids}")
    told = {p.pid: [r["key"][:3] for r in found["ends"]["data"] if r["key"][3] == p.pid]
            for p in clients}
    end = ["127.0.0.1", port, f"127.0.0.1:{port}"]
    check(all(end in t for t in told.values()), f"{end} is not in each of {told}")


ENDS = TWICE + """
twice("count", "peers", {from = "tls_data", by = "peer", comm = "ops"})
twice("sum", "ports", {from = "tls_data", by = {"rport", "dir"}, comm = "ops"})
twice("hist", "addresses", {from = "tls_data", by = "raddr", rport = {PORTS}})
twice("count", "only", {from = "tls_data", by = {"raddr", "pid"}, raddr = "::1"})
"""


@case()
def aggregate_ends(lab):
    """Addresses and ports as keys: IPv4, IPv6, and one in the other."""
    talks = [start(lab, ["i", "r:100000", "w:4000"], ["i", "w:100000", "r:4000"], address=a)
             for a in ("127.0.0.1", "::1", "::")]
    ports = [c.args[3] for _, c in talks]
    pids = [w for pair in talks for p in pair for w in ("-p", str(p.pid))]
    tracer = lab.tracer(*pids, script=ENDS.replace("PORTS", ", ".join(ports)))
    for pair in talks:
        for p in pair:
            p.say()
    for pair in talks:
        for p in reversed(pair):
            p.finish()
    found = both_same(tracer.finish().records)
    peers = {row["key"][0] for row in found["peers"]["data"]}
    want = {f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}", f"127.0.0.1:{ports[2]}"}
    check(want < peers and len(peers) == 6, f"{peers} has not {want} and three more")
    check({r["key"][0] for r in found["only"]["data"]} == {"::1"}, found["only"])


@case(needs=["apt-get", "dpkg-deb"], timeout=500)
def aggregate_go(lab):
    """Goroutines, which change threads in mid-call."""
    program = named(lab, golang.talk(lab, "newest", "stripped_pie"))
    address, server = served(lab, program)
    tracer = lab.tracer("--comm", os.path.basename(program), script=KINDS.replace("FROM", "gotls_*"))
    client, server = conversation(lab, program, "raw", address, server)
    found = both_same(tracer.stop().records)
    pids = {row["key"][0] for row in found["count us"]["data"]}
    check(pids == {client.pid, server.pid}, f"{pids}")


@ktls_case()
def aggregate_ktls(lab):
    """The kernel's own TLS: sends and receives of every kind, with their control records and peeks."""
    p = ktls.talk(lab, *ktls.WALK)
    pids = [p.pid, *children(p.pid)]
    tracer = lab.tracer(*(w for pid in pids for w in ("-p", str(pid))),
                        script=KINDS.replace("FROM", "ktls_*"))
    p.say()
    p.finish()
    found = both_same(tracer.finish().records)
    check({row["key"][0] for row in found["steps"]["data"]} <= {"ktls_send", "ktls_recv"},
          found["steps"])


KTLS_DRAINS = """
on.start(function() emit{type = "ready"} end)
local traffic = stats("traffic", {from = "ktls_*", by = {"dir", "tid"}})
local calls = count("calls", {from = "ktls_*"})
local events, sum = 0, 0
on("ktls_*", {capture = 0, peek = false}, function() events = events + 1 end)
local function take()
    for _, row in ipairs(traffic:drain():top()) do
        sum = sum + row.value.count
    end
end
every("5ms", take)
on.stop(function()
    take()
    emit{type = "sums", sum = sum, events = events, calls = calls:get()}
end)
"""


@ktls_case(timeout=120)
def aggregate_ktls_drained(lab):
    """Intervals of the kernel's own TLS, of six processes at a time."""
    talks = [ktls.talk(lab, *ktls.WALK) for _ in range(3)]
    pids = [pid for p in talks for pid in (p.pid, *children(p.pid))]
    tracer = lab.tracer(*(w for pid in pids for w in ("-p", str(pid))), script=KTLS_DRAINS)
    for p in talks:
        p.say()
    for p in talks:
        p.finish()
    sums = next(r for r in tracer.finish().records if r["type"] == "sums")
    check(sums["sum"] == sums["events"] == sums["calls"] > 300, sums)


BOXED = TWICE + """
twice("sum", "boxes", {from = "tls_data", by = {"container", "dir"}})
twice("count", "groups", {from = "tls_data", by = {"cgroup"}})
"""


@case(timeout=120)
def aggregate_containers(lab):
    """By container: also of programs that are gone when it is looked at."""
    box = docker("web")
    with cgroups.tree(lab, "none", box[0]) as top, cgroups.files(lab, **box[1]):
        inside = [flood(lab, f"flood-{n}", f"{top}/{box[0]}") for n in range(2)]
        outside = flood(lab, "flood-none", f"{top}/none")
        pids = [str(p.pid) for p in (*inside, outside)]
        tracer = lab.tracer(*(w for p in pids for w in ("-p", p)), script=BOXED)
        said(*inside, outside)
        found = both_same(tracer.finish().records, "boxes", "groups")
    rows = {tuple(r["key"]): r["value"] for r in found["boxes"]["data"]}
    check(rows == {("web", "in"): 1000, ("web", "out"): 1000, (None, "in"): 500,
                   (None, "out"): 500}, rows)
    check(len(found["groups"]["data"]) == 2, found["groups"])
