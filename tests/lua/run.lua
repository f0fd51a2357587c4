-- SPDX-License-Identifier: MIT
-- Runs test files, each of which returns a list of {name, function}, and prints a line a test:
--   lua5.4 tests/lua/run.lua tests/lua/*_test.lua      (from the top of the tree)

package.path = "lua/?.lua;tests/lua/?.lua"

local passed, failed = 0, 0
for _, path in ipairs(arg) do
	for _, case in ipairs(dofile(path)) do
		local name, fn = case[1], case[2]
		local ok, why = xpcall(fn, debug.traceback)
		if ok then
			passed = passed + 1
			print("ok " .. name)
		else
			failed = failed + 1
			print(("not ok %s: %s: %s"):format(name, path, why))
		end
	end
end
os.exit(failed == 0 and passed > 0)
