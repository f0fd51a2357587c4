# SPDX-License-Identifier: MIT
"""curl with web servers: the plaintext of both sides, whole and in order."""
import os
import shutil
import signal

from harness import PYTHON, Skip, both_sides, case, check, descendants, lines, same, wait_for
from web import BODY, PAGE, backend, check_http1, check_http2, curl, farewell, http1, \
    http2_bodies, nginx


@case(needs=["nginx", "curl"])
def curl_http1_nginx(lab):
    port = lab.port()
    nginx(lab, port, backend())
    tracer = lab.tracer("--comm", "nginx", "--comm", "curl")
    client = curl(lab, port, "--http1.1")
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    both_sides(mine, seen.flows(comm=["nginx"], having=b"localhost:%d" % port), 1)
    check_http1(mine[0])


@case(needs=["nginx", "curl"])
def curl_http2_nginx(lab):
    port = lab.port()
    server = nginx(lab, port, backend())
    tracer = lab.tracer("--comm", "nginx", "--comm", "curl")
    client = curl(lab, port, "--http2")
    worker = int(open(f"/proc/{server.pid}/task/{server.pid}/children").read().split()[0])
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    both_sides(mine, seen.flows(pids=[worker]), 1, farewell)
    check_http2(mine[0])


@case(needs=["nginx", "curl"])
def whole_system(lab):
    """No target at all: everything on the machine is seen."""
    port = lab.port()
    nginx(lab, port, backend(), workers=2)
    tracer = lab.tracer()
    pids = [curl(lab, port, "--http1.1").pid for _ in range(3)]
    seen = tracer.stop()
    mine = seen.flows(pids=pids)
    both_sides(mine, seen.flows(comm=["nginx"], having=b"localhost:%d" % port), 3)
    for flow in mine:
        check_http1(flow)


def apache(lab, port, echo, mpm="event"):
    modules = "/usr/lib/apache2/modules"
    load = [f"mpm_{mpm}", "authz_core", "ssl", "http2", "proxy", "proxy_http", "socache_shmcb"]
    load = "\n".join(f"LoadModule {m}_module {modules}/mod_{m}.so" for m in load)
    os.makedirs(lab.path("www"))
    lab.write("www/page", PAGE)
    conf = lab.write("apache.conf", f"""
        ServerRoot {lab.dir}
        ServerName localhost
        PidFile {lab.path("apache.pid")}
        {load}
        Listen 127.0.0.1:{port}
        ErrorLog /dev/stderr
        User nobody
        Group nogroup
        DocumentRoot {lab.path("www")}
        Protocols h2 http/1.1
        SSLEngine on
        SSLCertificateFile {lab.cert}
        SSLCertificateKeyFile {lab.key}
        ProxyPass /echo http://127.0.0.1:{echo}/echo
        """)
    return lab.spawn(["/usr/sbin/apache2", "-f", conf, "-DFOREGROUND"], port=port)


def apache_case(lab, mpm, option, reader):
    """apache loads mod_ssl, and with it libssl, by dlopen; its BIO methods are its own."""
    port = lab.port()
    server = apache(lab, port, backend(), mpm)
    tracer = lab.tracer("--comm", "apache2", "--comm", "curl")
    client = curl(lab, port, option)
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    servers = seen.flows(pids=[server.pid] + descendants(server.pid))
    both_sides(mine, servers, 1, farewell if option == "--http2" else None)
    reader(mine[0])
    # Neither has a descriptor in OpenSSL's place; both came before sockets were watched, or not.
    ends = [{(c["laddr"], c["lport"], c["raddr"], c["rport"]) for c in f.calls if "laddr" in c}
            for f in (mine[0], servers[0])]
    check(all(len(e) == 1 for e in ends) and ends[0] == {e[2:] + e[:2] for e in ends[1]},
          f"addresses that do not agree: {ends}")


