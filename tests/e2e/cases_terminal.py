# SPDX-License-Identifier: MIT
"""What a terminal shows, and what other programs read: jq takes every line."""
import base64
import json
import os
import re
import subprocess

from cases_output import HOSTILE, harmless, on_terminal, talk
from harness import PYTHON, TLSSCOPE, case, check, same, wait_for

SGR = re.compile(rb"\x1b\[[0-9;]*m")


@case(needs=["tmux"])
def redraw(lab):
    """A table takes the place of an older one that was larger; the screen is never empty."""
    script = lab.write("draw.lua", """
        local n = 0
        every("150ms", function()
            n = n + 1
            clear_screen()
            print("frame " .. n)
            if n < 4 then
                for i = 1, 10 do print(("x"):rep(70 - n), i) end
            else
                print(("y"):rep(80))
                print("short")
            end
            if n == 6 then after("400ms", function() exit() end) end
        end)
        """)
    tmux = ["tmux", "-S", lab.path("tmux"), "-f", "/dev/null"]
    done, raw = lab.path("done"), lab.path("raw")
    lab.run([*tmux, "new-session", "-d", "-x", "80", "-y", "24",
             f"sleep 0.5; {TLSSCOPE} -q {script}; touch {done}; sleep 60"])
    try:
        lab.run([*tmux, "pipe-pane", "-o", f"cat > {raw}"])
        wait_for("end of the script", lambda: os.path.exists(done))
        screen = lab.run([*tmux, "capture-pane", "-p"]).out().decode()
    finally:
        lab.run([*tmux, "kill-server"], status=None)
    check(re.fullmatch(r"frame [6-9]\ny{80}\nshort\s*", screen), f"the screen has {screen!r}")
    with open(raw, "rb") as f:
        sent = f.read()
    check(b"\x1b[2J" not in sent and b"\x1b[H\x1b[J" not in sent, "the screen is cleared")
    check(sent.count(b"\x1b[H") >= 6, f"{sent.count(b'[H')} frames: {sent[-300:]!r}")


@case(needs=["nghttpd", "h2load"], timeout=90)
def live_tables(lab):
    """Recipes that show now, on a terminal: no line is wider than it, none is left over."""
    port = lab.port()
    os.mkdir(lab.path("www"))
    lab.write("www/page", b"x")
    lab.spawn(["nghttpd", "-a", "127.0.0.1", "-d", lab.path("www"), str(port), lab.key, lab.cert], port=port)
    record = lab.path("h2.rec")
    url = f"https://127.0.0.1:{port}/"
    lab.run([TLSSCOPE, "-w", record, "-c", f"h2load -n 300 -c 12 {' '.join(url + ('p' * n) for n in range(1, 60, 3))}",
             "-e", "on.http({capture = 0}, function() end)"], timeout=60)
    for recipe in (["httptop", "--by", "url"], ["h2streams"]):
        shown = on_terminal(lab, TLSSCOPE, "-q", "-r", record, *recipe, "--interval", "20ms")
        check(b"\x1b[H" in shown and b"\x1b[2J" not in shown, f"{recipe}: {shown[:300]!r}")
        for line in re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", shown).decode().splitlines():
            check(len(line) <= 80, f"{recipe}: a line of {len(line)} characters: {line}")


@case()
def colors(lab):
    """On a terminal only, and not with NO_COLOR; the payload's own never get there."""
    data = b"\x1b[35mpurple\x1b[7m" + HOSTILE
    argv = [TLSSCOPE, "-c", talk(lab, data), "sniff"]
    shown = on_terminal(lab, *argv)
    same("colours", sorted(set(SGR.findall(shown))), [b"\x1b[32m", b"\x1b[36m", b"\x1b[m"])
    harmless("without them", SGR.sub(b"", shown))
    check(shown.rstrip(b"\r\n").count(b"\x1b[m") == len(SGR.findall(shown)) / 2, "one stays on")
    for quiet in (on_terminal(lab, "env", "NO_COLOR=1", *argv),
                  on_terminal(lab, *argv[:1], "-f", "json", *argv[1:]), lab.run(argv).out()):
        check(b"\x1b" not in quiet and b"ssl_write" in quiet, f"{quiet[:300]!r}")
    check(b"\x1b[32m" in on_terminal(lab, "env", "NO_COLOR=", *argv), "an empty NO_COLOR counts")


@case()
def widths(lab):
    """Tables are as wide as the terminal at most; numbers are never cut."""
    script = lab.write("wide.lua", """
        local c = sum("bytes", {by = {"lib", "func", "comm"}})
        on.tls_data(function(e) c:add(e.len, e.lib, e.func, e.comm) end)
        """)
    for columns in (50, 200):
        argv = ["sh", "-c", f"stty cols {columns}; exec {TLSSCOPE} -q -c '{talk(lab, HOSTILE)}' {script}"]
        out = on_terminal(lab, *argv).decode()
        rows = [line for line in out.splitlines() if "ssl_" in line or "..." in line]
        check(rows and max(map(len, rows)) <= columns, f"{columns}: {rows}")
        check(any(str(len(HOSTILE)) in row for row in rows), f"{columns}: {rows}")
        check(("libssl.so" in out) == (columns == 200), f"{columns}: {out}")


