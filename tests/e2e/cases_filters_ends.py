# SPDX-License-Identifier: MIT
"""Who is traced, by the ends of connections: ports and addresses, in all that a connection brings."""
import collections
import signal
import subprocess

import golang
from cases_go import ENV, go_case
from cases_lang import ASYNC_CLIENT, ASYNC_SERVER
from harness import PYTHON, TLSSCOPE, case, check, wait_for

READY = """
on.start(function() emit{type = "ready"} end)
"""
TELL = READY + """
config{buffer = "64M", capture = 0} -- the rest of the machine may be busy
%s
local function tell(name, event)
    return function(e)
        local c = event == "tls_hello" and e or e.conn
        emit{type = "seen", name = name, event = event, pid = e.pid, lport = c.lport, rport = c.rport,
             raddr = c.raddr}
    end
end
for name, options in pairs{%s} do
    for _, event in ipairs{"tls_read", "tls_write", "tls_open", "tls_close", "tls_hello"} do
        on(event, options, tell(name, event))
    end
end
"""
EVENTS = ("tls_read", "tls_write", "tls_open", "tls_close", "tls_hello")


def told(records, labels):
    """{name of a handler: {event: those of whom it told}}; labels: {(pid, raddr): label}."""
    found = collections.defaultdict(lambda: collections.defaultdict(set))
    for r in records:
        label = labels.get((r.get("pid"), r.get("raddr"))) if r["type"] == "seen" else None
        if label:
            found[r["name"]][r["event"]].add(label)
    return found


def check_told(way, found, expected):
    for name, (options, want) in expected.items():
        for event in EVENTS:
            got = found[name][event]
            check(got == set(want.split()),
                  f"{way}: {event} with {options}: {sorted(got)}, not {want or 'nobody'}")


def script(expected, target=""):
    return TELL % (target, ", ".join(f"{k} = {v[0]}" for k, v in expected.items()))


def server(lab, port):
    return lab.spawn(["openssl", "s_server", "-accept", str(port), "-cert", lab.cert, "-key", lab.key,
                      "-www", "-quiet"], port=port)


def fetch(lab, host, port):
    return lab.run(["curl", "-sk", f"https://{host}:{port}/", "-o", "/dev/null"])


@case(needs=["openssl", "curl"], timeout=120)
def filter_ends(lab):
    """Clients and servers on two ports, over IPv4 and IPv6; a replay lets the same pass."""
    a, b = lab.port(), lab.port()
    at_a, at_b = server(lab, a), server(lab, b)
    expected = {
        "rport": ("{rport = %d}" % a, "curl-a-4 curl-a-6"),
        "lport": ("{lport = %d}" % a, "server-a-4 server-a-6"),
        "list": ("{rport = {%d, %d, 1}}" % (a, b), "curl-a-4 curl-a-6 curl-b-4"),
        "raddr": ('{raddr = "::1", rport = %d}' % a, "curl-a-6"),
        "net": ('{raddr = "127.0.0.0/8", lport = {%d, %d}}' % (a, b), "server-a-4 server-b-4"),
        "laddr": ('{laddr = {"::1", "127.0.0.2"}, lport = {%d, %d}}' % (a, b), "server-a-6"),
        "exclude": ("{pid = {%d, %d}, exclude = {lport = %d}}" % (at_a.pid, at_b.pid, a),
                    "server-b-4"),
        "not_net": ('{pid = %d, exclude = {raddr = "127.0.0.0/8"}}' % at_a.pid, "server-a-6"),
        "none": ("{rport = %d, lport = %d}" % (a, b), ""),
    }
    within = {"rport": ("{rport = {%d, %d}}" % (a, b), "curl-a-4")}
    narrowed = {"all": ("{}", "server-a-4")}
    record = lab.path("record")
    tracers = [lab.tracer("-w", record, script=script(expected)),
               lab.tracer("--rport", str(a), "--raddr", "127.0.0.1", script=script(within)),
               lab.tracer(script=script(narrowed, "target{lport = %d, exclude = {raddr = '::1'}}" % a))]
    labels = {(fetch(lab, "127.0.0.1", a).pid, "127.0.0.1"): "curl-a-4",
              (fetch(lab, "[::1]", a).pid, "::1"): "curl-a-6",
              (fetch(lab, "127.0.0.1", b).pid, "127.0.0.1"): "curl-b-4",
              (at_a.pid, "127.0.0.1"): "server-a-4", (at_a.pid, "::1"): "server-a-6",
              (at_b.pid, "127.0.0.1"): "server-b-4"}
    for p in (at_a, at_b):
        p.stop()
    found = [told(t.stop().records, labels) for t in tracers]
    check_told("live", found[0], expected)
    check_told("--rport --raddr", found[1], within)
    check_told("target", found[2], narrowed)
    again = lab.tracer("-r", record, script=script(expected), ready=False).finish().records
    check_told("replay", told(again, labels), expected)
    again = lab.tracer("-r", record, "--lport", str(b), script=script(narrowed), ready=False)
    check(told(again.finish().records, labels)["all"]["tls_read"] == {"server-b-4"},
          "--lport does not narrow a replay")


