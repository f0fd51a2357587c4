# SPDX-License-Identifier: MIT
"""Hostile payload, the recipes, and record and replay."""
import base64
import json
import os
import subprocess

from cases_cli import copy_for_nobody
from harness import NOBODY, PYTHON, TLSSCOPE, case, check, lines, same
from web import backend, curl, nginx

HOSTILE = b"".join([
    b"MARK-START\n", b"\x1b[2J\x1b[H\x1b]0;title\x07", b"\x1bP+q\x1b\\", b"nul:\x00:nul\n",
    b"\r\rover\b\b\x7f", b"\x0e\x0f\x05", b"\xff\xfe\xc0\x80\xed\xa0\x80\xf5",
    "c1:\u009b2J\u0085 ".encode(), b"\xe2\x82", "good: äöü € 😀 \u202e\u2028 ".encode(),
    bytes(range(256)), b'"}\n{"type":"forged"}\n', b"%s%n%d", b"MARK-END\n"])

# Its own name is hostile too.
TALK = """
import ctypes, socket, ssl, sys, threading
ctypes.CDLL(None).prctl(15, b"\\x1b[2Jna\\xff\\nme", 0, 0, 0)
cert, key, data = sys.argv[1], sys.argv[2], open(sys.argv[3], "rb").read()
a, b = socket.socketpair()
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(cert, key)
got = []

def serve():
    s = server.wrap_socket(b, server_side=True)
    while sum(map(len, got)) < len(data):
        got.append(s.recv(65536))
    s.close()

t = threading.Thread(target=serve)
t.start()
client = ssl.create_default_context(cafile=cert)
c = client.wrap_socket(a, server_hostname="localhost")
c.sendall(data)
t.join()
sys.exit(b"".join(got) != data)
"""


def talk(lab, data):
    words = [PYTHON, lab.write("talk.py", TALK), lab.cert, lab.key, lab.write("data", data)]
    return " ".join(words)


def harmless(name, text):
    """Nothing in it acts on a terminal; valid UTF-8."""
    for bad in [*range(0, 9), *range(11, 32), 127]:
        at = text.find(bytes([bad]))
        check(at < 0, f"{name}: raw byte {bad:#04x} in {text[max(0, at - 30):at + 20]!r}")
    try:
        decoded = text.decode()
    except UnicodeDecodeError as e:
        check(False, f"{name}: not UTF-8: {e}")
    for c in decoded:
        check(not 0x80 <= ord(c) < 0xa0, f"{name}: a C1 control {ord(c):#x}")


def handler(lab, action):
    return lab.write("handler.lua", 'on.tls_data({capture = "all"}, function(e) ' + action + " end)")


def on_terminal(lab, *argv):
    """What a program writes to a terminal; its standard error goes there too."""
    master, slave = os.openpty()
    lab.spawn(["stty", "-onlcr"], stdin=slave).finish()
    p = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=lab.environment(None))
    os.close(slave)
    out = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the end of a terminal
            part = b""
        if not part:
            break
        out += part
    os.close(master)
    check(p.wait(10) == 0, f"{argv} ended with {p.returncode}: {out[-300:]!r}")
    return out


@case()
def hostile_payload_text(lab):
    """What shows payload by itself never lets it through raw, wherever the output goes."""
    command = talk(lab, HOSTILE)
    scripts = [("sniff", "sniff"), ("hexsniff", "hexsniff")]
    scripts += [(a, None) for a in ("print(e.data, e.comm)", 'printf("%s%s\\n", e.comm, e.data)',
                                    "emit{data = e.data, comm = e.comm, [e.data] = 1}",
                                    "print(escape(e.data))", "print(hexdump(e.data))")]
    for name, script in scripts:
        p = lab.run([TLSSCOPE, "-c", command, script or handler(lab, name)])
        harmless(name, p.out())
        if "hex" not in name:
            check(b"MARK-START" in p.out() and b"MARK-END" in p.out(), f"{name}: {p.out()!r}")


@case()
def hostile_payload_terminal(lab):
    """On a terminal that holds for everything, the script's own print too."""
    command = talk(lab, HOSTILE)
    for name in ("sniff", "print(e.data, e.comm)", 'printf("%s %s\\n", e.comm, e.data)',
                 "warn(e.data)", "error(e.data)", "exit(0, e.data)", "local x = e[e.data]",
                 'count("c"):add(1, e.data, e.comm)', "emit{data = e.data, [e.data] = e.comm}"):
        script = name if name == "sniff" else handler(lab, name)
        # Its own colours are looked at in `colors`.
        out = on_terminal(lab, "env", "NO_COLOR=1", TLSSCOPE, "-c", command, script)
        harmless(name, out)
        if "exit" not in name:
            check(b"MARK-START" in out, f"{name}: nothing of it is shown: {out!r}")


