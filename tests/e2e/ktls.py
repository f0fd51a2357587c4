# SPDX-License-Identifier: MIT
"""What tests/victims/ktls.c sends, and whether tlsscope saw it as the program tells it."""
import contextlib
import fcntl
import functools
import os
import re
import socket
import subprocess

from golang import said, same_list
from harness import Fail, Skip, case, check, children, same

TCP_ULP = 31
UNSUPPORTED = 77  # how the victim ends where the kernel lacks something
AES = ["AES_128_GCM", "AES_256_GCM"]
CHACHA20 = ["CHACHA20_POLY1305"]
CONTENT = {"alert": b"\x01\x5a", "handshake": b"\x04\x00\x00\x0cnew session."}
# Calls that the kernel sends in as many of its own as it likes: before 6.5 a page each.
BY_PAGES = {"sendfile", "splice", "vmsplice"}
PROBE = {"in": "ktls_recv", "out": "ktls_send"}

# Each way to send and each to receive, in each direction; few and many pieces, parts of records and
# many of them.
WALK = """
    send/recv:1 <send/recv:2 send/recv:15 <send/recv:17 write/read:16 <write/read:3000
    writev/readv:1000 <writev/readv:20000 wide/wide:3000 <wide/wide:60000
    sendmsg/recvmsg:300 <sendmsg/recvmsg:20000 send/recvmsg:500*6
    sendmmsg/recvmmsg:3000 <sendmmsg/recvmmsg:2 more/recv:3000 <more/recvmsg:20000
    sendfile/recv:100 <sendfile/read:50000 splice/recv:5000 <splice/waitall:90000
    vmsplice/recv:3000 <vmsplice/recv:60000
    uring_send/uring_recv:1000 <uring_send/uring_recv:20000
    uring_writev/uring_readv:3000 <uring_writev/uring_readv:20000
    uring_fixed/uring_fixed:3000 <uring_fixed/uring_fixed:28000
    send/peek:100*3 <send/peek:20000@9000 send/waitall:1000*5
    write/splice:3000 <write/splice:40000 <sendfile/splice:30000 splice/readv:17000
    send/read:5000@1000 <send/read:16385@5000 short/recv:200000
    fail <fail alert <alert handshake <handshake send/recv:100 <send/recv:100
""".split()


# --- this kernel

def missing():
    """Why the kernel makes no records here, or None."""
    with socket.create_server(("127.0.0.1", 0)) as listener, \
            socket.create_connection(listener.getsockname()) as s:
        try:
            s.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        except OSError as e:
            return f"this kernel has no kTLS, or its module tls is not there ({e.strerror})"
    return None


@contextlib.contextmanager
def module(lab, how):
    """fcntl.LOCK_SH: the module stays; LOCK_EX: nobody else's case uses it."""
    with open(os.path.join(lab.base, "ktls.lock"), "w") as lock:
        fcntl.flock(lock, how)
        yield


def ktls_case(name=None, arguments=(), needs=(), timeout=60):
    """Declares a case that is skipped where there is no kTLS."""
    def add(func):
        @functools.wraps(func)
        def run(lab):
            with module(lab, fcntl.LOCK_SH):
                why = missing()
                if why:
                    raise Skip(why)
                func(lab, *arguments)
        run.__name__ = name or func.__name__
        case(needs, timeout)(run)
        return func
    return add


# --- the victim

def program(lab):
    return lab.victim("ktls", libs=())


def talk(lab, *arguments):
    """Started, with its first connection there; it goes on after say()."""
    try:
        return lab.spawn([program(lab), "-w", *arguments], ready=b"waiting",
                         stdin=subprocess.PIPE)
    except Fail:
        p = lab.errors[-1]
        if p.returncode == UNSUPPORTED:
            raise Skip(p.err().strip())
        raise


def tap(lab, *options, want="all", probes="ktls_send,ktls_recv"):
    return lab.tracer(*options, arguments=[want, "-", probes])


def traced(lab, *talks, **how):
    """Lets these talk, one after the other, on one connection each; what was seen."""
    pids = [pid for p in talks for pid in (p.pid, children(p.pid)[0])]
    tracer = tap(lab, *(word for pid in pids for word in ("-p", str(pid))), **how)
    for p in talks:
        p.say()
        p.finish()
    return tracer.finish()


def talked(lab, *arguments, **how):
    """One that talks, traced from its first byte on; (what was seen, the process)."""
    p = talk(lab, *arguments)
    return traced(lab, p, **how), p


