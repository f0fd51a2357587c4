# SPDX-License-Identifier: MIT
"""Containers, as the kernel knows them: a mount namespace, a root of their own, an overlay."""
import os
import re
import shutil
import subprocess
import time

import golang
import suites
from cases_pitfalls import attached, both_whole, own_library
from harness import Skip, both_sides, case, check, same, wait_for
from web import backend, http2_bodies, nginx

LOOPS = 30


def image(lab, suite="trixie"):
    """Folders that containers are made over: one of the test, and a Debian."""
    root = suites.unpacked(lab, suite)
    for folder in ("tmp", "lab"):
        os.makedirs(lab.path(f"image/{folder}"), exist_ok=True)
    shutil.copy(lab.cert, lab.path("image/lab/cert.pem"))
    return lab.path("image") + ":" + root


def mapped(p, name):
    """Device and inode of a file that a process has mapped, as its maps say."""
    with open(f"/proc/{p.pid}/maps") as f:
        found = {tuple(line.split()[3:5]) for line in f if name in line}
    check(len(found) == 1, f"{name} of {p.pid}: {found}")
    return found.pop()


def overlay_inodes_collide(lab, before):
    """before: both run before the tracer does."""
    lab.need_mount_namespace()
    _, copy = own_library(lab)
    place = lab.path("overlay")
    soname = re.sub(r"(libssl\.so\.[0-9.]*[0-9]).*", r"\1", os.path.basename(copy))
    enter = lab.write("enter", f"""#!/bin/sh
        mkdir -p {place} && cd {place} && mkdir one two both || exit 99
        for n in one two; do
            mount -t tmpfs none $n && mkdir $n/$n && cp {copy} $n/$n/{soname} && sleep 0.1 || exit 99
        done
        mount -t overlay overlay -o lowerdir=one:two both || exit 99
        echo ready; exec sleep 600
        """, 0o755)
    box = lab.spawn(["unshare", "-m", enter], ready=b"ready")
    inside = ["nsenter", "-m", "-t", str(box.pid), "env"]
    port, ops = str(lab.port()), lab.victim("ops")
    tracer = None if before else lab.tracer("--comm", "ops")
    common = ["127.0.0.1", port, lab.cert, lab.key]
    server = lab.spawn([*inside, f"LD_LIBRARY_PATH={place}/both/one", ops, "server", *common,
                        "i", "r:5000", "w:700"], ready=b"listening", stdin=subprocess.PIPE)
    client = lab.spawn([*inside, f"LD_LIBRARY_PATH={place}/both/two", ops, "client", *common,
                        "i", "w:5000", "r:700"], ready=b"waiting", stdin=subprocess.PIPE)
    places = {mapped(p, f"/both/{n}/{soname}") for n, p in (("one", server), ("two", client))}
    if len(places) == 2:
        raise Skip(f"this kernel tells them apart: {places}")
    tracer = tracer or lab.tracer("--comm", "ops")
    time.sleep(1)  # how soon a late file is probed is not asked here
    for p in (server, client):
        wait_for("handshake", lambda: b"waiting" in p.out())
        p.say()
    client.finish()
    server.finish()
    both_whole(tracer.stop(), client, server, 5000, 700)


@case(needs=["nsenter"])
def overlay_inodes_collide_before(lab):
    """Two files of an overlay, from two file systems, that maps show as one and the same."""
    overlay_inodes_collide(lab, True)


@case(needs=["nsenter"])
def overlay_inodes_collide_after(lab):
    """The same, when they come after the tracer."""
    overlay_inodes_collide(lab, False)


def container(lab, name, layers):
    """Words before a command that runs in a container over the layers."""
    lab.need_mount_namespace()
    place = lab.path(name)
    os.makedirs(place, exist_ok=True)
    enter = lab.write(name + ".sh", f"""#!/bin/sh
        mount -t tmpfs none {place} && cd {place} && mkdir upper work root &&
        mount -t overlay overlay -o lowerdir={layers},upperdir=upper,workdir=work root || exit 99
        exec chroot root "$@"
        """, 0o755)
    words = ["unshare", "-m", enter]
    p = lab.run([*words, "true"], status=None)
    if p.returncode == 99:
        raise Skip(f"no overlayfs here: {p.err().strip()}")
    return words


