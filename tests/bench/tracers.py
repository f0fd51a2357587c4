# SPDX-License-Identifier: MIT
"""The traced load, and all that traces it: tlsscope, the bench's own programs, and peers."""
import ctypes
import glob
import os
import platform
import re
import shutil
import signal
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
RING = 4 << 20  # bytes, where memory is compared


class Skip(Exception):
    """What cannot be measured here, and why."""


def die_with_parent():
    """For a new process, which besides is to hear Ctrl-C also where we do not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def wait_until(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not after {seconds} s")
        time.sleep(0.005)


def text_of(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def cpu_ns(pid):
    """The CPU time of a process' threads, of those that are there."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            total += int(text_of(path).split()[0])
        except (OSError, IndexError):
            pass
    return total


def rss_mb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", text_of(f"/proc/{pid}/status"))[1]) / 1024


class Lab:
    """What all measurements share: a folder, a certificate, the library's copy, the built programs."""

    def __init__(self, build, folder):
        self.build, self.dir = os.path.abspath(build), folder
        self.tlsscope = os.path.join(self.build, "tlsscope")
        self.load_program = os.path.join(self.build, "bench", "load")
        self.bare_program = os.path.join(self.build, "bench", "bare")
        self.bare_object = os.path.join(self.build, "bench", "bare.bpf.o")
        self.count = 0
        self.headers = None
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                        "/CN=localhost", "-keyout", self.path("key.pem"), "-out", self.path("cert.pem")],
                       check=True, stderr=subprocess.DEVNULL)
        self.copy_libraries()

    def path(self, name):
        return os.path.join(self.dir, name)

    def copy_libraries(self):
        """Files of our own: nobody else's probes are in them, nor ours in anybody else."""
        os.mkdir(self.path("lib"))
        said = subprocess.run(["ldd", self.load_program], capture_output=True, text=True, check=True)
        for name, path in re.findall(r"(lib(?:ssl|crypto)\.so\S*) => (\S+)", said.stdout):
            shutil.copy(path, self.path(f"lib/{name}"))
            if name.startswith("libssl"):
                self.libssl = self.path(f"lib/{name}")

    def file(self, suffix):
        self.count += 1
        return self.path(f"{self.count}.{suffix}")

    def load(self):
        return Load(self)