@case(needs=["apache2", "curl"])
def curl_http1_apache(lab):
    apache_case(lab, "prefork", "--http1.1", check_http1)


@case(needs=["apache2", "curl"])
def curl_http2_apache(lab):
    apache_case(lab, "event", "--http2", check_http2)


@case(needs=["lighttpd", "curl"])
def curl_lighttpd(lab):
    if not os.path.exists("/usr/lib/lighttpd/mod_openssl.so"):
        raise Skip("lighttpd's mod_openssl is not installed")
    port, echo = lab.port(), backend()
    os.makedirs(lab.path("www"))
    lab.write("www/page", PAGE)
    conf = lab.write("lighttpd.conf", f"""
        server.modules = ("mod_openssl", "mod_proxy")
        server.document-root = "{lab.path("www")}"
        server.port = {port}
        server.bind = "127.0.0.1"
        ssl.engine = "enable"
        ssl.pemfile = "{lab.both}"
        $HTTP["url"] =~ "^/echo" {{
            proxy.server = ("" => (("host" => "127.0.0.1", "port" => {echo})))
        }}
        """)
    lab.spawn(["/usr/sbin/lighttpd", "-D", "-f", conf], port=port)
    tracer = lab.tracer("--comm", "lighttpd", "--comm", "curl")
    client = curl(lab, port, "--http1.1")
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    both_sides(mine, seen.flows(comm=["lighttpd"]), 1)
    check_http1(mine[0])


@case(needs=["haproxy", "curl"])
def curl_haproxy(lab):
    """A proxy with TLS on both sides: curl, haproxy, haproxy; four views of two connections."""
    front, back, echo = lab.port(), lab.port(), backend()
    conf = lab.write("haproxy.cfg", f"""
        defaults
            mode http
            timeout connect 5s
            timeout client 30s
            timeout server 30s
        listen front
            bind 127.0.0.1:{front} ssl crt {lab.both}
            server s 127.0.0.1:{back} ssl verify none
        listen back
            bind 127.0.0.1:{back} ssl crt {lab.both}
            server s 127.0.0.1:{echo}
""")
    server = lab.spawn(["/usr/sbin/haproxy", "-f", conf, "-db"], port=back)
    tracer = lab.tracer("-p", str(server.pid), "--comm", "haproxy")
    client = curl(lab, front, "--http1.1")
    seen = tracer.stop()
    check(not seen.flows(comm=["curl"]), "curl was seen, though only haproxy was asked for")
    flows = seen.flows(pids=[server.pid])
    check(len(flows) == 3, f"{len(flows)} connections of haproxy, not 3: {flows}")
    ask = [f for f in flows if f.sent.startswith(b"GET")]
    serve = [f for f in flows if f.received.startswith(b"GET")]
    check(len(ask) == 1 and len(serve) == 2, f"{flows}")
    other = [f for f in serve if f.received == ask[0].sent]
    check(len(other) == 1, f"no server's side has what haproxy's client side sent: {flows}")
    same("haproxy's two halves", ask[0].received, other[0].sent)
    check_http1(ask[0])
    check(client.pid, "curl ran")


@case(needs=["stunnel4", "curl"])
def curl_stunnel_chain(lab):
    """curl, TLS to a stunnel server, plain to a stunnel client, TLS to a stunnel server, plain."""
    ports, echo = [lab.port() for _ in range(3)], backend()

    def stunnel(name, accept, connect, client):
        conf = lab.write(name, f"""
            foreground = yes
            pid =
            [s]
            client = {client}
            accept = 127.0.0.1:{accept}
            connect = 127.0.0.1:{connect}
            cert = {lab.both}
            """)
        return lab.spawn(["stunnel4", conf], port=accept)
    last = stunnel("last", ports[2], echo, "no")
    middle = stunnel("middle", ports[1], ports[2], "yes")
    first = stunnel("first", ports[0], ports[1], "no")
    tracer = lab.tracer("--comm", "stunnel4", "--comm", "curl")
    client = curl(lab, ports[0], "--http1.1")
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    both_sides(mine, seen.flows(pids=[first.pid]), 1)
    both_sides(seen.flows(pids=[middle.pid]), seen.flows(pids=[last.pid]), 1)
    check_http1(mine[0])