EVERYTHING = """
for _, name in ipairs {"start", "stop", "lost", "error", "attach", "exec", "exit", "tls_close",
                       "signal_usr1"} do
    on[name](emit)
end
on.tls_data({capture = "all"}, emit)
on.tls_data({capture = "all"}, function(e)
    print(e.data)
    printf("%s\\n", e.data)
    hexdump(e.data)
    emit {type = "mine", data = e.data, conn = e.conn, nested = {inner = e.data}, [e.data] = 1, list = {e.data}}
    if e.dir == "out" then error(e.data) end
end)
local fed = {}
for i, kind in ipairs {"sum", "avg", "min", "max", "stats", "hist", "tseries"} do
    fed[i] = _ENV[kind](kind, {by = {"data", "comm"}})
end
fed[#fed + 1] = lhist("lhist", {min = 0, max = 100, step = 10, by = {"data", "comm"}})
local calls = count("count", {from = "tls_data", by = {"data", "comm"}})
on.tls_data({capture = "all"}, function(e)
    for _, a in ipairs(fed) do a:add(e.len, e.data, e.comm) end
end)
on.stop(function()
    for _, a in ipairs(fed) do a:print() end
    calls:print()
end)
"""


@case(needs=["jq"])
def json_of_everything(lab):
    """Every event and aggregation, with hostile payload: jq reads it, the bytes come back."""
    script = lab.write("all.lua", EVERYTHING)
    for name, data in (("hostile", HOSTILE), ("utf8", "good: äöü\u2028\x00\x1b[2J".encode())):
        record = lab.path("all.rec")
        live = lab.run([TLSSCOPE, "-q", "-f", "json", "-w", record, "-c", talk(lab, data),
                        script]).out()
        harmless(name, live)
        out = lab.run(["jq", "-c", "."], input=live).out()
        objects = [json.loads(line) for line in out.splitlines()]
        same("objects", len(objects), live.count(b"\n"))
        types = {o["type"] for o in objects}
        for want in ("start", "stop", "attach", "error", "exec", "exit", "tls_close", "ssl_read",
                     "ssl_write", "print", "mine", "count", "sum", "avg", "min", "max", "stats",
                     "hist", "lhist", "tseries"):
            check(want in types, f"{name}: nothing of type {want}: {types}")
        key = "data_b64" if name == "hostile" else "data"
        query = f'select(.type == "ssl_write" or .type == "mine") | .{key}' + \
            (" | @base64d" if name == "hostile" else "")
        for o in objects:
            check(("data" in o) != ("data_b64" in o) or o["type"] not in ("ssl_write", "mine"),
                  f"{name}: {str(o)[:300]}")
            check(o["type"] not in ("tls_close", "mine") or isinstance(o["conn"], int),
                  f"{name}: no connection: {str(o)[:300]}")
        check(lab.run(["jq", "-r", query], input=live).out(), f"jq finds no {key}")
        keys = [d for o in objects if o["type"] == "count" for d in o["data"]]
        check(keys and all(("key_b64" in d) == any("\ufffd" in k for k in d["key"]) for d in keys),
              f"{name}: {keys}")
        text = lab.run([TLSSCOPE, "-q", "-r", record, script]).out()
        harmless(f"{name} as text", text)
        for want in (b"start ", b"attach ", b"tls_close ", b"ssl_write ", b"error ", b"tseries"):
            check(want in text, f"{name} as text: no {want}")


# A server and its client, over TCP: a request and a response that are hostile wherever they may be, then
# a handshake that fails.
WEB = """
import ctypes, socket, ssl, sys, threading
ctypes.CDLL(None).prctl(15, b"\\x1b[2Jna\\xff\\nme", 0, 0, 0)
cert, both, data = sys.argv[1], sys.argv[2], open(sys.argv[3], "rb").read()
value = bytes(b for b in data if b not in b"\\0\\r\\n")
text = bytes(b for b in value if b > 31 and b != 127)
message = b"Host: " + value + b"\\r\\nX-Ends: \\xff\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(data) + data
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(both)
listener = socket.create_server(("127.0.0.1", 0))

def read(s):
    got = b""
    while not got.endswith(message):
        got += s.recv(65536)

def serve():
    for _ in range(2):
        a, _ = listener.accept()
        try:
            s = server.wrap_socket(a, server_side=True)
            read(s)
            s.sendall(b"HTTP/1.1 200 " + text + b"\\r\\n" + message)
            s.close()
        except OSError:
            a.close()

def connect(context, name):
    return context.wrap_socket(socket.create_connection(listener.getsockname()), server_hostname=name)

t = threading.Thread(target=serve)
t.start()
good = ssl.create_default_context(cafile=cert)
good.check_hostname = False
c = connect(good, b"\\x1b[2Jhost")
c.sendall(b"POST /" + text.replace(b" ", b"+") + b" HTTP/1.1\\r\\n" + message)
read(c)
c.close()
try:
    connect(ssl.create_default_context(), "localhost")
except ssl.SSLError:
    pass
t.join()
"""

