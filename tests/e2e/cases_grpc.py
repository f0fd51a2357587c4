# SPDX-License-Identifier: MIT
"""grpclog: the calls of gRPC that others made, against what they say of them."""
import collections
import json
import os

import golang
import losses
import suites
from harness import PYTHON, ROOT, TLSSCOPE, Skip, case, check, same, wait_for

# Without protocol buffers: messages are bytes. Each prints what it knows of a call: its method, the
# status, the lengths of what it sent and got.
SERVER = """
import concurrent.futures, sys, grpc

def fails(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "no order %d% \\u00e4 " + request.decode())

def slow(request, context):
    for size in (10, 20, 30):
        yield bytes(size)
    context.set_code(grpc.StatusCode.OUT_OF_RANGE)
    context.set_details("enough")

class Handlers(grpc.GenericRpcHandler):
    known = {
        "Get": grpc.unary_unary_rpc_method_handler(lambda r, c: r * 2),
        "Fail": grpc.unary_unary_rpc_method_handler(fails),
        "List": grpc.unary_stream_rpc_method_handler(slow),
        "Put": grpc.stream_unary_rpc_method_handler(lambda rs, c: bytes(sum(map(len, rs)))),
        "Chat": grpc.stream_stream_rpc_method_handler(lambda rs, c: rs),
    }
    def service(self, details):
        service, method = details.method[1:].rsplit("/", 1)
        return self.known.get(method) if service == "shop.v1.Orders" else None

server = grpc.server(concurrent.futures.ThreadPoolExecutor(8), handlers=[Handlers()],
                     compression=getattr(grpc.Compression, sys.argv[4]))
with open(sys.argv[2], "rb") as key, open(sys.argv[3], "rb") as cert:
    identity = grpc.ssl_server_credentials([(key.read(), cert.read())])
assert server.add_secure_port("localhost:" + sys.argv[1], identity)
server.start()
server.wait_for_termination()
"""
CLIENT = """
import json, sys, grpc

with open(sys.argv[2], "rb") as cert:
    channel = grpc.secure_channel("localhost:" + sys.argv[1],
                                  grpc.ssl_channel_credentials(cert.read()),
                                  compression=getattr(grpc.Compression, sys.argv[3]))

def call(service, name, requests, streams, answers, timeout=None):
    kind = ("stream" if streams else "unary") + "_" + ("stream" if answers else "unary")
    method = getattr(channel, kind)("/%s/%s" % (service, name))
    got = []
    try:
        out = method(iter(requests) if streams else requests[0], timeout=timeout,
                     **({} if answers else {"wait_for_ready": True}))
        for m in out if answers else [out]:
            got.append(len(m))
        status, details = 0, None
    except grpc.RpcError as e:
        status, details = e.code().value[0], e.details()
    print(json.dumps({"method": service + "/" + name, "status": status, "message": details or None,
                      "sent": [len(r) for r in requests], "got": got}), flush=True)

O = "shop.v1.Orders"
sys.stdin.readline()
for n in range(int(sys.argv[4])):
    call(O, "Get", [bytes(n * 1000)], False, False)
    call(O, "Fail", [b"seven"], False, False)
    call(O, "List", [b""], False, True)
    call(O, "Put", [bytes(i) for i in (1, 0, 100000, 70000)], True, False, 20)
    call(O, "Chat", [bytes(i * 7) for i in range(50)], True, True)
    call(O, "None", [b"x"], False, False)
    call("shop.v2.Other", "Get", [b"x"], False, False)
"""
PER_ROUND = 7


LENS = """
on.grpc_call({capture = 0}, function(e)
    emit{type = "lens", pid = e.pid, method = (e.path or ""):sub(2), request = e.request_lens,
         response = e.response_lens, status = e.status, message = e.message, partial = e.partial}
end)
"""


def grpclog(lab, *options):
    with open(os.path.join(ROOT, "scripts", "grpclog.lua"), encoding="utf-8") as f:
        script = """
            config{buffer = "64M"}
            on.start(function() emit{type = "ready"} end)
            """ + LENS + f.read()
    return lab.tracer(*options, script=script)


