# SPDX-License-Identifier: MIT
"""
Many connections of many programs at once: each address shown is compared with what the programs
say (each request names its own port, which the other end sees too) and with what ss says.
"""
import json
import os
import re
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import golang
from cases_go import ENV
from harness import PYTHON, SLOW, case, check, wait_for

# How many connections at once; more with TLSSCOPE_CONNS=2, 3, ...
TIMES = int(os.environ.get("TLSSCOPE_CONNS") or 1)
COUNTS = {"asyncio": 240 * TIMES, "node": 200 * TIMES, "go": 80 * TIMES, "curl": 40 * TIMES}
PAUSE = 0.5 * SLOW  # s; memory BIOs are looked at once the first connection that has one was seen
UNKNOWN = 0.01  # of all connections, at most

TAP = """
config{buffer = "32M"}
on.start(function() emit{type = "ready"} end)
on.tls_data({capture = 64}, function(e)
    local c = e.conn
    emit{type = "saw", pid = e.pid, comm = e.comm, conn = c.id, dir = e.dir, fd = c.fd,
        lib = e.kind, port = (e.data or ""):match("/p(%d+)"), laddr = c.laddr, lport = c.lport,
        raddr = c.raddr, rport = c.rport}
end)
"""

NGINX = """
daemon off; master_process off; error_log stderr; pid nginx.pid;
worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http { access_log off; keepalive_timeout 300; keepalive_requests 1000;
  server { listen 127.0.0.1:%d ssl backlog=4096; listen [::1]:%d ssl backlog=4096;
    ssl_certificate %s; ssl_certificate_key %s;
    location / { return 200 "$uri\\n"; } } }
"""

# Each says how many connections it has, asks thrice on each, and holds them until a line comes.
ASYNCIO = """
import asyncio, ssl, sys
context = ssl._create_unverified_context()
ports, count = [int(p) for p in sys.argv[1].split(",")], int(sys.argv[2])
limit = asyncio.Semaphore(20)

async def one(i):
    host = "::1" if i % 2 else "127.0.0.1"
    async with limit:
        r, w = await asyncio.open_connection(host, ports[i // 2 % len(ports)], ssl=context)
    return r, w, w.get_extra_info("sockname")[1]

async def ask(r, w, port, n):
    w.write(b"GET /p%d/r%d HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" % (port, n))
    while b"/p%d/r%d" % (port, n) not in await r.readline():
        pass

async def main():
    all = await asyncio.gather(*[one(i) for i in range(count)])
    for n in (1, 2, 3):
        await asyncio.gather(*[ask(*c, n) for c in all])
        await asyncio.sleep(float(sys.argv[3]))
    print("open", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

asyncio.run(main())
"""

# Another server with memory BIOs: what it is asked it answers.
SERVER = """
import asyncio, ssl, sys
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(sys.argv[2])

async def serve(r, w):
    while True:
        line = await r.readline()
        if not line:
            break
        if line.startswith(b"GET"):
            w.write(b"HTTP/1.1 200 OK\\r\\n\\r\\n" + line.split()[1] + b"\\r\\n")

async def main():
    server = await asyncio.start_server(serve, ["127.0.0.1", "::1"], int(sys.argv[1]), ssl=context,
                                        backlog=1000)
    await server.serve_forever()

asyncio.run(main())
"""

NODE = """
const tls = require("tls"), port = +process.argv[2], count = +process.argv[3];
let open = 0, next = 0;
function one() {
  if (next++ >= count) return;
  let asked = 0, got = "";
  const s = tls.connect({host: "127.0.0.1", port, rejectUnauthorized: false}, () => { ask(); one(); });
  const ask = () => s.write(`GET /p${s.localPort}/r${++asked} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n`);
  s.on("data", d => {
    got += d;
    if (!got.includes(`/p${s.localPort}/r${asked}`)) return;
    got = "";
    if (asked < 3) setTimeout(ask, process.argv[4] * 1000); else if (++open == count) console.log("open");
  });
  s.on("error", e => { console.error(e); process.exit(1); });
}
for (let i = 0; i < 20; i++) one();
process.stdin.on("data", () => process.exit(0));
"""


def ss():
    """{pid: {(laddr, lport, raddr, rport)}} of what is open now."""
    out = subprocess.run(["ss", "-Htnp", "state", "established"], capture_output=True, text=True,
                         check=True).stdout
    found = {}
    for line in out.splitlines():
        ends = [(a.strip("[]").removeprefix("::ffff:"), int(p))
                for a, p in (w.rsplit(":", 1) for w in line.split()[2:4])]
        for pid in re.findall(r"pid=(\d+)", line):
            found.setdefault(int(pid), set()).add((*ends[0], *ends[1]))
    return found


