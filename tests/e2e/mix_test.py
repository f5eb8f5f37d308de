#!/usr/bin/env python3
"""Several training sets: the loss of each is that of its own documents on every layout, a training
goes on with the same samples on any number of ranks, and rows are held out of each set.

  .venv/bin/python tests/e2e/mix_test.py build/sutor [-v] [Class.test]
"""

import json
import math
import pathlib
import random
import sys
import tempfile
import unittest

import recipes

SUTOR = None  # set by main
LENGTHS = {"law": (60, 6, 30), "chat": (20, 4, 12), "names": (7, 2, 6)}  # rows, tokens from, to

RECIPE = """\
model: {{path: {folder}/model, dtype: fp32}}
data:
  train:
    - {{path: {folder}/law.jsonl}}
    - {{path: {folder}/chat.jsonl}}
    - {{path: {folder}/names.jsonl}}
  seq_len: 64
  loss_on: all
esft: {{config: {folder}/experts.json}}
optim: {{lr: 1e-3}}
schedule: {{name: constant, steps: 8}}
train: {{global_batch: 5, micro_batch: 2, threads: 1}}
checkpoint: {{every: 1, keep: 20}}
eval: {{every: 0, before_training: false}}
log: {{tensorboard: false}}
output: run
"""
MIX = ("--set", "data.train[0].weight=1", "--set", "data.train[1].weight=3",
       "--set", "data.train[2].epochs=2.5")


class MixTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-mix-")
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)
        numbers = random.Random(7)
        for name, (count, least, most) in LENGTHS.items():
            cls.folder.write_rows(name, [[numbers.randrange(3, 200)
                                          for _ in range(numbers.randrange(least, most))]
                                         for _ in range(count)])
        (cls.folder.path / "experts.json").write_text(json.dumps(
            {"experts": {"1": [0, 2], "2": [1]}, "shared_experts": False,
             "non_expert_modules": False}))
        cls.folder.recipe.write_text(RECIPE.format(folder=cls.folder.path))
        cls.prepared = cls.folder.job()
        cls.verb(cls.prepared, "prepare")

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    @classmethod
    def verb(cls, job, verb, *options, ranks=1, code=0):
        launcher = ["mpiexec", "-n", str(ranks)] if ranks > 1 else []
        result = cls.folder.run(job, command=launcher + cls.folder.command(*options, verb=verb))
        assert result.code == code, result
        return result

    def train(self, *options, like=None, ranks=1):
        job = self.folder.job(like=like or self.prepared)
        result = self.verb(job, "train", *options, ranks=ranks)
        return job, result

    def metrics(self, job, name="metrics.jsonl"):
        return [json.loads(line) for line in (job / "run" / name).read_text().splitlines()]

    def assert_same_steps(self, found, wanted):
        """The same targets of every set, and the losses within 1e-5."""
        self.assertEqual(len(found), len(wanted))
        for a, b in zip(found, wanted):
            self.assertEqual({name: of["supervised_tokens"] for name, of in a["sources"].items()},
                             {name: of["supervised_tokens"] for name, of in b["sources"].items()})
            self.assertEqual((a["tokens"], a["epoch"]), (b["tokens"], b["epoch"]))
            pairs = [(a["loss"], b["loss"])]
            pairs += [(of.get("loss", 0), b["sources"][name].get("loss", 0))
                      for name, of in a["sources"].items()]
            for one, other in pairs:
                self.assertTrue(math.isclose(one, other, rel_tol=1e-5), (a, b))


class Losses(MixTest):
    def test_the_loss_of_each_set_is_that_of_an_evaluation_of_its_rows(self):
        sets = ", ".join(f"{{path: {self.folder.path}/{name}.jsonl, name: all-{name}}}"
                         for name in LENGTHS)
        options = ("--set", "schedule.steps=1", "--set", f"data.eval=[{sets}]",
                   "--set", "eval.before_training=true", "--set", "train.global_batch=1000")
        job = self.folder.job(like=self.prepared)
        self.verb(job, "prepare", *options)
        for packing in ("true", "false"):
            with self.subTest(packing=packing):
                done, result = self.train(*options, "--set", f"data.packing={packing}", like=job)
                before = {row["set"]: row for row in self.metrics(done, "eval.jsonl")
                          if row["step"] == 0}
                [step] = self.metrics(done)
                targets, total = 0, 0.0
                for name, of in step["sources"].items():
                    row = before[f"all-{name}"]
                    self.assertEqual(of["supervised_tokens"], row["tokens"])
                    self.assertTrue(math.isclose(of["loss"], row["loss"], rel_tol=1e-6), (of, row))
                    targets += of["supervised_tokens"]
                    total += of["supervised_tokens"] * of["loss"]
                self.assertEqual(targets, step["supervised_tokens"])
                self.assertTrue(math.isclose(total / targets, step["loss"], rel_tol=1e-9))
                self.assertRegex(result.out, r"step 1/1 \| epoch \d\.\d\d \| loss \d\.\d{4} "
                                             r"\(law \d\.\d{4}, chat ")

    def test_one_set_alone_has_no_second_loss(self):
        job, result = self.train("--set", f"data.train=[{{path: {self.folder.path}/law.jsonl}}]")
        self.assertTrue(all("sources" not in row for row in self.metrics(job)))
        self.assertNotIn("(law", result.out)

    def test_every_layout_says_the_same_losses_of_the_same_targets(self):
        alone = self.metrics(self.train(*MIX)[0])
        self.assertTrue(any(len(row["sources"]) == 3 for row in alone))
        for axis in ("tp", "cp", "pp", "ep", None):
            with self.subTest(axis=axis or "dp"):
                layout = ("--set", f"parallel.{axis}=2") if axis else ()
                self.assert_same_steps(self.metrics(self.train(*MIX, *layout, ranks=2)[0]), alone)


