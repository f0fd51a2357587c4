# SPDX-License-Identifier: MIT
"""
Real programs that let the kernel make their TLS records: Debian 13's, whose OpenSSL does. They run
from a folder of their own, whatever this machine has.
"""
import os
import re
import shutil
import signal
import subprocess

import suites
from harness import check, lines, same, wait_for
from ktls import Keeper, ktls_case

SUITE = "trixie"
LARGE = 16 << 20


def root(lab):
    """A root with nginx, python3 and openssl."""
    def get(folder):
        suites.fetch(SUITE, suites.architecture(), folder, [*suites.PACKAGES, "nginx", "python3"],
                     False, ())
        suites.links(f"{folder}/root")
        # What base-passwd would have made: nginx looks its users up.
        for name, line in (("passwd", "root:x:0:0:root:/:/bin/sh"), ("group", "root:x:0:")):
            with open(f"{folder}/root/etc/{name}", "w") as f:
                f.write(line + "\n")
    return suites.obtained(lab, f"ktls-{SUITE}-{suites.architecture()}", get) + "/root"


class Place:
    """A folder in that root with a certificate, a page and a large file."""

    def __init__(self, lab, large=LARGE):
        self.lab, self.root = lab, root(lab)
        self.inside = f"/tmp/{lab.case.name}-{os.getpid()}"
        self.path = self.root + self.inside
        self.page = lines(300, "page")
        self.large = lines(large // 64, "large")

    def __enter__(self):
        os.makedirs(self.path)
        os.chmod(self.path, 0o755)
        for path in (self.lab.cert, self.lab.key):
            shutil.copy(path, self.path)
        self.write("page", self.page)
        self.write("large", self.large)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path)

    def write(self, name, data):
        with open(f"{self.path}/{name}", "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        return f"{self.inside}/{name}"

    def words(self, *argv):
        """The command line of a program of that root, in this folder."""
        return ["chroot", self.root, "sh", "-c", 'cd "$0" && exec "$@"', self.inside, *argv]


def check_kernel(flow, ways=("in", "out")):
    """Every event after the handshake knows that the kernel makes the records of its direction."""
    for c in flow["calls"]:
        check(c["dir"] not in ways or c.get("ktls") is True, f"ktls is {c.get('ktls')}: {c}")


def check_sendfile(flow, head, body):
    """
    What a server sent begins with a head of its library's and a body that only the kernel saw;
    returns what follows.
    """
    got = flow["out"]
    at = got.find(b"\r\n\r\n") + 4
    check(re.match(head, got), f"not the head: {got[:80]!r}")
    same("the body", got[at:at + len(body)], body)
    kinds = [(c["kind"], c["len"]) for c in flow["calls"] if c["dir"] == "out"]
    check(kinds[0][0] == "openssl", f"the head was seen as {kinds[0]}")
    sent = sum(n for kind, n in kinds if kind == "ktls")
    check(sent >= len(body), f"{sent} bytes seen in the kernel alone, of {len(body)}")
    return got[at + len(body):]


@ktls_case(needs=["apt-get", "dpkg-deb"], timeout=200)
def ktls_openssl_sendfile(lab):
    """s_server -sendfile and s_client, both with -ktls: 16 MiB, each byte once, one connection."""
    port = lab.port()
    with Place(lab) as place:
        server = lab.spawn(place.words(
            "openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", "cert.pem", "-key",
            "key.pem", "-ktls", "-WWW", "-sendfile"), port=port)
        keeper = Keeper(lab, "--comm", "openssl")
        client = lab.spawn(place.words(
            "openssl", "s_client", "-ktls", "-quiet", "-connect", f"127.0.0.1:{port}"),
            stdin=subprocess.PIPE)
        client.stdin.write(b"GET /large HTTP/1.0\r\n\r\n")
        client.stdin.flush()
        wait_for("file at the client", lambda: len(client.out()) > LARGE, 60)
        client.stdin.close()
        client.finish(60)
        server.stop(signal.SIGKILL)
        keeper.stop()
    mine, theirs = keeper.flow(client.pid), keeper.flow(server.pid)
    rest = check_sendfile(theirs, rb"HTTP/1.0 200 ok\r\n", place.large)
    check(not rest, f"more than the file was sent: {rest[:80]!r}")
    same("s_client's own output", mine["in"], client.out())
    same("both sides", mine["in"], theirs["out"])
    same("the request", mine["out"], b"GET /large HTTP/1.0\r\n\r\n")
    same("the request at the server", theirs["in"], mine["out"])
    for flow in (mine, theirs):
        check_kernel(flow)
    check({c["kind"] for c in mine["calls"]} == {"openssl"}, "the client's bytes were seen twice")


NGINX = """
user root; daemon off; master_process off; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off; sendfile on;
    client_body_temp_path n1; proxy_temp_path n2; fastcgi_temp_path n3; uwsgi_temp_path n4;
    scgi_temp_path n5;
    server {{
        listen 127.0.0.1:{port} ssl; root {place};
        ssl_certificate {place}/cert.pem; ssl_certificate_key {place}/key.pem;
        ssl_conf_command Options KTLS;
    }}
}}
"""


@ktls_case(needs=["apt-get", "dpkg-deb", "curl"], timeout=200)
def ktls_nginx_sendfile(lab):
    """A page and a file of 16 MiB over one connection, with this machine's curl."""
    port = lab.port()
    with Place(lab) as place:
        conf = place.write("nginx.conf", NGINX.format(port=port, place=place.inside))
        server = lab.spawn(place.words("nginx", "-e", "stderr", "-p", place.inside, "-c", conf),
                           port=port)
        keeper = Keeper(lab, "--comm", "nginx", "--comm", "curl")
        url = f"https://127.0.0.1:{port}"
        client = lab.run(["curl", "-sS", "-k", "--http1.1", f"{url}/page", "-o", lab.path("page"),
                          f"{url}/large", "-o", lab.path("large")], timeout=90)
        server.stop()
        keeper.stop()
    for name, want in (("page", place.page), ("large", place.large)):
        with open(lab.path(name), "rb") as f:
            same(f"curl's own {name}", f.read(), want)
    mine, theirs = keeper.flow(client.pid), keeper.flow(server.pid)
    rest = check_sendfile(theirs, rb"HTTP/1.1 200 OK\r\n", place.page)
    at = rest.find(b"\r\n\r\n") + 4
    same("the large file", rest[at:], place.large)
    same("both sides", mine["in"], theirs["out"])
    same("the requests", theirs["in"], mine["out"])
    check_kernel(theirs)
    check(not any(c.get("ktls") for c in mine["calls"]), "curl's library makes its records itself")


SERVER = """
import os, socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
context.options |= ssl.OP_ENABLE_KTLS
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
s = context.wrap_socket(listener.accept()[0], server_side=True)
request = b""
while not request.endswith(b"\\r\\n\\r\\n"):
    request += s.recv(4096)
with open("large", "rb") as f:
    size = os.fstat(f.fileno()).st_size
    s.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % size)
    at = 0
    while at < size:
        at += os.sendfile(s.fileno(), f.fileno(), at, size - at)
assert s.recv(4096) == b"thanks"
"""

# The last word goes past the library, as its socket takes plaintext now.
CLIENT = """
import os, socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.options |= ssl.OP_ENABLE_KTLS
s = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
s.sendall(b"GET /large HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
data = b""
while b"\\r\\n\\r\\n" not in data:
    data += s.recv(65536)
size = int(data.split(b"Content-Length: ")[1].split(b"\\r\\n")[0])
body = data.split(b"\\r\\n\\r\\n", 1)[1]
while len(body) < size:
    body += s.recv(65536)
assert body == open("large", "rb").read()
os.write(s.fileno(), b"thanks")
"""


@ktls_case(needs=["apt-get", "dpkg-deb"], timeout=120)
def ktls_http_get(lab):
    """
    A client that turns kTLS on after its handshake and makes an HTTP GET: request and response. A
    script of the unions sees each byte once, one of ktls_* alone sees all of them there.
    """
    port = lab.port()
    with Place(lab, 1 << 20) as place:
        place.write("server.py", SERVER)
        place.write("client.py", CLIENT)
        server = lab.spawn(place.words("python3", "server.py", str(port)), port=port)
        union = Keeper(lab, "--comm", "python3")
        below = Keeper(lab, "--comm", "python3", probes="ktls_send,ktls_recv")
        client = lab.run(place.words("python3", "client.py", str(port)), timeout=60)
        server.finish()
        union.stop()
        below.stop()
    request = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for keeper in (union, below):
        mine, theirs = keeper.flow(client.pid), keeper.flow(server.pid)
        head, _, body = mine["in"].partition(b"\r\n\r\n")
        check(head.startswith(b"HTTP/1.1 200 OK"), f"not the response: {head[:80]!r}")
        same("the body", body, place.large)
        same("the client's out", mine["out"], request + b"thanks")
        same("the server's out", theirs["out"], mine["in"])
        same("the server's in", theirs["in"], mine["out"])
        for flow in (mine, theirs):
            check_kernel(flow)
    check({c["kind"] for f in below.flows([client.pid, server.pid]).values() for c in f["calls"]} ==
          {"ktls"}, "a script of ktls_* alone saw a library")
    kinds = {(c["dir"], c["kind"]) for c in union.flow(client.pid)["calls"]}
    check(kinds == {("out", "openssl"), ("out", "ktls"), ("in", "openssl")},
          f"the client's: {kinds}")