@case(needs=["openssl", "curl"])
def filter_ends_of_http(lab):
    """Exchanges of one of two servers."""
    a, b = lab.port(), lab.port()
    at_a, _ = server(lab, a), server(lab, b)
    tracer = lab.tracer(script=READY + """
        on.http({rport = %d}, function(t)
            emit{type = "seen", pid = t.pid, peer = t.peer, status = t.status}
        end)""" % a)
    pids = [fetch(lab, "127.0.0.1", port).pid for port in (a, b)]
    seen = [r for r in tracer.stop().records if r["type"] == "seen"]
    check([(r["pid"], r["peer"], r["status"]) for r in seen] == [(pids[0], f"127.0.0.1:{a}", 200)],
          f"{seen}; the processes are {pids}, the server {at_a.pid}")


@go_case("filter_ends_of_go", "Clients and servers of two ports; handshakes too.")
def of_go(lab):
    program, ports, pids, served = golang.talk(lab, "1.24", "stripped_pie"), [], [], []
    for _ in range(2):
        ports.append(lab.port())
        served.append(lab.spawn([program, "raw", "server", f"127.0.0.1:{ports[-1]}"],
                                ready=b"listening", env=ENV))
    a = ports[0]
    tracer = lab.tracer(script=READY + """
        for name, options in pairs{rport = {rport = %d}, lport = {lport = %d}} do
            for _, event in ipairs{"gotls_read", "gotls_write", "tls_open", "tls_close"} do
                on(event, options, function(e)
                    emit{type = "seen", name = name, event = event, pid = e.pid}
                end)
            end
        end""" % (a, a))
    for port in ports:
        pids.append(lab.run([program, "-n", "3", "raw", "client", f"127.0.0.1:{port}"], env=ENV).pid)
    for p in served:
        p.stop()
    got = {(r["name"], r["event"], r["pid"]) for r in tracer.stop().records if r["type"] == "seen"}
    want = {(name, event, pid) for name, pid in (("rport", pids[0]), ("lport", served[0].pid))
            for event in ("gotls_read", "gotls_write", "tls_open", "tls_close")}
    check(got == want, f"missing {want - got}, too much {got - want}")


@case()
def filter_ends_of_memory_bios(lab):
    """asyncio: from the first byte on, though nothing tells of the socket but what passes there."""
    a, b = lab.port(), lab.port()
    page, body = lab.write("page", b"p" * 5000), lab.write("body", b"b" * 3000)
    tracer = lab.tracer(script=READY + """
        for name, options in pairs{rport = {rport = %d}, lport = {lport = %d}} do
            on.tls_data(options, function(e)
                emit{type = "seen", name = name, pid = e.pid, dir = e.dir, len = e.len, gap = e.gap,
                     head = e.data:sub(1, 4)}
            end)
        end""" % (a, a))
    pids = []
    for port in (a, b):
        at = lab.spawn([PYTHON, "-c", ASYNC_SERVER, str(port), lab.cert, lab.key, page], port=port)
        client = lab.run([PYTHON, "-c", ASYNC_CLIENT, str(port), lab.cert, page, body])
        pids.append((client.pid, at.pid))
    seen = [r for r in tracer.stop().records if r["type"] == "seen"]
    for name, pid, out in (("rport", pids[0][0], "out"), ("lport", pids[0][1], "in")):
        mine = [r for r in seen if r["name"] == name]
        check({r["pid"] for r in mine} == {pid}, f"{name}: {mine}, not of {pid}")
        there = [r for r in mine if r["dir"] == out]
        check(there[0]["head"] == "GET " and not any(r.get("gap") for r in mine),
              f"{name}: not from the first byte: {mine}")
        back = sum(r["len"] for r in mine if r["dir"] != out)
        check(back > 8000, f"{name}: {back} bytes came back")


