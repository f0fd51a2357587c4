# SPDX-License-Identifier: MIT
"""Addresses: of whom each connection is, compared with what the programs say of their sockets."""
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess

import golang
import suites
from cases_go import ENV, go_case
from harness import PYTHON, TLSSCOPE, case, check, wait_for


def shown(text):
    """What a program calls HOST:PORT, as (address, port); v4-mapped addresses as IPv4."""
    host, port = text.rsplit(":", 1)
    return host.strip("[]").removeprefix("::ffff:"), int(port)


def addresses(seen, **fields):
    """{(laddr, lport, raddr, rport)} of the events with these fields."""
    return {(c.get("laddr"), c.get("lport"), c.get("raddr"), c.get("rport"))
            for c in seen.calls if all(c.get(k) == v for k, v in fields.items())}


# --- Go

def said_of_go(*outputs):
    told = [json.loads(line) for out in outputs for line in out.splitlines() if b'"laddr"' in line]
    return {(*shown(t["laddr"]), *shown(t["raddr"])) for t in told}


@go_case("addresses_go", "Clients and servers over IPv4, IPv6 and v4-mapped, older ones too.")
def of_go(lab):
    program = lab.path(f"addr{os.getpid()}")
    shutil.copy(golang.talk(lab, "1.24", "stripped_pie"), program)
    for listen, connect in (("127.0.0.1", "127.0.0.1"), ("[::1]", "[::1]"), ("[::]", "127.0.0.1")):
        port = lab.port()
        server = lab.spawn([program, "raw", "server", f"{listen}:{port}"], ready=b"listening",
                           env=ENV)
        tracer = lab.tracer("--comm", os.path.basename(program))
        client = lab.run([program, "-n", "20", "raw", "client", f"{connect}:{port}"], env=ENV)
        server.stop()
        told = said_of_go(client.out(), server.out())
        check(len(told) == 40, f"the programs told of {len(told)} connections")
        seen = addresses(tracer.stop())
        check(seen == told, f"{listen}: seen {sorted(seen - told, key=str)[:4]}, not "
              f"{sorted(told - seen)[:4]}")


# --- OpenSSL

def asks(host, port, family):
    """One request by Python; its own two addresses."""
    context = ssl._create_unverified_context()
    with socket.socket(family) as s:
        s.connect((host, port))
        with context.wrap_socket(s) as t:
            t.sendall(b"GET / HTTP/1.0\r\n\r\n")
            ends = t.getsockname()[:2], t.getpeername()[:2]
            while t.recv(65536):
                pass
    return ends


def of_server(lab, server, port, host, family):
    """A server that runs already shows the one connection as its client does."""
    tracer = lab.tracer("-p", str(server.pid))
    local, remote = asks(host, port, family)
    found = addresses(tracer.stop())
    check(found == {(*remote, *local)}, f"seen {found}, not {remote}, {local}")


@case(needs=["openssl"])
def addresses_openssl(lab):
    """s_server, over IPv6 and v4-mapped."""
    port = lab.port()
    server = lab.spawn(["openssl", "s_server", "-accept", str(port), "-cert", lab.cert,
                        "-key", lab.key, "-www", "-quiet"], port=port)
    of_server(lab, server, port, "127.0.0.1", socket.AF_INET)
    of_server(lab, server, port, "::1", socket.AF_INET6)


def of_suite(suite):
    def run(lab):
        root, name = suites.unpacked(lab, suite), f"/tmp/addresses{os.getpid()}.pem"
        shutil.copy(lab.both, root + name)
        port = lab.port()
        server = lab.spawn(["chroot", root, "openssl", "s_server", "-accept", str(port),
                            "-cert", name, "-key", name, "-www", "-quiet"], port=port)
        os.unlink(root + name)
        of_server(lab, server, port, "127.0.0.1", socket.AF_INET)
    run.__name__ = f"addresses_openssl_of_{suite}"
    run.__doc__ = "Whatever the version, and where its libraries lie."
    case(timeout=300)(run)


for _suite in ("bullseye", "trixie", "sid"):
    of_suite(_suite)


OTHER_SOCKETS = """
import os, socket, ssl, sys
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(sys.argv[1])
client = ssl._create_unverified_context()

def talk(a, b, word):
    if os.fork() == 0:
        a.close()
        with context.wrap_socket(b, server_side=True) as t:
            t.sendall(t.recv(100))
            t.recv(100)
        os._exit(0)
    b.close()
    with client.wrap_socket(a) as t:
        print(word, t.fileno(), t.getsockname(), t.getpeername(), flush=True)
        t.sendall(word.encode())
        t.recv(100)
    os.wait()

print("ready", flush=True)
sys.stdin.readline()
listener = socket.create_server(("127.0.0.1", 0))
os.close(0)
a = socket.create_connection(listener.getsockname())
assert a.fileno() == 0, a
talk(a, listener.accept()[0], "zero")
path = sys.argv[2]
for word, name in (("path", path), ("abstract", "\\0" + os.path.basename(path))):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(name)
    listener.listen()
    a = socket.socket(socket.AF_UNIX)
    a.connect(name)
    talk(a, listener.accept()[0], word)
talk(*socket.socketpair(), "pair")
"""


