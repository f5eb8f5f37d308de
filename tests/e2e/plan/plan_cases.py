"""Trainings whose memory is planned and measured: families, layouts, lengths, skew. The test runs
small ones, tests/bench/plan_bench.py those that are held out. Needs no Python torch."""

import dataclasses
import json
import os
import pathlib
import random
import subprocess

SECONDS = 300  # the longest that one command may take


@dataclasses.dataclass
class Case:
    name: str
    family: str
    sets: tuple = ()  # of the recipe
    model: tuple = ()  # of config.json
    ranks: int = 1
    seq_len: int = 256
    rows: int = 48
    longest: int = 400  # tokens of a row
    scored: bool = True  # the experts are selected, and the skew known, by scores
    size: str = "tiny"


RECIPE = """\
model: {{path: {folder}/model, dtype: fp32}}
device: cpu
data:
  train: [{{path: {folder}/train.jsonl, name: train}}]
  eval: [{{path: {folder}/task.jsonl, name: task}}]
  seq_len: {seq_len}
  too_long: split
  loss_on: all
esft: {{score: {{tokens: -1}}, select: {{method: token, top_p: 0.3}}}}
optim: {{lr: 1e-3}}
schedule: {{name: constant, steps: 6}}
train: {{global_batch: 8, micro_batch: 4, threads: {threads}}}
checkpoint: {{every: 0}}
eval: {{every: 0}}
log: {{tensorboard: false}}
output: {folder}/run
"""


class Trial:
    """A case in a folder of its own: planned before it trains, then trained."""

    def __init__(self, sutor, folder, case):
        self.sutor, self.case = str(pathlib.Path(sutor).resolve()), case
        self.folder = pathlib.Path(folder) / case.name
        self.folder.mkdir(parents=True)
        model = [word for key in case.model for word in ("--set", key)]
        self.command("init-model", "--family", case.family, "--size", case.size, "--out",
                     str(self.folder / "model"), *model)
        numbers = random.Random(case.name)
        for name, count in (("train", case.rows), ("task", 6)):
            rows = [[numbers.randrange(3, 200) for _ in range(numbers.randrange(8, case.longest))]
                    for _ in range(count)]
            (self.folder / f"{name}.jsonl").write_text(
                "".join(json.dumps({"input_ids": row}) + "\n" for row in rows))
        self.recipe = self.folder / "recipe.yaml"
        self.recipe.write_text(RECIPE.format(
            folder=self.folder, seq_len=case.seq_len, threads=max(1, 2 // case.ranks)))
        self.sets = [word for key in case.sets for word in ("--set", key)]

    def command(self, *words, ranks=1, code=0):
        launcher = ["mpiexec", "-n", str(ranks)] if ranks > 1 else []
        result = subprocess.run([*launcher, self.sutor, *map(str, words)], text=True,
                                stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS,
                                env=dict(os.environ, NO_COLOR="1"), check=False)
        if result.returncode != code:
            raise AssertionError(f"{words}: exit code {result.returncode}\n{result.stdout[-2000:]}"
                                 f"\n{result.stderr[-2000:]}")
        return result.stdout

    def verb(self, verb, *options, ranks=1):
        return self.command(verb, self.recipe, *options, *self.sets, ranks=ranks)

    def prepare(self):
        self.verb("prepare")
        if self.case.scored:
            self.verb("score", ranks=self.case.ranks)
            self.verb("select")

    def plan(self, *options):
        return json.loads(self.verb("plan", "--json", "--ranks", self.case.ranks, *options))

    def train(self):
        """Returns what the console said; metrics() and plan_file() have the figures."""
        return self.verb("train", ranks=self.case.ranks)

    def metrics(self):
        lines = (self.folder / "run/metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def plan_file(self):
        return json.loads((self.folder / "run/plan.json").read_text())

    def measured_peak(self):
        return max(row["peak_memory_bytes"] for row in self.metrics())


def excess(planned, measured):
    """By how much of the measured a plan is above it."""
    return planned / measured - 1
