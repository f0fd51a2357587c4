# SPDX-License-Identifier: MIT
"""Reads what the manual says, and what the sources say that it must say."""
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STRING = r'"((?:[^"\\]|\\.)*)"'


def source(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as f:
        return f.read()


def c_string(text):
    """The value of a C string literal, or of several that follow each other."""
    whole = "".join(re.findall(STRING, text))
    return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), whole)


def options():
    """{long name: letter or None} of core/options.c."""
    table = re.search(r"long_options\[\] = \{\n(.*?)\n\};", source("core/options.c"), re.S)[1]
    found = {}
    for line in table.splitlines()[:-1]:
        m = re.fullmatch(r'\s*\{"([a-z-]+)", \w+, NULL, (?:\'(\w)\'|\w+)\},', line)
        assert m, f"core/options.c: cannot read {line.strip()}"
        found[m[1]] = m[2]
    return found


def api():
    """[(kind, name, type, help)] of core/api.c; kind as in enum api_kind."""
    text = source("core/api.c")
    body = re.search(r"api_table\[\] = \{\n(.*?)\n\};", text, re.S)[1]
    strings = rf"((?:{STRING}\s*)+)"
    found = []
    for m in re.finditer(rf"\{{API_(\w+),\s*{strings},\s*{strings},\s*{strings}\}}", body):
        found.append((m[1], *(c_string(m[i]) for i in (2, 4, 6))))
    assert len(found) == body.count("{API_"), "core/api.c: cannot read every entry"
    return found


def unescape(line):
    """Text of a line of mdoc, without its escapes."""
    for form, text in ((r"\&", ""), (r"\(dq", '"'), (r"\-", "-"), (r"\(aq", "'"), (r"\e", "\\")):
        line = line.replace(form, text)
    return line


class Example:
    def __init__(self, mark, place, text):
        self.mark, self.place, self.text = mark, place, text
        self.output, self.start_only = None, False


class Page:
    """A page of the manual: items of its lists by heading, and its displays."""

    def __init__(self, name):
        self.name = name
        self.items, self.examples, self.unmarked = {}, [], []
        self.lines = source(f"man/{name}").splitlines()
        heading, mark, display, start = "", None, None, 0
        for number, line in enumerate(self.lines, 1):
            if display is not None:
                if line == ".Ed":
                    self.add_display(mark, f"{name}:{start}", "\n".join(display) + "\n")
                    mark, display = None, None
                else:
                    display.append(unescape(line))
            elif line.startswith(".Bd"):
                display, start = [], number
            elif re.match(r"\.S[hs] ", line):
                heading = line[4:].strip('"')
            elif re.match(r'\.\\" (example|output|check|shell|session|file)', line):
                mark = line[4:]
            elif line.startswith(".It "):
                self.items.setdefault(heading, []).append(line[4:])

    def add_display(self, mark, place, text):
        if mark in ("output", "output start"):
            self.examples[-1].output = text
            self.examples[-1].start_only = mark == "output start"
        elif mark:
            self.examples.append(Example(mark, place, text))
        else:
            self.unmarked.append(place)
