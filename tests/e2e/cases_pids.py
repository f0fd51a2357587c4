# SPDX-License-Identifier: MIT
"""-p: what its processes become is seen, and nobody else's doings are hooked for that."""
import os
import shutil
import signal
import subprocess
import time

from cases_filters_ends import READY
from cases_go_programs import go_case, tool
from cases_lang import ASYNC_SERVER
from harness import PYTHON, case, check, wait_for

# Loads libssl when told to, asks, and becomes another program, which does the same.
CHANGES = """
import os, sys
print("waiting", flush=True)
sys.stdin.readline()
import ssl, socket
print("loaded", flush=True)
sys.stdin.readline()
context = ssl._create_unverified_context()
s = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
s.sendall(b"GET /%s HTTP/1.1\\r\\n\\r\\n" % sys.argv[2].encode())
s.recv(100)
s.close()
if len(sys.argv) > 3:
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[3], sys.argv[1], "second"])
"""
TELL = READY + """
on.exec(function(e) emit{type = "exec", pid = e.pid} end)
on.exit(function(e) emit{type = "exit", pid = e.pid} end)
on.attach(function(e) emit{type = "attach", path = e.path} end)
on.tls_write(function(e) emit{type = "seen", head = e.data:sub(1, 12)} end)
"""


def everybodys_hooks(pid):
    """What a tracer's descriptors hook that any process may come to: {what}."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if "perf_event" in os.readlink(f"/proc/{pid}/fd/{fd}"):
                found.add("perf event")
            with open(f"/proc/{pid}/fdinfo/{fd}", encoding="utf-8") as f:
                lines = dict(line.split(":", 1) for line in f if ":" in line)
        except OSError:
            continue
        if lines.get("link_type", "").strip() == "raw_tracepoint":
            found.add(lines.get("tp_name", "").strip())
    return found


SOCKETS = {"sock_send_length", "sock_recv_length"}


def page_server(lab):
    port = lab.port()
    page = lab.write("page", b"p" * 500)
    lab.spawn([PYTHON, "-c", ASYNC_SERVER, str(port), lab.cert, lab.key, page], port=port)
    return port


@case(timeout=120)
def pids_become_others(lab):
    """dlopen and exec of a traced process are noticed; and of no other process."""
    port = page_server(lab)
    p = lab.spawn([PYTHON, "-c", CHANGES, str(port), "first", CHANGES], ready=b"waiting",
                  stdin=subprocess.PIPE)
    tracer = lab.tracer("-v", "-p", str(p.pid), script=TELL)
    check("libssl" not in tracer.output().decode(), "libssl was there before")
    for name in ("first", "second"):
        p.say()
        wait_for("libssl", lambda: p.out().count(b"loaded") == 1 + (name == "second"))
        tracer.wait_until("attachment", b"libssl")
        subprocess.run(["true"], check=True)
        p.say()
        tracer.wait_until(f"the {name} request", b"GET /" + name.encode())
        if name == "first":
            wait_for("exec", lambda: p.out().count(b"waiting") == 2)
    hooks = everybodys_hooks(tracer.process.pid)
    p.finish()
    seen = tracer.finish()
    told = [(r["type"], r["pid"]) for r in seen.records if r["type"] in ("exec", "exit")]
    check(told == [("exec", p.pid), ("exit", p.pid)], f"of {p.pid} was told: {told}")
    if "uprobe_multi" in seen.stderr:
        check(hooks <= {"sched_process_exec", "sched_process_exit"}, f"hooks {hooks}")


@case(timeout=120)
def pids_too_many(lab):
    """Many processes, which have no probes of their own: theirs alone is seen, and the end is soon."""
    port = page_server(lab)
    two = [lab.spawn([PYTHON, "-c", CHANGES, str(port), name], ready=b"waiting", stdin=subprocess.PIPE)
           for name in ("first", "second")]
    idle = [lab.spawn(["sleep", "1000"]) for _ in range(100)]
    pids = [word for p in (two[0], *idle) for word in ("-p", str(p.pid))]
    tracer = lab.tracer("-v", *pids, script=TELL)
    for p in reversed(two):
        p.say()
        wait_for("libssl", lambda p=p: b"loaded" in p.out())
        if p == two[0]:
            tracer.wait_until("attachment", b"libssl")
        p.say()
        p.finish()
    tracer.wait_until("the first's request", b"GET /first")
    begun = time.monotonic()
    seen = tracer.stop()
    took = time.monotonic() - begun
    check("too many for probes of their own" in seen.stderr, seen.stderr[-2000:])
    told = [(r["type"], r.get("head") or r["pid"]) for r in seen.records if r["type"] in ("exit", "seen")]
    check(told == [("seen", "GET /first H"), ("exit", two[0].pid)], f"told: {told}")
    check(took < 30, f"it ended after {took:.0f} s")


ASKS = """
import asyncio, ssl, sys
async def ask(port, path):
    context = ssl._create_unverified_context()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    for n in range(8):
        writer.write(b"GET /%s-%d HTTP/1.1\\r\\n\\r\\n" % (path, n))
        await writer.drain()
        await reader.readuntil(b"ppp")
        await asyncio.sleep(0.2)
    writer.close()
