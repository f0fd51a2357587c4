# SPDX-License-Identifier: MIT
"""What servers of others log of themselves is what httplog sees: apache, node, python, nghttpd, nginx."""
import collections
import json
import os
import re
import shutil

from cases_httplog import count, log_of, transactions
from harness import Skip, case, check, lines, same
from web import PAGE, nginx

MODULES = "/usr/lib/apache2/modules"
TEXT = lines(400, "text")


def compare(what, mine, own):
    """Two collections, as counters."""
    mine, own = collections.Counter(mine), collections.Counter(own)
    check(own, f"{what}: the server logged nothing")
    check(mine == own, f"{what}: only httplog has {list((mine - own).items())[:5]}, only the server "
                       f"{list((own - mine).items())[:5]}")


def told(r):
    return r["method"], r["path"].split("?")[0], r.get("status"), r.get("response_len")


def curl(lab, *arguments, status=0):
    # curl 7.88 asks for http/1.0 by ALPN, and takes no answer to that.
    alpn = ["--no-alpn"] if "--http1.0" in arguments else []
    return lab.run(["curl", "-sS", "-o", lab.path("got"), "--cacert", lab.cert, *alpn, *arguments],
                   status=status)


def got(lab):
    with open(lab.path("got"), "rb") as f:
        return f.read()


# --- apache

def apache(lab, tls, plain, name, extra=""):
    """One TLS port with HTTP/2, one plain port with h2c; its log has what httplog has."""
    os.symlink("/usr/sbin/apache2", lab.path(name))
    load = ["mpm_event", "authz_core", "ssl", "http2", "rewrite", "headers", "env", "setenvif", "filter",
            "deflate", "brotli", "mime", "proxy", "proxy_connect", "log_config", "socache_shmcb"]
    load = "\n".join(f"LoadModule {m}_module {MODULES}/mod_{m}.so" for m in load
                     if os.path.exists(f"{MODULES}/mod_{m}.so"))
    os.makedirs(lab.path("www"), exist_ok=True)
    for page, data in (("page.txt", TEXT), ("large.txt", PAGE), ("br.txt", TEXT)):
        os.utime(lab.write(f"www/{page}", data), (10 ** 9, 10 ** 9))
    conf = lab.write("apache.conf", f"""
        ServerRoot {lab.dir}
        ServerName localhost
        PidFile {lab.path("apache.pid")}
        {load}
        Listen 127.0.0.1:{tls}
        Listen 127.0.0.1:{plain}
        ErrorLog /dev/stderr
        User nobody
        Group nogroup
        TypesConfig /dev/null
        AddType text/plain .txt
        AddEncoding zstd .zst
        DocumentRoot {lab.path("www")}
        MaxKeepAliveRequests 0
        LogFormat "%m %U %>s %B %H" mine
        CustomLog {lab.path("access.log")} mine
        Protocols h2 h2c http/1.1
        RewriteEngine On
        RewriteRule ^/none$ - [R=204,L]
        <VirtualHost 127.0.0.1:{tls}>
            SSLEngine on
            SSLCertificateFile {lab.cert}
            SSLCertificateKeyFile {lab.key}
            RewriteEngine On
            RewriteRule ^/none$ - [R=204,L]
            SetEnvIf Request_URI "^/large|zst$" no-gzip no-brotli
            SetOutputFilter DEFLATE
            <Location /br.txt>
                SetOutputFilter BROTLI_COMPRESS
            </Location>
            H2EarlyHints on
            {extra}
        </VirtualHost>
        """)
    return lab.spawn([lab.path(name), "-f", conf, "-DFOREGROUND"], port=tls)


def apache_log(lab):
    with open(lab.path("access.log"), encoding="utf-8") as f:
        # By HTTP/2 it counts what HEAD would have had.
        return [(m, p, int(s), m != "HEAD" and int(n)) for m, p, s, n, _ in
                (line.split() for line in f.read().splitlines())]


