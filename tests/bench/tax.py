# SPDX-License-Identifier: MIT
"""What those pay whom nobody traces."""
from table import Row, line
from tracers import Tlsscope

DATA = "on.tls_data(function() end)"
HELLO = "on.tls_hello(function() end)"
LOADS = {"pair 64": "TLS calls of another process", "plain": "TCP ping-pong", "connect": "short TCP connections",
         "exec": "starting programs"}
MS = {"exec": 300}


def measure(other):
    return {name: other.ask(f"{name} {MS.get(name, 120)}")[0] for name in LOADS}


def settings(lab, traced):
    """Who is traced, how; what that one does; and the budget of the tax, in percent."""
    sockets, memory, pid = "tcp 1024 30", "pair 64 50", traced.pid
    return {
        "-p": (lambda: Tlsscope(lab, pid, DATA), sockets, 0),
        # Sockets are looked at until there was no need to for half a minute.
        "-p, sockets looked for": (lambda: Tlsscope(lab, pid, DATA), memory, None),
        "-p, on.tls_hello": (lambda: Tlsscope(lab, pid, HELLO), sockets, None),
        "--comm": (lambda: Tlsscope(lab, None, DATA, "--comm", "nobody"), sockets, None),
        "everybody": (lambda: Tlsscope(lab, None, DATA), memory, None),
        "everybody, on.tls_hello": (lambda: Tlsscope(lab, None, HELLO), sockets, None),
    }


@line
def tax(lab, rounds):
    """what processes pay that are not traced, with and without -p: in percent of their CPU time"""
    traced, other = lab.load(), lab.load()
    table = settings(lab, traced)
    more = {(name, load): [] for name in table for load in LOADS}
    for _ in range(rounds):
        for name, (make, work, _) in table.items():
            before = measure(other)
            tracer = make()
            try:
                tracer.wait_ready(other)
                traced.ask(work)  # so that what it needs is in place
                during = measure(other)
            finally:
                tracer.stop()
            after = measure(other)
            for load in LOADS:
                bare = (before[load] + after[load]) / 2
                more[name, load].append((during[load] / bare - 1) * 100)
    for p in (traced, other):
        p.close()
    return [Row(f"tax, {name}: {LOADS[load]}", values, "%", table[name][2])
            for (name, load), values in more.items()]
