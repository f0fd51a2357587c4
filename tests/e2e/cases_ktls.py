# SPDX-License-Identifier: MIT
"""Plaintext at the border of the kernel's own TLS: every call, by a program of ours."""
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time

import ktls
from golang import said
from harness import (NOBODY, TLSSCOPE, Fail, Skip, bpf_gone, bpf_ids, case, check, children, same,
                     wait_for)
from ktls import check_all, ktls_case, talk, talked, tap, traced

EVENT = """
on.start(function() emit{type = "ready"} end)
"""


# --- every call

def every_call(lab, version, ciphers, probes):
    """All ways to send and to receive: bytes, calls, peeks, control records, addresses."""
    talks = [talk(lab, "-V", version, "-C", cipher, *ktls.WALK) for cipher in ciphers]
    check_all(traced(lab, *talks, probes=probes), *talks, controls=probes != "tls_data")
    for t in (t for p in talks for t in said(p)):
        failed = {f"{n[0]} {n[3]}" for way in ("in", "out") for n in t[way]["failed"]}
        for what in ("recv EAGAIN", "recv EIO", "read EBADF", "send EFAULT"):
            check(what in failed, f"{ktls.whose(t)} met no {what}: {failed}")


# The unions leave the control records out. ChaCha20 came after Linux 5.10.
ONLY = "ktls_send,ktls_recv"
for _version, _ciphers, _probes in (
        ("1.2", ktls.AES, "tls_data"), ("1.2", ktls.CHACHA20, ONLY), ("1.3", ktls.AES, ONLY),
        ("1.3", ktls.CHACHA20, ONLY)):
    _name = f"ktls_{_version}_{_ciphers[0].split('_')[0]}_every_call".lower().replace(".", "_")
    ktls_case(_name, (f"TLSv{_version}", _ciphers, _probes))(every_call)


@ktls_case()
def ktls_sizes(lab):
    """Around a record's size, and up to 1 MiB in one call."""
    sizes = [1, 2, 4095, 4096, 4097, 16383, 16384, 16385, 32768, 32769, 65537, 100000]
    steps = [f"{how}:{n}" for n in sizes for how in ("send/recv", "<write/read")]
    seen, p = talked(lab, *steps, "writev/readv:300000", "<send/recv:1048576",
                     "sendfile/recv:300000", "send/read:40000@37")
    check_all(seen, p)


@ktls_case()
def ktls_connections(lab):
    """Two ends in one process, over IPv6; three connections, one after the other; IPv4 in IPv6."""
    steps = ["send/recv:3000*3", "<send/recv:20000", "alert"]
    one = talk(lab, "-t", "-6", "-n", "3", *steps)
    two = talk(lab, "-n", "3", *steps)
    three = talk(lab, "-m", *steps)
    tracer = tap(lab)
    for p in (one, two, three):
        p.say()
        p.finish()
    check_all(tracer.stop(), one, two, three)
    check(len({t["pid"] for t in said(one)}) == 1 and len(said(one)) == len(said(two)) == 6,
          "not the processes that this is about")


@ktls_case()
def ktls_capture_cuts(lab):
    """The first bytes of a call, whatever pieces they are in."""
    seen, p = talked(lab, "send/recv:50", "writev/readv:5000", "<wide/wide:60000",
                     "sendfile/recv:9000", "<splice/splice:3000", "<uring_fixed/recvmsg:3000",
                     want="1000")
    for t in said(p):
        calls = ktls.of_connection(seen, t)
        for way in ("in", "out"):
            at, mine = 0, [c for c in calls if c["dir"] == way]
            for c in mine:
                n = min(1000, c["len"])
                same(f"{ktls.whose(t)}, {way}, at {at}", c["data"], ktls.text(t[way]["tag"], at, n))
                check(c["truncated"] == (n < c["len"]), f"truncated is {c['truncated']}: {c}")
                at += c["len"]
            check(at == t[way]["bytes"], f"{ktls.whose(t)}, {way}: lengths of {at} bytes in all")