WEB_EVENTS = """
for _, name in ipairs {"http", "http_request", "http_response"} do
    on[name]({capture = "all"}, emit)
end
for _, name in ipairs {"tls_open", "tls_error", "tls_hello"} do
    on[name](emit)
end
on.http({capture = "all"}, function(e)
    emit {type = "mine", headers = e.headers, nested = {e.request.headers, {e.headers}}, copy = e:copy()}
    for name, value in pairs(e.headers) do
        printf("%s: %s\\n", name, value)
    end
end)
"""


def bytes_of(o, key):
    return base64.b64decode(o[key + "_b64"]) if key + "_b64" in o else o[key].encode()


@case(needs=["jq"])
def json_of_connections_and_http(lab):
    """What connections and HTTP have, hostile: jq reads it, the bytes come back; a replay is equal."""
    script = lab.write("web.lua", WEB_EVENTS)
    for name, data in (("hostile", HOSTILE), ("utf8", "good: äöü\u2028\x1b[2J".encode())):
        record = lab.path("web.rec")
        command = f"{PYTHON} {lab.write('web.py', WEB)} {lab.cert} {lab.both} {lab.write('data', data)}"
        live = lab.run([TLSSCOPE, "-q", "-f", "json", "-w", record, "-c", command, script]).out()
        harmless(name, live)
        objects = [json.loads(o) for o in lab.run(["jq", "-c", "."], input=live).out().splitlines()]
        same("objects", len(objects), live.count(b"\n"))
        by = {}
        for o in objects:
            by.setdefault(o["type"], []).append(o)
        value = bytes(b for b in data if b not in b"\0\r\n").strip(b" ")
        for kind in ("http", "http_request", "http_response", "mine"):
            check(len(by.get(kind, [])) == 2, f"{name}: {len(by.get(kind, []))} of {kind}, not 2")
            for o in (m.get("copy", m) for m in by[kind]):
                same(f"{name} {kind}: body", bytes_of(o, "body"), data)
                same(f"{name} {kind}: a header", bytes_of(o["headers"][0], "value"), value)
                same(f"{name} {kind}: another", bytes_of(o["headers"][1], "value"), b"\xff")
                check(isinstance(o["conn"], int), f"{name}: no connection: {str(o)[:300]}")
        for o in by["mine"]:
            same("nested", [o["nested"][0][1], o["nested"][1][0][1]], [o["headers"][1]] * 2)
        hellos = {o.get("sni") for o in by["tls_hello"]}
        check("\x1b[2Jhost" in hellos and len(by["tls_hello"]) == 8, f"{name}: hellos {hellos}")
        check(len(by["tls_open"]) == 4, f"{name}: {by['tls_open']}")
        reasons = " ".join(o["err"] for o in by["tls_error"])
        check("self-signed" in reasons and "unknown_ca" in reasons, f"{name}: {reasons}")
        again = lab.run([TLSSCOPE, "-q", "-f", "json", "-r", record, script]).out()
        same(f"{name}: live and replayed", live, again)
        text = lab.run([TLSSCOPE, "-q", "-r", record, script]).out()
        harmless(f"{name} as text", text)
        for want in (b"http ", b"http_request ", b"tls_hello ", b"tls_error ", b"tls_open ", b"X-Ends: "):
            check(want in text, f"{name} as text: no {want}")


@case()
def times(lab):
    """Local, UTC and relative, whatever the script says."""
    code = 'config{time = "utc"} on.start(function(e) emit{t = e.time} end) every("50ms", exit)'

    def shown(*options):
        return json.loads(lab.run([TLSSCOPE, "-f", "json", *options, "-e", code],
                                  env={"TZ": "XXX-9"}).out().splitlines()[0])["t"]
    same("relative", shown("--time", "relative"), "0.000000")
    hours = [int(shown(*o)[:2]) for o in ((), ("--time", "local"), ("--time", "utc"))]
    check((hours[1] - hours[0]) % 24 in (9, 10) and (hours[2] - hours[0]) % 24 in (0, 1), f"{hours}")
    p = subprocess.run([TLSSCOPE, "--time", "mars", "sniff"], stderr=subprocess.PIPE)
    check(p.returncode == 2 and b"local, utc or relative" in p.stderr, p.stderr)
