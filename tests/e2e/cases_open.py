# SPDX-License-Identifier: MIT
"""When connections begin, how their handshakes go, and how they end."""
import json
import os
import re
import shutil
import struct
import subprocess
import sys

import golang
import suites
from cases_go_programs import esbuild_of, esbuild_serves, tool, webhook_serves
from harness import PYTHON, ROOT, TLSSCOPE, case, check, wait_for

sys.path.insert(0, os.path.join(ROOT, "tests", "man"))
import recording  # noqa: E402

READY = """
on.start(function() emit{type = "ready"} end)
"""
CLOSES = READY + """
on.tls_close(function(e)
    emit{type = "close", pid = e.pid, comm = e.comm, how = e.how, bytes_in = e.conn.bytes_in,
         bytes_out = e.conn.bytes_out, duration = e.duration_ms, opened = e.conn.opened_ns,
         nsecs = e.nsecs}
end)
"""
SERVE = """
import socket, ssl, sys
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain(sys.argv[2])
l = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    try:
        s = c.wrap_socket(l.accept()[0], server_side=True)
        while s.send(s.recv(1000)):
            pass
    except OSError:
        pass
"""
TALK = """
import os, socket, ssl, sys, time
c = ssl._create_unverified_context()
def talk(n):
    s = c.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    for _ in range(n):
        s.send(b"x" * 100)
        s.recv(100)
    return s
"""


def mine(name):
    """The comm of a program that `named` starts: each case has a process of its own."""
    return f"{name}{os.getpid()}"


def named(lab, program, name):
    """A program under a name of this case's own: there are others of its kind at the same time."""
    path = lab.path(mine(name))
    if not os.path.exists(path):
        os.symlink(program, path)
    return path


def server(lab, code=SERVE):
    port = lab.port()
    lab.spawn([named(lab, PYTHON, "serves"), lab.write("serve.py", code), str(port), lab.both],
              port=port)
    return port


def client(lab, name, port, code, *argv, **options):
    """A python program of that name: comm tells it from the server."""
    return lab.run([named(lab, PYTHON, name), lab.write(f"{name}.py", TALK + code), str(port), *argv],
                   **options)


def recorded(data):
    """The records of a file: their types and bodies."""
    at = 16
    while at < len(data):
        size, kind = struct.unpack_from("=IH", data, at)
        yield kind, data[at:at + size]
        at += size


def of(seen, kind, comm):
    return [r for r in seen.records if r["type"] == kind and r.get("comm") == mine(comm)]


@case()
def close_tells_how(lab):
    """Bytes each way, how long, and how: freed, or with the process; nobody asked for the data."""
    port = server(lab)
    tracer = lab.tracer(script=CLOSES)
    client(lab, "frees", port, "s = talk(7)\ntime.sleep(0.3)\ns.close()\ndel s\ntime.sleep(0.3)\n")
    client(lab, "leaves", port, "s = talk(3)\nos._exit(0)\n")
    wait_for("ends", lambda: all(any(r["type"] == "close" and r.get("comm") == mine(name)
                                     for r in tracer.records()) for name in ("frees", "leaves")))
    seen = tracer.stop()
    (a,), (b,) = of(seen, "close", "frees"), of(seen, "close", "leaves")
    check((a["how"], a["bytes_in"], a["bytes_out"]) == ("freed", 700, 700), str(a))
    check((b["how"], b["bytes_in"], b["bytes_out"]) == ("process ended", 300, 300), str(b))
    check(300 <= a["duration"] < 10000, str(a))
    check(a["nsecs"] > a["opened"], str(a))
    check(700 in [c["bytes_in"] for c in of(seen, "close", "serves")],
          "the server's side was not seen")


REBORN = """
rounds = int(sys.argv[2])
s = talk(rounds)
if rounds > 1:
    os.execv(sys.executable, [sys.executable, sys.argv[0], sys.argv[1], str(rounds - 1)])
os._exit(0)
"""


