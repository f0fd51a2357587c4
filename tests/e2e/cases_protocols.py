# SPDX-License-Identifier: MIT
"""Recipes of other protocols than HTTP, with their real servers and clients."""
import base64
import collections
import json
import os
import re
import shutil
import signal
import time

from cases_db import postgres_tools
from harness import NOBODY, PYTHON, ROOT, Skip, TLSSCOPE, case, check, same, wait_for
from web import backend, nginx


def recipe(name):
    """With a mark when it is attached, and room for a burst on a busy machine."""
    with open(os.path.join(ROOT, "scripts", name + ".lua"), encoding="utf-8") as f:
        return f.read() + '\nconfig{buffer = "64M"}\non.start(function() emit{type = "ready"} end)\n'


def shown(lab, record, name, *options):
    """What the recipe prints of a recording, as text."""
    p = lab.run([TLSSCOPE, "-r", record, name, *options])
    check(not p.err(), p.err())
    return p.out().decode()


def postgres(lab, port):
    tools, data = postgres_tools(), lab.path("pg")
    os.chown(lab.dir, NOBODY.pw_uid, NOBODY.pw_gid)
    lab.run([f"{tools}/initdb", "-D", data, "-U", "nobody", "-A", "trust", "--no-sync"], user=NOBODY)
    for file in ("cert.pem", "key.pem"):
        shutil.copy(f"{lab.base}/{file}", data)
        os.chown(f"{data}/{file}", NOBODY.pw_uid, NOBODY.pw_gid)
        os.chmod(f"{data}/{file}", 0o600)
    return lab.spawn([f"{tools}/postgres", "-D", data, "-p", str(port), "-c", "ssl=on", "-c",
                      "ssl_cert_file=cert.pem", "-c", "ssl_key_file=key.pem", "-c", f"unix_socket_directories={data}", "-c", "listen_addresses=127.0.0.1", "-c",
                      "fsync=off"], port=port, user=NOBODY)


# Simple queries, several in one, errors, COPY; then the extended protocol, as pgbench speaks it.
SQL = r"""
CREATE TABLE t (a int, b text);
INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 2000) i;
SELECT a FROM t WHERE a < 4;
SELECT * FROM t;
SELEC 1;
SELECT pg_sleep(0.2);
SELECT 1\; SELECT 2;
CREATE ROLE r PASSWORD 'very-secret';
COPY t FROM STDIN;
7	seven
\.
BEGIN;
SELECT 1/0;
ROLLBACK;
"""
WANT = [
    ("SELECT 'after';", "SELECT 1"), ("CREATE TABLE t (a int, b text);", "CREATE TABLE"),
    ("INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 2000) i;", "INSERT 0 2000"),
    ("SELECT a FROM t WHERE a < 4;", "SELECT 3"), ("SELECT * FROM t;", "SELECT 2000"), ("SELEC 1;", "42601"),
    ("SELECT pg_sleep(0.2);", "SELECT 1"), ("SELECT 1; SELECT 2;", "SELECT 1, SELECT 1"),
    ("CREATE ROLE r PASSWORD '***';", "CREATE ROLE"), ("COPY t FROM STDIN;", "COPY 1"), ("BEGIN;", "BEGIN"),
    ("SELECT 1/0;", "22012"), ("ROLLBACK;", "ROLLBACK"),
    *[("SELECT a FROM t WHERE a = $1;", "SELECT 1")] * 80,
    *[("SELECT a FROM t WHERE a = 42;", "SELECT 1")] * 40]


def queries(records, side):
    return [(r["query"], r.get("tag") or r.get("code")) for r in records if r["side"] == side]


