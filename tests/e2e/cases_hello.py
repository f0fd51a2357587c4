# SPDX-License-Identifier: MIT
"""Hellos on the wire: of programs whatever their library, by the process that says or reads them."""
import json
import os
import re
import socket
import subprocess
import threading
import time

import golang
from golang import talk
from harness import PYTHON, TLSSCOPE, case, check, wait_for

# Only what concerns a port: other programs of this machine begin connections too.
SCRIPT = """
config {buffer = "32M"}
local ports = {}
for port in (...):gmatch("%d+") do
	ports[tonumber(port)] = true
end
on.tls_hello(function(e)
	if ports[e.lport] or ports[e.rport] then
		emit {
			type = "hello", pid = e.pid, tid = e.tid, comm = e.comm, uid = e.uid, hello = e.hello, dir = e.dir,
			sni = e.sni, alpn = e.alpn, versions = e.versions, version = e.version, ciphers = e.ciphers,
			cipher = e.cipher, groups = e.groups, ja4 = e.ja4, retry = e.retry, truncated = e.truncated,
			len = e.len, size = #e.data, laddr = e.laddr, lport = e.lport, raddr = e.raddr, rport = e.rport,
			peer = e.peer, nothing = e.conn or e.func or e.lib or e.kind or e.ret or e.duration_ns or e.gap,
		}
	end
end)
on.start(function()
	emit {type = "ready"}
end)
"""


def tracer(lab, *ports, options=()):
    return lab.tracer(*options, script=SCRIPT, arguments=[",".join(map(str, ports))])


def hellos(seen):
    found = [r for r in seen.records if r["type"] == "hello"]
    check(not any("nothing" in h for h in found), f"fields that no hello has: {found}")
    return found


def one(found, **wanted):
    """The only one of these."""
    fit = [h for h in found if all(h.get(k) == v for k, v in wanted.items())]
    check(len(fit) == 1, f"{len(fit)} hellos with {wanted}, not one, of {found}")
    return fit[0]


def server(lab, *options, program="openssl"):
    port = lab.port()
    p = lab.spawn([program, "s_server", "-accept", f"127.0.0.1:{port}", "-cert", lab.cert, "-key",
                   lab.key, "-www", "-quiet", *options], port=port)
    return port, p


def wait_hellos(t, count):
    wait_for(f"{count} hellos", lambda: t.output().count(b'"type":"hello"') >= count)


def check_four(found, client, server_pid, port, **wanted):
    """A hello each way, as the client and as the server has it; the client's is returned."""
    check(len(found) == 4, f"{len(found)} hellos, not 4: {found}")
    c_out = one(found, hello="client", dir="out", pid=client)
    c_in = one(found, hello="client", dir="in", pid=server_pid)
    s_out = one(found, hello="server", dir="out", pid=server_pid)
    s_in = one(found, hello="server", dir="in", pid=client)
    for key, value in wanted.items():
        check(c_out.get(key) == value, f"{key} is {c_out.get(key)!r}, not {value!r}")
    for a, b in ((c_out, c_in), (s_out, s_in)):
        for key in ("sni", "alpn", "versions", "version", "ciphers", "cipher", "groups", "ja4", "len"):
            check(a.get(key) == b.get(key), f"{key} differs: {a} and {b}")
        check((a["lport"], a["rport"]) == (b["rport"], b["lport"]), f"ports: {a} and {b}")
        check(not a["truncated"] and a["len"] == a["size"], f"not whole: {a}")
    for h in (c_out, s_in):
        check(h["rport"] == port and h["peer"] == f"127.0.0.1:{port}", f"not the server's: {h}")
    return c_out


@case(needs=["curl", "openssl"])
def hello_of_curl(lab):
    """Everything that a hello says, of a client and of a server."""
    port, s = server(lab)
    t = tracer(lab, port)
    c = lab.run(["curl", "-sk", "-o", "/dev/null", f"https://localhost:{port}/"])
    wait_hellos(t, 4)
    found = hellos(t.stop())
    h = check_four(found, c.pid, s.pid, port, sni="localhost", alpn=["h2", "http/1.1"])
    check(h["comm"] == "curl" and "TLSv1.3" in h["versions"], f"of curl: {h}")
    check("TLS_AES_128_GCM_SHA256" in h["ciphers"] and "x25519" in h["groups"], f"lists: {h}")
    check(re.fullmatch(r"t13d\d\d\d\dh2_[0-9a-f]{12}_[0-9a-f]{12}", h["ja4"]), h["ja4"])
    answer = one(found, hello="server", dir="in")
    check(answer["version"] == "TLSv1.3" and answer["cipher"].startswith("TLS_"), f"{answer}")


