#!/usr/bin/env python3
"""`sutor run` from end to end: what is done, skipped and done again, after changes, kills and
losses, by one rank and by two.

  .venv/bin/python tests/e2e/run_test.py build/sutor [-v] [Class.test]...
"""

import json
import pathlib
import random
import re
import shutil
import sys
import tempfile
import unittest

import recipes
from recipes import STEPS

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fault"))
import jobs  # noqa: E402

SUTOR = None  # set by main


class RunTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-e2e-")
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)
        cls.whole = cls.folder.job()  # an undisturbed run
        cls.first = cls.folder.run(cls.whole)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def check_did(self, result, steps, code=0):
        self.assertEqual(result.code, code, result)
        self.assertEqual(result.done, steps, result)

    def check_same(self, job, other=None):
        self.assertEqual(recipes.differences(job, other or self.whole), [])


class Starts(RunTest):
    def test_a_fresh_run_does_every_step(self):
        self.check_did(self.first, STEPS)
        self.assertEqual(self.first.skipped, [])
        self.assertEqual(sorted(recipes.ledger(self.whole)), sorted(STEPS))
        self.assertEqual(len(recipes.results(self.whole)["metrics"]), 6)

    def test_another_run_makes_the_same_files(self):
        job = self.folder.job()
        self.check_did(self.folder.run(job), STEPS)
        self.check_same(job)

    def test_a_second_start_skips_all_and_touches_nothing(self):
        before = recipes.tree(self.whole)
        result = self.folder.run(self.whole)
        self.check_did(result, [])
        self.assertEqual(result.skipped, STEPS)
        self.assertEqual(recipes.tree(self.whole), before)

    def test_the_base_is_read_once_for_its_digest(self):
        job = self.folder.job()
        result = self.folder.run(job, "--profile")
        self.check_did(result, STEPS)
        calls = {name: int(count) for name, count
                 in re.findall(r"^  (\S.*?) +(\d+) +[\d.]+ +[\d.]+%$", result.out, re.MULTILINE)}
        self.assertEqual(calls["read base for its digest"], 1, result)
        # Rows and config.json, stores, scores, expert config and manifest: 2 + 1, 2, 1, 1 and 1.
        self.assertEqual(calls["read file for its digest"], 8, result)