@case()
def close_by_exec(lab):
    """A program that becomes another leaves its connections."""
    port, rounds = server(lab), 12
    tracer = lab.tracer(script=CLOSES + """
        on.tls_data(function(e) if e.gap then emit{type = "gap", comm = e.comm} end end)
        on.exec(function(e) emit{type = "exec", pid = e.pid} end)""")
    p = client(lab, "reborn", port, REBORN, str(rounds))
    wait_for("the last end", lambda: sum(r["type"] == "close" and r["pid"] == p.pid
                                         for r in tracer.records()) == rounds)
    seen = tracer.stop()
    closes = [r for r in seen.records if r["type"] == "close" and r["pid"] == p.pid]
    check([(c["how"], c["bytes_in"]) for c in closes] ==
          [("process ended", 100 * n) for n in range(rounds, 0, -1)], str(closes))
    told = [r["type"] for r in seen.records if r.get("pid") == p.pid]
    check(told[-2 * rounds:] == ["exec", "close"] * rounds, str(told))
    check(not of(seen, "gap", "reborn"), "bytes are missing")


@case()
def close_filtered(lab):
    """The options of target choose whose ends are told, in the kernel too; others cost no record."""
    port = server(lab)
    script = CLOSES.replace("on.tls_close(", f'on.tls_close({{comm = "{mine("wanted")}"}}, ')
    record = lab.path("filtered.rec")
    tracer = lab.tracer("-w", record, script=script)
    for name in ("wanted", "other"):
        client(lab, name, port, "s = talk(3)\ns.close()\n")
    tracer.wait_until("end of a connection", b'"close"')
    seen = tracer.stop()
    comms = {r["comm"] for r in seen.records if r["type"] == "close"}
    check(comms == {mine("wanted")}, str(comms))
    with open(record, "rb") as f:
        kinds = {kind for kind, body in recorded(f.read()) if mine("other").encode() + b"\0" in body}
    check(not kinds & {recording.DATA, recording.CLOSE}, f"of another program: {kinds}")


@case(needs=["curl", "openssl"])
def conns_recipe(lab):
    """A line a connection, in both formats."""
    port = lab.port()
    lab.spawn(["openssl", "s_server", "-accept", str(port), "-cert", lab.cert, "-key", lab.key,
               "-www"], port=port)
    get = f"curl -sS -o /dev/null --cacert {lab.cert} https://localhost:{port}/"
    text = lab.run([TLSSCOPE, "-c", get, "conns"])
    check(b"  close_notify\n" in text.out() and b"  curl[" in text.out(), text.out())
    out = lab.path("conns.json")
    lab.run([TLSSCOPE, "-f", "json", "-o", out, "-c", get, "conns"])
    with open(out) as f:
        (c,) = [json.loads(line) for line in f]
    check(c["comm"] == "curl" and c["how"] == "close_notify" and c["bytes_in"] > 1000 and
          c["bytes_out"] > 50 and 0 < c["duration_ns"] < 10e9, str(c))


def many_connections(lab, n):
    """A recording of n connections that never end."""
    r = recording.Recording()
    r.record(recording.START, struct.pack("=QQ", r.now, recording.WALL), "6.1.0", "host")
    r.record(recording.SOURCE, struct.pack("=II", 2, 1), "openssl", "SSL_write", recording.LIB)
    p = recording.Program(r, "many", 77, 1, 0, "root", "/many", "many")
    for i in range(n):
        p.conn = 4096 + i
        r.now += 1000
        r.data(recording.DATA, p, recording.OUT, b"", 100, 100)
    r.record(recording.STOP, struct.pack("=QiI", r.now, -1, 0))
    return lab.write("many.rec", b"".join(r.out))


@case(timeout=180)
def memory_is_bounded(lab):
    """What is kept of connections that never end, and of their states, has a bound, which is told."""
    keep = "on.tls_data(function(e) e.conn.state.n = 1 end)\n" \
           "local n = 0\n" \
           "on.tls_close(function(e) n = n + 1 assert(e.conn.state.n == 1) end)\n" \
           "on.stop(function() print(n) end)"
    for n, code, limit in ((1_000_000, "on.tls_data(function() end)", 150), (600_000, keep, 640)):
        p = lab.run([PYTHON, "-c", "import resource, subprocess, sys\n"
                     "subprocess.run(sys.argv[1:], check=True)\n"
                     "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)",
                     TLSSCOPE, "-r", many_connections(lab, n), "-e", code], timeout=90)
        closed, peak = n - (256 << 10), int(p.out().split()[-1]) >> 10
        check(f"{closed} connections were forgotten" in p.err(), p.err())
        check(code != keep or int(p.out().split()[0]) == closed, p.out())
        check(peak < limit, f"{peak} MiB of memory for {n} connections")


