# SPDX-License-Identifier: MIT
"""The bench's lines, and rows of its table: medians of interleaved rounds, their spread, the budget."""
import collections
import statistics

LINES = collections.OrderedDict()


def line(func):
    """Declares a measurement: func(lab, rounds) gives rows."""
    LINES[func.__name__] = func
    return func


def note(text):
    print(f"# {text}", flush=True)


UNITS = {
    "x": lambda v: f"{v:.2f} x",
    "ns": lambda v: f"{v:,.0f} ns",
    "us": lambda v: f"{v:,.0f} us",
    "ms": lambda v: f"{v:,.1f} ms",
    "MB": lambda v: f"{v:.1f} MB",
    "%": lambda v: f"{v:+.1f} %",
    "/s": lambda v: f"{v:,.0f}/s",
    "lost": lambda v: f"{v:.2%}" if v else "0",
    "": lambda v: f"{v:,.0f}",
    "1/": lambda v: f"1/{1 / v:.1f}" if v > 0 else "0",  # a part of what a peer needs
}


class Row:
    """values: one a round. budget: at most this, or with least=True at least; None: it has none."""

    def __init__(self, what, values, unit, budget=None, least=False):
        self.what, self.unit, self.budget, self.least = what, unit, budget, least
        self.values = sorted(values)
        self.median = statistics.median(values)

    def verdict(self):
        if self.budget is None:
            return ""
        if self.least:
            return "ok" if self.median >= self.budget else "over"
        # A tax of nothing is one that cannot be told from the rounds' own differences.
        if self.unit == "%" and self.values[0] <= self.budget <= self.values[-1]:
            return "ok"
        return "ok" if self.median <= self.budget else "over"

    def cells(self):
        show = UNITS[self.unit]
        spread = f"{show(self.values[0])} to {show(self.values[-1])}" if len(self.values) > 1 else ""
        budget = "" if self.budget is None else show(self.budget)
        return [self.what, show(self.median), budget, self.verdict(), spread]


class Gap:
    """A row of what was not measured."""

    def __init__(self, what, why):
        self.what, self.why = what, why

    def cells(self):
        return [self.what, "-", "", "skipped", self.why]


HEAD = ["what", "measured", "budget", "", "spread"]


def show(rows):
    cells = [HEAD] + [r.cells() for r in rows]
    widths = [max(len(c[i]) for c in cells) for i in range(len(HEAD))]
    for n, c in enumerate(cells):
        print("| " + " | ".join(t.ljust(w) for t, w in zip(c, widths)) + " |")
        if not n:
            print("|" + "|".join("-" * (w + 2) for w in widths) + "|")
