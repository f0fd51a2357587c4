# SPDX-License-Identifier: MIT
"""The kernel's programs are loaded for what a script asks for; when it asks for more, others take over."""
import os
import re
import signal
import subprocess

from cases_open import named
from cases_sites import ways
from harness import PYTHON, TLSSCOPE, case, check, wait_for

# A client and a server in one process: for each line so many messages, on a connection that stays, or on a new one.
# The server waits in a read meanwhile.
TALK = """
import socket, ssl, sys, threading
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(*sys.argv[1:3])
client = ssl.create_default_context(cafile=sys.argv[1])
listener = socket.create_server(("127.0.0.1", 0))
def serve():
    while True:
        s = server.wrap_socket(listener.accept()[0], server_side=True)
        while s.recv(99):
            s.sendall(b"thanks")
def connect():
    return client.wrap_socket(socket.create_connection(listener.getsockname()), server_hostname="localhost")
threading.Thread(target=serve, daemon=True).start()
def talk(c, count):
    for i in range(count):
        c.sendall(b"message %d" % i)
        c.recv(99)
c = connect()
talk(c, 1)
print("connected", flush=True)
for line in sys.stdin:
    talk(c, int(line))
    print("said", line.strip(), flush=True)
c.close()
talk(connect(), 2)
"""

SCRIPT = """
config{attach = "WAY"}
local seen, group, bytes = {}
local function handle(name, filter, event)
    seen[name] = {["in"] = 0, out = 0}
    on[event or "tls_data"](filter, function(e)
        local dir = e.dir or "out"
        seen[name][dir] = seen[name][dir] + 1
        group = e.cgroup
    end)
end
handle("plain", {})
on.start(function() print("ready") end)
on.signal_usr1(function()
    handle("exe", {exe = "EXE"})
    handle("another exe", {exe = "/bin/another"})
    handle("cgroup", {cgroup = group})
    handle("peer", {raddr = "127.0.0.1"})
    handle("another peer", {raddr = "127.0.0.2"})
    handle("longer", {min_len = 9})
    handle("prefix", {prefix = "thanks"})
    handle("opened", {}, "tls_open")
    bytes = sum("bytes", {from = "tls_data", by = "dir"})
    print("asked")
end)
on.stop(function()
    seen.bytes = {["in"] = bytes:get("in"), out = bytes:get("out")}
    for name, n in pairs(seen) do printf("%s: %d %d\\n", name, n["in"], n.out) end
end)
"""


# In and out: of 20 messages and their answers before, 20 after, and 2 of the last connection. Whoever comes later does
# not see the read that is in flight then; nor does the tracer the one before it.
SEEN = {
    "plain": (83, 84), "exe": (43, 44), "another exe": (0, 0), "cgroup": (43, 44), "peer": (43, 44),
    "another peer": (0, 0), "longer": (21, 22), "prefix": (22, 22), "opened": (0, 2),
    "bytes": (199 + 132, 208 + 132),
}


def taken_over(lab, way):
    """What the handlers saw, by name."""
    program = named(lab, PYTHON, f"talk-{way}")
    p = lab.spawn([program, "-c", TALK, lab.cert, lab.key], ready=b"connected", stdin=subprocess.PIPE)
    script = SCRIPT.replace("WAY", way).replace("EXE", os.path.realpath(program))
    tracer = lab.tracer("-v", "-p", str(p.pid), script=script, form="text")
    for n in (1, 2):
        p.say("20\n")
        wait_for("what was said", lambda count=n: p.out().count(b"said") == count)
        if n == 1:
            tracer.process.send_signal(signal.SIGUSR1)
            tracer.wait_until("handlers", b"asked")
            wait_for("what takes over", lambda: "loaded once more" in tracer.process.err())
    p.stdin.close()
    tracer.process.finish()
    said = tracer.process.err()
    check(said.count("loaded once more") == 1, said)
    return {name: (int(a), int(b)) for name, a, b in
            re.findall(r"^(.*): (\d+) (\d+)$", tracer.output().decode(), re.M)}


@case()
def more_is_asked_later(lab):
    """Filters by program, cgroup and peer, picks, aggregations, handshakes: by what was not loaded for them."""
    for way in ways():
        seen = taken_over(lab, way)
        check(seen == SEEN, f"{way}: {seen}")


# How often a timer ran from when more was asked until that was seen.
TICKS = """
local ticks
every("1ms", function() ticks = ticks and ticks + 1 end)
on.tls_data(function() end)
on.start(function() print("ready") end)
after("100ms", function()
    ticks = 0
    on.tls_data({min_len = 1}, function() printf("%d ticks\\n", ticks) exit() end)
end)
"""


@case()
def nobody_waits_for_what_is_asked(lab):
    """While the programs are loaded that more is asked of, all else goes on."""
    p = lab.spawn([PYTHON, "-c", TALK, lab.cert, lab.key], ready=b"connected", stdin=subprocess.PIPE)
    tracer = lab.tracer("-p", str(p.pid), script=TICKS, form="text")
    p.say("1000000\n")
    tracer.wait_until("what was asked for", b"ticks")
    ticks = int(tracer.output().split()[-2])
    check(ticks >= 5, f"{ticks} ticks")


@case()
def what_was_asked_is_there(lab):
    """More of what was asked for at the start is no more: nothing is loaded again."""
    p = lab.run([TLSSCOPE, "-v", "--comm", "nobody", "-e",
                 'on.tls_data({exe = "/bin/sh"}, print) on.tls_data({sample = 2}, print)'
                 'after("50ms", function() on.tls_data({sample = 3, exe = "/bin/cat"}, print) after("50ms", exit) end)'])
    check("attached by" in p.err() and "loaded once more" not in p.err(), p.err())
