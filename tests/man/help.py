# SPDX-License-Identifier: MIT
"""
What `tlsscope help` says: it knows every name, and each of its examples runs, on the recording or, of
the command line's options, as it stands or with --check.
"""
import concurrent.futures
import os
import re
import shutil
import subprocess

import pages

# These end by themselves, and change nothing.
AS_IT_STANDS = re.compile(r" (-r|-L|-l|--info|--version|--help|--dry-run|doctor|help)\b")


class Help:
    def __init__(self, program, folder, env):
        self.program, self.folder, self.env = program, folder, env

    def run(self, *words):
        return subprocess.run([self.program, *words], cwd=self.folder, env=self.env, timeout=60,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def complaints(self, err):
        """What is on stderr, but for files that others' tests have mapped at this moment."""
        return [line for line in err.decode().splitlines()
                if self.folder in line or not re.search(r"/tlsscope-\S+/", line)]

    def text(self, *words):
        p = self.run("help", *words)
        assert p.returncode == 0 and not p.stderr, f"help {' '.join(words)}: {p.stderr.decode()}"
        return p.stdout.decode()

    def examples(self):
        """{(kind, name): command}"""
        rows = [line.split("\t") for line in self.text("examples").splitlines()]
        return {tuple(row[0].rsplit(" ", 1)): row[1] for row in rows}

    def shell(self, command, how):
        command = command.replace("tlsscope ", f"{self.program} {how}", 1)
        p = subprocess.run(["sh", "-c", command], cwd=self.folder, env=self.env, timeout=60,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert p.returncode == 0, f"{command}: {p.returncode}: {p.stderr.decode()}"
        assert not self.complaints(p.stderr), f"{command}: {p.stderr.decode()}"


def names_of_api(h):
    """The table's names, and no name is without an example."""
    examples = h.examples()
    named = {e[1] for e in pages.api()}
    assert {name for _, name in examples} == named, {n for _, n in examples} ^ named
    bare = [" ".join(key) for key, command in examples.items() if not command]
    assert not bare, f"lua/help_examples.lua has no example of {', '.join(bare)}"


def caught(function, argument):
    try:
        function(argument)
    except AssertionError as e:
        return e
    return None


def every_example(h):
    def one(item):
        (kind, name), command = item
        if command.startswith("tlsscope -e ") and kind != "the script":
            return h.shell(command, "-r day.rec ")
        if name == "interactive":
            return None  # live, and the cases of the prompt run it
        return h.shell(command, "" if AS_IT_STANDS.search(command) else "--check ")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        wrong = [str(e) for e in pool.map(lambda item: caught(one, item), h.examples().items()) if e]
    assert not wrong, "\n".join(wrong)


def every_name(h):
    """All that can be completed after `help` is explained, and recipes with their options."""
    names = [line.split("\t")[0] for line in h.run("complete", "help", "").stdout.decode().splitlines()]
    assert {"httplog", "filters", "--rotate", "tls_open", "quantile"} <= set(names), names
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, text in zip(names, pool.map(h.text, names)):
            assert text.strip(), f"help {name} says nothing"
    for line in h.run("-L").stdout.decode().splitlines():
        name = line.split()[0]
        assert f"tlsscope {'--pcap' if name == 'pcap' else name}" in h.text(name), h.text(name)


def some_words(h):
    for words, wanted in ((["-p"], "--pid"), (["rotate"], "--rotate SIZE"), (["on.http"], "on.http("),
                          (["e.conn.sni"], "field of e.conn"), (["exit", "status"], "1 when"),
                          (["fields"], "duration_ms"), ([], "tlsscope help NAME")):
        assert wanted in h.text(*words), h.text(*words)
    p = h.run("help", "htplog")
    assert p.returncode == 1 and b"did you mean 'httplog'" in p.stderr, p.stderr
    for line in h.text().splitlines() + h.text("filters").splitlines():
        assert len(line) <= 110, line


def for_editors(h):
    """The types are Lua, and name all functions; luacheck knows the names and finds a typo."""
    types = os.path.join(h.folder, "tlsscope.d.lua")
    with open(types, "w", encoding="utf-8") as f:
        f.write(h.text("d.lua"))
    subprocess.run(["lua5.4", "-e", f"assert(loadfile('{types}'))"], check=True)
    text = h.text("d.lua")
    for kind, name, *_ in pages.api():
        if kind in ("FUNCTION", "AGGREGATION") and name not in ("on", "print", "json"):
            assert re.search(rf"^function {name}\(", text, re.M), f"no function {name}"
        elif kind in ("FIELD", "CONN", "OPTION", "HTTP_FIELD", "PROBE", "EVENT", "CONFIG"):
            assert re.search(rf"^---@field {name}\?? ", text, re.M), f"no field {name}"
    if not shutil.which("luacheck"):
        return
    with open(os.path.join(h.folder, "luacheckrc"), "w", encoding="utf-8") as f:
        f.write(h.text("luacheckrc"))
    with open(os.path.join(h.folder, "typo.lua"), "w", encoding="utf-8") as f:
        f.write("on.tls_data(function(e) prinft(e.len) end)\n")
    check = ["luacheck", "--no-color", "--config", "luacheckrc", "--no-max-line-length"]
    p = subprocess.run([*check, os.path.join(pages.ROOT, "scripts")], cwd=h.folder,
                       stdout=subprocess.PIPE)
    assert p.returncode == 0, p.stdout.decode()
    p = subprocess.run([*check, "typo.lua"], cwd=h.folder, stdout=subprocess.PIPE)
    assert p.returncode and b"prinft" in p.stdout, p.stdout.decode()


TESTS = [names_of_api, every_example, every_name, some_words, for_editors]
# On real traffic, each printing something: their kinds and names.
LIVE = [("probe", "ssl_write"), ("http", "http"), ("conn", "peer"), ("aggregation", "hist"),
        ("function", "printf"), ("option", "where")]
