# SPDX-License-Identifier: MIT
"""The command line: what is wrong is said in one clear sentence, with the right exit status."""
import json
import os
import re
import shutil
import signal
import subprocess
import time

from cases_pitfalls import libssl
from harness import NOBODY, TLSSCOPE, case, check, same, wait_for
from web import backend, nginx

QUIET = "on.tls_data(function() end)"


def tlsscope(lab, *arguments, status=0, **options):
    return lab.run([TLSSCOPE, *arguments], status=status, **options)


def refused(lab, status, words, *arguments, **options):
    """It ends with this status and names the cause in at most a few lines of stderr."""
    p = tlsscope(lab, *arguments, status=None, timeout=20, **options)
    name = " ".join(arguments)[:100]
    check(p.returncode == status, f"{name}: status {p.returncode}, not {status}: {p.err()[-300:]}")
    err = p.err()
    check(err.strip(), f"{name}: no word on stderr")
    for word in [words] if isinstance(words, str) else words:
        check(re.search(word, err), f"{name}: no {word!r} in {err!r}")
    check(len(err.splitlines()) <= 6, f"{name}: too many words: {err!r}")
    check("AddressSanitizer" not in err, err[-800:])
    return p


@case()
def usage_errors(lab):
    script = lab.write("s.lua", QUIET)
    for words, arguments in (
            ("script", ["--check"]),
            ("--nosuch", ["--nosuch", script]),
            ("did you mean --strict", ["--strct", script]),
            ("-Z", ["-Z", script]),
            ("-p.*value", ["-p"]),
            ("xyz", ["-p", "xyz", script]),
            ("", ["-p", "", script]),
            ("0", ["-p", "0", script]),
            ("-5", ["-p", "-5", script]),
            ("99999999999999999999", ["-p", "99999999999999999999", script]),
            ("12x", ["-p", "12x", script]),
            ("nosuchuser", ["--uid", "nosuchuser", script]),
            ("uid", ["--uid", "", script]),
            ("comm", ["--comm", "", script]),
            ("lib", ["--lib", "", script]),
            ("xml", ["-f", "xml", script]),
            ("-c", ["-c", "", script]),
            ("-o", ["-o", "a", "-o", "b", script]),
            ("-e", ["-e", "", script]),
            ("--check.*no value|no value.*--check", ["--check=3", script]),
            ("-r.*-w|-w.*-r", ["-r", "a", "-w", "b", script])):
        refused(lab, 2, words, *arguments)


@case()
def script_errors(lab):
    """File, line, what is wrong, and the nearest right name under a caret."""
    for words, code in (
            ([r"bad\.lua:[23]", "near|expected"], "on.tls_data(function(e)\n  print(e.len\nend)\n"),
            ([r"bad\.lua:2", "tls_dta", "tls_data", r"\^"], "\non.tls_dta(function() end)\n"),
            ([r"bad\.lua:1", "captur", "capture", r"\^"],
             'on.tls_data({captur = "all"}, function() end)\n'),
            ([r"bad\.lua:1", "com", "comm"], 'target{com = "curl"}\n'),
            ([r"bad\.lua:1", "bufer", "buffer"], 'config{bufer = "1M"}\n'),
            ([r"bad\.lua:1", "pritn", "print|printf"], "pritn(1)\n"),
            ([r"bad\.lua:1", "capture"], "on.tls_data({capture = {}}, function() end)\n"),
            ([r"bad\.lua:1", "capture"], 'on.tls_data({capture = "lots"}, function() end)\n'),
            ([r"bad\.lua:1", "nil|function"], "on.tls_data(nil)\n"),
            ([r"bad\.lua:3", "boom"], "\n\nerror('boom')\n"),
            ([r"bad\.lua"], "\x1bLua\x54\x00binary"),
            ([r"bad\.lua:1"], "\xff\xfe\x00\x01")):
        path = lab.write("bad.lua", code.encode("latin-1"))
        for more in ([], ["--check"]):
            refused_script(lab, words, *more, path)


def refused_script(lab, words, *arguments):
    p = tlsscope(lab, *arguments, status=None, timeout=20)
    check(p.returncode == 1, f"{words}: status {p.returncode}, not 1: {p.err()[-300:]}")
    for word in words:
        check(re.search(word, p.err()), f"no {word!r} in {p.err()!r}")
    check("stack traceback" not in p.err() or "boom" in words, f"a traceback: {p.err()!r}")


