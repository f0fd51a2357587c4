# SPDX-License-Identifier: MIT
"""What HTTP that never ends costs: many connections, each of which holds half of something."""
import os
import re
import struct
import sys

from cases_http_vectors import END_HEADERS, HEADERS, SETTINGS, frame
from harness import PYTHON, ROOT, TLSSCOPE, case, check
from web import PREFACE

sys.path.insert(0, os.path.join(ROOT, "tests", "man"))
import recording  # noqa: E402


def begin():
    r = recording.Recording()
    r.record(recording.START, struct.pack("=QQ", r.now, recording.WALL), "6.1", "box")
    for number, name in ((recording.READ, "SSL_read"), (recording.WRITE, "SSL_write")):
        r.record(recording.SOURCE, struct.pack("=II", number + 1, number), "openssl", name, recording.LIB)
    return r, recording.Program(r, "many", 100, 1, 0, "root", "/bin/many", "many")


def say(r, p, way, data):
    for at in range(0, len(data), 16000):
        piece = data[at:at + 16000]
        r.data(recording.DATA, p, way, piece, len(piece), len(piece))


def replayed(lab, r, code):
    """Its output, what it warned of, and the most memory that it had, in MiB."""
    r.record(recording.STOP, struct.pack("=QiI", r.now, -1, 0))
    record = lab.write("many.rec", b"".join(r.out))
    p = lab.run([PYTHON, "-c", "import resource, subprocess, sys\n"
                 "subprocess.run(sys.argv[1:], check=True)\n"
                 "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)",
                 TLSSCOPE, "-r", record, "-e", code], timeout=90)
    *out, peak = p.out().decode().split()
    given_up = re.search(r"(\d+) times what a connection had begun of HTTP was given up", p.err())
    return out, int(given_up[1]) if given_up else 0, int(peak) >> 10


CODE = """
local whole, cut, other = 0, 0, 0
on.http({capture = "all"}, function(e)
    if e.request and not e.request.truncated then whole = whole + 1
    elseif e.request then cut = cut + 1
    else other = other + 1 end
end)
on.stop(function() print(whole, cut, other) end)
"""


@case(timeout=180)
def http_memory_of_bodies(lab):
    """Half a body on each of many connections; of what is given up the beginning is told."""
    r, p = begin()
    n, half = 3000, b"x" * 65000
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 130000\r\n\r\n"
    for i in range(n):
        p.connect(i)
        say(r, p, recording.OUT, head + half)
    # The other half: the last ones are still there, the first ones have been given up.
    for i in (0, 1, n - 2, n - 1):
        p.connect(i)
        say(r, p, recording.OUT, half)
        say(r, p, recording.IN, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    (whole, cut, other), given_up, peak = replayed(lab, r, CODE)
    check(int(whole) == 2 and int(cut) == n - 2, f"{whole} whole, {cut} cut, {other}")
    check(n * 0.2 < given_up < n * 0.6, f"{given_up} of {n} were given up")
    check(peak < 230, f"{peak} MiB")


@case(timeout=180)
def http_memory_of_tables(lab):
    """HTTP/2 connections older than the trace: each direction's table has a lot of entries."""
    r, p = begin()
    n = 20000
    block = bytes.fromhex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff")
    some = frame(SETTINGS, 1, 0) + frame(HEADERS, END_HEADERS, 1, block) + frame(SETTINGS, 1, 0)
    fresh = PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, block)
    for i in range(n):
        p.connect(i)
        for way in (recording.OUT, recording.IN) if i % 2 else (recording.OUT,):
            data = some if i % 2 else fresh
            say(r, p, way, data)
    out, given_up, peak = replayed(lab, r, CODE)
    check(n * 0.3 < given_up < n, f"{given_up} of {n} were given up: {out}")
    check(peak < 350, f"{peak} MiB")
