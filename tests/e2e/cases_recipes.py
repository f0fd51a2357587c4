# SPDX-License-Identifier: MIT
"""The recipes of HTTP, on what curl and others said to node, nginx and nghttpd; secrets."""
import collections
import json
import os
import re

from harness import HERE, ROOT, TLSSCOPE, case, check, lines
from web import backend, nginx

SECRET = "s3cret"
RECIPES = ["httplog --headers", "httptop --by path", "httpslow 200ms", "httperrors", "httplat --by path",
           "headers", "headers --count", "bodies", "curlify", "h2streams", "sse", "graphql --query"]
LOGIN = '{"query":"mutation Login { login(password: \\"s3cret\\") { id } }",' \
        '"variables":{"password":"s3cret","n":1}}'


def app(lab):
    port = lab.port()
    lab.spawn(["node", os.path.join(HERE, "app.js"), str(port), lab.cert, lab.key], ready=b"ready")
    name = f"curl{port}"  # others' cases have a curl too
    os.symlink("/usr/bin/curl", lab.path(name))
    return port, name


def recorded(lab, name, script, capture="all"):
    """What a shell script says, in which $C is curl."""
    record = lab.path("app.rec")
    path = lab.write("load.sh", f"C='./{name} -s --cacert {lab.cert}'\n" + script)
    lab.run([TLSSCOPE, "--comm", name, "-w", record, "-c", f"sh {path}", "-e",
             f"on.http_data({{capture = {json.dumps(capture)}}}, function() end)"], timeout=60)
    return record


def replay(lab, record, recipe, form="text"):
    out = lab.run([TLSSCOPE, "-r", record, "-f", form, *recipe.split()]).out().decode()
    return [json.loads(line) for line in out.splitlines()] if form == "json" else out


def conversation(port, version):
    url = f"https://localhost:{port}"
    return f"""
        J='Content-Type: application/json'
        $C {version} '{url}/hello?token=s3cret&x=1' -H 'Authorization: Bearer s3cret' -b 'a=s3cret; b=s3cret'
        $C {version} '{url}/login' -H "$J" -H 'X-Api-Key: s3cret' -d '{{"user":"ann","password":"s3cret"}}'
        $C {version} {url}/form -d 'user=ann&password=s3cret' -e 'https://h/?code=s3cret'
        $C {version} {url}/form -F user=ann -F password=s3cret
        $C {version} {url}/sse
        $C {version} {url}/zipped --compressed
        $C {version} {url}/slow
        $C {version} {url}/error
        $C {version} {url}/picture
        $C {version} {url}/hang
        $C {version} {url}/graphql -H "$J" -d '{LOGIN}'
        $C {version} -g '{url}/graphql?query={{me{{id}}}}'
        """


def check_lines(text, *wanted):
    for pattern in wanted:
        check(re.search(pattern, text, re.M), f"no line like {pattern} in\n{text}")


