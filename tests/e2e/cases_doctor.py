# SPDX-License-Identifier: MIT
"""tlsscope doctor: what it says of real programs agrees with what can be captured of them."""
import json
import os
import platform
import re
import shutil
import signal
import struct
import subprocess

import cgroups
import golang
import suites
from cases_cli import copy_for_nobody, refused, tlsscope
from cases_containers import docker, flood
from cases_pitfalls import libssl
from harness import NOBODY, PYTHON, TLSSCOPE, Skip, case, check, wait_for
from web import backend, nginx


def doctor(lab, *arguments, status=0):
    """Its JSON objects: machine, the others in a list."""
    p = tlsscope(lab, "doctor", "-f", "json", *arguments, status=status, timeout=60)
    objects = [json.loads(line) for line in p.out().splitlines()]
    check(not p.err().strip(), f"words on stderr: {p.err()!r}")
    check(objects and objects[0]["type"] == "machine", f"the machine is not first: {objects[:1]}")
    check(all(o["type"] in ("process", "file", "library") for o in objects[1:]), "an unknown type")
    return objects[0], objects[1:]


def of_process(lab, pid, verdict):
    """What it says of one process; its exit status agrees with the verdict."""
    machine, found = doctor(lab, str(pid), status=int(verdict == "no"))
    check(machine["captures"], f"this machine cannot capture: {machine}")
    check([o["type"] for o in found] == ["process"], f"not one process: {found}")
    check(found[0]["pid"] == pid and found[0]["verdict"] == verdict, f"not {verdict}: {found[0]}")
    if verdict == "no":
        check(found[0]["reason"] and found[0]["remedy"], f"no reason or remedy: {found[0]}")
    text = tlsscope(lab, "doctor", str(pid), status=int(verdict == "no")).out().decode()
    words = {"yes": "can be captured", "partly": "in part", "no": "cannot be captured: "}[verdict]
    check(f"(pid {pid}" in text and words in text, f"the text: {text!r}")
    return found[0]


def library(told, name):
    found = [entry for entry in told["libraries"] if entry["name"] == name]
    check(len(found) == 1, f"not one {name} in {told['libraries']}")
    return found[0]


def captured(entry, linkage, prefix="ssl"):
    """Both directions are, and each function by some way."""
    check(entry["captured"] and entry["linkage"] == linkage and entry.get("version"), f"{entry}")
    check({f["probe"] for f in entry["functions"] if f.get("probe")} >=
          {prefix + "_read", prefix + "_write"}, f"not both directions: {entry}")
    check(all(f["how"] and f["probes"] for f in entry["functions"]), f"{entry}")


def not_captured(entry, linkage, words):
    check(not entry["captured"] and entry["linkage"] == linkage, f"{entry}")
    check(re.search(words, entry["reason"]), f"no {words!r} in {entry['reason']!r}")


def hold(lab, port, *words, program="openssl", **options):
    """An s_client that stays connected."""
    p = lab.spawn([*words, program, "s_client", "-quiet", "-connect", f"127.0.0.1:{port}"],
                  stdin=subprocess.PIPE, **options)
    wait_for("connection", lambda: connected(p.pid))
    return p


def sockets(pid):
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            pass
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def connected(pid):
    with open(f"/proc/{pid}/net/tcp") as f:
        established = {line.split()[9] for line in f if line.split()[3] == "01"}
    return bool(sockets(pid) & established)


@case(needs=["nginx", "openssl"])
def doctor_openssl(lab):
    """nginx and a client: both by name, and as those that hold connections."""
    port = lab.port()
    server = nginx(lab, port, backend())
    client = hold(lab, port)
    with_library = library(of_process(lab, client.pid, "yes"), "openssl")
    captured(with_library, "shared")
    check(with_library["path"] == os.path.realpath(libssl()), with_library["path"])
    version = lab.run(["openssl", "version"]).out().split()[1].decode()
    check(with_library["version"] == version, f"{with_library['version']} is not {version}")
    check(of_process(lab, client.pid, "yes")["connections"] == 1, "the connection is not counted")
    _, found = doctor(lab, status=None)
    talking = {o["pid"]: o for o in found if o["type"] == "process"}
    check(client.pid in talking and talking[client.pid]["verdict"] == "yes", f"{talking}")
    check(all(o["connections"] for o in talking.values()), "one without a connection")
    waiting = {pid for o in found if o["type"] == "library" for pid in o["pids"]}
    check(server.pid in waiting, f"nginx' first process is not among {waiting}")
    same_as_listed(lab, client.pid, with_library)


