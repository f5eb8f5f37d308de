"""What a study file (recipes/studies/*.study.yaml) says."""

import dataclasses
from pathlib import Path

import yaml

KINDS = ("compare", "sweep", "transfer", "overlap", "mask")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way of training: recipe keys in dotted form."""
    name: str
    series: str
    keys: dict


@dataclasses.dataclass(frozen=True)
class Study:
    name: str
    file: Path
    title: str
    kind: str
    tasks: list
    seeds: list
    learning_rates: list
    arms: list
    reference: str | None

    @property
    def common(self):
        """The recipe that all runs are based on."""
        return self.file.parent / "common.yaml"

    def quick(self):
        """The same in a few runs: shows that it works, not what comes out."""
        return dataclasses.replace(self,
                                   tasks=self.tasks[:2],
                                   seeds=self.seeds[:1],
                                   learning_rates=self.learning_rates[-1:])


def refuse(file, text):
    raise SystemExit(f"error: {file}: {text}")


def read_arm(file, at, entry):
    if not isinstance(entry, dict) or set(entry) - {"name", "series", "set"} or "name" not in entry:
        refuse(file, f"arms[{at}]: expected {{name, series, set}}, of which name is required")
    keys = entry.get("set") or {}
    if not isinstance(keys, dict):
        refuse(file, f"arms[{at}].set: expected recipe keys, such as esft.select.top_p: 0.2")
    return Arm(str(entry["name"]), str(entry.get("series", entry["name"])), keys)


def read_study(file):
    """Reads and checks a study; SystemExit with a message when something is wrong with it."""
    text = yaml.safe_load(file.read_text())
    known = {"title", "kind", "tasks", "seeds", "learning_rates", "arms", "reference"}
    if not isinstance(text, dict) or not {"title", "kind", "tasks", "arms"} <= set(text):
        refuse(file, "expected title, kind, tasks and arms")
    if set(text) - known:
        refuse(file, f"unknown {', '.join(sorted(set(text) - known))}; known: "
               f"{', '.join(sorted(known))}")
    if text["kind"] not in KINDS:
        refuse(file, f"kind: expected one of {', '.join(KINDS)}, got {text['kind']!r}")
    arms = [read_arm(file, at, entry) for at, entry in enumerate(text["arms"])]
    names = [arm.name for arm in arms]
    reference = text.get("reference")
    if reference is not None and reference not in names:
        refuse(file, f"reference: {reference!r} is none of the arms: {', '.join(names)}")
    if len(set(names)) != len(names):
        refuse(file, "two arms have the same name")
    return Study(name=file.name.removesuffix(".study.yaml"),
                 file=file,
                 title=text["title"],
                 kind=text["kind"],
                 tasks=list(text["tasks"]),
                 seeds=list(text.get("seeds", [1])),
                 learning_rates=[float(rate) for rate in text.get("learning_rates", [])],
                 arms=arms,
                 reference=reference)