@case(needs=["gnutls-cli", "openssl"])
def hello_of_gnutls(lab):
    """A library of which no function is probed."""
    port, s = server(lab, "-tls1_2")
    t = tracer(lab, port)
    c = lab.run(["gnutls-cli", "--insecure", "-p", str(port), "localhost"], status=None)
    wait_hellos(t, 4)
    found = hellos(t.stop())
    check_four(found, c.pid, s.pid, port, comm="gnutls-cli", sni="localhost")
    check(one(found, hello="server", dir="out")["version"] == "TLSv1.2", f"version: {found}")


MANY = """
import asyncio, ssl, sys
port, count = int(sys.argv[1]), int(sys.argv[2])
context = ssl._create_unverified_context()

async def one(i):
    r, w = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=f"n{i}.test")
    print(i, w.get_extra_info("sockname")[1], flush=True)
    w.write(b"GET / HTTP/1.0\\r\\n\\r\\n")
    await r.read()
    w.close()

async def main():
    await asyncio.gather(*(one(i) for i in range(count)))

asyncio.run(main())
"""


@case(needs=["nginx"], timeout=120)
def hello_of_many(lab):
    """Connections of several processes at the same time: each hello is of who said it."""
    from web import nginx
    port = lab.port()
    n = nginx(lab, port, port, http2=False, workers=2)
    t = tracer(lab, port)
    script, count = lab.write("many.py", MANY), 60
    clients = [lab.spawn([PYTHON, script, str(port), str(count)]) for _ in range(3)]
    for c in clients:
        c.finish()
    wait_hellos(t, 4 * 3 * count)
    found = hellos(t.stop())
    check(len(found) == 4 * 3 * count, f"{len(found)} hellos of {4 * 3 * count}")
    for c in clients:
        for line in c.out().decode().split("\n")[:-1]:
            i, lport = map(int, line.split())
            one(found, pid=c.pid, hello="client", dir="out", sni=f"n{i}.test", lport=lport, rport=port)
            one(found, pid=c.pid, hello="server", dir="in", lport=lport)
            h = one(found, hello="client", dir="in", rport=lport, comm="nginx")
            check(h["pid"] != n.pid and h["sni"] == f"n{i}.test", f"nginx read {h}")


@case(needs=["openssl"])
def hello_again(lab):
    """A server that asks for another hello."""
    port, s = server(lab, "-groups", "P-384")
    t = tracer(lab, port)
    c = lab.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "a.test",
                 "-groups", "X25519:P-384"], input=b"")
    wait_hellos(t, 8)
    found = hellos(t.stop())
    check(len(found) == 8, f"{len(found)} hellos, not 8: {found}")
    for pid, client, answer in ((c.pid, "out", "in"), (s.pid, "in", "out")):
        for retry in (False, True):
            h = one(found, pid=pid, hello="client", dir=client, retry=retry)
            check(h["sni"] == "a.test" and h["groups"] == ["x25519", "secp384r1"], f"{h}")
            h = one(found, pid=pid, hello="server", dir=answer, retry=retry)
            check(h["groups"] == ["secp384r1"], f"{h}")