def text(tag, at, n):
    """n bytes of a direction, from a position on."""
    first = at // 16
    cells = b"".join(b"%07x.%07x\n" % (tag, i) for i in range(first, (at + n) // 16 + 1))
    return cells[at - first * 16:][:n]


# --- what it tells against what was seen

def check_all(seen, *processes, controls=True):
    """Each connection, both directions: every byte and call, once, in order, and nothing else."""
    for p in processes:
        tellings = said(p)
        check(tellings, "ktls told nothing")
        for t in tellings:
            check_connection(of_connection(seen, t), t, controls)
    pids = {t["pid"] for p in processes for t in said(p)}
    conns = {(c["pid"], c["conn"]) for c in seen.calls if c["pid"] in pids}
    count = sum(len(said(p)) for p in processes)
    check(len(conns) == count, f"{len(conns)} connections seen, {count} told: {conns}")


def of_connection(seen, t):
    """The events of one connection of one process."""
    found = [c for c in seen.calls if c["pid"] == t["pid"] and c.get("lport") == t["lport"]]
    check(found, f"nothing seen of {whose(t)}")
    conns = {c["conn"] for c in found}
    check(len(conns) == 1, f"{whose(t)} was seen as connections {conns}")
    return found


def whose(t):
    return f"the {t['conn']} ({t['version']}, {t['cipher']}, process {t['pid']}, port {t['lport']})"


def check_connection(calls, t, controls=True):
    for c in calls:
        check_fields(c, t)
    for way in ("in", "out"):
        mine = [c for c in calls if c["dir"] == way]
        data = [c for c in mine if c["record"] == "data"]
        check_data(f"{whose(t)}, {way}", [c for c in data if not c["peeked"]], t[way])
        check_peeks(f"{whose(t)}, {way}", [c for c in data if c["peeked"]], t[way])
        rest = [(c["record"], c["len"], c["peeked"]) for c in mine if c["record"] != "data"]
        same_list(f"{whose(t)}, {way}: control records", rest,
                  [(x[0], x[1], len(x) > 3) for x in t[way]["controls"]] if controls else [])


def check_fields(c, t):
    about = {k: c[k] for k in ("len", "dir", "func", "pid")}
    check(not c["truncated"] and not c["gap"] and len(c["data"]) == c["len"],
          f"not whole: {about}, {len(c['data'])} bytes, gap {c['gap']}")
    for name in ("laddr", "lport", "raddr", "rport", "version", "cipher"):
        # An IPv4 address is shown as such, whatever the socket's family.
        want = str(t[name]).removeprefix("::ffff:") if name in t else None
        check(not want or str(c.get(name)) == want,
              f"{whose(t)}: {name} is {c.get(name)}, not {t[name]}: {about}")
    check(c["kind"] == "ktls" and c["lib"] == "kernel" and c["ktls"] is True and
          c["probe"] == PROBE[c["dir"]] and re.fullmatch(r"tls_\w+", c["func"]),
          f"kind {c['kind']}, lib {c['lib']}, ktls {c['ktls']}, probe {c['probe']}: {about}")
    check(c["record"] == "data" or c["data"] == CONTENT[c["record"]],
          f"record '{c['record']}' has {c['data']!r}")


def check_data(name, calls, told):
    same(name, b"".join(c["data"] for c in calls), text(told["tag"], 0, told["bytes"]))
    got, want = [], []
    rest = [c["len"] for c in calls]
    for how, n, _ in told["calls"]:
        mine = [rest.pop(0)] if rest else []
        while rest and how in BY_PAGES and name.endswith("out") and sum(mine) < n:
            mine.append(rest.pop(0))
        got.append((how, sum(mine)))
        want.append((how, n))
    same_list(f"{name}: the calls", got + [("none", n) for n in rest], want)


def check_peeks(name, calls, told):
    same_list(f"{name}: peeks", [c["len"] for c in calls], [n for _, n, _ in told["peeks"]])
    for c, (_, n, at) in zip(calls, told["peeks"]):
        same(f"{name}: a peek", c["data"], text(told["tag"], at, n))


# --- for transfers too large for JSON

FILES = """
local folder, names = ...
config{buffer = "64M"}
local files = {}
on.start(function() emit{type = "ready"} end)
local function keep(e)
    if e.record and e.record ~= "data" then return end
    local name = ("%s/%d-%d-%s"):format(folder, e.pid, e.conn.id, e.dir)
    files[name] = files[name] or assert(io.open(name, "wb"))
    files[name]:write(e.data or "")
    emit{type = "call", pid = e.pid, conn = e.conn.id, comm = e.comm, dir = e.dir, len = e.len,
         n = #(e.data or ""), whole = not (e.truncated or e.gap or e.peeked), kind = e.kind,
         func = e.func, ktls = e.ktls, lport = e.conn.lport, rport = e.conn.rport,
         version = e.conn.version}
end
for name in names:gmatch("[^,]+") do on(name, {capture = "all"}, keep) end
on.lost(function(l)
    emit{type = "lost", events = l.events, bytes = l.bytes, reasons = l.reasons}
end)
on.stop(function() for _, f in pairs(files) do f:close() end end)
on.attach(function(a) emit{type = "attach", path = a.path, problem = a.problem} end)
"""


class Keeper:
    """A tracer that writes what it sees into a file a direction of a connection."""

    def __init__(self, lab, *options, probes="tls_data"):
        lab.count += 1
        self.folder = lab.path(f"kept{lab.count}")
        os.mkdir(self.folder)
        self.tracer = lab.tracer("--unsafe", *options, script=FILES,
                                 arguments=[self.folder, probes])

    def stop(self):
        records = self.tracer.stop().records
        lost = [r for r in records if r["type"] == "lost"]
        check(not lost, f"something was lost: {lost}")
        self.calls = [r for r in records if r["type"] == "call"]
        for c in self.calls:
            check(c["whole"] and c["n"] == c["len"], f"not whole: {c}")
        return self

    def flows(self, pids):
        """{(pid, conn): {"in": bytes, "out": bytes, "calls": events}} of these processes."""
        found = {}
        for c in self.calls:
            if c["pid"] in pids:
                f = found.setdefault((c["pid"], c["conn"]), {"in": b"", "out": b"", "calls": []})
                f["calls"].append(c)
        for (pid, conn), f in found.items():
            for way in ("in", "out"):
                path = f"{self.folder}/{pid}-{conn}-{way}"
                if os.path.exists(path):
                    with open(path, "rb") as data:
                        f[way] = data.read()
        return found

    def flow(self, *pids):
        """The one connection of these processes."""
        found = list(self.flows(pids).values())
        check(len(found) == 1, f"{len(found)} connections of {pids} instead of one: " + str(
            [(len(f["in"]), len(f["out"]), f["calls"][:2]) for f in found]))
        return found[0]
