-- SPDX-License-Identifier: MIT
-- hexsniff: every message of every program, as a hex dump
--
-- usage: tlsscope hexsniff [--head N]      with -p PID, -c COMMAND, --comm NAME: only of those
--
--   --head N   show the first N bytes of each message; all of them otherwise
--
-- As sniff, for protocols that are not text.
--
-- 14:05:02.117 redis-cli[42007] -> write 14 bytes conn 1 SSL_write libssl.so.3
-- 00000000  2a 31 0d 0a 24 34 0d 0a  50 49 4e 47 0d 0a        |*1..$4..PING..|
-- 14:05:02.118 redis-server[41990] <- read 14 bytes conn 2 SSL_read libssl.so.3
-- 00000000  2a 31 0d 0a 24 34 0d 0a  50 49 4e 47 0d 0a        |*1..$4..PING..|

local messages = require "messages"

local opt = options {
	head = {0, "bytes of each message to show; 0: all"},
}

messages.follow(opt.head, hexdump)
