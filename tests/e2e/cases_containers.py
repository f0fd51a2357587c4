# SPDX-License-Identifier: MIT
"""Cgroups and containers: who is filtered by them, and what is told of them."""
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess

import cgroups
import suites
from cases_discovery import image
from cases_filters import SEEN, each_place
from harness import PYTHON, TLSSCOPE, Skip, case, check, wait_for


def flood(lab, name, cgroup, rounds=5):
    """A program that waits for a line, in a cgroup. rounds 0: until it is ended."""
    path = lab.path(name)
    if not os.path.exists(path):
        shutil.copy(lab.victim("flood"), path)
    return lab.spawn([path, lab.cert, lab.key, str(rounds), "100"], ready=b"waiting",
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
        where = {"a": os.path.join(top, "a/deep/er"), "b": os.path.join(top, "b/deep")}

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
    with contextlib.ExitStack() as done:
        folder = lab.path("named")
        os.mkdir(folder)
        made = subprocess.run(["mount", "-t", "cgroup", "-o", "none,name=tlsscope-test", "none",
                               folder], stderr=subprocess.PIPE)
        if made.returncode:
            raise Skip("no named hierarchy can be mounted here: " + made.stderr.decode())
        done.callback(subprocess.run, ["umount", folder], check=True)
        p = lab.run([TLSSCOPE, "--cgroup", folder, "-e", "on.tls_data(print)"], status=1)
        check("no controller of this kernel" in p.err(), p.err())


# --- containers

BOXES = """
local function show(e)
    local c = e.proc and e.proc.container or {}
    emit{type = "seen", pid = e.pid, comm = e.comm, container = e.container, id = c.id, name = c.name,
        runtime = c.runtime, pod = c.pod, namespace = c.namespace, pod_uid = c.pod_uid}
end
on.tls_data({capture = 0}, show)
on.start(function() emit{type = "ready"} end)
"""
UID = "5f9e2a7c-1d34-4b6a-8f00-0123456789ab"


def new_id():
    return f"{random.getrandbits(256):064x}"


def docker(name):
    """(the cgroup, the files, what is to be told) of a container."""
    i = new_id()
    return (f"docker/{i}", {f"/var/lib/docker/containers/{i}/config.v2.json":
                            json.dumps({"State": {"Pid": 1}, "Name": "/" + name})},
            {"container": name, "id": i, "name": name, "runtime": "docker"})


def kubernetes(name):
    i, pod = new_id(), name + "-0"
    notes = {"io.kubernetes.cri.container-name": name, "io.kubernetes.cri.sandbox-name": pod,
             "io.kubernetes.cri.sandbox-namespace": "shop"}
    return (f"kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-{i}.scope",
            {f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{i}/config.json":
             json.dumps({"ociVersion": "1.1.0", "annotations": notes})},
            {"container": name, "id": i, "name": name, "runtime": "containerd", "pod": pod,
             "namespace": "shop", "pod_uid": UID})


def nameless(_):
    i = new_id()
    return (f"machine.slice/libpod-{i}.scope/container", {},
            {"container": i[:12], "id": i, "runtime": "podman"})


def told(records, pid):
    """What the events of a process say of its container."""
    said = {json.dumps({k: v for k, v in r.items() if k not in ("type", "pid", "comm")})
            for r in records if r["type"] == "seen" and r["pid"] == pid}
    check(len(said) == 1, f"process {pid}: {len(said)} containers: {said}")
    return json.loads(said.pop())


@case(timeout=120)
def containers_are_told(lab):
    """In the cgroups and with the files of several runtimes; in a replay the same."""
    boxes = [docker("web"), kubernetes("api"), nameless(None)]
    with cgroups.tree(lab, "none", *(b[0] for b in boxes)) as top, \
            cgroups.files(lab, **{k: v for b in boxes for k, v in b[1].items()}):
        programs = [flood(lab, f"flood-{n}", f"{top}/{b[0]}") for n, b in enumerate(boxes)]
        outside = flood(lab, "flood-none", f"{top}/none")
        recording = lab.path("recording")
        tracer = lab.tracer("-w", recording, script=BOXES)
        said(*programs, outside)
        records = tracer.stop().records
        for p, b in zip(programs, boxes):
            got = told(records, p.pid)
            check(got == b[2], f"{got}, not {b[2]}")
        check(told(records, outside.pid) == {}, "in a container?")
    # The cgroups and the files are gone.
    script = lab.write("again.lua", BOXES)
    p = lab.run([TLSSCOPE, "-f", "json", "-r", recording, script])
    again = [json.loads(line) for line in p.out().splitlines()]
    for p, b in zip(programs, boxes):
        check(told(again, p.pid) == b[2], f"replay: {told(again, p.pid)}, not {b[2]}")


@case(timeout=120)
def containers_are_told_v1(lab):
    box = docker("old")
    with cgroups.tree(lab, box[0], version=1) as top, cgroups.files(lab, **box[1]):
        p = flood(lab, "flood", f"{top}/{box[0]}", rounds=0)
        tracer = lab.tracer("-p", str(p.pid), script=BOXES)
        p.say()
        tracer.wait_until("event", b'"seen"')
        p.stop()
        tracer.process.wait(20)
        got = told(tracer.stop().records, p.pid)
        check(got == box[2], f"{got}, not {box[2]}")


EVENTS = ["exec", "exit", "tls_hello", "tls_open", "tls_error", "tls_close", "tls_data", "http",
          "http_request", "http_response"]
SHOW = """
local function show(name)
    return function(e)
        emit{type = name, pid = e.pid, comm = e.comm, container = e.container}
    end
end
for name in ("%s"):gmatch("%%S+") do
    on(name, show(name))
end
on.start(function() emit{type = "ready"} end)
"""
CALLS = """
import http.client, socket, ssl, sys
c = ssl._create_unverified_context()
h = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[1]), context=c)
h.request("GET", "/")
h.getresponse().read()
h.close()
a, b = socket.socketpair()
b.send(b"no TLS at all\\n")
try:
    c.wrap_socket(a)
except OSError:
    pass
"""
GONE = """
import os, socket, ssl, sys
s = ssl._create_unverified_context().wrap_socket(
    socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
s.send(b"x")
os._exit(0)
"""


def told_by(records, pid):
    """Which events a process has, and what they say of its container."""
    mine = [r for r in records if r.get("pid") == pid]
    return {r["type"] for r in mine}, {r.get("container") for r in mine}


@case(needs=["openssl"], timeout=120)
def container_of_every_event(lab):
    """Every event with a process has its container; short programs too, and in a replay."""
    box, port = docker("web"), lab.port()
    lab.spawn(["openssl", "s_server", "-accept", str(port), "-cert", lab.cert, "-key", lab.key,
               "-www", "-quiet"], port=port)
    code, script = lab.write("calls.py", CALLS), SHOW % " ".join(EVENTS)
    with cgroups.tree(lab, "none", box[0]) as top, cgroups.files(lab, **box[1]):
        recording = lab.path("recording")
        tracers = [lab.tracer("-w", recording, script=script), lab.tracer(script=script)]
        inside, outside = (lab.run([PYTHON, code, str(port)], preexec_fn=cgroups.enter(where))
                           for where in (f"{top}/{box[0]}", f"{top}/none"))
        for t in tracers:
            wait_for("its end", lambda: "exit" in told_by(t.records(), outside.pid)[0])
        records = [t.stop().records for t in tracers]
    p = lab.run([TLSSCOPE, "-f", "json", "-r", recording, lab.write("again.lua", script)])
    records.append([json.loads(line) for line in p.out().splitlines()])
    for seen in records:
        for p, container in ((inside, "web"), (outside, None)):
            events, containers = told_by(seen, p.pid)
            check(events == set(EVENTS), f"no {set(EVENTS) - events}")
            check(containers == {container}, f"{containers}: " + str(
                [r for r in seen if r.get("pid") == p.pid and r.get("container") != container][:3]))


@case(needs=["openssl"])
def container_of_what_is_gone(lab):
    """The connection ends with its process: when that is told, only its cgroup can be asked."""
    box, port = docker("web"), lab.port()
    lab.spawn(["openssl", "s_server", "-accept", str(port), "-cert", lab.cert, "-key", lab.key,
               "-quiet"], port=port)
    with cgroups.tree(lab, box[0]) as top, cgroups.files(lab, **box[1]):
        tracer = lab.tracer("--cgroup", top, script=SHOW % "tls_close")
        os.kill(tracer.process.pid, signal.SIGSTOP)
        p = lab.run([PYTHON, lab.write("gone.py", GONE), str(port)],
                    preexec_fn=cgroups.enter(f"{top}/{box[0]}"))
        os.kill(tracer.process.pid, signal.SIGCONT)
        wait_for("its end", lambda: told_by(tracer.records(), p.pid)[0])
        got = told_by(tracer.stop().records, p.pid)
        check(got == ({"tls_close"}, {"web"}), str(got))


def start_box(lab, name, cgroup, command):
    """A command in namespaces of its own (mount, pid, net, uts, ipc, cgroup) and Debian 13's files."""
    lab.need_mount_namespace()
    layers, place = image(lab), lab.path(name)
    os.makedirs(place, exist_ok=True)
    shutil.copy(lab.key, lab.path("image/lab/key.pem"))
    enter = lab.write(name + ".sh", f"""#!/bin/sh
        mount -t tmpfs none {place} && cd {place} && mkdir upper work root &&
        mount -t overlay overlay -o lowerdir={layers},upperdir=upper,workdir=work root &&
        mkdir -p root/proc && mount -t proc proc root/proc && ip link set lo up || exit 99
        exec chroot root sh -c "$@"
        """, 0o755)
    return lab.spawn(["unshare", "-mpnuiC", "--fork", "--kill-child", enter, command],
                     preexec_fn=cgroups.enter(cgroup))


# Who comes first may be over before his library is found, on a busy machine.
SERVE_AND_ASK = """
    openssl s_server -accept 4433 -cert lab/cert.pem -key lab/key.pem -www -quiet &
    until curl -sk https://localhost:4433/ -o /dev/null; do sleep 0.1; done
    for n in 1 2 3; do sleep 0.5; curl -sk https://localhost:4433/ -o /dev/null; done; kill $!
"""


@case(needs=["ip", "apt-get", "dpkg-deb"], timeout=400)
def container_with_all_namespaces(lab):
    """Containers that start late, with pids, a network and files of their own: one is wanted."""
    box, other = docker("shop"), kubernetes("other")
    suites.unpacked(lab, "trixie")
    with cgroups.tree(lab) as top, cgroups.files(lab, **box[1], **other[1]):
        tracer = lab.tracer("--container", "shop", script=BOXES)
        check("container 'shop' is not there" in tracer.process.err(), tracer.process.err())
        programs = []
        for b in (box, other):
            os.makedirs(f"{top}/{b[0]}")
            programs.append(start_box(lab, b[2]["name"], f"{top}/{b[0]}", SERVE_AND_ASK))
        for p in programs:
            p.finish(timeout=60, status=None)
        records = [r for r in tracer.stop().records if r["type"] == "seen"]
        check({r["comm"] for r in records} == {"curl", "openssl"}, f"saw {records}: {p.err()}")
        for pid in {r["pid"] for r in records}:
            check(told(records, pid) == box[2], f"{told(records, pid)}, not {box[2]}")
        check(len({r["pid"] for r in records if r["comm"] == "curl"}) >= 2, "one curl at most")


def filter_containers(lab, version, word):
    boxes = {"a": docker("web"), "b": docker("api")}
    with cgroups.tree(lab, *(b[0] + "/deep" for b in boxes.values()), version=version) as top, \
            cgroups.files(lab, **{k: v for b in boxes.values() for k, v in b[1].items()}):
        each_place(lab, "container", lambda p: f'"{word(boxes[p.args[0][-1]][2])}"',
                   '"nobody-else"', **{name: {"preexec_fn": cgroups.enter(f"{top}/{b[0]}/deep")}
                                       for name, b in boxes.items()})


@case(timeout=150)
def filter_container(lab):
    filter_containers(lab, 2, lambda told: told["name"])


@case(timeout=150)
def filter_container_v1(lab):
    filter_containers(lab, 1, lambda told: told["id"][:12])


@case(timeout=150)
def filter_container_pod(lab):
    """With a cgroup: both. A pod's name or UID stands for its containers. A name that comes late."""
    boxes = [kubernetes("web"), kubernetes("api")]
    files = {k: v for b in boxes for k, v in b[1].items()}
    with cgroups.tree(lab, *(b[0] for b in boxes)) as top, cgroups.files(lab, **files):
        for options, expected in ((["--container", "web-0"], "w"), (["--container", UID], "wa"),
                                  (["--container", "web", "--container", "api"], "wa"),
                                  (["--container", UID, "--cgroup", f"{top}/{boxes[1][0]}"], "a")):
            web, api = (flood(lab, b[2]["name"], f"{top}/{b[0]}") for b in boxes)
            tracer = tracer_of(lab, *options)
            said(web, api)
            got = seen_by(tracer)
            want = {p.pid for p, n in ((web, "w"), (api, "a")) if n in expected}
            check(got == want, f"{options}: saw {got}, not {want} of {web.pid}, {api.pid}")
    box = docker("late")
    with cgroups.tree(lab, box[0]) as top:
        tracer = tracer_of(lab, "--container", "late")
        early = flood(lab, "early", f"{top}/{box[0]}")
        with cgroups.files(lab, **box[1]):
            late = flood(lab, "late", f"{top}/{box[0]}")
            said(early, late)
        got = seen_by(tracer)
        check(got == {early.pid, late.pid}, f"saw {got}")


@case()
def filter_container_replay(lab):
    boxes = [docker("web"), docker("api")]
    recording = lab.path("recording")
    with cgroups.tree(lab, *(b[0] for b in boxes)) as top, \
            cgroups.files(lab, **{k: v for b in boxes for k, v in b[1].items()}):
        programs = [flood(lab, b[2]["name"], f"{top}/{b[0]}") for b in boxes]
        tracer = tracer_of(lab, "-w", recording, "--cgroup", top)
        said(*programs)
        check(seen_by(tracer) == {p.pid for p in programs}, "not both were recorded")
    for word in ("web", boxes[0][2]["id"][:6]):
        p = lab.run([TLSSCOPE, "-r", recording, "--container", word, "-e",
                     'count("pids", {from = "tls_data", by = {"pid", "container"}})'])
        check(re.findall(rb"(\d+) +web +10", p.out()) == [b"%d" % programs[0].pid] and
              b"api" not in p.out(), f"{word}: {p.out()}")


@case(timeout=120)
def containers_recipe(lab):
    boxes = [docker("web"), nameless(None)]
    with cgroups.tree(lab, *(b[0] for b in boxes)) as top, cgroups.files(lab, **boxes[0][1]):
        programs = [flood(lab, f"flood-{n}", f"{top}/{b[0]}") for n, b in enumerate(boxes)]
        tracer = lab.spawn([TLSSCOPE, "--cgroup", top, "-v", "containers"])
        wait_for("tracer", lambda: "attached by" in tracer.err())
        said(*programs)
        tracer.stop(2)
        rows = [line.split() for line in tracer.out().decode().splitlines()]
        rows = {row[0]: row[1:] for row in rows}
        bytes_ = ["500", "5", "500", "5"]
        for n, b in enumerate(boxes):
            row = rows.get(b[2]["container"], [])
            check(row[1:2] == [f"flood-{n}"] and row[3:] == bytes_, f"{rows}")
