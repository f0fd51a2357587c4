-- SPDX-License-Identifier: MIT
-- hexsniff: every message of every program, as a hex dump
--
-- usage: tlsscope hexsniff [--head N]      with -p PID, -c COMMAND, --comm NAME: only of those
--
--   --head N   show the first N bytes of each message; all of them otherwise
--
-- As sniff, for protocols that are not text.
--
-- 11:36:05.846 curl[19810] -> write 79 bytes conn 1 ssl_write_internal libssl.so.3
-- 00000000  47 45 54 20 2f 20 48 54  54 50 2f 31 2e 31 0d 0a  |GET / HTTP/1.1..|
-- 00000010  48 6f 73 74 3a 20 31 32  37 2e 30 2e 30 2e 31 3a  |Host: 127.0.0.1:|
-- ... 47 more bytes

local messages = require "messages"

local opt = options {
	head = {0, "bytes of each message to show; 0: all"},
}

messages.follow(opt.head, hexdump)