def programs(lab):
    """The environment in which the system's python has Debian's grpcio, which uses the system's libssl."""
    root = suites.packages_of(lab, "bookworm", "python3-grpcio",
                              ["python3-grpcio", "libabsl20220623", "libc-ares2", "libre2-9"])
    libraries = next(d for d, _, names in os.walk(f"{root}/usr/lib")
                     if any(n.startswith("libre2.so") for n in names))
    env = {"PYTHONPATH": f"{root}/usr/lib/python3/dist-packages", "LD_LIBRARY_PATH": libraries}
    works = lab.run([PYTHON, "-c", "import grpc"], status=None, env=env)
    if works.returncode:
        raise Skip(f"bookworm's python3-grpcio does not run here: {works.err()[-200:]}")
    return env


def talk(lab, env, rounds, squeeze="NoCompression", recording=()):
    port = lab.port()
    server = lab.spawn([PYTHON, lab.write("server.py", SERVER), str(port), lab.key, lab.cert, squeeze],
                       port=port, env=env)
    client = lab.spawn([PYTHON, lab.write("client.py", CLIENT), str(port), lab.cert, squeeze,
                        str(rounds)], env=env, stdin=-1)
    # By number: its threads have names of their own.
    tracer = grpclog(lab, "-p", str(server.pid), "-p", str(client.pid), *recording)
    client.say()
    client.finish(100)
    wait_for("calls", lambda: tracer.output().count(b'"grpc_call"') >= 2 * rounds * PER_ROUND)
    return server, client, tracer


def of(records, kind, process):
    return [r for r in records if r["type"] == kind and r["pid"] == process.pid]


def lens(records, partial=None):
    """What was seen of calls, as a set; partial: of those only."""
    return {key(r["method"], r.get("status"), r.get("message") or None, r["request"], r["response"])
            for r in records if r["type"] == "lens" and partial in (None, r["partial"])}


def key(method, status, message, sent, got):
    return method, status, message, tuple(sent), tuple(got)


@case(timeout=300)
def grpc_python(lab):
    """Unary calls and streams, errors, unknown methods: both sides say what the client says."""
    env = programs(lab)
    server, client, tracer = talk(lab, env, 20)
    records = tracer.stop().records
    told = collections.Counter(
        key(t["method"], t["status"], t["message"], t["sent"], t["got"])
        for t in map(json.loads, client.out().splitlines()))
    check(sum(told.values()) == 20 * PER_ROUND, "the client made fewer calls")
    for side, process in (("client", client), ("server", server)):
        mine = collections.Counter(
            key(r["method"], r["status"], r.get("message") or None, r["request"], r["response"])
            for r in of(records, "lens", process))
        check(mine == told, f"{side}: grpclog {list((mine - told).items())[:3]}, "
                            f"the client {list((told - mine).items())[:3]}")
        calls = of(records, "grpc_call", process)
        check(all(c["side"] == side and not c["partial"] and not c["compressed"] for c in calls),
              f"{side}: partial, or of another side")
        shapes = collections.Counter((c["method"], c.get("streaming")) for c in calls)
        check(shapes == {("Get", None): 40, ("Fail", None): 20, ("List", "server"): 20,
                         ("Put", "client"): 20, ("Chat", "both"): 20, ("None", None): 20},
              f"{side}: {shapes}")
        limits = {c["method"] for c in calls if c.get("timeout_ns")}
        check(limits == {"Put"}, f"{side}: deadlines have {limits}")
        given = [c["timeout_ns"] for c in calls if c["method"] == "Put"]
        check(all(10e9 < ns <= 21e9 for ns in given), f"{side}: deadlines {given}")


@case(timeout=300)
def grpc_compressed(lab):
    """Lengths are of what was sent; and a recording says the same when it is replayed."""
    recording = lab.path("calls.rec")
    server, client, tracer = talk(lab, programs(lab), 3, "Gzip", ("-w", recording))
    records = tracer.stop().records
    for process in (client, server):
        put = [c for c in of(records, "grpc_call", process) if c["method"] == "Put"]
        check(len(put) == 3 and all(c["compressed"] and c["request_count"] == 4 and
                                    0 < c["request_len"] < 2000 for c in put), f"Put: {put}")
    again = lab.run([TLSSCOPE, "-f", "json", "-r", recording, "grpclog"])
    live = [line for line in tracer.output().splitlines(True)
            if json.loads(line)["type"] == "grpc_call"]
    same("the replay", again.out(), b"".join(live))