@case(needs=["openssl"])
def hello_in_pieces(lab):
    """A hello of several packets, of several records, and more than is looked at."""
    record = bytes.fromhex("0100003c0303" + "11" * 32 + "00" + "00041301c02f" + "0100")
    extensions = bytes.fromhex("0000000b0009000006") + b"a.test"
    record += len(extensions).to_bytes(2, "big") + extensions
    record = record[:1] + (len(record) - 4).to_bytes(3, "big") + record[4:]
    long = record[:1] + (20000).to_bytes(3, "big") + record[4:-len(extensions) - 2] + \
        (20000 - (len(record) - len(extensions) - 4)).to_bytes(2, "big") + extensions
    long += (21).to_bytes(2, "big") + (20004 - len(long) - 4).to_bytes(2, "big")
    long += bytes(20004 - len(long))

    def records(message, most):
        parts = [message[i:i + most] for i in range(0, len(message), most)]
        return b"".join(b"\x16\x03\x01" + len(p).to_bytes(2, "big") + p for p in parts)

    def say(port, parts):
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for part in parts:
                s.sendall(part)
                time.sleep(0.01)
            return s.getsockname()[1]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve():
            while True:
                s, _ = listener.accept()
                with s:
                    while s.recv(70000):
                        pass
        threading.Thread(target=serve, daemon=True).start()
        t = tracer(lab, port)
        split = records(record, 20)
        bytewise = say(port, [split[i:i + 1] for i in range(len(split))])
        whole = say(port, [split])
        cut = say(port, [records(long, 16384)])
        say(port, [b"GET / HTTP/1.1\r\n\r\n"])
        say(port, [b"\x16\x03\x01\x00\x05\x0b\x00\x00\x01\x00"])
        wait_hellos(t, 6)
        time.sleep(0.3)
        found = hellos(t.stop())
    check(len(found) == 6, f"{len(found)} hellos, not 6: {found}")
    for lport in (bytewise, whole):
        for key in ("lport", "rport"):
            h = one(found, **{key: lport})
            check(h["sni"] == "a.test" and h["len"] == len(record) and not h["truncated"], f"{h}")
            check(h["pid"] == os.getpid(), f"of {h['pid']}, not {os.getpid()}")
    for h in (one(found, lport=cut), one(found, rport=cut)):
        check(h["truncated"] and h["len"] == 20004 and h["sni"] == "a.test", f"cut: {h}")
        check("ja4" not in h, f"a fingerprint of what was cut: {h}")


LATE = """
import socket, sys, time
hello = bytes.fromhex(sys.argv[2])
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    s.sendall(hello)
    time.sleep(1)  # the kernel's timer sends it, after 0.2 s
"""


@case()
def hello_of_nobody(lab):
    """What a timer sends, while others run on every processor: nobody is named, never somebody else."""
    body = bytes.fromhex("0303" + "11" * 32 + "00" + "00041301c02f" + "0100")
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    record = b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message
    busy = [lab.spawn([PYTHON, "-c", "while True: pass"]) for _ in range(os.cpu_count() + 1)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        t = tracer(lab, port)
        late = lab.write("late.py", LATE)
        for _ in range(5):
            p = lab.spawn([PYTHON, late, str(port), record.hex()])
            s, _ = listener.accept()
            with s:
                check(s.recv(1000) == record, "not what was sent")
                p.finish()
        wait_hellos(t, 10)
        found = hellos(t.stop())
    sent = [h for h in found if h["dir"] == "out"]
    check(len(sent) == 5 and len(found) == 10, f"{len(found)} hellos, {len(sent)} sent: {found}")
    for h in sent:
        check(not {"pid", "tid", "comm", "uid"} & h.keys(), f"somebody: {h}; busy: {busy[0].pid}")
        check(h["rport"] == port and len(h["ciphers"]) == 2, f"{h}")
    received = [h for h in found if h["dir"] == "in"]
    check({h["pid"] for h in received} == {os.getpid()}, f"received: {received}")


@case(needs=["curl", "openssl"])
def hello_filters(lab):
    """Filters of processes, in the kernel and in a replay."""
    port, _ = server(lab)
    recording = lab.path("rec")
    t = tracer(lab, port, options=["--comm", "curl", "-w", recording])
    lab.run(["curl", "-sk", "-o", "/dev/null", f"https://127.0.0.1:{port}/"])
    lab.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}"], input=b"")
    lab.run(["curl", "-sk", "-o", "/dev/null", f"https://127.0.0.1:{port}/"])
    wait_hellos(t, 4)
    found = hellos(t.stop())
    check([h["comm"] for h in found] == ["curl"] * 4, f"not curl's alone: {found}")
    check(all("sni" not in h for h in found), f"a name where an address was asked for: {found}")
    live = [r for r in t.records() if r["type"] == "hello"]

    def replay(*options):
        script = lab.write("replay.lua", SCRIPT)
        p = lab.run([TLSSCOPE, "-f", "json", "-r", recording, *options, script, str(port)])
        return [json.loads(line) for line in p.out().splitlines() if b'"hello"' in line]

    check(replay() == live, "the replay differs")
    one_pid = live[0]["pid"]
    check(replay("-p", str(one_pid)) == [h for h in live if h["pid"] == one_pid], "-p in a replay")
    check(not replay("--comm", "nobody"), "--comm in a replay")
    with open(recording, "rb") as f:
        check(b"GET /" not in f.read(), "what is no hello was recorded")