@case(needs=["node", "curl"], timeout=120)
def recipes_of_http(lab):
    """Each shows what was said in both versions, as text and JSON, and no secret."""
    port, name = app(lab)
    record = recorded(lab, name, conversation(port, "--http1.1") + conversation(port, "--http2"))
    said = {r: replay(lab, record, r) for r in RECIPES}
    for recipe, text in said.items():
        lines_with = [s for s in text.splitlines() if SECRET in s]
        check(not lines_with, f"{recipe} shows a secret: {lines_with[:3]}")
        records = replay(lab, record, recipe, "json")
        check(records and SECRET not in json.dumps(records), f"{recipe} shows a secret as JSON")
    for recipe in ("httplog --headers", "headers", "bodies", "curlify", "sse", "graphql --query"):
        check(SECRET in replay(lab, record, recipe + " --show-secrets"), f"{recipe} --show-secrets hides")
    records = replay(lab, record, "httplog", "json")
    check(len(records) == 24, f"{len(records)} requests")
    found = collections.Counter()
    for r in replay(lab, record, "httptop --by path", "json"):
        found.update({(r["key"], k): r[k] for k in ("requests", "status_5xx", "unanswered")})
    check(found["/form", "requests"] == 4 and found["/error", "status_5xx"] == 2 and
          found["/hang", "unanswered"] == 2, f"httptop: {found}")
    check(sum(n for k, n in found.items() if k[1] == "requests") == 24, f"httptop: {found}")
    slow = replay(lab, record, "httpslow 290ms", "json")
    check({"/slow", "/hang"} <= {r["path"] for r in slow}, f"httpslow: {slow}")
    check(all(r["waited_ns"] > 5e8 for r in slow if r["path"] == "/hang"), f"httpslow: {slow}")
    check_lines(said["httperrors"], r"GET .*/error 503$", r"/hang no answer$", r"^failed: 4 of 24 requests$",
                r"/error +503 +2$")
    check_lines(said["httplat --by path"], r"^wait \(us\) \[/form\]: count 4, ",
                r"^total \(us\) \[/slow\]: count 2, avg ([3-9]\d\dms|[\d.]+s)")
    check_lines(said["headers"], r"^  > X-Api-Key: \*\*\*$", r"^  > [Aa]uthorization: B\w+ \*\*\*$",
                r"^  < [Ss]et-[Cc]ookie: sid=\*\*\*; Path=/$", r"^  > [Rr]eferer: https://h/\?code=\*\*\*$")
    only = replay(lab, record, "headers user-agent x-*")
    names = set(re.findall(r"^  . ([\w-]+):", only, re.M))
    check(names == {"User-Agent", "user-agent", "X-Api-Key", "x-api-key"}, only)
    check_lines(said["headers --count"], r"^  > +user-agent +curl/\S+ +24$")
    check_lines(said["bodies"], r'^  \{"user":"ann","password":"\*\*\*"\}$', r"^  user=ann&password=\*\*\*$",
                r"4 bytes of image/png, not text$", r'^  \{"access_token":"\*\*\*","name":"ann"\}$')
    grep = replay(lab, record, "bodies --type json --grep ann", "json")
    check(collections.Counter((r["path"], r["part"]) for r in grep) ==
          {("/login", "request"): 2, ("/login", "response"): 2}, f"{grep}")
    ended = sum(r["ended"] for r in replay(lab, record, "h2streams", "json"))
    check(ended == 12, f"h2streams: {ended} streams ended")
    check_lines(said["graphql --query"], r"POST \S+ mutation Login 200 errors 1 ", r"GET \S+ query - 200",
                r'^  mutation Login \{ login\(password: "\*\*\*"\)', r'^  \{"n":1,"password":"\*\*\*"\}$', r"^  error: no such field$")
    events = replay(lab, record, "sse", "json")
    want = [("message", None, '{"delta":"Hel"}'), ("tick", "7", "one\ntwo"),
            ("message", None, '{"token":"***"}'), ("message", None, "last")]
    check([(r["event"], r.get("id"), r["data"]) for r in events] == 4 * want, f"sse: {events}")
    ahead = [events[i + 3]["nsecs"] - events[i]["nsecs"] for i in (0, 8)]
    check(events[0]["path"] == events[8]["path"] == "/sse" and max(ahead) > 1e8,
          f"sse did not show events as they came: {ahead} ns before the last")


