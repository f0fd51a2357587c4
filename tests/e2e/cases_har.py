# SPDX-License-Identifier: MIT
"""--har: what curl and node said, read back by har-validator of npm; whatever the payload is."""
import base64
import collections
import glob
import json
import os
import re
import stat

from cases_recipes import SECRET, app, conversation
from harness import HERE, PYTHON, TLSSCOPE, case, check, same, wait_for
from suites import from_npm


# What an entry must have, and of which type, as the format's text says.
PAIRS = [{"name": str, "value": str}]
ENTRY = {
    "startedDateTime": str, "time": (int, float), "cache": dict, "connection": str,
    "request": {"method": str, "url": str, "httpVersion": str, "cookies": PAIRS, "headers": PAIRS,
                "queryString": PAIRS, "headersSize": int, "bodySize": int},
    "response": {"status": int, "statusText": str, "httpVersion": str, "cookies": PAIRS, "headers": PAIRS,
                 "content": {"size": int, "mimeType": str}, "redirectURL": str, "headersSize": int,
                 "bodySize": int},
    "timings": {"send": (int, float), "wait": (int, float), "receive": (int, float)},
}


def fits(value, shape, where):
    if isinstance(shape, list):
        check(isinstance(value, list), f"{where} is {value!r}")
        for v in value:
            fits(v, shape[0], where)
    elif isinstance(shape, dict):
        for name, inner in shape.items():
            check(name in value, f"{where} has no {name}: {str(value)[:300]}")
            fits(value[name], inner, f"{where}.{name}")
    else:
        check(isinstance(value, shape) and not isinstance(value, bool), f"{where} is {value!r}")


def har_of(path):
    """The entries of a file; each has what it must have."""
    with open(path, encoding="utf-8") as f:
        log = json.load(f)["log"]
    check(log["version"] == "1.2" and log["creator"]["name"] == "tlsscope", f"{list(log)}")
    fits(log["entries"], [ENTRY], "an entry")
    for e in log["entries"]:
        known = [v for v in e["timings"].values() if v >= 0]
        check(all(v >= 0 or v == -1 for v in e["timings"].values()) and abs(sum(known) - e["time"]) < 1e-3 and
              re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", e["startedDateTime"]) and
              re.fullmatch(r"https?://[!#-;=?-\[\]_a-z~]+", e["request"]["url"]), f"{str(e)[:500]}")
    return log["entries"]


def recorded(lab, comm, command):
    record, path = lab.path("all.rec"), lab.path("all.har")
    lab.run([TLSSCOPE, "--comm", comm, "-w", record, "--har", path, "-c", command], timeout=90)
    return record, path


