# SPDX-License-Identifier: MIT
"""The TLS of scripting languages, as client and as server."""
import shutil

from harness import PYTHON, Skip, both_sides, case, same
from web import BODY, PAGE, check_http1


PY_SERVER = """
import http.server, ssl, sys
port, cert, key, page = int(sys.argv[1]), sys.argv[2], sys.argv[3], open(sys.argv[4], "rb").read()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(page)
    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""

PY_CLIENT = """
import http.client, ssl, sys
port, cert = int(sys.argv[1]), sys.argv[2]
page, body = (open(a, "rb").read() for a in sys.argv[3:5])
c = http.client.HTTPSConnection("127.0.0.1", port, context=ssl.create_default_context(cafile=cert))
c.request("GET", "/page")
assert c.getresponse().read() == page
c.request("POST", "/echo", body)
assert c.getresponse().read() == body
c.close()
"""

ASYNC_SERVER = """
import asyncio, re, ssl, sys
port, cert, key, page = int(sys.argv[1]), sys.argv[2], sys.argv[3], open(sys.argv[4], "rb").read()

async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            length = re.search(rb"(?i)content-length: *(\\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            body = page if head.startswith(b"GET") else body
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    await server.serve_forever()

asyncio.run(main())
"""

ASYNC_CLIENT = """
import asyncio, re, ssl, sys
port, cert = int(sys.argv[1]), sys.argv[2]
page, body = (open(a, "rb").read() for a in sys.argv[3:5])

async def answer(reader):
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    return await reader.readexactly(int(re.search(rb"(?i)content-length: *(\\d+)", head)[1]))

async def main():
    context = ssl.create_default_context(cafile=cert)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(b"GET /page HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n")
    assert await answer(reader) == page
    writer.write(b"POST /echo HTTP/1.1\\r\\nHost: h\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body))
    writer.write(body)
    assert await answer(reader) == body
    writer.close()

asyncio.run(main())
"""

RUBY_SERVER = """
require "socket"
require "openssl"
port, cert, key, page = ARGV[0].to_i, ARGV[1], ARGV[2], File.binread(ARGV[3])
context = OpenSSL::SSL::SSLContext.new
context.cert = OpenSSL::X509::Certificate.new(File.read(cert))
context.key = OpenSSL::PKey.read(File.read(key))
server = OpenSSL::SSL::SSLServer.new(TCPServer.new("127.0.0.1", port), context)
loop do
  c = server.accept
  while (line = c.gets)
    length = 0
    while (header = c.gets) && header != "\\r\\n"
      length = $1.to_i if header =~ /^content-length: *(\\d+)/i
    end
    body = line.start_with?("GET") ? page : c.read(length)
    c.write("HTTP/1.1 200 OK\\r\\nContent-Length: #{body.bytesize}\\r\\n\\r\\n")
    c.write(body)
  end
  c.close
end
"""

RUBY_CLIENT = """
require "net/http"
require "openssl"
port, cert, page, body = ARGV[0].to_i, ARGV[1], File.binread(ARGV[2]), File.binread(ARGV[3])
http = Net::HTTP.new("127.0.0.1", port)
http.use_ssl = true
http.ca_file = cert
http.start do |h|
  get = Net::HTTP::Get.new("/page", { "Accept-Encoding" => "identity" })
  raise "page" unless h.request(get).body.b == page.b
  raise "body" unless h.post("/echo", body).body.b == body.b
end
"""

PERL_SERVER = """
use strict;
use IO::Socket::SSL;
my ($port, $cert, $key, $file) = @ARGV;
my $page = do { local $/; open my $f, "<:raw", $file or die; <$f> };
my $server = IO::Socket::SSL->new(Listen => 5, LocalAddr => "127.0.0.1", LocalPort => $port,
    ReuseAddr => 1, SSL_cert_file => $cert, SSL_key_file => $key) or die "$SSL_ERROR";
$SIG{PIPE} = "IGNORE";
while (1) {
    my $c = $server->accept or next;
    while (defined(my $line = <$c>)) {
        my $length = 0;
        while (defined(my $header = <$c>)) {
            last if $header eq "\\r\\n";
            $length = $1 if $header =~ /^content-length: *(\\d+)/i;
        }
        my $body = $page;
        if ($line !~ /^GET/) {
            $body = "";
            while (length $body < $length) {
                $c->read($body, $length - length $body, length $body) or last;
            }
        }
        print $c "HTTP/1.1 200 OK\\r\\nContent-Length: ", length $body, "\\r\\n\\r\\n", $body;
    }
    $c->close;
}
"""

PERL_CLIENT = """
use strict;
use IO::Socket::SSL;
my ($port, $cert, @files) = @ARGV;
my ($page, $body) = map { local $/; open my $f, "<:raw", $_ or die; <$f> } @files;
my $c = IO::Socket::SSL->new(PeerAddr => "127.0.0.1", PeerPort => $port, SSL_ca_file => $cert)
    or die "$SSL_ERROR";
sub answer {
    my $length;
    while (defined(my $header = <$c>)) {
        last if $header eq "\\r\\n";
        $length = $1 if $header =~ /^content-length: *(\\d+)/i;
    }
    my $got = "";
    while (length $got < $length) {
        $c->read($got, $length - length $got, length $got) or die "short";
    }
    return $got;
}
print $c "GET /page HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n";
answer() eq $page or die "page";
print $c "POST /echo HTTP/1.1\\r\\nHost: h\\r\\nContent-Length: ", length $body,
    "\\r\\n\\r\\n", $body;
answer() eq $body or die "body";
"""

PHP_SERVER = """<?php
[, $port, $cert, $key, $file] = $argv;
$page = file_get_contents($file);
$context = stream_context_create(["ssl" => ["local_cert" => $cert, "local_pk" => $key]]);
$server = stream_socket_server("tls://127.0.0.1:$port", $n, $s,
    STREAM_SERVER_BIND | STREAM_SERVER_LISTEN, $context);
while (true) {
    $c = @stream_socket_accept($server, 600);
    if (!$c) continue;
    while (($line = fgets($c)) !== false) {
        $length = 0;
        while (($header = fgets($c)) !== false && $header != "\\r\\n")
            if (preg_match("/^content-length: *(\\\\d+)/i", $header, $m)) $length = (int)$m[1];
        $body = str_starts_with($line, "GET") ? $page : stream_get_contents($c, $length);
        $out = "HTTP/1.1 200 OK\\r\\nContent-Length: " . strlen($body) . "\\r\\n\\r\\n" . $body;
        while ($out !== "") $out = substr($out, fwrite($c, $out));
    }
    fclose($c);
}
"""

PHP_CLIENT = """<?php
[, $port, $cert, $page, $body] = $argv;
$page = file_get_contents($page);
$body = file_get_contents($body);
$context = stream_context_create(["ssl" => ["cafile" => $cert, "peer_name" => "localhost"]]);
$c = stream_socket_client("tls://127.0.0.1:$port", $n, $s, 10, STREAM_CLIENT_CONNECT, $context);
function answer($c) {
    $length = 0;
    while (($header = fgets($c)) !== false && $header != "\\r\\n")
        if (preg_match("/^content-length: *(\\\\d+)/i", $header, $m)) $length = (int)$m[1];
    return stream_get_contents($c, $length);
}
function say($c, $out) {
    while ($out !== "") $out = substr($out, fwrite($c, $out));
}
say($c, "GET /page HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n");
if (answer($c) !== $page) exit(3);
say($c, "POST /echo HTTP/1.1\\r\\nHost: h\\r\\nContent-Length: " . strlen($body) .
    "\\r\\n\\r\\n" . $body);
if (answer($c) !== $body) exit(4);
fclose($c);
"""


def pair(lab, program, server, client, comms):
    """Both sides in one language: a GET of a page and a POST that is echoed."""
    program = shutil.which(program, path="/usr/local/bin:/usr/bin:/bin")
    port, page, body = lab.port(), lab.write("page", PAGE), lab.write("body", BODY)
    p = lab.spawn([program, lab.write("server", server), str(port), lab.cert, lab.key, page],
                  port=port)
    tracer = lab.tracer(*(o for c in comms for o in ("--comm", c)))
    q = lab.run([program, lab.write("client", client), str(port), lab.cert, page, body])
    seen = tracer.stop()
    mine = seen.flows(pids=[q.pid])
    both_sides(mine, seen.flows(pids=[p.pid]), 1)
    check_http1(mine[0])
    same("what went up and came back", mine[0].sent[-len(BODY):], mine[0].received[-len(BODY):])


@case()
def python_http(lab):
    pair(lab, PYTHON, PY_SERVER, PY_CLIENT, ["python3"])


@case()
def python_asyncio(lab):
    """Memory BIOs: no descriptor belongs to the connection."""
    pair(lab, PYTHON, ASYNC_SERVER, ASYNC_CLIENT, ["python3"])


@case(needs=["ruby"])
def ruby_openssl(lab):
    pair(lab, "ruby", RUBY_SERVER, RUBY_CLIENT, ["ruby", "server", "client"])


@case(needs=["perl"])
def perl_io_socket_ssl(lab):
    if lab.run(["perl", "-MIO::Socket::SSL", "-e", "1"], status=None).returncode:
        raise Skip("perl's IO::Socket::SSL is not installed")
    pair(lab, "perl", PERL_SERVER, PERL_CLIENT, ["perl"])


@case(needs=["php"])
def php_streams(lab):
    pair(lab, "php", PHP_SERVER, PHP_CLIENT, ["php"])
