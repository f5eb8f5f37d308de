#!/usr/bin/env python3
"""`--from` begins a training from a checkpoint of another one; and which checkpoint a verb takes.

  .venv/bin/python tests/e2e/fork_test.py build/sutor [-v] [Class.test]...
"""

import json
import shutil
import sys
import tempfile
import unittest

import h5py
import recipes

SUTOR = None  # set by main


def options_of(*sets):
    return [word for key in sets for word in ("--set", key)]


class ForkTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-fork-")
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)
        # All batches are equal, so that a step depends on what came before it alone.
        cls.folder.write_rows("train", [list(range(3, 27))] * 24)
        cls.folder.write_rows("task", [list(range(5, 29))] * 6)
        cls.job = cls.folder.job()
        result = cls.folder.run(cls.job, *options_of("eval.every=2", "checkpoint.keep=9"))
        assert result.code == 0, result
        cls.parent = "run/checkpoints/step-00000004"

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def new_job(self):
        return self.folder.job(like=self.job)

    def fork(self, job, *options, verb="run", parent=None, output="fork"):
        return self.folder.run(job, command=self.folder.command(
            "--from", parent or self.parent, *options_of(f"output={output}", "eval.every=2"),
            *options, verb=verb))

    def lines(self, path, *keys):
        return recipes.lines_of(path, keys)

    def check_error(self, result, exit_code, *words):
        self.assertEqual(result.code, exit_code, result)
        self.assertEqual(len(result.errors()), 1, result)
        for word in words:
            self.assertIn(word, result.err)

    def fork_of(self, step):
        with h5py.File(step / "state.h5") as file:
            return json.loads(file.attrs["fork"])


class AFork(ForkTest):
    def test_takes_weights_and_moments_and_counts_from_one(self):
        job = self.new_job()
        result = self.fork(job, "--set", "schedule.steps=2")
        self.assertEqual(result.code, 0, result)
        self.assertRegex(result.out,
                         r"fork +of .*step-00000004 \(step 4, manifest xxh3:[0-9a-f]{32}\)"
                         ": its weights and moments")
        # Its first steps are the parent's next ones, to the last digit.
        parent = self.lines(job / "run/metrics.jsonl", "loss", "grad_norm")
        fork = self.lines(job / "fork/metrics.jsonl", "step", "loss", "grad_norm")
        self.assertEqual([line.pop("step") for line in fork], [1, 2])
        self.assertEqual(fork, parent[4:6])
        before = self.lines(job / "fork/eval.jsonl", "step", "loss")[0]
        at_parent = [line for line in self.lines(job / "run/eval.jsonl", "step", "loss")
                     if line["step"] == 4][0]
        self.assertEqual(before, {"step": 0, "loss": at_parent["loss"]})

    def test_records_its_parent(self):
        job = self.new_job()
        result = self.fork(job, "--set", "schedule.steps=2", "--set", "optim.lr=3e-4")
        self.assertEqual(result.code, 0, result)
        found = self.fork_of(job / "fork/checkpoints/step-00000002")
        self.assertEqual((found["from"], found["step"], found["takes"]),
                         (str(job.resolve() / self.parent), 4, "weights and moments"))
        manifest = (job / self.parent / "MANIFEST.json").read_bytes()
        self.assertTrue(found["manifest"].startswith("xxh3:"))
        self.assertTrue(manifest)
        resolved = (job / "fork/recipe.resolved.yaml").read_text()
        self.assertIn(f"# a fork of {found['from']} (step 4, manifest {found['manifest']})",
                      resolved.splitlines()[0])
        self.assertIn("lr: 0.0003", resolved)

    def test_of_another_optimizer_takes_the_weights_alone(self):
        job = self.new_job()
        result = self.fork(job, *options_of("schedule.steps=2", "model.dtype=bf16",
                                            "optim.name=adamw_bf16", "esft.config="
                                            f"{job}/run/expert_config.json"))
        self.assertIn(": its weights\n", result.out, result)
        self.assertIn(result.code, (0, 1), result)  # 1: no better than its parent

    def test_that_is_no_better_than_its_parent_says_so(self):
        job = self.new_job()
        result = self.fork(job, *options_of("schedule.steps=2", "optim.lr=1e-30",
                                            "optim.weight_decay=0"))
        self.check_error(result, 1, "E0104", "no evaluation beat", "step-00000004")

    def test_goes_on_without_from_and_refuses_another(self):
        job = self.new_job()
        command = self.folder.command("--from", self.parent, *options_of(
            "output=fork", "eval.every=2", "checkpoint.every=1"))
        self.folder.run_and_kill(job, "saved step-00000002", command=command)
        resume = self.folder.command(*options_of("output=fork", "eval.every=2",
                                                 "checkpoint.every=1"))
        other = self.fork(job, "--set", "checkpoint.every=1",
                          parent="run/checkpoints/step-00000002")
        self.check_error(other, 2, "E0221", "step-00000004", "step-00000002")
        result = self.folder.run(job, command=resume)
        self.assertEqual(result.code, 0, result)
        self.assertIn("resumed at step", result.out)
        whole = self.new_job()
        self.assertEqual(self.fork(whole, "--set", "checkpoint.every=1").code, 0)
        keys = ("step", "loss", "grad_norm")
        self.assertEqual(self.lines(job / "fork/metrics.jsonl", *keys),
                         self.lines(whole / "fork/metrics.jsonl", *keys))
        # The same command may be given again, and names the same parent.
        self.assertEqual(self.fork(job, "--set", "checkpoint.every=1").code, 0)
        again = self.fork(job, "--set", "checkpoint.every=1",
                          parent="run/checkpoints/step-00000002")
        self.check_error(again, 2, "E0221")

    def test_that_was_killed_before_its_first_checkpoint_is_still_a_fork(self):
        job = self.new_job()
        sets = options_of("output=fork", "eval.every=0", "checkpoint.every=0",
                          "eval.before_training=false")
        command = self.folder.command("--from", self.parent, *sets, "--set", "schedule.steps=2000")
        self.folder.run_and_kill(job, "step 1/2000", command=command)
        self.assertEqual(list((job / "fork/checkpoints").glob("step-*")), [])
        result = self.folder.run(job, command=self.folder.command(*sets, "--set",
                                                                  "schedule.steps=2"))
        self.assertEqual(result.code, 0, result)
        self.assertIn("fork     of ", result.out)
        self.assertEqual(self.lines(job / "fork/metrics.jsonl", "loss"),
                         self.lines(job / "run/metrics.jsonl", "loss")[4:6])

    def test_of_what_does_not_fit_is_refused(self):
        job = self.new_job()
        if not (self.folder.path / "other").exists():
            self.folder.make_model("other", seed=1)
        other = self.fork(job, "--set", f"model.path={self.folder.path}/other")
        self.check_error(other, 3, "E0305", "another base model")
        self.assertEqual(other.err.count("xxh3:"), 2, other)
        self.assertFalse((job / "fork/tokens").exists())
        selection = self.fork(job, "--set", "esft.select.top_p=0.9")
        self.check_error(selection, 3, "E0350", "run/expert_config.json")
        for parent, code, words in (("run/checkpoints", 3, ("E0341", "step directory")),
                                    ("nowhere", 3, ("E0341",))):
            self.check_error(self.fork(job, parent=parent, output="new"), code, *words)
        inside = self.fork(job, "--overwrite", output="run")
        self.check_error(inside, 2, "E0202", "own")
        taken = self.fork(job, output="run/../run2")
        self.assertEqual(taken.code, 0, taken)
        no_fork = self.fork(job, output="run2", parent="run/checkpoints/step-00000006")
        self.check_error(no_fork, 2, "E0221")

    def test_is_the_way_out_that_other_keys_are_told(self):
        job = self.new_job()
        result = self.folder.run(job, *options_of("eval.every=2", "optim.lr=3e-4"))
        self.check_error(result, 2, "E0221", "--overwrite", "--from run/checkpoints/step-00000006")


