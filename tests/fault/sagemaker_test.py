#!/usr/bin/env python3
"""The program of the SageMaker container (tools/sagemaker.py) in folders as the service lays them
out: scoring and training, a spot interruption, reasons of failure, two hosts.

  .venv/bin/python tests/fault/sagemaker_test.py build/sutor [-v] [Class.test]...

The two hosts are network namespaces: that test needs root.
"""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import jobs
import two_nodes_test

SUTOR = None  # set by main
ENTRY = jobs.ROOT / "tools" / "sagemaker.py"
SECONDS = 120  # the longest that one container may take
sys.path.insert(0, str(jobs.ROOT / "tools"))
from sutor_sagemaker.request import METRICS  # noqa: E402

# Strings, as the service hands them on; some quoted, as its Python library writes them.
HYPERPARAMETERS = {
    "n_sample_tokens": "200", "score_function": '"token"', "score_threshold": "0.3",
    "global_batch_size": "4", "micro_batch_size": "1", "learning_rate": "1e-3",
    "warmup_ratio": "0.5", "lr_decay_style": "linear", "max_length": "64", "save_interval": "2",
    "gpus_per_process": "1", "model": "tiny/deepseek", "model.dtype": "fp32",
    "schedule.steps": "6", "data.loss_on": "all", "data.packing": "false", "eval.every": "3",
    "train.threads": "1", "sagemaker_job_name": '"job-1"',
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Containers:
    """A model, rows, and folders that stand for /opt/ml."""

    def __init__(self, folder):
        self.folder, self.count = pathlib.Path(folder), 0
        subprocess.run([SUTOR, "init-model", "--family", "deepseek_v2", "--out",
                        str(self.folder / "model")], check=True, stdout=subprocess.DEVNULL,
                       timeout=SECONDS)
        numbers = random.Random(5)
        for name, rows in (("train", 24), ("eval", 6)):
            (self.folder / name).mkdir()
            (self.folder / name / "rows.jsonl").write_text("".join(
                json.dumps({"input_ids": [numbers.randrange(3, 200) for _ in range(24)]}) + "\n"
                for _ in range(rows)))

    def make(self, parameters=None, without=(), hosts=("algo-1",), current="algo-1",
             channels=("model", "train", "eval")):
        self.count += 1
        opt = self.folder / f"opt-{self.count}"
        config = opt / "input" / "config"
        for folder in (config, opt / "input" / "data", opt / "model", opt / "output" / "data",
                       opt / "checkpoints"):
            folder.mkdir(parents=True)
        values = HYPERPARAMETERS | (parameters or {})
        for name in without:
            del values[name]
        (config / "hyperparameters.json").write_text(json.dumps(values))
        (config / "resourceconfig.json").write_text(json.dumps(
            {"current_host": current, "hosts": list(hosts), "network_interface_name": "cable"}))
        for name in channels:
            shutil.copytree(self.folder / name, opt / "input" / "data" / name)
        return opt

    def environment(self, opt, env=None):
        return dict(os.environ, SUTOR=SUTOR, SUTOR_OPT_ML=str(opt), OMP_NUM_THREADS="1",
                    NO_COLOR="1", MASTER_PORT=str(free_port())) | (env or {})

    def start(self, opt, *options, env=None):
        return subprocess.Popen(
            [sys.executable, str(ENTRY), "train", *options], env=self.environment(opt, env),
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
            start_new_session=True)

    def run(self, opt, *options, env=None):
        return self.end(self.start(opt, *options, env=env))

    @staticmethod
    def end(process):
        streams = jobs.Streams(process)
        try:
            code = process.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"still running after {SECONDS} s: {streams.text()}") from None
        out, err = streams.text()
        return jobs.Result(process.args, code, out, err)


def losses(opt):
    lines = (opt / "checkpoints" / "sutor" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def failure(opt):
    path = opt / "output" / "failure"
    return path.read_text() if path.exists() else None


class SagemakerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="sutor-sagemaker-")
        cls.addClassCleanup(folder.cleanup)
        cls.containers = Containers(folder.name)

    def check_refused(self, opt, words, code=2):
        result = self.containers.run(opt)
        self.assertEqual(result.code, code, result)
        self.assertIn(words, failure(opt), result)
        self.assertLessEqual(len(failure(opt)), 1024)
        self.assertNotIn("Traceback", result.err)


