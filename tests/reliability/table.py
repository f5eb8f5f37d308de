"""The rows of the fault table: what each is called, how it is tried, and what came of it."""

import concurrent.futures
import dataclasses
import threading
import time
import traceback

HOLDS, FAILS, NOT_HERE = "holds", "FAILS", "not possible here"
ROWS = {}  # name -> Row, in the order of the modules that declare them


class NotPossible(Exception):
    """What a row needs is not here: root, gcc, h5py, a build with faults ..."""


@dataclasses.dataclass
class Row:
    name: str
    what: str  # the fault and what must become of it
    function: object
    in_short: bool  # belongs to the short selection


def row(name, what, short=False):
    """Declares a row; its function gets the lab and a Count."""
    def declare(function):
        ROWS[name] = Row(name, what, function, short)
        return function
    return declare


class Count:
    """States that were tried, and those that were bad, with what was bad. Threads may share it."""

    def __init__(self):
        self.tried, self.bad, self.notes = 0, [], []
        self.lock = threading.Lock()

    def state(self, name, problem=""):
        with self.lock:
            self.tried += 1
            if problem:
                self.bad.append(f"{name}: {problem}")
        return not problem

    def note(self, text):
        with self.lock:
            self.notes.append(text)

    def each(self, lab, items, problem_of):
        """problem_of(item) for each, several at a time; a state each, named by the item."""
        items = list(items)

        def one(item):
            try:
                self.state(str(item), problem_of(item))
            except NotPossible:
                raise
            except Exception:
                self.state(str(item), "the harness: " + traceback.format_exc(limit=-3))

        with concurrent.futures.ThreadPoolExecutor(lab.options.workers) as pool:
            for _ in pool.map(one, items):
                pass


@dataclasses.dataclass
class Outcome:
    row: str
    what: str
    outcome: str
    tried: int
    bad: list
    notes: list
    seconds: float


def try_row(row, lab):
    count, began, outcome = Count(), time.monotonic(), None
    try:
        row.function(lab, count)
        if count.tried == 0:
            count.state("the row", "nothing was tried")
    except NotPossible as reason:
        outcome = f"{NOT_HERE}: {reason}"
    except Exception:
        count.state("the row", "the harness: " + traceback.format_exc(limit=-4))
    outcome = FAILS if count.bad else outcome or HOLDS
    return Outcome(row.name, row.what, outcome, count.tried, count.bad, count.notes,
                   round(time.monotonic() - began, 1))


def line_of(outcome):
    return (f"{outcome.row:<6} {outcome.what[:66]:<66} {outcome.tried:>6} {len(outcome.bad):>5}"
            f"  {outcome.outcome}  ({outcome.seconds:.0f} s)")


HEADER = f"{'row':<6} {'what':<66} {'tried':>6} {'bad':>5}  outcome"


def markdown(outcomes, head):
    lines = ["# The fault table", "", head, "",
             "| row | what | tried | bad states | outcome | seconds |", "|---|---|---|---|---|---|"]
    for o in outcomes:
        lines.append(f"| {o.row} | {o.what} | {o.tried} | {len(o.bad)} | {o.outcome} | "
                     f"{o.seconds:.0f} |")
    for title, texts in (("What was bad", "bad"), ("Notes", "notes")):
        if any(getattr(o, texts) for o in outcomes):
            lines += ["", f"## {title}", ""]
        for o in outcomes:
            lines += [f"- {o.row}: {' '.join(text.split())[:400]}" for text in getattr(o, texts)]
    return "\n".join(lines) + "\n"
