# SPDX-License-Identifier: MIT
"""When connections begin, how their handshakes go, and how they end."""
import json
import os
import struct
import sys

from harness import PYTHON, ROOT, TLSSCOPE, case, check

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


def server(lab):
    port = lab.port()
    lab.spawn([PYTHON, lab.write("serve.py", SERVE), str(port), lab.both], port=port)
    return port


def client(lab, name, port, code, **options):
    """A python program of that name: comm tells it from the server."""
    program = lab.path(name)
    if not os.path.exists(program):
        os.symlink(PYTHON, program)
    return lab.run([program, lab.write(f"{name}.py", TALK + code), str(port)], **options)


def recorded(data):
    """The records of a file: their types and bodies."""
    at = 16
    while at < len(data):
        size, kind = struct.unpack_from("=IH", data, at)
        yield kind, data[at:at + size]
        at += size


def of(seen, kind, comm):
    return [r for r in seen.records if r["type"] == kind and r.get("comm") == comm]


@case()
def close_tells_how(lab):
    """Bytes each way, how long, and how: freed, or with the process; nobody asked for the data."""
    port = server(lab)
    tracer = lab.tracer(script=CLOSES)
    client(lab, "frees", port, "s = talk(7)\ntime.sleep(0.3)\ns.close()\ndel s\ntime.sleep(0.3)\n")
    client(lab, "leaves", port, "s = talk(3)\nos._exit(0)\n")
    tracer.wait_until("end of a process", b"process ended")
    seen = tracer.stop()
    (a,), (b,) = of(seen, "close", "frees"), of(seen, "close", "leaves")
    check((a["how"], a["bytes_in"], a["bytes_out"]) == ("freed", 700, 700), str(a))
    check((b["how"], b["bytes_in"], b["bytes_out"]) == ("process ended", 300, 300), str(b))
    check(300 <= a["duration"] < 10000, str(a))
    check(a["nsecs"] > a["opened"], str(a))
    check(any(r["how"] == "freed" and r["bytes_in"] == 700
              for r in seen.records if r["type"] == "close" and r["pid"] != a["pid"]),
          "the server's side was not seen")


@case()
def close_filtered(lab):
    """The options of target choose whose ends are told, in the kernel too; others cost no record."""
    port = server(lab)
    script = CLOSES.replace("on.tls_close(", 'on.tls_close({comm = "wanted"}, ')
    record = lab.path("filtered.rec")
    tracer = lab.tracer("-w", record, script=script)
    for name in ("wanted", "other"):
        client(lab, name, port, "s = talk(3)\ns.close()\n")
    tracer.wait_until("end of a connection", b'"close"')
    seen = tracer.stop()
    check({r["comm"] for r in seen.records if r["type"] == "close"} == {"wanted"}, str(seen.records))
    with open(record, "rb") as f:
        kinds = {kind for kind, body in recorded(f.read()) if b"other\0" in body}
    check(not kinds & {recording.DATA, recording.CLOSE}, f"of another program: {kinds}")


@case(needs=["curl", "openssl"])
def conns_recipe(lab):
    """A line a connection, in both formats."""
    port = lab.port()
    lab.spawn(["openssl", "s_server", "-accept", str(port), "-cert", lab.cert, "-key", lab.key,
               "-www"], port=port)
    get = f"curl -sS -o /dev/null --cacert {lab.cert} https://localhost:{port}/"
    text = lab.run([TLSSCOPE, "-c", get, "conns"])
    check(b"  freed\n" in text.out() and b"  curl[" in text.out(), text.out())
    out = lab.path("conns.json")
    lab.run([TLSSCOPE, "-f", "json", "-o", out, "-c", get, "conns"])
    with open(out) as f:
        (c,) = [json.loads(line) for line in f]
    check(c["comm"] == "curl" and c["how"] == "freed" and c["bytes_in"] > 1000 and
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
    for n, code, limit in ((1_000_000, "on.tls_data(function() end)", 150), (600_000, keep, 400)):
        p = lab.run([PYTHON, "-c", "import resource, subprocess, sys\n"
                     "subprocess.run(sys.argv[1:], check=True)\n"
                     "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)",
                     TLSSCOPE, "-r", many_connections(lab, n), "-e", code], timeout=90)
        closed, peak = n - (256 << 10), int(p.out().split()[-1]) >> 10
        check(f"{closed} connections were forgotten" in p.err(), p.err())
        check(code != keep or int(p.out().split()[0]) == closed, p.out())
        check(peak < limit, f"{peak} MiB of memory for {n} connections")
