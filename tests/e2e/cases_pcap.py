# SPDX-License-Identifier: MIT
"""Captures for Wireshark: tshark reads them, complains of nothing, and finds what was said."""
import base64
import collections
import glob
import json
import os
import socket
import subprocess

from cases_output import HOSTILE, talk
from harness import PYTHON, SLOW, TLSSCOPE, case, check, lines, same
from web import PAGE, backend, curl, nginx

# What Wireshark's own checks find wrong: 0x600000 is a warning.
WRONG = "tcp.analysis.flags || _ws.expert.severity >= 0x600000 || _ws.malformed || " \
        "tcp.checksum.status == bad || ip.checksum.status == bad"
EVERYTHING = 'on.tls_data({capture = "all"}, function() end)'


def tshark(lab, path, *arguments):
    argv = ["tshark", "-n", "-r", path, "-o", "tcp.check_checksum:TRUE", "-o",
            "ip.check_checksum:TRUE", *arguments]
    return lab.run(argv, timeout=60).out().decode(errors="replace")


def fields(lab, path, shown, *names):
    """A list for each packet that the filter lets through."""
    arguments = [a for name in names for a in ("-e", name)]
    out = tshark(lab, path, "-Y", shown, "-T", "fields", "-E", "separator=/t", *arguments)
    return [line.split("\t") for line in out.splitlines()]


def unclaimed(lab):
    """A port that tshark takes for no other protocol's: of some it knows whose they are, and looks no further."""
    known = {row.split("\t")[1] for row in lab.run(["tshark", "-G", "decodes"]).out().decode().splitlines()
             if row.startswith("tcp.port\t")}
    return next(port for port in iter(lab.port, None) if str(port) not in known)


def no_complaint(lab, path):
    wrong = fields(lab, path, WRONG, "frame.number", "_ws.expert.message", "_ws.col.Info")
    check(not wrong, f"tshark complains: {wrong[:5]}")


def followed(lab, path, stream):
    """What the two sides of a TCP connection said, as tshark puts it together."""
    sides = [b"", b""]
    for line in tshark(lab, path, "-q", "-z", f"follow,tcp,raw,{stream}").splitlines():
        data = line.strip()
        if data and all(c in "0123456789abcdef" for c in data):
            sides[line.startswith("\t")] += bytes.fromhex(data)
    return sorted(sides)


def payload(o):
    return base64.b64decode(o["data_b64"]) if "data_b64" in o else o.get("data", "").encode()


def recorded(lab, record):
    """The same of a recording, a connection each, as sniff tells it."""
    out = lab.run([TLSSCOPE, "-f", "json", "-r", record, "sniff"]).out()
    conns = collections.defaultdict(lambda: {"in": b"", "out": b""})
    for o in map(json.loads, out.splitlines()):
        conns[o["conn"]][o["dir"]] += payload(o)
    return [sorted(c.values()) for _, c in sorted(conns.items())]


@case(needs=["nginx", "curl", "tshark"], timeout=120)
def pcap_http(lab):
    """HTTP/1 and HTTP/2, both ends watched: dissected, without complaint, the same bytes."""
    port = unclaimed(lab)
    nginx(lab, port, backend())
    for option, first in (("--http1.1", "http.request.uri"), ("--http2", "http2.headers.path")):
        record, path = lab.path("all.rec"), lab.path("all.pcapng")
        tracer = lab.tracer("--comm", "nginx", "--comm", "curl", "-w", record, "--pcap", path)
        curl(lab, port, option)
        tracer.stop()
        check(os.stat(path).st_mode & 0o777 == 0o600, "the capture is not private")
        no_complaint(lab, path)
        uris = [u for row in fields(lab, path, first, first) for u in row[0].split(",")]
        check(any(u.startswith("/page") for u in uris), f"{option}: requests of {uris} in {tshark(lab, path)[:900]}")
        servers = fields(lab, path, "tcp.flags.syn == 1 && ip.src == 127.0.0.1", "tcp.dstport")
        check([str(port) if option == "--http1.1" else "80"] in servers, f"{option}: the server's address is not in {servers}")
        said = recorded(lab, record)
        check(any(PAGE in side for conn in said for side in conn) or option == "--http2",
              "the page is not in the recording")
        for n, want in enumerate(said):
            for side, (got, wanted) in enumerate(zip(followed(lab, path, n), want)):
                same(f"{option}: connection {n}, side {side}", got, wanted)
        again = lab.path("again.pcapng")
        lab.run([TLSSCOPE, "-r", record, "--pcap", again, "-e", EVERYTHING])
        with open(path, "rb") as live, open(again, "rb") as later:
            same(f"{option}: live and replayed", live.read(), later.read())