OPENS = READY + """
local function show(e)
    emit{type = e.probe, pid = e.pid, comm = e.comm, func = e.func, conn = e.conn.id, err = e.err,
         ms = e.duration_ms, resumed = e.resumed, version = e.conn.version, cipher = e.conn.cipher,
         alpn = e.conn.alpn, sni = e.conn.sni, role = e.conn.role}
end
on.tls_open(show)
on.tls_error(show)
"""


def opened(seen, comm):
    return of(seen, "tls_open", comm)


def failed(seen, comm):
    """A handshake that failed is one event of each kind, with the same reason."""
    opens, errors = of(seen, "tls_open", comm), of(seen, "tls_error", comm)
    check(len(opens) == 1 and len(errors) == 1, f"{comm}: {opens} {errors}")
    check(opens[0]["err"] and opens[0]["err"] == errors[0]["err"], f"{opens} {errors}")
    return opens[0]["err"]


def same_as(event, **wanted):
    for name, value in wanted.items():
        check(event.get(name) == value, f"{name} is {event.get(name)!r}, not {value!r}: {event}")


@case()
def open_tells_all(lab):
    """Versions, ciphers, sides, ALPN and resumption, as the programs themselves say; no plaintext."""
    port = server(lab, SERVE.replace("l = sock", "c.set_alpn_protocols(['h2', 'x/1', 'x' * 255])\nl = sock"))
    record = lab.path("open.rec")
    tracer = lab.tracer("-w", record, script=OPENS)
    code = """
for version, protocol in (ssl.TLSVersion.TLSv1_2, "x/1"), (ssl.TLSVersion.TLSv1_3, "x" * 255):
    c.set_alpn_protocols([protocol])
    c.minimum_version = c.maximum_version = version
    session = None
    for _ in range(2):
        s = c.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))),
                          server_hostname="a.example", session=session)
        s.send(b"x")
        s.recv(1)
        session = s.session
        print(s.version(), s.cipher()[2], s.selected_alpn_protocol(), s.session_reused)
        s.close()
"""
    p = client(lab, "asks", port, code)
    said = [line.split() for line in p.out().decode().splitlines()]
    check(len(said) == 4 and [s[3] for s in said] == ["False", "True"] * 2, str(said))
    tracer.wait_until("the last handshake", f'"{mine("asks")}"'.encode())
    seen = tracer.stop()
    asked = opened(seen, "asks")
    check(len(asked) == 4, str(asked))
    others = opened(seen, "serves")
    check(len(others) == 4, str(others))
    for said, client_, server_ in zip(said, asked, others):
        for e, role in ((client_, "client"), (server_, "server")):
            same_as(e, version=said[0], alpn=said[2], resumed=said[3] == "True", role=role, err=None,
                    # A server of OpenSSL forgets it with the session of TLS 1.2.
                    sni=None if role == "server" and said[0] == "TLSv1.2" and said[3] == "True"
                    else "a.example")
            check(f"_AES_{said[1]}_GCM_" in e["cipher"], str(e))
            check(0 < e["ms"] < 5000, str(e))
    check(not of(seen, "tls_error", "asks"), "errors where there are none")
    with open(record, "rb") as f:
        kinds = {kind for kind, _ in recorded(f.read())}
    check(recording.OPEN in kinds and recording.DATA not in kinds, f"kinds of records: {kinds}")


@case()
def open_inside_calls(lab):
    """Handshakes inside reads and writes, and in many steps, are told once, before what they carry."""
    port = server(lab)
    tracer = lab.tracer(script=OPENS.replace("on.tls_error(show)", """
        on.tls_data(function(e) emit{type = "call", comm = e.comm, conn = e.conn.id} end)"""))
    for name, code in (
            ("writes", "s.send(b'x')\ns.recv(1)\n"),
            ("steps", """
import select
s.setblocking(False)
while True:
    try:
        s.do_handshake()
        break
    except ssl.SSLWantReadError:
        select.select([s], [], [])
for _ in range(3):
    s.do_handshake()
s.setblocking(True)
s.send(b'x')
s.recv(1)
"""),
            ("waits", "s.settimeout(0.4)\ntry:\n s.recv(1)\nexcept TimeoutError:\n pass\ns.send(b'x')\n")):
        client(lab, name, port, "s = c.wrap_socket(socket.create_connection(('127.0.0.1', "
               "int(sys.argv[1]))), do_handshake_on_connect=False)\n" + code)
    seen = tracer.stop()
    for name, func in (("writes", "ssl_write_internal"), ("steps", "SSL_do_handshake"),
                       ("waits", "ssl_read_internal")):
        kinds = [r["type"] for r in seen.records if r.get("comm") == mine(name)]
        check(kinds[0] == "tls_open" and kinds.count("tls_open") == 1 and "call" in kinds,
              f"{name}: {kinds}")
        (e,) = opened(seen, name)
        same_as(e, func=func, version="TLSv1.3", role="client")
        check(0 < e["ms"] < 300, str(e))


