# SPDX-License-Identifier: MIT
"""HTTP for the cases: a plain echo server behind the TLS servers, and readers of what was said."""
import http.server
import os
import re
import threading

from harness import check, lines, same

PAGE = lines(3000, "page")  # 192 KB: a dozen TLS records
BODY = lines(1500, "body")


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(PAGE if self.path.startswith("/page") else self.path.encode())

    def do_POST(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while True:
                size = int(self.rfile.readline(), 16)
                body += self.rfile.read(size)
                self.rfile.readline()
                if not size:
                    break
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(body)

    def log_message(self, *_):
        pass


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


def backend(handler=Echo):
    """A plain HTTP server in this process; returns its port."""
    server = Quiet(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def http1(data):
    """Splits one direction's bytes into messages: [(first line, body)]."""
    found = []
    while data:
        head, mark, data = data.partition(b"\r\n\r\n")
        check(mark, f"an HTTP head without an end: {head[:200]!r}")
        first = head.split(b"\r\n", 1)[0].decode(errors="replace")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
            body = b""
            while True:
                size, _, data = data.partition(b"\r\n")
                n = int(size, 16)
                body, data = body + data[:n], data[n + 2:]
                if not n:
                    break
        elif length:
            n = int(length[1])
            check(len(data) >= n, f"{first}: {len(data)} bytes of a body of {n}")
            body, data = data[:n], data[n:]
        elif first.startswith("HTTP/1.0") or re.search(rb"(?i)\r\nconnection: *close", head):
            body, data = data, b""
        else:
            body = b""
        found.append((first, body))
    return found


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frames(data):
    """The HTTP/2 frames of one direction: [(type, flags, stream, payload)]."""
    found = []
    if data.startswith(PREFACE):
        data = data[len(PREFACE):]
    while data:
        size = int.from_bytes(data[:3], "big")
        check(len(data) >= 9 + size, f"an HTTP/2 frame of {size} bytes has {len(data) - 9}")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big") & 0x7fffffff,
                      data[9:9 + size]))
        data = data[9 + size:]
    return found


def http2_bodies(data):
    """The bytes of the DATA frames, by stream."""
    bodies = {}
    for kind, flags, stream, payload in frames(data):
        if kind == 0:
            if flags & 8:
                payload = payload[1:len(payload) - payload[0]]
            bodies[stream] = bodies.get(stream, b"") + payload
    return bodies


def farewell(rest):
    """Bytes that a side may send without the other ever reading them: the end of HTTP/2."""
    return all(kind in (3, 4, 7, 8) or not kind and not payload
               for kind, _, _, payload in frames(rest))


def check_http1(flow, page=PAGE, body=BODY):
    """A client's connection that fetched a page and posted a body."""
    asked, got = http1(flow.sent), http1(flow.received)
    check([a[0].split()[0] for a in asked] == ["GET", "POST"], f"requests: {[a[0] for a in asked]}")
    check([g[0].split()[1] for g in got if g[0].split()[1] != "100"] == ["200", "200"],
          f"responses: {[g[0] for g in got]}")
    same("body posted", asked[1][1], body)
    bodies = [g[1] for g in got if g[0].split()[1] != "100"]
    same("page got", bodies[0], page)
    same("body echoed", bodies[1], body)


def check_http2(flow, page=PAGE, body=BODY):
    check(flow.sent.startswith(PREFACE), "no HTTP/2 preface")
    same("body posted", b"".join(http2_bodies(flow.sent).values()), body)
    got = list(http2_bodies(flow.received).values())
    check(len(got) == 2, f"{len(got)} bodies received")
    same("page got", got[0], page)
    same("body echoed", got[1], body)


def curl(lab, port, *options, paths=("page", "echo")):
    """A GET and a POST over one connection with curl; checks what curl itself got."""
    get, post = (f"https://localhost:{port}/{p}" for p in paths)
    body = lab.write("body", BODY)
    p = lab.run(["curl", "-sS", "-4", "--cacert", lab.cert, *options, "-o", lab.path("got1"), get,
                 "--next", "-sS", "-4", "--cacert", lab.cert, *options, "-H", "Expect:",
                 "--data-binary", "@" + body, "-o", lab.path("got2"), post])
    for name, want in (("got1", PAGE), ("got2", BODY)):
        with open(lab.path(name), "rb") as f:
            same(f"curl's own {name}", f.read(), want)
    return p


def nginx(lab, port, echo, http2=True, workers=1, prefix=(), name="nginx", access=False):
    """
    nginx with a page and an echo location; prefix: words before its own command line; name: its
    comm.
    """
    program = "/usr/sbin/nginx"
    if name != "nginx":
        os.symlink(program, lab.path(name))
        program = lab.path(name)
    os.makedirs(lab.path("www"), exist_ok=True)
    lab.write("www/page", PAGE)
    conf = lab.write("nginx.conf", f"""
        user root; daemon off; worker_processes {workers}; pid {lab.path("nginx.pid")};
        error_log stderr warn;
        events {{ worker_connections 256; }}
        http {{
            access_log {lab.path("access.log") if access else "off"}; client_max_body_size 64m; keepalive_requests 100000;
            client_body_temp_path {lab.path("n1")}; proxy_temp_path {lab.path("n2")};
            fastcgi_temp_path {lab.path("n3")}; uwsgi_temp_path {lab.path("n4")};
            scgi_temp_path {lab.path("n5")};
            server {{
                listen 127.0.0.1:{port} ssl {"http2" if http2 else ""};
                ssl_certificate {lab.cert}; ssl_certificate_key {lab.key};
                root {lab.path("www")};
                location /echo {{
                    proxy_pass http://127.0.0.1:{echo}; proxy_http_version 1.1;
                    proxy_buffers 16 64k; proxy_buffer_size 64k; client_body_buffer_size 1m;
                }}
            }}
        }}""")
    return lab.spawn([*prefix, program, "-e", "stderr", "-c", conf], port=port)
