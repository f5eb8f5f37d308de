#!/usr/bin/env python3
"""Two nodes on one machine: network namespaces joined by a cable, with host names, shared memory
and folders for temporary files of their own; a job's ranks are on both, connected by TCP alone.

  .venv/bin/python tests/fault/two_nodes_test.py build/sutor [-v] [Class.test]...

Expects sutor_comm_test and sutor_mpi_test beside the program. Needs root for the namespaces (exits
77 without). A millisecond of delay is added where the kernel has netem, and said to be missing
where not.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

import jobs

SUTOR = None  # set by main
NODES = {"sutor-node-a": "10.213.77.1", "sutor-node-b": "10.213.77.2"}

# What hydra starts instead of ssh: launcher [-x] HOST COMMAND...
LAUNCHER = """\
#!/bin/sh
[ "$1" = -x ] && shift
host=$1
shift
exec nsenter --target "$(cat "{folder}/$host.pid")" --net --uts --mount --ipc sh -c "$*"
"""
# What every rank runs in: the node's own folder for temporary files.
NODE_SHELL = 'export TMPDIR={folder}/tmp-$(hostname); exec "$0" "$@"'


def run(*command):
    done = subprocess.run([str(c) for c in command], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise AssertionError(f"$ {' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


class Nodes:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sutor-nodes-"))
        self.holders = {}
        try:
            self.build()
        except BaseException:
            self.stop()
            raise

    def build(self):
        hosts = self.folder / "hosts"
        hosts.write_text("127.0.0.1 localhost\n" +
                         "".join(f"{address} {name}\n" for name, address in NODES.items()))
        launcher = self.folder / "launcher"
        launcher.write_text(LAUNCHER.format(folder=self.folder))
        launcher.chmod(0o755)
        for name in NODES:
            (self.folder / f"tmp-{name}").mkdir()
            # The namespaces live as long as this process.
            script = (f"hostname {name} && mount --bind {hosts} /etc/hosts && "
                      "mount -t tmpfs tmpfs /dev/shm && mount -t sysfs sysfs /sys && "
                      "ip link set lo up && "
                      f"echo $$ > {self.folder}/{name}.pid && exec sleep infinity")
            self.holders[name] = subprocess.Popen(
                ["unshare", "--net", "--uts", "--mount", "--ipc", "sh", "-c", script],
                stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not all(self.pid_file(name).exists() and self.pid_file(name).read_text().strip()
                      for name in NODES):
            if time.monotonic() > deadline or any(h.poll() for h in self.holders.values()):
                raise AssertionError("the namespaces cannot be made")
            time.sleep(0.05)
        ends = [f"sut{os.getpid() % 100000}{end}" for end in "ab"]
        run("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for end, (name, address) in zip(ends, NODES.items()):
            run("ip", "link", "set", end, "netns", self.pid(name), "name", "cable")
            self.inside(name, "ip", "address", "add", f"{address}/24", "dev", "cable")
            self.inside(name, "ip", "link", "set", "cable", "up")
        try:
            for name in NODES:
                self.inside(name, "tc", "qdisc", "add", "dev", "cable", "root", "netem", "delay",
                            "1ms")
        except AssertionError:
            print("this kernel has no netem: the cable has no added delay", flush=True)

    def pid_file(self, name):
        return self.folder / f"{name}.pid"

    def pid(self, name):
        return self.pid_file(name).read_text().strip()

    def enter(self, name):
        return ["nsenter", "--target", self.pid(name), "--net", "--uts", "--mount", "--ipc"]

    def inside(self, name, *command):
        return run(*self.enter(name), *command)

    def mpiexec(self, *command, ranks=4, cleanup=True):
        """Ranks in blocks: 0 and 1 on the first node, 2 and 3 on the second."""
        shell = ["sh", "-c", NODE_SHELL.format(folder=self.folder)]
        if not cleanup:
            shell += ["sh", "-c", jobs.NO_CLEANUP_SCRIPT]
        return [*self.enter("sutor-node-a"), "mpiexec", "-launcher", "ssh", "-launcher-exec",
                self.folder / "launcher", "-hosts", ",".join(NODES), "-ppn", str(ranks // 2), "-n",
                str(ranks), *shell, *command]

    def stop(self):
        for holder in self.holders.values():
            holder.kill()
            holder.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class TwoNodes(jobs.JobTest):
    # MPICH's network module is UCX: its own TCP, over the cable alone, and nothing else.
    ENV = {"UCX_TLS": "tcp,self", "UCX_NET_DEVICES": "cable", "SUTOR_HEARTBEAT_TIMEOUT": "3"}

    @classmethod
    def setUpClass(cls):
        cls.nodes = Nodes()
        cls.addClassCleanup(cls.nodes.stop)
        folder = tempfile.TemporaryDirectory(prefix="sutor-fault-")
        cls.addClassCleanup(folder.cleanup)
        cls.jobs = jobs.Jobs(SUTOR, folder.name)

    def train(self, fault="", cleanup=True, steps=3, **how):
        recipe = self.jobs.recipe(steps)
        command = self.nodes.mpiexec(SUTOR, "train", recipe, cleanup=cleanup)
        return recipe, self.jobs.run(command, self.ENV | {"SUTOR_FAULT": fault}, **how)

    def test_programs_of_the_mpi_tests(self):
        for name, limit in (("sutor_comm_test", 60), ("sutor_mpi_test", 300)):
            program = pathlib.Path(SUTOR).parent / name
            with self.subTest(program=name):
                done = subprocess.run(
                    list(map(str, self.nodes.mpiexec(program))), text=True, timeout=limit,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                    env=os.environ | self.ENV | {"OMP_NUM_THREADS": "1",
                                                 "SUTOR_HEARTBEAT_TIMEOUT": "20"})
                self.assertEqual(done.returncode, 0, done.stdout[-4000:])
                self.assertIn("PASSED", done.stdout)

    def test_a_training_is_the_same_as_on_one_node(self):
        one = self.jobs.recipe()
        result = self.jobs.run(jobs.mpiexec(SUTOR, "train", one))
        self.assertEqual(result.code, 0, result)
        two, result = self.train()
        self.assertEqual(result.code, 0, result)
        self.assertEqual(result.err, "", result)
        self.assertEqual(len(self.jobs.losses(two)), 3)
        self.assertEqual(self.jobs.losses(two), self.jobs.losses(one))

    def test_a_rank_that_dies_or_stops_is_named_with_its_node(self):
        for fault, words in (("kill:rank=3:op=dispatch rows:count=2", "error[E0605]: rank 3 died ("
                              "host sutor-node-b"),
                             ("kill:rank=0:op=reduce gradients", "error[E0605]: rank 0 died (host "
                              "sutor-node-a"),
                             ("stop:rank=2:op=combine rows", "error[E0606]: rank 2 (host "
                              "sutor-node-b")):
            with self.subTest(fault=fault):
                _, result = self.train(fault, cleanup=False)
                self.check_end(result)
                self.assertIn(words, result.errors()[0], result)

    def test_the_end_of_a_whole_node(self):
        """Both ranks of the first node die at once; the second monitor is on the other one."""
        def kill_node(pids):
            if len(pids) == 4 and self.steps_done(recipe) > 3:
                for pid in pids:
                    if jobs.rank_of(pid) in (0, 1):
                        jobs.kill(pid)
        recipe = self.jobs.recipe(steps=100000)
        command = self.nodes.mpiexec(SUTOR, "train", recipe, cleanup=False)
        result = self.jobs.run(command, self.ENV, on_tick=kill_node)
        self.check_end(result)
        self.assertIn("error[E0605]: rank 0 died", result.err, result)
        self.assertIn("rank 1 died", result.err, result)

    def test_a_cut_cable(self):
        cut = []
        def cut_cable(pids):
            if not cut and len(pids) == 4 and self.steps_done(recipe) > 3:
                self.nodes.inside("sutor-node-b", "ip", "link", "set", "cable", "down")
                cut.append(time.monotonic())
            if cut and not pids:  # mpiexec itself waits for the other node
                self.nodes.inside("sutor-node-b", "ip", "link", "set", "cable", "up")
        recipe = self.jobs.recipe(steps=100000)
        command = self.nodes.mpiexec(SUTOR, "train", recipe, cleanup=False)
        try:
            result = self.jobs.run(command, self.ENV, on_tick=cut_cable)
        finally:
            self.nodes.inside("sutor-node-b", "ip", "link", "set", "cable", "up")
        self.assertNotEqual(result.code, 0, result)
        self.assertRegex(result.err, r"error\[E0606\]: rank [23] \(host sutor-node-b", result)

    def steps_done(self, recipe):
        path = recipe.parent / "run" / "metrics.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0


def missing_programs():
    return [p for p in ("ip", "tc", "nsenter", "unshare") if shutil.which(p) is None]


def can_run():
    probe = ["unshare", "--net", "--uts", "--mount", "--ipc", "true"]
    return os.geteuid() == 0 and not missing_programs() and subprocess.run(probe).returncode == 0


def main():
    global SUTOR
    SUTOR = jobs.program_argument(__doc__)
    missing = missing_programs()
    if not can_run():
        why = f"without {', '.join(missing)}" if missing else "not root, or no new namespaces here"
        print(f"skipped: {why}. This test makes two nodes of network namespaces: it needs root and "
              "iproute2 (tools/setup.sh --tests).")
        sys.exit(77)
    unittest.main()


if __name__ == "__main__":
    main()
