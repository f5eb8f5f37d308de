#!/usr/bin/env python3
"""A log in Weights & Biases beside the training, with stand-ins for the service's library: what it
is told, and that nothing that becomes of it touches the training.

  .venv/bin/python tests/e2e/wandb_test.py build/sutor [-v] [Class.test]...
"""

import json
import os
import sys
import tempfile
import time
import unittest

import recipes

SUTOR = None  # set by main

# Writes what it is told, a JSON line a call; FAKE_WANDB says how it misbehaves.
LIBRARY = """\
import json, os, sys, time

def tell(**what):
    with open(os.environ["FAKE_WANDB_OUT"], "a") as out:
        out.write(json.dumps(what) + "\\n")

class Settings:
    def __init__(self, **values):
        pass

class Run:
    def __init__(self):
        self.logged, self.summary = 0, self
    def define_metric(self, *names, **values):
        pass
    def update(self, values):
        tell(summary=values)
    def log(self, values):
        if os.environ.get("FAKE_WANDB") == "dies" and self.logged == 2:
            os.kill(os.getpid(), 9)
        self.logged += 1
        tell(log=values)
    def finish(self, exit_code):
        if os.environ.get("FAKE_WANDB") == "hangs at the end":
            time.sleep(600)
        tell(finish=exit_code)

def init(**values):
    if os.environ.get("FAKE_WANDB") == "refuses":
        raise RuntimeError("the service does not want this run")
    values.pop("settings")
    tell(init=values)
    return Run()
"""


class Wandb(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-wandb-")
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)
        package = cls.folder.path / "library" / "wandb"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(LIBRARY)
        # Of the light venv alone: the config is read by a package that the library brings along.
        (package.parent / "yaml.py").write_text(
            "class SafeLoader:\n"
            "    @classmethod\n"
            "    def add_implicit_resolver(cls, *what):\n        pass\n"
            "def load(text, loader):\n    return {'text': text}\n")
        cls.prepared = cls.folder.job()
        made = cls.folder.run(cls.prepared, command=[*cls.command("prepare")])
        assert made.code == 0, made

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    @classmethod
    def command(cls, verb, *sets, options=()):
        return cls.folder.command("--set", "train.method=full", *options,
                                  *[word for key in sets for word in ("--set", key)], verb=verb)

    def train(self, *sets, fault="", options=(), job=None, library=True, env=None):
        """(the job, its result, what the library was told)."""
        job = job or self.folder.job(self.prepared)
        out = job / "told.jsonl"
        env = {"FAKE_WANDB": fault, "FAKE_WANDB_OUT": str(out), "WANDB_API_KEY": "",
               "NETRC": "/none", **(env or {})}
        if library:
            env["PYTHONPATH"] = str(self.folder.path / "library")
        result = self.folder.run(job, command=self.command("train", *sets, options=options),
                                 env=env)
        told = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        return job, result, told

    OFFLINE = ("log.wandb={project: mine, mode: offline, tags: [a, b]}", )

    def rows(self, job):
        return [json.loads(line) for name in ("metrics", "eval")
                for line in (job / f"run/{name}.jsonl").read_text().splitlines()]

    def test_is_told_every_number_of_the_logs(self):
        job, result, told = self.train(*self.OFFLINE)
        self.assertEqual(result.code, 0, result)
        self.assertNotIn("W0310", result.err)
        begin = told[0]["init"]
        kept = json.loads((job / "run/wandb.json").read_text())
        self.assertEqual((begin["project"], begin["mode"], begin["tags"], begin["id"]),
                         ("mine", "offline", ["a", "b"], kept["id"]))
        self.assertIn("global_batch: 4", begin["config"]["text"])
        logged = [line["log"] for line in told if "log" in line]
        self.assertEqual(len(logged), len(self.rows(job)))
        by_key = {(values["step"], key): value for values in logged
                  for key, value in values.items()}
        for row in self.rows(job):
            prefix = f"eval/{row['set']}" if "set" in row else "train"
            for key in ("loss", "lr", "tokens_per_s", "ppl", "tokens"):
                if key in row:
                    self.assertEqual(by_key[row["step"], f"{prefix}/{key}"], row[key])
            if "experts" in row:
                self.assertEqual(by_key[row["step"], "experts/cv"], row["experts"]["cv"])
        self.assertEqual(told[-1], {"finish": 0})
        self.assertEqual(told[-2]["summary"]["steps"], 6)

    def test_goes_on_with_its_run_when_the_training_is_resumed(self):
        job, _, told = self.train(*self.OFFLINE, "schedule.steps=4")
        job, result, again = self.train(*self.OFFLINE, options=["--resume"], job=job)
        self.assertEqual(result.code, 0, result)
        begins = [line["init"]["id"] for line in again if "init" in line]
        self.assertEqual(begins, [told[0]["init"]["id"]] * 2)
        job, result, anew = self.train(*self.OFFLINE, options=["--overwrite"], job=job)
        self.assertEqual(result.code, 0, result)
        self.assertNotIn([line["init"]["id"] for line in anew if "init" in line][-1], begins)

    def test_that_refuses_or_dies_costs_a_warning(self):
        alone = self.train()
        for fault in ("refuses", "dies"):
            job, result, _ = self.train(*self.OFFLINE, fault=fault)
            self.assertEqual(result.code, 0, result)
            self.assertEqual(result.err.count("W0310"), 1, result)
            self.assertEqual([row["loss"] for row in self.rows(job)],
                             [row["loss"] for row in self.rows(alone[0])])
        self.assertEqual(alone[2], [])
        self.assertFalse((alone[0] / "run/wandb").exists())
        messages = (self.train(*self.OFFLINE, fault="refuses")[0] / "run/wandb/messages.txt")
        self.assertIn("the service does not want this run", messages.read_text())

    def test_of_a_job_that_is_killed_has_failed(self):
        job = self.folder.job(self.prepared)
        out = job / "told.jsonl"
        process = self.folder.start(
            self.command("train", *self.OFFLINE, "schedule.steps=100000", "checkpoint.every=0"),
            job, {"FAKE_WANDB_OUT": str(out),
                  "PYTHONPATH": str(self.folder.path / "library")})
        for line in process.stdout:
            if line.startswith("step 50/"):
                break
        recipes.kill(process)
        process.communicate()
        for _ in range(600):  # its input has ended: it ends by itself
            if out.exists() and out.read_text().endswith('{"finish": 1}\n'):
                break
            time.sleep(0.05)
        self.assertTrue(out.read_text().endswith('{"finish": 1}\n'))

    def test_without_the_package_or_an_account_is_refused_before_anything_begins(self):
        job, result, _ = self.train(*self.OFFLINE, library=False)
        self.assertEqual(result.code, 2, result)
        self.assertIn("error[E0232]", result.err)
        self.assertIn("the package wandb is not installed in", result.err)
        self.assertIn("--set log.wandb", result.err)
        job, result, told = self.train("log.wandb.project=mine")
        self.assertEqual((result.code, told), (2, []), result)
        self.assertIn("no account is known here", result.err)
        self.assertFalse((job / "run/metrics.jsonl").exists())
        _, result, told = self.train("log.wandb.project=mine", env={"WANDB_API_KEY": "k" * 40})
        self.assertEqual((result.code, told[0]["init"]["mode"]), (0, "online"), result)

    def test_keys_without_a_project_are_refused(self):
        _, result, _ = self.train("log.wandb.mode=offline")
        self.assertEqual(result.code, 2, result)
        self.assertIn("E0206", result.err)


if __name__ == "__main__":
    SUTOR = os.path.abspath(sys.argv.pop(1))
    unittest.main()
