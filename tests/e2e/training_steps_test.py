#!/usr/bin/env python3
"""Every step of a training learns from what the recipe names, and knobs of speed change none.

  .venv/bin/python tests/e2e/training_steps_test.py build/sutor [-v] [Class.test]...
"""

import json
import random
import sys
import tempfile
import unittest

import recipes

SUTOR = None  # set by main

RECIPE = """\
model: {{path: {model}, dtype: fp32}}
data: {{train: [{{path: {rows}}}], seq_len: 32, loss_on: all}}
esft: {{config: {config}}}
train: {{global_batch: 1, micro_batch: 1, threads: 1}}
optim: {{lr: 1e-3}}
schedule: {{name: constant, epochs: 1}}
log: {{tensorboard: false}}
output: run
"""


def row(length, targets, first=5):
    """A document of which only the last tokens are in the loss."""
    ids = list(range(first, first + length))
    return {"input_ids": ids, "labels": [-100] * (length - targets) + ids[length - targets:]}


class TrainingSteps(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-steps-")
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def prepare(self, rows, *sets, model="model"):
        """A job whose rows are prepared, with its recipe; `sets` hold for all that follows."""
        job = self.folder.job()
        (job / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        (job / "config.json").write_text(json.dumps(
            {"experts": {"1": [0, 2], "2": [3]}, "shared_experts": False,
             "non_expert_modules": False}))
        self.folder.recipe.write_text(RECIPE.format(
            model=self.folder.path / model, rows=job / "rows.jsonl", config=job / "config.json"))
        self.sets = [word for key in sets for word in ("--set", key)]
        self.prepared = self.verb(job, "prepare")
        self.assertEqual(self.prepared.code, 0, self.prepared)
        return job

    def verb(self, job, verb, *options):
        return self.folder.run(job, command=self.folder.command(*self.sets, *options, verb=verb))

    def train(self, job, *options):
        """(the lines of the steps, what was printed)."""
        result = self.verb(job, "train", *options)
        self.assertEqual(result.code, 0, result)
        lines = (job / "run/metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines], result


class AScheduleThatFalls(TrainingSteps):
    def rates(self, *sets):
        job = self.prepare([row(24, 20, first) for first in range(5, 13)], "train.global_batch=2",
                           "data.packing=false", *sets)
        lines, result = self.train(job)
        self.assertNotIn("W0703", result.out)
        return [line["lr"] for line in lines]

    def test_33_of_one_step_learns(self):
        for name in ("cosine", "linear"):
            self.assertEqual(self.rates(f"schedule.name={name}", "schedule.steps=1"), [1e-3])

    def test_33_has_no_step_without_a_rate(self):
        for name in ("cosine", "linear"):
            rates = self.rates(f"schedule.name={name}", "schedule.steps=4")
            self.assertGreater(rates[-1], 0)
            self.assertEqual(rates, sorted(rates, reverse=True))

    def test_of_epochs_ends_above_zero(self):
        rates = self.rates("schedule.name=linear", "schedule.epochs=2")  # of four steps each
        for rate, wanted in zip(rates, [1e-3 * left / 8 for left in range(8, 0, -1)]):
            self.assertAlmostEqual(rate, wanted, delta=1e-12)

    def test_behind_a_warm_up_begins_above_zero_too(self):
        rates = self.rates("schedule.name=cosine", "schedule.steps=4", "schedule.warmup=2")
        self.assertEqual(rates[:3], [0.5e-3, 1e-3, 1e-3])
        self.assertGreater(rates[3], 0)

    def test_goes_on_from_a_checkpoint_with_the_rates_of_the_whole(self):
        job = self.prepare([row(24, 20, first) for first in range(5, 13)], "train.global_batch=2",
                           "schedule.name=cosine", "data.packing=false")
        self.train(job, "--set", "schedule.steps=2")
        lines, _ = self.train(job, "--set", "schedule.steps=6", "--resume")
        self.assertEqual([line["step"] for line in lines], [1, 2, 3, 4, 5, 6])
        self.assertGreater(lines[-1]["lr"], 0)


class DocumentsWithoutATarget(TrainingSteps):
    LONG = [row(55, 10)] * 6 + [row(15, 5)]

    def losses(self, rows, *sets):
        job = self.prepare(rows, *sets)
        lines, result = self.train(job)
        for line in lines:
            self.assertGreater(line["loss"], 0)
            self.assertGreater(line["supervised_tokens"], 0)
            self.assertGreater(line["grad_norm"], 0)
        return lines, result.err

    def test_17_by_truncation_are_left_out_and_counted(self):
        lines, told = self.losses(self.LONG, "data.too_long=truncate", "data.packing=false")
        self.assertEqual(len(lines), 1)
        self.assertIn("warning[W0114]: 6 of 7 documents have no token in the loss", told)
        self.assertIn("6 of them lost it at data.seq_len 32", told)
        self.assertIn("truncation_side: left", told)
        self.assertIn("7 documents in 1 samples", self.prepared.out)

    def test_are_kept_where_their_ends_are_kept(self):
        lines, told = self.losses(self.LONG, "data.too_long=truncate", "data.packing=false",
                                  "data.truncation_side=left")
        self.assertEqual([line["tokens"] for line in lines].count(32), 6)
        self.assertEqual(sum(line["supervised_tokens"] for line in lines), 65)
        self.assertNotIn("W0114", told)
        self.assertIn("warning[W0115]: of 7 documents, 6 are longer than data.seq_len 32", told)

    def test_as_pieces_of_split_ones_are_left_out_too(self):
        lines, told = self.losses(self.LONG, "data.too_long=split", "data.packing=false")
        self.assertEqual(sum(line["supervised_tokens"] for line in lines), 65)
        self.assertEqual(len(lines), 7)
        self.assertIn("0 of 7 documents and 6 pieces of split ones", told)

    def test_from_the_rows_themselves_make_no_step(self):
        rows = [row(20, 0), row(20, 5), row(1, 1), row(20, 0, first=9), row(20, 7)]
        for packing in ("true", "false"):
            lines, told = self.losses(rows, f"data.packing={packing}")
            self.assertEqual(sum(line["supervised_tokens"] for line in lines), 12)
            self.assertIn("warning[W0114]: 3 of 5 documents", told)
            self.assertNotIn("lost it", told)

    def test_alone_are_refused(self):
        job = self.prepare([row(55, 10)] * 3, "data.too_long=truncate")
        result = self.verb(job, "train")
        self.assertEqual(result.code, 3, result)
        self.assertIn("E0334", result.err)
        self.assertIn("data.truncation_side", result.err)


class TheBalanceLoss(TrainingSteps):
    """Of the global batch alone, however it is divided."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        numbers = random.Random(3)
        cls.rows = [{"input_ids": [numbers.randrange(3, 200) for _ in range(length)]}
                    for length in (32, 7, 32, 19, 3, 32, 11, 25)]
        for name, family, keys in (
                ("seq", "deepseek_v2", {"seq_aux": True}),
                ("whole", "deepseek_v2", {"seq_aux": False}), ("silent", "deepseek_v3", {}),
                ("qwen", "qwen3_moe", {}), ("mixtral", "mixtral", {})):
            path = cls.folder.path / name
            made = cls.folder.run(cls.folder.path, command=[
                cls.folder.sutor, "init-model", "--family", family, "--out", str(path)])
            assert made.code == 0, made
            config = json.loads((path / "config.json").read_text())
            config.pop("seq_aux", None)
            (path / "config.json").write_text(json.dumps(config | keys))

    def norms(self, model, settings, over=None):
        """Gradient norm and balance loss of a step, by settings of equal meaning."""
        found = []
        for sets in settings:
            job = self.prepare(self.rows, "train.global_batch=8", "train.balance_loss=1.0",
                               "schedule.steps=1", "train.method=full",
                               *([f"train.balance_over={over}"] if over else []), *sets,
                               model=model)
            lines, result = self.train(job)
            self.told = [t for t in result.out.splitlines() if t.startswith("balance ")][0]
            found.append((lines[0]["grad_norm"], lines[0]["balance_loss"]))
        for norm, balance in found[1:]:
            self.assertAlmostEqual(norm / found[0][0], 1, delta=1e-5)
            self.assertAlmostEqual(balance / found[0][1], 1, delta=1e-6)
        return found[0]

    MICRO = [["data.packing=false", f"train.micro_batch={n}"] for n in (1, 3, 8)]

    def test_c02_is_a_mean_over_sequences_whatever_the_micro_batch(self):
        self.norms("seq", self.MICRO + [["data.packing=true"]])
        self.assertIn("a mean over sequences (seq_aux: true of config.json)", self.told)

    def test_over_the_batch_is_the_same_whatever_the_micro_batch(self):
        for model in ("whole", "qwen", "mixtral"):
            with self.subTest(model):
                self.norms(model, self.MICRO + [["data.packing=true", "train.micro_batch=2"]])
                self.assertIn("over the global batch", self.told)

    def test_is_what_the_recipe_says_where_it_says_it(self):
        a = self.norms("whole", self.MICRO[:2], over="sequences")
        b = self.norms("seq", self.MICRO[:1])
        self.assertAlmostEqual(a[0], b[0], delta=1e-6)
        c = self.norms("seq", self.MICRO[1:], over="batch")
        d = self.norms("whole", self.MICRO[:1])
        self.assertAlmostEqual(c[1], d[1], delta=1e-6)
        self.assertNotAlmostEqual(a[1], c[1], delta=1e-3)
        self.norms("silent", self.MICRO[:1])
        self.assertIn("a mean over sequences (seq_aux of deepseek_v3", self.told)

    def test_does_not_know_what_the_backward_pass_recomputes(self):
        for model in ("seq", "qwen"):
            self.norms(model, [["train.micro_batch=2", f"train.recompute={what}"]
                               for what in ("none", "layer", "attention")])


class Packs(TrainingSteps):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        numbers = random.Random(4)
        cls.rows = [{"input_ids": [numbers.randrange(3, 200) for _ in range(length)]}
                    for length in (32, 7, 32, 19, 3, 32, 11, 25, 30, 2, 5, 14)]

    def loss(self, *sets):
        job = self.prepare(self.rows, "train.global_batch=100", "schedule.steps=1", *sets)
        lines, result = self.train(job)
        return lines[0], result

    def test_lose_nothing_and_see_nothing_of_each_other(self):
        packed, _ = self.loss("data.packing=true")
        self.assertRegex(self.prepared.out, r"packing  12 documents in 7 packs.*packs of 32 tokens "
                                            r"are 94.6% full")
        for micro_batch in (1, 5):
            alone, _ = self.loss("data.packing=false", f"train.micro_batch={micro_batch}")
            self.assertAlmostEqual(packed["loss"], alone["loss"], delta=1e-6)
            self.assertAlmostEqual(packed["grad_norm"], alone["grad_norm"], delta=1e-6)
            self.assertEqual(packed["supervised_tokens"], alone["supervised_tokens"])

    def test_of_the_authors_are_one_sequence_each(self):
        joined, result = self.loss("data.packing=authors")
        packed, _ = self.loss("data.packing=true")
        self.assertGreater(abs(joined["loss"] - packed["loss"]), 1e-4)
        self.assertIn("first tokens dropped", result.out)
        self.assertIn("tokens lost by that", result.out)

    def test_of_other_kinds_are_refused_by_name(self):
        self.folder.recipe.write_text(RECIPE.format(model="m", rows="r", config="c"))
        self.sets = ["--set", "data.packing=random"]
        result = self.verb(self.folder.job(), "train")
        self.assertEqual(result.code, 2, result)
        self.assertIn("true, false or authors", result.err)


if __name__ == "__main__":
    SUTOR = sys.argv.pop(1)
    unittest.main()
