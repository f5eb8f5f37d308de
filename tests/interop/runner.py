"""Runs of the program under time limits, recipes, and what a run leaves behind."""

import json
import os
import pathlib
import signal
import shutil
import subprocess

import pytest
import yaml


class Result:
    """What a run of the program left: exit code and everything that it printed."""

    def __init__(self, command, code, output):
        self.command, self.code, self.output = command, code, output

    def __str__(self):
        return f"$ {' '.join(map(str, self.command))}\n{self.output}\nexit code {self.code}"


class Program:
    """Runs sutor, with one process or under mpiexec, and never longer than it may."""

    def __init__(self, path):
        self.path = path
        self.prepared = {}  # what decides a token store -> the folder of one

    def run(self, *arguments, ranks=1, timeout=60, env=None, code=0):
        """Fails the test when the exit code is not `code` (None accepts any) or time runs out."""
        process = self.start(*arguments, ranks=ranks, env=env)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            stop(process)
            output, _ = process.communicate()
            pytest.fail(f"still running after {timeout} s: "
                        f"{Result(process.args, None, output)}")
        result = Result(process.args, process.returncode, output)
        if code is not None and process.returncode != code:
            pytest.fail(f"expected exit code {code}\n{result}")
        return result

    def start(self, *arguments, ranks=1, env=None, nice=0):
        """nice: behind how many others its processes are; who watches one to kill it is before."""
        launcher = ["mpiexec", "-n", str(ranks)] if ranks > 1 else []
        return subprocess.Popen(
            ["nice", "-n", str(nice)] + launcher + [str(self.path)] + [str(a) for a in arguments],
            text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=dict(os.environ, OMP_NUM_THREADS="1", NO_COLOR="1") | (env or {}))


def stop(process):
    """SIGKILLs a started program and everything that it started, ranks of a launcher too."""
    for pid in descendants(process.pid) + [process.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def descendants(pid):
    """Ids of all processes below `pid`: launchers put ranks into sessions of their own."""
    children = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it ended meanwhile
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


class Run:
    """A recipe with an output folder of its own.

    The data is one batch a step: every step sees all rows, so losses do not depend on their order.
    """

    def __init__(self, program, folder, directory, rows, config=None, steps=5, **sections):
        self.program = program
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.output = self.folder / "run"
        self.recipe = self.folder / "recipe.yaml"
        count = sum(1 for line in pathlib.Path(rows).read_text().splitlines() if line.strip())
        recipe = {
            "model": {"path": str(directory), "dtype": "fp32"},
            "parallel": {"ep": 1},
            "data": {"train": [{"path": str(rows), "name": "rows"}], "packing": False,
                     "loss_on": "all", "seq_len": 64},
            "esft": {},
            "optim": {"lr": 1e-3, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1,
                      "clip": 1.0},
            "schedule": {"name": "constant", "epochs": steps},
            "train": {"method": "esft", "global_batch": count, "micro_batch": 1, "threads": 1},
            "checkpoint": {"every": 0},
            "eval": {"every": 0, "before_training": False},
            "output": str(self.output),
        }
        if config is not None:
            path = self.folder / "expert_config.json"
            path.write_text(json.dumps(config))
            recipe["esft"]["config"] = str(path)
        for section, values in sections.items():
            recipe[section].update(values)
        self.recipe.write_text(yaml.safe_dump(recipe, sort_keys=False, default_flow_style=None))

    def set_section(self, section, values):
        """Adds keys to a section of the recipe."""
        recipe = yaml.safe_load(self.recipe.read_text())
        recipe.setdefault(section, {}).update(values)
        self.recipe.write_text(yaml.safe_dump(recipe, sort_keys=False, default_flow_style=None))

    def train_it(self, **options):
        self.train(**options)
        return self

    def prepare(self):
        """Makes the token store; one that the same rows gave before is copied, to save time."""
        recipe = yaml.safe_load(self.recipe.read_text())
        rows = pathlib.Path(recipe["data"]["train"][0]["path"]).read_text()
        model = pathlib.Path(recipe["model"]["path"])
        files = model if (model / "config.json").exists() else model / "files"  # a base store
        config = (files / "config.json").read_text()
        key = rows, config, *(str(recipe["data"][k]) for k in ("seq_len", "packing", "loss_on"))
        if "eval" in recipe["data"] or key not in self.program.prepared:
            self.program.run("prepare", self.recipe)
            self.program.prepared[key] = self.folder / "tokens"
            shutil.copytree(self.output / "tokens", self.folder / "tokens", dirs_exist_ok=True)
        else:
            shutil.copytree(self.program.prepared[key], self.output / "tokens")
        return self

    def train(self, *arguments, ranks=1, ep=1, code=0, timeout=90, env=None):
        """Trains with expert parallel size `ep`; the other ranks are replicas."""
        return self.program.run("train", self.recipe, "--set", f"parallel.ep={ep}", *arguments,
                                ranks=ranks, code=code, timeout=timeout, env=env)

    def metrics(self):
        return read_lines(self.output / "metrics.jsonl")

    def losses(self):
        return [line["loss"] for line in self.metrics()]

    def checkpoints(self):
        return sorted((self.output / "checkpoints").glob("step-*"))

    def export(self, *arguments):
        """Exports the newest checkpoint as adapter and merged model; returns both folders."""
        self.program.run("export", self.recipe, "--checkpoint", self.checkpoints()[-1],
                         "--format", "adapter,merged", "--verify", *arguments)
        return self.output / "export" / "adapter", self.output / "export" / "merged"


def layout_settings(parallel):
    """Command-line options for keys of the section `parallel`."""
    return [part for key, value in parallel.items()
            for part in ("--set", f"parallel.{key}={str(value).lower()}")]


def read_lines(path):
    """The objects of a JSONL file, in order."""
    return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]


def read_tensors(folder):
    """All tensors of a folder's safetensors files, by name."""
    from safetensors.torch import load_file
    tensors = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        tensors |= load_file(path)
    return tensors


def write_peft(folder, pairs, rank, alpha):
    """A LoRA adapter as peft would save it. pairs: {name of the weight: (A, B)}."""
    from safetensors.torch import save_file
    folder = pathlib.Path(folder)
    folder.mkdir()
    tensors, modules = {}, []
    for name, (a, b) in pairs.items():
        module = name.removesuffix(".weight")
        modules.append(module)
        tensors[f"base_model.model.{module}.lora_A.weight"] = a.contiguous()
        tensors[f"base_model.model.{module}.lora_B.weight"] = b.contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": modules,
        "bias": "none", "task_type": "CAUSAL_LM"}))


def write_ids(ids, path):
    path = pathlib.Path(path)
    path.write_text(json.dumps(ids.tolist()))
    return path


def write_rows(ids, path, labels=None):
    """Pre-tokenized rows, one JSON object a line."""
    path = pathlib.Path(path)
    with path.open("w") as file:
        for i, row in enumerate(ids.tolist()):
            item = {"input_ids": row}
            if labels is not None:
                item["labels"] = labels[i].tolist()
            file.write(json.dumps(item) + "\n")
    return path
