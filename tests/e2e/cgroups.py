# SPDX-License-Identifier: MIT
"""Cgroups of a case's own, v2 and v1, which end with it."""
import contextlib
import fcntl
import os
import signal
import subprocess
import time

from harness import Skip

PREFIX = "tlsscope-test-"
CONTROLLERS = ("memory", "pids", "freezer", "cpu")  # of v1: the first that is mounted, or can be


def mounts():
    """[(kind, folder, options)] of all hierarchies whose root is seen."""
    found = []
    with open("/proc/self/mountinfo") as f:
        for line in f:
            before, after = line.split(" - ", 1)
            kind, _, options = after.split()
            if kind in ("cgroup", "cgroup2") and before.split()[3] == "/":
                found.append((kind, before.split()[4], options.split(",")))
    return found


def enter(cgroup):
    """For Popen's preexec_fn: the program starts in this cgroup."""
    def move():
        with open(os.path.join(cgroup, "cgroup.procs"), "w") as f:
            f.write("0")
    return move


def processes(folder):
    found = []
    for path, _, _ in os.walk(folder):
        with contextlib.suppress(OSError), open(os.path.join(path, "cgroup.procs")) as f:
            found += [int(line) for line in f]
    return found


def remove(folder):
    """Ends who is in there, and takes the cgroups away."""
    for _ in range(200):
        for pid in processes(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        for path, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        if not os.path.exists(folder):
            return
        time.sleep(0.02)


def remove_left(root):
    """What a case left that was killed."""
    for name in os.listdir(root):
        if name.startswith(PREFIX) and not os.path.exists("/proc/" + name[len(PREFIX):]):
            remove(os.path.join(root, name))


def hierarchy(lab, version, done):
    """Where v2, or a controller of v1, is mounted; done: an ExitStack, for a mount of our own."""
    for kind, folder, options in mounts():
        if version == 2 and kind == "cgroup2":
            return folder
        if version == 1 and kind == "cgroup" and set(options) & set(CONTROLLERS):
            return folder
    folder = lab.path(f"cgroup-v{version}")
    os.mkdir(folder)
    words = [["-t", "cgroup2"]] if version == 2 else \
        [["-t", "cgroup", "-o", name] for name in CONTROLLERS]
    for how in words:
        p = subprocess.run(["mount", *how, "none", folder], stderr=subprocess.PIPE)
        if not p.returncode:
            done.callback(subprocess.run, ["umount", folder], check=True)
            return folder
    raise Skip(f"cgroup v{version} cannot be had here: {p.stderr.decode().strip()}")


@contextlib.contextmanager
def tree(lab, *names, version=2):
    """A cgroup with these below it. Yields its folder."""
    with contextlib.ExitStack() as done:
        root = hierarchy(lab, version, done)
        remove_left(root)
        folder = os.path.join(root, f"{PREFIX}{os.getpid()}")
        done.callback(remove, folder)
        try:
            for name in ("", *names):
                os.makedirs(os.path.join(folder, name), exist_ok=True)
            with open(os.path.join(folder, "cgroup.procs"), "w"):
                pass
        except OSError as e:
            raise Skip(f"no cgroup can be made in {root}: {e.strerror}")
        yield folder


@contextlib.contextmanager
def files(lab, **contents):
    """
    Files where a container runtime keeps them; what is made for them goes again. {path: text}. A
    case at a time: they share folders.
    """
    with open(f"{lab.base}/files.lock", "w") as lock, contextlib.ExitStack() as done:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path, text in contents.items():
            for end in [i for i, c in enumerate(path) if c == "/" and i]:
                if not os.path.exists(path[:end]):
                    os.mkdir(path[:end], 0o711)
                    done.callback(os.rmdir, path[:end])
            with open(path, "x") as f:
                f.write(text)
            done.callback(os.unlink, path)
        yield
