# SPDX-License-Identifier: MIT
"""Containers, as the kernel knows them: a mount namespace, a root of their own, an overlay."""
import os
import shutil
import subprocess

import golang
import suites
from cases_pitfalls import attached
from harness import Skip, both_sides, case, check, same, wait_for
from web import backend, http2_bodies, nginx

LOOPS = 30


def image(lab):
    """Folders that containers are made over: one of the test, and Debian 13."""
    root = suites.unpacked(lab, "trixie")
    for folder in ("tmp", "lab"):
        os.makedirs(lab.path(f"image/{folder}"), exist_ok=True)
    shutil.copy(lab.cert, lab.path("image/lab/cert.pem"))
    return lab.path("image") + ":" + root


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
