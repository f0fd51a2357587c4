# SPDX-License-Identifier: MIT
"""HTTP of node, python and nghttpd: what they log of themselves, and what is rare in it."""
import json
import os

from cases_http_servers import compare, curl, told
from cases_httplog import log_of, transactions
from harness import PYTHON, case, check, lines, same

TEXT = lines(300, "text")

# HTTP/1.1 and HTTP/2 on one port; a line of JSON for each answer that went out whole.
NODE_SERVER = """
const http2 = require("http2"), fs = require("fs"), zlib = require("zlib");
const [port, cert, key, file] = process.argv.slice(2);
const text = fs.readFileSync(file);
const log = (req, status, size) => console.log(JSON.stringify([req.method, req.url, status, size]));

function answer(req, res, body) {
  const end = (status, headers, data) => {
    res.on("finish", () => log(req, status, req.method === "HEAD" ? 0 : data.length));
    res.writeHead(status, headers);
    res.end(data);
  };
  const empty = Buffer.alloc(0);
  switch (req.url.split("?")[0]) {
  case "/hints":
    res.writeEarlyHints({link: "</style.css>; rel=preload"});
    return setTimeout(() => end(200, {"content-type": "text/plain"}, text), 20);
  case "/continue":
    return end(201, {}, Buffer.from("got " + body.length));
  case "/trailers":
    res.on("finish", () => log(req, 200, text.length));
    res.writeHead(200, {trailer: "x-sum"});
    res.write(text.subarray(0, 1000));
    res.addTrailers({"x-sum": "42", "x-more": "1"});
    return setTimeout(() => res.end(text.subarray(1000)), 20);
  case "/204": return end(204, {}, empty);
  case "/304": return end(304, {etag: '"1"'}, empty);
  case "/deflate": return end(200, {"content-encoding": "deflate"}, zlib.deflateSync(text));
  case "/both": return end(200, {"content-encoding": "gzip, br"}, zlib.brotliCompressSync(zlib.gzipSync(text)));
  case "/push":
    if (res.stream)
      res.stream.pushStream({":path": "/pushed"}, (err, stream) => {
        if (err) return;
        stream.respond({":status": 200});
        stream.end("pushed text");
        console.log(JSON.stringify(["GET", "/pushed", 200, 11]));
      });
    return end(200, {}, text);
  case "/break":
    res.writeHead(200, {});
    res.write(text);
    return setTimeout(() => res.stream ? res.stream.close(2) : res.destroy(), 50);
  default: return end(200, {"content-length": text.length}, text);
  }
}

const server = http2.createSecureServer({cert: fs.readFileSync(cert), key: fs.readFileSync(key), allowHTTP1: true},
  (req, res) => {
    const parts = [];
    req.on("data", (d) => parts.push(d)).on("end", () => answer(req, res, Buffer.concat(parts)));
  });
server.on("upgrade", (req, socket) => {
  socket.write("HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n");
  socket.on("data", (d) => socket.end(d));
  log(req, 101, 0);
});
server.on("sessionError", () => {});
server.on("clientError", (err, socket) => socket.destroy());
server.listen(port, "127.0.0.1", () => console.log("listening"));
"""

# Asks for everything, as node's own clients do.
NODE_CLIENT = """
const http2 = require("http2"), https = require("https"), assert = require("assert");
const [port] = process.argv.slice(2);
const url = `https://127.0.0.1:${port}`;
const agent = new https.Agent({keepAlive: true, maxSockets: 2, rejectUnauthorized: false});

function one(path, method = "GET", body) {
  return new Promise((done) => {
    const headers = body ? {expect: "100-continue", "content-length": body.length} : {};
    const req = https.request(url + path, {method, headers, agent}, (res) => {
      res.on("error", () => {}).on("close", () => done(res)).resume();
    });
    req.on("error", () => done()).on("continue", () => req.end(body));
    if (!body) req.end();
    else req.flushHeaders();
  });
}

function two(session, path, method = "GET", body) {
  return new Promise((done) => {
    const req = session.request({":path": path, ":method": method});
    req.on("error", () => {}).on("close", done).resume();
    req.end(body);
  });
}

function upgraded() {
  return new Promise((done) => {
    const req = https.request(url + "/upgrade", {agent, headers: {connection: "Upgrade", upgrade: "echo"}});
    req.on("upgrade", (res, socket) => {
      socket.on("data", (d) => assert.equal(String(d), "GET / HTTP/1.1\\\\r\\\\n")).on("close", done);
      socket.write("GET / HTTP/1.1\\\\r\\\\n");
    });
    req.end();
  });
}

const PATHS = ["/hints", "/trailers", "/204", "/304", "/deflate", "/both", "/push", "/plain?token=abc", "/break"];

async function main() {
  for (const path of PATHS) await one(path);
  await one("/plain", "HEAD");
  await one("/continue", "POST", "x".repeat(100));
  await upgraded();
  agent.destroy();
  const session = http2.connect(url, {rejectUnauthorized: false});
  session.on("error", () => {});
  session.on("stream", (stream) => stream.resume());
  await Promise.all([...PATHS, ...PATHS].map((path) => two(session, path)));
  await two(session, "/plain", "HEAD");
  await two(session, "/continue", "POST", "x".repeat(100));
  session.close();
}
main();
"""


