# SPDX-License-Identifier: MIT
"""wslog: what WebSockets of others said, against what they say of it."""
import base64
import collections
import hashlib
import json
import os
import shutil

import losses
import suites
from harness import PATH, PYTHON, ROOT, TLSSCOPE, case, check, same, wait_for

WS = "8.18.0"

# Both ends are of the npm package ws, and print what they send and get.
COMMON = """
const WebSocket = require(process.argv[2]), fs = require("fs"), crypto = require("crypto");
const deflate = JSON.parse(process.argv[3]), port = Number(process.argv[4]);
function tell(dir, data, binary) {
    const b = Buffer.isBuffer(data) ? data : Buffer.from(data);
    console.log(JSON.stringify({dir, opcode: binary ? "binary" : "text", len: b.length,
        sha: crypto.createHash("sha256").update(b).digest("hex")}));
}
"""
SERVER = COMMON + """
const server = require("https").createServer({
    cert: fs.readFileSync(process.argv[5]), key: fs.readFileSync(process.argv[6])});
new WebSocket.WebSocketServer({server, perMessageDeflate: deflate}).on("connection", (w) => {
    w.on("message", (data, binary) => {
        tell("in", data, binary);
        tell("out", data, binary);
        w.send(data, {binary});
    });
});
server.listen(port, "127.0.0.1");
"""
CLIENT = COMMON + """
const ca = fs.readFileSync(process.argv[5]);
const [connections, rounds, most] = process.argv.slice(6).map(Number);
const words = "ein kürzerer Text, der sich wiederholt, und noch einer: \\u{1f600} ".repeat(6000);
// Random bytes can read "pwd:2", which would be hidden as a secret: not without these two.
function noise(size) {
    return crypto.randomBytes(size).map((b) => b == 58 || b == 61 ? 0 : b);
}
function message(n) {
    const size = Math.min(most, [0, 1, 125, 126, 127, 3000, 65535, 65536, 200000][n % 9]);
    return n % 3 == 2 ? noise(size) : words.slice(n % 50, n % 50 + size);
}
function send(w, n) {
    const data = message(n), binary = Buffer.isBuffer(data), half = data.length >> 1;
    tell("out", data, binary);
    if (n % 4 == 3) {
        w.send(data.slice(0, half), {fin: false, binary});
        w.ping("amid");
        w.send(data.slice(half), {fin: true, binary});
    } else {
        w.send(data, {binary});
    }
}
let left = connections;
for (let i = 0; i < connections; i++) {
    const w = new WebSocket("wss://localhost:" + port + "/chat?token=secret", {
        ca, family: 4, perMessageDeflate: deflate});
    let n = i;
    w.on("open", () => send(w, n));
    w.on("message", (data, binary) => {
        tell("in", data, binary);
        if (++n < i + rounds) send(w, n); else w.close(4001, "done");
    });
    w.on("close", (code) => { if (code != 4001) process.exit(3); left--; });
    w.on("error", (e) => { console.error(e); process.exit(4); });
}
"""


def wslog(lab, *options):
    """
    The recipe, with a mark when it is attached, and room for a burst on a busy machine. Node has the
    library in itself, and its client's first calls come as soon as it runs: it is probed before.
    """
    lab.spawn([shutil.which("node", path=PATH), "-e",
               'setInterval(() => {}, 1e6); console.log("here")'], ready=b"here")
    with open(os.path.join(ROOT, "scripts", "wslog.lua"), encoding="utf-8") as f:
        script = 'config{buffer = "64M"} on.start(function() emit{type = "ready"} end)\n' + f.read()
    return lab.tracer(*options, script=script, arguments=["--data", "1000000"])


def content(r):
    return base64.b64decode(r["data_b64"]) if "data_b64" in r else r.get("data", "").encode()


def messages(records, pid):
    """What was seen of a process: how often each text and binary message."""
    return collections.Counter(
        (r["dir"], r["opcode"], r["len"], hashlib.sha256(content(r)).hexdigest())
        for r in records if r["pid"] == pid and r["opcode"] in ("text", "binary"))


def told(process):
    return collections.Counter((t["dir"], t["opcode"], t["len"], t["sha"]) for t in
                               map(json.loads, process.out().splitlines()))


def compare(records, process, what):
    mine, own = messages(records, process.pid), told(process)
    check(own, f"{what} told of no message")
    check(mine == own, f"{what}: wslog {list((mine - own).items())[:3]}, "
                       f"itself {list((own - mine).items())[:3]}")


