# SPDX-License-Identifier: MIT
"""Programs of Go as Debian and npm ship them: stripped, of many versions, none of them ours."""
import glob
import hashlib
import json
import os
import re
import subprocess
import time
import zlib

import suites
from harness import PYTHON, TLSSCOPE, Fail, Skip, both_sides, case, check, descendants, lines, same, wait_for
from web import BODY, PAGE, PREFACE, backend, check_http1, check_http2, curl, frames, http1, \
    http2_bodies, nginx

# What is fetched of each suite; the Go that built it: 1.15, 1.19, 1.23 and 1.24, 1.26 and 1.27.
TOOLS = {
    "bullseye": ["hey", "rclone", "etcd-server", "etcd-client", "docker-registry", "webhook"],
    "bookworm": ["caddy", "gh", "nats-server", "restic", "influxdb", "influxdb-client",
                 "prometheus"],
    "trixie": ["hey", "etcd-server", "etcd-client", "ntfy", "rclone"],
    "sid": ["caddy", "hey", "lyrebird", "nats-server", "webhook"],
}
ESBUILD = "0.25.10"


def tool(lab, suite, name):
    """A program of a suite, or Skip with the reason."""
    root = suites.packages_of(lab, suite, "go-tools", TOOLS[suite])
    found = glob.glob(f"{root}/usr/*bin/{name}")
    check(found, f"{suite} has no {name}")
    p = suites.run("ldd", found[0])
    if "not found" in p[1]:
        raise Skip(f"{name} of {suite} does not run here: {p[1].strip()[-200:]}")
    return found[0]


def go_case(*suites_of, needs=()):
    """Declares a case for each suite."""
    def add(func):
        for suite in suites_of:
            def run(lab, suite=suite):
                func(lab, suite)
            run.__name__, run.__doc__ = f"go_{func.__name__}_{suite}", func.__doc__
            case(needs=["apt-get", "dpkg-deb", *needs], timeout=300)(run)
        return func
    return add


def watching(lab, *programs, others=("curl", "nginx")):
    """
    The tracer, on these files and libssl: also where a program has not run before. Other cases that
    run meanwhile are not its business.
    """
    comms = [os.path.basename(p)[:15] for p in programs] + list(others)
    return lab.tracer(*[w for p in programs for w in ("--lib", p)], "--lib", "libssl",
                      *[w for c in comms for w in ("--comm", c)])


# SETTINGS, PING, WINDOW_UPDATE and what ends streams and connections.
CONTROL = (3, 4, 6, 7, 8)


def quiet(rest):
    """What only one side has at the end: nothing, or talk of HTTP/2 about itself."""
    try:
        return all(kind in CONTROL or not kind and not payload
                   for kind, _, _, payload in frames(rest))
    except Fail:
        return False


def no_data(rest):
    """Whole frames of HTTP/2 without data."""
    try:
        return bool(rest) and all(kind for kind, _, _, _ in frames(rest))
    except Fail:
        return False


def sides(clients, servers, count):
    """
    both_sides, but for the end of HTTP/2: one side may not read the other's last words, and a
    program of Go may end in the middle of a Write whose bytes the other side has got already.
    """
    for c in clients:
        for s in servers:
            if c.sent.startswith(PREFACE) and s.received.startswith(c.sent) and \
                    no_data(s.received[len(c.sent):]):
                c.sent = s.received
                break
    return both_sides(clients, servers, count, quiet)


def alike(seen, clients, servers):
    """Both sides of all connections between these processes; the clients'."""
    mine = seen.flows(pids=[p.pid for p in clients])
    check(mine, "no connection of the client was seen")
    return sides(mine, seen.flows(pids=[p.pid for p in servers]), len(mine))


def family(process):
    """A server that forks."""
    return [process.pid] + descendants(process.pid)


def all_go(flows, wrapped=False, package="crypto/tls", types=("Conn",)):
    """
    They are of Go, and name the function, the goroutine and the descriptor. wrapped: the program
    puts a type of its own between crypto/tls and the socket, and the descriptor is unknown.
    """
    names = [f"{package}.(*{t}).{call}" for t in types for call in ("Read", "Write")]
    check(flows, "no connection of Go was seen")
    for f, c in ((f, c) for f in flows for c in f.calls):
        check(c["kind"] == "go" and c["func"] in names, f"{c['func']}")
        check(c.get("goid", 0) > 0, f"no goroutine: {c['func']}, {f}")
        check((c.get("fd") is None) == wrapped, f"descriptor {c.get('fd')}: {c['func']}, {f}")


