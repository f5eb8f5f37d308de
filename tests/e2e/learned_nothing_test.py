#!/usr/bin/env python3
"""A job that learned nothing says so: when it ends, and before anything is exported as learned.

  .venv/bin/python tests/e2e/learned_nothing_test.py build/sutor [-v] [Class.test]...
"""

import json
import sys
import tempfile
import unittest

import recipes

SUTOR = None  # set by main


class LearnedNothingTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-learned-")
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def run_recipe(self, *sets, job=None):
        job = job or self.folder.job()
        options = [word for key in sets for word in ("--set", key)]
        return job, self.folder.run(job, *options), options

    def verb(self, job, verb, *options):
        return self.folder.run(job, command=self.folder.command(*options, verb=verb))

    def check_error(self, result, code, *words):
        self.assertEqual(result.code, code, result)
        self.assertEqual(len(result.errors()), 1, result)
        for word in words:
            self.assertIn(word, result.errors()[0])


# Changes of bf16 weights that are this small are rounded away.
STILL = ("model.dtype=bf16", "optim.lr=1e-30", "optim.weight_decay=0", "eval.before_training=false",
         "schedule.steps=2")


class WeightsThatDidNotMove(LearnedNothingTest):
    def test_are_no_adapter_and_an_error_of_the_run(self):
        job, result, options = self.run_recipe(*STILL)
        self.check_error(result, 1, "E0104", "nothing was learned", "optim.lr 1e-30", "adapter")
        self.assertFalse((job / "run/export").exists())
        again = self.folder.run(job, *options)  # the training stands; what fails is the export
        self.check_error(again, 1, "E0104")
        self.assertIn("train", again.skipped)
        for formats in ("adapter", "merged,adapter"):
            self.check_error(self.verb(job, "export", "--format", formats, *options), 1, "E0104")
        merged = self.verb(job, "export", "--format", "merged", *options)
        self.assertEqual(merged.code, 0, merged)
        self.assertIn("warning[W0102]", merged.err)
        self.assertIn("nothing was learned", merged.err)

    def test_of_low_rank_pairs_are_no_adapter_either(self):
        _, result, _ = self.run_recipe(*STILL, "train.method=lora", "export.format=[peft]")
        self.check_error(result, 1, "E0104", "peft")

    def test_that_were_adapters_before_are_compared_with_those(self):
        job, result, _ = self.run_recipe("schedule.steps=2", "model.dtype=bf16")
        self.assertEqual(result.code, 0, result)
        adapter = job / "run/export/adapter"
        _, still, _ = self.run_recipe(*STILL, f"model.adapters=[{adapter}]")
        self.check_error(still, 1, "E0104", "nothing was learned")

    def test_are_told_at_the_end_of_the_training(self):
        job, result, _ = self.run_recipe(*STILL, "model.dtype=fp32", "optim.lr=1e-30")
        self.check_error(result, 1, "E0104")
        self.assertIn("trained tensors changed 0 of", result.out)
        self.assertIn("warning[W0703]: nothing was learned", result.out)


class ABaseThatNothingBeat(LearnedNothingTest):
    """Training on some tokens makes others, which alone are measured, less likely."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        rows = [list(range(first, first + 24)) for first in range(250, 450, 40)]
        cls.folder.write_rows("task", rows)
        job = cls.folder.job()
        cls.options = ["--set", "train.method=full", "--set", "optim.lr=0.05", "--set",
                       "eval.every=2"]
        cls.job, cls.result = job, cls.folder.run(job, *cls.options)

    def test_is_the_best_by_the_words_of_training_and_of_export(self):
        self.assertIn("no evaluation beat the base: task.loss", self.result.out)
        self.check_error(self.result, 1, "E0104", "task.loss", "--checkpoint latest",
                         "lower optim.lr")
        lines = recipes.lines_of(self.job / "run/eval.jsonl", ["loss"])
        for loss in (lines[0]["loss"], min(line["loss"] for line in lines[1:])):
            self.assertIn(f"{loss:.6f}", self.result.errors()[0])  # the base's, the best trained
        self.assertFalse((self.job / "run/export").exists())

    def test_is_not_passed_off_as_learned_by_a_second_start(self):
        self.check_error(self.folder.run(self.job, *self.options), 1, "E0104")

    def test_does_not_keep_who_asks_from_the_newest(self):
        job = self.folder.job(like=self.job)
        result = self.verb(job, "export", "--checkpoint", "latest", "--verify", *self.options)
        self.assertEqual(result.code, 0, result)

    def test_is_refused_as_best_by_generate(self):
        (self.job / "ids.json").write_text("[[3, 4, 5]]")
        result = self.verb(self.job, "generate", "--checkpoint", "best", "--ids", "ids.json",
                           "--out", "out.json", *self.options)
        self.check_error(result, 1, "E0104", "--checkpoint none")

    def test_is_compared_with_the_best_of_the_trained_by_eval(self):
        result = self.verb(self.job, "eval", "--json", *self.options)
        self.assertEqual(result.code, 0, result)
        self.assertIn("note: no evaluation beat the base", result.err)
        models = json.loads(result.out)
        self.assertGreater(models["trained"]["sets"]["task"]["loss"],
                           models["base"]["sets"]["task"]["loss"])

    def test_stands_after_a_training_that_was_resumed(self):
        job = self.folder.job()
        options = [*self.options, "--set", "checkpoint.every=1"]
        self.folder.run_and_kill(job, "saved step-00000003", *options)
        self.check_error(self.folder.run(job, *options), 1, "E0104", "no evaluation beat the base")


class WhatCannotLearn(LearnedNothingTest):
    def test_is_refused_before_training(self):
        for sets, code, words in (
                (("optim.lr=0",), 2, ("E0205", "optim.lr")),
                (("schedule.min_lr=1",), 2, ("E0205", "schedule.min_lr")),
                (("schedule.warmup=100000",), 2, ("E0205", "schedule.warmup", "100000")),
                (("train.method=full", "esft.keep_frozen=['.*']"), 3, ("E0315",))):
            with self.subTest(sets=sets):
                job, result, _ = self.run_recipe(*sets)
                self.check_error(result, code, *words)
                self.assertFalse((job / "run/checkpoints").exists())

    def test_is_warned_of_when_it_can_learn_a_little(self):
        for sets, words in ((("schedule.warmup=60",), ("W0106", "60 steps", "after 6")),
                            (("train.global_batch=100",), ("W0105", "100", "12 packs"))):
            with self.subTest(sets=sets):
                _, result, _ = self.run_recipe(*sets)
                for word in words:
                    self.assertIn(word, result.err)


if __name__ == "__main__":
    SUTOR = sys.argv.pop(1)
    unittest.main()
