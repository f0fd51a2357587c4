# SPDX-License-Identifier: MIT
"""Who is traced by program: exe, a path as /proc/PID/exe shows it, or the last name of one."""
import collections
import json
import os
import shutil
import subprocess

from cases_filters import SEEN, each_place, floods, own_name, pids_seen
from harness import PYTHON, TLSSCOPE, case, check


def quoted(path):
    return f'"{path}"'


def flood_at(lab, path, rounds=5):
    """A program at a path, which waits for a line. rounds 0: then it runs until it is ended."""
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(lab.victim("flood"), path)
    return lab.spawn(["flood", lab.cert, lab.key, str(rounds), "100"], executable=path,
                     ready=b"waiting", stdin=subprocess.PIPE)


def shown(p):
    return os.readlink(f"/proc/{p.pid}/exe")


def sees(lab, pair, *options, handler=""):
    """Which of two programs, a and b, are seen."""
    got = pids_seen(lab, list(options), "", handler, pair)
    return "".join(n for n, p in zip("ab", pair) if p.pid in got)


def recorded(lab, pair, *options):
    """A recording of two programs that run on until both were seen: so it knows them."""
    recording = lab.path("recording")
    tracer = lab.tracer("-w", recording, *options, script=SEEN.format(before="", options="{first = 9}"))
    for p in pair:
        p.say()
    for p in pair:
        tracer.wait_until("both programs' events", b'"pid":%d' % p.pid)
    for p in pair:
        p.stop()
    tracer.stop()
    return recording


def replayed(lab, recording, pair, *options, handler="{}"):
    """Which of two programs are seen in a recording."""
    script = lab.write("replay.lua", SEEN.format(before="", options=handler))
    p = lab.run([TLSSCOPE, "-q", "-f", "json", "-r", recording, *options, script])
    return "".join(n for n, x in zip("ab", pair) if b'"pid":%d' % x.pid in p.out())


@case(timeout=120)
def filter_exe(lab):
    each_place(lab, "exe", lambda p: quoted(p.args[0]), '"/nobody/else"')


@case(timeout=120)
def filter_exe_name(lab):
    """The last name alone."""
    each_place(lab, "exe", lambda p: quoted(os.path.basename(p.args[0])), '"nobody-else"')


@case(timeout=120)
def filter_exe_intersects(lab):
    """A path and its own last name: the path remains. One name in two folders is two programs."""
    for options, handler, expected in (
            (["--exe", "tool"], '{exe = "{a}"}', "a"), (["--exe", "{a}"], '{exe = "tool"}', "a"),
            (["--exe", "{a}", "--exe", "{b}"], '{exclude = {exe = "{b}"}}', "a"),
            (["--exe", "tool"], '{exclude = {exe = "{a}"}}', "b"), (["--exe", "tool"], "{}", "ab"),
            (["--exe", "{a}"], '{exe = "{b}"}', ""), (["--exe", "{a}"], '{exe = "other"}', ""),
            (["--exe", "{a}", "--uid", "4242"], "{}", ""),
            (["--exe", "tool"], '{exclude = {exe = "tool"}}', "")):
        pair = [flood_at(lab, lab.path(f"{n}/tool")) for n in "ab"]

        def filled(text):
            for n, p in zip("ab", pair):
                text = text.replace(f"{{{n}}}", shown(p))
            return text
        got = sees(lab, pair, *map(filled, options), handler=filled(handler))
        check(got == expected, f"{options} {handler}: saw {got or 'nobody'}, not {expected}")


@case(timeout=120)
def filter_exe_beside_others(lab):
    """One handler's program is nothing to the handler beside it; each has its own."""
    script = """
        config{capture = 0}
        target{exe = args[2]}
        local n = {}
        local function count(name)
            return function(e) n[name .. e.pid] = (n[name .. e.pid] or 0) + 1 end
        end
        on.tls_data(count("all"))
        on.tls_data({exe = args[1]}, count("a"))
        on.tls_data({exclude = {exe = args[1]}}, count("not a"))
        on.start(function() emit{type = "ready"} end)
        on.stop(function() n.type = "counts" emit(n) end)"""
    name = own_name("t")
    a, b = (flood_at(lab, lab.path(f"{n}/{name}")) for n in "ab")
    tracer = lab.tracer("--uid", "0", script=script, arguments=[shown(a), name])
    for p in (a, b):
        p.say()
        p.finish()
    got = next(r for r in tracer.stop().records if r["type"] == "counts")
    check(got == {"type": "counts", f"all{a.pid}": 10, f"all{b.pid}": 10, f"a{a.pid}": 10,
                  f"not a{b.pid}": 10}, f"counted {got}")


