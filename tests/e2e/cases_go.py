# SPDX-License-Identifier: MIT
"""Programs of Go that Debian's compilers built, of several versions and in several ways."""
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import time

import golang
from golang import REPLY, check_all, check_connections, connections, message, said, talk
from harness import TLSSCOPE, bpf_gone, bpf_ids, both_sides, brief, case, check, same, wait_for
from web import farewell, frames, http2_bodies

WORKERS, ROUNDS = 200, 4  # what talk does if nothing else is said
# New goroutines get small stacks, so that these grow in the middle of calls.
ENV = {"GOMAXPROCS": "2", "GODEBUG": "adaptivestackstart=0"}


def named(lab, program):
    """The program under a name, and so with a comm, that no other case has."""
    link = lab.path(f"talk{os.getpid()}")
    if not os.path.lexists(link):
        os.symlink(program, link)
    return link


def go_case(name, doc, *arguments, timeout=500):
    """Declares a case of func; compilers are fetched and programs built within its time."""
    def add(func):
        def run(lab):
            func(lab, *arguments)
        run.__name__, run.__doc__ = name, doc
        case(needs=["apt-get", "dpkg-deb"], timeout=timeout)(run)
        return func
    return add


def of_each(name, variants):
    """A case a version of Go; variants: how each is built."""
    def add(func):
        for (version, _), variant in zip(golang.SUITES.items(), variants):
            go_case(f"go_{version.replace('.', '_')}_{variant}_{name}", func.__doc__, version,
                    variant)(func)
        return func
    return add


# --- many goroutines

def served(lab, program, kind="raw"):
    address = f"127.0.0.1:{lab.port()}"
    return address, lab.spawn([program, kind, "server", address], ready=b"listening", env=ENV)


def conversation(lab, program, kind, address, server):
    """With this server; its and its client's own checks hold."""
    client = lab.run([program, kind, "client", address], env=ENV)
    stop_all(server)
    return client, server


def stop_all(*processes):
    for p in processes:
        p.stop()
        check(not p.returncode, f"{p.args[0]} ended with {p.returncode}: {p.err()}")


def crowd(lab, version, variant):
    program, seen, talked = named(lab, talk(lab, version, variant)), {}, {}
    # Each in its turn: what a slow machine has not looked at yet fits in the buffer.
    for kind in ("raw", "h1", "h2"):
        server = served(lab, program, kind)
        tracer = lab.tracer("--comm", os.path.basename(program))
        talked[kind] = conversation(lab, program, kind, *server)
        seen[kind] = tracer.stop()
    for kind in ("raw", "h1"):
        for process in talked[kind]:
            check_all(seen[kind], process)
    check(any(t["in"]["threads"] for p in talked["raw"] for t in connections(p)),
          "no Read began on one thread and ended on another")
    check(len(connections(talked["raw"][0])) == WORKERS, "not all goroutines had a connection")
    check_http2_crowd(seen["h2"], *talked["h2"])


def check_http2_crowd(seen, client, server):
    mine = both_sides(seen.flows(pids=[client.pid]), seen.flows(pids=[server.pid]), WORKERS // 50,
                      farewell)
    numbers = []
    for f in mine:
        asked, got = http2_bodies(f.sent), http2_bodies(f.received)
        check(asked.keys() == got.keys(), f"{f}: streams {sorted(asked.keys() ^ got.keys())}")
        for stream, body in asked.items():
            numbers.append(message(body))
            check(message(got[stream]) == numbers[-1] | REPLY,
                  f"{f}: the answer on stream {stream} is another's")
    check(sorted(numbers) == list(range(WORKERS * ROUNDS)), "not each message once")


# Version after version, so that two jobs seldom wait for one compiler.
for _variant in golang.VARIANTS:
    for _version in golang.SUITES:
        if _variant.startswith("cgo") and _version not in ("1.15", "newest"):
            continue
        go_case(f"go_{_version.replace('.', '_')}_{_variant}_200_goroutines",
                "HTTP/1.1, HTTP/2 and bare TLS: every byte, call, goroutine and descriptor.",
                _version, _variant)(crowd)