async def main():
    for path in (b"early", b"late"):
        sys.stdin.readline()
        await ask(int(sys.argv[1]), path)
        print("asked", flush=True)
print("waiting", flush=True)
asyncio.run(main())
"""
ENDS = READY + """
on.tls_write(function(e) emit{type = "seen", head = e.data:match("%S+ /(%S+)"), rport = e.conn.rport or 0} end)
"""


@case(timeout=200)
def pids_sockets_are_left_alone(lab):
    """Memory BIOs: sockets are hooked while one is looked for, not longer; and then again."""
    port = page_server(lab)
    p = lab.spawn([PYTHON, "-c", ASKS, str(port)], ready=b"waiting", stdin=subprocess.PIPE)
    tracer = lab.tracer("-p", str(p.pid), script=ENDS)
    for n, path in enumerate((b"early", b"late")):
        p.say()
        wait_for("answers", lambda: p.out().count(b"asked") == n + 1)
        tracer.wait_until("the last request", path + b"-7")
        if not n and SOCKETS & everybodys_hooks(tracer.process.pid):
            wait_for("sockets left alone",
                     lambda: not SOCKETS & everybodys_hooks(tracer.process.pid), 90)
    p.finish()
    seen = tracer.finish()
    last = {r["head"]: r["rport"] for r in seen.records if r["type"] == "seen"}
    for path in ("early", "late"):
        check(last.get(path + "-7") == port, f"{path}: {last}, not {port}")


DEAF = """
import socket, ssl, sys, time
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
l = socket.create_server(("127.0.0.1", int(sys.argv[1])))
l.settimeout(300)
while True:
    try:
        s = context.wrap_socket(l.accept()[0], server_side=True)
    except OSError:
        continue
    time.sleep(1000)
"""
SENDS = """
import socket, ssl, sys
s = ssl._create_unverified_context().wrap_socket(
    socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
print("waiting", flush=True)
sys.stdin.readline()
while True:
    s.send(bytes(1 << 20))
"""


def queued(port):
    """The bytes that wait to be sent to a port."""
    with open("/proc/net/tcp", encoding="ascii") as f:
        rows = [line.split() for line in f][1:]
    return sum(int(row[4].split(":")[0], 16) for row in rows if int(row[2].split(":")[1], 16) == port)


def is_stuck(port):
    """Whether somebody has sent all that he can to a port where nobody reads: for a while no more is queued."""
    before = queued(port)
    if before > 500000:
        time.sleep(1)
    return before > 500000 and queued(port) == before


def kill_while_it_sends(lab, port, client, tracer):
    wait_for("full buffers", lambda: is_stuck(port))
    check(client.poll() is None, f"the client ended by itself, with {client.returncode}")
    client.stop(signal.SIGKILL)
    seen = tracer.stop()
    check("1 calls not shown: they never returned" in seen.stderr,
          f"no word of a call that never returned; of {len(seen.calls)} calls: {seen.stderr}")


@case()
def killed_while_it_sends(lab):
    """What a call in flight may have sent is told of."""
    port = lab.port()
    lab.spawn([PYTHON, "-c", DEAF, str(port), lab.cert, lab.key], port=port)
    client = lab.spawn([PYTHON, "-c", SENDS, str(port)], ready=b"waiting", stdin=subprocess.PIPE)
    tracer = lab.tracer("-p", str(client.pid), script=READY + "on.tls_data(function() end)")
    client.say()
    kill_while_it_sends(lab, port, client, tracer)


@go_case("trixie")
def killed_while_it_sends_in_go(lab, suite):
    """The same of a goroutine, which no thread is in meanwhile."""
    port, program = lab.port(), shutil.copy(tool(lab, suite, "hey"), lab.path("heyhey"))
    lab.spawn([PYTHON, "-c", DEAF, str(port), lab.cert, lab.key], port=port)
    big = lab.write("big", bytes(64 << 20))
    tracer = lab.tracer("--lib", program, "--comm", "heyhey", script=READY + "on.tls_data(function() end)")
    client = lab.spawn([program, "-t", "0", "-n", "1", "-c", "1", "-m", "POST", "-D", big, f"https://127.0.0.1:{port}/"])
    kill_while_it_sends(lab, port, client, tracer)
