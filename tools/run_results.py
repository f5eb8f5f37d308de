"""Reads the files of a run of sutor, for the quickstart's summary and for studies."""

import json


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def evaluation(run, step="last"):
    """{set: its line of eval.jsonl} of the evaluation at `step`; "last" = the highest one."""
    lines = read_lines(run / "eval.jsonl")
    step = max(line["step"] for line in lines) if step == "last" else step
    return {line["set"]: line for line in lines if line["step"] == step}


def training_seconds(run):
    """Time of the training steps alone."""
    return sum(line["tokens"] / line["tokens_per_s"] for line in read_lines(run / "metrics.jsonl"))
