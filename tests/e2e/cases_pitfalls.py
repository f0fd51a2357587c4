# SPDX-License-Identifier: MIT
"""Programs that come late, from elsewhere, with another libssl or libc, or die in mid-call."""
import os
import re
import shutil
import signal
import subprocess

import suites
from cases_filters_ends import READY
from cases_payload import check_calls, start, stream
from cases_pids import page_server
from harness import Skip, both_sides, case, check, lines, same, wait_for
from web import PAGE, backend, check_http1, curl, nginx


def libssl():
    """The system's libssl, as a path without symbolic links."""
    out = subprocess.run(["ldconfig", "-p"], stdout=subprocess.PIPE, check=True).stdout.decode()
    found = re.findall(r"libssl\.so\.\S+ .*=> (\S+)", out)
    if not found:
        raise Skip("this system has no libssl")
    return os.path.realpath(found[0])


def own_library(lab):
    """A folder with a copy of libssl: another file than the one that everybody uses."""
    os.makedirs(lab.path("lib"))
    path = shutil.copy(libssl(), lab.path("lib"))
    name = re.sub(r"(libssl\.so\.[0-9.]*[0-9]).*", r"\1", os.path.basename(path))
    soname = lab.path("lib/" + name)
    if not os.path.exists(soname):
        os.symlink(path, soname)
    return lab.path("lib"), path


def both_whole(seen, client, server, up, down):
    mine, theirs = (seen.flows(pids=[p.pid]) for p in (client, server))
    both_sides(mine, theirs, 1)
    check_calls(mine[0], client)
    check_calls(theirs[0], server)
    same("client's out", mine[0].sent, stream(ord("C"), up))
    same("server's out", theirs[0].sent, stream(ord("S"), down))
    return mine[0], theirs[0]


def attached(tracer, name):
    """To how many files of this name."""
    return sum(1 for r in tracer.records() if r["type"] == "attach" and r["sites"]
               and os.path.basename(r["path"]).startswith(name))


@case()
def dlopen_after_start(lab):
    """A program that loads a libssl nobody else uses, long after the tracer started."""
    folder, path = own_library(lab)
    library = lab.victim("ops", "-shared", "-fPIC", "-DMAIN=ops_main", output="ops.so")
    port = str(lab.port())
    server = lab.spawn([lab.victim("ops"), "server", "127.0.0.1", port, lab.cert, lab.key,
                        "r:20000", "w:3000"], ready=b"listening")
    client = lab.spawn([lab.victim("dl", libs=()), library, "client", "127.0.0.1", port, lab.cert,
                        lab.key, "i", "w:20000", "r:3000"], ready=b"before", stdin=subprocess.PIPE,
                       env={"LD_LIBRARY_PATH": folder})
    tracer = lab.tracer("--comm", "dl", "--comm", "ops")
    check(path.encode() not in tracer.output(), "attached before it was loaded")
    client.say()
    wait_for("handshake", lambda: b"waiting" in client.out())
    tracer.wait_until(f"attachment to {path}", path.encode())
    client.say()
    client.finish()
    server.finish()
    mine, _ = both_whole(tracer.stop(), client, server, 20000, 3000)
    check(mine.calls[0]["lib"] == path, f"the library is {mine.calls[0]['lib']}, not {path}")


@case(needs=["nginx", "curl"])
def mount_namespace_bind(lab):
    """A server in a mount namespace of its own, where libssl's path leads to another file."""
    lab.need_mount_namespace()
    _, copy = own_library(lab)
    port, echo, real = lab.port(), backend(), libssl()
    tracer = lab.tracer("--comm", "nginx", "--comm", "curl")
    enter = lab.write("enter", f"#!/bin/sh\nmount --bind {copy} {real} || exit 99\n"
                      'exec "$@"\n', 0o755)
    before = attached(tracer, os.path.basename(real))
    nginx(lab, port, echo, prefix=["unshare", "-m", enter])
    wait_for("attachment to the other libssl",
             lambda: attached(tracer, os.path.basename(real)) > before)
    client = curl(lab, port, "--http1.1")
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    theirs = seen.flows(comm=["nginx"], having=b"localhost:%d" % port)
    both_sides(mine, theirs, 1)
    check_http1(mine[0])


@case()
def mount_namespace_hidden(lab):
    """A libssl on a file system that only its own process can see."""
    lab.need_mount_namespace()
    _, copy = own_library(lab)
    hidden = lab.path("hidden")
    os.makedirs(hidden)
    port = str(lab.port())
    ops = lab.victim("ops")
    server = lab.spawn([ops, "server", "127.0.0.1", port, lab.cert, lab.key, "r:5000", "w:700"],
                       ready=b"listening")
    soname = re.sub(r"(libssl\.so\.[0-9.]*[0-9]).*", r"\1", os.path.basename(copy))
    enter = lab.write("enter", f"#!/bin/sh\nmount -t tmpfs none {hidden} || exit 99\n"
                      f"cp {copy} {hidden}/{soname}\nexport LD_LIBRARY_PATH={hidden}\n"
                      'exec "$@"\n', 0o755)
    tracer = lab.tracer("--comm", "ops")
    client = lab.spawn(["unshare", "-m", enter, ops, "client", "127.0.0.1", port, lab.cert, lab.key,
                        "i", "w:5000", "r:700"], ready=b"waiting", stdin=subprocess.PIPE)
    check(not os.listdir(hidden), "the folder is not hidden")
    tracer.wait_until("attachment to the hidden libssl", hidden.encode())
    client.say()
    client.finish()
    server.finish()
    both_whole(tracer.stop(), client, server, 5000, 700)


