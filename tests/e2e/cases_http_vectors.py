# SPDX-License-Identifier: MIT
"""HTTP/2 from public test material, made into recordings and replayed."""
import glob
import json
import os
import struct
import sys

from harness import ROOT, TLSSCOPE, case, check, same
from suites import from_npm
from web import PREFACE

sys.path.insert(0, os.path.join(ROOT, "tests", "man"))
import recording  # noqa: E402

HEADERS, SETTINGS, CONTINUATION = 1, 4, 9
END_STREAM, END_HEADERS = 1, 4

ASK = """
on[args[1]]({capture = 0}, function(e)
    local list = {}
    for name, value in pairs(e.headers) do
        list[#list + 1] = {name, value}
    end
    emit{type = "block", conn = e.conn.id, stream = e.stream_id, method = e.method, path = e.path,
         host = e.host, url = e.url, status = e.status, list = json.array(list), partial = e.partial}
end)
"""


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def block(stream, payload, cut):
    """A header block; every other one in two frames."""
    if not cut or len(payload) < 2:
        return frame(HEADERS, END_STREAM | END_HEADERS, stream, payload)
    half = len(payload) // 2
    return frame(HEADERS, END_STREAM, stream, payload[:half]) + \
        frame(CONTINUATION, END_HEADERS, stream, payload[half:])


def story_of(path):
    """A list of blocks; none where it is no wire of HPACK as it became (from draft 9 on)."""
    with open(path, encoding="utf-8") as f:
        story = json.load(f)
    return story["cases"] if story.get("draft", 0) >= 9 else []


def fields(c):
    return [[k, v] for h in c["headers"] for k, v in h.items()]


def record(lab, stories, is_request):
    """A connection each: the client's preface, the server's settings, then what the story sends."""
    r = recording.Recording()
    r.record(recording.START, struct.pack("=QQ", r.now, recording.WALL), "6.1", "box")
    for number, name in ((recording.READ, "SSL_read"), (recording.WRITE, "SSL_write")):
        r.record(recording.SOURCE, struct.pack("=II", number + 1, number), "openssl", name,
                 recording.LIB)
    p = recording.Program(r, "vectors", 100, 1, 0, "root", "/bin/vectors", "vectors")
    mine, other = (recording.OUT, recording.IN) if is_request else (recording.IN, recording.OUT)
    first = [PREFACE + frame(SETTINGS, 0, 0), frame(SETTINGS, 0, 0)]
    for n, story in enumerate(stories):
        p.connect(n)
        said = [[mine, first[0 if is_request else 1]], [other, first[1 if is_request else 0]]]
        for i, c in enumerate(story):
            said.append([mine, block(2 * i + 1, bytes.fromhex(c["wire"]), i % 2)])
        for way, data in said:
            r.wait(0.001)
            r.data(recording.DATA, p, way, data, len(data), len(data))
        r.data(recording.CLOSE, p, recording.OUT, b"", 0, 0)
    r.record(recording.STOP, struct.pack("=QiI", r.now, -1, 0))
    return lab.write("vectors.rec", b"".join(r.out))


def compare(where, o, c):
    want = fields(c)
    pseudo = {k: v for k, v in want if k.startswith(":")}
    same(f"{where}: fields", o["list"], [h for h in want if not h[0].startswith(":")])
    same(f"{where}: status", o.get("status"), int(pseudo[":status"]) if ":status" in pseudo else None)
    same(f"{where}: method", o.get("method"), pseudo.get(":method"))
    same(f"{where}: path", o.get("path"), pseudo.get(":path"))
    same(f"{where}: host", o.get("host"), pseudo.get(":authority"))
    if ":path" in pseudo and pseudo[":path"].startswith("/"):
        same(f"{where}: url", o["url"], pseudo[":scheme"] + "://" + pseudo[":authority"] +
             pseudo[":path"])
    check(not o["partial"], f"{where} is partial")


@case(needs=["npm"], timeout=300)
def hpack_vectors(lab):
    """What a dozen encoders made of the same headers (the cases of http2jp, as npm's hpack has them)."""
    folder = from_npm(lab, "hpack", "1.0.0") + "/hpack/test/hpack-test-case"
    blocks = encoders = 0
    for encoder in sorted(glob.glob(f"{folder}/*/story_00.json")):
        paths = sorted(glob.glob(os.path.dirname(encoder) + "/story_*.json"))
        stories = {p: s for p, s in ((p, story_of(p)) for p in paths) if s}
        encoders += bool(stories)
        for event, first in (("http_request", ":method"), ("http_response", ":status")):
            chosen = [p for p, s in stories.items() if any(k == first for k, _ in fields(s[0]))]
            if not chosen:
                continue
            path = record(lab, [stories[p] for p in chosen], first == ":method")
            p = lab.run([TLSSCOPE, "-q", "-f", "json", "-r", path, lab.write("ask.lua", ASK), event])
            seen = {(o["conn"], o["stream"]): o for o in map(json.loads, p.out().splitlines())}
            for n, name in enumerate(chosen, 1):
                for i, c in enumerate(stories[name]):
                    o = seen.pop((n, 2 * i + 1), None)
                    where = "/".join(name.split("/")[-2:]) + f", block {i}"
                    check(o, f"{where} is missing")
                    compare(where, o, c)
                    blocks += 1
            check(not seen, f"{encoder}: more than was sent: {list(seen.values())[:2]}")
    check(encoders == 11 and blocks > 36000, f"only {blocks} blocks of {encoders} encoders")