class Checkpoints(ForkTest):
    """Which checkpoint eval, generate, logits and export take, and that they say it."""

    def setUp(self):
        self.run_job = self.new_job()
        (self.run_job / "ids.json").write_text("[[3, 4, 5]]")

    def verb(self, verb, *options):
        result = self.folder.run(self.run_job, command=self.folder.command(
            *options, "--set", "eval.every=2", verb=verb))
        self.assertEqual(result.code, 0, result)
        return result

    def test_are_the_best_by_default_and_named_first(self):
        best = (self.run_job / "run/checkpoints/BEST").read_text().strip()
        line = f"checkpoint run/checkpoints/{best} (best: task.loss "
        ids = ("--ids", "ids.json", "--out")
        for verb, options in (("generate", (*ids, "out.json", "--set",
                                            "generate.max_new_tokens=4")),
                              ("logits", (*ids, "out.safetensors")),
                              ("export", ("--format", "adapter", "--out", "exported")),
                              ("eval", ())):
            with self.subTest(verb=verb):
                result = self.verb(verb, *options)
                said = result.err if verb == "eval" else result.out
                self.assertTrue(said.startswith(line), result)
                self.assertIn(", mask none", said.splitlines()[0])

    def test_may_be_the_last_a_folder_or_none(self):
        for which, words in (("last", "step-00000006 (the last)"),
                             ("latest", "step-00000006 (the last)"),
                             ("run/checkpoints/step-00000002", "step-00000002 (named)"),
                             ("none", "none, the model")):
            result = self.verb("generate", "--checkpoint", which, "--ids", "ids.json", "--out",
                               "out.json", "--set", "generate.max_new_tokens=4")
            self.assertIn(words, result.out.splitlines()[0])

    def test_change_what_is_computed(self):
        def logits(which):
            self.verb("logits", "--ids", "ids.json", "--out", "out.safetensors", *which)
            return (self.run_job / "out.safetensors").read_bytes()
        best = logits(())
        self.assertNotEqual(best, logits(("--checkpoint", "none")))
        self.assertEqual(best, logits(("--checkpoint", "best")))

    def test_are_none_before_any_training(self):
        shutil.rmtree(self.run_job / "run/checkpoints")
        result = self.verb("generate", "--ids", "ids.json", "--out", "out.json", "--set",
                           "generate.max_new_tokens=4")
        self.assertIn("checkpoint none, the model", result.out.splitlines()[0])
        self.assertIn("run/checkpoints holds no checkpoint", result.out.splitlines()[0])
        for which, code in (("best", "E0349"), ("run/checkpoints/step-00000002", "E0301")):
            refused = self.folder.run(self.run_job, command=self.folder.command(
                "--checkpoint", which, "--ids", "ids.json", "--out", "out.json", verb="generate"))
            self.check_error(refused, 3, code)

    def test_of_a_model_directory_are_none(self):
        result = self.folder.run(self.run_job, command=[
            self.folder.sutor, "generate", "--model", str(self.folder.path / "model"), "--ids",
            "ids.json", "--out", "out.json", "--set", "generate.max_new_tokens=4"])
        self.assertEqual(result.code, 0, result)
        self.assertTrue(result.out.startswith("checkpoint none, the model "), result)


if __name__ == "__main__":
    SUTOR = sys.argv.pop(1)
    unittest.main()
