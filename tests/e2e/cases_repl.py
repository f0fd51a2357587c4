# SPDX-License-Identifier: MIT
"""The prompt: through a real terminal (tmux), and from a pipe."""
import os
import re
import shutil
import stat
import subprocess
import time

from cases_cli import copy_for_nobody
from cases_pitfalls import libssl
from harness import NOBODY, PYTHON, TLSSCOPE, Fail, case, check, same, wait_for

# TLS in memory, RATE writes and as many reads a second.
TALKER = """
import ssl, sys, time

def side(server):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    if server:
        c.load_cert_chain(sys.argv[1])
    else:
        c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    i, o = ssl.MemoryBIO(), ssl.MemoryBIO()
    return c.wrap_bio(i, o, server_side=server), i, o

a, ai, ao = side(False)
b, bi, bo = side(True)

def shake(s):
    try:
        s.do_handshake()
    except ssl.SSLWantReadError:
        pass

for _ in range(4):
    shake(a); bi.write(ao.read()); shake(b); ai.write(bo.read())
print("talking", flush=True)
gap = 1 / int(sys.argv[2])
due = time.monotonic()
while True:
    a.write(b"ping")
    bi.write(ao.read())
    b.read()
    due += gap
    time.sleep(max(0, due - time.monotonic()))
"""


class Prompt:
    """tlsscope in a terminal of its own."""

    def __init__(self, lab, *options, rows=30, columns=100, env=None, argv=(TLSSCOPE,), prompt="tlsscope>"):
        lab.need("tmux")
        lab.count += 1
        self.lab, self.socket = lab, lab.path(f"tmux{lab.count}")
        env = lab.environment({"TERM": "screen", "XDG_STATE_HOME": lab.path("state"), **(env or {})})
        words = ["env", "-i", *(f"{k}={v}" for k, v in env.items()), *argv, *options]
        self.tmux("-f", "/dev/null", "new-session", "-d", "-c", lab.dir, "-x", str(columns), "-y", str(rows), *words)
        self.tmux("set-option", "-g", "remain-on-exit", "on")
        self.wait(prompt)

    def tmux(self, *words):
        p = subprocess.run(["tmux", "-S", self.socket, *words], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env=self.lab.environment(None))
        check(not p.returncode, f"tmux {words[0]}: {p.stderr.decode()}")
        return p.stdout.decode()

    def pid(self):
        return int(self.tmux("display-message", "-p", "#{pane_pid}"))

    def lines(self):
        return [line.rstrip() for line in self.tmux("capture-pane", "-p", "-S", "-500").rstrip()
                .split("\n")]

    def wait(self, text, seconds=20):
        try:
            wait_for(f"'{text}' on the screen", lambda: any(text in x for x in self.lines()), seconds)
        except Fail as e:
            raise Fail(f"{e}: " + " | ".join(self.lines()[-12:]))

    def last(self, line, seconds=10):
        """Waits until this is the last line, and the screen rests."""
        def there():
            return self.lines()[-1] == line
        try:
            wait_for("line", there, seconds)
        except Fail:
            raise Fail(f"the last line is not {line!r}: " + " | ".join(self.lines()[-12:]))

    def type(self, text):
        self.tmux("send-keys", "-l", "--", text)

    def keys(self, *names):
        self.tmux("send-keys", *names)

    def enter(self, text, answer=None):
        self.type(text)
        self.keys("Enter")
        if answer is not None:
            self.wait(answer)

    def works(self, n=[100]):
        """It still evaluates."""
        n[0] += 1
        self.enter(f"{n[0]}*1000", f"{n[0]}000")

    def end(self):
        self.last("tlsscope>")  # before, Ctrl-D is not yet readline's
        self.keys("C-d")
        self.ended()
        return self.lines()

    def ended(self):
        wait_for("end", lambda: self.tmux("display-message", "-p", "#{pane_dead}").strip() == "1", 20)

    def close(self):
        self.tmux("kill-server")