def posts(flow):
    """The bodies that a client's connection sent and received, HTTP/1.1 or 2."""
    if flow.sent.startswith(PREFACE):
        return list(http2_bodies(flow.sent).values()), list(http2_bodies(flow.received).values())
    return [[b for _, b in http1(data) if b] for data in (flow.sent, flow.received)]


def bodies(flows):
    """Those of all of them."""
    both = [posts(f) for f in flows]
    return [b for sent, _ in both for b in sent], [b for _, got in both for b in got]


# --- servers that curl asks

@go_case("bookworm", "sid", needs=["curl", "nginx"])
def caddy(lab, suite):
    """Files by HTTP/1.1 and 2, and what is posted by way of caddy's own client to nginx."""
    port, inner = lab.port(), lab.port()
    behind = nginx(lab, inner, backend(), http2=False)
    conf = lab.write("Caddyfile", f"""
        {{
            admin off
            auto_https off
        }}
        https://localhost:{port} {{
            bind 127.0.0.1
            tls {lab.cert} {lab.key}
            handle /echo {{
                reverse_proxy https://localhost:{inner}
            }}
            handle {{
                root * {lab.path("www")}
                file_server
            }}
        }}
        """)
    program = tool(lab, suite, "caddy")
    server = lab.spawn([program, "run", "--config", conf, "--adapter",
                        "caddyfile"], port=port, env={"SSL_CERT_FILE": lab.cert})
    tracer = watching(lab, program)
    one = curl(lab, port, "--http1.1")
    two = curl(lab, port, "--http2")
    seen = tracer.stop()
    flows = seen.flows(pids=[server.pid])
    all_go(flows)
    proxied = [f for f in flows if b"nginx" in f.received[:200]]
    asked = [f for f in flows if f not in proxied]
    for client, look in ((one, check_http1), (two, check_http2)):
        mine = seen.flows(pids=[client.pid])
        check(len(mine) == 1, f"{len(mine)} connections of curl")
        look(mine[0])
    sides(seen.flows(pids=[one.pid, two.pid]), asked, 2)
    sides(proxied, seen.flows(pids=family(behind)), len(proxied))
    check(bodies(proxied)[0] == [BODY] * 2, "not both bodies to nginx")


@go_case("bullseye", needs=["curl"])
def docker_registry(lab, suite):
    """A layer pushed and pulled, by HTTP/2."""
    port = lab.port()
    conf = lab.write("registry.yml", f"""
version: 0.1
storage: {{filesystem: {{rootdirectory: {lab.path("data")}}}}}
http:
  addr: 127.0.0.1:{port}
  tls: {{certificate: {lab.cert}, key: {lab.key}}}
""")
    program = tool(lab, suite, "docker-registry")
    server = lab.spawn([program, "serve", conf], port=port)
    tracer = watching(lab, program)
    ask = ["curl", "-sS4", "--cacert", lab.cert]
    url = f"https://localhost:{port}/v2/box/blobs/"
    digest = "sha256:" + hashlib.sha256(BODY).hexdigest()
    begun = lab.run([*ask, "-X", "POST", "-i", url + "uploads/"])
    place = re.search(rb"(?i)\r\nlocation: (\S+)", begun.out())[1].decode()
    put = lab.run([*ask, "-T", lab.write("layer", BODY), "-H", "Expect:",
                   f"{place}&digest={digest}"])
    got = lab.run([*ask, url + digest])
    same("curl's own layer", got.out(), BODY)
    seen = tracer.stop()
    mine = alike(seen, [begun, put, got], [server])
    all_go(seen.flows(pids=[server.pid]))
    check(len(mine) == 3, f"{len(mine)} connections, not 3")
    sent, received = bodies(mine)
    check(BODY in sent and BODY in received, "the layer is not in what was sent and received")


