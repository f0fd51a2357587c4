-- SPDX-License-Identifier: MIT
-- What else people call the fields of events: for "did you mean" and for help.

return {
	latency = "duration_us", elapsed = "duration_us", took = "duration_us",
	process = "comm", command = "comm", program = "comm", name = "comm",
	size = "len", bytes = "len", length = "len", direction = "dir", address = "peer", remote = "peer",
	timestamp = "nsecs", user = "uid", library = "lib", thread = "tid", error = "err",
}
