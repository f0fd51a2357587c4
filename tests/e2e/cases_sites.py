# SPDX-License-Identifier: MIT
"""Where functions are entered: at their symbols, and at cheaper instructions behind these."""
import os
import platform
import re
import subprocess

from cases_go import alone
from cases_payload import exchange
from cases_pitfalls import of_suite, own_library
from harness import PYTHON, TLSSCOPE, Skip, case, check, same, wait_for

LINES = 200
# A client and a server in one program, which write and read at each line of its input.
TALKS = """
import ssl, sys
def context(protocol):
    c = ssl.SSLContext(protocol)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    return c
a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
server = context(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(*sys.argv[1:3])
ends = context(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(a, b), server.wrap_bio(b, a, server_side=True)
for n in range(6):
    try:
        ends[n % 2].do_handshake()
    except ssl.SSLWantReadError:
        pass
print("ready", flush=True)
for line in sys.stdin:
    for n in range(100):
        ends[n % 2].write(b"%05d" % n)
        assert ends[1 - n % 2].read() == b"%05d" % n
    print("talked", flush=True)
"""
AT_SYMBOLS = ["all", "-", "tls_data", "symbol"]


def info():
    return subprocess.run([TLSSCOPE, "--info"], stdout=subprocess.PIPE).stdout


def has_sessions():
    """Whether the kernel has them: that they can be loaded is for the cases to find out."""
    said = subprocess.run([TLSSCOPE, "-e", 'config{attach = "sessions"} on.start(function() exit() end)'],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE).stderr
    return b"has no " not in said


def ways():
    """To attach, of this kernel."""
    return ["auto", *(["perf"] if b"no cookies" not in info() else []),
            *(["multi"] if has_sessions() else [])]


def attach_both(lab, *patched, sites="auto", way="auto"):
    """What is seen of a program whose SSL_write may be entered behind its first instruction."""
    if platform.machine() != "x86_64":
        raise Skip("the program's code is of x86_64")
    if sites == "auto" and b"no cookies" in info():
        raise Skip("this kernel's probes have no cookies: only symbols are probed")
    p = lab.spawn([lab.victim("patched", libs=()), str(LINES), *patched], ready=b"waiting",
                  stdin=subprocess.PIPE)
    tracer = lab.tracer("-v", "-p", str(p.pid), arguments=["all", way, "tls_data", sites])
    p.stdin.write(b"\n")
    p.stdin.close()
    p.finish()
    seen = tracer.stop()
    flow, = seen.flows(pids=[p.pid])
    want = b"".join(b"line %05d\n" % n for n in range(LINES))
    same("what was written", flow.sent, want)
    reads = 5 * LINES if "reads" in patched else 0
    check(len(flow.calls) == LINES + reads, f"{len(flow.calls)} calls, not {LINES} and {reads}")
    return tracer.process.err()


@case()
def sites_tested(lab):
    """The cheap site shows what the symbol does: it takes over, and no call is lost or seen twice."""
    for way in ways():
        said = attach_both(lab, way=way)
        check("je at +7, emulated: tested: shows what the symbol does" in said, said)
        check("lost" not in said and "never returned" not in said, said)


@case()
def sites_tested_one_by_one(lab):
    """While a function's test ends, the symbols of others are probed twice: no call is told as given up."""
    for way in ways():
        said = attach_both(lab, "reads", way=way)
        check(said.count("tested: shows what the symbol does") == 2, said)
        check("lost" not in said and "never returned" not in said, said)


@case()
def sites_that_differ(lab):
    """A program that changed its code: what its file says is not believed, and that is told."""
    for way in ways():
        said = attach_both(lab, "patched", way=way)
        check("did not show what the symbol does: the symbol is probed" in said, said)
        check("tested: shows" not in said, said)


@case()
def sites_at_symbols(lab):
    """config.sites: only symbols are probed, and nothing needs a test."""
    for way in ("auto", "copies"):
        said = attach_both(lab, "patched", way=way, sites="symbol")
        check("did not show" not in said and "tested" not in said, said)
    exchange(lab, ["r:40000:5000", "W:70000"], ["w:40000", "R:70000:6000"],
             script=AT_SYMBOLS, files=["--lib", "libssl"])


@case(needs=["apt-get", "dpkg-deb"], timeout=400)
def sites_at_symbols_trixie(lab):
    """As libssl_trixie, whose functions begin with an instruction that is stepped over."""
    of_suite(lab, "trixie", "libssl.so.3", AT_SYMBOLS)


@case(needs=["apt-get", "dpkg-deb"], timeout=500)
def sites_at_symbols_go(lab):
    """As data_with_error, at both of Go's ABIs."""
    for version in ("1.15", "newest"):
        alone(lab, version, "plain", "ends", arguments=AT_SYMBOLS)


def count_runs(how):
    """Whether the kernel counts how often programs run: "1" or "0". Returns what it was."""
    path = "/proc/sys/kernel/bpf_stats_enabled"
    with open(path, encoding="utf-8") as f:
        before = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(how)
    return before


def runs(tracer):
    """How often a tracer's programs of probes (BPF_PROG_TYPE_KPROBE) ran, as the kernel counts them."""
    folder, counts = f"/proc/{tracer.process.pid}/fdinfo", {}
    for fd in os.listdir(folder):
        try:
            with open(f"{folder}/{fd}", encoding="utf-8") as f:
                found = re.search(r"prog_type:\s+2\n.*prog_id:\s+(\d+).*run_cnt:\s+(\d+)", f.read(), re.S)
        except FileNotFoundError:
            continue
        if found:
            counts[found[1]] = int(found[2])
    return sum(counts.values())


def runs_for(lab, folder, path, way, comm):
    """How often programs run for 200 calls, which are wanted if they are by a program of this name."""
    p = lab.spawn([PYTHON, "-c", TALKS, lab.cert, lab.key], ready=b"ready", stdin=subprocess.PIPE,
                  env={"LD_LIBRARY_PATH": folder})
    # At symbols: while another site is tested, both are hit.
    tracer = lab.tracer("--comm", comm, "--lib", path, arguments=["all", way, "tls_data", "symbol"])
    before = runs(tracer)
    p.say()
    wait_for("talk", lambda: b"talked" in p.out())
    count = runs(tracer) - before
    p.stdin.close()
    p.finish()
    calls = sum(len(flow.calls) for flow in tracer.stop().flows(pids=[p.pid]))
    check(calls == (200 if comm == "python3" else 0), f"{calls} calls of {comm}")
    return count


@case(timeout=120)
def sessions_spare_returns(lab):
    """Whom nobody wants: the kernel asks us at the beginning of its calls, and not at their returns."""
    if not has_sessions():
        raise Skip("this kernel's uprobe_multi has no sessions")
    check(b"with sessions" in info(), "they are not used")
    own = own_library(lab)
    before = count_runs("1")
    try:
        both, spared, wanted = (runs_for(lab, *own, *how) for how in (
            ("multi", "nobody"), ("sessions", "nobody"), ("sessions", "python3")))
    finally:
        count_runs(before)
    check((both, spared, wanted) == (400, 200, 400),
          f"{both} runs without sessions, {spared} with them; {wanted} for calls that are wanted")


@case()
def sessions_and_without(lab):
    """Each of a function's sites in either way: the same calls."""
    for way in ways():
        for sites in ("symbol", "auto"):
            exchange(lab, ["r:40000:5000", "W:70000", "P:4", "r:9"], ["w:40000", "R:70000:6000", "w:9"],
                     script=["all", way, "tls_data", sites], files=["--lib", "libssl"])