# --- calls of many kinds

def alone(lab, version, variant, kind, others=0, arguments=()):
    """One process that has both ends; (the process, {name: flow}, the flows it did not tell of)."""
    program = named(lab, talk(lab, version, variant))
    p = lab.spawn([program, "-wait", kind], ready=b"waiting", stdin=subprocess.PIPE, env=ENV)
    tracer = lab.tracer("-p", str(p.pid), arguments=arguments)
    p.say()
    p.finish()
    known, unknown = check_connections(tracer.finish(), p)
    check(len(unknown) == others, f"{len(unknown)} connections more than told: {unknown}")
    return p, known, unknown


PLAIN = ["plain"] * 4
REUSED = [1, 1, 7, 7, 8, 8, 63, 64, 65, 65, 16383, 16384] + [100 + n * 100 for n in range(40)]
MIXED = ["stripped_pie", "plain", "stripped_pie", "plain"]
OTHER = ["plain", "stripped_pie", "plain", "stripped_pie"]


@of_each("data_with_error", MIXED)
def ends(lab, version, variant):
    """n > 0 with io.EOF or a time-out is an event; empty, late and closed calls are none."""
    p, _, _ = alone(lab, version, variant, "ends")
    half = {way: [h for t in connections(p) for h in t[way]["half"] or []] for way in ("in", "out")}
    check(len(half["in"]) == 2 and all(h == [100, "EOF"] for h in half["in"]),
          f"Read with io.EOF: {half['in']}")
    why = [h[1] for h in half["out"]]
    check(len(why) == 2 and "timeout" in why[0] and "close" in why[1], f"half a Write: {half}")
    check(sum(len(t[way]["empty"] or []) for t in connections(p) for way in ("in", "out")) >= 10,
          "not the calls that transfer nothing")


