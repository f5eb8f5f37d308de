#!/usr/bin/env python3
"""A rank that dies, stops or fails ends the whole job: within 10 s, with an exit code that is not
0, its error first, no process left over. Tiny trainings of 4 ranks, EP 2 x 2 replicas, by mpiexec.

  .venv/bin/python tests/fault/fault_test.py build/sutor [-v] [Class.test]...
"""

import pathlib
import random
import signal
import tempfile
import time
import unittest

import jobs

SUTOR = None  # set by main


class FaultTest(jobs.JobTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="sutor-fault-")
        cls.jobs = jobs.Jobs(SUTOR, cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def train(self, fault="", cleanup=True, options=(), steps=3, every=0, **how):
        recipe = self.jobs.recipe(steps, every)
        env = {"SUTOR_FAULT": fault, "SUTOR_HEARTBEAT_TIMEOUT": "3"}
        command = jobs.mpiexec(self.jobs.sutor, "train", recipe, options=options, cleanup=cleanup)
        return self.jobs.run(command, env, **how)

    def check_named(self, result, rank, operation=None, code="E0605"):
        """The first error names the rank, the report the operation that waits for it."""
        first = result.errors()[0] if result.errors() else ""
        self.assertIn(f"error[{code}]: rank {rank} ", first, result)
        if operation is not None:
            self.assertRegex(result.err, rf"waits? in `{operation}` #\d+ of group .* for ranks? ",
                             result)


class Death(FaultTest):
    """kill -9 in the middle of named operations."""

    CASES = [("forward", "dispatch rows", 1), ("backward", "combine rows", 4),
             ("reduction", "reduce gradients", 1), ("saving", "write checkpoint", 1),
             ("saving", "checkpoint records", 1)]

    def test_survivors_name_rank_and_operation(self):
        for n, (what, operation, count) in enumerate(self.CASES):
            rank = (n + 1) % 4
            with self.subTest(what=what, operation=operation, rank=rank):
                result = self.train(f"kill:rank={rank}:op={operation}:count={count}",
                                    cleanup=False, every=1)
                self.check_end(result)
                self.check_named(result, rank, operation)

    def test_rank_0(self):
        for operation in ("dispatch rows", "reduce gradients"):
            with self.subTest(operation=operation):
                result = self.train(f"kill:rank=0:op={operation}", cleanup=False)
                self.check_end(result)
                self.check_named(result, 0, operation)

    def test_under_a_launcher_that_kills_the_others_itself(self):
        for n, (what, operation, count) in enumerate(self.CASES):
            for options in ([], ["-disable-auto-cleanup"]):
                with self.subTest(what=what, operation=operation, options=options):
                    result = self.train(f"kill:rank={n % 4}:op={operation}:count={count}", every=1,
                                        options=options)
                    self.check_end(result)

    def test_from_outside_at_any_time(self):
        for cleanup in (False, True):
            seed = time.time_ns()
            numbers = random.Random(seed)
            delay, victim = numbers.uniform(0, 2), numbers.randrange(4)
            with self.subTest(seed=seed, delay=delay, victim=victim, cleanup=cleanup):
                result = self.train(cleanup=cleanup, steps=100000, every=5,
                                    on_tick=Killer(victim, delay))
                self.check_end(result)
                if not cleanup:
                    self.check_named(result, victim)


class Killer:
    """Sends a signal to a rank some time after all ranks are there and their start is over."""

    def __init__(self, rank, delay, number=signal.SIGKILL):
        self.rank, self.delay, self.number = rank, delay + 3, number
        self.since = None

    def __call__(self, pids):
        if len(pids) < 4 or self.delay is None:
            return
        self.since = self.since or time.monotonic()
        if time.monotonic() - self.since < self.delay:
            return
        for pid in pids:
            if jobs.rank_of(pid) == self.rank:
                self.delay = None
                jobs.kill(pid, self.number)


class Stop(FaultTest):
    """A rank that stops (SIGSTOP, a hanging disk) is named after a time without a heartbeat."""

    def test_any_rank(self):
        for rank, operation in ((0, "dispatch rows"), (1, "reduce gradients"), (3, "combine rows")):
            for cleanup in (False, True):
                with self.subTest(rank=rank, operation=operation, cleanup=cleanup):
                    result = self.train(f"stop:rank={rank}:op={operation}", cleanup)
                    self.check_end(result)
                    self.check_named(result, rank, operation, code="E0606")
                    self.assertIn("SIGSTOP", result.err, result)

    def test_a_job_that_was_stopped_as_a_whole_goes_on(self):
        recipe = self.jobs.recipe(steps=400)
        process = self.jobs.start(jobs.mpiexec(self.jobs.sutor, "train", recipe),
                                  {"SUTOR_HEARTBEAT_TIMEOUT": "3"})
        streams = jobs.Streams(process)
        deadline = time.monotonic() + 60
        while not (recipe.parent / "run" / "metrics.jsonl").exists():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        pids = self.jobs.rank_pids()
        self.assertEqual(len(pids), 4)
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                jobs.kill(pid, number)
            time.sleep(6 if number == signal.SIGSTOP else 0)
        process.wait(timeout=120)
        out, err = streams.text()
        self.assertEqual(process.returncode, 0, out + err)
        self.assertEqual(len(self.jobs.losses(recipe)), 400)


class Failure(FaultTest):
    """An error of one rank: its message comes first, its exit code wins."""

    def test_a_rank_that_throws(self):
        for rank, operation in ((2, "dispatch rows"), (0, "reduce gradients"), (1, "combine rows")):
            for cleanup in (False, True):
                with self.subTest(rank=rank, operation=operation, cleanup=cleanup):
                    result = self.train(f"throw:rank={rank}:op={operation}:count=2", cleanup)
                    self.check_end(result)
                    if cleanup:
                        self.assertEqual(result.code, 3, result)
                    self.assertTrue(result.errors()[0].startswith(f"rank {rank}: error[E0390]"),
                                    result)
                    self.assertNotIn("E0605", result.err, result)

    def test_a_bad_model_on_one_node(self):
        good = self.jobs.recipe()
        bad = self.jobs.recipe(model=self.folder.name + "/nowhere")
        result = self.jobs.run(
            ["mpiexec", "-n", "3", self.jobs.sutor, "train", good, ":", "-n", "1",
             self.jobs.sutor, "train", bad], {"SUTOR_HEARTBEAT_TIMEOUT": "3"})
        self.check_end(result)
        self.assertEqual(result.code, 3, result)
        self.assertIn("nowhere", result.errors()[0], result)
        self.assertNotIn("E0605", result.err, result)

    def test_an_error_of_all_is_printed_once(self):
        bad = self.jobs.recipe(model=self.folder.name + "/nowhere")
        result = self.jobs.run(jobs.mpiexec(self.jobs.sutor, "train", bad))
        self.assertEqual(result.code, 3, result)
        self.assertEqual(len(result.errors()), 1, result)


class Order(FaultTest):
    """A good run is quiet, and its journals prove one order of operations."""

    def test_journals_of_all_ranks(self):
        folder = pathlib.Path(self.folder.name) / "journals"
        folder.mkdir()
        recipe = self.jobs.recipe(every=2)
        result = self.jobs.run(jobs.mpiexec(self.jobs.sutor, "train", recipe),
                               {"SUTOR_JOURNAL": str(folder)})
        self.assertEqual(result.code, 0, result)
        self.assertEqual(result.err, "", result)
        self.assertEqual(jobs.order_problem(folder), "", result)


def main():
    global SUTOR
    SUTOR = jobs.program_argument(__doc__)
    unittest.main()


if __name__ == "__main__":
    main()
