#!/usr/bin/env python3
"""A real SLURM on this one host: srun, mpiexec in an allocation, sbatch of the shipped template,
and a rank that dies under srun.

  .venv/bin/python tests/fault/slurm_test.py build/sutor [-v] [Class.test]...

Starts munged, slurmctld and slurmd of its own on free ports in a temporary folder, and stops them.
Needs root and the packages slurm-wlm and munge (tools/setup.sh --tests); exits 77 without.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import jobs

SUTOR = None  # set by main

# cred_expire: a job that is requeued waits for so many seconds. OverTimeLimit: minutes that a job
# may go on behind its limit, on a busy machine.
SLURM_CONF = """\
ClusterName=sutor-test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller_port}
SlurmdPort={daemon_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=30
MessageTimeout=60
OverTimeLimit=10
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Slurm:
    """The three daemons; SLURM_CONF of `environment` points every command at them."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sutor-slurm-"))
        self.folder.chmod(0o755)
        (self.folder / "state").mkdir()
        (self.folder / "spool").mkdir()
        self.conf = self.folder / "slurm.conf"
        self.conf.write_text(SLURM_CONF.format(
            host=socket.gethostname().split(".")[0], folder=self.folder,
            controller_port=free_port(), daemon_port=free_port()))
        self.environment = dict(os.environ, SLURM_CONF=str(self.conf))
        self.daemons = []
        try:
            self.start_daemons()
        except BaseException:
            self.stop()
            raise

    def start_daemons(self):
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self.daemon("munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket",
                    f"--key-file={key}", f"--pid-file={self.folder}/munge.pid",
                    f"--seed-file={self.folder}/munge.seed", f"--log-file={self.folder}/munge.log")
        self.wait_for(lambda: (self.folder / "munge.socket").exists(), "munged")
        self.daemon("slurmctld", "-D", "-i", "-f", str(self.conf))
        self.daemon("slurmd", "-D", "-f", str(self.conf))
        self.wait_for(lambda: "idle" in self.command("sinfo", "-h", "-o", "%T"), "an idle node")

    def daemon(self, *command):
        log = (self.folder / f"{command[0]}.out").open("w")
        self.daemons.append(subprocess.Popen(command, stdout=log, stderr=log, env=self.environment,
                                             stdin=subprocess.DEVNULL, start_new_session=True))
        log.close()

    def command(self, *command):
        return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=self.environment, timeout=60).stdout

    def wait_for(self, ready, what, seconds=60):
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                paths = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
                logs = "\n".join(f"--- {p.name}\n{p.read_text()[-1500:]}" for p in paths)
                raise AssertionError(f"no {what} after {seconds} s\n{logs}")
            time.sleep(0.2)

    def stop(self):
        if len(self.daemons) == 3:
            self.command("scancel", "--user=root")
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class SlurmTest(jobs.JobTest):
    @classmethod
    def setUpClass(cls):
        cls.slurm = Slurm()
        cls.addClassCleanup(cls.slurm.stop)
        folder = tempfile.TemporaryDirectory(prefix="sutor-fault-")
        cls.addClassCleanup(folder.cleanup)
        cls.jobs = jobs.Jobs(SUTOR, folder.name)

    def run_job(self, *command, env=None, ranks=4, **how):
        return self.jobs.run(command, {"SLURM_CONF": str(self.slurm.conf)} | (env or {}),
                             ranks=ranks, **how)

    def srun(self, *command, mpi="pmi2", ranks=4):
        return ["srun", f"--mpi={mpi}", "-n", str(ranks), *command]

    def test_srun_mpiexec_and_sbatch_train_the_same(self):
        recipes = [self.jobs.recipe() for _ in range(4)]
        train = [[SUTOR, "train", recipe] for recipe in recipes]
        plain = self.jobs.run(jobs.mpiexec(*train[0]))
        self.assertEqual(plain.code, 0, plain)
        under_srun = self.run_job(*self.srun(*train[1]))
        self.assertEqual(under_srun.code, 0, under_srun)
        self.assertEqual(under_srun.err, "", under_srun)
        inside = self.run_job("salloc", "-Q", "-n", "4", "mpiexec", "-n", "4", *train[2])
        self.assertEqual(inside.code, 0, inside)
        log = recipes[3].parent / "log"
        batch = self.run_job(
            "sbatch", "--wait", "--ntasks-per-node=4", f"--output={log}",
            f"--export=ALL,RECIPE={recipes[3]},SUTOR={SUTOR}",
            jobs.ROOT / "recipes" / "slurm" / "train.sbatch")
        self.assertEqual(batch.code, 0, f"{batch}\n{log.read_text() if log.exists() else ''}")
        expected = self.jobs.losses(recipes[0])
        self.assertEqual(len(expected), 3)
        for recipe in recipes[1:]:
            self.assertEqual(self.jobs.losses(recipe), expected)

    def test_srun_without_pmi_is_refused_once(self):
        result = self.run_job(*self.srun(SUTOR, "train", self.jobs.recipe(), mpi="none"))
        self.assertEqual(result.code, 2, result)
        self.assertEqual(result.err.count("error[E0240]"), 1, result)
        self.assertIn("--mpi=pmi2", result.err, result)

    def test_one_process_in_an_allocation_is_legal(self):
        for command in (["salloc", "-Q", "-n", "4", SUTOR], self.srun(SUTOR, mpi="none", ranks=1)):
            recipe = self.jobs.recipe()
            result = self.run_job(*command, "train", recipe, "--set", "parallel.ep=1")
            self.assertEqual(result.code, 0, result)
            self.assertEqual(len(self.jobs.losses(recipe)), 3)
        recipe, log = self.jobs.recipe(), self.jobs.folder / "batch.log"
        script = self.jobs.folder / "batch.sh"
        script.write_text(f"#!/bin/sh\n{SUTOR} train {recipe} --set parallel.ep=1\n")
        result = self.run_job("sbatch", "--wait", "-n", "4", f"--output={log}", script)
        self.assertEqual(result.code, 0, f"{result}\n{log.read_text()}")

    def test_a_rank_that_dies_ends_the_step_and_is_named(self):
        env = {"SUTOR_FAULT": "kill:rank=2:op=dispatch rows:count=3"}
        result = self.run_job(*self.srun(SUTOR, "train", self.jobs.recipe()), env=env)
        self.check_end(result)
        self.assertIn("error[E0605]: rank 2 died", result.err, result)
        self.assertRegex(result.err, r"waits in `dispatch rows` #\d+ of group .* for rank 2",
                         result)

    def stopped(self, command, log=None):
        """Starts a long training, sends USR1 to its step after some steps; returns its result."""
        recipe = self.jobs.recipe(steps=100000)
        metrics = recipe.parent / "run" / "metrics.jsonl"
        process = self.jobs.start(command(recipe), {"SLURM_CONF": str(self.slurm.conf)})
        streams = jobs.Streams(process)
        self.addCleanup(self.jobs.kill_all, process)
        self.slurm.wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 5,
                            "step 5")
        job = self.slurm.command("squeue", "-h", "-o", "%i").split()[-1]
        self.slurm.command("scancel", "--signal=USR1", job)
        process.wait(timeout=60)
        out, err = streams.text()
        err += log.read_text() if log else ""
        result = jobs.Result(command(recipe), process.returncode, out, err)
        self.assertEqual(result.code, 75, result)
        last = len(self.jobs.losses(recipe))
        self.assertEqual(err.count("error[E7500]: stopped by SIGUSR1"), 1, result)
        self.assertIn(f"step-{last:08} is saved", err, result)
        self.assertTrue((recipe.parent / "run" / "checkpoints" / f"step-{last:08}").is_dir())

    def test_a_signal_before_the_time_limit_saves_and_exits_75(self):
        self.stopped(lambda recipe: self.srun(SUTOR, "train", recipe))
        self.stopped(lambda recipe: ["salloc", "-Q", "-n", "4", *self.srun(SUTOR, "train", recipe)])
        log = self.jobs.folder / "stopped.log"
        self.stopped(lambda recipe: [
            "sbatch", "--wait", "--no-requeue", "--ntasks-per-node=4", f"--output={log}",
            f"--export=ALL,RECIPE={recipe},SUTOR={SUTOR}",
            jobs.ROOT / "recipes" / "slurm" / "train.sbatch"], log)

    def submit(self, script, ranks, log, export, *options, env=None):
        """Submits a shipped script; returns the number of the job."""
        done = self.run_job(
            "sbatch", "--parsable", f"--ntasks-per-node={ranks}", f"--output={log}",
            f"--export=ALL,SUTOR={SUTOR},{export}", *options,
            jobs.ROOT / "recipes" / "slurm" / script, env=env)
        self.assertEqual(done.code, 0, done)
        return done.out.strip()

    def wait_for_end(self, job, on_tick=lambda: None, seconds=200):
        def ended():
            on_tick()
            return not self.slurm.command("squeue", "-h", "-j", job, "-o", "%i %T")
        self.addCleanup(self.slurm.command, "scancel", job)
        self.slurm.wait_for(ended, f"end of job {job}", seconds)

    def stopped_ranks(self, recipe):
        return [pid for pid in jobs.pids_of(str(recipe.parent)) if jobs.state_of(pid) == "T"]

    def go_on_when_signalled(self, recipe, tell, told=lambda: None):
        """For ranks that stop at a step: at the first one tell(pid) is called, and it goes on when
        SIGUSR1 has come, behind told(); later ones go on at once. Returns what does this again and
        again."""
        asked, signalled = [], []
        def tick():
            for pid in self.stopped_ranks(recipe):
                if not asked:
                    asked.append(pid)
                    tell(pid)
                if not signalled and jobs.has_pending(pid, signal.SIGUSR1):
                    signalled.append(pid)
                    told()
                if signalled:
                    jobs.kill(pid, signal.SIGCONT)
        return tick

    def check_as_if_never_stopped(self, recipe, log, steps):
        expected = self.jobs.recipe(steps)
        plain = self.jobs.run(jobs.mpiexec(SUTOR, "train", expected, ranks=2), ranks=2)
        self.assertEqual(plain.code, 0, plain)
        text = log.read_text()
        self.assertGreaterEqual(text.count("error[E7500]: stopped by SIGUSR1"), 1, text)
        self.assertIn("resumed at step", text)
        self.assertEqual(len(self.jobs.losses(recipe)), steps, text)
        self.assertEqual(self.jobs.losses(recipe), self.jobs.losses(expected), text)

    # (On a busy machine a rank that is stopped may wait for long.)
    STOPS = {"SUTOR_FAULT": "stop:rank=0:op=end of step:count=4", "SUTOR_HEARTBEAT_TIMEOUT": "120"}

    def set_minutes(self, job, minutes):
        self.assertEqual(
            self.slurm.command("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}"), "")

    def test_a_job_near_its_time_limit_is_requeued_and_its_losses_are_as_if_nothing_had_happened(
            self):
        recipe, log = self.jobs.recipe(steps=8), self.jobs.folder / "requeued.log"
        job = self.submit("train.sbatch", 2, log, f"RECIPE={recipe}", env=self.STOPS)
        # Of a job with five minutes left SLURM sends the signal that the script asks for when it
        # looks next: it does so every half minute.
        self.wait_for_end(job, self.go_on_when_signalled(
            recipe, lambda _: self.set_minutes(job, 5), lambda: self.set_minutes(job, 1440)))
        self.check_as_if_never_stopped(recipe, log, 8)
        self.assertIn("Restarts=1", self.slurm.command("scontrol", "show", "job", job))
        self.assertTrue((recipe.parent / "run" / "export" / "adapter").is_dir())

    def test_tasks_of_an_array_train_by_a_line_each_and_are_requeued_when_signalled(self):
        recipes = [self.jobs.recipe(steps=8), self.jobs.recipe(steps=8)]
        tasks, log = self.jobs.folder / "tasks.txt", self.jobs.folder / "array-%a.log"
        tasks.write_text(f"# two trainings\n{recipes[0]}\n\n{recipes[1]} --set optim.lr=2e-3\n")
        job = self.submit("array.sbatch", 2, log, f"TASKS={tasks}", "--array=1-3", env=self.STOPS)
        # Straight to the ranks: scancel repeats a signal to a task of an array, and the second one
        # would end the training at once.
        ticks = [self.go_on_when_signalled(recipe, lambda _, recipe=recipe: [
            jobs.kill(pid, signal.SIGUSR1) for pid in jobs.pids_of(str(recipe.parent))])
                 for recipe in recipes]
        self.wait_for_end(job, lambda: [tick() for tick in ticks])
        for recipe, name in zip(recipes, ("array-1.log", "array-2.log")):
            text = (self.jobs.folder / name).read_text()
            self.assertEqual(text.count("error[E7500]: stopped by SIGUSR1"), 1, text)
            self.assertEqual(text.count("resumed at step"), 1, text)
            self.assertEqual(len(self.jobs.losses(recipe)), 8, text)
        self.check_as_if_never_stopped(recipes[0], self.jobs.folder / "array-1.log", 8)
        losses = [self.jobs.losses(recipe) for recipe in recipes]
        self.assertEqual(losses[0][0], losses[1][0])
        self.assertNotEqual(losses[0][2], losses[1][2])
        self.assertIn(f"{tasks} holds 2; submit with --array=1-2",
                      (self.jobs.folder / "array-3.log").read_text())

    def test_a_rank_that_stops_or_throws(self):
        for fault, words in (("stop:rank=0:op=reduce gradients", "error[E0606]: rank 0 "),
                             ("throw:rank=3:op=reduce gradients", "rank 3: error[E0390]")):
            with self.subTest(fault=fault):
                env = {"SUTOR_FAULT": fault, "SUTOR_HEARTBEAT_TIMEOUT": "3"}
                result = self.run_job(*self.srun(SUTOR, "train", self.jobs.recipe()), env=env)
                self.check_end(result)
                self.assertIn(words, result.errors()[0], result)


def main():
    global SUTOR
    SUTOR = jobs.program_argument(__doc__)
    missing = [p for p in ("munged", "slurmctld", "slurmd", "srun") if shutil.which(p) is None]
    if os.geteuid() != 0 or missing:
        why = f"without {', '.join(missing)}" if missing else "not root"
        print(f"skipped: {why}. This test starts a SLURM of its own: it needs root, slurm-wlm and "
              "munge (tools/setup.sh --tests).")
        sys.exit(77)
    unittest.main()


if __name__ == "__main__":
    main()
