# SPDX-License-Identifier: MIT
"""
Recordings (core/record.h) of an afternoon that never was, always the same, so that the manual can
show what its examples print: three clients of one web server; and a WebSocket and a call of gRPC.
"""
import struct

DATA, CLOSE, CONN, OPEN, HELLO, START, SOURCE, PROCESS, EXEC, EXIT, LOST, TICK, SIGNAL, STOP, ATTACH = \
    range(1, 16)
IN, OUT = 0, 1
READ, WRITE = 0, 1  # enum ts_probe
NODATA = 8
COUNTERS, LOST_EVENTS, LOST_BYTES = 16, 2, 3
LIB = "/usr/lib/x86_64-linux-gnu/libssl.so.3"
BEGIN = 5_000_000_000_000  # ns since the boot
WALL = 1795269600_000_000_000 - BEGIN  # 2026-11-21 14:00:00 UTC
MS = 1_000_000


class Recording:
    def __init__(self):
        self.out = [b"tlsscope", struct.pack("=II", 6, 0x01020304)]
        self.now, self.calls, self.positions = BEGIN, 0, {}

    def record(self, kind, body, *strings):
        body += b"".join(s.encode() + b"\0" for s in strings)
        self.out.append(struct.pack("=IHH", 8 + len(body), kind, 0) + body)

    def wait(self, ms):
        """Time goes on; a second that passes is a tick."""
        end = self.now + int(ms * MS)
        second = (self.now - BEGIN) // (1000 * MS)
        while BEGIN + (second + 1) * 1000 * MS <= end:
            second += 1
            self.now = BEGIN + second * 1000 * MS
            self.record(TICK, struct.pack("=QII", self.now, 0, 0))
        self.now = end

    def data(self, kind, prog, direction, payload, length, ret, duration=0, flags=0, shown=True):
        key = (prog.conn, direction)
        pos = self.positions.get(key, 0)
        self.positions[key] = pos + length
        self.calls += 1
        if not shown:
            return
        source = WRITE + 1 if direction == OUT else READ + 1
        self.record(kind, struct.pack(
            "=9Qq 2Q 2I 3I 2I IiI B7x 16s", self.now, int(duration), 2**64 - 1, prog.conn, BEGIN,
            self.calls, pos, length, 0, ret, 1, 0, source, len(payload), prog.pid, prog.pid, prog.ppid,
            prog.uid, prog.uid, self.calls % 2, -1, flags, direction, prog.comm.encode()) + payload)

    def say(self, a, b, payload, keep=16384, shown=True):
        """a writes, b reads a moment later."""
        for prog, direction, took in ((a, OUT, 18_000), (b, IN, 6_000)):
            self.wait(0.2 if direction == OUT else 0.4)
            self.data(DATA, prog, direction, payload[:keep], len(payload), len(payload),
                      took + len(payload), shown=shown)


class Program:
    def __init__(self, r, comm, pid, ppid, uid, user, exe, cmdline):
        self.comm, self.pid, self.ppid, self.uid, self.conn = comm, pid, ppid, uid, 0
        r.record(PROCESS, struct.pack("=Q4I", r.now, pid, ppid, uid, 0), comm, exe, cmdline, user)

    def connect(self, n):
        self.conn = 0x55550000 + n * 0x1000 + self.pid


def ends(r, client, server):
    for prog in (client, server):
        r.data(CLOSE, prog, OUT, b"", 0, 0)


def request(r, client, server, n, ask, answer, more=(), last=True):
    client.connect(n)
    server.connect(n)
    r.say(client, server, ask)
    r.wait(3 + 2 * n)
    r.say(server, client, answer)
    for part in more:
        r.say(server, client, part)
    if last:
        ends(r, client, server)


