-- SPDX-License-Identifier: MIT
-- iosize: how large the reads and writes of each program are, as histograms
--
-- usage: tlsscope iosize [--by FIELD] [--top N]     prints when it ends (Ctrl-C, or -c COMMAND)
--
--   --by FIELD   a histogram for each value of this field: comm, pid, func, lib, conn.id, ...
--   --top N      of the N that have the most calls
--
-- sizes of reads (bytes) [curl]: count 12, avg 10.6K, min 1, max 16.0K
--   [1]          1 |@@@@@@@@                                            |
--   ...            |                                                    |
--   [512, 1K)    2 |@@@@@@@@@@@@@@@@@                                   |
--   [1K, 2K)     0 |                                                    |
--   [2K, 4K)     1 |@@@@@@@@                                            |
--   [4K, 8K)     2 |@@@@@@@@@@@@@@@@@                                   |
--   [8K, 16K)    0 |                                                    |
--   [16K, 32K)   6 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
--
-- sizes of writes (bytes) [curl]: count 1, avg 78, min 78, max 78
--   [64, 128)  1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|

local opt = options {
	by = {"comm", "field that tells one histogram from another"},
	top = {20, "histograms to show, those with the most calls"},
}

local function sizes(name, event)
	hist(name, {from = event, by = opt.by, unit = "bytes", title = "sizes of " .. name, top = opt.top})
end

sizes("reads", "tls_read")
sizes("writes", "tls_write")