@case()
def misspelt_global(lab):
    """A global made inside a function is an error that names it, and the run goes on."""
    p = tlsscope(lab, "-e", 'after("1ms", function() totl = 1 end) after("30ms", function() '
                 'print("on") exit(0) end) on.tls_data(function() end)')
    check("totl" in p.err() and p.out() == b"on\n", f"{p.err()!r} {p.out()!r}")


@case()
def script_files(lab):
    refused(lab, 1, "missing.lua", lab.path("missing.lua"))
    refused(lab, 1, "nosuchrecipe", "nosuchrecipe")
    refused(lab, 1, "sniff", "snif")
    refused(lab, 1, "folder|directory", lab.dir + "/")
    secret = lab.write("secret.lua", QUIET, 0o600)
    nobodys = copy_for_nobody(lab)
    p = lab.run([nobodys, "--check", secret], status=1, user=NOBODY)
    check("secret.lua" in p.err() and "ermission" in p.err(), p.err())
    # An empty script wants nothing: it says so instead of waiting for ever.
    p = tlsscope(lab, lab.write("empty.lua", ""), status=None, timeout=10)
    check(p.err().strip(), "an empty script: no word")


def copy_for_nobody(lab):
    path = shutil.copy(TLSSCOPE, lab.path("tlsscope"))
    os.chmod(path, 0o755)
    return path


@case(needs=["setpriv"])
def without_privileges(lab):
    """One clear sentence with the remedy, status 1; what needs no privileges works."""
    program = copy_for_nobody(lab)
    script = lab.write("s.lua", QUIET)
    nobody = ["setpriv", "--reuid", str(NOBODY.pw_uid), "--regid", str(NOBODY.pw_gid),
              "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", program]
    p = lab.run([*nobody, script], status=1)
    check(re.search("root|privilege|CAP_BPF|sudo", p.err()), p.err())
    check(len(p.err().splitlines()) == 1, f"not one sentence: {p.err()!r}")
    for option in (["--info"], ["-L"], ["-l"], ["-V"], ["-h"], ["--check", script]):
        p = lab.run([*nobody, *option])
        check(option[0] == "--check" or p.out(), f"{option}: nothing")


@case()
def listings(lab):
    check(re.match(rb"tlsscope \d+\.\d+", tlsscope(lab, "-V").out()), "-V")
    help_text = tlsscope(lab, "-h").out().decode()
    for option in ("-p", "-c", "--comm", "--uid", "--exe", "--lib", "-e", "-l", "-L", "-f", "-o", "-w", "-r",
                   "--check", "--dry-run", "--info", "-I", "-q", "-v", "-V", "-h", "--unsafe",
                   "--strict"):
        check(option in help_text, f"-h does not tell of {option}")
    probes = tlsscope(lab, "-l").out().decode()
    for name in ("ssl_read", "ssl_write", "tls_read", "tls_write", "tls_data"):
        check(name in probes, f"-l does not tell of {name}")
    check("ssl_read" not in tlsscope(lab, "-l", "*write").out().decode(), "-l with a pattern")
    check(b"capture" in tlsscope(lab, "-lv").out() or b"duration" in tlsscope(lab, "-lv").out(),
          "-lv tells no fields")
    recipes = tlsscope(lab, "-L").out().decode()
    for name in ("sniff", "hexsniff", "tlstop", "iosize", "libs"):
        check(name in recipes, f"-L does not tell of {name}")
        tlsscope(lab, "--check", name)
    info = tlsscope(lab, "--info").out().decode()
    check(os.uname().release in info, "--info does not tell the kernel")


@case()
def dry_run(lab):
    """It says what would be attached, and attaches nothing."""
    p = tlsscope(lab, "--dry-run", lab.write("s.lua", QUIET))
    name = os.path.basename(libssl()).encode()
    check(b"SSL_write" in p.out() and name in p.out(), p.out()[-500:])


@case()
def list_of_process(lab):
    """-l -p: what resolves in a process, and how."""
    p = lab.spawn([lab.victim("flood"), lab.cert, lab.key, "1", "10"], ready=b"waiting",
                  stdin=subprocess.PIPE)
    out = tlsscope(lab, "-l", "-v", "-p", str(p.pid)).out().decode()
    check("SSL_read_ex" in out and "libssl" in out, out[-800:])