@ktls_case(needs=["modprobe"])
def ktls_used_by_the_kernel(lab):
    """A network block device: buffers of the kernel's, pages of a block request, in any thread."""
    device = "/dev/nbd9"
    if lab.run(["modprobe", "nbd"], status=None).returncode or not os.path.exists(device):
        raise Skip("this kernel has no network block devices (module nbd)")
    p = lab.spawn([lab.victim("ktls_nbd", libs=()), device], ready=b"waiting",
                  stdin=subprocess.PIPE)
    tracer = tap(lab)
    p.say()
    p.finish()
    seen, ends = tracer.stop(), {t["conn"]: t for t in said(p)}
    sent = {}
    for name, t in ends.items():
        mine = [c for c in seen.calls if c.get("lport") == t["lport"]]
        for c in mine:
            ktls.check_fields(c, t)
        for way in ("in", "out"):
            sent[name, way] = b"".join(c["data"] for c in mine if c["dir"] == way)
    for way in ("in", "out"):
        other = "out" if way == "in" else "in"
        same(f"the kernel's {way}, the server's {other}", sent["client", way],
             sent["server", other])
        check(len(sent["server", other]) == ends["server"][other]["bytes"],
              f"{len(sent['server', other])} bytes, not {ends['server'][other]['bytes']}")
    check(ktls.text(8, 4096, 12288) in sent["client", "in"], "the blocks read were not seen")
    check(ktls.text(9, 32768, 16384) in sent["client", "out"], "the blocks written were not seen")


# --- who and what is wanted

FILTERS = """
local function tell(name)
    return function(e) emit{type = "seen", name = name, pid = e.pid} end
end
for name, options in pairs{%s} do on("ktls_*", options, tell(name)) end
""" + EVENT


def pids(records, name):
    return {r["pid"] for r in records if r["type"] == "seen" and r["name"] == name}


@ktls_case()
def ktls_filters(lab):
    """By process, name and user, in a handler and on the command line, wanted and not."""
    p = talk(lab, "-u", str(NOBODY.pw_uid), "send/recv:100*2", "<send/recv:100")
    client, server = p.pid, children(p.pid)[0]
    wanted = {
        "pid": ("{pid = %d}" % client, {client}),
        "not_pid": ("{exclude = {pid = %d}}" % client, {server}),
        "comm": ('{comm = "ktls-server"}', {server}),
        "not_comm": ('{exclude = {comm = "ktls-server"}}', {client}),
        "uid": ('{uid = "nobody"}', {server}),
        "not_uid": ('{exclude = {uid = "nobody"}}', {client}),
        "none": ('{pid = %d, comm = "ktls-server"}' % client, set()),
        "all": ("{}", {client, server}),
    }
    script = FILTERS % ", ".join(f"{k} = {v[0]}" for k, v in wanted.items())
    # On the command line: two of the keys let both pass.
    words = ["-p", str(client), "--comm", "ktls-client", "--comm", "ktls-server", "--uid", "root",
             "--uid", "nobody"]
    tracers = [lab.tracer(script=script, ready=False),
               lab.tracer(*words, script=FILTERS % "all = {}", ready=False)]
    for t in tracers:
        wait_for("marker that the tracer is attached", t.attached, 60)
    p.say()
    p.finish()
    first, second = (t.stop().records for t in tracers)
    for name, (options, expected) in wanted.items():
        got = pids(first, name) & {client, server}
        check(got == expected, f"{options}: saw {got}; the client is {client}, the server {server}")
    got = pids(second, "all")
    check(got == {client}, f"{words}: saw {got}, not {client} alone")


