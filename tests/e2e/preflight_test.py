#!/usr/bin/env python3
"""What a training needs of disk and memory is looked at before any weight is read.

  .venv/bin/python tests/e2e/preflight_test.py build/sutor [-v] [Class.test]...
"""

import os
import subprocess
import sys
import tempfile
import unittest

import recipes

SUTOR = None  # set by main
LOADED = "weights  "  # the line of the banner that follows the reading


class PreflightTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-preflight-")
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)
        prepared = cls.folder.job()
        for verb in ("prepare", "score", "select"):
            done = cls.folder.run(prepared, command=cls.folder.command(verb=verb))
            assert done.code == 0, done
        cls.prepared = prepared

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def train(self, job, *options, **more):
        return self.folder.run(job, command=self.folder.command(*options, verb="train"), **more)

    def check_refused(self, result, code, *words):
        self.assertEqual(result.code, code, result)
        self.assertEqual(len(result.errors()), 1, result)
        for word in words:
            self.assertIn(word, result.errors()[0])
        self.assertNotIn(LOADED, result.out)


class Check(PreflightTest):
    def test_tells_what_was_found_and_leaves_all_as_it_was(self):
        job = self.folder.job(like=self.prepared)
        before = recipes.tree(job)
        result = self.train(job, "--check")
        self.assertEqual(result.code, 0, result)
        self.assertRegex(result.out,
                         r"output   run on .*: .* free; a checkpoint takes .*, 3 are kept")
        self.assertIn("the training can start", result.out)
        self.assertNotIn(LOADED, result.out)
        self.assertEqual(recipes.tree(job), before)
        self.assertEqual(sorted(os.listdir(job / "run")),
                         sorted(os.listdir(self.prepared / "run")))

    def test_refuses_what_a_training_would_refuse(self):
        job = self.folder.job(like=self.prepared)
        self.assertEqual(self.train(job).code, 0)
        before = recipes.tree(job)
        self.check_refused(self.train(job, "--check"), 2, "E0220")
        self.assertEqual(self.train(job, "--check", "--resume").code, 0)
        self.assertEqual(self.train(job, "--check", "--overwrite").code, 0)
        self.assertEqual(recipes.tree(job), before)
        self.check_refused(self.train(job, "--check", "--overwrite", "--set", "parallel.ep=2"), 2,
                           "E0211")
        self.check_refused(self.train(job, "--check", "--overwrite", "--set", "optim.lr=0"), 2,
                           "E0205")
        self.assertEqual(recipes.tree(job), before)


class Output(PreflightTest):
    def test_that_is_a_file_or_holds_one_is_refused_by_its_name(self):
        job = self.folder.job(like=self.prepared)
        (job / "run/checkpoints").write_text("")
        self.check_refused(self.train(job), 2, "E0220", "run/checkpoints")
        job = self.folder.job()
        (job / "run").write_text("")
        result = self.folder.run(job)
        self.assertIn(result.code, (2, 5), result)
        self.assertEqual(len(result.errors()), 1, result)
        self.assertIn("run", result.errors()[0])

    @unittest.skipIf(os.geteuid() == 0, "root may write everywhere")
    def test_that_may_not_be_written_is_refused(self):
        job = self.folder.job(like=self.prepared)
        os.chmod(job / "run", 0o500)
        try:
            self.check_refused(self.train(job), 5, "E0502", "run")
        finally:
            os.chmod(job / "run", 0o700)

    def job_on_a_small_disk(self, size):
        """A prepared job whose checkpoints/ is a disk of its own until the test ends."""
        job = self.folder.job(like=self.prepared)
        place = job / "run/checkpoints"
        place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
        if subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode != 0:
            self.skipTest("mounting is not allowed here")
        self.addCleanup(subprocess.run, ["umount", str(place)], check=False)
        return job

    @unittest.skipUnless(os.geteuid() == 0, "mounting a small disk takes root")
    def test_on_a_disk_too_small_for_a_checkpoint_is_refused(self):
        job = self.job_on_a_small_disk("1200k")
        self.check_refused(self.train(job), 5, "E0501", "run/checkpoints", "a checkpoint takes")
        self.check_refused(self.train(job, "--check"), 5, "E0501")

    @unittest.skipUnless(os.geteuid() == 0, "mounting a small disk takes root")
    def test_on_a_disk_too_small_for_all_that_is_kept_is_warned_of(self):
        result = self.train(self.job_on_a_small_disk("4m"), "--check")
        self.assertEqual(result.code, 0, result)
        self.assertIn("saving will fail later", result.err)
        self.assertIn("checkpoint.keep (now 3)", result.err)

    def test_is_looked_at_before_a_run_reads_anything(self):
        job = self.folder.job()
        (job / "run").mkdir()
        (job / "run/checkpoints").write_text("")
        result = self.folder.run(job)
        self.assertEqual(result.code, 2, result)
        self.assertIn("run/checkpoints", result.errors()[0])
        self.assertEqual(result.done, [])


class Memory(PreflightTest):
    # Under a limit of address space.
    def check_with_limit(self, job, limit, *options):
        command = self.folder.command("--check", *options, verb="train")
        return self.folder.run(job, command=["prlimit", f"--as={limit}", *command])

    def test_that_cannot_be_had_is_told_item_by_item(self):
        model = self.folder.path / "large"  # its experts take 400 MiB in training
        subprocess.run([self.folder.sutor, "init-model", "--family", "deepseek_v2", "--out",
                        str(model), "--set", "moe_intermediate_size=8192"], check=True,
                       stdout=subprocess.DEVNULL, timeout=recipes.SECONDS)
        job = self.folder.job()
        large = ["--set", f"model.path={model}", "--set", "train.method=full"]
        prepare = self.folder.command(*large, verb="prepare")
        self.assertEqual(self.folder.run(job, command=prepare).code, 0)
        self.assertEqual(self.train(job, "--check", *large).code, 0)
        small = self.folder.job(like=self.prepared)
        # The least address space in which the program starts at all, to 64 MiB.
        least, most = 0, 64 << 30
        while most - least > 64 << 20:
            middle = (least + most) // 2
            if self.check_with_limit(small, middle).code == 0:
                most = middle
            else:
                least = middle
        self.check_refused(self.check_with_limit(job, most, *large), 5, "E0503", "frozen weights",
                           "trained weights and gradients", "optimizer state", "ulimit -v",
                           "What makes it fit")


if __name__ == "__main__":
    SUTOR = sys.argv.pop(1)
    unittest.main()