def webhook_serves(lab, program, port, hooks):
    return lab.spawn([program, "-hooks", hooks, "-secure", "-cert", lab.cert, "-key", lab.key,
                      "-ip", "127.0.0.1", "-port", str(port)], port=port)


@go_case("bullseye", "sid", needs=["curl"])
def webhook(lab, suite):
    """A request that runs a command, whose output is the response."""
    port = lab.port()
    hooks = lab.write("hooks.json", json.dumps([{
        "id": "say", "execute-command": "/bin/echo", "include-command-output-in-response": True,
        "pass-arguments-to-command": [{"source": "payload", "name": "text"}]}]))
    program = tool(lab, suite, "webhook")
    server = webhook_serves(lab, program, port, hooks)
    text = lines(400, "hook")
    body = lab.write("body", json.dumps({"text": text.decode()}))
    tracer = watching(lab, program)
    clients = []
    for http in ("--http1.1", "--http2"):
        clients.append(lab.run(["curl", "-sS4", http, "--cacert", lab.cert, "-H", "Expect:", "-H",
                               "Content-Type: application/json", "--data-binary", "@" + body,
                               f"https://localhost:{port}/hooks/say"]))
        same("curl's own answer", clients[-1].out(), text + b"\n")
    seen = tracer.stop()
    mine = alike(seen, clients, [server])
    all_go(seen.flows(pids=[server.pid]))
    sent, received = bodies(mine)
    check(received == [text + b"\n"] * 2, "the output is not in the response")
    check([json.loads(s) for s in sent] == [{"text": text.decode()}] * 2, "not the request")


@go_case("bookworm", needs=["curl", "nginx"])
def prometheus(lab, suite):
    """Scrapes nginx over TLS, and answers a query over TLS."""
    port, target = lab.port(), lab.port()
    scraped_one = nginx(lab, target, backend(), http2=False)
    metrics = b"".join(b"sample{number=\"%d\"} %d\n" % (i, i) for i in range(2000))
    lab.write("www/metrics", metrics)
    web = lab.write("web.yml",
                    f"tls_server_config: {{cert_file: {lab.cert}, key_file: {lab.key}}}\n")
    conf = lab.write("prometheus.yml", f"""
global: {{scrape_interval: 1s}}
scrape_configs:
- job_name: box
  scheme: https
  tls_config: {{ca_file: {lab.cert}}}
  static_configs: [{{targets: ["localhost:{target}"]}}]
""")
    program = tool(lab, suite, "prometheus")
    tracer = watching(lab, program)
    server = lab.spawn([program, f"--config.file={conf}",
                        f"--web.config.file={web}", f"--web.listen-address=127.0.0.1:{port}",
                        f"--storage.tsdb.path={lab.path('data')}"], port=port)
    answers = []

    def answered():
        answers.append(lab.run(["curl", "-sS4", "--cacert", lab.cert, "-G", "--data-urlencode",
                                'query=sample{number=~"17.."}',
                                f"https://localhost:{port}/api/v1/query"]))
        time.sleep(0.3)
        return b'"1799"' in answers[-1].out()
    wait_for("samples", answered)
    server.stop()
    seen = tracer.stop()
    flows = seen.flows(pids=[server.pid])
    all_go(flows, wrapped=True)
    scraped = [f for f in flows if b"GET /metrics" in f.sent]
    sides(scraped, seen.flows(pids=family(scraped_one)), len(scraped))
    for f in scraped:
        got = [b for _, b in http1(f.received)]
        check(got and set(got) == {metrics}, "the metrics are not what was received")
    last = seen.flows(pids=[answers[-1].pid])
    same("the query's answer", bodies(last)[1][0], answers[-1].out())
    asked = [f for f in flows if f not in scraped]
    sides(seen.flows(pids=[p.pid for p in answers]), asked, len(asked))


