-- SPDX-License-Identifier: MIT
-- Writes a module as Lua's own code, for the program to carry it: what it needs at each start it does not
-- parse. Lines and names are kept. embed.lua FILE
local name = ...
io.write(string.dump(assert(load(assert(io.open(name)):read("a"), "=" .. name))))
