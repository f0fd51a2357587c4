# SPDX-License-Identifier: MIT
"""More programs that use OpenSSL in ways of their own."""
from harness import PYTHON, both_sides, case, check, same, wait_for
from web import PAGE, backend, http1, nginx

ANSWER = """
import socketserver, struct, sys

class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        q, s = self.request
        name = 12
        while q[name]:
            name += 1 + q[name]
        name += 5
        head = q[:2] + struct.pack("!HHHHH", 0x8580, 1, 1, 0, 0)
        s.sendto(head + q[12:name] + b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4\\x0a\\1\\2\\3",
                 self.client_address)

socketserver.UDPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def fetch(lab, argv, connections=1, pages=1, host="localhost"):
    """A client of nginx that fetches the page; both sides whole."""
    lab.need("nginx")
    port = lab.port()
    nginx(lab, port, backend(), http2=False)
    tracer = lab.tracer()
    client = lab.run([a.replace("URL", f"https://{host}:{port}/page") for a in argv],
                     env={"SSL_CERT_FILE": lab.cert})
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    both_sides(mine, seen.flows(comm=["nginx"], having=f"{host}:{port}".encode()), connections,
               lambda rest: not rest)
    got = [body for f in mine for _, body in http1(f.received)]
    check(len(got) == pages, f"{len(got)} pages, not {pages}")
    for body in got:
        same("page", body, PAGE)
    return client


@case(needs=["w3m"])
def w3m_nginx(lab):
    fetch(lab, ["w3m", "-o", "ssl_verify_server=0", "-dump_source", "URL"])


@case(needs=["links"])
def links_nginx(lab):
    client = fetch(lab, ["links", "-ssl.certificates", "0", "-source", "URL"])
    same("links' own page", client.out(), PAGE)


@case(needs=["ab"])
def ab_nginx(lab):
    """ApacheBench: many connections at once in one thread, all non-blocking."""
    fetch(lab, ["ab", "-q", "-n", "20", "-c", "5", "URL"], connections=20, pages=20)


@case(needs=["siege"])
def siege_nginx(lab):
    """A thread a user."""
    fetch(lab, ["siege", "-b", "-c", "3", "-r", "4", "-q", "URL"], connections=12, pages=12,
          host="127.0.0.1")


@case(needs=["dig", "unbound"])
def dig_unbound(lab):
    """DNS over TLS and over HTTPS: small messages, a client with memory BIOs."""
    plain, tls = lab.port(), lab.port()
    lab.spawn([PYTHON, lab.write("answer.py", ANSWER), str(plain)])
    conf = lab.write("unbound.conf", f"""
server:
    username: ""
    chroot: ""
    directory: "{lab.dir}"
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    interface: 127.0.0.1@{tls}
    tls-port: {tls}
    tls-service-key: {lab.key}
    tls-service-pem: {lab.cert}
    do-not-query-localhost: no
    module-config: "iterator"
forward-zone:
    name: "."
    forward-addr: 127.0.0.1@{plain}
""")
    lab.spawn(["/usr/sbin/unbound", "-d", "-c", conf], port=tls)
    tracer = lab.tracer("--comm", "unbound", "--comm", "dig", "--comm", "isc-net-0000",
                        "--comm", "isc-net-0001")
    client = lab.run(["dig", "+tls", "+tries=1", "-p", str(tls), "@127.0.0.1", "secret.example"])
    check(b"10.1.2.3" in client.out(), f"dig: {client.out()!r} {client.err()!r}")
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    both_sides(mine, seen.flows(comm=["unbound"]), 1)
    check(b"\6secret\7example\0" in mine[0].sent and mine[0].received.endswith(b"\x0a\1\2\3") or
          b"\x0a\1\2\3" in mine[0].received, "not the question and the answer")


@case(needs=["openvpn"])
def openvpn_peers(lab):
    """OpenVPN's control channel goes through BIO_f_ssl, whose writes it repeats when they fail."""
    port = str(lab.port())
    common = ["openvpn", "--dev", "null", "--proto", "udp", "--ca", lab.cert, "--cert", lab.cert,
              "--key", lab.key, "--data-ciphers", "AES-256-GCM", "--verb", "3"]
    tracer = lab.tracer("--comm", "openvpn")
    server = lab.spawn([*common, "--tls-server", "--dh", "none", "--local", "127.0.0.1", "--port",
                        port], ready=b"link local")
    client = lab.spawn([*common, "--tls-client", "--nobind", "--remote", "127.0.0.1", port])
    for p in (server, client):
        wait_for("connection", lambda: b"Initialization Sequence Completed" in p.out())
    for p in (client, server):
        p.stop()
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    both_sides(mine, seen.flows(pids=[server.pid]), 1)
    check(b"IV_CIPHERS=" in mine[0].sent and b"IV_CIPHERS=" in mine[0].received,
          f"not the parameters that the peers exchange: {mine[0].sent[:300]!r}")