@case(timeout=300)
def grpc_losses(lab):
    """Whatever is lost, what is said of a call without "partial" is true."""
    recording = lab.path("all.rec")
    *_, tracer = talk(lab, programs(lab), 10, recording=("-w", recording))
    calls = lens(tracer.stop().records)
    check(len(calls) > 10, f"only {len(calls)} kinds of calls")
    script = lab.write("lens.lua", LENS)
    with open(recording, "rb") as f:
        whole = f.read()
    known = 0
    for seed in range(12):
        part = lab.write("part.rec", losses.without(whole, seed, 0.004 if seed % 2 else 0.05))
        replay = lab.run([TLSSCOPE, "-f", "json", "-r", part, script])
        for c in lens(map(json.loads, replay.out().splitlines()), partial=False):
            known += 1
            check(c in calls, f"seed {seed}: there was no such call: {str(c)[:300]}")
    check(known > 40, f"only {known} calls are known")


GO_PACKAGES = ["golang-google-grpc-dev", "golang-google-genproto-dev", "golang-google-protobuf-dev",
               "golang-github-golang-protobuf-1-5-dev", "golang-golang-x-net-dev",
               "golang-golang-x-sys-dev", "golang-golang-x-text-dev"]


def go_program(lab):
    """tests/victims/grpc, with Debian's grpc-go."""
    path = suites.packages_of(lab, "bookworm", "go-grpc", GO_PACKAGES, ["*/testdata/*"])
    goroot = golang.compiler(lab, "1.19")
    folder = os.path.join(suites.cache(), f"go-grpc-programs-{suites.architecture()}")
    return golang.built("1.19", "plain", os.path.join(ROOT, "tests", "victims", "grpc", "orders"), [],
                        golang.environment(goroot, folder, False, f"{path}/usr/share/gocode"))


@case(timeout=400)
def grpc_go(lab):
    """grpc-go on crypto/tls, both sides; a stream of two hundred messages; then one that is cut off."""
    program, port = go_program(lab), lab.port()
    server = lab.spawn([program, "server", str(port), lab.cert, lab.key], port=port)
    env = {"SSL_CERT_FILE": lab.cert}
    client = lab.spawn([program, "client", str(port), lab.cert, "10"], stdin=-1, env=env)
    other = lab.spawn([program, "client", str(port), lab.cert, "1000000"], stdin=-1, env=env)
    pids = [o for p in (server, client, other) for o in ("-p", str(p.pid))]
    tracer = grpclog(lab, *pids)
    client.say()
    client.finish(60)
    wait_for("calls", lambda: tracer.output().count(b'"grpc_call"') >= 2 * 10 * 5)
    before = len(tracer.records())
    other.say()
    wait_for("a call", lambda: b"Put" in other.out())
    other.kill()
    other.wait()
    records = tracer.stop().records
    told = collections.Counter(
        key(t["method"], t["status"], t["message"] or None, t["sent"], t["got"])
        for t in map(json.loads, client.out().splitlines()))
    mine = collections.Counter(
        key(r["method"], r["status"], r.get("message") or None, r["request"], r["response"])
        for r in of(records, "lens", client))
    check(sum(told.values()) == 50 and mine == told,
          f"grpclog {list((mine - told).items())[:3]}, the client {list((told - mine).items())[:3]}")
    theirs = collections.Counter(
        key(r["method"], r["status"], r.get("message") or None, r["request"], r["response"])
        for r in of(records[:before], "lens", server))
    check(theirs == told, f"server: grpclog {list((theirs - told).items())[:3]}, the client "
                          f"{list((told - theirs).items())[:3]}")
    calls = of(records, "grpc_call", client)
    check(all(c["timeout_ns"] > 50e9 and not c["partial"] for c in calls), "deadlines, or partial")
    cut = [c for c in of(records, "grpc_call", other) if "status" not in c]
    check(len(cut) <= 1 and all(c["partial"] for c in cut), f"of what was cut off: {cut}")