@case()
def addresses_of_other_sockets(lab):
    """Descriptor 0; Unix sockets with a path, with an abstract name, and without any."""
    path = lab.path(f"sock{os.getpid()}")
    program = lab.spawn([PYTHON, "-u", "-c", OTHER_SOCKETS, lab.both, path], ready=b"ready",
                        stdin=subprocess.PIPE)
    script = """on.start(function() emit{type = "ready"} end)
        on.tls_data(function(e) local c = e.conn
            emit{type = "saw", dir = e.dir, data = e.data, fd = c.fd, family = c.family,
                laddr = c.laddr, raddr = c.raddr, peer = e.peer, pid = e.pid} end)"""
    tracer = lab.tracer("--comm", "python3", script=script)
    program.say()
    program.finish()
    tracer.process.stop(signal.SIGINT)
    saw = [r for r in tracer.records() if r["type"] == "saw" and r["data"] in
           ("zero", "path", "abstract", "pair")]

    def one(word, own):
        found = {(r.get("family"), r.get("laddr"), r.get("raddr")) for r in saw
                 if r["data"] == word and (r["pid"] == program.pid) == own}
        check(len(found) == 1, f"{word}: {found}")
        return found.pop()
    check({r["fd"] for r in saw if r["data"] == "zero" and r["pid"] == program.pid} == {0},
          "not descriptor 0")
    check(one("zero", True)[:2] == ("inet", "127.0.0.1"), f"{one('zero', True)}")
    name = "@" + os.path.basename(path)
    check(one("path", True) == ("unix", None, path), f"client: {one('path', True)}")
    check(one("path", False) == ("unix", path, None), f"server: {one('path', False)}")
    check(one("abstract", True) == ("unix", None, name), f"{one('abstract', True)}")
    check(one("abstract", False) == ("unix", name, None), f"{one('abstract', False)}")
    check(one("pair", True) == ("unix", None, None), f"{one('pair', True)}")


@case()
def addresses_of_own_bios(lab):
    """BIOs that say they are sockets', with descriptor 0: what that is, is not theirs."""
    ops = lab.victim("ops")
    tracer = lab.tracer("--comm", "ops", script="""
        on.start(function() emit{type = "ready"} end)
        on.tls_data(function(e) local c = e.conn
            emit{type = "saw", pid = e.pid, fd = c.fd, ends = c.laddr and
                {c.laddr, c.lport, c.raddr, c.rport}} end)""")
    pids = []
    other = socket.socketpair()
    for zero in (subprocess.DEVNULL, other[0]):
        common = ["127.0.0.1", str(lab.port()), lab.cert, lab.key]
        server = lab.spawn([ops, "server", *common, "r:100", "w:100"], ready=b"listening")
        client = lab.spawn([ops, "client", *common, "-b", "w:100", "r:100"], stdin=zero)
        client.finish()
        server.finish()
        pids.append((client.pid, server.pid))
    saw = tracer.stop().records
    for client, server in pids:
        mine, theirs = ([r for r in saw if r["type"] == "saw" and r["pid"] == pid]
                        for pid in (client, server))
        ends = theirs[0]["ends"]
        check(len(mine) == 2 and len(theirs) == 2, f"{mine} {theirs}")
        check({r.get("fd") for r in mine} == {None}, f"a descriptor: {mine}")
        check(all(r.get("ends") == ends[2:] + ends[:2] for r in mine), f"not {ends}: {mine}")


@case(needs=["openssl", "curl"])
def addresses_of_a_command(lab):
    """curl's BIOs are its own: its only connection shows its address, and a replay the same."""
    port, record = lab.port(), lab.path("record")
    lab.spawn(["openssl", "s_server", "-accept", str(port), "-cert", lab.cert, "-key", lab.key,
               "-www", "-quiet"], port=port)
    script = "on.tls_write(function(e) print(e.conn.family, e.peer, e.conn.raddr) end)"
    live = lab.run([TLSSCOPE, "-w", record, "-c", f"curl -sk https://127.0.0.1:{port}/ -o page",
                    "-e", script]).out().decode()
    check(live == f"inet\t127.0.0.1:{port}\t127.0.0.1\n", f"{live!r}")
    replay = lab.run([TLSSCOPE, "-r", record, "-e", script]).out().decode()
    check(replay == live, f"{replay!r}")


