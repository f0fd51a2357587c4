-- SPDX-License-Identifier: MIT
std = "lua54"
max_line_length = 120
-- What core/api.c lists as functions and aggregations.
local api = {
	"on", "target", "options", "config", "every", "after", "stream", "printf", "emit", "warn", "escape",
	"hexdump", "human", "duration", "json", "clear_screen", "color", "exit", "args", "count", "sum", "avg", "min",
	"max", "stats", "hist", "lhist", "tseries",
}
files["scripts"].read_globals = api
-- Runs before every script and makes what they see.
files["lua/prelude.lua"].globals = {"coroutine", "io", "package"}
files["lua/talks.lua"].read_globals = api
files["lua/messages.lua"].read_globals = api
files["lua/check.lua"].ignore = {"122"}
files["lua/requests.lua"].read_globals = api
