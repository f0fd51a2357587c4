-- SPDX-License-Identifier: MIT
-- grpclog: one line for each call of gRPC: its status, messages and bytes each way, how long it took
--
-- usage: tlsscope grpclog [--side client|server] [--errors]
--
--   --side S    only where the traced program is the client, or the server
--   --errors    only calls whose status is not OK, or not known
--
-- A stream is told of when it ends. Of what the log says of messages and bytes, the first number is
-- the client's. "+": there may have been more, which was not seen. With -f json: one object a call.
--
-- 14:00:00.412 client[4711] -> 127.0.0.1:8443 shop.Orders/Get NOT_FOUND 1/0 messages 7/0 bytes 2.1ms: no order 7

local format = require "format"

local opt = options {
	side = {"", "only of clients, or only of servers"},
	errors = {false, "only calls whose status is not OK, or not known"},
}
if opt.side ~= "" and opt.side ~= "client" and opt.side ~= "server" then
	warn("grpclog: --side is client or server, not ", opt.side)
	exit(2)
end

local function name(e)
	return e.method and ("%s/%s"):format(e.service, e.method) or e.path or "-"
end

local function status(e)
	return e.status_name or e.status or (e.reset and "reset") or "-"
end

local function print_text(e)
	local more = e.partial and "+" or ""
	printf("%s %s[%d] %s %s %s %s %d/%d%s messages %d/%d%s bytes %s%s\n", e.time or e.nsecs,
		escape(e.comm), e.pid, e.side == "client" and "->" or "<-", e.peer or "-", escape(name(e)),
		status(e), e.request_count, e.response_count, more, e.request_len, e.response_len, more,
		duration(e.duration_ns), e.message and e.message ~= "" and ": " .. escape(e.message) or "")
end

local function print_json(e)
	emit {
		type = "grpc_call", time = e.time, nsecs = e.nsecs, pid = e.pid, comm = e.comm, side = e.side,
		peer = e.peer, conn = e.conn.id, stream = e.stream_id, host = e.host, service = e.service,
		method = e.method, status = e.status, status_name = e.status_name, message = e.message,
		streaming = e.streaming, request_count = e.request_count, request_len = e.request_len,
		response_count = e.response_count, response_len = e.response_len, compressed = e.compressed,
		timeout_ns = e.timeout_ns, latency_ns = e.latency_ns, duration_ns = e.duration_ns,
		partial = e.partial, reset = e.reset or nil,
	}
end

on.grpc_call({capture = 0}, function(e)
	if (opt.side == "" or opt.side == e.side) and not (opt.errors and e.status == 0) then
		(format.json and print_json or print_text)(e)
	end
end)
