-- saved by tlsscope
local least = 3
on.tls_write({comm = "python3"}, function(e) if e.len > least then print("got", e.data) end end)
hist("read_us", {from = "tls_read", value = "duration_us", by = "comm"})