NO_SOCKET_THEN_ONE = """
import select, socket, ssl, sys, time
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(sys.argv[2])
client = ssl._create_unverified_context()

def side(context, is_server):
    i, o = ssl.MemoryBIO(), ssl.MemoryBIO()
    return context.wrap_bio(i, o, server_side=is_server), i, o

def step(s, *args):
    try:
        return s(*args)
    except ssl.SSLWantReadError:
        return None

a, a_in, a_out = side(client, False)
b, b_in, b_out = side(server, True)
for _ in range(4):
    step(a.do_handshake); b_in.write(a_out.read()); step(b.do_handshake); a_in.write(b_out.read())
print("ready", flush=True)
sys.stdin.readline()
while not select.select([sys.stdin], [], [], 0.001)[0]:
    a.write(b"ping"); b_in.write(a_out.read()); b.read(); b.write(b"pong"); a_in.write(b_out.read()); a.read()
c, c_in, c_out = side(client, False)
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
    def talk(call, *args):
        while True:
            got = step(call, *args)
            s.sendall(c_out.read())
            if got is not None or call == c.do_handshake and c.version():
                return
            c_in.write(s.recv(65536))
    talk(c.do_handshake)
    for n in range(60):
        talk(c.write, b"line %d\\n" % n)
        talk(c.read, 100)
        time.sleep(0.03)
"""


@case(needs=["openssl"])
def addresses_after_none(lab):
    """Connections of memory alone: nobody looks for their sockets any more; and for the next one's again."""
    port = lab.port()
    lab.spawn(["openssl", "s_server", "-accept", str(port), "-cert", lab.cert, "-key", lab.key,
               "-rev", "-quiet"], port=port)
    program = lab.spawn([PYTHON, "-u", "-c", NO_SOCKET_THEN_ONE, str(port), lab.both],
                        ready=b"ready", stdin=subprocess.PIPE)
    tracer = lab.tracer("-v", "-p", str(program.pid))
    program.say()
    wait_for("that nobody looks for sockets",
             lambda: "memory BIOs: no records are looked for" in tracer.process.err())
    program.say()
    program.finish()
    seen = tracer.stop()
    peers = {(c.get("raddr"), c.get("rport")) for c in seen.calls if c["data"] == b"line 59\n"}
    check(peers == {("127.0.0.1", port)}, f"the last line went to {peers}, not to port {port}")
    check(not any(c.get("raddr") for c in seen.calls if c["data"] in (b"ping", b"pong")),
          "addresses of what has none")


ASKS_AGAIN = """
import asyncio, ssl, sys
async def main():
    r, w = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]),
                                         ssl=ssl._create_unverified_context())
    while True:
        w.write(b"ping\\n")
        await r.readline()
        await asyncio.sleep(0.02)
asyncio.run(main())
"""
ONLY_READS = """
import socket, ssl, sys
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain(sys.argv[2])
s = c.wrap_socket(socket.create_server(("127.0.0.1", int(sys.argv[1]))).accept()[0], server_side=True)
print(s.fileno())
while s.recv(100):
    pass
"""


@case(needs=["openssl"])
def descriptor_beside_memory_bios(lab):
    """Sockets found by the bytes that pass there: a connection with a descriptor has it all the same."""
    port, other = lab.port(), lab.port()
    lab.spawn(["openssl", "s_server", "-accept", str(other), "-cert", lab.cert, "-key", lab.key,
               "-rev", "-quiet"], port=other)
    tracer = lab.tracer("-v", "--comm", "python3", script="""
        on.start(function() emit{type = "ready"} end)
        local function show(e) emit{type = e.probe, dir = e.dir, pid = e.pid, fd = e.conn.fd} end
        on.tls_open(show)
        on.tls_data(show)""")
    memory = lab.spawn([PYTHON, "-c", ASKS_AGAIN, str(other)])
    wait_for("that records are looked for",
             lambda: "memory BIOs: their records are looked for" in tracer.process.err())
    reads = lab.spawn([PYTHON, "-c", ONLY_READS, str(port), lab.both], port=port)
    with socket.create_connection(("127.0.0.1", port)) as s:
        with ssl._create_unverified_context().wrap_socket(s) as t:
            for _ in range(3):
                t.sendall(b"x")
    reads.finish()
    memory.stop()
    saw = [r for r in tracer.stop().records if r.get("pid") == reads.pid]
    check(len(saw) >= 2 and saw[0]["type"] == "tls_open", f"{saw}")
    check({r.get("fd") for r in saw} == {int(reads.out())}, f"not {int(reads.out())}: {saw}")