@of_each("reused", PLAIN)
def reused(lab, version, variant):
    """A buffer that is somebody else's when Write returns: its bytes are told of, and not shown."""
    program = named(lab, talk(lab, version, variant))
    p = lab.spawn([program, "-wait", "reused"], ready=b"waiting", stdin=subprocess.PIPE, env=ENV)
    tracer = lab.tracer("-p", str(p.pid))
    p.say()
    p.finish()
    seen = tracer.finish()
    flows = seen.flows(whole=False)
    client = next(f for f in flows if f.sent)
    server = next(f for f in flows if len(f.received) == sum(REUSED))
    text = b"".join(b"%07x.%07x\n" % (9, n) for n in range(sum(REUSED) // CELL + 1))
    same("what arrived", server.received, text[:sum(REUSED)])
    pos = 0
    for n, (call, size) in enumerate(zip(client.calls, REUSED)):
        check(call["len"] == size and call["truncated"] == bool(n % 2), f"call {n}: {brief(call)}")
        same(f"call {n}", call["data"], b"" if n % 2 else text[pos:pos + size])
        pos += size
    check(f"{sum(REUSED[1::2])} bytes not readable" in seen.stderr, seen.stderr)


@of_each("dropped", MIXED)
def dropped(lab, version, variant):
    """Memory of connections that nobody closed, or that are just being closed, serves others."""
    p, known, _ = alone(lab, version, variant, "dropped")
    told = next(t for t in said(p) if "again" in t)
    check(told["again"] > 20, f"only {told['again']} were where another one had been")
    check(told["reborn"], "none came to be while another one was being closed")
    for t in connections(p):
        for name in ("laddr", "raddr"):
            where = {f"{c[name]}:{c[name[0] + 'port']}" for c in known[t["conn"]].calls if c.get(name)}
            check(where <= {t[name]}, f"{t['conn']}: {name} is {where}, not {t[name]}")


@of_each("descriptors", OTHER)
def descriptors(lab, version, variant):
    """TCP, IPv6 and Unix sockets have theirs; a pipe and wrapped connections have none."""
    p, _, _ = alone(lab, version, variant, "fds")
    fds = {t["conn"].split(",")[0]: t["fd"] for t in connections(p)}
    check(all((fd < 0) == (name in ("pipe", "wrapped")) for name, fd in fds.items()), f"{fds}")


@of_each("descriptor_0", MIXED)
def descriptor_0(lab, version, variant):
    """A socket in the place of stdin."""
    p, _, _ = alone(lab, version, variant, "stdin")
    check([t["fd"] for t in connections(p)][0] == 0, "not descriptor 0")


@of_each("stack_moves_in_read", OTHER)
def stack_moves_in_read(lab, version, variant):
    """Buffers on stacks that the runtime copies elsewhere, larger or smaller, while Read runs."""
    p, _, _ = alone(lab, version, variant, "stack")
    check(said(p)[0]["copied"] > 500, f"stacks were seldom moved: {said(p)[0]}")


@of_each("wakes_on_another_thread", MIXED)
def wakes_on_another_thread(lab, version, variant):
    """Read waits on one thread and ends on another; the event's thread is that of the end."""
    p, known, _ = alone(lab, version, variant, "park")
    moved = [(known[t["conn"]], at, after) for t in connections(p) if t["conn"] in known
             for at, _, after in t["in"]["threads"] or []]
    check(len(moved) > 20, f"only {len(moved)} Reads changed their thread")
    ends = [[c for c in f.calls if c["dir"] == "in"][at]["tid"] == after for f, at, after in moved]
    # It can change again between Read's end and the program's look at it, on a slow machine often.
    check(sum(ends) >= 0.6 * len(ends), f"{len(ends) - sum(ends)} of {len(ends)} on a wrong thread")


@of_each("tls_over_tls", OTHER)
def tls_over_tls(lab, version, variant):
    """Both layers in one goroutine, each on its own connection."""
    p, known, bare = alone(lab, version, variant, "layers", others=2)
    for name, f in known.items():
        if name.startswith("outer"):
            check(f.sent[1] == 3 and f.received[1] == 3, f"{name}: not TLS in TLS: {f.sent[:9]!r}")
    # An outer layer that the program told nothing of: its two ends must agree.
    client, server = sorted(bare, key=lambda f: f.sent[5:6] != b"\1")  # ClientHello
    both_sides([client], [server], 1, tls_records)
    for data in (client.sent, server.sent):
        check(tls_records(data), f"not whole records of TLS: {data[:40]!r}")
    check({c.get("fd") is not None for c in client.calls} == {True}, "no descriptor outside")
    inner = [t for t in connections(p) if t["conn"].startswith("bare")]
    check(len(inner) == 2 and all(t["conn"] in known for t in inner), "no inner layer was seen")


def tls_records(data):
    while data:
        size = 5 + int.from_bytes(data[3:5], "big")
        if data[1:2] != b"\3" or not 20 <= data[0] <= 23 or len(data) < size:
            return False
        data = data[size:]
    return True


# --- programs that are not as Go made them

def changed(lab, name, program, old, new, after=b""):
    """A copy with the bytes `old`, the first ones behind `after`, replaced by `new`."""
    with open(program, "rb") as f:
        data = f.read()
    at = data.index(old, data.index(after))
    return lab.write(name, data[:at] + new + data[at + len(old):], 0o755)


def listed(lab, program):
    """What -l says of a file: the line of the file, {function: (how, its places)}, the last line."""
    lines = lab.run([TLSSCOPE, "-l", "--lib", program]).out().decode().splitlines()
    found = [re.match(r" +(crypto/tls\S+) +\S+ +([^:]+): (.*)", line) for line in lines]
    return lines[0], {m[1]: (m[2], m[3]) for m in found if m}, lines[-1]


# gopclntab's magic number of Go 1.20 and up, and one that none has.
MAGIC, UNKNOWN = b"\xf1\xff\xff\xff\0\0\1\x08", b"\x77\xff\xff\xff\0\0\1\x08"


@go_case("go_symbols_and_debug_info_serve_second",
         "Without gopclntab: the same places by DWARF, by the symbol table; without all, a word.")
def second_sources(lab):
    program = talk(lab, "1.24", "plain")
    _, real, _ = listed(lab, program)
    check(len(real) == 6 and {how for how, _ in real.values()} == {"gopclntab"}, f"{real}")
    hidden = changed(lab, "hidden", program, MAGIC, UNKNOWN)
    lab.need("strip")
    for how in ("DWARF", "symtab"):
        if how == "symtab":
            lab.run(["strip", "--strip-debug", hidden])
        first, found, last = listed(lab, hidden)
        check("go1.24" in first and "in registers" in first, first)
        same(how, found, {name: (how, places) for name, (_, places) in real.items()})
        check("unknown form" in last and last.endswith(": symbols and DWARF are used instead"), last)
    lab.run(["strip", "--strip-all", hidden])
    p = lab.run([TLSSCOPE, "-l", "--lib", hidden], status=1)
    check(b"unknown form" in p.out() and b"no symbols or DWARF" in p.out(), p.out())


@go_case("go_goid_by_debug_info_or_not_at_all",
         "A version that is not known: by DWARF. A wrong one: the goroutines have no numbers.")
def goids(lab):
    program = talk(lab, "1.24", "plain")
    for name, says, by, known in (("newer", b"go1.99", "DWARF", True),
                                  ("older", b"go1.14", "version", False)):
        other = changed(lab, f"{name}{os.getpid()}", program, b"go1.24", says, b"\xff Go buildinf:")
        first, _, _ = listed(lab, other)
        check(says.decode() in first and f"goid by {by}" in first, first)
        record = lab.path(name)
        lab.run([TLSSCOPE, "-w", record, "-c", f"{other} -n 2 -m 1 raw both 127.0.0.1:{lab.port()} "
                 f">{record}.said", "-e", "on.tls_data(function() end)"])
        told = [json.loads(line) for line in open(record + ".said") if '"conn"' in line]
        seen = lab.run([TLSSCOPE, "-r", record, "-f", "json", "-e",
                        "on.gotls_read(function(e) emit{len = e.len, goid = e.goid} end)"])
        calls = [json.loads(line) for line in seen.out().splitlines() if b'"len"' in line]
        same("the Reads", sorted(c["len"] for c in calls),
             sorted(n for t in told for n in t["in"]["calls"]))
        same("the goroutines", {c.get("goid") for c in calls},
             {g for t in told for g in t["in"]["goids"]} if known else {None})


# --- programs that come, change and go

def waiting_client(lab, program, address, *options):
    return lab.spawn([program, "-wait", *options, "raw", "client", address], ready=b"waiting",
                     stdin=subprocess.PIPE, env=ENV)


@of_each("starts_after_the_tracer", OTHER)
def starts_after_the_tracer(lab, version, variant):
    """A file that no process had mapped when tlsscope began."""
    program = lab.path(f"late{os.getpid()}")
    tracer = lab.tracer("--comm", os.path.basename(program))
    shutil.copy(talk(lab, version, variant), program)
    address, server = served(lab, program)
    client = waiting_client(lab, program, address, "-n", "20")
    tracer.wait_until("attachment to the new program", program.encode())
    client.say()
    client.finish()
    stop_all(server)
    seen = tracer.stop()
    check_all(seen, client)
    check_all(seen, server)


@of_each("waits_when_tracing_begins", MIXED)
def waits(lab, version, variant):
    """A server waits in Read for the next request: that it gets it is told as a call not shown."""
    program = named(lab, talk(lab, version, variant))
    address, server = served(lab, program, "h1")
    name, port = address.split(":")
    client = http.client.HTTPSConnection(name, int(port), timeout=20,
                                         context=ssl._create_unverified_context())

    def said_by(number):
        """As sizeOf of message.go says of most numbers, and of these."""
        size = (number * 2654435761 % 2**32 >> 12) % 1500
        text = b"".join(b"%07x.%07x\n" % (number, n) for n in range(size // CELL + 1))
        return b"#%07x +%08x%14s" % (number, size, b"\n") + text[:size]

    def ask(number):
        client.request("POST", "/", body=said_by(number))
        same("the answer", message(client.getresponse().read()), number | REPLY)
    ask(1)
    tracers = [lab.tracer("-p", str(server.pid)), lab.tracer("--comm", os.path.basename(program)),
               lab.tracer("--comm", "nobody")]
    ask(2)
    ask(3)
    client.close()
    stop_all(server)
    for tracer, wants in zip(tracers, (True, True, False)):
        seen = tracer.stop()
        text = b"".join(f.received for f in seen.flows(whole=False))
        # The second request's head ended the Read.
        check(text.count(b"POST") == wants and (said_by(3) in text) == wants, f"seen: {text}")
        told = "1 calls not shown: they had begun before they were asked for" in seen.stderr
        check(told == wants, f"told: {seen.stderr}")


@of_each("of_option_c_is_seen_from_its_start", MIXED)
def command(lab, version, variant):
    """A file that no process had mapped, started by tlsscope itself: not a byte is missed."""
    program = lab.path(f"mine{os.getpid()}")
    shutil.copy(talk(lab, version, variant), program)
    tracer = lab.tracer("-c", f"{program} -n 3 raw both 127.0.0.1:{lab.port()} >{lab.path('said')}",
                        ready=False)
    seen = tracer.finish()
    with open(lab.path("said")) as f:
        told = [json.loads(line) for line in f if line.startswith("{")]
    sums = {t["conn"]: golang.digest_of(t) for t in told if "conn" in t}
    found = [golang.digests(f) for f in seen.flows()]
    check(len(sums) == 6 and sorted(sums.values()) == sorted(found), f"{seen.flows()}, not {sums}")


RECORDED = """
on.gotls_read({capture = "all"}, function(e)
    emit{type = "call", goid = e.goid, fd = e.conn.fd, func = e.func, kind = e.kind, len = e.len}
end)
on.tls_data({capture = "all"}, function(e) assert(e.data) end)
"""


@go_case("go_recipes_and_replay",
         "The recipes know Go; a recording keeps goroutine and descriptor.")
def recipes(lab):
    program, record = talk(lab, "1.24", "stripped_pie"), lab.path("record")
    command = f"{program} -n 2 -m 1 raw both 127.0.0.1:{lab.port()} >{lab.path('said')}"
    live = lab.run([TLSSCOPE, "-w", record, "-f", "json", "-c", command, "-e", RECORDED])
    replay = lab.run([TLSSCOPE, "-r", record, "-f", "json", "-e", RECORDED])
    same("replay", replay.out(), live.out())
    calls = [json.loads(line) for line in live.out().splitlines() if b'"call"' in line]
    with open(lab.path("said")) as f:
        told = [json.loads(line) for line in f if '"conn"' in line]
    check(sorted(c["len"] for c in calls) == sorted(n for t in told for n in t["in"]["calls"]),
          f"not the Reads: {calls}")
    check({c["fd"] for c in calls} == {t["fd"] for t in told}, f"not the descriptors: {calls}")
    check({c["goid"] for c in calls} == {g for t in told for g in t["in"]["goids"]},
          f"not the goroutines: {calls}")
    text = lab.run([TLSSCOPE, "-r", record, "sniff"]).out()
    for number in (0, REPLY):  # the header of others is written in pieces
        check(text.count(b"#%07x +" % number) == 2, f"sniff shows message {number:x} not twice")
    check(b"crypto/tls.(*Conn).Read talk" in text and b"crypto/tls.(*Conn).Write talk" in text,
          f"sniff does not name the functions: {text[:300]!r}")
    for recipe in ("hexsniff", "tlstop", "iosize", "libs"):
        said = lab.run([TLSSCOPE, "-r", record, recipe])
        check(said.out().strip() and "error" not in said.err(), f"{recipe}: {said.err()}")


@go_case("go_program_replaced_and_deleted_while_it_runs",
         "The old program and the one renamed over it; then both, when neither has a name.")
def replaced(lab):
    program = lab.path(f"swap{os.getpid()}")
    shutil.copy(talk(lab, "1.19", "stripped"), program)
    old_address, old = served(lab, program)
    tracer = lab.tracer("--comm", os.path.basename(program))
    shutil.copy(talk(lab, "newest", "stripped_pie"), program + ".new")
    os.rename(program + ".new", program)
    before = tracer.output().count(b'"attach"')
    new_address, new = served(lab, program)
    wait_for("attachment to the new program",
             lambda: tracer.output().count(b'"attach"') > before)
    clients = [waiting_client(lab, program, a, "-n", "10") for a in [old_address, new_address] * 2]
    for c in clients[:2]:
        c.say()
        c.finish()
    # What the servers said so far is the first tracer's to see.
    first = tracer.stop()
    os.unlink(program)
    tracer = lab.tracer("--comm", os.path.basename(program))
    for c in clients[2:]:
        c.say()
        c.finish()
    second = tracer.stop()
    stop_all(old, new)
    versions = {r["go"] for p in (old, new) for r in said(p) if "go" in r}
    check(len(versions) == 2, f"not two versions of Go: {versions}")
    for seen, mine in ((first, clients[:2]), (second, clients[2:])):
        for c in mine:
            check_all(seen, c)
        for client, server in zip(mine, (old, new)):
            both_sides(seen.flows(pids=[client.pid]), seen.flows(pids=[server.pid]), 10)


# --- torture

TORTURE = {"GOMAXPROCS": "2", "GODEBUG": "gcstoptheworld=1,adaptivestackstart=0", "GOGC": "1"}
CELL = 16


def check_endless(flow):
    """Both directions are a piece, without a hole, of the endless text that talk sends there."""
    for data in (flow.sent, flow.received):
        start = data.find(b"\n") + 1
        found = re.match(rb"([0-9a-f]{7})\.([0-9a-f]{7})\n", data[start:])
        if not found:
            check(len(data) < 2 * CELL, f"{flow}: not its text: {data[:60]!r}")
            continue
        tag, first = int(found[1], 16), int(found[2], 16)
        text = b"".join(b"%07x.%07x\n" % (tag, n)
                        for n in range(first - 1, first + len(data) // CELL + 2))
        same(f"{flow}: its text", data, text[CELL - start:][:len(data)])


def torture(lab, version, variant):
    """A hundred times attached to and detached from, while stacks move and garbage is collected."""
    program = named(lab, talk(lab, version, variant))
    address = f"127.0.0.1:{lab.port()}"
    server = lab.spawn([program, "torture", "server", address], ready=b"listening", env=TORTURE)
    client = lab.spawn([program, "-n", "30", "torture", "client", address], env=TORTURE)
    seen_bytes, busy, changed, ids = 0, 0, 0, set()
    for n in range(100):
        mine = ["-p", str(server.pid), "-p", str(client.pid)] if n % 2 else \
            ["--comm", os.path.basename(program)]
        tracer = lab.tracer(*mine)
        if n % 10 == 0:
            ids |= bpf_ids(tracer.process.pid)
        time.sleep(0.05)
        seen = tracer.stop()
        os.unlink(tracer.file)
        # They talk endlessly: on a busy machine more than the buffer holds, which is told.
        if "events lost: the ring buffer was full" in seen.stderr:
            busy += 1
            continue
        # As `reused`: the collector runs all the time.
        if "no longer what was written" in seen.stderr:
            changed += 1
            continue
        for f in seen.flows():
            check_endless(f)
            seen_bytes += len(f.sent) + len(f.received)
        for p in (server, client):
            check(p.poll() is None, f"round {n}: {p.args} ended: {p.err()[-2000:]}")
    stop_all(server)
    client.finish()
    check(busy < 50, f"events were lost in {busy} of 100 runs")
    check(changed < 10, f"bytes were somebody else's in {changed} of 100 runs")
    check(seen_bytes > 1000000, f"only {seen_bytes} bytes were seen")
    check(said(server)[0]["copied"] > 1000, f"stacks were seldom moved: {said(server)[0]}")
    bpf_gone(ids)


for _version, _variant in (("1.15", "stripped"), ("newest", "stripped_pie")):
    go_case(f"go_{_version.replace('.', '_')}_{_variant}_torture", torture.__doc__, _version,
            _variant, timeout=560)(torture)