def apache_lab(lab, extra=""):
    if not os.path.exists(f"{MODULES}/mod_http2.so"):
        raise Skip("apache2's modules are not installed")
    tls, plain = lab.port(), lab.port()
    name = f"apa{tls}"
    apache(lab, tls, plain, name, extra)
    return tls, plain, name


@case(needs=["apache2", "curl", "h2load"], timeout=120)
def httplog_apache(lab):
    """h2load with 100 streams, and what curl can ask for: HEAD, 304, 204, gzip, brotli, ranges, POST."""
    port, _, name = apache_lab(lab)
    url = f"https://localhost:{port}"
    tracer = log_of(lab, "--comm", name)
    for options in (["-n", "2000", "-c", "2", "-m", "100"], ["--h1", "-n", "1000", "-c", "2", "-m", "4"]):
        p = lab.run(["h2load", *options, f"{url}/page.txt", f"{url}/nothing"], timeout=60)
        check(b" 0 errored" in p.out(), f"h2load: {p.out()[-300:]!r}")
    for version in ("--http1.0", "--http1.1", "--http2"):
        # Apache breaks a stream off of which it need not read the body: curl minds, or not.
        curl(lab, version, "-d", "a=b", f"{url}/page.txt", status=None)
        for arguments in (
                ["-I", f"{url}/page.txt"], [f"{url}/none"], ["--compressed", f"{url}/page.txt"],
                ["-H", "Accept-Encoding: br", f"{url}/br.txt"], ["-r", "10-99", f"{url}/large.txt"],
                ["-H", "If-Modified-Since: Fri, 01 Jan 2021 00:00:00 GMT", f"{url}/page.txt"],
                ["-X", "OPTIONS", f"{url}/page.txt"],
                [f"{url}/page.txt", "-o", "/dev/null", f"{url}/large.txt"]):
            curl(lab, version, *arguments)
    records = transactions(tracer)
    mine = [told(r) for r in records]
    compare("apache", mine, apache_log(lab))
    check(not any(r["partial"] for r in records), "something is partial")
    kinds = {(r["method"], r["status"]) for r in records}
    check({("HEAD", 200), ("GET", 204), ("GET", 304), ("GET", 206)} <= kinds, f"{kinds}")


@case(needs=["apache2", "curl", "zstd"])
def http_encodings(lab):
    """Bodies as their readers have them: gzip and brotli as apache makes them, zstd, until the end."""
    port, _, name = apache_lab(lab, "SetEnvIf Request_Protocol HTTP/1.0 downgrade-1.0 force-response-1.0 nokeepalive")
    lab.run(["zstd", "-q", lab.path("www/page.txt")])
    tracer = lab.tracer("--comm", name, "--comm", "curl", script=f"""
        on.http({{capture = "all"}}, function(e)
            if e.host ~= "localhost:{port}" then return end
            emit{{type = "body", encoding = e.headers["content-encoding"], proto = e.proto, body = e.body,
                 side = e.side, raw = #e.raw_body, len = e.body_len, truncated = e.truncated}}
        end)
        on.start(function() emit{{type = "ready"}} end)
        """)
    for version in ("--http1.0", "--http1.1", "--http2"):
        for encoding, page in (("gzip", "page.txt"), ("br", "br.txt"), ("zstd", "page.txt.zst")):
            curl(lab, version, "--compressed", "-H", f"Accept-Encoding: {encoding}",
                 f"https://localhost:{port}/{page}")
            same(f"curl's own {encoding}", got(lab), TEXT)
    found = [r for r in tracer.stop().records if r["type"] == "body"]
    check(count(found, "proto", "encoding", "side") ==
          {(p, e, s): 1 for p in ("HTTP/1.0", "HTTP/1.1", "HTTP/2") for e in ("gzip", "br", "zstd")
           for s in ("client", "server")}, f"{count(found, 'proto', 'encoding', 'side')}")
    for r in found:
        same(f"{r['proto']} {r['encoding']} {r['side']}", r["body"].encode(), TEXT)
        check(not r["truncated"] and r["raw"] == r["len"] < len(TEXT), f"{r['raw']} of {r['len']}")


