# SPDX-License-Identifier: MIT
"""Where functions are entered: at their symbols, and at cheaper instructions behind these."""
import platform
import subprocess

from cases_go import alone
from cases_payload import exchange
from cases_pitfalls import of_suite
from harness import TLSSCOPE, Skip, case, check, same

LINES = 200
AT_SYMBOLS = ["all", "-", "tls_data", "symbol"]


def attach_both(lab, *patched, sites="auto", way="auto"):
    """What is seen of a program whose SSL_write may be entered behind its first instruction."""
    if platform.machine() != "x86_64":
        raise Skip("the program's code is of x86_64")
    if sites == "auto" and b"no cookies" in subprocess.run([TLSSCOPE, "--info"],
                                                           stdout=subprocess.PIPE).stdout:
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
    check(len(flow.calls) == LINES, f"{len(flow.calls)} calls, not {LINES}")
    return tracer.process.err()


@case()
def sites_tested(lab):
    """The cheap site shows what the symbol does: it takes over, and no call is lost or seen twice."""
    for way in ("auto", "perf"):
        said = attach_both(lab, way=way)
        check("je at +7, emulated: tested: shows what the symbol does" in said, said)
        check("lost" not in said and "return was never seen" not in said, said)


@case()
def sites_that_differ(lab):
    """A program that changed its code: what its file says is not believed, and that is told."""
    for way in ("auto", "perf"):
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