@case(timeout=120)
def filter_exe_later(lab):
    """What the kernel remembers of a program is of no use once another filter asks."""
    script = """
        config{capture = 0}
        target{exe = {args[1], args[2]}}
        local seen
        local function show(name) return function(e) emit{type = name, pid = e.pid} end end
        on.tls_data({exclude = {exe = args[1]}}, function(e)
            if not seen then
                seen = on.tls_data({exe = args[1], first = 3}, show("late"))
                emit{type = "early", pid = e.pid}
            end
        end)
        on.start(function() emit{type = "ready"} end)"""
    program = lab.victim("flood")
    pair = [shutil.copy(program, lab.path(own_name(n))) for n in "ab"]
    pair = [lab.spawn([path, lab.cert, lab.key, "0", "100"], ready=b"waiting", stdin=subprocess.PIPE)
            for path in pair]
    tracer = lab.tracer(script=script, arguments=[shown(p) for p in pair])
    pair[0].say()
    pair[1].say()
    tracer.wait_until("event of the program that is known", b'"late"')
    for p in pair:
        p.stop()
    records = tracer.stop().records
    for name, p in (("late", pair[0]), ("early", pair[1])):
        got = {r["pid"] for r in records if r["type"] == name}
        check(got == {p.pid}, f"{name}: {got}, not {p.pid}")


@case(timeout=120)
def filter_exe_curl(lab):
    """curl where it is installed, and a copy of it; in a replay the same."""
    lab.need("curl")
    port = lab.port()
    lab.spawn(["openssl", "s_server", "-accept", str(port), "-cert", lab.cert, "-key", lab.key,
               "-www", "-quiet"], port=port)
    installed = os.path.realpath(shutil.which("curl"))
    copy = shutil.copy(installed, lab.path("fetch"))
    script = """
        local function show(e) emit{type = "seen", pid = e.pid, exe = e.proc and e.proc.exe} end
        on.tls_data({options}, show)
        on.tls_hello({options}, show)
        on.start(function() emit{type = "ready"} end)"""

    def live(options, *more):
        tracer = lab.tracer(*more, "--rport", str(port), script=script.replace("{options}", options))
        pids = [lab.run([program, "-sk", "-o", lab.path("page"), f"https://127.0.0.1:{port}/"]).pid
                for program in (installed, copy)]
        seen = collections.Counter(r["pid"] for r in tracer.stop().records if r["type"] == "seen")
        return [seen.pop(pid, 0) for pid in pids], sum(seen.values())
    both, rest = live('{exe = {"curl", "fetch"}}', "-w", lab.path("recording"))
    check(min(both) > 3 and not rest, f"of curl, its copy and others were seen {both}, {rest}")
    for options, n in ((f'{{exe = "{installed}"}}', 0), ('{exe = "fetch"}', 1),
                       (f'{{exe = {{"/none", "{copy}"}}}}', 1)):
        got, rest = live(options)
        check(got[n] == both[n] and not got[1 - n] and not rest, f"{options}: {got}, {rest} of {both}")
    again = lab.write("again.lua", script.replace("{options}", "{}"))

    def replayed_exes(*options):
        p = lab.run([TLSSCOPE, "-f", "json", "-r", lab.path("recording"), *options, again])
        return [json.loads(x).get("exe") for x in p.out().splitlines() if b'"seen"' in x]
    known = replayed_exes()
    check(len(known) == sum(both), f"replay: {len(known)} events, not {both}")
    for word, exe in ((installed, installed), ("fetch", copy), (copy + "x", "nobody")):
        got = replayed_exes("--exe", word)
        check(got == [x for x in known if x == exe], f"replay with {word}: {got} of {known}")