class OneHost(SagemakerTest):
    def test_scoring_then_training_by_its_config_are_the_same_as_both(self):
        both = self.containers.make()
        result = self.containers.run(both)
        self.assertEqual(result.code, 0, result)
        self.assertIsNone(failure(both))
        for name in ("adapter", "expert_config.json", "scores.h5", "metrics.jsonl", "eval.jsonl",
                     "recipe.resolved.yaml"):
            self.assertIn(name, names(both / "model"), result)
        self.assertEqual(len(losses(both)), 6)
        events = list((both / "output" / "tensorboard").glob("*tfevents*"))
        self.assertEqual(len(events), 1)
        own = both / "checkpoints" / "sutor" / "tensorboard" / events[0].name
        self.assertEqual(events[0].read_bytes(), own.read_bytes())
        for metric in METRICS:
            self.assertRegex(result.out, METRICS[metric], metric)
        logged = [float(m) for m in re.findall(METRICS["train:loss"], result.out)]
        self.assertEqual(logged, [round(loss, 4) for loss in losses(both)])

        scoring = self.containers.make({"mode": "scoring"})
        result = self.containers.run(scoring)
        self.assertEqual(result.code, 0, result)
        self.assertIn("expert_config.json", names(scoring / "model"))
        self.assertNotIn("adapter", names(scoring / "model"))
        self.assertFalse((scoring / "checkpoints" / "sutor" / "metrics.jsonl").exists())

        training = self.containers.make()
        channel = training / "input" / "data" / "expert_config"
        channel.mkdir()
        shutil.copy(scoring / "model" / "expert_config.json", channel)
        result = self.containers.run(training, "--mode", "training")
        self.assertEqual(result.code, 0, result)
        self.assertFalse((training / "checkpoints" / "sutor" / "scores.h5").exists())
        self.assertEqual(losses(training), losses(both))
        adapter = "adapter/adapter_model.safetensors"
        weights = [next((opt / "model" / "adapter").glob("*.safetensors")).read_bytes()
                   for opt in (both, training)]
        self.assertEqual(weights[0], weights[1], adapter)

    def test_a_spot_interruption_goes_on_from_the_checkpoints_folder_with_the_same_losses(self):
        two = {"gpus_per_process": "2", "save_interval": "0", "schedule.steps": "12"}
        whole = self.containers.make(two)
        result = self.containers.run(whole)
        self.assertEqual(result.code, 0, result)

        # Rank 0 stops in the middle of a step, so that the signal comes while the training runs.
        opt = self.containers.make(two)
        process = self.containers.start(
            opt, env={"SUTOR_FAULT": "stop:rank=0:op=end of step:count=5"})
        self.addCleanup(lambda: process.poll() is None and os.killpg(process.pid, signal.SIGKILL))
        deadline = time.monotonic() + SECONDS
        stopped = []
        while not stopped and process.poll() is None and time.monotonic() < deadline:
            stopped = [pid for pid in jobs.pids_of(str(opt)) if jobs.state_of(pid) == "T"]
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        for pid in stopped:
            while not jobs.has_pending(pid, signal.SIGTERM) and time.monotonic() < deadline:
                time.sleep(0.1)
            jobs.kill(pid, signal.SIGCONT)
        result = self.containers.end(process)
        self.assertTrue(stopped, result)
        self.assertEqual(result.code, 75, result)
        self.assertIsNone(failure(opt), result)
        done = len(losses(opt))
        self.assertGreater(12, done)
        self.assertEqual(names(opt / "model"), [])

        # A new machine: the service brings the checkpoints folder back, and nothing else.
        again = self.containers.make(two)
        shutil.rmtree(again / "checkpoints")
        shutil.copytree(opt / "checkpoints", again / "checkpoints")
        # The run's records hold the paths of the first machine; real ones have the same.
        shutil.rmtree(opt)
        again.rename(opt)
        result = self.containers.run(opt)
        self.assertEqual(result.code, 0, result)
        self.assertIn(f"resumed at step {done} of 12", result.out, result)
        self.assertEqual(losses(opt), losses(whole))
        self.assertIn("adapter", names(opt / "model"))

    def test_the_reason_of_a_failure_is_in_the_failure_file(self):
        self.check_refused(self.containers.make({"learning_rate": "fast"}), "error[E0205]")
        opt = self.containers.make({"learning_rate": "1e30"})
        self.check_refused(opt, "error[E0701]", code=7)
        opt = self.containers.make({"gpus_per_process": "2", "expert_parallel": "3"})
        self.check_refused(opt, "error[E0210]")

    def test_what_cannot_work_is_refused_before_sutor_is_started(self):
        make = self.containers.make
        for opt, words in (
                (make({"mode": "training"}), "mode=training needs an expert config"),
                (make({"mode": "score"}), "mode=score"),
                (make({"learning_rte": "1"}), "did you mean `learning_rate`"),
                (make(channels=("model",)), "no channel `train`"),
                (make(channels=("train",)), "tiny/deepseek is the name of a model"),
                (make({"train_dataset": "/opt/ml/input/data/train/none.jsonl"}), "none.jsonl does"),
                (make(hosts=("algo-1", "algo-2")), "channel `shared`"),
                (make(current="algo-7"), "algo-7"),
                (make({"expert_config_dir": "none.json"}), "none.json does not exist")):
            with self.subTest(words=words):
                self.check_refused(opt, words)
                self.assertEqual(names(opt / "checkpoints"), [])

    def test_a_recipe_of_the_job_is_taken_and_hyperparameters_win(self):
        opt = self.containers.make(
            {"recipe": "my.yaml", "schedule.steps": "2"}, channels=("model", "train"),
            without=["learning_rate"])
        config = opt / "input" / "data" / "config"
        config.mkdir()
        (config / "my.yaml").write_text(
            "optim: {lr: 2e-3}\nschedule: {steps: 9}\nlog: {tensorboard: false}\n")
        result = self.containers.run(opt)
        self.assertEqual(result.code, 0, result)
        self.assertEqual(len(losses(opt)), 2)
        resolved = (opt / "model" / "recipe.resolved.yaml").read_text()
        self.assertRegex(resolved, r"lr: 0?.?0*2(e-0?3)?\b")
        self.assertFalse((opt / "output" / "tensorboard").exists())