def same_as_listed(lab, pid, entry):
    """What -l says of the process is what doctor counts, and what it shows with -v."""
    listed = tlsscope(lab, "-l", "-p", str(pid)).out().decode()
    shown = tlsscope(lab, "doctor", "-v", str(pid)).out().decode()
    for f in entry["functions"]:
        line = next((row for row in listed.splitlines() if row.startswith(f"  {f['name']} ")), "")
        check(f["how"] in line and line.count("0x") == f["probes"], f"{f} and {line!r}")
        serves = line.split()[1]
        check(f.get("probe", "(") in serves, f"{f} and {line!r}")
        check(f"    {f['name']}: {serves}, " in shown, f"not {f['name']} as {serves} in {shown}")


@case(needs=["nginx", "openssl"])
def doctor_chooses(lab):
    """--comm, --uid, --lib, and -p: who is looked at."""
    port = lab.port()
    nginx(lab, port, backend())
    os.symlink(shutil.which("openssl"), lab.path("lonely-name"))
    one = hold(lab, port, program=lab.path("lonely-name"))
    two = hold(lab, port, user=NOBODY)
    for words, pids in ((["--comm", "lonely-name"], {one.pid}), (["--uid", "nobody"], {two.pid}),
                        (["-p", str(one.pid), str(two.pid)], {one.pid, two.pid}),
                        (["--lib", "libssl*", "--comm", "lonely-name"], {one.pid})):
        got = {o["pid"] for o in doctor(lab, *words, status=None)[1]}
        check(got >= pids if "--uid" in words else got == pids, f"{words}: {got}, not {pids}")
    with open(f"/proc/{one.pid}/cgroup") as f:
        got = {o["pid"] for o in doctor(lab, "--cgroup", f.readline().strip(), status=None)[1]}
    check(got >= {one.pid, two.pid}, f"--cgroup: {got}")
    _, found = doctor(lab, "--lib", libssl())
    check(found[0]["type"] == "file", f"{found}")
    captured(library(found[0], "openssl"), "shared")
    refused(lab, 1, "no such process", "doctor", "--comm", "nobody-is-so")


@case()
def doctor_usage(lab):
    p = lab.spawn(["true"])
    p.wait()
    for status, words, arguments in (
            (2, "xyz", ["xyz"]), (2, "pid", ["0"]), (2, "--nosuch", ["--nosuch"]),
            (2, "doctor", ["--check"]), (2, "doctor.*-e", ["-e", "print(1)"]),
            (2, "doctor.*-w", ["-w", "f"]), (2, "xml", ["-f", "xml"]),
            (1, f"no process {p.pid}", [str(p.pid)]), (1, "missing", ["--lib", "/missing"]),
            (1, "not a file", ["--lib", "/dev/null"])):
        refused(lab, status, words, "doctor", *arguments)
    out = lab.path("told")
    tlsscope(lab, "doctor", "-o", out, "--lib", libssl())
    with open(out) as f:
        check("openssl" in f.read(), "-o: nothing")


@case(needs=["setpriv"])
def doctor_without_privileges(lab):
    """The machine is judged first: nothing can be captured, and what to do."""
    program = copy_for_nobody(lab)
    nobody = ["setpriv", "--reuid", str(NOBODY.pw_uid), "--regid", str(NOBODY.pw_gid),
              "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", program]
    out = lab.run([*nobody, "doctor", str(os.getpid())], status=1).out().decode()
    check("cannot capture" in out.splitlines()[0] and re.search("root|sudo", out), out)
    mine = out[out.index(f"(pid {os.getpid()}"):]
    check("cannot be captured: " in mine and "root" in mine, f"of a process of root: {mine!r}")


def stays(lab, *words, **options):
    return lab.spawn([*words], stdin=subprocess.PIPE, **options)


