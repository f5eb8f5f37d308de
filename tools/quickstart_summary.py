#!/usr/bin/env python3
"""Prints the quickstart's result table from the files of its runs, and what it does not show.

An arm is "TITLE=RUN": RUN is the folder of a run with eval.jsonl, metrics.jsonl and
expert_config.json. The base model's losses are the step 0 lines of the first arm.
"""

import argparse
import json
import math
import struct
import sys
from pathlib import Path

from run_results import evaluation, training_seconds

LIMITS = """\
Losses are means over the tokens of held-out documents, in nats. "General" is the mean of the other
domains' losses; its change is forgetting when it is positive.
What this does not show: one pre-training and one seed an arm, so differences of about 0.02 are
noise; a base of 3 M parameters, far below the models that this method is for; learning rates were
not searched here, and full fine-tuning or LoRA, which are the real alternatives, are not in the
table; a falling loss on manual pages is not yet a better answer to anyone's question."""


def losses(run, step):
    """{set: loss} of the evaluation at `step`; "last" = the highest one."""
    found = evaluation(run, step)
    if not found:
        raise SystemExit(f"error: {run}/eval.jsonl has no evaluation of step {step}")
    return {name: line["loss"] for name, line in found.items()}


def parameter_counts(model):
    """{tensor name: number of values} from the headers of a Hugging Face directory."""
    counts = {}
    for path in model.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        counts |= {
            name: math.prod(entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__"
        }
    return counts


def trained_share(run, counts):
    """Fraction of the model's parameters that are in the experts of the run's configuration."""
    experts = json.loads((run / "expert_config.json").read_text())["experts"]
    prefixes = tuple(
        f"model.layers.{layer}.mlp.experts.{expert}." for layer, ids in experts.items()
        for expert in ids)
    return sum(n for name, n in counts.items() if name.startswith(prefixes)) / sum(counts.values())


def general(found, task):
    others = [loss for name, loss in found.items() if name != task]
    return sum(others) / len(others)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model",
                        type=Path,
                        required=True,
                        help="the base model's Hugging Face directory")
    parser.add_argument("--task", required=True, help="name of the evaluation set that is the task")
    parser.add_argument("arms", nargs="+", metavar="TITLE=RUN")
    arguments = parser.parse_args()
    task = arguments.task
    arms = [(title, Path(run)) for title, _, run in (arm.rpartition("=") for arm in arguments.arms)]
    counts = parameter_counts(arguments.model)
    base = losses(arms[0][1], 0)
    width = max(len(title) for title, _ in arms)
    row = "{:<%d}  {:>7}  {:>9} {:>7}  {:>12} {:>7}  {:>8}" % width
    print()
    print(row.format("", "trained", "task loss", "change", "general loss", "change", "training"))
    base_task, base_general = base[task], general(base, task)
    print(row.format("base", "", f"{base_task:.3f}", "", f"{base_general:.3f}", "", "").rstrip())
    for title, run in arms:
        after = losses(run, "last")
        after_task, after_general = after[task], general(after, task)
        print(
            row.format(title, f"{trained_share(run, counts):.1%}", f"{after_task:.3f}",
                       f"{after_task - base_task:+.3f}", f"{after_general:.3f}",
                       f"{after_general - base_general:+.3f}", f"{training_seconds(run):.0f} s"))
    others = ", ".join(name for name in base if name != task)
    print(f"\nTask: {task}; general: {others}; the model has {sum(counts.values()):,} parameters.")
    print(LIMITS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
