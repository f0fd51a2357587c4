# SPDX-License-Identifier: MIT
"""What a terminal shows, and what other programs read: jq takes every line."""
import json
import os
import re
import subprocess

from cases_output import HOSTILE, harmless, on_terminal, talk
from harness import TLSSCOPE, case, check, same, wait_for

SGR = re.compile(rb"\x1b\[[0-9;]*m")


@case(needs=["tmux"])
def redraw(lab):
    """A table takes the place of an older one that was larger; the screen is never empty."""
    script = lab.write("draw.lua", """
        local n = 0
        every("150ms", function()
            n = n + 1
            clear_screen()
            print("frame " .. n)
            if n < 4 then
                for i = 1, 10 do print(("x"):rep(70 - n), i) end
            else
                print(("y"):rep(80))
                print("short")
            end
            if n == 6 then after("400ms", function() exit() end) end
        end)
        """)
    tmux = ["tmux", "-S", lab.path("tmux"), "-f", "/dev/null"]
    done, raw = lab.path("done"), lab.path("raw")
    lab.run([*tmux, "new-session", "-d", "-x", "80", "-y", "24",
             f"sleep 0.5; {TLSSCOPE} -q {script}; touch {done}; sleep 60"])
    try:
        lab.run([*tmux, "pipe-pane", "-o", f"cat > {raw}"])
        wait_for("end of the script", lambda: os.path.exists(done))
        screen = lab.run([*tmux, "capture-pane", "-p"]).out().decode()
    finally:
        lab.run([*tmux, "kill-server"], status=None)
    check(re.fullmatch(r"frame [6-9]\ny{80}\nshort\s*", screen), f"the screen has {screen!r}")
    with open(raw, "rb") as f:
        sent = f.read()
    check(b"\x1b[2J" not in sent and b"\x1b[H\x1b[J" not in sent, "the screen is cleared")
    check(sent.count(b"\x1b[H") >= 6, f"{sent.count(b'[H')} frames: {sent[-300:]!r}")


@case()
def colors(lab):
    """On a terminal only, and not with NO_COLOR; the payload's own never get there."""
    data = b"\x1b[35mpurple\x1b[7m" + HOSTILE
    argv = [TLSSCOPE, "-c", talk(lab, data), "sniff"]
    shown = on_terminal(lab, *argv)
    same("colours", sorted(set(SGR.findall(shown))), [b"\x1b[32m", b"\x1b[36m", b"\x1b[m"])
    harmless("without them", SGR.sub(b"", shown))
    check(shown.rstrip(b"\r\n").count(b"\x1b[m") == len(SGR.findall(shown)) / 2, "one stays on")
    for quiet in (on_terminal(lab, "env", "NO_COLOR=1", *argv),
                  on_terminal(lab, *argv[:1], "-f", "json", *argv[1:]), lab.run(argv).out()):
        check(b"\x1b" not in quiet and b"ssl_write" in quiet, f"{quiet[:300]!r}")
    check(b"\x1b[32m" in on_terminal(lab, "env", "NO_COLOR=", *argv), "an empty NO_COLOR counts")


@case()
def widths(lab):
    """Tables are as wide as the terminal at most; numbers are never cut."""
    script = lab.write("wide.lua", """
        local c = sum("bytes", {by = {"lib", "func", "comm"}})
        on.tls_data(function(e) c:add(e.len, e.lib, e.func, e.comm) end)
        """)
    for columns in (50, 200):
        argv = ["sh", "-c", f"stty cols {columns}; exec {TLSSCOPE} -q -c '{talk(lab, HOSTILE)}' {script}"]
        out = on_terminal(lab, *argv).decode()
        rows = [line for line in out.splitlines() if "ssl_" in line or "..." in line]
        check(rows and max(map(len, rows)) <= columns, f"{columns}: {rows}")
        check(any(str(len(HOSTILE)) in row for row in rows), f"{columns}: {rows}")
        check(("libssl.so" in out) == (columns == 200), f"{columns}: {out}")


