-- SPDX-License-Identifier: MIT
-- sniff: every message of every program, in the clear
--
-- usage: tlsscope sniff [--head N]         with -p PID, -c COMMAND, --comm NAME: only of those
--
--   --head N   show the first N bytes of each message; all of them otherwise
--
-- "->" is what a program writes, "<-" what it reads. What is not text shows as \xNN, bytes that were
-- not seen as a line that begins with "...". With -f json: one object a message, its bytes in `data`
-- where they are UTF-8, else in `data_b64`.
--
-- 11:31:46.831 curl[12715] -> write 79 bytes conn 1 ssl_write_internal libssl.so.3
--   GET / HTTP/1.1
--   Host: 127.0.0.1:8443
--   User-Agent: curl/7.88.1
--   Accept: */*
--
-- 11:31:46.831 curl[12715] <- read 5171 bytes conn 1 ssl_read_internal libssl.so.3
--   HTTP/1.0 200 ok
--   Content-type: text/html
--
--   <HTML><BODY BGCOLOR="#ffffff">

local messages = require "messages"

local opt = options {
	head = {0, "bytes of each message to show; 0: all"},
}

messages.follow(opt.head, function(data)
	messages.print_lines(escape((data:gsub("\r\n", "\n")), true))
end)