class Order(MixTest):
    def test_the_banner_says_what_an_epoch_takes_of_each_set(self):
        _, result = self.train(*MIX)
        for words in ("law             20 documents an epoch (weight 1)",
                      "chat            60 documents an epoch (weight 3)",
                      "names           18 documents an epoch (epochs 2.5)"):
            self.assertIn(words, result.out)

    def test_epochs_of_one_train_as_without_the_key(self):
        plain, _ = self.train()
        once, _ = self.train("--set", "data.train[1].epochs=1")
        self.assertEqual(recipes.differences(plain, once), [])
        mixed, _ = self.train(*MIX)
        self.assertNotEqual(self.metrics(plain)[0]["loss"], self.metrics(mixed)[0]["loss"])

    def test_a_training_resumed_on_other_ranks_sees_the_same_samples(self):
        for mix in ((), MIX):
            with self.subTest(mix=mix):
                whole = self.metrics(self.train(*mix)[0])
                job, seen = self.prepared, []
                for ranks, steps, micro_batch in ((1, 2, 2), (2, 4, 1), (4, 5, 3), (1, 8, 5)):
                    options = ("--set", f"schedule.steps={steps}", "--resume",
                               "--set", f"train.micro_batch={micro_batch}")
                    job, _ = self.train(*mix, *options, like=job, ranks=ranks)
                    seen = self.metrics(job)
                self.assert_same_steps(seen, whole)
                self.assertGreater(whole[-1]["epoch"], 0 if mix else -1)

    def test_another_mix_is_another_training(self):
        job, _ = self.train(*MIX)
        other = (*MIX, "--set", "data.train[1].weight=4", "--resume")
        result = self.verb(job, "train", *other, code=2)
        self.assertIn("E0221", result.err)
        self.assertIn("chat auto weight 4", result.err)

    def test_scores_of_another_mix_are_made_anew(self):
        job = self.folder.job(like=self.prepared)
        self.verb(job, "score")
        self.verb(job, "select")
        result = self.verb(job, "select", *MIX, code=2)
        self.assertIn("E0224", result.err)
        self.assertIn("the mix was each once, is law weight 1", result.err)
        self.verb(job, "score", *MIX)
        self.verb(job, "select", *MIX)


class HeldOut(MixTest):
    EVAL = ("--set", "data.eval=40%", "--set", "eval.every=4")

    def test_the_rows_held_out_of_each_set_are_evaluated_alone_and_together(self):
        job = self.folder.job()
        self.verb(job, "run", *self.EVAL)
        rows = {row["set"]: row for row in self.metrics(job, "eval.jsonl") if row["step"] == 8}
        self.assertEqual(set(rows), {"law-held-out", "chat-held-out", "names-held-out", "held-out"})
        together = rows.pop("held-out")
        targets = sum(row["tokens"] for row in rows.values())
        self.assertEqual(together["tokens"], targets)
        mean = sum(row["tokens"] * row["loss"] for row in rows.values()) / targets
        self.assertTrue(math.isclose(together["loss"], mean, rel_tol=1e-9))
        self.assertTrue(math.isclose(together["ppl"], math.exp(mean), rel_tol=1e-9))
        state = (job / "run" / "checkpoints" / "BEST")
        self.assertTrue(state.exists())

    def test_another_share_makes_the_tokens_anew(self):
        job = self.folder.job()
        self.verb(job, "prepare", *self.EVAL)
        result = self.verb(job, "train", "--set", "data.eval=30%", code=2)
        self.assertIn("E0224", result.err)
        self.assertIn("the share of law in data.eval was 0.4, is 0.3", result.err)
        result = self.verb(job, "train", code=2)  # nothing held out
        self.assertIn("the share of law in data.eval was 0.4, is none", result.err)
        self.verb(job, "prepare", "--set", "data.eval=30%")
        self.verb(job, "train", "--set", "data.eval=30%")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    SUTOR = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