def ports(pid):
    """Its own and the other's port, of a process with one TCP connection."""
    links = (os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd"))
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{pid}/net/{table}") as f:
            rows = [line.split() for line in f]
        for row in rows:
            if row[9] in inodes:
                return tuple(int(end.rsplit(":", 1)[1], 16) for end in row[1:3])
    raise Fail(f"process {pid} has no connection")


@ktls_case()
def ktls_filters_by_ends(lab):
    """By port and address; IPv4, IPv6, and IPv4 in IPv6; a replay lets the same pass."""
    four, six, mapped = (talk(lab, *how, "send/recv:100*2", "<send/recv:100")
                         for how in ((), ("-6",), ("-m",)))
    (client, server), (client6, server6), (client4, server4) = (
        (p.pid, children(p.pid)[0]) for p in (four, six, mapped))
    everybody = {client, server, client6, server6, client4, server4}
    own, port = ports(client)
    wanted = {
        "rport": ("{rport = %d}" % port, {client}),
        "lport": ("{lport = {%d, 1}}" % port, {server}),
        "other": ("{lport = %d}" % own, {client}),
        "not_rport": ("{exclude = {rport = %d}}" % port, everybody - {client}),
        "raddr": ('{raddr = "::1"}', {client6, server6}),
        "laddr": ('{laddr = "127.0.0.1"}', {client, server, client4, server4}),
        "net": ('{raddr = "127.0.0.0/8"}', {client, server, client4, server4}),
        "mapped": ('{raddr = "::ffff:127.0.0.1", rport = %d}' % ports(client4)[1], {client4}),
        "not_net": ('{exclude = {raddr = {"126.0.0.0/7", "::/127"}}}', set()),
        "within": ('{raddr = "127.0.0.0/8", exclude = {raddr = "127.0.0.1"}}', set()),
        "no_net": ('{laddr = {"127.0.0.2", "10.0.0.0/8", "fe80::/10"}}', set()),
    }
    script = FILTERS % ", ".join(f"{k} = {v[0]}" for k, v in wanted.items())
    record = lab.path("record")
    tracers = [lab.tracer("-w", record, script=script, ready=False),
               lab.tracer("--rport", str(port), "--lport", str(own), "--raddr", "127.0.0.1",
                          script=FILTERS % "all = {}", ready=False)]
    for t in tracers:
        wait_for("marker that the tracer is attached", t.attached, 60)
    for p in (four, six, mapped):
        p.say()
        p.finish()
    first, second = (t.stop().records for t in tracers)
    replay = lab.tracer("-r", record, script=script, ready=False).finish().records
    for records, way in ((first, "live"), (replay, "replay")):
        for name, (options, expected) in wanted.items():
            got = pids(records, name) & everybody
            check(got == expected, f"{way}, {options}: saw {got}, not {expected} of {everybody}")
    check(pids(second, "all") == {client}, f"saw {pids(second, 'all')}, not {client} alone")


@ktls_case()
def ktls_filters_by_exe(lab):
    """By the program that does the system call."""
    both = talk(lab, "send/recv:100*2", "<send/recv:100")
    everybody = {both.pid, children(both.pid)[0]}
    exe = os.readlink(f"/proc/{both.pid}/exe")
    wanted = {
        "path": (f'{{exe = "{exe}"}}', everybody),
        "name": (f'{{exe = {{"nobody", "{os.path.basename(exe)}"}}}}', everybody),
        "other": ('{exe = "/nobody"}', set()),
        "all_but": (f'{{exclude = {{exe = "{exe}"}}}}', set()),
        "all_but_other": ('{exclude = {exe = "nobody"}}', everybody),
    }
    script = FILTERS % ", ".join(f"{k} = {v[0]}" for k, v in wanted.items())
    tracer = lab.tracer(script=script, ready=False)
    wait_for("marker that the tracer is attached", tracer.attached, 60)
    both.say()
    both.finish()
    records = tracer.stop().records
    for name, (options, expected) in wanted.items():
        got = pids(records, name) & everybody
        check(got == expected, f"{options}: saw {got}, not {expected}")


@ktls_case()
def ktls_send_only(lab):
    """A script that asks for nothing else; nothing of it stays in the kernel."""
    p = talk(lab, "send/recv:20000", "<writev/recv:5000", "alert")
    tracer = lab.tracer(arguments=["all", "-", "ktls_send"])
    ids = bpf_ids(tracer.process.pid)
    p.say()
    p.finish()
    seen = tracer.stop()
    mine = [c for c in seen.calls if c["pid"] in {t["pid"] for t in said(p)}]
    check({c["dir"] for c in mine} == {"out"}, f"directions {[c['dir'] for c in mine]}")
    for t in said(p):
        t["in"].update(bytes=0, calls=[], peeks=[], controls=[])
        ktls.check_connection(ktls.of_connection(seen, t), t)
    bpf_gone(ids)


ERRORS = """
on("ktls_*", {errors = true}, function(e)
    if e.err then emit{type = "error", pid = e.pid, dir = e.dir, err = e.err, len = e.len} end
end)
on("ktls_*", function(e)
    emit{type = "call", pid = e.pid, dir = e.dir, len = e.len, err = e.err}
end)
""" + EVENT


@ktls_case()
def ktls_failing_calls(lab):
    """No event; with errors = true one each, with the kernel's reason."""
    p = talk(lab, "fail", "<fail", "send/recv:100", "<send/recv:100", "short/recv:200000")
    tracer = lab.tracer(script=ERRORS)
    p.say()
    p.finish()
    records = tracer.stop().records
    for t in said(p):
        for way in ("in", "out"):
            mine = [r for r in records if r.get("pid") == t["pid"] and r["dir"] == way]
            calls = [r for r in mine if r["type"] == "call"]
            check([r["len"] for r in calls] == [n for _, n, _ in t[way]["calls"]] and
                  not any(r.get("err") for r in calls), f"{ktls.whose(t)}, {way}: {calls}")
            errors = {-r["err"] for r in mine if r["type"] == "error"}
            check((11 if way == "in" else 14) in errors and 9 not in errors and
                  not any(r["len"] for r in mine if r["type"] == "error"),
                  f"{ktls.whose(t)}, {way}: errors {errors}")


# --- load, kills, modules

SLOW = """
config{buffer = "64K"}
on.ktls_send({capture = "all", comm = "ktls-client"}, function(e)
    emit{type = "call", pid = e.pid, len = e.len, n = #(e.data or ""), gap = e.gap,
         cut = e.truncated, head = (e.data or ""):sub(1, 16)}
    local x = 0
    for i = 1, 20000 do x = x + i end
end)
on.lost(function(l) emit{type = "lost", events = l.events, bytes = l.bytes} end)
""" + EVENT


@ktls_case(timeout=120)
def ktls_loss_is_counted(lab):
    """A handler slower than the traffic, a small buffer: delivered and lost are what was sent."""
    rounds, size = 3000, 2000
    p = talk(lab, f"send/recv:{size}*{rounds}")
    tracer = lab.tracer("-p", str(p.pid), script=SLOW)
    p.say()
    p.finish(60)
    seen = tracer.stop()
    calls = [r for r in seen.records if r["type"] == "call"]
    lost = [r for r in seen.records if r["type"] == "lost"]
    events, size_lost = (sum(r[k] or 0 for r in lost) for k in ("events", "bytes"))
    check(events > 0, "nothing was lost: the handler is not slow enough for this test")
    check(len(calls) + events == rounds,
          f"{len(calls)} delivered and {events} lost are not {rounds}")
    total = sum(c["n"] for c in calls) + size_lost
    check(total == rounds * size, f"{total} bytes delivered and lost are not {rounds * size}")
    at = 0
    for c in calls:
        at += c.get("gap") or 0
        check(c["len"] == size and c["cut"] == (c["n"] < size), f"at {at}: {c}")
        if c["n"] >= 16:
            same(f"at {at}", c["head"].encode(), ktls.text(2, at, 16))
        at += size


@ktls_case()
def ktls_killed_in_mid_call(lab):
    """What was sent until then is seen, and what comes after it."""
    p = talk(lab, "send/recv:1000", "hang:8000000")
    tracer = tap(lab)
    p.say()
    wait_for("call that hangs", lambda: b"hanging" in p.out() and asleep(p.pid))
    server = children(p.pid)[0]
    p.stop(signal.SIGKILL)
    wait_for("report of the server", lambda: p.out().endswith(b"}\n"))
    after = talk(lab, "send/recv:3000", "<send/recv:3000")
    after.say()
    after.finish()
    seen = tracer.stop()
    check_all(seen, after)
    told, = said(p)
    check(told["pid"] == server, f"{told['pid']} is not the server")
    ktls.check_connection(ktls.of_connection(seen, told), told)
    sent = b"".join(c["data"] for c in seen.calls if c["pid"] == p.pid)
    same("what the killed one sent", sent, ktls.text(2, 0, len(sent)))
    check(1000 < told["in"]["bytes"] <= len(sent),
          f"{told['in']['bytes']} bytes came of {len(sent)} seen")


def asleep(pid):
    """Whether a process has been waiting for a while."""
    def ticks():
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return fields[0], fields[11:13]
    before = ticks()
    time.sleep(0.3)
    return before[0] == "S" and ticks() == before


def loaded():
    with open("/proc/modules") as f:
        return any(line.split()[0] == "tls" for line in f)


@contextlib.contextmanager
def without_module(lab):
    """Gives what loads the module, which is not there; afterwards it is."""
    def modprobe(*words):
        return lab.run(["modprobe", *words, "tls"], status=None)

    def load():
        check(not modprobe().returncode, "the module cannot be loaded")
    with ktls.module(lab, fcntl.LOCK_EX):
        if modprobe("-n").returncode or not modprobe("-n", "-v").out().strip() and not loaded():
            raise Skip("this kernel has no module tls")
        if loaded():
            p = lab.run(["rmmod", "tls"], status=None)
            if p.returncode:
                raise Skip(f"the module cannot be taken out: {p.err().strip()}")
        try:
            yield load
        finally:
            modprobe()


@case(needs=["modprobe", "rmmod"])
def ktls_module_loaded_later(lab):
    """tlsscope runs before the module is there, says so, and notices when it comes."""
    with without_module(lab) as load:
        tracer = tap(lab)
        check("modprobe tls" in tracer.process.err(),
              f"it does not say what to do: {tracer.process.err()!r}")
        load()
        for _ in range(20):
            first = talk(lab, "send/recv:100")
            first.say()
            first.finish()
            if b'"data"' in tracer.output():
                break
            time.sleep(0.5)
        p = talk(lab, "send/recv:3000", "<writev/recv:3000")
        p.say()
        p.finish()
        check_all(tracer.stop(), p)


@case()
def ktls_absent_is_told(lab):
    """Where there is no kTLS, a script that wants it is told so; one that wants more goes on."""
    with ktls.module(lab, fcntl.LOCK_SH):
        if not ktls.missing():
            raise Skip("this kernel has kTLS")
        p = lab.spawn([TLSSCOPE, "-e", "on.ktls_send(function() end)"])
        wait_for("sentence about kTLS", lambda: "TLS" in p.err() or p.poll() is not None)
        check("module tls" in p.err(), f"not a word about kTLS: {p.err()!r}")
        p.stop(signal.SIGINT)
        tracer = lab.tracer()
        check("module tls" not in tracer.process.err(), f"needless: {tracer.process.err()!r}")
        tracer.stop()


# --- recordings and recipes

@ktls_case()
def ktls_recipes_and_replay(lab):
    """A command of -c from its first byte; its recording gives the same, and serves recipes."""
    record, report = lab.path("record"), lab.path("said")
    command = f"{ktls.program(lab)} send/recv:3000 '<sendfile/recv:20000' alert >{report}"
    code = """
        on("ktls_*", {capture = "all", comm = {"ktls-client", "ktls-server"}}, function(e)
            emit{type = "call", pid = e.pid, dir = e.dir, len = e.len, record = e.record,
                 laddr = e.conn.laddr, lport = e.conn.lport, raddr = e.conn.raddr,
                 version = e.conn.version, cipher = e.conn.cipher, ktls = e.ktls, data = e.data}
        end)"""
    live = lab.run([TLSSCOPE, "-w", record, "-f", "json", "-c", command, "-e", code])
    replay = lab.run([TLSSCOPE, "-r", record, "-f", "json", "-e", code])
    same("replay", replay.out(), live.out())
    calls = [json.loads(line) for line in live.out().splitlines() if b'"call"' in line]
    with open(report) as f:
        told = [json.loads(line) for line in f if line.startswith("{")]
    for t in told:
        for way in ("in", "out"):
            mine = [c for c in calls if c["pid"] == t["pid"] and c["dir"] == way]
            data = "".join(c["data"] for c in mine if c["record"] == "data")
            same(f"{ktls.whose(t)}, {way}", data.encode(),
                 ktls.text(t[way]["tag"], 0, t[way]["bytes"]))
    shown = lab.run([TLSSCOPE, "-r", record, "sniff"]).out()
    for tag in (2, 3):
        check(shown.count(b"%07x.0000001" % tag) == 2, f"sniff shows direction {tag} not twice")
    for recipe in ("ktls", "hexsniff", "tlstop", "iosize", "libs"):
        p = lab.run([TLSSCOPE, "-r", record, recipe])
        check(p.out().strip() and "error" not in p.err(), f"{recipe}: {p.err()}")