@case(needs=["nginx", "apt-get", "dpkg-deb"], timeout=400)
def container_later(lab):
    """The first commands of a container that starts late, gone in milliseconds: all are seen."""
    port, layers = lab.port(), image(lab)
    nginx(lab, port, backend())
    words = container(lab, "later", layers)
    tracer = lab.tracer("--comm", "curl")
    p = lab.run([*words, "sh", "-c", f"for i in $(seq {LOOPS}); do curl -sS4 --cacert lab/cert.pem "
                 f"https://localhost:{port}/echo/box-$i || exit 1; done"], timeout=60)
    flows = [f for f in tracer.stop().flows(comm=["curl"]) if b"/echo/box-" in f.received]
    check(p.out().count(b"box-") == LOOPS, "curl itself failed")
    bodies = sorted(b"".join(http2_bodies(f.received).values()) for f in flows)
    same("the answers", b"\n".join(bodies),
         b"\n".join(sorted(b"/echo/box-%d" % i for i in range(1, LOOPS + 1))))


@case(needs=["nginx", "apt-get", "dpkg-deb"], timeout=400)
def short_lived_in_containers(lab):
    """Containers of two Debians, whose curls live for milliseconds, all at once, beside our own."""
    port = lab.port()
    nginx(lab, port, backend())
    places = {"old": container(lab, "old", image(lab, "bullseye")),
              "new": container(lab, "new", image(lab)), "own": ["env"]}
    tracer = lab.tracer("--comm", "curl")
    # What makes containers is not as quick as this: the kernel needs 20 ms for probes in new files.
    loops = [lab.spawn([*words, "sh", "-c", f"sleep 0.1; for i in $(seq {LOOPS}); do curl -sSk "
                        f"https://127.0.0.1:{port}/echo/{port}-{name}-$i || exit 1; done"])
             for name, words in places.items()]
    for p in loops:
        p.finish(timeout=100)
    mine = b"/echo/%d-" % port  # other cases have curls too
    flows = [f for f in tracer.stop().flows(comm=["curl"]) if mine in f.received]
    bodies = sorted(b"".join(http2_bodies(f.received).values()) for f in flows)
    same("the answers", b"\n".join(bodies),
         b"\n".join(sorted(b"%s%s-%d" % (mine, name.encode(), i) for name in places
                           for i in range(1, LOOPS + 1))))


@case(needs=["nginx", "apt-get", "dpkg-deb"], timeout=400)
def containers_of_one_image(lab):
    """One libssl and one Go program at the bottom of two containers: no event comes twice."""
    port, layers = lab.port(), image(lab)
    shutil.copy(golang.talk(lab, "1.24", "stripped_pie"), lab.path("image/lab/talk"))
    nginx(lab, port, backend())
    boxes = [container(lab, name, layers) for name in ("one", "two")]
    talks = [lab.spawn([*box, "/lab/talk", "-wait", "park"], ready=b"waiting",
                       stdin=subprocess.PIPE) for box in boxes]
    tracer = lab.tracer("--comm", "talk", "--comm", "curl", "--comm", "nginx")
    wait_for("attachment to talk", lambda: attached(tracer, "talk"))
    for p in talks:
        p.say()
        p.finish()
    curls = [lab.run([*box, "curl", "-sS4", "--http1.1", "--cacert", "lab/cert.pem",
                      f"https://localhost:{port}/page"]) for box in boxes]
    check(attached(tracer, "talk") == 1, "attached to both faces of one file")
    seen = tracer.stop()
    for p in talks:
        golang.check_all(seen, p)
    theirs = seen.flows(comm=["nginx"], having=b"localhost:%d" % port)
    both_sides(seen.flows(pids=[p.pid for p in curls]), theirs, 2)
