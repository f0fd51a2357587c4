# SPDX-License-Identifier: MIT
"""Cgroups and containers: who is filtered by them, and what is told of them."""
import os
import shutil
import subprocess

import cgroups
from cases_filters import SEEN, each_place
from harness import TLSSCOPE, case, check


def flood(lab, name, cgroup, ready=True):
    """A program that waits for a line, in a cgroup."""
    path = lab.path(name)
    if not os.path.exists(path):
        shutil.copy(lab.victim("flood"), path)
    return lab.spawn([path, lab.cert, lab.key, "5", "100"], ready=b"waiting" if ready else None,
                     stdin=subprocess.PIPE, preexec_fn=cgroups.enter(cgroup))


def said(*programs):
    for p in programs:
        p.say()
        p.finish()


def seen_by(tracer):
    return {r["pid"] for r in tracer.stop().records if r["type"] == "seen"}


def tracer_of(lab, *options, handler="{}", before=""):
    return lab.tracer(*options, script=SEEN.format(before=before, options=handler))


def places(lab, version, value):
    """Every place where a filter can be said; the programs are below the cgroups named."""
    with cgroups.tree(lab, "a/deep/er", "b/deep", version=version) as top:
        where = {"flood-a": os.path.join(top, "a/deep/er"), "flood-b": os.path.join(top, "b/deep")}

        def named(p):
            return value(os.path.join(top, os.path.basename(p.args[0])[-1]))
        each_place(lab, "cgroup", named, f'"{top}/other"',
                   **{name: {"preexec_fn": cgroups.enter(path)} for name, path in where.items()})


@case(timeout=120)
def filter_cgroup(lab):
    places(lab, 2, lambda folder: f'"{folder}"')


@case(timeout=120)
def filter_cgroup_id(lab):
    places(lab, 2, lambda folder: str(os.stat(folder).st_ino))


@case(timeout=120)
def filter_cgroup_v1(lab):
    places(lab, 1, lambda folder: f'"{folder}"')


@case(timeout=120)
def filter_cgroup_names(lab):
    """The same cgroup by what /proc/PID/cgroup says, and by its last name, as a unit's."""
    with cgroups.tree(lab, "a.service/deep", "b.service") as top:
        a, b = (flood(lab, f"flood-{n}", f"{top}/{n}.service{d}") for n, d in
                (("a", "/deep"), ("b", "")))
        with open(f"/proc/{a.pid}/cgroup") as f:
            line = next(x for x in f.read().splitlines() if x.startswith("0::"))[:-len("/deep")]
        for n, word in enumerate((line, line[2:], line[3:], "a.service")):
            if n:
                a, b = (flood(lab, f"flood-{x}", f"{top}/{x}.service") for x in "ab")
            tracer = tracer_of(lab, "--cgroup", word)
            said(a, b)
            got = seen_by(tracer)
            check(got == {a.pid}, f"{word}: saw {got}, not {a.pid}")


@case(timeout=120)
def filter_cgroup_nested(lab):
    """Filters that intersect leave the inner cgroup; what is excluded can lie in what is named."""
    with cgroups.tree(lab, "a/in", "a/out") as top:
        for options, handler, expected in (
                (["--cgroup", f"{top}/a"], f'{{cgroup = "{top}/a/in"}}', "i"),
                (["--cgroup", f"{top}/a/in"], f'{{cgroup = "{top}/a"}}', "i"),
                (["--cgroup", f"{top}/a"], f'{{exclude = {{cgroup = "{top}/a/in"}}}}', "o"),
                (["--cgroup", f"{top}/a/in"], f'{{cgroup = "{top}/a/out"}}', ""),
                (["--cgroup", f"{top}/a", "--comm", "flood-o"], "{}", "o")):
            pair = {n[0]: flood(lab, f"flood-{n[0]}", f"{top}/a/{n}") for n in ("in", "out")}
            tracer = tracer_of(lab, *options, handler=handler)
            said(*pair.values())
            got = seen_by(tracer)
            names = "".join(n for n, p in pair.items() if p.pid in got)
            check(names == expected and len(got) == len(expected),
                  f"{options} {handler}: saw {got}, {names or 'nobody'} of {pair}")


