#!/usr/bin/env python3
"""Signals that ask a job to stop: it saves at the boundary of a step and exits with 75, whoever got
the signal, in whatever it was; a second signal ends it at once.

  .venv/bin/python tests/fault/signal_test.py build/sutor [-v] [Class.test]...
"""

import json
import pathlib
import re
import signal
import tempfile
import time
import unittest

import jobs

SUTOR = None  # set by main
STEPS = 120
TERM, INT, USR1, USR2 = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2


def notes_signals(pid):
    """Whether the process has come so far that SIGTERM is noted."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return bool(int(re.search(r"SigCgt:\s+(\w+)", status).group(1), 16) >> (TERM - 1) & 1)


class SignalTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="sutor-signal-")
        cls.addClassCleanup(cls.folder.cleanup)
        cls.jobs = jobs.Jobs(SUTOR, cls.folder.name)

    def recipe(self, steps=STEPS, every=0, evals=0, **sets):
        path = self.jobs.recipe(steps, every)
        text = path.read_text().replace("parallel: {ep: 2}\n", "")
        if evals:
            rows = self.jobs.rows
            text = text.replace(
                "  packing:", f"  eval: [{{path: {rows}, name: other}}]\n  packing:")
            text = text.replace("eval: {every: 0", f"eval: {{every: {evals}")
        for key, value in sets.items():
            text = re.sub(rf"{key}: [^,}}]+", f"{key}: {value}", text)
        path.write_text(text)
        if evals:
            self.prepare(path)
        return path

    def prepare(self, path):
        done = self.jobs.run([SUTOR, "prepare", path], ranks=1)
        self.assertEqual(done.code, 0, done)

    @staticmethod
    def ranked(command, ranks):
        return [str(part) for part in (jobs.mpiexec(*command, ranks=ranks) if ranks else command)]

    def interrupted(self, command, when, send, ranks=0, timeout=90, env=None):
        """Starts the command, calls send(process, pids) once when(pids) is true, awaits the end."""
        process = self.jobs.start(self.ranked(command, ranks), env)
        streams = jobs.Streams(process)
        until = time.monotonic() + timeout
        try:
            while process.poll() is None:
                pids = self.jobs.rank_pids()
                if len(pids) >= max(1, ranks) and when(pids):
                    send(process, pids)
                    break
                self.assertLess(time.monotonic(), until, "it never came there")
                time.sleep(0.003)
            process.wait(timeout=max(1, until - time.monotonic()))
        finally:
            self.jobs.kill_all(process)
        out, err = streams.text()
        return jobs.Result(command, process.returncode, out, err)

    @staticmethod
    def to_all(number):
        return lambda process, pids: [jobs.kill(pid, number) for pid in pids]

    @staticmethod
    def to_launcher(number):
        return lambda process, pids: jobs.kill(process.pid, number)

    @staticmethod
    def to_rank(rank, number):
        return lambda process, pids: [jobs.kill(pid, number) for pid in pids
                                      if jobs.rank_of(pid) in (rank, None)]

    def lines(self, recipe, name="metrics.jsonl"):
        path = recipe.parent / "run" / name
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def after_step(self, recipe, step):
        return lambda pids: len(self.lines(recipe)) >= step

    def checkpoints(self, recipe):
        return sorted(path.name for path in (recipe.parent / "run" / "checkpoints").glob("step-*"))

    def check_stopped(self, result, number, words=""):
        """One line says which signal, and the exit code is that of a job to be started again."""
        self.assertEqual(result.code, 75, result)
        said = [line for line in result.err.splitlines() if "error[E7500]" in line]
        self.assertEqual(len(said), 1, result)
        self.assertIn(f"stopped by {number.name}", said[0], result)
        self.assertIn(words, said[0], result)

    def check_saved(self, result, recipe, number):
        """The newest checkpoint is the last step that was made, and is named."""
        last = self.lines(recipe)[-1]["step"]
        self.check_stopped(result, number, f"after step {last} of {STEPS}")
        self.assertIn(f"step-{last:08} is saved: `--resume`", result.err, result)
        self.assertEqual(self.checkpoints(recipe)[-1], f"step-{last:08}", result)
        self.assertEqual(result.out.count(f"saved step-{last:08}"), 1, result)
        return last

    def check_goes_on(self, recipe, ranks=0):
        """Resumed, it ends with the losses of a training that was never interrupted."""
        result = self.jobs.run(self.ranked([SUTOR, "train", recipe, "--resume"], ranks),
                               ranks=max(1, ranks))
        self.assertEqual(result.code, 0, result)
        whole = self.recipe()
        done = self.jobs.run(self.ranked([SUTOR, "train", whole], ranks), ranks=max(1, ranks))
        self.assertEqual(done.code, 0, done)
        self.assertEqual(self.jobs.losses(recipe), self.jobs.losses(whole))


class Steps(SignalTest):
    def test_a_process_alone_saves_the_step_and_goes_on_equally(self):
        for number in (TERM, INT, USR1, USR2):
            with self.subTest(number=number):
                recipe = self.recipe()
                result = self.interrupted([SUTOR, "train", recipe], self.after_step(recipe, 5),
                                          self.to_all(number))
                self.assertLess(self.check_saved(result, recipe, number), STEPS)
        self.check_goes_on(recipe)

    def test_ranks_agree_whoever_got_the_signal(self):
        for name, send, number in (
                ("launcher", self.to_launcher, TERM), ("launcher", self.to_launcher, USR1),
                ("launcher", self.to_launcher, INT), ("all", self.to_all, USR1),
                ("rank 0", lambda n: self.to_rank(0, n), TERM),
                ("rank 1", lambda n: self.to_rank(1, n), USR2)):
            with self.subTest(to=name, number=number):
                recipe = self.recipe()
                result = self.interrupted([SUTOR, "train", recipe], self.after_step(recipe, 5),
                                          send(number), ranks=2)
                self.check_saved(result, recipe, number)
        self.check_goes_on(recipe, ranks=2)

    def test_a_save_that_was_begun_is_finished_and_not_made_twice(self):
        recipe = self.recipe(every=1)
        checkpoints = recipe.parent / "run" / "checkpoints"

        def saving(pids):
            return any(checkpoints.glob(".staging-*")) and len(self.lines(recipe)) > 3

        result = self.interrupted([SUTOR, "train", recipe], saving, self.to_all(TERM), ranks=2)
        self.check_saved(result, recipe, TERM)
        self.assertEqual(list(checkpoints.glob(".staging-*")), [])

    def test_a_second_signal_ends_it_at_once_and_the_last_checkpoint_stands(self):
        library = pathlib.Path(SUTOR).resolve().parent / "tests" / "libfaulty_calls.so"
        # Once 7 lines of steps are written, or step 7 is saved, it comes to what waits.
        for name, number, slow in (("in a step", TERM, "/metrics.jsonl:8"),
                                   ("in a save", INT, ".staging-00000008*w0000.h5:1")):
            with self.subTest(where=name):
                recipe = self.recipe(every=1)
                checkpoints = recipe.parent / "run" / "checkpoints"
                asked = []

                def twice(process, pids):
                    self.to_all(number)(process, pids)
                    time.sleep(0.5)
                    asked.append(time.monotonic())
                    self.to_all(number)(process, pids)

                result = self.interrupted(
                    [SUTOR, "train", recipe],
                    lambda pids: (len(self.lines(recipe)) == 7 if number == TERM
                                  else (checkpoints / "step-00000007").exists()), twice,
                    env={"LD_PRELOAD": str(library), "FAULTY_CALLS": f"write:{slow}:w60000"})
                self.assertEqual(result.code, 128 + number, result)
                self.assertLess(time.monotonic() - asked[0], 20, result)
                newest = self.checkpoints(recipe)[-1]
                self.assertIn(f"saved {newest}", result.out, result)
                self.assertIn(newest, ("step-00000006", "step-00000007"), result)
        self.check_goes_on(recipe)


class Elsewhere(SignalTest):
    def test_before_the_first_step_nothing_is_lost_and_nothing_is_left(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                recipe = self.recipe()
                result = self.interrupted([SUTOR, "train", recipe],
                                          lambda pids: all(map(notes_signals, pids)),
                                          self.to_all(TERM), ranks=ranks)
                self.check_stopped(result, TERM, "before the first step")
                self.assertEqual(self.checkpoints(recipe), [])
        again = self.jobs.run(self.ranked([SUTOR, "train", recipe], 2), ranks=2)
        self.assertEqual(again.code, 0, again)

    def test_an_evaluation_is_left_between_batches_and_the_step_is_saved(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                recipe = self.recipe(evals=1)
                result = self.interrupted(
                    [SUTOR, "train", recipe],
                    lambda pids: len(self.lines(recipe, "eval.jsonl")) >= 3,
                    self.to_all(TERM), ranks=ranks)
                self.check_stopped(result, TERM)
                last = self.lines(recipe)[-1]["step"]
                self.assertEqual(self.checkpoints(recipe)[-1], f"step-{last:08}", result)

    def test_an_export_publishes_nothing(self):
        recipe = self.recipe(steps=2)
        done = self.jobs.run([SUTOR, "train", recipe], ranks=1)
        self.assertEqual(done.code, 0, done)
        result = self.interrupted([SUTOR, "export", recipe],
                                  lambda pids: all(map(notes_signals, pids)), self.to_all(USR1))
        self.check_stopped(result, USR1)
        left = list((recipe.parent / "run" / "export").glob("*"))
        self.assertEqual(left, [], result)
        again = self.jobs.run([SUTOR, "export", recipe], ranks=1)
        self.assertEqual(again.code, 0, again)

    def test_preparing_ends_its_script_without_a_trace(self):
        recipe = self.recipe()
        for path in (recipe.parent / "run" / "tokens").iterdir():
            path.unlink()
        result = self.interrupted([SUTOR, "prepare", recipe],
                                  lambda pids: all(map(notes_signals, pids)),
                                  lambda process, pids: (time.sleep(0.1),
                                                         self.to_all(INT)(process, pids)))
        self.check_stopped(result, INT, "prepare.py")
        self.assertNotIn("Traceback", result.err, result)
        self.assertEqual(list((recipe.parent / "run" / "tokens").glob("*.h5")), [])
        self.prepare(recipe)  # goes on from what may be left
        left = [path.name for path in (recipe.parent / "run" / "tokens").iterdir()]
        self.assertTrue(all(name.endswith(".tokens.h5") and name[0] != "." for name in left), left)

    def test_run_is_left_between_its_steps_and_the_same_command_goes_on(self):
        recipe = self.recipe(steps=3)
        text = recipe.read_text()
        recipe.write_text(text.replace(str(recipe.parent / "run"), str(recipe.parent / "whole")))
        whole = self.jobs.run([SUTOR, "run", recipe], ranks=1)
        self.assertEqual(whole.code, 0, whole)
        recipe.write_text(text)
        result = self.interrupted([SUTOR, "run", recipe],
                                  lambda pids: all(map(notes_signals, pids)), self.to_all(TERM))
        self.check_stopped(result, TERM, "before the step `prepare`")
        again = self.jobs.run([SUTOR, "run", recipe], ranks=1)
        self.assertEqual(again.code, 0, again)
        self.assertEqual((recipe.parent / "run" / "metrics.jsonl").exists(), True)


def main():
    global SUTOR
    SUTOR = jobs.program_argument(__doc__)
    unittest.main()


if __name__ == "__main__":
    main()