@case(needs=["node", "curl"], timeout=120)
def curlify_repeats_requests(lab):
    """What it prints runs, and the server gets the same request again."""
    port, name = app(lab)
    url = f"https://localhost:{port}"
    lab.write("binary", bytes(range(256)) + b"'\"$(x)`%s%%\\n")
    lab.write("large", b"\xe4" + lines(8000))
    asks = ["/a?b=1 -H 'Authorization: Bearer s3cret' -b 'a=1; b=2'", "/b -d 'x=1&y=%20'",
            "/c -X PUT -d '' -H 'Content-Type: text/plain'", "/e --data-binary @large -H 'Expect:'",
            "/d --data-binary @binary -H 'Content-Type: application/octet-stream'", "/f -X DELETE",
            "/g -H 'Accept:' -H 'User-Agent:'", "/h -H \"X-Odd: a'b\\\"\\$(c)\\`d\\\\%s\" -H 'X-Empty;'",
            "/i/../j --path-as-is", "'/k?q=[1]{2}' -g", "/m -d \"it's\" -H 'Content-Type;'"]
    script = "".join(f"$C {v} {url}{a} >{kind}{n}\n" if a[0] != "'" else f"$C {v} '{url}{a[1:]} >{kind}{n}\n"
                     for kind, v in (("one", "--http1.1"), ("two", "--http2")) for n, a in enumerate(asks))
    record = recorded(lab, name, script)
    masked = replay(lab, record, "curlify", "json")
    check("masked" in masked[0]["notes"] and SECRET not in masked[0]["command"], f"{masked[0]}")
    commands = replay(lab, record, "curlify --connect --show-secrets", "json")
    check(len(commands) == 2 * len(asks), f"{len(commands)} commands")
    for i, r in enumerate(commands):
        first = lab.path(f"{'one' if i < len(asks) else 'two'}{i % len(asks)}")
        check("notes" not in r, f"{r}")
        again = lab.run(["sh", lab.write("again.sh", r["command"])], env={"CURL_CA_BUNDLE": lab.cert}, timeout=20).out()
        with open(first, "rb") as f:
            want, got = json.load(f), json.loads(again)
        check(want == got, f"{r['command'][:400]}\nsaid {str(got)[:600]}\nand not {str(want)[:600]}")


def traced(lab, comm, recipe, *arguments):
    """A recipe, live, with a mark when it is attached."""
    with open(os.path.join(ROOT, "scripts", recipe + ".lua"), encoding="utf-8") as f:
        script = f.read() + """
            config{buffer = "64M"}
            on.start(function() emit{type = "ready"} end)
            """
    return lab.tracer("--comm", comm, script=script, arguments=arguments)


@case(needs=["nginx", "h2load"], timeout=120)
def httptop_of_nginx(lab):
    port = lab.port()
    name = f"web{port}"
    nginx(lab, port, backend(), name=name)
    tracer = traced(lab, name, "httptop", "--by", "path", "--interval", "200ms")
    lab.run(["h2load", "-n", "2000", "-c", "2", "-m", "20", f"https://127.0.0.1:{port}/none?key=1",
             f"https://127.0.0.1:{port}/echo"], timeout=60)
    found = collections.Counter()
    for r in tracer.stop().records:
        if r["type"] == "httptop":
            check(r["side"] == "server" and r["avg_ns"] <= r["max_ns"], f"{r}")
            found.update({(r["key"], k): r[k] for k in
                          ("requests", "status_4xx", "status_5xx", "unanswered")})
    check(found == {("/none", "requests"): 1000, ("/none", "status_4xx"): 1000, ("/none", "status_5xx"): 0,
                    ("/none", "unanswered"): 0, ("/echo", "requests"): 1000, ("/echo", "status_4xx"): 0,
                    ("/echo", "status_5xx"): 0, ("/echo", "unanswered"): 0}, f"{found}")


@case(needs=["nghttpd", "h2load"], timeout=120)
def h2streams_of_nghttpd(lab):
    port = lab.port()
    os.makedirs(lab.path("www"))
    lab.write("www/page", b"x" * 500)
    server = lab.spawn(["nghttpd", "-a", "127.0.0.1", "-d", lab.path("www"), str(port), lab.key, lab.cert], port=port)
    tracer = traced(lab, "nghttpd", "h2streams", "--interval", "200ms")
    lab.run(["h2load", "-n", "2000", "-c", "2", "-m", "20", f"https://127.0.0.1:{port}/page"], timeout=60)
    records = [r for r in tracer.stop().records if r["type"] == "h2streams" and r["pid"] == server.pid]
    check(sum(r["ended"] for r in records) == 2000, f"{records}")
    check(sum(r["answer"] for r in records) == 2000 * 500, f"{records}")
    check(len({r["conn"] for r in records}) == 2 and all(r["most"] <= 20 for r in records), f"{records}")
    check(max(r["most"] for r in records) > 1 and records[-1]["open"] == 0, f"{records}")