@case(needs=["nginx", "curl"])
def doctor_curl_and_python(lab):
    """Debian's curl maps GnuTLS beside OpenSSL (librtmp): that is told, and is no failure."""
    port = lab.port()
    nginx(lab, port, backend())
    code = (f"import socket, ssl\nc = ssl.create_default_context(cafile={lab.cert!r})\n"
            f"s = c.wrap_socket(socket.create_connection(('127.0.0.1', {port})), "
            "server_hostname='localhost')\nprint('there', flush=True)\ninput()")
    p = stays(lab, PYTHON, "-c", code, ready=b"there")
    captured(library(of_process(lab, p.pid, "yes"), "openssl"), "shared")
    os.mkfifo(lab.path("fifo"))
    hand = os.open(lab.path("fifo"), os.O_RDWR)
    p = lab.spawn(["curl", "-sS", "--cacert", lab.cert, "-N", "-T", lab.path("fifo"),
                   f"https://localhost:{port}/echo/"])
    wait_for("connection", lambda: connected(p.pid))
    with open(f"/proc/{p.pid}/maps") as f:
        both = "libgnutls" in f.read()
    told = of_process(lab, p.pid, "partly" if both else "yes")
    captured(library(told, "openssl"), "shared")
    if both:
        not_captured(library(told, "gnutls"), "shared", "GnuTLS")
    os.close(hand)


@case(needs=["node"])
def doctor_node(lab):
    """OpenSSL as a part of the program, or a libssl of its own: as this node is built."""
    p = stays(lab, "node", "-e", "require('tls'); console.log('there'); process.stdin.resume()",
              ready=b"there")
    with open(f"/proc/{p.pid}/maps") as f:
        shared = "/libssl.so" in f.read()
    entry = library(of_process(lab, p.pid, "yes"), "openssl")
    captured(entry, "shared" if shared else "static")
    version = lab.run(["node", "-p", "process.versions.openssl"]).out().decode()
    check(entry["version"] == version.split("+")[0].strip(), f"{entry['version']}, not {version}")


@case(needs=["apt-get", "dpkg-deb"], timeout=400)
def doctor_go(lab):
    """The version, how arguments are passed and what found the functions; -l and --info agree."""
    for version, variant, passed in (("1.15", "plain", "on the stack"),
                                     ("1.24", "stripped", "in registers")):
        program, address = golang.talk(lab, version, variant), f"127.0.0.1:{lab.port()}"
        p = lab.spawn([program, "raw", "server", address], ready=b"listening")
        entry = library(of_process(lab, p.pid, "yes"), "go")
        captured(entry, "static", "gotls")
        check(entry["stripped"] == (variant == "stripped"), f"{entry}")
        check(entry["version"].startswith(version), f"{entry}")
        check({f["how"] for f in entry["functions"]} == {"gopclntab"}, f"{entry}")
        about = f"arguments {passed}, goid by version"
        check(entry.get("about") == about, f"not {about!r}: {entry}")
        text = tlsscope(lab, "doctor", str(p.pid)).out().decode()
        check(re.search(rf"go {re.escape(entry['version'])} .*by gopclntab;.* {about}\n", text), text)
        for way in ("-l", "--info"):
            text = tlsscope(lab, way, "-p", str(p.pid)).out().decode()
            check(f" (go: go{entry['version']}, {about})" in text, f"{way}: {text}")
            check(re.search(r"Conn\).Read +gotls_read +gopclntab: entry", text), f"{way}: {text}")
        same_as_listed(lab, p.pid, entry)


@case(needs=["gnutls-serv", "openssl"])
def doctor_gnutls(lab):
    """Its server: the client of Debian 13 has OpenSSL in it too, for libunbound's sake."""
    port = lab.port()
    p = lab.spawn(["gnutls-serv", "-p", str(port), "--x509certfile", lab.cert, "--x509keyfile", lab.key],
                  port=port)
    hold(lab, port)
    wait_for("connection", lambda: connected(p.pid))
    entry = library(of_process(lab, p.pid, "no"), "gnutls")
    not_captured(entry, "shared", "GnuTLS")
    version = re.search(rb"(\d+\.\d+\.\d+)", lab.run(["gnutls-serv", "--version"]).out())[1]
    check(entry["version"] == version.decode(), f"{entry['version']} is not {version}")
    _, found = doctor(lab, status=1)
    check(p.pid in {o["pid"] for o in found if o["type"] == "process"}, "not among the talking")