@case(timeout=180)
def filter_exe_mounts(lab):
    """As its mount namespace has it: in a bound folder, a bound file, another root; in a chroot as we do."""
    lab.need_mount_namespace()
    lab.need("pivot_root")
    for folder in ("real", "bound", "root", "jail"):
        os.mkdir(lab.path(folder))
    program = shutil.copy(lab.victim("flood"), lab.path("real/tool"))
    lab.write("file", "")
    box, jail = lab.path("root"), lab.path("jail")
    copied = f"/usr/local/{own_name('box')}"
    ways = [
        ("a folder", f"mount --bind {lab.path('real')} {lab.path('bound')}", lab.path("bound/tool")),
        ("a file", f"mount --bind {program} {lab.path('file')}", lab.path("file")),
        ("another root", f"mount --rbind / {box}; mount -t tmpfs none {box}/usr/local; "
         f"cp {program} {box}{copied}; cd {box}; pivot_root . mnt; umount -l mnt", copied),
        ("a chroot", f"mount --rbind / {jail}; set -- chroot {jail} \"$@\"", program),
    ]
    for name, shell, path in ways:
        argv = ["unshare", "-m", "sh", "-ec", shell + '; exec "$@"', "sh", path, lab.cert, lab.key,
                "5", "100"]
        pair = [lab.spawn(argv, ready=b"waiting", stdin=subprocess.PIPE), flood_at(lab, program)]
        own = shown(pair[0])
        check(own == (jail + path if name == "a chroot" else path), f"{name}: {own} is shown")
        got = sees(lab, pair, "--exe", own)
        check(got == "a", f"{name}, {own}: saw {got or 'nobody'}")
        pair = [lab.spawn(argv, ready=b"waiting", stdin=subprocess.PIPE), flood_at(lab, program)]
        got = sees(lab, pair, "--exe", "tool", "--exe", os.path.basename(own),
                   handler=f'{{exclude = {{exe = "{own}"}}}}')
        check(got == "b", f"all but {name}, {own}: saw {got or 'nobody'}")


@case(timeout=120)
def filter_exe_deleted(lab):
    """A program that is no more in its folder, by the path without what /proc says of that."""
    paths = [lab.path(own_name(n)) for n in "ab"]

    def programs(rounds):
        pair = [flood_at(lab, path, rounds) for path in paths]
        for path in paths:
            os.unlink(path)
        check(shown(pair[0]) == paths[0] + " (deleted)", f"{shown(pair[0])} is shown")
        return pair
    words = [name + end for name in (paths[0], own_name("a")) for end in ("", " (deleted)")]
    for word in words:
        got = sees(lab, programs(5), "--exe", word)
        check(got == "a", f"{word}: saw {got or 'nobody'}")
    pair = programs(0)
    recording = recorded(lab, pair, "--exe", own_name("a"), "--exe", paths[1])
    for word in words:
        got = replayed(lab, recording, pair, "--exe", word)
        check(got == "a", f"replay with {word}: {got or 'nobody'}")


IN_MEMORY = """
import os, sys
fd = os.memfd_create("tool", 0)
with open(sys.argv[1], "rb") as f:
    os.write(fd, f.read())
os.execve(fd, sys.argv[1:], os.environ)
"""


@case(timeout=120)
def filter_exe_in_memory(lab):
    """A program that is in no folder, by what /proc says of it."""
    for word in ("/memfd:tool", "memfd:tool", "/memfd:tool (deleted)"):
        pair = [lab.spawn([PYTHON, "-c", IN_MEMORY, lab.victim("flood"), lab.cert, lab.key, "5", "100"],
                          ready=b"waiting", stdin=subprocess.PIPE), flood_at(lab, lab.path("tool"))]
        check(shown(pair[0]) == "/memfd:tool (deleted)", f"{shown(pair[0])} is shown")
        got = sees(lab, pair, "--exe", word)
        check(got == "a", f"{word}: saw {got or 'nobody'}")


@case(timeout=120)
def filter_exe_replay(lab):
    """The same of a recording as of the programs."""
    a, b = (lab.path(own_name(n)) for n in "ab")
    pair = [flood_at(lab, path, 0) for path in (a, b)]
    recording = recorded(lab, pair, "--exe", a, "--exe", b)
    for options, handler, expected in (
            (["--exe", a], "{}", "a"), (["--exe", os.path.basename(b)], "{}", "b"),
            (["--exe", a, "--exe", b], "{}", "ab"), (["--exe", a + "x"], "{}", ""),
            ([], f'{{exclude = {{exe = "{a}"}}}}', "b"), (["--exe", a], f'{{exe = "{b}"}}', "")):
        got = replayed(lab, recording, pair, *options, handler=handler)
        check(got == expected, f"{options} {handler}: {got or 'nobody'}")


