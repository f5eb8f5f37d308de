#!/usr/bin/env python3
"""A first day with the program: init, config, models, doctor, and a training of 200 rows that began
with init.

  .venv/bin/python tests/e2e/start_test.py build/sutor NO_FLOCK_LIBRARY [-v] [Class.test]...
"""

import errno
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import unittest

import tokenizers

SUTOR, NO_FLOCK = None, None  # set by main
SECONDS = 120
TEMPLATE = ("{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
            "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}")
NAMES = "Ada Ben Cleo Dora Emil Fay Gus Hana Ivo Jona".split()
THINGS = "apples books coins doors eggs forks".split()


class Result:
    def __init__(self, command, process):
        self.command = command
        self.code, self.out, self.err = process.returncode, process.stdout, process.stderr

    def __str__(self):
        return (f"$ {' '.join(self.command)}\nexit code {self.code}\n{self.out[-4000:]}\n"
                f"--- stderr\n{self.err[-3000:]}")


def conversations(count, seed):
    numbers = random.Random(seed)
    for _ in range(count):
        name, thing = numbers.choice(NAMES), numbers.choice(THINGS)
        some = numbers.randrange(2, 90)
        yield {"messages": [
            {"role": "user", "content": f"{name} has {some} {thing}. What does {name} have?"},
            {"role": "assistant", "content": f"{name} has {some} {thing}, and no more than that."}]}


class StartTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-start-")
        cls.folder = pathlib.Path(cls.temporary.name)
        for name, count in (("train", 200), ("held_out", 30), ("few", 4)):
            (cls.folder / f"{name}.jsonl").write_text(
                "".join(json.dumps(row) + "\n" for row in conversations(count, seed=count)))
        cls.make_model()

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    @classmethod
    def make_model(cls):
        """A tiny model with random weights, a tokenizer of these rows and a chat template."""
        trained = tokenizers.Tokenizer(tokenizers.models.BPE())
        trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        trained.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=400, show_progress=False,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<|end|>", "<|user|>", "<|assistant|>"])
        trained.train_from_iterator(
            [message["content"] for row in conversations(200, 200) for message in row["messages"]],
            trainer)
        trained.save(str(cls.folder / "tokenizer.json"))
        cls.sutor("init-model", "--family", "deepseek_v2", "--out", "model", "--tokenizer",
                  "tokenizer.json")
        (cls.folder / "model/tokenizer_config.json").write_text(json.dumps(
            {"eos_token": "<|end|>", "chat_template": TEMPLATE}))

    @classmethod
    def sutor(cls, *arguments, ranks=1, env=None, code=0):
        launcher = ["mpiexec", "-n", str(ranks)] if ranks > 1 else []
        command = [*launcher, SUTOR, *map(str, arguments)]
        result = Result(command, subprocess.run(
            command, cwd=cls.folder, text=True, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=SECONDS,
            env=dict(os.environ, OMP_NUM_THREADS="1", NO_COLOR="1") | (env or {})))
        if code is not None and result.code != code:
            raise AssertionError(f"expected exit code {code}: {result}")
        return result


class Init(StartTest):
    def test_two_hundred_rows_are_learned_or_it_is_said_why_not(self):
        said = self.sutor("init", "model", "--data", "train.jsonl", "--out", "my.yaml").out
        self.assertIn("200 (messages)", said)
        self.sutor("run", "my.yaml", "--set", "log.tensorboard=false")
        lines = [json.loads(line) for line in
                 (self.folder / "runs/my/eval.jsonl").read_text().splitlines()]
        losses = [line["loss"] for line in lines]
        self.assertEqual(lines[0]["step"], 0)
        self.assertLess(min(losses[1:]), losses[0] - 0.1, losses)
        steps = lines[-1]["step"]
        self.assertGreaterEqual(steps, 40)
        foreseen = int(re.search(r"([\d,]+) steps\.", said)[1].replace(",", ""))
        self.assertAlmostEqual(foreseen, steps, delta=0.15 * steps)

    def test_without_out_the_recipe_is_all_that_is_printed(self):
        result = self.sutor("init", "model", "--data", "train.jsonl", "--eval", "held_out.jsonl",
                            "--method", "lora", "--ranks", "2")
        (self.folder / "printed.yaml").write_text(result.out)
        values = self.values_of("printed.yaml")
        self.assertEqual(values["train.method"], "lora")
        self.assertEqual(values["data.eval[0].name"], "held_out")
        self.assertEqual(values["train.global_batch"] % 2, 0)
        self.assertIn("Rows: 200", result.err)

    def values_of(self, recipe):
        printed = json.loads(self.sutor("config", recipe, "--json").out)
        return {value["key"]: value["value"] for value in printed["values"]}

    def test_replaces_nothing(self):
        (self.folder / "there.yaml").write_text("mine")
        result = self.sutor("init", "model", "--data", "train.jsonl", "--out", "there.yaml", code=2)
        self.assertIn("E0220", result.err)
        self.assertEqual((self.folder / "there.yaml").read_text(), "mine")

    def test_few_rows_are_said_to_be_few(self):
        result = self.sutor("init", "model", "--data", "few.jsonl", "--out", "few.yaml")
        self.assertIn("note: the rows make", result.out)
        self.assertIn("eval: []", (self.folder / "few.yaml").read_text())

    def test_what_cannot_be_used_is_refused_and_leaves_nothing(self):
        (self.folder / "empty.jsonl").write_text("")
        (self.folder / "odd.jsonl").write_text('{"a": 1}\n')
        for code, word, arguments in (
                (2, "no model named", ["--data", "train.jsonl", "model"]),
                (2, "no rows named", ["model"]),
                (3, "E0300", ["nowhere", "--data", "train.jsonl"]),
                (3, "E0331", ["model", "--data", "nowhere.jsonl"]),
                (3, "E0334", ["model", "--data", "empty.jsonl"]),
                (3, "E0336", ["model", "--data", "odd.jsonl"]),
                (2, "--method qlora", ["model", "--data", "train.jsonl", "--method", "qlora"]),
                (3, "does not exist", ["model", "--data", "train.jsonl", "--out", "no/x.yaml"])):
            with self.subTest(arguments=arguments):
                out = [] if "--out" in arguments else ["--out", "bad.yaml"]
                result = self.sutor("init", *arguments, *out, code=code)
                self.assertIn(word, result.err)
                self.assertFalse((self.folder / "bad.yaml").exists())