def talker(lab, rate):
    return lab.spawn([PYTHON, lab.write("talker.py", TALKER), lab.both, str(rate)], ready=b"talking")


def piped(lab, text, *options, status=0, env=None, program=TLSSCOPE, **how):
    # What a sanitizer keeps back is no leak.
    p = lab.run([program, *options], input=text, status=status,
                env={"XDG_STATE_HOME": lab.path("state"), "ASAN_OPTIONS": "quarantine_size_mb=0",
                     **(env or {})}, **how)
    return p.out().decode(), p.err()


@case()
def repl_evaluates(lab):
    """Expressions, statements, what is unfinished, locals that live on, _, limits."""
    out, err = piped(lab, """1+1
local x, y <const> = 5, 6
x + y
function inc()
	x = x + 1
	return x
end
inc()
_ + x
local function twice(n) return 2 * n end -- a comment
twice(x)
"a\\27[31m\\n"
{3, 1, b = {c = {d = {e = {f = 1}}}}, ["a b"] = true}
for i = 1, 2 do
print(i)
end
nil
(function() end)()
local t = {} for i = 1, 60 do t[i] = i end
.set items 3
t
x
""")
    same("output", out, """2
11
6
12
12
"a\\x1b[31m\\n"
{3, 1, ["a b"] = true, b = {c = {d = {e = {... 1}}}}}
1
2
nil
{1, 2, 3, ... 57 more}
6
""")
    same("errors", err, "")


@case()
def repl_tells_errors(lab):
    """Each with its place and the nearest name; the next line is evaluated; the status is 1."""
    out, err = piped(lab, """prnt(1)
x y
on.tls_raed(print)
local c <const> = 1
c = 2
function f() undeclared = 1 end
f()
.hlep
config{bufer = 1}
print("still here")
if true then
""", status=1)
    same("output", out, "still here\n")
    for text in ("undefined global 'prnt', did you mean 'print'?\n     1 | prnt(1)\n       | ^^^^",
                 "     1 | x y\n       |   ^", "did you mean 'tls_read'", "'c' is a constant",
                 "global 'undeclared' is made inside a function", "did you mean .help?",
                 "did you mean 'buffer'?", "ends in the middle"):
        check(text in err, f"not told: {text!r}: {err}")