@case(needs=["hitch", "curl"])
def curl_hitch(lab):
    port, echo = lab.port(), backend()
    conf = lab.write("hitch.conf", f"""
        frontend = "[127.0.0.1]:{port}"
        backend = "[127.0.0.1]:{echo}"
        pem-file = "{lab.both}"
        workers = 1
        ocsp-dir = ""
        user = "root"
        """)
    lab.spawn(["/usr/sbin/hitch", "--config", conf], port=port)
    tracer = lab.tracer("--comm", "hitch", "--comm", "curl")
    client = curl(lab, port, "--http1.1")
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    both_sides(mine, seen.flows(comm=["hitch"]), 1)
    check_http1(mine[0])


@case(needs=["nginx", "h2load"])
def h2load_nginx(lab):
    """Many streams at once over few connections."""
    port = lab.port()
    server = nginx(lab, port, backend())
    tracer = lab.tracer("--comm", "nginx", "--comm", "h2load")
    client = lab.run(["h2load", "-n", "40", "-c", "2", "-m", "10",
                      f"https://127.0.0.1:{port}/page"])
    check(b"40 succeeded" in client.out(), f"h2load: {client.out()[-400:]!r}")
    worker = int(open(f"/proc/{server.pid}/task/{server.pid}/children").read().split()[0])
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    both_sides(mine, seen.flows(pids=[worker]), 2, farewell)
    pages = [b for f in mine for b in http2_bodies(f.received).values()]
    check(len(pages) == 40, f"{len(pages)} pages, not 40")
    for page in pages:
        same("page", page, PAGE)


@case(needs=["nghttpd", "nghttp"])
def nghttp_nghttpd(lab):
    port = lab.port()
    os.makedirs(lab.path("www"))
    lab.write("www/page", PAGE)
    server = lab.spawn(["nghttpd", "-a", "127.0.0.1", "-d", lab.path("www"), str(port), lab.key,
                        lab.cert], port=port)
    tracer = lab.tracer("--comm", "nghttp", "-p", str(server.pid), script="""
        -- two targets of different keys intersect: nobody passes
        on.tls_data(function(e) emit{type = "wrong"} end)
        on.start(function() emit{type = "ready"} end)
        """)
    lab.run(["nghttp", "-nv", f"https://127.0.0.1:{port}/page"])
    check(len(tracer.stop().records) == 1, "an event, though nobody is both nghttp and nghttpd")
    tracer = lab.tracer()
    client = lab.run(["nghttp", f"https://127.0.0.1:{port}/page"])
    same("nghttp's own page", client.out(), PAGE)
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    both_sides(mine, seen.flows(pids=[server.pid]), 1, farewell)
    same("page", list(http2_bodies(mine[0].received).values())[0], PAGE)


@case(needs=["nginx", "curl"], timeout=200)
def short_lived_loop(lab):
    """Five hundred curls, each gone in milliseconds: every request and answer is seen."""
    port = lab.port()
    nginx(lab, port, backend())
    tracer = lab.tracer("--comm", "curl")
    p = lab.run(["sh", "-c", f"for i in $(seq 500); do curl -sS --cacert {lab.cert} "
                 f"https://localhost:{port}/echo/number-$i || exit 1; done"], timeout=150)
    seen = tracer.stop()
    flows = [f for f in seen.flows(comm=["curl"]) if b"/echo/number-" in f.sent or
             b"/echo/number-" in f.received]
    check(p.out().count(b"number-") == 500, "curl itself failed")
    flows = [f for f in flows if f.received]
    bodies = sorted(b"".join(http2_bodies(f.received).values()) for f in flows)
    check(bodies == sorted(b"/echo/number-%d" % i for i in range(1, 501)),
          f"{len(bodies)} of 500 answers seen")
    check(len({f.pid for f in flows}) == 500, "not five hundred processes")


