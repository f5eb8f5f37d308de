#!/usr/bin/env python3
"""What long work says while it goes on: on a terminal, in a file, with --quiet; and that other
ranks wait for it as long as it goes on.

  progress_test.py SUTOR [unittest options]
"""

import json
import os
import pathlib
import pty
import re
import subprocess
import sys
import tempfile
import unittest

from recipes import Folder, kill

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from sutor_store.progress import Progress, duration  # noqa: E402

SECONDS = 120
OFTEN = {"SUTOR_PROGRESS_SECONDS": "0.000001"}


class Stream:
    """A stderr that remembers."""

    def __init__(self, terminal):
        self.text, self._terminal = "", terminal

    def isatty(self):
        return self._terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def fileno(self):
        raise OSError


class PythonTwinTest(unittest.TestCase):
    """The line of `prepare`, which Python writes."""

    def setUp(self):
        self.now = 0.0
        os.environ["TERM"] = "xterm"
        os.environ.pop("SUTOR_PROGRESS_SECONDS", None)

    def progress(self, stream, **more):
        return Progress("prepare train", stream=stream, now=lambda: self.now, **more)

    def test_a_file_gets_a_line_a_minute_and_nothing_of_short_work(self):
        stream = Stream(terminal=False)
        progress = self.progress(stream)
        progress.show(0, 0.0)
        for second in range(1, 131):
            self.now = float(second)
            progress.show(100 * second, second / 600)
        progress.clear()
        self.assertEqual(stream.text.splitlines(), [
            "prepare train: 6,000 rows, 100 rows/s, 10%, 9m00s left",
            "prepare train: 12,000 rows, 100 rows/s, 20%, 8m00s left"])

    def test_a_terminal_gets_one_line_that_is_removed(self):
        stream = Stream(terminal=True)
        progress = self.progress(stream)
        for tenth in range(31):
            self.now = tenth / 10
            progress.show(tenth, tenth / 100)
        progress.clear()
        self.assertNotIn("\n", stream.text)
        self.assertTrue(stream.text.endswith("\r\x1b[K"))
        self.assertLessEqual(stream.text.count("\rprepare"), 14)
        self.assertGreaterEqual(stream.text.count("\rprepare"), 5)

    def test_quiet_says_nothing(self):
        stream = Stream(terminal=True)
        progress = self.progress(stream, quiet=True)
        self.now = 100.0
        progress.show(5, 0.5)
        progress.clear()
        self.assertEqual(stream.text, "")

    def test_durations_are_those_of_the_program(self):
        self.assertEqual([duration(each) for each in (42.4, 591, 7500, 273600)],
                         ["42s", "9m51s", "2h05m", "3d04h"])


class ProgressTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = Folder(SUTOR, cls.scratch.name)
        cls.done = cls.folder.job()
        result = cls.folder.run(cls.done)
        assert result.code == 0, result
        cls.silent = result

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def on_terminal(self, job, command, env=None):
        """Exit code, and what a person sees on stderr, where that is a terminal."""
        leader, follower = pty.openpty()
        environment = dict(os.environ, OMP_NUM_THREADS="1", TERM="xterm") | (env or {})
        process = subprocess.Popen(command, cwd=job, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=follower, env=environment,
                                   start_new_session=True)
        os.close(follower)
        seen = b""
        try:
            while True:
                try:
                    block = os.read(leader, 1 << 16)
                except OSError:  # the last end is closed
                    break
                if not block:
                    break
                seen += block
            process.stdout.read()
            return process.wait(timeout=SECONDS), seen.decode("utf-8", "replace")
        finally:
            kill(process)
            process.stdout.close()
            os.close(leader)

    def test_short_work_says_nothing_in_a_file(self):
        self.assertNotRegex(self.silent.err, r"(?m)^(score|evaluation|hashing|prepare \w+): ")

    def test_every_long_verb_says_how_far_it_is(self):
        job = self.folder.job(like=self.done)
        out = job / "answers.json"
        ids = job / "ids.json"
        ids.write_text(json.dumps([[5, 6, 7], [8, 9]]))
        recipe = str(self.folder.recipe)
        model = str(self.folder.path / "model")
        for command, words in (
                (["prepare", recipe], r"prepare train: 24 rows"),
                (["score", recipe], r"score: [\d,]+ of 200 tokens \(\d+%\)"),
                (["eval", recipe], r"evaluation of task: [\d,]+ of [\d,]+ tokens"),
                (["generate", recipe, "--ids", str(ids), "--out", str(out)],
                 r"generate: \d of 2 prompts"),
                (["export", recipe, "--overwrite"], r"hashing .*model: .* of .* \(\d+%\)"),
                (["verify", model], r"verify .*model: .* of .* \(\d+%\)"),
                (["convert", "--from", model, "--to", str(job / "store")],
                 r"convert: .* of .* \(\d+%\)"),
                (["train", recipe, "--resume"], r"loading weights: .* of .* \(\d+%\)")):
            with self.subTest(verb=command[0]):
                result = self.folder.run(job, command=[SUTOR, *command], env=OFTEN)
                self.assertEqual(result.code, 0, result)
                self.assertRegex(result.err, words)
                self.assertNotIn("\x1b", result.err)
                self.assertNotRegex(result.out, words, "results are alone on stdout")

    def test_a_terminal_has_one_line_that_is_rewritten_and_removed(self):
        job = self.folder.job(like=self.done)
        for verb, words in (("score", "score: "), ("prepare", "prepare train: ")):
            with self.subTest(verb=verb):
                code, seen = self.on_terminal(job, [SUTOR, verb, str(self.folder.recipe)], OFTEN)
                self.assertEqual(code, 0, seen)
                self.assertIn("\r" + words, seen)
                for line in re.findall(r"\r(?:score|prepare)[^\r]*", seen):
                    self.assertNotIn("\n", line.split("\x1b[K")[0])
                self.assertRegex(seen, r"left\x1b\[K(\r\x1b\[K)+|%\x1b\[K(\r\x1b\[K)+")

    def test_quiet_and_json_leave_results_alone(self):
        job = self.folder.job(like=self.done)
        recipe = str(self.folder.recipe)
        for command in (["score", recipe, "--quiet"], ["prepare", recipe, "--quiet"],
                        ["verify", str(self.folder.path / "model"), "--json"],
                        ["eval", recipe, "--json"]):
            with self.subTest(command=command):
                result = self.folder.run(job, command=[SUTOR, *command], env=OFTEN)
                self.assertEqual(result.code, 0, result)
                self.assertNotRegex(
                    result.err, r"(?m)^(score|prepare \w+|evaluation of \w+|verify .*|loading "
                                r"weights|hashing .*): ")

    def test_quiet_training_prints_no_steps_and_logs_them(self):
        job = self.folder.job()
        result = self.folder.run(job, command=self.folder.command("--quiet"))
        self.assertEqual(result.code, 0, result)
        self.assertNotRegex(result.out, r"(?m)^step \d")
        self.assertIn("check    trained tensors changed", result.out)
        rows = [json.loads(line) for line in (job / "run/metrics.jsonl").read_text().splitlines()]
        self.assertEqual([row["step"] for row in rows], [1, 2, 3, 4, 5, 6])

    def test_steps_have_epoch_rates_and_time_left(self):
        self.assertRegex(
            self.silent.out,
            r"(?m)^step 6/6 \| epoch 2\.00 \| loss [\d.]+ \| (?:load [^|]* \| )?"
            r"grad norm [\d.e-]+ \| lr 0\.001 \| "
            r"[\d,]+ tok/s \([\d,]+ in loss\)( \| data \d+%)? \| [\d.]+ MiB \| left 0s$")
        rows = [json.loads(line)
                for line in (self.done / "run/metrics.jsonl").read_text().splitlines()]
        for row in rows:
            self.assertGreater(row["supervised_tokens_per_s"], 0)
            self.assertLessEqual(row["supervised_tokens_per_s"], row["tokens_per_s"])
            self.assertLessEqual(row["data_seconds"], row["step_seconds"])
            self.assertNotIn("mfu", row, "no peak of a CPU is known")
        self.assertEqual(rows[-1]["epochs"], 2.0)

    def test_mfu_is_of_the_peak_that_is_given(self):
        job = self.folder.job()
        result = self.folder.run(job, env={"SUTOR_PEAK_TFLOPS": "0.001"})
        self.assertEqual(result.code, 0, result)
        self.assertRegex(result.out, r"(?m)^step 6/6 .* \| mfu [\d.]+% \| ")
        rows = [json.loads(line) for line in (job / "run/metrics.jsonl").read_text().splitlines()]
        flops = [row["mfu"] * 1e9 / row["tokens_per_s"] for row in rows]
        self.assertGreater(flops[0], 0)
        for each in flops:  # operations a token, the same in every step
            self.assertAlmostEqual(each, flops[0], delta=flops[0] * 1e-6)

    def test_ranks_wait_for_tokenising_beyond_the_longest_wait(self):
        job = self.folder.job()
        python = job / "slow-python"
        python.write_text(f"#!/bin/sh\nsleep 8\nexec {sys.executable} \"$@\"\n")
        python.chmod(0o755)
        result = self.folder.run(
            job, command=["mpiexec", "-n", "2", *self.folder.command()],
            env={"SUTOR_COMM_TIMEOUT": "4", "SUTOR_PYTHON": str(python)})
        self.assertEqual(result.code, 0, result)
        self.assertEqual(result.done, ["prepare", "score", "select", "train", "export"])


if __name__ == "__main__":
    if len(sys.argv) < 2 or not pathlib.Path(sys.argv[1]).is_file():
        raise SystemExit(__doc__)
    SUTOR = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