class Changes(RunTest):
    # What is set, whether the earlier training must go for it, and the steps that it redoes. The
    # fifth, export, follows every training, since checkpoints carry the time of their making.
    KEYS = [
        # Rows of tokens: all are in the loss either way, so that scores and selection stay.
        ("data.loss_on=assistant", True, ["prepare", "train", "export"]),
        # Documents of 24 tokens: the same scores, so that the selection stays.
        ("data.seq_len=48", True, ["score", "train", "export"]),
        ("data.packing=false", True, ["train", "export"]),
        ("model.dtype=bf16", True, ["score", "select", "train", "export"]),
        ("esft.score.tokens=100", True, ["score", "select", "train", "export"]),
        ("esft.score.seed=1", True, ["score", "select", "train", "export"]),
        ("esft.score.count=supervised", True, ["score", "select", "train", "export"]),
        ("esft.select.top_p=0.6", True, ["select", "train", "export"]),
        ("esft.select.shared_experts=true", True, ["select", "train", "export"]),
        ("esft.also_train=[lm_head.weight]", True, ["train", "export"]),
        ("optim.lr=2e-3", True, ["train", "export"]),
        ("train.seed=7", True, ["train", "export"]),
        ("train.global_batch=6", True, ["train", "export"]),
        ("schedule.steps=8", False, ["train", "export"]),  # goes on
        ("eval.every=2", False, ["train"]),  # has ended: its checkpoint stays
        ("train.micro_batch=1", False, ["train"]),
        ("export.format=[adapter]", False, ["export"]),
        ("train.threads=2", False, []),
        ("checkpoint.keep=1", False, []),
        ("log.every=2", False, []),
        ("parallel.order=dp-tp-cp-ep-pp", False, []),
    ]

    def test_a_changed_key_redoes_what_depends_on_it(self):
        for key, another_training, steps in self.KEYS:
            with self.subTest(key=key):
                job = self.folder.job(like=self.whole)
                if another_training:
                    before = recipes.tree(job)
                    refused = self.folder.run(job, "--set", key)
                    self.assertEqual(refused.code, 2, refused)
                    self.assertRegex(refused.err, "E0221|E0224", refused)
                    self.assertIn(key.split("=")[0], refused.err, refused)
                    self.assertEqual(refused.done, [], refused)
                    self.assertEqual(recipes.tree(job), before)
                options = ["--overwrite"] if another_training else []
                self.check_did(self.folder.run(job, "--set", key, *options), steps)
                self.check_did(self.folder.run(job, "--set", key), [])

    def test_a_lost_output_is_made_again_and_what_reads_it_stays_valid(self):
        lost = [("tokens/train.tokens.h5", ["prepare"]), ("scores.h5", ["score"]),
                ("expert_config.json", ["select"]), ("checkpoints", ["train", "export"]),
                ("export/adapter", ["export"]), ("export/merged", ["export"]),
                ("stages.json", ["train", "export"])]
        for name, steps in lost:
            with self.subTest(name=name):
                job = self.folder.job(like=self.whole)
                path = job / "run" / name
                (shutil.rmtree if path.is_dir() else pathlib.Path.unlink)(path)
                self.check_did(self.folder.run(job), steps)
                self.check_same(job)

    def test_changed_inputs_redo_what_reads_them(self):
        other = recipes.Folder(SUTOR, tempfile.mkdtemp(dir=self.temporary.name))
        job = other.job()
        self.check_did(other.run(job), STEPS)
        self.assertEqual(recipes.differences(job, self.whole), [])  # paths do not matter
        other.write_rows("task", [[7, 8, 9, 10]])
        self.check_did(other.run(job, "--overwrite"), ["prepare", "train", "export"])
        shutil.rmtree(other.path / "model")
        other.make_model("model", seed=1)  # which this training makes worse: that would be an error
        self.check_did(other.run(job, "--overwrite", "--set", "eval.before_training=false"),
                       STEPS[1:])

    def test_damaged_outputs_are_not_taken_for_whole(self):
        job = self.folder.job(like=self.whole)
        config = job / "run" / "expert_config.json"
        chosen = json.loads(config.read_text())
        chosen["experts"]["1"] = chosen["experts"]["1"][:1]
        config.write_text(json.dumps(chosen))  # edited by hand
        self.check_did(self.folder.run(job, "--overwrite"), [], code=2)
        config.unlink()
        self.check_did(self.folder.run(job), ["select"])
        (job / "run" / "stages.json").write_text('{"prepare": "xx')
        result = self.folder.run(job)
        self.check_did(result, ["train", "export"])
        self.check_same(job)


class Kills(RunTest):
    def killed_in(self, step):
        """A job whose run was killed before it had recorded the step."""
        before = self.folder.job()
        if step != STEPS[0]:  # as far as the step before, so that little has to be repeated
            shutil.copytree(self.whole / "run", before / "run")
            self.undo(before, STEPS[STEPS.index(step):])
        for _ in range(20):  # a step of milliseconds may have ended before the signal came
            job = self.folder.job(like=before)
            self.folder.run_and_kill(job, f"== {step}")
            if step not in recipes.ledger(job):
                return job
        raise AssertionError(f"{step} always ended before it was killed")

    @staticmethod
    def undo(job, steps):
        """Leaves of a whole run what a run that had not come to these steps would have left."""
        run = job / "run"
        for step, names in (("score", ["scores.h5"]),
                            ("select", ["expert_config.json", "heat_map.svg"]),
                            ("train", ["checkpoints", "metrics.jsonl", "eval.jsonl"]),
                            ("export", ["export"])):
            for name in names if step in steps else []:
                path = run / name
                (shutil.rmtree if path.is_dir() else pathlib.Path.unlink)(path)
        kept = {step: digest for step, digest in recipes.ledger(job).items() if step not in steps}
        (run / "stages.json").write_text(json.dumps(kept))

    def test_killed_in_any_step_it_ends_as_if_undisturbed(self):
        for step in STEPS:
            with self.subTest(step=step):
                job = self.killed_in(step)
                result = self.folder.run(job)
                self.assertEqual(result.code, 0, result)
                # It may have ended before it was killed: its outputs say so themselves.
                at = STEPS.index(step)
                self.assertIn(result.done, (STEPS[at:], STEPS[at + 1:]), result)
                self.check_same(job)

    def test_killed_between_checkpoints_the_training_goes_on(self):
        for line in ("step 1/6", "saved step-00000002", "step 5/6", "check "):
            with self.subTest(line=line):
                job = self.folder.job()
                self.folder.run_and_kill(job, line)
                result = self.folder.run(job)
                self.check_did(result, ["train", "export"])
                self.assertEqual("resumed at step" in result.out, line != "step 1/6", result)
                self.check_same(job)

    def test_killed_again_and_again_it_ends_all_the_same(self):
        job = self.folder.job()
        for line in ("== prepare", "== score", "== train", "saved step-00000002",
                     "saved step-00000004", "== export"):
            self.folder.run_and_kill(job, line)
        result = self.folder.run(job)
        self.assertEqual(result.code, 0, result)
        self.assertEqual(sorted(recipes.ledger(job)), sorted(STEPS))
        self.check_same(job)

    # The checkpoints are another training's then, whatever the ledger had said of the first.
    def test_a_training_that_was_begun_anew_makes_the_old_one_invalid(self):
        job = self.folder.job(like=self.whole)
        self.folder.run_and_kill(job, "saved step-00000004", "--set", "optim.lr=2e-3",
                                 "--overwrite")
        refused = self.folder.run(job)
        self.check_did(refused, [], code=2)
        self.assertIn("E0221", refused.err)
        self.check_did(self.folder.run(job, "--overwrite"), ["train", "export"])
        self.check_same(job)

    def test_killed_with_overwrite_it_goes_on_without(self):
        options = ("--set", "optim.lr=2e-3")
        undisturbed = self.folder.job(like=self.whole)
        self.check_did(self.folder.run(undisturbed, *options, "--overwrite"), ["train", "export"])
        job = self.folder.job(like=self.whole)
        self.folder.run_and_kill(job, "saved step-00000002", *options, "--overwrite")
        result = self.folder.run(job, *options)
        self.check_did(result, ["train", "export"])
        self.assertIn("resumed at step 2 of 6", result.out)
        self.check_same(job, undisturbed)


