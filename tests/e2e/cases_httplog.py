# SPDX-License-Identifier: MIT
"""httplog: the transactions that servers and clients of others had, against their own logs."""
import collections
import json
import os
import re

from harness import ROOT, TLSSCOPE, case, check, same
from web import backend, curl, nginx


def log_script():
    """The recipe, with a mark when it is attached, and room for a burst on a busy machine."""
    with open(os.path.join(ROOT, "scripts", "httplog.lua"), encoding="utf-8") as f:
        return f.read() + """
            config{buffer = "64M"}
            on.start(function() emit{type = "ready"} end)
            """


def log_of(lab, *options):
    return lab.tracer(*options, script=log_script())


def transactions(tracer):
    seen = tracer.stop()
    return [r for r in seen.records if r.get("type") == "http"]


def count(records, *keys):
    return collections.Counter(tuple(r.get(k) for k in keys) for r in records)


def access_log(lab):
    """[(method, path, status, bytes of the body)] of nginx's own log."""
    with open(lab.path("access.log"), encoding="utf-8") as f:
        found = re.findall(r'"(\S+) (\S+) [^"]*" (\d+) (\d+)', f.read())
    return collections.Counter((m, p, int(s), int(n)) for m, p, s, n in found)


def compare(lab, records, total, what):
    mine = count(records, "method", "path", "status", "response_len")
    own = access_log(lab)
    check(sum(own.values()) == total, f"{what}: nginx logged {sum(own.values())}, not {total}")
    check(mine == own, f"{what}: httplog {list((mine - own).items())[:5]}, "
                       f"nginx {list((own - mine).items())[:5]}")
    check(not any(r["partial"] for r in records), f"{what}: something is partial")


def load(lab, port, *options):
    client = lab.run(["h2load", *options, f"https://127.0.0.1:{port}/page",
                      f"https://127.0.0.1:{port}/none?key=secret"], timeout=100)
    check(b" 0 errored" in client.out(), f"h2load: {client.out()!r} {client.err()}")


def nginx_load(lab, total, *options):
    port = lab.port()
    name = f"web{port}"  # others' cases have an nginx too
    nginx(lab, port, backend(), access=True, name=name)
    with open(lab.path("www/page"), "w", encoding="utf-8") as f:
        f.write("a short page\n")
    tracer = log_of(lab, "--comm", name)
    load(lab, port, "-n", str(total), *options)
    records = transactions(tracer)
    for r in records:
        check("secret" not in json.dumps(r), "a secret is shown")
        r["path"] = r["path"].replace("key=***", "key=secret")
    compare(lab, records, total, " ".join(options))
    return records


@case(needs=["nginx", "h2load"], timeout=200)
def httplog_http2_10000(lab):
    """A hundred streams at once."""
    records = nginx_load(lab, 10000, "-c", "2", "-m", "100")
    streams = {(r["conn"], r["stream"]) for r in records}
    check(len(streams) == 10000, f"{len(streams)} streams")


@case(needs=["nginx", "h2load"], timeout=200)
def httplog_http1_10000(lab):
    nginx_load(lab, 10000, "--h1", "-c", "4", "-m", "1")


@case(needs=["nginx", "h2load"], timeout=200)
def httplog_pipelining_10000(lab):
    nginx_load(lab, 10000, "--h1", "-c", "2", "-m", "16")


@case(needs=["nghttpd", "h2load"], timeout=200)
def httplog_nghttpd_both_sides(lab):
    port = lab.port()
    os.makedirs(lab.path("www"))
    lab.write("www/page", b"x" * 5000)
    lab.spawn(["nghttpd", "-a", "127.0.0.1", "-d", lab.path("www"), str(port), lab.key, lab.cert],
              port=port)
    tracer = log_of(lab, "--comm", "nghttpd", "--comm", "h2load")
    host = f"127.0.0.1:{port}"
    load(lab, port, "-n", "10000", "-c", "1", "-m", "100")
    records = transactions(tracer)
    for side in ("client", "server"):
        mine = [r for r in records if r["side"] == side and r.get("host") == host]
        found = count(mine, "path", "status", "partial")
        check(found == {("/page", 200, False): 5000, ("/none?key=***", 404, False): 5000},
              f"{side}: {found}")
        check(len({r["stream"] for r in mine}) == 10000, f"{side}: streams are not all there")