@case(needs=["node", "curl"], timeout=150)
def har_of_curl(lab):
    """Both versions, masked; a replay gives the same file; with --show-secrets it has all."""
    port, name = app(lab)
    script = lab.write("load.sh", f"C='./{name} -s --cacert {lab.cert}'\n" + conversation(port, "--http1.1") +
                       conversation(port, "--http2"))
    record, path = recorded(lab, name, f"sh {script}")
    check(stat.S_IMODE(os.stat(path).st_mode) == 0o600, "the file is not private")
    with open(path, "rb") as f:
        text = f.read()
    check(SECRET.encode() not in text, "it has a secret")
    entries = har_of(path)
    found = collections.Counter((e["request"]["url"].split(f":{port}")[1], e["response"]["status"]) for e in entries)
    said = {(e["response"]["httpVersion"], e["response"]["statusText"]) for e in entries if e["response"]["status"] == 503}
    same("reason phrases", said, {("HTTP/1.1", "Service Unavailable"), ("HTTP/2", "")})
    want = {("/hello?token=***&x=1", 200): 2, ("/login", 200): 2, ("/form", 200): 4, ("/sse", 200): 2,
            ("/zipped", 200): 2, ("/slow", 200): 2, ("/error", 503): 2, ("/picture", 200): 2,
            ("/hang", 0): 2, ("/graphql", 200): 2, ("/graphql?query=%7Bme%7Bid%7D%7D", 200): 2}
    check(found == want, f"{found}")
    by = {(e["request"]["url"].split("/")[3].split("?")[0], e["request"]["httpVersion"]): e for e in entries}
    for version in ("HTTP/1.1", "HTTP/2"):
        hello, login, picture, zipped, slow, hang = (
            by[p, version] for p in ("hello", "login", "picture", "zipped", "slow", "hang"))
        same("query", hello["request"]["queryString"],
             [{"name": "token", "value": "***"}, {"name": "x", "value": "1"}])
        same("cookies", hello["request"]["cookies"],
             [{"name": "a", "value": "***"}, {"name": "b", "value": "***"}])
        same("cookies set", login["response"]["cookies"], [{"name": "sid", "value": "***", "path": "/"}])
        same("posted", json.loads(login["request"]["postData"]["text"]), {"user": "ann", "password": "***"})
        content = picture["response"]["content"]
        same("picture", (base64.b64decode(content["text"]), content["encoding"], content["mimeType"], content["size"]),
             (b"\0\xff\1\xfe", "base64", "image/png", 4))
        content = zipped["response"]["content"]
        check(content["text"].startswith(": hello\n\n") and
              content["size"] == len(content["text"]) - len("***") + len(SECRET) and
              content["compression"] == content["size"] - zipped["response"]["bodySize"], f"{content}")
        check(slow["timings"]["wait"] > 290 and slow["time"] >= slow["timings"]["wait"], f"{slow['timings']}")
        check(hang["timings"]["wait"] == -1 and hang["comment"] == "the response was not seen", f"{hang}")
        check((hello["serverIPAddress"], hello["_comm"], hello["_side"]) == ("127.0.0.1", name, "client"),
              f"{hello}")
    again = lab.path("again.har")
    lab.run([TLSSCOPE, "-r", record, "--har", again, "-e", "on.stop(function() end)"])
    with open(again, "rb") as f:
        same("live and replayed", f.read(), text)
    lab.run([TLSSCOPE, "-r", record, "--har", again, "--show-secrets"])
    shown = har_of(again)
    check(f"token={SECRET}" in shown[0]["request"]["url"] and len(shown) == len(entries), f"{shown[0]}")
    parts = lab.path("part.har")
    lab.run([TLSSCOPE, "-r", record, "--har", parts, "--rotate", "8K,9"])
    files = [f"{parts}.{n}" for n in range(len(glob.glob(parts + ".*")), 0, -1)] + [parts]
    check(len(files) > 2 and all(os.stat(f).st_size <= 8192 for f in files), f"{files}")
    same("rotated", [e for f in files for e in har_of(f)], entries)


HOSTILE = r"""
import socket, ssl, sys
def say(data):
    context = ssl._create_unverified_context()
    with context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1])))) as s:
        s.sendall(data)
        while s.recv(65536):
            pass
every = bytes(b for b in range(1, 256) if b not in b"\r\n")
say(b"POST /h\xff\"<>{}\\^?a=\xe4&b=%ff HTTP/1.1\r\nHost: \xffh\r\nX-All: " + every + b"\r\nConnection: close\r\n"
    b"Content-Type: te\xfft\r\nCookie: \xff\"=\\; b\r\nContent-Length: 256\r\n\r\n" + bytes(range(256)))
say(b"POST /cut HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2000003\r\n\r\n" + "\u20ac".encode() * 666667 + b"xx")
say(b"GET http://u:p@other/ HTTP/1.0\r\n\r\n")
say(b"GET /nohost HTTP/1.0\r\n\r\n")
say(b"OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
"""


def hostile_archive(lab):
    port, _ = app(lab)
    lab.write("say.py", HOSTILE)
    os.symlink(PYTHON, lab.path("hostile"))
    return recorded(lab, "hostile", f"./hostile say.py {port}")[1]


