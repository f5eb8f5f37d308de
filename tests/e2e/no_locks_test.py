#!/usr/bin/env python3
"""File systems without flock(): every verb works there, with the same bytes as elsewhere.

  .venv/bin/python tests/e2e/no_locks_test.py build/sutor NO_FLOCK_LIBRARY [-v] [Class.test]...
"""

import errno
import json
import pathlib
import sys
import tempfile
import unittest

import recipes

SUTOR, NO_FLOCK = None, None  # set by main
ENOTSUPP = 524  # of the kernel alone: Cray DVS


class NoLocks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-e2e-")
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)
        cls.whole = cls.folder.job()
        first = cls.folder.run(cls.whole)
        if first.code != 0:
            raise AssertionError(first)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def run_there(self, job, number, *command, **env):
        env |= {"LD_PRELOAD": NO_FLOCK, "NO_FLOCK_ERRNO": str(number)}
        result = self.folder.run(job, command=command or None, env=env)
        self.assertEqual(result.code, 0, result)
        return result

    def test_run_makes_the_same_bytes_whatever_flock_answers(self):
        for number in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EROFS, ENOTSUPP,
                       errno.EINVAL, errno.EPERM, errno.EIO):
            with self.subTest(errno=errno.errorcode.get(number, number)):
                job = self.folder.job()
                self.run_there(job, number)
                self.assertEqual(recipes.differences(job, self.whole), [])
                self.assertFalse((job / "run" / ".lock").exists())

    def test_an_environment_that_asks_hdf5_for_locks_changes_nothing(self):
        for wish in ("TRUE", "1", "BEST_EFFORT"):
            with self.subTest(wish=wish):
                job = self.folder.job()
                self.run_there(job, ENOTSUPP, HDF5_USE_FILE_LOCKING=wish)
                self.assertEqual(recipes.differences(job, self.whole), [])

    def test_base_stores_are_written_and_trained_from(self):
        job = self.folder.job()
        store = str(job / "store")
        self.run_there(job, errno.ENOSYS, SUTOR, "convert", "--from",
                       str(self.folder.path / "model"), "--to", store)
        self.run_there(job, errno.ENOSYS, *self.folder.command("--set", f"model.path={store}"))
        metrics = [recipes.lines_of(one / "run" / "metrics.jsonl", ("step", "loss", "grad_norm"))
                   for one in (job, self.whole)]
        self.assertEqual(metrics[0], metrics[1])
        self.run_there(job, errno.ENOSYS, SUTOR, "verify", store)

    def test_what_reads_works_beside_what_was_made_elsewhere(self):
        job = self.folder.job(like=self.whole)
        (job / "ids.json").write_text(json.dumps([[5, 9, 31]]))
        step = str(job / "run" / "checkpoints" / "step-00000006")
        for verb, *options in (("eval",), ("score",), ("train", "--resume"),
                               ("generate", "--ids", "ids.json", "--out", "ids-out.json")):
            self.run_there(job, errno.ENOTSUP, *self.folder.command(*options, verb=verb))
        for verb in ("verify", "inspect"):
            self.run_there(job, errno.ENOTSUP, SUTOR, verb, step)

    def test_two_ranks_share_one_folder(self):
        job = self.folder.job()
        self.run_there(job, errno.ENOLCK, *self.folder.command(verb="prepare"))
        self.run_there(job, errno.ENOLCK, "mpiexec", "-n", "2", *self.folder.command())
        lines = (job / "run" / "metrics.jsonl").read_text().splitlines()
        self.assertEqual(len(lines), 6)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    SUTOR, NO_FLOCK = sys.argv.pop(1), str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