JAVA = """
import javax.net.ssl.*;
public class Hold {
    public static void main(String[] words) throws Exception {
        TrustManager all = new X509TrustManager() {
            public void checkClientTrusted(java.security.cert.X509Certificate[] c, String a) { }
            public void checkServerTrusted(java.security.cert.X509Certificate[] c, String a) { }
            public java.security.cert.X509Certificate[] getAcceptedIssuers() { return null; }
        };
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, new TrustManager[] {all}, null);
        SSLSocket s = (SSLSocket) context.getSocketFactory().createSocket(
            "127.0.0.1", Integer.parseInt(words[0]));
        s.startHandshake();
        System.out.println("there");
        System.in.read();
    }
}
"""


@case(needs=["java", "javac", "nginx"], timeout=120)
def doctor_java(lab):
    port = lab.port()
    nginx(lab, port, backend())
    program = lab.write("Hold.java", JAVA)
    p = stays(lab, "java", program, str(port))
    wait_for("handshake", lambda: b"there" in p.out(), 60)
    not_captured(library(of_process(lab, p.pid, "no"), "jsse"), "shared", "JSSE")


def npm_program(lab, package, version, path, x64="x64", arm64="arm64"):
    cpu = {"x86_64": x64, "aarch64": arm64}.get(platform.machine())
    if not cpu:
        raise Skip("npm has it for x86_64 and arm64 only")
    name = package.format(cpu=cpu)
    return f"{suites.from_npm(lab, name, version)}/{name}/{path}"


def of_file(lab, path, verdict):
    _, found = doctor(lab, "--lib", path, status=int(verdict == "no"))
    check([o["type"] for o in found] == ["file"] and found[0]["verdict"] == verdict, f"{found}")
    return found[0]


@case(needs=["npm"], timeout=400)
def doctor_rustls(lab):
    """turbo, which has rustls in it; stripped."""
    program = npm_program(lab, "turbo-linux-{cpu}", "2.8.17", "bin/turbo", x64="64")
    entry = library(of_file(lab, program, "no"), "rustls")
    not_captured(entry, "static", "rustls")
    check(re.fullmatch(r"0\.\d+\.\d+", entry["version"]), f"{entry}")


@case(needs=["npm", "strip"], timeout=400)
def doctor_static_openssl(lab):
    """sentry-cli, with OpenSSL in it: by its symbols; without them there is a reason."""
    program = npm_program(lab, "@sentry/cli-linux-{cpu}", "3.8.0", "bin/sentry-cli")
    entry = library(of_file(lab, program, "yes"), "openssl")
    captured(entry, "static")
    check({f["how"] for f in entry["functions"]} == {"symtab"}, f"{entry}")
    lab.run(["strip", "-o", lab.path("stripped"), program])
    stripped = library(of_file(lab, lab.path("stripped"), "no"), "openssl")
    not_captured(stripped, "static", "symbols")
    check(stripped["version"] == entry["version"] and stripped["stripped"], f"{stripped}")


@case(needs=["npm", "nginx"], timeout=400)
def doctor_boringssl(lab):
    """Bun: BoringSSL without names for its functions."""
    program = npm_program(lab, "@oven/bun-linux-{cpu}", "1.2.0", "bin/bun", arm64="aarch64")
    port = lab.port()
    nginx(lab, port, backend())
    p = stays(lab, program, "-e", f"const s = require('tls').connect({{port: {port}, host: "
              "'127.0.0.1', rejectUnauthorized: false}, () => console.log('there'))")
    wait_for("handshake", lambda: b"there" in p.out(), 30)
    not_captured(library(of_process(lab, p.pid, "no"), "boringssl"), "static", "BoringSSL.*symbols")
    # To trace it yields nothing: that is said, and who tells why.
    tracer = lab.spawn([TLSSCOPE, "-p", str(p.pid), "sniff"])
    wait_for("a word", lambda: "no TLS library that can be probed" in tracer.err())
    check("tlsscope doctor" in tracer.err(), tracer.err())
    tracer.stop(2)