def of_ws(tracer):
    records = [r for r in tracer.stop().records if r["type"] == "ws_message"]
    for r in records:
        check(not r["truncated"] and not r["gap"] and not r.get("err"), f"not whole: {str(r)[:300]}")
        check("secret" not in r["url"], f"a secret is shown: {r['url']}")
    return records


def named(lab, program, port):
    """A program under a name that no other case has."""
    path = lab.path(f"{os.path.basename(program)}{port}")
    if not os.path.exists(path):
        os.symlink(shutil.which(program, path=PATH), path)
    return path


def node_server(lab, package, deflate, port):
    return lab.spawn([named(lab, "node", port), lab.write("server.js", SERVER), package, deflate,
                      str(port), lab.cert, lab.key], port=port)


def node_client(lab, package, deflate, port, connections=1, rounds=30, most=1 << 20):
    return lab.run([named(lab, "node", port), lab.write("client.js", CLIENT), package, deflate,
                    str(port), lab.cert, str(connections), str(rounds), str(most)], timeout=100)


def check_client(records, client, connections):
    compare(records, client, "client")
    mine = [r for r in records if r["pid"] == client.pid]
    check(len({r["conn"] for r in mine}) == connections, "not as many connections")
    closes = [(r["dir"], r.get("code"), r.get("reason")) for r in mine if r["opcode"] == "close"]
    check(collections.Counter(closes) == {("out", 4001, "done"): connections,
                                          ("in", 4001, "done"): connections}, f"closes: {closes[:5]}")
    pings = [content(r) for r in mine if r["opcode"] == "ping" and r["dir"] == "out"]
    check(pings and set(pings) == {b"amid"}, f"pings: {pings[:5]}")
    check(max(r["frames"] for r in mine) == 2, "nothing came in fragments")
    check(all(r["side"] == "client" for r in mine), "the client is taken for a server")


@case(needs=["node", "npm"], timeout=300)
def websocket_node(lab):
    """ws at both ends, with each kind of permessage-deflate."""
    package = suites.from_npm(lab, "ws", WS) + "/ws"
    for deflate in ("false", '{"threshold": 0}',
                    '{"threshold": 0, "serverNoContextTakeover": true, "clientNoContextTakeover": true}',
                    '{"threshold": 100, "serverMaxWindowBits": 9, "clientMaxWindowBits": 10}'):
        port = lab.port()
        server = node_server(lab, package, deflate, port)
        tracer = wslog(lab, "--comm", f"node{port}")
        client = node_client(lab, package, deflate, port)
        records = of_ws(tracer)
        compare(records, server, "server")
        check_client(records, client, 1)
        squeezed = [r for r in records if r["compressed"] and r["pid"] == client.pid]
        check(bool(squeezed) == (deflate != "false"), f"{len(squeezed)} compressed, with {deflate}")
        check(all(r["raw_len"] < r["len"] / 5 for r in squeezed
                  if r["opcode"] == "text" and r["len"] > 2000), "nothing was saved")
        server.stop()


@case(needs=["node", "npm"], timeout=300)
def websocket_many(lab):
    """Two hundred at once, with a window of compression each way: little memory, nothing mixed up."""
    package = suites.from_npm(lab, "ws", WS) + "/ws"
    port = lab.port()
    server = node_server(lab, package, '{"threshold": 0}', port)
    tracer = wslog(lab, "--comm", f"node{port}")
    client = node_client(lab, package, '{"threshold": 0}', port, 200, 12, 3000)
    wait_for("last close", lambda: tracer.output().count(b'"reason":"done"') >= 800, 60)
    with open(f"/proc/{tracer.process.pid}/status") as f:
        most = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
    records = of_ws(tracer)
    compare(records, server, "server")
    check_client(records, client, 200)
    check(most < 300 << 10, f"tlsscope took {most} KiB")


PYTHON_SERVER = """
import asyncio, hashlib, json, ssl, sys
import websockets

def tell(direction, m):
    data = m.encode() if isinstance(m, str) else m
    print(json.dumps({"dir": direction, "opcode": "text" if isinstance(m, str) else "binary",
                      "len": len(data), "sha": hashlib.sha256(data).hexdigest()}), flush=True)

async def echo(ws):
    try:
        async for m in ws:
            tell("in", m)
            tell("out", m)
            await ws.send(m)
    except websockets.ConnectionClosed:
        pass  # with a code that it does not take for a good end

async def main(port, cert, key):
    tls = None
    if cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(cert, key)
    async with websockets.serve(echo, "127.0.0.1", port, ssl=tls):
        await asyncio.Future()

asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
"""


