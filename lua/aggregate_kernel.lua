-- SPDX-License-Identifier: MIT
-- Aggregations that the kernel adds up: which ones it can, and what comes of them. Whatever it cannot
-- is fed from events, with the same result.

local M = {
	-- Aggregations by the number that core/lua_agg.c gave them.
	fed = {},
}

-- What is kept under a key (enum ts_agg_form).
local FORMS = {
	count = "sum", sum = "sum", avg = "ends", min = "ends", max = "ends", stats = "ends", hist = "hist",
	lhist = "lhist",
}
local VALUES = {len = "len", ret = "ret", duration_ns = "duration"}
local KEYS = {}
for name in ("pid tid comm uid cgroup container lib kind func probe dir peer raddr rport"):gmatch("%a+") do
	KEYS[name] = true
end
local MOST_KEYS = 4
-- Larger values are events in any case.
local LIMIT = 2^40

local function whole(n)
	return math.type(n) == "integer" and n >= -LIMIT and n <= LIMIT
end

-- How the kernel is to add up, or nil and what is in the way.
local function make_plan(self, own, by, value, rest)
	local form, scale = FORMS[self.kind], own.scale or 1
	if not form then
		return nil, self.kind
	elseif rest.where then
		return nil, "where"
	elseif rest.rate then
		return nil, "rate, which the kernel may exceed" -- on several processors; events are counted again
	elseif #by > MOST_KEYS then
		return nil, ("more than %d keys"):format(MOST_KEYS)
	elseif not self.behaviour.plain and not VALUES[value] then
		return nil, ("value = %s"):format(tostring(value))
	end
	for _, field in ipairs(by) do
		if not KEYS[field] then
			return nil, ("by = %s"):format(tostring(field))
		end
	end
	local plan = {form = form, value = VALUES[value] or "len", by = by, scale = scale}
	if form == "lhist" then
		plan.min, plan.max, plan.step = own.min, own.max, own.step
		if not (whole(own.min) and whole(own.max) and whole(own.step) and whole(own.max * scale)) then
			return nil, "steps that are not whole"
		end
		plan.min, plan.max, plan.step = own.min * scale, own.max * scale, own.step * scale
	end
	return plan
end

function M.plan(self, own, by, value, rest)
	local plan, why = make_plan(self, own, by, value, rest)
	if not plan and self.host.verbose then
		self.host.verbose(("%s is fed from events, not by the kernel: %s"):format(tostring(self), why))
	end
	return plan
end

-- merge(self, keys, bucket, count, sum, min, max) adds what was added up.
function M.open(host, merge)
	if host.on_cell then
		host.on_cell(function(id, bucket, count, sum, min, max, ...)
			local self = M.fed[id]
			if self then
				merge(self, {...}, bucket, count, sum, min, max)
			end
		end)
	end
end

return M