@case()
def no_such_process(lab):
    script = lab.write("s.lua", QUIET)
    p = lab.spawn(["true"])
    p.wait()
    refused(lab, 1, str(p.pid), "-p", str(p.pid), script)
    refused(lab, 1, "4194303|no process", "-p", "4194303", script)


@case()
def process_ends_at_once(lab):
    """-p of a process that ends during the start: an end with 0 or a clear sentence with 1."""
    script = lab.write("s.lua", QUIET)
    for delay in (0, 0.02, 0.05, 0.1, 0.2, 0.4):
        p = lab.spawn(["sleep", str(delay)])
        q = tlsscope(lab, "-p", str(p.pid), script, status=None, timeout=20)
        check(q.returncode in (0, 1), f"status {q.returncode}: {q.err()}")
        check(q.returncode == 0 or str(p.pid) in q.err(), f"{q.err()!r}")


@case()
def bad_libraries(lab):
    """--lib of a file that cannot be probed: a sentence that names it, and no hang."""
    script = lab.write("s.lua", QUIET)
    with open(libssl(), "rb") as f:
        real = f.read()
    other = bytearray(real)
    other[18:20] = b"\xf3\x00"  # e_machine: RISC-V
    small = bytearray(real)
    small[4] = 1  # a 32-bit class
    scrambled = real[:64] + bytes(b ^ 0x5a for b in real[64:])
    os.mkfifo(lab.path("fifo.so"))
    files = {"text.so": b"#!/bin/sh\nexit 0\n", "empty.so": b"", "cut.so": real[:len(real) // 2],
             "cut-head.so": real[:40], "cut-symbols.so": real[:5000], "riscv.so": other,
             "small.so": small, "scrambled.so": scrambled, "zeros.so": bytes(100000),
             "magic.so": b"\x7fELF"}
    for name, data in files.items():
        lab.write(name, bytes(data))
    for name in [*files, "fifo.so", "", "missing.so"]:
        words = name or os.path.basename(lab.dir)
        refused(lab, 1, re.escape(words), "--lib", lab.path(name), script)
    refused(lab, 1, "null", "--lib", "/dev/null", script)
    refused(lab, 1, "loop", "--lib", loop(lab), script)


def loop(lab):
    os.symlink("loop.so", lab.path("loop.so"))
    return lab.path("loop.so")


@case()
def library_without_tls(lab):
    """An ELF file that has none of the functions."""
    refused(lab, 1, "true", "--lib", "/usr/bin/true", lab.write("s.lua", QUIET))


@case()
def full_disk(lab):
    """What cannot be written is told, with status 1, whether at once or at the end."""
    code = 'every("1ms", function() print(("x"):rep(1000)) end) on.tls_data(function() end)'
    refused(lab, 1, "/dev/full.*[Nn]o space|[Nn]o space.*/dev/full", "-o", "/dev/full", "-e", code)
    refused(lab, 1, "[Nn]o space", "-o", "/dev/full", "-e", 'print("one line") exit(0)')
    refused(lab, 1, "/dev/full.*[Nn]o space|[Nn]o space.*/dev/full", "-w", "/dev/full", "-o",
            lab.path("out"), "-e", code)
    refused(lab, 1, "nosuch", "-o", lab.path("nosuch/file"), "-e", code)
    refused(lab, 1, "nosuch", "-w", lab.path("nosuch/file"), "-e", code)
    p = lab.run(["sh", "-c", '"$0" -L >/dev/full', TLSSCOPE], status=1)
    check("write" in p.err() or "space" in p.err(), p.err())


@case()
def full_tmpfs(lab):
    """A tiny file system fills in the middle: the lines before are whole."""
    lab.need_mount_namespace()
    os.mkdir(lab.path("tiny"))
    code = 'local pad = ("x"):rep(100) every("1ms", function() for i = 1, 50 do ' \
           'emit{type = "t", pad = pad} end end) on.tls_data(function() end)'
    tiny = lab.path("tiny")
    script = lab.write("fill", f"#!/bin/sh\nmount -t tmpfs -o size=64k none {tiny} || exit 99\n"
                       f"{TLSSCOPE} -f json -o {tiny}/out -e '{code}'\nstatus=$?\n"
                       f"cp {tiny}/out {lab.path('saved')}\nexit $status\n", 0o755)
    p = lab.run(["unshare", "-m", script], status=1)
    check("pace" in p.err(), p.err())
    with open(lab.path("saved"), "rb") as f:
        saved = f.read()
    check(len(saved) > 30000, f"{len(saved)} bytes were kept")
    whole = saved.split(b"\n")[:-1]
    check(json.loads(whole[0])["type"] == "t" and len(set(whole)) == 1, "a line is not whole")


@case()
def closed_pipe(lab):
    """The reader goes: the run ends soon, with a word and status 1, not by a signal."""
    code = 'every("1ms", function() print(("x"):rep(200)) end) on.tls_data(function() end)'
    p = lab.run(["bash", "-c", f'"$0" -e \'{code}\' | head -n 3 >/dev/null; '
                 "exit ${PIPESTATUS[0]}", TLSSCOPE], status=None, timeout=20)
    check(p.returncode == 1, f"status {p.returncode}: {p.err()!r}")
    check(re.search("pipe|output", p.err()), f"no word of it: {p.err()!r}")


@case()
def script_from_stdin(lab):
    p = tlsscope(lab, "-", "a", "b", input='print("from stdin", ...) exit(0)')
    same("output", p.out(), b"from stdin\ta\tb\n")


@case()
def script_as_program(lab):
    """#!/usr/bin/env tlsscope"""
    script = lab.write("prog", '#!/usr/bin/env tlsscope\nprint("as a program", ...)\nexit(0)\n',
                       0o755)
    p = lab.run([script, "x y", "-v"], env={"PATH": os.path.dirname(TLSSCOPE) + ":/usr/bin:/bin"})
    same("output", p.out(), b"as a program\tx y\t-v\n")


@case()
def code_and_arguments(lab):
    same("-e", tlsscope(lab, "-e", "print(...) exit(0)", "one", "two").out(), b"one\ttwo\n")
    script = lab.write("args.lua", 'local n = select("#", ...)\nprint(n, ...)\nexit(0)\n')
    same("arguments", tlsscope(lab, script, "-p", "--", "ü x").out(), "3\t-p\t--\tü x\n".encode())
    check(tlsscope(lab, "-e", "exit(7)", status=7), "exit(7)")


@case()
def script_options(lab):
    script = lab.write("o.lua", 'local o = options{top = {10, "how many"}, '
                       'name = {"x", "a name"}}\nprint(o.top, o.name) exit(0)\n')
    same("defaults", tlsscope(lab, script).out(), b"10\tx\n")
    same("given", tlsscope(lab, script, "--top=3", "--name=y").out(), b"3\ty\n")
    refused(lab, 2, "--top[^p]", script, "--topp=3")


@case(needs=["nginx", "curl"])
def command_followed(lab):
    """-c: traces the command and its children, and nobody else; tells its exit status."""
    port = lab.port()
    nginx(lab, port, backend())
    get = f"curl -sS --http1.1 --cacert {lab.cert} https://localhost:{port}/echo/"
    tracer = lab.tracer("-c", f"sleep 0.5; {get}one; (sh -c '{get}two; {get}three'); exit 7")
    stranger = lab.run(["sh", "-c", get + "stranger"])
    check(b"stranger" in stranger.out(), "curl itself failed")
    seen = tracer.finish()
    flows = seen.flows()
    check([f.received.rsplit(b"/", 1)[1] for f in flows] == [b"one", b"two", b"three"], f"{flows}")
    check({f.comm for f in flows} == {"curl"}, f"others than curl: {flows}")
    check("status 7" in seen.stderr, f"the exit status is not told: {seen.stderr!r}")


@case()
def command_ends(lab):
    script = lab.write("s.lua", 'on.tls_data(function() end)\n'
                       'on.stop(function(s) print("stop", s.status, s.signal) end)\n')
    p = tlsscope(lab, "-c", "exit 3", script)
    same("on.stop", p.out(), b"stop\t3\tnil\n")
    p = tlsscope(lab, "-c", "kill -9 $$", script)
    same("on.stop", p.out(), b"stop\tnil\t9\n")
    check("9" in p.err(), f"the signal is not told: {p.err()!r}")
    p = tlsscope(lab, "-c", "/nosuch/program", script)
    same("on.stop", p.out(), b"stop\t127\tnil\n")


@case()
def interrupted_command(lab):
    """Ctrl-C ends the command too."""
    tracer = lab.tracer("-c", "sleep 1000 & echo $! >pid; wait")
    wait_for("command", lambda: os.path.exists(lab.path("pid")))
    seen = tracer.stop()
    check(seen.records, "nothing")
    pid = int(open(lab.path("pid")).read())
    time.sleep(0.1)
    state = open(f"/proc/{pid}/stat").read().split()[2] if os.path.exists(f"/proc/{pid}") else "X"
    check(state in "XZ" or parent_gone(tracer.process.pid), "the command outlived its tracer")
    os.kill(pid, signal.SIGKILL) if state not in "XZ" else None


def parent_gone(pid):
    """The shell that -c ran has ended."""
    return not os.path.exists(f"/proc/{pid}")


@case()
def modules_by_include(lab):
    os.mkdir(lab.path("mods"), 0o755)
    lab.write("mods/greet.lua", 'return {hello = function(n) return "hello " .. n end}\n')
    same("-I", tlsscope(lab, "-I", lab.path("mods"), "-e",
                        'print(require("greet").hello("you")) exit(0)').out(), b"hello you\n")
    refused(lab, 1, "greet", "-e", 'require("greet")')
    os.chmod(lab.path("mods"), 0o777)
    refused(lab, 1, "write", "-I", lab.path("mods"), "-e", 'require("greet")')


@case()
def sandbox(lab):
    """Running programs and writing files needs --unsafe."""
    target = lab.path("made")
    for code in (f"os.execute('touch {target}')", f"io.popen('touch {target}')",
                 f"io.open('{target}', 'w')", f"os.remove('{lab.write('keep', 'x')}')",
                 f"os.rename('{lab.path('keep')}', '{target}')", "package.loadlib('x', 'y')",
                 "debug.getregistry()", "load(string.dump(function() end), 'x', 'b')()"):
        p = tlsscope(lab, "-e", code + " exit(0)", status=None)
        check(p.returncode == 1, f"{code}: status {p.returncode}")
        check(not os.path.exists(target), f"{code} was run")
    check(os.path.exists(lab.path("keep")), "a file was removed")
    tlsscope(lab, "--unsafe", "-e", f"os.execute('touch {target}') exit(0)")
    check(os.path.exists(target), "--unsafe does not allow os.execute")


@case()
def strict_and_handler_errors(lab):
    code = 'local n = 0 local function deep() error("oops") end every("1ms", function() ' \
           'n = n + 1 if n > 50 then exit(0) end deep() end) on.tls_data(function() end)'
    p = tlsscope(lab, "-e", code)
    shown = len(re.findall("oops", p.err()))
    check(1 <= shown <= 20, f"an error of 50 shown {shown} times")
    check("deep" in p.err(), f"no traceback: {p.err()!r}")
    p = tlsscope(lab, "--strict", "-e", code, status=1)
    check(len(re.findall("oops", p.err())) <= 2, "--strict went on")


@case()
def output_file_mode(lab):
    """Plaintext is private: the files are for their owner only."""
    os.umask(0o022)
    tlsscope(lab, "-o", lab.path("out"), "-w", lab.path("rec"), "-e",
             'after("10ms", function() print("x") exit(0) end) on.tls_data(function() end)')
    for name in ("out", "rec"):
        mode = os.stat(lab.path(name)).st_mode & 0o777
        check(mode == 0o600, f"{name} has mode {mode:o}")


@case(needs=["openssl"])
def quiet_and_verbose(lab):
    """-q: no warnings; -v: what is attached, and how."""
    script = lab.write("s.lua", 'after("50ms", function() warn("careful") exit(0) end)\n' + QUIET)
    check("careful" in tlsscope(lab, script).err(), "no warning")
    check(not tlsscope(lab, "-q", script).err().strip(), "-q: words on stderr")
    err = tlsscope(lab, "-v", script).err()
    check("libssl" in err and "SSL_write" in err, f"-v: {err[-500:]!r}")