@case(needs=["psql"], timeout=90)
def pgquery(lab):
    """psql and pgbench with a real server: both sides agree with what was asked."""
    port, record, tools = lab.port(), lab.path("pg.rec"), postgres_tools()
    server = postgres(lab, port)
    connect = f"host=localhost hostaddr=127.0.0.1 port={port} user=nobody dbname=postgres sslmode=require"
    older = lab.spawn([f"{tools}/psql", "-XqAt", connect], stdin=-1)
    older.say("SELECT 'before';\n")
    wait_for("answer", lambda: older.out() == b"before\n")
    # A server's processes are its children: by the name, of which there may be others; so by the port.
    tracer = lab.tracer("-w", record, "--comm", "postgres", "--comm", "psql", "--comm", "pgbench",
                        script=recipe("pgquery"))
    older.say("SELECT 'after';\n")
    wait_for("answer", lambda: older.out() == b"before\nafter\n")
    lab.run([f"{tools}/psql", "-XqAt", "-f", lab.write("q.sql", SQL), connect])
    for mode in ("extended", "prepared", "simple"):
        lab.run([f"{tools}/pgbench", "-n", "-M", mode, "-t", "20", "-c", "2", "-D", "n=42", "-f",
                 lab.write("b.sql", "SELECT a FROM t WHERE a = :n;\n"), connect])
    records = [r for r in tracer.stop().records if r["type"] == "pgquery"]
    server.stop(signal.SIGINT)
    clients = {(r["pid"], r["conn"]) for r in records if r.get("peer") == f"127.0.0.1:{port}"}
    check(len(clients) == 8, f"{len(clients)} connections")
    mine = [r for r in records if (r["pid"], r["conn"]) in clients]
    theirs = [r for r in records if r["comm"] == "postgres" and r.get("user", "nobody") == "nobody"]
    same("asked", queries(mine, "client"), WANT)
    check(collections.Counter(WANT) - collections.Counter(queries(theirs, "server")) ==
          collections.Counter(), "the server's side has not all of them")
    for r in mine:
        check(200e6 <= r["duration_ns"] < 20e9 if "sleep" in r["query"] else r["duration_ns"] > 0, f"{r}")
        check(r.get("database") == ("postgres" if r["query"] != "SELECT 'after';" else None), f"{r}")
    check("very-secret" not in json.dumps(records), "a password is shown")
    text = shown(lab, record, "pgquery")
    check('SELEC 1; ERROR 42601 syntax error at or near "SELEC" ' in text, text)
    check("CREATE ROLE r PASSWORD '***'; CREATE ROLE " in text and "SELECT 2000 " in text, text)
    check("very-secret" in shown(lab, record, "pgquery", "--show-secrets"), "--show-secrets")
    slow = shown(lab, record, "pgquery", "--slow", "200ms").splitlines()
    same("slow ones", len(slow), sum(r["duration_ns"] >= 200e6 for r in records))
    check(sum("pg_sleep" in line for line in slow) >= 2, f"{slow}")
    failed = shown(lab, record, "pgquery", "--errors", "--width", "20").splitlines()
    check(len(failed) == 4 and all("ERROR" in f for f in failed) and "syntax error at o..." in failed[0], f"{failed}")


REDIS = """
AUTH wrong-secret
SET user:7 0123456789
GET user:7
GET missing
INCR user:7x
INCR user:7
LPUSH list a b c
LRANGE list 0 -1
HSET hash f1 v1 f2 v2
HGETALL hash
CONFIG SET requirepass top-secret
AUTH default top-secret
ACL SETUSER bob on >bob-secret ~* +@all
EVAL "return redis.error_reply('MY error')" 0
MULTI
PING
EXEC
NOSUCH command
DEBUG SLEEP 0.4
"""


