#!/usr/bin/env python3
"""Processes that torchrun, or a script with its environment, started: they become one job, also
over two hosts without ssh, or end with a message; never do they train side by side in one folder.

  .venv/bin/python tests/fault/torchrun_test.py build/sutor [-v] [Class.test]...

The two hosts are network namespaces: that test needs root. torchrun itself is used where
.venv-reference has it.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

import copies
import jobs
import two_nodes_test

SUTOR = None  # set by main
COPIES = str(pathlib.Path(copies.__file__).resolve())
TORCHRUN = jobs.ROOT / ".venv-reference" / "bin" / "torchrun"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def started(world, *command, first=0, count=None, place=None):
    place = place or f"127.0.0.1:{free_port()}"
    return [sys.executable, COPIES, str(world), str(first), str(count or world), place, *command]


class TorchrunTest(jobs.JobTest):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="sutor-fault-")
        cls.addClassCleanup(folder.cleanup)
        cls.jobs = jobs.Jobs(SUTOR, folder.name)

    def check_nothing_written(self, recipe):
        self.assertEqual([p.name for p in (recipe.parent / "run").iterdir()], ["tokens"])


class OneHost(TorchrunTest):
    def expected(self):
        recipe = self.jobs.recipe()
        result = self.jobs.run(jobs.mpiexec(SUTOR, "train", recipe))
        self.assertEqual(result.code, 0, result)
        return self.jobs.losses(recipe)

    def test_copies_train_as_one_job_like_mpiexec(self):
        recipe = self.jobs.recipe()
        result = self.jobs.run(started(4, SUTOR, "train", recipe))
        self.assertEqual(result.code, 0, result)
        self.assertEqual(result.err, "", result)
        self.assertEqual(len(self.jobs.losses(recipe)), 3)
        self.assertEqual(self.jobs.losses(recipe), self.expected())

    @unittest.skipUnless(TORCHRUN.is_file(), "without .venv-reference (tools/setup-reference.sh)")
    def test_torchrun_itself(self):
        recipe = self.jobs.recipe()
        result = self.jobs.run(
            [TORCHRUN, "--no-python", "--nproc-per-node", "4", "--master-port", free_port(), SUTOR,
             "train", recipe])
        self.assertEqual(result.code, 0, result)
        self.assertEqual(self.jobs.losses(recipe), self.expected())

    def test_a_rank_that_dies_ends_the_job_and_is_named(self):
        for rank in (0, 2):
            with self.subTest(rank=rank):
                env = {"SUTOR_FAULT": f"kill:rank={rank}:op=dispatch rows:count=3"}
                result = self.jobs.run(started(4, SUTOR, "train", self.jobs.recipe()), env)
                self.check_end(result)
                self.assertIn(f"error[E0605]: rank {rank} died", result.err, result)

    def test_an_error_of_all_ranks_is_said_once(self):
        command = [SUTOR, "train", self.jobs.recipe(), "--set", "optim.lr=x"]
        result = self.jobs.run(started(2, *command), ranks=2)
        self.assertEqual(result.code, 2, result)
        self.assertEqual(result.err.count("error[E0205]"), 1, result)

    def test_a_signal_saves_and_exits_75(self):
        recipe = self.jobs.recipe(steps=100000)
        told = []
        def tell(pids):
            metrics = recipe.parent / "run" / "metrics.jsonl"
            if not told and metrics.exists() and metrics.read_text().count("\n") > 3:
                told.append(pids)
                for pid in pids:
                    jobs.kill(pid, signal.SIGTERM)
        result = self.jobs.run(started(2, SUTOR, "train", recipe), ranks=2, on_tick=tell)
        self.assertEqual(result.code, 75, result)
        self.assertEqual(result.err.count("error[E7500]: stopped by SIGTERM"), 1, result)

    def test_an_incomplete_environment_is_refused(self):
        recipe = self.jobs.recipe()
        whole = copies.environment(0, 2, 0, 2, "127.0.0.1:1")
        for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
            env = dict(os.environ, **{k: v for k, v in whole.items() if k != name})
            done = subprocess.run([SUTOR, "train", recipe], env=env, text=True, timeout=60,
                                  stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(f"error[E0240]: WORLD_SIZE=2 says that 2 processes were started, but "
                          f"{name} is not set", done.stderr)
        self.check_nothing_written(recipe)

    def test_a_rank_that_does_not_come_is_named_after_a_time_limit(self):
        recipe = self.jobs.recipe()
        result = self.jobs.run(started(3, SUTOR, "train", recipe, count=2),
                               {"SUTOR_COMM_TIMEOUT": "3"}, ranks=2)
        self.assertEqual(result.code, 6, result)
        self.assertRegex(result.err,
                         r"error\[E0602\]: 1 of the 3 ranks have not come to .*: rank 2")
        self.check_nothing_written(recipe)

    def test_nobody_at_the_meeting_place(self):
        recipe = self.jobs.recipe()
        result = self.jobs.run(started(2, SUTOR, "train", recipe, first=1, count=1),
                               {"SUTOR_COMM_TIMEOUT": "2"}, ranks=1)
        self.assertEqual(result.code, 6, result)
        self.assertIn("error[E0602]: rank 1 cannot reach 127.0.0.1:", result.err, result)
        self.check_nothing_written(recipe)

    def test_a_port_of_another_program_is_refused(self):
        recipe = self.jobs.recipe()
        with socket.socket() as other:
            other.bind(("0.0.0.0", 0))
            other.listen()
            place = f"127.0.0.1:{other.getsockname()[1]}"
            result = self.jobs.run(started(2, SUTOR, "train", recipe, count=1, place=place),
                                   {"SUTOR_COMM_TIMEOUT": "5"}, ranks=1)
        self.assertEqual(result.code, 2, result)
        self.assertIn("error[E0240]: rank 0 cannot open 127.0.0.1:", result.err, result)
        self.check_nothing_written(recipe)

    def test_two_processes_of_one_rank_are_refused(self):
        recipe = self.jobs.recipe()
        place = f"127.0.0.1:{free_port()}"
        process = self.jobs.start(started(3, SUTOR, "train", recipe, count=2, place=place),
                                  {"SUTOR_COMM_TIMEOUT": "15"})
        streams = jobs.Streams(process)
        self.addCleanup(self.jobs.kill_all, process)
        second = subprocess.run(
            list(map(str, started(3, SUTOR, "train", recipe, first=1, count=1, place=place))),
            env=dict(os.environ, SUTOR_COMM_TIMEOUT="8"), text=True, timeout=60,
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        process.wait(timeout=60)
        both = streams.text()[1] + second.stderr
        self.assertEqual(both.count("error[E0240]: another process is rank 1"), 1, both)
        self.check_nothing_written(recipe)


class TwoHosts(TorchrunTest):
    @classmethod
    def setUpClass(cls):
        if not two_nodes_test.can_run():
            raise unittest.SkipTest("two hosts are network namespaces: not root, or no iproute2")
        super().setUpClass()
        cls.nodes = two_nodes_test.Nodes()
        cls.addClassCleanup(cls.nodes.stop)

    def run_on_both(self, recipe, env=None):
        """Ranks 0 and 1 on the first host, 2 and 3 on the second; nothing joins them but TCP."""
        place = f"{two_nodes_test.NODES['sutor-node-a']}:29500"
        parts = []
        for first, name in ((0, "sutor-node-a"), (2, "sutor-node-b")):
            parts.append([*self.nodes.enter(name), *started(4, SUTOR, "train", recipe, first=first,
                                                            count=2, place=place)])
        script = '"${@:1:$N}" & "${@:$N+1}"; b=$?; wait $!; a=$?; exit $((a > b ? a : b))'
        command = ["bash", "-c", script, "both", *parts[0], *parts[1]]
        env = {"N": str(len(parts[0]))} | two_nodes_test.TwoNodes.ENV | (env or {})
        return self.jobs.run(command, env)

    def test_a_training_is_the_same_as_on_one(self):
        one, two = self.jobs.recipe(), self.jobs.recipe()
        result = self.jobs.run(jobs.mpiexec(SUTOR, "train", one))
        self.assertEqual(result.code, 0, result)
        result = self.run_on_both(two)
        self.assertEqual(result.code, 0, result)
        self.assertEqual(len(self.jobs.losses(two)), 3)
        self.assertEqual(self.jobs.losses(two), self.jobs.losses(one))

    def test_a_rank_that_dies_on_the_other_host_ends_the_job(self):
        result = self.run_on_both(self.jobs.recipe(),
                                  {"SUTOR_FAULT": "kill:rank=3:op=dispatch rows:count=2"})
        self.check_end(result)
        self.assertIn("error[E0605]: rank 3 died (host sutor-node-b", result.err, result)


def main():
    global SUTOR
    SUTOR = jobs.program_argument(__doc__)
    unittest.main()


if __name__ == "__main__":
    main()
