"""A folder with a tiny model and its data, trainings in it, runs of the program under faults, and
the comparison of what a disturbed training left with an undisturbed one."""

import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import tempfile
import threading

from processes import SECONDS, Started

MODEL = {"hidden_size": 16, "head_dim": 4, "moe_intermediate_size": 8, "vocab_size": 48,
         "num_hidden_layers": 4, "num_experts_per_tok": 2}
EXPERTS = {"experts": {"0": [1], "1": [3, 5], "3": [2, 6]}, "shared_experts": False,
           "non_expert_modules": False}
RECIPE = """\
model: {{path: {folder}/model, dtype: fp32}}
data:
  train: [{{path: {folder}/rows.jsonl, name: rows}}]
  eval: [{{path: {folder}/held.jsonl, name: held}}]
  packing: false
  loss_on: all
  seq_len: 64
esft: {{config: {folder}/experts.json}}
optim: {{lr: 1e-3}}
schedule: {{name: constant, steps: {steps}}}
train: {{method: esft, global_batch: 4, micro_batch: 1, threads: 1}}
parallel: {{{parallel}}}
checkpoint: {{every: {every}, keep: {keep}{more}}}
eval: {{every: {eval_every}, before_training: false, metrics: [loss], best: held.loss}}
log: {{tensorboard: false}}
output: {output}
"""
# Names that the program leaves in an output folder on purpose; other hidden names are leftovers.
KNOWN_HIDDEN = {".lock"}