EVERYTHING = """
for _, name in ipairs {"start", "stop", "lost", "error", "attach", "exec", "exit", "tls_close",
                       "signal_usr1"} do
    on[name](emit)
end
on.tls_data({capture = "all"}, emit)
on.tls_data({capture = "all"}, function(e)
    print(e.data)
    printf("%s\\n", e.data)
    hexdump(e.data)
    emit {type = "mine", data = e.data, conn = e.conn, nested = {inner = e.data}, [e.data] = 1, list = {e.data}}
    if e.dir == "out" then error(e.data) end
end)
local fed = {}
for i, kind in ipairs {"sum", "avg", "min", "max", "stats", "hist", "tseries"} do
    fed[i] = _ENV[kind](kind, {by = {"data", "comm"}})
end
fed[#fed + 1] = lhist("lhist", {min = 0, max = 100, step = 10, by = {"data", "comm"}})
local calls = count("count", {from = "tls_data", by = {"data", "comm"}})
on.tls_data({capture = "all"}, function(e)
    for _, a in ipairs(fed) do a:add(e.len, e.data, e.comm) end
end)
on.stop(function()
    for _, a in ipairs(fed) do a:print() end
    calls:print()
end)
"""


@case(needs=["jq"])
def json_of_everything(lab):
    """Every event and aggregation, with hostile payload: jq reads it, the bytes come back."""
    script = lab.write("all.lua", EVERYTHING)
    for name, data in (("hostile", HOSTILE), ("utf8", "good: äöü\u2028\x00\x1b[2J".encode())):
        record = lab.path("all.rec")
        live = lab.run([TLSSCOPE, "-q", "-f", "json", "-w", record, "-c", talk(lab, data),
                        script]).out()
        harmless(name, live)
        out = lab.run(["jq", "-c", "."], input=live).out()
        objects = [json.loads(line) for line in out.splitlines()]
        same("objects", len(objects), live.count(b"\n"))
        types = {o["type"] for o in objects}
        for want in ("start", "stop", "attach", "error", "exec", "exit", "tls_close", "ssl_read",
                     "ssl_write", "print", "mine", "count", "sum", "avg", "min", "max", "stats",
                     "hist", "lhist", "tseries"):
            check(want in types, f"{name}: nothing of type {want}: {types}")
        key = "data_b64" if name == "hostile" else "data"
        query = f'select(.type == "ssl_write" or .type == "mine") | .{key}' + \
            (" | @base64d" if name == "hostile" else "")
        for o in objects:
            check(("data" in o) != ("data_b64" in o) or o["type"] not in ("ssl_write", "mine"),
                  f"{name}: {str(o)[:300]}")
            check(o["type"] not in ("tls_close", "mine") or isinstance(o["conn"], int),
                  f"{name}: no connection: {str(o)[:300]}")
        check(lab.run(["jq", "-r", query], input=live).out(), f"jq finds no {key}")
        keys = [d for o in objects if o["type"] == "count" for d in o["data"]]
        check(keys and all(("key_b64" in d) == any("\ufffd" in k for k in d["key"]) for d in keys),
              f"{name}: {keys}")
        text = lab.run([TLSSCOPE, "-q", "-r", record, script]).out()
        harmless(f"{name} as text", text)
        for want in (b"start ", b"attach ", b"tls_close ", b"ssl_write ", b"error ", b"tseries"):
            check(want in text, f"{name} as text: no {want}")


@case()
def times(lab):
    """Local, UTC and relative, whatever the script says."""
    code = 'config{time = "utc"} on.start(function(e) emit{t = e.time} end) every("50ms", exit)'

    def shown(*options):
        return json.loads(lab.run([TLSSCOPE, "-f", "json", *options, "-e", code],
                                  env={"TZ": "XXX-9"}).out().splitlines()[0])["t"]
    same("relative", shown("--time", "relative"), "0.000000")
    hours = [int(shown(*o)[:2]) for o in ((), ("--time", "local"), ("--time", "utc"))]
    check((hours[1] - hours[0]) % 24 in (9, 10) and (hours[2] - hours[0]) % 24 in (0, 1), f"{hours}")
    p = subprocess.run([TLSSCOPE, "--time", "mars", "sniff"], stderr=subprocess.PIPE)
    check(p.returncode == 2 and b"local, utc or relative" in p.stderr, p.stderr)