@case(needs=["tshark"])
def pcap_comments(lab):
    """Whose packet it is; a name that is hostile does no harm."""
    path = lab.path("c.pcapng")
    lab.run([TLSSCOPE, "--pcap", path, "-c", talk(lab, HOSTILE)])
    no_complaint(lab, path)
    # As JSON: of plain fields some versions of tshark double the backslashes.
    told = json.loads(tshark(lab, path, "-Y", "tcp.len > 0", "-T", "json", "-e", "frame.comment"))
    comments = [c for packet in told for c in packet["_source"]["layers"]["frame.comment"]]
    check(comments, "no packet has a comment")
    for c in comments:
        check(r"\x1b[2Jna\xff\nme[" in c and " conn " in c and "libssl" in c, f"comment {c!r}")
    for n in (0, 1):
        check(HOSTILE in followed(lab, path, n), f"connection {n} says something else")
    info = lab.run(["capinfos", path]).out().decode() if os.path.exists("/usr/bin/capinfos") else ""
    check(not info or os.uname().release in info and "tlsscope" in info, info)


@case(needs=["tshark"])
def pcap_holes(lab):
    """What was not captured is a hole in the numbers, and told as one."""
    path = lab.path("h.pcapng")
    lab.run([TLSSCOPE, "--pcap", path, "-c", talk(lab, lines(3000)), "-e",
             "on.tls_data({capture = 1000}, function() end)"])
    lost = fields(lab, path, "tcp.analysis.lost_segment", "tcp.stream")
    check(lost, "no segment was not captured")
    wrong = fields(lab, path, "tcp.analysis.retransmission || tcp.analysis.out_of_order || "
                   "tcp.checksum.status == bad || ip.checksum.status == bad", "frame.number")
    check(not wrong, f"packets {wrong}")
    ends = fields(lab, path, "tcp.flags.fin == 1 || tcp.flags.reset == 1", "tcp.seq")
    check(any(int(seq) == len(lines(3000)) + 1 for (seq,) in ends), f"ends at {ends}")


# The server greets, at a port that a client could have.
GREETING = """
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
def serve():
    s = context.wrap_socket(listener.accept()[0], server_side=True)
    s.send(b"220 hello\\r\\n")
    s.recv(100)
t = threading.Thread(target=serve)
t.start()
c = ssl._create_unverified_context().wrap_socket(socket.create_connection(listener.getsockname()))
c.recv(100)
c.send(b"QUIT\\r\\n")
t.join()
"""


@case(needs=["tshark"])
def pcap_roles(lab):
    """Who connected is who shook hands as the client, where a handler asked for handshakes."""
    # A port as clients have them: its number does not tell.
    port = 0
    while port < 32768:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
    path = lab.path("roles.pcapng")
    words = [PYTHON, lab.write("greet.py", GREETING), lab.both, str(port)]
    lab.run([TLSSCOPE, "--pcap", path, "-c", " ".join(words), "-e",
             "on.tls_open(function() end) " + EVERYTHING])
    no_complaint(lab, path)
    starts = fields(lab, path, "tcp.flags.syn == 1 && tcp.flags.ack == 0", "tcp.dstport")
    same("servers' ports", starts, [[str(port)]] * 2)


