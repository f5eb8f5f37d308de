#!/usr/bin/env python3
"""What score and train say of the routed experts: counts, shares, drift, and whether a sample was
large enough. Equal at every layout, and equal to each other where the tokens are.

  .venv/bin/python tests/e2e/experts_test.py build/sutor [-v] [Class.test]...
"""

import json
import random
import re
import struct
import sys
import tempfile
import unittest

import h5py

import recipes

SUTOR = None  # set by main

RECIPE = """\
model: {{path: {model}, dtype: fp32}}
data: {{train: [{{path: {rows}}}], seq_len: 32, loss_on: all}}
esft: {{config: {config}, score: {{tokens: -1}}}}
train: {{global_batch: 64, micro_batch: 3, threads: 1}}
optim: {{lr: 1e-3}}
schedule: {{name: constant, steps: 1}}
eval: {{every: 0}}
log: {{tensorboard: false, experts: detailed}}
output: run
"""
# Layouts whose ranks each route a part of the tokens, and what computes layers a second time.
LAYOUTS = {
    "recompute": (1, ["train.recompute=layer"]),
    "EP2": (2, ["parallel.ep=2"]),
    "PP2": (2, ["parallel.pp=2"]),
    "DP2": (2, []),
    "TP2": (2, ["parallel.tp=2"]),
    "CP2": (2, ["parallel.cp=2"]),
}


def rows_of(count, seed=5, low=3, high=200):
    numbers = random.Random(seed)
    return [{"input_ids": [numbers.randrange(low, high) for _ in range(numbers.randrange(9, 32))]}
            for _ in range(count)]


