#!/usr/bin/env python3
"""Strangers at the ports of the watchdog: they change nothing, cost next to nothing, are counted.

  .venv/bin/python tests/fault/stranger_test.py build/sutor [-v] [Class.test]...
"""

import json
import os
import pathlib
import re
import resource
import socket
import tempfile
import time
import unittest

import jobs

SUTOR = None  # set by main


def listening(pids):
    """The (pid, address, port) on which these processes listen, but for MPI's own ports: those of
    the watchdog are not inherited by children."""
    sockets = {}
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "0A":
            address, port = words[1].split(":")
            text = ".".join(str(b) for b in reversed(bytes.fromhex(address)))
            sockets[words[9]] = (text, int(port, 16))
    found = []
    for pid in pids:
        for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            try:
                inode = re.match(r"socket:\[(\d+)\]", os.readlink(fd))
                flags = pathlib.Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text()
            except OSError:
                continue
            closes = int(re.search(r"flags:\s+(\d+)", flags).group(1), 8) & os.O_CLOEXEC
            if inode and closes and inode.group(1) in sockets:
                found.append((pid, *sockets[inode.group(1)]))
    return found


class Strangers(unittest.TestCase):
    STEPS = 100000

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="sutor-strangers-")
        self.addCleanup(folder.cleanup)
        self.jobs = jobs.Jobs(SUTOR, folder.name)
        self.recipe = self.jobs.recipe(steps=self.STEPS, every=20)
        self.process = self.jobs.start(
            jobs.mpiexec(SUTOR, "train", self.recipe, ranks=2))
        self.streams = jobs.Streams(self.process)
        self.addCleanup(self.jobs.kill_all, self.process)
        self.await_steps(3)
        self.ports = listening(self.jobs.rank_pids())

    def lines(self):
        path = self.recipe.parent / "run" / "metrics.jsonl"
        return path.read_text().splitlines() if path.exists() else []

    def await_steps(self, count):
        until = time.monotonic() + 60
        while len(self.lines()) < count:
            self.assertIsNone(self.process.poll(), "it ended")
            self.assertLess(time.monotonic(), until)
            time.sleep(0.05)

    def stop(self):
        """Asks the job to end; returns its result."""
        jobs.kill(self.process.pid, jobs.signal.SIGTERM)
        self.process.wait(timeout=60)
        out, err = self.streams.text()
        return jobs.Result(["train"], self.process.returncode, out, err)

    def test_they_change_nothing_and_are_counted(self):
        self.assertEqual(len(self.ports), 2)  # the two monitors
        self.assertEqual({address for _, address, _ in self.ports}, {"127.0.0.1"})
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        pid, address, port = self.ports[0]
        status = pathlib.Path(f"/proc/{pid}/status")

        def memory():
            return int(re.search(r"VmRSS:\s+(\d+)", status.read_text()).group(1)) >> 10

        before, descriptors = memory(), len(os.listdir(f"/proc/{pid}/fd"))
        crowd = [socket.create_connection((address, port)) for _ in range(1100)]
        for guest, words in zip(crowd, (b"[" * 15_000_000, b'{"type":"end","code":0,"kill":[1]}\n',
                                        b'{"type":"abort","code":3}\n', b"\0" * 1000)):
            try:
                guest.sendall(words)
            except OSError:
                pass  # turned away meanwhile
        time.sleep(1)
        self.assertLess(len(os.listdir(f"/proc/{pid}/fd")), descriptors + 20)
        self.assertLess(memory(), before + 100)
        count = len(self.lines())
        self.await_steps(count + 50)  # and saves in between
        result = self.stop()
        for guest in crowd:
            guest.close()
        self.assertIn(result.code, (75, 0), result)  # 0: hydra, at times
        self.assertRegex(result.err, r"warning\[W0609\]: \d+ connections? not of this job")
        self.assertIn("1100 connections not of this job", result.err, result)
        steps = [json.loads(line)["step"] for line in self.lines()]
        self.assertEqual(steps, list(range(1, len(steps) + 1)))


def main():
    global SUTOR
    SUTOR = jobs.program_argument(__doc__)
    unittest.main()


if __name__ == "__main__":
    main()
