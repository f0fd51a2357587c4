-- SPDX-License-Identifier: MIT
-- libs: which TLS libraries are probed, and which functions of them who calls
--
-- usage: tlsscope libs [--top N]           prints when it ends (Ctrl-C, or -c COMMAND)
--
--   --top N    callers to show, those with the most bytes
--
-- A file in which nothing could be probed is in the list too, with the reason.
--
-- probed files
--   kind     sites  file
--   openssl      9  /usr/lib/x86_64-linux-gnu/libssl.so.3
--
-- callers
--   file         function            comm  calls  bytes
--   libssl.so.3  ssl_read_internal   curl      8  40.5K
--   libssl.so.3  ssl_write_internal  curl      8    632

local format = require "format"

local opt = options {
	top = {40, "callers to show, those with the most bytes"},
}

local files, listed = {}, {}

on.attach(function(e)
	if not listed[e.path] then
		listed[e.path] = true
		files[#files + 1] = {path = e.path, kind = e.kind, sites = e.sites, problem = e.problem}
	end
end)

-- Calls and bytes are one statistic: how many values, and their sum.
local used = stats("callers", {
	from = "tls_data", by = {"lib", "func", "comm"}, sort = "sum", top = opt.top,
})

local function print_files()
	local rows = {}
	for i, f in ipairs(files) do
		rows[i] = {
			escape(f.kind), tostring(f.sites), escape(f.path) .. (f.problem and ": " .. escape(f.problem) or ""),
		}
	end
	print("probed files")
	printf("%s", #rows == 0 and "  none: no TLS library was found in use\n" or format.table({
		{title = "kind"}, {title = "sites", right = true}, {title = "file"},
	}, rows))
end

local function print_callers()
	local rows = {}
	for i, caller in ipairs(used:top(opt.top, "sum")) do
		local lib, func, comm = table.unpack(caller.key)
		rows[i] = {
			escape(lib:match("[^/]*$")), func, escape(comm), tostring(caller.value.count),
			human(caller.value.sum),
		}
	end
	print("\ncallers")
	printf("%s", #rows == 0 and "  none: nothing was read or written\n" or format.table({
		{title = "file"}, {title = "function"}, {title = "comm"}, {title = "calls", right = true},
		{title = "bytes", right = true},
	}, rows))
end

on.stop(function()
	if format.json then
		for _, f in ipairs(files) do
			emit {type = "file", path = f.path, kind = f.kind, sites = f.sites, problem = f.problem}
		end
		used:print()
	else
		print_files()
		print_callers()
	end
end)