class Load:
    """A process of tests/bench/load.c."""

    def __init__(self, lab):
        env = dict(os.environ, LD_LIBRARY_PATH=lab.path("lib"))
        self.process = subprocess.Popen(
            [lab.load_program, lab.path("cert.pem"), lab.path("key.pem")], env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        self.pid = self.process.pid
        self.answer()
        self.bare = min(self.ask("pair 64 5")[0] for _ in range(5))

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended")
        return line.split()

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def ask(self, command):
        """The answer's numbers."""
        self.say(command)
        return [float(w) for w in self.answer()]

    def close(self):
        self.process.kill()
        self.process.wait()


class Tracer:
    """Something that traces a process: started, ready, stopped; and what it cost and said."""
    name = "?"
    stop_signal = signal.SIGINT
    lost_text = None  # how a peer tells of the events that it missed, as they come
    ready_text = None  # in what it writes; else it is ready when the load is slowed down

    def __init__(self, lab, argv, env=None, output=True):
        self.lab, self.out, self.err = lab, lab.file("out"), lab.file("err")
        self.cpu = self.rss = self.events = None
        with open(self.out, "wb") as out, open(self.err, "wb") as err, open(os.devnull, "wb") as null:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out if output else null, stderr=err,
                                            env=dict(os.environ, **(env or {})), preexec_fn=die_with_parent)
        self.pid = self.process.pid

    def said(self):
        return text_of(self.err) + text_of(self.out)

    def alive(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {self.said()[-400:]}")
        return True

    def wait_ready(self, load):
        if self.ready_text:
            wait_until(self.name, lambda: self.alive() and self.ready_text in self.said())
            return
        wait_until(self.name, lambda: self.alive() and self.slows(load))
        # It goes from probe to probe.
        before = 0
        while before != (before := self.perf_events()):
            time.sleep(0.2)

    def perf_events(self):
        found = 0
        for fd in glob.glob(f"/proc/{self.pid}/fd/*"):
            try:
                found += "perf_event" in os.readlink(fd)
            except OSError:  # closed meanwhile
                pass
        return found

    def slows(self, load):
        """Whether calls take as long as with probes, and probes are there to tell why."""
        return self.perf_events() > 3 and min(load.ask("pair 64 2")[0] for _ in range(3)) > 2 * load.bare

    def begin(self):
        self.events = -self.count()
        self.cpu = -cpu_ns(self.pid)

    def settle(self, calls):
        """
        Waits until what was captured of so many calls is dealt with; then `cpu`, `rss` and `events` (those
        that arrived) are theirs.
        """
        last = cpu_ns(self.pid)
        for _ in range(100):
            time.sleep(0.05)
            now = cpu_ns(self.pid)
            if now - last < 5e6:
                break
            last = now
        self.cpu += cpu_ns(self.pid)
        self.rss = rss_mb(self.pid)
        self.events += self.count() + (calls if self.lost_text else 0)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def count(self):
        """
        How many events arrived so far: ours say so when asked. Peers only tell what they lost: for them a
        number below 0.
        """
        if self.lost_text:
            return -sum(int(n) for n in re.findall(self.lost_text, self.said()))
        asked = self.said().count("seen ")
        self.process.send_signal(signal.SIGUSR1)
        wait_until(f"{self.name}: count", lambda: self.alive() and self.said().count("seen ") > asked)
        time.sleep(0.005)  # for the rest of the line
        return int(re.findall(r"seen\s+(\d+)", self.said())[-1])


class Tlsscope(Tracer):
    name, ready_text = "tlsscope", "attached by"

    def __init__(self, lab, pid, script, *options, recipe=None, output=True):
        argv, env = self.command(lab, pid, script, "-v", *options, recipe=recipe)
        super().__init__(lab, argv, env, output)

    @staticmethod
    def command(lab, pid, script, *options, recipe=None):
        """pid None: everybody. (argv, environment)"""
        only = ["-p", str(pid)] if pid else []
        return [lab.tlsscope, *only, *options, *([recipe] if recipe else ["-e", script])], {}

    def stop(self):
        super().stop()
        if self.process.returncode:
            raise RuntimeError(f"tlsscope: exit status {self.process.returncode}: {self.said()[-400:]}")


class Bare(Tracer):
    """Programs of bare.bpf.c. enter, leave: which of them sit before and after each call."""
    name, ready_text = "bare", "ready\n"

    def __init__(self, lab, pid, enter, leave="-", size=1024):
        super().__init__(lab, [lab.bare_program, lab.bare_object, lab.load_program, str(pid), enter, leave,
                               str(size), str(RING)])


class Bpftrace(Tracer):
    name, lost_text = "bpftrace", r"Lost (\d+) events"

    def __init__(self, lab, pid, script, output=True):
        argv, env = self.command(lab, pid, script)
        super().__init__(lab, argv, env, output)

    @staticmethod
    def command(lab, pid, script):
        if not shutil.which("bpftrace"):
            raise Skip("bpftrace is not installed")
        return ["bpftrace", "-B", "line", "-p", str(pid), "-e", script.replace("LIB", lab.libssl)], \
            {"BPFTRACE_STRLEN": "64"}


class Sslsniff(Tracer):
    name, lost_text = "sslsniff", r"lost (\d+) samples"
    stop_signal = signal.SIGTERM  # it seldom hears Ctrl-C

    def __init__(self, lab, pid, output=True):
        argv, env = self.command(lab, pid)
        super().__init__(lab, argv, env, output)

    @staticmethod
    def command(lab, pid):
        program = shutil.which("sslsniff-bpfcc") or shutil.which("sslsniff")
        if not program:
            raise Skip("sslsniff (bpfcc-tools) is not installed")
        env = {"PYTHONUNBUFFERED": "1"}
        if headers_for_bcc(lab):
            env["BCC_KERNEL_SOURCE"] = lab.headers
        return [program, "-p", str(pid), "-o", "-g", "-n", "--extra-lib", f"openssl:{lab.libssl}"], env


def bpftrace_version():
    said = subprocess.run(["bpftrace", "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(n) for n in re.findall(r"\d+", said)[:2])


def headers_for_bcc(lab):
    """
    bcc compiles with the kernel's headers. Where those of the running kernel cannot be had, another
    one's do: a tree of links to the newest that are installed. None: bcc finds them itself.
    """
    if lab.headers or os.path.exists("/sys/kernel/kheaders.tar.xz") or \
            os.path.exists(f"/lib/modules/{platform.release()}/build"):
        return lab.headers
    found = sorted(glob.glob("/lib/modules/*/build"), key=os.path.getmtime)
    if not found:
        raise Skip("sslsniff: no kernel headers are installed")
    tree = lab.path("headers")
    arch = {"x86_64": "x86", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    for part in ("include", f"arch/{arch}/include"):
        os.makedirs(os.path.dirname(f"{tree}/{part}"), exist_ok=True)
        for of in ("source", "build"):
            path = os.path.realpath(f"{os.path.dirname(found[-1])}/{of}/{part}")
            if os.path.isdir(path):
                subprocess.run(["cp", "-rs", path, os.path.dirname(f"{tree}/{part}")], check=True)
    # Newer ones have a min() that refuses what sslsniff compares.
    path = f"{tree}/include/linux/minmax.h"
    if os.path.exists(path):
        text = text_of(path)
        os.unlink(path)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text + "\n#undef min\n#define min(x, y) ((x) < (y) ? (x) : (y))\n")
    lab.headers = tree
    return tree