@go_case("bookworm", needs=["curl"])
def influxdb(lab, suite):
    """Points that curl writes; influx, also of Go, reads them."""
    port, inner = lab.port(), lab.port()
    conf = lab.write("influx.toml", f"""
reporting-disabled = true
bind-address = "127.0.0.1:{inner}"
[meta]
  dir = "{lab.path("meta")}"
[data]
  dir = "{lab.path("data")}"
  wal-dir = "{lab.path("wal")}"
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  https-enabled = true
  https-certificate = "{lab.cert}"
  https-private-key = "{lab.key}"
""")
    daemon, program = tool(lab, suite, "influxd"), tool(lab, suite, "influx")
    server = lab.spawn([daemon, "run", "-config", conf], port=port)
    points = b"".join(b"box,host=a value=%d %d\n" % (i, i + 1) for i in range(3000))
    tracer = watching(lab, daemon, program)
    url = f"https://localhost:{port}/"
    post = ["curl", "-sSf4", "--cacert", lab.cert, "-H", "Expect:"]
    made = lab.run([*post, url + "query", "--data-urlencode", "q=CREATE DATABASE box"])
    put = lab.run([*post, url + "write?db=box", "--data-binary", "@" + lab.write("points", points)])
    got = lab.run([program, "-ssl", "-unsafeSsl", "-host", "127.0.0.1", "-port",
                   str(port), "-database", "box", "-format", "csv", "-execute",
                   "select value from box"])
    values = [int(line.split(b",")[2]) for line in got.out().splitlines()[1:]]
    check(values == list(range(3000)), f"influx printed {len(values)} values: {got.out()[:200]!r}")
    seen = tracer.stop()
    mine = alike(seen, [made, put, got], [server])
    all_go(seen.flows(pids=[server.pid, got.pid]))
    check(points in bodies([f for f in mine if f.pid == put.pid])[0], "the points were not seen")
    packed = b"".join(bodies([f for f in mine if f.pid == got.pid])[1])
    read = json.loads(zlib.decompressobj(31).decompress(packed).splitlines()[-1])
    values = [row[1] for row in read["results"][0]["series"][0]["values"]]
    check(values == list(range(3000)), f"{len(values)} values were seen, or others")


def esbuild_of(lab, version=ESBUILD):
    """esbuild from npm, for this machine."""
    found = glob.glob(f"{suites.from_npm(lab, 'esbuild', version)}/@esbuild/*/bin/esbuild")
    if not found:
        raise Skip("npm has no esbuild for this machine")
    return found[0]


def esbuild_serves(lab, program, port):
    os.makedirs(lab.path("www"))
    lab.write("www/page", PAGE)
    return lab.spawn([program, f"--serve=127.0.0.1:{port}", f"--servedir={lab.path('www')}",
                      f"--certfile={lab.cert}", f"--keyfile={lab.key}"], port=port,
                     stdin=subprocess.PIPE)  # it ends with its stdin


@case(needs=["npm", "curl"], timeout=300)
def go_esbuild_npm(lab):
    """esbuild's own web server, as npm ships it."""
    program, port = esbuild_of(lab), lab.port()
    server = esbuild_serves(lab, program, port)
    tracer = watching(lab, program)
    url = f"https://localhost:{port}/page"
    client = lab.run(["curl", "-sS4", "--cacert", lab.cert, url, url, url])
    same("curl's own pages", client.out(), PAGE * 3)
    seen = tracer.stop()
    mine = alike(seen, [client], [server])
    all_go(seen.flows(pids=[server.pid]))
    check(bodies(mine)[1] == [PAGE] * 3, "not the pages")


# --- clients

@go_case("bullseye", "trixie", "sid", needs=["nginx"])
def hey(lab, suite):
    """A load of HTTP/1.1 and of HTTP/2 on nginx."""
    program, port = tool(lab, suite, "hey"), lab.port()
    server = nginx(lab, port, backend())
    lab.write("body", BODY)
    ask = [program, "-n", "40", "-c", "4", "-disable-compression", "-m", "POST", "-D",
           lab.path("body")]
    tracer = watching(lab, program)
    one = lab.run([*ask, f"https://127.0.0.1:{port}/echo"])
    two = lab.run([*ask, "-h2", f"https://127.0.0.1:{port}/echo"])
    for p in (one, two):
        check(b"[200]\t40 responses" in p.out(), f"hey: {p.out()!r}")
    seen = tracer.stop()
    flows = seen.flows(pids=[one.pid, two.pid])
    all_go(flows)
    # hey opens four connections and needs one: on the others nginx only says its settings.
    theirs = [f for f in seen.flows(pids=family(server)) if f.received]
    sides(flows, theirs, len(flows))
    for p in (one, two):
        sent, received = bodies([f for f in flows if f.pid == p.pid])
        check(sent == [BODY] * 40, f"{len(sent)} bodies sent, or other ones")
        check(received == [BODY] * 40, f"{len(received)} bodies received, or other ones")
    check(any(f.sent.startswith(b"PRI") for f in flows), "no HTTP/2")