def compare(saw, truth, told, listening):
    """
    Counts connections, and those whose address no event had; fails at a wrong one. listening: the
    servers' ports; told: what Go's programs said; truth: of ss, by pid.
    """
    conns, nil_events = {}, 0
    for r in saw:
        known = (r.get("laddr"), r.get("lport"), r.get("raddr"), r.get("rport"))
        entry = conns.setdefault((r["pid"], r["conn"]), {"comm": r["comm"], "at": set()})
        if None in known:
            check(known == (None,) * 4, f"half an address: {r}")
            nil_events += 1
            continue
        entry["at"].add(known)
        check(len(entry["at"]) == 1, f"two addresses of one connection: {entry}")
        if r.get("port"):
            mine = known[3] if known[1] in listening else known[1]
            check(mine == int(r["port"]), f"a wrong address: {r}")
        if r["lib"] == "go":
            check(known in told, f"an address that the Go program has not: {r}")
        elif r["pid"] in truth:
            check(known in truth[r["pid"]], f"an address that ss does not know: {r}")
    unknown = [e["comm"] for e in conns.values() if not e["at"]]
    return len(conns), unknown, nil_events


def curl(lab, port, mine):
    url = f"https://127.0.0.1:{port}/p{mine}"
    return lab.spawn(["curl", "-sk", "--local-port", str(mine), f"{url}/r1", f"{url}/r2"])


def free_ports(lab, count):
    return sorted({lab.port() for _ in range(3 * count)})[:count]


def golang_ends(t):
    ends = [w.rsplit(":", 1) for w in (t["laddr"], t["raddr"])]
    return tuple(x for a, p in ends for x in (a.strip("[]"), int(p)))


def all_at_once(lab, counts):
    """All of these talk at the same time."""
    web, plain, go = lab.port(), lab.port(), lab.port()
    config = lab.write("nginx.conf", NGINX % (web, web, lab.cert, lab.key))
    servers = [lab.spawn(["nginx", "-e", "stderr", "-p", lab.dir, "-c", config], port=web),
               lab.spawn([PYTHON, "-c", SERVER, str(plain), lab.both], port=plain)]
    talk = lab.path(f"go{os.getpid()}")
    if counts["go"]:
        shutil.copy(golang.talk(lab, "1.24", "stripped_pie"), talk)
    tracer = lab.tracer("--comm", "nginx", "--comm", "python3", "--comm", "node", "--comm", "curl",
                        "--comm", os.path.basename(talk), script=TAP)
    held = [lab.spawn([PYTHON, "-c", ASYNCIO, f"{web},{plain}", str(counts["asyncio"]),
                       str(PAUSE)], stdin=subprocess.PIPE)]
    if counts["node"]:
        held.append(lab.spawn(["node", lab.write("client.js", NODE), str(web),
                               str(counts["node"]), str(PAUSE)], stdin=subprocess.PIPE))
    gos = []
    if counts["go"]:
        gos.append(lab.spawn([talk, "-n", str(counts["go"]), "raw", "both", f"127.0.0.1:{go}"],
                             env=ENV))
    curls = [curl(lab, web, mine) for mine in free_ports(lab, counts["curl"])]
    for p in held:
        wait_for(f"all connections of {p.args[0]}", lambda: b"open" in p.out(), 90)
    truth = {pid: of for pid, of in ss().items() if pid in {p.pid for p in held}}
    for p in gos:
        p.finish(90)
    for p in held:
        p.say()
        p.finish(30)
    # Somebody else may have got the port meanwhile.
    curled = sum(p.wait(30 * SLOW) == 0 for p in curls)
    check(curled > counts["curl"] // 2, f"only {curled} of curl's connections were made")
    mine = {p.pid for p in lab.errors}
    tracer.process.stop(signal.SIGINT)
    saw = [r for r in tracer.records() if r["type"] == "saw" and r["pid"] in mine]
    told = {golang_ends(t) for p in gos for t in map(json.loads, (
        line for line in p.out().splitlines() if b'"laddr"' in line))}
    count, unknown, nil_events = compare(saw, truth, told, {web, plain, go})
    print(f"# {count} connections, {len(unknown)} of unknown address {sorted(set(unknown))}; "
          f"{nil_events} of {len(saw)} events came before it was known")
    least = 2 * (counts["asyncio"] + counts["node"] + curled)
    check(count >= least, f"only {count} connections were seen, of {least}")
    check(len(unknown) < UNKNOWN * count, f"{len(unknown)} of {count} connections have no address: "
          f"{sorted(set(unknown))}")


@case(needs=["nginx", "curl", "node", "ss"], timeout=400)
def addresses_of_a_thousand(lab):
    """curl, asyncio, node, nginx and Go, all at once: no address is wrong, few are unknown."""
    all_at_once(lab, COUNTS)


@case(needs=["nginx", "curl", "ss"], timeout=120)
def addresses_of_a_few(lab):
    """The same where there is less time."""
    all_at_once(lab, {"asyncio": 6, "node": 0, "go": 0, "curl": 2})