# --- of handshakes, on which nothing is read or written

HANDSHAKES = """
on.start(function() emit{type = "ready"} end)
for _, name in ipairs{"tls_open", "tls_error", "tls_close"} do
    on(name, function(e)
        local c = e.conn
        emit{type = name, pid = e.pid, laddr = c.laddr, lport = c.lport, raddr = c.raddr,
             rport = c.rport}
    end)
end
"""
ONLY_SHAKES = """
import socket, ssl, sys
good, bad = ssl._create_unverified_context(), ssl._create_unverified_context()
bad.maximum_version = ssl.TLSVersion.TLSv1_2
for c in good, bad:
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    print("%s:%d" % s.getsockname(), "%s:%d" % s.getpeername())
    try:
        c.wrap_socket(s).unwrap().close()
    except OSError:
        pass
"""
ONLY_ACCEPTS = """
import socket, ssl, sys
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain(sys.argv[2])
c.minimum_version = ssl.TLSVersion.TLSv1_3
l = socket.create_server(("127.0.0.1", int(sys.argv[1])))
for _ in range(int(sys.argv[3])):
    s = l.accept()[0]
    try:
        s = c.wrap_socket(s, server_side=True)
        s = s.unwrap()  # both say that it ends: anything else can be an error
    except OSError:
        pass
    s.close()
"""


def ends_of(seen, name, pid):
    """The addresses of a process' events of that name, sorted; unknown ones too."""
    return sorted((str(r.get("laddr")), r.get("lport", 0), str(r.get("raddr")), r.get("rport", 0))
                  for r in seen.records if r["type"] == name and r["pid"] == pid)


def handshakes_at(seen, pid, good, bad):
    """Each connection is opened or fails, and is closed, where the program says it is."""
    def same_ends(name, told):
        got = ends_of(seen, name, pid)
        check(got == sorted(told), f"{name}: {got}, not {sorted(told)}")
    same_ends("tls_open", good + bad)
    same_ends("tls_error", bad)
    same_ends("tls_close", good + bad)


@case(needs=["curl"])
def addresses_of_handshakes(lab):
    """Both ends of connections on which nothing else happens; python's BIOs, and curl's own."""
    port = lab.port()
    tracer = lab.tracer("--comm", "python3", "--comm", "curl", script=HANDSHAKES)
    serves = lab.spawn([PYTHON, lab.write("accepts.py", ONLY_ACCEPTS), str(port), lab.both, "4"],
                       port=port)
    asks = lab.run([PYTHON, lab.write("shakes.py", ONLY_SHAKES), str(port)])
    told = [tuple(shown(word) for word in line.split()) for line in asks.out().decode().splitlines()]
    # Not %{local_port}: curl 8 knows none of a connection that failed.
    own = lab.port()
    curl = lab.run(["curl", "-s4", "--local-port", str(own), f"https://localhost:{port}/"],
                   status=None)
    told.append((("127.0.0.1", own), ("127.0.0.1", port)))
    check(curl.returncode == 60, f"curl found the certificate fine: {curl.returncode}")
    serves.stop()
    mine = [(*a, *b) for a, b in told]
    theirs = [(*b, *a) for a, b in told]
    seen = tracer.stop()
    handshakes_at(seen, asks.pid, mine[:1], mine[1:2])
    handshakes_at(seen, curl.pid, [], mine[2:])
    handshakes_at(seen, serves.pid, theirs[:1], theirs[1:])


@go_case("addresses_of_handshakes_go", "Both ends of Go programs, and a handshake that fails.")
def handshakes_of_go(lab):
    program = lab.path(f"shake{os.getpid()}")
    shutil.copy(golang.talk(lab, "1.24", "stripped_pie"), program)
    port = lab.port()
    server = lab.spawn([program, "raw", "server", f"127.0.0.1:{port}"], ready=b"listening", env=ENV)
    tracer = lab.tracer("--comm", os.path.basename(program), script=HANDSHAKES)
    client = lab.run([program, "-n", "20", "raw", "client", f"127.0.0.1:{port}"], env=ENV)
    with socket.create_connection(("127.0.0.1", port)) as s:
        bad = (*s.getpeername(), *s.getsockname())
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        s.recv(100)
    tracer.wait_until("the failure", b'"tls_error"')
    server.stop()
    told = said_of_go(client.out(), server.out())
    seen = tracer.stop()
    mine = [t for t in told if t[3] == port]
    theirs = [(*t[2:], *t[:2]) for t in mine]
    check(len(mine) == 20, f"the client told of {len(mine)} connections")
    handshakes_at(seen, client.pid, mine, [])
    handshakes_at(seen, server.pid, theirs, [bad])