@case(needs=["apache2", "curl", "nginx"])
def http_connect_over_tls(lab):
    """CONNECT to an HTTPS proxy, answered or refused; what is inside is a connection of its own."""
    inner = lab.port()
    nginx(lab, inner, 1)
    port, _, name = apache_lab(lab, f"ProxyRequests On\nAllowCONNECT {inner}")
    tracer = log_of(lab, "--comm", name, "--comm", "curl")
    proxy = ["--proxy", f"https://localhost:{port}", "--proxy-cacert", lab.cert]
    curl(lab, *proxy, "--http1.1", f"https://localhost:{inner}/page", "-o", "/dev/null",
         f"https://localhost:{inner}/none")
    same("curl's own page", got(lab), PAGE)
    curl(lab, *proxy, f"https://localhost:{port + 1}/", status=56)
    records = [r for r in transactions(tracer) if f":{inner}" in r["host"] or f":{port + 1}" in r["host"]]
    connects = {(r["comm"], r["path"], r["status"]) for r in records if r["method"] == "CONNECT"}
    check(connects == {(c, f"localhost:{p}", s) for c in (name, "curl")
                       for p, s in ((inner, 200), (port + 1, 403))}, f"{connects}")
    gets = [(r["comm"], r["url"], r["status"]) for r in records if r["method"] == "GET"]
    check(sorted(gets) == [("curl", f"https://localhost:{inner}/none", 404),
                           ("curl", f"https://localhost:{inner}/page", 200)], f"{gets}")
    check(not any(r["partial"] for r in records), f"{records}")
    own = [m for m in apache_log(lab) if m[0] == "CONNECT"]
    check(sorted(s for _, _, s, _ in own) == [200, 403], f"apache's own log: {own}")


@case(needs=["apache2", "curl", "nghttp", "stunnel4"])
def http_upgrade_to_h2c(lab):
    """Upgrade: h2c, and HTTP/2 by prior knowledge, inside TLS that knows of neither (stunnel)."""
    _, plain, _ = apache_lab(lab)
    ports = [lab.port(), lab.port()]
    pids = []
    for accept, connect, client in ((ports[1], plain, "no"), (ports[0], ports[1], "yes")):
        conf = lab.write(f"stunnel{accept}", f"""
            foreground = yes
            pid =
            [s]
            client = {client}
            accept = 127.0.0.1:{accept}
            connect = 127.0.0.1:{connect}
            cert = {lab.both}
            """)
        pids.append(str(lab.spawn(["stunnel4", conf], port=accept).pid))
    tracer = log_of(lab, "-p", pids[0], "-p", pids[1])
    url = f"http://localhost:{ports[0]}"
    curl(lab, "--http2", f"{url}/page.txt")
    # The first of them is upgraded; the second goes as HTTP/2 on the same connection.
    lab.run(["nghttp", "-un", f"{url}/page.txt", f"{url}/none?2"])
    lab.run(["nghttp", "-n", f"{url}/page.txt", f"{url}/nothing"])
    curl(lab, "--http2-prior-knowledge", f"{url}/none")
    records = transactions(tracer)
    for side in ("client", "server"):
        mine = [r for r in records if r["side"] == side]
        # Apache may go away after the first: then the second is never answered, nor logged.
        lost = [r for r in mine if "status" not in r]
        check(not lost or [told(r)[:2] for r in lost] == [("GET", "/none")], f"{side}: {lost}")
        mine = [r for r in mine if "status" in r]
        # What apache logs as 101 is answered by HTTP/2, and logged once more.
        compare(side, [told(r) for r in mine],
                [m for m in apache_log(lab) if m[2] != 101])
        check({r["proto"] for r in mine} == {"HTTP/2"}, f"{side}: {mine}")
        check([r["stream"] for r in mine].count(1) == 3, f"{side}: {mine}")
        check(not any(r["partial"] for r in mine), f"{side}: {mine}")