def node_server(lab):
    port = lab.port()
    name = f"nod{port}"
    os.symlink("/usr/bin/node", lab.path(name))
    server = lab.spawn([lab.path(name), lab.write("server.js", NODE_SERVER), str(port), lab.cert, lab.key,
                        lab.write("text", TEXT)], ready=b"listening")
    return port, name, server


def own_log(server):
    found = [json.loads(line) for line in server.out().splitlines() if line.startswith(b"[")]
    return [(m, p.split("?")[0], s, n) for m, p, s, n in found]


@case(needs=["node", "curl"])
def httplog_node(lab):
    """103, 100, trailers, 204, 304, HEAD, Upgrade, push, an answer that breaks off; by both versions."""
    port, name, server = node_server(lab)
    client_name = f"noc{port}"
    os.symlink("/usr/bin/node", lab.path(client_name))
    tracer = log_of(lab, "--comm", name, "--comm", client_name)
    lab.run([lab.path(client_name), lab.write("client.js", NODE_CLIENT), str(port)])
    records = transactions(tracer)
    for side in ("server", "client"):
        mine = [r for r in records if r["side"] == side]
        broken = [r for r in mine if r["path"] == "/break"]
        # How much of it came is a matter of time.
        check(len(broken) == 3 and all(r["status"] == 200 and r["response_len"] <= len(TEXT)
                                       for r in broken), f"{side}: {broken}")
        check(sum(bool(r.get("reset")) for r in broken) == 2, f"{side}: {broken}")
        mine = [r for r in mine if r["path"] != "/break"]
        compare(side, map(told, mine), own_log(server))
        check(sum(bool(r.get("pushed")) for r in mine) == 2, f"{side}: pushed")
        check(not any(r["partial"] for r in mine), f"{side}: {[r for r in mine if r['partial']]}")
        check({r["proto"] for r in mine} == {"HTTP/1.1", "HTTP/2"}, f"{side}: versions")


@case(needs=["node", "curl"])
def http_node_in_a_script(lab):
    """Trailers, decoded bodies and the time to the first byte, as a script has them."""
    port, name, _ = node_server(lab)
    tracer = lab.tracer("--comm", name, script="""
        on.http({capture = "all"}, function(e)
            emit{type = "x", path = e.path, proto = e.proto, body = e.body, trailers = e.trailers,
                 sum = e.trailers and e.trailers["X-Sum"], link = e.headers.link, late = e.latency_ms,
                 truncated = e.truncated, raw = #e.raw_body == e.body_len}
        end)
        on.start(function() emit{type = "ready"} end)
        """)
    for version in ("--http1.1", "--http2"):
        for path in ("hints", "trailers", "deflate", "both"):
            curl(lab, version, f"https://localhost:{port}/{path}")
    found = [r for r in tracer.stop().records if r["type"] == "x"]
    check(len(found) == 8, f"{found}")
    for r in found:
        same(f"{r['proto']} {r['path']}", r["body"].encode(), TEXT)
        check(not r["truncated"] and r["raw"] and "link" not in r, f"{str(r)[:300]}")
        if r["path"] == "/trailers":
            same("trailers", [(t["name"].lower(), t["value"]) for t in r["trailers"]],
                 [("x-sum", "42"), ("x-more", "1")])
            same("by name", r["sum"], "42")
        check(r["path"] != "/hints" or r["late"] >= 15, f"103 counts as the answer: {r['late']} ms")


