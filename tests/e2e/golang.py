# SPDX-License-Identifier: MIT
"""
Debian's compilers of Go, of several suites, and what they build of tests/victims/go. Both are kept
in the cache of suites.py; a program is built again when its source, its flags or the compiler
change.
"""
import collections
import glob
import hashlib
import json
import os
import re
import shutil
import time

import suites
from harness import ROOT, Skip, check, same

SOURCE = os.path.join(ROOT, "tests", "victims", "go")

# What is asked for as a version -> where it is found.
SUITES = {"1.15": "bullseye", "1.19": "bookworm", "1.24": "trixie", "newest": "sid"}

# The ways to build; whether cgo is on.
Variant = collections.namedtuple("Variant", "flags cgo")
EXTERNAL = "-linkmode=external"
VARIANTS = {
    "plain": Variant([], False),
    "stripped": Variant(["-ldflags", "-s -w"], False),
    "pie": Variant(["-buildmode=pie"], False),
    "stripped_pie": Variant(["-ldflags", "-s -w", "-buildmode=pie"], False),
    "cgo": Variant(["-ldflags", EXTERNAL], True),
    "cgo_stripped_pie": Variant(["-ldflags", f"-s -w {EXTERNAL}", "-buildmode=pie"], True),
}
# Not needed to build with: half of what would be unpacked.
LEAVE_OUT = ["*/test/*", "*/doc/*", "*/pkg/linux_*/cmd/*", "*/src/cmd/compile/*"]
KEPT = 14 * 86400  # seconds since its last use, for a program that was built


def packages(version):
    """The compiler's packages; of the newest, whatever it is called."""
    def newest(names):
        found = [int(m[1]) for m in (re.fullmatch(r"golang-1\.(\d+)-go", n) for n in names) if m]
        if not found:
            raise suites.Unavailable("this suite has no package golang-1.N-go")
        return [f"golang-1.{max(found)}-{part}" for part in ("go", "src")]
    return newest if version == "newest" else [f"golang-{version}-{part}" for part in ("go", "src")]


def compiler(lab, version):
    """GOROOT of a version, or Skip with the reason."""
    root = suites.packages_of(lab, SUITES[version], f"go-{version}", packages(version), LEAVE_OUT)
    goroot, = glob.glob(f"{root}/usr/lib/go-1.*")
    return goroot


def environment(goroot, folder, cgo, path=None):
    """path: where packages are found that are not the standard library's."""
    return {
        "PATH": "/usr/bin:/bin", "HOME": folder, "GOROOT": goroot, "GOCACHE": f"{folder}/objects",
        "GOPATH": path or f"{folder}/path", "GO111MODULE": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "",
        "GOENV": "off", "GOTELEMETRY": "off", "CGO_ENABLED": str(int(cgo)),
    }


def talk(lab, version, variant):
    """The program of tests/victims/go as this version builds it in this way, or Skip."""
    flags = VARIANTS[variant]
    if flags.cgo:
        lab.need("gcc")
    folder = os.path.join(suites.cache(), f"go-programs-{version}-{suites.architecture()}")
    goroot = compiler(lab, version)
    return built(version, variant, f"{SOURCE}/talk", flags.flags,
                 environment(goroot, folder, flags.cgo))


def built(version, variant, name, flags, env):
    """What becomes of the sources that lie beside `name`, in the cache's folder that is env's HOME."""
    goroot, folder = env["GOROOT"], env["HOME"]
    sources = sorted(glob.glob(f"{os.path.dirname(name)}/*.go"))
    name = os.path.basename(name)
    status, what = suites.run(f"{goroot}/bin/go", "version", env=env)
    if status:
        raise Skip(f"Debian's compiler of Go {version} does not run here: {what.strip()[-200:]}")
    build = ["build", "-p", "2", *flags]
    digest = hashlib.sha256(repr((what, build, env)).encode())
    for path in sources:
        with open(path, "rb") as f:
            digest.update(f.read())
    out = f"{folder}/{variant}-{digest.hexdigest()[:16]}/{name}"
    # One after the other: they share what they compile of the standard library.
    with suites.locked(folder):
        if not os.path.exists(out):
            os.makedirs(os.path.dirname(out), exist_ok=True)
            status, why = suites.run("nice", f"{goroot}/bin/go", *build, "-o", out + ".new",
                                     *map(os.path.basename, sources),
                                     cwd=os.path.dirname(sources[0]), env=env)
            check(not status, f"Go {version} does not build {name} ({variant}): "
                              f"{why.strip()[-800:]}")
            os.rename(out + ".new", out)
        os.utime(os.path.dirname(out))
        for old in glob.glob(f"{folder}/*-*/"):
            if time.time() - os.path.getmtime(old) > KEPT:
                shutil.rmtree(old, ignore_errors=True)
    return out


