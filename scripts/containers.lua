-- SPDX-License-Identifier: MIT
-- containers: how much TLS traffic each container has, and of which programs
--
-- usage: tlsscope containers [--top N]     prints when it ends (Ctrl-C, or -c COMMAND)
--
--   --top N    rows to show, those with the most bytes
--
-- Where the runtime's files tell no name, the beginning of the id stands for it. What runs in no
-- container is shown as -.
--
--   container     pod         program  conns     in  reads    out  writes
--   web           shop/web-0  nginx       12  31.2K     96  39.3M     210
--   3f4e1c0d9a21  -           curl         3  40.1K     12    264       3
--   -             -           python3      1   1.0K      2    120       1

local format = require "format"

local opt = options {
	top = {20, "rows to show, those with the most bytes"},
}

local rows, by_key = {}, {}

-- What of the container is known only later, as a name, is of the same row.
local function row_of(e)
	local c = e.proc and e.proc.container
	local key = (c and c.id or "") .. "\0" .. e.comm
	local row = by_key[key]
	if not row then
		row = {comm = e.comm, conns = 0, seen = {}, ["in"] = 0, out = 0, reads = 0, writes = 0}
		by_key[key] = row
		rows[#rows + 1] = row
	end
	if c and not row.name then
		row.id, row.name, row.runtime, row.pod, row.pod_uid = c.id, c.name, c.runtime, c.pod, c.pod_uid
		row.namespace, row.label = c.namespace, e.container
	end
	return row
end

on.tls_data({capture = 0, peek = false}, function(e)
	local row = row_of(e)
	local dir, id = e.dir, e.conn.id
	row[dir] = row[dir] + e.len
	if dir == "in" then
		row.reads = row.reads + 1
	else
		row.writes = row.writes + 1
	end
	if not row.seen[id] then
		row.seen[id] = true
		row.conns = row.conns + 1
	end
end)

local function sorted()
	table.sort(rows, function(a, b)
		local x, y = a["in"] + a.out, b["in"] + b.out
		if x ~= y then
			return x > y
		elseif (a.id or "") ~= (b.id or "") then
			return (a.id or "") < (b.id or "")
		end
		return a.comm < b.comm
	end)
	return table.move(rows, 1, math.min(#rows, opt.top), 1, {})
end

local function pod_of(row)
	if row.pod then
		return escape((row.namespace and row.namespace .. "/" or "") .. row.pod)
	end
	return row.pod_uid or "-"
end

local function print_rows(shown)
	local cells = {}
	for i, row in ipairs(shown) do
		cells[i] = {
			escape(row.label or "-"), pod_of(row), escape(row.comm), tostring(row.conns),
			human(row["in"]), tostring(row.reads), human(row.out), tostring(row.writes),
		}
	end
	if #cells == 0 then
		return print("nothing was read or written")
	end
	printf("%s", format.table({
		{title = "container"}, {title = "pod"}, {title = "program"}, {title = "conns", right = true},
		{title = "in", right = true}, {title = "reads", right = true}, {title = "out", right = true},
		{title = "writes", right = true},
	}, cells))
	if #rows > #shown then
		printf("  ... %d more rows\n", #rows - #shown)
	end
end

on.stop(function()
	local shown = sorted()
	if not format.json then
		return print_rows(shown)
	end
	for _, row in ipairs(shown) do
		emit {
			type = "container", id = row.id, name = row.name, runtime = row.runtime, pod = row.pod,
			namespace = row.namespace, pod_uid = row.pod_uid, comm = row.comm, conns = row.conns,
			bytes_in = row["in"], bytes_out = row.out, reads = row.reads, writes = row.writes,
		}
	end
end)