@case(timeout=120)
def filter_cgroup_later(lab):
    """Cgroups made after the start count: below the one that is named, and itself made anew."""
    with cgroups.tree(lab, "a", "b") as top:
        tracer = tracer_of(lab, "--cgroup", f"{top}/a", "--cgroup", f"{top}/late",
                           "--cgroup", "unit.service")
        check(tracer.process.err().count("waiting for it") == 2, tracer.process.err())
        pids = []
        for folder in ("a/child", "late", "b/unit.service/x", "b/other"):
            os.makedirs(f"{top}/{folder}")
            p = flood(lab, "flood", f"{top}/{folder}")
            said(p)
            pids.append(p.pid)
        # As a unit that is started again.
        cgroups.remove(f"{top}/a")
        os.makedirs(f"{top}/a/child")
        p = flood(lab, "flood", f"{top}/a/child")
        said(p)
        got = seen_by(tracer)
        check(got == {*pids[:3], p.pid}, f"saw {got}, not {pids[:3]} and {p.pid} ({pids[3]}: other)")


@case()
def filter_cgroup_moved(lab):
    """A process is filtered by the cgroup in which it is at the call."""
    with cgroups.tree(lab, "a", "b") as top:
        p, q = flood(lab, "flood", f"{top}/a"), flood(lab, "flood", f"{top}/b")
        tracer = tracer_of(lab, "--cgroup", f"{top}/a")
        for x, folder in ((p, "b"), (q, "a")):
            with open(f"{top}/{folder}/cgroup.procs", "w") as f:
                f.write(str(x.pid))
        said(p, q)
        got = seen_by(tracer)
        check(got == {q.pid}, f"saw {got}, not {q.pid} which came, {p.pid} went")


@case()
def filter_cgroup_replay(lab):
    with cgroups.tree(lab, "a/deep", "b") as top:
        a, b = flood(lab, "flood-a", f"{top}/a/deep"), flood(lab, "flood-b", f"{top}/b")
        own = os.stat(f"{top}/b").st_ino
        recording = lab.path("recording")
        tracer = tracer_of(lab, "-w", recording, "--comm", "flood-a", "--comm", "flood-b")
        said(a, b)
        check(seen_by(tracer) == {a.pid, b.pid}, "not both were recorded")
        name = os.path.basename(top)
        for word, expected in ((f"/{name}/a", a), (f"/sys/fs/cgroup/{name}/b", b), ("deep", a),
                               (str(own), b)):
            p = lab.run([TLSSCOPE, "-r", recording, "--cgroup", word, "-e",
                         "local n = {} on.tls_data(function(e) n[e.pid] = 1 end) "
                         "on.stop(function() for p in pairs(n) do print(p) end end)"])
            check(p.out() == b"%d\n" % expected.pid, f"{word}: {p.out()}, not {expected.pid}")


@case()
def filter_cgroup_refused(lab):
    """What the kernel cannot be asked for is said, not ignored."""
    with cgroups.contextlib.ExitStack() as done:
        folder = lab.path("named")
        os.mkdir(folder)
        made = subprocess.run(["mount", "-t", "cgroup", "-o", "none,name=tlsscope-test", "none",
                               folder], stderr=subprocess.PIPE)
        if made.returncode:
            raise cgroups.Skip("no named hierarchy can be mounted here: " + made.stderr.decode())
        done.callback(subprocess.run, ["umount", folder], check=True)
        p = lab.run([TLSSCOPE, "--cgroup", folder, "-e", "on.tls_data(print)"], status=1)
        check("no controller of this kernel" in p.err(), p.err())