@case()
def doctor_by_name(lab):
    """Libraries of the system that are not probed: recognised where they are installed."""
    folders = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu")
    found = 0
    for name, file in (("nss", "libssl3.so"), ("mbedtls", "libmbedtls.so.14"),
                       ("wolfssl", "libwolfssl.so.35"), ("gnutls", "libgnutls.so.30")):
        for path in (f"{folder}/{file}" for folder in folders):
            if os.path.exists(path):
                entry = library(of_file(lab, path, "no"), name)
                not_captured(entry, "shared", "no probes")
                found += 1
    if not found:
        raise Skip("none of them is installed")


@case(needs=["openssl", "nginx"])
def doctor_deleted(lab):
    """A program and its library that are deleted while it runs: the old ones are looked at."""
    port = lab.port()
    nginx(lab, port, backend())
    shutil.copy(shutil.which("openssl"), lab.path("s"))
    for path in (libssl(), libssl().replace("libssl", "libcrypto")):
        shutil.copy(path, lab.path(os.path.basename(path)))
    p = hold(lab, port, program=lab.path("s"), env={"LD_LIBRARY_PATH": lab.dir})
    for name in ("s", os.path.basename(libssl())):
        os.unlink(lab.path(name))
    lab.write(os.path.basename(libssl()), b"something else")
    told = of_process(lab, p.pid, "yes")
    entry = library(told, "openssl")
    captured(entry, "shared")
    check(told["deleted"] and entry["deleted"], f"{told}")
    check(entry["path"] == lab.path(os.path.basename(libssl())), entry["path"])


@case(needs=["apt-get", "dpkg-deb", "nginx", "unshare"], timeout=400)
def doctor_other_namespace(lab):
    """Debian 11 in mount and net namespaces of its own: its files, by its paths."""
    lab.need_mount_namespace()
    root = suites.unpacked(lab, "bullseye")
    script = lab.write("inside.sh", f"""#!/bin/sh
        ip link set lo up 2>/dev/null || ifconfig lo up || exit 99
        cp {lab.both} {root}/tmp/both.pem
        chroot {root} openssl s_server -www -accept 127.0.0.1:4433 -cert /tmp/both.pem &
        sleep 1
        exec chroot {root} openssl s_client -quiet -connect 127.0.0.1:4433
        """, 0o755)
    p = stays(lab, "unshare", "-m", "-n", script)
    wait_for("connection", lambda: p.poll() is not None or connected(p.pid))
    if p.poll() == 99:
        raise Skip("no loopback can be set up in a namespace here")
    told = of_process(lab, p.pid, "yes")
    entry = library(told, "openssl")
    captured(entry, "shared")
    check(entry["version"].startswith("1.1.1") and "libssl.so.1.1" in entry["path"], f"{entry}")
    check(told["other_mount_namespace"] and told["connections"] == 1, f"{told}")


@case(needs=["musl-gcc"])
def doctor_static(lab):
    """A static program of musl, without TLS."""
    source = lab.write("wait.c", "#include <unistd.h>\nint main(void) { pause(); }\n")
    lab.run(["musl-gcc", "-static", "-o", lab.path("wait"), source])
    told = of_process(lab, stays(lab, lab.path("wait")).pid, "no")
    check("no known TLS library" in told["reason"] and not told["libraries"], f"{told}")


@case(needs=["musl-gcc"])
def doctor_musl(lab):
    source = lab.write("wait.c", "#include <unistd.h>\nint main(void) { pause(); }\n")
    lab.run(["musl-gcc", "-o", lab.path("wait"), source])
    check(of_process(lab, stays(lab, lab.path("wait")).pid, "no")["musl"], "not seen to be musl's")


@case()
def doctor_unmapped(lab):
    """A program whose code is in no file any more, as a packer's; not taken for the kernel's thread."""
    p = lab.spawn([lab.victim("unmapped", libs=())], ready=b"unmapped")
    told = of_process(lab, p.pid, "no")
    check("mapped from a file" in told["reason"] and "unpack" in told["remedy"], f"{told}")
    thread = next((int(pid) for pid in os.listdir("/proc") if pid.isdigit() and kernel_thread(pid)), None)
    if thread:
        check("thread of the kernel" in of_process(lab, thread, "no")["reason"], f"pid {thread}")


