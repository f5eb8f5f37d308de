"""What is known of a run: the facts of the program and the run's own files, as far as there are."""

import json
import math
import os
from itertools import islice, zip_longest


def read_json(path):
    """None for a file that is not there or is no JSON."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def read_lines(path):
    """The objects of a file of JSON lines; lines that are torn are left out."""
    rows = []
    if not os.path.isfile(path):
        return rows
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                rows.append(row)
    return rows


def read_samples(folder, most):
    """[(set, [(completion of the base, of what was trained), ...])]: rows of `sutor eval`."""
    found = []
    base, trained = os.path.join(folder, "base"), os.path.join(folder, "trained")
    names = sorted(os.listdir(base)) if os.path.isdir(base) else []
    for name in names:
        pair = [list(islice(completions(os.path.join(side, name)), most))
                for side in (base, trained)]
        if name.endswith(".jsonl") and pair[0]:
            found.append((name[:-len(".jsonl")], list(zip_longest(*pair, fillvalue={}))))
    return found


def completions(path):
    """The examples of a file of completions; none when it is not there."""
    if not os.path.isfile(path):
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            yield table(table(row).get("example"))


def number(value):
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if math.isfinite(value) else None


def table(value):
    """A dictionary, whatever stands there."""
    return value if isinstance(value, dict) else {}


class Run:
    def __init__(self, job):
        self.facts = table(read_json(job["facts"]))
        self.receipt = table(self.facts.get("receipt"))
        self.metrics = read_lines(job["metrics"])
        self.evaluations = [row for row in read_lines(job["evaluations"])
                            if isinstance(row.get("set"), str)]
        self.plan = table(read_json(job["plan"]))
        self.evaluation = table(read_json(os.path.join(job["evaluation"], "evaluation.json")))
        self.samples = read_samples(job["evaluation"], job["samples"])
        self.folder = str(self.facts.get("folder", ""))
        self.name = os.path.basename(self.folder) or "run"

    def series(self, key):
        """(steps, values) of metrics.jsonl; a value that is not finite is None."""
        rows = [row for row in self.metrics if key in row]
        return [row["step"] for row in rows], [number(row[key]) for row in rows]

    def expert_series(self, key):
        """The same of the object `experts`."""
        rows = [row for row in self.metrics if key in table(row.get("experts"))]
        return [row["step"] for row in rows], [number(row["experts"][key]) for row in rows]

    def evaluated(self):
        """{metric: {set: (steps, values)}}, in the order of the file."""
        found = {}
        for row in self.evaluations:
            for key, value in row.items():
                if key in ("step", "set", "tokens", "epoch", "eval_seconds", "time"):
                    continue
                if value is not None and number(value) is None:
                    continue
                steps, values = found.setdefault(key, {}).setdefault(row["set"], ([], []))
                steps.append(row["step"])
                values.append(number(value))
        return found

    def live_layers(self):
        """{layer: what the last step that says so has of it}, and that step."""
        for row in reversed(self.metrics):
            layers = table(row.get("experts")).get("layers")
            if isinstance(layers, list):
                layers = {str(each["layer"]): each for each in layers
                          if isinstance(each, dict) and isinstance(each.get("layer"), int)}
            if isinstance(layers, dict) and layers:
                return {layer: table(of) for layer, of in layers.items()}, row["step"]
        return {}, None
