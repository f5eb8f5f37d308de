#!/usr/bin/env python3
"""Hands the log of a training over to Weights & Biases. Run by `sutor train` beside the job:

    wandb_log.py JOB        JOB: a JSON object with
        check, mode         only prints {"problem": ""}, or what is missing to log in this mode
    or  project, entity, name, mode, tags
                            the keys of log.wandb, null where the recipe has none
        id                  of the run: one that exists already is gone on with
        folder              the service's library keeps its files in its folder `wandb`
        recipe              the resolved recipe, a text: the run's config

Reads lines of JSON from stdin until it ends: those of metrics.jsonl and eval.jsonl as they are
written, and one {"end": exit code, "summary": {...}} at the end of the job. A run whose lines end
without it has failed. The job never waits for this process, and signals that are meant for the job
do not end it: the end of its input does.
"""

import importlib.util
import json
import math
import netrc
import os
import re
import signal
import sys
import urllib.parse

# How long the library may take to hand over what it has after the input has ended.
SECONDS_TO_END = 900
# Keys of rows that say what they belong to rather than how it went.
LABELS = {"step", "time", "set", "sources", "experts", "layers", "layer", "expert",
          "drifted_layers"}


def has_account():
    """Whether the library will find a key of the service without asking a person."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    base = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    try:
        return netrc.netrc(path).authenticators(urllib.parse.urlparse(base).hostname) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def problem_of(mode):
    if importlib.util.find_spec("wandb") is None:
        return (f"the package wandb is not installed in {sys.executable}: install it there "
                "(`python -m pip install wandb`), name another Python by SUTOR_PYTHON, or leave "
                "`log.wandb` out")
    if mode == "online" and not has_account():
        return ("no account is known here: log in (`wandb login`), set WANDB_API_KEY, or use "
                "`mode: offline` and send the files later with `wandb sync`")
    return ""


def numbers_of(row, prefix):
    """{"<prefix>/<key>": number} of a row, but for its labels."""
    return {f"{prefix}/{key}": value for key, value in row.items()
            if key not in LABELS and isinstance(value, (int, float))
            and not isinstance(value, bool) and math.isfinite(value)}


def values_of(row):
    """What a line of metrics.jsonl or eval.jsonl gives the run; `step` is the x axis of all."""
    values = {"step": row["step"]}
    if "set" in row:
        return values | numbers_of(row, f"eval/{row['set']}")
    values |= numbers_of(row, "train")
    for name, source in row.get("sources", {}).items():
        values |= numbers_of(source, f"train/{name}")
    experts = row.get("experts", {})
    values |= numbers_of(experts, "experts")
    for layer in experts.get("layers", []):
        values |= numbers_of(layer, f"experts/layer_{layer['layer']}")
    return values


def config_of(recipe):
    """The resolved recipe with numbers as YAML 1.2 has them: 1e-05 is one."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_implicit_resolver("tag:yaml.org,2002:float",
                                 re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+\Z"),
                                 list("-+0123456789"))
    return yaml.load(recipe, Loader)


def begin(job):
    import wandb

    run = wandb.init(project=job["project"], entity=job["entity"], name=job["name"],
                     mode=job["mode"], tags=job["tags"], id=job["id"], resume="allow",
                     dir=job["folder"], config=config_of(job["recipe"]),
                     settings=wandb.Settings(console="off", silent=True))
    # The service's own counter only rises, but a resumed training repeats steps.
    run.define_metric("step", hidden=True)
    run.define_metric("*", step_metric="step")
    return run


def follow(job):
    # Of the job: it decides when this process ends.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    run = begin(job)
    exit_code = 1
    for line in sys.stdin:
        row = json.loads(line)
        if "end" not in row:
            run.log(values_of(row))
            continue
        exit_code = row["end"]
        run.summary.update(row["summary"])
    signal.alarm(SECONDS_TO_END)
    run.finish(exit_code=exit_code)


if __name__ == "__main__":
    the_job = json.loads(sys.argv[1])
    if the_job.get("check"):
        print(json.dumps({"problem": problem_of(the_job["mode"])}))
    else:
        follow(the_job)
