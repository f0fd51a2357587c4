-- SPDX-License-Identifier: MIT
-- iosize: how large the reads and writes of each program are, as histograms
--
-- usage: tlsscope iosize [--by FIELD] [--top N]     prints when it ends (Ctrl-C, or -c COMMAND)
--
--   --by FIELD   a histogram for each value of this field: comm, pid, func, lib, conn.id, ...
--   --top N      of the N that have the most calls
--
-- sizes of reads (bytes) [curl]: count 3, avg 5.0K, min 5.0K, max 5.0K
--   [4K, 8K)  3 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
--
-- sizes of writes (bytes) [curl]: count 4, avg 847, min 79, max 3.1K
--   [64, 128)   3 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
--   [128, 256)  0 |                                                    |
--   [256, 512)  0 |                                                    |
--   [512, 1K)   0 |                                                    |
--   [1K, 2K)    0 |                                                    |
--   [2K, 4K)    1 |@@@@@@@@@@@@@@@@@                                   |

local opt = options {
	by = {"comm", "field that tells one histogram from another"},
	top = {20, "histograms to show, those with the most calls"},
}

local function sizes(name, event)
	hist(name, {from = event, by = opt.by, unit = "bytes", title = "sizes of " .. name, top = opt.top})
end

sizes("reads", "tls_read")
sizes("writes", "tls_write")