def python_server(lab, port, *certificate):
    root = suites.packages_of(lab, "bookworm", "python3-websockets", ["python3-websockets"])
    return lab.spawn([named(lab, PYTHON, port), lab.write("server.py", PYTHON_SERVER), str(port),
                      *(certificate or ("", ""))], port=port,
                     env={"PYTHONPATH": f"{root}/usr/lib/python3/dist-packages"})


@case(needs=["node", "npm"], timeout=300)
def websocket_python(lab):
    """python3-websockets answers ws; and a recording of it says the same when it is replayed."""
    package = suites.from_npm(lab, "ws", WS) + "/ws"
    port = lab.port()
    server = python_server(lab, port, lab.cert, lab.key)
    recording = lab.path("talk.rec")
    tracer = wslog(lab, "--comm", f"node{port}", "--comm", f"python3{port}", "-w", recording)
    client = node_client(lab, package, '{"threshold": 0}', port, 3, 20)
    records = of_ws(tracer)
    check_client(records, client, 3)
    compare(records, server, "server")
    again = lab.run([TLSSCOPE, "-f", "json", "-r", recording, "wslog", "--data", "1000000"])
    live = [line for line in tracer.output().splitlines(True) if b'"ready"' not in line]
    same("the replay", again.out(), b"".join(live))


@case(needs=["node", "npm", "nginx"], timeout=300)
def websocket_nginx(lab):
    """nginx in between: it passes frames on as they come, and compresses nothing itself."""
    package = suites.from_npm(lab, "ws", WS) + "/ws"
    port, behind = lab.port(), lab.port()
    python_server(lab, behind)
    name = f"web{port}"
    os.symlink("/usr/sbin/nginx", lab.path(name))
    conf = lab.write("nginx.conf", f"""
        user root; daemon off; worker_processes 1; pid {lab.path("nginx.pid")};
        error_log stderr warn;
        events {{ worker_connections 256; }}
        http {{
            access_log off;
            client_body_temp_path {lab.path("n1")}; proxy_temp_path {lab.path("n2")};
            fastcgi_temp_path {lab.path("n3")}; uwsgi_temp_path {lab.path("n4")};
            scgi_temp_path {lab.path("n5")};
            server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate {lab.cert}; ssl_certificate_key {lab.key};
                location / {{
                    proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1;
                    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
                }}
            }}
        }}""")
    lab.spawn([lab.path(name), "-e", "stderr", "-c", conf], port=port)
    tracer = wslog(lab, "--comm", name, "--comm", f"node{port}")
    client = node_client(lab, package, '{"threshold": 0}', port, 2, 20)
    records = of_ws(tracer)
    check_client(records, client, 2)
    theirs = [r for r in records if r["pid"] != client.pid]
    turned = collections.Counter()
    for (way, *rest), n in messages(records, client.pid).items():
        turned["in" if way == "out" else "out", *rest] += n
    pids = {r["pid"] for r in theirs}
    check(len(pids) == 1 and messages(records, *pids) == turned, "nginx: other messages than node's")
    check(all(r["side"] == "server" for r in theirs), "nginx is taken for a client")


# Node's HTTP/2 with extended CONNECT; ws makes the frames of both ends.
HTTP2 = """
const [WebSocket, http2, fs] = [require(process.argv[2]), require("http2"), require("fs")];
const [port, cert, key] = process.argv.slice(3);
function socket(stream, server) {
    const w = new WebSocket(null, undefined, {});
    w._isServer = server;
    w.setSocket(stream, Buffer.alloc(0), {allowSynchronousEvents: true, maxPayload: 1 << 20,
                                          skipUTF8Validation: false});
    return w;
}
const server = http2.createSecureServer({cert: fs.readFileSync(cert), key: fs.readFileSync(key),
                                         settings: {enableConnectProtocol: true}});
server.on("stream", (s, h) => {
    if (h[":path"] == "/refused") return s.respond({":status": 403}, {endStream: true});
    s.respond({":status": 200});
    const w = socket(s, true);
    w.on("message", (d, binary) => w.send(d, {binary}));
});
server.listen(port, "127.0.0.1", () => {
    const c = http2.connect("https://localhost:" + port, {ca: fs.readFileSync(cert), family: 4});
    let left = 4;
    function over() { if (!--left) c.close(() => server.close(() => process.exit(0))); }
    c.on("remoteSettings", () => ["/0", "/1", "/2", "/refused"].forEach((path) => {
        const s = c.request({":method": "CONNECT", ":protocol": "websocket", ":path": path,
                             ":authority": "localhost"});
        s.on("response", (h) => {
            if (h[":status"] != 200) return s.close(over());
            const w = socket(s, false);
            let n = 0;
            w.on("message", () => {
                if (++n < 20) w.send(path + " " + "x".repeat(n * 1000)); else w.close(1000, path);
            });
            w.on("close", over);
            w.send("first of " + path);
        });
    }));
});
"""