# All that HTTP events have, and what else has an order among them.
REPLAYED = """
    config{buffer = "64M"}
    for _, name in ipairs {"http", "http_request", "http_response"} do
        on[name]({capture = "4K"}, emit)
    end
    on.http(function(e) print(e.method, e.path, e.status, e.duration_ns, #(e.body or "")) end)
    local latency = hist("latency", {unit = "us", by = {"method", "status"}})
    on.http(function(e) latency:add(e.latency_us, e.method, e.status) end)
    on.tls_close(emit)
    every("50ms", function() emit{type = "tick"} end)
    on.stop(function(e) emit(e) latency:print() end)
    on.start(function() emit{type = "ready"} end)
    """


@case(needs=["nginx", "h2load", "curl"], timeout=120)
def http_replayed(lab):
    """What is live is replayed, to the byte, and twice; also of a client that went in mid-answer."""
    port, record = lab.port(), lab.path("http.rec")
    name = f"rec{port}"
    nginx(lab, port, backend(), access=True, name=name)
    script = lab.write("replayed.lua", REPLAYED)
    httplog = lab.write("httplog.lua", log_script())
    for form in ("json", "text"):
        for what, words in ((script, []), (httplog, ["--headers"])):
            tracer = lab.tracer("--comm", name, "--comm", "curl", "-w", record, script=what, form=form,
                                arguments=words)
            load(lab, port, "-n", "300", "-c", "2", "-m", "100")
            load(lab, port, "--h1", "-n", "100", "-c", "2", "-m", "10")
            curl(lab, port, "--http1.1")
            curl(lab, port, "--http2")
            lab.run(["sh", "-c", f"curl -sk --http1.1 --limit-rate 10k https://127.0.0.1:{port}/page | "
                                 "head -c 100"])
            check(tracer.process.stop(2) == 0, tracer.process.err())
            live = tracer.output()
            check(live.count(b"/page") > 200 and b"/echo" in live, f"{form}: too little was seen")
            for time in ("once", "twice"):
                p = lab.run([TLSSCOPE, "-f", form, "-r", record, what, *words])
                same(f"{form}, {os.path.basename(what)}: live and replayed {time}", live, p.out())


@case(needs=["nginx", "curl"])
def httplog_curl_bodies(lab):
    """Bodies, decoded, of both versions, in a script."""
    port = lab.port()
    nginx(lab, port, backend())
    tracer = lab.tracer("--comm", "curl", script=f"""
        on.http({{capture = "all"}}, function(e)
            if e.host ~= "localhost:{port}" then return end
            emit{{type = "body", method = e.method, proto = e.proto, status = e.status,
                 sent = #e.request.body, got = #e.body, truncated = e.truncated,
                 late = e.latency_ns > 0 and e.duration_ns >= e.latency_ns}}
        end)
        on.start(function() emit{{type = "ready"}} end)
        """)
    curl(lab, port, "--http1.1")
    curl(lab, port, "--http2")
    found = [r for r in tracer.stop().records if r.get("type") == "body"]
    check(count(found, "method", "proto", "status", "truncated") ==
          {(m, p, 200, False): 1 for m in ("GET", "POST") for p in ("HTTP/1.1", "HTTP/2")},
          f"{found}")
    for r in found:
        check(r["late"] and r["got"] > 90000, f"{r}")
        check(r["sent"] == (r["got"] if r["method"] == "POST" else 0), f"{r}")
