#!/usr/bin/env python3
"""Saving when the disk fails or lies: nothing of it is ever published, the former checkpoint stays
whole, the job ends with exit code 5 and says why. System calls fail by
tests/support/faulty_calls.c.

  .venv/bin/python tests/e2e/checkpoint_writes_test.py build/sutor build/tests/libfaulty_calls.so
"""

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fault"))
import jobs  # noqa: E402

SUTOR = FAULTY_CALLS = None  # set by main
SECONDS = 120
EIO, EACCES, EROFS, ENOSPC, ENOTSUPP = 5, 13, 30, 28, 524
OLD, NEW = "step-00000001", "step-00000002"


class Result:
    def __init__(self, recipe, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.checkpoints = recipe.parent / "run" / "checkpoints"

    def names(self):
        """What lies in checkpoints/, pointers left out."""
        if not self.checkpoints.is_dir():
            return []
        return sorted(path.name for path in self.checkpoints.iterdir()
                      if path.name not in ("LATEST", "BEST"))

    def files(self):
        """The bytes of the newest checkpoint, without what names this save."""
        newest = self.checkpoints / self.names()[-1]
        return {path.name: path.read_bytes() for path in newest.iterdir()
                if path.name != "MANIFEST.json"}

    def losses(self):
        lines = (self.checkpoints.parent / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    def __str__(self):
        return f"exit code {self.code}, {self.names()}\n{self.out[-2000:]}\n---\n{self.err[-3000:]}"


class WritesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-writes-")
        cls.jobs = jobs.Jobs(SUTOR, cls.temporary.name)
        cls.log = pathlib.Path(cls.temporary.name) / "calls"

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def recipe(self, steps=2):
        return self.jobs.recipe(steps, every=1)

    def train(self, faults="", ranks=1, recipe=None, steps=2, options=(), log=False, limit=None):
        """Trains `steps` steps with a checkpoint of each; `faults` as faulty_calls.c has them."""
        recipe = recipe or self.recipe(steps)
        command = [SUTOR, "train", str(recipe), "--set", f"parallel.ep={ranks}", *options]
        env = dict(os.environ, OMP_NUM_THREADS="1", NO_COLOR="1", FAULTY_CALLS=faults,
                   LD_PRELOAD=str(FAULTY_CALLS))
        if log:
            env["FAULTY_CALLS_LOG"] = str(self.log)
        if ranks > 1:  # the launcher itself sees no fault
            ours = [f"{name}={env.pop(name)}" for name in ("FAULTY_CALLS", "LD_PRELOAD")]
            command = jobs.mpiexec("env", *ours, *command, ranks=ranks)
        before = None
        if limit is not None:
            def before():
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        done = subprocess.run(command, text=True, stdin=subprocess.DEVNULL, capture_output=True,
                              env=env, timeout=SECONDS, preexec_fn=before)
        return Result(recipe, done)

    def verify(self, result, step):
        return subprocess.run([SUTOR, "verify", str(result.checkpoints / step)], text=True,
                              capture_output=True, timeout=SECONDS).returncode

    def check_refused(self, result, code="E050", kept=(OLD,)):
        self.assertEqual(result.code, 5, result)
        self.assertIn(f"error[{code}", result.err, result)
        self.assertEqual(result.names(), list(kept), result)
        for step in kept:
            self.assertEqual(self.verify(result, step), 0, result)

    def calls(self, call, part):
        """How many such calls a save makes, from a log of two saves."""
        lines = [line for line in self.log.read_text().splitlines()
                 if line.startswith(f"{call} ") and part in line]
        return len(lines) // 2


class FailedWrites(WritesTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        tester = cls("test_some_write_of_each_file_fails")
        cls.whole = tester.train(log=True)
        assert cls.whole.code == 0, cls.whole

    # Small tiles, attributes, metadata: whichever write it is.
    def test_some_write_of_each_file_fails(self):
        writes = self.calls("write", "w0000.h5")
        self.assertGreater(writes, 8)
        cases = [("w0000.h5", writes + n) for n in (1, writes // 3, writes)]
        cases += [("w0000.idx", 2), ("state.h5", 2), ("MANIFEST.json", 2)]
        for name, number in cases:
            with self.subTest(file=name, number=number):
                self.check_refused(self.train(f"write:{name}:{number}:e{EIO}"), "E0502")

    def test_some_write_lies(self):
        writes = self.calls("write", "w0000.h5")
        cases = [("drop", "w0000.h5", writes + 3), ("flip", "w0000.h5", writes + 4),
                 ("flip", "w0000.h5", 2 * writes), ("drop", "w0000.h5", 2 * writes),
                 ("flip", "state.h5", 2)]
        for action, name, number in cases:
            with self.subTest(action=action, file=name, number=number):
                self.check_refused(self.train(f"write:{name}:{number}:{action}"), "E0502")

    def test_a_failed_fsync_is_final(self):
        for name in ("w0000.h5", "MANIFEST.json"):
            with self.subTest(file=name):
                self.check_refused(self.train(f"fsync:{name}:2:e{EIO}"), "E0502")

    def test_saves_that_stop_the_training_fail_alike(self):
        options = ("--set", "checkpoint.async=false")
        writes = self.calls("write", "w0000.h5")
        result = self.train(f"write:w0000.h5:{writes + 2}:e{ENOSPC}", options=options)
        self.check_refused(result, "E0501")

    def test_writes_cut_short_are_continued(self):
        result = self.train("write:checkpoints:1:short:1000000")
        self.assertEqual(result.code, 0, result)
        self.assertEqual(result.files(), self.whole.files())

    def test_a_limit_on_the_size_of_files_is_named(self):
        result = self.train(limit=16384)
        self.assertIn("ulimit -f", result.err, result)
        self.check_refused(result, "E0502", kept=())


class OneOfTwoRanks(WritesTest):
    def test_its_failure_ends_both(self):
        for options in ((), ("--set", "checkpoint.async=false")):
            with self.subTest(options=options):
                result = self.train(f"write@1:w0001.h5:2:e{EIO}", ranks=2, options=options)
                self.check_refused(result, "E0502", kept=())
                self.assertIn("rank 1", result.err, result)


class Places(WritesTest):
    def test_checkpoints_that_cannot_be_made_are_no_bug(self):
        for error in (ENOSPC, EROFS, EACCES):
            result = self.train(f"mkdir:run/checkpoints:1:e{error}")
            self.check_refused(result, kept=())
        recipe = self.recipe()
        (recipe.parent / "run" / "checkpoints").write_text("a file")
        result = self.train(recipe=recipe)
        self.assertEqual(result.code, 2, result)
        self.assertIn("error[E0220]", result.err, result)

    def test_file_systems_without_flags_of_rename_will_do(self):
        for error in (ENOTSUPP, 22):
            result = self.train(f"rename2:checkpoints:1:e{error}:100")
            self.assertEqual((result.code, result.names()), (0, [OLD, NEW]), result)

    def test_a_failing_clean_up_is_a_warning(self):
        result = self.train(f"rename2:.trash-:1:e{EIO}:100",
                            options=("--set", "checkpoint.keep=1"))
        self.assertEqual((result.code, result.names()), (0, [OLD, NEW]), result)
        self.assertIn("warning[W0502]", result.err, result)

    def test_a_staging_folder_without_an_owner_goes(self):
        result = self.train(f"create:OWNER:2:e{ENOSPC}")
        self.check_refused(result, "E0501")


class Kills(WritesTest):
    def test_after_a_kill_in_a_save_the_numbers_are_those_of_an_undisturbed_run(self):
        whole = self.train(steps=5)
        direct = self.train(steps=5, options=("--set", "checkpoint.async=false"))
        self.assertEqual(direct.losses(), whole.losses())
        self.assertEqual(direct.files(), whole.files())
        for call in ("write:w0000.h5:60", "rename2:step-00000003:1", "rename:LATEST:2"):
            with self.subTest(call=call):
                recipe = self.recipe(steps=5)
                killed = self.train(f"{call}:kill", recipe=recipe, steps=5)
                self.assertEqual(killed.code, -9, killed)
                resumed = self.train(recipe=recipe, options=("--resume",))
                self.assertEqual(resumed.code, 0, resumed)
                self.assertEqual(resumed.losses(), whole.losses())
                self.assertEqual(resumed.files(), whole.files())
                self.assertFalse([name for name in resumed.names() if name.startswith(".")])


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    SUTOR, FAULTY_CALLS = [str(pathlib.Path(sys.argv.pop(1)).resolve()) for _ in range(2)]
    unittest.main()