@case(needs=["redis-server", "redis-cli", "redis-benchmark"], timeout=90)
def redislog(lab):
    """redis-cli with RESP2 and RESP3, and redis-benchmark with pipelining; both sides agree."""
    port, record = lab.port(), lab.path("redis.rec")
    server = lab.spawn(["redis-server", "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1",
                        "--tls-cert-file", lab.cert, "--tls-key-file", lab.key, "--tls-ca-cert-file", lab.cert,
                        "--tls-auth-clients", "no", "--save", "", "--dir", lab.dir,
                        "--enable-debug-command", "yes"], port=port)
    tls = ["-h", "127.0.0.1", "-p", str(port), "--tls", "--cacert", lab.cert]
    tracer = lab.tracer("-w", record, "--comm", "redis-server", "--comm", "redis-cli", "--comm",
                        "redis-benchmark", script=recipe("redislog"))
    bench = lab.run(["redis-benchmark", *tls, "-t", "set,get", "-n", "300", "-c", "3", "-P", "10", "-d", "20000", "-q"])
    check(b"GET:" in bench.out(), f"{bench.out()!r}")
    for version in ([], ["-3"]):
        lab.run(["redis-cli", *tls, *version], input=REDIS.encode())
        lab.run(["redis-cli", *tls, "-a", "top-secret", "--no-auth-warning", "CONFIG", "SET", "requirepass", ""])
    records = [r for r in tracer.stop().records if r["type"] == "redislog"]
    server.stop()
    mine = [r for r in records if r.get("peer") == f"127.0.0.1:{port}" and r["side"] == "client"]
    theirs = [r for r in records if r["pid"] == server.pid and r["side"] == "server"]

    def told(rows):
        return collections.Counter((r["command"].upper(), r["reply"], r["reply_len"], r.get("error")) for r in rows)
    # redis-benchmark asks for more than it is told to, and leaves.
    more = told(theirs) - told(mine)
    check(not told(mine) - told(theirs) and set(more) <= {("SET", "string", 2, None), ("GET", "string", 20000, None)},
          f"only the clients' {told(mine) - told(theirs)}, only the server's {more}")
    kinds = told(mine)
    for want, n in ((("GET", "string", 20000, None), 300), (("SET", "string", 2, None), 302),
                    (("GET", "string", 10, None), 2), (("GET", "null", 0, None), 1),
                    (("EVAL", "error", 8, "MY error"), 2), (("LRANGE", "array", 3, None), 1), (("LRANGE", "array", 6, None), 1),
                    (("HGETALL", "array", 8, None), 1), (("HGETALL", "map", 8, None), 1)):
        check(kinds[want] >= n, f"{kinds[want]} of {want}, not {n}: {kinds}")
    check(all("secret" not in json.dumps(r) for r in records), "a secret is shown")
    slept = [r for r in mine if r["command"] == "DEBUG"]
    check(len(slept) == 2 and all(300e6 <= r["duration_ns"] < 20e9 for r in slept), f"{slept}")
    text = shown(lab, record, "redislog")
    for line in ("SET user:7 0123456789; OK ", "GET missing; (nil) ", "AUTH default ***; OK ",
                 "ACL SETUSER bob on *** ~* +@all; OK ", "HGETALL hash; map of 2, 8 bytes ",
                 "INCR user:7x; 1 ", "CONFIG SET requirepass ***; OK "):
        check(line in text, f"no '{line}' in {text[-3000:]}")
    check("top-secret" in shown(lab, record, "redislog", "--show-secrets"), "--show-secrets")
    slow = shown(lab, record, "redislog", "--slow", "200ms")
    check("DEBUG SLEEP" in slow, slow)
    failed = shown(lab, record, "redislog", "--errors")
    check("NOSUCH command; ERR unknown command" in failed and "; OK" not in failed, failed)


# Debian's aiosmtpd, with users and a recipient that it does not have.
SMTP_SERVER = """
import asyncio, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult
port, cert, key = int(sys.argv[1]), sys.argv[2], sys.argv[3]

class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("no@"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        print(envelope.mail_from, ",".join(envelope.rcpt_tos), len(envelope.content), flush=True)
        return "552 too much" if len(envelope.content) > 400000 else "250 taken"

def check(server, session, envelope, mechanism, data):
    return AuthResult(success=data.password == b"pass-secret", handled=False)

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: SMTP(Handler(), tls_context=context, require_starttls=True, hostname="mail",
                                          authenticator=check, data_size_limit=0), "127.0.0.1", port)
    print("listening", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

SMTP_CLIENT = """
import smtplib, ssl, sys
s = smtplib.SMTP("127.0.0.1", int(sys.argv[1]))
s.starttls(context=ssl._create_unverified_context())
try:
    s.login("ann", "wrong-secret")
