# SPDX-License-Identifier: MIT
"""The prompt at its worst: what does not end, what is stopped, what is taken away."""
import os
import signal
import time

from cases_repl import Prompt, piped, talker
from harness import TLSSCOPE, Fail, bpf_gone, bpf_ids, case, check, descendants, same, wait_for

BOMB = "(\"a\"):rep(60):find((\".-\"):rep(20) .. \"b\")"
STUBBORN = "while true do pcall(function() while true do end end) end"
MODE = "stty -a | grep -o \"[ -]icanon\" | tr \" \" +"


def cursor(p, axis):
    return int(p.tmux("display-message", "-p", f"#{{cursor_{axis}}}"))


class Shell(Prompt):
    """tlsscope started from a shell that leaves the terminal's settings to it."""

    def __init__(self, lab):
        super().__init__(lab, argv=["sh", "-c", "PS1='shell$ ' exec sh"], prompt="shell$")

    def start(self):
        self.enter("clear")
        wait_for("empty screen", lambda: cursor(self, "y") == 0)
        self.last("shell$")
        self.tmux("clear-history")
        self.enter(TLSSCOPE)
        self.wait("tlsscope>")

    def tool(self):
        """The number of the process that has the prompt."""
        found = [pid for pid in descendants(self.pid()) if os.readlink(f"/proc/{pid}/exe") == TLSSCOPE]
        same("processes", str(len(found)), "1")
        return found[0]

    def held(self):
        return bpf_ids(self.tool())

    def is_cooked(self):
        self.last("shell$")
        self.keys("Enter")
        self.type(MODE)
        self.keys("Enter")
        try:
            self.wait("+icanon", 10)
        except Fail:
            raise Fail(f"the terminal is not as it was: {self.lines()[-6:]}")