@go_case("bookworm", needs=["nginx"])
def gh(lab, suite):
    """GitHub's command line, asking a server of this machine."""
    program, port = tool(lab, suite, "gh"), lab.port()
    server = nginx(lab, port, backend())
    tracer = watching(lab, program)
    client = lab.run([program, "api", f"https://localhost:{port}/page"],
                     env={"SSL_CERT_FILE": lab.cert, "GH_HOST": f"localhost:{port}",
                          "GH_ENTERPRISE_TOKEN": "not-a-secret", "GH_NO_UPDATE_NOTIFIER": "1"})
    same("gh's own output", client.out(), PAGE)
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    all_go(mine)
    sides(mine, seen.flows(pids=family(server)), len(mine))
    check(bodies(mine)[1] == [PAGE], "not the page")


SOCKS = """
import socket, sys
port, url, text = int(sys.argv[1]), sys.argv[2].encode(), open(sys.argv[3], "rb").read()
s = socket.create_connection(("127.0.0.1", port))
# What is meant for the transport travels as a user's name.
user = b"url=" + url + b";utls=HelloFirefox_Auto"
for request, answer in ((b"\\5\\1\\2", 2), (b"\\1" + bytes([len(user)]) + user + b"\\1\\0", 2),
                        (b"\\5\\1\\0\\1\\xc0\\0\\2\\1\\0\\1", 10)):
    s.sendall(request)
    assert len(s.recv(answer, socket.MSG_WAITALL)) == answer
s.sendall(text)
got = b""
while len(got) < len(text):
    got += s.recv(65536)
assert got == text
"""


@go_case("sid", needs=["nginx"])
def lyrebird(lab, suite):
    """uTLS, a fork of crypto/tls that writes by a type of its own."""
    program, port = tool(lab, suite, "lyrebird"), lab.port()
    server = nginx(lab, port, backend(), http2=False)
    os.makedirs(lab.path("state"))
    proxy = lab.spawn([program], ready=b"CMETHODS DONE", env={
        "TOR_PT_MANAGED_TRANSPORT_VER": "1", "TOR_PT_CLIENT_TRANSPORTS": "meek_lite",
        "TOR_PT_STATE_LOCATION": lab.path("state"), "SSL_CERT_FILE": lab.cert})
    socks = re.search(rb"CMETHOD meek_lite socks5 127.0.0.1:(\d+)", proxy.out())[1].decode()
    tracer = watching(lab, program)
    lab.run([PYTHON, lab.write("socks.py", SOCKS), socks, f"https://localhost:{port}/echo",
             lab.write("text", BODY)])
    seen = tracer.stop()
    mine = seen.flows(pids=[proxy.pid])
    all_go(mine, package="github.com/refraction-networking/utls", types=("Conn", "UConn"))
    # It goes on asking for what the other end may have to say: the last of it is cut off anywhere.
    theirs = seen.flows(pids=family(server))
    check(len(mine) == len(theirs) == 1, f"not one connection: {mine}, {theirs}")
    for a, b in ((mine[0].sent, theirs[0].received), (mine[0].received, theirs[0].sent)):
        n = min(len(a), len(b))
        same("both sides", a[:n], b[:n])
        rest = a[n:] + b[n:]
        check(not rest or rest.startswith((b"POST", b"HTTP")), f"not a whole message: {rest!r}")
    sent, received = bodies(mine)
    same("what was sent", b"".join(sent), BODY)
    same("what was received", b"".join(received), BODY)


# --- large ones

