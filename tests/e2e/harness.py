# SPDX-License-Identifier: MIT
"""What all cases share: processes that end with the case, the tracer, and what it saw."""
import collections
import ctypes
import fcntl
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TLSSCOPE = os.path.abspath(os.environ.get("TLSSCOPE") or os.path.join(ROOT, "build", "tlsscope"))
TAP = os.path.join(HERE, "tap.lua")
PYTHON = "/usr/bin/python3"  # the distribution's, whose ssl module is the system's libssl
NOBODY = pwd.getpwnam("nobody")
SLOW = float(os.environ.get("TLSSCOPE_SLOW") or 1)  # what every time limit is multiplied by
PORTS = range(10000, 32000)  # below those that the kernel gives to clients
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Case = collections.namedtuple("Case", "name func needs timeout")
CASES = []


class Skip(Exception):
    pass


class Fail(Exception):
    pass


def case(needs=(), timeout=60):
    """Declares a case: a function of one Lab. needs: programs without which it is skipped."""
    def add(func):
        CASES.append(Case(func.__name__, func, needs, timeout))
        return func
    return add


def check(condition, why):
    if not condition:
        raise Fail(why)


# --- processes

def become_subreaper():
    """Orphans become our children instead of init's, so that they can be found and ended."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def children(pid):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                # As bytes: a program's name can be anything.
                with open(f"/proc/{name}/stat", "rb") as f:
                    if int(f.read().rsplit(b")", 1)[1].split()[1]) == pid:
                        found.append(int(name))
            except (OSError, IndexError):
                pass
    return found


def descendants(pid):
    found = []
    for child in children(pid):
        found += [child] + descendants(child)
    return found


def kill_tree(pid):
    for p in [pid] + descendants(pid):
        try:
            os.kill(p, signal.SIGKILL)
        except ProcessLookupError:
            pass


def end_all(me):
    """Ends every process that this one started, however deep, and waits for them."""
    for _ in range(100):
        for p in descendants(me):
            kill_tree(p)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.02)


def run_case(c, base, out):
    """In a process of its own: runs a case, writes its line to `out`, ends."""
    try:
        os.write(out, line_of_case(c, base).encode(errors="replace"))
    finally:
        os._exit(0)


def line_of_case(c, base):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setsid()
    become_subreaper()
    lab = Lab(c, base)
    try:
        for program in c.needs:
            lab.need(program)
        c.func(lab)
        line = f"ok {c.name}"
    except Skip as e:
        line = f"skip {c.name}: {e}"
    except (Fail, subprocess.TimeoutExpired) as e:
        line = f"not ok {c.name}: " + str(e).strip().replace("\n", " | ")
    except BaseException as e:
        where = traceback.extract_tb(e.__traceback__)[-1]
        line = f"not ok {c.name}: {type(e).__name__} at {where.filename}:{where.lineno}: {e}"
    end_all(os.getpid())
    if line.startswith("not ok"):
        line += lab.last_words()
    elif not os.environ.get("KEEP"):
        shutil.rmtree(lab.dir, ignore_errors=True)
    return line


def make_certificate(base):
    """Does nothing where one was put before."""
    if os.path.exists(f"{base}/both.pem"):
        return
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1",
         "-keyout", f"{base}/key.pem", "-out", f"{base}/cert.pem"],
        check=True, stderr=subprocess.DEVNULL)
    os.chmod(f"{base}/key.pem", 0o644)
    with open(f"{base}/both.pem", "w") as out:
        for name in ("cert.pem", "key.pem"):
            with open(f"{base}/{name}") as f:
                out.write(f.read())


class Process(subprocess.Popen):
    """A program whose output goes to files, so that it never waits for us."""

    def __init__(self, argv, files, **options):
        self.out_path, self.err_path = files + ".out", files + ".err"
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            super().__init__(argv, stdout=out, stderr=err, **options)

    def out(self):
        with open(self.out_path, "rb") as f:
            return f.read()

    def err(self):
        with open(self.err_path, "rb") as f:
            return f.read().decode(errors="replace")

    def say(self, line="go\n"):
        self.stdin.write(line.encode())
        self.stdin.flush()

    def finish(self, timeout=30, status=0):
        """Waits for its own end."""
        got = self.wait(timeout * SLOW)
        check(status is None or got == status,
              f"{self.args[0]} ended with {got}: {self.err()[-500:]} {self.out()[-200:]!r}")
        return got

    def stop(self, number=signal.SIGTERM, timeout=20):
        if self.poll() is None:
            self.send_signal(number)
        return self.wait(timeout * SLOW)


def wait_for(what, condition, seconds=20):
    end = time.monotonic() + seconds * SLOW
    while not condition():
        check(time.monotonic() < end, f"no {what} after {seconds * SLOW:g} s")
        time.sleep(0.02)


class Lab:
    """One case's folder, ports and processes."""

    def __init__(self, c, base):
        self.base, self.case = base, c
        self.dir = os.path.join(base, c.name)
        os.mkdir(self.dir)
        os.chmod(self.dir, 0o755)
        self.cert, self.key, self.both = (f"{base}/{n}.pem" for n in ("cert", "key", "both"))
        self.count = 0
        self.errors = []
        self.ports, self.taken = None, set()

    def need(self, program):
        if not shutil.which(program, path=PATH):
            raise Skip(f"{program} is not installed")

    def need_mount_namespace(self):
        self.need("unshare")
        p = self.run(["unshare", "-m", "true"], status=None)
        if p.returncode:
            raise Skip(f"no mount namespace can be made here: {p.err().strip()}")

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, data, mode=0o644):
        path = self.path(name)
        with open(path, "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        os.chmod(path, mode)
        return path

    def port(self):
        """
        A port that is this case's until it ends: a byte of a file is locked for it. The kernel gives none
        of these to a client that asks for any.
        """
        if self.ports is None:
            self.ports = os.open(os.path.join(tempfile.gettempdir(), "tlsscope-e2e.ports"),
                                 os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        for port in random.sample(PORTS, len(PORTS)):
            try:
                if port in self.taken:
                    continue
                fcntl.lockf(self.ports, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
                self.taken.add(port)
                with socket.socket() as s:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
        raise Fail("no port is free")

    def environment(self, extra):
        env = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": self.dir, "TMPDIR": self.dir}
        env.update(extra or {})
        return env

    def spawn(self, argv, port=None, ready=None, user=None, env=None, **options):
        """Starts a program. port: waits until it listens there; ready: until it says so."""
        self.count += 1
        name = f"{self.count:02}-{os.path.basename(argv[0])}"
        if user:
            options.update(user=user.pw_uid, group=user.pw_gid, extra_groups=[])
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("cwd", self.dir)
        p = Process(argv, self.path(name), env=self.environment(env), **options)
        self.errors.append(p)

        def up():
            check(p.poll() is None, f"{argv[0]} ended with {p.returncode}: {p.err()[-500:]}")
            return listening(port) if port else ready in p.out()
        if port or ready:
            wait_for(f"{'port' if port else 'word'} of {argv[0]}", up)
        return p

    def run(self, argv, status=0, input=None, timeout=40, **options):
        """Runs a program to its end; its output is in the result."""
        if input is not None:
            options["stdin"] = open(self.write(f"input{self.count}", input), "rb")
        p = self.spawn(argv, **options)
        p.finish(timeout, status)
        return p

    def tracer(self, *options, script=TAP, arguments=(), ready=True, form="json"):
        return Tracer(self, options, script, arguments, ready, form)

    def victim(self, name, *flags, compiler="gcc", output=None, libs=("-lssl", "-lcrypto")):
        """Builds a program of tests/victims; programs of one name are built once."""
        self.need(compiler)
        out = os.path.join(self.base, output or name)
        source = os.path.join(ROOT, "tests", "victims", name + ".c")
        if not os.path.exists(out):
            mine = f"{out}.{os.getpid()}"
            p = subprocess.run([compiler, "-O2", "-g", "-Wall", "-Wextra", "-o", mine, *flags, source,
                                *libs, "-lpthread", "-ldl"], stderr=subprocess.PIPE)
            if b"openssl/" in p.stderr and b"No such file" in p.stderr:
                raise Skip("the headers of OpenSSL are not installed (libssl-dev)")
            check(not p.returncode, f"{name}.c: {p.stderr.decode()[-800:]}")
            os.rename(mine, out)
        return out

    def last_words(self):
        """What the programs wrote to stderr, for the reader of a failure."""
        text = ""
        for p in self.errors:
            words = p.err().strip()[-600:]
            if words:
                text += "\n  # " + os.path.basename(p.err_path) + ": " + \
                    words.replace("\n", "\n  #    ")
        return text


def listening(port):
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as f:
            for line in f:
                fields = line.split()
                if fields[1].endswith(f":{port:04X}") and fields[3] == "0A":
                    return True
    return False


# --- the tracer, and what it saw

class Tracer:
    """tlsscope with a script, until stop()."""

    def __init__(self, lab, options, script, arguments, ready, form):
        self.lab = lab
        lab.count += 1
        self.file = lab.path(f"{lab.count:02}-trace")
        if "\n" in script or "(" in script:
            script = lab.write(f"{lab.count:02}.lua", script)
        self.process = lab.spawn([TLSSCOPE, "-f", form, "-o", self.file, *options, script,
                                  *arguments])
        if ready:
            wait_for("marker that the tracer is attached", self.attached)

    def attached(self):
        p = self.process
        check(p.poll() is None, f"tlsscope ended with {p.returncode}: {p.err()[-500:]}")
        return b"ready" in self.output()

    def output(self):
        try:
            with open(self.file, "rb") as f:
                return f.read()
        except FileNotFoundError:
            return b""

    def wait_until(self, what, text, seconds=20):
        wait_for(what, lambda: text in self.output(), seconds)

    def records(self):
        found = []
        for n, line in enumerate(self.output().split(b"\n")[:-1], 1):
            try:
                found.append(json.loads(line))
                found[-1]["type"]
            except (ValueError, KeyError, TypeError):
                raise Fail(f"line {n} of the output is not a JSON object with a type: "
                           f"{line[:200]!r}")
        return found

    def settle(self):
        """Lets it finish what there is, if that ends: a second after a stop, handlers are interrupted."""
        def used():
            with open(f"/proc/{self.process.pid}/stat", "rb") as f:
                return f.read().rsplit(b")", 1)[1].split()[11:13]
        for _ in range(100):
            before = used()
            time.sleep(0.2)
            if used() == before:
                break

    def stop(self, number=signal.SIGINT, status=0):
        """Ends it; returns what it saw."""
        if SLOW > 1 and self.process.poll() is None:
            self.settle()
        got = self.process.stop(number)
        check(got == status, f"tlsscope ended with {got}, not {status}: {self.process.err()[-500:]}")
        return Seen(self.records(), self.process.err())

    def finish(self, timeout=40, status=0):
        """Waits for its own end (-c)."""
        self.process.finish(timeout, status)
        return Seen(self.records(), self.process.err())


class Flow:
    """One connection as one program saw it."""

    def __init__(self, key, comm):
        self.pid, self.conn = key
        self.comm, self.calls = comm, []
        self.sent, self.received = b"", b""

    def __repr__(self):
        return f"{self.comm}[{self.pid}] conn {self.conn}: sent {len(self.sent)}, " \
               f"received {len(self.received)}"


class Seen:
    """The events of a run. whole: nothing may be cut or missing (the default of `flows`)."""

    def __init__(self, records, stderr):
        self.records, self.stderr = records, stderr
        self.calls = [r for r in records if r["type"] == "data"]
        for c in self.calls:
            for field in ("pid", "comm", "conn", "dir", "len", "probe", "func", "lib", "kind"):
                # Of somebody else's process it may be no text.
                check(c.get(field) not in (None, "") or c.get(f"{field}_b64"),
                      f"an event without {field}: {str(c)[:300]}")
            c["data"] = bytes.fromhex(c["hex"])
            c.setdefault("gap", None)  # nil: not there

    def flows(self, comm=None, pids=None, having=None, whole=True):
        """Connections, in order, of these programs; having: whose bytes contain this."""
        found = {}
        for c in self.calls:
            if pids is not None and c["pid"] not in pids or comm and c["comm"] not in comm:
                continue
            f = found.setdefault((c["pid"], c["conn"]), Flow((c["pid"], c["conn"]), c["comm"]))
            f.calls.append(c)
            if whole:
                check(not c["truncated"] and not c["gap"] and len(c["data"]) == c["len"],
                      f"an event that is not whole: {brief(c)}; tlsscope: {self.stderr[-500:]}")
            if c["peeked"]:
                continue
            if c["dir"] == "out":
                f.sent += c["data"]
            else:
                f.received += c["data"]
        return [f for f in found.values()
                if having is None or having in f.sent or having in f.received]


def brief(call):
    return {k: v for k, v in call.items() if k not in ("hex", "data")}


def differ(name, a, b):
    """Where and how two byte strings differ, as a sentence; None if they do not."""
    if a == b:
        return None
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"{name}: {len(a)} and {len(b)} bytes differ from {at} on: " \
           f"{a[max(0, at - 20):at + 40]!r} and {b[max(0, at - 20):at + 40]!r}"


def same(name, a, b):
    why = differ(name, a, b)
    check(not why, why)


def both_sides(clients, servers, count, slack=None):
    """
    Each client's connection has exactly one server's with the same bytes in both directions.
    slack(side, rest): whether bytes that only one side has are allowed at the end.
    """
    check(len(clients) == count, f"{len(clients)} client connections seen, not {count}: {clients}")
    check(len(servers) == count, f"{len(servers)} server connections seen, not {count}: {servers}")

    def key(a, b):
        return (a, b)
    cs = sorted(clients, key=lambda f: key(f.sent, f.received))
    ss = sorted(servers, key=lambda f: key(f.received, f.sent))
    for c, s in zip(cs, ss):
        for name, a, b in (("client's out, server's in", c.sent, s.received),
                           ("server's out, client's in", s.sent, c.received)):
            if slack and a.startswith(b) and slack(a[len(b):]):
                continue
            same(name, a, b)
    return cs


def lines(count, tag="line", width=64):
    """Numbered lines: what is lost, doubled or out of order shows."""
    head = [f"{tag} {i:08} " for i in range(count)]
    return "".join(h + "." * (width - 1 - len(h)) + "\n" for h in head).encode()


# --- the kernel's view of what a process holds

def bpf_ids(pid):
    """The ids of the BPF programs, maps and links that a process holds: {(kind, id)}."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            with open(f"/proc/{pid}/fdinfo/{fd}") as f:
                for line in f:
                    name, _, value = line.partition(":")
                    if name in ("prog_id", "map_id", "link_id"):
                        found.add((name, int(value)))
        except OSError:
            pass
    return found


def bpf_alive(ids):
    """
    Which of the ids the kernel still knows: asked for the id after the one before. Opening a map by
    its id would be simpler, but a map of programs opened while it dies stays for ever (6.18).
    """
    number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    commands = {"prog_id": 11, "map_id": 12, "link_id": 31}
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    left = set()
    for kind, value in ids:
        attr = (ctypes.c_uint32 * 32)(value - 1)
        if syscall(number, commands[kind], attr, ctypes.sizeof(attr)) == 0 and attr[1] == value:
            left.add((kind, value))
    return left


def bpf_gone(ids):
    """Waits until none of the ids is left: the kernel frees them a moment after their owner."""
    check(ids, "the tracer holds no BPF program")
    try:
        wait_for("end", lambda: not bpf_alive(ids), 15)
    except Fail:
        raise Fail(f"left in the kernel: {sorted(bpf_alive(ids))}")


def fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))
