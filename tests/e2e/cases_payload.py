# SPDX-License-Identifier: MIT
"""Exact calls: what each one transferred is one event with exactly those bytes."""
import subprocess

from harness import Fail, Skip, both_sides, case, check, same, wait_for


def told(process):
    """What a victim says of its calls: [(name, ret, bytes)]."""
    found = []
    for line in process.out().decode().splitlines():
        words = line.split()
        if len(words) == 3 and words[0].startswith("SSL_"):
            found.append((words[0], int(words[1]), int(words[2])))
    return found


def stream(side, size):
    """The bytes that a side of ops writes: see ops.c."""
    out = b""
    for n in range((size + 63) // 64):
        out += b"%c%010d:" % (side, n) + bytes([97 + n % 26]) * 51 + b"\n"
    return out[:size]


def check_calls(flow, process, capture=None):
    """Each call that transferred something is one event, in order; nothing else is."""
    want = [("out" if "write" in name or "sendfile" in name else "in", size, "peek" in name)
            for name, _, size in told(process) if size]
    got = [(c["dir"], c["len"], bool(c["peeked"])) for c in flow.calls]
    if got != want:
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        raise Fail(f"calls from number {at} on: seen {got[at:at + 4]}, made {want[at:at + 4]} "
                   f"({len(got)} and {len(want)} in all)")
    for call in flow.calls:
        size = call["len"] if capture is None else min(call["len"], capture)
        check(len(call["data"]) == size, f"{len(call['data'])} bytes of a call of {call['len']}")
        check(call["truncated"] == (size < call["len"]),
              f"truncated is {call['truncated']} with {size} of {call['len']}")
        check(not call["gap"], f"a gap of {call['gap']}")


def start(lab, server, client, address="127.0.0.1", program=None, server_options=(),
          client_options=(), **options):
    """Runs both sides; returns their processes, the client perhaps still running."""
    program = program or [lab.victim("ops")]
    port = str(lab.port())
    common = [address, port, lab.cert, lab.key]
    s = lab.spawn([*program, "server", *common, *server_options, *server], ready=b"listening",
                  stdin=subprocess.PIPE, **options)
    if address == "::":
        common[0] = "127.0.0.1"
    c = lab.spawn([*program, "client", *common, *client_options, *client],
                  stdin=subprocess.PIPE, **options)
    return s, c


def exchange(lab, server, client, script=("all",), capture=None, files=(), **how):
    """Both sides from the first to the last call, and what was seen of them."""
    tracer = lab.tracer("--comm", "ops", *files, arguments=script)
    s, c = start(lab, server, client, **how)
    c.finish()
    s.finish()
    seen = tracer.stop()
    flows = []
    for p in (c, s):
        mine = seen.flows(pids=[p.pid], whole=capture is None)
        check(len(mine) == 1, f"{len(mine)} connections of {p.args[1]}: {mine}")
        check_calls(mine[0], p, capture)
        flows += mine
    if capture is None:
        both_sides(flows[:1], flows[1:], 1)
        same("client's out", flows[0].sent, stream(ord("C"), len(flows[0].sent)))
        same("server's out", flows[1].sent, stream(ord("S"), len(flows[1].sent)))
    return flows, seen


@case()
def ways_of_attaching(lab):
    """Every way that the kernel has, not only the one that is taken by itself."""
    for way in ("multi", "perf", "copies"):
        # By perf events a program of Go, with its many sites, takes seconds to detach from.
        exchange(lab, ["r:40000:5000", "W:70000"], ["w:40000", "R:70000:6000"],
                 script=["all", way], files=["--lib", "libssl"])


SIZES = [1, 63, 4095, 4096, 4097, 8191, 8192, 8193, 16383, 16384, 16385, 32768, 65536, 1 << 20]


@case()
def exact_sizes(lab):
    """Around every limit that such tools have had, with a record's 16384 and 1 MiB."""
    total = sum(SIZES)
    exchange(lab, [f"r:{total}:8192", "w:7"], [f"w:{n}" for n in SIZES] + ["r:7"])
    exchange(lab, [f"w:{n}" for n in SIZES] + ["r:7"], [f"r:{total}:65536", "w:7"])


@case()
def write_ex_read_ex(lab):
    total = sum(SIZES)
    (client, server), _ = exchange(lab, [f"R:{total}:10000", "W:9"],
                                   [f"W:{n}" for n in SIZES] + ["R:9:100"])
    check(server.calls[0]["probe"] == "ssl_read" and client.calls[0]["probe"] == "ssl_write",
          f"probes: {client.calls[0]['probe']}, {server.calls[0]['probe']}")


@case()
def write_ex2(lab):
    """Since OpenSSL 3.3; from 3.5 on SSL_write_ex is a tail jump to it."""
    if b"SSL_write_ex2" not in subprocess.run(
            ["sh", "-c", "nm -D $(ldconfig -p | sed -n 's/.*libssl.so.3.*=> //p' | head -1)"],
            stdout=subprocess.PIPE).stdout:
        raise Skip("this system's OpenSSL has no SSL_write_ex2")
    exchange(lab, ["r:30000"], ["X:10000", "W:10000", "w:10000"])


@case()
def default_capture(lab):
    """16 KiB of a call unless a script asks for more; len tells what it was."""
    exchange(lab, ["r:140000:65536"], ["w:100", "w:16383", "w:16384", "w:16385", "w:90748"],
             script=["default"], capture=16384)


@case()
def small_capture(lab):
    exchange(lab, ["r:5000:5000"], ["w:10", "w:99", "w:100", "w:101", "w:4690"], script=["100"],
             capture=100)


@case()
def no_capture(lab):
    """capture = 0: lengths only."""
    exchange(lab, ["r:5000:5000"], ["w:10", "w:4990"], script=["0"], capture=0)


@case()
def dropped_reference(lab):
    """SSL_free that only drops one of several references is not the connection's end."""
    exchange(lab, ["r:100:100", "u", "r:200:200", "w:5"], ["w:100", "u", "w:200", "u", "r:5"])


@case()
def partial_buffered_reads(lab):
    """One record read in many pieces: most SSL_reads make no system call at all."""
    exchange(lab, ["r:16384:100", "R:5000:33"], ["w:16384", "w:5000"])
    exchange(lab, ["r:16384:1000"], ["w:16384"], client_options=["-2"], server_options=["-2"])


@case()
def peek_flagged(lab):
    """Peeked bytes are shown as such, and are not counted as data."""
    (client, server), seen = exchange(
        lab, ["p:10", "P:20", "r:1000:400", "p:50", "r:2000"], ["w:1000", "d:200", "w:2000"])
    check(len(server.received) == 3000, f"{len(server.received)} bytes read, not 3000")
    peeked = [c["data"] for c in server.calls if c["peeked"]]
    check([len(p) for p in peeked] == [10, 20, 50], f"peeks of {[len(p) for p in peeked]}")
    check(client.sent.startswith(peeked[0]) and client.sent.startswith(peeked[1]),
          "the bytes of a peek are wrong")


@case()
def peek_first(lab):
    """A connection whose first call is a peek, and whose peek is all there is."""
    (client, server), _ = exchange(lab, ["p:100", "p:100"], ["w:100", "d:300"], capture=16384)
    check(not server.received and len(server.calls) == 2, "peeks counted as data")
    check(len(client.sent) == 100, "the write is missing")


@case()
def early_data(lab):
    program, n = lab.victim("early"), 4000
    tracer = lab.tracer("--comm", "early")
    p = lab.run([program, lab.cert, lab.key, str(n)])
    seen = tracer.stop()
    pids = dict(line.split() for line in p.out().decode().splitlines() if len(line.split()) == 2)
    text = b"".join(b"early %09d\n" % i for i in range(2 * n // 16))
    clients = seen.flows(pids=[int(pids["client"])])
    servers = seen.flows(pids=[int(pids["server"])])
    both_sides(clients, servers, 2)
    same("first connection", clients[0].sent, text[:n])
    same("early and later bytes", clients[1].sent, text)
    check(any("early" in c["func"] for c in clients[1].calls), "no call names early data: "
          f"{[c['func'] for c in clients[1].calls]}")


@case()
def zero_and_failing(lab):
    """Calls that transferred nothing make no event, and do no harm to those that follow."""
    exchange(lab, ["r:100", "w:50", "e"], ["z", "w:100", "z", "r:50", "z", "k"])


@case()
def retried_writes(lab):
    """A non-blocking write that must be repeated many times is shown once."""
    for more in ([], ["q"]):
        exchange(lab, ["d:300", "r:1048576:3000", "w:10"], ["n", *more, "w:1048576", "r:10"],
                 client_options=["-S"])
        exchange(lab, ["d:300", "R:500000:3000"], ["n", *more, "W:500000"], client_options=["-S"])


@case()
def nonblocking_reads(lab):
    """Reads that fail with WANT_READ between those that bring something."""
    (client, server), _ = exchange(lab, ["n", "r:3000", "R:3000"],
                                   [*["w:1000", "d:60"] * 3, *["W:1000", "d:60"] * 3])
    check(len(server.calls) >= 6, f"{len(server.calls)} reads, not 6")
    check(len(client.calls) == 6, f"{len(client.calls)} writes, not 6")


@case()
def two_threads(lab):
    """Two threads share one SSL: each direction stays whole and in order."""
    n = 200000
    tracer = lab.tracer("--comm", "ops")
    s, c = start(lab, [f"t:{n}"], [f"t:{n}"])
    c.finish()
    s.finish()
    seen = tracer.stop()
    mine, theirs = (seen.flows(pids=[p.pid]) for p in (c, s))
    both_sides(mine, theirs, 1)
    same("client's out", mine[0].sent, stream(ord("C"), n))
    same("server's out", theirs[0].sent, stream(ord("S"), n))
    check(len({call["tid"] for call in mine[0].calls}) == 2, "not two threads")
    check_calls(mine[0], c)


@case()
def descriptor_zero(lab):
    """The socket is fd 0."""
    exchange(lab, ["r:1000", "w:2000"], ["w:1000", "r:2000"], client_options=["-0"],
             server_options=["-0"])


@case()
def ipv6(lab):
    exchange(lab, ["r:1000", "w:2000"], ["w:1000", "r:2000"], address="::1")


@case()
def v4_mapped(lab):
    """An IPv6 socket that serves an IPv4 peer."""
    exchange(lab, ["r:1000", "w:2000"], ["w:1000", "r:2000"], address="::")


@case()
def tls_1_2(lab):
    exchange(lab, ["r:100000", "w:2000"], ["w:100000", "r:2000"], client_options=["-2"])


@case()
def sendfile_refused(lab):
    """Without kTLS SSL_sendfile fails; the calls around it are seen as ever."""
    exchange(lab, ["r:2000"], ["w:1000", "s:5000", "w:1000"])


@case()
def older_connection(lab):
    """A connection that was there before the tracer: its bytes are seen all the same."""
    s, c = start(lab, ["r:1000", "w:500", "i", "r:3000", "w:4000"],
                 ["w:1000", "r:500", "i", "w:3000", "r:4000"])
    wait_for("client", lambda: b"waiting" in c.out())
    wait_for("server", lambda: b"waiting" in s.out())
    tracer = lab.tracer("-p", str(s.pid), "-p", str(c.pid))
    s.say()
    c.say()
    c.finish()
    s.finish()
    seen = tracer.stop()
    mine, theirs = (seen.flows(pids=[p.pid]) for p in (c, s))
    both_sides(mine, theirs, 1)
    same("client's out", mine[0].sent, stream(ord("C"), 4000)[1000:])
    same("server's out", theirs[0].sent, stream(ord("S"), 4500)[500:])
