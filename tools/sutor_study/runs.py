"""The runs of a study: tokens and scores of each task once, then trainings and evaluations.

Held-out rows are halved: learning rates are chosen on one half of the task's (tuning), and all that
a study prints is measured on the other halves.

Finished work is kept in the work folder under studies/runs and is not done again while the base
model, the recipes and the text are the same.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import yaml

from run_results import evaluation, training_seconds


@dataclasses.dataclass(frozen=True)
class Result:
    """One training, measured at its end on all evaluation sets."""
    losses: dict  # by evaluation set, of the halves that are reported
    accuracy: dict
    tuning: float  # the task's loss on the other half
    trained: int  # parameters
    seconds: float  # of the training steps alone


def nested(keys):
    """{"a.b": 1} -> {"a": {"b": 1}}"""
    tree = {}
    for key, value in keys.items():
        *sections, last = key.split(".")
        at = tree
        for section in sections:
            at = at.setdefault(section, {})
        at[last] = value
    return tree


def arm_slug(keys):
    """What an arm does, as a folder name: arms of several studies that do the same share runs."""
    parts = [f"{key.rpartition('.')[2]}={value}" for key, value in sorted(keys.items())]
    return slug(",".join(parts) or "as_common")


def slug(text):
    return "".join(c if c.isalnum() or c in ".-=" else "_" for c in text)


class Runs:
    """`steps`: instead of those of the common recipe, None = as there."""

    def __init__(self, program, common, jobs, steps=None):
        self.program = program
        self.jobs = jobs
        self.steps = steps
        self.common = yaml.safe_load(common.read_text())
        self.common_file = common.resolve()
        self.folder = program.work / "studies" / ("runs" if steps is None else f"runs-{steps}")
        self.held_out = {entry["name"]: entry["path"] for entry in self.common["data"]["eval"]}
        self.sets = list(self.held_out)
        self.base_print = self._base_print()
        self.made = self.kept = 0  # steps done now, and found finished

    def _base_print(self):
        model = self.program.work / self.common["model"]["path"]
        files = sorted(model.glob("*.safetensors"))
        if not files:
            raise SystemExit(f"error: {model} holds no base model; make it with: "
                             "bash tools/quickstart.sh")
        hasher = hashlib.sha256(self.common_file.read_bytes())
        for path in files + sorted((self.program.work / "data").glob("*.jsonl")):
            hasher.update(path.read_bytes())
        return hasher.hexdigest()

    def _write_recipe(self, folder, keys):
        """A recipe for the run in `folder`, and whether `result.json` there is of the same."""
        relative = folder.relative_to(self.program.work)
        tree = nested(keys | {"output": str(relative)})
        text = yaml.safe_dump({"base": str(self.common_file)} | tree, sort_keys=False)
        fingerprint = hashlib.sha256((self.base_print + text).encode()).hexdigest()
        stamp = folder / "finished"
        if stamp.is_file() and stamp.read_text() == fingerprint:
            self.kept += 1
            return folder / "recipe.yaml", None
        self.made += 1
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text(text)
        return folder / "recipe.yaml", lambda: stamp.write_text(fingerprint)

    def _own_keys(self, arm):
        """The keys in which an arm differs from the common recipe."""

        def common(key):
            at = self.common
            for part in key.split("."):
                at = at.get(part) if isinstance(at, dict) else None
            return at

        return {key: value for key, value in arm.keys.items() if common(key) != value}

    def _shared(self, task):
        return self.folder / "tasks" / task

    def _prepare_held_out(self):
        """Tokens of both halves of all evaluation sets: the even rows tune, the odd ones report."""
        folder = self.folder / "held_out"
        sources = [{"path": str((folder / f"{name}.{half}.jsonl").relative_to(self.program.work)),
                    "name": f"{name}.{half}"}
                   for name in self.sets for half in ("tune", "test")]  # yapf: disable
        recipe, finish = self._write_recipe(folder, {"data.train": [], "data.eval": sources})
        if finish is None:
            return
        for name, path in self.held_out.items():
            rows = (self.program.work / path).read_text().splitlines(keepends=True)
            for start, half in enumerate(("tune", "test")):
                (folder / f"{name}.{half}.jsonl").write_text("".join(rows[start::2]))
        self.program.run(folder / "log.txt", "prepare", recipe)
        finish()

    def prepare(self, tasks):
        """Tokens and scores of these tasks, and tokens of all that is measured."""
        self._prepare_held_out()
        for task in tasks:
            folder = self._shared(task)
            recipe, finish = self._write_recipe(
                folder, {"data.train": [{"path": f"data/{task}.train.jsonl", "name": "train"}],
                         "data.eval": []})  # yapf: disable
            if finish is None:
                continue
            log = folder / "log.txt"
            self.program.run(log, "prepare", recipe)
            self.program.run(log, "score", recipe)
            finish()

    def _store(self, folder, name):
        path = (folder / "tokens" / f"{name}.tokens.h5").relative_to(self.program.work)
        return {"path": str(path), "format": "store", "name": name}

    def _measured(self, *more):
        """The evaluation sets of a run: the reported halves, and `more`."""
        names = [f"{name}.test" for name in self.sets] + list(more)
        return {"data.eval": [self._store(self.folder / "held_out", name) for name in names]}

    def config(self, task, arm, seed=0):
        """The expert config that an arm's selection gives for a task: {layer: [expert]}."""
        keys = self._own_keys(arm)
        folder = self.folder / "selections" / slug(f"{task} {arm_slug(keys)} {seed}")
        recipe, finish = self._write_recipe(folder, keys | {"esft.select.seed": seed})
        path = folder / "expert_config.json"
        if finish is not None:
            self.program.run(folder / "log.txt", "select", recipe, "--scores",
                             self._shared(task) / "scores.h5", "--out", path)
            finish()
        return path

    def base(self):
        """Losses and accuracies of the untouched base model."""
        return self.evaluate(None)

    def evaluate(self, mask):
        """The base model's, without the experts of the config `mask`."""
        name = "base" if mask is None else mask.parent.name
        folder = self.folder / "evaluations" / name
        keys = self._measured() | {"data.train": [], "train.threads": self._threads()}
        recipe, finish = self._write_recipe(folder, keys)
        path = folder / "evaluation.json"
        if finish is not None:
            masking = [] if mask is None else ["--mask", mask]
            found = self.program.json(folder / "log.txt", "eval", recipe, "--checkpoint", "none",
                                      *masking)
            path.write_text(json.dumps(found))
            finish()
        sets = json.loads(path.read_text())["base"]["sets"]
        return self._result(sets, tuning=0, trained=0, seconds=0)

    def _result(self, sets, **more):
        return Result({name: sets[f"{name}.test"]["loss"] for name in self.sets},
                      {name: sets[f"{name}.test"]["token_acc"] for name in self.sets}, **more)

    def _threads(self):
        return 1 if self.jobs > 1 else "auto"

    def train(self, task, arm, rate, seed):
        keys = self._own_keys(arm)
        name = slug(f"{task} {arm_slug(keys)}")
        folder = self.folder / "trainings" / name / f"lr{rate:g}-seed{seed}"
        keys |= self._measured(f"{task}.tune") | {
            "data.train": [self._store(self._shared(task), "train")],
            "train.seed": seed,
            "optim.lr": rate,
            "train.threads": self._threads()
        }
        if self.steps is not None:
            keys["schedule.steps"] = self.steps
        if arm.keys.get("train.method") != "full":
            config = self.config(task, arm, seed).relative_to(self.program.work)
            keys |= {"esft.config": str(config)}
        recipe, finish = self._write_recipe(folder, keys)
        path = folder / "result.json"
        if finish is not None:
            self.program.run(folder / "log.txt", "train", recipe)
            path.write_text(json.dumps(dataclasses.asdict(self._measure(folder, task))))
            # A study reads losses only; a hundred full checkpoints would fill a small disk.
            shutil.rmtree(folder / "checkpoints")
            finish()
        return Result(**json.loads(path.read_text()))

    def _measure(self, folder, task):
        final = evaluation(folder)
        manifest = next((folder / "checkpoints").glob("step-*/MANIFEST.json"))
        return self._result(final,
                            tuning=final[f"{task}.tune"]["loss"],
                            trained=json.loads(manifest.read_text())["parameters"],
                            seconds=training_seconds(folder))

    def in_parallel(self, calls):
        """[function] -> [result], `jobs` at a time, with a progress line for each tenth."""
        results = [None] * len(calls)
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            futures = {pool.submit(call): at for at, call in enumerate(calls)}
            try:
                for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
                    results[futures[future]] = future.result()
                    if done * 10 // len(calls) > (done - 1) * 10 // len(calls):
                        print(f"  {done} of {len(calls)} runs", flush=True)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return results

    def all_trainings(self, study):
        """{(task, arm name, rate, seed): Result} of the whole grid."""
        self.prepare(study.tasks)
        grid = [(task, arm, rate, seed) for seed in study.seeds for rate in study.learning_rates
                for arm in study.arms for task in study.tasks]  # yapf: disable
        # Selections first: two runs of a grid point's neighbours share one.
        for task, arm, _, seed in grid:
            if arm.keys.get("train.method") != "full":
                self.config(task, arm, seed)
        calls = [lambda point=point: self.train(*point) for point in grid]
        results = self.in_parallel(calls)
        return {(task, arm.name, rate, seed): result
                for (task, arm, rate, seed), result in zip(grid, results)}  # yapf: disable


def experts_of(config_file):
    """{(layer, expert)} of an expert config."""
    experts = json.loads(Path(config_file).read_text())["experts"]
    return {(int(layer), expert) for layer, ids in experts.items() for expert in ids}