CHAIN = """
import os, ssl, sys
programs, cert, key, rounds = sys.argv[1].split(":"), sys.argv[2], sys.argv[3], int(sys.argv[4])
server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
server.load_cert_chain(cert, key)
client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
ends = [server.wrap_bio(a, b, server_side=True), client.wrap_bio(b, a)]
for end in ends[::-1] * 4:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        pass
ends[1].write(os.readlink("/proc/self/exe").encode())
if rounds:
    os.execv(programs[rounds % len(programs)],
             ["python3", sys.argv[0], *sys.argv[1:4], str(rounds - 1)])
"""


@case(timeout=120)
def filter_exe_after_exec(lab):
    """One process runs one program after the other: what it is at a call counts, again and again."""
    folder = lab.path("bin")
    os.mkdir(folder)
    programs = [shutil.copy(os.path.realpath(PYTHON), f"{folder}/python{n}") for n in "xyz"]
    chain = lab.write("chain.py", CHAIN)
    rounds = 29
    for handler, expected in ((f'{{exe = "{programs[1]}"}}', {programs[1]: 10}),
                              (f'{{exclude = {{exe = "{programs[1]}"}}, exe = {{"pythonx", "pythony", '
                               '"pythonz"}}', {programs[0]: 10, programs[2]: 10})):
        tracer = lab.tracer(script=f"""
            on.tls_write({handler}, function(e) emit{{type = "seen", text = e.data, pid = e.pid}} end)
            on.start(function() emit{{type = "ready"}} end)""")
        p = lab.run([programs[rounds % 3 - 2], chain, ":".join(programs), lab.cert, lab.key,
                     str(rounds)], env={"PYTHONHOME": "/usr"})
        seen = [r for r in tracer.stop().records if r["type"] == "seen"]
        got = collections.Counter(r["text"] for r in seen)
        check(got == expected and {r["pid"] for r in seen} == {p.pid}, f"{handler}: {got}")


@case(timeout=120)
def filter_exe_bounds(lab):
    """The longest names and the deepest folders that can be named; deeper, the last name is left."""
    long = "n" * 255
    above = lab.dir.count("/") + 1 # names of folders, and the program's
    deepest = lab.path("/".join(["d"] * (32 - above) + [own_name("a")]))
    deeper = lab.path("/".join(["e"] * (40 - above) + [own_name("b")]))
    for path, words in ((lab.path(long), (lab.path(long), long)),
                        (deepest, (deepest, os.path.basename(deepest))),
                        (deeper, (os.path.basename(deeper),))):
        for word in words:
            pair = [flood_at(lab, path), flood_at(lab, lab.path(own_name("other")))]
            got = sees(lab, pair, "--exe", word)
            check(got == "a", f"{word}: saw {got or 'nobody'}")
    p = lab.run([TLSSCOPE, "--exe", deeper, "-e", "on.tls_data(print)"], status=2)
    check("is too long" in p.err(), p.err())
    pair = [flood_at(lab, deeper), flood_at(lab, deepest)]
    names = [os.path.basename(path) for path in (deeper, deepest)]
    got = sees(lab, pair, "--exe", names[0], "--exe", names[1],
               handler=f'{{exclude = {{exe = "{deepest}"}}}}')
    check(got == "a", f"all but the deepest: saw {got or 'nobody'}")


@case()
def filter_exe_refused(lab):
    for word, why in (("bin/curl", "write it from the root"), ("./curl", "write it from the root"),
                      ("/usr/bin/", "write it from the root"), ("/", "write it from the root"),
                      ("/usr/../bin/curl", "without . and .."), ("", "exe is empty"),
                      ("/" + "x" * 256, "too long"), ("x" * 256, "too long")):
        p = lab.run([TLSSCOPE, "--exe", word, "-e", "on.tls_data(print)"], status=2)
        check(why in p.err() and "exe" in p.err(), f"{word}: {p.err()}")
        p = lab.run([TLSSCOPE, "--check", "-e", f'on.tls_data({{exe = "{word}"}}, print)'], status=1)
        check(why in p.err() and "-e:1" in p.err(), f"{word}: {p.err()}")


@case()
def filter_exe_doctor(lab):
    pair = floods(lab)
    p = lab.run([TLSSCOPE, "doctor", "--exe", pair[0].args[0]])
    check(str(pair[0].pid).encode() in p.out() and str(pair[1].pid).encode() not in p.out(),
          p.out().decode())