@case()
def repl_typing(lab):
    """1,000 events a second: the line stays whole, the flood is counted, the size changes."""
    talker(lab, 500)
    p = Prompt(lab)
    p.enter("on.tls_data({comm = \"python3\"}, function(e) print(\"event\", e.dir, e.len) end)",
            "1: tls_data in")
    p.wait("event")
    text = "print(\"" + "typed in a flood, " * 3 + "\")"
    for letter in text:
        p.type(letter)
    p.last("tlsscope> " + text)
    p.wait("held back")
    for width in (70, 40, 120):
        p.tmux("resize-window", "-x", str(width), "-y", "25")
        time.sleep(0.5)
        joined = "".join(p.lines()[-(len(text) + 10 + width - 1) // width:])
        check(joined.endswith("tlsscope> " + text), f"at {width} columns: {p.lines()[-5:]}")
    p.keys("C-a", "Right", "Right", "C-k")
    p.last("tlsscope> pr")
    p.keys("C-u")
    p.enter(".pause")
    time.sleep(0.5)
    check(sum("held back" in line for line in p.lines()) < 20, "the counter is not one line")
    before = [line for line in p.lines() if line.startswith("event")]
    time.sleep(1)
    same("events while paused", str(len([x for x in p.lines() if x.startswith("event")])),
         str(len(before)))
    p.works()
    p.enter(".last", "\"ping\"")
    p.enter(".hex", "70 69 6e 67")
    p.enter(".off all")
    p.enter(".on", "no handlers")
    p.end()
    p.close()


@case()
def repl_slow_events(lab):
    """What does not flood is shown, above the line being typed."""
    talking = talker(lab, 10)
    p = Prompt(lab)
    p.enter("local n = 0")
    p.enter("on.tls_write({pid = %d}, function(e) n = n + 1 print(\"event\", n) end)" % talking.pid,
            "1: tls_write in")
    for letter in "slowly typed":
        p.type(letter)
        time.sleep(0.1)
    p.last("tlsscope> slowly typed")
    seen = [int(x.split()[1]) for x in p.lines() if x.startswith("event")]
    same("events", str(seen), str(list(range(1, len(seen) + 1))))
    check(len(seen) > 5 and not any("held" in x for x in p.lines()), f"{p.lines()}")
    p.close()


@case()
def repl_interrupts(lab):
    """Ctrl-C, whatever is going on: that ends, all else stays."""
    p = Prompt(lab)
    p.enter("local kept = 42")
    p.type("half a li")
    p.last("tlsscope> half a li")
    p.keys("C-c")
    p.wait("half a li^C")
    p.works()
    p.enter("function f(")
    p.last("       >>")
    p.keys("C-c")
    p.last("tlsscope>")
    p.works()
    p.keys("C-r")
    p.wait("reverse-i-search")
    p.keys("C-c")
    p.works()
    p.enter("while true do end")
    time.sleep(0.5)
    p.keys("C-c")
    p.wait("interrupted")
    p.works()
    p.enter("repeat pcall(error) until false")
    time.sleep(0.5)
    p.keys("C-c")
    p.works()
    p.enter("local h = every(\"100ms\", function() while true do end end)")
    time.sleep(0.5)
    p.keys("C-c")
    p.wait("interrupted")
    p.wait("paused: .resume 1")
    p.enter("h:detach()")
    p.enter(".run sleep 60")
    time.sleep(0.5)
    p.keys("C-c")
    p.wait("signal 2")
    p.enter("kept", "42")
    p.close()


COMPLETIONS = [  # what is typed before TAB, and the line after it
    ("on.ssl_r", "on.ssl_read"), ("on.tls_read({err", "on.tls_read({errors = "),
    ("on.tls_read({errors = t", "on.tls_read({errors = true"),
    ("on.tls_read({comm = \"own-na", "on.tls_read({comm = \"own-name\""),
    ("on.tls_read({lib = \"libssl", "on.tls_read({lib = \"libssl.so.3\""),
    ("target{exclude = {com", "target{exclude = {comm = "),
    ("on.tls_read(function(e) print(e.trunc", "on.tls_read(function(e) print(e.truncated"),
    ("on.tls_read(function(e) print(e.conn.bytes_i", "on.tls_read(function(e) print(e.conn.bytes_in"),
    ("on.lost(function(x) print(x.rea", "on.lost(function(x) print(x.reasons"),
    ("count(\"x\", {from = \"tls_wr", "count(\"x\", {from = \"tls_write\""),
    ("count(\"x\", {max_k", "count(\"x\", {max_keys = "),
    ("config{att", "config{attach = "), ("config{attach = \"mu", "config{attach = \"multi\""),
    ("mine.alp", "mine.alpha"), ("mine.alpha.be", "mine.alpha.beta"), ("hexd", "hexdump"),
    ("string.rep", "string.rep"), ("trap.x", "trap.x"), (".wat", ".watch"), (".load tlst", ".load tlstop"),
    (".load scrip", ".load script.lua"), (".help gotls_w", ".help gotls_write"),
    ("on.http(function(t) print(t.meth", "on.http(function(t) print(t.method"),
    ("on.http(function(t) print(t.request.start", "on.http(function(t) print(t.request.started_ns"),
    ("on.grpc_call(function(c) print(c.serv", "on.grpc_call(function(c) print(c.service"),
    ("on.ws_message(function(m) print(m.opc", "on.ws_message(function(m) print(m.opcode"),
    ("on.tls_data(function(e) if e.dir == \"o", "on.tls_data(function(e) if e.dir == \"out\""),
    ("total:qua", "total:quantile"), ("total:dis", "total:dis"), (".set attach mu", ".set attach multi"),
    (".watch 1s on.tls_o", ".watch 1s on.tls_open"), (".ps s", ".ps s"), (".help http_req", ".help http_request"),
]


@case()
def repl_completes(lab):
    """TAB, by where the cursor stands; nothing of the user's runs for it."""
    lab.write("script.lua", "print(1)\n")
    sleeper = lab.path("own-name")
    os.symlink("/bin/sleep", sleeper)
    lab.spawn([sleeper, "60"])
    p = Prompt(lab)
    p.enter("local mine = {alpha = {beta = 1}}")
    p.enter("total = sum(\"total\")")
    p.enter("trap = setmetatable({}, {__index = function() print(\"RAN\") end})")
    for typed, whole in COMPLETIONS:
        p.type(typed)
        p.keys("Tab")
        p.last("tlsscope> " + whole.rstrip())
        p.keys("C-u")
    talking, _ = talker(lab, 1), talker(lab, 1)  # one alone would be typed, not listed
    p.type("target{pid = ")
    p.keys("Tab", "Tab", "Tab")  # the first may add what they have in common
    p.wait(f"{talking.pid} python3")
    check(not any(x.startswith("RAN") for x in p.lines()), f"a metamethod ran: {p.lines()}")
    p.close()


@case()
def repl_paste(lab):
    """Several lines at once: a function, and what calls it."""
    p = Prompt(lab)
    text = "function add(a, b)\n\tlocal sum = a + b\n\treturn sum\nend\nlocal five = add(2, 3)\n"
    p.tmux("set-buffer", text)
    p.tmux("paste-buffer", "-p")
    p.keys("Enter")
    p.enter("five * 1111", "5555")
    p.close()


@case()
def repl_history(lab):
    """Kept from one session to the next, an input of several lines as one, for nobody else."""
    p = Prompt(lab)
    p.enter("\"first\" .. 1", "\"first1\"")
    p.enter("function g()")
    p.enter("return 77 * 3 end")
    p.end()
    p.close()
    path = lab.path("state/tlsscope/history")
    same("mode", oct(stat.S_IMODE(os.stat(path).st_mode)), "0o600")
    same("mode of the folder", oct(stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode)), "0o700")
    p = Prompt(lab)
    p.keys("Up", "Enter")
    p.enter("g()", "231")
    p.keys("C-r")
    p.type("fir")
    p.wait("\"first\" .. 1")
    p.close()


@case()
def repl_inputrc(lab):
    """The user's own settings of readline."""
    rc = lab.write("inputrc", "\"\\C-t\": \"6 * 111\"\n")
    p = Prompt(lab, env={"INPUTRC": rc})
    p.keys("C-t")
    p.last("tlsscope> 6 * 111")
    p.keys("Enter")
    p.wait("666")
    p.close()


@case()
def repl_live(lab):
    """Handlers come and go; a histogram by process; what is saved does the same by itself."""
    talker(lab, 20)
    p = Prompt(lab)
    p.enter("local least = 3")
    p.enter("on.tls_write({comm = \"python3\"}, function(e) if e.len > least then print(\"got\", e.data) "
            "end end)", "1: tls_write in")
    p.wait("got\tping".expandtabs())
    p.enter("hist(\"read_us\", {from = \"tls_read\", value = \"duration_us\", by = \"comm\"})", "2: hist")
    p.enter("on.tls_data(function(e) print(\"gone\") end)", "3: tls_data")
    p.enter(".off 3")
    p.enter(".show read_us", "python3")
    p.enter(".targets", "openssl")
    p.enter(".ps", "python3")
    p.enter(".stats", "records")
    p.enter(".watch 100ms \"watched\" .. least", "watched3")
    p.enter(".off 4")
    p.enter("tls_write?", "plaintext written")
    p.enter(".save saved.lua", "written to saved.lua")
    check("read_us" in "\n".join(p.end()[-25:]), "the end prints no aggregation")
    p.close()
    saved = open(lab.path("saved.lua")).read()
    check("gone" not in saved and "watched" not in saved, f"what is off is saved: {saved}")
    run = lab.spawn([TLSSCOPE, lab.path("saved.lua")])
    wait_for("output of the saved script", lambda: b"got" in run.out())
    run.stop(2)
    check(b"got\tping" in run.out() and b"read_us" in run.out(), f"{run.out()[-500:]!r}")


@case()
def repl_scripts(lab):
    """-i after a script, .load, and both saved."""
    path = lab.write("script.lua", "greeting = (...) or \"hello\"\nevery(\"1h\", function() end)\n")
    out, err = piped(lab, "greeting\n.on\n.load script.lua again\ngreeting\n.save all.lua\n", "-i", path,
                     "word")
    check(re.search(r'1: every.*"word".*1  every.*2: every.*"again"', out, re.S), out + err)
    out, err = piped(lab, "greeting\n.on\n", "-i", lab.path("all.lua"))
    check('"again"' in out and "2  every" in out, out + err)
    out, err = piped(lab, "1+1\n", "-i", "-e", "x y", status=0)
    check(out == "2\n" and "syntax error" in err, out + err)
    piped(lab, ".save script.lua\n", status=1)
    out, err = piped(lab, "1 + 1\n.edit\n", env={"EDITOR": "sed -i s/1/20/"})
    same("what was edited", out, "2\n21\n")
    out, err = piped(lab, "1 + 1\nprint('a')\n", "-f", "json")
    same("as JSON", out, '{"text":"2","type":"print"}\n{"text":"a","type":"print"}\n')
    out, err = piped(lab, "n = 1\nexit(7)\n", status=7)


@case()
def repl_libs_narrows(lab):
    """.libs PATTERN lists what the pattern names, of what --lib names."""
    libs = [lab.path(name) for name in ("libssl-own.so", "libssl-other.so")]
    for path in libs:
        shutil.copy(libssl(), path)
    options = [word for path in libs for word in ("--lib", path)]
    for pattern, seen in (("", (True, True)), ("libssl-own", (True, False)), ("libgnutls", (False, False))):
        out, err = piped(lab, f".libs {pattern}\n", *options)
        same(f"libraries that '{pattern}' lists", tuple(path in out for path in libs), seen)


@case()
def repl_runs_commands(lab):
    """.run: the prompt waits for the command, and its calls are seen."""
    lab.need("openssl")
    script = lab.write("talk.py", TALKER.replace("while True", "for _ in range(20)"))
    os.symlink(PYTHON, lab.path("own-python"))
    out, err = piped(lab, f"""local n = 0
on.tls_write({{comm = "own-python"}}, function() n = n + 1 end)
.run ./own-python {script} {lab.both} 100
n
""")
    check(out.split()[-1] == "20", out + err)


@case()
def repl_without_root(lab):
    """A handler cannot be attached, which is told; the rest of the prompt works."""
    out, err = piped(lab, "on.tls_read(print)\n1 + 1\n.on\n", status=1,
                     program=copy_for_nobody(lab), user=NOBODY)
    check("1: tls_read, not attached" in out and "\n2\n" in out, out + err)
    check(err.count("tlsscope:") == 1 and "root" in err, err)


@case()
def repl_leaks(lab):
    """10,000 lines leave nothing behind."""
    size = "io.open(\"/proc/self/statm\"):read(\"a\"):match(\"%d+ (%d+)\") * 4\n"
    work = "".join(f"print({i})\n{{a = {i}, \"text {i}\"}}\n(function() local x = {i} end)()\nnosuch{i}\nx y\n"
                   for i in range(100))
    out, _ = piped(lab, work * 4 + "collectgarbage()\n" + size + work * 20 + "collectgarbage()\n" + size,
                   status=1, timeout=120)
    before, after = (int(float(x)) for x in re.findall(r"^(\d+(?:\.\d+)?)$", out, re.M)
                     if float(x) > 1000)
    check(after - before < 1500, f"{before} KiB grew to {after} KiB")