@go_case("bookworm", "trixie")
def large_program_takes_little_memory(lab, suite):
    """The largest one here is looked at in windows: much less is held of it than it has."""
    program = tool(lab, suite, {"bookworm": "prometheus", "trixie": "rclone"}[suite])
    p = lab.run([PYTHON, "-c", "import resource, subprocess, sys\n"
                 "subprocess.run(sys.argv[1:], check=True)\n"
                 "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)",
                 TLSSCOPE, "-l", "--lib", program])
    *_, peak = p.out().decode().split()
    size, peak = os.path.getsize(program) >> 20, int(peak) >> 10
    check(p.out().count(b" gopclntab: entry ") == 6, p.out())
    check(size > 40 and peak < 24, f"{peak} MiB of memory for a program of {size} MiB")


# --- both sides of Go

@go_case("bullseye", "trixie")
def etcd(lab, suite):
    """gRPC: a value put and got by etcdctl."""
    port, peers = lab.port(), lab.port()
    daemon, program = tool(lab, suite, "etcd"), tool(lab, suite, "etcdctl")
    server = lab.spawn([daemon, "--data-dir", lab.path("data"),
                        "--listen-client-urls", f"https://127.0.0.1:{port}",
                        "--advertise-client-urls", f"https://127.0.0.1:{port}",
                        "--listen-peer-urls", f"http://127.0.0.1:{peers}",
                        "--initial-advertise-peer-urls", f"http://127.0.0.1:{peers}",
                        "--initial-cluster", f"default=http://127.0.0.1:{peers}",
                        "--cert-file", lab.cert, "--key-file", lab.key], port=port,
                       env={"SSL_CERT_FILE": lab.cert})
    control = [program, "--endpoints", f"https://127.0.0.1:{port}", "--cacert",
               lab.cert]
    tracer = watching(lab, daemon, program, others=())
    env = {"ETCDCTL_API": "3"}
    put = lab.run([*control, "put", "key"], input=BODY, env=env)
    got = lab.run([*control, "get", "key", "--print-value-only"], env=env)
    same("etcdctl's own output", got.out(), BODY + b"\n")
    seen = tracer.stop()
    mine = seen.flows(pids=[put.pid, got.pid])
    # The server is a client of itself, too.
    theirs = [f for f in seen.flows(pids=[server.pid]) if BODY[:99] in f.received + f.sent]
    all_go(mine)
    all_go(theirs, wrapped=True)
    sides(mine, theirs, 2)
    check(any(BODY in b for f in mine if f.pid == put.pid for b in posts(f)[0]),
          "the value was not seen on its way in")
    check(any(BODY in b for f in mine if f.pid == got.pid for b in posts(f)[1]),
          "the value was not seen on its way out")


@go_case("bullseye", "trixie")
def rclone(lab, suite):
    """WebDAV: a file copied there by one suite's rclone from another's."""
    daemon = tool(lab, suite, "rclone")
    program = tool(lab, "trixie" if suite == "bullseye" else "bullseye", "rclone")
    port = lab.port()
    os.makedirs(lab.path("store"))
    server = lab.spawn([daemon, "serve", "webdav", lab.path("store"), "--addr",
                        f"127.0.0.1:{port}", "--cert", lab.cert, "--key", lab.key], port=port)
    copy = [program, "--webdav-url", f"https://localhost:{port}", "--retries", "1",
            "--webdav-vendor", "other", "copyto"]
    tracer = watching(lab, daemon, program, others=())
    env = {"SSL_CERT_FILE": lab.cert}
    put = lab.run([*copy, lab.write("body", BODY), ":webdav:file"], env=env)
    got = lab.run([*copy, ":webdav:file", lab.path("got")], env=env)
    with open(lab.path("got"), "rb") as f:
        same("rclone's own copy", f.read(), BODY)
    seen = tracer.stop()
    mine = alike(seen, [put, got], [server])
    all_go(mine, wrapped=True)
    all_go(seen.flows(pids=[server.pid]))
    sent, received = bodies(mine)
    check(BODY in sent and BODY in received, "the file is not in what was sent and received")