@case(needs=["node", "npm"], timeout=200)
def websocket_http2(lab):
    """Three streams of one connection (RFC 8441), and one that is refused."""
    package = suites.from_npm(lab, "ws", WS) + "/ws"
    port = lab.port()
    tracer = wslog(lab, "--comm", f"node{port}")
    lab.run([named(lab, "node", port), lab.write("both.js", HTTP2), package, str(port), lab.cert,
             lab.key])
    records = of_ws(tracer)
    check({r["url"] for r in records} == {f"wss://localhost/{n}" for n in range(3)}, "other URLs")
    want = collections.Counter()
    for n in range(3):
        texts = [f"first of /{n}"] + [f"/{n} " + "x" * (i * 1000) for i in range(1, 20)]
        for text in texts:
            want.update((side, way, f"wss://localhost/{n}", text.encode())
                        for side in ("client", "server") for way in ("in", "out"))
    mine = collections.Counter((r["side"], r["dir"], r["url"], content(r)) for r in records
                               if r["opcode"] == "text")
    check(mine == want, f"{sum(mine.values())} messages: {list((mine - want).items())[:2]}")
    check(len({(r["conn"], r["stream"]) for r in records}) == 6, "not three streams a side")
    codes = {(r["code"], r["reason"]) for r in records if r["opcode"] == "close"}
    check(codes == {(1000, f"/{n}") for n in range(3)}, f"closes: {codes}")


@case(needs=["node", "npm"], timeout=200)
def websocket_joined(lab):
    """One that is older than the tracer shows nothing; the next one does."""
    package = suites.from_npm(lab, "ws", WS) + "/ws"
    port = lab.port()
    server = node_server(lab, package, "false", port)
    script = lab.write("old.js", """
        const WebSocket = require(process.argv[2]);
        const w = new WebSocket("wss://localhost:" + process.argv[3], {rejectUnauthorized: false, family: 4});
        w.on("message", () => console.log("answered"));
        w.on("open", () => w.send("first"));
        process.stdin.on("data", (d) => w.send("older"));
        """)
    old = lab.spawn([named(lab, "node", port), script, package, str(port)], ready=b"answered", stdin=-1)
    tracer = wslog(lab, "-p", str(server.pid), "-p", str(old.pid))
    for n in range(2, 6):
        old.say()
        wait_for("answer", lambda n=n: old.out().count(b"answered") == n)
    node_client(lab, package, "false", port, 1, 3)
    records = of_ws(tracer)
    check(len({r["conn"] for r in records}) == 1, "not one connection")
    check(all(content(r) != b"older" for r in records), "the older connection was guessed")
    check(messages(records, server.pid) == told(server) - collections.Counter(
        {k: 5 for k in told(server) if k[2] == 5}), "the newer one is not whole")


@case(needs=["node", "npm"], timeout=300)
def websocket_losses(lab):
    """Whatever is lost, no message is shown that was not sent; and most others are."""
    package = suites.from_npm(lab, "ws", WS) + "/ws"
    for deflate in ("false", '{"threshold": 0}'):
        port = lab.port()
        server = node_server(lab, package, deflate, port)
        tracer = wslog(lab, "-p", str(server.pid), "-w", lab.path("all.rec"))
        node_client(lab, package, deflate, port, 4, 60, 20000)
        sent = collections.defaultdict(set)
        for r in of_ws(tracer):
            sent[r["dir"], r["opcode"]].add(content(r))
        server.stop()
        with open(lab.path("all.rec"), "rb") as f:
            whole = f.read()
        shown = 0
        for seed in range(12):
            part = lab.write("part.rec", losses.without(whole, seed, 0.02 if seed % 2 else 0.15))
            replay = lab.run([TLSSCOPE, "-f", "json", "-r", part, "wslog", "--data", "1000000"])
            for r in map(json.loads, replay.out().splitlines()):
                data, known = content(r), sent[r["dir"], r["opcode"]]
                check(data in known or (r["truncated"] and any(k.startswith(data) for k in known)),
                      f"with {deflate}, seed {seed}: never sent: {str(r)[:300]}")
                shown += not r["truncated"]
        check(shown > 500, f"only {shown} messages were shown")