def http(status, kind, body):
    return (f"HTTP/1.1 {status}\r\nServer: nginx\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def ask(path, agent, method="GET", body=b""):
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return (f"{method} {path} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: {agent}\r\n{length}"
            "\r\n").encode() + body


def begin():
    r = Recording()
    r.record(START, struct.pack("=QQ", r.now, WALL), "6.1.0-25-amd64", "shop")
    r.record(ATTACH, struct.pack("=QII", r.now, 13, 0), LIB, "openssl", "")
    for number, name in ((READ, "ssl_read_internal"), (WRITE, "ssl_write_internal")):
        r.record(SOURCE, struct.pack("=II", number + 1, number), "openssl", name, LIB)
    return r


def frame(first, payload, mask=b""):
    """Of a WebSocket; short ones only."""
    masked = bytes(b ^ mask[i % 4] for i, b in enumerate(payload)) if mask else payload
    return bytes([first, len(payload) | (0x80 if mask else 0)]) + mask + masked


def h2(kind, flags, payload, stream=1):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def block(**fields):
    """Header fields, none of them from a table."""
    out = b""
    for name, value in fields.items():
        name = name.replace("__", ":").replace("_", "-").encode()
        out += bytes([0, len(name)]) + name + bytes([len(value)]) + value.encode()
    return out


def websocket(r, node, nginx):
    request(r, node, nginx, 1,
            b"GET /chat HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            last=False)
    mask = b"\x37\xfa\x21\x3d"
    r.say(node, nginx, frame(0x81, b'{"join": "lamp lovers"}', mask))
    r.say(nginx, node, frame(0x89, b""))
    r.say(node, nginx, frame(0x8a, b"", mask))
    r.say(nginx, node, frame(1, b'{"said": ') + frame(0x80, b'"hello"}'))
    r.say(node, nginx, frame(0x88, b"\x03\xe8", mask))
    r.say(nginx, node, frame(0x88, b"\x03\xe8"))
    ends(r, node, nginx)


def call(r, orders, server):
    """A stream of two answers."""
    type_, settings = "application/grpc", h2(4, 0, b"", 0)
    ask = h2(1, 4, block(__method="POST", __scheme="https", __path="/shop.v1.Orders/Watch",
                         __authority="orders.example", te="trailers", content_type=type_,
                         grpc_timeout="5S")) + h2(0, 1, b"\0\0\0\0\2\x08\x4d")
    answer = h2(1, 4, block(__status="200", content_type=type_))
    request(r, orders, server, 2, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + ask,
            settings + answer + h2(0, 0, b"\0\0\0\0\6\x0a\4sold"),
            (h2(0, 0, b"\0\0\0\0\6\x0a\4sent"),
             h2(1, 5, block(grpc_status="4", grpc_message="too%20long"))))


def make_talk():
    r = begin()
    nginx = Program(r, "nginx", 812, 811, 33, "www-data", "/usr/sbin/nginx", "nginx: worker process")
    node = Program(r, "node", 4201, 4000, 1000, "ann", "/usr/bin/node", "node chat.js")
    orders = Program(r, "orders", 4202, 4000, 1000, "ann", "/usr/bin/orders", "orders --watch 77")
    websocket(r, node, nginx)
    r.wait(100)
    call(r, orders, nginx)
    r.record(STOP, struct.pack("=QiI", r.now, -1, 0))
    return b"".join(r.out)


def make():
    r = begin()
    nginx = Program(r, "nginx", 812, 811, 33, "www-data", "/usr/sbin/nginx", "nginx: worker process")
    r.wait(240)
    curl = Program(r, "curl", 4101, 4000, 1000, "ann", "/usr/bin/curl", "curl https://shop.example/")
    request(r, curl, nginx, 1, ask("/", "curl/7.88.1"),
            http("200 OK", "text/html", b"<h1>It works</h1>\n"))
    r.record(EXIT, struct.pack("=QII", r.now, curl.pid, 0), "")
    python = Program(r, "python3", 4107, 4000, 1000, "ann", "/usr/bin/python3.11", "python3 order.py")
    order = b'{"item": "lamp", "count": 2, "card": "4000 0000 0000 0002"}'
    request(r, python, nginx, 2, ask("/api/orders", "python-requests/2.28", "POST", order),
            http("201 Created", "application/json", b'{"order": 77}\n'))
    picture = bytes(i * 7 % 256 for i in range(40000))
    page = http("200 OK", "image/png", picture)
    for n in range(3, 6):
        r.wait(600)
        request(r, python, nginx, n, ask(f"/img/{n}.png", "python-requests/2.28"), page[:16384],
                (page[16384:32768], page[32768:]))
    wget = Program(r, "wget", 4111, 4000, 1001, "bob", "/usr/bin/wget", "wget shop.example/nothing")
    request(r, wget, nginx, 6, ask("/nothing", "Wget/1.21"),
            http("404 Not Found", "text/html", b"<h1>404 Not Found</h1>\n"))
    r.record(SIGNAL, struct.pack("=QII", r.now, 10, 0))
    # The ring was full: one answer of two is seen by neither side.
    wget.connect(7)
    nginx.connect(7)
    r.say(wget, nginx, ask("/a", "Wget/1.21"))
    r.say(nginx, wget, page[:3000], shown=False)
    r.say(nginx, wget, page[3000:4000])
    counters = [0] * COUNTERS
    counters[LOST_EVENTS], counters[LOST_BYTES] = 2, 6000
    r.record(LOST, struct.pack(f"=Q{COUNTERS}Q", r.now, *counters))
    ends(r, wget, nginx)
    r.wait(300)
    r.record(STOP, struct.pack("=QiI", r.now, -1, 0))
    return b"".join(r.out)