def kernel_thread(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[1] == "2"
    except OSError:
        return False


def program_32bit():
    """An ELF of the i386 that waits for a signal."""
    code = bytes.fromhex("b81d000000cd80ebf7")  # again: mov $29 (pause), %eax; int $0x80; jmp again
    base, start = 0x8048000, 84
    head = b"\x7fELF\x01\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIIIIIHHHHHH", 2, 3, 1, base + start, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    segment = struct.pack("<IIIIIIII", 1, 0, base, base, start + len(code), start + len(code), 5,
                          4096)
    return head + segment + code


@case()
def doctor_32bit(lab):
    path = lab.write("old", program_32bit(), 0o755)
    try:
        p = stays(lab, path)
    except OSError as e:
        raise Skip(f"no 32-bit program runs here: {e}") from e
    told = of_process(lab, p.pid, "no")
    check("32-bit" in told["reason"] and "64-bit" in told["remedy"], f"{told}")
    text = tlsscope(lab, "-l", "-p", str(p.pid)).out().decode()
    check(text.startswith("nothing") and "tlsscope doctor" in text, text)


@case(needs=["openssl", "nginx"])
def doctor_hostile(lab):
    """Names that act on a terminal, and files that are no libraries, harm nothing."""
    port = lab.port()
    nginx(lab, port, backend())
    name = "evil\x1b[2J\n\u202e"
    os.symlink(shutil.which("openssl"), lab.path(name))
    copy = shutil.copy(libssl(), lab.path("libssl\x1b]0;x\x07.so"))
    p = hold(lab, port, program=lab.path(name), env={"LD_PRELOAD": copy})
    for words in ([], ["-v"]):
        out = tlsscope(lab, *words, "doctor", str(p.pid)).out()
        check(not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]|\xe2\x80\xae", out), f"control: {out!r}")
        check(rb"evil\x1b" in out and rb"libssl\x1b" in out, f"the names are not there: {out!r}")
    of_process(lab, p.pid, "yes")
    with open(libssl(), "rb") as f:
        real = f.read()
    for n, data in enumerate((b"", b"\x7fELF", real[:40], real[:5000], real[:len(real) // 2],
                              real[:64] + bytes(b ^ 0x5a for b in real[64:]), bytes(10000))):
        q = tlsscope(lab, "doctor", "--lib", lab.write(f"libssl.so.{n}", data), status=1)
        check(f"libssl.so.{n}" in q.out().decode(), f"{n}: {q.out()!r} {q.err()!r}")


@case(needs=["bash"])
def doctor_crowd(lab):
    """Processes that come and go meanwhile are no error."""
    p = lab.spawn(["bash", "-c", "while :; do for i in 1 2 3 4; do /bin/true & done; wait; done"])
    for _ in range(8):
        q = tlsscope(lab, "doctor", status=None)
        check(q.returncode in (0, 1) and not q.err(), f"status {q.returncode}: {q.err()!r}")
    p.stop(signal.SIGKILL)


@case(timeout=120)
def doctor_container(lab):
    """--container and --cgroup; a process' container is told."""
    box = docker("clinic")
    with cgroups.tree(lab, "none", box[0]) as top, cgroups.files(lab, **box[1]):
        inside, outside = (flood(lab, f"flood-{n}", f"{top}/{place}", rounds=0)
                           for n, place in (("in", box[0]), ("out", "none")))
        for words in (["--container", "clinic"], ["--cgroup", f"{top}/{box[0]}"]):
            _, found = doctor(lab, *words)
            check([o["pid"] for o in found] == [inside.pid], f"{words}: {found}")
        check((found[0]["container"], found[0]["container_name"]) == (box[2]["id"], "clinic"),
              f"{found[0]}")
        text = tlsscope(lab, "doctor", str(inside.pid)).out().decode()
        check("in the container clinic" in text, text)
        check("container" not in of_process(lab, outside.pid, "yes"), "in a container?")