EARLY = READY + """
local function show(e)
    emit{type = e.probe == "tls_open" and "open" or e.early and "early" or "later", pid = e.pid,
         err = e.err, resumed = e.resumed}
end
on.tls_open(show)
on.tls_data(show)
"""


def of_early_data(lab, root="/", chroot=()):
    """Early data, then the handshake, which goes on with a session, then the rest; at both ends."""
    folder = f"/tmp/{lab.case.name}{os.getpid()}"
    os.makedirs(root + folder)
    shutil.copy(lab.both, f"{root}{folder}/both.pem")
    port, session = lab.port(), f"{root}{folder}/session"
    with open(f"{root}{folder}/early", "w", encoding="ascii") as f:
        f.write("early\n")

    def talk(*options):
        return lab.spawn([*chroot, "openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options],
                         stdin=subprocess.PIPE)
    try:
        serves = lab.spawn([*chroot, "openssl", "s_server", "-accept", str(port), "-early_data",
                            "-cert", f"{folder}/both.pem", "-key", f"{folder}/both.pem"], port=port,
                           stdin=subprocess.PIPE)
        first = talk("-sess_out", f"{folder}/session")
        wait_for("a session", lambda: os.path.exists(session) and os.path.getsize(session))
        first.stdin.close()
        first.finish()
        tracer = lab.tracer("--comm", "openssl", script=EARLY)
        asks = talk("-sess_in", f"{folder}/session", "-early_data", f"{folder}/early")
        wait_for("early data", lambda: b"Early data was accepted" in asks.out())
        asks.say()
        tracer.wait_until("what comes later", b'"later"')
        asks.stop()
        seen = tracer.stop()
    finally:
        shutil.rmtree(root + folder)
    for p in (asks, serves):
        saw = [r for r in seen.records if r.get("pid") == p.pid]
        check([r["type"] for r in saw][:2] == ["early", "open"], f"{saw}")
        same_as(saw[1], resumed=True, err=None)


@case(needs=["openssl"])
def open_of_early_data(lab):
    """This system's OpenSSL."""
    of_early_data(lab)


def early_data_of(suite):
    def run(lab):
        root = suites.unpacked(lab, suite)
        of_early_data(lab, root, ("chroot", root))
    run.__name__ = f"open_of_early_data_of_{suite}"
    run.__doc__ = "As open_of_early_data, whatever the version."
    case(timeout=300)(run)


for _suite in ("bullseye", "trixie", "sid"):
    early_data_of(_suite)


@case(needs=["openssl", "curl"])
def open_fails(lab):
    """Handshakes that fail: the wrong certificate, no version in common, no TLS at all, an end."""
    port = lab.port()
    lab.spawn([named(lab, "/usr/bin/openssl", "oserve"), "s_server", "-accept", str(port), "-cert",
               lab.cert, "-key", lab.key, "-tls1_3", "-www"], port=port)
    tracer = lab.tracer(script=OPENS)
    lab.run([named(lab, "/usr/bin/curl", "ocurl"), "-sS", f"https://localhost:{port}/"], status=60)
    client(lab, "old", port, "c.maximum_version = ssl.TLSVersion.TLSv1_2\ntalk(1)\n", status=1)
    client(lab, "plain", port, "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
           "s.send(b'GET / HTTP/1.0\\r\\n\\r\\n')\ns.recv(100)\n")
    seen = tracer.stop()
    check(failed(seen, "ocurl").startswith("certificate verify failed: self-signed certificate"),
          str(opened(seen, "ocurl")))
    check(failed(seen, "old") == "alert received: protocol_version", str(opened(seen, "old")))
    reasons = [r["err"] for r in opened(seen, "oserve") if r["err"]]
    check("unsupported protocol" in reasons and "http request" in reasons, str(reasons))
    check(any("unknown_ca" in r for r in reasons), str(reasons))
    check(all(r["role"] == "server" for r in opened(seen, "oserve")), str(reasons))


@case()
def open_ends_early(lab):
    """What ends in mid-handshake has failed too: reset, given back, or with its process."""
    port = lab.port()
    tracer = lab.tracer(script=OPENS)
    listen = lab.spawn([PYTHON, "-c", "import socket, sys, struct\n"
                        f"l = socket.create_server(('127.0.0.1', {port}))\n"
                        "for _ in range(2):\n s = l.accept()[0]\n s.recv(10)\n"
                        " s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n"
                        " s.close()\nl.accept()[0].recv(100000)\nl.accept()[0].recv(100)\n"
                        "import time\ntime.sleep(20)"], port=port)
    client(lab, "reset", port, "talk(1)", status=1)
    client(lab, "quiet", port, """
s = c.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))),
                  do_handshake_on_connect=False)
s.settimeout(0.3)
try:
    s.do_handshake()
except OSError:
    pass
""")
    client(lab, "frees", port, """
a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
o = c.wrap_bio(a, b)
try:
    o.do_handshake()
except ssl.SSLWantReadError:
    del o
time.sleep(0.2)
""")
    seen = tracer.stop()
    listen.stop()
    check(failed(seen, "reset") == "the connection broke", str(opened(seen, "reset")))
    check(failed(seen, "frees") == "ended before the handshake was done", str(opened(seen, "frees")))


@case(needs=["openssl"])
def errors_after_the_handshake(lab):
    """A connection that breaks later is an error of its own; one that ends as it should is none."""
    port = server(lab)
    tracer = lab.tracer(script=OPENS.replace("on.tls_open(show)", "") + CLOSES.replace(READY, ""))
    client(lab, "whole", port, "s = talk(2)\ns.close()\n")
    listen = """
import socket, ssl, struct, sys
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain(sys.argv[2])
l = socket.create_server(("127.0.0.1", int(sys.argv[1])))
s = c.wrap_socket(l.accept()[0], server_side=True)
s.recv(1)
raw = socket.socket(fileno=s.detach())
raw.send(b"this is no TLS record at all")
raw.recv(1)
"""
    broken = lab.port()
    lab.spawn([PYTHON, lab.write("broken.py", listen), str(broken), lab.both], port=broken)
    # What was wrong differs by the library's version; this program prints what it notes, first to last.
    p = lab.run([named(lab, "/usr/bin/openssl", "broken"), "s_client", "-quiet", "-connect",
                 f"127.0.0.1:{broken}"], input="x", status=None)
    seen = tracer.stop()
    check(not of(seen, "tls_error", "whole"), str(of(seen, "tls_error", "whole")))
    (e,) = of(seen, "tls_error", "broken")
    noted = re.search(r":error:[0-9A-F]+:SSL routines:[^:]*:([^:]+):", p.err())
    check(noted, p.err())
    same_as(e, err=noted[1], ms=None)
    (c,) = of(seen, "close", "broken")
    same_as(c, how="error")


@case()
def an_alert_is_no_close_notify(lab):
    """After a fatal alert OpenSSL says of each later read that the other end has closed."""
    tracer = lab.tracer(script=CLOSES)
    code = """
import ssl, sys
theirs, ours = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
ours.load_cert_chain(sys.argv[1])
out, into = ssl.MemoryBIO(), ssl.MemoryBIO()
one = theirs.wrap_bio(into, out, server_hostname="localhost")
other = ours.wrap_bio(out, into, server_side=True)
for call in (one.do_handshake, other.do_handshake) * 2 + (other.read,) * 2:
    try:
        print(call())
    except ssl.SSLError as e:
        print(type(e).__name__, e.reason)
"""
    p = lab.run([named(lab, PYTHON, "alerted"), lab.write("alerted.py", code), lab.both])
    check("TLSV1_ALERT_UNKNOWN_CA" in p.out().decode() and p.out().endswith(b"b''\n"), p.out())
    seen = tracer.stop()
    hows = [c["how"] for c in of(seen, "close", "alerted")]
    check(hows == ["error", "error"], str(hows))


@case()
def errors_of_a_reset(lab):
    """SSL_read_ex, which says 0 where SSL_read says -1: a reset is an error there too."""
    port = lab.port()
    lab.spawn([PYTHON, lab.write("resets.py", """
import socket, ssl, struct, sys
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain(sys.argv[2])
l = socket.create_server(("127.0.0.1", int(sys.argv[1])))
for _ in range(2):
    s = c.wrap_socket(l.accept()[0], server_side=True)
    s.recv(1)
    raw = socket.socket(fileno=s.detach())
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()
"""), str(port), lab.both], port=port)
    tracer = lab.tracer(script=OPENS.replace("on.tls_open(show)", ""))
    talk = "try:\n    talk(1)\nexcept OSError:\n    pass\n"
    client(lab, "reset", port, talk)
    client(lab, "again", port, talk)
    seen = tracer.stop()
    for comm in ("reset", "again"):
        (e,) = of(seen, "tls_error", comm)
        same_as(e, err="the connection broke", ms=None)


# Each server's handshake is done in the callback of the one before.
NESTED = """
import socket, ssl, sys, threading
ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
ours.load_cert_chain(sys.argv[1])
theirs = ssl._create_unverified_context()
left = int(sys.argv[2])
def nest(*_):
    global left
    if not left:
        return
    left -= 1
    a, b = socket.socketpair()
    t = threading.Thread(target=lambda: theirs.wrap_socket(a, server_hostname="x").recv(1))
    t.start()
    s = ours.wrap_socket(b, server_side=True)
    s.send(b"x")
    s.close()
    t.join()
ours.sni_callback = nest
nest()
"""


@case()
def handshakes_too_deep(lab):
    """More calls in each other than are followed: what became of a handshake is told, or nothing is."""
    tracer = lab.tracer(script=OPENS)
    lab.run([named(lab, PYTHON, "deep"), lab.write("deep.py", NESTED), lab.both, "6"])
    seen = tracer.stop()
    opens = opened(seen, "deep")
    check([e["err"] for e in opens if "err" in e] == [], str(opens))
    check([e["role"] for e in opens].count("client") == 6 and len(opens) == 10, str(opens))
    check(re.search("^tlsscope: [24] calls not shown: they never returned$", seen.stderr, re.M), seen.stderr)


LATE_READER = """
import socket, ssl, sys, threading, time
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain(sys.argv[2])
l = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def serve(raw):
    try:
        s = c.wrap_socket(raw, server_side=True)
        late = s.recv(1) == b"l"
        time.sleep(0.5 if late else 60)
        while s.recv(65536):
            pass
    except OSError:
        pass
while True:
    threading.Thread(target=serve, args=[l.accept()[0]], daemon=True).start()
"""
WRITES = """
s = c.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
s.send(sys.argv[2].encode())
s.setblocking(False)
def write(n):
    try:
        return s.send(b"x" * n)
    except ssl.SSLWantWriteError:
        return 0
"""


@case()
def unfinished_writes(lab):
    """Bytes of a write that fails are sent all the same: told where it is not repeated."""
    port = server(lab, LATE_READER)
    tracer = lab.tracer(script=READY + """
        on.tls_write({capture = 0}, function(e) emit{type = "write", comm = e.comm, len = e.len} end)
        on.lost(function(l) emit{type = "lost", n = l.reasons.unfinished, events = l.events} end)
        on.exit(function(e) emit{type = "exit", pid = e.pid} end)""")
    client(lab, "frees", port, WRITES + "assert not write(20 << 20)\ns.close()\ndel s\n", "never")
    p = client(lab, "leaves", port, WRITES + "assert not write(20 << 20)\nos._exit(0)\n", "never")
    client(lab, "repeats", port, WRITES + "while not write(20 << 20):\n    time.sleep(0.05)\n", "late")
    # Of a single record nobody can read a part.
    client(lab, "fills", port, WRITES + "while write(16384):\n    pass\n", "never")
    wait_for("an end", lambda: any(r["type"] == "exit" and r["pid"] == p.pid
                                   for r in tracer.records()))
    seen = tracer.stop()
    told = [r for r in seen.records if r["type"] == "lost"]
    check(sum(r["n"] for r in told) == sum(r["events"] for r in told) == 2, str(told))
    check("2 writes not shown: they failed, but part of them may have gone out" in seen.stderr,
          seen.stderr)
    check([r["len"] for r in of(seen, "write", "repeats")] == [4, 20 << 20], "not the repeated write")


def open_of_go(lab, version, variant):
    """Both ends of connections in one Go program, and one that fails."""
    program = named(lab, golang.talk(lab, version, variant), "gotalk")
    talk = lab.spawn([program, "-wait", "fds"], ready=b"waiting", stdin=subprocess.PIPE)
    tracer = lab.tracer(script=OPENS)
    talk.say()
    talk.finish()
    address = f"127.0.0.1:{lab.port()}"
    serves = lab.spawn([named(lab, golang.talk(lab, version, variant), "gofails"), "raw", "server",
                        address], ready=b"listening")
    client(lab, "plain", int(address.split(":")[1]), "s = socket.create_connection(('127.0.0.1', "
           "int(sys.argv[1])))\ns.send(b'GET / HTTP/1.0\\r\\n\\r\\n')\ns.recv(100)\n")
    tracer.wait_until("a failure", f'"{mine("gofails")}"'.encode())
    seen = tracer.stop()
    serves.kill()
    check(failed(seen, "gofails") == "failed", str(opened(seen, "gofails")))
    opens = opened(seen, "gotalk")
    for role in ("client", "server"):
        ends = [e for e in opens if e["role"] == role]
        check(len(ends) >= 6 and {e["version"] for e in ends} == {"TLSv1.2", "TLSv1.3"}, str(ends))
    for e in opens:
        check(e["cipher"].endswith("TLS_AES_128_GCM_SHA256" if e["version"] == "TLSv1.3"
                                   else "_GCM_SHA256"), str(e))
        check(e.get("err") is None and e["resumed"] is False and 0 < e["ms"] < 10000, str(e))
        check(e["sni"] == "talk" and e.get("alpn") == "x" * 255, str(e))
    check(len({e["conn"] for e in opens}) == len(opens), "a connection was opened twice")


for go_version, go_variant in (("1.15", "plain"), ("1.19", "stripped_pie"), ("1.24", "plain"),
                               ("newest", "stripped_pie")):
    def of_this(lab, version=go_version, variant=go_variant):
        open_of_go(lab, version, variant)
    of_this.__name__ = f"open_of_go_{go_version.replace('.', '_')}_{go_variant}"
    case(timeout=500)(of_this)


HANDSHAKES = """
c.set_alpn_protocols(["x/1", "http/1.1"])
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    c.minimum_version = c.maximum_version = version
    session = None
    for _ in range(2):
        s = c.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))),
                          server_hostname="a.example", session=session)
        s.send(b"GET / HTTP/1.1\\r\\nHost: a.example\\r\\nConnection: close\\r\\n\\r\\n")
        while s.recv(4096):
            pass
        session = s.session
        print(s.version(), s.cipher()[2], s.selected_alpn_protocol(), s.session_reused)
        s.close()
"""


def open_of_server(lab, server, port):
    """What a Go program as it is shipped says of handshakes, by what its client says of them."""
    tracer = lab.tracer("-p", str(server.pid), script=OPENS)
    p = client(lab, "asks", port, HANDSHAKES)
    said = [line.split() for line in p.out().decode().splitlines()]
    check([s[3] for s in said] == ["False", "True"] * 2, str(said))
    events = [r for r in tracer.stop().records if r["type"] == "tls_open"]
    check(len(events) == 4, str(events))
    for (version, bits, alpn, resumed), e in zip(said, events):
        same_as(e, version=version, alpn=alpn, resumed=resumed == "True", role="server", err=None,
                sni="a.example")
        check(f"_AES_{bits}_GCM_" in e["cipher"], f"{bits} bits: {e}")
        check(0 < e["ms"] < 5000, str(e))


# What Go built them: 1.20, 1.22, 1.23.
for esbuild in ("0.21.5", "0.23.1", "0.25.10"):
    def of_esbuild(lab, version=esbuild):
        port = lab.port()
        open_of_server(lab, esbuild_serves(lab, esbuild_of(lab, version), port), port)
    of_esbuild.__name__ = f"open_of_esbuild_{esbuild.replace('.', '_')}"
    case(needs=["npm"], timeout=300)(of_esbuild)


@case(needs=["apt-get", "dpkg-deb"], timeout=300)
def open_of_webhook(lab):
    """Of Debian's unstable suite: built by Go 1.26, or by a newer one."""
    port = lab.port()
    hooks = lab.write("hooks.json", '[{"id": "say", "execute-command": "/bin/true"}]')
    open_of_server(lab, webhook_serves(lab, tool(lab, "sid", "webhook"), port, hooks), port)
