# SPDX-License-Identifier: MIT
"""Databases, brokers and relays over TLS."""
import glob
import os
import shutil
import signal
import subprocess

from harness import NOBODY, Skip, both_sides, case, check, lines, same, wait_for


def postgres_tools():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    if not found:
        raise Skip("PostgreSQL's server is not installed")
    return os.path.dirname(found[-1])


@case(needs=["psql"])
def psql_postgres(lab):
    """A process a connection, forked by a server that was there before the tracer."""
    tools, data, port = postgres_tools(), lab.path("pg"), lab.port()
    os.chown(lab.dir, NOBODY.pw_uid, NOBODY.pw_gid)
    lab.run([f"{tools}/initdb", "-D", data, "-U", "nobody", "-A", "trust", "--no-sync"],
            user=NOBODY)
    for name in ("cert.pem", "key.pem"):
        shutil.copy(f"{lab.base}/{name}", data)
        os.chown(f"{data}/{name}", NOBODY.pw_uid, NOBODY.pw_gid)
        os.chmod(f"{data}/{name}", 0o600)
    server = lab.spawn([f"{tools}/postgres", "-D", data, "-p", str(port), "-c", "ssl=on",
                        "-c", "ssl_cert_file=cert.pem", "-c", "ssl_key_file=key.pem",
                        "-c", f"unix_socket_directories={data}", "-c", "listen_addresses=127.0.0.1",
                        "-c", "fsync=off"], port=port, user=NOBODY)
    text = lines(3000, "row").decode()
    sql = lab.write("in.sql", "CREATE TABLE t (a text);\nCOPY t FROM STDIN;\n" + text +
                    "\\.\nSELECT a FROM t ORDER BY a;\n")
    connect = f"host=localhost hostaddr=127.0.0.1 port={port} user=nobody dbname=postgres " \
              f"sslmode=verify-full sslrootcert={lab.cert}"
    tracer = lab.tracer("--comm", "postgres", "--comm", "psql")
    client = lab.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-f", sql, connect])
    same("psql's own output", client.out(), text.encode())
    seen = tracer.stop()
    server.stop(signal.SIGINT)
    mine = seen.flows(pids=[client.pid])
    both_sides(mine, seen.flows(comm=["postgres"]), 1)
    size = int.from_bytes(mine[0].sent[:4], "big")  # the start-up message has no type
    # Older versions of psql send the end mark too.
    same("rows copied in", b"".join(messages(mine[0].sent[size:], b"d")).removesuffix(b"\\.\n"),
         text.encode())
    # A row's only field comes after its count and its length.
    same("rows selected", b"".join(m[6:] + b"\n" for m in messages(mine[0].received, b"D")),
         text.encode())


def messages(data, kind):
    """The bodies of PostgreSQL's messages of one kind."""
    found = []
    while data:
        size = 1 + int.from_bytes(data[1:5], "big")
        check(size > 4 and len(data) >= size, f"a message of {size} bytes has {len(data)}")
        if data[:1] == kind:
            found.append(data[5:size])
        data = data[size:]
    return found


@case(needs=["redis-server", "redis-cli"])
def redis_tls(lab):
    port = lab.port()
    server = lab.spawn(["redis-server", "--port", "0", "--tls-port", str(port), "--bind",
                        "127.0.0.1", "--tls-cert-file", lab.cert, "--tls-key-file", lab.key,
                        "--tls-ca-cert-file", lab.cert, "--tls-auth-clients", "no", "--save", "",
                        "--dir", lab.dir], port=port)
    big = lines(2000, "value")
    tls = ["redis-cli", "-h", "127.0.0.1", "-p", str(port), "--tls", "--cacert", lab.cert]
    tracer = lab.tracer("--comm", "redis-server", "--comm", "redis-cli")
    put = lab.run(tls + ["-x", "SET", "big"], input=big)
    got = lab.run(tls + ["--raw", "GET", "big"])
    same("redis-cli's own output", got.out(), big + b"\n")
    seen = tracer.stop()
    server.stop()
    mine = seen.flows(pids=[put.pid, got.pid])
    both_sides(mine, seen.flows(pids=[server.pid]), 2)
    stored, = [f for f in mine if f.pid == put.pid]
    asked, = [f for f in mine if f.pid == got.pid]
    check(b"\r\n$%d\r\n%s\r\n" % (len(big), big) in stored.sent,
          "the value is not in what was sent")
    check(asked.received.endswith(b"$%d\r\n%s\r\n" % (len(big), big)), "the value was not received")


