#!/usr/bin/env python3
"""Every verb that computes, for every family, on a device that is host memory (tests/support/
fake_device.h): training, resumption, scores, evaluation, completions and exports are those of the
CPU, byte for byte.

  .venv/bin/python tests/e2e/fake_device_test.py build/sutor build/sutor_fake_device [-v]
"""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

import recipes

MODELS = pathlib.Path(__file__).resolve().parents[1] / "golden" / "models"
SUTOR = FAKE = None  # set by main

RECIPE = """\
model: {{path: {model}, dtype: {dtype}}}
parallel: {{ep: {ep}}}
data:
  train: [{{path: {folder}/train.jsonl, name: train}}]
  eval: [{{path: {folder}/task.jsonl, name: task}}]
  seq_len: 64
  loss_on: all
esft: {{score: {{tokens: 200}}, select: {{method: token, top_p: 0.3}}}}
optim: {{lr: 1e-3, name: {optim}}}
schedule: {{name: constant, steps: 5}}
train: {{global_batch: 4, micro_batch: 2, threads: 1}}
checkpoint: {{every: 2, keep: 9}}
eval: {{every: 3, metrics: [loss, ppl, token_acc, exact_match]}}
generate: {{max_new_tokens: 8}}
export: {{format: [adapter, merged]}}
log: {{tensorboard: false}}
output: run
"""


def run(program, verb, *options, job, ranks=1):
    command = [program, verb, *options]
    if ranks > 1:
        command = ["mpiexec", "-n", str(ranks), *command]
    result = subprocess.run(command, cwd=job, capture_output=True, text=True, timeout=300,
                            env=dict(os.environ, OMP_NUM_THREADS="1", NO_COLOR="1"))
    if result.returncode != 0:
        raise AssertionError(f"{command}: exit {result.returncode}\n{result.stdout[-2000:]}"
                             f"\n{result.stderr[-3000:]}")
    return result.stdout


class FakeDevice(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="sutor-fake-")
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)

    def write_recipe(self, model, dtype, optim, ep):
        vocab = json.loads((model / "config.json").read_text())["vocab_size"]
        numbers = random.Random(5)
        for name, count in (("train", 20), ("task", 6)):
            rows = [[numbers.randrange(3, vocab) for _ in range(24)] for _ in range(count)]
            (self.folder / f"{name}.jsonl").write_text(
                "".join(json.dumps({"input_ids": row}) + "\n" for row in rows))
        (self.folder / "ids.json").write_text(json.dumps([[5, 9, 13], [4, 8, 15, 16, 23]]))
        recipe = self.folder / "recipe.yaml"
        recipe.write_text(RECIPE.format(model=model, folder=self.folder, dtype=dtype, optim=optim,
                                        ep=ep))
        return str(recipe)

    def all_verbs(self, program, name, recipe, ranks):
        job = self.folder / name
        job.mkdir()
        out = run(program, "run", recipe, job=job, ranks=ranks)
        self.assertIn("device   " + ("fake" if program == FAKE else "cpu"), out)
        run(program, "eval", recipe, "--json", job=job, ranks=ranks)
        run(program, "generate", recipe, "--ids", str(self.folder / "ids.json"), "--checkpoint",
            "latest", "--out", "ids.out.json", job=job, ranks=ranks)
        return job

    def check(self, model, dtype="fp32", optim="adamw", ranks=1):
        recipe = self.write_recipe(MODELS / model, dtype, optim, ranks)
        cpu = self.all_verbs(SUTOR, "cpu", recipe, ranks)
        fake = self.all_verbs(FAKE, "fake", recipe, ranks)
        self.assertEqual(recipes.differences(fake, cpu), [])
        self.assertEqual((fake / "ids.out.json").read_bytes(), (cpu / "ids.out.json").read_bytes())
        for key in ("metrics.jsonl", "eval.jsonl"):
            self.assertTrue((fake / "run" / key).read_text())
        # A training that the CPU began goes on there.
        resumed = self.folder / "resumed"
        shutil.copytree(cpu / "run", resumed / "run")
        checkpoints = resumed / "run" / "checkpoints"
        for later in ("step-00000004", "step-00000005"):
            shutil.rmtree(checkpoints / later)
        (checkpoints / "LATEST").write_text("step-00000002\n")
        run(FAKE, "train", recipe, "--resume", job=resumed, ranks=ranks)
        losses = [recipes.lines_of(job / "run" / "metrics.jsonl", ("step", "loss", "grad_norm"))
                  for job in (resumed, cpu)]
        self.assertEqual(*losses)
        last = pathlib.Path("run/checkpoints/step-00000005")
        for writer in sorted((cpu / last).glob("w*.h5")):
            self.assertEqual((resumed / last / writer.name).read_bytes(), writer.read_bytes())


def add_tests():
    for model in sorted(path.name for path in MODELS.iterdir() if path.is_dir()):
        def test(self, model=model):
            self.check(model)
        setattr(FakeDevice, f"test_every_verb_of_{model}_writes_what_the_cpu_writes", test)

    def bf16(self):
        self.check("qwen3_moe_gqa", dtype="bf16", optim="adamw_bf16")

    def two_ranks(self):
        self.check("deepseek_v2_lite", ranks=2)
    FakeDevice.test_bf16_without_masters_writes_what_the_cpu_writes = bf16
    FakeDevice.test_two_ranks_of_experts_write_what_the_cpu_writes = two_ranks


if __name__ == "__main__":
    SUTOR, FAKE = (str(pathlib.Path(path).resolve()) for path in sys.argv[1:3])
    del sys.argv[1:3]
    add_tests()
    unittest.main()
