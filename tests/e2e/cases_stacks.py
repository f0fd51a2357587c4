# SPDX-License-Identifier: MIT
"""
Programs whose calls do not return as they nest: they change stacks in the middle of one, or jump out
of it. Probes of returns would end them; a tracer that does not see a call says so.
"""
import os
import re
import shutil
import subprocess

from cases_open import named
from cases_pitfalls import libssl
from cases_sites import has_sessions
from harness import PYTHON, Skip, case, check

AMID = re.compile(r"^tlsscope: (\d+) calls not shown: their thread has left others unfinished on other stacks$",
                  re.M)
NEVER = re.compile(r"^tlsscope: (\d+) calls not shown: they never returned$", re.M)


def need_sessions():
    if not has_sessions():
        raise Skip("before 6.13 a probe of a return cannot be refused at the call's beginning")


def counted(pattern, seen):
    found = pattern.search(seen.stderr)
    return int(found[1]) if found else 0


def own(lab, program):
    """
    The program by a name that no other case's has, its environment with a libssl that nobody else probes
    (return probes of another case's would end it), and options that trace it.
    """
    library = shutil.copy(libssl(), lab.path("preloaded.so"))
    path = named(lab, program, lab.case.name[7:])
    return path, {"LD_PRELOAD": library}, ("--lib", library, "--comm", os.path.basename(path))


def traced(lab, how):
    """What is seen of tests/victims/stacks.c, all of whose own calls are right."""
    program, env, options = own(lab, lab.victim("stacks"))
    tracer = lab.tracer(*options)
    p = lab.run([program, lab.cert, lab.key, how], env=env)
    seen = tracer.stop()
    calls = [c for flow in seen.flows(pids=[int(p.out().split()[1])]) for c in flow.calls]
    for c in calls:
        check(re.fullmatch(rb"pair \d, round \d|last", c["data"]), f"bytes that nobody sent: {c}")
    return seen, [c for c in calls if c["data"] == b"last"]


@case()
def stacks_are_changed_in_calls(lab):
    """Coroutines that wait in the middle of SSL_read and SSL_write, on stacks above and below."""
    need_sessions()
    seen, last = traced(lab, "switch")
    check(counted(AMID, seen) > 50 and not counted(NEVER, seen), seen.stderr)
    check(seen.stderr.count("tlsscope: calls are not shown: ") == 1, seen.stderr)
    check(len(last) == 2, f"{len(last)} calls of 2 after all that")


@case()
def stacks_are_changed_before_tracing(lab):
    """Calls in flight have another tracer's probes, which stay when it ends, and another's at the same time."""
    need_sessions()
    program, env, options = own(lab, lab.victim("stacks"))
    first, other = lab.tracer(*options), lab.tracer(*options)
    p = lab.spawn([program, lab.cert, lab.key, "pause"], ready=b"amid", stdin=subprocess.PIPE, env=env)
    first.stop()
    second = lab.tracer(*options)
    p.stdin.write(b"\n")
    p.stdin.flush()
    p.finish()
    for tracer in (second, other):
        seen = tracer.stop()
        check(counted(AMID, seen), seen.stderr)


@case()
def stacks_are_left_by_jumps(lab):
    """longjmp out of six calls, whose connections are freed: what comes then is seen."""
    seen, last = traced(lab, "jump")
    check(5 <= counted(NEVER, seen) <= 6 and not counted(AMID, seen), seen.stderr)
    check(len(last) == 2, f"{len(last)} calls of 2 after all that")


@case()
def stacks_are_left_for_good(lab):
    """The same, and nothing is freed: those calls may come back, for all that can be known."""
    need_sessions()
    seen, last = traced(lab, "keep")
    check(counted(AMID, seen) >= 2 and not last, f"{seen.stderr} {last}")


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import gevent, random, socket, ssl, sys
def context():
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    c.load_cert_chain(*sys.argv[1:3])
    return c
ours, others, done = context(), context(), []
def find_certificate(s, name, c):
    gevent.sleep(random.choice([0, 0.003, 0.01]))
    s.context = others
ours.sni_callback = find_certificate
theirs = ssl.create_default_context()
theirs.check_hostname, theirs.verify_mode = False, ssl.CERT_NONE
listener = socket.create_server(("127.0.0.1", 0), backlog=50)
def serve(raw):
    with ours.wrap_socket(raw, server_side=True) as s:
        while (text := s.recv(1000)):
            s.sendall(text)
def accept():
    while True:
        gevent.spawn(serve, listener.accept()[0])
def ask(n):
    with theirs.wrap_socket(socket.create_connection(listener.getsockname()), server_hostname="x") as s:
        for i in range(5):
            text = b"%d asks %d" % (n, i)
            s.sendall(text)
            assert s.recv(1000) == text
    done.append(n)
gevent.spawn(accept)
gevent.joinall([gevent.spawn(ask, n) for n in range(20)], raise_error=True)
print(len(done), flush=True)
"""


SAID = """
on.tls_open(function() end)
on.tls_data(function(e) emit({type = "said", text = e.data}) end)
on.start(function() emit({type = "ready"}) end)
"""


@case(timeout=90)
def stacks_are_copied(lab):
    """gevent, whose threads share one stack: handshakes wait in a callback for a name's certificate."""
    need_sessions()
    if lab.run([PYTHON, "-c", "import gevent"], status=None).returncode:
        raise Skip("gevent is not installed (python3-gevent)")
    # Another one that has no probe where these wait.
    program, env, options = own(lab, PYTHON)
    other, tracer = lab.tracer(*options), lab.tracer(*options, script=SAID)
    p = lab.run([program, lab.write("greenlets.py", GREENLETS), lab.cert, lab.key], env=env)
    check(p.out().split()[0] == b"20", p.out())
    seen = tracer.stop()
    said = [r["text"] for r in seen.records if r["type"] == "said"]
    check(all(re.fullmatch(r"\d+ asks \d", text) for text in said), f"bytes that nobody sent: {said}")
    check(counted(AMID, seen), seen.stderr)
    other.stop()