@case(needs=["curl"])
def preloaded_wrapper(lab):
    """What passes OpenSSL's calls on is not taken for OpenSSL, which sees all there is."""
    port = page_server(lab)
    wrapper = lab.victim("wrap", "-shared", "-fPIC", output="libwrap.so", libs=())
    tracer = lab.tracer("-v", script=READY + """
        local function tell(e)
            emit{type = "seen", what = e.probe, err = e.err, lib = e.lib, version = e.conn.version}
        end
        on.tls_open({rport = %d}, tell)
        on.tls_error({rport = %d}, tell)
        on.tls_write({rport = %d}, tell)
        on.tls_read({rport = %d}, tell)""" % (port, port, port, port))
    for _ in range(2):
        lab.run(["curl", "-sk", f"https://127.0.0.1:{port}/"], env={"LD_PRELOAD": wrapper})
    seen = tracer.stop()
    told = [r for r in seen.records if r["type"] == "seen"]
    whats = [r["what"] for r in told]
    check(whats.count("tls_open") == whats.count("ssl_write") == 2 and "ssl_read" in whats, f"told: {told}")
    for r in told:
        check(not r.get("err") and "libssl" in r["lib"] and r["version"], f"told: {r}")
    check("libwrap.so: not probed" in seen.stderr, "-v does not say so")


@case(needs=["musl-gcc"])
def musl(lab):
    """A program of musl, whose loader is not glibc's, with the system's OpenSSL copied beside it."""
    folder, _ = own_library(lab)
    crypto = os.path.join(os.path.dirname(libssl()), "libcrypto" + os.path.basename(libssl())[6:])
    soname = re.sub(r"libssl", "libcrypto", sorted(os.listdir(folder))[0])
    shutil.copy(crypto, os.path.join(folder, soname))
    for name, path in re.findall(r"(\S+) => (\S+)", lab.run(["ldd", crypto]).out().decode()):
        if not name.startswith("libc."):
            shutil.copy(path, os.path.join(folder, name))
    include = lab.path("include/openssl")
    os.makedirs(include)
    machine = os.uname().machine
    for place in ("/usr/include/openssl", f"/usr/include/{machine}-linux-gnu/openssl"):
        if os.path.isdir(place):
            shutil.copytree(place, include, dirs_exist_ok=True)
    shim = lab.victim("musl_shim", "-shared", "-fPIC", "-fno-builtin", compiler="musl-gcc",
                      output="libmusl_shim.so", libs=())
    program = lab.victim("ops", "-D_GNU_SOURCE", f"-I{lab.path('include')}",
                         "-Wl,--allow-shlib-undefined", compiler="musl-gcc", output="ops-musl",
                         libs=(shim, f"-L{folder}", *(f"-l:{n}" for n in os.listdir(folder)
                                                      if re.fullmatch(r"lib(ssl|crypto)\.so\.\d+", n))))
    environment = {"LD_LIBRARY_PATH": f"{folder}:{lab.base}"}
    p = lab.run([program], status=None, env=environment)
    if p.returncode != 2:  # not even its usage
        raise Skip(f"this OpenSSL does not load under musl: {p.err()[:200]}")
    tracer = lab.tracer("--comm", "ops-musl")
    server, client = start(lab, ["i", "r:50000", "w:1000"], ["i", "w:50000", "r:1000"],
                           program=[program], env=environment)
    for p in (server, client):
        wait_for("handshake", lambda: b"waiting" in p.out())
    with open(f"/proc/{client.pid}/maps") as f:
        maps = f.read()
    check("linux-musl" in maps and "libc.so.6" not in maps, "not a process of musl")
    tracer.wait_until("attachment to its libssl", folder.encode())
    client.say()
    server.say()
    client.finish()
    server.finish()
    both_whole(tracer.stop(), client, server, 50000, 1000)


@case()
def target_killed(lab):
    """SIGKILL in mid-call: while it reads in vain, and while it writes as fast as it can."""
    tracer = lab.tracer("--comm", "ops", "--comm", "flood", script="""
        on.tls_data({capture = 32}, function() end)
        on.ssl_write({comm = "ops", capture = "all"}, function(e)
            emit{type = "write", pid = e.pid, len = e.len, n = #e.data, gap = e.gap}
        end)
        on.start(function() emit{type = "ready"} end)
        """)
    flood = lab.victim("flood")
    for _ in range(5):
        p = lab.spawn([flood, lab.cert, lab.key, "0", "2000"], ready=b"waiting",
                      stdin=subprocess.PIPE)
        p.say()
        server, client = start(lab, ["r:15"], ["w:5", "d:60000"])
        wait_for("first bytes", lambda: b"SSL_read 5 5" in server.out())
        for victim in (p, server, client):
            victim.stop(signal.SIGKILL)
    server, client = start(lab, ["r:5000"], ["w:5000"])
    client.finish()
    server.finish()
    seen = tracer.stop()
    own = [r for r in seen.records if r["type"] == "write" and r["pid"] == client.pid]
    check([(r["len"], r["n"], r.get("gap")) for r in own] == [(5000, 5000, None)],
          f"after the kills: {own}")