@case()
def hostile_payload_json(lab):
    """Every line is an object; the payload comes back byte for byte."""
    command = talk(lab, HOSTILE)
    for name in ("sniff", "hexsniff", "tlstop", "iosize", "libs"):
        out = lab.path(name + ".json")
        lab.run([TLSSCOPE, "-f", "json", "-o", out, "-c", command, name])
        with open(out, "rb") as f:
            text = f.read()
        harmless(name, text)
        objects = [json.loads(line) for line in text.splitlines()]
        check(all("type" in o for o in objects), f"{name}: an object without a type")
        check(not any(o["type"] == "forged" for o in objects), f"{name}: the payload forged a line")
        if name == "sniff":
            for way in ("in", "out"):
                data = b"".join(payload(o) for o in objects if o.get("dir") == way)
                same(f"sniff's {way}", data, HOSTILE)


def payload(o):
    return base64.b64decode(o["data_b64"]) if "data_b64" in o else o["data"].encode()


@case()
def hostile_json_decode(lab):
    """A script that decodes what comes does not die of it."""
    script = lab.write("j.lua", """
        local good, bad = 0, 0
        on.tls_data({capture = "all"}, function(e)
            if json.decode(e.data) ~= nil then good = good + 1 else bad = bad + 1 end
        end)
        on.stop(function() print(good, bad) end)
        """)
    for data, want in ((b'{"a":[1,2,{"b":null}]}', b"2\t0\n"), (b"[" * 16000, b"0\t2\n"),
                       (b'"\xff"', b"0\t2\n"), (b'{"a":1e999999}', None)):
        p = lab.run([TLSSCOPE, "-c", talk(lab, data), script])
        check(want is None or p.out() == want, f"{data[:30]!r}: {p.out()!r}")


@case(needs=["nginx", "curl"])
def sniff_fields(lab):
    """The recipe's JSON has what it promises, and the whole traffic is in it."""
    port = lab.port()
    nginx(lab, port, backend())
    out = lab.path("sniff.json")
    get = f"curl -sS --http1.1 --cacert {lab.cert} https://localhost:{port}/echo/hello"
    lab.run([TLSSCOPE, "-f", "json", "-o", out, "-c", get, "sniff"])
    with open(out) as f:
        objects = [json.loads(line) for line in f]
    data = [o for o in objects if "dir" in o]
    for o in data:
        for field in ("type", "time", "pid", "tid", "comm", "probe", "func", "lib", "kind", "dir",
                      "len", "conn"):
            check(o.get(field) not in (None, ""), f"no {field} in {o}")
    asked = b"".join(payload(o) for o in data if o["dir"] == "out")
    got = b"".join(payload(o) for o in data if o["dir"] == "in")
    check(asked.startswith(b"GET /echo/hello HTTP/1.1\r\n"), f"{asked[:80]!r}")
    check(got.endswith(b"\r\n\r\n/echo/hello"), f"{got[-80:]!r}")


@case(needs=["nginx", "curl", "setpriv"])
def record_and_replay(lab):
    """A recording gives the same output byte for byte, without privileges, live and later."""
    port = lab.port()
    nginx(lab, port, backend())
    record = lab.path("traffic.rec")
    script = lab.write("all.lua", """
        local seen, sizes = count("seen"), hist("sizes")
        on.tls_data({capture = "all"}, function(e)
            emit{type = "data", nsecs = e.nsecs, time = e.time, pid = e.pid, tid = e.tid,
                 ppid = e.ppid, uid = e.uid, gid = e.gid, cpu = e.cpu, comm = e.comm, len = e.len,
                 conn = e.conn.id, dir = e.dir, probe = e.probe, func = e.func, lib = e.lib,
                 ret = e.ret, duration = e.duration_ns, data = e.data, gap = e.gap,
                 exe = e.proc and e.proc.exe, cmdline = e.proc and e.proc.cmdline,
                 user = e.proc and e.proc.user, bytes_in = e.conn.bytes_in}
            seen:add(1, e.comm, e.dir)
            sizes:add(e.len, e.comm)
        end)
        local ticks = 0
        every("100ms", function() ticks = ticks + 1 emit{type = "tick", n = ticks} end)
        on.start(function(s) emit{type = "ready", kernel = s.kernel, time = s.time} end)
        on.stop(function(s)
            emit{type = "stop", time = s.time}
            seen:print() sizes:print()
        end)
        on.tls_close(function(c) emit{type = "close", conn = c.conn.id, out = c.conn.bytes_out} end)
        on.exec(function(x) emit{type = "exec", pid = x.pid, comm = x.comm} end)
        on.exit(function(x) emit{type = "exit", pid = x.pid} end)
        """)
    for form in ("json", "text"):
        tracer = lab.tracer("--comm", "nginx", "--comm", "curl", "-w", record, script=script,
                            form=form)
        for option in ("--http1.1", "--http2"):
            curl(lab, port, option)
        subprocess.run(["sleep", "0.35"], check=True)
        tracer.process.stop(2)
        check(tracer.process.returncode == 0, tracer.process.err())
        live = tracer.output()
        check(live.count(b"data") > 20, "too little was seen")
        os.chmod(record, 0o644)
        later = lab.path(f"replayed-{form}")
        tlsscope = copy_for_nobody(lab)
        lab.run([tlsscope, "-f", form, "-r", record, "-o", later, script])
        with open(later, "rb") as f:
            same(f"{form}: live and replayed", live, f.read())
        p = lab.run([tlsscope, "-f", form, "-r", record, script], user=NOBODY)
        same(f"{form}: live and replayed by nobody", live, p.out())