@case(needs=["nginx", "curl", "stunnel4"])
def tls_in_tls(lab):
    """curl to an HTTPS proxy, and through it to an HTTPS server: SSL_write inside SSL_write."""
    inner, outer, plain = lab.port(), lab.port(), lab.port()
    nginx(lab, inner, backend())
    proxy = lab.write("proxy.py", PROXY)
    lab.spawn([PYTHON, proxy, str(plain)], port=plain)
    conf = lab.write("stunnel.conf", f"""
        foreground = yes
        pid =
        [s]
        accept = 127.0.0.1:{outer}
        connect = 127.0.0.1:{plain}
        cert = {lab.both}
        """)
    stunnel = lab.spawn(["stunnel4", conf], port=outer)
    tracer = lab.tracer("--comm", "curl", "--comm", "nginx", "--comm", "stunnel4")
    client = curl(lab, inner, "--http1.1", "-p", "-x", f"https://localhost:{outer}",
                  "--proxy-cacert", lab.cert)
    seen = tracer.stop()
    flows = seen.flows(pids=[client.pid])
    tunnel = [f for f in flows if f.sent.startswith(b"CONNECT")]
    inside = [f for f in flows if f.sent.startswith(b"GET")]
    both_sides(inside, seen.flows(comm=["nginx"], having=b"localhost:%d" % inner), 1)
    check_http1(inside[0])
    # The outer one carries the inner TLS records; the close_notify at its end may go unread.
    both_sides(tunnel, seen.flows(pids=[stunnel.pid]), 1, lambda rest: rest[:1] == b"\x17")
    check(b"GET /page" not in tunnel[0].sent, "the inner plaintext shows in the outer connection")
    check(len(flows) == 2, f"{len(flows)} connections of curl, not 2: {flows}")


