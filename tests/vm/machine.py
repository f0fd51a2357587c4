# SPDX-License-Identifier: MIT
"""A virtual machine that runs one command over this machine's files, on another kernel."""
import collections
import ctypes
import lzma
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time

import kernels
import suites
from harness import ROOT, Skip

HERE = os.path.dirname(os.path.abspath(__file__))
BUSYBOX = "/bin/busybox"
# What the guest needs before it sees this machine's files.
MODULES = ["virtio_pci", "9pnet_virtio", "9p", "overlay"]
MEGABYTES = 1024

# By Debian's name of the architecture; packages is for the sentence when it is missing.
Emulator = collections.namedtuple("Emulator", "program packages machine console")
EMULATORS = {
    # Its string instructions go byte by byte: without these two, everybody uses others.
    "amd64": Emulator("qemu-system-x86_64", "qemu-system-x86", ["-cpu", "max,-erms,-fsrm"], "ttyS0"),
}
# With a second processor, an early panic in one of forty boots: a race of text patching under TCG.
ALWAYS = ["-accel", "tcg,tb-size=256", "-smp", "1", "-m", str(MEGABYTES), "-display", "none", "-monitor", "none",
          "-nic", "none", "-no-reboot"]
# A kretprobe of 5.10 serves as many waiting threads as there may be processors: as on a usual server.
KERNEL = "panic=-1 loglevel=5 mitigations=off no5lvl cryptomgr.notests possible_cpus=16"


# console: what the kernel wrote there. processor: seconds that the emulator used.
Result = collections.namedtuple("Result", "status console processor")


class Dead(Exception):
    """The guest ended without a word of how the command did."""


class Late(Exception):
    """The command took longer than it may."""


def emulator():
    arch = suites.architecture()
    if arch not in EMULATORS:
        raise Skip(f"no kernels are booted on {arch} yet, only on {', '.join(EMULATORS)}")
    return EMULATORS[arch]


def need_programs():
    """What is to be installed beforehand, or Skip with what is missing."""
    e = emulator()
    for program, package in ((e.program, e.packages), ("modprobe", "kmod"), ("cpio", "cpio"),
                             ("busybox", "busybox-static")):
        if not shutil.which(program, path=kernels.TOOLS):
            raise Skip(f"{program} is not installed (Debian: {package})")
    if not suites.run("ldd", BUSYBOX)[0]:
        raise Skip(f"{BUSYBOX} is not static (Debian: busybox-static)")


def initramfs(kernel, out):
    """Our init, busybox, and the modules that lead to this machine's files."""
    with tempfile.TemporaryDirectory() as tree:
        for name in ("bin", "modules", "proc", "sys", "dev", "lower", "rw", "root"):
            os.mkdir(f"{tree}/{name}")
        shutil.copy(f"{HERE}/init", tree)
        shutil.copy(BUSYBOX, f"{tree}/bin/busybox")
        os.symlink("busybox", f"{tree}/bin/sh")
        with open(f"{tree}/modules/order", "w") as order:
            for path in modules(kernel):
                name = os.path.basename(path).removesuffix(".xz")
                with (lzma.open if path.endswith(".xz") else open)(path, "rb") as f, \
                        open(f"{tree}/modules/{name}", "wb") as copy:
                    shutil.copyfileobj(f, copy)
                order.write(name + "\n")
        subprocess.run(["sh", "-c", 'find . | cpio --quiet -o -H newc -R 0:0 >"$0"', out], cwd=tree,
                       check=True)


def modules(kernel):
    found = []
    for name in MODULES:
        status, out = suites.run(
            "modprobe", "-d", kernels.above(kernel.modules), "-S", kernel.version,
            "--show-depends", name, env={"PATH": kernels.TOOLS})
        if status:
            raise Skip(f"Linux {kernel.version} has no module {name}: {out.strip()}")
        for line in out.splitlines():
            word, _, path = line.strip().partition(" ")
            if word == "insmod" and path not in found:
                found.append(path)
    return found


def share(tag, path, options):
    path = path.replace(",", ",,")
    return ["-fsdev", f"local,id={tag},path={path},security_model=none{options}",
            "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def die_with_us():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


class Guest:
    """One boot; folder is shared with it, and has all that is said and left."""

    def __init__(self, kernel, folder):
        self.folder = folder
        e = emulator()
        initramfs(kernel, f"{folder}/initramfs")
        self.process = subprocess.Popen(
            [e.program, *ALWAYS, *e.machine, "-serial", "file:" + f"{folder}/console",
             "-kernel", kernel.image, "-initrd", f"{folder}/initramfs",
             "-append", f"console={e.console} {KERNEL}",
             *share("root", "/", ",readonly=on,multidevs=remap"),
             *share("modules", kernel.modules, ",readonly=on"), *share("out", folder, "")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=open(f"{folder}/emulator", "wb"), preexec_fn=die_with_us)
        self.at = {"stdout": 0, "stderr": 0}

    def read(self, name, start=0):
        try:
            with open(f"{self.folder}/{name}", "rb") as f:
                f.seek(start)
                return f.read()
        except FileNotFoundError:
            return b""

    def more(self, name):
        """What has been written since the last time."""
        data = self.read(name, self.at[name])
        self.at[name] += len(data)
        return data

    def begun(self):
        return os.path.exists(f"{self.folder}/begun")

    def status(self):
        word = self.read("status")
        return int(word) if word else None

    def processor(self):
        with open(f"/proc/{self.process.pid}/stat", "rb") as f:
            fields = f.read().rsplit(b")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        self.process.kill()
        self.process.wait()

    def last_words(self):
        said = self.read("emulator") + self.read("console")
        return said.decode(errors="replace").replace("\r", "").strip()[-2000:]


def command_file(folder, argv, env):
    """What the guest runs: in the project's tree, with an environment that is the same everywhere."""
    own = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME":
           os.environ.get("HOME") or "/root", "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    own.update(env)
    words = ["env", "-i", *(f"{k}={v}" for k, v in own.items()), *argv]
    with open(f"{folder}/command", "w") as f:
        f.write(f"cd {shlex.quote(ROOT)} || exit 126\nexec {shlex.join(words)}\n")
    shutil.copy(f"{HERE}/guest", folder)


def watch(guest, limit, said):
    """Hands on what the command says until it has ended; its status."""
    end = time.monotonic() + limit
    while True:
        status = guest.status()
        gone = status is None and guest.process.poll() is not None
        for name in guest.at:
            data = guest.more(name)
            if data:
                said(name, data)
        if status is not None:
            return status
        if gone:
            raise Dead(f"the guest ended without a status: {guest.last_words()}")
        if time.monotonic() > end:
            raise Late(f"not done after {limit} s")
        time.sleep(0.05)


def run(kernel, argv, env, limit, said):
    """
    Boots a kernel and runs a command; said(name, data) gets its "stdout" and "stderr" as they come.
    Raises Dead or Late. What did not even come up is tried once more; what died later is not: the
    command may have killed it.
    """
    for last in (False, True):
        with tempfile.TemporaryDirectory(prefix="tlsscope-vm-") as folder:
            command_file(folder, argv, env)
            guest = Guest(kernel, folder)
            try:
                status = watch(guest, limit, said)
                return Result(status, guest.read("console").decode(errors="replace"), guest.processor())
            except Dead:
                if last or guest.begun():
                    raise
            finally:
                guest.end()