@case(needs=["nginx", "curl"])
def recipes_replay(lab):
    """Every recipe on one recording, in both formats: no error, and twice the same."""
    port = lab.port()
    nginx(lab, port, backend())
    record = lab.path("traffic.rec")
    tracer = lab.tracer("-w", record, "--comm", "nginx", "--comm", "curl")
    curl(lab, port, "--http1.1")
    tracer.stop()
    for recipe in ("sniff", "hexsniff", "tlstop", "iosize", "libs"):
        for form in ("text", "json"):
            outs = [lab.run([TLSSCOPE, "-f", form, "-r", record, recipe]) for _ in range(2)]
            same(f"{recipe} twice", outs[0].out(), outs[1].out())
            check(outs[0].out() and not outs[0].err(), f"{recipe}: {outs[0].err()!r}")


@case()
def damaged_recordings(lab):
    """A recording that is cut or changed: a sentence, status 1, no crash, and what was whole."""
    record = lab.path("good.rec")
    lab.run([TLSSCOPE, "-w", record, "-c", talk(lab, lines(200)), "-o", "/dev/null", "sniff"])
    with open(record, "rb") as f:
        good = f.read()
    script = lab.write("n.lua", 'local n = 0\non.tls_data({capture = "all"}, function(e) n = n + '
                       '#(e.data or "") end)\non.stop(function() print(n) end)\n')
    p = lab.run([TLSSCOPE, "-r", record, script])
    whole = int(p.out())
    check(whole == 2 * len(lines(200)), f"{whole} bytes replayed")
    for name, data, words in (
            ("cut", good[:-5], "cut.rec"), ("half", good[:len(good) // 2], "half.rec"),
            ("empty", b"", "empty.rec"), ("text", b"hello, world\n" * 9, "text.rec"),
            ("size", good[:16] + b"\xff\xff\xff\xff" + good[20:], "size.rec"),
            ("zero", good[:16] + bytes(4) + good[20:], "zero.rec"),
            ("version", good[:8] + b"\x63" + good[9:], "version.rec"),
            ("noise", good[:300] + os.urandom(3000), "noise.rec")):
        path = lab.write(name + ".rec", data)
        p = lab.run([TLSSCOPE, "-r", path, script], status=None)
        check(p.returncode == 1 and words in p.err(), f"{name}: {p.returncode} {p.err()!r}")
        check(not p.out() or int(p.out()) <= whole, f"{name}: {p.out()!r}")
    p = lab.run([TLSSCOPE, "-r", lab.path("missing.rec"), script], status=1)
    check("missing.rec" in p.err(), p.err())
    # Bits that flip anywhere must not crash it.
    for at in range(16, len(good), max(1, len(good) // 60)):
        path = lab.write("flip.rec", good[:at] + bytes([good[at] ^ 0x41]) + good[at + 1:])
        p = lab.run([TLSSCOPE, "-r", path, script], status=None)
        check(p.returncode in (0, 1), f"byte {at}: status {p.returncode}: {p.err()[-300:]}")


@case()
def aggregations_at_exit(lab):
    """What was counted is printed at the end, unless the script has on.stop."""
    code = 'local c = count("calls") on.tls_data(function(e) c:add(1, e.dir) end)'
    p = lab.run([TLSSCOPE, "-c", talk(lab, b"some words"), "-e", code])
    check(b"calls" in p.out() and b"out" in p.out() and b"in" in p.out(), p.out())
    code += ' on.stop(function() print("mine") end)'
    p = lab.run([TLSSCOPE, "-c", talk(lab, b"some words"), "-e", code])
    same("with on.stop", p.out(), b"mine\n")


@case()
def from_aggregation(lab):
    """An aggregation that feeds itself sees what a handler sees."""
    script = lab.write("a.lua", """
        local sent = sum("sent", {from = "tls_write", value = "len", by = "dir"})
        local n, bytes = 0, 0
        on.tls_write(function(e) n = n + 1 bytes = bytes + e.len end)
        on.stop(function() print(sent:get("out") == bytes, n > 0) end)
        """)
    same("sum", lab.run([TLSSCOPE, "-c", talk(lab, lines(300)), script]).out(), b"true\ttrue\n")