@case(needs=["mosquitto", "mosquitto_sub", "mosquitto_pub"])
def mosquitto_tls(lab):
    port = lab.port()
    conf = lab.write("mosquitto.conf", f"listener {port} 127.0.0.1\ncertfile {lab.cert}\n"
                     f"keyfile {lab.key}\nallow_anonymous true\nuser root\n")
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin")
    server = lab.spawn([program, "-c", conf], port=port)
    message = lines(800, "mqtt")
    tls = ["-h", "localhost", "-p", str(port), "--cafile", lab.cert, "-t", "news", "-q", "1"]
    tracer = lab.tracer("--comm", "mosquitto", "--comm", "mosquitto_sub", "--comm", "mosquitto_pub")
    listener = lab.spawn(["mosquitto_sub", *tls, "-C", "1", "-N"])
    # Retained: whichever of the two comes first.
    speaker = lab.run(["mosquitto_pub", *tls, "-r", "-f", lab.write("message", message)])
    listener.finish()
    same("mosquitto_sub's own output", listener.out(), message)
    seen = tracer.stop()
    mine = seen.flows(pids=[listener.pid, speaker.pid])
    # What a client says last, the broker may never read.
    both_sides(mine, seen.flows(pids=[server.pid]), 2, lambda rest: len(rest) <= 4)
    check(any(message in f.sent for f in mine), "the message is not in what was sent")
    check(any(message in f.received for f in mine), "the message was not received")


@case(needs=["socat"])
def socat_fork(lab):
    """socat as server and client; the server forks a process a connection."""
    port = lab.port()
    server = lab.spawn(["socat", f"OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,cert="
                        f"{lab.cert},key={lab.key},verify=0", "EXEC:cat"], port=port)
    tracer = lab.tracer("--comm", "socat")
    texts, pids = [lines(500, f"text{i}") for i in range(4)], []
    for text in texts:
        # The half of socat that has nothing left to send waits for the echo's end.
        p = lab.run(["socat", "-t5", "-", f"OPENSSL:localhost:{port},pf=ip4,cafile={lab.cert}"],
                    input=text)
        same("socat's own output", p.out(), text)
        pids.append(p.pid)
    seen = tracer.stop()
    servers = [f for f in seen.flows(comm=["socat"]) if f.pid not in pids]
    mine = both_sides(seen.flows(pids=pids), servers, 4)
    check(len({f.pid for f in servers}) == 4 and server.pid not in {f.pid for f in servers},
          "not four processes served")
    check(sorted(f.sent for f in mine) == sorted(texts), "not the texts sent")
    check(sorted(f.received for f in mine) == sorted(texts), "not the texts received")


@case(needs=["ncat"])
def ncat_ssl(lab):
    port, text = lab.port(), lines(900, "ncat")
    server = lab.spawn(["ncat", "--ssl", "--ssl-cert", lab.cert, "--ssl-key", lab.key, "-l",
                        "127.0.0.1", str(port), "--exec", "/bin/cat"], port=port)
    tracer = lab.tracer("--comm", "ncat")
    client = lab.spawn(["ncat", "--ssl", "127.0.0.1", str(port)],
                       stdin=subprocess.PIPE)
    client.stdin.write(text)
    client.stdin.flush()
    wait_for("echo", lambda: client.out() == text)
    client.stop(signal.SIGKILL)
    seen = tracer.stop()
    mine = seen.flows(pids=[client.pid])
    theirs = [f for f in seen.flows(comm=["ncat"]) if f.pid != client.pid]
    both_sides(mine, theirs, 1)
    same("client's out", mine[0].sent, text)
    same("client's in", mine[0].received, text)
    check(server.pid, "ncat ran")