@case(needs=["node", "npm"], timeout=200)
def har_validator_of_npm(lab):
    """A reader that somebody else wrote takes whatever comes out."""
    modules = from_npm(lab, "har-validator", "5.1.5")
    path = hostile_archive(lab)
    p = lab.run(["node", os.path.join(HERE, "har.js"), modules, path], status=None)
    check(p.out() == b"valid\n", f"har-validator: {p.err()[-1500:]}")


@case(needs=["node"], timeout=120)
def har_of_hostile_payload(lab):
    """Valid JSON, valid HAR; what is no text is whole in base64; what is cut says so."""
    path = hostile_archive(lab)
    entries = har_of(path)
    by = {e["request"]["url"].split("?")[0].rstrip("/").split("/")[-1]: e["request"] for e in entries}
    first = next(r for u, r in by.items() if "%FF" in u)
    post = first["postData"]
    same("bytes", (base64.b64decode(post["text"]), post["_encoding"]), (bytes(range(256)), "base64"))
    check({"name": "a", "value": "\u00e4"} in first["queryString"], f"{first['queryString']}")
    cut = by["cut"]["postData"]["text"]
    check(cut == "\u20ac" * ((1 << 20) // 3) and by["cut"]["bodySize"] == 2000003, f"{len(cut)} characters")
    notes = {e["request"]["url"].split("?")[0]: e.get("comment", "") for e in entries}
    check("the beginning of the request's body" in notes["https://h/cut"], f"{notes}")
    check("asked for *" in notes["https://h/"] and "https://unknown.invalid/nohost" in notes, f"{notes}")
    check("http://***@other/" in notes, f"{notes}")


def entries_now(path):
    """Of a file that is being written."""
    try:
        return har_of(path)
    except ValueError:
        return []


@case(needs=["node", "curl"], timeout=90)
def har_ends_whole(lab):
    """After Ctrl-C in the middle of a stream, and when it is killed; on a full disk it says so."""
    port, name = app(lab)
    path = lab.path("live.har")
    tracer = lab.tracer("--comm", name, "--har", path, script='on.start(function() emit{type = "ready"} end)')
    lab.run([lab.path(name), "-s", "--cacert", lab.cert, f"https://localhost:{port}/hello"])
    hung = lab.spawn([lab.path(name), "-s", "--cacert", lab.cert, f"https://localhost:{port}/hello",
                      f"https://localhost:{port}/hang"], ready=b"hello")
    tracer.stop()
    hung.stop()
    urls = [(e["request"]["url"].split("/")[3], e["response"]["status"]) for e in har_of(path)]
    check(urls[:2] == [("hello", 200)] * 2 and urls[2:] in ([], [("hang", 0)]), f"{urls}")
    live = lab.tracer("--comm", name, "--har", path, script='on.start(function() emit{type = "ready"} end)')
    for n in (1, 2):
        lab.run([lab.path(name), "-s", "--cacert", lab.cert, f"https://localhost:{port}/hello"])
        wait_for(f"entry {n} while it runs", lambda n=n: len(entries_now(path)) == n)
    live.process.kill()
    live.process.wait()
    check(len(har_of(path)) == 2, "an entry is gone")
    command = f"./{name} -s --cacert {lab.cert} https://localhost:{port}/hello -o out"
    p = lab.run([TLSSCOPE, "--comm", name, "--har", "/dev/full", "-c", command], status=None)
    check(p.returncode == 1 and "No space left" in p.err(), f"status {p.returncode}: {p.err()}")
    p = lab.run([TLSSCOPE, "--comm", name, "--har", "-", "-c", command])
    check(len(json.loads(p.out())["log"]["entries"]) == 1 and "/hello" in p.err(), f"{p.out()[:300]!r} {p.err()}")
    for options, words in ((["--har", "x", "-o", "x"], "a file of its own"),
                           (["--har", "x", "--pcap", "x"], "a file of its own"),
                           (["--har", "-", "--rotate", "8K"], "cannot be rotated"),
                           (["--har", ""], "not empty")):
        p = lab.run([TLSSCOPE, *options, "-c", "true"], status=None)
        check(p.returncode in (1, 2) and words in p.err(), f"{options}: {p.returncode} {p.err()}")
