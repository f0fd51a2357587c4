# SPDX-License-Identifier: MIT
"""What becomes of processes that nobody named: exec and exit, each once, and in order."""
import os
import shutil
import signal
import subprocess
import time

from cases_filters_ends import READY
from cases_pids import page_server
from harness import NOBODY, PYTHON, case, check, wait_for

TELL = READY + """
on.exec(function(e) emit{type = "exec", pid = e.pid, comm = e.comm} end)
on.exit(function(e) emit{type = "exit", pid = e.pid} end)
on.tls_data(function() end)
"""


@case()
def exec_changes_identity(lab):
    """A program that may not be dumped: for perf its exec ends the process."""
    program = lab.path("other")
    shutil.copy(shutil.which("sleep"), program)
    os.chown(program, NOBODY.pw_uid, -1)
    os.chmod(program, 0o4755)
    tracer = lab.tracer(script=TELL)
    p = lab.spawn([program, "1000"])
    tracer.wait_until("exec", b'"other"')
    subprocess.run(["true"], check=True)
    time.sleep(0.5)
    lives = [r["type"] for r in tracer.records() if r.get("pid") == p.pid]
    check(lives == ["exec"], f"while it lives was told: {lives}")
    p.stop()
    lives = [r["type"] for r in tracer.stop().records if r.get("pid") == p.pid]
    check(lives == ["exec", "exit"], f"of {p.pid} was told: {lives}")


@case()
def threads_end_together(lab):
    """A process ends once, with its last thread, whichever that is."""
    program = lab.victim("ends", libs=())
    tracer = lab.tracer(script=TELL)
    for _ in range(8):
        lab.run([program, "250"])
    ends = [r["pid"] for r in tracer.stop().records if r["type"] == "exit"]
    check(len(ends) >= 2000, f"only {len(ends)} ends were told")
    twice = {pid for pid in ends if ends.count(pid) > 1}
    check(not twice, f"told twice: {twice}")


# Asks, and ends without a word when told to.
ASKS_ONCE = """
import os, socket, ssl, sys
context = ssl._create_unverified_context()
s = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
s.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
s.recv(100)
print("asked", flush=True)
sys.stdin.readline()
os._exit(0)
"""


@case()
def lives_are_lost(lab):
    """There was no room for an exit: the process' connections end all the same."""
    port = page_server(lab)
    # Room enough for what other cases' programs do until it is stopped.
    tracer = lab.tracer("-v", script="config{buffer = 32768}" + READY + """
        on.tls_close({rport = %d}, function(e) emit{type = "close", pid = e.pid, how = e.how} end)
        """ % port)
    p = lab.spawn([PYTHON, "-c", ASKS_ONCE, str(port)], ready=b"asked", stdin=subprocess.PIPE)
    time.sleep(0.3)
    os.kill(tracer.process.pid, signal.SIGSTOP)
    subprocess.run(["sh", "-c", "for i in $(seq 800); do /bin/true; done"], check=True)
    p.say()
    p.finish()
    os.kill(tracer.process.pid, signal.SIGCONT)
    wait_for("the connection's end", lambda: any(
        r["type"] == "close" and r["pid"] == p.pid for r in tracer.records()))
    seen = tracer.stop()
    how = [r["how"] for r in seen.records if r["type"] == "close" and r["pid"] == p.pid]
    check(how == ["process ended"], f"how it ended: {how}")
    check("not all was told" in seen.stderr, "nothing was lost")