class TwoHosts(SagemakerTest):
    def test_two_hosts_without_ssh_train_one_model(self):
        if not two_nodes_test.can_run():
            self.skipTest("two hosts are network namespaces: not root, or no iproute2")
        nodes = two_nodes_test.Nodes()
        self.addCleanup(nodes.stop)
        parameters = {"gpus_per_process": "2", "expert_parallel": "2", "schedule.steps": "4"}
        shared = self.containers.folder / "shared"
        shared.mkdir()
        place = self.containers.folder / "ml"  # /opt/ml of both hosts
        place.mkdir()
        processes, opts = [], []
        for name in two_nodes_test.NODES:
            opt = self.containers.make(parameters, hosts=sorted(two_nodes_test.NODES), current=name)
            (opt / "input" / "data" / "shared").mkdir()
            nodes.inside(name, "mount", "--bind", opt, place)
            nodes.inside(name, "mount", "--bind", shared, place / "input" / "data" / "shared")
            opts.append(opt)
            process = subprocess.Popen(
                [*nodes.enter(name), sys.executable, str(ENTRY), "train"], text=True,
                env=self.containers.environment(
                    place, {"UCX_TLS": "tcp,self", "TRAINING_JOB_NAME": "two",
                            "MASTER_PORT": "29500"}),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                start_new_session=True)
            self.addCleanup(lambda p=process: p.poll() is None
                            and os.killpg(p.pid, signal.SIGKILL))
            processes.append(process)
        results = [self.containers.end(process) for process in processes]
        for result in results:
            self.assertEqual(result.code, 0, result)
        self.assertIn("adapter", names(opts[0] / "model"), results[0])
        self.assertEqual(names(opts[1] / "model"), [], results[1])

        one = self.containers.make(parameters | {"gpus_per_process": "4"})
        result = self.containers.run(one)
        self.assertEqual(result.code, 0, result)
        lines = (shared / "two" / "metrics.jsonl").read_text().splitlines()
        self.assertEqual([json.loads(line)["loss"] for line in lines], losses(one))


def main():
    global SUTOR
    SUTOR = jobs.program_argument(__doc__)
    unittest.main()


if __name__ == "__main__":
    main()
