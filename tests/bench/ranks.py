#!/usr/bin/env python3
"""What a step costs on four ranks against one rank that does the same work.

  python3 tests/bench/ranks.py [--model-dir DIR] [--steps N] [--rounds N] [--check]
      [--family deepseek_v2|qwen3_moe] [--dtype fp32|bf16] [--packs N] [--tokens N]
      [--sutor PROGRAM]

needs pyyaml and mpiexec. Without --model-dir a small model with random weights is made
(`sutor init-model --size small`); its heads, key-value heads, layers and experts have to divide by
four. A sixth of the experts of every layer train. Each layout does the same steps, of --packs
packs of --tokens tokens, one thread a rank; on fewer than four cores ranks share them, so that a
perfect layout would cost 1/cores of one rank. The layouts take turns, --rounds times, so that a
machine whose load drifts treats them alike. A figure is the median over the steps of all rounds
but the first step of each run; `losses` tells whether the layouts trained the same numbers.
One JSON line at the end; --check ends with 1 when a layout costs more than 3 times one rank.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 3.0
LAYOUTS = {  # name -> (ranks, parallel section)
    "1 rank": (1, {}),
    "EP4": (4, {"ep": 4}),
    "TP4": (4, {"tp": 4}),
    "PP4": (4, {"pp": 4}),
    "DP4": (4, {}),
}


def run(command):
    """Runs a program; what it printed is shown when it fails."""
    done = subprocess.run([str(c) for c in command], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          env=dict(os.environ, OMP_NUM_THREADS="1", NO_COLOR="1"))
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}")


class Bench:

    def __init__(self, args, work):
        self.args, self.work = args, work
        self.seconds = {name: [] for name in LAYOUTS}
        self.losses = {}
        self.model = args.model_dir or self.make_model()
        self.recipe = self.write_recipe()
        run([args.sutor, "prepare", self.recipe])

    def make_model(self):
        folder = self.work / "model"
        sizes = ["--set", "num_hidden_layers=8"]
        if self.args.family == "qwen3_moe":
            sizes += ["--set", "num_key_value_heads=4"]
        run([self.args.sutor, "init-model", "--family", self.args.family, "--size", "small",
             "--dtype", self.args.dtype, "--out", folder, *sizes])
        return folder

    def write_recipe(self):
        config = json.loads((self.model / "config.json").read_text())
        experts = config.get("n_routed_experts") or config["num_experts"]
        first = config.get("first_k_dense_replace", 0)
        draw = random.Random(1)
        chosen = {str(layer): sorted(draw.sample(range(experts), max(1, experts // 6)))
                  for layer in range(first, config["num_hidden_layers"])}
        (self.work / "experts.json").write_text(json.dumps(
            {"experts": chosen, "shared_experts": False, "non_expert_modules": False}))
        with (self.work / "rows.jsonl").open("w") as file:
            for _ in range(self.args.packs):
                ids = [draw.randrange(config["vocab_size"]) for _ in range(self.args.tokens)]
                file.write(json.dumps({"input_ids": ids}) + "\n")
        path = self.work / "recipe.yaml"
        path.write_text(yaml.safe_dump({
            "model": {"path": str(self.model), "dtype": self.args.dtype},
            "data": {"train": [{"path": str(self.work / "rows.jsonl"), "name": "rows"}],
                     "packing": False, "loss_on": "all", "seq_len": self.args.tokens},
            "esft": {"config": str(self.work / "experts.json")},
            "optim": {"lr": 1e-4},
            "schedule": {"epochs": self.args.steps},
            "train": {"global_batch": self.args.packs, "micro_batch": 1, "threads": 1},
            "checkpoint": {"every": 0},
            "eval": {"every": 0, "before_training": False},
            "log": {"tensorboard": False},
            "output": str(self.work / "run"),
        }))
        return path

    def train(self, name):
        ranks, parallel = LAYOUTS[name]
        command = ["mpiexec", "-n", ranks] if ranks > 1 else []
        command += [self.args.sutor, "train", self.recipe, "--overwrite"]
        for key, value in parallel.items():
            command += ["--set", f"parallel.{key}={value}"]
        run(command)
        lines = [json.loads(line) for line in
                 (self.work / "run" / "metrics.jsonl").read_text().splitlines()]
        self.seconds[name] += [line["tokens"] / line["tokens_per_s"] for line in lines[1:]]
        self.losses[name] = [line["loss"] for line in lines]

    def report(self):
        one = statistics.median(self.seconds["1 rank"])
        found = {}
        print(f"{'':8} {'s/step':>8} {'lowest':>8} {'highest':>8} {'of 1 rank':>10} "
              f"{'tok/s':>8} {'losses':>8}")
        for name, seconds in self.seconds.items():
            median = statistics.median(seconds)
            off = max(abs(a / b - 1) for a, b in zip(self.losses[name], self.losses["1 rank"]))
            found[name] = {"s_per_step": median, "of_one_rank": median / one, "losses_differ": off}
            print(f"{name:8} {median:8.3f} {min(seconds):8.3f} {max(seconds):8.3f} "
                  f"{median / one:10.2f} {self.args.packs * self.args.tokens / median:8.0f} "
                  f"{off:8.0e}")
        print(json.dumps({"cores": len(os.sched_getaffinity(0)), "dtype": self.args.dtype,
                          "packs": self.args.packs, "tokens": self.args.tokens, "steps": found}))
        return all(values["of_one_rank"] <= LIMIT for values in found.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sutor", type=pathlib.Path, default=ROOT / "build" / "sutor")
    parser.add_argument("--model-dir", type=pathlib.Path, help="a model directory, instead of one "
                        "with random weights")
    parser.add_argument("--family", default="deepseek_v2", choices=["deepseek_v2", "qwen3_moe"])
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--steps", type=int, default=6,
                        help="of each run; the first is not counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--packs", type=int, default=8, help="a step")
    parser.add_argument("--tokens", type=int, default=128, help="a pack")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.steps < 2 or args.rounds < 1:
        parser.error("--steps must be at least 2, --rounds at least 1")
    args.sutor = args.sutor.resolve()
    work = pathlib.Path(tempfile.mkdtemp(prefix="sutor-ranks-"))
    try:
        bench = Bench(args, work)
        for _ in range(args.rounds):
            for name in LAYOUTS:
                bench.train(name)
        good = bench.report()
    finally:
        shutil.rmtree(work)
    if args.check and not good:
        sys.exit(f"a layout costs more than {LIMIT} times one rank")


if __name__ == "__main__":
    main()