LATER = """
import socket, ssl, sys
s = ssl._create_unverified_context().wrap_socket(
    socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
for n in (100, 20, 3):
    s.sendall(b"x" * n)
    print("sent", n, flush=True)
    sys.stdin.readline()
"""


@case(needs=["openssl"])
def filter_ends_while_running(lab):
    """
    Handlers that come, go and come back: the same probes, and what nobody wanted has its place.
    """
    port = lab.port()
    lab.spawn(["openssl", "s_server", "-accept", str(port), "-cert", lab.cert, "-key", lab.key,
               "-quiet"], port=port, stdin=subprocess.PIPE)
    tracer = lab.tracer(script=READY + """
        config{buffer = "64M", capture = 0}
        local function tell(name)
            return function(e)
                emit{type = "seen", name = name, len = e.len, gap = e.gap, pid = e.pid}
            end
        end
        on.tls_write({lport = 1}, tell("never"))
        local one
        on.signal_usr1(function()
            if not one then
                one = on.tls_write({rport = %d}, tell("one"))
            else
                one:disable()
                on.tls_write({exclude = {rport = %d, raddr = "::/0"}}, tell("two"))
                on.tls_write({raddr = "127.0.0.1", rport = %d}, tell("three"))
            end
            emit{type = "changed"}
        end)""" % (port, port + 1, port))
    p = lab.spawn([PYTHON, "-u", "-c", LATER, str(port)], ready=b"sent 100", stdin=subprocess.PIPE)
    for n in (1, 2):
        tracer.process.send_signal(signal.SIGUSR1)
        wait_for("change", lambda: tracer.output().count(b'"changed"') == n)
        p.say()
        wait_for("bytes", lambda: p.out().count(b"sent") == n + 1)
    p.say()
    p.finish()
    seen = [(r["name"], r["len"], r.get("gap")) for r in tracer.stop().records
            if r["type"] == "seen" and r["pid"] == p.pid]
    check(seen == [("one", 20, 100), ("three", 3, None)], f"{seen}")


@case(needs=["openssl", "curl"])
def filter_ends_on_the_command_line(lab):
    """--check and --dry-run take them; what is no port or address is told with its remedy."""
    for words in (["--rport", "443", "--rport", "8443", "--raddr", "10.0.0.0/8"],
                  ["--lport", "443", "--laddr", "::1"]):
        for way in ("--check", "--dry-run"):
            lab.run([TLSSCOPE, *words, way, "-e", "on.tls_data(function() end)"])
    for words, said in ((["--rport", "0"], "rport '0' is not a port"),
                        (["--lport", "https"], "lport 'https' is not a port"),
                        (["--raddr", "localhost"], "raddr 'localhost' is not an address"),
                        (["--laddr", "10.0.0.0/33"], "a number up to 32"),
                        (["doctor", "--rport", "443"], "doctor looks at processes")):
        p = lab.run([TLSSCOPE, *words] + ([] if "doctor" in words else ["-e", "print(1)"]), status=2)
        check(said in p.err(), f"{words}: {p.err()}")
    saved = lab.path("saved.lua")
    lab.run([TLSSCOPE, "--rport", "443", "--raddr", "::ffff:10.1.2.3/104", "--laddr", "2001:db8::/32"],
            input=f".save {saved}\n.quit\n")
    with open(saved) as f:
        text = f.read()
    check('rport = {"443"}, raddr = {"10.0.0.0/8"}, laddr = {"2001:db8::/32"}' in text, text)
    lab.run([TLSSCOPE, "--check", saved])
