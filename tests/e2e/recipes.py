"""A tiny recipe from rows to exports, its runs, and what they leave. Needs no Python torch."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess

STEPS = ["prepare", "score", "select", "train", "export"]
SECONDS = 120  # the longest that one run may take

RECIPE = """\
model: {{path: {folder}/model, dtype: fp32}}
data:
  train: [{{path: {folder}/train.jsonl, name: train}}]
  eval: [{{path: {folder}/task.jsonl, name: task}}]
  seq_len: 64
  loss_on: all
esft: {{score: {{tokens: 200}}, select: {{method: token, top_p: 0.3}}}}
optim: {{lr: 1e-3}}
schedule: {{name: constant, steps: 6}}
train: {{global_batch: 4, micro_batch: 2, threads: 1}}
checkpoint: {{every: 2}}
eval: {{every: 3}}
log: {{tensorboard: false}}
output: run
"""


class Result:
    """What a start left: exit code, output, the steps that it did and those that it skipped."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err
        marks = [line.split()[1] for line in out.splitlines() if line.startswith("== ")]
        self.done = [mark for mark in marks if not mark.endswith(":")]
        self.skipped = [mark[:-1] for mark in marks if mark.endswith(":")]

    def errors(self):
        return [line for line in self.err.splitlines() if "error[" in line]

    def __str__(self):
        return f"exit code {self.code}\n{self.out[-3000:]}\n--- stderr\n{self.err[-3000:]}"


class Folder:
    """A model, rows, a recipe; every job is a working directory whose `run/` is the output."""

    def __init__(self, sutor, path):
        self.sutor, self.path = str(pathlib.Path(sutor).resolve()), pathlib.Path(path)
        self.make_model("model", seed=0)
        numbers = random.Random(5)
        for name, count in (("train", 24), ("task", 6)):
            self.write_rows(name, [[numbers.randrange(3, 200) for _ in range(24)]
                                   for _ in range(count)])
        self.recipe = self.path / "recipe.yaml"
        self.recipe.write_text(RECIPE.format(folder=self.path))
        self.count = 0

    def make_model(self, name, seed):
        subprocess.run([self.sutor, "init-model", "--family", "deepseek_v2", "--out",
                        str(self.path / name), "--seed", str(seed)], check=True,
                       stdout=subprocess.DEVNULL, timeout=SECONDS)

    def write_rows(self, name, rows):
        (self.path / f"{name}.jsonl").write_text(
            "".join(json.dumps({"input_ids": row}) + "\n" for row in rows))

    def job(self, like=None):
        """A new working directory, with a copy of another one's output."""
        self.count += 1
        job = self.path / f"job-{self.count}"
        job.mkdir()
        if like is not None and (like / "run").exists():
            shutil.copytree(like / "run", job / "run")
        return job

    def command(self, *options, verb="run"):
        return [self.sutor, verb, str(self.recipe), *options]

    def start(self, command, job, env=None):
        return subprocess.Popen(
            command, cwd=job, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
            env=dict(os.environ, OMP_NUM_THREADS="1", NO_COLOR="1") | (env or {}))

    def run(self, job, *options, command=None, env=None):
        process = self.start(command or self.command(*options), job, env)
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            kill(process)
            out, err = process.communicate()
            raise AssertionError(f"still running after {SECONDS} s: {Result(None, out, err)}")
        return Result(process.returncode, out, err)

    def run_and_kill(self, job, line, *options, command=None):
        """Kills a run and its children with SIGKILL as soon as it printed a line that begins so."""
        process = self.start(command or self.command(*options), job)
        seen = any(text.startswith(line) for text in process.stdout)  # stops at the line
        kill(process)
        out, err = process.communicate()
        if not seen:
            raise AssertionError(f"never printed `{line}`: {Result(process.returncode, out, err)}")


def kill(process):
    """A process and its children, which share its group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def ledger(job):
    """The finished steps and their fingerprints."""
    path = job / "run" / "stages.json"
    return json.loads(path.read_text()) if path.exists() else {}


def lines_of(path, keys):
    """Of JSON lines only these keys, with all their digits."""
    return [{key: line[key] for key in keys if key in line}
            for line in map(json.loads, path.read_text().splitlines())]


def results(job):
    """What must be equal however often a run was stopped: all of it but times and provenance."""
    run = job / "run"
    steps = sorted((run / "checkpoints").glob("step-*"))
    # Of the older ones, that from which a start went on stays.
    found = {"checkpoints": [steps[-1].name]}
    files = [path for folder in (run / "tokens", run / "export", steps[-1])
             for path in folder.rglob("*")]
    files += [run / name for name in ("scores.h5", "expert_config.json", "heat_map.svg")]
    for path in files:
        told = path.name in ("MANIFEST.json", "sutor_export.json", "sutor_adapter.json")
        if path.is_file() and not told:
            found[str(path.relative_to(run))] = path.read_bytes()
    found["metrics"] = lines_of(run / "metrics.jsonl",
                                ("step", "loss", "grad_norm", "lr", "tokens"))
    found["eval"] = lines_of(run / "eval.jsonl", ("step", "set", "loss", "ppl", "token_acc"))
    return found


def differences(job, other):
    """Names of results in which two jobs differ."""
    a, b = results(job), results(other)
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def tree(job):
    """Every file of the output, with its bytes and its time."""
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in (job / "run").rglob("*") if path.is_file()}
