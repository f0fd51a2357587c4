-- SPDX-License-Identifier: MIT
-- tlstop: which processes talk TLS now, and how much
--
-- usage: tlsscope tlstop [--interval T] [--top N] [--sort COLUMN]
--
--   --interval T    time between tables: 500ms, 2s, ...
--   --top N         rows to show
--   --sort COLUMN   total (bytes both ways), in, out, calls, conns, pid or comm
--
-- On a terminal the table stays in its place; elsewhere the tables follow each other.
--
-- in 500ms: 39.3M read, 39.4M written, processes: 4, connections: 47
--     pid  comm     conns     in  reads    out  writes
--   18003  nginx       22  15.1K    215  39.4M    2580
--   18005  python3     23  39.3M   3001  15.1K     215
--   19727  curl         1   5.1K      1     79       1
--   19617  openssl      1     79      1   5.1K       1

local format = require "format"

local opt = options {
	interval = {"1s", "time between tables"},
	top = {20, "rows to show"},
	sort = {"total", "total, in, out, calls, conns, pid or comm"},
}

-- What rows are sorted by, largest first; names and numbers of processes are not sizes.
local SORTS = {
	total = function(p) return p["in"] + p.out end,
	["in"] = function(p) return p["in"] end,
	out = function(p) return p.out end,
	calls = function(p) return p.reads + p.writes end,
	conns = function(p) return p.conns end,
	pid = function(p) return -p.pid end,
	comm = function() return 0 end,
}
local sort = SORTS[opt.sort]
if not sort then
	warn("tlstop: cannot sort by ", opt.sort, "; --help tells by what")
	exit(2)
end

local procs = {}

on.tls_data({capture = 0, peek = false}, function(e)
	local p = procs[e.pid]
	if not p then
		p = {pid = e.pid, comm = e.comm, conns = 0, seen = {}, ["in"] = 0, out = 0, reads = 0, writes = 0}
		procs[e.pid] = p
	end
	local dir, id = e.dir, e.conn.id
	p[dir] = p[dir] + e.len
	if dir == "in" then
		p.reads = p.reads + 1
	else
		p.writes = p.writes + 1
	end
	if not p.seen[id] then
		p.seen[id] = true
		p.conns = p.conns + 1
	end
end)

-- The processes of the interval that ends, in order; and all of them in one.
local function drain()
	local rows, all = {}, {conns = 0, ["in"] = 0, out = 0}
	for _, p in pairs(procs) do
		rows[#rows + 1] = p
		for key, sum in pairs(all) do
			all[key] = sum + p[key]
		end
	end
	procs = {}
	table.sort(rows, function(a, b)
		local x, y = sort(a), sort(b)
		if x ~= y then
			return x > y
		elseif a.comm ~= b.comm then
			return a.comm < b.comm
		end
		return a.pid < b.pid
	end)
	return rows, all
end

local function emit_rows(rows)
	for i = 1, math.min(#rows, opt.top) do
		local p = rows[i]
		emit {
			type = "tlstop", pid = p.pid, comm = p.comm, conns = p.conns, bytes_in = p["in"],
			bytes_out = p.out, reads = p.reads, writes = p.writes,
		}
	end
end

local COLUMNS = {
	{title = "pid", right = true}, {title = "comm"}, {title = "conns", right = true},
	{title = "in", right = true}, {title = "reads", right = true}, {title = "out", right = true},
	{title = "writes", right = true},
}

local function print_rows(rows, all)
	local cells = {}
	for i = 1, math.min(#rows, opt.top) do
		local p = rows[i]
		cells[i] = {
			tostring(p.pid), escape(p.comm), tostring(p.conns), human(p["in"]), tostring(p.reads),
			human(p.out), tostring(p.writes),
		}
	end
	clear_screen()
	printf("in %s: %s read, %s written, processes: %d, connections: %d\n", opt.interval,
		human(all["in"]), human(all.out), #rows, all.conns)
	if #rows > 0 then
		printf("%s", format.table(COLUMNS, cells))
	end
	if #rows > opt.top then
		printf("  ... %d more processes\n", #rows - opt.top)
	end
	print()
end

local function report()
	local rows, all = drain()
	if format.json then
		emit_rows(rows)
	else
		print_rows(rows, all)
	end
end

every(opt.interval, report)
-- What came since the last table.
on.stop(function()
	if next(procs) then
		report()
	end
end)