def has_ended(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return f.read().split()[2] == "Z"
    except FileNotFoundError:
        return True


def run(p, line):
    """
    Enters what does not return, and waits until that is taken: with Ctrl-C the terminal throws away what was
    typed and not yet read.
    """
    p.enter(line)
    wait_for("line to be taken", lambda: cursor(p, "x") == 0)


def interrupt(p, answer):
    """Ctrl-C until it is answered: an event may not have come yet."""
    def answered():
        p.keys("C-c")
        time.sleep(0.5)
        return any(answer in x for x in p.lines())
    try:
        wait_for("answer", answered, 40)
    except Fail:
        raise Fail(f"no {answer!r}: {p.lines()[-12:]}")


@case(timeout=120)
def repl_interrupts_the_stubborn(lab):
    """A coroutine and a handler that catch every error; the handler is paused at its first event."""
    talking = talker(lab, 50)
    p = Prompt(lab)
    run(p, f"co = coroutine.wrap(function() {STUBBORN} end) co()")
    interrupt(p, "interrupted")
    p.works()
    p.enter("on.tls_write({pid = %d}, function(e) print(\"run\") %s end)" % (talking.pid, STUBBORN),
            "1: tls_write in")
    interrupt(p, "handler 1 of tls_write is paused: .resume 1")
    p.works()
    same("runs", str(sum(x.endswith("run") for x in p.lines())), "1")
    p.enter(".off all")
    p.enter("on.http(print)", "2: http in")
    check("nil" not in p.lines(), f"more than the handle is shown: {p.lines()}")
    p.end()
    p.close()


@case(timeout=120)
def repl_ends_what_does_not(lab):
    """A function in C that does not return: Ctrl-C says so, one more ends; SIGHUP ends alone."""
    talker(lab, 50)
    p = Shell(lab)
    p.start()
    p.enter("on.tls_data(function() end)", "1: tls_data in")
    held = p.held()
    run(p, BOMB)
    interrupt(p, "Ctrl-C again ends")
    p.keys("C-c")
    bpf_gone(held)
    p.is_cooked()
    p.start()
    p.enter("on.tls_data(function() end)", "1: tls_data in")
    held, pid = p.held(), p.tool()
    p.enter("setmetatable({}, {__gc = function() while true do end end}) collectgarbage()")
    time.sleep(1)
    p.close()
    wait_for("end", lambda: has_ended(pid), 60)
    bpf_gone(held)


@case(timeout=90)
def repl_stops_and_goes_on(lab):
    """Ctrl-Z gives the terminal back as it was, fg takes it again; so do all ways of ending."""
    p = Shell(lab)
    p.start()
    p.type("half")
    p.last("tlsscope> half")
    p.keys("C-z")
    p.wait("Stopped")
    p.is_cooked()
    p.enter("fg", "tlsscope> half")
    p.type(" .. 1")
    p.last("tlsscope> half .. 1")
    p.keys("C-u")
    p.works()
    p.keys("C-d")
    p.is_cooked()
    for number in (signal.SIGQUIT, signal.SIGTERM):
        p.start()
        p.last("tlsscope>")
        os.kill(p.tool(), number)
        p.wait("shell$")
        p.is_cooked()
    p.close()


@case()
def repl_editor_has_the_keys(lab):
    """Ctrl-C in the editor is the editor's: what was edited runs."""
    editor = lab.write("editor", "#!/bin/sh\nn=0\ntrap 'n=$((n+1)); echo $n keys' INT\necho edits\n"
                       "while [ $n -lt 3 ]; do sleep 1; done\n"
                       "echo 'local n = 0 for i = 1, 3e7 do n = n + 1 end print(n)' > $1\n", 0o755)
    p = Prompt(lab, env={"EDITOR": editor})
    p.enter("1 + 1", "2")
    p.enter(".edit", "edits")
    for n in range(3):
        p.keys("C-c")
        p.wait(f"{n + 1} keys")
    p.wait("30000000", 60)
    p.works()
    p.close()


@case()
def repl_last_event(lab):
    """.last and .hex know every kind of event, and say what an event has not."""
    record = lab.path("one.rec")
    lab.need("curl")
    lab.need("openssl")
    port = lab.port()
    lab.write("page", b"a page\n")
    lab.spawn(["openssl", "s_server", "-accept", str(port), "-key", lab.key, "-cert", lab.cert, "-WWW"], port=port)
    command = f".run curl -sk -o {record} https://127.0.0.1:{port}/page\n"
    mine = f"{{rport = {port}}}"
    out, err = piped(lab, f"on.http({mine}, function() end)\n{command}.last\n.hex 4\n.off all\n"
                     f"on.tls_open({mine}, function() end)\n{command}.hex\n.hex x\n", status=1)
    for text in ("  status       200", f"  url          \"https://127.0.0.1:{port}/page\"", "61 20 70 61", "3 more bytes"):
        check(text in out, f"no {text!r}: {out} {err}")
    for text in ("the last event, tls_open, has no plaintext", ".hex takes a number of bytes, not x"):
        check(text in err, f"not told: {text!r}: {err}")


@case()
def repl_helps(lab):
    """.help fits a screen of 24 lines and 80 columns; words that are not the names lead to them."""
    out, err = piped(lab, ".help\n.run sniff -x\n", status=1)
    check(len(out.splitlines()) < 24 and max(map(len, out.splitlines())) < 80, out)
    check("sniff is a recipe: .load sniff -x" in err, err)
    for line, told in ((".help histogram", "lhist"), ("histogram?", "hist "), (".help latency", "duration_us"),
                       (".help process name", "comm "), ("?", ".quit"), (".probes tls_*", "tls_hello"),
                       (".help on", "\n.on: ")):
        out, err = piped(lab, line + "\n")
        check(told in out and not err, f"{line}: {out}{err}")
    for field, right in (("latency", "duration_us"), ("size", "len"), ("coom", "comm")):
        _, err = piped(lab, f"hist('h', {{from = 'tls_read', value = '{field}'}})\n", status=1)
        check(f"unknown field of hist \"h\" (by, value): '{field}', did you mean '{right}'?" in err, err)
    _, err = piped(lab, ".probes nothing*\n", status=1)
    check("no event matches 'nothing*'" in err, err)


@case()
def repl_saves_what_is(lab):
    """Paused and detached as it is here, errors as they were; what cannot be said in a script is told."""
    lines = """names = {}
table.insert(names, "listed")
h = every("1h", function() end)
local g = every("1h", function() end)
every("1h", function() end)
for i = 1, 2 do every("1h", function() end) end
for i = 1, 2 do last = every("1h", function() end) end
every("1h", function() end) error("late")
print("not saved")
.pause 1
.pause 3
.off 5
.off 7
.save all.lua
"""
    out, err = piped(lab, lines, status=1)
    check(err.count("handler") == 1 and "handler 5 is off here, but not in the script" in err, err)
    check("written to all.lua" in out, out)
    script = lab.path("all.lua")
    out, err = piped(lab, ".on\nnames[1]\n", "-i", script)
    same("what is live", " ".join(x.split()[2] for x in out.splitlines() if " every " in x),
         "paused runs paused runs runs runs runs")
    check('"listed"' in out and "not saved" not in out and not err, out + err)


@case()
def repl_history_is_refused(lab):
    """A link to another's file is not followed: told, and the session goes on without."""
    os.makedirs(lab.path("state/tlsscope"))
    victim = lab.write("victim", "as it was\n")
    os.symlink(victim, lab.path("state/tlsscope/history"))
    p = Prompt(lab)
    p.wait("is not kept for the next session")
    p.works()
    p.keys("Up")
    p.wait("tlsscope> 1")
    p.keys("C-u")
    p.end()
    p.close()
    with open(victim, encoding="utf-8") as f:
        same("the other's file", f.read(), "as it was\n")
