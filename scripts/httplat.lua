-- SPDX-License-Identifier: MIT
-- httplat: how long HTTP requests take, as histograms: until the answer begins, and until it ends
--
-- usage: tlsscope httplat [--by WHAT] [--top N] [--side client|server]
--
--   --by WHAT   host (what is used without it), path, url, method, status, comm or client
--   --top N     histograms of each kind to show, those with the most requests
--   --side S    only where the traced program is the client, or the server
--
-- Prints when it ends (Ctrl-C, or -c COMMAND). Times are from the first byte of a request, as the
-- traced program sees it: of a server, without the network. What was not answered is not in them.
--
-- "wait" is until the answer begins, "total" until it has ended.
--
-- wait (us) [localhost:8443]: count 164, avg 721us, min 310us, max 2.04ms
--   [256, 512)   12 |@@@@                                              |
--   [512, 1K)   150 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
--   [1K, 2K)      2 |@                                                 |

local requests = require "requests"

local opt = requests.options {
	by = {"host", requests.BY},
	top = {10, "histograms of each kind"},
}
local key = requests.key(opt.by)
local waits = hist("wait", {unit = "us", top = opt.top})
local totals = hist("total", {unit = "us", top = opt.top})

requests.each(0, function(e)
	if e.latency_ns then
		waits:add(e.latency_ns // 1000, key(e))
		totals:add(e.duration_ns // 1000, key(e))
	end
end)