PROXY = """
import socket, sys, threading

def pump(a, b):
    try:
        while True:
            data = a.recv(65536)
            if not data:
                break
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass

def serve(c):
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        head += c.recv(1)
    host, port = head.split()[1].rsplit(b":", 1)
    s = socket.create_connection(("127.0.0.1", int(port)))
    c.sendall(b"HTTP/1.1 200 Connection established\\r\\n\\r\\n")
    threading.Thread(target=pump, args=(c, s), daemon=True).start()
    pump(s, c)

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


@case(needs=["openssl", "curl"])
def s_server_www(lab):
    """openssl s_server -www and -WWW write through BIO_f_ssl, past SSL_write."""
    lab.write("page", PAGE)
    for mode, path in (("-WWW", "page"), ("-www", "")):
        port = lab.port()
        server = lab.spawn(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", lab.cert,
                            "-key", lab.key, mode], port=port)
        tracer = lab.tracer("--comm", "openssl", "--comm", "curl")
        client = lab.run(["curl", "-sS", "--http1.0", "--cacert", lab.cert,
                          f"https://localhost:{port}/{path}"])
        seen = tracer.stop()
        server.stop(signal.SIGKILL)
        mine = seen.flows(pids=[client.pid])
        both_sides(mine, seen.flows(pids=[server.pid]), 1)
        (first, body), = http1(mine[0].received)
        same(f"{mode}: curl's own output", client.out(), body)
        check("200" in first, f"{mode}: {first}")
        if path:
            same(mode, body, PAGE)
        else:
            check(b"s_server" in body, f"{mode}: {body[:200]!r}")


@case(needs=["openssl"])
def s_client_s_server(lab):
    """Text typed on both sides."""
    port = lab.port()
    up, down = lines(2000, "up"), lines(2500, "down")
    tracer = lab.tracer("--comm", "openssl")
    server = lab.spawn(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", lab.cert,
                        "-key", lab.key, "-quiet"], port=port, stdin=-1)
    client = lab.spawn(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet",
                        "-CAfile", lab.cert], stdin=-1)
    # One after the other: both write without reading, and would wait for each other.
    client.stdin.write(up)
    client.stdin.flush()
    wait_for("text at the server", lambda: server.out() == up)
    server.stdin.write(down)
    server.stdin.flush()
    wait_for("text at the client", lambda: client.out() == down)
    client.stop(signal.SIGKILL)
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    both_sides(mine, seen.flows(pids=[server.pid]), 1)
    same("client's out", mine[0].sent, up)
    same("client's in", mine[0].received, down)


@case(needs=["openssl"])
def s_server_rev(lab):
    """s_server -rev reads and writes through a buffering BIO and BIO_f_ssl."""
    port, up = lab.port(), lines(200, "up")
    server = lab.spawn(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", lab.cert,
                        "-key", lab.key, "-rev"], port=port)
    down = b"".join(line[::-1] + b"\n" for line in up.split(b"\n")[:-1])
    tracer = lab.tracer("--comm", "openssl")
    client = lab.spawn(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet",
                        "-CAfile", lab.cert], stdin=-1)
    client.stdin.write(up)
    client.stdin.flush()
    wait_for("answer", lambda: client.out() == down)
    client.stop(signal.SIGKILL)
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    both_sides(mine, seen.flows(pids=[server.pid]), 1)
    same("client's out", mine[0].sent, up)
    same("client's in", mine[0].received, down)


@case(needs=["node"])
def node_https(lab):
    """Node carries its own OpenSSL and lets it write to memory."""
    node = shutil.which("node", path="/usr/local/bin:/usr/bin:/bin")
    port = lab.port()
    common = f"""
        const https = require("https"), fs = require("fs");
        const page = fs.readFileSync({lab.write("page", PAGE)!r});
        const body = fs.readFileSync({lab.write("body", BODY)!r});
        const cert = fs.readFileSync({lab.cert!r}), key = fs.readFileSync({lab.key!r});
        const port = {port};
        """
    server = lab.spawn([node, lab.write("server.js", common + """
        https.createServer({key, cert}, (req, res) => {
            const parts = [];
            req.on("data", (d) => parts.push(d));
            req.on("end", () => {
                const out = req.method == "GET" ? page : Buffer.concat(parts);
                res.writeHead(200, {"Content-Length": out.length});
                res.end(out);
            });
        }).listen(port, "127.0.0.1");
        """)], port=port)
    script = lab.write("client.js", common + """
        const agent = new https.Agent({keepAlive: true, maxSockets: 1, ca: cert});
        function ask(method, data) {
            return new Promise((resolve, reject) => {
                const req = https.request({port, host: "localhost", path: "/" + method, method,
                    agent, family: 4, headers: {"Content-Length": data.length}}, (res) => {
                    const parts = [];
                    res.on("data", (d) => parts.push(d));
                    res.on("end", () => resolve(Buffer.concat(parts)));
                });
                req.on("error", reject);
                req.end(data);
            });
        }
        (async () => {
            const a = await ask("GET", Buffer.alloc(0)), b = await ask("POST", body);
            agent.destroy();
            process.exit(a.equals(page) && b.equals(body) ? 0 : 3);
        })();
        """)
    tracer = lab.tracer("-p", str(server.pid))
    lab.run([node, script])
    other = lab.tracer()
    client = lab.run([node, script])
    seen, both = tracer.stop(), other.stop()
    mine = both.flows(pids=[client.pid])
    both_sides(mine, both.flows(pids=[server.pid]), 1)
    check_http1(mine[0])
    check(not seen.flows(pids=[client.pid]), "the client was seen, though only the server was asked")
    check(len(seen.flows(pids=[server.pid])) == 2, "not two connections seen by -p")