@go_case("bookworm")
def restic(lab, suite):
    """A backup of restic (Go 1.19) to rclone (Go 1.23) by HTTP/2."""
    daemon, program, port = tool(lab, "trixie", "rclone"), tool(lab, suite, "restic"), lab.port()
    server = lab.spawn([daemon, "serve", "restic", lab.path("store"),
                        "--addr", f"127.0.0.1:{port}", "--cert", lab.cert, "--key", lab.key],
                       port=port)
    lab.write("file", PAGE)
    backup = [program, "-r", f"rest:https://localhost:{port}/", "--cacert",
              lab.cert]
    env = {"RESTIC_PASSWORD": "x", "RESTIC_CACHE_DIR": lab.path("cache")}
    tracer = watching(lab, daemon, program, others=())
    ran = [lab.run([*backup, *words], env=env) for words in (
        ["init"], ["backup", lab.path("file")], ["dump", "latest", lab.path("file")])]
    same("restic's own file", ran[2].out(), PAGE)
    seen = tracer.stop()
    mine = alike(seen, ran, [server])
    all_go(seen.flows(pids=[server.pid] + [p.pid for p in ran]))
    stored = {}
    for folder, _, names in os.walk(lab.path("store")):
        for name in names:
            with open(os.path.join(folder, name), "rb") as f:
                stored[name] = f.read()
    sent = set(bodies(mine)[0])
    for name, data in stored.items():
        check(data in sent, f"{name} ({len(data)} bytes) is in the store, but was not seen")


@go_case("trixie")
def ntfy(lab, suite):
    """A message published to and received from ntfy's server."""
    program, port = tool(lab, suite, "ntfy"), lab.port()
    conf = lab.write("server.yml", f"""
base-url: "https://localhost:{port}"
listen-http: "-"
listen-https: "127.0.0.1:{port}"
cert-file: "{lab.cert}"
key-file: "{lab.key}"
""")
    server = lab.spawn([program, "serve", "--config", conf, "--cache-file", lab.path("cache.db")],
                       port=port)
    env, url = {"SSL_CERT_FILE": lab.cert}, f"https://localhost:{port}/news"
    text = lines(50, "ntfy").decode().replace("\n", ";")
    tracer = watching(lab, program, others=())
    said = lab.run([program, "publish", url, text], env=env)
    heard = lab.run([program, "subscribe", "--poll", url], env=env)
    check(text.encode() in heard.out(), f"ntfy heard {heard.out()[:300]!r}")
    seen = tracer.stop()
    mine = alike(seen, [said, heard], [server])
    all_go(seen.flows(pids=[server.pid, said.pid, heard.pid]))
    sent, received = bodies(mine)
    check(text.encode() in sent, "the message is not in what was sent")
    check(any(text.encode() in b for b in received), "the message is not in what was received")


# --- Go and OpenSSL on one connection

NATS = """
import socket, ssl, sys
port, cert, size = int(sys.argv[1]), sys.argv[2], 40000
s = socket.create_connection(("127.0.0.1", port))
info = b""
while not info.endswith(b"\\r\\n"):
    info += s.recv(1)
assert b'"tls_required":true' in info, info
s = ssl.create_default_context(cafile=cert).wrap_socket(s, server_hostname="localhost")
text = open(sys.argv[3], "rb").read()[:size]
s.sendall(b'CONNECT {"verbose":false}\\r\\nSUB news 1\\r\\nPUB news %d\\r\\n' % size)
s.sendall(text + b"\\r\\n")
got = b""
while not got.endswith(text + b"\\r\\n"):
    got += s.recv(65536)
s.close()
"""


@go_case("bookworm", "sid")
def nats(lab, suite):
    """A broker that begins TLS on a connection which already talked; the client is Python."""
    port = lab.port()
    conf = lab.write("nats.conf", f'listen: "127.0.0.1:{port}"\n'
                     f'tls {{ cert_file: "{lab.cert}", key_file: "{lab.key}" }}\n')
    program = tool(lab, suite, "nats-server")
    server = lab.spawn([program, "-c", conf], port=port)
    text = lab.write("text", lines(1000, "news"))
    tracer = watching(lab, program, others=["python3"])
    client = lab.run([PYTHON, lab.write("client.py", NATS), str(port), lab.cert, text])
    seen = tracer.stop()
    server.stop(subprocess.signal.SIGKILL)
    mine = alike(seen, [client], [server])
    all_go(seen.flows(pids=[server.pid]))
    news = lines(1000, "news")[:40000]
    check(news in mine[0].sent and news in mine[0].received, "the news are not in it")
