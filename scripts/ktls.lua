-- SPDX-License-Identifier: MIT
-- ktls: connections whose TLS records the kernel makes, and what passes there
--
-- usage: tlsscope ktls [--top N]           prints when it ends (Ctrl-C, or -c COMMAND)
--
--   --top N    rows to show, those with the most bytes
--
-- A record that is not data is shown as it passes. Needs a kernel with TLS: the module tls.
--
-- 14:03:05.118 nginx[812] 192.0.2.7:51944 -> handshake record, 250 bytes
-- ^C
-- process     peer             version  cipher       function    calls  bytes
-- nginx[812]  192.0.2.7:51944  TLSv1.3  AES_256_GCM  sw_sendmsg    257  16.0M
-- nginx[812]  192.0.2.7:51944  TLSv1.3  AES_256_GCM  sw_recvmsg      1     94

local format = require "format"

local opt = options {
	top = {20, "rows to show, those with the most bytes"},
}

local used = stats("ktls", {sort = "sum", top = opt.top})

on("ktls_*", {capture = 0, peek = false}, function(e)
	local peer = e.peer or "?"
	if e.record == "data" then
		used:add(e.len, e.comm, e.pid, peer, e.conn.version or "?", e.conn.cipher or "?", e.func)
	elseif format.json then
		emit {
			type = "record", time = e.time, nsecs = e.nsecs, pid = e.pid, comm = e.comm, conn = e.conn.id,
			peer = e.peer, dir = e.dir, record = e.record, len = e.len,
		}
	else
		printf("%s %s[%d] %s %s %s record, %d bytes\n", e.time or e.nsecs, escape(e.comm), e.pid, peer,
			e.dir == "in" and "<-" or "->", e.record, e.len)
	end
end)

local function print_rows()
	local rows = {}
	for i, row in ipairs(used:top(opt.top, "sum")) do
		local comm, pid, peer, version, cipher, func = table.unpack(row.key)
		rows[i] = {
			("%s[%d]"):format(escape(comm), pid), peer, version, cipher, (func:gsub("^tls_", "")),
			tostring(row.value.count), human(row.value.sum),
		}
	end
	if #rows == 0 then
		return print("nothing was sent or received through the kernel's TLS")
	end
	printf("%s", format.table({
		{title = "process"}, {title = "peer"}, {title = "version"}, {title = "cipher"},
		{title = "function"}, {title = "calls", right = true}, {title = "bytes", right = true},
	}, rows))
end

on.stop(function()
	if format.json then
		used:print()
	else
		print_rows()
	end
end)