# --- what talk says, and what was seen of it

def said(process):
    """The JSON objects that a talk printed."""
    return [json.loads(line) for line in process.out().splitlines() if line.startswith(b"{")]


def connections(process):
    """What it said of its connections."""
    return [r for r in said(process) if "conn" in r]


def digest_of(told):
    return told["in"]["sha256"], told["out"]["sha256"]


def digests(flow):
    return tuple(hashlib.sha256(data).hexdigest() for data in (flow.received, flow.sent))


def check_connections(seen, process):
    """
    Each connection that talk told of was seen as one, with all its bytes, cut into calls as they
    were, by the goroutines that called, on its descriptor. Returns {name: flow}, and the flows that
    it told nothing of.
    """
    told = connections(process)
    check(told, "talk told of no connection")
    flows = seen.flows(pids=[process.pid])
    found = {}
    for f in flows:
        found.setdefault(digests(f), []).append(f)
    known = {}
    for t in told:
        if not t["in"]["bytes"] and not t["out"]["bytes"]:
            continue
        which = found.get(digest_of(t))
        check(which, f"no connection has the bytes of '{t['conn']}' ({t['in']['bytes']} in, "
              f"{t['out']['bytes']} out): {nearest(t, flows)}; {seen.stderr[-1000:] or 'no loss was told'}")
        known[t["conn"]] = which.pop(0)
        check_calls(t, known[t["conn"]])
    return known, [f for rest in found.values() for f in rest]


def nearest(told, flows):
    """What is most like a connection that was not found, for the reader."""
    def unlike(f):
        return abs(len(f.received) - told["in"]["bytes"]) + abs(len(f.sent) - told["out"]["bytes"])
    same_fd = [f for f in flows if f.calls[0].get("fd") == told["fd"]]
    if not flows:
        return "there is none at all"
    return f"of {len(flows)} the most like is {min(same_fd or flows, key=unlike)}"


def check_all(seen, process):
    """check_connections, where it tells of all that it has."""
    known, others = check_connections(seen, process)
    check(not others, f"{len(others)} connections that talk knows nothing of: {others[:3]}")
    return known


def check_calls(told, flow):
    for way in ("in", "out"):
        calls = [c for c in flow.calls if c["dir"] == way]
        same_list(f"{told['conn']}, {way}: the calls", [c["len"] for c in calls],
                  told[way]["calls"] or [])
        same_list(f"{told['conn']}, {way}: the goroutines", sorted({c.get("goid") for c in calls}),
                  told[way]["goids"])
        for c in calls:
            check(c["kind"] == "go", f"{told['conn']}: kind is {c['kind']}")
            check(c["func"] == "crypto/tls.(*Conn)." + ("Read" if way == "in" else "Write"),
                  f"{told['conn']}: func is {c['func']}")
    fds = {c.get("fd", -1) for c in flow.calls}
    check(fds == {told["fd"]}, f"{told['conn']}: descriptors {fds}, not {told['fd']}")


def same_list(name, got, want):
    if got != want:
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b),
                  min(len(got), len(want)))
        check(False, f"{name}: {len(got)} seen and {len(want)} told, from number {at} on "
              f"{got[at:at + 5]} and {want[at:at + 5]}")


# --- messages

HEADER = 32
REPLY = 0x8000000


def message(data):
    """The number of the message that these bytes are; every byte is checked."""
    head = re.fullmatch(rb"#([0-9a-f]{7}) \+([0-9a-f]{8}) {13}\n", data[:HEADER])
    check(head, f"not a message: {data[:60]!r}")
    number, size = int(head[1], 16), int(head[2], 16)
    text = b"".join(b"%07x.%07x\n" % (number, i) for i in range((size + 15) // 16))[:size]
    same(f"message {number:x}", data[HEADER:], text)
    return number
