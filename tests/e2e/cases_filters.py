# SPDX-License-Identifier: MIT
"""Who is traced: each key, in each place where it can be said, keeps a second program out."""
import os
import shutil
import subprocess

from cases_pitfalls import own_library
from harness import NOBODY, case, check

SEEN = """
config{{buffer = "64M", capture = 0}} -- the rest of the machine may be busy
{before}
on.tls_data({options}, function(e) emit{{type = "seen", pid = e.pid, comm = e.comm}} end)
on.start(function() emit{{type = "ready"}} end)
on.attach(function(a) emit{{type = "attach", path = a.path}} end)
"""


def own_name(letter):
    """A program's name that no other case has at the same time, as the kernel keeps it."""
    return f"fl{os.getpid()}-{letter}"


def floods(lab, **how):
    """Two programs alike but for what the case varies by their letters a and b: they wait for a line."""
    program, found = lab.victim("flood"), []
    for letter in "ab":
        path = shutil.copy(program, lab.path(own_name(letter)))
        found.append(lab.spawn([path, lab.cert, lab.key, "5", "100"], ready=b"waiting",
                               stdin=subprocess.PIPE, **how.get(letter, {})))
    return found


def pids_seen(lab, options, before, handler, pair):
    script = SEEN.format(before=before, options=handler or "{}")
    tracer = lab.tracer(*options, script=script)
    for p in pair:
        p.say()
        p.finish()
    return {r["pid"] for r in tracer.stop().records if r["type"] == "seen"}


def each_place(lab, key, value, other, **how):
    """
    key: of target{}. value: a function of a process that gives what names it, in Lua. other: a value
    that names neither.
    """
    def word(p):
        return value(p).strip('"')
    ways = [
        (f"--{key} A", lambda a, b: ([f"--{key}", word(a)], "", ""), "a"),
        (f"--{key} A --{key} B", lambda a, b: ([f"--{key}", word(a), f"--{key}", word(b)], "", ""),
         "ab"),
        ("target", lambda a, b: ([], f"target{{{key} = {value(a)}}}", ""), "a"),
        ("target list", lambda a, b: ([], f"target{{{key} = {{{value(b)}, {other}}}}}", ""), "b"),
        ("target exclude", lambda a, b: ([], f"target{{exclude = {{{key} = {value(a)}}}}}", ""), "b"),
        ("handler", lambda a, b: ([], "", f"{{{key} = {value(b)}}}"), "b"),
        ("handler exclude", lambda a, b: ([], "", f"{{exclude = {{{key} = {{{value(b)}}}}}}}"), "a"),
        ("both", lambda a, b: ([f"--{key}", word(a), f"--{key}", word(b)], "",
                               f"{{{key} = {value(b)}}}"), "b"),
        ("disjoint", lambda a, b: ([f"--{key}", word(a)], "", f"{{{key} = {value(b)}}}"), ""),
    ]
    for name, said, expected in ways:
        pair = floods(lab, **how)
        options, before, handler = said(*pair)
        got = pids_seen(lab, options, before, handler, pair)
        names = "".join(n for n, p in zip("ab", pair) if p.pid in got)
        check(names == expected, f"{name}: saw {names or 'nobody'}, not {expected or 'nobody'}")
        strangers = got - {p.pid for p in pair}
        if "exclude" not in name:
            check(not strangers, f"{name}: saw strangers {strangers}")


@case(timeout=120)
def filter_pid(lab):
    each_place(lab, "pid", lambda p: str(p.pid), str(os.getpid()))


@case(timeout=120)
def filter_comm(lab):
    each_place(lab, "comm", lambda p: f'"{os.path.basename(p.args[0])}"', '"nobody-else"')


@case(timeout=120)
def filter_uid(lab):
    def uid(p):
        return str(os.stat(f"/proc/{p.pid}").st_uid)
    each_place(lab, "uid", uid, "4242",
               a={"user": NOBODY}, b={"user": DAEMON})


class DAEMON:
    pw_uid = pw_gid = 1


@case(timeout=120)
def filter_lib(lab):
    """Two copies of libssl, one a program."""
    folders = []
    for n in "12":
        folder, path = own_library(lab)
        os.rename(folder, folder + n)
        folders.append(folder + n)
        name = os.path.basename(path)
        for link in os.listdir(folder + n):
            full = os.path.join(folder + n, link)
            if os.path.islink(full):
                os.unlink(full)
                os.symlink(name, full)
    env = {c: {"env": {"LD_LIBRARY_PATH": f}} for c, f in zip("ab", folders)}

    def library(p):
        folder = folders[p.args[0].endswith("-b")]
        return '"' + os.path.join(folder, name) + '"'
    each_place(lab, "lib", library, '"libnothing*"', **env)


@case()
def filter_user_name(lab):
    pair = floods(lab, a={"user": NOBODY})
    check(pids_seen(lab, ["--uid", "nobody"], "", "", pair) == {pair[0].pid}, "not only nobody's")


@case()
def filter_keys_intersect(lab):
    """Different keys: all must pass."""
    pair = floods(lab)
    got = pids_seen(lab, ["--comm", own_name("a"), "--comm", own_name("b"), "-p", str(pair[1].pid)], "",
                    '{uid = 0}', pair)
    check(got == {pair[1].pid}, f"saw {got}, not {pair[1].pid}")
    # Of a process that is named by its number the libraries can be narrowed too.
    pair = floods(lab)
    got = pids_seen(lab, ["-p", str(pair[0].pid), "--lib", "libssl"], "", "", pair)
    check(got == {pair[0].pid}, f"-p with --lib: saw {got}, not {pair[0].pid}")


@case()
def filter_late_process(lab):
    """A process that starts after the attach is found by its name."""
    program = shutil.copy(lab.victim("flood"), lab.path(own_name("late")))
    tracer = lab.tracer("--comm", own_name("late"), script=SEEN.format(before="", options="{}"))
    p = lab.spawn([program, lab.cert, lab.key, "5", "100"], ready=b"waiting", stdin=subprocess.PIPE)
    p.say()
    p.finish()
    seen = [r for r in tracer.stop().records if r["type"] == "seen"]
    check(len(seen) == 10 and {r["pid"] for r in seen} == {p.pid}, f"{len(seen)} events, not 10")