class Config(StartTest):
    def test_says_origins_and_what_the_model_decides(self):
        (self.folder / "my.yaml").write_text(
            "model: {path: model}\ndata: {train: [{path: train.jsonl}]}\noutput: o\n")
        printed = json.loads(
            self.sutor("config", "my.yaml", "--set", "optim.lr=2e-3", "--json").out)
        origins = {value["key"]: value["origin"] for value in printed["values"]}
        self.assertEqual(origins["model.path"], "my.yaml:1:15")
        self.assertEqual(origins["optim.lr"], "--set optim.lr")
        self.assertEqual(origins["optim.clip"], "default")
        model = {value["key"]: value for value in printed["model"]["values"]}
        self.assertEqual(model["routed_scaling_factor"]["value"], 1.0)
        text = self.sutor("config", "my.yaml").out
        self.assertIn("# What config.json of model (deepseek_v2) decides in this run:", text)

    def test_reference_has_every_key(self):
        keys = {entry["key"]: entry for entry in
                json.loads(self.sutor("config", "--reference", "--json").out)}
        self.assertEqual(set(keys["optim.lr"]), {"key", "type", "default", "unit", "meaning"})
        self.assertEqual(keys["train.method"]["type"], "one of esft, full, lora")
        self.assertGreater(len(keys), 90)
        self.sutor("config", "my.yaml", "--reference", code=2)


class Models(StartTest):
    def test_lists_families_and_proofs(self):
        self.assertIn("Qwen3-30B-A3B", self.sutor("models").out)
        one = json.loads(self.sutor("models", "qwen3-30b-a3b", "--json").out)
        self.assertEqual(one["family"], "qwen3_moe")
        self.assertTrue(one["compared_with_transformers"])
        self.assertIn("did you mean", self.sutor("models", "qwen9", code=2).err)


class Doctor(StartTest):
    def doctor(self, *options, ranks=1, env=None, code=0):
        result = self.sutor("doctor", "--out", "runs/x", "--json", *options, ranks=ranks, env=env,
                            code=code)
        report = json.loads(result.out)
        self.assertEqual(report["works"], code == 0, result)
        return report["checks"]

    def grades(self, checks, name):
        return [check for check in checks if check["check"] == name]

    def check_failed(self, checks, name, *words):
        failed = [check for check in checks if check["grade"] == "FAILED"]
        self.assertEqual([check["check"] for check in failed], [name], failed)
        for word in words:
            self.assertIn(word, failed[0]["text"])
        self.assertTrue(failed[0]["remedy"])

    def test_all_works_alone_and_over_two_ranks(self):
        alone = {check["check"] for check in self.doctor()}
        self.assertLessEqual({"build", "LibTorch", "MPI", "HDF5", "CPU", "launcher", "ranks",
                              "Python steps", "folder", "space", "locks", "disk rate",
                              "HDF5 file"}, alone)
        two = self.doctor(ranks=2)
        names = {check["check"] for check in two}
        self.assertLessEqual({"MPI round trip", "shared folder"}, names)
        self.assertIn("2, as started", self.grades(two, "ranks")[0]["text"])
        self.assertFalse((self.folder / "runs").exists() and any(
            path.name.startswith(".") for path in (self.folder / "runs").iterdir()))
        self.assertIn("all works", self.sutor("doctor").out)

    def test_ranks_that_do_not_find_each_other_are_told(self):
        checks = self.doctor(env={"SLURM_NTASKS": "16"}, code=1)
        self.check_failed(checks, "ranks", "SLURM_NTASKS is 16")
        step = {"SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}
        self.check_failed(self.doctor(env=step, code=1), "ranks", "E0240", "--mpi=pmi2")
        other = self.sutor("doctor", env=step | {"SLURM_PROCID": "1"}, code=1)
        self.assertEqual(other.out + other.err, "")  # one speaks for all

    def test_a_python_without_packages_is_told(self):
        python = self.folder / "bare-python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
        python.chmod(0o755)
        checks = self.doctor(env={"SUTOR_PYTHON": str(python)}, code=1)
        self.check_failed(checks, "Python steps", "lacks tokenizers")
        checks = self.doctor(env={"SUTOR_PYTHON": "/nowhere/python"}, code=1)
        self.check_failed(checks, "Python steps", "E0232")

    def test_a_folder_that_cannot_be_written_is_told(self):
        checks = json.loads(self.sutor("doctor", "--out", "/proc", "--json", code=1).out)["checks"]
        self.check_failed(checks, "folder", "/proc")

    def test_a_file_system_without_flock_is_a_note(self):
        checks = self.doctor(env={"LD_PRELOAD": NO_FLOCK, "NO_FLOCK_ERRNO": str(errno.ENOLCK)})
        note = self.grades(checks, "file system")[0]
        self.assertEqual(note["grade"], "note")
        self.assertIn("flock", note["text"])
        self.assertEqual(self.grades(checks, "locks")[0]["grade"], "ok")  # by a lease


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    SUTOR, NO_FLOCK = (str(pathlib.Path(sys.argv.pop(1)).resolve()) for _ in range(2))
    unittest.main()