@case(needs=["tshark"], timeout=90)
def pcap_pipe(lab):
    """Read while it is written; what the script prints does not get in between."""
    words = f"{talk(lab, lines(50))} >&2; sleep 1"
    p = subprocess.Popen([TLSSCOPE, "--pcap", "-", "-c", words, "sniff"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, env=lab.environment(None), cwd=lab.dir)
    reader = lab.spawn(["tshark", "-n", "-l", "-i", "-", "-T", "fields", "-e", "tcp.len"],
                       stdin=p.stdout)
    p.stdout.close()
    err = p.stderr.read().decode(errors="replace")
    check(p.wait(30 * SLOW) == 0, f"tlsscope: {err[-300:]}")
    reader.finish(60)
    got = sum(int(n or 0) for n in reader.out().split())
    same("bytes in the packets", got, 2 * len(lines(50)))
    check("conn 1" in err, f"sniff's own output: {err[-300:]!r}")


@case()
def pcap_cannot_be_written(lab):
    """A reader that goes away and a full disk end the run, with status 1 and the cause."""
    for target, words in (("| head -c 20", "Broken pipe"), ("> /dev/full", "No space left")):
        command = f"{TLSSCOPE} --pcap - -c '{talk(lab, lines(5000))}; sleep 20' {target}; " \
                  "echo ${PIPESTATUS[0]}"
        p = lab.run(["bash", "-c", command], timeout=15)
        check(p.out().strip().endswith(b"1"), f"{target}: status {p.out()[-10:]!r}")
        check(words in p.err() and p.err().count("incomplete") == 1, f"{target}: {p.err()!r}")


def rotated(path):
    """The files in the order in which they were written."""
    files = [f"{path}.{n}" for n in range(len(glob.glob(path + ".*")), 0, -1)] + [path]
    check(len(files) > 4, f"only {files}")
    return files


@case(needs=["tshark", "mergecap"])
def rotation(lab):
    """Each file is whole: lines of -o, packets of --pcap; together they miss nothing."""
    record, one = lab.path("all.rec"), lab.path("one.pcapng")
    lab.run([TLSSCOPE, "-w", record, "-c", talk(lab, lines(4000)), "-e", EVERYTHING])
    whole = lab.run([TLSSCOPE, "-f", "json", "-r", record, "--pcap", one, "sniff"]).out()
    text, packets = lab.path("out.json"), lab.path("many.pcapng")
    lab.run([TLSSCOPE, "-f", "json", "-r", record, "-o", text, "--pcap", packets, "--rotate",
             "40K,50", "sniff"])
    files = rotated(text)
    joined = b""
    for name in files:
        with open(name, "rb") as f:
            data = f.read()
        check(os.stat(name).st_mode & 0o777 == 0o600, f"{name} is not private")
        check(data.endswith(b"\n"), f"{name} ends in mid-line")
        check(len(data) <= 40 << 10 or data.count(b"\n") == 1, f"{name}: {len(data)} bytes")
        joined += data
    same("the lines", joined, whole)
    files = rotated(packets)
    for name in files:
        check(fields(lab, name, "tcp", "tcp.seq"), f"{name} has no packet")
    merged = lab.path("merged.pcapng")
    lab.run(["mergecap", "-a", "-w", merged, *files])
    no_complaint(lab, merged)
    for n in (0, 1):
        same(f"connection {n}", followed(lab, merged, n), followed(lab, one, n))
    lab.run([TLSSCOPE, "-f", "json", "-r", record, "-o", lab.path("few"), "--rotate", "40K,2",
             "sniff"])
    same("files that stay", sorted(os.path.basename(n) for n in glob.glob(lab.path("few*"))),
         ["few", "few.1", "few.2"])


@case()
def pcap_usage(lab):
    for words, arguments in (
            ("name the file", ["pcap"]), ("needs -o", ["--rotate", "1M", "sniff"]),
            ("a file of its own", ["--pcap", "x", "-o", "x", "sniff"]),
            ("100M", ["-o", "x", "--rotate", "many", "sniff"]),
            ("100M", ["-o", "x", "--rotate", "1M,", "sniff"]),
            ("100M", ["-o", "x", "--rotate", "-1M", "sniff"]),
            ("4K at least", ["-o", "x", "--rotate", "1K", "sniff"]),
            ("4K at least", ["-o", "x", "--rotate", "1M,0", "sniff"])):
        p = lab.run([TLSSCOPE, *arguments], status=2)
        check(words in p.err(), f"{arguments}: {p.err()!r}")
    p = lab.run([TLSSCOPE, "-o", "/dev/null", "--rotate", "1M", "sniff"], status=1)
    check("no regular file" in p.err(), p.err())