except smtplib.SMTPAuthenticationError:
    pass
s.login("ann", "pass-secret")
s.sendmail("ann@x.example", ["bob@y.example", "no@y.example", "eve@y.example"],
           "Subject: one\\r\\n\\r\\n.a dot\\r\\n..\\r\\nend")
s.sendmail("ann@x.example", "bob@y.example", "")
try:
    s.sendmail("ann@x.example", "bob@y.example", ("x" * 70 + "\\r\\n") * 6000)
except smtplib.SMTPDataError:
    pass
s.quit()
"""


@case(needs=["curl"])
def smtplog(lab):
    """smtplib and curl hand mails to aiosmtpd after STARTTLS: what it got is what is told."""
    if lab.run([PYTHON, "-c", "import aiosmtpd"], status=None).returncode:
        raise Skip("python3-aiosmtpd is not installed")
    port, record = lab.port(), lab.path("smtp.rec")
    names = [f"sms{port}", f"smc{port}"]
    for name in names:
        os.symlink(PYTHON, lab.path(name))
    server = lab.spawn([lab.path(names[0]), lab.write("server.py", SMTP_SERVER), str(port), lab.cert, lab.key],
                       ready=b"listening")
    tracer = lab.tracer("-w", record, "--comm", names[0], "--comm", names[1], "--comm", "curl",
                        script=recipe("smtplog"))
    lab.run([lab.path(names[1]), lab.write("client.py", SMTP_CLIENT), str(port)])
    lab.run(["curl", "-sS", "-k", "--ssl-reqd", f"smtp://127.0.0.1:{port}", "-u", "ann:pass-secret", "--mail-from",
             "ann@x.example", "--mail-rcpt", "bob@y.example", "-T", lab.write("mail", b"Subject: two\r\n\r\ntext\r\n")])
    records = [r for r in tracer.stop().records if r["type"] == "smtplog"]
    own = [line.split() for line in server.out().decode().splitlines()[1:]]
    check(len(own) == 4, f"{own}")
    for side in ("client", "server"):
        mine = [r for r in records if r["side"] == side and r["comm"] in (*names, "curl") and
                (side == "server" or r["peer"] == f"127.0.0.1:{port}")]
        mails = [r for r in mine if "from" in r]
        same(f"{side}: mails", [(r["from"], ",".join(r["to"])) for r in mails],
             [(f"<{m}>", ",".join(f"<{a}>" for a in to.split(","))) for m, to, _ in own])
        # What makes a line that begins with a dot transparent is sent too.
        for r, (_, _, size) in zip(mails, own):
            check(0 <= r["size"] - int(size) <= 3, f"{side}: {r['size']} bytes, the server had {size}")
        same(f"{side}: answers", [r["code"] for r in mails], [250, 250, 552, 250])
        refused = [(r["command"], r["code"]) for r in mine if "command" in r]
        check(("RCPT TO:<no@y.example>", 550) in [(c.upper().replace("NO@Y.EXAMPLE", "no@y.example"), n)
                                                   for c, n in refused], f"{side}: {refused}")
        check(any(c.startswith("AUTH") and c.endswith("***") and n == 535 for c, n in refused), f"{side}: {refused}")
    text = shown(lab, record, "smtplog", "--commands")
    check("<ann@x.example> to <bob@y.example>,<eve@y.example>, " in text and " bytes: 250 taken " in text, text)
    check("AUTH PLAIN ***: 235 " in text, text)
    for secret in (b"\0ann\0pass-secret", b"\0ann\0wrong-secret", b"wrong-secret"):
        secret = base64.b64encode(secret).decode()
        check(secret not in text + json.dumps(records), f"{secret} is shown: {text}")
        check(secret in shown(lab, record, "smtplog", "--commands", "--show-secrets"), f"no {secret}")
    refused = shown(lab, record, "smtplog", "--refused").splitlines()
    check(len(refused) >= 4 and all(re.search(": [45]", line) for line in refused), f"{refused}")


AWS, CARD, TOKEN = "AKIA" + "Q7" * 8, "4111 1111 1111 1111", "ghp_" + "a1B2" * 9
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----\n"
LEAKS = f"{AWS} and {CARD}, not 4111 1111 1111 1112, nor 1234567890123, ann@x.example\n{KEY}"


@case(needs=["nginx", "curl", "openssl"])
def leakwatch(lab):
    """In a URL, a header, a body, of both versions and in what is no HTTP; masked; told once."""
    port, tls, record = lab.port(), lab.port(), lab.path("leak.rec")
    name = f"lea{port}"
    nginx(lab, port, backend(), name=name)
    lab.spawn(["openssl", "s_server", "-accept", f"127.0.0.1:{tls}", "-cert", lab.cert, "-key", lab.key, "-quiet"],
              port=tls, stdin=-1)
    tracer = lab.tracer("-w", record, "--comm", name, "--comm", "curl", "--comm", "openssl",
                        script=recipe("leakwatch"))
    for version in ("--http1.1", "--http2"):
        lab.run(["curl", "-sS", "-o", "/dev/null", "--cacert", lab.cert, version, "-H", f"X-Note: {TOKEN}",
                 "--data-binary", "@" + lab.write("leaks", LEAKS.encode()),
                 f"https://localhost:{port}/echo?mail=eve@y.example"])
    client = lab.spawn(["openssl", "s_client", "-connect", f"127.0.0.1:{tls}", "-quiet", "-CAfile", lab.cert], stdin=-1)
    for text in ("nothing\n", LEAKS[:30], LEAKS[30:], LEAKS):
        client.stdin.write(text.encode())
        client.stdin.flush()
        time.sleep(0.1)
    tracer.wait_until("key outside of HTTP", b'"offset":%d,' % (8 + LEAKS.index("---")))
    records = [r for r in tracer.stop().records if r["type"] == "leakwatch"]
    mine = [r for r in records if r["comm"] == "curl" and r["peer"] == f"127.0.0.1:{port}"]
    want = {("aws-key", "body", 0, "AKIA***(20)"), ("card", "body", 25, "***1111(19)"),
            ("email", "body", LEAKS.index("ann"), "***@x.example"), ("github-token", "header x-note", 0, "ghp_***(40)"),
            ("private-key", "body", LEAKS.index("---"), "-----BEGIN RSA PRIVATE KEY-----***"),
            ("email", "URL", 11, "***@y.example")}
    for conn in {r["conn"] for r in mine}:
        found = [(r["kind"], r["place"].lower().replace("url", "URL"), r["offset"], r["value"]) for r in mine
                 if r["conn"] == conn]
        check(set(found) == want and len(found) == len(want), f"{found}")
    check(len({r["conn"] for r in mine}) == 2, f"{mine}")
    # The echo is what the server sends; it got the URL, too.
    theirs = [(r["kind"], r.get("place")) for r in records if r["comm"] == name]
    check(theirs.count(("aws-key", "body")) == 2 and ("email", "URL") not in theirs, f"{theirs}")
    plain = [(r["kind"], r["offset"]) for r in records if r["pid"] == client.pid]
    check(sorted(plain) == sorted((k, 8 + LEAKS.index(t)) for k, t in (
        ("aws-key", AWS), ("card", CARD), ("email", "ann"), ("private-key", "---"))), f"{plain}")
    text = shown(lab, record, "leakwatch")
    for secret in (AWS, CARD, TOKEN, "ann@", "eve@"):
        check(secret not in json.dumps(records) + text, f"{secret} is shown")
    check(re.search(r"curl\[\d+\] -> \S+ aws-key AKIA\*\*\*\(20\) in body at 0 of POST https://localhost", text),
          text)
    check(AWS in shown(lab, record, "leakwatch", "--show-secrets"), "--show-secrets")
    check("card" not in shown(lab, record, "leakwatch", "--only", "email,aws-key"), "--only")
    check("email" not in shown(lab, record, "leakwatch", "--skip", "email"), "--skip")