@case()
def traced_process_ends(lab):
    """With -p the run ends with the last of the processes, by itself, with all they said."""
    server, client = start(lab, ["i", "r:3000"], ["i", "w:3000"])
    for p in (server, client):
        wait_for("handshake", lambda: b"waiting" in p.out())
    tracer = lab.tracer("-p", str(server.pid), "-p", str(client.pid))
    client.say()
    server.say()
    server.finish()
    client.finish()
    both_whole(tracer.finish(), client, server, 3000, 0)


def of_suite(lab, suite, soname, arguments=()):
    """s_server, s_client and curl of another suite, unpacked beside this system."""
    root = suites.unpacked(lab, suite)
    place = f"/tmp/{lab.case.name}"
    os.makedirs(root + place, exist_ok=True)
    for path in (lab.cert, lab.key):
        shutil.copy(path, root + place)
    page = lines(2000, "page")
    with open(f"{root}{place}/page", "wb") as f:
        f.write(page)
    chroot = ["chroot", root]
    port = lab.port()
    options = ["-accept", f"127.0.0.1:{port}", "-cert", f"{place}/cert.pem", "-key",
               f"{place}/key.pem"]
    try:
        tracer = lab.tracer("--comm", "openssl", "--comm", "curl", arguments=arguments)
        before = attached(tracer, soname)
        server = lab.spawn([*chroot, "sh", "-c", 'cd "$0" && exec openssl s_server "$@" -WWW', place,
                            *options], port=port)
        wait_for(f"attachment to {suite}'s {soname}", lambda: attached(tracer, soname) > before)
        client = lab.run([*chroot, "curl", "-sS", "-k", f"https://127.0.0.1:{port}/page"])
        same("curl's own page", client.out(), page)
        server.stop(signal.SIGKILL)
        text = lines(500, "typed")
        port = options[1] = f"127.0.0.1:{lab.port()}"
        echo = lab.spawn([*chroot, "openssl", "s_server", *options, "-quiet"],
                         port=int(port.split(":")[1]), stdin=subprocess.PIPE)
        typed = lab.spawn([*chroot, "openssl", "s_client", "-quiet", "-connect", port],
                          stdin=subprocess.PIPE)
        typed.stdin.write(text)
        typed.stdin.flush()
        wait_for("text at the server", lambda: echo.out() == text)
        echo.stdin.write(text)
        echo.stdin.flush()
        wait_for("text at the client", lambda: typed.out() == text)
        typed.stop(signal.SIGKILL)
        seen = tracer.stop()
    finally:
        shutil.rmtree(root + place)
    mine, theirs = seen.flows(pids=[client.pid]), seen.flows(pids=[server.pid])
    both_sides(mine, theirs, 1)
    check(mine[0].received.endswith(page), "the page is not at the end of what curl received")
    check(soname in mine[0].calls[0]["lib"], f"curl's library is {mine[0].calls[0]['lib']}")
    mine, theirs = seen.flows(pids=[typed.pid]), seen.flows(pids=[echo.pid])
    both_sides(mine, theirs, 1)
    same("client's out", mine[0].sent, text)
    same("client's in", mine[0].received, text)


@case(needs=["apt-get", "dpkg-deb"], timeout=400)
def libssl_1_1(lab):
    """Debian 11: OpenSSL 1.1.1."""
    of_suite(lab, "bullseye", "libssl.so.1.1")


@case(needs=["apt-get", "dpkg-deb"], timeout=400)
def libssl_trixie(lab):
    """Debian 13: OpenSSL 3.5."""
    of_suite(lab, "trixie", "libssl.so.3")


@case(needs=["apt-get", "dpkg-deb"], timeout=400)
def libssl_sid(lab):
    """The newest there is."""
    of_suite(lab, "sid", "libssl.so")


@case(needs=["nginx", "curl"])
def page_of_exact_record(lab):
    """Replies whose last record is exactly full, and one that has a byte more."""
    port = lab.port()
    nginx(lab, port, backend())
    for name, size in (("a", 16384), ("b", 16385), ("c", 8192), ("d", 0)):
        lab.write(f"www/{name}", (PAGE * 2)[:size])
    tracer = lab.tracer("--comm", "nginx", "--comm", "curl")
    urls = [f"https://localhost:{port}/{n}" for n in "abcd"]
    client = lab.run(["curl", "-sS4", "--http1.1", "--cacert", lab.cert, *urls])
    same("curl's own output", client.out(), PAGE[:16384] + PAGE[:16385] + PAGE[:8192])
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    both_sides(mine, seen.flows(comm=["nginx"], having=b"localhost:%d" % port), 1)
