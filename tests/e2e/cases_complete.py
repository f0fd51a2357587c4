# SPDX-License-Identifier: MIT
"""Completion in the shells, as it is installed: bash and zsh, each in a real terminal."""
import os
import shutil
import subprocess

from harness import PYTHON, ROOT, TLSSCOPE, Fail, case, check, wait_for

# What is typed before TAB, and what must be on the line, or on the screen, after it.
TYPED = [
    ("tlsscope --dry", "tlsscope --dry-run"),
    ("tlsscope --conta", "tlsscope --container"),
    ("tlsscope handsh", "tlsscope handshakes"),
    ("tlsscope -q hexsn", "tlsscope -q hexsniff"),
    ("tlsscope -f js", "tlsscope -f json"),
    ("tlsscope --time rel", "tlsscope --time relative"),
    ("tlsscope -l gotls_wr", "tlsscope -l gotls_write"),
    ("tlsscope help quant", "tlsscope help quantile"),
    ("tlsscope httplog --sid", "tlsscope httplog --side"),
    ("tlsscope -e 'on.http_requ", "on.http_request"),
    ("tlsscope -o outfi", "tlsscope -o outfile.txt"),
    ("tlsscope -f text own-scr", "tlsscope -f text own-script.lua"),
    ("tlsscope --comm {comm}", "tlsscope --comm {whole}"),
]


class Shell:
    """A shell in a terminal of its own, that finds the program by PATH."""

    def __init__(self, lab, words, begin):
        lab.need("tmux")
        self.lab, self.socket = lab, lab.path("tmux")
        os.makedirs(lab.path("bin"), exist_ok=True)
        os.symlink(TLSSCOPE, lab.path("bin/tlsscope"))
        env = {**lab.environment(None), "TERM": "screen", "HOME": lab.path("home"),
               "PATH": f"{lab.path('bin')}:/usr/bin:/bin:/usr/sbin:/sbin"}
        os.makedirs(env["HOME"], exist_ok=True)
        self.tmux("-f", "/dev/null", "new-session", "-d", "-c", lab.dir, "-x", "150", "-y", "50",
                  "env", "-i", *(f"{k}={v}" for k, v in env.items()), *words)
        self.send(begin + "; PS1='rea''dy> '; clear\n")
        self.wait("ready>")

    def tmux(self, *words):
        p = subprocess.run(["tmux", "-S", self.socket, *words], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env=self.lab.environment(None))
        check(not p.returncode, f"tmux {words[0]}: {p.stderr.decode()}")
        return p.stdout.decode()

    def send(self, text):
        self.tmux("send-keys", "-l", text)

    def screen(self):
        return self.tmux("capture-pane", "-p")

    def wait(self, text):
        try:
            wait_for(f"'{text}' on the screen", lambda: text in self.screen(), 30)
        except Fail as e:
            raise Fail(f"{e}: {self.screen().rstrip()}")

    def completes(self, typed, wanted):
        # What is typed while a shell starts a line anew may be thrown away.
        for tries in range(5):
            self.tmux("send-keys", "C-c")
            self.send("\x15clear\n")
            try:
                wait_for("an empty screen", lambda: self.screen().strip() == "ready>", 5)
                break
            except Fail:
                check(tries < 4, f"no empty screen before {typed}: {self.screen().rstrip()}")
        self.send(typed + "\t")
        self.wait(wanted)

    def close(self):
        self.tmux("kill-server")


def in_shell(lab, words, begin):
    program = lab.path(f"has{os.getpid()}x")
    shutil.copy(lab.victim("flood"), program)
    p = lab.spawn([program, lab.cert, lab.key, "1", "100"], ready=b"waiting",
                  stdin=subprocess.PIPE)
    for name in ("outfile.txt", "own-script.lua"):
        lab.write(name, "")
    whole = os.path.basename(program)
    shell = Shell(lab, words, begin)
    try:
        for typed, wanted in TYPED:
            shell.completes(typed.format(comm=whole[:-1]), wanted.format(whole=whole))
        # Several: all are shown.
        shell.completes("tlsscope --l\t\t", "--laddr")
        shell.wait("--lport")
        shell.completes("tlsscope doctor " + str(p.pid)[:-1], f"tlsscope doctor {str(p.pid)[:-1]}")
    finally:
        shell.close()


@case(needs=["bash"])
def complete_bash(lab):
    in_shell(lab, ["bash", "--norc", "--noprofile", "-i"],
             f"source {ROOT}/completion/tlsscope.bash")


@case(needs=["zsh"])
def complete_zsh(lab):
    in_shell(lab, ["zsh", "-f", "-i"], f"fpath=({ROOT}/completion $fpath); autoload -Uz compinit; "
             f"compinit -u -d {lab.path('zdump')}; zmodload zsh/complist")


@case()
def complete_nobody_runs(lab):
    """What was typed is never run, and what does not belong is not offered."""
    code = "io.open('made', 'w') on."
    out = lab.run([TLSSCOPE, "complete", "-e", code]).out().decode()
    check("on.tls_open\t" in out and not os.path.exists(lab.path("made")), out)
    for words, wanted in ((["--time", "="], "utc"), (["--time=u"], "utc"), (["-p", ""], None),
                          (["nothing.lua", "--"], ""), (["--no-such", ""], "sniff"),
                          ([], "doctor")):
        out = lab.run([TLSSCOPE, "complete", *words]).out().decode()
        check(wanted is None or (wanted in out if wanted else not out), f"{words}: {out}")
    pid = lab.spawn([PYTHON, "-c", "import ssl, time\nprint('there', flush=True)\ntime.sleep(60)"],
                    ready=b"there").pid
    out = lab.run([TLSSCOPE, "complete", "-p", str(pid)]).out().decode()
    check(out.startswith(f"{pid}\tpython3, libssl"), out)
