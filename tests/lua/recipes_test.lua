-- SPDX-License-Identifier: MIT
-- Recipes of messages, connections and how they begin, each with events that are made up.
local stub = require "stub"

local equal = stub.equal

local tests = {}
local function test(name, fn)
	tests[#tests + 1] = {name, fn}
end

local function event(more)
	local e = {
		time = "12:00:00.001", nsecs = 7, pid = 10, tid = 11, comm = "cu\27rl", probe = "ssl_write",
		func = "SSL_write", lib = "/usr/lib/libssl.so.3", kind = "openssl", dir = "out",
		conn = {id = 3}, truncated = false, peeked = false, nodata = false,
	}
	for k, v in pairs(more) do
		e[k] = v
	end
	e.len = e.len or #e.data
	return e
end

test("sniff", function()
	local host = stub.new()
	host:recipe "scripts/sniff.lua"
	equal(host.handlers[1].name, "tls_data")
	equal(host.handlers[1].opts.capture, "all")
	host:fire("tls_data", event {data = "GET /\r\nA: b\\\r\n\r\n\27[2J\r"})
	equal(host:text_out(), [[
12:00:00.001 cu\x1brl[10] -> write 21 bytes conn 3 SSL_write libssl.so.3
  GET /
  A: b\

  \x1b[2J\x0d
]])
	host:fire("tls_data", event {data = "ab", len = 10, truncated = true, gap = 312, dir = "in"})
	equal(host:text_out(), [[
12:00:00.001 cu\x1brl[10] <- read 10 bytes conn 3 SSL_write libssl.so.3
... 312 bytes missing before these
  ab
... 8 more bytes
]])
	host:fire("tls_data", event {data = "x", peeked = true, dir = "in"})
	host:fire("tls_data", event {len = 99, nodata = true, truncated = true})
	equal(host:text_out(), [[
12:00:00.001 cu\x1brl[10] <- peek 1 bytes conn 3 SSL_write libssl.so.3
  x
12:00:00.001 cu\x1brl[10] -> write 99 bytes conn 3 SSL_write libssl.so.3
... sent by the kernel: never in the program's memory
]])
end)

-- Lines of payload that look like heads and marks do not stand where those do.
test("payload cannot pass for a message", function()
	local host = stub.new()
	host:recipe "scripts/sniff.lua"
	host:fire("tls_data", event {data = "\n12:00:00.001 curl[1] -> write\r\n... 5 more bytes\n\n"})
	local lines = 0
	for line in host:text_out():gmatch("[^\n]+") do
		lines = lines + (line:sub(1, 1) ~= " " and 1 or 0)
	end
	equal(lines, 1)
end)

test("hexsniff and --head", function()
	local host = stub.new()
	host:recipe("scripts/hexsniff.lua", {head = 2})
	equal(host.handlers[1].opts.capture, 2)
	host:fire("tls_data", event {data = "ab", len = 5, truncated = true})
	equal(host:text_out(), [[
12:00:00.001 cu\x1brl[10] -> write 5 bytes conn 3 SSL_write libssl.so.3
hex of ab
... 3 more bytes
]])
end)

test("sniff as JSON", function()
	local host = stub.new("json")
	host:recipe "scripts/sniff.lua"
	host:fire("tls_data", event {data = "ab"})
	host:fire("tls_data", event {data = "\xff\0", gap = 5})
	host:fire("tls_data", event {len = 9, nodata = true, truncated = true})
	local common = '"comm":"cu\27rl","conn":3,'
	local rest = '"dir":"out","func":"SSL_write",%s"kind":"openssl","len":%d,"lib":"/usr/lib/libssl.so.3",'
		.. '"nodata":%s,"nsecs":7,"peeked":false,"pid":10,"probe":"ssl_write","tid":11,'
		.. '"time":"12:00:00.001","truncated":%s,"type":"message"}'
	equal(host.emitted[1], "{" .. common .. '"data":"ab",' .. rest:format("", 2, "false", "false"))
	equal(host.emitted[2], "{" .. common .. '"data_b64":"base64:2",'
		.. rest:format('"gap":5,', 2, "false", "false"))
	equal(host.emitted[3], "{" .. common .. rest:format("", 9, "true", "true"))
	equal(host:text_out(), "")
end)

test("tlstop", function()
	local host = stub.new()
	host:recipe("scripts/tlstop.lua", {top = 2, interval = "2s"})
	equal(host.timers[1].interval, "2s")
	equal(host.handlers[1].opts.capture, 0)
	local function data(pid, comm, dir, len, conn)
		host:fire("tls_data", event {pid = pid, comm = comm, dir = dir, len = len, conn = {id = conn}})
	end
	data(1, "a", "in", 2048, 1)
	data(1, "a", "in", 1, 2)
	data(1, "a", "out", 7, 1)
	data(2, "b\n", "out", 5000, 3)
	data(3, "c", "in", 1, 4)
	host:run_timers()
	equal(host:text_out(), [[
<clear>in 2s: 2.0K read, 4.9K written, processes: 3, connections: 4
  pid  comm  conns    in  reads   out  writes
    2  b\n       1     0      0  4.9K       1
    1  a         2  2.0K      2     7       1
  ... 1 more processes

]])
	host:fire("stop", {})
	equal(host:text_out(), "")
	data(1, "a", "in", 1, 1)
	host:fire("stop", {})
	equal(host:text_out():match("^<clear>in 2s: 1 read, 0 written, processes: 1, connections: 1") ~= nil, true)
	host = stub.new("json")
	host:recipe("scripts/tlstop.lua", {sort = "pid"})
	data(2, "b", "in", 10, 1)
	data(1, "a", "out", 1, 2)
	host:run_timers()
	equal(host.emitted[1], '{"bytes_in":0,"bytes_out":1,"comm":"a","conns":1,"pid":1,"reads":0,'
		.. '"type":"tlstop","writes":1}')
	local ok, why = pcall(host.recipe, stub.new(), "scripts/tlstop.lua", {sort = "size"})
	equal(ok, false)
	equal(why.exit, 2)
end)

test("iosize", function()
	local host = stub.new()
	host:recipe("scripts/iosize.lua", {by = "pid"})
	equal(host.handlers[1].name .. host.handlers[2].name, "tls_readtls_write")
	host:fire("tls_read", event {len = 100})
	host:fire("tls_read", event {len = 100, peeked = true})
	host:fire("tls_write", event {len = 5000})
	equal(#host.handlers, 2)
end)

test("libs", function()
	local host = stub.new()
	host:recipe "scripts/libs.lua"
	host:fire("attach", {path = "/usr/lib/libssl.so.3", kind = "openssl", sites = 9})
	host:fire("attach", {path = "/usr/lib/libssl.so.3", kind = "openssl", sites = 9})
	host:fire("attach", {path = "/opt/no\nde", kind = "openssl", sites = 0, problem = "no symbols"})
	host:fire("tls_data", event {len = 3000})
	host:fire("tls_data", event {len = 3000, func = "SSL_read"})
	host:fire("tls_data", event {len = 3000, func = "SSL_read"})
	host:fire("tls_data", event {len = 9, func = "SSL_read", peeked = true})
	host:fire("stop", {})
	equal(host:text_out(), [[
probed files
  kind     sites  file
  openssl      9  /usr/lib/libssl.so.3
  openssl      0  /opt/no\nde: no symbols

callers
  file         function   comm      calls  bytes
  libssl.so.3  SSL_read   cu\x1brl      2   5.9K
  libssl.so.3  SSL_write  cu\x1brl      1   2.9K
]])
	host = stub.new()
	host:recipe "scripts/libs.lua"
	host:fire("stop", {})
	equal(host:text_out(), "probed files\n  none: no TLS library was found in use\n\n"
		.. "callers\n  none: nothing was read or written\n")
end)

local function hello(more)
	local e = {
		nsecs = 5, pid = 10, comm = "cu\27rl", hello = "client", dir = "out", retry = false, raddr = "192.0.2.1",
		peer = "192.0.2.1:443", proc = {exe = "/bin/curl", tls = "libssl.so.3"},
	}
	for k, v in pairs(more) do
		e[k] = v
	end
	return e
end

-- As C does: the handler runs where `where` says so.
local function fire_hello(host, e)
	for _, h in ipairs(host.handlers) do
		if h.name == "tls_hello" and h.opts.where(e) then
			h.fn(e)
		end
	end
end

test("snimap", function()
	local host = stub.new()
	host:recipe "scripts/snimap.lua"
	for _ = 1, 2 do
		fire_hello(host, hello {sni = "a\27.test", alpn = {"h2", "http/1.1"}})
	end
	fire_hello(host, hello {sni = "a.test", retry = true})
	fire_hello(host, hello {hello = "server", dir = "in"})
	fire_hello(host, hello {comm = "nginx", dir = "in", peer = "192.0.2.1:5000"})
	fire_hello(host, hello {comm = "nginx", dir = "in", peer = "192.0.2.1:5001"})
	fire_hello(host, hello {comm = "nginx", dir = "in", peer = "192.0.2.1:5002"})
	host:fire("stop", {})
	equal(host:text_out(), [[
  process       name        peer           alpn  connections
  nginx     <-  -           192.0.2.1      -               3
  cu\x1brl  ->  a\x1b.test  192.0.2.1:443  h2              2
]])
end)

test("blind", function()
	local host = stub.new()
	host:recipe "scripts/blind.lua"
	fire_hello(host, hello {sni = "a\27.test"})
	fire_hello(host, hello {sni = "b.test"})
	fire_hello(host, hello {pid = 11, sni = "seen.test"})
	host:fire("tls_data", event {pid = 11, data = "x"})
	fire_hello(host, hello {pid = 11, sni = "more.test"})
	host:fire("tls_data", event {pid = 12, data = "x"})
	fire_hello(host, hello {pid = 12})
	-- A program that has begun is told late.
	fire_hello(host, hello {pid = 13})
	host:fire("exec", {nsecs = 4, pid = 13})
	host:fire("tls_data", event {pid = 13, data = "x"})
	-- The number serves another process.
	host:fire("exit", {nsecs = 9, pid = 11})
	fire_hello(host, hello {pid = 11, comm = "later", proc = {}})
	fire_hello(host, {hello = "client", retry = false})
	host:fire("stop", {})
	equal(host:text_out(), [[
  process       program    library      hellos  name        peer
  cu\x1brl[10]  /bin/curl  libssl.so.3       2  a\x1b.test  192.0.2.1:443
  later[11]     -          -                 1  -           192.0.2.1:443
]])
end)

test("conns", function()
	local host = stub.new()
	host:recipe("scripts/conns.lua", {min = 100})
	equal(host.handlers[1].opts.capture, 0)
	local conns = {}
	for id = 1, 3 do
		conns[id] = {id = id, pid = 10, bytes_in = id * 50, bytes_out = 9, opened_ns = 5, version = "TLSv1.3"}
		host:fire("tls_data", event {data = "x", conn = conns[id]})
	end
	conns[2].peer = "192.0.2.7:443"
	for id = 1, 2 do
		host:fire("tls_close", {
			time = "12:00:01.000", pid = 10, comm = "cu\27rl", duration_ns = 1500, how = "freed",
			conn = conns[id],
		})
	end
	host:fire("stop", {time = "12:00:02.000", nsecs = 1000000005})
	equal(host:text_out(), [[
time          process                 peer                      version       in     out        for  how
12:00:01.000  cu\x1brl[10]            192.0.2.7:443             TLSv1.3      100       9     1.50us  freed
12:00:02.000  cu\x1brl[10]            -                         TLSv1.3      150       9      1.00s  open
]])
end)

test("pcap", function()
	local host = stub.new()
	host:recipe "scripts/pcap.lua"
	equal(host.handlers[1].opts.capture, "all")
	host:fire("tls_data", event {len = 3000})
	host:fire("tls_data", event {len = 72, conn = {id = 4}})
	host:fire("tls_data", event {len = 0, pid = 9})
	host:fire("stop", {})
	equal(host:text_out(), "messages: 3, bytes: 3.0K, connections: 2, processes: 2\n")
	host = stub.new("json")
	host:recipe "scripts/pcap.lua"
	host:fire("tls_data", event {len = 3000})
	host:fire("stop", {})
	equal(host.emitted[1], '{"bytes":3000,"conns":1,"messages":1,"processes":1,"type":"pcap"}')
end)

test("containers", function()
	local host = stub.new()
	host:recipe "scripts/containers.lua"
	equal(host.handlers[1].opts.capture, 0)
	local box = {id = ("3f4e1c0d9a21"):rep(5), runtime = "docker"}
	local pod = {id = "77", name = "web", runtime = "containerd", pod = "web-0", namespace = "shop"}
	local function data(container, label, dir, len, conn)
		host:fire("tls_data", event {
			dir = dir, len = len, conn = {id = conn}, proc = {container = container}, container = label,
		})
	end
	data(pod, "web", "in", 2048, 1)
	data(pod, "web", "out", 10, 2)
	data(box, "3f4e1c0d9a21", "in", 3, 3)
	data(nil, nil, "in", 1, 4)
	host:fire("tls_data", event {dir = "in", len = 1, conn = {id = 4}})
	host:fire("stop", {})
	equal(host:text_out(), [[
  container     pod         program   conns    in  reads  out  writes
  web           shop/web-0  cu\x1brl      2  2.0K      1   10       1
  3f4e1c0d9a21  -           cu\x1brl      1     3      1    0       0
  -             -           cu\x1brl      1     2      2    0       0
]])
end)

local function handshake(more)
	local e = {
		time = "12:00:00.001", nsecs = 7, pid = 10, comm = "cu\27rl", func = "SSL_do_handshake",
		conn = {id = 3, role = "client", version = "TLSv1.3", cipher = "TLS_AES_128_GCM_SHA256"},
	}
	for k, v in pairs(more) do
		e[k] = v
	end
	return e
end

test("handshakes", function()
	local host = stub.new()
	host:recipe("scripts/handshakes.lua", {slow = "2ms"})
	host:fire("tls_open", handshake {duration_ns = 1999999})
	host:fire("tls_open", handshake {})
	equal(host:text_out(), "")
	host:fire("tls_open", handshake {duration_ns = 2000000, resumed = true})
	host:fire("tls_open", handshake {duration_ns = 5000000, err = "alert received: handshake_failure"})
	equal(host:text_out(), [[
time          process                 role         for  version   cipher                        alpn      sni
12:00:00.001  cu\x1brl[10]            client    2.00ms  TLSv1.3   TLS_AES_128_GCM_SHA256 resumed  -         -
12:00:00.001  cu\x1brl[10]            client    5.00ms  failed:   alert received: handshake_failure  -         -
]])
	equal(pcall(host.recipe, host, "scripts/handshakes.lua", {slow = "fast"}), false)
	local json = stub.new("json")
	json:recipe "scripts/handshakes.lua"
	json:fire("tls_open", handshake {})
	equal(json.emitted[1], '{"cipher":"TLS_AES_128_GCM_SHA256","comm":"cu\27rl","conn":3,"nsecs":7,'
		.. '"pid":10,"role":"client","time":"12:00:00.001","type":"handshake","version":"TLSv1.3"}')
end)

test("oldtls", function()
	local host = stub.new()
	host:recipe "scripts/oldtls.lua"
	local function open(version, cipher, err)
		host:fire("tls_open", handshake {conn = {id = 1, version = version, cipher = cipher}, err = err})
	end
	open("TLSv1.3", "TLS_AES_128_GCM_SHA256")
	open("TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
	open("TLSv1.1", nil, "no shared cipher")
	open()
	equal(host:text_out(), "")
	open("TLSv1", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA")
	local whys = {
		TLS_RSA_WITH_RC4_128_MD5 = "RC4", TLS_RSA_WITH_NULL_SHA = "no encryption",
		TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA = "DES", TLS_RSA_WITH_AES_128_GCM_SHA256 = "RSA key exchange",
		TLS_ECDH_anon_WITH_AES_128_CBC_SHA = "no authentication",
	}
	for cipher, why in pairs(whys) do
		host:text_out()
		open("TLSv1.2", cipher)
		assert(host:text_out():find(cipher .. " +" .. why .. "\n$"), cipher)
	end
	host:fire("stop", {})
	equal(host:text_out(), "6 of 9 handshakes\n")
end)

test("tlserr", function()
	local host = stub.new()
	host:recipe "scripts/tlserr.lua"
	host:fire("tls_error", handshake {err = "failed", conn = {id = 1, sni = "a\27b"}})
	host:fire("tls_error", handshake {err = "failed", conn = {id = 2, role = "server"}})
	host:fire("stop", {})
	equal(host:text_out(), [[
12:00:00.001 cu\x1brl[10] - a\x1bb: failed
12:00:00.001 cu\x1brl[10] server: failed
errors
  comm      why     count
  cu\x1brl  failed      2
]])
end)

return tests
