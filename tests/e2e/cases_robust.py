# SPDX-License-Identifier: MIT
"""Nothing is lost unseen, and nobody is harmed: load, kills, a hundred rounds."""
import contextlib
import ctypes
import mmap
import os
import random
import re
import signal
import struct
import subprocess
import time

from harness import PYTHON, Skip, bpf_gone, bpf_ids, case, check, fds, wait_for
from web import PAGE, backend, nginx

SMALL = 'config{buffer = "64K"}'
SLOW = """
on.ssl_write({capture = "all"}, function(e)
    emit{type = "call", len = e.len, n = #(e.data or ""), gap = e.gap, cut = e.truncated,
         head = (e.data or ""):sub(1, 19)}
    local x = 0
    for i = 1, 20000 do x = x + i end
end)
on.lost(function(l) emit{type = "lost", events = l.events, bytes = l.bytes} end)
on.start(function() emit{type = "ready"} end)
"""


def flood_counted(lab, rounds, size, buffer=SMALL):
    """A handler slower than the traffic: delivered and lost are what was sent. What tlsscope said of it."""
    p = lab.spawn([lab.victim("flood"), lab.cert, lab.key, str(rounds), str(size)],
                  ready=b"waiting", stdin=subprocess.PIPE)
    tracer = lab.tracer("-v", "-p", str(p.pid), script=buffer + SLOW)
    p.say()
    p.finish(60)
    check(b"writes %d %d" % (rounds, rounds * size) in p.out(), f"flood said {p.out()!r}")
    seen = tracer.stop()
    calls = [r for r in seen.records if r["type"] == "call"]
    lost = [r for r in seen.records if r["type"] == "lost"]
    lost_events = sum(r["events"] or 0 for r in lost)
    lost_bytes = sum(r["bytes"] or 0 for r in lost)
    check(lost_events > 0 or buffer != SMALL, "nothing was lost: the handler is not slow enough for this test")
    check(len(calls) + lost_events == rounds,
          f"{len(calls)} delivered and {lost_events} lost are not {rounds}")
    check(sum(c["len"] for c in calls) <= rounds * size and all(c["len"] == size for c in calls),
          "a call's length is wrong")
    total = sum(c["n"] for c in calls) + lost_bytes
    check(total == rounds * size, f"{total} bytes delivered and lost are not {rounds * size}")
    check(not lost_events or str(lost_events) in seen.stderr, f"the loss is not told on stderr: {seen.stderr!r}")
    position = 0
    for c in calls:
        check(c["cut"] == (c["n"] < c["len"]), f"truncated is wrong: {c}")
        position += c.get("gap") or 0
        if c["n"] >= 19:
            check(c["head"] == f"round {position // size:012} ", f"at byte {position}: {c}")
        position += c["len"]
    return seen.stderr


@case(timeout=120)
def loss_is_counted(lab):
    said = flood_counted(lab, 30000, 2000)
    check("as large" not in said, said)


@case(timeout=120)
def loss_without_a_processor(lab):
    """The handler is quick: it is told that somebody else has the processor."""
    p = lab.spawn([lab.victim("flood"), lab.cert, lab.key, "30000", "2000"], ready=b"waiting", stdin=subprocess.PIPE)
    tracer = lab.tracer("-p", str(p.pid), script=SMALL + """
        on.start(function() emit{type = "ready"} end)
        on.ssl_write(function() end)
        """)
    place = min(os.sched_getaffinity(0))
    other = lab.spawn(["sh", "-c", "while :; do :; done"])
    for pid in tracer.process.pid, other.pid:
        os.sched_setaffinity(pid, {place})
    os.setpriority(os.PRIO_PROCESS, tracer.process.pid, 19)
    p.say()
    p.finish(60)
    other.stop()
    said = tracer.stop().stderr
    check("events are being lost: tlsscope waits for a processor" in said, said)


@contextlib.contextmanager
def preempted():
    """Threads may be interrupted wherever they are in the kernel, as on many a desktop."""
    path = "/sys/kernel/debug/sched/preempt"
    if not os.path.exists(path):
        subprocess.run(["mount", "-t", "debugfs", "none", "/sys/kernel/debug"], check=False)
    if not os.path.exists(path):
        raise Skip("this kernel has no choice of when it is preempted")
    with open(path, "r+") as f:
        before = re.search(r"\((\w+)\)", f.read())[1]
        f.write("full")
    try:
        yield
    finally:
        with open(path, "w") as f:
            f.write(before)


RING = 512 << 10