# One that closes after each answer, with headers that nobody writes any more.
PY_SERVER = """
import http.server, ssl, sys
port, both, text = int(sys.argv[1]), sys.argv[2], open(sys.argv[3], "rb").read()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/folded"):
            self.wfile.write(b"HTTP/1.0 200 OK\\r\\nX-Long: one\\r\\n two\\r\\n\\tthree\\r\\n\\r\\n" + text)
        elif self.path.startswith("/simple"):
            self.wfile.write(b"HTTP/1.1 200\\r\\n\\r\\n" + text)
        else:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            self.wfile.write(text)
        print(self.command, self.path.split("?")[0], 200, len(text), flush=True)

server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(both)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("listening", flush=True)
server.serve_forever()
"""

PY_CLIENT = """
import http.client, ssl, sys
port, text = int(sys.argv[1]), open(sys.argv[2], "rb").read()
context = ssl._create_unverified_context()
for i in range(20):
    for path in ("/folded", "/simple", "/plain"):
        c = http.client.HTTPSConnection("127.0.0.1", port, context=context)
        c.request("GET", f"{path}?n={i}", headers={"X-Folded": "a\\r\\n b"})
        r = c.getresponse()
        assert r.read() == text
        assert path != "/folded" or "".join(r.headers["X-Long"].split()) == "onetwothree"
        c.close()
"""


@case()
def httplog_python(lab):
    """http.server and http.client: bodies until the end, folded headers, no length."""
    port = lab.port()
    names = [f"pys{port}", f"pyc{port}"]
    for name in names:
        os.symlink(PYTHON, lab.path(name))
    server = lab.spawn([lab.path(names[0]), lab.write("server.py", PY_SERVER), str(port), lab.both,
                        lab.write("text", TEXT)], ready=b"listening")
    tracer = lab.tracer("--comm", names[0], "--comm", names[1], script="""
        on.http({capture = "all"}, function(e)
            emit{type = "http", side = e.side, method = e.method, path = e.path, status = e.status,
                 response_len = e.body_len, whole = not e.truncated and not e.partial, body = e.body,
                 folded = e.request.headers["x-folded"], long = e.headers["x-long"]}
        end)
        on.start(function() emit{type = "ready"} end)
        """)
    lab.run([lab.path(names[1]), lab.write("client.py", PY_CLIENT), str(port), lab.path("text")])
    records = transactions(tracer)
    own = [(m, p, int(s), int(n)) for m, p, s, n in
           (line.split() for line in server.out().decode().splitlines()[1:])]
    for side in ("client", "server"):
        mine = [r for r in records if r["side"] == side]
        compare(side, map(told, mine), own)
        for r in mine:
            check(r["whole"] and r["body"].encode() == TEXT, f"{side}: {str(r)[:200]}")
            check(r["folded"] == "a b", f"{side}: {r['folded']!r}")
            check("/folded" not in r["path"] or r["long"] == "one two three", f"{side}: {r.get('long')!r}")


@case(needs=["nghttpd", "nghttp"])
def httplog_push(lab):
    """What nghttpd pushes, and what nghttp asked for; a stream that it refuses is broken off."""
    port = lab.port()
    name = f"ngd{port}"
    os.symlink("/usr/sbin/nghttpd", lab.path(name))
    os.makedirs(lab.path("www"))
    for page in ("page", "style", "script"):
        lab.write(f"www/{page}", TEXT + page.encode())
    lab.spawn([lab.path(name), "-a", "127.0.0.1", "-d", lab.path("www"), "-p/page=/style,/script", "--trailer",
               "x-end: 1", str(port), lab.key, lab.cert], port=port)
    tracer = log_of(lab, "--comm", name, "--comm", "nghttp")
    p = lab.run(["nghttp", "-n", "-v", f"https://127.0.0.1:{port}/page", f"https://127.0.0.1:{port}/none"])
    check(b"PUSH_PROMISE" in p.out(), "nghttp was pushed nothing")
    records = [r for r in transactions(tracer) if r.get("host") == f"127.0.0.1:{port}"]
    for side in ("client", "server"):
        mine = [r for r in records if r["side"] == side]
        want = [("GET", f"/{page}", 200, len(TEXT) + len(page)) for page in ("page", "style", "script")]
        compare(side, [t for t in map(told, mine) if t[1] != "/none"], want)
        same(f"{side}: pushed", sorted((r["path"], r["stream"] % 2) for r in mine if r.get("pushed")),
             [("/script", 0), ("/style", 0)])
        same(f"{side}: not found", [r["status"] for r in mine if r["path"] == "/none"], [404])
        check(not any(r["partial"] for r in mine), f"{side}: {mine}")