class Experts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-experts-")
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def job(self, rows, config=None, model="model", like=None):
        job = self.folder.job(like)
        (job / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (job / "config.json").write_text(json.dumps(
            {"experts": config or {"1": [0, 2], "2": [3]}, "shared_experts": False,
             "non_expert_modules": False}))
        self.folder.recipe.write_text(RECIPE.format(
            model=self.folder.path / model, rows=job / "rows.jsonl", config=job / "config.json"))
        return job

    def verb(self, job, verb, *sets, ranks=1, options=()):
        command = self.folder.command(*[word for key in sets for word in ("--set", key)], *options,
                                      verb=verb)
        if ranks > 1:
            command = ["mpiexec", "-n", str(ranks), *command]
        result = self.folder.run(job, command=command)
        self.assertEqual(result.code, 0, result)
        return result

    def metrics(self, job):
        return [json.loads(line)
                for line in (job / "run/metrics.jsonl").read_text().splitlines()]


class Counts(Experts):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rows = rows_of(40)

    def scored(self, job):
        """{layer: (counts, gate sums)} of scores.h5."""
        with h5py.File(job / "run/scores.h5") as file:
            return {int(layer): (group["counts"][:].tolist(), group["gate_sums"][:].tolist())
                    for layer, group in file["layers"].items()}

    def test_of_the_first_step_are_those_of_scoring_the_same_tokens_at_every_layout(self):
        job = self.job(self.rows)
        self.verb(job, "prepare")
        self.verb(job, "score")
        wanted = self.scored(job)
        config = json.loads((job / "config.json").read_text())["experts"]
        for name, (ranks, sets) in {"one process": (1, []), **LAYOUTS}.items():
            with self.subTest(name):
                result = self.verb(job, "train", *sets, ranks=ranks, options=["--overwrite"])
                (line, ) = self.metrics(job)
                found = line["experts"]
                self.assertEqual({layer["layer"]: layer["counts"] for layer in found["layers"]},
                                 {layer: counts for layer, (counts, _) in wanted.items()})
                self.assertEqual(found["dead"], sum(
                    count == 0 for counts, _ in wanted.values() for count in counts))
                trained = {int(layer): ids for layer, ids in config.items()}
                for key, which in (("share", 0), ("gate_share", 1)):
                    of = sum(wanted[layer][which][i] for layer, ids in trained.items()
                             for i in ids)
                    share = of / sum(sum(wanted[layer][which]) for layer in trained)
                    # Weights of other layouts may differ in their last bits, choices do not.
                    self.assertAlmostEqual(found[key], share, delta=1e-6 if which else 1e-15)
                    self.assertAlmostEqual(found[f"{key}_at_scoring"], share, delta=1e-15)
                self.assertRegex(result.out,
                                 r"\| load \d+\.\d \(L\d+:e\d+\) dead \d+ share (\d+)% "
                                 r"\(was \1%\)")

    def test_go_on_after_a_resume_as_if_nothing_had_happened(self):
        job = self.job(self.rows)
        self.verb(job, "prepare")
        sets = ["train.global_batch=8", "log.experts=brief"]
        self.verb(job, "train", *sets, "schedule.steps=6")
        whole = self.metrics(job)
        self.verb(job, "train", *sets, "schedule.steps=3", options=["--overwrite"])
        self.verb(job, "train", *sets, "schedule.steps=6", options=["--resume"])
        again = self.metrics(job)
        self.assertEqual([line["experts"] for line in again], [line["experts"] for line in whole])
        self.assertNotIn("layers", whole[0]["experts"])
        self.assertNotIn("share_at_scoring", whole[0]["experts"])  # nothing was scored

    def test_are_of_the_steps_that_are_logged_and_of_none_when_nobody_asks(self):
        job = self.job(self.rows)
        self.verb(job, "prepare")
        sets = ["train.global_batch=8", "schedule.steps=5"]
        self.verb(job, "train", *sets, "log.every=2")
        self.assertEqual([line["step"] for line in self.metrics(job) if "experts" in line],
                         [2, 4, 5])
        losses = [line["loss"] for line in self.metrics(job)]
        result = self.verb(job, "train", *sets, "log.experts=none", options=["--overwrite"])
        self.assertFalse(any("experts" in line for line in self.metrics(job)))
        self.assertNotIn("| load ", result.out)
        self.assertEqual([line["loss"] for line in self.metrics(job)], losses)

    def test_are_in_tensorboard_with_a_picture(self):
        job = self.job(self.rows)
        self.verb(job, "prepare")
        self.verb(job, "train", "log.tensorboard=true")
        (events, ) = (job / "run/tensorboard").iterdir()
        data, at, found = events.read_bytes(), 0, b""
        while at < len(data):  # frames of length, checksum, event, checksum
            (length, ) = struct.unpack_from("<Q", data, at)
            found += data[at + 12:at + 12 + length]
            at += 12 + length + 4
        for tag in (b"experts/load_max_over_mean", b"experts/dead", b"experts/share",
                    b"experts/load", b"\x89PNG\r\n\x1a\n"):
            self.assertIn(tag, found)


class Drift(Experts):
    def test_is_told_when_other_rows_train_than_were_scored(self):
        """One token all the time: its experts are chosen, and then another token trains."""
        job = self.job([{"input_ids": [7] * 20}] * 12)
        self.verb(job, "prepare")
        self.verb(job, "score")
        with h5py.File(job / "run/scores.h5") as file:
            config = {layer: [int(group["counts"][:].argmax())]
                      for layer, group in file["layers"].items()}
        other = self.job([{"input_ids": [n] * 20} for n in range(50, 62)], config, like=job)
        self.verb(other, "prepare")
        result = self.verb(other, "train", "train.global_batch=4", "schedule.steps=40",
                           "optim.lr=1e-7", "log.experts=brief")
        told = [line for line in result.err.splitlines() if "W0307" in line]
        self.assertEqual(len(told), 1, result)
        self.assertRegex(told[0], r"fell from [\d.]+% at scoring to [\d.]+% now "
                         r"\(layers? [\d, ]+\)")
        last = self.metrics(other)[-1]["experts"]
        self.assertLess(last["share"], 0.75 * last["share_at_scoring"])
        self.assertTrue(last["drifted_layers"])

    def test_is_not_told_of_the_rows_that_were_scored(self):
        job = self.job(rows_of(40))
        self.verb(job, "prepare")
        self.verb(job, "score")
        result = self.verb(job, "train", "train.global_batch=8", "schedule.steps=25",
                           "log.experts=brief")
        self.assertNotIn("W0307", result.err)
        self.assertEqual(self.metrics(job)[-1]["experts"]["drifted_layers"], [])


class Verdicts(Experts):
    def test_are_the_same_bytes_at_every_layout(self):
        job = self.job(rows_of(40))
        self.verb(job, "prepare")
        found = []
        for sets, ranks in (([], 1), (["parallel.ep=2"], 2), ([], 2), (["parallel.pp=2"], 2)):
            result = self.verb(job, "score", *sets, ranks=ranks)
            said = [line for line in (result.out + result.err).splitlines()
                    if re.match(r"(halves|dead|hot|warning\[W030)", line)]
            found.append(((job / "run/scores.h5").read_bytes(), said))
        for other in found[1:]:
            self.assertEqual(other, found[0])

    def test_of_halves_are_of_whole_documents_near_the_middle(self):
        rows = rows_of(40)
        job = self.job(rows)
        self.verb(job, "prepare")
        result = self.verb(job, "score")
        with h5py.File(job / "run/scores.h5") as file:
            group = next(iter(file["layers"].values()))
            first, whole = group.attrs["first_half_tokens"], group.attrs["tokens"]
            self.assertEqual(group["first_half_counts"][:].sum(), first * file.attrs["top_k"])
        self.assertEqual(whole, sum(len(row["input_ids"]) for row in rows))
        self.assertLess(abs(2 * first - whole), 32)  # less than a document
        self.assertRegex(result.out, r"(?m)^halves   either half of the sample selects "
                         r"\(token, top_p 0.2\) \d+% of what the other does, least in layer \d+")
        shown = self.folder.run(job, command=[self.folder.sutor, "inspect", "run/scores.h5",
                                              "--json"])
        self.assertEqual(shown.code, 0, shown)
        told = json.loads(shown.out)["halves_agree_by_token"]
        self.assertEqual(told["first_half_tokens"], first)
        self.assertEqual(f"{100 * told['overlap']:.0f}%",
                         re.search(r"top_p 0.2\) (\d+%)", result.out)[1])

    def test_warn_of_a_sample_that_is_too_small(self):
        job = self.job(rows_of(40))
        self.verb(job, "prepare")
        small = self.verb(job, "score", "esft.score.tokens=40")
        self.assertRegex(small.err, r"warning\[W0309\]: .*Raise esft.score.tokens \(now 40\)")
        same = self.job([{"input_ids": [7, 8, 9] * 5}] * 30)
        self.verb(same, "prepare")
        result = self.verb(same, "score")
        self.assertIn("100% of what the other does", result.out)
        self.assertNotIn("W0309", result.err)

    def test_warn_of_few_large_experts(self):
        made = self.folder.run(self.folder.path, command=[
            self.folder.sutor, "init-model", "--family", "mixtral", "--out",
            str(self.folder.path / "coarse")])
        self.assertEqual(made.code, 0, made)
        job = self.job(rows_of(20), model="coarse")
        self.verb(job, "prepare")
        result = self.verb(job, "score")
        self.assertNotIn("W0308", result.err)  # it trains what a ready config names
        self.folder.recipe.write_text(
            self.folder.recipe.read_text().replace(f"config: {job / 'config.json'}, ", ""))
        result = self.verb(job, "score")
        self.assertRegex(result.err, r"warning\[W0308\]: this model has \d+ large experts a layer: "
                         r"the selection \(token, top_p 0.2\) would train \d+ of \d+ experts, "
                         r"[\d.]+% of all parameters")


if __name__ == "__main__":
    SUTOR = sys.argv.pop(1)
    unittest.main()