def ring_of(pid):
    """A tracer's buffer of RING bytes: what the kernel's pages say (kernel/bpf/ringbuf.c)."""
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        with open(f"/proc/{pid}/fdinfo/{name}") as f:
            rows = dict(line.split(":", 1) for line in f if ":" in line)
        if int(rows.get("map_type", 0)) == 27 and int(rows["max_entries"]) == RING:
            break
    else:
        check(False, "the tracer has no such buffer")
    pidfd = os.pidfd_open(pid)
    fd = ctypes.CDLL(None).syscall(438, pidfd, int(name), 0)  # pidfd_getfd
    check(fd >= 0, "the tracer's buffer cannot be had")
    page = mmap.PAGESIZE
    consumer = mmap.mmap(fd, page, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    rest = mmap.mmap(fd, page + RING, prot=mmap.PROT_READ, offset=page)
    os.close(fd)
    os.close(pidfd)

    def position(pages):
        return struct.unpack_from("=Q", pages)[0]

    def written():
        """How many records are whole, and how many are being written, of those that nobody has read."""
        begin, whole, busy = position(consumer), 0, 0
        at, end = begin, position(rest)
        while at < end:
            header = struct.unpack_from("=I", rest, page + at % RING)[0]
            if position(consumer) != begin:
                break  # there may be others by now
            busy += header >> 31
            whole += not header >> 31
            at += ((header & 0x3fffffff) + 8 + 7) & ~7
        return whole, busy
    return written


@case(timeout=120)
def writers_keep_the_processor(lab):
    """On one processor no record is ever seen half written, past which nobody reads."""
    if [int(n) for n in os.uname().release.split(".")[:2]] < [6, 12]:
        raise Skip("before 6.12 programs cannot keep the processor")
    with open("/proc/cpuinfo") as f:
        if os.cpu_count() > 1 or "QEMU TCG" not in f.read():
            raise Skip("this is for one processor, and all of the machine would be preempted")
    p = lab.spawn([lab.victim("crowd"), lab.cert, lab.key, "60", "400", "100"], ready=b"waiting",
                  stdin=subprocess.PIPE)
    tracer = lab.tracer("-p", str(p.pid), script=f"""
        config{{buffer = {RING}}}
        on.start(function() emit{{type = "ready"}} end)
        on.tls_data(function() end)
        """)
    written = ring_of(tracer.process.pid)
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    whole = busy = 0
    try:
        with preempted():
            p.say()
            while p.poll() is None:
                more = written()
                whole, busy = whole + more[0], busy + more[1]
                time.sleep(0.002)
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    tracer.stop()
    check(whole > 100 and not busy, f"{whole} records, {busy} half written")


@case(timeout=120)
def buffer_grows(lab):
    """Where the script does not say how large it is to be; nothing is lost, doubled or out of order by that."""
    if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 32 * 2 * 8 << 20:
        raise Skip("8 MiB are the most that a machine of so little memory has")
    said = flood_counted(lab, 30000, 2000, "")
    check("the buffer was more than half full: it is twice as large now" in said, said)
    # A slow machine may not fill it.
    for rounds, size in (3000, 60000), (60000, 100):
        flood_counted(lab, rounds, size, "")


@case(timeout=120)
def loss_of_parts_is_counted(lab):
    """Calls of several records, some of which fit and some not."""
    flood_counted(lab, 3000, 60000)


@case(timeout=120)
def pages_that_are_moved(lab):
    """Memory that the kernel takes away and puts back: read a moment later, else counted."""
    rounds, size = 3000, 16384
    p = lab.spawn([lab.victim("flood"), lab.cert, lab.key, str(rounds), str(size), "split"],
                  ready=b"waiting", stdin=subprocess.PIPE)
    tracer = lab.tracer("-p", str(p.pid), script="""
        config{buffer = "128M"}
        local n, bytes, cut = 0, 0, 0
        -- Of bytes that were not there to be compared, too, it is told that they are missing.
        on.tls_data({prefix = "round "}, function(e)
            n, bytes, cut = n + 1, bytes + #e.data, cut + (e.truncated and e.len - #e.data or 0)
        end)
        on.start(function() emit{type = "ready"} end)
        on.stop(function() emit{type = "seen", n = n, bytes = bytes, cut = cut} end)
        """)
    p.say()
    p.finish(60)
    splits = int(re.search(rb"splits (\d+)", p.out())[1])
    if not splits:
        raise Skip("this kernel makes no huge page when asked to")
    seen = tracer.stop()
    unread = re.search(r"(\d+) bytes not readable", seen.stderr)
    unread = int(unread[1]) if unread else 0
    row = seen.records[-1]
    check(row["n"] == 2 * rounds and row["bytes"] + unread == 2 * rounds * size and row["cut"] == unread,
          f"{row}, {unread} not readable of {2 * rounds} calls, {splits} splits")
    # On one processor nobody puts them back while a program waits for it.
    check(os.cpu_count() == 1 or unread * 100 < 2 * rounds * size,
          f"{unread} bytes not readable, {splits} splits")


@case()
def nothing_lost_at_ease(lab):
    """The default buffer and a quick handler: every call, no loss."""
    p = lab.spawn([lab.victim("flood"), lab.cert, lab.key, "20000", "500"], ready=b"waiting",
                  stdin=subprocess.PIPE)
    tracer = lab.tracer("-p", str(p.pid), script="""
        local calls, bytes = {["in"] = 0, out = 0}, 0
        on.tls_data(function(e)
            calls[e.dir] = calls[e.dir] + 1
            bytes = bytes + #e.data
        end)
        on.lost(function(l) emit{type = "lost", events = l.events} end)
        on.start(function() emit{type = "ready"} end)
        on.stop(function() emit{type = "total", r = calls["in"], w = calls.out, bytes = bytes} end)
        """)
    p.say()
    p.finish()
    seen = tracer.stop()
    total = seen.records[-1]
    check((total["r"], total["w"], total["bytes"]) == (20000, 20000, 20000 * 1000),
          f"{seen.records[1:]}")


LOAD = """
import http.client, signal, ssl, sys
port, cert = int(sys.argv[1]), sys.argv[2]
page = open(sys.argv[3], "rb").read()
going = True

def end(*_):
    global going
    going = False

signal.signal(signal.SIGTERM, end)
context = ssl.create_default_context(cafile=cert)
print("begun", flush=True)
done = 0
c = http.client.HTTPSConnection("127.0.0.1", port, context=context)
while going:
    c.request("GET", "/page")
    assert c.getresponse().read() == page
    done += 1
    if done % 10 == 0:
        c.close()
print("done", done)
"""


def under_load(lab):
    """nginx and a client that asks it without end and checks every answer."""
    port = lab.port()
    # Under another name: cases that run meanwhile do not look at so much.
    server = nginx(lab, port, backend(), http2=False, name="nginx-load")
    client = lab.spawn([PYTHON, lab.write("load.py", LOAD), str(port), lab.cert,
                        lab.write("page", PAGE)], ready=b"begun")
    with open(f"/proc/{server.pid}/task/{server.pid}/children") as f:
        worker = int(f.read().split()[0])
    return server, worker, client


def still_well(server, worker, client, open_before):
    """The load goes on, then ends in peace; nothing stayed in the traced processes."""
    check(server.poll() is None and client.poll() is None,
          f"a traced program ended: {server.err()} {client.err()}")
    check(abs(fds(worker) - open_before) <= 2,
          f"nginx has {fds(worker)} descriptors, {open_before} before")
    client.send_signal(signal.SIGTERM)
    client.finish()
    check(int(client.out().split()[-1]) > 20, f"the load was no load: {client.out()!r}")
    os.kill(worker, 0)
    check(not server.err(), f"nginx complains: {server.err()}")


@case(timeout=240)
def hundred_rounds(lab):
    """Attach and detach a hundred times while programs talk."""
    server, worker, client = under_load(lab)
    before, ids = fds(worker), set()
    for n in range(100):
        tracer = lab.tracer("-q", script="""
            local n = 0
            on.tls_data({capture = 64}, function() n = n + 1 end)
            on.start(function() emit{type = "ready"} end)
            on.stop(function() emit{type = "total", n = n} end)
            """)
        if n % 10 == 0:
            time.sleep(0.2)
            ids |= bpf_ids(tracer.process.pid)
        records = tracer.stop().records
        check(records[-1]["type"] == "total", f"round {n}: {records}")
        if n % 10 == 0:
            check(records[-1]["n"] > 0, f"round {n} saw nothing")
    bpf_gone(ids)
    still_well(server, worker, client, before)


@case(timeout=120)
def tracer_killed(lab):
    """SIGKILL at random times, during the start too: no probe stays, programs go on."""
    server, worker, client = under_load(lab)
    flood = lab.spawn([lab.victim("flood"), lab.cert, lab.key, "0", "3000"], ready=b"waiting",
                      stdin=subprocess.PIPE)
    flood.say()
    before, ids, rng = fds(worker), set(), random.Random(7)
    for n in range(20):
        tracer = lab.tracer(ready=n % 2 == 0, arguments=["256"])
        time.sleep(rng.random() * 0.3)
        tracer.process.send_signal(signal.SIGSTOP)
        ids |= bpf_ids(tracer.process.pid)
        tracer.process.stop(signal.SIGKILL)
        os.unlink(tracer.file) if os.path.exists(tracer.file) else None
    bpf_gone(ids)
    check(flood.poll() is None, f"flood ended: {flood.err()}")
    flood.stop()
    check(flood.returncode == 0 and b"writes" in flood.out(), f"flood: {flood.err()}")
    still_well(server, worker, client, before)


@case()
def stopped_twice(lab):
    """SIGTERM ends it as cleanly as SIGINT; a burst of both does no harm."""
    for numbers in ([signal.SIGTERM], [signal.SIGINT], [signal.SIGTERM, signal.SIGINT]):
        tracer = lab.tracer(script="""
            on.start(function() emit{type = "ready"} end)
            on.stop(function() emit{type = "bye"} end)
            on.tls_data(function() end)
            """)
        ids = bpf_ids(tracer.process.pid)
        for number in numbers:
            tracer.process.send_signal(number)
        tracer.process.finish()
        check(tracer.records()[-1]["type"] == "bye", "on.stop did not run")
        bpf_gone(ids)


@case()
def killed_by_the_second(lab):
    """The same signal again ends what does not end, as that signal does."""
    for number in (signal.SIGTERM, signal.SIGINT):
        tracer = lab.tracer(script="""
            on.start(function() emit{type = "ready"} end)
            on.stop(function() emit{type = "stops"} while true do pcall(function() while true do end end) end end)
            on.tls_data(function() end)
            """)
        tracer.process.send_signal(number)
        time.sleep(0.3)
        tracer.process.send_signal(number)
        tracer.process.wait(20)
        check(tracer.process.returncode == -number, f"ended with {tracer.process.returncode}")


@case()
def command_stopped(lab):
    """Ended before its command, it ends that too, with all that the command started."""
    pids = lab.path("pids")
    tracer = lab.tracer("-c", f"sleep 60 & echo $! >{pids}; (sleep 60 & echo $! >>{pids}; wait)")
    wait_for("the command to run", lambda: os.path.exists(pids)
             and len(open(pids).read().split()) == 2)
    tracer.process.send_signal(signal.SIGTERM)
    tracer.process.finish()
    left = [p for p in open(pids).read().split() if os.path.exists(f"/proc/{p}")
            and open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"]
    check(not left, f"still running: {left}")


@case()
def endless_handler(lab):
    """Ctrl-C ends a handler that never does."""
    tracer = lab.tracer(script="""
        on.start(function() emit{type = "ready"} end)
        every("10ms", function() emit{type = "spin"} while true do end end)
        on.tls_data(function() end)
        """)
    time.sleep(0.3)
    tracer.process.send_signal(signal.SIGINT)
    try:
        tracer.process.wait(10)
    except subprocess.TimeoutExpired:
        tracer.process.send_signal(signal.SIGINT)
        tracer.process.wait(5)
    check(tracer.process.returncode is not None, "it goes on")


@case()
def idle_costs_nothing(lab):
    """A tracer without events sleeps."""
    tracer = lab.tracer("--comm", "nobody-has-this")
    time.sleep(0.5)

    def used():
        with open(f"/proc/{tracer.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])
    before = used()
    time.sleep(2)
    ticks = used() - before
    tracer.stop()
    # 200 ticks of a hundredth of a second passed; a busy loop would have taken them all.
    check(ticks < 60, f"{ticks} of 200 ticks of CPU without an event")


@case(timeout=90)
def fork_server_under_load(lab):
    """A process a connection, many at once: each is seen whole."""
    lab.need("socat")
    port = lab.port()
    lab.spawn(["socat", f"OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,backlog=64,cert="
               f"{lab.cert},key={lab.key},verify=0", "EXEC:cat"], port=port)
    tracer = lab.tracer("--comm", "socat")
    texts, clients = {}, []
    for i in range(30):
        text = b"".join(b"%02d line %06d\n" % (i, n) for n in range(200))
        path = lab.write(f"in{i}", text)
        with open(path, "rb") as f:
            p = lab.spawn(["socat", "-t5", "-", f"OPENSSL:localhost:{port},pf=ip4,cafile={lab.cert}"],
                          stdin=f)
        texts[p.pid] = text
        clients.append(p)
    for p in clients:
        p.finish()
        check(p.out() == texts[p.pid], "socat's own output is wrong")
    seen = tracer.stop()
    for p in clients:
        flow, = seen.flows(pids=[p.pid])
        check(flow.sent == texts[p.pid] and flow.received == texts[p.pid], f"{flow}")
    servers = [f for f in seen.flows(comm=["socat"]) if f.pid not in texts]
    check(sorted(f.received for f in servers) == sorted(texts.values()), f"{len(servers)} servers")
    check(sorted(f.sent for f in servers) == sorted(texts.values()), "what the servers sent")