class TwoRanks(RunTest):
    """Two ranks, also such as see two file systems: each in a working directory of its own."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.two = cls.folder.job()
        cls.journal = cls.two / "journal"
        cls.journal.mkdir()
        cls.first_of_two = cls.folder.run(cls.two, command=cls.ranks(),
                                          env={"SUTOR_JOURNAL": str(cls.journal)})

    @classmethod
    def ranks(cls, *options):
        return jobs.mpiexec(*cls.folder.command("--set", "parallel.ep=2", *options), ranks=2)

    @classmethod
    def apart(cls, zero, one, *options, verb="run"):
        """Rank 0 in one working directory, rank 1 in another."""
        command = cls.folder.command("--set", "parallel.ep=2", *options, verb=verb)
        return ["mpiexec", "-wdir", str(zero), "-n", "1", *command,
                ":", "-wdir", str(one), "-n", "1", *command]

    def test_they_do_and_skip_the_same_in_the_same_order(self):
        self.check_did(self.first_of_two, STEPS)
        self.assertEqual(jobs.order_problem(self.journal), "")
        journal = self.two / "journal-again"
        journal.mkdir()
        again = self.folder.run(self.two, command=self.ranks(),
                                env={"SUTOR_JOURNAL": str(journal)})
        self.check_did(again, [])
        self.assertEqual(again.skipped, STEPS)
        self.assertEqual(jobs.order_problem(journal), "")

    # Layout is no key: two ranks find valid what one has done, and the other way round.
    def test_one_rank_and_two_find_the_same_valid(self):
        self.check_did(self.folder.run(self.folder.job(like=self.whole), command=self.ranks()), [])
        self.check_did(self.folder.run(self.folder.job(like=self.two)), [])

    def test_killed_in_the_training_they_end_as_if_undisturbed(self):
        job = self.folder.job()
        self.folder.run_and_kill(job, "saved step-00000002", command=self.ranks())
        result = self.folder.run(job, command=self.ranks())
        self.check_did(result, ["train", "export"])
        self.check_same(job, self.two)

    def test_rank_zeros_view_decides_what_is_skipped(self):
        zero, one = self.folder.job(like=self.two), self.folder.job()  # nothing there
        result = self.folder.run(self.folder.path, command=self.apart(zero, one))
        self.check_did(result, [])
        self.assertEqual(result.skipped, STEPS)
        shutil.rmtree(zero / "run" / "export")
        shutil.copytree(self.two / "run", one / "run")  # all there
        self.check_did(self.folder.run(self.folder.path, command=self.apart(zero, one)),
                       ["export"])
        self.check_same(zero, self.two)

    # One folder in which rank 1 sees, late, a file of a training that is not there any more.
    def test_rank_zeros_view_decides_whether_a_training_is_in_the_way(self):
        zero, one = self.folder.job(like=self.two), self.folder.job()
        Kills.undo(zero, STEPS[3:])
        (zero / "run" / "checkpoints").mkdir()
        (one / "run").mkdir()
        for path in (zero / "run").iterdir():
            (one / "run" / path.name).symlink_to(path)
        (one / "run" / "metrics.jsonl").write_text("{}\n")
        result = self.folder.run(self.folder.path, command=self.apart(zero, one, verb="train"))
        self.assertEqual(result.code, 0, result)
        shutil.copytree(self.two / "run" / "export", zero / "run" / "export")
        self.check_same(zero, self.two)

    def test_an_error_of_rank_zero_ends_both_with_its_code(self):
        zero, one = self.folder.job(like=self.two), self.folder.job(like=self.two)
        (zero / "run" / "stages.json").unlink()
        (zero / "run" / "stages.json").mkdir()
        result = self.folder.run(self.folder.path, command=self.apart(zero, one))
        self.assertEqual(result.code, 2, result)
        self.assertEqual(len(result.errors()), 1, result)
        self.assertRegex(result.errors()[0], r"error\[E0220\]: rank 0: .*stages\.json")

    def test_rows_that_cannot_be_prepared_end_both_with_the_scripts_code(self):
        other = recipes.Folder(SUTOR, tempfile.mkdtemp(dir=self.temporary.name))
        (other.path / "train.jsonl").write_text('{"input_ids": ["a"]}\n')
        result = other.run(other.job(), command=jobs.mpiexec(*other.command(), ranks=2))
        self.assertEqual(result.code, 3, result)
        self.assertEqual(result.done, ["prepare"], result)


def main():
    global SUTOR
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    SUTOR = sys.argv.pop(1)
    unittest.main(verbosity=2)


class Memory(RunTest):
    LIMIT = "ulimit -v 4000000; exec \"$@\""  # KiB of address space of a rank

    def test_what_asked_for_memory_and_what_would_fit_are_named(self):
        numbers = random.Random(7)
        self.folder.write_rows("long", [[numbers.randrange(3, 200) for _ in range(2000)]
                                        for _ in range(256)])
        options = ["--set", f"data.train=[{{path: {self.folder.path}/long.jsonl, name: long}}]",
                   "--set", "data.seq_len=2000", "--set", "train.global_batch=256", "--set",
                   "train.micro_batch=128", "--set", "train.method=full", "--set",
                   "eval.before_training=false"]
        for ranks in (1, 2):
            job = self.folder.job()
            result = self.folder.run(job, command=self.folder.command(*options, verb="prepare"))
            self.assertEqual(result.code, 0, result)
            command = ["sh", "-c", self.LIMIT, "sh", *self.folder.command(*options, verb="train")]
            if ranks > 1:
                command = ["mpiexec", "-n", str(ranks), *command]
            result = self.folder.run(job, command=command)
            self.assertEqual(result.code, 5, result)
            self.assertRegex(result.err, r"error\[E0503\]: out of memory on cpu in `[a-z, ]+`: "
                                         r"a tensor of \d+ bytes")
            self.assertIn("train.micro_batch: 64 (now 128), train.recompute: layer", result.err)
            self.assertIn("trained weights, gradients and optimizer state", result.err)

    def test_no_limit_of_address_space_ends_in_anything_but_exit_5_and_a_message(self):
        command = [self.folder.sutor, "inspect", self.folder.path / "model"]
        codes = set()
        for megabytes in range(380, 700, 20):
            job = self.folder.job(self.whole)
            result = self.folder.run(
                job, command=["prlimit", f"--as={megabytes << 20}", *map(str, command)])
            codes.add(result.code)
            if result.code == 127:  # the loader of the system says so
                self.assertIn("error while loading shared libraries", result.err, result)
            elif result.code:
                self.assertEqual(result.code, 5, result)
                self.assertIn("error[E0503]: out of memory", result.err, result)
        self.assertLessEqual({0, 5}, codes)

    def test_another_device_than_there_is_deletes_nothing(self):
        job = self.folder.job(self.whole)
        before = recipes.tree(job)
        result = self.folder.run(job, command=self.folder.command(
            "--overwrite", "--device", "cuda", verb="train"))
        if result.code == 0:
            self.skipTest("there is a GPU")
        self.assertEqual(result.code, 2, result)
        self.assertIn("E0223", result.err)
        self.assertTrue(recipes.tree(job) == before)


if __name__ == "__main__":
    main()