@case(needs=["curl", "openssl"])
def hello_of_a_command(lab):
    """-c: the command and its children, and nobody else; lib names files, which no hello has."""
    port, _ = server(lab)
    address = f"https://localhost:{port}/"
    script = lab.write("c.lua", SCRIPT)
    command = f"sh -c 'curl -sk -o /dev/null {address}; true'"
    for options, count in (((), 2), (("--lib", "libssl*"), 0)):
        p = lab.run([TLSSCOPE, "-f", "json", *options, "-c", command, script, str(port)])
        found = [json.loads(line) for line in p.out().splitlines() if b'"hello"' in line]
        found = [h for h in found if h["type"] == "hello"]
        check(len(found) == count, f"{len(found)} hellos with {options}, not {count}: {found}")


@case(needs=["apt-get", "dpkg-deb"], timeout=500)
def hello_of_go(lab):
    """A client and a server of Go, stripped."""
    program = talk(lab, "1.24", "stripped")
    port = lab.port()
    env = {"GODEBUG": "tlsmlkem=1"}  # a program without go.mod is taken for an old one
    s = lab.spawn([program, "h1", "server", f"127.0.0.1:{port}"], ready=b"listening", env=env)
    t = tracer(lab, port)
    c = lab.run([program, "h1", "client", f"127.0.0.1:{port}"], env=env)
    wait_hellos(t, 4)
    seen = t.stop()
    found = hellos(seen)
    # A kernel whose tracepoints can be preempted skips what comes on that processor meanwhile.
    told = re.search(r"(\d+) probe hits skipped", seen.stderr)
    skipped = int(told[1]) if told else 0
    s.stop()
    by = {(h["pid"], h["hello"], h["dir"]) for h in found}
    check(by == {(c.pid, "client", "out"), (s.pid, "client", "in"), (s.pid, "server", "out"),
                 (c.pid, "server", "in")}, f"{by}")
    connections = {h["lport"] for h in found} - {port}
    check(4 * len(connections) - skipped <= len(found) <= 4 * len(connections),
          f"{len(found)} hellos of {len(connections)}, {skipped} hits skipped")
    new = [h for h in found if h["dir"] == "out" and h["hello"] == "client"
           and "X25519MLKEM768" in h["groups"]]
    check(new and all(h["len"] > 1200 and "TLSv1.3" in h["versions"] for h in new),
          f"no post-quantum key: {found}")


@case(needs=["curl", "gnutls-cli", "openssl"])
def hello_recipes(lab):
    """blind names who is not covered, and with what library; snimap who asks for what."""
    port, s = server(lab)
    recording = lab.path("rec")
    script = lab.write("all.sh", f"""
        curl -sk -o /dev/null https://localhost:{port}/
        gnutls-cli --insecure -p {port} localhost </dev/null
        curl -sk -o /dev/null https://127.0.0.1:{port}/
        """)
    p = lab.run([TLSSCOPE, "-f", "json", "-w", recording, "-c", f"sh {script}", "blind"])
    blind = [json.loads(line) for line in p.out().splitlines() if line.startswith(b"{")]
    check([b["comm"] for b in blind] == ["gnutls-cli"], f"blind: {blind}")
    row = blind[0]
    # Debian 13's has OpenSSL in it too, for libunbound's sake.
    check(row["exe"].endswith("/gnutls-cli") and
          any(lib.startswith("libgnutls.so") for lib in row["tls"].split()), f"{row}")
    check((row["sni"], row["peer"], row["hellos"]) == ("localhost", f"127.0.0.1:{port}", 1), f"{row}")
    again = lab.run([TLSSCOPE, "-f", "json", "-r", recording, "blind"]).out()
    check([json.loads(line) for line in again.splitlines()] == blind, f"a replay: {again}")
    names = lab.run([TLSSCOPE, "-r", recording, "snimap"]).out().decode().splitlines()
    rows = sorted(line.split() for line in names[1:])
    peer = f"127.0.0.1:{port}"
    check(rows == [["curl", "->", "-", peer, "h2", "1"], ["curl", "->", "localhost", peer, "h2", "1"],
                   ["gnutls-cli", "->", "localhost", peer, "-", "1"]], f"snimap: {rows}")
