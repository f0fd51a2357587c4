# SPDX-License-Identifier: MIT
"""Addresses: of whom each connection is, compared with what the programs say of their sockets."""
import json
import os
import shutil

import golang
from cases_go import ENV, go_case
from harness import check


def shown(text):
    """What a program calls HOST:PORT, as (address, port); v4-mapped addresses as IPv4."""
    host, port = text.rsplit(":", 1)
    return host.strip("[]").removeprefix("::ffff:"), int(port)


def addresses(seen, **fields):
    """{(laddr, lport, raddr, rport)} of the events with these fields."""
    return {(c.get("laddr"), c.get("lport"), c.get("raddr"), c.get("rport"))
            for c in seen.calls if all(c.get(k) == v for k, v in fields.items())}


# --- Go

def said_of_go(*outputs):
    told = [json.loads(line) for out in outputs for line in out.splitlines() if b'"laddr"' in line]
    return {(*shown(t["laddr"]), *shown(t["raddr"])) for t in told}


@go_case("addresses_go", "Clients and servers over IPv4, IPv6 and v4-mapped, older ones too.")
def of_go(lab):
    program = lab.path(f"addr{os.getpid()}")
    shutil.copy(golang.talk(lab, "1.24", "stripped_pie"), program)
    for listen, connect in (("127.0.0.1", "127.0.0.1"), ("[::1]", "[::1]"), ("[::]", "127.0.0.1")):
        port = lab.port()
        server = lab.spawn([program, "raw", "server", f"{listen}:{port}"], ready=b"listening",
                           env=ENV)
        tracer = lab.tracer("--comm", os.path.basename(program))
        client = lab.run([program, "-n", "20", "raw", "client", f"{connect}:{port}"], env=ENV)
        server.stop()
        told = said_of_go(client.out(), server.out())
        check(len(told) == 40, f"the programs told of {len(told)} connections")
        seen = addresses(tracer.stop())
        check(seen == told, f"{listen}: seen {sorted(seen - told, key=str)[:4]}, not "
              f"{sorted(told - seen)[:4]}")