class Job:
    """A training: its recipe, and the folder `run` beside it, where its output is."""

    def __init__(self, recipe):
        self.recipe, self.run = recipe, recipe.parent / "run"
        self.checkpoints = self.run / "checkpoints"

    def steps(self):
        return sorted(int(path.name[5:]) for path in self.checkpoints.glob("step-*"))

    def step(self, number):
        return self.checkpoints / f"step-{number:08}"

    def lines(self, name, keys):
        path = self.run / name
        text = path.read_text(errors="replace") if path.exists() else ""
        return [tuple(json.loads(line).get(key) for key in keys) for line in text.splitlines()]

    def metrics(self):
        return self.lines("metrics.jsonl", ("step", "loss", "grad_norm", "lr", "tokens"))

    def result(self):
        """What must be equal however often a training was disturbed."""
        weights = {}
        if self.steps():
            for path in sorted(self.step(self.steps()[-1]).glob("w*.h5")):
                weights[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return {"metrics": self.metrics(),
                "evaluations": self.lines("eval.jsonl", ("step", "set", "loss")),
                "last step": self.steps()[-1:], "weights": weights,
                **{name: self.pointer(name) for name in ("LATEST", "BEST")}}

    def pointer(self, name):
        path = self.checkpoints / name
        return path.read_text(errors="replace").strip() if path.is_file() else None

    def leftovers(self):
        """Names that a finished training should not leave, in its output and beside it."""
        return sorted(
            str(path.relative_to(self.recipe.parent)) for path in self.recipe.parent.rglob("*")
            if path.name not in KNOWN_HIDDEN
            and (path.name.startswith(".") or path.name.endswith(".tmp")))


class Lab:
    def __init__(self, sutor, options):
        self.program = str(pathlib.Path(sutor).resolve())
        self.options = options
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sutor-reliability-", dir=options.work))
        self.lock, self.count, self.shim_made = threading.RLock(), 0, {}
        self.references, self.disks = {}, []
        model = [word for key, value in MODEL.items() for word in ("--set", f"{key}={value}")]
        self.must("init-model", "--family", "qwen3_moe", "--out", self.folder / "model", *model)
        (self.folder / "experts.json").write_text(json.dumps(EXPERTS))
        numbers = random.Random(5)
        for name, count in (("rows", 16), ("held", 2)):
            (self.folder / f"{name}.jsonl").write_text("".join(
                json.dumps({"input_ids": [numbers.randrange(3, 48) for _ in range(24)]}) + "\n"
                for _ in range(count)))
        self.template = self.job(prepared=False)
        asks = self.sutor("prepare", self.template.recipe, "--set", "checkpoint.async=true")
        self.asyncs = [None] if asks.code == 2 else [True, False]
        self.must("prepare", self.template.recipe)

    def close(self):
        for disk in list(self.disks):
            disk.close()
        if self.options.keep_work:
            print(f"kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def random(self, name):
        """Random numbers that a row repeats from the seed that was printed."""
        return random.Random(f"{self.options.seed} {name}")

    def job(self, steps=4, every=1, keep=3, eval_every=0, parallel="", background=None, where=None,
            prepared=True, change=lambda text: text):
        """A new training, in `where` or in a folder of its own."""
        with self.lock:
            self.count += 1
            folder = pathlib.Path(where or self.folder) / f"job-{self.count}"
        folder.mkdir()
        more = "" if background is None else f", async: {str(background).lower()}"
        recipe = folder / "recipe.yaml"
        recipe.write_text(change(RECIPE.format(
            folder=self.folder, steps=steps, every=every, keep=keep, more=more, parallel=parallel,
            eval_every=eval_every, output=folder / "run")))
        if prepared:
            shutil.copytree(self.template.run, folder / "run")
        return Job(recipe)

    def copy(self, job):
        """The same training once more, as far as it has come."""
        with self.lock:
            self.count += 1
            folder = self.folder / f"job-{self.count}"
        shutil.copytree(job.recipe.parent, folder, symlinks=True)
        recipe = folder / "recipe.yaml"
        recipe.write_text(recipe.read_text().replace(str(job.run), str(folder / "run")))
        return Job(recipe)

    def command(self, *words, ranks=1, launcher=()):
        launcher = list(launcher) or ([] if ranks == 1 else ["mpiexec", "-n", str(ranks)])
        return [*launcher, self.program, *map(str, words)]

    def start(self, *words, ranks=1, env=None, launcher=(), **how):
        # mpiexec's end of the pipes may outlive it, so they are files.
        return Started(self.command(*words, ranks=ranks, launcher=launcher),
                       dict(os.environ, OMP_NUM_THREADS="1", NO_COLOR="1") | (env or {}),
                       self.folder, **how)

    def sutor(self, *words, ranks=1, env=None, timeout=SECONDS, launcher=(), **how):
        return self.start(*words, ranks=ranks, env=env, launcher=launcher, **how).wait(timeout)

    def must(self, *words, **how):
        done = self.sutor(*words, **how)
        if done.code != 0:
            raise AssertionError(f"{' '.join(map(str, words))[:200]}: {done}")
        return done

    def reference(self, ranks=1, **how):
        """The result of the same training without a fault."""
        key = (ranks, *sorted(how.items()))
        with self.lock:
            if key not in self.references:
                job = self.job(**how)
                self.must("train", job.recipe, ranks=ranks)
                self.references[key] = job.result()
        return self.references[key]

    def settle(self, job, right, said=(), ranks=1):
        """A disturbed training goes on: what is wrong with what it left and with its end."""
        before = job.steps()
        newest = before[-1] if before else 0
        if said and newest < max(said):
            return f"step {max(said)} was reported, {before} are there"
        if before:
            checked = self.sutor("verify", job.checkpoints)
            if checked.code != 0:
                return f"verify: {checked} {checked.out[-300:]}"
        done = self.sutor("train", job.recipe, "--resume", ranks=ranks)
        if done.code != 0:
            return f"train --resume with {before}: {done}"
        if "passed over" in done.err:
            return f"train --resume passed a checkpoint over: {done}"
        trained = [int(step) for step in re.findall(r"^step (\d+)/", done.out, re.M)]
        if trained and trained[0] != newest + 1:
            return f"checkpoint of step {newest}, but it went on with step {trained[0]}"
        return self.difference(job, right) or leftovers_problem(job)

    @staticmethod
    def difference(job, right):
        found = job.result()
        for name, value in right.items():
            if found[name] == value:
                continue
            if isinstance(value, list):
                missing = [line[0] for line in value if line not in found[name]]
                return f"{name} differ: of {len(value)} lines {missing} are lost or others"
            return f"{name} differ: {found[name]} for {value}"
        return ""


def leftovers_problem(job):
    left = job.leftovers()
    return f"leftovers {left}" if left else ""
